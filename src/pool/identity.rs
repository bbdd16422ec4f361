//! Names and labels: which pool a container belongs to, and which process owns it.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::engine::{ContainerReport, Selector};
use crate::values::labels;
use crate::values::owner::Owner;

/// The end of the name of a container that was never lent.
const FRESH: &str = ".fresh";

/// Precedes the owner in the name of an adopted container. The labels of that container still name the process that made it.
const OWNED_BY: &str = ".owner-";

/// The longest part of a pool's name that goes into the names of its containers, in characters.
const LONGEST_POOL: usize = 40;

/// How many characters of the instance go into the names of containers.
const INSTANCE_PART: usize = 12;

/// One pool of one process. No two containers of it get the same name.
pub(super) struct Identity {
    pub(super) pool: String,
    /// The value of the label [`labels::INSTANCE`].
    pub(super) instance: String,
    next_number: AtomicU64,
    /// Whether names tell that a container was never lent, so that another process may adopt it.
    marks_unused: bool,
}

impl Identity {
    /// Continues with `next_number` the numbers that were used for names so far.
    pub(super) fn new(pool: String, instance: String, next_number: AtomicU64, marks_unused: bool) -> Self {
        Self {
            pool,
            instance,
            next_number,
            marks_unused,
        }
    }

    /// Chooses a name. It is chosen before the engine is asked, so that an abandoned creation can be found and removed.
    pub(super) fn new_name(&self) -> String {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        numbered_name(&self.pool, &self.instance, number)
    }

    /// Chooses the name of a new container, and the name until its first lease where the two differ.
    pub(super) fn new_names(&self) -> (String, Option<String>) {
        let name = self.new_name();
        let fresh = self.marks_unused.then(|| format!("{name}{FRESH}"));
        (name, fresh)
    }

    /// Chooses the name of a container that `owner` adopts, and its name until its first lease.
    pub(super) fn adopted_names(&self, owner: &Owner) -> (String, String) {
        let name = format!("{}{OWNED_BY}{owner}", self.new_name());
        let fresh = format!("{name}{FRESH}");
        (name, fresh)
    }

    /// Returns the name of the container that is the lock of adoption, one for all pools of this name.
    pub(super) fn lock_name(&self) -> String {
        format!("{}.adopting", stem(&self.pool))
    }

    /// Selects the containers that this pool made.
    pub(super) fn own(&self) -> Selector {
        Selector::label(labels::INSTANCE, &self.instance)
    }

    /// Selects the containers of all pools of this name, in any process.
    pub(super) fn of_any_process(&self) -> Selector {
        Selector::pool(&self.pool)
    }
}

/// Returns the name of the container with this number.
pub(super) fn numbered_name(pool: &str, instance: &str, number: u64) -> String {
    format!("{}-{}-{number}", stem(pool), &instance[..INSTANCE_PART])
}

/// Whether a name says that its container was never lent.
pub(super) fn is_marked_unused(name: &str) -> bool {
    name.ends_with(FRESH)
}

/// Returns the process that owns a container now.
pub(super) fn owner_of(report: &ContainerReport) -> Option<Owner> {
    let name = report.name.strip_suffix(FRESH).unwrap_or(&report.name);
    let text = match name.split_once(OWNED_BY) {
        Some((_, owner)) => owner,
        None => report.labels.get(labels::OWNER)?,
    };
    text.parse().ok()
}

/// Returns how the names of a pool's containers begin.
fn stem(pool: &str) -> String {
    // Engines take letters, digits, `_`, `.` and `-`.
    let pool: String = pool
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(LONGEST_POOL)
        .collect();
    format!("dockerpool-{pool}")
}
