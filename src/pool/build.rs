//! Building a pool from its settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::adopt::{self, Adopt};
use super::backend::Backend;
use super::builder::PoolBuilder;
use super::core::{Core, Deadlines, Removals, Uncleans};
use super::creating;
use super::creations::{Creations, Outcome};
use super::ending::{Ending, Finished};
use super::engine_checks::{check_capabilities, check_limits};
use super::error_callback::{on_a_thread, without_panics};
use super::hooks::Hooks;
use super::identity::{self, Identity};
use super::idle::{Idle, Limits};
use super::kept::Kept;
use super::maintainer::{self, End};
use super::pool::{Inner, Pool};
use super::prepared::{First, Prepared};
use super::report::Reporter;
use super::reuse::Reuse;
use super::roster::Roster;
use crate::container::{GiveUp, Handle};
use crate::engine::{self, DockerEngine, EngineError, EngineErrorKind, EngineInfo, Progress, ProgressFn};
use crate::error::Error;
use crate::runtime::{Home, bounded};
use crate::spec::{self, Decided, Resolved, SecurityReport, resolve};
use crate::values::{labels, owner};

impl PoolBuilder {
    /// Checks everything, reaches the engine, has the image there, and warms the pool to
    /// [`min_idle`](Self::min_idle). Works on any thread, within a tokio runtime or not, and so does the pool.
    ///
    /// The first time in a process, for an engine, image, runtime and user, it is tried out whether the [agent](crate::ExecVia)
    /// runs there. That container is the pool's first one, and is idle after the build also if [`min_idle`](Self::min_idle) is 0.
    /// With a [`max_idle`](Self::max_idle) of 0, the container is removed again. A pool with a [`sandbox`](Self::sandbox) makes such
    /// a container in each build, and looks at it from its inside.
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
    /// [`Pool::acquire`] returns the error. `build()` itself creates a first container, and returns the error, where it has to
    /// find out whether the agent runs: see [`ExecVia`](crate::ExecVia).
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
            let source = EngineError::of_system(EngineErrorKind::Internal, "/proc cannot be read", error);
            Error::engine(
                "find out which process this is, for the labels of containers",
                None,
                source,
            )
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
        let reuse = self.reuse.with_uses(self.lifetimes.max_uses);
        // What it makes ready may have to be undone, also when this future is dropped.
        let mut prepared = Prepared::new(
            engine.clone(),
            self.spec,
            own_labels,
            reuse == Reuse::Clean,
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
            Ok(first) => Box::pin(set_up(first, &self.hooks)).await,
            Err(error) => Err(error),
        };
        let first = match first {
            Ok(first) => first,
            Err(error) => {
                prepared.undo().await;
                return Err(error);
            }
        };
        let spec = prepared.resolved.clone();
        let warnings = std::mem::take(&mut prepared.warnings);
        let exec = spec.active_exec();
        let security = security(&spec, &info);

        let (idle, to_remove) = Idle::new(limits);
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
            kept: Kept::new(self.keep),
            reuse,
            hooks: self.hooks,
            uncleans: Uncleans::default(),
            roster: Roster::default(),
            creations: Creations::default(),
            removals: Removals::new(self.max_removing),
            deadlines: Deadlines::new(self.lifetimes),
            ending: Ending::default(),
        });
        core.reporter.warn_of_image(warnings);
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
            match core.idle.reserve_spare() {
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
                security,
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
}

/// Calls the hook of new containers with the first one, if there is one.
async fn set_up(first: Option<First>, hooks: &Hooks) -> Result<Option<First>, Error> {
    let Some((first, warnings)) = first else {
        return Ok(None);
    };
    match hooks.created(first).await {
        Ok(first) => Ok(Some((first, warnings))),
        Err((first, error)) => {
            if let Some(first) = first {
                first.remove().await;
            }
            Err(Error::engine("create the first containers", None, error))
        }
    }
}

/// Returns the report on the first container of a sandbox, with warnings of old versions.
fn security(spec: &Resolved, info: &EngineInfo) -> Option<SecurityReport> {
    let asked = spec.sandbox.as_ref()?;
    let mut report = spec.security.get().cloned().unwrap_or_default();
    let of_versions = engine::warnings(info, asked.runtime(), asked.has_machines_kernel());
    report.warnings.extend(of_versions);
    Some(report)
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
