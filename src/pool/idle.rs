//! Who holds which item: the idle items, the queue of waiters, and the slots that bound how many items there are.
//!
//! State only: no I/O, no clock, no knowledge of the items. One lock guards all of it. No foreign code runs under the lock: no
//! item is dropped and no waiter is woken.
//!
//! Three rules hold whenever the lock is free:
//!
//! - `waiters.is_empty() || idle.is_empty()`. A returned or new item goes to the waiter with the lowest number, so that no
//!   acquire overtakes another. A waiter that refuses the item it was handed keeps its number.
//! - Under the lock it is decided whether an item is usable and whether it is outdated. Code that spoils an item sets the flag
//!   first and searches the idle items under the lock afterwards, so that one of the two sides sees the flag.
//! - `idle + in_use + kept + creating + recycling == total && total <= max_total`. Every item outside of this module travels with the
//!   [`Slot`] that counts it. Dropping a slot, for whatever reason, frees its place.

#[cfg(test)]
mod model;
mod queue;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use self::queue::{Handed, Place, Queue, Waiter};
use crate::error::EngineError;
use crate::values::status::{Counters, Status};

/// Limits the number of items.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) min_idle: usize,
    pub(crate) max_idle: usize,
    pub(crate) max_total: usize,
    pub(crate) max_creating: usize,
}

/// The right to have one item. Dropping the slot frees its place.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    idle: Option<Arc<Idle<T>>>,
    phase: Phase,
}

/// The count that a slot is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Creating,
    InUse,
    /// The lease has ended, and the item waits for the next lease of the same key.
    Kept,
    Recycling,
    /// The item came back, and is being cleaned. Counts as recycling too.
    Cleaning,
    /// The same, for so long already that a new item may be there sooner. Does not count as an item that comes.
    CleaningLate,
    /// The creation failed. Counts as recycling.
    Failed,
    /// The item was found unusable before it was lent. Counts as recycling.
    Refused,
}

/// An item that can be lent. The functions are called under the lock, so that they may only read flags.
pub(crate) trait Lend {
    /// Returns whether the item may be lent.
    fn is_usable(&self) -> bool;

    /// Returns whether the item is to be replaced instead of becoming idle.
    fn is_outdated(&self) -> bool;
}

/// An item that is to be removed, with its slot.
pub(crate) type Retired<T> = (T, Slot<T>);

/// The answer to an acquire that does not wait.
pub(crate) enum Acquired<T> {
    /// The item counts as in use: see [`Slot::lent`].
    Now(T),
    /// No item is idle.
    None,
    Closed,
}

/// A place in the queue. Dropping the ticket leaves the queue, and gives back an item that was handed over meanwhile.
#[derive(Debug)]
pub(crate) struct Ticket<T: Lend> {
    /// `None` once the wait is over.
    handed: Option<oneshot::Receiver<Handed<T>>>,
    place: Place,
    idle: Arc<Idle<T>>,
}

/// Nothing is lent any more.
#[derive(Debug)]
pub(crate) struct Closed;

/// Tells why a waiter got no item.
#[derive(Debug)]
pub(crate) enum Unserved {
    Closed,
    CannotCreate(EngineError),
    TimedOut,
}

/// A failed creation that a retry does not mend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hopeless<'a> {
    pub(crate) error: &'a EngineError,
    /// Whether an item on loan may be lent again when it comes back.
    pub(crate) may_return: bool,
}

/// Holds the idle items and the queue.
#[derive(Debug)]
pub(crate) struct Idle<T> {
    state: Mutex<State<T>>,
    limits: Limits,
    retired: mpsc::UnboundedSender<Retired<T>>,
    /// Rung when an item may have to be created, and when the pool is closed.
    demand: Notify,
    /// Rung when no outdated item is idle any more, and when the pool is closed.
    renewed: Notify,
    /// Rung when the time of a waiter may be up earlier than that of all others.
    alarm: Notify,
}

#[derive(Debug)]
struct State<T> {
    idle: Vec<T>,
    /// The length of the part of `idle`, from its beginning, that is to be replaced. These items are lent last, and do not
    /// count for the minimum.
    outdated: usize,
    waiters: Queue<T>,
    total: usize,
    kept: usize,
    creating: usize,
    recycling: usize,
    /// The part of `recycling` that may be lent again.
    cleaning: usize,
    /// The part of `cleaning` that takes long.
    late: usize,
    closed: bool,
    counters: Counters,
}

