//! Which processes are of a command, by who is whose child. Pure: it is given what `/proc` says.

use super::users::number;

/// One process.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub session: u32,
    pub mark: Mark,
    /// Nothing of it runs any more, in no thread.
    pub dead: bool,
    /// By a signal, or for who traces it.
    pub stopped: bool,
    /// In the kernel's ticks since its boot.
    pub started: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    #[default]
    Unknown = 0,
    Ours = 1,
    Others = 2,
}

/// Reads a process's `stat`.
pub fn parse(stat: &[u8]) -> Option<Process> {
    let pid = number(stat.split(|byte| *byte == b' ').next()?)?;
    // The name is in parentheses, and may have anything in it, parentheses too.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 2;
    let mut fields = stat.get(after..)?.split(|byte| *byte == b' ');
    let state = fields.next()?;
    let parent = number(fields.next()?)?;
    let _group = fields.next()?;
    let session = number(fields.next()?)?;
    // Fields 20 and 22 of all, where the state is the third.
    let threads = number(fields.nth(13)?)?;
    let started = fields.nth(1)?;
    let mut ticks = 0u64;
    for byte in started {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        ticks = ticks.wrapping_mul(10).wrapping_add(digit.into());
    }
    Some(Process {
        pid,
        parent,
        session,
        mark: Mark::Unknown,
        // A first thread that has ended alone shows as a zombie while the others run.
        dead: matches!(state, b"Z" | b"X" | b"x") && threads <= 1,
        stopped: matches!(state, b"T" | b"t"),
        started: ticks,
    })
}

/// Marks every process, of which the first `sorted` order by pid: those of the command whose first process is (or was)
/// `root`, started at `started`, and the others'. `others` are the sessions of other commands, which have the numbers of
/// their first processes.
///
/// What descends from `root`, or is in its session, is its own. One whose parents have gone and that has left all
/// sessions could be any command's: it counts as this one's if it is not older. Nothing of the command is older.
pub fn mark(processes: &mut [Process], root: u32, started: u64, others: &[u32]) {
    for i in 0..processes.len() {
        // Up to a process whose mark is known or that has no parent here...
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
        // ...and all on the way are what it is.
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

fn is_top(process: &Process, root: u32, others: &[u32]) -> bool {
    // A session says more than a parent: nobody can enter one.
    process.parent <= 1 || of_session(process, root) || others.iter().any(|other| of_session(process, *other))
}

/// Whether it is in this session, or the first process that has yet to begin it.
fn of_session(process: &Process, session: u32) -> bool {
    process.session == session || process.pid == session
}

fn of_top(process: &Process, root: u32, started: u64, others: &[u32]) -> Mark {
    let ours = if process.pid <= 1 || others.iter().any(|other| of_session(process, *other)) {
        false
    } else if of_session(process, root) {
        true
    } else {
        // One with no parent at all came into the container from outside.
        process.parent != 0 && process.started >= started
    };
    if ours { Mark::Ours } else { Mark::Others }
}

fn find(processes: &[Process], pid: u32) -> Option<usize> {
    processes.binary_search_by_key(&pid, |process| process.pid).ok()
}
