//! Limits and priorities of a process.

use super::Result;
use super::call::{call, memory_call};

/// The soft and the hard limit of a resource.
pub type Limit = [u64; 2];

/// Returns a limit of this process.
pub fn limit(which: usize) -> Limit {
    let mut limit = Limit::default();
    // SAFETY: the kernel writes two numbers of 8 bytes, and reads none.
    let _ = unsafe { memory_call!(PRLIMIT64, 0, which, 0, limit.as_mut_ptr()) };
    limit
}

/// Returns all limits of this process, each as two numbers of 8 bytes.
pub fn all_limits() -> [u8; 256] {
    let mut all = [0; 256];
    for (which, bytes) in all.chunks_exact_mut(16).enumerate() {
        let [soft, hard] = limit(which);
        bytes[..8].copy_from_slice(&soft.to_ne_bytes());
        bytes[8..].copy_from_slice(&hard.to_ne_bytes());
    }
    all
}

/// Sets a limit of this process.
pub fn set_limit(which: usize, limit: &Limit) -> Result<()> {
    // SAFETY: the kernel reads two numbers of 8 bytes, and writes none.
    unsafe { memory_call!(PRLIMIT64, 0, which, limit.as_ptr(), 0) }.map(drop)
}

/// Describes how a process is scheduled, in the kernel's layout (`sched_attr`).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scheduling {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub least: u32,
    pub most: u32,
}

/// Returns how this process is scheduled.
pub fn scheduling() -> Result<Scheduling> {
    let mut attr = Scheduling::default();
    // SAFETY: the kernel writes at most as many bytes as it is told that `attr` has.
    unsafe { memory_call!(SCHED_GETATTR, 0, &raw mut attr, size_of::<Scheduling>(), 0) }?;
    Ok(attr)
}

/// Sets how this process is scheduled.
pub fn set_scheduling(wanted: &Scheduling) -> Result<()> {
    let mut attr = Scheduling {
        size: wanted.size.min(size_of::<Scheduling>() as u32),
        ..*wanted
    };
    // SAFETY: the kernel reads as many bytes as `size` says, which are not more than `attr` has. A kernel that knows fewer
    // writes its own size there.
    unsafe { memory_call!(SCHED_SETATTR, 0, &raw mut attr, 0) }.map(drop)
}

/// A bit for each processor. On a machine with more than 1024 the kernel refuses the call.
pub type Processors = [u64; 16];

pub const ALL_PROCESSORS: Processors = [u64::MAX; 16];

/// Returns the processors that this process may run on.
pub fn processors() -> Result<Processors> {
    let mut mask = Processors::default();
    // SAFETY: the kernel writes at most the bytes of `mask`.
    unsafe { memory_call!(SCHED_GETAFFINITY, 0, size_of_val(&mask), mask.as_mut_ptr()) }?;
    Ok(mask)
}

/// Sets the processors that this process may run on.
pub fn set_processors(mask: &Processors) -> Result<()> {
    // SAFETY: the kernel reads at most the bytes of `mask`.
    unsafe { memory_call!(SCHED_SETAFFINITY, 0, size_of_val(mask), mask.as_ptr()) }.map(drop)
}

const IOPRIO_WHO_PROCESS: usize = 1;

/// Returns the class and the priority of this process's input and output.
pub fn io_priority() -> Result<usize> {
    call!(IOPRIO_GET, IOPRIO_WHO_PROCESS, 0)
}

/// Sets the class and the priority of this process's input and output.
pub fn set_io_priority(priority: usize) -> Result<()> {
    call!(IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, priority).map(drop)
}

/// Returns how late this process's timers may be, in nanoseconds.
pub fn timer_slack() -> Result<usize> {
    const PR_GET_TIMERSLACK: usize = 30;
    // SAFETY: this operation takes no argument.
    unsafe { memory_call!(PRCTL, PR_GET_TIMERSLACK) }
}

/// Sets how late this process's timers may be, in nanoseconds.
pub fn set_timer_slack(slack: usize) -> Result<()> {
    const PR_SET_TIMERSLACK: usize = 29;
    // SAFETY: this operation takes a number.
    unsafe { memory_call!(PRCTL, PR_SET_TIMERSLACK, slack) }.map(drop)
}
