//! Who holds which item: the idle ones, those who wait for one, and the slots that bound how many there are.
//!
//! State only: no I/O, no clock, no knowledge of what the items are. One lock guards it all, and it is never held while
//! foreign code runs: not while an item is dropped, nor while a waiter is woken.
//!
//! Three rules hold whenever the lock is free:
//!
//! - While somebody waits, nothing is idle. A returned or new item goes to the one who has waited longest, so nobody can
//!   overtake. A waiter that refuses an item that was handed over keeps its number.
//! - Whether an item is usable, and whether it is outdated, is decided under the lock. Whoever spoils an item does so
//!   first and looks through the idle ones under the lock afterwards: one of both sides sees it.
//! - `idle + in use + creating + recycling = total <= max_total`. Every item outside of this module travels with the
//!   [`Slot`] that counts it; a slot that is dropped, however that comes about, gives its place back.

#[cfg(test)]
mod model;

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::values::status::{Counters, Status};

/// How many there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) min_idle: usize,
    pub(crate) max_idle: usize,
    pub(crate) max_total: usize,
    pub(crate) max_creating: usize,
}

/// The right to have one item. Dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    idle: Option<Arc<Idle<T>>>,
    phase: Phase,
}

/// What a slot counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Creating,
    InUse,
    Recycling,
    /// What was being created did not come about; counted as being recycled.
    Failed,
    /// The item was found unusable before anybody got it; counted as being recycled.
    Refused,
}

/// What an item is good for. Both functions run under the lock, so they only look at flags.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<T> {
    /// Whether an item may be lent at all.
    pub(crate) is_usable: fn(&T) -> bool,
    /// Whether an item that could be idle is to be replaced.
    pub(crate) is_outdated: fn(&T) -> bool,
}

/// An item with its slot, taken out of circulation: to be removed by whoever reads the other end of the channel.
pub(crate) type Retired<T> = (T, Slot<T>);

/// What an acquire comes to.
pub(crate) enum Acquired<T> {
    Now(T, Slot<T>),
    Wait(Ticket<T>),
    Closed,
}

/// A place in the queue. Dropping it leaves the queue; an item that was handed over meanwhile goes back.
#[derive(Debug)]
pub(crate) struct Ticket<T> {
    handed: oneshot::Receiver<(T, Slot<T>)>,
    number: u64,
    idle: Arc<Idle<T>>,
}

#[derive(Debug)]
pub(crate) struct Idle<T> {
    state: Mutex<State<T>>,
    limits: Limits,
    judge: Judge<T>,
    retired: mpsc::UnboundedSender<Retired<T>>,
    /// Rung when there may be something to create, or when it was closed.
    demand: Notify,
    /// Rung when the last outdated item is idle no more.
    renewed: Notify,
}

#[derive(Debug)]
struct State<T> {
    idle: Vec<T>,
    /// The first so many of the idle ones are to be replaced. They are lent last, and do not count for the minimum.
    outdated: usize,
    waiters: VecDeque<Waiter<T>>,
    next_number: u64,
    total: usize,
    creating: usize,
    recycling: usize,
    closed: bool,
    counters: Counters,
}

/// Who is to be told of a change, once the lock is free.
#[must_use]
struct Ring {
    demand: bool,
    renewed: bool,
}

#[derive(Debug)]
struct Waiter<T> {
    number: u64,
    hand: oneshot::Sender<(T, Slot<T>)>,
}

impl<T> State<T> {
    /// How many more should be created: one for each who waits, and as many as are missing from the minimum.
    #[inline]
    fn wanted(&self, limits: &Limits) -> usize {
        let missing = limits.min_idle.saturating_sub(self.idle.len() - self.outdated);
        (self.waiters.len() + missing).saturating_sub(self.creating)
    }

    #[inline]
    fn may_create(&self, limits: &Limits) -> bool {
        !self.closed && self.total < limits.max_total && self.creating < limits.max_creating && self.wanted(limits) > 0
    }

    /// The usable one that became idle last, and who is to be told. Unusable ones on the way to it are put aside.
    #[inline]
    fn pop(&mut self, limits: &Limits, judge: &Judge<T>, refused: &mut Vec<T>) -> (Option<T>, Ring) {
        let outdated = self.outdated;
        let mut found = None;
        while let Some(item) = self.idle.pop() {
            self.outdated = self.outdated.min(self.idle.len());
            if (judge.is_usable)(&item) {
                self.counters.lent += 1;
                found = Some(item);
                break;
            }
            self.recycling += 1;
            refused.push(item);
        }
        let ring = Ring {
            demand: self.may_create(limits),
            renewed: outdated > 0 && self.outdated == 0,
        };
        (found, ring)
    }

