//! What becomes of the containers that earlier processes have left behind.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use super::maintainer::{self, Background};
use crate::container::{Container, GIVE_UP, GiveUp, Handle, Removal, Running};
use crate::engine::{ContainerReport, ContainerState, EngineError, EngineErrorKind, Identity, Selector, listed};
use crate::error::Error;
use crate::runtime::bounded;
use crate::spec::{ContainerSpec, Decided, resolve};
use crate::values::labels;
use crate::values::owner::Owner;

/// Whether a pool takes over containers that an earlier process left when it was killed.
///
/// Either way [`build`](crate::PoolBuilder::build) looks for containers of pools of the same name, in whatever process:
///
/// - Those whose owner lives, or is not proven dead, are left alone. Proof is only to be had of a process of the same
///   boot of the same machine in the same pid namespace (see [`labels::OWNER`]); an owner on another machine, or
///   in another container, never is proven dead.
/// - Those of dead owners are removed in the background, unless they are adopted.
///
/// Containers with the library's own PID 1 end with their owner, so that there is nothing to adopt: this is for
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
    /// Takes over those that nobody has ever borrowed, that run, and that are made from the same image and settings as
    /// the pool's own, up to its idle maximum.
    ///
    /// That a container was never borrowed is told by its name, which ends in `.fresh` until it is lent for the first
    /// time. The owner renames it in a background task, and no command is begun in the container before it is done: the
    /// first command in each container waits for one more call to the engine (some milliseconds).
    ///
    /// Processes that find such containers at the same time go one after the other: a container that is never started, and
    /// whose name only one of them can have, is their lock. So each container is adopted by one. A process that adopts
    /// none takes the lock too before it removes such containers, in the background: its `build()` does not wait for it.
    /// The lock of a process that has ended is taken over, and so is that of a `build()` whose future was dropped.
    Clean,
}

/// The end of the name of a container that was never lent.
const FRESH: &str = ".fresh";

/// Before the owner in the name of an adopted container, whose labels still tell the one that made it.
const OWNED_BY: &str = ".owner-";

/// Names for a container of the pool: for good, and until its first use where that is to be told.
pub(super) fn names(base: String, marked: bool) -> (String, Option<String>) {
    let fresh = marked.then(|| format!("{base}{FRESH}"));
    (base, fresh)
}

/// Who answers for a container now.
fn owner_of(report: &ContainerReport) -> Option<Owner> {
    let name = report.name.strip_suffix(FRESH).unwrap_or(&report.name);
    let text = match name.split_once(OWNED_BY) {
        Some((_, owner)) => owner,
        None => report.labels.get(labels::OWNER)?,
    };
    text.parse().ok()
}

/// How long the lock is waited for; it is held for some engine calls per container.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two attempts to get it.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Adopts what may be adopted, at most so many, and removes the rest of what dead owners have left, in the background.
pub(super) async fn take_over(background: &Arc<Background>, adopt: Adopt, at_most: usize) -> Vec<Container<Running>> {
    match adopt {
        Adopt::Never => {
            let background = background.clone();
            background.runtime.clone().spawn(async move {
                settle(&background, 0).await;
            });
            Vec::new()
        }
        Adopt::Clean => settle(background, at_most).await,
    }
}

async fn settle(background: &Arc<Background>, at_most: usize) -> Vec<Container<Running>> {
    let mut adopted = Vec::new();
    let mut leftovers = Vec::new();
    if let Err(error) = share_out(background, at_most, &mut adopted, &mut leftovers).await {
        background.report(Error::engine("look after the containers of dead owners", None, error));
    }
    if !adopted.is_empty() || !leftovers.is_empty() {
        tracing::info!(
            pool = background.pool,
            adopted = adopted.len(),
            removed = leftovers.len(),
            "a dead owner has left containers"
        );
    }
    background.runtime.spawn(remove_all(background.clone(), leftovers));
    adopted
}

/// Decides what becomes of each. What another process might adopt is decided on alone among all processes; after that
/// nobody else adopts any of it.
async fn share_out(
    background: &Background,
    at_most: usize,
    adopted: &mut Vec<Container<Running>>,
    leftovers: &mut Vec<ContainerReport>,
) -> Result<(), EngineError> {
    // Nobody adopts what carries no mark, also later.
    let found = left_by_the_dead(background).await?.into_iter();
    let (marked, unmarked): (Vec<_>, _) = found.partition(|report| report.name.ends_with(FRESH));
    leftovers.extend(unmarked);
    if marked.is_empty() {
        return Ok(());
    }
    let lock = Lock::get(background).await?;
    // Others may have taken some of them meanwhile.
    let found = left_by_the_dead(background).await?;
    leftovers.clear();
    for report in found {
        let spec = background.spec.plan.labels.get(labels::SPEC);
        if !is_unused(&report) {
            leftovers.push(report);
        } else if adopted.len() < at_most && report.labels.get(labels::SPEC) == spec {
            match take(background, &report).await {
                Ok(Some(container)) => adopted.push(container),
                Ok(None) => {}
                Err(error) => background.report(Error::engine("adopt the container", Some(&report.name), error)),
            }
        } else {
            // Without its mark, nobody adopts it while it is being removed.
            let name = background.new_name();
            let unmark = background.engine.rename(&report.name, &name);
            match bounded("the renaming of a container", background.call_timeout, unmark).await {
                Ok(()) => leftovers.push(report),
                Err(error) if error.says_gone() => {}
                Err(error) => background.report(Error::engine("remove the container", Some(&report.name), error)),
            }
        }
    }
    lock.free().await;
    Ok(())
}

