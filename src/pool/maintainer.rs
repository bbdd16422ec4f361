//! The pool's background task: creates, removes, watches for deaths, and ends it all.
//!
//! One task per pool, driven by events: a demand rung by [`Idle`], a container to be removed, a task that ended, a death
//! told by the engine. It holds the pool's core, never the [`Pool`](super::Pool), so it does not keep a pool alive.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::core::{Background, Done, Finished, Item};
use super::creating::create;
use super::deaths::watch_for_deaths;
use super::expire;
use super::idle::Retired;
use super::pace::{Pace, until_or_never};
use super::reclaim;
use super::removing::remove;
use super::sweep::{SWEEP_TIMEOUT, not_swept, sweep};
use crate::error::Error;

/// Told of when the pool's task ends. Where that is dropped before, since its runtime has ended, the pool ends here:
/// nothing is idle any more, nobody waits, and containers are removed by their owners' `Drop`.
pub(super) struct End {
    background: Arc<Background>,
    finished: watch::Sender<Finished>,
}

impl End {
    pub(super) fn of(background: &Arc<Background>, finished: watch::Sender<Finished>) -> Self {
        Self {
            background: background.clone(),
            finished,
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.finished.borrow().is_finished() {
            // Before those who wait are told, so that they can say why.
            self.background.runtime.note_end();
            self.background.idle.close();
        }
    }
}

/// The pool's task. Ends when the pool was closed and everything of it is gone, or its time is up.
pub(super) async fn run(background: Arc<Background>, mut to_remove: mpsc::UnboundedReceiver<Retired<Item>>, end: End) {
    let mut tasks = JoinSet::new();
    let mut watches = JoinSet::new();
    watches.spawn(watch_for_deaths(background.clone()));
    if let Some(lifetime) = &background.lifetime {
        watches.spawn(expire::keep(lifetime.clone(), background.clone()));
    }
    if let Some(watchdog) = &background.watchdog {
        watches.spawn(reclaim::watch(watchdog.clone(), background.clone()));
    }
    let mut pace = Pace::default();
    let mut leases_until = background.leases_until.subscribe();

    loop {
        if background.creation_failed.swap(false, Ordering::AcqRel) {
            pace.failed();
        }
        if pace.resume_at.is_none() {
            background.idle.make_room();
            while let Some(slot) = background.idle.reserve() {
                tasks.spawn(create(background.clone(), slot));
            }
        }
        if background.idle.is_closed() && background.idle.status().total() == 0 && to_remove.is_empty() {
            break;
        }
        let until = *leases_until.borrow_and_update();
        tokio::select! {
            () = background.idle.demand() => {}
            _ = leases_until.changed() => {}
            Some((item, slot)) = to_remove.recv() => {
                if slot.is_refused() {
                    background.note_unlent(item.shared());
                }
                tasks.spawn(remove(background.clone(), item, slot));
            }
            Some(done) = tasks.join_next() => match done {
                Ok(Done::Created) => pace.succeeded(),
                // A failure is told by `creation_failed`.
                Ok(Done::NotCreated | Done::Removed) => {}
                Err(error) => {
                    tracing::error!(pool = background.pool, %error, "a task of the pool failed");
                    pace.failed();
                }
            },
            () = until_or_never(pace.resume_at) => pace.resume_at = None,
            () = until_or_never(until) => break,
        }
    }
    watches.shutdown().await;
    // Containers whose creation or removal is under way are found by the sweep, or removed by their owners' `Drop`.
    tasks.shutdown().await;
    if let Some(agent) = &background.spec.agent {
        agent.release();
    }
    let until = Instant::now() + SWEEP_TIMEOUT;
    let outcome = match timeout_at(until, sweep(&background, until)).await {
        Ok(Ok(())) => Finished::Clean,
        Ok(Err(error)) => Finished::Incomplete(Some(error)),
        Err(_) => Finished::Incomplete(Some(not_swept())),
    };
    if let Err(source) = outcome.result() {
        background.report(Error::ShutdownIncomplete {
            pool: background.pool.clone(),
            instance: background.instance.clone(),
            source,
        });
    }
    end.finished.send_replace(outcome);
}
