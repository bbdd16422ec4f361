//! Takes containers back from leases that do not end.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::builder::PoolBuilder;
use super::idle::Slot;
use super::maintainer::{Background, Item};
use crate::container::{GIVE_UP, Shared, Taint};
use crate::error::Error;

impl PoolBuilder {
    /// How long a lease may last. One that lasts longer, because its holder hangs or because its guard was leaked
    /// (`std::mem::forget`), is logged with the place in the source at which it was acquired, and its container is killed,
    /// removed and replaced. The guard, should it still be there, does no harm: its commands end with
    /// [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone), new ones are
    /// [`Error::ContainerGone`](crate::Error::ContainerGone), and its `Drop` does nothing. Default: no limit.
    pub fn max_lease(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.max_lease = limit.into();
        self
    }
}

/// Knows every lease, and holds its slot, so that it can be freed without the guard.
#[derive(Debug)]
pub(super) struct Watchdog {
    limit: Duration,
    leases: Mutex<Leases>,
    /// Rung when the first lease begins.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Leases {
    next: u64,
    /// In the order in which they began, which is that in which they are due.
    running: BTreeMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    slot: Slot<Item>,
    shared: Arc<Shared>,
    begun: Instant,
    site: &'static Location<'static>,
}

/// One lease that is watched.
#[derive(Debug)]
pub(super) struct Lease {
    watchdog: Arc<Watchdog>,
    number: u64,
}

impl Lease {
    /// Ends it. The slot, unless the container was taken back.
    pub(super) fn end(self) -> Option<Slot<Item>> {
        let ended = self.watchdog.leases.lock().running.remove(&self.number);
        ended.map(|running| running.slot)
    }
}

impl Watchdog {
    pub(super) fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self {
            limit,
            leases: Mutex::default(),
            begun: Notify::new(),
        })
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        slot: Slot<Item>,
        shared: Arc<Shared>,
        site: &'static Location<'static>,
    ) -> Lease {
        let begun = shared.runtime.now();
        let running = Running {
            slot,
            shared,
            begun,
            site,
        };
        let mut leases = self.leases.lock();
        let number = leases.next;
        leases.next += 1;
        let first = leases.running.is_empty();
        leases.running.insert(number, running);
        drop(leases);
        if first {
            self.begun.notify_one();
        }
        Lease {
            watchdog: self.clone(),
            number,
        }
    }

    /// The leases that are over their time, and when the next one will be.
    fn overdue(&self) -> (Vec<Running>, Option<Instant>) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        let mut leases = self.leases.lock();
        while let Some(first) = leases.running.first_entry() {
            // A limit beyond the end of time is none.
            match first.get().begun.checked_add(self.limit) {
                Some(due) if due <= now => overdue.push(first.remove()),
                due => return (overdue, due),
            }
        }
        (overdue, None)
    }
}

/// The task that watches.
pub(super) async fn watch(watchdog: Arc<Watchdog>, background: Arc<Background>) {
    let mut reclaims = JoinSet::new();
    loop {
        let (overdue, next) = watchdog.overdue();
        for lease in overdue {
            tracing::error!(
                pool = background.pool,
                container = lease.shared.name(),
                acquired_at = %lease.site,
                held = ?lease.begun.elapsed(),
                "a lease did not end in time: its container is taken back"
            );
            reclaims.spawn(reclaim(lease, background.clone()));
        }
        tokio::select! {
            () = watchdog.begun.notified() => {}
            Some(_) = reclaims.join_next() => {}
            () = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// Ends what runs in the container, removes it, and frees its slot.
async fn reclaim(lease: Running, background: Arc<Background>) {
    let Running { mut slot, shared, .. } = lease;
    shared.set_taint(Taint::LeaseExpired);
    slot.recycle();
    // First, since commands whose container was killed know what became of them; the removal would do it too.
    if let Err(error) = shared.kill().await {
        tracing::debug!(container = shared.name(), %error, "could not kill a container");
    }
    if let Err(error) = shared.removal().persist(GIVE_UP).await {
        background.report(Error::engine("remove the container", Some(shared.name()), error));
    }
    background.known.lock().remove(shared.id());
    drop(slot);
}
