//! When to create again after failures: [`Pace`].

use std::time::Duration;

use tokio::time::Instant;

use crate::values::backoff::Backoff;

/// After this long without a failure, the back-off begins anew.
const FORGIVEN: Duration = Duration::from_secs(10);

/// The pauses of one pool after failed creations.
#[derive(Default)]
pub(super) struct Pace {
    backoff: Backoff,
    last_failure: Option<Instant>,
    resume_at: Option<Instant>,
}

impl Pace {
    /// Returns the end of the pause. `None`: creations may begin now.
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    pub(super) fn resume(&mut self) {
        self.resume_at = None;
    }

    pub(super) fn failed(&mut self) {
        let now = Instant::now();
        self.last_failure = Some(now);
        // Several creations that fail during one pause count as one failure.
        if self.resume_at.is_none() {
            self.resume_at = Some(now + self.backoff.next_delay());
        }
    }

    pub(super) fn succeeded(&mut self) {
        // A container that starts well and dies at once is no better than one that fails.
        if self.last_failure.is_none_or(|at| at.elapsed() > FORGIVEN) {
            self.backoff.reset();
        }
    }
}
