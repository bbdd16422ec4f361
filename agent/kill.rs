//! Ends everything of one command, and looks whether it did.

use core::ffi::CStr;

use crate::protocol::MAX_COMMANDS;
use crate::sys::{self, Errno, Fd, Pid1};
use crate::tree::{self, Mark, Process};

/// After this long without success: a process that the kernel does not let die, or that may not be signalled.
const GIVE_UP: u64 = 10_000_000;

/// Between two looks at all processes, at first and at most.
const PAUSE: (u64, u64) = (1000, 16_000);

/// The most processes that are looked at.
const MAX_PROCESSES: usize = 16 * 1024;

/// More processes than this are stopped before they are looked at: they could be made faster than they are killed, and
/// take all the time from who kills them. Not again for a while: they are busy dying.
const MANY: u32 = 64;
const AGAIN: u64 = 500_000;

/// Two looks in a row: one alone can miss a process that forks and ends while it looks.
const CLEAN_LOOKS: u8 = 2;

/// A kill that goes on.
#[derive(Clone, Copy)]
pub struct Killing {
    since: u64,
    clean: u8,
    next_look: u64,
    pause: u64,
    stopped: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    GoesOn,
    AllDead,
    GaveUp,
}

impl Killing {
    pub fn begin(now: u64) -> Self {
        Self {
            since: now,
            clean: 0,
            // Mostly the group is all there is.
            next_look: now + PAUSE.0,
            pause: PAUSE.0,
            stopped: None,
        }
    }

    /// One round. What has died is waited for by the caller, between rounds.
    pub fn round(&mut self, pid1: &Pid1, proc: Fd, target: Target<'_>, now: u64) -> Progress {
        if !target.waited {
            let _ = sys::kill_group(target.root, sys::SIGKILL);
            let _ = sys::kill(target.root, sys::SIGKILL);
        }
        if sys::kill_everything(pid1, 0) == Err(Errno::SRCH) {
            return Progress::AllDead;
        }
        if now < self.next_look {
            return Progress::GoesOn;
        }
        self.next_look = now + self.pause;
        self.pause = (2 * self.pause).min(PAUSE.1);

        let stop = self.stopped.is_none_or(|at| now.saturating_sub(at) > AGAIN) && count(proc) > MANY;
        if stop {
            let _ = sys::kill_everything(pid1, sys::SIGSTOP);
            self.stopped = Some(now);
        }
        let look = sweep(proc, &target);
        match look {
            // There is nobody who must be spared, and from this no fork escapes.
            Some(Look { killed: 1.., others: 0 }) => {
                let _ = sys::kill_everything(pid1, sys::SIGKILL);
            }
            _ if stop => {
                let _ = sys::kill_everything(pid1, sys::SIGCONT);
            }
            _ => {}
        }
        match look {
            Some(Look { killed: 0, .. }) => self.clean += 1,
            _ => self.clean = 0,
        }
        if self.clean >= CLEAN_LOOKS && target.waited {
            Progress::AllDead
        } else if now.saturating_sub(self.since) > GIVE_UP {
            Progress::GaveUp
        } else {
            Progress::GoesOn
        }
    }
}

/// The command that is killed.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub root: i32,
    /// It has been waited for, and its number may be another's.
    pub waited: bool,
    /// When it was started, in ticks.
    pub started: u64,
    /// The first processes of the other commands.
    pub others: &'a [u32],
}

/// What was found among the living.
#[derive(Clone, Copy)]
struct Look {
    killed: usize,
    others: usize,
}

/// Kills what is the command's; `None` if not everything could be looked at.
fn sweep(proc: Fd, target: &Target<'_>) -> Option<Look> {
    let memory = sys::map(MAX_PROCESSES * size_of::<Process>()).ok()?;
    let look = with_processes(proc, memory, |processes| {
        tree::mark(processes, target.root as u32, target.started, target.others);
        let mut look = Look { killed: 0, others: 0 };
        for process in processes.iter().filter(|process| process.pid > 1 && !process.dead) {
            if process.mark == Mark::Ours {
                let _ = sys::kill(process.pid as i32, sys::SIGKILL);
                look.killed += 1;
            } else {
                look.others += 1;
            }
        }
        look
    });
    sys::unmap(memory);
    look
}

fn with_processes<T>(proc: Fd, memory: &mut [u8], look: impl FnOnce(&mut [Process]) -> T) -> Option<T> {
    let processes = sys::as_processes(memory);
    let mut count = 0;
    let whole = each(proc, |pid, name| {
        if count == processes.len() {
            return false;
        }
        match stat(proc, name) {
            Ok(process) => {
                let in_order = count == 0 || processes[count - 1].pid < pid;
                if in_order {
                    processes[count] = process;
                    count += 1;
                }
                in_order
            }
            // Gone meanwhile.
            Err(Errno::NOENT | Errno::SRCH) => true,
            // It may be there all the same: where memory is short, say.
            Err(_) => false,
        }
    });
    whole.then(|| look(&mut processes[..count]))
}

/// What `/proc` says of one process.
fn stat(proc: Fd, name: &CStr) -> sys::Result<Process> {
    let mut path = [0; 32];
    let name = name.to_bytes();
    let whole = path.get_mut(..name.len() + 6).ok_or(Errno::INVAL)?;
    whole[..name.len()].copy_from_slice(name);
    whole[name.len()..].copy_from_slice(b"/stat\0");
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::INVAL)?;
    let fd = sys::open_at(proc, path)?;
    let mut text = [0; 512];
    let len = sys::read(fd, &mut text);
    sys::close(fd);
    tree::parse(&text[..len?]).ok_or(Errno::INVAL)
}

/// When a process was started, in ticks.
pub fn started(proc: Fd, pid: i32) -> Option<u64> {
    let mut text = [0; 12];
    let mut at = text.len() - 1;
    let mut rest = pid;
    while rest > 0 {
        at -= 1;
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let name = CStr::from_bytes_until_nul(&text[at..]).ok()?;
    stat(proc, name).ok().map(|process| process.started)
}

/// How many processes there are beside PID 1, those included that have ended and were not waited for.
pub fn count(proc: Fd) -> u32 {
    let mut count = 0;
    each(proc, |pid, _| {
        count += u32::from(pid != 1);
        true
    });
    count
}

/// Goes through the processes until told to stop; whether it came to the end.
fn each(proc: Fd, mut look: impl FnMut(u32, &CStr) -> bool) -> bool {
    let mut buf = [0; 4096];
    sys::rewind(proc);
    loop {
        let len = match sys::read_dir(proc, &mut buf) {
            Ok(0) => return true,
            Ok(len) => len,
            Err(_) => return false,
        };
        for name in sys::entries(&buf[..len]) {
            if let Some(pid) = crate::users::number(name.to_bytes())
                && !look(pid, name)
            {
                return false;
            }
        }
    }
}

/// The first processes of other commands.
#[derive(Clone, Copy)]
pub struct Roots {
    pids: [u32; MAX_COMMANDS],
    len: usize,
}

impl Roots {
    pub fn new(pids: impl Iterator<Item = i32>) -> Self {
        let mut roots = Self {
            pids: [0; MAX_COMMANDS],
            len: 0,
        };
        for pid in pids.take(MAX_COMMANDS) {
            roots.pids[roots.len] = pid as u32;
            roots.len += 1;
        }
        roots
    }

    pub fn as_slice(&self) -> &[u32] {
        &self.pids[..self.len]
    }
}
