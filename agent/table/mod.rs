//! The commands that run, and those that have ended while other processes still hold their output.

mod blame;
mod command;
mod cpu;
mod streams;

use core::sync::atomic::Ordering;

pub use command::{Command, Report, Started};
pub use streams::{Outputs, Stdin};

use crate::cgroups::Cgroups;
use crate::kill::{self, Proc, Roots, Target};
use crate::own::Own;
use crate::protocol::{Cause, FILES, MAX_COMMANDS, Size, Spawn, Stage, WITH_STDIN, WITH_TTY};
use crate::sessions::Sessions;
use crate::spawn::{self, Failure, Given, Stdio};
use crate::sys::{self, Errno, Fd, List, OwnedFd, Pid1, SharedNumbers};
use blame::Owner;

/// The time from a command's end to the look for the processes that it has left, in microseconds: long before the kernel can
/// have given all numbers, and not after each of many commands.
const SETTLE: u64 = 20_000;

/// After how many microseconds of rounds of kills everything else has its turn. At least one round is made.
const KILL_TURN: u64 = 1000;

/// The time between two looks whether others have taken the rest of an output, in microseconds.
const LOOK_AT_OUTPUT: u64 = 20_000;

/// All commands.
pub struct Table {
    pub cgroups: Cgroups,
    places: List<Option<Command>>,
    /// The place whose kill goes on next.
    next_kill: usize,
    /// The sessions of commands that have ended by themselves.
    sessions: Sessions,
    /// When these must be looked at, and when they were looked at last, in microseconds.
    settle_at: Option<u64>,
    looked_at: u64,
    /// Why children could not become their commands, by place.
    failures: SharedNumbers,
}

/// The facts that the start of a command depends on, beside the request.
pub struct Start<'a> {
    pub given: &'a Given,
    pub own: &'a Own,
    /// The container's count of kills for memory before the start.
    pub oom_before: u32,
    /// There is no process but the agent.
    pub is_alone: bool,
}

