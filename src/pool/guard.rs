//! The guard of one lease: [`PooledContainer`].

use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::idle::{Idle, Slot};
use super::item::Item;
use super::kept::{self, Turn};
use super::lifetime::Lifetime;
use super::reuse::Reuse;
use super::watchdog::{Watchdog, WatchedLease};
use crate::container::{Container, Guard, Running, Taint};

/// Guards one lease: holds a borrowed container, and gives it back when dropped. Made by
/// [`Pool::acquire`](crate::Pool::acquire). Derefs to [`Container`]`<`[`Running`]`>`.
///
/// # Drop
///
/// Gives the container back. Under [`Reuse::AsIs`](crate::Reuse::AsIs), and under [`Reuse::Clean`](crate::Reuse::Clean) if the
/// lease began no command, used no [`files`](Container::files) and did not ask where the container is reached, that is done at
/// once and without I/O. Otherwise the container
/// is cleaned, or removed and replaced, in the background. `Drop` never blocks, never fails and never panics. It may run on any
/// thread, within a tokio runtime or not, and after the runtime has gone.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(engine).build().await?;
/// let c = pool.acquire().await?;
/// assert!(c.command("true").status().await?.success());
/// assert_eq!(pool.in_use(), 1);
/// drop(c); // as at the end of its scope
/// assert_eq!(pool.in_use(), 0);
/// # Ok(())
/// # }
/// ```
///
/// # When the container is not lent again
///
/// - It is tainted: see [`Taint`].
/// - A command in it has not provably ended, and the container cannot be cleaned.
/// - The container is too old, or was lent too often: [`max_lifetime`](crate::PoolBuilder::max_lifetime),
///   [`max_uses`](crate::PoolBuilder::max_uses), [`Pool::refresh`](crate::Pool::refresh).
/// - The guard is dropped by a panic.
/// - The pool has [`Reuse::Never`](crate::Reuse::Never).
/// - The pool has [`Reuse::Clean`](crate::Reuse::Clean), and the container is not proven to be clean.
/// - [`on_return`](crate::PoolBuilder::on_return) says so.
///
/// A lease with a [key](crate::Pool::acquire_for) is another matter: its container is kept for the next lease of that key,
/// unless it is tainted, too old or discarded.
///
/// # Pausing, stopping and killing the container
///
/// These calls consume the container, which a guard does not allow. [`into_inner`](Self::into_inner) takes it out of the pool.
///
/// # The `let _ =` trap
///
/// `let _ = pool.acquire().await?;` gives the container back in the same statement, and the next one runs without it. Bind the
/// guard to a name: `let c = ...` or, if it is only to be held, `let _c = ...`. The compiler warns of a plain unused
/// `pool.acquire().await?;`:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # async fn example(pool: dockerpool::Pool) -> Result<(), dockerpool::Error> {
/// pool.acquire().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Leaking a guard
///
/// After `std::mem::forget` of a guard, its place in the pool stays taken until the pool is shut down, or until
/// [`max_lease`](crate::PoolBuilder::max_lease) has passed.
#[must_use = "the container goes back to the pool as soon as the guard is dropped: bind it to a name, not to `_`"]
pub struct PooledContainer {
    // `None` only while the guard is taken apart.
    container: Option<Item>,
    /// The pool, where the guard has the container's [`Slot`]: a slot as such would make the guard larger, and it is moved often.
    /// `None` where the watchdog has it.
    lent_by: Option<Arc<Idle<Item>>>,
    watched: Option<Box<Watched>>,
    reuse: Reuse,
    /// Whether something is done with each container that comes back.
    has_hook: bool,
}

/// The part of a guard that is needed only where lifetimes or leases are limited, or a lease has a key. Boxed, since a guard is
/// moved often.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) lifetime: Option<Arc<Lifetime>>,
    /// Holds the slot, and the right to the key.
    pub(super) lease: Option<WatchedLease>,
    /// The right to the lease of a key, where the guard holds the slot.
    pub(super) turn: Option<Turn>,
    /// Whether the key's container came back as it was left.
    pub(super) is_resumed: bool,
    /// Whether the container is not to be kept for the key.
    pub(super) is_discarded: bool,
    /// Whether the commands of this lease have variables of their own.
    pub(super) has_env: bool,
}

impl PooledContainer {
    #[inline]
    pub(super) fn new(container: Item, lent_by: Arc<Idle<Item>>, (reuse, has_hook): (Reuse, bool)) -> Self {
        Self {
            container: Some(container),
            lent_by: Some(lent_by),
            watched: None,
            reuse,
            has_hook,
        }
    }

    /// Has the container kept for a limited time.
    pub(super) fn set_lifetime(&mut self, lifetime: Option<Arc<Lifetime>>) {
        if let (Some(lifetime), Some(container)) = (&lifetime, &self.container) {
            lifetime.lent(container.shared());
        }
        self.watched.get_or_insert_default().lifetime = lifetime;
    }

