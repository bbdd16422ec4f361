//! What runs containers: the object-safe [`Engine`] trait and its plain types.
//!
//! The library ships [`DockerEngine`]; anything that implements [`Engine`] can stand in its place. An engine knows
//! nothing of pools, guards or typestates: it takes a [`Plan`], names and ids, and answers in the plain types of this module.

pub mod docker;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod fake;
mod network;
mod plan;
pub(crate) mod reference;
mod registry_auth;
mod tty;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

pub use crate::error::{EngineError, EngineErrorKind};
use crate::runtime::bounded;
use crate::values::labels;
use crate::values::shown;
pub use docker::{DockerEngine, Endpoint};
pub use network::{Network, NewNetwork};
pub(crate) use plan::OWN_TARGETS;
pub use plan::{Identity, Image, Limits, Mount, MountSource, Pid1, Plan, ProgramVolume, PullPolicy, Security, Ulimit};
pub(crate) use registry_auth::AuthKind;
pub use registry_auth::RegistryAuth;
pub(crate) use tty::TtyInput;

/// Runs containers for pools. Object-safe: a pool holds an `Arc<dyn Engine>`.
///
/// # Contract
///
/// - Every future may be dropped at any await point; what it had begun may then have happened or not, and the caller
///   finds out by [`inspect`](Engine::inspect) or makes it undone by [`remove`](Engine::remove).
/// - No deadline is asked of the engine: the library puts its own around every call and every read.
/// - [`remove`](Engine::remove) of something that is not there is success.
/// - [`create`](Engine::create) is idempotent by name: a container of that name that carries the plan's
///   labels is success, any other is an [`EngineErrorKind::Conflict`]. Of several who create one of the same name at the
///   same time, in whatever process, one succeeds.
///
/// # Examples
///
/// ```
/// # use std::sync::Arc;
/// # use std::sync::atomic::{AtomicUsize, Ordering};
/// # use std::time::{Duration, SystemTime};
/// # use futures_util::future::BoxFuture;
/// # use futures_util::stream::BoxStream;
/// # use dockerpool::engine::*;
/// # use dockerpool::Pool;
/// /// Another engine, under a quota of containers made.
/// #[derive(Debug)]
/// struct Quota {
///     inner: Arc<dyn Engine>,
///     left: AtomicUsize,
/// }
///
/// impl Engine for Quota {
///     fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> BoxFuture<'a, Result<Creation, EngineError>> {
///         let one_less = |left: usize| left.checked_sub(1);
///         match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less) {
///             Ok(_) => self.inner.create(identity, plan),
///             Err(_) => Box::pin(async { Err(EngineError::new(EngineErrorKind::Rejected, "the quota is used up")) }),
///         }
///     }
///
///     // The rest is passed on.
///     fn capabilities(&self) -> Capabilities {
///         self.inner.capabilities()
///     }
///     // ... and so on.
/// #     fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
/// #         self.inner.check()
/// #     }
/// #     fn prepare<'a>(&'a self, plan: &'a Plan, progress: &'a ProgressFn) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.prepare(plan, progress)
/// #     }
/// #     fn release<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.release(plan)
/// #     }
/// #     fn sweep<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.sweep(plan)
/// #     }
/// #     fn image<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<ImageInfo, EngineError>> {
/// #         self.inner.image(plan)
/// #     }
/// #     fn missing_limits<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
/// #         self.inner.missing_limits(id, plan)
/// #     }
/// #     fn ignored_settings<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>> {
/// #         self.inner.ignored_settings(id, plan)
/// #     }
/// #     fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>> {
/// #         self.inner.attach(id)
/// #     }
/// #     fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.start(id)
/// #     }
/// #     fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>> {
/// #         self.inner.exec(id, request)
/// #     }
/// #     fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ContainerReport, EngineError>> {
/// #         self.inner.inspect(id)
/// #     }
/// #     fn list<'a>(&'a self, selector: &'a Selector) -> BoxFuture<'a, Result<Vec<ContainerReport>, EngineError>> {
/// #         self.inner.list(selector)
/// #     }
/// #     fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.kill(id)
/// #     }
/// #     fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.stop(id, grace)
/// #     }
/// #     fn rename<'a>(&'a self, id: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.rename(id, name)
/// #     }
/// #     fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.remove(id)
/// #     }
/// #     fn pause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.pause(id)
/// #     }
/// #     fn unpause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
/// #         self.inner.unpause(id)
/// #     }
/// #     fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>> {
/// #         self.inner.events(selector, since)
/// #     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let inner = Arc::new(dockerpool::testing::FakeEngine::new());
/// let engine = Arc::new(Quota { inner, left: AtomicUsize::new(1) });
/// let pool = Pool::builder("frugal").image("busybox:1.36").engine(engine.clone()).build().await?;
/// assert_eq!(engine.left.load(Ordering::Relaxed), 0);
/// # pool.shutdown().await?;
/// let second = Pool::builder("frugal").image("busybox:1.36").engine(engine).build().await;
/// assert_eq!(second.unwrap_err().engine_error().map(EngineError::kind), Some(EngineErrorKind::Rejected));
/// # Ok(())
/// # }
/// ```
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Returns what this engine can do. A pool refuses at `build()` what was asked for and cannot be had.
    fn capabilities(&self) -> Capabilities;

    /// Asks the engine for its version and its properties.
    fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>>;

    /// Prepares everything that containers of this plan need: the image, the network, volumes with programs. Called for each
    /// pool. Idempotent.
    fn prepare<'a>(&'a self, plan: &'a Plan, progress: &'a ProgressFn) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Removes what [`prepare`](Engine::prepare) made for this pool alone (volumes with programs), and the network if the plan
    /// asks for that. Called when the pool's last container is gone. Idempotent: nothing to remove is success, and so is a
    /// network that others use. A no-op for an engine whose `prepare` leaves nothing.
    fn release<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Removes what [`prepare`](Engine::prepare) made for dead owners of this pool name (volumes with programs); see
    /// [`labels::OWNER`]. Called once per pool, in a background task. Idempotent. A no-op for an engine whose `prepare` leaves
    /// nothing.
    fn sweep<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Describes the image of this plan, which is there. Called before anything is created. What the engine cannot tell is left
    /// out: [`ImageInfo::default`].
    fn image<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<ImageInfo, EngineError>>;

    /// Creates a container without starting it, and returns its id and the engine's warnings.
    fn create<'a>(&'a self, identity: &'a Identity, plan: &'a Plan) -> BoxFuture<'a, Result<Creation, EngineError>>;

    /// Returns the limits that the plan asks for and that this container does not have, each in words. Called for the first
    /// container of a pool, once it was created; the pool refuses a container that lacks one. An engine that refuses at
    /// [`create`](Engine::create) what it cannot set returns none.
    fn missing_limits<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>>;

    /// Returns the settings of isolation that the plan asks for (the runtime, the read-only root, dropped capabilities and so
    /// on) and that this container does not have, each in words. Called as [`missing_limits`](Engine::missing_limits) is, and
    /// again when the container has started; the pool refuses a container that lacks one, with
    /// [`EngineErrorKind::SettingIgnored`]. An engine that refuses at [`create`](Engine::create) what it does not know returns
    /// none.
    fn ignored_settings<'a>(&'a self, id: &'a str, plan: &'a Plan) -> BoxFuture<'a, Result<Vec<String>, EngineError>>;

    /// Attaches to the standard streams of PID 1 of a created container, where the plan asks for a
    /// [lifeline](Pid1::lifeline). PID 1 sees end-of-file when the [`Attachment`] is dropped or this process ends in any way.
    fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>>;

    /// Starts a created or stopped container; returns when it runs.
    fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Runs a command in a running container.
    fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>>;

    /// Returns what the engine says of one container now. Not there: [`EngineErrorKind::NotFound`].
    fn inspect<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<ContainerReport, EngineError>>;

    /// Returns all containers that match, in any state.
    fn list<'a>(&'a self, selector: &'a Selector) -> BoxFuture<'a, Result<Vec<ContainerReport>, EngineError>>;

    /// Ends PID 1 with SIGKILL, and every other process of the container with it. Not running or not there: success.
    fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Asks PID 1 to end (SIGTERM, or the image's stop signal), and kills it after `grace`, in whole seconds.
    fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Renames a container, given by id or by its present name. A name that is taken: [`EngineErrorKind::Conflict`].
    ///
    /// Nothing is decided by it: of two who rename the same container at the same time both may succeed, one after the
    /// other, even if both gave its old name. Needed for [`Adopt`](crate::Adopt) only; [`EngineErrorKind::Unsupported`]
    /// unless implemented.
    fn rename<'a>(&'a self, id: &'a str, name: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
        let _ = name;
        let message = format!("this engine cannot rename the container {id}");
        Box::pin(async { Err(EngineError::new(EngineErrorKind::Unsupported, message)) })
    }

    /// Removes a container by id or name, running or not, with its anonymous volumes. Not there: success.
    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Freezes all processes of a running container.
    fn pause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Thaws a paused container.
    fn unpause<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>>;

    /// Streams what happens to the containers that match, from `since` on (from now on if `None`). The stream ends, or gives an
    /// error and ends, when the connection breaks; the caller then lists and subscribes again.
    fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>>;
}

