//! The count of a container's commands: [`Commands`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::shared::Shared;
use super::taint::Taint;

/// Counts the commands of a container: `unfinished <= begun`.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// Commands that were begun and have not provably ended.
    unfinished: AtomicUsize,
    /// Commands that were begun, in all leases.
    begun: AtomicUsize,
    /// Whether an earlier lease began a command, which may have left processes.
    begun_earlier: AtomicBool,
    /// The part of `begun` after which the container was cleaned.
    forgotten: AtomicUsize,
    /// Notified when a command has ended and no other is unfinished.
    on_last_end: Notify,
}

impl Commands {
    /// Counts a command as begun and unfinished.
    fn begin(&self) {
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes a change of the container that was no command.
    pub(super) fn touch(&self) {
        self.begun.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a command as ended.
    fn end(&self) {
        if self.unfinished.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.on_last_end.notify_waiters();
        }
    }

    /// Waits until no command is unfinished.
    pub(super) async fn all_ended(&self) {
        loop {
            let mut ended = std::pin::pin!(self.on_last_end.notified());
            ended.as_mut().enable();
            if !self.has_unfinished() {
                return;
            }
            ended.await;
        }
    }

    /// Notes that nothing is left of all commands so far. Nobody begins a command meanwhile.
    pub(super) fn forget(&self) {
        self.forgotten.store(self.begun(), Ordering::Release);
        self.begun_earlier.store(false, Ordering::Release);
    }

    /// Notes that what was begun so far belongs to the container, and is no lease's. Returns whether there was anything.
    pub(super) fn end_setup(&self) -> bool {
        if self.is_untouched() {
            return false;
        }
        self.forgotten.store(self.begun(), Ordering::Release);
        self.begun_earlier.store(true, Ordering::Release);
        true
    }

    /// Returns whether nothing was begun since then.
    #[inline]
    pub(super) fn is_untouched(&self) -> bool {
        self.begun() == self.forgotten.load(Ordering::Acquire)
    }

    /// Notes the end of a lease.
    pub(super) fn end_lease(&self) {
        if !self.is_untouched() {
            self.begun_earlier.store(true, Ordering::Release);
        }
    }

    /// Returns how many commands were begun.
    pub(super) fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn has_unfinished(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) != 0
    }

    /// Returns whether one command is unfinished.
    pub(super) fn is_only(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) == 1
    }

    /// Returns whether one command is unfinished, and no earlier lease can have left a process.
    pub(super) fn is_single(&self) -> bool {
        self.is_only() && !self.begun_earlier.load(Ordering::Acquire)
    }
}

/// The token of a command that may still run. Dropping the token taints the container: nobody proved the command's end.
pub(crate) struct Unfinished {
    shared: Option<Arc<Shared>>,
}

impl Unfinished {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        shared.commands().begin();
        Self { shared: Some(shared) }
    }

    /// Notes that the command has provably ended.
    pub(crate) fn ended(mut self) {
        if let Some(shared) = self.shared.take() {
            shared.commands().end();
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // The command stays counted, so the container is not lent again.
        if let Some(shared) = &self.shared {
            shared.set_taint(Taint::UnknownOutcome);
        }
    }
}
