//! The setters of [`PoolBuilder`] for how long containers and leases may last.

use std::time::Duration;

use super::builder::PoolBuilder;

impl PoolBuilder {
    /// Limits the age of a container. The limit of each container is shorter by up to a tenth, at random, so that containers
    /// made together do not end together. An idle container that is too old is replaced, and removed when its successor is
    /// there. A container on loan is not disturbed, and is removed when it comes back. Default: no limit.
    pub fn max_lifetime(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.max_lifetime = limit.into();
        self
    }

    /// Limits how often a container is lent. The limit of each container is lower by up to a tenth, at random, and at least 1.
    /// Default: no limit.
    pub fn max_uses(mut self, limit: impl Into<Option<u32>>) -> Self {
        self.lifetimes.max_uses = limit.into();
        self
    }

    /// Limits how long a container may be idle before it is removed. [`min_idle`](Self::min_idle) containers are always kept.
    /// Default: no limit.
    pub fn idle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.idle_timeout = limit.into();
        self
    }

    /// Limits how long a lease may last. A lease lasts longer where its holder hangs, or where its guard was leaked
    /// (`std::mem::forget`). It is logged with its acquire site, and its container is killed, removed and replaced.
    ///
    /// A guard that is still there does no harm: its commands end with
    /// [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone), new ones fail with
    /// [`Error::ContainerGone`](crate::Error::ContainerGone), and its `Drop` is a no-op. Default: no limit.
    pub fn max_lease(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.max_lease = limit.into();
        self
    }

    /// Limits how long a container is kept for its key after a lease with a key: see
    /// [`acquire_for`](crate::Pool::acquire_for). Default: [`DEFAULT_KEEP_FOR`](Self::DEFAULT_KEEP_FOR).
    pub fn keep_for(mut self, limit: Duration) -> Self {
        self.keep.keep_for = limit;
        self
    }

    /// Limits how many containers are kept for their keys. The one that was kept longest goes first. 0: none is kept. Default: as
    /// many as the pool may have.
    pub fn max_kept(mut self, count: usize) -> Self {
        self.keep.max_kept = Some(count);
        self
    }
}
