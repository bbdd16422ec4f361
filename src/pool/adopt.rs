//! Containers that earlier processes left behind: adopted or removed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use super::core::Core;
use super::identity::{is_marked_unused, owner_of};
use super::item::Item;
use crate::container::{Container, GIVE_UP, Removal};
use crate::engine::{ContainerReport, ContainerState, EngineError, EngineErrorKind, Identity};
use crate::error::Error;
use crate::spec::{ContainerSpec, Decided, resolve};
use crate::values::labels;
use crate::values::owner::Owner;

/// Decides whether a pool takes over containers that an earlier process left when it was killed.
///
/// In either case [`build`](crate::PoolBuilder::build) looks for containers of pools of the same name, in any process:
///
/// - Containers whose owner lives, or is not proven dead, are left alone. Only the death of a process of the same boot of the
///   same machine in the same pid namespace can be proven (see [`labels::OWNER`]). An owner on another machine, or in another
///   container, is never proven dead.
/// - Containers of dead owners are removed in the background, unless they are adopted.
///
/// Containers with the library's own PID 1 end with their owner, so that there is nothing to adopt. Adoption is for
/// containers with a [`cmd`](crate::PoolBuilder::cmd) of their own.
///
/// # Examples
///
/// ```
/// use dockerpool::{Adopt, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// // A service that is restarted often, with containers that outlive it and are slow to make.
/// let pool = Pool::builder("worker")
///     .image("worker:7")
///     .cmd(["sleep", "infinity"])
///     .adopt(Adopt::Clean)
/// #     .engine(engine)
///     .build()
///     .await?;
/// let before = pool.status().lifetime;
/// println!("{} found, {} made", before.adopted, before.created);
/// # assert_eq!((before.adopted, before.created), (0, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Adopt {
    /// Takes over none: every container of the pool was made by this process. The default.
    #[default]
    Never,
    /// Takes over containers that were never lent, that run, and that are made from the same image and settings as the pool's
    /// own, up to its idle maximum.
    ///
    /// The name of a container ends in `.fresh` until it is lent for the first time. The owner then renames it in a background
    /// task, and commands wait for the rename: the first command in each container waits for one more call to the engine (some
    /// milliseconds).
    ///
    /// Processes that find such containers at the same time go one after the other. Their lock is a container that is never
    /// started, and whose name only one of them can have. So each container is adopted by one process. A process that adopts
    /// none takes the lock too before it removes such containers, in the background: its `build()` does not wait for that.
    /// The lock of a process that has ended is taken over, and so is the lock of a `build()` whose future was dropped.
    Clean,
}

/// The longest wait for the lock. It is held for some engine calls per container.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Adopts up to `at_most` containers of dead owners where `adopt` says so, and removes the others in the background.
pub(super) async fn take_over(core: &Arc<Core>, adopt: Adopt, at_most: usize) -> Vec<Item> {
    match adopt {
        Adopt::Never => {
            let core = core.clone();
            core.backend.runtime.clone().spawn(async move {
                settle(&core, 0).await;
            });
            Vec::new()
        }
        Adopt::Clean => settle(core, at_most).await,
    }
}

async fn settle(core: &Arc<Core>, at_most: usize) -> Vec<Item> {
    let mut found = Found::default();
    if let Err(error) = share_out(core, at_most, &mut found).await {
        let error = Error::engine("look for containers that dead owners have left", None, error);
        core.reporter.report(error);
    }
    let Found { adopted, leftovers } = found;
    if !adopted.is_empty() || !leftovers.is_empty() {
        tracing::info!(
            pool = core.identity.pool,
            adopted = adopted.len(),
            removed = leftovers.len(),
            "a dead owner has left containers"
        );
    }
    core.backend.runtime.spawn(remove_all(core.clone(), leftovers));
    adopted
}

/// The containers of dead owners, by what becomes of them.
#[derive(Default)]
struct Found {
    adopted: Vec<Item>,
    /// To be removed. No process adopts one of them any more.
    leftovers: Vec<ContainerReport>,
}

/// Decides what becomes of each container. Containers that another process might adopt are decided on under the lock.
async fn share_out(core: &Core, at_most: usize, found: &mut Found) -> Result<(), EngineError> {
    // No process adopts a container without the mark, also later.
    let left = left_by_the_dead(core).await?.into_iter();
    let (marked, unmarked): (Vec<_>, _) = left.partition(|report| is_marked_unused(&report.name));
    found.leftovers.extend(unmarked);
    if marked.is_empty() {
        return Ok(());
    }
    let lock = Lock::take(core).await?;
    // Other processes may have taken some of them meanwhile.
    let left = left_by_the_dead(core).await?;
    found.leftovers.clear();
    for report in left {
        let spec = core.backend.spec.plan.labels.get(labels::SPEC);
        if !is_unused(&report) {
            found.leftovers.push(report);
        } else if found.adopted.len() < at_most && report.labels.get(labels::SPEC) == spec {
            match adopt(core, &report).await {
                Ok(container) => found.adopted.extend(container),
                Err(error) => {
                    let error = Error::engine("adopt the container", Some(&report.name), error);
                    core.reporter.report(error);
                }
            }
        } else {
            // Without its mark, no process adopts it while it is being removed.
            let name = core.identity.new_name();
            let unmark = core.backend.engine.rename(&report.name, &name);
            match core.backend.call("the renaming of a container", unmark).await {
                Ok(()) => found.leftovers.push(report),
                Err(error) if error.says_gone() => {}
                Err(error) => {
                    let error = Error::engine("remove the container", Some(&report.name), error);
                    core.reporter.report(error);
                }
            }
        }
    }
    lock.free().await;
    Ok(())
}

