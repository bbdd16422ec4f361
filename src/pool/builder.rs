//! Making a pool: [`PoolBuilder`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as RuntimeHandle;

use super::adopt::Adopt;
use super::hooks::Hooks;
use super::idle::Limits;
use super::kept::KeepLimits;
use super::lifetime::Lifetimes;
use super::pool::Pool;
use super::reuse::Reuse;
use crate::container::DEFAULT_CALL_TIMEOUT;
#[cfg(doc)]
use crate::engine::DockerEngine;
use crate::engine::{Engine, Progress, ProgressFn};
use crate::error::{Error, ErrorFn, FieldError};
use crate::spec::{ContainerSpec, setters};

/// Collects the settings of a [`Pool`]; made by [`Pool::builder`]. All settings are checked in [`build`](Self::build), and
/// every bad one is reported by its name.
///
/// Containers are described by the setters shared with [`ContainerSpec`], whose defaults (no network, 512
/// MiB of memory, 512 processes) hold here too.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::{Pool, Reuse};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let pool = Pool::builder("judge")
///     .image("python:3.12-alpine")
///     .min_idle(2)
///     .max_total(8)
///     .reuse(Reuse::Never)
///     .acquire_timeout(Duration::from_secs(3))
///     .memory(128 << 20)
///     .cpus(0.5)
/// #     .engine(engine)
///     .build()
///     .await?;
/// assert_eq!(pool.idle_count(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until build()"]
#[derive(Clone)]
pub struct PoolBuilder {
    pub(super) name: String,
    pub(super) spec: ContainerSpec,
    pub(super) engine: Option<Arc<dyn Engine>>,
    pub(super) min_idle: usize,
    pub(super) max_idle: Option<usize>,
    pub(super) max_total: Option<usize>,
    pub(super) max_creating: usize,
    pub(super) max_removing: usize,
    pub(super) adopt: Adopt,
    pub(super) on_error: Option<ErrorFn>,
    pub(super) acquire_timeout: Duration,
    pub(super) call_timeout: Duration,
    pub(super) reuse: Reuse,
    pub(super) lifetimes: Lifetimes,
    pub(super) keep: KeepLimits,
    pub(super) hooks: Hooks,
    pub(super) progress: ProgressFn,
    pub(super) runtime: Option<RuntimeHandle>,
}

impl PoolBuilder {
    /// The default number of containers that are kept idle: 1.
    pub const DEFAULT_MIN_IDLE: usize = 1;
    /// The default maximum of idle containers: 10, or the minimum if that is more. There are never more idle containers than
    /// [`max_total`](Self::max_total).
    pub const DEFAULT_MAX_IDLE: usize = 10;
    /// The default maximum of containers: 32, or the idle maximum if that is more.
    pub const DEFAULT_MAX_TOTAL: usize = 32;
    /// The default number of containers that are created at once: 4.
    pub const DEFAULT_CONCURRENT_CREATES: usize = 4;
    /// The default number of containers that are removed at once: 32.
    pub const DEFAULT_CONCURRENT_REMOVALS: usize = 32;
    /// The default time that an acquire waits: 30 seconds.
    pub const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

    /// The default time for which a container is kept for its key: 5 minutes.
    pub const DEFAULT_KEEP_FOR: Duration = Duration::from_secs(300);

    fn new(name: String) -> Self {
        Self {
            name,
            spec: ContainerSpec::new(""),
            engine: None,
            min_idle: Self::DEFAULT_MIN_IDLE,
            max_idle: None,
            max_total: None,
            max_creating: Self::DEFAULT_CONCURRENT_CREATES,
            max_removing: Self::DEFAULT_CONCURRENT_REMOVALS,
            adopt: Adopt::default(),
            on_error: None,
            acquire_timeout: Self::DEFAULT_ACQUIRE_TIMEOUT,
            call_timeout: DEFAULT_CALL_TIMEOUT,
            reuse: Reuse::default(),
            lifetimes: Lifetimes::default(),
            keep: KeepLimits {
                keep_for: Self::DEFAULT_KEEP_FOR,
                max_kept: None,
            },
            hooks: Hooks::new(Self::DEFAULT_HOOK_TIMEOUT),
            progress: Arc::new(|_| {}),
            runtime: None,
        }
    }

