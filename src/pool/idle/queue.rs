//! The acquires that wait: [`Queue`] and [`Waiter`].

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::EngineError;
use crate::values::waker::quietly;

/// Holds the waiters, sorted by number.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiters: VecDeque<Waiter<T>>,
    next_number: u64,
    /// No waiter's time is up before this.
    alarm: Option<Instant>,
}

/// An acquire that waits.
#[derive(Debug)]
pub(super) struct Waiter<T> {
    number: u64,
    deadline: Option<Instant>,
    hand: oneshot::Sender<Handed<T>>,
}

/// The answer to a waiter.
#[derive(Debug)]
pub(super) enum Handed<T> {
    /// The item counts as in use. The waiter makes its slot.
    Item(T),
    /// No item can be created.
    CannotCreate(Box<EngineError>),
    TimedOut,
}

/// The place of a waiter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) deadline: Option<Instant>,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            waiters: VecDeque::new(),
            next_number: 0,
            alarm: None,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    /// Returns the last place.
    #[inline]
    pub(super) fn last_place(&mut self, deadline: Option<Instant>) -> Place {
        let number = self.next_number;
        self.next_number += 1;
        Place { number, deadline }
    }

    /// Queues a waiter in its place. Returns whether [`alarm`](Self::alarm) is earlier now.
    #[inline]
    pub(super) fn queue(&mut self, place: Place) -> (oneshot::Receiver<Handed<T>>, bool) {
        let Place { number, deadline } = place;
        let (hand, handed) = oneshot::channel();
        let waiter = Waiter { number, deadline, hand };
        // Mostly the last one.
        let at = match self.waiters.back() {
            Some(last) if last.number > number => self.waiters.partition_point(|other| other.number < number),
            _ => self.waiters.len(),
        };
        self.waiters.insert(at, waiter);
        let is_earlier = deadline.is_some_and(|deadline| self.alarm.is_none_or(|alarm| deadline < alarm));
        if is_earlier {
            self.alarm = deadline;
        }
        (handed, is_earlier)
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<Waiter<T>> {
        self.waiters.pop_front()
    }

    /// Takes all waiters but so many, from the front.
    pub(super) fn split_off(&mut self, kept: usize) -> VecDeque<Waiter<T>> {
        let kept = kept.min(self.waiters.len());
        self.waiters.split_off(kept)
    }

    /// Takes a waiter out, if it is still there.
    pub(super) fn remove(&mut self, number: u64) -> Option<Waiter<T>> {
        let found = self.waiters.binary_search_by_key(&number, |waiter| waiter.number);
        self.waiters.remove(found.ok()?)
    }

    /// Returns a moment before which no waiter's time is up. `None`: no waiter has a limit of time.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// Takes the waiters whose time is up, and sets the alarm for the others.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Waiter<T>> {
        let mut late = Vec::new();
        self.alarm = None;
        for waiter in std::mem::take(&mut self.waiters) {
            match waiter.deadline {
                Some(deadline) if deadline <= now => late.push(waiter),
                deadline => {
                    self.alarm = [self.alarm, deadline].into_iter().flatten().min();
                    self.waiters.push_back(waiter);
                }
            }
        }
        late
    }
}

impl<T> Waiter<T> {
    /// Hands something over. Gives it back if the waiter has left.
    ///
    /// A waiter's waker is the caller's. A waker that panicked here would end a task of the pool, or the task that gives the item back.
    #[inline]
    pub(super) fn hand(self, handed: Handed<T>) -> Result<(), Handed<T>> {
        // The channel has what was sent before it wakes.
        let mut sent = Ok(());
        quietly(|| sent = self.hand.send(handed));
        sent
    }

    /// Ends the wait: nothing is lent any more.
    pub(super) fn end(self) {
        quietly(|| drop(self.hand));
    }
}
