//! The limit of the processor time of all processes of a command together: the agent adds it up, and kills the command.

use super::Table;
use super::command::{Command, State};
use crate::kill::{self, Roots, Target};
use crate::protocol::{Cause, MAX_COMMANDS};
use crate::sys;

/// The shortest time between two looks at a command, in microseconds. The kernel counts in ticks of as much.
const PAUSE: u64 = 10_000;

/// How much longer than a look the pause after it is at least: a look at many processes takes its time.
const SHARE: u64 = 20;

/// The limit of a command, and when the agent looks next. Times are in microseconds.
pub struct CpuLimit {
    most: u64,
    next: u64,
}

impl CpuLimit {
    /// Returns the limit of a command that begins now, unless it has none.
    pub fn new(most: u64, now: u64) -> Option<Self> {
        if most == 0 {
            return None;
        }
        let mut limit = Self { most, next: now };
        limit.wait(now, 0);
        Some(limit)
    }

    /// Returns whether that is all the time that the command may use.
    pub fn is_used_up(&self, used: u64) -> bool {
        used >= self.most
    }

    /// Puts off the next look until the rest can be used up at the earliest: by as many threads as there are processors.
    fn wait(&mut self, now: u64, used: u64) {
        let rest = self.most.saturating_sub(used);
        self.next = now.saturating_add((rest / processors()).max(PAUSE));
    }
}

/// Returns how many processors there are for the container.
fn processors() -> u64 {
    let count = |mask: sys::Processors| mask.iter().map(|part| u64::from(part.count_ones())).sum::<u64>();
    sys::processors().map_or(u64::from(u64::BITS), count).max(1)
}

impl Command {
    /// Returns when the agent is to look at the processor time of a command that runs.
    pub fn cpu_due(&self) -> Option<u64> {
        match &self.state {
            State::Running(running) if running.life.cause() == Cause::Own => Some(running.life.cpu.as_ref()?.next),
            _ => None,
        }
    }
}

impl Table {
    /// Kills the commands that have used up their processor time.
    pub fn look_at_cpu_time(&mut self, proc: kill::Proc, now: u64) {
        for place in 0..MAX_COMMANDS {
            let due = self.places[place].as_ref().and_then(Command::cpu_due);
            if due.is_none_or(|due| due > now) {
                continue;
            }
            let used = self.cpu_time(proc, place);
            let after = sys::now();
            let Some(command) = &mut self.places[place] else {
                continue;
            };
            let Some(limit) = command.life_mut().and_then(|life| life.cpu.as_mut()) else {
                continue;
            };
            if used.is_some_and(|used| limit.is_used_up(used)) {
                command.begin_kill(proc, Cause::CpuTime);
                continue;
            }
            // An unknown use is looked up again soon.
            limit.wait(after, used.unwrap_or(u64::MAX));
            limit.next = limit.next.max(after + SHARE * after.saturating_sub(now));
        }
    }

    /// Returns the processor time that the command at a place has used so far, in microseconds, if it is known.
    fn cpu_time(&mut self, proc: kill::Proc, place: usize) -> Option<u64> {
        let command = self.places[place].as_mut()?;
        command.look_at_start(proc);
        let (id, root, life) = (command.id, command.pid()?, command.life()?);
        if let Some(used) = self.cgroups.used(id) {
            return Some(used.user.saturating_add(used.system));
        }
        let waited = life.waited_cpu_time();
        // A process that has left its parents and its session counts if it cannot be of others.
        let started = life.ticks.filter(|_| !life.has_company).unwrap_or(u64::MAX);
        let others = self.commands().filter(|other| other.id != id);
        let others = Roots::new(others.filter_map(Command::pid));
        let target = Target {
            root,
            waited: false,
            started,
            others: others.as_slice(),
        };
        let living = kill::cpu_time(proc, &target, &mut self.sessions)?;
        Some(waited.saturating_add(living))
    }
}
