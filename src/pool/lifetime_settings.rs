//! The setters for how long containers and leases may last.

use std::time::Duration;

use super::builder::PoolBuilder;

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

    /// How long a lease may last. One that lasts longer, because its holder hangs or because its guard was leaked
    /// (`std::mem::forget`), is logged with the place in the source at which it was acquired, and its container is killed,
    /// removed and replaced. The guard, should it still be there, does no harm: its commands end with
    /// [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone), new ones are
    /// [`Error::ContainerGone`](crate::Error::ContainerGone), and its `Drop` does nothing. Default: no limit.
    pub fn max_lease(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.lifetimes.max_lease = limit.into();
        self
    }
}