    /// Makes a waiter of this number, in its place in the queue.
    #[inline]
    fn queue(&mut self, number: u64) -> oneshot::Receiver<(T, Slot<T>)> {
        let (hand, handed) = oneshot::channel();
        let at = self.waiters.partition_point(|other| other.number < number);
        self.waiters.insert(at, Waiter { number, hand });
        handed
    }

    /// One that is to be replaced, if the minimum is there without it.
    #[inline]
    fn pop_surplus(&mut self, limits: &Limits) -> Option<T> {
        if self.outdated == 0 || self.idle.len() <= limits.min_idle {
            return None;
        }
        self.outdated -= 1;
        self.recycling += 1;
        Some(self.idle.remove(0))
    }

    #[inline]
    fn count(&mut self, phase: Phase, change: impl FnOnce(&mut usize)) {
        match phase {
            Phase::Creating => change(&mut self.creating),
            Phase::Recycling | Phase::Failed | Phase::Refused => change(&mut self.recycling),
            // What is neither idle nor counted elsewhere is in use.
            Phase::InUse => {}
        }
    }
}

impl<T> Idle<T> {
    /// An empty one, and the channel on which it gives away what is to be removed.
    pub(crate) fn new(limits: Limits, judge: Judge<T>) -> (Arc<Self>, mpsc::UnboundedReceiver<Retired<T>>) {
        let (retired, to_remove) = mpsc::unbounded_channel();
        let state = State {
            idle: Vec::with_capacity(limits.max_idle.min(1024)),
            outdated: 0,
            waiters: VecDeque::new(),
            next_number: 0,
            total: 0,
            creating: 0,
            recycling: 0,
            closed: false,
            counters: Counters::default(),
        };
        let idle = Self {
            state: Mutex::new(state),
            limits,
            judge,
            retired,
            demand: Notify::new(),
            renewed: Notify::new(),
        };
        (Arc::new(idle), to_remove)
    }

