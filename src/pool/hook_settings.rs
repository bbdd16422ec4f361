//! The setters of [`PoolBuilder`] for what is done with containers beside their leases.

use std::sync::Arc;
use std::time::Duration;

use super::builder::PoolBuilder;
use super::hooks::{HookContainer, HookError, Return};

impl PoolBuilder {
    /// The default time that a call of a hook may take: 60 seconds.
    pub const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(60);

    /// Sets a function that is called once with each container, before its first lease: it makes a database's tables, writes
    /// files, warms a cache. It is called when the container [is ready](Self::ready_when), in the background, also for containers
    /// for which nobody waits.
    ///
    /// An error, a panic, and a call that takes longer than [`hook_timeout`](Self::hook_timeout), fail the creation: the
    /// container is removed, and the error, of the kind [`HookFailed`](crate::EngineErrorKind::HookFailed), comes where that of
    /// any failed creation does. So does a command that the function has left behind, detached or not.
    ///
    /// A container in which the function has run a command or used files is not [cleaned](crate::Reuse::Clean) after a lease with
    /// a command but replaced, since nobody could prove that what the function has made is as it was.
    /// [`Reuse::AsIs`](crate::Reuse::AsIs) lends it again.
    ///
    /// The function is called on a thread of its own, and may block. With a [`tokio_runtime`](Self::tokio_runtime) it is called
    /// on that runtime, and must not block. Either way it can use what needs tokio. When the pool ends, the call's future is
    /// dropped. The last function counts.
    ///
    /// # Errors
    ///
    /// `build()` gives [`Error::Config`](crate::Error::Config) with [`Adopt::Clean`](crate::Adopt::Clean): nobody knows whether
    /// the function was done with a container that a killed process has left.
    ///
    /// # Examples
    ///
    /// ```
    /// use dockerpool::Pool;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
    /// let builder = Pool::builder("database")
    ///     .image("postgres:17")
    ///     .on_create(async |c| {
    ///         c.exec(["psql", "--command", "CREATE TABLE seen (id INT)"]).await?.check()?;
    ///         Ok(())
    ///     });
    /// # let builder = builder.engine(engine);
    /// let pool = builder.build().await?;
    ///
    /// // What the function needs of its surroundings is moved into each call.
    /// let schema = "CREATE TABLE kept (id INT)".to_owned();
    /// let builder = Pool::builder("another").image("postgres:17").on_create(move |c| {
    ///     let schema = schema.clone();
    ///     async move {
    ///         c.exec(["psql", "--command", &schema]).await?.check()?;
    ///         Ok(())
    ///     }
    /// });
    /// # let _ = builder;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_create<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(HookContainer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), HookError>> + Send + 'static,
    {
        self.hooks.on_create = Some(Arc::new(move |c| Box::pin(hook(c))));
        self
    }

    /// Sets a function that is called with each container that comes back from a lease and may be lent again, before it is
    /// cleaned: it takes what the lease has left, or decides that the container is not worth keeping. It is called in the
    /// background, and never delays the borrower; the next lease waits for it if no other container is idle.
    ///
    /// A panic, and a call that takes longer than [`hook_timeout`](Self::hook_timeout), go to [`on_error`](Self::on_error), and
    /// the container is replaced. The function is not called for a container that is replaced anyhow: under
    /// [`Reuse::Never`](crate::Reuse::Never), after [`discard`](crate::PooledContainer::discard), with a
    /// [`Taint`](crate::Taint), or when the pool ends. A container that is kept for its [key](crate::Pool::acquire_for) comes back
    /// when it is kept no longer.
    ///
    /// Where the function is called, what it must not do, and what it may move into its calls: see
    /// [`on_create`](Self::on_create). The last function counts.
    ///
    /// # Examples
    ///
    /// ```
    /// use dockerpool::{Pool, Return, Reuse};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
    /// let builder = Pool::builder("redis").image("redis:7-alpine").reuse(Reuse::AsIs).on_return(async |c| {
    ///     match c.exec(["redis-cli", "flushall"]).await {
    ///         Ok(out) if out.status.success() => Return::Keep,
    ///         _ => Return::Discard,
    ///     }
    /// });
    /// # let builder = builder.engine(engine);
    /// let pool = builder.build().await?;
    /// drop(pool.acquire().await?);
    /// # let _ = pool.acquire().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_return<F, Fut>(mut self, hook: F) -> Self
    where
        F: Fn(HookContainer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Return> + Send + 'static,
    {
        self.hooks.on_return = Some(Arc::new(move |c| Box::pin(hook(c))));
        self
    }

    /// Sets how long each call of [`on_create`](Self::on_create) and [`on_return`](Self::on_return) may take. Then its future is
    /// dropped, which ends the commands that it runs. Default: [`DEFAULT_HOOK_TIMEOUT`](Self::DEFAULT_HOOK_TIMEOUT).
    pub fn hook_timeout(mut self, limit: Duration) -> Self {
        self.hooks.limit = limit;
        self
    }
}
