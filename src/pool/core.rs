//! What the pool and its background tasks share.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::idle::{Idle, Judge};
use super::lifetime::Lifetime;
use super::watchdog::Watchdog;
use crate::container::{Container, Running, Shared};
use crate::engine::{ContainerSpec, Engine, EngineError, EngineErrorKind, Selector};
use crate::error::{Error, ErrorFn};
use crate::runtime::Home;
use crate::values::labels;
use crate::values::status::Cgroups;
use crate::values::text;

/// How many warnings about one container are taken.
const MAX_WARNINGS_OF_ONE: usize = 16;

/// How many texts of warnings are remembered. In place of the last one the user is told that there are no more.
const MAX_WARNINGS: usize = 256;
const MAX_WARNING_BEFORE_LAST: usize = MAX_WARNINGS - 1;
const NO_MORE_WARNINGS: &str = "the engine has given too many warnings; no more of them are told";

pub(super) type Item = Container<Running>;

/// What a container is good for, between leases.
pub(super) const JUDGE: Judge<Item> = Judge {
    is_usable: Item::is_usable,
    is_outdated: |item| item.shared().life.is_outdated(),
};

/// Shares state between the pool and its background tasks.
pub(super) struct Background {
    pub(super) pool: String,
    pub(super) instance: String,
    pub(super) engine: Arc<dyn Engine>,
    pub(super) spec: Arc<ContainerSpec>,
    pub(super) call_timeout: Duration,
    pub(super) runtime: Home,
    pub(super) idle: Arc<Idle<Item>>,
    /// What came of creations so far.
    pub(super) created: watch::Sender<Created>,
    /// By when a shutdown stops waiting for leases.
    pub(super) leases_until: watch::Sender<Option<Instant>>,
    /// Every container that is alive for all we know, by id; for the events, which name it so.
    pub(super) known: Mutex<HashMap<String, Weak<Shared>>>,
    pub(super) next_name: AtomicU64,
    /// Counts the refreshes.
    pub(super) generation: AtomicU64,
    pub(super) lifetime: Option<Arc<Lifetime>>,
    pub(super) watchdog: Option<Arc<Watchdog>>,
    /// Whether a container's name tells that it was never lent, so that another process may adopt it.
    pub(super) marks_unused: bool,
    /// The ids of those that were adopted and not removed yet: another instance's labels are on them.
    pub(super) adopted: Mutex<HashSet<String>>,
    /// How many are removed at once.
    pub(super) max_removing: usize,
    pub(super) removing: Semaphore,
    /// Neither panics nor blocks, whatever the user's function does.
    pub(super) on_error: ErrorFn,
    /// The first container has the limits that were asked for.
    pub(super) limits_hold: AtomicBool,
    /// What the engine has said of containers so far.
    pub(super) warned: Mutex<HashSet<String>>,
    /// What the newest container has.
    pub(super) cgroups: Mutex<Cgroups>,
    /// A creation has failed, or a container died early, since this was last looked at. Set before its slot is free: whoever
    /// takes that must know of the failure.
    pub(super) creation_failed: AtomicBool,
}

/// What came of creations so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Created {
    pub(super) count: usize,
    /// Why the last one failed, if the last one did.
    pub(super) last_error: Option<EngineError>,
}

/// How the pool's end went.
#[derive(Clone, Debug)]
pub(super) enum Finished {
    NotYet,
    Clean,
    Incomplete(Option<EngineError>),
}

impl Finished {
    pub(super) fn is_finished(&self) -> bool {
        !matches!(self, Self::NotYet)
    }

    pub(super) fn result(&self) -> Result<(), Option<EngineError>> {
        match self {
            Self::Incomplete(error) => Err(error.clone()),
            Self::NotYet | Self::Clean => Ok(()),
        }
    }
}

impl Background {
    pub(super) fn begin_shutdown(&self, wait_for_leases: Duration) {
        let until = self.runtime.now().checked_add(wait_for_leases);
        self.leases_until.send_if_modified(|known| {
            let earlier = match (*known, until) {
                (_, None) => false,
                (None, Some(_)) => true,
                (Some(known), Some(until)) => until < known,
            };
            if earlier {
                *known = until;
            }
            earlier
        });
        self.idle.close();
    }

    pub(super) fn last_create_error(&self) -> Option<EngineError> {
        self.created.borrow().last_error.clone()
    }

    /// Tells the user of an error that no call of theirs can return.
    pub(super) fn report(&self, error: Error) {
        (self.on_error)(error);
    }

    /// Tells the user what the engine says of a container: each text once, and no more of them than anybody reads.
    pub(super) fn warn(&self, container: &str, mut warnings: Vec<String>) {
        warnings.truncate(MAX_WARNINGS_OF_ONE);
        for warning in warnings {
            let warning = {
                let mut warned = self.warned.lock();
                match warned.len() {
                    MAX_WARNINGS.. => return,
                    _ if !warned.insert(text::clean(&warning).into_owned()) => continue,
                    MAX_WARNING_BEFORE_LAST => NO_MORE_WARNINGS.to_owned(),
                    _ => warning,
                }
            };
            let warning = EngineError::new(EngineErrorKind::Warning, warning);
            tracing::warn!(pool = self.pool, container, %warning, "the engine warns of a container");
            self.report(Error::engine(
                "create the container without a warning",
                Some(container),
                warning,
            ));
        }
    }

    /// What this pool has made.
    pub(super) fn selector(&self) -> Selector {
        Selector::label(labels::INSTANCE, &self.instance)
    }

    /// What this pool has, and perhaps more: what it has adopted has the labels of another instance.
    pub(super) fn wide_selector(&self) -> Selector {
        if self.adopted.lock().is_empty() {
            self.selector()
        } else {
            Selector::pool(&self.pool)
        }
    }

    /// The engine's events are about it from now on.
    pub(super) fn know(&self, container: &Arc<Shared>) {
        self.known
            .lock()
            .insert(container.id().to_owned(), Arc::downgrade(container));
    }

    /// Chosen before the call, so that an abandoned creation can be found and removed.
    pub(super) fn new_name(&self) -> String {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        numbered_name(&self.pool, &self.instance, number)
    }
}

/// How the names of a pool's containers begin.
pub(super) fn name_of(pool: &str) -> String {
    // The engine takes letters, digits, `_`, `.` and `-`.
    let pool: String = pool
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(40)
        .collect();
    format!("dockerpool-{pool}")
}

/// The name of a container of the pool, by its number.
pub(super) fn numbered_name(pool: &str, instance: &str, number: u64) -> String {
    format!("{}-{}-{number}", name_of(pool), &instance[..12])
}

/// Tells what a background task has done.
pub(super) enum Done {
    Created,
    NotCreated,
    Removed,
}
