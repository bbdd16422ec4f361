//! The state that the pool and its background tasks share: [`Core`], one part for each concern.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::backend::Backend;
use super::creations::Creations;
use super::ending::Ending;
use super::hooks::Hooks;
use super::identity::Identity;
use super::idle::Idle;
use super::item::Item;
use super::kept::Kept;
use super::lifetime::{Lifetime, Lifetimes};
use super::report::Reporter;
use super::reuse::Reuse;
use super::roster::Roster;
use super::watchdog::Watchdog;
use crate::container::{GIVE_UP, Removal};
use crate::engine::{EngineError, Selector};

/// Holds no [`Pool`](super::Pool), so that background tasks do not keep a pool alive.
pub(super) struct Core {
    pub(super) identity: Identity,
    pub(super) backend: Backend,
    pub(super) reporter: Reporter,
    pub(super) idle: Arc<Idle<Item>>,
    /// The containers that wait for the next lease of the same key.
    pub(super) kept: Arc<Kept>,
    /// What is done with a container after its lease, if nothing speaks against its reuse.
    pub(super) reuse: Reuse,
    pub(super) hooks: Hooks,
    pub(super) uncleans: Uncleans,
    pub(super) roster: Roster,
    pub(super) creations: Creations,
    pub(super) removals: Removals,
    pub(super) deadlines: Deadlines,
    pub(super) ending: Ending,
}

impl Core {
    /// Selects the containers that this pool has, and perhaps more: adopted ones carry the labels of another instance.
    pub(super) fn selector(&self) -> Selector {
        match self.roster.has_adopted() {
            true => self.identity.of_any_process(),
            false => self.identity.own(),
        }
    }

    /// Ends the pool: at once for all but the leases, and for them after `wait_for_leases`.
    pub(super) fn begin_shutdown(&self, wait_for_leases: Duration) {
        let until = self.backend.runtime.now().checked_add(wait_for_leases);
        self.ending.ask(until);
        self.idle.close();
        if wait_for_leases.is_zero() {
            return;
        }
        for (shared, site) in self.roster.leases() {
            let (pool, container) = (&self.identity.pool, shared.name());
            tracing::info!(pool, container, acquired_at = %site, "the shutdown waits for a lease");
        }
    }

    /// Ends the leases for which the shutdown waits no longer. Their containers are removed by the sweep.
    pub(super) fn give_up_leases(&self) {
        for (shared, site) in self.roster.leases() {
            let (pool, container) = (&self.identity.pool, shared.name());
            tracing::warn!(pool, container, acquired_at = %site, "a lease did not end by the end of the shutdown: its container is removed");
            // Commands of the lease learn why their container is gone.
            shared.life.set_shut_down();
        }
    }
}

/// Limits how long containers and leases last.
pub(super) struct Deadlines {
    /// `None` where nothing was asked for.
    pub(super) lifetime: Option<Arc<Lifetime>>,
    /// The limit on each lease.
    pub(super) max_lease: Option<Duration>,
    pub(super) watchdog: Arc<Watchdog>,
}

impl Deadlines {
    pub(super) fn new(limits: Lifetimes) -> Self {
        Self {
            lifetime: Lifetime::new(limits),
            max_lease: limits.max_lease,
            watchdog: Watchdog::new(),
        }
    }
}

/// Bounds how many containers are removed at once.
pub(super) struct Removals {
    pub(super) max_at_once: usize,
    permits: Semaphore,
}

impl Removals {
    pub(super) fn new(max_at_once: usize) -> Self {
        Self {
            max_at_once,
            permits: Semaphore::new(max_at_once.min(Semaphore::MAX_PERMITS)),
        }
    }

    /// Removes a container, in turn. Retries until the engine confirms the removal, or [`GIVE_UP`] has passed.
    pub(super) async fn run(&self, removal: Removal) -> Result<(), EngineError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        removal.persist(GIVE_UP).await
    }
}

/// Remembers why a container could not be proven to be clean.
#[derive(Default)]
pub(super) struct Uncleans(Mutex<Option<EngineError>>);

impl Uncleans {
    pub(super) fn note(&self, error: EngineError) {
        *self.0.lock() = Some(error);
    }

    pub(super) fn last(&self) -> Option<EngineError> {
        self.0.lock().clone()
    }
}
