//! Containers that are kept for the key of their last lease: [`Kept`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::idle::{Closed, Idle, Retired, Slot};
use super::item::Item;
use super::lifetime::changed_or_due;
use super::reuse::Reuse;
use crate::error::FieldError;

/// Limits what is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepLimits {
    pub(super) keep_for: Duration,
    /// `None`: as many as the pool may have.
    pub(super) max_kept: Option<usize>,
}

impl KeepLimits {
    pub(super) fn problems(&self) -> Vec<FieldError> {
        let zero = self.keep_for.is_zero();
        let problem = || FieldError::new("keep_for", "must be more than zero");
        zero.then(problem).into_iter().collect()
    }
}

/// Knows the keys of leases, and holds the container of each key that has no lease now.
///
/// The lock is taken before that of [`Idle`](super::idle::Idle), never the other way round: a container is in here from the moment
/// at which its slot counts as kept.
#[derive(Debug)]
pub(super) struct Kept {
    limits: KeepLimits,
    keys: Mutex<Keys>,
    /// Rung when the first container is kept.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Keys {
    entries: HashMap<String, Entry>,
    /// The keys with a container, in the order in which they are due.
    order: BTreeMap<u64, String>,
    next: u64,
    closed: bool,
}

/// One key that has a lease, an acquire that waits, or a container.
#[derive(Debug)]
struct Entry {
    /// One permit: the right to have the lease of this key.
    gate: Arc<Semaphore>,
    /// The claims on this key.
    claims: usize,
    /// The lease that the key has now. `Some(false)`: its container is not to be kept.
    keeps: Option<bool>,
    rest: Option<Rest>,
}

/// A container that is kept.
#[derive(Debug)]
struct Rest {
    item: Item,
    slot: Slot<Item>,
    number: u64,
    /// `None`: there is no such moment.
    until: Option<Instant>,
}

/// A place at a key, without the right to its lease.
#[derive(Debug)]
struct Claim {
    kept: Arc<Kept>,
    key: String,
}

/// The right to have the lease of one key.
#[derive(Debug)]
pub(super) struct Turn {
    claim: Claim,
    _permit: OwnedSemaphorePermit,
}

impl Kept {
    pub(super) fn new(limits: KeepLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            keys: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Waits until the key has no lease, in the order of the calls.
    ///
    /// Cancel safe: dropping the future gives up the place.
    pub(super) async fn turn(self: &Arc<Self>, key: &str) -> Result<Turn, Closed> {
        let (claim, gate) = self.claim(key)?;
        let permit = gate.acquire_owned().await.map_err(|_| Closed)?;
        let mut keys = self.keys.lock();
        if let Some(entry) = keys.entries.get_mut(key) {
            entry.keeps = Some(true);
        }
        drop(keys);
        Ok(Turn { claim, _permit: permit })
    }

    fn claim(self: &Arc<Self>, key: &str) -> Result<(Claim, Arc<Semaphore>), Closed> {
        let mut keys = self.keys.lock();
        if keys.closed {
            return Err(Closed);
        }
        let entry = keys.entries.entry(key.to_owned()).or_insert_with(|| Entry {
            gate: Arc::new(Semaphore::new(1)),
            claims: 0,
            keeps: None,
            rest: None,
        });
        entry.claims += 1;
        let gate = entry.gate.clone();
        let claim = Claim {
            kept: self.clone(),
            key: key.to_owned(),
        };
        Ok((claim, gate))
    }

    /// Takes the container of this key, and has that of the present lease not kept. Returns whether there was any of both.
    pub(super) fn forget(&self, key: &str) -> (bool, Option<Retired<Item>>) {
        let mut keys = self.keys.lock();
        let taken = keys.take(key);
        let lease = keys.entries.get_mut(key).and_then(|entry| entry.keeps.as_mut());
        let had_lease = lease.map(|keeps| *keeps = false).is_some();
        (had_lease || taken.is_some(), taken)
    }

    /// Takes the container that has been kept longest, if one must give way to an acquire that waits.
    pub(super) fn take_starving(&self, idle: &Idle<Item>) -> Option<Retired<Item>> {
        // Under the lock, so that no more give way than must.
        let mut keys = self.keys.lock();
        idle.is_starved().then(|| keys.give_way()).flatten()
    }

    /// Takes the container with this id.
    pub(super) fn take_lost(&self, id: &str) -> Option<Retired<Item>> {
        let mut keys = self.keys.lock();
        let holds = |entry: &Entry| entry.rest.as_ref().is_some_and(|rest| rest.item.id() == id);
        let key = keys.entries.iter().find(|(_, entry)| holds(entry))?.0.clone();
        keys.take(&key)
    }

    /// Keeps nothing any more. Returns what was kept. Idempotent.
    pub(super) fn close(&self) -> Vec<Retired<Item>> {
        let mut keys = self.keys.lock();
        keys.closed = true;
        let gates: Vec<_> = keys.entries.values().map(|entry| entry.gate.clone()).collect();
        let kept = std::iter::from_fn(|| keys.take_oldest()).collect();
        drop(keys);
        // Acquires that wait for a lease of the same key fail.
        gates.iter().for_each(|gate| gate.close());
        kept
    }

    /// Ends the time of what is kept, whenever it is over. Never returns.
    pub(super) async fn watch(&self, end: impl Fn(Retired<Item>)) {
        loop {
            let changed = self.changed.notified();
            let (overdue, next) = self.take_overdue();
            overdue.into_iter().for_each(&end);
            changed_or_due(changed, next).await;
        }
    }

    fn take_overdue(&self) -> (Vec<Retired<Item>>, Option<Instant>) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        let mut keys = self.keys.lock();
        while let Some(key) = keys.order.values().next().cloned() {
            let rest = keys.entries.get(&key).and_then(|entry| entry.rest.as_ref());
            match rest.and_then(|rest| rest.until) {
                Some(until) if until <= now => overdue.extend(keys.take(&key)),
                until => return (overdue, until),
            }
        }
        (overdue, None)
    }
}