/// Lists all containers of pools of this name whose owner is proven dead.
async fn left_by_the_dead(core: &Core) -> Result<Vec<ContainerReport>, EngineError> {
    let mut found = core.backend.list(&core.identity.of_any_process()).await?;
    found.retain(|report| owner_of(report).is_some_and(|owner| owner.is_proven_dead()));
    Ok(found)
}

/// The container that is the lock, or the call that may still create it. Dropping the lock removes the container in the
/// background.
struct Lock<'a> {
    core: &'a Core,
    removal: Removal,
    is_held: bool,
}

impl<'a> Lock<'a> {
    /// Waits until the lock is taken. The lock of a dead owner is removed by its id, which no other container has.
    async fn take(core: &'a Core) -> Result<Self, EngineError> {
        let backend = &core.backend;
        let name = core.identity.lock_name();
        // Only what an engine must have, so that the creation needs neither network nor volume.
        let image = &backend.spec.plan.image;
        let mut spec = ContainerSpec::new(&image.name);
        spec.platform = image.platform.clone();
        let decided = Decided {
            own_labels: backend.spec.decided.own_labels.clone(),
            ..Decided::default()
        };
        let (identity, plan) = (Identity::new(&name), resolve(&spec, decided).plan);
        let begun = Instant::now();
        loop {
            let mut lock = Self::asked_for(core, &name);
            let create = backend.engine.create(&identity, &plan);
            let error = match backend.call("the creation of a lock", create).await {
                Ok(created) => {
                    lock.removal = backend.removal(created.id);
                    return Ok(lock);
                }
                Err(error) => error,
            };
            // After these two the engine may have created it, or may still create it.
            lock.is_held = matches!(error.kind(), EngineErrorKind::Timeout | EngineErrorKind::Protocol);
            if error.kind() != EngineErrorKind::Conflict || begun.elapsed() > LOCK_TIMEOUT {
                return Err(error);
            }
            for report in left_by_the_dead(core).await? {
                if report.name == name {
                    backend.removal(report.id).attempt().await?;
                }
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    /// Takes responsibility for the lock before the engine is asked for it. The removal looks among our own containers: the
    /// lock of another process has the same name.
    fn asked_for(core: &'a Core, name: &str) -> Self {
        Self {
            core,
            removal: Removal {
                among: Some(core.identity.own()),
                confirmed: false,
                ..core.backend.removal(name.to_owned())
            },
            is_held: true,
        }
    }

    async fn free(mut self) {
        match self.removal.attempt().await {
            Ok(()) => self.is_held = false,
            // `Drop` retries in the background.
            Err(error) => tracing::debug!(pool = self.core.identity.pool, %error, "the lock could not be freed yet"),
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if self.is_held {
            let runtime = self.core.backend.runtime.handle();
            let name = self.core.identity.lock_name();
            let give_up = self.core.reporter.give_up();
            self.removal.clone().spawn(runtime, &name, give_up, None);
        }
    }
}

/// Whether a container runs and was never lent.
fn is_unused(report: &ContainerReport) -> bool {
    report.state == ContainerState::Running && is_marked_unused(&report.name)
}

/// Makes a container this pool's own. `None`: it is gone, or this machine has no processes that can be named.
async fn adopt(core: &Core, report: &ContainerReport) -> Result<Option<Item>, EngineError> {
    let owner = Owner::this().map_err(|error| {
        EngineError::of_system(
            EngineErrorKind::Internal,
            "this process cannot be named, since /proc cannot be read",
            error,
        )
    })?;
    let Some(owner) = owner else { return Ok(None) };
    let (name, fresh) = core.identity.adopted_names(&owner);
    // Its labels stay those with which it was made.
    let labels = report.labels.iter().filter(|(name, _)| labels::is_reserved(name));
    let labels = labels.map(|(name, value)| (name.clone(), value.clone()));
    let spec = (*core.backend.spec).clone().with_own_labels(labels.collect());
    let give_up = core.reporter.give_up();
    let handle = core.backend.handle(name, Some(fresh), spec, give_up);
    match handle.take_over(&report.name, report.id.clone()).await {
        Ok(()) => Ok(Some(Container::running(handle))),
        Err(error) if error.says_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes containers, and then the other things that dead owners left: networks and volumes.
async fn remove_all(core: Arc<Core>, leftovers: Vec<ContainerReport>) {
    let core = &*core;
    stream::iter(leftovers)
        .for_each_concurrent(core.removals.max_at_once, async |report| {
            if let Err(error) = core.backend.removal(report.id).persist(GIVE_UP).await {
                let error = Error::engine("remove the container", Some(&report.name), error);
                core.reporter.report(error);
            }
        })
        .await;
    let sweep = core.backend.engine.sweep(&core.backend.spec.plan);
    match core.backend.call("a look for what dead owners have left", sweep).await {
        // The engine has no such things, or does not list them.
        Err(error) if matches!(error.kind(), EngineErrorKind::Rejected | EngineErrorKind::Unsupported) => {
            tracing::debug!(pool = core.identity.pool, %error, "what dead owners have left is not looked for");
        }
        Err(error) => {
            let error = Error::engine("remove what dead owners have left", None, error);
            core.reporter.report(error);
        }
        Ok(()) => {}
    }
}
