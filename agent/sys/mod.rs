//! The system calls, by kind. With `start.rs` this is all of the agent's unsafe code.

mod attempt;
mod call;
mod file;
mod ipc;
mod keys;
mod memory;
mod priority;
mod process;
mod signal;
mod stream;

pub use attempt::*;
pub use file::*;
pub use ipc::*;
pub use keys::*;
pub use memory::*;
pub use priority::*;
pub use process::*;
pub use signal::*;
pub use stream::*;

/// Says why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const PERM: Self = Self(1);
    pub const NOENT: Self = Self(2);
    pub const SRCH: Self = Self(3);
    pub const INTR: Self = Self(4);
    pub const AGAIN: Self = Self(11);
    pub const NOMEM: Self = Self(12);
    pub const ACCES: Self = Self(13);
    pub const BUSY: Self = Self(16);
    pub const EXIST: Self = Self(17);
    pub const XDEV: Self = Self(18);
    pub const NOTDIR: Self = Self(20);
    pub const ISDIR: Self = Self(21);
    pub const INVAL: Self = Self(22);
    pub const ROFS: Self = Self(30);
    pub const NAMETOOLONG: Self = Self(36);
    pub const NOTEMPTY: Self = Self(39);
    pub const LOOP: Self = Self(40);
    pub const TIME: Self = Self(62);
    pub const NOTSUP: Self = Self(95);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// An open file descriptor. The agent opens none below 3.
pub type Fd = i32;