impl Keys {
    /// Takes the container of a key.
    fn take(&mut self, key: &str) -> Option<Retired<Item>> {
        let entry = self.entries.get_mut(key)?;
        let rest = entry.rest.take()?;
        self.order.remove(&rest.number);
        if entry.claims == 0 {
            self.entries.remove(key);
        }
        Some((rest.item, rest.slot))
    }

    fn take_oldest(&mut self) -> Option<Retired<Item>> {
        let key = self.order.values().next()?.clone();
        self.take(&key)
    }

    /// Takes the container that has been kept longest. Its slot makes room, or serves a waiter, from now on.
    fn give_way(&mut self) -> Option<Retired<Item>> {
        let (item, mut slot) = self.take_oldest()?;
        slot.give_way();
        Some((item, slot))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut keys = self.kept.keys.lock();
        if let Some(entry) = keys.entries.get_mut(&self.key) {
            entry.claims -= 1;
            if entry.claims == 0 && entry.rest.is_none() {
                keys.entries.remove(&self.key);
            }
        }
    }
}

impl Turn {
    /// Takes the container that is kept for the key.
    pub(super) fn take(&self) -> Option<Retired<Item>> {
        self.claim.kept.keys.lock().take(&self.claim.key)
    }

    /// Keeps a container for the key, with the slot of its lease. Returns the containers that give way, of which this one may
    /// be one.
    pub(super) fn keep(self, item: Item, mut slot: Slot<Item>) -> Vec<Retired<Item>> {
        let kept = &self.claim.kept;
        let limits = &kept.limits;
        let mut keys = kept.keys.lock();
        let until = item.shared().runtime.now().checked_add(limits.keep_for);
        let number = keys.next;
        let wanted = match keys.entries.get(&self.claim.key) {
            Some(entry) => !keys.closed && entry.keeps == Some(true),
            None => false,
        };
        // Under the lock: whoever spoils a container looks for it in here afterwards.
        if !wanted || !item.shared().may_be_lent_again() {
            return vec![(item, slot)];
        }
        let is_starved = slot.keep();
        let rest = Rest {
            item,
            slot,
            number,
            until,
        };
        if let Some(entry) = keys.entries.get_mut(&self.claim.key) {
            entry.rest = Some(rest);
        }
        keys.next += 1;
        keys.order.insert(number, self.claim.key.clone());
        // At once: the next lease of the same key may come before the pool's task does.
        let mut displaced: Vec<_> = is_starved.then(|| keys.give_way()).flatten().into_iter().collect();
        while limits.max_kept.is_some_and(|most| keys.order.len() > most) {
            displaced.extend(keys.take_oldest());
        }
        let is_first = keys.order.len() == 1;
        drop(keys);
        if is_first {
            kept.changed.notify_one();
        }
        displaced
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Before the permit is given back.
        let mut keys = self.claim.kept.keys.lock();
        if let Some(entry) = keys.entries.get_mut(&self.claim.key) {
            entry.keeps = None;
        }
    }
}

/// Ends the time of a container that was kept. Its next lease may be another key's, so that it is cleaned or replaced.
pub(super) fn end(reuse: Reuse, (item, slot): Retired<Item>) {
    match reuse {
        Reuse::Clean if item.shared().may_be_lent_again() => slot.clean(item),
        _ => slot.retire(item),
    }
}
