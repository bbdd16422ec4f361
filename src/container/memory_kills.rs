//! Kills for memory of which the engine tells.

use std::collections::VecDeque;
use std::time::SystemTime;

/// How many events an engine tells again, to whoever asks what was before: Docker keeps the last 256.
pub(super) const TOLD_AGAIN: usize = 256;

/// Kills for memory of which the engine has told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OomKills {
    pub(crate) count: u64,
    /// Those that came while one command was there, and no earlier lease can have left anything: it was a process of that
    /// command, or of its lease.
    pub(crate) of_single_command: u64,
}

#[derive(Debug, Default)]
pub(super) struct OomLog {
    pub(super) kills: OomKills,
    /// When the last ones were, by the engine's clock: it may tell of the same one several times. They are known by being
    /// the same and not by being late, since that clock may be set back.
    pub(super) told: VecDeque<SystemTime>,
}