/// Notifications of a change, to be sent once the lock is free.
#[must_use]
#[derive(Default)]
struct Ring {
    demand: bool,
    renewed: bool,
    alarm: bool,
}

impl<T: Lend> State<T> {
    /// Returns how many more creations are wanted: one for each waiter, and one for each item missing from the minimum. An item
    /// that is being cleaned is there sooner than a new one, unless that takes long.
    #[inline]
    fn wanted(&self, limits: &Limits) -> usize {
        let missing = limits.min_idle.saturating_sub(self.idle.len() - self.outdated);
        (self.waiters.len() + missing).saturating_sub(self.creating + self.cleaning - self.late)
    }

    #[inline]
    fn may_create(&self, limits: &Limits) -> bool {
        !self.closed && self.total < limits.max_total && self.creating < limits.max_creating && self.wanted(limits) > 0
    }

    /// Returns whether a kept item must give way, since an acquire waits and there is no room for another item.
    #[inline]
    fn is_starved(&self, limits: &Limits) -> bool {
        // An item in creation serves a waiter, and one that is being recycled does or makes room.
        let coming = self.creating + self.recycling;
        self.kept > 0 && !self.closed && self.total >= limits.max_total && self.waiters.len() > coming
    }

    /// Returns whether the background task has something to do for the waiters.
    #[inline]
    fn has_demand(&self, limits: &Limits) -> bool {
        self.may_create(limits) || self.is_starved(limits)
    }

    /// Takes the usable item that became idle last. Unusable items on the way to it go to `refused`.
    #[inline]
    fn pop(&mut self, limits: &Limits, refused: &mut Vec<T>) -> (Option<T>, Ring) {
        let outdated = self.outdated;
        let mut found = self.idle.pop();
        if found.as_ref().is_some_and(|item| !item.is_usable()) {
            found = self.pop_usable(found, refused);
        }
        self.outdated = outdated.min(self.idle.len());
        if found.is_some() {
            self.counters.lent += 1;
        }
        let ring = Ring {
            demand: self.has_demand(limits),
            renewed: outdated > 0 && self.outdated == 0,
            ..Ring::default()
        };
        (found, ring)
    }

    #[cold]
    fn pop_usable(&mut self, mut next: Option<T>, refused: &mut Vec<T>) -> Option<T> {
        while let Some(item) = next {
            if item.is_usable() {
                return Some(item);
            }
            self.recycling += 1;
            refused.push(item);
            next = self.idle.pop();
        }
        None
    }

    /// Takes the waiters out of the queue that no item on loan or in creation can serve.
    ///
    /// An item on loan serves every waiter in turn, if it may be lent again. Each item in creation serves one waiter, in the order
    /// of the queue.
    fn hopeless(&mut self, may_return: bool) -> impl Iterator<Item = Waiter<T>> + use<T> {
        let served = match may_return && self.in_use() + self.cleaning > 0 {
            true => self.waiters.len(),
            false => self.creating,
        };
        self.waiters.split_off(served).into_iter()
    }

    #[inline]
    fn in_use(&self) -> usize {
        self.total - self.idle.len() - self.kept - self.creating - self.recycling
    }

    /// Takes an outdated item, if the minimum is there without it.
    #[inline]
    fn pop_surplus(&mut self, limits: &Limits) -> Option<T> {
        if self.outdated == 0 || self.idle.len() <= limits.min_idle {
            return None;
        }
        self.outdated -= 1;
        self.recycling += 1;
        Some(self.idle.remove(0))
    }
}

impl<T> State<T> {
    #[inline]
    fn count(&mut self, phase: Phase, change: impl Fn(&mut usize)) {
        match phase {
            Phase::Creating => change(&mut self.creating),
            Phase::Cleaning => {
                change(&mut self.recycling);
                change(&mut self.cleaning);
            }
            Phase::CleaningLate => {
                change(&mut self.recycling);
                change(&mut self.cleaning);
                change(&mut self.late);
            }
            Phase::Recycling | Phase::Failed | Phase::Refused => change(&mut self.recycling),
            Phase::Kept => change(&mut self.kept),
            // Not counted: see `in_use`.
            Phase::InUse => {}
        }
    }
}

