//! Making a pool: [`PoolBuilder`].

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::FutureExt;
use parking_lot::Mutex;
use tokio::runtime::Handle as RuntimeHandle;
use tokio::sync::watch;

use super::adopt::{self, Adopt};
use super::backend::{Backend, PREPARE_TIMEOUT};
use super::core::{Core, Deadlines, Removals};
use super::creating;
use super::creations::{Creations, Outcome};
use super::ending::{Ending, Finished};
use super::identity::{self, Identity};
use super::idle::{Idle, Limits};
use super::item::JUDGE;
use super::lifetime::Lifetimes;
use super::maintainer::{self, End};
use super::pool::{Inner, Pool};
use super::report::Reporter;
use super::reuse::Reuse;
use super::roster::Roster;
use crate::container::{DEFAULT_CALL_TIMEOUT, GiveUp, Handle};
use crate::engine::{
    DockerEngine, Engine, EngineError, EngineErrorKind, EngineInfo, ImageInfo, LimitSupport, Network, Plan, Progress,
    ProgressFn,
};
use crate::error::{Error, ErrorFn, FieldError};
use crate::runtime::Home;
use crate::runtime::bounded;
use crate::spec::{self, ContainerSpec, Decided, Resolved, resolve, setters};
use crate::values::labels;
use crate::values::owner;

/// The settings of a [`Pool`]; made by [`Pool::builder`]. All of them are checked in [`build`](Self::build), and every
/// bad one is reported by its name.
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
    name: String,
    spec: ContainerSpec,
    engine: Option<Arc<dyn Engine>>,
    min_idle: usize,
    max_idle: Option<usize>,
    max_total: Option<usize>,
    max_creating: usize,
    max_removing: usize,
    adopt: Adopt,
    on_error: Option<ErrorFn>,
    acquire_timeout: Duration,
    call_timeout: Duration,
    reuse: Reuse,
    pub(super) lifetimes: Lifetimes,
    progress: ProgressFn,
    runtime: Option<RuntimeHandle>,
}