    /// Sets the engine. Default: [`DockerEngine::connect`].
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Sets how many idle containers are kept ready, also while others are lent. Default:
    /// [`DEFAULT_MIN_IDLE`](Self::DEFAULT_MIN_IDLE). 0 means none: containers are created when somebody waits. The first
    /// [`build`](Self::build) of a process still makes one container, in which the [agent](crate::ExecVia) is tried out.
    pub fn min_idle(mut self, count: usize) -> Self {
        self.min_idle = count;
        self
    }

    /// Sets how many idle containers are kept at most; a container that comes back to that many is removed. More than
    /// [`max_total`](Self::max_total) is refused. Default: [`DEFAULT_MAX_IDLE`](Self::DEFAULT_MAX_IDLE).
    pub fn max_idle(mut self, count: usize) -> Self {
        self.max_idle = Some(count);
        self
    }

    /// Sets how many containers there may be at any moment, idle, lent, in creation and in removal together. Default:
    /// [`DEFAULT_MAX_TOTAL`](Self::DEFAULT_MAX_TOTAL).
    pub fn max_total(mut self, count: usize) -> Self {
        self.max_total = Some(count);
        self
    }

    /// Sets how many containers are created at once, for callers that wait and for the idle minimum; callers that wait come
    /// first. Default: [`DEFAULT_CONCURRENT_CREATES`](Self::DEFAULT_CONCURRENT_CREATES).
    pub fn max_concurrent_creates(mut self, count: usize) -> Self {
        self.max_creating = count;
        self
    }

    /// Sets how many containers are removed at once, in the background and at the end of the pool. Default:
    /// [`DEFAULT_CONCURRENT_REMOVALS`](Self::DEFAULT_CONCURRENT_REMOVALS).
    pub fn max_concurrent_removals(mut self, count: usize) -> Self {
        self.max_removing = count;
        self
    }

    /// Sets whether containers that an earlier process left when it was killed are taken over. Default: [`Adopt::Never`].
    pub fn adopt(mut self, adopt: Adopt) -> Self {
        self.adopt = adopt;
        self
    }

