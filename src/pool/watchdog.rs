//! The leases of a pool with a limit on them: [`Watchdog`].

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::idle::Slot;
use super::item::Item;
use crate::container::Shared;

/// Knows every lease, and holds its slot, so that the slot can be freed without the guard.
///
/// A lease is either in `leases`, or its slot was given out once: to the guard that ended it, or to the task that took its
/// container back.
#[derive(Debug)]
pub(super) struct Watchdog {
    limit: Duration,
    leases: Mutex<Leases>,
    /// Rung when there was no lease and one begins.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Leases {
    next: u64,
    /// In the order in which they began, which is the order in which they are due.
    held: BTreeMap<u64, Held>,
}

/// A container on loan.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) slot: Slot<Item>,
    pub(super) shared: Arc<Shared>,
    pub(super) begun: Instant,
    /// The acquire site.
    pub(super) site: &'static Location<'static>,
}

/// One lease that is watched.
#[derive(Debug)]
pub(super) struct Lease {
    watchdog: Arc<Watchdog>,
    number: u64,
}

impl Lease {
    /// Ends the lease, and returns its slot. `None`: the container was taken back.
    pub(super) fn end(self) -> Option<Slot<Item>> {
        let ended = self.watchdog.leases.lock().held.remove(&self.number);
        ended.map(|held| held.slot)
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
        let held = Held {
            slot,
            shared,
            begun,
            site,
        };
        let mut leases = self.leases.lock();
        let number = leases.next;
        leases.next += 1;
        let first = leases.held.is_empty();
        leases.held.insert(number, held);
        drop(leases);
        if first {
            self.begun.notify_one();
        }
        Lease {
            watchdog: self.clone(),
            number,
        }
    }

    /// Takes the leases that have lasted too long, and returns when the next one is due.
    pub(super) fn take_overdue(&self) -> (Vec<Held>, Option<Instant>) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        let mut leases = self.leases.lock();
        while let Some(first) = leases.held.first_entry() {
            // A limit beyond the end of time is none.
            match first.get().begun.checked_add(self.limit) {
                Some(due) if due <= now => overdue.push(first.remove()),
                due => return (overdue, due),
            }
        }
        (overdue, None)
    }

    /// Waits until `next`, or until a first lease begins.
    pub(super) async fn until_due(&self, next: Option<Instant>) {
        let begun = self.begun.notified();
        match next {
            Some(next) => tokio::select! {
                () = begun => {}
                () = sleep_until(next) => {}
            },
            None => begun.await,
        }
    }
}
