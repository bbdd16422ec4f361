//! Who holds which container: [`Pool`] lends them, [`PooledContainer`] gives them back.

mod adopt;
mod builder;
mod guard;
mod idle;
mod lifetime;
mod maintainer;
mod watchdog;

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::container::{Container, Running};
use crate::engine::ProgressFn;
use crate::error::{AcquireTimeout, Error};
use crate::runtime::Ended;
use crate::values::status::ActiveExec;
use crate::values::waker::guarded;
use idle::{Acquired, Closed, Slot, Ticket};
use maintainer::{Background, Finished};

pub use crate::values::status::{Counters, Status};
pub use adopt::Adopt;
pub use builder::PoolBuilder;
pub use guard::PooledContainer;
use guard::Watched;

/// Decides what happens to a container between two leases.
///
/// | | processes left behind | files left behind | cost |
/// |---|---|---|---|
/// | `AsIs` | go on | stay | none |
/// | `Never` | gone | gone | a new container each time, made in the background |
///
/// A tainted container is never lent again: see [`Taint`](crate::Taint).
///
/// # Examples
///
/// ```
/// use dockerpool::{Pool, Reuse};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let builder = Pool::builder("tenants").image("busybox:1.36").reuse(Reuse::Never);
/// # let builder = builder.engine(engine);
/// let pool = builder.build().await?;
/// let first = pool.acquire().await?.id().to_owned();
/// let second = pool.acquire().await?;
/// assert_ne!(second.id(), first);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reuse {
    /// The container goes straight back: the next lease finds the files, background processes and shared memory of the last one.
    /// Right for trusted work only. The default, until the library can clean a container.
    #[default]
    AsIs,
    /// Each lease gets a fresh container; a used one is removed and replaced in the background. Right for hostile code and for
    /// tenants that must not see each other.
    Never,
}

/// Keeps containers warm and lends them out. Cheap to clone: all clones are one pool. Works from any runtime and any thread
/// for as long as it lives, see [the crate's documentation](crate#runtime).
///
/// # Drop
///
/// When the last clone is dropped, nothing is lent any more, idle containers are removed in the background, and those on loan as
/// they come back. [`shutdown`](Self::shutdown) does that and waits for it.
///
/// # Examples
///
/// ```
/// use dockerpool::Pool;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// # let code = "print(1)";
/// let pool = Pool::builder("python-runner")
///     .image("python:3.12-alpine")
///     .min_idle(4)
/// #     .engine(engine)
///     .build()
///     .await?;
///
/// {
///     let c = pool.acquire().await?;
///     let out = c
///         .command("python")
///         .args(["-c", code])
///         .timeout(Duration::from_secs(5))
///         .output_limit(64 * 1024)
///         .output()
///         .await?;
///     println!("{}: {}", out.status, out.stdout_lossy());
///     if out.status.is_unknown() {
///         c.discard(); // explicit; else Drop gives it back
///     }
/// }
/// # assert!(pool.idle_count() >= 4);
/// pool.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    background: Arc<Background>,
    finished: watch::Receiver<Finished>,
    acquire_timeout: Duration,
    reusable: bool,
    progress: ProgressFn,
    exec: ActiveExec,
}

/// How an acquire begins.
enum Begun {
    Lent(PooledContainer),
    Waiting(Ticket<Container<Running>>),
    Closed,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.background.idle.close();
    }
}

impl Pool {
    /// How long [`shutdown`](Self::shutdown) waits for leases to end: 10 seconds.
    pub const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

    /// Begins a pool of this name. The name is part of the containers' names and labels.
    pub fn builder(name: impl Into<String>) -> PoolBuilder {
        PoolBuilder::new(name.into())
    }