impl Table {
    pub fn new(cgroups: Cgroups) -> sys::Result<Self> {
        let mut places = List::new(MAX_COMMANDS)?;
        for _ in 0..MAX_COMMANDS {
            places.push(None)?;
        }
        Ok(Self {
            cgroups,
            places,
            next_kill: 0,
            sessions: Sessions::new(),
            settle_at: None,
            looked_at: 0,
            failures: sys::shared_numbers(MAX_COMMANDS)?,
        })
    }

    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.places.iter().flatten()
    }

    pub fn commands_mut(&mut self) -> impl Iterator<Item = &mut Command> {
        self.places.iter_mut().flatten()
    }

    #[inline(never)]
    pub fn find(&mut self, id: u32) -> Option<&mut Command> {
        self.commands_mut().find(|command| command.id == id)
    }

    /// Returns the place of the first command like that.
    fn position(&self, is_it: impl Fn(&Command) -> bool) -> Option<usize> {
        self.places.iter().position(|place| place.as_ref().is_some_and(&is_it))
    }

    /// Returns what is known of the command at a place, if its end was not told.
    fn life(&self, place: usize) -> Option<&command::Life> {
        self.places[place].as_ref()?.life()
    }

    fn lives_mut(&mut self) -> impl Iterator<Item = &mut command::Life> {
        self.commands_mut().filter_map(Command::life_mut)
    }

    /// Starts a command. Returns `None` if the id makes no sense.
    pub fn spawn(&mut self, start: Start<'_>, id: u32, spawn: &Spawn<'_>) -> Option<Result<(), Failure>> {
        if id == 0 || self.find(id).is_some() {
            return None;
        }
        let place = match self.free_place() {
            Ok(place) => place,
            Err(failure) => return Some(Err(failure)),
        };
        self.sweep();
        let is_alone = start.is_alone;
        match self.start(start, id, spawn, place) {
            Ok(started) => {
                self.admit(place, Command::new(id, spawn, started), is_alone);
                Some(Ok(()))
            }
            Err(failure) => Some(Err(failure)),
        }
    }

    /// Returns a free place. A command gives its place up if its end was told and nobody wants its output.
    pub fn free_place(&mut self) -> Result<usize, Failure> {
        if self.commands().count() == MAX_COMMANDS {
            self.free();
        }
        if let Some(place) = self.places.iter().position(Option::is_none) {
            return Ok(place);
        }
        let place = self
            .position(|command| command.outputs.are_discarded() && command.is_reported())
            .ok_or((Stage::Table, Errno::AGAIN))?;
        self.close(place);
        Ok(place)
    }

    /// Starts the process of a command.
    fn start(&mut self, start: Start<'_>, id: u32, spawn: &Spawn<'_>, place: usize) -> Result<Started, Failure> {
        self.cgroups
            .begin(id, spawn.memory, spawn.pids)
            .map_err(|error| (Stage::Cgroup, error))?;
        let started = self.fork(start, id, spawn, place);
        if started.is_err() {
            self.cgroups.remove(id);
        }
        started
    }

    /// Makes the streams of a command, and forks.
    fn fork(&self, start: Start<'_>, id: u32, spawn: &Spawn<'_>, place: usize) -> Result<Started, Failure> {
        let Start { given, own, .. } = start;
        let (with_stdin, with_tty) = (spawn.flags & WITH_STDIN != 0, spawn.flags & WITH_TTY != 0);
        let mut ends = Ends::new(with_stdin, with_tty, spawn.size)?;
        if spawn.flags & FILES != 0
            && let Some(stdin) = &ends.0[Ends::STDIN]
        {
            // Fewer turns of the agent and the server.
            sys::enlarge_pipe(stdin.fd(), streams::PIPE_SIZE);
        }
        let stdio = ends.stdio(with_tty);
        let failure = &self.failures[place];
        failure.store(spawn::YET_UNLIMITED, Ordering::Relaxed);
        own.before_fork();
        let forked = sys::fork(|| spawn::run(given, own, (id, spawn), stdio, &self.cgroups, failure));
        own.after_fork();
        Ok(Started {
            pid: forked.map_err(|error| (Stage::Resources, error))?,
            stdin: Stdin::new(ends.take(Ends::STDIN + 1)),
            outputs: Outputs::new(
                [Ends::STDOUT, Ends::STDERR].map(|end| ends.take(end)),
                with_tty,
                spawn.window,
            ),
            slave: ends.0[Ends::STDOUT + 1].take().filter(|_| with_tty),
            oom_before: start.oom_before,
        })
    }

    /// Puts a command that was started in a free place. `is_alone` says that there was no process but the agent.
    pub fn admit(&mut self, place: usize, mut command: Command, is_alone: bool) {
        if let Some(pid) = command.pid() {
            self.sessions.forget(pid as u32);
        }
        // Processes that one of several commands leaves behind can begin others that look like another command's.
        let mut has_company = !is_alone;
        for life in self.lives_mut() {
            life.has_company = true;
            has_company = true;
        }
        if let Some(life) = command.life_mut() {
            life.has_company = has_company;
        }
        self.places[place] = Some(command);
    }

    /// Waits for a child that has ended: a command's first process, or an orphan. `oom_kills` counts the container's kills
    /// for memory. Returns `false` if the child cannot be waited for.
    pub fn reap(&mut self, proc: Proc, pid: i32, oom_kills: impl Fn() -> u32) -> bool {
        match self.position(|command| command.pid() == Some(pid)) {
            Some(place) => self.reap_first(proc, place, pid, oom_kills()),
            None => self.reap_orphan(proc, pid, oom_kills),
        }
    }

    fn reap_first(&mut self, proc: Proc, place: usize, pid: i32, oom_kills: u32) -> bool {
        let Some(command) = &mut self.places[place] else {
            return false;
        };
        if command.life().is_some_and(|life| life.has_seen_kills(oom_kills)) {
            command.look_at_start(proc);
        }
        let Some(waited) = sys::wait_for(pid) else {
            return false;
        };
        let is_own_end = command.life().is_some_and(|life| life.cause() == Cause::Own);
        let is_stopping = command.life().is_some_and(|life| life.is_stopping());
        let is_signalled = command.life().is_some_and(|life| life.is_signalled);
        let is_killed = waited.signal == sys::SIGKILL as u8;
        let said = self.failures[place].load(Ordering::Relaxed);
        // A process that does not have its own limits yet is killed by those of the agent, or as the agent was told.
        let is_failure = said != spawn::YET_UNLIMITED || is_killed && is_own_end && !is_signalled;
        let failure = spawn::failure(said).filter(|_| is_failure);
        let ended = command.end(&waited, failure, oom_kills);
        if is_own_end {
            // Nothing that a stopped command leaves is to stay.
            if !is_stopping {
                self.sessions.remember(pid as u32);
                self.settle_at.get_or_insert(ended + SETTLE);
            }
            if is_killed {
                self.victim(Owner::Command(place), None, oom_kills);
            }
        }
        true
    }

    fn reap_orphan(&mut self, proc: Proc, pid: i32, oom_kills: impl Fn() -> u32) -> bool {
        // After the wait nothing can be found out about it.
        let orphan = match sys::is_process(pid) {
            true => kill::process(proc, pid),
            false => None,
        };
        if let Some(orphan) = orphan.filter(|orphan| self.sessions.has_witness(orphan)) {
            let now = sys::now();
            if now.saturating_sub(self.looked_at) > SETTLE {
                self.looked_at = now;
                kill::look_at_sessions(proc, &mut self.sessions);
            } else {
                self.sessions.forget(orphan.session);
            }
        }
        let owner = orphan.map_or(Owner::Unknown, |orphan| self.owner(proc, &orphan));
        let Some(waited) = sys::wait_for(pid) else {
            return false;
        };
        match owner {
            Owner::Command(place) => {
                if let Some(life) = self.places[place].as_mut().and_then(Command::life_mut) {
                    if life.cause() != Cause::Own || orphan.is_some_and(|orphan| life.surely_began(&orphan)) {
                        life.add(&waited);
                    } else {
                        life.has_company = true;
                    }
                }
            }
            Owner::Nobody => self.lives_mut().for_each(|life| life.has_company = true),
            Owner::Unknown => {}
        }
        if waited.signal == sys::SIGKILL as u8 {
            self.victim(owner, orphan, oom_kills());
        }
        true
    }

    /// Looks for the processes that commands have left behind, a while after these have ended.
    pub fn settle(&mut self, pid1: &Pid1, proc: Proc, now: u64) {
        let Some(at) = self.settle_at else {
            return;
        };
        if sys::kill_everything(pid1, 0) == Err(Errno::SRCH) {
            self.sessions.clear();
            self.settle_at = None;
            self.sweep();
        } else if at <= now {
            self.settle_at = None;
            self.sweep();
            if self.sessions.is_new() {
                self.looked_at = now;
                kill::look_at_sessions(proc, &mut self.sessions);
            }
        }
    }

    /// Returns when something is to be done at the latest, in microseconds.
    pub fn due(&self, now: u64) -> Option<u64> {
        let deadlines = self.commands().filter_map(Command::due);
        let output = self
            .commands()
            .any(Command::waits_for_output)
            .then_some(now + LOOK_AT_OUTPUT);
        let stops = self.commands().filter_map(Command::stop_due);
        let cpu = self.commands().filter_map(Command::cpu_due);
        deadlines
            .chain(self.settle_at)
            .chain(output)
            .chain(stops)
            .chain(cpu)
            .min()
    }

    /// Sends a signal to all processes of a command whose first process was not waited for.
    #[inline(never)]
    pub fn signal_all(&mut self, proc: Proc, id: u32, signal: i32) {
        let Some(command) = self.find(id) else { return };
        let Some(root) = command.pid() else { return };
        command.look_at_start(proc);
        command.note_signal();
        let Some(life) = command.life() else { return };
        // Where the start is not known, no process without a parent counts as the command's.
        let started = life.ticks.unwrap_or(u64::MAX);
        // At once, so that no fork in the group escapes. A process that has not begun its session yet is alone.
        if sys::kill_group(root, signal).is_err() {
            let _ = sys::kill(root, signal);
        }
        if self.cgroups.are_made() {
            self.cgroups.each_process(id, |pid| {
                if kill::process(proc, pid).is_some_and(|process| process.group != root as u32) {
                    let _ = sys::kill(pid, signal);
                }
            });
            return;
        }
        let others = self.roots_but(id);
        let target = Target {
            root,
            waited: false,
            started,
            others: others.as_slice(),
        };
        kill::signal_others(proc, &target, &mut self.sessions, signal);
    }

    /// Looks whether something is left of the commands that were to end and whose first processes have ended. Where nothing is
    /// left, a kill proves it.
    pub fn look_after_stops(&mut self, pid1: &Pid1, proc: Proc, now: u64) {
        for place in 0..MAX_COMMANDS {
            let Some(command) = &self.places[place] else { continue };
            if command.stop_due().is_none_or(|due| due > now) {
                continue;
            }
            let (id, Some(life)) = (command.id, command.life()) else {
                continue;
            };
            let (root, started) = (life.session, life.ticks.unwrap_or(0));
            let is_left = if self.cgroups.are_made() {
                !self.cgroups.is_empty(id)
            } else {
                let others = self.roots_but(id);
                let target = Target {
                    root,
                    waited: true,
                    started,
                    others: others.as_slice(),
                };
                kill::may_live(pid1, proc, &target, &mut self.sessions)
            };
            if let Some(command) = &mut self.places[place] {
                command.has_looked(is_left, now);
            }
        }
    }

    /// Returns the first processes of all commands but one.
    fn roots_but(&self, id: u32) -> Roots {
        let others = self.commands().filter(|other| other.id != id);
        Roots::new(others.filter_map(Command::pid))
    }

    /// Makes one round for each command that is being killed, one after the other. Each round looks at the processes of all
    /// commands, so where there are many the rest waits for the next call.
    pub fn kill_round(&mut self, pid1: &Pid1, proc: Proc) {
        let begun = sys::now();
        for _ in 0..MAX_COMMANDS {
            let place = self.next_kill;
            self.next_kill = (place + 1) % MAX_COMMANDS;
            if self.kill_round_of(place, pid1, proc).is_some() && sys::now().saturating_sub(begun) > KILL_TURN {
                return;
            }
        }
    }

    /// Makes one round for the command at a place, if it is being killed.
    fn kill_round_of(&mut self, place: usize, pid1: &Pid1, proc: Proc) -> Option<()> {
        let command = self.places[place].as_ref()?;
        let mut killing = command.killing()?;
        let (id, life, runs) = (command.id, command.life()?, command.pid().is_some());
        let others = self.roots_but(id);
        let target = Target {
            root: life.session,
            waited: !runs,
            started: life.ticks.unwrap_or(0),
            others: others.as_slice(),
        };
        let now = sys::now();
        let progress = match self.cgroups.are_made() {
            true => killing.round_in_cgroup(&self.cgroups, id, &target, now),
            false => killing.round(pid1, proc, &target, &mut self.sessions, now),
        };
        self.places[place].as_mut()?.has_killed(killing, progress);
        Some(())
    }

    /// Frees the places of commands of which nothing more is to be told.
    pub fn free(&mut self) {
        let was_stale = self.cgroups.stale;
        for place in 0..MAX_COMMANDS {
            if self.places[place].as_ref().is_some_and(Command::is_over) {
                self.close(place);
            }
        }
        // Only once for each, since processes that a command has left behind may live for ever.
        if self.cgroups.stale && !was_stale {
            self.settle_at.get_or_insert(sys::now() + SETTLE);
        }
    }

    #[inline(never)]
    fn close(&mut self, place: usize) {
        if let Some(command) = self.places[place].take() {
            self.cgroups.remove(command.id);
        }
    }

    /// Removes the control groups of commands that have ended, once nothing lives in them.
    pub fn sweep(&mut self) {
        let places = &self.places;
        self.cgroups
            .sweep(|id| places.iter().flatten().any(|command| command.id == id));
    }

    /// Returns the commands, and the control groups that tell what they have used.
    pub fn ends(&mut self) -> (impl Iterator<Item = &mut Command>, &Cgroups) {
        (self.places.iter_mut().flatten(), &self.cgroups)
    }
}