impl PoolBuilder {
    /// How many containers are kept idle if nothing is said: 1.
    pub const DEFAULT_MIN_IDLE: usize = 1;
    /// How many idle containers are kept at most if nothing is said: 10, or the minimum if that is more.
    pub const DEFAULT_MAX_IDLE: usize = 10;
    /// How many containers there are at most if nothing is said: 32, or the idle maximum if that is more.
    pub const DEFAULT_MAX_TOTAL: usize = 32;
    /// How many containers are created at once if nothing is said: 4.
    pub const DEFAULT_CONCURRENT_CREATES: usize = 4;
    /// How many containers are removed at once if nothing is said: 32.
    pub const DEFAULT_CONCURRENT_REMOVALS: usize = 32;
    /// How long an acquire waits if nothing is said: 30 seconds.
    pub const DEFAULT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

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
            progress: Arc::new(|_| {}),
            runtime: None,
        }
    }

    /// The engine to use. Default: [`DockerEngine::connect`].
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// How many idle containers to keep ready, also while others are lent. Default:
    /// [`DEFAULT_MIN_IDLE`](Self::DEFAULT_MIN_IDLE). 0 means none: containers are created when somebody waits.
    pub fn min_idle(mut self, count: usize) -> Self {
        self.min_idle = count;
        self
    }

    /// How many idle containers to keep at most; one that comes back to that many is removed. Default:
    /// [`DEFAULT_MAX_IDLE`](Self::DEFAULT_MAX_IDLE).
    pub fn max_idle(mut self, count: usize) -> Self {
        self.max_idle = Some(count);
        self
    }

    /// How many containers there may be at any moment, wherever they are. Default:
    /// [`DEFAULT_MAX_TOTAL`](Self::DEFAULT_MAX_TOTAL).
    pub fn max_total(mut self, count: usize) -> Self {
        self.max_total = Some(count);
        self
    }

    /// How many containers are created at once, whether somebody waits for them or the idle minimum is to be reached;
    /// whoever waits comes first. Default: [`DEFAULT_CONCURRENT_CREATES`](Self::DEFAULT_CONCURRENT_CREATES).
    pub fn max_concurrent_creates(mut self, count: usize) -> Self {
        self.max_creating = count;
        self
    }

    /// How many containers are removed at once, in the background and at the end of the pool. Default:
    /// [`DEFAULT_CONCURRENT_REMOVALS`](Self::DEFAULT_CONCURRENT_REMOVALS).
    pub fn max_concurrent_removals(mut self, count: usize) -> Self {
        self.max_removing = count;
        self
    }

    /// Whether containers that an earlier process left when it was killed are taken over. Default: [`Adopt::Never`].
    pub fn adopt(mut self, adopt: Adopt) -> Self {
        self.adopt = adopt;
        self
    }

    /// Is told of errors of background tasks, which no call returns: a container could not be created or removed, the
    /// pool's end left something. Removals are tried for ten minutes before they are given up, also those begun by the
    /// `Drop` of a container that was [taken out](crate::PooledContainer::into_inner); where there is no runtime any more,
    /// for one.
    ///
    /// Called on a thread of its own, in order: it may block. Errors that come while 1,000 wait for it are logged only. With
    /// a [`tokio_runtime`](Self::tokio_runtime) it is called on that, or on a thread that stands in for it, and must not
    /// block. If it panics, that is logged. Default: `tracing::error!`.
    pub fn on_error(mut self, tell: impl Fn(&Error) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(move |error| tell(&error)));
        self
    }

    /// How long an acquire waits. Default: [`DEFAULT_ACQUIRE_TIMEOUT`](Self::DEFAULT_ACQUIRE_TIMEOUT).
    pub fn acquire_timeout(mut self, limit: Duration) -> Self {
        self.acquire_timeout = limit;
        self
    }

    /// The deadline of each call to the engine. Default: 30 seconds.
    pub fn engine_timeout(mut self, limit: Duration) -> Self {
        self.call_timeout = limit;
        self
    }

    /// Sets what happens to a container between two leases. Default: [`Reuse::AsIs`].
    pub fn reuse(mut self, reuse: Reuse) -> Self {
        self.reuse = reuse;
        self
    }

    /// Is told how [`build`](Self::build) gets on: what is pulled, how many containers are warm.
    pub fn on_progress(mut self, tell: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Arc::new(tell);
        self
    }

    /// Runs the pool's background tasks on this tokio runtime, which must have I/O and time enabled. Default: the library's
    /// own, which is one thread that all pools of the process share.
    ///
    /// For those who want the tasks on threads of theirs: several threads move more output at once, and tokio's paused time
    /// in tests (`start_paused`) holds for the pool too. The pool works as long as somebody drives the runtime: on one of
    /// the flavor `current_thread` that nobody drives, every call that must wait waits with it, also beyond its limit of
    /// time. When the runtime has ended, every call that needs it is [`Error::RuntimeEnded`] at once, nothing is idle any
    /// more, and containers are removed by threads of their own.
    ///
    /// The connections of a [`DockerEngine`] are not concerned: see there.
    pub fn tokio_runtime(mut self, runtime: RuntimeHandle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Describes the containers as a whole, in place of what the setters below have said before.
    pub fn spec(mut self, spec: ContainerSpec) -> Self {
        self.spec = spec;
        self
    }

    /// Checks everything, reaches the engine, has the image there, and warms the pool to
    /// [`min_idle`](Self::min_idle). Works on any thread, within a tokio runtime or not, and so does the pool.
    ///
    /// The first time in a process, for an engine, image, runtime and user, it is tried out whether the [agent](crate::ExecVia)
    /// runs there. That container is the pool's first, or is removed again if [`min_idle`](Self::min_idle) is 0.
    ///
    /// # Errors
    ///
    /// - [`Error::Config`] with every bad value, before anything was done.
    /// - [`Error::Engine`]: the engine is not reachable; the image is not there and may or can not be pulled, or is for
    ///   another platform; the runtime is not there or cannot be chosen; the first containers could not be created; a limit
    ///   that was asked for is not set ([`EngineErrorKind::LimitDiscarded`]); the engine took a setting of isolation and
    ///   ignored it ([`EngineErrorKind::SettingIgnored`]). Nothing is left behind.
    /// - [`Error::Engine`], before anything was done: on Linux, this process cannot read in `/proc` who it is, such as for want
    ///   of descriptors ([`EngineErrorKind::TooManyOpenFiles`]). Later pools could not tell what it left.
    ///
    /// A limit that the engine says it cannot set is an [`Error::Config`] too, after the engine was reached. With a
    /// [`min_idle`](Self::min_idle) of 0, all other limits and settings are checked when the first container is created:
    /// [`Pool::acquire`] returns the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes what was created, in the background.
    pub async fn build(self) -> Result<Pool, Error> {
        let name = self.name.clone();
        self.build_unnamed().await.map_err(|error| error.of_pool(&name))
    }

    /// Builds the pool; errors do not name it yet.
    async fn build_unnamed(self) -> Result<Pool, Error> {
        let limits = self.check()?;
        let owner = owner::label().map_err(|error| {
            let source = EngineError::of_system(EngineErrorKind::Internal, "this process cannot be named", error);
            Error::engine("mark what is this process's", None, source)
        })?;
        let runtime = Home::of(self.runtime.clone())?;
        // Boxed, and the largest parts of it too: unoptimized, a build would need megabytes of the stack.
        runtime
            .run(Box::pin(self.build_on(runtime.clone(), limits, owner)))
            .await
    }

    async fn build_on(self, runtime: Home, limits: Limits, owner: String) -> Result<Pool, Error> {
        let engine = match self.engine {
            Some(engine) => engine,
            None => Arc::new(DockerEngine::connect().await?),
        };
        let failed = |op| move |error| Error::engine(op, None, error);
        let info = bounded("the check of the engine", self.call_timeout, engine.check())
            .await
            .map_err(failed("reach the engine"))?;
        let wishes = resolve(&self.spec, Decided::default()).plan;
        check_capabilities(&*engine, &wishes, self.adopt)?;
        check_limits(info.limits, &wishes)?;
        spec::check_cgroups(&self.spec, &info)?;
        let instance = format!("{:032x}", fastrand::u128(..));
        // Code in the containers can read it: it says nothing. The volume's labels tell whose it is.
        let volume = format!("dockerpool-{:032x}", fastrand::u128(..));
        let ways = spec::decide(&self.spec, Some(volume), &*engine, &info)?;
        let mut own_labels = labels::of_pool(&self.name);
        own_labels.insert(labels::INSTANCE.to_owned(), instance.clone());
        own_labels.insert(labels::OWNER.to_owned(), owner);
        let on_error = self.on_error.unwrap_or_else(|| {
            let pool = self.name.clone();
            Arc::new(move |error: Error| tracing::error!(pool, %error, "an error of a background task"))
        });
        let mut on_error = without_panics(self.name.clone(), on_error);
        if !runtime.is_given() {
            // All pools share that one thread, and must not wait for the user's function.
            on_error = on_a_thread(on_error);
        }
        // What it makes ready may have to be undone, also when this future is dropped.
        let mut prepared = Prepared::new(
            engine.clone(),
            self.spec,
            own_labels,
            self.call_timeout,
            runtime.clone(),
        );
        let number = AtomicU64::new(1);
        let new_handle = |spec: Resolved| {
            let name = identity::numbered_name(&self.name, &instance, number.fetch_add(1, Ordering::Relaxed));
            let give_up = GiveUp(Some(on_error.clone()));
            Handle::with_mark(
                engine.clone(),
                name,
                None,
                Arc::new(spec),
                self.call_timeout,
                runtime.clone(),
                give_up,
            )
        };
        let first = match Box::pin(prepared.prepare(ways, &info, &self.progress, new_handle)).await {
            Ok(prepared) => prepared,
            Err(error) => {
                prepared.undo().await;
                return Err(error);
            }
        };
        let spec = prepared.resolved.clone();
        let exec = spec.active_exec();

        let (idle, to_remove) = Idle::new(limits, JUDGE);
        let marks_unused = self.adopt == Adopt::Clean && !spec.has_lifeline();
        let core = Arc::new(Core {
            reporter: Reporter::new(self.name.clone(), on_error),
            identity: Identity::new(self.name, instance, number, marks_unused),
            backend: Backend {
                engine,
                spec: Arc::new(spec),
                exec,
                call_timeout: self.call_timeout,
                runtime: runtime.clone(),
            },
            idle,
            reusable: self.reuse == Reuse::AsIs,
            roster: Roster::default(),
            creations: Creations::default(),
            removals: Removals::new(self.max_removing),
            deadlines: Deadlines::new(self.lifetimes),
            ending: Ending::default(),
        });
        let room = limits.max_idle.min(limits.max_total);
        for container in Box::pin(adopt::take_over(&core, self.adopt, room)).await {
            core.roster.add_adopted(container.shared());
            if let Some(lifetime) = &core.deadlines.lifetime {
                lifetime.begin(container.shared());
            }
            if core.idle.admit(container).is_ok() {
                core.creations.note_adopted();
            }
        }
        if let Some((first, warnings)) = first {
            core.creations.note_limits_hold();
            core.reporter.warn(first.shared().name(), warnings);
            core.roster.add(first.shared());
            match core.idle.reserve() {
                // One that has died meanwhile is told of as any that dies early.
                Some(slot) => drop(creating::take_in(&core, first, slot, 0)),
                None => first.remove().await,
            }
        }
        let (finished_sender, finished) = watch::channel(Finished::NotYet);
        let outcome = core.creations.subscribe();
        let end = End::of(&core, finished_sender);
        runtime.spawn(maintainer::run(core.clone(), to_remove, end));
        prepared.handed_over();
        // From here on dropping the pool, by an error or with this future, ends it and removes what it has.
        let pool = Pool {
            inner: Arc::new(Inner {
                core,
                finished,
                acquire_timeout: self.acquire_timeout,
                progress: self.progress.clone(),
            }),
        };
        match warm(outcome, limits.min_idle, &self.progress).await {
            Ok(()) => Ok(pool),
            Err(error) => {
                // Its own failure is in the log; the one that matters is why the pool could not be built.
                let _ = pool.shutdown_timeout(Duration::ZERO).await;
                Err(Error::engine("create the first containers", None, error))
            }
        }
    }

    /// Every bad value at once, by the name of its setter.
    fn check(&self) -> Result<Limits, Error> {
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
        problems.extend(self.lifetimes.problems());
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
    /// The image, as `[registry/]name[:tag][@sha256:digest]`. Required.
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
    /// Begins a pool of this name. The name is part of the containers' names and labels.
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

/// The first container of a pool, with what the engine says of it.
type First = (Handle, Vec<String>);

/// Undoes in the background, when dropped, what a build that is not done yet has prepared on the engine.
struct Prepared {
    engine: Arc<dyn Engine>,
    spec: ContainerSpec,
    /// The spec with what is decided so far.
    resolved: Resolved,
    call_timeout: Duration,
    runtime: Home,
    handed_over: bool,
}

/// When to undo it again after the build was dropped: the engine may finish late what it was asked for.
const UNDO_AGAIN: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

impl Prepared {
    fn new(
        engine: Arc<dyn Engine>,
        spec: ContainerSpec,
        own_labels: BTreeMap<String, String>,
        call_timeout: Duration,
        runtime: Home,
    ) -> Self {
        let decided = Decided {
            own_labels,
            ..Decided::default()
        };
        Self {
            engine,
            resolved: resolve(&spec, decided),
            spec,
            call_timeout,
            runtime,
            handed_over: false,
        }
    }

    /// Makes ready all that the pool's containers need, and resolves the spec with what is known only then. Gives the first
    /// container back, where one was needed for that.
    async fn prepare(
        &mut self,
        ways: spec::Ways,
        info: &EngineInfo,
        progress: &ProgressFn,
        new_handle: impl Fn(Resolved) -> Handle + Send + Sync,
    ) -> Result<Option<First>, Error> {
        let Self {
            engine,
            spec,
            resolved,
            call_timeout,
            ..
        } = self;
        let (engine, call_timeout) = (&**engine, *call_timeout);
        bounded(
            "the preparation of image and network",
            PREPARE_TIMEOUT,
            engine.prepare(&resolved.plan, progress),
        )
        .await
        .map_err(|error| Error::engine(error.doing().unwrap_or("prepare image and network"), None, error))?;
        let image = engine.image(&resolved.plan);
        let image = bounded("the description of the image", call_timeout, image)
            .await
            .map_err(|error| Error::engine("describe the image", None, error))?;
        let mut decided = resolved.decided.clone();
        decided.image_volumes.clone_from(&image.volumes);
        decided.supervised = spec::find_command(spec, &image)?;
        *resolved = resolve(spec, decided);
        let bring_up = |resolved: Resolved, keep| {
            let resolved = described(creating::created_now(&resolved), &image);
            new_handle(resolved).bring_up(keep).boxed()
        };
        let on = spec::On {
            engine,
            info,
            image: Some(&image),
            call_timeout,
        };
        let first = spec::bring(spec, resolved, ways, on, bring_up).await?;
        *resolved = described(resolved.clone(), &image);
        Ok(first)
    }

    /// The pool's own end undoes it.
    fn handed_over(mut self) {
        self.handed_over = true;
    }

    /// The build has failed.
    async fn undo(mut self) {
        // Until that is done it stays the task of `drop`.
        self.handed_over =
            !needs_release(&self.resolved) || release(&*self.engine, &self.resolved.plan, self.call_timeout).await;
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.handed_over || !needs_release(&self.resolved) {
            return;
        }
        let (engine, plan, call_timeout) = (self.engine.clone(), self.resolved.plan.clone(), self.call_timeout);
        self.runtime.spawn(async move {
            release(&*engine, &plan, call_timeout).await;
            for pause in UNDO_AGAIN {
                tokio::time::sleep(pause).await;
                release(&*engine, &plan, call_timeout).await;
            }
        });
    }
}

/// Labels containers with what tells them from those of other specs.
fn described(resolved: Resolved, image: &ImageInfo) -> Resolved {
    let fingerprint = resolved.fingerprint(image.id.as_deref().unwrap_or_default());
    resolved.with_label(labels::SPEC, fingerprint)
}

/// Whether there is something to be undone.
fn needs_release(resolved: &Resolved) -> bool {
    resolved.removes_network() || resolved.plan.volumes().next().is_some()
}

/// `true` if it was done.
async fn release(engine: &dyn Engine, plan: &Plan, call_timeout: Duration) -> bool {
    let released = bounded("the release of what was made ready", call_timeout, engine.release(plan)).await;
    if let Err(error) = &released {
        tracing::error!(%error, "what a build has made ready may be left");
    }
    released.is_ok()
}

/// Refuses what was asked for and the engine cannot do.
fn check_capabilities(engine: &dyn Engine, plan: &Plan, adopt: Adopt) -> Result<(), Error> {
    let can = engine.capabilities();
    let mut missing = Vec::new();
    let is_without_network = plan.network == Some(Network::None);
    if plan.pid1.lifeline && !can.lifeline {
        missing.push(FieldError::new(
            "cmd",
            "this engine cannot hold a lifeline: give PID 1 a command of its own",
        ));
    }
    if plan.limits.pids.is_some() && !can.pids_limit {
        missing.push(FieldError::new("pids_limit", "this engine cannot limit processes"));
    }
    if !is_without_network && !can.networks {
        missing.push(FieldError::new("network", "this engine cannot choose a network"));
    }
    if is_without_network && !can.no_network {
        missing.push(FieldError::new("network", "this engine cannot do without a network"));
    }
    if !plan.engine_config.is_null() && !can.engine_config {
        missing.push(FieldError::new(
            "docker_config",
            "this engine takes no configuration but that of the typed setters",
        ));
    }
    if adopt != Adopt::Never && engine.parts().renaming.is_none() {
        missing.push(FieldError::new("adopt", "this engine cannot hand containers over"));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Config(missing))
    }
}

/// Refuses limits that the engine says it cannot set.
fn check_limits(can: LimitSupport, plan: &Plan) -> Result<(), Error> {
    let limits = &plan.limits;
    // Docker's other way to say the same.
    let quota = plan.engine_config["HostConfig"]["CpuQuota"].as_i64();
    let asked = [
        ("memory", limits.memory.is_some(), can.memory, "memory"),
        (
            "host_config.memory_swap",
            limits.memory_and_swap.is_some(),
            can.swap,
            "swap (which counts as limited wherever memory is; -1 asks for no limit)",
        ),
        ("pids_limit", limits.pids.is_some(), can.pids, "processes"),
        (
            "cpus",
            limits.nano_cpus.is_some() || quota.is_some_and(|quota| quota > 0),
            can.cpu,
            "processor time",
        ),
    ];
    let missing: Vec<_> = asked
        .into_iter()
        .filter(|(_, asked, can, _)| *asked && !can)
        .map(|(field, _, _, what)| FieldError::new(field, format!("the engine says that it cannot limit {what}")))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Config(missing))
    }
}

