//! Lending containers: [`Pool`].

use std::fmt;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::core::{Core, Deadlines};
use super::ending::Finished;
use super::guard::PooledContainer;
use super::idle::{Acquired, Closed, Ticket, Unserved};
use super::item::Item;
use super::kept::{self, Turn};
use super::lease::Lease;
use super::sweep::SWEEP_TIMEOUT;
use crate::engine::{EngineError, ProgressFn};
use crate::error::{AcquireTimeout, Error};
use crate::runtime::Ended;
use crate::spec::SecurityReport;
use crate::values::status::Status;
use crate::values::waker::guarded;

/// Keeps containers warm and lends them out. Cheap to clone: all clones are one pool. Works from any runtime and any thread
/// for as long as it lives: see [the crate's documentation](crate#runtime).
///
/// # Drop
///
/// When the last clone is dropped, nothing is lent any more. Idle containers are removed in the background, and containers on
/// loan when they come back. [`shutdown`](Self::shutdown) does that and waits for it.
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
/// } // Drop gives the container back
/// # assert!(pool.idle_count() >= 4);
/// pool.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pool {
    pub(super) inner: Arc<Inner>,
}

/// The state that the clones of a pool share.
pub(super) struct Inner {
    pub(super) core: Arc<Core>,
    pub(super) finished: watch::Receiver<Finished>,
    pub(super) acquire_timeout: Duration,
    pub(super) progress: ProgressFn,
    pub(super) security: Option<SecurityReport>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.idle.close();
    }
}

impl Pool {
    /// The longest time for which [`shutdown`](Self::shutdown) waits for leases to end: 10 seconds.
    pub const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

