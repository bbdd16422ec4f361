//! Plain values that every room uses: what containers are labelled with, how a command ended, what a pool counts.

pub(crate) mod backoff;
pub mod labels;
pub(crate) mod outcome;
pub(crate) mod owner;
pub(crate) mod shown;
pub(crate) mod status;
pub(crate) mod text;
pub(crate) mod waker;
