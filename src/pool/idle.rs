//! Who holds which item: the idle ones, those who wait for one, and the slots that bound how many there are.
//!
//! State only: no I/O, no clock, no knowledge of what the items are. One lock guards it all, and it is never held while
//! foreign code runs: not while an item is dropped, nor while a waiter is woken.
//!
//! Two rules hold whenever the lock is free:
//!
//! - While somebody waits, nothing is idle. A returned or new item goes to the one who has waited longest, so nobody can
//!   overtake.
//! - `idle + in use + creating + recycling = total <= max_total`. Every item outside of this module travels with the
//!   [`Slot`] that counts it; a slot that is dropped, however that comes about, gives its place back.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc, oneshot};

use super::status::Status;

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
pub(crate) struct Ticket<T> {
    handed: oneshot::Receiver<(T, Slot<T>)>,
    number: u64,
    idle: Arc<Idle<T>>,
}

#[derive(Debug)]
pub(crate) struct Idle<T> {
    state: Mutex<State<T>>,
    limits: Limits,
    retired: mpsc::UnboundedSender<Retired<T>>,
    /// Rung when there may be something to create, or when it was closed.
    demand: Notify,
}

#[derive(Debug)]
struct State<T> {
    idle: Vec<T>,
    waiters: VecDeque<Waiter<T>>,
    next_number: u64,
    total: usize,
    creating: usize,
    recycling: usize,
    closed: bool,
}

#[derive(Debug)]
struct Waiter<T> {
    number: u64,
    hand: oneshot::Sender<(T, Slot<T>)>,
}

impl<T> State<T> {
    /// How many more should be created: one for each who waits, and as many as are missing from the minimum.
    fn wanted(&self, limits: &Limits) -> usize {
        let missing = limits.min_idle.saturating_sub(self.idle.len());
        (self.waiters.len() + missing).saturating_sub(self.creating)
    }

    fn may_create(&self, limits: &Limits) -> bool {
        !self.closed && self.total < limits.max_total && self.creating < limits.max_creating && self.wanted(limits) > 0
    }

    fn count(&mut self, phase: Phase, change: impl FnOnce(&mut usize)) {
        match phase {
            Phase::Creating => change(&mut self.creating),
            Phase::Recycling => change(&mut self.recycling),
            // What is neither idle nor counted elsewhere is in use.
            Phase::InUse => {}
        }
    }
}

impl<T> Idle<T> {
    /// An empty one, and the channel on which it gives away what is to be removed.
    pub(crate) fn new(limits: Limits) -> (Arc<Self>, mpsc::UnboundedReceiver<Retired<T>>) {
        let (retired, to_remove) = mpsc::unbounded_channel();
        let state = State {
            idle: Vec::with_capacity(limits.max_idle.min(1024)),
            waiters: VecDeque::new(),
            next_number: 0,
            total: 0,
            creating: 0,
            recycling: 0,
            closed: false,
        };
        let idle = Self {
            state: Mutex::new(state),
            limits,
            retired,
            demand: Notify::new(),
        };
        (Arc::new(idle), to_remove)
    }