/// Lists what an engine can do, beyond what every engine must.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Capabilities;
///
/// // An engine of one's own that has no networks and cannot freeze anything.
/// let mut can = Capabilities::all();
/// can.networks = false;
/// can.pause = false;
/// assert!(can.lifeline && can.no_network);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Containers can be paused and unpaused.
    pub pause: bool,
    /// Containers can be had without any network.
    pub no_network: bool,
    /// The number of processes in a container can be limited.
    pub pids_limit: bool,
    /// Standard input of a command can be closed while its output is still read.
    pub stdin_half_close: bool,
    /// PID 1's standard input can be held attached, so that a container ends with its owner.
    pub lifeline: bool,
    /// The engine has events for processes that the kernel killed for memory. Where it has none, such a command ends as one that
    /// was killed by anybody: [`Signaled(9)`](crate::ExitStatus::Signaled), and a pipeline that loses a member to it as its
    /// shell says.
    pub oom_events: bool,
    /// Containers can be put on networks by name.
    pub networks: bool,
    /// Containers can be renamed.
    pub rename: bool,
    /// PID 1 can be a program that is mounted: as a file of this machine where there are
    /// [`local_files`](Self::local_files), else from a volume that [`prepare`](Engine::prepare) has filled.
    pub programs: bool,
    /// Configuration in the engine's own terms is merged over the plan: [`Plan::engine_config`].
    pub engine_config: bool,
    /// Files of this machine can be mounted into containers.
    pub local_files: bool,
}

