//! Plain values that every room uses: labels of containers, the end of a command, the counts of a pool.

pub(crate) mod amounts;
pub(crate) mod backoff;
pub(crate) mod checked;
pub(crate) mod command_options;
pub mod labels;
pub(crate) mod outcome;
pub(crate) mod owner;
pub(crate) mod shown;
pub(crate) mod signal;
pub(crate) mod status;
pub(crate) mod subject;
pub(crate) mod text;
pub(crate) mod waker;
pub(crate) mod why_gone;
