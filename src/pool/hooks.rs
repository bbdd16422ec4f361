//! The user's functions for a container before its first lease and after each: [`Hooks`].

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::item::Item;
use crate::container::{Container, Handle, Running};
use crate::engine::{EngineError, EngineErrorKind};
use crate::error::FieldError;
use crate::values::shown::Rounded;

/// How much longer than its limit a hook is waited for, which its thread ends by itself unless it blocks.
const GRACE: Duration = Duration::from_secs(1);

/// The error of a hook.
pub type HookError = Box<dyn StdError + Send + Sync>;

/// Lends a container to a hook: see [`PoolBuilder::on_create`](crate::PoolBuilder::on_create) and
/// [`on_return`](crate::PoolBuilder::on_return). Derefs to [`Container`]`<`[`Running`]`>`.
///
/// # Drop
///
/// Gives the container back. It must be dropped when the hook ends: a hook that has given it to a task that goes on has failed.
#[must_use = "dropping it ends what the hook can do with the container"]
pub struct HookContainer {
    /// `None` only while it is dropped.
    container: Option<Item>,
    back: Option<oneshot::Sender<Item>>,
}

impl Deref for HookContainer {
    type Target = Container<Running>;

    fn deref(&self) -> &Self::Target {
        match &self.container {
            Some(container) => container,
            None => unreachable!("only Drop takes the container"),
        }
    }
}

impl Drop for HookContainer {
    fn drop(&mut self) {
        if let (Some(container), Some(back)) = (self.container.take(), self.back.take()) {
            // Where nobody waits for it any more, its own `Drop` removes it.
            drop(back.send(container));
        }
    }
}

impl fmt::Debug for HookContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HookContainer").field(&self.container).finish()
    }
}

/// Says what becomes of a container after its lease; the answer of [`on_return`](crate::PoolBuilder::on_return).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Return {
    /// The container may be lent again, after what [`Reuse`](crate::Reuse) does with it.
    Keep,
    /// The container is removed and replaced.
    Discard,
}

type OnCreate = dyn Fn(HookContainer) -> BoxFuture<'static, Result<(), HookError>> + Send + Sync;
type OnReturn = dyn Fn(HookContainer) -> BoxFuture<'static, Return> + Send + Sync;

/// The hooks of a pool.
#[derive(Clone)]
pub(super) struct Hooks {
    pub(super) on_create: Option<Arc<OnCreate>>,
    pub(super) on_return: Option<Arc<OnReturn>>,
    /// The limit on each call.
    pub(super) limit: Duration,
}

/// The outcome of a hook that did not give its container back in good order: the container if it came back, and why.
pub(super) type Failed<T> = (Option<T>, EngineError);

impl Hooks {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            on_create: None,
            on_return: None,
            limit,
        }
    }

    pub(super) fn problems(&self) -> Option<FieldError> {
        let zero = self.limit.is_zero();
        zero.then(|| FieldError::new("hook_timeout", "must be more than zero"))
    }

    /// Calls `on_create` with a container that was brought up.
    pub(super) async fn created(&self, handle: Handle) -> Result<Handle, Failed<Handle>> {
        const NAME: &str = "on_create()";
        let Some(hook) = self.on_create.clone() else {
            return Ok(handle);
        };
        let called = self.call(NAME, Container::running(handle), move |c| hook(c)).await;
        let (container, outcome) =
            called.map_err(|(container, error)| (container.map(Container::into_handle), error))?;
        let shared = container.shared();
        let outcome = match outcome {
            Ok(()) if shared.has_unfinished_commands() => {
                Err("it has left commands that run; a server belongs into cmd(), with supervise_command()".to_owned())
            }
            Ok(()) => Ok(()),
            Err(error) => Err(words_of(&*error)),
        };
        shared.end_setup();
        let handle = container.into_handle();
        match outcome {
            Ok(()) => Ok(handle),
            Err(words) => Err((Some(handle), failed(NAME, &words))),
        }
    }

    /// Calls `on_return` with a container that has come back.
    pub(super) async fn returned(&self, container: Item) -> Result<(Item, Return), Failed<Item>> {
        match self.on_return.clone() {
            Some(hook) => self.call("on_return()", container, move |c| hook(c)).await,
            None => Ok((container, Return::Keep)),
        }
    }

    /// Calls a hook, on a thread on which it may block unless the runtime is a given one. Dropping the future ends the hook.
    async fn call<T: Send + 'static>(
        &self,
        name: &str,
        container: Item,
        hook: impl FnOnce(HookContainer) -> BoxFuture<'static, T> + Send + 'static,
    ) -> Result<(Item, T), Failed<Item>> {
        let runtime = container.shared().runtime.clone();
        let (back, mut returned) = oneshot::channel();
        let c = HookContainer {
            container: Some(container),
            back: Some(back),
        };
        let (wanted, unwanted) = oneshot::channel::<()>();
        let limit = self.limit;
        let work = async move {
            // In the block, so that a panic of the closure itself is caught too.
            let hook = AssertUnwindSafe(async move { hook(c).await }).catch_unwind();
            tokio::select! {
                outcome = timeout(limit, hook) => Some(outcome),
                _ = unwanted => None,
            }
        };
        let task = match runtime.is_given() {
            true => runtime.spawn(work),
            false => {
                let handle = runtime.handle().clone();
                runtime.handle().spawn_blocking(move || handle.block_on(work))
            }
        };
        let outcome = match timeout(limit.saturating_add(GRACE), AbortOnDropHandle::new(task)).await {
            Ok(Ok(Some(Ok(Ok(outcome))))) => Ok(outcome),
            Ok(Ok(Some(Ok(Err(panic))))) => Err(format!("it panicked: {}", words_of_panic(&*panic))),
            Ok(Ok(Some(Err(_)) | None)) | Err(_) => Err(format!("it did not end within {}", Rounded(limit))),
            Ok(Err(error)) => Err(format!("its task failed: {error}")),
        };
        drop(wanted);
        // The container was dropped with the hook, wherever that has ended.
        match (returned.try_recv(), outcome) {
            (Ok(container), Ok(outcome)) => Ok((container, outcome)),
            (container, Err(words)) => Err((container.ok(), failed(name, &words))),
            (Err(_), Ok(_)) => Err((None, failed(name, "it has kept its container"))),
        }
    }
}

fn failed(name: &str, words: &str) -> EngineError {
    EngineError::new(EngineErrorKind::HookFailed, format!("{name} failed: {words}"))
}

/// Returns the words of an error and of its causes.
fn words_of(error: &(dyn StdError + 'static)) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !words.contains(&more) {
            words += ": ";
            words += &more;
        }
        next = cause.source();
    }
    words
}

fn words_of_panic(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without words")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_error_are_those_of_all_its_causes_once() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        let inner = EngineError::new(EngineErrorKind::Internal, "no connection").with_source(refused);
        let outer =
            EngineError::new(EngineErrorKind::Internal, "the migration failed: no connection").with_source(inner);
        assert_eq!(words_of(&outer), "the migration failed: no connection: refused");
        assert_eq!(words_of_panic(&"a"), "a");
        assert_eq!(words_of_panic(&"b".to_owned()), "b");
        assert_eq!(words_of_panic(&3), "without words");
    }
}
