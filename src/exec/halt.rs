//! The switch that ends a command: [`Halt`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::container::Taint;
use crate::values::outcome::ExitStatus;

/// Why a command is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    TimedOut,
    /// The command printed nothing for too long.
    IdleTimedOut,
    /// The command printed more than this many bytes.
    OutputLimit {
        limit: u64,
        is_default: bool,
    },
    /// Nobody waits for the command any more.
    Dropped,
    /// The caller asked for it.
    Killed,
}

impl Stop {
    pub(super) fn taint(self) -> Taint {
        match self {
            Self::TimedOut | Self::IdleTimedOut => Taint::TimedOut,
            Self::OutputLimit { .. } => Taint::OutputLimit,
            Self::Dropped => Taint::Cancelled,
            Self::Killed => Taint::Killed,
        }
    }

    pub(super) fn status(self) -> ExitStatus {
        match self {
            Self::TimedOut => ExitStatus::TimedOut,
            Self::IdleTimedOut => ExitStatus::IdleTimedOut,
            Self::OutputLimit { limit, is_default } => ExitStatus::OutputLimit { limit, is_default },
            Self::Dropped | Self::Killed => ExitStatus::Killed,
        }
    }
}

/// The switch that ends a command, and what is known of its end. The first reason counts.
#[derive(Debug)]
pub(super) struct Halt {
    reason: watch::Sender<Option<Stop>>,
    /// The command has ended by itself, and its output is still on its way.
    command_ended: AtomicBool,
    /// The end of the output was seen.
    whole: AtomicBool,
    finished: CancellationToken,
}

impl Halt {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            reason: watch::Sender::new(None),
            command_ended: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            finished: CancellationToken::new(),
        })
    }

    pub(super) fn request(&self, stop: Stop) {
        self.reason.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert(stop);
            first
        });
    }

    pub(super) fn set_finished(&self) {
        self.finished.cancel();
    }

    /// Returns whether the command's end is known.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.is_cancelled()
    }

    /// Resolves when the command's end is known.
    pub(super) fn finished(&self) -> WaitForCancellationFutureOwned {
        self.finished.clone().cancelled_owned()
    }

    pub(super) fn set_command_ended(&self) {
        self.command_ended.store(true, Ordering::Release);
    }

    /// Returns whether the command is known to have ended by itself, though its output may not have.
    pub(super) fn has_command_ended(&self) -> bool {
        self.command_ended.load(Ordering::Acquire)
    }

    pub(super) fn set_whole(&self, is_whole: bool) {
        self.whole.store(is_whole, Ordering::Release);
    }

    /// Returns whether the end of the output was seen. Settled before a reader sees the end, and before the command's end is known.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Returns whether the output broke off though no halt was requested.
    pub(super) fn broke_off(&self) -> bool {
        !self.is_whole() && self.reason().is_none()
    }

    /// Returns the reason for the halt, if one was requested.
    pub(super) fn reason(&self) -> Option<Stop> {
        *self.reason.borrow()
    }

    /// Resolves when a halt is requested. Requests one itself at the deadline.
    pub(super) async fn requested_or_at(&self, deadline: Option<Instant>) -> Stop {
        let Some(deadline) = deadline else {
            return self.requested().await;
        };
        tokio::select! {
            biased;
            stop = self.requested() => stop,
            () = sleep_until(deadline) => {
                // A command that has ended in time is not late, even if its output is.
                if !self.has_command_ended() {
                    self.request(Stop::TimedOut);
                }
                self.requested().await
            }
        }
    }

    pub(super) async fn requested(&self) -> Stop {
        let mut reason = self.reason.subscribe();
        // `self` holds the sender, so the wait cannot fail.
        match reason.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(stop)) => stop,
            _ => std::future::pending().await,
        }
    }
}