    /// Sets a function that is called with errors of background tasks, which no call returns: a container could not be
    /// created or removed, the pool's end left something. A removal is tried for ten minutes before it is given up, also one
    /// that the `Drop` of a container begins that was [taken out](crate::PooledContainer::into_inner). Where the runtime of the
    /// background tasks has ended, a removal is tried for one minute. Errors of the first containers, which
    /// [`build`](Self::build) returns, may be passed to the function too.
    ///
    /// The function is called on a thread of its own, in order, and may block. Errors that come while 1,000 wait for it are
    /// logged only. With a [`tokio_runtime`](Self::tokio_runtime) the function is called on that runtime, or on a thread that
    /// stands in for it, and must not block. A panic of the function is logged. Default: `tracing::error!`.
    pub fn on_error(mut self, tell: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(move |error| tell(&error)));
        self
    }

    /// Sets how long an acquire waits. Default: [`DEFAULT_ACQUIRE_TIMEOUT`](Self::DEFAULT_ACQUIRE_TIMEOUT).
    pub fn acquire_timeout(mut self, limit: Duration) -> Self {
        self.acquire_timeout = limit;
        self
    }

    /// Sets the deadline of each call to the engine: of creating, starting, inspecting and removing a container, and of cleaning
    /// one. A pull has an hour, and commands have their own [`timeout`](crate::Command::timeout). Default: 30 seconds.
    pub fn engine_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// Sets what happens to a container between two leases. Default: [`Reuse::Clean`].
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// Sets a function that is called with the progress of [`build`](Self::build): the steps of the pull, the number of warm
    /// containers.
    pub fn on_progress(mut self, tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(tell);
        self
    }

    /// Runs the pool's background tasks on this tokio runtime, which must have I/O and time enabled. Default: the library's
    /// own, which is one thread that all pools of the process share.
    ///
    /// Several threads move more output at once, and tokio's paused time in tests (`start_paused`) holds for the pool too.
    /// The pool works as long as the runtime is driven: on a runtime of the flavor `current_thread` that is not driven, every
    /// call that must wait waits with the runtime, also beyond its time limit. When the runtime has ended, every call that
    /// needs it is [`Error::RuntimeEnded`] at once, nothing is idle any more, and containers are removed by threads of their
    /// own.
    ///
    /// The connections of a [`DockerEngine`] are not concerned: see there.
    pub fn tokio_runtime(mut self, runtime: RuntimeHandle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Describes the containers as a whole, in place of all that the setters of [`ContainerSpec`] have said before.
    pub fn spec(mut self, spec: ContainerSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Returns every bad value at once, by the name of its setter.
    pub(super) fn check(&self) -> Result<Limits, Error> {
        let mut problems = Vec::new();
        let mut bad = |field: &str, problem: String| problems.push(FieldError::new(field, problem));

        if self.name.is_empty() {
            bad("name", "must not be empty".to_owned());
        }
        if self.name.contains('\0') {
            bad("name", "must not contain NUL".to_owned());
        }
        let max_idle = self.max_idle.unwrap_or(Self::DEFAULT_MAX_IDLE.max(self.min_idle));
        let max_total = self.max_total.unwrap_or(Self::DEFAULT_MAX_TOTAL.max(max_idle));
        if max_total > 0
            && let Some(max_idle) = self.max_idle.filter(|max_idle| *max_idle > max_total)
        {
            bad(
                "max_idle",
                format!("{max_idle} is more than max_total, which is {max_total}"),
            );
        }
        if self.min_idle > max_idle {
            bad(
                "min_idle",
                format!("{} is more than max_idle, which is {max_idle}", self.min_idle),
            );
        }
        if max_total == 0 {
            bad("max_total", "must be at least 1".to_owned());
        } else if self.min_idle > max_total {
            bad(
                "min_idle",
                format!("{} is more than max_total, which is {max_total}", self.min_idle),
            );
        }
        if self.max_creating == 0 {
            bad("max_concurrent_creates", "must be at least 1".to_owned());
        }
        if self.max_removing == 0 {
            bad("max_concurrent_removals", "must be at least 1".to_owned());
        }
        if self.call_timeout.is_zero() {
            bad("engine_timeout", "must be more than zero".to_owned());
        }
        if self.adopt == Adopt::Clean && self.spec.wants_output() {
            bad(
                "adopt",
                "does not go with Ready::log(): what the containers of a dead process have printed is not known"
                    .to_owned(),
            );
        }
        if self.adopt == Adopt::Clean && self.hooks.on_create.is_some() {
            bad(
                "adopt",
                "does not go with on_create(): whether it was done with a container of a dead process is not known"
                    .to_owned(),
            );
        }
        problems.extend(self.hooks.problems());
        problems.extend(self.lifetimes.problems());
        problems.extend(self.keep.problems());
        problems.extend(self.spec.problems());
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        Ok(Limits {
            min_idle: self.min_idle,
            max_idle,
            max_total,
            max_creating: self.max_creating,
        })
    }
}

/// The setters of [`ContainerSpec`].
impl PoolBuilder {
    /// Sets the image, as `[registry/]name[:tag][@sha256:digest]`. Required.
    ///
    /// The image's `ENTRYPOINT` and `CMD` are not run, unless [`supervise_command`](Self::supervise_command) says so: PID 1 is the
    /// library's own, and commands of leases are run as they are given. [`build`](Self::build) warns of an `ENTRYPOINT` that is not
    /// run: see [`entrypoint`](Self::entrypoint).
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.spec.image = image.into();
        self
    }

    setters!();

    fn wishes(&mut self) -> &mut ContainerSpec {
        &mut self.spec
    }

    #[cfg(feature = "testing")]
    pub(crate) fn map_spec(mut self, change: impl FnOnce(ContainerSpec) -> ContainerSpec) -> Self {
        self.spec = change(self.spec);
        self
    }
}

impl Pool {
    /// Begins the settings of a pool of this name. The name is part of the containers' names and labels. In the names of containers,
    /// each character other than the ASCII letters and digits becomes `-`, and characters beyond the 40th are left out; labels have
    /// the name as it is.
    pub fn builder(name: impl Into<String>) -> PoolBuilder {
        PoolBuilder::new(name.into())
    }
}

impl fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.name)
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}
