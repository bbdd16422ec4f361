//! The sessions of commands that have ended, for as long as something is in them: what they have left behind is not
//! another command's.

use super::tree::Process;

/// The most sessions that are remembered. Beyond it the oldest are forgotten; an orphan of such a session counts as any
/// orphan does.
pub const MOST: usize = 64;

/// Sessions by number. A number is free again once its session is empty, and the next one to get it may be hostile. So a
/// number is believed only together with a witness: a process that has been in the session since the command ended.
pub struct Sessions {
    known: [Session; MOST],
    len: usize,
}

#[derive(Clone, Copy)]
struct Session {
    number: u32,
    /// The pid and the start of a process in it. `None`: its command has just ended, and nobody has looked yet.
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

    /// Forgets a number, which is another's now.
    pub fn forget(&mut self, number: u32) {
        self.retain(|session| session.number != number);
    }

    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Whether some have ended of which nobody has looked what is in them.
    pub fn is_new(&self) -> bool {
        self.known[..self.len].iter().any(|session| session.witness.is_none())
    }

    /// Whether this process, which has ended and was not waited for, is a witness. Another one must be found before it is
    /// waited for.
    pub fn has_witness(&self, process: &Process) -> bool {
        let witness = Some((process.pid, process.started));
        self.known[..self.len].iter().any(|session| session.witness == witness)
    }

    pub fn contains(&self, number: u32) -> bool {
        self.known[..self.len].iter().any(|session| session.number == number)
    }

    /// Takes what there is now: every process, ordered by pid. Sessions whose witness has gone, or that nothing lives in,
    /// are forgotten; of the others every one has a living witness then.
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
            // PID 1 waits for its own children, and so knows when such a witness is lost.
            let witness = processes
                .iter()
                .filter(lives)
                .find(|process| process.parent == 1)
                .or_else(|| processes.iter().find(lives));
            session.witness = witness.map(|process| (process.pid, process.started));
            session.witness.is_some()
        });
    }

    /// The numbers of all that have a witness.
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