impl Capabilities {
    /// Everything.
    pub const fn all() -> Self {
        Self {
            pause: true,
            no_network: true,
            pids_limit: true,
            stdin_half_close: true,
            lifeline: true,
            oom_events: true,
            networks: true,
            rename: true,
            programs: true,
            engine_config: true,
            local_files: true,
        }
    }
}

/// Describes the engine that answered [`Engine::check`].
///
/// # Examples
///
/// ```
/// use dockerpool::Engine;
/// # use dockerpool::testing::FakeEngine;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::EngineError> {
/// # let engine = FakeEngine::new();
/// let info = engine.check().await?;
/// println!("{} on {}, API {}", info.version, info.platform, info.api_version);
/// assert!(info.platform.starts_with("linux/"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineInfo {
    /// Its name and version, e.g. `Docker 20.10.24`.
    pub version: String,
    /// The version of the API spoken with it, e.g. `1.41`.
    pub api_version: String,
    /// Operating system and architecture as images name them, e.g. `linux/amd64`.
    pub platform: String,
    /// The limits that its kernel knows.
    pub limits: LimitSupport,
    /// The version of the control groups of its kernel, if it tells.
    pub cgroup_version: Option<u8>,
    /// Whether root of a container is another user outside, as far as the engine tells: it runs rootless, or remaps users.
    pub remaps_users: bool,
    /// Where it is, as a text that no other engine has. What was found out about an engine is remembered by it, for as long
    /// as this process runs. `None`: nothing is remembered.
    pub id: Option<String>,
}