    /// Borrows a container. Takes an idle one at once; else waits for the next one that comes back or is created, for at most
    /// the pool's [`acquire_timeout`](crate::PoolBuilder::acquire_timeout). Acquires are served first come, first served. A
    /// container that dies on its way to the caller does not cost the caller's place. Works in any tokio runtime, with another
    /// executor, and with none.
    ///
    /// # A guard in a loop
    ///
    /// In `c = pool.acquire().await?` the old guard is dropped when the new one is there: while the call waits, the old container
    /// stays lent. If the pool has one container, the call waits for itself; if there are as many such loops as containers, they
    /// wait for each other. Let the guard go out of scope in each round, or drop it before:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
    /// let pool = dockerpool::Pool::builder("docs").image("any").max_total(1)
    /// #     .engine(engine)
    ///     .build()
    ///     .await?;
    /// for job in ["one", "two"] {
    ///     let c = pool.acquire().await?; // of this round alone
    ///     c.command("echo").arg(job).status().await?;
    /// }
    /// let mut c = pool.acquire().await?;
    /// c.command("true").status().await?;
    /// drop(c);
    /// c = pool.acquire().await?;
    /// # c.command("true").status().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`Error::AcquireTimeout`], which says why the last creation failed if it did, or what the one under way waits for.
    /// - [`Error::Engine`], before the limit of time, if the engine refuses the pool's settings (see below):
    ///   [`EngineErrorKind::Rejected`](crate::EngineErrorKind::Rejected),
    ///   [`LimitDiscarded`](crate::EngineErrorKind::LimitDiscarded),
    ///   [`SettingIgnored`](crate::EngineErrorKind::SettingIgnored),
    ///   [`CannotStart`](crate::EngineErrorKind::CannotStart) of PID 1,
    ///   [`ImageNotFound`](crate::EngineErrorKind::ImageNotFound),
    ///   [`NotReady`](crate::EngineErrorKind::NotReady) where no look can show that a container is ready,
    ///   [`WrongPlatform`](crate::EngineErrorKind::WrongPlatform) or
    ///   [`NetworkNotFound`](crate::EngineErrorKind::NetworkNotFound).
    /// - [`Error::Shutdown`]; [`Error::RuntimeEnded`].
    ///
    /// # Settings that the engine refuses
    ///
    /// The engine refuses the same settings each time, until the settings, the image, the network or the engine are changed. An
    /// acquire therefore fails at once, instead of at the limit of time, if only a new container could serve it:
    ///
    /// - While containers are on loan that may be lent again, acquires wait for them. Under
    ///   [`Reuse::Never`](crate::Reuse::Never) no container is lent again.
    /// - While other creations are under way, as many acquires wait for these, from the front of the queue.
    /// - If the pool has had a container before, the first refusal may be a fault of the engine. Acquires fail with the second
    ///   refusal in a row, of a creation that began after the first.
    ///
    /// The pool stays usable: the next acquire makes the pool try again, after the back-off (at most 5 seconds after the last
    /// failure).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses the place in the queue, never a container. A container on its way goes to the next acquire in
    /// the queue, and a creation that the acquire caused goes on.
    #[track_caller]
    pub fn acquire(&self) -> impl Future<Output = Result<PooledContainer, Error>> + Send + '_ {
        self.acquire_at(self.inner.acquire_timeout, Location::caller())
    }

    /// Borrows a container as [`acquire`](Self::acquire) does, with another limit of time. Takes an idle container also where
    /// the limit is zero.
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

    /// Borrows the container that the last lease of the same key had, as that lease has left it: with its files, its
    /// background processes ([`Child::detach`](crate::Child::detach)) and its shared memory. Borrows another one, as
    /// [`acquire`](Self::acquire) does, if none is kept; [`PooledContainer::is_resumed`] tells which it is. For sessions: a user
    /// of a sandbox, a notebook, a build.
    ///
    /// - When a lease with a key ends, its container is kept for the key, for at most
    ///   [`keep_for`](crate::PoolBuilder::keep_for). [`Status::kept`](crate::Status::kept) counts these.
    /// - A key has one lease at a time. A further acquire for it waits until that lease ends, or is taken back at its limit of
    ///   time; these are served first come, first served.
    /// - No other key, and no acquire without one, gets the container before it is cleaned or replaced. That is done when its time
    ///   is over: [`keep_for`](crate::PoolBuilder::keep_for) has passed, more than [`max_kept`](crate::PoolBuilder::max_kept)
    ///   are kept, [`forget`](Self::forget) was called, or another acquire waits and the pool is at its
    ///   [`max_total`](crate::PoolBuilder::max_total). The one that was kept longest goes first. It is cleaned under
    ///   [`Reuse::Clean`](crate::Reuse::Clean), and else replaced.
    /// - A container that is tainted, too old or [discarded](PooledContainer::discard) is not kept. One that becomes too old
    ///   while it is kept ([`refresh`](Self::refresh), [`max_lifetime`](crate::PoolBuilder::max_lifetime)) is lent to its key
    ///   once more at most.
    ///
    /// A key is any text but an empty one. It is not sent to the engine.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire); [`Error::AcquireTimeout`] also where another lease of the key does not end in time; and
    /// [`Error::Config`] if the key is empty.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire). The container of the key stays kept.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
    /// # let pool = dockerpool::Pool::builder("docs").image("any").engine(engine).build().await?;
    /// let first = pool.acquire_for("session 42").await?.id().to_owned();
    /// let again = pool.acquire_for("session 42").await?;
    /// assert!(again.is_resumed() && again.id() == first);
    /// drop(again);
    /// pool.forget("session 42");
    /// assert!(!pool.acquire_for("session 42").await?.is_resumed());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn acquire_for(
        &self,
        key: impl Into<String>,
    ) -> impl Future<Output = Result<PooledContainer, Error>> + Send + '_ {
        self.acquire_with(Lease::new().key(key))
    }

    /// Borrows a container with what belongs to this one lease: variables, files, secrets, a limit of time, a key.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire) and, with a key, as [`acquire_for`](Self::acquire_for); [`Error::Config`] with every bad
    /// value, before anything was done; as [`Files::write`](crate::Files::write) if a file could not be written, after which the
    /// container goes back to the pool. The time of a write, at most 60 seconds for each file, is not that of the acquire.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use dockerpool::Lease;
    ///
    /// # async fn example(pool: dockerpool::Pool, token: String) -> Result<(), dockerpool::Error> {
    /// let lease = Lease::new().env("LANG", "C.UTF-8").secret_file("/tmp/token", token);
    /// let c = pool.acquire_with(lease).await?;
    /// c.command("upload").args(["--token-file", "/tmp/token"]).output().await?.check()?;
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn acquire_with(&self, lease: Lease) -> impl Future<Output = Result<PooledContainer, Error>> + Send + '_ {
        let site = Location::caller();
        // Boxed: only `acquire` is as small and fast as can be.
        Box::pin(self.acquire_as(lease, site))
    }

    /// Ends what is kept for a key. The key's container is cleaned or replaced now, or when its present lease ends. Returns
    /// whether the key had a container or a lease. Does not wait for the cleaning.
    pub fn forget(&self, key: &str) -> bool {
        let Core { kept, reuse, .. } = &*self.inner.core;
        let (is_known, taken) = kept.forget(key);
        if let Some(taken) = taken {
            kept::end(*reuse, taken);
        }
        is_known
    }

    async fn acquire_as(&self, lease: Lease, site: &'static Location<'static>) -> Result<PooledContainer, Error> {
        let core = &self.inner.core;
        let problems = lease.problems(&core.backend.spec, core.reuse);
        if !problems.is_empty() {
            return Err(Error::Config(problems).of_pool(self.name()));
        }
        let limit = lease.acquire_timeout.unwrap_or(self.inner.acquire_timeout);
        let begun = core.backend.runtime.now();
        let mut guard = match &lease.key {
            None => self.acquire_at(limit, site).await?,
            Some(key) => {
                let turn = self.turn(key, limit).await?;
                let resumed = self.resume(&turn, site);
                let is_resumed = resumed.is_some();
                let mut guard = match resumed {
                    Some(guard) => guard,
                    None => {
                        let waited = core.backend.runtime.now().saturating_duration_since(begun);
                        self.acquire_at(limit.saturating_sub(waited), site).await?
                    }
                };
                guard.set_turn(turn, is_resumed);
                guard
            }
        };
        let max_lease = core.deadlines.max_lease;
        if let Some(limit) = lease.timeout.filter(|limit| max_lease.is_none_or(|max| *limit < max)) {
            guard.set_limit(&core.deadlines.watchdog, limit, site);
        }
        if lease.has_secrets() && !core.backend.spec.has_read_only_root() {
            guard.set_single_use();
        }
        let env = lease.variables();
        if !env.is_empty() {
            guard.set_env(env);
        }
        lease.write_files(&guard).await?;
        Ok(guard)
    }

    /// Waits for the right to the lease of a key.
    async fn turn(&self, key: &str, limit: Duration) -> Result<Turn, Error> {
        let core = &self.inner.core;
        let wait = async {
            let begun = Instant::now();
            match tokio::time::timeout(limit, core.kept.turn(key)).await {
                Ok(Ok(turn)) => Ok(turn),
                Ok(Err(Closed)) => Err(self.closed()),
                Err(_) => Err(self.timed_out(begun.elapsed(), true)),
            }
        };
        core.backend.runtime.run(wait).await
    }

    /// Lends the container that is kept for a key, if it may still be lent.
    fn resume(&self, turn: &Turn, site: &'static Location<'static>) -> Option<PooledContainer> {
        let (container, slot) = turn.take()?;
        if !container.shared().may_be_resumed() {
            slot.retire(container);
            return None;
        }
        slot.resume();
        Some(self.lend(container, site))
    }

    /// Counts an acquire whose time is up, and returns its error.
    #[cold]
    fn timed_out(&self, waited: Duration, key_in_use: bool) -> Error {
        let core = &self.inner.core;
        core.idle.timed_out();
        // A lease of the same key is waited for, and not a creation.
        let not_ready_yet = || (!key_in_use).then(|| core.roster.not_ready_yet()).flatten();
        let last_create_error = core.creations.last_error();
        let is_under_way = last_create_error.is_none();
        let mut status = self.status();
        // This acquire, which has left the queue.
        status.waiting += usize::from(!key_in_use);
        Error::AcquireTimeout(Box::new(AcquireTimeout {
            pool: self.name().to_owned(),
            waited,
            status,
            last_create_error: last_create_error.or_else(not_ready_yet),
            key_in_use,
            is_under_way,
        }))
    }

    /// Acquires for the acquire site `site`.
    #[inline]
    fn acquire_at(&self, limit: Duration, site: &'static Location<'static>) -> Acquire<'_> {
        Acquire {
            pool: self,
            limit,
            site,
            wait: None,
        }
    }

    /// Borrows an idle container; `None` if there is none now.
    ///
    /// # Errors
    ///
    /// [`Error::Shutdown`]; [`Error::RuntimeEnded`].
    #[track_caller]
    pub fn try_acquire(&self) -> Result<Option<PooledContainer>, Error> {
        // Not in the closure, which does not know the caller of this function.
        let site = Location::caller();
        match self.inner.core.idle.try_acquire() {
            Acquired::Now(container) => Ok(Some(self.lend(container, site))),
            Acquired::None => Ok(None),
            Acquired::Closed => Err(self.closed()),
        }
    }

    /// Counts the containers by where they are now.
    pub fn status(&self) -> Status {
        let core = &self.inner.core;
        Status {
            exec: core.backend.exec,
            lifeline: core.backend.spec.lifeline(),
            cgroups: core.creations.cgroups(),
            ..core.idle.status()
        }
    }

    /// Returns how many containers can be lent now without waiting.
    pub fn idle_count(&self) -> usize {
        self.status().idle
    }

    /// Returns how many containers are lent now.
    pub fn in_use(&self) -> usize {
        self.status().in_use
    }

    /// Returns the pool's name.
    pub fn name(&self) -> &str {
        &self.inner.core.identity.pool
    }

    /// Returns the value of the label [`labels::INSTANCE`](crate::labels::INSTANCE) on all containers that the pool has
    /// created. It stands for one pool in one process.
    pub fn instance(&self) -> &str {
        &self.inner.core.identity.instance
    }

    /// Ends the pool. From now on nothing is lent or created. Acquires that wait fail, and idle containers are removed at
    /// once. Waits for leases to end, for at most [`DEFAULT_SHUTDOWN_TIMEOUT`](Self::DEFAULT_SHUTDOWN_TIMEOUT), and then
    /// removes every container that still carries the pool's instance label, on loan or not. An
    /// [`on_return`](crate::PoolBuilder::on_return) hook that runs is waited for as a lease is, up to
    /// [`hook_timeout`](crate::PoolBuilder::hook_timeout) and within the same limit.
    ///
    /// Each lease that the call waits for is logged with its container and its acquire site, by [`tracing`](https://docs.rs/tracing)
    /// at the level `info`; one that has not ended in time is logged once more as a warning.
    ///
    /// Idempotent: may be called any number of times and at the same time, and all calls return the same result.
    ///
    /// # Errors
    ///
    /// [`Error::ShutdownIncomplete`] if the engine did not answer or did not remove everything. Commands of leases that were
    /// ended this way end with [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone).
    ///
    /// # Cancel safety
    ///
    /// The shutdown goes on when the future is dropped.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.shutdown_timeout(Self::DEFAULT_SHUTDOWN_TIMEOUT).await
    }

    /// Ends the pool as [`shutdown`](Self::shutdown) does, with another limit on the wait for leases. Of several calls the
    /// shortest limit counts.
    ///
    /// Returns within `limit` plus [`SHUTDOWN_SWEEP_TIMEOUT`](Self::SHUTDOWN_SWEEP_TIMEOUT).
    ///
    /// # Errors
    ///
    /// As [`shutdown`](Self::shutdown).
    ///
    /// # Cancel safety
    ///
    /// As [`shutdown`](Self::shutdown).
    pub async fn shutdown_timeout(&self, limit: Duration) -> Result<(), Error> {
        let core = &self.inner.core;
        core.begin_shutdown(limit);
        let mut finished = self.inner.finished.clone();
        let result = match guarded(finished.wait_for(Finished::is_finished)).await {
            Ok(finished) => finished.result(),
            // The task is gone without a result: with its runtime, or by a fault of ours.
            Err(_) if core.backend.runtime.has_ended() => Err(Some(Ended.into())),
            Err(_) => Err(None),
        };
        result.map_err(|source| Error::ShutdownIncomplete {
            pool: core.identity.pool.clone(),
            instance: core.identity.instance.clone(),
            source,
        })
    }

    /// The longest time for the last part of a shutdown, in which everything left is removed: 10 seconds.
    pub const SHUTDOWN_SWEEP_TIMEOUT: Duration = SWEEP_TIMEOUT;

    /// Returns why a container could not be proven to be clean the last time, with [`Reuse::Clean`](crate::Reuse::Clean). Each such
    /// container is replaced, and counted in [`Counters::unclean`](crate::Counters::unclean). `None`: that has not happened.
    ///
    /// A container is cleaned in the background after its lease. To learn which work causes replacements, run it in a pool with
    /// [`max_total(1)`](crate::PoolBuilder::max_total), and look after the next acquire: that waits for the end of the cleaning.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), dockerpool::Error> {
    /// let pool = dockerpool::Pool::builder("trial").image("python:3.12-alpine").max_total(1).build().await?;
    /// pool.acquire().await?.exec(["python3", "-c", "open('/root/x', 'w')"]).await?.check()?;
    /// drop(pool.acquire().await?);
    /// println!("{} of {} leases", pool.status().lifetime.unclean, pool.status().lifetime.lent);
    /// if let Some(why) = pool.last_unclean() {
    ///     println!("{why}"); // "/root" in the root file system has changed
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn last_unclean(&self) -> Option<EngineError> {
        self.inner.core.uncleans.last()
    }

    /// Returns what a first container was seen to have when the pool was built, beside what the
    /// [`sandbox`](crate::PoolBuilder::sandbox) asks for. Everything in the report is in force, or was not seen; else the pool
    /// would not have been built. `None`: the pool has no sandbox.
    pub fn security(&self) -> Option<&SecurityReport> {
        self.inner.security.as_ref()
    }

    /// Makes the guard of a container that counts as in use.
    #[inline]
    fn lend(&self, container: Item, site: &'static Location<'static>) -> PooledContainer {
        let core = &*self.inner.core;
        let fate = (core.reuse, core.hooks.on_return.is_some());
        // First of all: from here on the container cannot be lost.
        let guard = PooledContainer::new(container, core.idle.clone(), fate);
        guard.shared().life.set_lent(site);
        guard.shared().begin_use();
        if core.deadlines.lifetime.is_none() && core.deadlines.max_lease.is_none() {
            return guard;
        }
        self.watch(guard, site)
    }

    /// Begins to limit how long a lease lasts, and how long its container is kept.
    #[cold]
    fn watch(&self, mut guard: PooledContainer, site: &'static Location<'static>) -> PooledContainer {
        let Deadlines {
            lifetime,
            max_lease,
            watchdog,
        } = &self.inner.core.deadlines;
        guard.set_lifetime(lifetime.clone());
        if let Some(limit) = max_lease {
            guard.set_limit(watchdog, *limit, site);
        }
        guard
    }

    /// Says why nothing is lent any more.
    #[cold]
    pub(super) fn closed(&self) -> Error {
        let is_finished = self.inner.finished.borrow().is_finished();
        if !is_finished && self.inner.core.backend.runtime.has_ended() {
            return Error::RuntimeEnded;
        }
        Error::Shutdown {
            pool: self.name().to_owned(),
        }
    }
}

