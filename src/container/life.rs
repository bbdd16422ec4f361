//! What decides how long a container is kept between leases.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

/// What its keeper notes on one container. Where nothing was asked for, only the flags are ever looked at.
#[derive(Debug, Default)]
pub(crate) struct Life {
    outdated: AtomicBool,
    withdrawn: AtomicBool,
    uses: AtomicU32,
    plan: OnceLock<Plan>,
    idle_since: Mutex<Option<Instant>>,
}

/// How long one container may be used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) expires: Option<Instant>,
    pub(crate) uses: Option<u32>,
}

impl Life {
    /// What holds for this one. The first word counts.
    pub(crate) fn set_plan(&self, plan: Plan) {
        let _ = self.plan.set(plan);
    }

    pub(crate) fn expires(&self) -> Option<Instant> {
        self.plan.get().and_then(|plan| plan.expires)
    }

    /// Whether it is to be replaced: it is not lent again after the lease it is on, if any.
    #[inline]
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    /// `true` if it was not so before.
    pub(crate) fn set_outdated(&self) -> bool {
        !self.outdated.swap(true, Ordering::AcqRel)
    }

    /// Whether it may not be lent any more, though nothing forbids the lease it is on.
    #[inline]
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
    }

    /// Counts a use; the last one it may have makes it outdated.
    pub(crate) fn count_use(&self) {
        if let Some(allowed) = self.plan.get().and_then(|plan| plan.uses)
            && self.uses.fetch_add(1, Ordering::AcqRel) + 1 >= allowed
        {
            self.set_outdated();
        }
    }

    pub(crate) fn idle_since(&self) -> Option<Instant> {
        *self.idle_since.lock()
    }

    pub(crate) fn set_idle_since(&self, since: Instant) {
        *self.idle_since.lock() = Some(since);
    }
}