/// Which limits an engine can set, as far as it tells. `build()` refuses a limit that cannot be set.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{EngineInfo, LimitSupport};
///
/// // What an engine of one's own answers on a kernel that does not count swap.
/// let mut info = EngineInfo::new("Mine 1", "1", "linux/amd64");
/// assert_eq!(info.limits, LimitSupport::all());
/// info.limits.swap = false;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitSupport {
    /// Memory.
    pub memory: bool,
    /// Memory and swap together.
    pub swap: bool,
    /// The number of processes.
    pub pids: bool,
    /// Processor time.
    pub cpu: bool,
}

impl LimitSupport {
    /// All of them.
    pub const fn all() -> Self {
        Self {
            memory: true,
            swap: true,
            pids: true,
            cpu: true,
        }
    }
}

/// Describes an image, as far as the engine tells.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ImageInfo;
///
/// // An engine of one's own tells that commands run as root, and nothing else.
/// let mut image = ImageInfo::default();
/// image.user = Some(String::new());
/// assert!(image.id.is_none() && image.volumes.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The identity of the image's content. `None`: containers of one name count as made from the same image.
    pub id: Option<String>,
    /// The user that the image's commands run as (`USER`): `user[:group]`, and empty for root. Where it is not known, the
    /// library's own PID 1 cannot be another user than the commands.
    pub user: Option<String>,
    /// The image's `ENTRYPOINT`, empty for none. Needed for
    /// [`supervise_command`](crate::ContainerSpec::supervise_command) only.
    pub entrypoint: Option<Vec<String>>,
    /// The image's `CMD`, empty for none. Needed as [`entrypoint`](Self::entrypoint) is.
    pub cmd: Option<Vec<String>>,
    /// The directories that the image declares as volumes (`VOLUME`), for which the engine would make anonymous volumes, in an
    /// order that is the same each time.
    pub volumes: Vec<String>,
}

/// Holds an engine's answer to [`Engine::create`].
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Creation;
///
/// let mut creation = Creation::new("4f53cda18c2b");
/// creation.warnings.push("the clock of this machine is wrong".to_owned());
/// assert!(creation.discarded.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Creation {
    /// The container's id.
    pub id: String,
    /// Limits that the plan asks for and the engine does not set, in its words. The library refuses such a container, with
    /// [`EngineErrorKind::LimitDiscarded`], and removes it.
    pub discarded: Vec<String>,
    /// The engine's warnings. A pool tells each text once to [`on_error`](crate::PoolBuilder::on_error), as an
    /// [`EngineErrorKind::Warning`].
    pub warnings: Vec<String>,
}

impl Creation {
    /// An id, and nothing said about it; the other fields are public.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            discarded: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

impl EngineInfo {
    /// Makes the answer of an engine of your own.
    pub fn new(version: impl Into<String>, api_version: impl Into<String>, platform: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            api_version: api_version.into(),
            platform: platform.into(),
            limits: LimitSupport::all(),
            cgroup_version: None,
            remaps_users: false,
            id: None,
        }
    }

