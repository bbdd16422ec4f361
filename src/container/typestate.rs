//! A container whose state is a type: [`Container`], and what it can do in any state.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::handle::Handle;
use super::removal::Removal;
use super::shared::Shared;
use super::state::{Exited, Paused, Running, State};
use super::taint::Taint;
use crate::engine::{ContainerReport, Engine, EngineError};
use crate::error::Error;
use crate::values::status::Lifeline;

/// A container in the state `S`. One of a pool is always [`Running`], and comes in a
/// [`PooledContainer`](crate::PooledContainer).
///
/// # Drop
///
/// Dropping a container removes it from the engine: in the background, without blocking, on any thread, inside a runtime or not.
/// [`remove`](Self::remove) does the same and waits for it.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use dockerpool::{Container, ContainerSpec, DockerEngine};
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
///
/// # async fn on_docker() -> Result<(), dockerpool::Error> {
/// let engine = Arc::new(DockerEngine::connect().await?);
/// # Ok(())
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = Arc::new(FakeEngine::new());
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("hello\n"));
/// let created = Container::create(engine, ContainerSpec::new("busybox:1.36")).await?;
/// let running = created.start().await?;
/// let output = running.command("echo").arg("hello").output().await?;
/// assert_eq!(output.stdout, b"hello\n");
/// running.remove().await?;
/// # Ok(())
/// # }
/// ```
///
/// A command on a container that is not running does not compile:
///
/// ```compile_fail,E0599
/// # async fn example(created: dockerpool::Container<dockerpool::Created>) {
/// created.command("true");
/// # }
/// ```
///
/// Nor does starting one twice:
///
/// ```compile_fail,E0382
/// # async fn example(created: dockerpool::Container<dockerpool::Created>) -> Result<(), dockerpool::Error> {
/// let running = created.start().await?;
/// let again = created.start().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a container removes it"]
pub struct Container<S: State> {
    pub(super) handle: Handle,
    state: PhantomData<fn() -> S>,
}

impl<S: State> Container<S> {
    pub(super) fn from_handle(handle: Handle) -> Self {
        Self {
            handle,
            state: PhantomData,
        }
    }

    /// The engine's id of it.
    pub fn id(&self) -> &str {
        self.shared().id()
    }

    /// Its name, chosen by the library.
    pub fn name(&self) -> &str {
        self.shared().name()
    }

    /// The image it was made from.
    pub fn image(&self) -> &str {
        &self.shared().spec.plan.image.name
    }

    /// Its labels, the library's own and those it was given.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.shared().spec.plan.labels.iter();
        labels.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether it ends with this process, however that ends, unless it is paused at the time: its PID 1 is the library's own
    /// and holds on to a lifeline. One with a [`cmd`](ContainerSpec::cmd) of the user's own as PID 1 has none, and outlives
    /// an owner that was killed. See [`lifeline`](Self::lifeline) for how sure it is.
    pub fn has_lifeline(&self) -> bool {
        self.shared().spec.has_lifeline()
    }

    /// Tells how sure it is that the container ends with this process.
    pub fn lifeline(&self) -> Lifeline {
        self.shared().spec.lifeline()
    }

    /// Why it must not be used for anything else, if something happened that forbids it.
    pub fn taint(&self) -> Option<Taint> {
        self.shared().taint()
    }

    /// Asks the engine about it.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn inspect(&self) -> Result<ContainerReport, Error> {
        let shared = self.shared();
        let inspect = shared.engine.inspect(shared.id());
        let inspected = shared.runtime.bounded("an inspect", shared.call_timeout, inspect);
        inspected.await.map_err(|error| self.error("inspect", error))
    }

    /// Removes it, and waits until that is done.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; further attempts are then made in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future does not keep the container from being removed: that then goes on in the background.
    pub async fn remove(self) -> Result<(), Error> {
        match self.shared().runtime.run(self.removal().attempt()).await {
            Ok(()) => {
                self.into_removed();
                Ok(())
            }
            Err(error) => Err(self.error("remove", error)),
        }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// How it is removed. The duty to do so stays with this owner.
    pub(crate) fn removal(&self) -> Removal {
        self.shared().removal()
    }

    /// The container was removed: nothing is left to be done.
    pub(crate) fn into_removed(self) {
        self.handle.release();
    }

    pub(super) fn error(&self, op: &'static str, error: EngineError) -> Error {
        Error::engine(op, Some(self.name()), error)
    }

    pub(super) fn into_state<T: State>(self) -> Container<T> {
        Container::from_handle(self.handle)
    }

    /// One transition: a single bounded engine call.
    pub(super) async fn transition<T: State>(
        self,
        op: &'static str,
        // No async closure, whose future would not be `Send` here.
        call: for<'a> fn(&'a dyn Engine, &'a str) -> BoxFuture<'a, Result<(), EngineError>>,
    ) -> Result<Container<T>, Error> {
        let shared = self.shared();
        let call = call(&*shared.engine, shared.id());
        match shared.runtime.bounded(op, shared.call_timeout, call).await {
            Ok(()) => Ok(self.into_state()),
            Err(error) => Err(self.error(op, error)),
        }
    }
}

impl Container<Paused> {
    /// Thaws it.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn unpause(self) -> Result<Container<Running>, Error> {
        self.transition("unpause the container", |engine, id| engine.unpause(id))
            .await
    }

    /// Ends all its processes at once.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn kill(self) -> Result<Container<Exited>, Error> {
        self.transition("kill the container", |engine, id| engine.kill(id))
            .await
    }
}

impl Container<Exited> {
    /// PID 1's exit code. `None` if the engine has removed the container by itself, as it does with those that have a
    /// lifeline.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`].
    pub async fn exit_code(&self) -> Result<Option<i64>, Error> {
        match self.inspect().await {
            Ok(report) => Ok(report.exit_code),
            Err(Error::Engine { source, .. }) if source.says_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Starts it again. Only for containers with a [`cmd`](ContainerSpec::cmd) of their own: the engine removes those
    /// with a lifeline.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn start(self) -> Result<Container<Running>, Error> {
        match self.shared().runtime.run(Box::pin(self.handle.start())).await {
            Ok(()) => Ok(self.into_state()),
            Err(error) => Err(self.error("start the container", error)),
        }
    }
}

impl<S: State> fmt::Debug for Container<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name())
            .field("id", &self.id())
            .field("state", &S::NAME)
            .field("taint", &self.taint())
            .finish()
    }
}