/// The reading and the writing end of each stream of a command. With a terminal its slave is the writing end of standard
/// output, and its master the reading end.
struct Ends([Option<OwnedFd>; 6]);

impl Ends {
    const STDIN: usize = 0;
    const STDOUT: usize = 2;
    const STDERR: usize = 4;

    fn new(with_stdin: bool, with_tty: bool, size: Size) -> Result<Self, Failure> {
        let mut ends = Self([const { None }; 6]);
        let (made, stage) = match with_tty {
            true => (ends.make_terminal(with_stdin, size), Stage::Terminal),
            false => (ends.make_pipes(with_stdin), Stage::Resources),
        };
        match made {
            Ok(()) => Ok(ends),
            Err(error) => Err((stage, error)),
        }
    }

    fn make_pipes(&mut self, with_stdin: bool) -> sys::Result<()> {
        let first = if with_stdin { Self::STDIN } else { Self::STDOUT };
        for stream in self.0[first..].chunks_exact_mut(2) {
            for (place, end) in stream.iter_mut().zip(sys::pipe()?) {
                *place = Some(end);
            }
        }
        Ok(())
    }

    fn make_terminal(&mut self, with_stdin: bool, size: Size) -> sys::Result<()> {
        let [master, slave] = sys::terminal()?;
        sys::set_size(master.fd(), size);
        if with_stdin {
            self.0[Self::STDIN + 1] = Some(sys::duplicate(master.fd())?);
        }
        self.0[Self::STDOUT] = Some(master);
        self.0[Self::STDOUT + 1] = Some(slave);
        Ok(())
    }

    fn fd(&self, end: usize) -> Option<Fd> {
        self.0[end].as_ref().map(OwnedFd::fd)
    }

    /// Returns the ends that the command gets.
    fn stdio(&self, with_tty: bool) -> Stdio {
        let output = self.fd(Self::STDOUT + 1).unwrap_or(-1);
        match with_tty {
            true => Stdio {
                stdin: Some(output),
                stdout: output,
                stderr: output,
                tty: true,
            },
            false => Stdio {
                stdin: self.fd(Self::STDIN),
                stdout: output,
                stderr: self.fd(Self::STDERR + 1).unwrap_or(-1),
                tty: false,
            },
        }
    }

    /// Returns an end that the agent keeps.
    fn take(&mut self, end: usize) -> Option<OwnedFd> {
        let end = self.0[end].take()?;
        sys::set_nonblocking(end.fd());
        Some(end)
    }
}
