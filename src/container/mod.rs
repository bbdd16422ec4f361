//! One container: its life, enforced by types, and what can be done with it.
//!
//! ```text
//!            start             pause
//!  Created ────────► Running ────────► Paused
//!                     │   ▲             │  │
//!         stop, kill  │   └─────────────┘  │ kill
//!                     ▼       unpause      ▼
//!                   Exited ◄───────────────┘
//! ```
//!
//! Every arrow takes the container by value and gives it back in its next state, so a call that does not fit the state
//! does not compile. An arrow that fails gives an error that names the container, and the container is removed.

mod handle;
mod life;
mod removal;
mod supervise;

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::runtime::Handle as RuntimeHandle;

use crate::agent::{Client, ExecVia};
use crate::engine::{ContainerReport, Engine, EngineError};
use crate::error::Error;
use crate::runtime::Home;
use crate::runtime::bounded;
use crate::spec::{ContainerSpec, Decided, Keep, Resolved, bring, check_cgroups, decide, find_command, resolve};
use crate::values::labels;
use crate::values::status::{Cgroups, Lifeline};

pub(crate) use handle::{Handle, OomKills, Shared, Unfinished};
pub(crate) use life::Plan;
pub(crate) use removal::{GIVE_UP, GiveUp, Removal};

/// The default deadline of one engine call.
pub(crate) const DEFAULT_CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long emptying directories may take.
const WIPE_LIMIT: Duration = Duration::from_secs(10);

/// The states a [`Container`] can be in, as types. They have no values: a container gets into a state only by a
/// transition.
///
/// ```compile_fail,E0599
/// // There is no way to make a state, and so none to make a container of it.
/// let running = dockerpool::Running::new();
/// ```
pub trait State: sealed::Sealed + Send + Sync + 'static {
    /// The state's name, in lower case.
    const NAME: &'static str;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! states {
    ($($(#[$doc:meta])* $state:ident = $name:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $state {}
        impl sealed::Sealed for $state {}
        impl State for $state {
            const NAME: &'static str = $name;
        }
    )*};
}

states! {
    /// Created, not started yet.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// let created: Container<Created> = Container::create(engine, ContainerSpec::new("busybox:1.36")).await?;
    /// // It has a name already, and costs no memory yet.
    /// assert!(created.name().starts_with("dockerpool-"));
    /// # Ok(())
    /// # }
    /// ```
    Created = "created";
    /// Running: commands can be run in it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// async fn probe(c: &Container<Running>) -> Result<bool, dockerpool::Error> {
    ///     Ok(c.command("true").status().await?.success())
    /// }
    /// # let running = Container::create(engine, ContainerSpec::new("busybox:1.36").cmd(["sleep", "60"])).await?.start().await?;
    /// assert!(probe(&running).await?);
    /// # Ok(())
    /// # }
    /// ```
    Running = "running";
    /// Frozen; nothing in it runs until it is unpaused.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// # let running = Container::create(engine, ContainerSpec::new("busybox:1.36").cmd(["sleep", "60"])).await?.start().await?;
    /// let paused: Container<Paused> = running.pause().await?;
    /// let running = paused.unpause().await?;
    /// assert!(running.command("true").status().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    Paused = "paused";
    /// Its PID 1 has ended, and everything in it with it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use dockerpool::{Container, ContainerSpec, Created, Exited, Paused, Running, testing::FakeEngine};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(FakeEngine::new());
    /// # let running = Container::create(engine, ContainerSpec::new("busybox:1.36").cmd(["sleep", "60"])).await?.start().await?;
    /// let exited: Container<Exited> = running.stop(Duration::from_secs(1)).await?;
    /// # assert_eq!(exited.taint(), None);
    /// let running = exited.start().await?; // anew, with the files that it had
    /// assert!(running.command("true").status().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    Exited = "exited";
}

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
    handle: Handle,
    state: PhantomData<fn() -> S>,
}

