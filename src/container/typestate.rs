//! A container whose state is a type: [`Container`], and the operations that do not need it to run.

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

/// A container in the state `S`. A pool lends containers that are [`Running`], each in a
/// [`PooledContainer`](crate::PooledContainer).
///
/// # Drop
///
/// Dropping a container removes it from the engine in the background. `Drop` does not block, and works on any thread, inside a
/// runtime or not. [`remove`](Self::remove) does the same and waits for it.
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
/// Neither does starting a container twice:
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

    /// Returns the engine's id of the container.
    pub fn id(&self) -> &str {
        self.shared().id()
    }

    /// Returns the name, which the library has chosen.
    pub fn name(&self) -> &str {
        self.shared().name()
    }

    /// Returns the name of the image.
    pub fn image(&self) -> &str {
        &self.shared().spec.plan.image.name
    }

    /// Returns the labels: those of the library and those of the spec.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.shared().spec.plan.labels.iter();
        labels.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Returns whether the container has a lifeline: it ends with this process, whatever ended the process, unless it is paused at
    /// that time. A container whose PID 1 is a [`cmd`](crate::ContainerSpec::cmd) of the spec has none, and outlives an owner
    /// that is killed. See [`lifeline`](Self::lifeline) for how sure this is.
    pub fn has_lifeline(&self) -> bool {
        self.shared().spec.has_lifeline()
    }

    /// Returns how sure it is that the container ends with this process.
    pub fn lifeline(&self) -> Lifeline {
        self.shared().spec.lifeline()
    }

    /// Returns the fact that forbids lending the container again, if there is one.
    pub fn taint(&self) -> Option<Taint> {
        self.shared().taint()
    }

    /// Asks the engine about the container.
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
        let report = inspected
            .await
            .map_err(|error| self.error("inspect the container", error))?;
        if report.ip.is_some() {
            // As with `ip`.
            shared.commands().touch();
        }
        Ok(report)
    }

    /// Removes the container, and waits until that is done.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; further attempts are then made in the background.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the removal goes on in the background.
    pub async fn remove(self) -> Result<(), Error> {
        match self.shared().runtime.run(self.removal().attempt()).await {
            Ok(()) => {
                self.into_removed();
                Ok(())
            }
            Err(error) => Err(self.error("remove the container", error)),
        }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// Returns the removal of the container. The duty to remove it stays with this owner.
    pub(crate) fn removal(&self) -> Removal {
        self.shared().removal()
    }

    /// Ends the duty to remove the container, which is gone.
    pub(crate) fn into_removed(self) {
        self.handle.release();
    }

    pub(super) fn error(&self, op: &'static str, error: EngineError) -> Error {
        Error::engine_about(op, self.shared().subject(), error)
    }

    /// Returns the owner of the container, without its state.
    pub(crate) fn into_handle(self) -> Handle {
        self.handle
    }

    pub(super) fn into_state<T: State>(self) -> Container<T> {
        Container::from_handle(self.handle)
    }

    /// Makes one transition: a single engine call with a deadline. `op` and `what` are the words for it in errors.
    pub(super) async fn transition<T: State>(
        self,
        op: &'static str,
        what: &'static str,
        // Not an async closure: its future would not be `Send` here.
        call: for<'a> fn(&'a dyn Engine, &'a str) -> BoxFuture<'a, Result<(), EngineError>>,
    ) -> Result<Container<T>, Error> {
        let shared = self.shared();
        let call = call(&*shared.engine, shared.id());
        match shared.runtime.bounded(what, shared.call_timeout, call).await {
            Ok(()) => Ok(self.into_state()),
            Err(error) => Err(self.error(op, error)),
        }
    }
}

impl Container<Paused> {
    /// Thaws the container.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn unpause(self) -> Result<Container<Running>, Error> {
        let (op, what) = ("unpause the container", "the unpause of a container");
        self.transition(op, what, |engine, id| engine.unpause(id)).await
    }

    /// Kills all processes of the container.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn kill(self) -> Result<Container<Exited>, Error> {
        let (op, what) = ("kill the container", "the kill of a container");
        self.transition(op, what, |engine, id| engine.kill(id)).await
    }
}

impl Container<Exited> {
    /// Returns the exit code of PID 1. `None` if the engine has removed the container itself, as it does with containers that
    /// have a lifeline.
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

    /// Starts the container again. Only for containers with a [`cmd`](crate::ContainerSpec::cmd) of their own: the engine has
    /// removed a container with a lifeline.
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