/// Whatever the user's function does, the background task goes on.
fn without_panics(pool: String, on_error: ErrorFn) -> ErrorFn {
    Arc::new(move |error| {
        let error = error.of_pool(&pool);
        let words = error.to_string();
        if catch_unwind(AssertUnwindSafe(|| on_error(error))).is_err() {
            tracing::error!(pool, error = words, "the function given to on_error() panicked");
        }
    })
}

/// How many errors may wait for the user's function.
const UNTOLD: usize = 1000;

/// Calls a function that does not panic on a thread, in order, and does not wait for it. The thread ends when there is
/// nothing left to tell.
fn on_a_thread(tell: ErrorFn) -> ErrorFn {
    #[derive(Default)]
    struct Queue {
        errors: VecDeque<Error>,
        is_served: bool,
    }

    let queue = Arc::new(Mutex::new(Queue::default()));
    Arc::new(move |error| {
        let mut waiting = queue.lock();
        if waiting.errors.len() >= UNTOLD {
            drop(waiting);
            tracing::error!(%error, "an error that could not be told, since on_error() has not returned for long");
            return;
        }
        waiting.errors.push_back(error);
        if std::mem::replace(&mut waiting.is_served, true) {
            return;
        }
        drop(waiting);
        let (queue, tell) = (queue.clone(), tell.clone());
        let serve = move || loop {
            let mut waiting = queue.lock();
            let Some(error) = waiting.errors.pop_front() else {
                waiting.is_served = false;
                return;
            };
            drop(waiting);
            tell(error);
        };
        let thread = std::thread::Builder::new().name("dockerpool-on-error".to_owned());
        // Without a thread, which may be what the error is about, it has to be here.
        if thread.spawn(serve.clone()).is_err() {
            serve();
        }
    })
}

/// Waits until the first containers are there, or one of them could not be created.
async fn warm(mut outcome: watch::Receiver<Outcome>, wanted: usize, progress: &ProgressFn) -> Result<(), EngineError> {
    loop {
        {
            let now = outcome.borrow_and_update();
            if let Some(error) = &now.last_error {
                return Err(error.clone());
            }
            let ready = now.count.min(wanted);
            if wanted > 0 {
                progress(Progress::Warming { ready, wanted });
            }
            if ready == wanted {
                return Ok(());
            }
        }
        if outcome.changed().await.is_err() {
            return Err(EngineError::new(EngineErrorKind::Internal, "the pool's task ended"));
        }
    }
}