impl<T: Lend> Idle<T> {
    /// Returns an empty pool, and the channel of the items that are to be removed.
    pub(crate) fn new(limits: Limits) -> (Arc<Self>, mpsc::UnboundedReceiver<Retired<T>>) {
        let (retired, to_remove) = mpsc::unbounded_channel();
        let state = State {
            idle: Vec::with_capacity(limits.max_idle.min(1024)),
            outdated: 0,
            waiters: Queue::new(),
            total: 0,
            kept: 0,
            creating: 0,
            recycling: 0,
            cleaning: 0,
            late: 0,
            closed: false,
            counters: Counters::default(),
        };
        let idle = Self {
            state: Mutex::new(state),
            limits,
            retired,
            demand: Notify::new(),
            renewed: Notify::new(),
            alarm: Notify::new(),
        };
        (Arc::new(idle), to_remove)
    }

    /// Takes the item that became idle last, whose caches are warmest.
    #[inline]
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Acquired<T> {
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let (found, ring) = state.pop(&self.limits, &mut refused);
        let closed = state.closed;
        drop(state);
        self.settle(refused, ring);
        Self::acquired(found, closed)
    }

    /// Takes an idle item, or a place in the queue until the deadline. Without a deadline the wait has no end.
    pub(crate) fn queue(self: &Arc<Self>, deadline: Option<Instant>) -> Result<Ticket<T>, Acquired<T>> {
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let (found, mut ring) = state.pop(&self.limits, &mut refused);
        let closed = state.closed;
        if found.is_some() || closed {
            drop(state);
            self.settle(refused, ring);
            return Err(Self::acquired(found, closed));
        }
        let place = state.waiters.last_place(deadline);
        let (handed, is_earlier) = state.waiters.queue(place);
        ring.demand = state.has_demand(&self.limits);
        ring.alarm = is_earlier;
        drop(state);
        self.settle(refused, ring);
        Ok(Ticket {
            handed: Some(handed),
            place,
            idle: self.clone(),
        })
    }

    #[inline]
    fn acquired(found: Option<T>, closed: bool) -> Acquired<T> {
        match found {
            Some(item) => Acquired::Now(item),
            None if closed => Acquired::Closed,
            None => Acquired::None,
        }
    }

    /// Ends the waits whose time is up, for as long as the future is polled.
    pub(crate) async fn time_out(&self) {
        loop {
            // A notification is kept until somebody waits for one.
            let rung = self.alarm.notified();
            let alarm = self.state.lock().waiters.alarm();
            match alarm {
                None => rung.await,
                Some(alarm) => tokio::select! {
                    () = rung => {}
                    () = sleep_until(alarm) => self.end_late_waits(Instant::now()),
                },
            }
        }
    }

    fn end_late_waits(&self, now: Instant) {
        let late = self.state.lock().waiters.take_late(now);
        for waiter in late {
            // A waiter that has left needs no answer.
            let _ = waiter.hand(Handed::TimedOut);
        }
    }

    /// Does the rest of [`State::pop`] once the lock is free.
    #[inline]
    fn settle(self: &Arc<Self>, refused: Vec<T>, ring: Ring) {
        if !refused.is_empty() {
            self.refuse(refused);
        }
        self.ring(ring);
    }

    #[cold]
    fn refuse(self: &Arc<Self>, refused: Vec<T>) {
        for item in refused {
            self.give_away(item, self.slot(Phase::Refused));
        }
    }

    /// Takes the right to create an item, if one more is wanted and allowed.
    pub(crate) fn reserve(self: &Arc<Self>) -> Option<Slot<T>> {
        let mut state = self.state.lock();
        if !state.may_create(&self.limits) {
            return None;
        }
        state.total += 1;
        state.creating += 1;
        drop(state);
        Some(self.slot(Phase::Creating))
    }

    /// Takes the right to bring in an item that exists already and may become idle, whether or not one is wanted.
    pub(crate) fn reserve_spare(self: &Arc<Self>) -> Option<Slot<T>> {
        let mut state = self.state.lock();
        if state.closed || state.total >= self.limits.max_total || state.idle.len() >= self.limits.max_idle {
            return None;
        }
        state.total += 1;
        state.creating += 1;
        drop(state);
        Some(self.slot(Phase::Creating))
    }