    /// The same with an [`id`](Self::id).
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

/// PID 1's standard streams, held open. Dropping it closes its standard input.
///
/// # Examples
///
/// ```
/// use futures_util::StreamExt;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use dockerpool::Engine;
/// # use dockerpool::engine::{Identity, Plan};
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let id = engine.create(&Identity::new("box"), &Plan::new("any")).await?.id;
/// # engine.start(&id).await?;
/// // A PID 1 that gives back what it reads is alive.
/// let mut pid1 = engine.attach(&id).await?;
/// pid1.stdin.write_all(b"ping").await?;
/// let frame = pid1.output.next().await.expect("it holds the line")?;
/// assert_eq!(&frame.data[..], b"ping");
/// # Ok(())
/// # }
/// ```
pub struct Attachment {
    /// Writes to PID 1.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// The output of PID 1.
    pub output: BoxStream<'static, Result<Frame, EngineError>>,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").finish_non_exhaustive()
    }
}

/// One command to be run in a container.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ExecRequest;
///
/// let request = ExecRequest {
///     argv: vec!["sh".to_owned(), "-c".to_owned(), "echo $GREETING".to_owned()],
///     env: vec!["GREETING=hello".to_owned()],
///     ..Default::default()
/// };
/// assert!(!request.stdin && request.tty.is_none());
/// ```
///
/// `Debug` shows the program and the names of the variables.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up on the container's `PATH`.
    pub argv: Vec<String>,
    /// `NAME=value`, added to the container's environment.
    pub env: Vec<String>,
    /// Working directory; the container's own if `None`.
    pub current_dir: Option<String>,
    /// `user[:group]`, by name or number; the container's own if `None`.
    pub user: Option<String>,
    /// Whether standard input is attached; else the command reads end-of-file at once.
    pub stdin: bool,
    /// A terminal of this size in place of pipes; everything then comes as [`OutputStream::Stdout`].
    pub tty: Option<TtySize>,
    /// The most memory that it and all it starts may have at once, in bytes. The library asks no engine for that: only its
    /// agent can do it, see [`Command::memory`](crate::Command::memory).
    pub memory: Option<u64>,
    /// The most processes and threads that it may be, with all it starts: as for [`memory`](Self::memory).
    pub pids: Option<u32>,
}

impl fmt::Debug for ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            argv,
            env,
            current_dir,
            user,
            stdin,
            tty,
            memory,
            pids,
        } = self;
        let env: Vec<_> = env.iter().map(|text| shown::variable(text)).collect();
        f.debug_struct("ExecRequest")
            .field("argv", &shown::Argv(argv))
            .field("env", &env)
            .field("current_dir", current_dir)
            .field("user", user)
            .field("stdin", stdin)
            .field("tty", tty)
            .field("memory", memory)
            .field("pids", pids)
            .finish()
    }
}

/// The size of a terminal, in characters.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{ExecRequest, TtySize};
///
/// let classic = TtySize { rows: 24, cols: 80 };
/// let request = ExecRequest { argv: vec!["top".to_owned()], tty: Some(classic), ..Default::default() };
/// assert_eq!(request.tty.map(|size| size.cols), Some(80));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub cols: u16,
}

/// A command that was started.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{ExecRequest, OutputStream};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::EngineError> {
/// # use dockerpool::Engine;
/// # use dockerpool::engine::{Identity, Plan};
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let id = engine.create(&Identity::new("box"), &Plan::new("any")).await?.id;
/// # engine.start(&id).await?;
/// # engine.on_exec(|_| dockerpool::testing::FakeProcess::exit(0).stdout("hello"));
/// let request = ExecRequest { argv: vec!["greet".to_owned()], ..Default::default() };
/// let mut session = engine.exec(&id, &request).await?;
/// let mut printed = Vec::new();
/// while let Some(frame) = session.output.next().await {
///     let frame = frame?;
///     if frame.stream == OutputStream::Stdout {
///         printed.extend_from_slice(&frame.data);
///     }
/// }
/// assert_eq!(printed, b"hello");
/// assert_eq!(session.control.exit_code().await?, Some(0));
/// # Ok(())
/// # }
/// ```
pub struct ExecSession {
    /// Its standard input, where [`ExecRequest::stdin`] asked for it. `shutdown()` closes it for the command; of a terminal
    /// it types control-D, and the terminal stays open.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its output in the order the engine gives it. End of the stream is not yet the end of the command.
    pub output: BoxStream<'static, Result<Frame, EngineError>>,
    /// Asks about it.
    pub control: Box<dyn ExecControl>,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession")
            .field("stdin", &self.stdin.is_some())
            .finish_non_exhaustive()
    }
}

