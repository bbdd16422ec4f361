//! Signals, sent and received.

use super::call::call;
use super::file::{O_CLOEXEC, O_NONBLOCK};
use super::process::{Pid1, getpid};
use super::{Errno, Fd, Result, exit};

pub const SIGKILL: i32 = 9;
pub const SIGPIPE: i32 = 13;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;
pub const SIGCONT: i32 = 18;
pub const SIGSTOP: i32 = 19;

/// Signals every process but this one; `Err(SRCH)` proves that there is none, not even one that was not waited for.
pub fn kill_everything(_: &Pid1, signal: i32) -> Result<()> {
    // Once more, although a `Pid1` cannot be had elsewhere: a forked child has a copy of it.
    if getpid() != 1 {
        exit(125);
    }
    call!(KILL, -1i32 as isize, signal).map(drop)
}

/// Signals one process.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    if pid <= 1 {
        return Err(Errno::SRCH);
    }
    call!(KILL, pid, signal).map(drop)
}

/// Signals a process group.
pub fn kill_group(pgid: i32, signal: i32) -> Result<()> {
    if pgid <= 1 {
        return Err(Errno::SRCH);
    }
    call!(KILL, -pgid as isize, signal).map(drop)
}

/// Blocks these signals; gives the mask from before.
pub fn block_signals(signals: &[i32]) -> u64 {
    let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
    let mut old = 0u64;
    let _ = call!(RT_SIGPROCMASK, 0, &raw const set, &raw mut old, 8);
    old
}

pub fn set_signal_mask(mask: u64) {
    let _ = call!(RT_SIGPROCMASK, 2, &raw const mask, 0, 8);
}

/// A descriptor that tells of these (blocked) signals.
pub fn signal_fd(signals: &[i32]) -> Result<Fd> {
    let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
    call!(SIGNALFD4, -1i32 as isize, &raw const set, 8, O_CLOEXEC | O_NONBLOCK).map(|fd| fd as Fd)
}

/// One signal from such a descriptor: which, and whether it came from outside of the container.
pub fn next_signal(fd: Fd) -> Option<(i32, bool)> {
    let mut info = [0u32; 32];
    let len = call!(READ, fd, info.as_mut_ptr(), 128).ok()?;
    // A `kill` (code 0) whose sender has no pid here. A code of 0 cannot be forged from within.
    (len == 128).then_some((info[0] as i32, info[2] == 0 && info[3] == 0))
}