    /// The one that became idle last, whose caches are warmest; `None` if none is idle.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Result<Option<(T, Slot<T>)>, Closed> {
        let mut state = self.state.lock();
        if let Some(item) = state.idle.pop() {
            return Ok(Some(self.taken(state, item)));
        }
        if state.closed { Err(Closed) } else { Ok(None) }
    }

    /// An idle one, or a place in the queue.
    #[inline]
    pub(crate) fn acquire(self: &Arc<Self>) -> Acquired<T> {
        let mut state = self.state.lock();
        if let Some(item) = state.idle.pop() {
            let (item, slot) = self.taken(state, item);
            return Acquired::Now(item, slot);
        }
        if state.closed {
            return Acquired::Closed;
        }
        let (hand, handed) = oneshot::channel();
        let number = state.next_number;
        state.next_number += 1;
        state.waiters.push_back(Waiter { number, hand });
        self.unlock_and_ring(state);
        Acquired::Wait(Ticket {
            handed,
            number,
            idle: self.clone(),
        })
    }

    /// What was idle is in use from now on.
    #[inline]
    fn taken(self: &Arc<Self>, state: MutexGuard<'_, State<T>>, item: T) -> (T, Slot<T>) {
        self.unlock_and_ring(state);
        (item, self.slot(Phase::InUse))
    }

    /// Rings for whoever creates, if there is something to create now.
    #[inline]
    fn unlock_and_ring(&self, state: MutexGuard<'_, State<T>>) {
        let demand = state.may_create(&self.limits);
        drop(state);
        if demand {
            self.demand.notify_one();
        }
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

    /// Comes when there may be something to create, or when it was closed. Rings that nobody heard are kept.
    pub(crate) async fn demand(&self) {
        self.demand.notified().await;
    }

    /// Takes idle items out of circulation.
    pub(crate) fn evict(self: &Arc<Self>, mut which: impl FnMut(&T) -> bool) -> Vec<Retired<T>> {
        let mut state = self.state.lock();
        let mut out = Vec::new();
        let mut i = 0;
        while i < state.idle.len() {
            if which(&state.idle[i]) {
                out.push(state.idle.remove(i));
            } else {
                i += 1;
            }
        }
        state.recycling += out.len();
        drop(state);
        if !out.is_empty() {
            self.demand.notify_one();
        }
        out.into_iter()
            .map(|item| (item, self.slot(Phase::Recycling)))
            .collect()
    }

    /// Lends and creates no more; those who wait are told, and what is idle is given away for removal. Idempotent.
    pub(crate) fn close(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiters = std::mem::take(&mut state.waiters);
        let idle = std::mem::take(&mut state.idle);
        state.recycling += idle.len();
        drop(state);
        drop(waiters);
        for item in idle {
            self.give_away(item, self.slot(Phase::Recycling));
        }
        self.demand.notify_one();
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
        }
    }

    fn slot(self: &Arc<Self>, phase: Phase) -> Slot<T> {
        Slot {
            idle: Some(self.clone()),
            phase,
        }
    }

    /// Hands a usable item to whoever has waited longest, or makes it idle, or gives it away if there is no room.
    fn put(self: Arc<Self>, mut item: T, mut phase: Phase) {
        loop {
            let mut state = self.state.lock();
            if let Some(waiter) = state.waiters.pop_front() {
                state.count(phase, |n| *n -= 1);
                phase = Phase::InUse;
                drop(state);
                match waiter.hand.send((item, self.slot(phase))) {
                    Ok(()) => return,
                    // This one has gone. The next one.
                    Err((back, mut slot)) => {
                        slot.idle = None;
                        item = back;
                    }
                }
                continue;
            }
            state.count(phase, |n| *n -= 1);
            if !state.closed && state.idle.len() < self.limits.max_idle {
                state.idle.push(item);
                return;
            }
            state.recycling += 1;
            drop(state);
            return self.give_away(item, self.slot(Phase::Recycling));
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
    /// Gives a usable item back, or a new one in.
    pub(crate) fn put(mut self, item: T) {
        if let Some(idle) = self.idle.take() {
            idle.put(item, self.phase);
        }
    }

    /// Gives an item away to be removed; its place stays taken until that is done.
    pub(crate) fn retire(mut self, item: T) {
        self.recycle();
        if let Some(idle) = self.idle.clone() {
            idle.give_away(item, self);
        }
    }

    /// Counts as being recycled from now on.
    pub(crate) fn recycle(&mut self) {
        if let Some(idle) = &self.idle {
            let mut state = idle.state.lock();
            state.count(self.phase, |n| *n -= 1);
            state.recycling += 1;
            self.phase = Phase::Recycling;
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        if let Some(idle) = self.idle.take() {
            let mut state = idle.state.lock();
            state.total -= 1;
            state.count(self.phase, |n| *n -= 1);
            drop(state);
            // There is room for another one, and whoever waits for the last one to go is told.
            idle.demand.notify_one();
        }
    }
}

impl<T> Ticket<T> {
    /// The item, when it is this one's turn; [`Closed`] if there will be none.
    pub(crate) async fn turn(&mut self) -> Result<(T, Slot<T>), Closed> {
        (&mut self.handed).await.map_err(|_| Closed)
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.handed.close();
        match self.handed.try_recv() {
            // It came too late for this one.
            Ok((item, slot)) => slot.put(item),
            Err(_) => self.idle.leave_queue(self.number),
        }
    }
}
