//! Values that keep a running container: [`Guard`].

use std::sync::Arc;

use super::state::Running;
use super::typestate::Container;

/// A value that keeps a running container: a [`PooledContainer`](crate::PooledContainer), a [`Container`]`<`[`Running`]`>`, or
/// an [`Arc`] or a [`Box`] of one of them.
///
/// [`Command::spawn_owned`](crate::Command::spawn_owned) takes such a value and keeps it until the command has been dealt with.
/// Implement the trait for a type of your own that has a container in it.
///
/// # Examples
///
/// ```
/// use dockerpool::{Command, Container, Guard, PooledContainer, Running};
///
/// struct Session {
///     container: PooledContainer,
///     user: String,
/// }
///
/// impl Guard for Session {
///     fn running(&self) -> &Container<Running> {
///         &self.container
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(engine).build().await?;
/// let session = Session { container: pool.acquire().await?, user: "ada".to_owned() };
/// let mut child = Command::new("true").spawn_owned(session).await?;
/// assert!(child.wait().await?.success());
/// assert_eq!(child.into_guard().user, "ada");
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not keep a running container",
    note = "a guard is a `PooledContainer`, a `Container<Running>`, or an `Arc` or `Box` of one; a reference is none, since it can end before the command"
)]
pub trait Guard: Send + Sync + 'static {
    /// Returns the container.
    fn running(&self) -> &Container<Running>;
}

impl Guard for Container<Running> {
    fn running(&self) -> &Container<Running> {
        self
    }
}

impl<G: Guard + ?Sized> Guard for Arc<G> {
    fn running(&self) -> &Container<Running> {
        (**self).running()
    }
}

impl<G: Guard + ?Sized> Guard for Box<G> {
    fn running(&self) -> &Container<Running> {
        (**self).running()
    }
}
