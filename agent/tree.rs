//! Which processes belong to a command, by their parents and sessions. This has no system calls: it is given what `/proc`
//! says.

use crate::users::{long_number, number};

/// One process.
#[derive(Clone, Copy, Default)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    pub mark: Mark,
    /// The process is a zombie, and no thread of it runs.
    pub dead: bool,
    /// The process is stopped, by a signal or by its tracer.
    pub stopped: bool,
    /// When the process was started, in the kernel's ticks since its boot.
    pub started: u64,
    /// The processor time of the process and of those that it has waited for, in the kernel's ticks.
    pub used: u64,
}

/// The owner of a process, as seen from one command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mark {
    #[default]
    Unknown,
    Ours,
    Others,
}

/// Reads the `stat` of a process in `/proc`.
pub fn parse(stat: &[u8]) -> Option<Process> {
    let pid = number(stat.split(|byte| *byte == b' ').next()?)?;
    // The name is in parentheses, and may itself have parentheses in it.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 2;
    let mut fields = stat.get(after..)?.split(|byte| *byte == b' ');
    let state = fields.next()?;
    let parent = number(fields.next()?)?;
    let group = number(fields.next()?)?;
    let session = number(fields.next()?)?;
    // Fields 14 to 17, 20 and 22 of all, where the state is the third.
    let first = fields.nth(7)?;
    let used = [first, fields.next()?, fields.next()?, fields.next()?]
        .iter()
        .fold(0u64, |sum, ticks| sum.saturating_add(long_number(ticks).unwrap_or(0)));
    let threads = number(fields.nth(2)?)?;
    let started = long_number(fields.nth(1)?)?;
    Some(Process {
        pid,
        parent,
        group,
        session,
        mark: Mark::Unknown,
        // A first thread that has ended shows as a zombie while others run.
        dead: matches!(state, b"Z" | b"X" | b"x") && threads <= 1,
        stopped: matches!(state, b"T" | b"t"),
        started,
        used,
    })
}

/// Marks all processes, which are ordered by pid: those of the command whose first process is or was `root` and was started
/// at `started`, and those of others. `others` are the sessions of other commands, by the numbers of their first processes.
///
/// Descendants of `root` and processes in its session are the command's. A process whose parents have gone and that has left
/// all these sessions could be any command's. It counts as this one's unless it is older, since nothing of a command is
/// older than the command.
pub fn mark(processes: &mut [Process], root: u32, started: u64, others: &[u32]) {
    for i in 0..processes.len() {
        // Climb to a process whose mark is known or that has no parent here.
        let mut top = i;
        let mut steps = 0;
        while processes[top].mark == Mark::Unknown {
            match find(processes, processes[top].parent) {
                Some(parent) if !is_top(&processes[top], root, others) && steps < processes.len() => {
                    top = parent;
                    steps += 1;
                }
                _ => {
                    processes[top].mark = of_top(&processes[top], root, started, others);
                }
            }
        }
        // All processes on the way get the same mark.
        let mark = processes[top].mark;
        let mut at = i;
        while processes[at].mark == Mark::Unknown {
            processes[at].mark = mark;
            match find(processes, processes[at].parent) {
                Some(parent) => at = parent,
                None => break,
            }
        }
    }
}

/// Returns whether the parent of a process does not tell to whom it belongs.
fn is_top(process: &Process, root: u32, others: &[u32]) -> bool {
    // A session says more than a parent, since nobody can enter one.
    process.parent <= 1 || of_session(process, root) || others.iter().any(|other| of_session(process, *other))
}

/// Returns whether a process is in this session, or is the first process that has yet to begin it.
fn of_session(process: &Process, session: u32) -> bool {
    process.session == session || process.pid == session
}

/// Returns the mark of a process by itself.
fn of_top(process: &Process, root: u32, started: u64, others: &[u32]) -> Mark {
    let ours = if process.pid <= 1 || others.iter().any(|other| of_session(process, *other)) {
        false
    } else if of_session(process, root) {
        true
    } else {
        // A process with no parent at all came into the container from outside.
        process.parent != 0 && process.started >= started
    };
    if ours { Mark::Ours } else { Mark::Others }
}

fn find(processes: &[Process], pid: u32) -> Option<usize> {
    processes.binary_search_by_key(&pid, |process| process.pid).ok()
}
