//! What a process may use, and how soon.

use super::Result;
use super::call::call;

pub type Limit = [u64; 2];

pub fn limit(which: usize) -> Limit {
    let mut limit = [0u64; 2];
    let _ = call!(PRLIMIT64, 0, which, 0, limit.as_mut_ptr());
    limit
}

pub fn set_limit(which: usize, limit: &Limit) -> Result<()> {
    call!(PRLIMIT64, 0, which, limit.as_ptr(), 0).map(drop)
}

/// How a process is scheduled, as the kernel has it (`sched_attr`).
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// How this process is scheduled.
pub fn scheduling() -> Result<Scheduling> {
    let mut attr = Scheduling {
        size: 0,
        policy: 0,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime: 0,
        deadline: 0,
        period: 0,
        least: 0,
        most: 0,
    };
    call!(SCHED_GETATTR, 0, &raw mut attr, size_of::<Scheduling>(), 0)?;
    Ok(attr)
}

/// Has this process scheduled so.
pub fn set_scheduling(attr: &Scheduling) -> Result<()> {
    call!(SCHED_SETATTR, 0, &raw const *attr, 0).map(drop)
}

/// A bit for each processor. On a machine of more than 1024 the kernel refuses, and nothing is known.
pub type Processors = [u64; 16];

pub const ALL_PROCESSORS: Processors = [u64::MAX; 16];

/// Where this process may run.
pub fn processors() -> Result<Processors> {
    let mut mask = Processors::default();
    call!(SCHED_GETAFFINITY, 0, size_of::<Processors>(), mask.as_mut_ptr())?;
    Ok(mask)
}

pub fn set_processors(mask: &Processors) -> Result<()> {
    call!(SCHED_SETAFFINITY, 0, size_of::<Processors>(), mask.as_ptr()).map(drop)
}

const IOPRIO_WHO_PROCESS: usize = 1;

/// The class and the priority of this process's input and output.
pub fn io_priority() -> Result<usize> {
    call!(IOPRIO_GET, IOPRIO_WHO_PROCESS, 0)
}

pub fn set_io_priority(priority: usize) -> Result<()> {
    call!(IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, priority).map(drop)
}

/// How late timers may be, in nanoseconds.
pub fn timer_slack() -> Result<usize> {
    const PR_GET_TIMERSLACK: usize = 30;
    call!(PRCTL, PR_GET_TIMERSLACK)
}

pub fn set_timer_slack(slack: usize) -> Result<()> {
    const PR_SET_TIMERSLACK: usize = 29;
    call!(PRCTL, PR_SET_TIMERSLACK, slack).map(drop)
}
