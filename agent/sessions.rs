//! The sessions of commands that have ended, for as long as something is in them. What an ended command has left behind
//! belongs to no other command.

use crate::tree::Process;

/// The most sessions that are remembered. Beyond that the oldest are forgotten, and an orphan of such a session counts as
/// any other.
pub const MOST: usize = 64;

/// Sessions by number. The number of an empty session is free again, and the next process to get it may be hostile. So a
/// number is believed only together with a witness: a process that has been in the session since the command ended.
pub struct Sessions {
    known: [Session; MOST],
    len: usize,
}

#[derive(Clone, Copy)]
struct Session {
    number: u32,
    /// The pid and the start of a process in the session, or `None` from the command's end until the next look.
    witness: Option<(u32, u64)>,
}

impl Sessions {
    pub const fn new() -> Self {
        let none = Session {
            number: 0,
            witness: None,
        };
        Self {
            known: [none; MOST],
            len: 0,
        }
    }

    /// Remembers the session of a command that has just ended. [`look`](Self::look) must follow soon, before the kernel
    /// can have given all other numbers.
    pub fn remember(&mut self, number: u32) {
        self.forget(number);
        if self.len == MOST {
            self.known.copy_within(1.., 0);
            self.len -= 1;
        }
        self.known[self.len] = Session { number, witness: None };
        self.len += 1;
    }

    /// Forgets a number, which belongs to another process now.
    pub fn forget(&mut self, number: u32) {
        self.retain(|session| session.number != number);
    }

    /// Forgets all sessions.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Returns whether there are sessions that were not looked at yet.
    pub fn is_new(&self) -> bool {
        self.known[..self.len].iter().any(|session| session.witness.is_none())
    }

    /// Returns whether this zombie is a witness. Before PID 1 waits for it, another witness must be found.
    pub fn has_witness(&self, process: &Process) -> bool {
        let witness = Some((process.pid, process.started));
        self.known[..self.len].iter().any(|session| session.witness == witness)
    }

    /// Returns whether this is the number of a remembered session.
    pub fn contains(&self, number: u32) -> bool {
        self.known[..self.len].iter().any(|session| session.number == number)
    }

    /// Takes all processes of now, ordered by pid. Forgets the sessions whose witness has gone or in which nothing lives,
    /// and finds a living witness for each of the others.
    pub fn look(&mut self, processes: &[Process]) {
        self.retain(|session| {
            let is_there = |(pid, started)| {
                let place = processes.binary_search_by_key(&pid, |process: &Process| process.pid);
                place.is_ok_and(|place| {
                    processes[place].session == session.number && processes[place].started == started
                })
            };
            if !session.witness.is_none_or(is_there) {
                return false;
            }
            let lives = |process: &&Process| process.session == session.number && !process.dead;
            // A child of PID 1 is preferred: PID 1 waits for it, and so knows when this witness is lost.
            let witness = processes
                .iter()
                .filter(lives)
                .find(|process| process.parent == 1)
                .or_else(|| processes.iter().find(lives));
            session.witness = witness.map(|process| (process.pid, process.started));
            session.witness.is_some()
        });
    }

    /// Returns the numbers of all sessions that have a witness.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        let witnessed = self.known[..self.len]
            .iter()
            .filter(|session| session.witness.is_some());
        witnessed.map(|session| session.number)
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Session) -> bool) {
        let mut kept = 0;
        for i in 0..self.len {
            let mut session = self.known[i];
            if keep(&mut session) {
                self.known[kept] = session;
                kept += 1;
            }
        }
        self.len = kept;
    }
}
