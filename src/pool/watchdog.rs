//! Takes containers back from leases that do not end.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::core::Item;
use super::idle::Slot;
use crate::container::Shared;

/// Knows every lease, and holds its slot, so that it can be freed without the guard.
#[derive(Debug)]
pub(super) struct Watchdog {
    limit: Duration,
    leases: Mutex<Leases>,
    /// Rung when the first lease begins.
    pub(super) begun: Notify,
}

#[derive(Debug, Default)]
struct Leases {
    next: u64,
    /// In the order in which they began, which is that in which they are due.
    running: BTreeMap<u64, Running>,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) slot: Slot<Item>,
    pub(super) shared: Arc<Shared>,
    pub(super) begun: Instant,
    pub(super) site: &'static Location<'static>,
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
    pub(super) fn overdue(&self) -> (Vec<Running>, Option<Instant>) {
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