    /// Makes an item idle that was not created here. Gives it back if there is no room, or if it is not usable.
    pub(crate) fn admit(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        let good = item.is_usable() && !item.is_outdated();
        if !good || state.closed || state.total >= self.limits.max_total || state.idle.len() >= self.limits.max_idle {
            return Err(item);
        }
        state.total += 1;
        state.counters.adopted += 1;
        state.idle.push(item);
        Ok(())
    }

    /// Counts an acquire whose time is up.
    pub(crate) fn timed_out(&self) {
        self.state.lock().counters.acquire_timeouts += 1;
    }

    /// Waits until an item may have to be created, or the pool is closed. A notification without a waiter is kept.
    pub(crate) async fn demand(&self) {
        self.demand.notified().await;
    }

    /// Takes the idle items that `which` chooses.
    pub(crate) fn evict(self: &Arc<Self>, which: impl FnMut(&T) -> bool) -> Vec<Retired<T>> {
        self.evict_but(0, which)
    }

    /// Takes the idle items that `which` chooses, but leaves the minimum, of those that became idle last.
    pub(crate) fn evict_above_min(self: &Arc<Self>, which: impl FnMut(&T) -> bool) -> Vec<Retired<T>> {
        self.evict_but(self.limits.min_idle, which)
    }

    /// Returns the least `key` of the idle items, if there are more of them than the minimum.
    pub(crate) fn first_above_min<K: Ord>(&self, key: impl FnMut(&T) -> Option<K>) -> Option<K> {
        let state = self.state.lock();
        let surplus = state.idle.len() > self.limits.min_idle;
        surplus.then(|| state.idle.iter().filter_map(key).min()).flatten()
    }

    /// Takes the idle items that `which` chooses, from the oldest, until `keep` are left.
    fn evict_but(self: &Arc<Self>, keep: usize, mut which: impl FnMut(&T) -> bool) -> Vec<Retired<T>> {
        let mut state = self.state.lock();
        let outdated = state.outdated;
        let mut out = Vec::new();
        let mut i = 0;
        while i < state.idle.len() && state.idle.len() > keep {
            if which(&state.idle[i]) {
                out.push(state.idle.remove(i));
                if i < state.outdated {
                    state.outdated -= 1;
                }
            } else {
                i += 1;
            }
        }
        state.recycling += out.len();
        let ring = Ring {
            demand: !out.is_empty(),
            renewed: outdated > 0 && state.outdated == 0,
            ..Ring::default()
        };
        drop(state);
        self.ring(ring);
        out.into_iter()
            .map(|item| (item, self.slot(Phase::Recycling)))
            .collect()
    }

    /// Has the idle items replaced that have become outdated. Those beyond the minimum are given away now, each of the others
    /// when its successor is there. Until then they are lent where no other item is idle.
    pub(crate) fn outdate(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let known = state.outdated;
        let idle = std::mem::take(&mut state.idle).into_iter().enumerate();
        let (old, new): (Vec<_>, Vec<_>) = idle.partition(|(i, item)| *i < known || item.is_outdated());
        state.outdated = old.len();
        state.idle = old.into_iter().chain(new).map(|(_, item)| item).collect();
        let mut surplus = Vec::new();
        while let Some(item) = state.pop_surplus(&self.limits) {
            surplus.push(item);
        }
        let ring = Ring {
            demand: true,
            renewed: state.outdated == 0,
            ..Ring::default()
        };
        drop(state);
        for item in surplus {
            self.give_away(item, self.slot(Phase::Recycling));
        }
        self.ring(ring);
    }

    /// Gives an outdated item away before its successor is there, if there is no room for the successor otherwise.
    pub(crate) fn make_room(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let full = state.total >= self.limits.max_total;
        let under_way = state.creating + state.recycling > 0;
        if !full || under_way || state.outdated == 0 || state.wanted(&self.limits) == 0 {
            return;
        }
        state.outdated -= 1;
        state.recycling += 1;
        let item = state.idle.remove(0);
        let ring = Ring {
            renewed: state.outdated == 0,
            ..Ring::default()
        };
        drop(state);
        self.give_away(item, self.slot(Phase::Recycling));
        self.ring(ring);
    }

