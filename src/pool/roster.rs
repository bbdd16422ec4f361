//! The containers of a pool by the engine's ids: [`Roster`].

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::container::Shared;
use crate::engine::EngineError;

/// Finds the containers that the engine's events and lists name. Keeps no container alive.
#[derive(Default)]
pub(super) struct Roster {
    /// Every container that may be alive, by id.
    known: Mutex<HashMap<String, Weak<Shared>>>,
    /// The ids of the containers that were adopted and not removed yet. They carry the labels of another instance.
    adopted: Mutex<HashSet<String>>,
}

impl Roster {
    pub(super) fn add(&self, container: &Arc<Shared>) {
        let id = container.id().to_owned();
        self.known.lock().insert(id, Arc::downgrade(container));
    }

    pub(super) fn add_adopted(&self, container: &Arc<Shared>) {
        self.add(container);
        self.adopted.lock().insert(container.id().to_owned());
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Shared>> {
        self.known.lock().get(id)?.upgrade()
    }

    /// Forgets a container, which was removed or whose removal was given up.
    pub(super) fn forget(&self, id: &str) -> Option<Arc<Shared>> {
        self.known.lock().remove(id)?.upgrade()
    }

    /// Forgets that a container was adopted: the engine has confirmed its removal.
    pub(super) fn forget_adopted(&self, id: &str) {
        self.adopted.lock().remove(id);
    }

    pub(super) fn ids(&self) -> Vec<String> {
        self.known.lock().keys().cloned().collect()
    }

    /// Calls `visit` with each container, under the lock.
    pub(super) fn for_each(&self, visit: impl FnMut(Arc<Shared>)) {
        self.known.lock().values().filter_map(Weak::upgrade).for_each(visit);
    }

    /// Returns the containers on loan, each with its acquire site.
    pub(super) fn leases(&self) -> Vec<(Arc<Shared>, &'static Location<'static>)> {
        let mut leases = Vec::new();
        self.for_each(|shared| {
            if let Some(site) = shared.life.lent_at() {
                leases.push((shared, site));
            }
        });
        leases
    }

    /// Returns what the container that was started first of those being created still waits for. `None`: none waits.
    pub(super) fn not_ready_yet(&self) -> Option<EngineError> {
        let mut oldest: Option<Arc<Shared>> = None;
        self.for_each(|shared| {
            let is_older = oldest.as_ref().is_none_or(|oldest| shared.started() < oldest.started());
            if shared.is_waited_for() && is_older {
                oldest = Some(shared);
            }
        });
        oldest?.not_ready_yet()
    }

    /// Returns whether `which` holds for a container, asked under the lock.
    pub(super) fn any(&self, which: impl Fn(&Shared) -> bool) -> bool {
        let known = self.known.lock();
        known
            .values()
            .filter_map(Weak::upgrade)
            .any(|container| which(&container))
    }

    pub(super) fn has_adopted(&self) -> bool {
        !self.adopted.lock().is_empty()
    }

    pub(super) fn take_adopted(&self) -> HashSet<String> {
        std::mem::take(&mut *self.adopted.lock())
    }

    /// Undoes [`take_adopted`](Self::take_adopted) for these ids, and adds others whose removal is not confirmed.
    pub(super) fn put_back_adopted(&self, ids: impl IntoIterator<Item = String>) {
        self.adopted.lock().extend(ids);
    }
}