/// The future of an acquire. Written by hand: that of an async function moves the guard once more for each function.
#[must_use = "futures do nothing unless polled"]
struct Acquire<'p> {
    pool: &'p Pool,
    limit: Duration,
    /// Taken before the first poll, which does not know the caller.
    site: &'static Location<'static>,
    wait: Option<Wait>,
}

/// The part of an acquire that found no idle container.
struct Wait {
    ticket: Ticket<Item>,
    begun: Instant,
}

impl Future for Acquire<'_> {
    type Output = Result<PooledContainer, Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.wait.is_some() {
            return this.poll_wait(cx);
        }
        match this.pool.inner.core.idle.try_acquire() {
            Acquired::Now(container) => Poll::Ready(Ok(this.pool.lend(container, this.site))),
            Acquired::None => this.begin_wait(cx),
            Acquired::Closed => Poll::Ready(Err(this.pool.closed())),
        }
    }
}

impl Acquire<'_> {
    /// Waits in the queue. A task of the pool ends the wait when its time is up, so that a waiter needs no timer.
    #[cold]
    fn begin_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<PooledContainer, Error>> {
        let core = &self.pool.inner.core;
        let begun = core.backend.runtime.now();
        match core.idle.queue(begun.checked_add(self.limit)) {
            Ok(ticket) => {
                self.wait = Some(Wait { ticket, begun });
                self.poll_wait(cx)
            }
            Err(Acquired::Now(container)) => Poll::Ready(Ok(self.pool.lend(container, self.site))),
            Err(Acquired::None | Acquired::Closed) => Poll::Ready(Err(self.pool.closed())),
        }
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<PooledContainer, Error>> {
        let Some(Wait { ticket, begun }) = &mut self.wait else {
            return Poll::Pending;
        };
        let pool = self.pool;
        Poll::Ready(match ready!(ticket.poll_turn(cx)) {
            Ok(container) => Ok(pool.lend(container, self.site)),
            Err(Unserved::Closed) => Err(pool.closed()),
            Err(Unserved::CannotCreate(error)) => {
                let error = Error::engine("create a container", None, error);
                Err(error.of_pool(pool.name()))
            }
            Err(Unserved::TimedOut) => {
                let now = pool.inner.core.backend.runtime.now();
                Err(pool.timed_out(now.saturating_duration_since(*begun), false))
            }
        })
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