/// Tells what the end of a command's output stream proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// All of the output has come.
    Whole,
    /// All of it has come, unless a reader has held it up: the engine gives up, some time after the end of the command, what
    /// is not taken.
    GivenUp,
    /// Some of it may be lost.
    Lost,
}

/// Asks the engine about one command, and tells it what can be told.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ExecRequest;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::EngineError> {
/// # use dockerpool::Engine;
/// # use dockerpool::engine::{Identity, Plan};
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let id = engine.create(&Identity::new("box"), &Plan::new("any")).await?.id;
/// # engine.start(&id).await?;
/// # engine.on_exec(|_| dockerpool::testing::FakeProcess::forever());
/// let request = ExecRequest { argv: vec!["sleep".to_owned(), "60".to_owned()], ..Default::default() };
/// let session = engine.exec(&id, &request).await?;
/// assert_eq!(session.control.exit_code().await?, None); // it runs
/// engine.kill(&id).await?;
/// assert_eq!(session.control.exit_code().await?, Some(137)); // it ended with its container
/// # Ok(())
/// # }
/// ```
pub trait ExecControl: Send + Sync {
    /// The exit code as the engine gives it, when the command has provably ended; `None` while it runs.
    /// [`EngineErrorKind::NotFound`] when the engine no longer knows the command (its container is gone).
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>>;

    /// Gives the command's terminal another size.
    fn resize(&self, size: TtySize) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Comes when the command has ended, where that is told; the default never comes, and the command is asked about.
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Returns what the end of the output stream proves, once that has come; [`StreamEnd::GivenUp`] unless overridden.
    fn stream_end(&self) -> StreamEnd {
        StreamEnd::GivenUp
    }

    /// Returns what is known beyond the exit code, once the command has ended.
    fn report(&self) -> Option<ExecReport> {
        None
    }

    /// Whether [`kill`](Self::kill) and [`signal`](Self::signal) can be had. Without, a command ends with its container.
    fn can_kill(&self) -> bool {
        false
    }

    /// Ends the command with all it has started, and nothing else; comes when all of that is proven to be dead.
    fn kill(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Err(no_single_kill()) })
    }

    /// Comes with the next sign of life from whoever does the [`kill`](Self::kill). A container is killed whose command is to
    /// end, where none has come for a second. The default asks for the [`exit_code`](Self::exit_code), and any answer is one.
    fn sign_of_life(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let _ = self.exit_code().await;
        })
    }

    /// Sends the command's first process a signal. One that has ended gets none.
    fn signal(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>> {
        let _ = signal;
        Box::pin(async { Err(no_single_kill()) })
    }
}

fn no_single_kill() -> EngineError {
    EngineError::new(
        EngineErrorKind::Unsupported,
        "a single command cannot be signalled the way commands are run here",
    )
}

