//! How long containers are kept: by age, by uses, by how long they lie idle, and by the image they were made from.
//!
//! Driven by events and one timer, which stands at the next moment at which there is something to be done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Pool;
use super::builder::{PREPARE_TIMEOUT, PoolBuilder};
use super::maintainer::{Background, Item};
use crate::container::{Plan, Shared};
use crate::error::{Error, FieldError};
use crate::runtime::bounded;

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

impl PoolBuilder {
    /// How old a container may become. Each one's own limit is shorter by up to a tenth, at random, so that those made
    /// together do not end together. An idle one that is too old is replaced, and removed when its successor is there;
    /// one that is lent is not disturbed, and removed when it comes back. Default: no limit.
    pub fn max_lifetime(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.max_lifetime = limit.into();
        self
    }

    /// How often a container may be lent. Each one's own limit is lower by up to a tenth, at random, and at least 1.
    /// Default: no limit.
    pub fn max_uses(mut self, limit: impl Into<Option<u32>>) -> Self {
        self.lifetimes.max_uses = limit.into();
        self
    }

    /// How long a container may lie idle before it is removed. [`min_idle`](Self::min_idle) are always kept. Default: no
    /// limit.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.idle_timeout = limit.into();
        self
    }
}

/// Keeps containers no longer than they may be kept; there is none where they may be kept for ever.
#[derive(Debug)]
pub(super) struct Lifetime {
    limits: Lifetimes,
    /// Rung when the timer may stand too late.
    changed: Notify,
    /// The timer stands at a moment at which something has been idle for too long.
    idle_timer: AtomicBool,
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

    /// Does what is due; when the next is.
    fn tend(&self, background: &Background) -> Option<Instant> {
        let now = Instant::now();
        let mut next = None;
        let mut at_latest = |at: Instant| next = Some(next.map_or(at, |next: Instant| next.min(at)));

        let mut expired = false;
        for shared in background.known.lock().values().filter_map(std::sync::Weak::upgrade) {
            match shared.life.expires() {
                Some(at) if at <= now => expired |= shared.life.set_outdated(),
                Some(at) => at_latest(at),
                None => {}
            }
        }
        if expired {
            background.idle.outdate();
        }

        if let Some(limit) = self.limits.idle_timeout {
            // Before the look, so that whatever becomes idle after it rings.
            self.idle_timer.store(false, Ordering::Release);
            let until = |item: &Item| {
                item.shared()
                    .life
                    .idle_since()
                    .and_then(|since| since.checked_add(limit))
            };
            let rested = background
                .idle
                .evict_above_min(|item| until(item).is_some_and(|at| at <= now));
            for (item, slot) in rested {
                tracing::debug!(pool = background.pool, container = item.name(), "idle for too long");
                background.idle.give_away(item, slot);
            }
            if let Some(at) = background.idle.first_above_min(until) {
                self.idle_timer.store(true, Ordering::Release);
                at_latest(at);
            }
        }
        next
    }
}

/// The task that keeps the timer.
pub(super) async fn keep(lifetime: Arc<Lifetime>, background: Arc<Background>) {
    loop {
        let changed = lifetime.changed.notified();
        match lifetime.tend(&background) {
            // The time being up is what was waited for.
            Some(next) => drop(timeout_at(next, changed).await),
            None => changed.await,
        }
    }
}

impl Background {
    /// From now on containers are of a new generation: those there are are replaced.
    fn begin_generation(&self) {
        // The order matters: a creation that is not known yet looks at the number when it is done.
        self.generation.fetch_add(1, Ordering::AcqRel);
        for shared in self.known.lock().values().filter_map(std::sync::Weak::upgrade) {
            shared.life.set_outdated();
        }
        self.idle.outdate();
    }
}

impl Pool {
    /// Rolls the pool onto its image as it is now: has the image made ready again as [`build`](PoolBuilder::build) does
    /// (pulled, if the [`PullPolicy`](crate::PullPolicy) says so; an image name that means another image by now is seen),
    /// and replaces every container. It returns when no container made before is idle any more.
    ///
    /// There is no gap: idle containers stay to be lent until their successors are there, leases are not disturbed, and
    /// those of them that are on an old container end with its removal. Only a pool that is at its
    /// [`max_total`](PoolBuilder::max_total) with idle containers removes one before its successor is there, one at a
    /// time.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the image could not be made ready: nothing has changed then; or if a successor could not be
    /// created: what is idle stays to be lent, and further attempts are made in the background. [`Error::Shutdown`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while the image is made ready changes nothing; after that, the replacement goes on in the background.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.inner.background.runtime.run(Box::pin(self.renew())).await
    }

    async fn renew(&self) -> Result<(), Error> {
        let background = &self.inner.background;
        if background.idle.is_closed() {
            return Err(self.closed());
        }
        bounded(
            "the preparation of the image",
            PREPARE_TIMEOUT,
            background.engine.prepare(&background.spec.plan, &self.inner.progress),
        )
        .await
        .map_err(|error| Error::engine("prepare the image", None, error))?;

        let mut created = background.created.subscribe();
        background.begin_generation();
        loop {
            tokio::select! {
                biased;
                () = background.idle.renewed() => break,
                changed = created.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if let Some(error) = created.borrow_and_update().last_error.clone() {
                        return Err(Error::engine("create the successor of a container", None, error));
                    }
                }
            }
        }
        if background.idle.is_closed() {
            Err(self.closed())
        } else {
            Ok(())
        }
    }
}
