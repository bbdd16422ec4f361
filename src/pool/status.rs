//! A pool in numbers.

use std::fmt;

/// How many containers a pool has, and where they are, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Ready to be lent.
    pub idle: usize,
    /// Lent.
    pub in_use: usize,
    /// Being created.
    pub creating: usize,
    /// Between two leases: being removed, to be replaced.
    pub recycling: usize,
    /// How many there may be in all.
    pub max_total: usize,
    /// Acquires that wait.
    pub waiting: usize,
}

impl Status {
    /// How many there are in all; never more than [`max_total`](Self::max_total).
    pub fn total(&self) -> usize {
        self.idle + self.in_use + self.creating + self.recycling
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            idle,
            in_use,
            creating,
            recycling,
            max_total,
            waiting,
        } = self;
        write!(
            f,
            "{idle} idle, {in_use} in use, {creating} creating, {recycling} recycling, at most {max_total}; {waiting} waiting"
        )
    }
}