/// How a command ended, and what it used, as the agent tells it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::engine::ExecReport;
///
/// // Whether a kill for memory may have been a process of this command.
/// fn is_suspect(report: &ExecReport) -> bool {
///     report.killed_for_memory || report.oom_kills.is_none_or(|kills| kills > 0)
/// }
///
/// let report = ExecReport {
///     signal: Some(9),
///     at_deadline: false,
///     all_dead: true,
///     user: Duration::from_millis(120),
///     system: Duration::from_millis(30),
///     peak_memory: 64 << 20,
///     oom_kills: Some(1),
///     killed_for_memory: true,
///     total_peak_memory: None,
///     container_peak_memory: Some(100 << 20),
/// };
/// assert!(is_suspect(&report));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecReport {
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The command was ended at its time limit.
    pub at_deadline: bool,
    /// Nothing of it is left, for one that was ended.
    pub all_dead: bool,
    /// Processor time in user mode, of all its processes that were waited for, by it, by each other or by PID 1. Those are
    /// all of them, for one that was ended.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The largest resident memory of one of these processes, in bytes.
    pub peak_memory: u64,
    /// How many processes of the container the kernel killed for memory meanwhile, if it tells.
    pub oom_kills: Option<u32>,
    /// One of those was the command's own.
    pub killed_for_memory: bool,
    /// The most memory that it and all it has started had at once, in bytes, if that is counted.
    pub total_peak_memory: Option<u64>,
    /// The most memory that its container had at once so far, in bytes, if that is counted.
    pub container_peak_memory: Option<u64>,
}

/// Which of its two outputs a command wrote to.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::OutputStream;
///
/// fn colour(stream: OutputStream) -> &'static str {
///     match stream {
///         OutputStream::Stdout => "white",
///         OutputStream::Stderr => "red",
///     }
/// }
/// assert_eq!(colour(OutputStream::Stderr), "red");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of a command's output.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{Frame, OutputStream};
///
/// // What an engine of one's own gives for a line that a command has printed.
/// let frame = Frame { stream: OutputStream::Stdout, data: "hello\n".into() };
/// assert_eq!(frame.data.len(), 6);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it was written to.
    pub stream: OutputStream,
    /// The bytes that were written.
    pub data: Bytes,
}

/// A container's state as the engine reports it. The typestates of [`Container`](crate::Container) are what the library
/// knows; this is what the engine says.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ContainerState;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// // Somebody else may have paused it since it was lent.
/// let report = c.inspect().await?;
/// assert_eq!(report.state, ContainerState::Running);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ContainerState {
    /// Created, never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// Being restarted by the engine.
    Restarting,
    /// Being removed.
    Removing,
    /// Its PID 1 has ended.
    Exited,
    /// Half removed; the engine can do nothing with it but remove it.
    Dead,
    /// A word this library does not know.
    Unknown,
}

/// Describes a container in the engine's words.
///
/// # Examples
///
/// ```
/// use dockerpool::labels;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let report = c.inspect().await?;
/// assert_eq!((&*report.id, &*report.name), (c.id(), c.name()));
/// assert_eq!(report.labels[labels::POOL], pool.name());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerReport {
    /// Its id.
    pub id: String,
    /// Its name, without a leading slash.
    pub name: String,
    /// The image it was made from, as it was asked for; Podman adds the registry.
    pub image: String,
    /// Its state.
    pub state: ContainerState,
    /// PID 1's exit code, once it has ended.
    pub exit_code: Option<i64>,
    /// Its labels, ours and others'.
    pub labels: std::collections::HashMap<String, String>,
}

impl ContainerReport {
    /// Makes the report of an engine of your own; the other fields are public.
    pub fn new(id: impl Into<String>, name: impl Into<String>, state: ContainerState) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            image: String::new(),
            state,
            exit_code: None,
            labels: Default::default(),
        }
    }
}

/// Which containers are meant: those that carry all of these labels, or the one of this id.
///
/// # Examples
///
/// ```
/// use dockerpool::Engine;
/// use dockerpool::engine::Selector;
/// use dockerpool::labels;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").min_idle(2).engine(std::sync::Arc::new(engine.clone())).build().await?;
/// // What this very pool has, and what all pools of its name have, in whatever process.
/// let its_own = engine.list(&Selector::label(labels::INSTANCE, pool.instance())).await?;
/// let all = engine.list(&Selector::pool(pool.name())).await?;
/// assert_eq!((its_own.len(), all.len()), (2, 2));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Label and value.
    pub labels: Vec<(String, String)>,
    /// One container's id.
    pub id: Option<String>,
}

