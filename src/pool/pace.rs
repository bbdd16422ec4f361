//! When to create again after failures.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::values::backoff::Backoff;

/// Without a failure for this long, the back-off begins anew.
const FORGIVEN: Duration = Duration::from_secs(10);

/// When to create again after failures.
#[derive(Default)]
pub(super) struct Pace {
    backoff: Backoff,
    last_failure: Option<Instant>,
    /// Nothing is created before this.
    pub(super) resume_at: Option<Instant>,
}

impl Pace {
    pub(super) fn failed(&mut self) {
        let now = Instant::now();
        self.last_failure = Some(now);
        // Several that failed together count as one failure.
        if self.resume_at.is_none() {
            self.resume_at = Some(now + self.backoff.next_delay());
        }
    }

    pub(super) fn succeeded(&mut self) {
        // One that starts well and dies at once is no better than one that fails.
        if self.last_failure.is_none_or(|at| at.elapsed() > FORGIVEN) {
            self.backoff.reset();
        }
    }
}

pub(super) async fn until_or_never(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
