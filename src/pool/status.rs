//! A pool in numbers.

use std::fmt;

use crate::agent::{ActiveExec, Cgroups, Lifeline};

/// How many containers a pool has, and where they are, at one moment.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").min_idle(0).engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let status = pool.status();
/// assert_eq!((status.in_use, status.total(), status.waiting), (1, 1, 0));
/// println!("{status}"); // 0 idle, 1 in use, 0 creating, 0 recycling, at most 32; 0 waiting
/// # assert_eq!(status.to_string(), "0 idle, 1 in use, 0 creating, 0 recycling, at most 32; 0 waiting");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Ready to be lent.
    pub idle: usize,
    /// Lent.
    pub in_use: usize,
    /// Being created.
    pub creating: usize,
    /// Between two leases: being removed, to be replaced.
    pub recycling: usize,
    /// How many there may be in all.
    pub max_total: usize,
    /// Acquires that wait.
    pub waiting: usize,
    /// How commands are run, and why.
    pub exec: ActiveExec,
    /// How sure it is that the containers end with this process, and why.
    pub lifeline: Lifeline,
    /// Which control groups the containers have, as the newest of them tells.
    pub cgroups: Cgroups,
    /// What has happened since the pool was built.
    pub lifetime: Counters,
}

/// What has happened in a pool since it was built.
///
/// `created + adopted = removed + taken` plus those that are idle, in use or being recycled now; the failed creations
/// among the last are not meant.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// drop(pool.acquire().await?);
/// pool.acquire().await?.discard();
/// let so_far = pool.status().lifetime;
/// assert_eq!((so_far.lent, so_far.returned, so_far.discarded), (2, 1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Containers created.
    pub created: u64,
    /// Containers taken over from a dead process: see [`Adopt`](crate::Adopt).
    pub adopted: u64,
    /// Creations that failed.
    pub create_failures: u64,
    /// Leases that were begun; also those of an acquire that was dropped while its container was being handed to it.
    pub lent: u64,
    /// Leases after which the container could be lent again.
    pub returned: u64,
    /// Leases after which the container had to go: discarded, tainted, or under [`Reuse::Never`](crate::Reuse::Never).
    pub discarded: u64,
    /// Containers taken out for good by [`into_inner`](crate::PooledContainer::into_inner).
    pub taken: u64,
    /// Containers removed, for whatever reason.
    pub removed: u64,
    /// Acquires that found no container in their time.
    pub acquire_timeouts: u64,
}

impl Status {
    /// How many there are in all; never more than [`max_total`](Self::max_total).
    pub fn total(&self) -> usize {
        self.idle + self.in_use + self.creating + self.recycling
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            idle,
            in_use,
            creating,
            recycling,
            max_total,
            waiting,
            lifetime: _,
            exec: _,
            lifeline: _,
            cgroups: _,
        } = self;
        write!(
            f,
            "{idle} idle, {in_use} in use, {creating} creating, {recycling} recycling, at most {max_total}; {waiting} waiting"
        )
    }
}