impl Selector {
    /// Selects containers with this label.
    pub fn label(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            labels: vec![(key.into(), value.into())],
            id: None,
        }
    }

    /// Selects the containers of all pools of this name, in any process.
    pub fn pool(name: impl Into<String>) -> Self {
        Self {
            labels: labels::of_pool(name).into_iter().collect(),
            id: None,
        }
    }

    /// Selects the container with this id.
    pub fn id(id: impl Into<String>) -> Self {
        Self {
            labels: Vec::new(),
            id: Some(id.into()),
        }
    }

    /// Whether something with these labels carries all that are named here, with these values.
    pub(crate) fn fits(&self, labels: &std::collections::HashMap<String, String>) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// Returns the containers with the labels of a selector, by what the answer says of each: an engine, or a proxy before it,
/// that does not know the filter gives all there are. What is to be removed is listed so.
pub(crate) async fn listed(
    engine: &dyn Engine,
    selector: &Selector,
    limit: Duration,
) -> Result<Vec<ContainerReport>, EngineError> {
    let mut found = bounded("a list of containers", limit, engine.list(selector)).await?;
    found.retain(|report| selector.fits(&report.labels));
    Ok(found)
}

/// Something that happened to a container.
///
/// # Examples
///
/// ```
/// use dockerpool::Engine;
/// use dockerpool::engine::{EventKind, Selector};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// let mut events = engine.events(&Selector::pool("docs"), None);
/// let c = pool.acquire().await?;
/// let id = c.id().to_owned();
/// c.discard();
/// let event = events.next().await.expect("the engine is there")?;
/// assert_eq!((event.id, event.kind), (id, EventKind::Died));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The container's id.
    pub id: String,
    /// The kind of event.
    pub kind: EventKind,
    /// When, by the engine's clock, if it says so.
    pub at: Option<SystemTime>,
}

impl Event {
    /// Makes the report of an engine of your own; the other fields are public.
    pub fn new(id: impl Into<String>, kind: EventKind) -> Self {
        Self {
            id: id.into(),
            kind,
            at: None,
        }
    }
}

/// The kinds of [`Event`] a pool acts on.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{Event, EventKind};
///
/// // What an engine of one's own reports of a container that it was told to remove.
/// let told = [EventKind::Died, EventKind::Removed].map(|kind| Event::new("4f53cda18c2b", kind));
/// assert!(told.iter().all(|event| event.id == "4f53cda18c2b" && event.at.is_none()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The kernel killed a process of the container because it was over its memory limit.
    OutOfMemory,
    /// PID 1 ended.
    Died,
    /// The container was removed.
    Removed,
    /// The container was paused.
    Paused,
}

/// Told of slow work as it goes on: see [`Progress`].
pub type ProgressFn = Arc<dyn Fn(Progress) + Send + Sync>;

/// A step of the work `build()` does.
///
/// # Examples
///
/// ```
/// use dockerpool::{Pool, Progress};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let (tell, told) = std::sync::mpsc::channel();
/// let pool = Pool::builder("runner")
///     .image("busybox:1.36")
///     .min_idle(2)
///     .on_progress(move |step| {
///         let _ = tell.send(step);
///     })
/// #     .engine(engine)
///     .build()
///     .await?;
/// assert_eq!(told.try_iter().last(), Some(Progress::Warming { ready: 2, wanted: 2 }));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The image is being pulled; the engine's own words.
    Pulling {
        /// The image.
        image: String,
        /// Which layer or step, and what is done with it.
        status: String,
    },
    /// The image is there.
    ImageReady {
        /// The image.
        image: String,
    },
    /// A container of the first warm-up is ready.
    Warming {
        /// How many are ready.
        ready: usize,
        /// How many there will be.
        wanted: usize,
    },
}
