//! The fate of a container between two leases: [`Reuse`].

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
    /// Lends the container again as it is: the next lease finds the files, background processes and shared memory of the last
    /// one. Right for trusted work only. The default, until the library can clean a container.
    #[default]
    AsIs,
    /// Gives each lease a fresh container. A used container is removed and replaced in the background. Right for hostile code
    /// and for tenants that must not see each other.
    Never,
}
