//! The outcome of creations so far: [`Creations`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::engine::{EngineError, EngineErrorKind};
use crate::values::status::Cgroups;

/// Remembers the outcome of creations, for those who wait for one and for those who decide about the next one.
#[derive(Default)]
pub(super) struct Creations {
    outcome: watch::Sender<Outcome>,
    /// A creation has failed, or a container died early, since [`take_failed`](Self::take_failed) was called last.
    failed: AtomicBool,
    /// The first container has the limits that were asked for.
    limits_hold: AtomicBool,
    /// Counts the refreshes.
    generation: AtomicU64,
    /// The control groups of the newest container.
    cgroups: Mutex<Cgroups>,
}

/// Counts the containers that came about, and says why the last creation failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) count: usize,
    /// The error of the last creation; none if the last one succeeded.
    pub(super) last_error: Option<EngineError>,
    /// Counts the failures.
    failures: u64,
    /// The number of the first refusal of the settings since a creation succeeded or failed for another reason.
    refused: Option<u64>,
}

/// Says which failures came before a creation began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    failures: u64,
}

impl Creations {
    pub(super) fn subscribe(&self) -> watch::Receiver<Outcome> {
        self.outcome.subscribe()
    }

    pub(super) fn last_error(&self) -> Option<EngineError> {
        self.outcome.borrow().last_error.clone()
    }

    /// Notes that a creation begins.
    pub(super) fn begin(&self) -> Begun {
        Begun {
            failures: self.outcome.borrow().failures,
        }
    }

    /// Counts a container that was created.
    pub(super) fn note_success(&self) {
        self.outcome.send_modify(|outcome| {
            outcome.count += 1;
            outcome.last_error = None;
            outcome.refused = None;
        });
    }

    /// Counts a container that was adopted, which says nothing of creations.
    pub(super) fn note_adopted(&self) {
        self.outcome.send_modify(|outcome| outcome.count += 1);
    }

    /// Notes that a creation failed. Called before the slot of the container is freed: the next creation must know of the
    /// failure.
    ///
    /// Returns whether the settings are wrong, so that a retry does not help. An engine may refuse good settings once. Where
    /// they have worked before, a refusal counts only if the creation began after another one was refused: several creations
    /// that one bad moment has failed are one refusal.
    pub(super) fn note_failure(&self, begun: Begun, error: EngineError) -> bool {
        let first = self.note(error);
        // The first refusal is this one, unless it came before.
        first.is_some_and(|first| self.outcome.borrow().count == 0 || first <= begun.failures)
    }

    /// Notes that a new container died at once, which counts as a failed creation.
    pub(super) fn note_death(&self, error: EngineError) {
        self.note(error);
    }

    /// Returns the number of the first refusal in a row, if this failure is one.
    fn note(&self, error: EngineError) -> Option<u64> {
        self.failed.store(true, Ordering::Release);
        let mut first = None;
        self.outcome.send_modify(|outcome| {
            outcome.failures += 1;
            first = is_of_settings(&error).then(|| outcome.refused.unwrap_or(outcome.failures));
            outcome.refused = first;
            outcome.last_error = Some(error);
        });
        first
    }

    /// Whether something failed since the last call.
    pub(super) fn take_failed(&self) -> bool {
        self.failed.swap(false, Ordering::AcqRel)
    }

    /// Whether the limits of the next container are to be read back.
    pub(super) fn must_look(&self) -> bool {
        !self.limits_hold.load(Ordering::Acquire)
    }

    pub(super) fn note_limits_hold(&self) {
        self.limits_hold.store(true, Ordering::Release);
    }

    /// Returns the number of the generation that containers created now belong to.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn begin_generation(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn cgroups(&self) -> Cgroups {
        *self.cgroups.lock()
    }

    pub(super) fn set_cgroups(&self, cgroups: Cgroups) {
        *self.cgroups.lock() = cgroups;
    }
}

/// Whether a creation failed because of the settings, so that each retry fails too until the settings, the image, the network
/// or the engine is changed.
fn is_of_settings(error: &EngineError) -> bool {
    use EngineErrorKind::{
        CannotStart, ImageNotFound, LimitDiscarded, NetworkNotFound, Rejected, SettingIgnored, WrongPlatform,
    };

    error.is_of_settings()
        || matches!(
            error.kind(),
            CannotStart | ImageNotFound | LimitDiscarded | NetworkNotFound | Rejected | SettingIgnored | WrongPlatform
        )
}