/// All containers of pools of this name whose owner is proven dead.
async fn left_by_the_dead(background: &Background) -> Result<Vec<ContainerReport>, EngineError> {
    let selector = Selector::pool(&background.pool);
    let mut found = listed(&*background.engine, &selector, background.call_timeout).await?;
    found.retain(|report| owner_of(report).is_some_and(|owner| owner.is_proven_dead()));
    Ok(found)
}

/// The container that is the lock, or the call that may come to have made it. Dropping it removes the container, in the
/// background.
struct Lock<'a> {
    background: &'a Background,
    removal: Removal,
    is_held: bool,
}

impl<'a> Lock<'a> {
    /// Waits until the lock is had. The lock of a dead owner is broken: removed by its id, which is nobody else's.
    async fn get(background: &'a Background) -> Result<Self, EngineError> {
        let name = lock_name(&background.pool);
        // No more than what an engine must have, so that the creation needs neither network nor volume.
        let image = &background.spec.plan.image;
        let mut spec = ContainerSpec::new(&image.name);
        spec.platform = image.platform.clone();
        let decided = Decided {
            own_labels: background.spec.decided.own_labels.clone(),
            ..Decided::default()
        };
        let (identity, plan) = (Identity::new(&name), resolve(&spec, decided).plan);
        let begun = Instant::now();
        loop {
            let mut lock = Self::asked_for(background, &name);
            let create = background.engine.create(&identity, &plan);
            let error = match bounded("the creation of a lock", background.call_timeout, create).await {
                Ok(created) => {
                    lock.removal = removal(background, created.id);
                    return Ok(lock);
                }
                Err(error) => error,
            };
            // After any other answer the engine may have made it, or may still make it.
            lock.is_held = matches!(error.kind(), EngineErrorKind::Timeout | EngineErrorKind::Protocol);
            if error.kind() != EngineErrorKind::Conflict || begun.elapsed() > LOCK_TIMEOUT {
                return Err(error);
            }
            for report in left_by_the_dead(background).await? {
                if report.name == name {
                    removal(background, report.id).attempt().await?;
                }
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    /// Before the engine is asked for it, so that whatever comes of the call is cleaned up. The name alone may be that of
    /// the lock of another process.
    fn asked_for(background: &'a Background, name: &str) -> Self {
        Self {
            background,
            removal: Removal {
                among: Some(background.selector()),
                confirmed: false,
                ..removal(background, name.to_owned())
            },
            is_held: true,
        }
    }

    async fn free(mut self) {
        match self.removal.attempt().await {
            Ok(()) => self.is_held = false,
            // Tried again in the background.
            Err(error) => tracing::debug!(pool = self.background.pool, %error, "the lock could not be freed yet"),
        }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if self.is_held {
            let Background {
                runtime,
                on_error,
                pool,
                ..
            } = self.background;
            let give_up = GiveUp(Some(on_error.clone()));
            self.removal
                .clone()
                .spawn(runtime.handle(), &lock_name(pool), give_up, None);
        }
    }
}

fn lock_name(pool: &str) -> String {
    format!("{}.adopting", maintainer::name_of(pool))
}

fn removal(background: &Background, target: String) -> Removal {
    Removal {
        engine: background.engine.clone(),
        target,
        among: None,
        confirmed: true,
        call_timeout: background.call_timeout,
    }
}

/// Runs, and was never lent.
fn is_unused(report: &ContainerReport) -> bool {
    report.state == ContainerState::Running && report.name.ends_with(FRESH)
}

/// Makes a container this pool's own. `None`: it has just gone.
async fn take(background: &Background, report: &ContainerReport) -> Result<Option<Container<Running>>, EngineError> {
    let owner = Owner::this()
        .map_err(|error| EngineError::of_system(EngineErrorKind::Internal, "this process cannot be named", error))?;
    let Some(owner) = owner else { return Ok(None) };
    let (name, fresh) = names(format!("{}{OWNED_BY}{owner}", background.new_name()), true);
    // What it says of itself stays true: its labels are those it was made with.
    let labels = report.labels.iter().filter(|(name, _)| labels::is_reserved(name));
    let labels = labels.map(|(name, value)| (name.clone(), value.clone()));
    let spec = (*background.spec).clone().with_own_labels(labels.collect());
    let handle = Handle::with_mark(
        background.engine.clone(),
        name,
        fresh,
        Arc::new(spec),
        background.call_timeout,
        background.runtime.clone(),
        GiveUp(Some(background.on_error.clone())),
    );
    match handle.take_over(&report.name, report.id.clone()).await {
        Ok(()) => Ok(Some(Container::running(handle))),
        Err(error) if error.says_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes containers, and then what else dead owners have left.
async fn remove_all(background: Arc<Background>, leftovers: Vec<ContainerReport>) {
    let background = &*background;
    stream::iter(leftovers)
        .for_each_concurrent(background.max_removing, async |report| {
            if let Err(error) = removal(background, report.id).persist(GIVE_UP).await {
                background.report(Error::engine("remove the container", Some(&report.name), error));
            }
        })
        .await;
    let sweep = background.engine.sweep(&background.spec.plan);
    match bounded("a look for what dead owners have left", background.call_timeout, sweep).await {
        // One that has no such things, or lets nobody see them.
        Err(error) if matches!(error.kind(), EngineErrorKind::Rejected | EngineErrorKind::Unsupported) => {
            tracing::debug!(pool = background.pool, %error, "what dead owners have left is not looked for");
        }
        Err(error) => background.report(Error::engine("remove what dead owners have left", None, error)),
        Ok(()) => {}
    }
}