    /// The one that became idle last, whose caches are warmest; `None` if none is idle.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Result<Option<(T, Slot<T>)>, Closed> {
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let (found, ring) = state.pop(&self.limits, &self.judge, &mut refused);
        let closed = state.closed;
        drop(state);
        self.settle(refused, ring);
        match found {
            Some(item) => Ok(Some((item, self.slot(Phase::InUse)))),
            None if closed => Err(Closed),
            None => Ok(None),
        }
    }

    /// An idle one, or a place in the queue.
    #[inline]
    pub(crate) fn acquire(self: &Arc<Self>) -> Acquired<T> {
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let (found, mut ring) = state.pop(&self.limits, &self.judge, &mut refused);
        let acquired = match found {
            Some(item) => Acquired::Now(item, self.slot(Phase::InUse)),
            None if state.closed => Acquired::Closed,
            None => {
                let number = state.next_number;
                state.next_number += 1;
                let handed = state.queue(number);
                ring.demand = state.may_create(&self.limits);
                Acquired::Wait(Ticket {
                    handed,
                    number,
                    idle: self.clone(),
                })
            }
        };
        drop(state);
        self.settle(refused, ring);
        acquired
    }

    /// Does what had to wait until the lock is free.
    #[inline]
    fn settle(self: &Arc<Self>, refused: Vec<T>, ring: Ring) {
        for item in refused {
            self.give_away(item, self.slot(Phase::Refused));
        }
        self.ring(ring);
    }

    /// Takes the right to create one, if one more is wanted and allowed.
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

    /// Takes one in that was made by somebody else; gives it back if there is no room, or if it is not usable.
    pub(crate) fn admit(&self, item: T) -> Result<(), T> {
        let mut state = self.state.lock();
        let good = (self.judge.is_usable)(&item) && !(self.judge.is_outdated)(&item);
        if !good || state.closed || state.total >= self.limits.max_total || state.idle.len() >= self.limits.max_idle {
            return Err(item);
        }
        state.total += 1;
        state.counters.adopted += 1;
        state.idle.push(item);
        Ok(())
    }

    /// Counts an acquire that found nothing in its time.
    pub(crate) fn timed_out(&self) {
        self.state.lock().counters.acquire_timeouts += 1;
    }

    /// Comes when there may be something to create, or when it was closed. Rings that nobody heard are kept.
    pub(crate) async fn demand(&self) {
        self.demand.notified().await;
    }

    /// Takes idle items out of circulation.
    pub(crate) fn evict(self: &Arc<Self>, which: impl FnMut(&T) -> bool) -> Vec<Retired<T>> {
        self.evict_but(0, which)
    }

    /// The same, but leaves the minimum, of those that became idle last.
    pub(crate) fn evict_above_min(self: &Arc<Self>, which: impl FnMut(&T) -> bool) -> Vec<Retired<T>> {
        self.evict_but(self.limits.min_idle, which)
    }

    /// The least of what `key` says of the idle items, if there are more of them than the minimum.
    pub(crate) fn first_above_min<K: Ord>(&self, key: impl FnMut(&T) -> Option<K>) -> Option<K> {
        let state = self.state.lock();
        let surplus = state.idle.len() > self.limits.min_idle;
        surplus.then(|| state.idle.iter().filter_map(key).min()).flatten()
    }

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
        };
        drop(state);
        self.ring(ring);
        out.into_iter()
            .map(|item| (item, self.slot(Phase::Recycling)))
            .collect()
    }

    /// Has those idle items replaced that have become outdated: those beyond the minimum are given away now, each of the
    /// others when its successor is there. Until then they are lent if there is nothing better.
    pub(crate) fn outdate(self: &Arc<Self>) {
        let mut state = self.state.lock();
        let known = state.outdated;
        let idle = std::mem::take(&mut state.idle).into_iter().enumerate();
        let (old, new): (Vec<_>, Vec<_>) = idle.partition(|(i, item)| *i < known || (self.judge.is_outdated)(item));
        state.outdated = old.len();
        state.idle = old.into_iter().chain(new).map(|(_, item)| item).collect();
        let mut surplus = Vec::new();
        while let Some(item) = state.pop_surplus(&self.limits) {
            surplus.push(item);
        }
        let ring = Ring {
            demand: true,
            renewed: state.outdated == 0,
        };
        drop(state);
        for item in surplus {
            self.give_away(item, self.slot(Phase::Recycling));
        }
        self.ring(ring);
    }

    /// Gives an outdated item away before its successor is there, if there is no room for that one otherwise.
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
            demand: false,
            renewed: state.outdated == 0,
        };
        drop(state);
        self.give_away(item, self.slot(Phase::Recycling));
        self.ring(ring);
    }

    /// Comes when no idle item is outdated.
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
    }

    /// Lends and creates no more; those who wait are told, and what is idle is given away for removal. Idempotent.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.closed = true;
        state.outdated = 0;
        let waiters = std::mem::take(&mut state.waiters);
        let idle = std::mem::take(&mut state.idle);
        state.recycling += idle.len();
        drop(state);
        drop(waiters);
        for item in idle {
            self.give_away(item, self.slot(Phase::Recycling));
        }
        self.ring(Ring {
            demand: true,
            renewed: true,
        });
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    pub(crate) fn status(&self) -> Status {
        let state = self.state.lock();
        let idle = state.idle.len();
        Status {
            idle,
            in_use: state.total - idle - state.creating - state.recycling,
            creating: state.creating,
            recycling: state.recycling,
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

    /// Hands a good item to whoever has waited longest, or makes it idle, or gives it away if there is no room. An item that
    /// is not usable is given away, and so is an outdated one. `false` if the item was not usable.
    #[inline]
    fn put(self: Arc<Self>, mut item: T, mut phase: Phase) -> bool {
        loop {
            let mut state = self.state.lock();
            let usable = (self.judge.is_usable)(&item);
            let good = usable && !(self.judge.is_outdated)(&item);
            match phase {
                Phase::Creating => state.counters.created += 1,
                Phase::InUse if good => state.counters.returned += 1,
                Phase::InUse => state.counters.discarded += 1,
                Phase::Recycling | Phase::Failed | Phase::Refused => {}
            }
            if !good {
                state.count(phase, |n| *n -= 1);
                state.recycling += 1;
                drop(state);
                self.give_away(item, self.slot(Phase::Recycling));
                return usable;
            }
            if let Some(waiter) = state.waiters.pop_front() {
                state.counters.lent += 1;
                state.count(phase, |n| *n -= 1);
                phase = Phase::InUse;
                drop(state);
                match waiter.hand.send((item, self.slot(phase))) {
                    Ok(()) => return true,
                    // This one has gone. The next one.
                    Err((back, mut slot)) => {
                        slot.idle = None;
                        item = back;
                    }
                }
                continue;
            }
            state.count(phase, |n| *n -= 1);
            if !state.closed && (state.idle.len() < self.limits.max_idle || state.outdated > 0) {
                state.idle.push(item);
                if let Some(old) = state.pop_surplus(&self.limits) {
                    let ring = Ring {
                        demand: false,
                        renewed: state.outdated == 0,
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

    /// Gives an item to whoever removes.
    pub(crate) fn give_away(&self, item: T, slot: Slot<T>) {
        // Where nobody removes any more, the item's own `Drop` has to do.
        drop(self.retired.send((item, slot)));
    }

    fn leave_queue(&self, number: u64) {
        let mut state = self.state.lock();
        let found = state.waiters.binary_search_by_key(&number, |waiter| waiter.number);
        let waiter = found.ok().and_then(|i| state.waiters.remove(i));
        drop(state);
        drop(waiter);
    }
}

/// It was closed.
#[derive(Debug)]
pub(crate) struct Closed;

impl<T> Slot<T> {
    /// Gives an item back, or a new one in: see [`Idle::put`]. `false` if the item was not usable, and was given away.
    #[inline]
    pub(crate) fn put(mut self, item: T) -> bool {
        self.idle.take().is_some_and(|idle| idle.put(item, self.phase))
    }

    /// Gives an item away to be removed; its place stays taken until that is done.
    pub(crate) fn retire(mut self, item: T) {
        self.recycle();
        self.give_away(item);
    }

    /// Whether its item was found unusable before anybody got it.
    pub(crate) fn is_refused(&self) -> bool {
        self.phase == Phase::Refused
    }

    /// What was being created did not come about.
    pub(crate) fn failed(&mut self) {
        self.leave(Phase::Failed, |counters| counters.create_failures += 1);
    }

    fn give_away(self, item: T) {
        if let Some(idle) = self.idle.clone() {
            idle.give_away(item, self);
        }
    }

    /// Counts as being recycled from now on.
    pub(crate) fn recycle(&mut self) {
        self.leave(Phase::Recycling, |counters| counters.discarded += 1);
    }

    fn leave(&mut self, phase: Phase, count: impl FnOnce(&mut Counters)) {
        if let Some(idle) = &self.idle {
            let mut state = idle.state.lock();
            state.count(self.phase, |n| *n -= 1);
            state.recycling += 1;
            count(&mut state.counters);
            self.phase = phase;
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
                Phase::InUse => state.counters.taken += 1,
                Phase::Creating | Phase::Failed => {}
            }
            drop(state);
            // There is room for another one, and whoever waits for the last one to go is told.
            idle.demand.notify_one();
        }
    }
}

impl<T> Ticket<T> {
    /// A usable item, when it is this one's turn; [`Closed`] if there will be none. An item that has become unusable since
    /// it was handed over does not cost the turn.
    ///
    /// Cancel safe: the place in the queue, or what was handed over, stays with the ticket.
    pub(crate) async fn turn(&mut self) -> Result<(T, Slot<T>), Closed> {
        loop {
            let (item, slot) = (&mut self.handed).await.map_err(|_| Closed)?;
            if (self.idle.judge.is_usable)(&item) {
                return Ok((item, slot));
            }
            if let Some(taken) = self.refuse(item, slot)? {
                return Ok(taken);
            }
        }
    }

    /// Gives an unusable item away, and takes an idle one or waits on with the old number.
    fn refuse(&mut self, item: T, mut slot: Slot<T>) -> Result<Option<(T, Slot<T>)>, Closed> {
        let Self { handed, number, idle } = self;
        let mut refused = Vec::new();
        let mut state = idle.state.lock();
        state.counters.lent -= 1;
        state.count(slot.phase, |n| *n -= 1);
        state.recycling += 1;
        slot.phase = Phase::Refused;
        let (found, mut ring) = state.pop(&idle.limits, &idle.judge, &mut refused);
        let closed = state.closed;
        if found.is_none() && !closed {
            *handed = state.queue(*number);
            ring.demand = state.may_create(&idle.limits);
        }
        drop(state);
        idle.give_away(item, slot);
        idle.settle(refused, ring);
        match found {
            Some(item) => Ok(Some((item, idle.slot(Phase::InUse)))),
            None if closed => Err(Closed),
            None => Ok(None),
        }
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.handed.close();
        match self.handed.try_recv() {
            // It came too late for this one.
            Ok((item, slot)) => {
                slot.put(item);
            }
            Err(_) => self.idle.leave_queue(self.number),
        }
    }
}
