//! How long a pool keeps a container: [`Life`].

use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crossbeam_utils::atomic::AtomicCell;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The pool's notes on one container. Where no lifetime was set, only the flags are read.
#[derive(Debug, Default)]
pub(crate) struct Life {
    outdated: AtomicBool,
    withdrawn: AtomicBool,
    uses: AtomicU32,
    is_lent: AtomicBool,
    /// The acquire site of the present or the last lease. There is no lock, which would cost each acquire as much as the rest of it.
    lent_at: AtomicCell<Option<&'static Location<'static>>>,
    plan: OnceLock<Plan>,
    idle_since: Mutex<Option<Instant>>,
    removed: AtomicBool,
    shut_down: AtomicBool,
    on_removed: Notify,
}

/// How long one container may be used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) expires: Option<Instant>,
    pub(crate) uses: Option<u32>,
}

impl Life {
    /// Sets the plan. The first plan counts.
    pub(crate) fn set_plan(&self, plan: Plan) {
        let _ = self.plan.set(plan);
    }

    pub(crate) fn expires(&self) -> Option<Instant> {
        self.plan.get().and_then(|plan| plan.expires)
    }

    /// Returns whether the container is to be replaced: it is not lent again after its present lease.
    #[inline]
    pub(crate) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    /// Marks the container as outdated. Returns whether it was not before.
    pub(crate) fn set_outdated(&self) -> bool {
        !self.outdated.swap(true, Ordering::AcqRel)
    }

    /// Returns whether the container may not be lent again, though its present lease goes on.
    #[inline]
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
    }

    /// Notes that the engine has reported the container's removal.
    pub(crate) fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
        self.on_removed.notify_waiters();
    }

    /// Waits until the engine reports the container's removal.
    pub(crate) async fn removed(&self) {
        let mut told = std::pin::pin!(self.on_removed.notified());
        told.as_mut().enable();
        if !self.removed.load(Ordering::Acquire) {
            told.await;
        }
    }

    /// Notes that the pool was shut down, and removes the container whether or not a lease has it.
    pub(crate) fn set_shut_down(&self) {
        self.shut_down.store(true, Ordering::Release);
    }

    pub(crate) fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::Acquire)
    }

    /// Notes that a lease has begun, by its acquire site.
    #[inline]
    pub(crate) fn set_lent(&self, site: &'static Location<'static>) {
        // A store costs as much as the rest of an acquire, and a loop acquires at one place.
        if !self.lent_at.load().is_some_and(|known| std::ptr::eq(known, site)) {
            self.lent_at.store(Some(site));
        }
        self.is_lent.store(true, Ordering::Release);
    }

    /// Notes that the lease has ended, or that the container was taken out of the pool.
    #[inline]
    pub(crate) fn set_returned(&self) {
        self.is_lent.store(false, Ordering::Release);
    }

    /// Returns the acquire site of the present lease.
    pub(crate) fn lent_at(&self) -> Option<&'static Location<'static>> {
        let is_lent = self.is_lent.load(Ordering::Acquire);
        is_lent.then(|| self.lent_at.load()).flatten()
    }

    /// Counts a use. The last use of the plan makes the container outdated.
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
