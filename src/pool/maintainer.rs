//! The background task of a pool: starts creations and removals, and ends the pool.
//!
//! One task for each pool, driven by events: a demand that [`Idle`](super::idle::Idle) rings, a container to be cleaned or removed, a
//! task that ended. It holds the pool's core and never the [`Pool`](super::Pool).

use std::future::pending;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::cleaning::clean;
use super::core::Core;
use super::creating::create;
use super::deaths::{note_unlent, watch_for_deaths};
use super::ending::Finished;
use super::idle::Retired;
use super::item::Item;
use super::kept;
use super::pace::Pace;
use super::reclaim::reclaim_overdue;
use super::removing::remove;
use super::reuse::Reuse;
use super::sweep::sweep;
use crate::error::Error;

/// Tells of the end of a pool's background task. Where the task is dropped before its end, because its runtime has ended, the
/// pool ends here: its containers are removed by the `Drop` of their owners.
pub(super) struct End {
    core: Arc<Core>,
    finished: watch::Sender<Finished>,
}

impl End {
    pub(super) fn of(core: &Arc<Core>, finished: watch::Sender<Finished>) -> Self {
        Self {
            core: core.clone(),
            finished,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.finished.borrow().is_finished() {
            // Before the waiters fail, so that their error says why.
            self.core.backend.runtime.note_end();
            self.core.idle.close();
            drop(self.core.kept.close());
        }
    }
}

/// Runs the pool until it is closed and has no container left, or until its time is up.
pub(super) async fn run(core: Arc<Core>, mut retired: mpsc::UnboundedReceiver<Retired<Item>>, end: End) {
    // Each task tells whether it has created a container.
    let mut tasks = JoinSet::new();
    let mut watches = watches(&core);
    let mut pace = Pace::default();
    let mut leases_until = core.ending.subscribe();

    loop {
        if core.creations.take_failed() {
            pace.failed();
        }
        if core.idle.is_closed() {
            core.kept
                .close()
                .into_iter()
                .for_each(|kept| kept::end(Reuse::Never, kept));
        }
        while let Some(oldest) = core.kept.take_starving(&core.idle) {
            kept::end(core.reuse, oldest);
        }
        if pace.resume_at().is_none() {
            core.idle.make_room();
            while let Some(slot) = core.idle.reserve() {
                // A runtime that ends drops a new task at once, and the task's slot is free again: this loop would never end.
                if tasks.spawn(create(core.clone(), slot)).is_finished() {
                    break;
                }
            }
        }
        if core.idle.is_closed() && core.idle.status().total() == 0 && retired.is_empty() {
            break;
        }
        let until = *leases_until.borrow_and_update();
        tokio::select! {
            () = core.idle.demand() => {}
            _ = leases_until.changed() => {}
            Some((item, slot)) = retired.recv() => {
                if slot.is_to_clean() {
                    let core = core.clone();
                    tasks.spawn(async {
                        clean(core, item, slot).await;
                        false
                    });
                    continue;
                }
                if slot.is_refused() {
                    note_unlent(&core, item.shared());
                }
                let core = core.clone();
                tasks.spawn(async {
                    remove(core, item, slot).await;
                    false
                });
            }
            Some(ended) = tasks.join_next() => match ended {
                Ok(true) => pace.succeeded(),
                // `Creations` tells of failures.
                Ok(false) => {}
                // Nothing else cancels a task of this set. `End` closes the pool.
                Err(error) if error.is_cancelled() => return,
                Err(error) => {
                    tracing::error!(pool = core.identity.pool, %error, "a task of the pool failed");
                    pace.failed();
                }
            },
            () = until_or_never(pace.resume_at()) => pace.resume(),
            () = until_or_never(until) => {
                core.give_up_leases();
                break;
            }
        }
    }
    watches.shutdown().await;
    // The sweep finds containers whose creation or removal is under way, or the `Drop` of their owners removes them.
    tasks.shutdown().await;
    if let Some(agent) = &core.backend.spec.decided.agent {
        agent.release();
    }
    let outcome = sweep(&core).await;
    if let Err(source) = outcome.result() {
        core.reporter.report(Error::ShutdownIncomplete {
            pool: core.identity.pool.clone(),
            instance: core.identity.instance.clone(),
            source,
        });
    }
    end.finished.send_replace(outcome);
}

/// Spawns the tasks that find dead containers, old ones, those that were kept for their time, leases that last too long, and
/// acquires whose time is up.
fn watches(core: &Arc<Core>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    watches.spawn(watch_for_deaths(core.clone()));
    if let Some(lifetime) = core.deadlines.lifetime.clone() {
        let core = core.clone();
        watches.spawn(async move { lifetime.keep(&core.identity.pool, &core.roster, &core.idle).await });
    }
    watches.spawn(reclaim_overdue(core.clone()));
    let idle = core.idle.clone();
    watches.spawn(async move { idle.time_out().await });
    let (kept, reuse) = (core.kept.clone(), core.reuse);
    watches.spawn(async move { kept.watch(|over| kept::end(reuse, over)).await });
    watches
}

async fn until_or_never(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
