//! The switch that ends a command: [`Halt`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::container::Taint;
use crate::values::outcome::ExitStatus;

/// Why a command is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    TimedOut,
    /// It printed nothing for too long.
    IdleTimedOut,
    /// It printed more than this many bytes.
    OutputLimit {
        limit: u64,
        is_default: bool,
    },
    /// Nobody waits for it any more.
    Dropped,
    /// On request.
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

/// The switch that ends a command. The first reason counts.
#[derive(Debug)]
pub(super) struct Halt {
    reason: watch::Sender<Option<Stop>>,
    /// The command has ended by itself, and its output is still on its way.
    pub(super) command_ended: AtomicBool,
    /// All of the output has come.
    pub(super) whole: AtomicBool,
    pub(super) finished: AtomicBool,
}

impl Halt {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            reason: watch::Sender::new(None),
            command_ended: AtomicBool::new(false),
            whole: AtomicBool::new(false),
            finished: AtomicBool::new(false),
        })
    }

    pub(super) fn request(&self, stop: Stop) {
        self.reason.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert(stop);
            first
        });
    }

    /// Whether the command's end is known.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// Whether the command is known to have ended by itself, though its output may not have.
    pub(super) fn has_command_ended(&self) -> bool {
        self.command_ended.load(Ordering::Acquire)
    }

    /// Whether the end of the output was seen. Known when a reader is told of that, and when the command's end is known.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether the output ended before its end without anybody having asked for that.
    pub(super) fn broke_off(&self) -> bool {
        !self.is_whole() && self.reason().is_none()
    }

    /// What was requested, if anything.
    pub(super) fn reason(&self) -> Option<Stop> {
        *self.reason.borrow()
    }

    /// Comes when a halt is requested; requests one itself at the deadline.
    pub(super) async fn requested_or_at(&self, deadline: Option<Instant>) -> Stop {
        let Some(deadline) = deadline else {
            return self.requested().await;
        };
        tokio::select! {
            biased;
            stop = self.requested() => stop,
            () = sleep_until(deadline) => {
                // One that has ended in time is not late because its output is.
                if !self.has_command_ended() {
                    self.request(Stop::TimedOut);
                }
                self.requested().await
            }
        }
    }

    pub(super) async fn requested(&self) -> Stop {
        let mut reason = self.reason.subscribe();
        // The sender is our own: the wait cannot fail. Should it, nothing is ever requested.
        match reason.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(stop)) => stop,
            _ => std::future::pending().await,
        }
    }
}
