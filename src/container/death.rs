//! The facts about the end of a container: [`Death`].

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

/// The exit code of a PID 1 that was killed by SIGKILL.
pub(crate) const KILLED: i64 = 137;

/// Gathers what the engine, the pool and the library itself tell of a container's end. Kills for memory are counted elsewhere, and
/// wake those who listen here too.
#[derive(Debug, Default)]
pub(crate) struct Death {
    facts: Mutex<Facts>,
    told: Notify,
}

/// The facts so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts {
    /// The engine has told of the end.
    pub(crate) has_died: bool,
    /// PID 1's exit code, if the engine has told it.
    pub(crate) exit_code: Option<i64>,
    /// When it was told last that somebody had the engine signal PID 1.
    pub(crate) killed: Option<Instant>,
    /// The engine has told of the removal.
    pub(crate) is_removed: bool,
    /// The library itself kills or removes the container.
    pub(crate) by_library: bool,
    /// When the connection to the engine was lost last.
    pub(crate) engine_lost: Option<Instant>,
}

impl Death {
    pub(crate) fn facts(&self) -> Facts {
        *self.facts.lock()
    }

    /// Notes that the engine has told of the end.
    pub(super) fn note_end(&self, exit_code: Option<i64>) {
        self.note(|facts| {
            facts.has_died = true;
            facts.exit_code = facts.exit_code.or(exit_code);
        });
    }

    /// Notes that the engine has told of the removal.
    pub(super) fn note_removal(&self) {
        self.note(|facts| facts.is_removed = true);
    }

    /// Notes that somebody had the engine signal PID 1.
    pub(super) fn note_kill(&self) {
        self.note(|facts| facts.killed = Some(Instant::now()));
    }

    /// Notes that the library kills or removes the container.
    pub(crate) fn note_by_library(&self) {
        self.note(|facts| facts.by_library = true);
    }

    /// Notes that the connection to the engine was lost just now.
    pub(crate) fn note_engine_lost(&self) {
        self.note(|facts| facts.engine_lost = Some(Instant::now()));
    }

    /// Forgets everything, since the container is started again.
    pub(super) fn forget(&self) {
        *self.facts.lock() = Facts::default();
    }

    /// Wakes those who listen.
    pub(super) fn wake(&self) {
        self.told.notify_waiters();
    }

    /// Resolves at the next fact that is told after this call.
    pub(crate) fn next_fact(&self) -> Notified<'_> {
        self.told.notified()
    }

    fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.facts.lock());
        self.wake();
    }
}
