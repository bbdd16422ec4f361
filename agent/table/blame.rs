//! The blame: to which command an orphan belongs, and which command was killed for memory.

use super::Table;
use super::command::{Command, Ended, State};
use crate::kill::{self, Proc, Target};
use crate::protocol::{Cause, UNKNOWN};
use crate::sys;
use crate::tree::Process;

/// The exit code of a shell whose last command was killed by SIGKILL.
const KILLED: u8 = 128 + sys::SIGKILL as u8;

/// The command that an orphan belonged to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The command at this place.
    Command(usize),
    /// No command whose end is to be told.
    Nobody,
    /// It may be one of several commands.
    Unknown,
}

impl Table {
    /// Returns the command that an orphan belongs to.
    pub(super) fn owner(&mut self, proc: Proc, orphan: &Process) -> Owner {
        let of_session = |command: &Command| command.life().is_some_and(|life| life.session as u32 == orphan.session);
        if let Some(place) = self.position(of_session) {
            return Owner::Command(place);
        }
        if self.sessions.contains(orphan.session) {
            return Owner::Nobody;
        }
        // Nothing of a command is older than the command. One that is being killed is the likeliest.
        self.commands_mut().for_each(|command| command.look_at_start(proc));
        match self.only_owner(orphan, true) {
            Owner::Nobody => self.only_owner(orphan, false),
            owner => owner,
        }
    }

    /// Returns the command that can have begun an orphan, among those that the agent kills or among the others.
    fn only_owner(&self, orphan: &Process, killed: bool) -> Owner {
        let mut owner = Owner::Nobody;
        for (place, command) in self.places.iter().enumerate() {
            let Some(life) = command.as_ref().and_then(Command::life) else {
                continue;
            };
            if !life.is_younger_than(orphan) && (life.cause() != Cause::Own) == killed {
                owner = match owner {
                    Owner::Nobody if !life.is_unsure_of_orphans() => Owner::Command(place),
                    _ => Owner::Unknown,
                };
            }
        }
        owner
    }

    /// Counts a process that was killed by SIGKILL for each command that may have lost one for memory. Where there was a
    /// kill for memory that no process of others is known to have died of, the command's own process did.
    pub(super) fn victim(&mut self, owner: Owner, orphan: Option<Process>, oom_kills: u32) {
        if let Owner::Command(place) = owner
            && self.life(place).is_some_and(|life| life.cause() != Cause::Own)
        {
            // The agent has killed it.
            return;
        }
        for (place, command) in self.places.iter_mut().enumerate() {
            let Some(command) = command.as_mut().filter(|command| command.unexplained(oom_kills) > 0) else {
                continue;
            };
            let Some(life) = command.life_mut() else {
                continue;
            };
            let elsewhere = match owner {
                Owner::Command(own) if own == place => {
                    if orphan.is_some_and(|orphan| !life.surely_began(&orphan)) {
                        continue;
                    }
                    false
                }
                Owner::Command(_) | Owner::Nobody => true,
                Owner::Unknown if orphan.is_some_and(|orphan| life.is_younger_than(&orphan)) => true,
                Owner::Unknown => continue,
            };
            match elsewhere {
                true => life.kills_elsewhere += 1,
                false => life.kills_own += 1,
            }
        }
    }

    /// Decides whether the commands that have ended were killed for memory. Everything that has ended by now was waited for.
    pub fn judge(&mut self, proc: Proc) {
        for place in 0..self.places.len() {
            if let Some(for_memory) = self.was_for_memory(proc, place)
                && let Some(Command {
                    state: State::Ended(ended),
                    ..
                }) = &mut self.places[place]
            {
                ended.judge(for_memory);
            }
        }
    }

    /// Returns whether a command was killed for memory, if that is to be judged.
    fn was_for_memory(&mut self, proc: Proc, place: usize) -> Option<bool> {
        let Some(Command {
            id,
            state: State::Ended(ended),
            ..
        }) = &self.places[place]
        else {
            return None;
        };
        if !ended.is_to_be_judged() {
            return None;
        }
        let life = &ended.life;
        let kills = ended.known_kills();
        if !life.ended_by_itself() || kills == 0 {
            return Some(false);
        }
        // A control group counts exactly.
        if let Some(used) = self.cgroups.used(*id) {
            return Some(used.oom_kills > 0);
        }
        if kills <= life.kills_elsewhere {
            return Some(false);
        }
        if life.kills_own > 0 || ended.code() == Some(KILLED) {
            return Some(true);
        }
        // Another process has waited for the victim, which was the command's if there is nobody else.
        let Some(ticks) = life.ticks.filter(|_| !life.has_company) else {
            return Some(false);
        };
        let target = Target {
            root: life.session,
            waited: true,
            // A process of the same tick can be older, and is not blamed on the command.
            started: ticks + 1,
            others: &[],
        };
        Some(kill::has_company(proc, &target, &mut self.sessions) == Some(false))
    }
}

impl Command {
    /// Returns how many kills for memory there were while the command ran of which no victim is known.
    fn unexplained(&self, now: u32) -> u32 {
        let (life, kills) = match &self.state {
            State::Running(running) => (&running.life, running.life.kills_by(now)),
            State::Ended(ended) => (&ended.life, ended.kills),
            State::Undying(_) | State::Reported => return 0,
        };
        match kills {
            UNKNOWN => 0,
            kills => kills.saturating_sub(life.kills_own + life.kills_elsewhere),
        }
    }
}

impl Ended {
    fn known_kills(&self) -> u32 {
        match self.kills {
            UNKNOWN => 0,
            kills => kills,
        }
    }
}