    /// Borrows a container: an idle one at once, else the next one that comes back or is created, first come, first
    /// served: a container that dies on its way to the caller does not cost the caller's place. Waits for at most the pool's
    /// [`acquire_timeout`](PoolBuilder::acquire_timeout).
    ///
    /// # Errors
    ///
    /// [`Error::AcquireTimeout`], which says why the last creation failed if it did; [`Error::Shutdown`];
    /// [`Error::RuntimeEnded`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the place in the queue, never a container: one that was on its way goes to the next in
    /// line, and a creation it caused goes on.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<PooledContainer, Error>> + Send + '_ {
        self.acquire_at(self.inner.acquire_timeout, Location::caller())
    }

    /// As [`acquire`](Self::acquire), with a time limit of its own. It takes an idle container also with a limit of zero.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    #[track_caller]
    pub fn acquire_timeout(&self, limit: Duration) -> impl Future<Output = Result<PooledContainer, Error>> + Send + '_ {
        self.acquire_at(limit, Location::caller())
    }

    /// The caller's place is taken before the first poll, since an async function does not know its caller.
    async fn acquire_at(&self, limit: Duration, site: &'static Location<'static>) -> Result<PooledContainer, Error> {
        match self.begin(site) {
            Begun::Lent(guard) => Ok(guard),
            // Boxed, so that the future stays small for those who need not wait.
            Begun::Waiting(ticket) => Box::pin(self.wait(ticket, limit, site)).await,
            Begun::Closed => Err(self.closed()),
        }
    }

    /// Borrows an idle container, if there is one now.
    ///
    /// # Errors
    ///
    /// [`Error::Shutdown`]; [`Error::RuntimeEnded`].
    #[track_caller]
    pub fn try_acquire(&self) -> Result<Option<PooledContainer>, Error> {
        // Here, since a closure does not know its caller's.
        let site = Location::caller();
        match self.inner.background.idle.try_acquire() {
            Ok(found) => Ok(found.map(|(container, slot)| self.lend(container, slot, site))),
            Err(Closed) => Err(self.closed()),
        }
    }

    /// How many containers there are, and where, now.
    pub fn status(&self) -> Status {
        Status {
            exec: self.inner.exec,
            lifeline: self.inner.background.spec.lifeline(),
            cgroups: *self.inner.background.cgroups.lock(),
            ..self.inner.background.idle.status()
        }
    }

    /// How many containers are ready to be lent now.
    pub fn idle_count(&self) -> usize {
        self.status().idle
    }

    /// How many containers are lent now.
    pub fn in_use(&self) -> usize {
        self.status().in_use
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.background.pool
    }

    /// The value of the label [`labels::INSTANCE`](crate::labels::INSTANCE) on all containers it has made: one pool in one
    /// process.
    pub fn instance(&self) -> &str {
        &self.inner.background.instance
    }

    /// Ends the pool: lends and creates nothing any more, tells those who wait, removes what is idle at once, waits for
    /// leases to end for [`DEFAULT_SHUTDOWN_TIMEOUT`](Self::DEFAULT_SHUTDOWN_TIMEOUT), and then removes whatever still
    /// carries its instance label, on loan or not.
    ///
    /// May be called any number of times and at the same time; all get the same answer.
    ///
    /// # Errors
    ///
    /// [`Error::ShutdownIncomplete`] if the engine did not answer or did not remove everything. Commands in leases that
    /// were ended come to [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone).
    ///
    /// # Cancel safety
    ///
    /// The shutdown goes on when the future is dropped.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.shutdown_timeout(Self::DEFAULT_SHUTDOWN_TIMEOUT).await
    }

    /// As [`shutdown`](Self::shutdown), waiting for leases for this long. If several ask, the shortest wait counts.
    ///
    /// The call ends within `limit` plus [`SHUTDOWN_SWEEP_TIMEOUT`](Self::SHUTDOWN_SWEEP_TIMEOUT).
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_timeout(&self, limit: Duration) -> Result<(), Error> {
        let background = &self.inner.background;
        background.begin_shutdown(limit);
        let mut finished = self.inner.finished.clone();
        let result = match guarded(finished.wait_for(Finished::is_finished)).await {
            Ok(finished) => finished.result(),
            // The task is gone without a word: with its runtime, or by a fault of ours.
            Err(_) if background.runtime.has_ended() => Err(Some(Ended.into())),
            Err(_) => Err(None),
        };
        result.map_err(|source| Error::ShutdownIncomplete {
            pool: background.pool.clone(),
            instance: background.instance.clone(),
            source,
        })
    }

    /// How long the last part of a shutdown, in which everything left is removed, may take: 10 seconds.
    pub const SHUTDOWN_SWEEP_TIMEOUT: Duration = maintainer::SWEEP_TIMEOUT;

    async fn wait(
        &self,
        mut ticket: Ticket<Container<Running>>,
        limit: Duration,
        site: &'static Location<'static>,
    ) -> Result<PooledContainer, Error> {
        let wait = async {
            let begun = Instant::now();
            match tokio::time::timeout(limit, ticket.turn()).await {
                Ok(Ok((container, slot))) => Ok(self.lend(container, slot, site)),
                Ok(Err(Closed)) => Err(self.closed()),
                Err(_) => {
                    self.inner.background.idle.timed_out();
                    Err(Error::AcquireTimeout(Box::new(AcquireTimeout {
                        waited: begun.elapsed(),
                        status: self.status(),
                        last_create_error: self.inner.background.last_create_error(),
                    })))
                }
            }
        };
        self.inner.background.runtime.run(wait).await
    }

    /// An idle container, or a place in the queue.
    #[inline]
    fn begin(&self, site: &'static Location<'static>) -> Begun {
        match self.inner.background.idle.acquire() {
            Acquired::Now(container, slot) => Begun::Lent(self.lend(container, slot, site)),
            Acquired::Wait(ticket) => Begun::Waiting(ticket),
            Acquired::Closed => Begun::Closed,
        }
    }

    #[inline]
    fn lend(
        &self,
        container: Container<Running>,
        slot: Slot<Container<Running>>,
        site: &'static Location<'static>,
    ) -> PooledContainer {
        container.shared().begin_use();
        let Background { lifetime, watchdog, .. } = &*self.inner.background;
        if lifetime.is_none() && watchdog.is_none() {
            return PooledContainer::new(container, Some(slot), None, self.inner.reusable);
        }
        if let Some(lifetime) = lifetime {
            lifetime.lent(container.shared());
        }
        let (slot, lease) = match watchdog {
            None => (Some(slot), None),
            Some(watchdog) => (None, Some(watchdog.begin(slot, container.shared().clone(), site))),
        };
        let watched = Box::new(Watched {
            lifetime: lifetime.clone(),
            lease,
        });
        PooledContainer::new(container, slot, Some(watched), self.inner.reusable)
    }

    #[cold]
    fn closed(&self) -> Error {
        let is_finished = self.inner.finished.borrow().is_finished();
        if !is_finished && self.inner.background.runtime.has_ended() {
            return Error::RuntimeEnded;
        }
        Error::Shutdown {
            pool: self.name().to_owned(),
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name())
            .field("instance", &self.instance())
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}
