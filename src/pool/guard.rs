//! The guard of one lease: [`PooledContainer`].

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::idle::Slot;
use super::lifetime::Lifetime;
use super::watchdog::Lease;
use crate::container::{Container, Running, Taint};

/// A borrowed container. Made by [`Pool::acquire`](crate::Pool::acquire); it is a [`Container`]`<`[`Running`]`>` by
/// [`Deref`].
///
/// # Drop
///
/// Gives the container back: at once where it may be reused as it is (no I/O is done), else it is removed and replaced
/// in the background. `Drop` never blocks, never fails and never panics. It may run on any thread, within a tokio runtime or
/// not, and after the runtime has gone.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(engine).build().await?;
/// let c = pool.acquire().await?;
/// c.command("true").status().await?;
/// assert_eq!(pool.in_use(), 1);
/// drop(c); // as at the end of its scope
/// assert_eq!(pool.in_use(), 0);
/// # Ok(())
/// # }
/// ```
///
/// # When it is not lent again
///
/// A container is not lent again when it is tainted (see [`Taint`]), when a command in it has not provably ended, when
/// the guard is dropped by a panic, or under [`Reuse::Never`](crate::Reuse::Never).
///
/// # The `let _ =` trap
///
/// `let _ = pool.acquire().await?;` gives the container back in the same statement, and what follows runs without one.
/// Give it a name: `let c = ...` or, if it is only to be held, `let _c = ...`. A plain unused `pool.acquire().await?;` is
/// warned about:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # async fn example(pool: dockerpool::Pool) -> Result<(), dockerpool::Error> {
/// pool.acquire().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Leaking it
///
/// `std::mem::forget` of a guard keeps its place in the pool taken until the pool is shut down, or until
/// [`max_lease`](crate::PoolBuilder::max_lease) has passed.
#[must_use = "the container goes back to the pool as soon as the guard is dropped: bind it to a name, not to `_`"]
pub struct PooledContainer {
    // Both are there until the guard is taken apart; the slot only where no watchdog holds it.
    container: Option<Container<Running>>,
    slot: Option<Slot<Container<Running>>>,
    watched: Option<Box<Watched>>,
    reusable: bool,
}

/// What a guard needs where lifetimes or leases are limited. Boxed, since a guard is moved often.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) lifetime: Option<Arc<Lifetime>>,
    /// It holds the slot.
    pub(super) lease: Option<Lease>,
}

impl PooledContainer {
    #[inline]
    pub(super) fn new(
        container: Container<Running>,
        slot: Option<Slot<Container<Running>>>,
        watched: Option<Box<Watched>>,
        reusable: bool,
    ) -> Self {
        Self {
            container: Some(container),
            slot,
            watched,
            reusable,
        }
    }

    /// The slot; none if the container was taken back.
    #[inline]
    fn end_lease(&mut self) -> Option<Slot<Container<Running>>> {
        if self.slot.is_some() {
            return self.slot.take();
        }
        self.watched.as_mut()?.lease.take()?.end()
    }

    /// Does not give the container back: it is removed and replaced in the background. For containers that are broken or dirty.
    ///
    /// The guard is gone afterwards:
    ///
    /// ```compile_fail,E0382
    /// # async fn example(pool: dockerpool::Pool) -> Result<(), dockerpool::Error> {
    /// let c = pool.acquire().await?;
    /// c.discard();
    /// c.command("true").status().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn discard(mut self) {
        self.reusable = false;
    }

    /// Takes the container out of the pool for good. Its place in the pool is free at once; the container is removed
    /// when it is dropped.
    pub fn into_inner(mut self) -> Container<Running> {
        drop(self.end_lease());
        match self.container.take() {
            Some(container) => container,
            None => unreachable!("only this and Drop take the container, and both end the guard"),
        }
    }
}

impl Deref for PooledContainer {
    type Target = Container<Running>;

    fn deref(&self) -> &Self::Target {
        match &self.container {
            Some(container) => container,
            None => unreachable!("only into_inner and Drop take the container, and both end the guard"),
        }
    }
}

impl Drop for PooledContainer {
    #[inline]
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        // One that was taken back is removed by who took it, and once more by its own `Drop`, to be sure.
        let Some(slot) = self.end_lease() else { return };
        if std::thread::panicking() {
            container.shared().set_taint(Taint::Panicked);
        }
        if !self.reusable {
            return slot.retire(container);
        }
        let lifetime = self.watched.as_ref().and_then(|watched| watched.lifetime.as_ref());
        if let Some(lifetime) = lifetime {
            lifetime.before_idle(container.shared());
        }
        container.shared().end_lease();
        slot.put(container);
        if let Some(lifetime) = lifetime {
            lifetime.after_idle();
        }
    }
}

impl fmt::Debug for PooledContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PooledContainer").field(&self.container).finish()
    }
}