impl<S: State> Container<S> {
    fn from_handle(handle: Handle) -> Self {
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
        &self.shared().name
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

    fn error(&self, op: &'static str, error: EngineError) -> Error {
        Error::engine(op, Some(self.name()), error)
    }

    fn into_state<T: State>(self) -> Container<T> {
        Container::from_handle(self.handle)
    }

    /// One transition: a single bounded engine call.
    async fn transition<T: State>(
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

impl Container<Created> {
    /// Creates a container outside of any pool. Works on any thread, within a tokio runtime or not: background tasks run on
    /// the library's own (see [the crate's documentation](crate#runtime)).
    ///
    /// The first time in a process, for an engine, image, runtime and user, another container is started and removed, to see
    /// whether the [agent](ExecVia) runs there.
    ///
    /// The image must be on the engine: see [`Engine::prepare`].
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the spec has bad values; [`Error::Engine`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes whatever came of the call, in the background.
    pub async fn create(engine: Arc<dyn Engine>, spec: ContainerSpec) -> Result<Self, Error> {
        Self::create_in(engine, spec, None).await
    }

    /// As [`create`](Self::create), with background tasks on this tokio runtime in place of the library's own. What is said
    /// of [`PoolBuilder::tokio_runtime`](crate::PoolBuilder::tokio_runtime) holds here too.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create); [`Error::RuntimeEnded`].
    ///
    /// # Cancel safety
    ///
    /// As [`create`](Self::create).
    pub async fn create_on(
        runtime: RuntimeHandle,
        engine: Arc<dyn Engine>,
        spec: ContainerSpec,
    ) -> Result<Self, Error> {
        Self::create_in(engine, spec, Some(runtime)).await
    }

    async fn create_in(
        engine: Arc<dyn Engine>,
        spec: ContainerSpec,
        runtime: Option<RuntimeHandle>,
    ) -> Result<Self, Error> {
        let problems = spec.problems();
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let managed = (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_VALUE.to_owned());
        let mut decided = Decided {
            own_labels: BTreeMap::from([managed]),
            ..Decided::default()
        };
        let runtime = Home::of(runtime)?;
        let create = async {
            let new_handle = |spec: Resolved| {
                let name = format!("dockerpool-{:032x}", fastrand::u128(..));
                Handle::new(
                    engine.clone(),
                    name,
                    Arc::new(spec),
                    DEFAULT_CALL_TIMEOUT,
                    runtime.clone(),
                )
            };
            let mut resolved = resolve(&spec, decided.clone());
            if spec.has_lifeline() && engine.capabilities().programs || spec.exec_via != ExecVia::Docker {
                let info = bounded("the check of the engine", DEFAULT_CALL_TIMEOUT, engine.check())
                    .await
                    .map_err(|error| Error::engine("reach the engine", None, error))?;
                check_cgroups(&spec, &info)?;
                let ways = decide(&spec, None, &*engine, &info)?;
                let image = engine.image(&resolved.plan);
                let image = bounded("the description of the image", DEFAULT_CALL_TIMEOUT, image).await;
                decided.supervised = match &image {
                    Ok(image) => find_command(&spec, image)?,
                    Err(error) if spec.supervise => {
                        return Err(Error::engine("find the image's command", None, error.clone()));
                    }
                    // The creation of the container tells.
                    Err(_) => None,
                };
                resolved = resolve(&spec, decided);
                let bring_up = |resolved, _| new_handle(resolved).bring_up(Keep(false)).boxed();
                let (image, timeout) = (image.ok(), DEFAULT_CALL_TIMEOUT);
                bring(
                    &spec,
                    &mut resolved,
                    image.as_ref(),
                    ways,
                    &*engine,
                    &info,
                    timeout,
                    bring_up,
                )
                .await?;
            }
            let handle = new_handle(resolved);
            match handle.create(true).await {
                Ok(warnings) => {
                    for warning in warnings {
                        tracing::warn!(
                            container = handle.shared().name,
                            warning,
                            "the engine warns of a container"
                        );
                    }
                    Ok(Self::from_handle(handle))
                }
                Err(error) => Err(Error::engine(
                    "create the container",
                    Some(&handle.shared().name),
                    error,
                )),
            }
        };
        // Boxed, since it is large, and moved some times.
        runtime.run(Box::pin(create)).await
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the container in the background.
    pub async fn start(self) -> Result<Container<Running>, Error> {
        match self.shared().runtime.run(Box::pin(self.handle.start())).await {
            Ok(()) => Ok(self.into_state()),
            Err(error) => Err(self.error("start the container", error)),
        }
    }
}

impl Container<Running> {
    /// A container the pool has brought up.
    pub(crate) fn running(handle: Handle) -> Self {
        Self::from_handle(handle)
    }

    /// Which control groups it has, as its PID 1 sees them.
    pub fn cgroups(&self) -> Cgroups {
        self.shared().agent().map_or(Cgroups::Unknown, Client::cgroups)
    }

    /// How many processes there are in it beside PID 1, those included that have ended and were not waited for, and those
    /// of a [supervised command](ContainerSpec::supervise_command).
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline); [`Error::Engine`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn process_count(&self) -> Result<u32, Error> {
        let agent = self.agent()?;
        self.bounded("count the processes in container", agent.process_count())
            .await
    }

    /// Ends every process in it but PID 1, whoever has started it and whatever it ignores, and sees that none is left.
    /// Commands that run come to [`ExitStatus::Signaled`](crate::ExitStatus::Signaled).
    ///
    /// Nobody is spared, since what is spared could be hidden behind: a
    /// [supervised command](ContainerSpec::supervise_command) ends too, and with it, as ever, the container.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline); [`Error::Engine`], also if processes
    /// are left: those of another user can only be ended where the container's user is root.
    ///
    /// Calls may overlap. Each of them returns only when a look at all processes that began after the call has found none.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped it goes on.
    pub async fn kill_all(&self) -> Result<(), Error> {
        let shared = self.shared();
        if shared.is_supervised() {
            shared.set_taint(Taint::Killed);
            return shared
                .runtime
                .run(shared.kill())
                .await
                .map_err(|error| self.error("end the processes in container", error));
        }
        let agent = self.agent()?;
        self.bounded("end the processes in container", agent.kill_all()).await
    }

    /// Removes everything in these directories, which stay. Directories under `/tmp` or `/dev/shm` are emptied in a few
    /// milliseconds. Commands and their limits go on meanwhile; several calls at once take turns, of ten seconds each at
    /// most.
    ///
    /// No symbolic link is followed: those in the directories are removed, and a path that leads through one, such as
    /// `/var/run` in many images, is an error, since a command may have put it there. Name the real directory. What is
    /// mounted in the directories is left, which is an error.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline). [`Error::Engine`], which names the
    /// first path that failed: because the path is not absolute, contains `..` or leads through a symbolic link; because the
    /// container's user may not remove something; because processes make it anew; or because there was not enough time.
    /// Other paths are emptied all the same, unless a path is not absolute or contains `..`: then nothing is done.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a wipe that has begun goes on; one that waits for its turn is not done.
    pub async fn wipe<P: AsRef<str>>(&self, paths: &[P]) -> Result<(), Error> {
        let paths: Vec<&str> = paths.iter().map(AsRef::as_ref).collect();
        let agent = self.agent()?;
        self.bounded("empty directories in container", agent.wipe(&paths, WIPE_LIMIT))
            .await
    }

    fn agent(&self) -> Result<&Client, Error> {
        let agent = self.shared().agent();
        agent.ok_or(Error::Unsupported(
            "this needs the agent, which is not PID 1 of this container: see Container::lifeline",
        ))
    }

    async fn bounded<T>(
        &self,
        op: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Error> {
        let shared = self.shared();
        let result = shared.runtime.bounded(op, shared.call_timeout, call).await;
        result.map_err(|error| self.error(op, error))
    }

    /// Freezes all its processes.
    ///
    /// That goes for PID 1, too, which then does not see this process end: one that is paused when its owner is killed stays
    /// until somebody unpauses it, and then goes at once; or until the next pool of the same name removes it, if it came
    /// from a pool.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the container in the background. So it is with all transitions.
    pub async fn pause(self) -> Result<Container<Paused>, Error> {
        self.transition("pause the container", |engine, id| engine.pause(id))
            .await
    }

    /// Asks PID 1 to end, and kills it after `grace` (in whole seconds). A container with a lifeline is removed by the
    /// engine when it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn stop(self, grace: Duration) -> Result<Container<Exited>, Error> {
        let shared = self.shared();
        let limit = shared.call_timeout.saturating_add(grace);
        let stop = shared.engine.stop(shared.id(), grace);
        match shared.runtime.bounded("the stop of a container", limit, stop).await {
            Ok(()) => Ok(self.into_state()),
            Err(error) => Err(self.error("stop the container", error)),
        }
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

    /// Whether it may be lent as it is.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        let shared = self.shared();
        !shared.is_tainted() && !shared.has_unfinished_commands() && !shared.life.is_withdrawn()
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

/// A fact that forbids lending a container again.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::Taint;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::forever());
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// c.command("sleep").arg("60").timeout(Duration::from_millis(10)).status().await?;
/// assert_eq!(c.taint(), Some(Taint::TimedOut));
/// drop(c); // it is not lent again
/// assert_eq!(pool.status().lifetime.discarded, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Taint {
    /// A command was stopped at its time limit.
    TimedOut = 1,
    /// A command was abandoned: its future or its `Child` was dropped.
    Cancelled = 2,
    /// A command was stopped at its output limit.
    OutputLimit = 3,
    /// A command was killed on request.
    Killed = 4,
    /// The kernel killed a process that was over the memory limit.
    OutOfMemory = 5,
    /// A call to the engine failed in a way that leaves open what happened.
    EngineFailed = 6,
    /// The end of the last command is not known.
    UnknownOutcome = 7,
    /// The guard was dropped by a panic.
    Panicked = 8,
    /// PID 1 ended, the container was removed by somebody else, or its lifeline broke.
    Died = 9,
    /// Its lease lasted longer than [`max_lease`](crate::PoolBuilder::max_lease), and it was taken back.
    LeaseExpired = 10,
    /// The container had no processes, descriptors or memory left for a command.
    Exhausted = 11,
    /// A command could not be started for a reason that it did not bring along, so that no other command could be: the
    /// container's own working directory is gone, or cannot be entered; its own user is not known any more; `/etc/passwd` is
    /// no file; `/dev/null` or `/dev/ptmx` is gone; or the engine does not say why. Of these, commands that the agent runs meet only the first, the directory.
    ///
    /// A program, directory or user that a command names itself is its own matter. An earlier lease may have removed it all
    /// the same (`rm /bin/sh`, `rm /etc/passwd`): that cannot be told from a name that was never there, and taints nothing. See
    /// [`Reuse`](crate::Reuse) for what keeps such things from the next lease.
    Broken = 12,
}

impl Taint {
    fn from_code(code: u8) -> Option<Self> {
        use Taint::*;
        [
            TimedOut,
            Cancelled,
            OutputLimit,
            Killed,
            OutOfMemory,
            EngineFailed,
            UnknownOutcome,
            Panicked,
            Died,
            LeaseExpired,
            Exhausted,
            Broken,
        ]
        .into_iter()
        .find(|taint| *taint as u8 == code)
    }
}
