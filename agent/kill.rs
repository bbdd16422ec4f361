//! Kills all processes of one command, and proves that they are dead. See "Kill" and "Proof of death" in PROTOCOL.md.

use core::ffi::CStr;

use crate::cgroups::Cgroups;
use crate::protocol::MAX_COMMANDS;
use crate::sessions::{MOST, Sessions};
use crate::sys::{self, Errno, Fd, List, OwnedFd, Pid1};
use crate::tree::{self, Mark, Process};
use crate::users;

/// After how many microseconds a kill is given up. There may be a process that does not die, or that may not be signalled.
const GIVE_UP: u64 = 10_000_000;

/// The time between two looks at all processes, at first and at most, in microseconds.
const PAUSE: (u64, u64) = (1000, 16_000);

/// The most processes that are looked at.
const MAX_PROCESSES: usize = 16 * 1024;

/// More processes than this are stopped for a look: they could be made faster than they are killed, and take all the time
/// from the agent. They are not stopped again for a while, in microseconds, in which they die.
const MANY: u32 = 64;
const AGAIN: u64 = 500_000;

/// After so many looks in a row during which processes were begun, everything is stopped too, and again after a shorter
/// while.
const NOISY: u8 = 2;
const NOISY_AGAIN: u64 = 50_000;

/// One of the kernel's ticks (`USER_HZ`), in microseconds.
const TICK: u64 = 10_000;

/// The number of clean looks in a row that prove the death, unless everything was stopped.
const CLEAN_LOOKS: u8 = 2;

/// A kill that goes on. Times are in microseconds.
#[derive(Clone, Copy)]
pub struct Killing {
    since: u64,
    /// Clean looks in a row.
    clean: u8,
    /// Looks in a row during which processes were begun.
    noisy: u8,
    next_look: u64,
    pause: u64,
    /// When everything was stopped last.
    stopped: Option<u64>,
}

