//! What becomes of the containers that earlier processes have left behind.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::Instant;

use super::maintainer::{self, Background};
use crate::container::{Container, GIVE_UP, GiveUp, Handle, Removal, Running};
use crate::engine::{ContainerReport, ContainerState, EngineError, EngineErrorKind, Selector, bounded};
use crate::error::Error;
use crate::labels;
use crate::owner::Owner;

/// Whether a pool takes over containers that an earlier process left when it was killed.
///
/// Either way [`build`](crate::PoolBuilder::build) looks for containers of pools of the same name, in whatever process:
///
/// - Those whose owner lives, or is not proven dead, are left alone. Proof is only to be had of a process of the same
///   boot of the same machine in the same pid namespace (see [`labels::OWNER`]); an owner on another machine, or
///   in another container, never is proven dead.
/// - Those of dead owners are removed, behind, unless they are adopted.
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
    /// time. That rename is done behind, by the owner, and no command is begun in the container before it is done: the
    /// first command in each container waits for one more call to the engine (some milliseconds).
    ///
    /// Processes that find something at the same time go one after the other: a container that is never started, and whose
    /// name only one of them can have, is their lock. So each container is adopted by one.
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

/// Adopts what may be adopted, at most so many, and removes the rest of what dead owners have left, behind.
pub(super) async fn take_over(background: &Arc<Background>, adopt: Adopt, at_most: usize) -> Vec<Container<Running>> {
    let mut adopted = Vec::new();
    let mut leftovers = Vec::new();
    let limit = match adopt {
        Adopt::Never => 0,
        Adopt::Clean => at_most,
    };
    if let Err(error) = share_out(background, limit, &mut adopted, &mut leftovers).await {
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

/// Decides, alone among all processes, what becomes of each. After that nobody else adopts any of them.
async fn share_out(
    background: &Background,
    at_most: usize,
    adopted: &mut Vec<Container<Running>>,
    leftovers: &mut Vec<ContainerReport>,
) -> Result<(), EngineError> {
    if left_by_the_dead(background).await?.is_empty() {
        return Ok(());
    }
    let lock = lock(background).await?;
    // Others may have taken some of them meanwhile.
    for report in left_by_the_dead(background).await? {
        let spec = background.spec.own_labels.get(labels::SPEC);
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
    if let Err(error) = lock.attempt().await {
        // It goes with the pool, or with the next one after this process has ended.
        background.report(Error::engine("remove the container", Some(&lock.target), error));
    }
    Ok(())
}

/// All containers of pools of this name whose owner is proven dead.
async fn left_by_the_dead(background: &Background) -> Result<Vec<ContainerReport>, EngineError> {
    let selector = Selector::pool(&background.pool);
    let mut found = bounded("a list", background.call_timeout, background.engine.list(&selector)).await?;
    found.retain(|report| owner_of(report).is_some_and(|owner| owner.is_proven_dead()));
    Ok(found)
}

/// Gets the lock, and gives what frees it. That of a dead owner is broken: removed by its id, which is nobody else's.
async fn lock(background: &Background) -> Result<Removal, EngineError> {
    let name = lock_name(&background.pool);
    let begun = Instant::now();
    loop {
        let create = background.engine.create(&name, &background.spec);
        let error = match bounded("the creation of a lock", background.call_timeout, create).await {
            Ok(id) => return Ok(removal(background, id)),
            Err(error) => error,
        };
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

fn lock_name(pool: &str) -> String {
    format!("{}.adopting", maintainer::name_of(pool))
}

fn removal(background: &Background, target: String) -> Removal {
    Removal {
        engine: background.engine.clone(),
        target,
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
    let Some(owner) = Owner::this() else { return Ok(None) };
    let (name, fresh) = names(format!("{}{OWNED_BY}{owner}", background.new_name()), true);
    // What it says of itself stays true: its labels are those it was made with.
    let mut spec = (*background.spec).clone();
    spec.own_labels = report
        .labels
        .iter()
        .filter(|(name, _)| labels::is_reserved(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
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
    let sweep = background.engine.sweep(&background.spec);
    match bounded("a look for what dead owners have left", background.call_timeout, sweep).await {
        // One that has no such things, or lets nobody see them.
        Err(error) if matches!(error.kind(), EngineErrorKind::Rejected | EngineErrorKind::Unsupported) => {
            tracing::debug!(pool = background.pool, %error, "what dead owners have left is not looked for");
        }
        Err(error) => background.report(Error::engine("remove what dead owners have left", None, error)),
        Ok(()) => {}
    }
}
