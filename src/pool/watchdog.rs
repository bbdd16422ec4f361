//! The leases with a limit on how long they last: [`Watchdog`].

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::idle::Slot;
use super::item::Item;
use super::kept::Turn;
use super::lifetime::changed_or_due;
use crate::container::Shared;

/// Knows every lease with a limit, and holds its slot and the right to its key, so that both can be freed without the guard.
///
/// A lease is either in `leases`, or these were given out once: to the guard that ended it, or to the task that took its
/// container back.
#[derive(Debug)]
pub(super) struct Watchdog {
    leases: Mutex<Leases>,
    /// Rung when a lease begins that is due first.
    begun: Notify,
}

#[derive(Debug, Default)]
struct Leases {
    next: u64,
    /// In the order in which they are due.
    held: BTreeMap<Due, Held>,
}

/// When a lease must have ended, and its number.
type Due = (Instant, u64);

/// A limit that is longer is no limit.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A container on loan.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) slot: Slot<Item>,
    /// `None`: the lease has no key.
    pub(super) turn: Option<Turn>,
    pub(super) shared: Arc<Shared>,
    pub(super) begun: Instant,
    /// The acquire site.
    pub(super) site: &'static Location<'static>,
}

/// One lease that is watched.
#[derive(Debug)]
pub(super) struct WatchedLease {
    watchdog: Arc<Watchdog>,
    due: Due,
}

impl WatchedLease {
    /// Ends the lease, and returns its slot and the right to its key. `None`: the container was taken back.
    pub(super) fn end(self) -> Option<(Slot<Item>, Option<Turn>)> {
        let ended = self.watchdog.leases.lock().held.remove(&self.due);
        ended.map(|held| (held.slot, held.turn))
    }

    /// Gives the lease a key. The right to it is given up where the container was taken back.
    pub(super) fn set_turn(&self, turn: Turn) {
        let mut leases = self.watchdog.leases.lock();
        let given_up = match leases.held.get_mut(&self.due) {
            Some(held) => held.turn.replace(turn),
            None => Some(turn),
        };
        drop(leases);
        drop(given_up);
    }
}

impl Watchdog {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            leases: Mutex::default(),
            begun: Notify::new(),
        })
    }

    /// Watches a lease that may last for `limit`.
    pub(super) fn begin(
        self: &Arc<Self>,
        limit: Duration,
        (slot, turn): (Slot<Item>, Option<Turn>),
        shared: Arc<Shared>,
        site: &'static Location<'static>,
    ) -> WatchedLease {
        let begun = shared.runtime.now();
        let held = Held {
            slot,
            turn,
            shared,
            begun,
            site,
        };
        let mut leases = self.leases.lock();
        let due = (begun + limit.min(LONGEST), leases.next);
        leases.next += 1;
        leases.held.insert(due, held);
        let is_first = leases.held.first_key_value().is_some_and(|(first, _)| *first == due);
        drop(leases);
        if is_first {
            self.begun.notify_one();
        }
        WatchedLease {
            watchdog: self.clone(),
            due,
        }
    }

    /// Takes the leases that have lasted too long, and returns when the next one is due.
    pub(super) fn take_overdue(&self) -> (Vec<Held>, Option<Instant>) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        let mut leases = self.leases.lock();
        while let Some(first) = leases.held.first_entry() {
            match first.key().0 {
                due if due <= now => overdue.push(first.remove()),
                due => return (overdue, Some(due)),
            }
        }
        (overdue, None)
    }

    /// Waits until `next`, or until a lease begins that is due first.
    pub(super) async fn until_due(&self, next: Option<Instant>) {
        changed_or_due(self.begun.notified(), next).await;
    }
}