/// The state of a kill after a round.
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
            noisy: 0,
            // Mostly the process group is all there is.
            next_look: now + PAUSE.0,
            pause: PAUSE.0,
            stopped: None,
        }
    }

    /// Makes one round for a command that has a control group: no process could leave it, and no other is in it.
    pub fn round_in_cgroup(&mut self, cgroups: &Cgroups, id: u32, target: &Target<'_>, now: u64) -> Progress {
        if !target.waited {
            // The first process may still be on its way into the group.
            let _ = sys::kill(target.root, sys::SIGKILL);
        }
        cgroups.kill(id);
        if target.waited && cgroups.is_empty(id) {
            Progress::AllDead
        } else if now.saturating_sub(self.since) > GIVE_UP {
            Progress::GaveUp
        } else {
            Progress::GoesOn
        }
    }

    /// Makes one round. Between rounds the caller waits for children that have died.
    pub fn round(
        &mut self,
        pid1: &Pid1,
        proc: Proc,
        target: &Target<'_>,
        sessions: &mut Sessions,
        now: u64,
    ) -> Progress {
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

        let due = |pause| self.stopped.is_none_or(|at| now.saturating_sub(at) > pause);
        let look = if due(AGAIN) && count(proc) > MANY || due(NOISY_AGAIN) && self.noisy >= NOISY {
            self.stopped = Some(now);
            sweep_stopped(pid1, proc, target, sessions)
        } else {
            sweep(proc, target, sessions)
        };
        match look {
            Some(look) => {
                // Nobody must be spared, and no fork escapes from this.
                if look.others == 0 && (look.killed > 0 || !look.quiet) {
                    let _ = sys::kill_everything(pid1, sys::SIGKILL);
                }
                self.noisy = if look.quiet { 0 } else { self.noisy.saturating_add(1) };
                self.clean = match (look.killed, look.quiet) {
                    (0, true) if look.all_stopped => CLEAN_LOOKS,
                    (0, true) => self.clean.saturating_add(1),
                    _ => 0,
                };
            }
            None => self.clean = 0,
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
    /// The pid of its first process.
    pub root: i32,
    /// The first process was waited for, and so its pid may be another's.
    pub waited: bool,
    /// When the command was started, in the kernel's ticks.
    pub started: u64,
    /// The sessions of the other commands that run, by the numbers of their first processes.
    pub others: &'a [u32],
}

/// The result of a look at the living processes.
#[derive(Clone, Copy)]
struct Look {
    /// Processes of the command, which were killed.
    killed: usize,
    /// Processes of others.
    others: usize,
    /// Nothing was begun during the look. So each process that lived at its end was there all the time, and was seen.
    quiet: bool,
    /// All processes of others were stopped.
    all_stopped: bool,
}

/// Kills the command's processes. Returns `None` if not all processes could be looked at.
fn sweep(proc: Proc, target: &Target<'_>, sessions: &mut Sessions) -> Option<Look> {
    let mut processes = List::new(MAX_PROCESSES).ok()?;
    let quiet = look_at_all(proc, &mut processes)?;
    let look = kill_marked(&mut processes, target, sessions);
    // Where the kernel does not tell whether something was begun, only stopped processes are known to have begun nothing.
    Some(Look {
        quiet: quiet.unwrap_or(false),
        ..look
    })
}

/// Kills the command's processes while everything is stopped, so that nothing is begun or ends meanwhile. Afterwards the
/// others go on, but for those that were stopped before. Returns `None` if not all processes could be looked at.
fn sweep_stopped(pid1: &Pid1, proc: Proc, target: &Target<'_>, sessions: &mut Sessions) -> Option<Look> {
    let mut before = List::<Process>::new(MAX_PROCESSES).ok()?;
    let mut processes = List::new(MAX_PROCESSES).ok()?;
    if look_at_all(proc, &mut before).is_none() {
        before.clear();
    }
    let was_stopped = |process: &Process| {
        let place = before.binary_search_by_key(&process.pid, |process| process.pid);
        place.is_ok_and(|place| before[place].stopped && before[place].started == process.started)
    };
    let _ = sys::kill_everything(pid1, sys::SIGSTOP);
    let look = look_at_all(proc, &mut processes).map(|quiet| {
        let look = kill_marked(&mut processes, target, sessions);
        let others = processes.iter().filter(|process| is_other(process));
        if look.all_stopped {
            for process in others.filter(|process| !was_stopped(process)) {
                let _ = sys::kill(process.pid as i32, sys::SIGCONT);
            }
        } else {
            // Some are in the midst of a call, which may be a fork. This reaches their children too.
            let _ = sys::kill_everything(pid1, sys::SIGCONT);
            for process in others.filter(|process| was_stopped(process)) {
                let _ = sys::kill(process.pid as i32, sys::SIGSTOP);
            }
        }
        (look, quiet)
    });
    if look.is_none_or(|(_, quiet)| quiet == Some(false)) {
        // Stopped processes may not have been seen.
        let _ = sys::kill_everything(pid1, sys::SIGCONT);
    }
    look.map(|(look, quiet)| Look {
        quiet: quiet.unwrap_or(look.all_stopped),
        ..look
    })
}

/// Kills the processes that are marked as the command's.
fn kill_marked(processes: &mut [Process], target: &Target<'_>, sessions: &mut Sessions) -> Look {
    mark(processes, target, sessions);
    let mut look = Look {
        killed: 0,
        others: 0,
        quiet: false,
        all_stopped: true,
    };
    for process in processes.iter() {
        if is_other(process) {
            look.others += 1;
            look.all_stopped &= process.stopped;
        } else if is_of_command(process) {
            let _ = sys::kill(process.pid as i32, sys::SIGKILL);
            look.killed += 1;
        }
    }
    look
}

fn is_of_command(process: &Process) -> bool {
    process.mark == Mark::Ours && !process.dead
}

fn is_other(process: &Process) -> bool {
    process.pid > 1 && !process.dead && process.mark != Mark::Ours
}

/// Marks the command's processes, and those of others, which include the sessions of ended commands.
fn mark(processes: &mut [Process], target: &Target<'_>, sessions: &mut Sessions) {
    sessions.look(processes);
    let mut others = [0; MAX_COMMANDS + MOST];
    let mut len = 0;
    for number in target.others.iter().copied().chain(sessions.numbers()) {
        others[len] = number;
        len += 1;
    }
    tree::mark(processes, target.root as u32, target.started, &others[..len]);
}

/// Returns whether a process of the command may live.
pub fn may_live(pid1: &Pid1, proc: Proc, target: &Target<'_>, sessions: &mut Sessions) -> bool {
    if sys::kill_everything(pid1, 0) == Err(Errno::SRCH) {
        return false;
    }
    let Ok(mut processes) = List::new(MAX_PROCESSES) else {
        return true;
    };
    if look_at_all(proc, &mut processes).is_none() {
        return true;
    }
    mark(&mut processes, target, sessions);
    processes.iter().any(is_of_command)
}

/// Sends a signal to the command's processes that are not in its first process group.
pub fn signal_others(proc: Proc, target: &Target<'_>, sessions: &mut Sessions, signal: i32) {
    let Ok(mut processes) = List::new(MAX_PROCESSES) else {
        return;
    };
    // Where not all processes could be looked at, those that were are signalled all the same.
    let _ = look_at_all(proc, &mut processes);
    mark(&mut processes, target, sessions);
    let others = processes.iter().filter(|process| is_of_command(process));
    for process in others.filter(|process| process.group != target.root as u32) {
        let _ = sys::kill(process.pid as i32, signal);
    }
}

/// Returns whether there is a process, dead or alive, that is not the command's. Returns `None` if that is not known.
pub fn has_company(proc: Proc, target: &Target<'_>, sessions: &mut Sessions) -> Option<bool> {
    let mut processes = List::new(MAX_PROCESSES).ok()?;
    look_at_all(proc, &mut processes)?;
    mark(&mut processes, target, sessions);
    let mut others = processes.iter().filter(|process| process.mark != Mark::Ours);
    Some(others.any(|process| process.pid > 1))
}

/// Returns the processor time of the command's processes and of those that they have waited for, in microseconds. Returns `None`
/// if that is not known.
pub fn cpu_time(proc: Proc, target: &Target<'_>, sessions: &mut Sessions) -> Option<u64> {
    let mut processes = List::new(MAX_PROCESSES).ok()?;
    look_at_all(proc, &mut processes)?;
    mark(&mut processes, target, sessions);
    let own = processes.iter().filter(|process| process.mark == Mark::Ours);
    Some(own.fold(0, |sum, process| sum.saturating_add(process.used.saturating_mul(TICK))))
}

/// Looks at the sessions of ended commands.
pub fn look_at_sessions(proc: Proc, sessions: &mut Sessions) {
    if let Ok(mut processes) = List::new(MAX_PROCESSES)
        && look_at_all(proc, &mut processes).is_some()
    {
        sessions.look(&processes);
    } else {
        // A session that could not be looked at in time is not believed later.
        sessions.clear();
    }
}

/// The files in which the kernel tells of processes.
#[derive(Clone, Copy)]
pub struct Proc {
    dir: Fd,
    /// Ends with the number that was given last to a process or a thread.
    last: Option<Fd>,
}

impl Proc {
    pub fn open() -> sys::Result<Self> {
        let last = [c"/proc/sys/kernel/ns_last_pid", c"/proc/loadavg"];
        Ok(Self {
            dir: sys::open_dir(None, c"/proc")?.keep(),
            last: last
                .into_iter()
                .find_map(|path| sys::open(path).ok())
                .map(OwnedFd::keep),
        })
    }

    /// Returns a number that changes whenever a process or a thread begins.
    fn last(self) -> Option<u32> {
        let mut text = [0; 128];
        let len = sys::read_from_start(self.last?, &mut text).ok()?;
        let last = text[..len].trim_ascii().rsplit(|byte| *byte == b' ').next()?;
        // Some runtimes have a file without the number.
        users::number(last).filter(|last| *last > 0)
    }
}

/// Fills an empty list with all processes, ordered by pid. Returns whether nothing was begun meanwhile, where that is known.
/// Returns `None` if not all processes could be looked at.
fn look_at_all(proc: Proc, processes: &mut List<Process>) -> Option<Option<bool>> {
    let before = proc.last();
    let whole = each(proc, |pid, name| {
        match stat(proc, name) {
            Ok(process) => processes.last().is_none_or(|last| last.pid < pid) && processes.push(process).is_ok(),
            // The process has gone meanwhile.
            Err(Errno::NOENT | Errno::SRCH) => true,
            // The process may be there all the same: memory may be short.
            Err(_) => false,
        }
    });
    let quiet = before.zip(proc.last()).map(|(before, after)| before == after);
    whole.then_some(quiet)
}

/// Reads what `/proc` says of one process.
fn stat(proc: Proc, name: &CStr) -> sys::Result<Process> {
    let mut path = [0; 32];
    let name = name.to_bytes();
    let whole = path.get_mut(..name.len() + 6).ok_or(Errno::INVAL)?;
    whole[..name.len()].copy_from_slice(name);
    whole[name.len()..].copy_from_slice(b"/stat\0");
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::INVAL)?;
    let file = sys::open_at(proc.dir, path)?;
    let mut text = [0; 512];
    let len = sys::read(file.fd(), &mut text)?;
    tree::parse(&text[..len]).ok_or(Errno::INVAL)
}

