//! Signals, sent and received.

use super::call::{call, memory_call};
use super::file::{O_CLOEXEC, O_NONBLOCK, OwnedFd};
use super::process::{Pid1, REFUSED, exit, getpid};
use super::{Errno, Fd, Result};

pub const SIGKILL: i32 = 9;
pub const SIGPIPE: i32 = 13;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;
pub const SIGCONT: i32 = 18;
pub const SIGSTOP: i32 = 19;

/// The bytes of a set of signals.
const SET: usize = 8;

/// Sends a signal to every process but this one. `Err(SRCH)` proves that there is none, zombies included.
pub fn kill_everything(_: &Pid1, signal: i32) -> Result<()> {
    // A forked child has a copy of the `Pid1`.
    if getpid() != 1 {
        exit(REFUSED);
    }
    call!(KILL, -1i32, signal).map(drop)
}

/// Sends a signal to one process.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    if pid <= 1 {
        return Err(Errno::SRCH);
    }
    call!(KILL, pid, signal).map(drop)
}

/// Sends a signal to a process group.
pub fn kill_group(pgid: i32, signal: i32) -> Result<()> {
    if pgid <= 1 {
        return Err(Errno::SRCH);
    }
    call!(KILL, -pgid, signal).map(drop)
}

fn set_of(signals: &[i32]) -> u64 {
    signals.iter().fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Blocks these signals, and returns the mask from before.
pub fn block_signals(signals: &[i32]) -> u64 {
    const SIG_BLOCK: usize = 0;
    let (set, mut old) = (set_of(signals), 0u64);
    // SAFETY: the kernel reads one set and writes another, both of `SET` bytes.
    let _ = unsafe { memory_call!(RT_SIGPROCMASK, SIG_BLOCK, &raw const set, &raw mut old, SET) };
    old
}

pub fn set_signal_mask(mask: u64) {
    const SIG_SETMASK: usize = 2;
    // SAFETY: the kernel reads a set of `SET` bytes, and writes none.
    let _ = unsafe { memory_call!(RT_SIGPROCMASK, SIG_SETMASK, &raw const mask, 0, SET) };
}

/// Opens a file descriptor from which these signals, which are blocked, can be read.
pub fn signal_fd(signals: &[i32]) -> Result<OwnedFd> {
    let (set, flags) = (set_of(signals), O_CLOEXEC | O_NONBLOCK);
    // SAFETY: the kernel reads a set of `SET` bytes.
    unsafe { memory_call!(SIGNALFD4, -1i32, &raw const set, SET, flags) }.map(OwnedFd::opened)
}

/// Reads one signal from such a file descriptor: its number, and whether it came from outside of the container.
pub fn next_signal(fd: Fd) -> Option<(i32, bool)> {
    let mut info = [0u32; 32];
    // SAFETY: the kernel writes at most the 128 bytes of `info`.
    let len = unsafe { memory_call!(READ, fd, info.as_mut_ptr(), size_of_val(&info)) }.ok()?;
    // A `kill` (code 0) whose sender has no pid here. Nobody within can forge a code of 0. But the kernel forgets the sender where
    // too many signals of a user are pending, and then a signal from within looks the same.
    (len == size_of_val(&info)).then_some((info[0] as i32, info[2] == 0 && info[3] == 0))
}
