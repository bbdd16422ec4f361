//! How long containers are kept: by age, by uses, by how long they lie idle, and by the image they were made from.
//!
//! Driven by events and one timer, which stands at the next moment at which there is something to be done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::container::{Plan, Shared};
use crate::error::FieldError;

/// Lifetimes are shortened at random by up to this part, so that containers made together are not replaced together.
const JITTER: f64 = 0.1;

/// What a builder was told.
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

/// Keeps containers no longer than they may be kept; there is none where they may be kept for ever.
#[derive(Debug)]
pub(super) struct Lifetime {
    pub(super) limits: Lifetimes,
    /// Rung when the timer may stand too late.
    pub(super) changed: Notify,
    /// The timer stands at a moment at which something has been idle for too long.
    pub(super) idle_timer: AtomicBool,
}

impl Lifetime {
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

    /// A new container is about to become idle.
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

    /// A container is lent.
    pub(super) fn lent(&self, shared: &Shared) {
        shared.life.count_use();
    }

    /// A container is about to become idle.
    pub(super) fn before_idle(&self, shared: &Shared) {
        if self.limits.idle_timeout.is_some() {
            shared.life.set_idle_since(shared.runtime.now());
        }
    }

    /// A container has become idle.
    pub(super) fn after_idle(&self) {
        // A timer that stands is early enough: what becomes idle later has later to go.
        if self.limits.idle_timeout.is_some() && !self.idle_timer.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }

    /// There is a new container.
    pub(super) fn after_creation(&self) {
        self.changed.notify_one();
    }
}