    /// Gives the lease a key, whose right this is.
    pub(super) fn set_turn(&mut self, turn: Turn, is_resumed: bool) {
        let watched = self.watched.get_or_insert_default();
        watched.is_resumed = is_resumed;
        match &watched.lease {
            Some(lease) => lease.set_turn(turn),
            None => watched.turn = Some(turn),
        }
    }

    /// Sets variables of all commands of this lease, each as `NAME=value`.
    pub(super) fn set_env(&mut self, env: Vec<String>) {
        if let Some(container) = &self.container {
            container.shared().set_lease_env(env);
            self.watched.get_or_insert_default().has_env = true;
        }
    }

    /// Has the container taken back after `limit`. There is no limit yet, or a longer one.
    pub(super) fn set_limit(&mut self, watchdog: &Arc<Watchdog>, limit: Duration, site: &'static Location<'static>) {
        let (Some(held), Some(container)) = (self.end_lease(), &self.container) else {
            return;
        };
        let lease = watchdog.begin(limit, held, container.shared().clone(), site);
        self.watched.get_or_insert_default().lease = Some(lease);
    }

    /// Returns whether this is the container that the last lease of the same key had, as that lease has left it: see
    /// [`Pool::acquire_for`](crate::Pool::acquire_for).
    pub fn is_resumed(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.is_resumed)
    }

    /// Has the container replaced when the lease ends, whatever it leaves.
    pub(super) fn set_single_use(&mut self) {
        self.reuse = Reuse::Never;
    }

    /// Ends the lease, and returns its slot and the right to its key. `None`: the container was taken back.
    #[inline]
    fn end_lease(&mut self) -> Option<(Slot<Item>, Option<Turn>)> {
        if let Some(idle) = self.lent_by.take() {
            let turn = self.watched.as_mut().and_then(|watched| watched.turn.take());
            return Some((Slot::lent(idle), turn));
        }
        self.watched.as_mut()?.lease.take()?.end()
    }

    /// Ends the lease without giving the container back: it is removed and replaced in the background. For a container that is
    /// broken or dirty in a way the library cannot know.
    ///
    /// The guard cannot be used afterwards:
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
        self.reuse = Reuse::Never;
        if let Some(watched) = &mut self.watched {
            watched.is_discarded = true;
        }
    }

    /// Takes the container out of the pool for good. Its place in the pool is free at once. Dropping the container removes it
    /// in the background.
    pub fn into_inner(mut self) -> Container<Running> {
        drop(self.end_lease());
        match self.container.take() {
            Some(container) => {
                container.shared().life.set_returned();
                container
            }
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

impl Guard for PooledContainer {
    fn running(&self) -> &Container<Running> {
        self
    }
}

impl Drop for PooledContainer {
    #[inline]
    fn drop(&mut self) {
        let Some(container) = self.container.take() else { return };
        let shared = container.shared();
        shared.life.set_returned();
        let is_plain = self.watched.is_none() && !self.has_hook && !std::thread::panicking();
        let may_stay = match self.reuse {
            Reuse::AsIs => true,
            Reuse::Clean => shared.is_untouched(),
            Reuse::Never => false,
        };
        match self.lent_by.take() {
            Some(idle) if is_plain && may_stay => {
                shared.end_lease();
                shared.end_lease_value();
                Slot::lent(idle).put(container);
            }
            lent_by => {
                self.lent_by = lent_by;
                self.give_back(container);
            }
        }
    }
}

impl PooledContainer {
    /// Ends a lease that is more than the plainest.
    #[cold]
    fn give_back(&mut self, container: Item) {
        // The watchdog removes a container that it took back. Dropping the container here removes it once more, to be sure.
        let Some((slot, turn)) = self.end_lease() else { return };
        if std::thread::panicking() {
            container.shared().set_taint(Taint::Panicked);
        }
        if let Some(watched) = &self.watched {
            if watched.has_env {
                container.shared().set_lease_env(Vec::new());
            }
            if let Some(turn) = turn
                && !watched.is_discarded
            {
                container.shared().end_lease();
                let displaced = turn.keep(container, slot);
                return displaced.into_iter().for_each(|other| kept::end(self.reuse, other));
            }
        }
        match self.reuse {
            Reuse::Never => return slot.retire(container),
            _ if self.has_hook && !container.shared().may_be_lent_again() => return slot.retire(container),
            _ if self.has_hook => return slot.clean(container),
            Reuse::AsIs => {}
            Reuse::Clean if container.shared().is_untouched() => {}
            Reuse::Clean if !container.shared().may_be_lent_again() => return slot.retire(container),
            Reuse::Clean => return slot.clean(container),
        }
        let lifetime = self.watched.as_ref().and_then(|watched| watched.lifetime.as_ref());
        if let Some(lifetime) = lifetime {
            lifetime.before_idle(container.shared());
        }
        container.shared().end_lease();
        container.shared().end_lease_value();
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