    /// Returns whether a kept item must give way to an acquire that waits.
    pub(crate) fn is_starved(&self) -> bool {
        self.state.lock().is_starved(&self.limits)
    }

    /// Waits until no idle item is outdated.
    pub(crate) async fn renewed(&self) {
        loop {
            let mut renewed = std::pin::pin!(self.renewed.notified());
            renewed.as_mut().enable();
            if self.state.lock().outdated == 0 {
                return;
            }
            renewed.await;
        }
    }

    #[inline]
    fn ring(&self, ring: Ring) {
        if ring.demand {
            self.demand.notify_one();
        }
        if ring.renewed {
            self.renewed.notify_waiters();
        }
        if ring.alarm {
            self.alarm.notify_one();
        }
    }

    /// Ends lending and creating. Waiters get [`Unserved::Closed`], and idle items are given away. Idempotent.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.closed = true;
        state.outdated = 0;
        let waiters = state.waiters.split_off(0);
        let idle = std::mem::take(&mut state.idle);
        state.recycling += idle.len();
        drop(state);
        waiters.into_iter().for_each(Waiter::end);
        for item in idle {
            self.give_away(item, self.slot(Phase::Recycling));
        }
        self.ring(Ring {
            demand: true,
            renewed: true,
            ..Ring::default()
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits until the pool is closed.
    pub(crate) async fn closed(&self) {
        loop {
            let mut renewed = std::pin::pin!(self.renewed.notified());
            renewed.as_mut().enable();
            if self.is_closed() {
                return;
            }
            renewed.await;
        }
    }

    pub(crate) fn status(&self) -> Status {
        let state = self.state.lock();
        Status {
            idle: state.idle.len(),
            in_use: state.in_use(),
            kept: state.kept,
            creating: state.creating,
            recycling: state.recycling,
            cleaning: state.cleaning,
            max_total: self.limits.max_total,
            waiting: state.waiters.len(),
            lifetime: state.counters,
            ..Status::default()
        }
    }

    #[inline]
    fn slot(self: &Arc<Self>, phase: Phase) -> Slot<T> {
        Slot {
            idle: Some(self.clone()),
            phase,
        }
    }

    /// Hands a good item to the first waiter, or makes it idle, or gives it away if there is no room. Gives an item away that is
    /// not usable or is outdated. Returns whether the item was usable.
    #[inline]
    fn put(self: Arc<Self>, mut item: T, mut phase: Phase) -> bool {
        loop {
            let mut state = self.state.lock();
            let usable = item.is_usable();
            let good = usable && !item.is_outdated();
            match phase {
                Phase::Creating => state.counters.created += 1,
                Phase::Cleaning | Phase::CleaningLate if good => {
                    state.counters.returned += 1;
                    state.counters.cleaned += 1;
                }
                Phase::InUse | Phase::Kept if good => state.counters.returned += 1,
                Phase::InUse | Phase::Kept | Phase::Cleaning | Phase::CleaningLate => state.counters.discarded += 1,
                Phase::Recycling | Phase::Failed | Phase::Refused => {}
            }
            if !good {
                state.count(phase, |n| *n -= 1);
                state.recycling += 1;
                // An item that was being cleaned counted as one that comes.
                let ring = Ring {
                    demand: phase == Phase::Cleaning && state.has_demand(&self.limits),
                    ..Ring::default()
                };
                drop(state);
                self.give_away(item, self.slot(Phase::Recycling));
                self.ring(ring);
                return usable;
            }
            if let Some(waiter) = state.waiters.pop() {
                state.counters.lent += 1;
                state.count(phase, |n| *n -= 1);
                phase = Phase::InUse;
                drop(state);
                match waiter.hand(Handed::Item(item)) {
                    // The waiter has left. The next one.
                    Err(Handed::Item(back)) => item = back,
                    Ok(()) | Err(_) => return true,
                }
                continue;
            }
            state.count(phase, |n| *n -= 1);
            if !state.closed && (state.idle.len() < self.limits.max_idle || state.outdated > 0) {
                state.idle.push(item);
                if let Some(old) = state.pop_surplus(&self.limits) {
                    let ring = Ring {
                        renewed: state.outdated == 0,
                        ..Ring::default()
                    };
                    drop(state);
                    self.give_away(old, self.slot(Phase::Recycling));
                    self.ring(ring);
                }
                return true;
            }
            state.recycling += 1;
            drop(state);
            self.give_away(item, self.slot(Phase::Recycling));
            return true;
        }
    }

    /// Sends an item to be removed.
    pub(crate) fn give_away(&self, item: T, slot: Slot<T>) {
        // Where the receiver is gone, the item's own `Drop` removes it.
        drop(self.retired.send((item, slot)));
    }
}

impl<T: Lend> Slot<T> {
    /// Returns the slot of an item that is in use. There is one for each such item.
    #[inline]
    pub(crate) fn lent(idle: Arc<Idle<T>>) -> Self {
        Self {
            idle: Some(idle),
            phase: Phase::InUse,
        }
    }

    /// Gives back an item that was lent, or gives in a new one: see [`Idle::put`]. Returns whether the item was usable; else it
    /// was given away.
    #[inline]
    pub(crate) fn put(mut self, item: T) -> bool {
        self.idle.take().is_some_and(|idle| idle.put(item, self.phase))
    }

    /// Gives an item away to be removed. Its place stays taken until that is done.
    pub(crate) fn retire(mut self, item: T) {
        self.recycle();
        self.give_away(item);
    }

    /// Notes that the lease has ended, and that the item is kept for the next lease of the same key. Returns whether a kept item
    /// must give way to an acquire that waits.
    pub(crate) fn keep(&mut self) -> bool {
        self.leave(Phase::Kept, |_| {});
        self.idle.as_ref().is_some_and(|idle| idle.is_starved())
    }

    /// Notes that the item is kept no longer, and is about to be cleaned or removed.
    pub(crate) fn give_way(&mut self) {
        self.leave(Phase::Recycling, |_| {});
    }

    /// Begins the next lease of an item that was kept, which counts as in use: see [`lent`](Self::lent).
    pub(crate) fn resume(mut self) {
        self.leave(Phase::InUse, |counters| {
            counters.returned += 1;
            counters.lent += 1;
        });
        self.idle = None;
    }

    /// Sends an item that was lent to be cleaned. Its place stays taken.
    pub(crate) fn clean(mut self, item: T) {
        self.leave(Phase::Cleaning, |_| {});
        self.give_away(item);
    }

    /// Gives an item back that was sent to be cleaned, and did not need it.
    pub(crate) fn put_uncleaned(mut self, item: T) {
        self.leave(Phase::InUse, |_| {});
        self.put(item);
    }

    /// Notes that the cleaning takes long, so that an item may be created for a waiter. The first of both is lent.
    pub(crate) fn clean_late(&mut self) {
        self.leave(Phase::CleaningLate, |_| {});
    }

    /// Whether the item is to be cleaned.
    pub(crate) fn is_to_clean(&self) -> bool {
        self.phase == Phase::Cleaning
    }

    /// Gives an item away to be removed, which could not be cleaned.
    pub(crate) fn retire_unclean(mut self, item: T) {
        self.leave(Phase::Recycling, |counters| {
            counters.discarded += 1;
            counters.unclean += 1;
        });
        self.give_away(item);
    }

    /// Notes that the creation was given up, which is no failure. The slot counts as recycling from now on.
    pub(crate) fn given_up(&mut self) {
        self.leave(Phase::Failed, |_| {});
    }

    /// Whether the item was found unusable before it was lent.
    pub(crate) fn is_refused(&self) -> bool {
        self.phase == Phase::Refused
    }

    /// Notes that the creation failed. The slot counts as recycling from now on. Where no retry helps, fails the
    /// waiters that no other item can serve: see [`State::hopeless`].
    pub(crate) fn failed(&mut self, hopeless: Option<Hopeless<'_>>) {
        self.leave(Phase::Failed, |counters| counters.create_failures += 1);
        let (Some(idle), Some(Hopeless { error, may_return })) = (&self.idle, hopeless) else {
            return;
        };
        let waiters = idle.state.lock().hopeless(may_return);
        for waiter in waiters {
            // A waiter that has left needs no answer.
            let _ = waiter.hand(Handed::CannotCreate(Box::new(error.clone())));
        }
    }

    fn give_away(self, item: T) {
        if let Some(idle) = self.idle.clone() {
            idle.give_away(item, self);
        }
    }

    /// Ends the lease without giving the item back. The slot counts as recycling from now on.
    pub(crate) fn recycle(&mut self) {
        self.leave(Phase::Recycling, |counters| counters.discarded += 1);
    }

    /// Moves the slot to another phase.
    fn leave(&mut self, phase: Phase, count: impl FnOnce(&mut Counters)) {
        if let Some(idle) = &self.idle {
            let mut state = idle.state.lock();
            state.count(self.phase, |n| *n -= 1);
            state.count(phase, |n| *n += 1);
            count(&mut state.counters);
            self.phase = phase;
            let ring = Ring {
                demand: state.has_demand(&idle.limits),
                ..Ring::default()
            };
            drop(state);
            idle.ring(ring);
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(idle) = self.idle.take() {
            let mut state = idle.state.lock();
            state.total -= 1;
            state.count(self.phase, |n| *n -= 1);
            match self.phase {
                Phase::Recycling | Phase::Refused => state.counters.removed += 1,
                Phase::Kept | Phase::Cleaning | Phase::CleaningLate => {
                    state.counters.removed += 1;
                    state.counters.discarded += 1;
                }
                Phase::InUse => state.counters.taken += 1,
                Phase::Creating | Phase::Failed => {}
            }
            drop(state);
            // There is room for another item, and a shutdown waits for the last one to go.
            idle.demand.notify_one();
        }
    }
}

impl<T: Lend> Ticket<T> {
    /// Polls for this ticket's turn, and returns a usable item, which counts as in use. An item that has become unusable since it was
    /// handed over does not cost the turn. Called once more after that, it says that nothing is lent any more.
    pub(crate) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<T, Unserved>> {
        loop {
            let Some(handed) = &mut self.handed else {
                return Poll::Ready(Err(Unserved::Closed));
            };
            let handed = ready!(Pin::new(handed).poll(cx));
            self.handed = None;
            let item = match handed {
                Ok(Handed::Item(item)) => item,
                Ok(Handed::CannotCreate(error)) => return Poll::Ready(Err(Unserved::CannotCreate(*error))),
                Ok(Handed::TimedOut) => return Poll::Ready(Err(Unserved::TimedOut)),
                Err(_) => return Poll::Ready(Err(Unserved::Closed)),
            };
            if item.is_usable() {
                return Poll::Ready(Ok(item));
            }
            if let Some(other) = self.refuse(item)? {
                return Poll::Ready(Ok(other));
            }
        }
    }

    /// Gives an unusable item away, and takes an idle one or queues again with the old number.
    #[cold]
    fn refuse(&mut self, item: T) -> Result<Option<T>, Unserved> {
        let idle = &self.idle;
        let mut refused = Vec::new();
        let mut state = idle.state.lock();
        state.counters.lent -= 1;
        state.recycling += 1;
        let (found, mut ring) = state.pop(&idle.limits, &mut refused);
        let closed = state.closed;
        if found.is_none() && !closed {
            let (handed, is_earlier) = state.waiters.queue(self.place);
            self.handed = Some(handed);
            ring.demand = state.has_demand(&idle.limits);
            ring.alarm = is_earlier;
        }
        drop(state);
        idle.give_away(item, idle.slot(Phase::Refused));
        idle.settle(refused, ring);
        match found {
            Some(item) => Ok(Some(item)),
            None if closed => Err(Unserved::Closed),
            None => Ok(None),
        }
    }

    /// Leaves the queue, or gives the item back that came too late for this ticket.
    #[cold]
    fn leave(&self, mut handed: oneshot::Receiver<Handed<T>>) {
        handed.close();
        match handed.try_recv() {
            Ok(Handed::Item(item)) => {
                self.idle.slot(Phase::InUse).put(item);
            }
            Ok(_) => {}
            Err(_) => {
                // Dropped without the lock.
                let waiter = self.idle.state.lock().waiters.remove(self.place.number);
                drop(waiter);
            }
        }
    }
}

impl<T: Lend> Drop for Ticket<T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(handed) = self.handed.take() {
            self.leave(handed);
        }
    }
}
