//! The kernel's kills for memory, as the engine reports them: [`MemoryKills`].

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

/// How many events an engine repeats to a client that asks for past events: Docker keeps the last 256.
const REPEATED: usize = 256;

/// Counts the kills that the engine has reported.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OomKills {
    pub(crate) count: u64,
    /// Kills that were reported while one command ran and no earlier lease can have left a process: the kernel killed a process
    /// of that command, or of its lease.
    pub(crate) of_single_command: u64,
}

/// The kills of one container, each counted once: `of_single_command <= count`.
#[derive(Debug, Default)]
pub(super) struct MemoryKills(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    kills: OomKills,
    /// The times of the last kills, by the engine's clock. The engine may report a kill several times. A repeated report has the
    /// same time; a later time proves nothing, since that clock may be set back.
    reported: VecDeque<SystemTime>,
}

impl MemoryKills {
    pub(super) fn so_far(&self) -> OomKills {
        self.0.lock().kills
    }

    /// Counts a kill. Returns `false` for a report of a kill that is counted already.
    pub(super) fn note(&self, at: Option<SystemTime>, is_single_command: impl FnOnce() -> bool) -> bool {
        let mut log = self.0.lock();
        if let Some(at) = at {
            if log.reported.contains(&at) {
                return false;
            }
            if log.reported.len() == REPEATED {
                log.reported.pop_front();
            }
            log.reported.push_back(at);
        }
        log.kills.count += 1;
        if is_single_command() {
            log.kills.of_single_command += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_repeated_report_counts_once_and_a_clock_that_was_set_back_hides_no_kill() {
        let kills = MemoryKills::default();
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert!(kills.note(at(20), || true));
        assert!(!kills.note(at(20), || true));
        assert!(kills.note(at(10), || false), "the clock was set back");
        assert!(!kills.note(at(20), || true), "the report of the first kill is repeated");
        let so_far = kills.so_far();
        assert_eq!((so_far.count, so_far.of_single_command), (2, 1));
    }
}
