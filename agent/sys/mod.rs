//! The system calls, by kind. With `start.rs` it has all of the agent's unsafe code.

mod call;
mod file;
mod memory;
mod priority;
mod process;
mod signal;
mod stream;

pub use file::*;
pub use memory::*;
pub use priority::*;
pub use process::*;
pub use signal::*;
pub use stream::*;

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const PERM: Self = Self(1);
    pub const NOENT: Self = Self(2);
    pub const SRCH: Self = Self(3);
    pub const INTR: Self = Self(4);
    pub const AGAIN: Self = Self(11);
    pub const ACCES: Self = Self(13);
    pub const ISDIR: Self = Self(21);
    pub const INVAL: Self = Self(22);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// An open descriptor. Never 0 to 2 for anything the agent has opened itself.
pub type Fd = i32;
