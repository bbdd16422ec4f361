//! How long containers are kept: by age, by uses, and by the time for which they are idle.
//!
//! Driven by events and one timer, which is set to the next moment at which something is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::{Instant, timeout_at};

use super::idle::Idle;
use super::item::Item;
use super::roster::Roster;
use crate::container::{Plan, Shared};
use crate::error::FieldError;

/// Lifetimes are shortened at random by up to this part, so that containers made together are not replaced together.
const JITTER: f64 = 0.1;

/// The limits that a builder was given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lifetimes {
    pub(super) max_lifetime: Option<Duration>,
    pub(super) max_uses: Option<u32>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_lease: Option<Duration>,
}

impl Lifetimes {
    pub(super) fn problems(&self) -> Vec<FieldError> {
        let zero = |limit: Option<Duration>| limit.is_some_and(|limit| limit.is_zero());
        [
            ("max_lifetime", zero(self.max_lifetime)),
            ("max_uses", self.max_uses == Some(0)),
            ("idle_timeout", zero(self.idle_timeout)),
            ("max_lease", zero(self.max_lease)),
        ]
        .into_iter()
        .filter(|(_, bad)| *bad)
        .map(|(field, _)| FieldError::new(field, "must be more than zero"))
        .collect()
    }
}

/// Waits for a change, or until `next`.
pub(super) async fn changed_or_due(changed: Notified<'_>, next: Option<Instant>) {
    match next {
        // Either may come first.
        Some(next) => drop(timeout_at(next, changed).await),
        None => changed.await,
    }
}

/// Keeps containers no longer than the limits allow.
#[derive(Debug)]
pub(super) struct Lifetime {
    limits: Lifetimes,
    /// Rung when the timer may be set too late.
    changed: Notify,
    /// The timer is set to a moment at which a container has been idle for too long.
    idle_timer: AtomicBool,
}

impl Lifetime {
    /// Returns `None` where containers may be kept for ever.
    pub(super) fn new(limits: Lifetimes) -> Option<Arc<Self>> {
        let none = limits.max_lifetime.is_none() && limits.max_uses.is_none() && limits.idle_timeout.is_none();
        (!none).then(|| {
            Arc::new(Self {
                limits,
                changed: Notify::new(),
                idle_timer: AtomicBool::new(false),
            })
        })
    }

    /// Sets the limits of a new container, which is about to become idle.
    pub(super) fn begin(&self, shared: &Shared) {
        let jitter = fastrand::f64() * JITTER;
        shared.life.set_plan(Plan {
            expires: self
                .limits
                .max_lifetime
                .and_then(|limit| Instant::now().checked_add(limit.mul_f64(1.0 - jitter))),
            uses: self
                .limits
                .max_uses
                .map(|limit| limit - (f64::from(limit) * jitter) as u32),
        });
        self.before_idle(shared);
    }

    /// Counts a lease.
    pub(super) fn lent(&self, shared: &Shared) {
        shared.life.count_use();
    }

    /// Notes that a container is about to become idle.
    pub(super) fn before_idle(&self, shared: &Shared) {
        if self.limits.idle_timeout.is_some() {
            shared.life.set_idle_since(shared.runtime.now());
        }
    }

    /// Sets the timer after a container has become idle.
    pub(super) fn after_idle(&self) {
        // A timer that is set is early enough: a container that becomes idle later is due later.
        if self.limits.idle_timeout.is_some() && !self.idle_timer.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// Sets the timer after a container was created.
    pub(super) fn after_creation(&self) {
        self.changed.notify_one();
    }

    /// Does what is due, whenever it is. Never returns.
    pub(super) async fn keep(&self, pool: &str, roster: &Roster, idle: &Arc<Idle<Item>>) {
        loop {
            let changed = self.changed.notified();
            let next = [self.expire(roster, idle), self.remove_rested(pool, idle)];
            changed_or_due(changed, next.into_iter().flatten().min()).await;
        }
    }

    /// Marks the containers that are too old, and has the idle ones among them replaced. Returns when the next one is.
    fn expire(&self, roster: &Roster, idle: &Arc<Idle<Item>>) -> Option<Instant> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut expired = false;
        roster.for_each(|shared| match shared.life.expires() {
            Some(at) if at <= now => expired |= shared.life.set_outdated(),
            Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
            None => {}
        });
        if expired {
            idle.outdate();
        }
        next
    }

    /// Removes the containers above the minimum that have been idle for too long. Returns when the next one has.
    fn remove_rested(&self, pool: &str, idle: &Arc<Idle<Item>>) -> Option<Instant> {
        let limit = self.limits.idle_timeout?;
        let now = Instant::now();
        // Before the look, so that a container which becomes idle after it rings.
        self.idle_timer.store(false, Ordering::Release);
        let until = |item: &Item| {
            let since = item.shared().life.idle_since();
            since.and_then(|since| since.checked_add(limit))
        };
        for (item, slot) in idle.evict_above_min(|item| until(item).is_some_and(|at| at <= now)) {
            tracing::debug!(pool, container = item.name(), "idle for too long");
            idle.give_away(item, slot);
        }
        let next = idle.first_above_min(until)?;
        self.idle_timer.store(true, Ordering::Release);
        Some(next)
    }
}