/// Returns one process, dead or alive, or `None` if it cannot be looked at.
pub fn process(proc: Proc, pid: i32) -> Option<Process> {
    let mut text = [0; 21];
    let mut digits = [0; 20];
    let digits = users::decimal(pid.unsigned_abs().into(), &mut digits);
    text[..digits.len()].copy_from_slice(digits);
    let name = CStr::from_bytes_until_nul(&text).ok()?;
    stat(proc, name).ok()
}

/// Returns how many processes there are beside PID 1, zombies included.
pub fn count(proc: Proc) -> u32 {
    let mut count = 0;
    each(proc, |pid, _| {
        count += u32::from(pid != 1);
        true
    });
    count
}

/// Calls `look` for each process until it returns `false`. Returns whether that never was.
fn each(proc: Proc, mut look: impl FnMut(u32, &CStr) -> bool) -> bool {
    let mut buf = [0; 4096];
    sys::rewind(proc.dir);
    loop {
        let len = match sys::read_dir(proc.dir, &mut buf) {
            Ok(0) => return true,
            Ok(len) => len,
            Err(_) => return false,
        };
        for name in sys::entries(&buf[..len]) {
            if let Some(pid) = users::number(name.to_bytes())
                && !look(pid, name)
            {
                return false;
            }
        }
    }
}

/// The pids of the first processes of other commands.
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
