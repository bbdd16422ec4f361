//! The commands that run, and those that have ended while others still hold their output.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::cgroups::Cgroups;
use crate::kill::{self, Killing, Proc, Progress, Roots, Target};
use crate::own::Own;
use crate::protocol::{
    Cause, Exit, MAX_COMMANDS, NO_COUNT, PIPE_AFTER, STDIN_WINDOW, Size, Spawn, Stage, UNKNOWN, WITH_STDIN, WITH_TTY,
    from_agent,
};
use crate::sessions::Sessions;
use crate::spawn::{self, Given, Stdio};
use crate::sys::{self, Bytes, Errno, Fd, List, Pid1, Waited};
use crate::tree::Process;
use crate::wire::Out;

/// The longest packet of a pipe of packets (`O_DIRECT`), `PIPE_BUF`. A command can make its output one.
const PACKET: u32 = 4096;

/// Read at once where nobody wants it.
const SCRATCH: usize = 4096;

/// More than a terminal holds. How much there is in it cannot be asked: some of it is on the way within the kernel.
const TTY_ROOM: usize = 64 * 1024;

/// The room of a pipe that the library reads.
const PIPE_SIZE: usize = 256 * 1024;

/// How soon after a command's end the processes that it has left are looked for: long before the kernel can have given all
/// numbers, and not after each of many.
const SETTLE: u64 = 20_000;

/// After how many microseconds of rounds of kills everything else has its turn. At least one round is made.
const KILL_TURN: u64 = 1000;

/// How often it is looked whether the rest of an output was taken by others.
const LOOK_AT_OUTPUT: u64 = 20_000;

/// The code of a shell whose last command was killed by SIGKILL.
const KILLED: u8 = 128 + sys::SIGKILL as u8;

pub struct Table {
    pub cgroups: Cgroups,
    commands: List<Command>,
    /// The place whose kill goes on next.
    next_kill: usize,
    /// Of commands that have ended by themselves.
    sessions: Sessions,
    /// When these must be looked at.
    settle_at: Option<u64>,
    looked_at: u64,
    /// Why children could not become their commands, by place.
    failures: &'static [AtomicU32],
}

/// One command. Free if its id is 0.
pub struct Command {
    pub id: u32,
    pub pid: i32,
    /// How its first process ended; the oom kills from then on are others'.
    end: Option<End>,
    /// Of all its processes that PID 1 has waited for.
    used: Used,
    reported: bool,
    stdin: Stdin,
    /// With a terminal the first is its master, and there is no second.
    outputs: [Option<Fd>; 2],
    /// Of a terminal; -1: none. Kept while it runs: to have closed its own is no end of a terminal, which can be opened
    /// again by name.
    slave: Fd,
    pipes: [Pipe; 2],
    /// How much of each is certainly from before the command's end, when it has ended.
    own_output: [usize; 2],
    /// Nobody wants its output any more. It is still taken: a server that was started behind goes on printing.
    pub discards: bool,
    pub credit: u32,
    /// Microseconds.
    started: u64,
    ended: u64,
    deadline: Option<u64>,
    /// When it was started in the kernel's ticks, once that matters.
    ticks: u64,
    oom_before: u32,
    /// Kills for memory since then whose victims were its own, and others'.
    oom_own: u32,
    oom_elsewhere: u32,
    /// There were processes of others while it ran.
    company: bool,
    /// Whether it was killed for memory, once that is decided.
    for_memory: Option<bool>,
    cause: Cause,
    pub killing: Option<Killing>,
    all_dead: bool,
    failure: Option<(Stage, Errno)>,
}

#[derive(Clone, Copy)]
struct End {
    signal: u8,
    code: u8,
    oom_kills: u32,
}

#[derive(Clone, Copy)]
struct Used {
    user: u64,
    system: u64,
    peak_kib: u64,
}

/// Whose an orphan was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The command's of this place.
    Command(usize),
    /// Of none that is there.
    Nobody,
    /// Of one of several.
    Unknown,
}

/// Whether a stream has a pipe, and the library reads from that itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pipe {
    /// There is none, but a terminal.
    Terminal,
    /// So much has come in frames.
    Frames(usize),
    Offered,
    /// It does. The pipe is kept open here for when it stops, so that nobody gets a signal for printing.
    Taken,
    /// It cannot.
    Refused,
}

struct Stdin {
    fd: Option<Fd>,
    buf: Option<Bytes>,
    start: usize,
    end: usize,
    ending: bool,
    /// What the library may send more than what is here.
    window: u32,
    /// Written, and not told of yet.
    to_credit: u32,
    closed: bool,
}

/// What came of writing.
pub struct Written {
    pub credit: u32,
    pub closed: bool,
}

/// What is to be told of a command's end.
pub enum Report {
    None,
    CannotStart(Stage, Errno),
    Exit(Exit),
}

impl Table {
    pub fn new(cgroups: Cgroups) -> sys::Result<Self> {
        // Not on the stack, where each move would leave a copy.
        let mut commands = List::new(MAX_COMMANDS)?;
        (0..MAX_COMMANDS).try_for_each(|_| commands.push(Command::FREE))?;
        Ok(Self {
            cgroups,
            commands,
            next_kill: 0,
            sessions: Sessions::new(),
            settle_at: None,
            looked_at: 0,
            failures: sys::shared_numbers(MAX_COMMANDS)?,
        })
    }

    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter().filter(|command| command.id != 0)
    }

    pub fn commands_mut(&mut self) -> impl Iterator<Item = &mut Command> {
        self.commands.iter_mut().filter(|command| command.id != 0)
    }

    pub fn find(&mut self, id: u32) -> Option<&mut Command> {
        self.commands_mut().find(|command| command.id == id)
    }

    /// The outer `None`: it makes no sense.
    pub fn spawn(
        &mut self,
        (given, own): (&Given, &mut Own),
        id: u32,
        spawn: &Spawn<'_>,
        (oom_before, is_alone): (u32, bool),
    ) -> Option<Result<(), (Stage, Errno)>> {
        if id == 0 || self.find(id).is_some() {
            return None;
        }
        let spawned = self.try_spawn((given, own), id, spawn, oom_before);
        if spawned.is_ok() {
            // What one of several leaves behind can begin processes that look like the other's.
            let others = self.unreported().filter(|command| command.id != id || !is_alone);
            others.for_each(|command| command.company = true);
        }
        Some(spawned)
    }

    fn try_spawn(
        &mut self,
        (given, own): (&Given, &mut Own),
        id: u32,
        spawn: &Spawn<'_>,
        oom_before: u32,
    ) -> Result<(), (Stage, Errno)> {
        let free = |command: &Command| command.id == 0;
        if !self.commands.iter().any(free) {
            self.free();
        }
        let place = match self.commands.iter().position(free) {
            Some(place) => place,
            None => {
                // Output that nobody wants gives way.
                let over = |command: &Command| command.discards && command.reported;
                let place = self
                    .commands
                    .iter()
                    .position(over)
                    .ok_or((Stage::Table, Errno::AGAIN))?;
                self.commands[place].close(&mut self.cgroups);
                place
            }
        };
        self.sweep();
        self.cgroups
            .begin(id, spawn.memory, spawn.pids)
            .map_err(|error| (Stage::Cgroup, error))?;
        let failure = &self.failures[place];
        failure.store(spawn::YET_UNLIMITED, Ordering::Relaxed);
        let mut pipes = Pipes([-1; 6]);
        let (with_stdin, tty) = (spawn.flags & WITH_STDIN != 0, spawn.flags & WITH_TTY != 0);
        let made = match tty {
            true => pipes
                .make_terminal(with_stdin, spawn.size)
                .map_err(|error| (Stage::Terminal, error)),
            false => pipes.make(with_stdin).map_err(|error| (Stage::Resources, error)),
        };
        let [
            stdin_read,
            stdin_write,
            stdout_read,
            stdout_write,
            stderr_read,
            stderr_write,
        ] = pipes.0;
        let made = made.and_then(|()| {
            own.before_fork();
            let stdio = match tty {
                true => Stdio {
                    stdin: Some(stdout_write),
                    stdout: stdout_write,
                    stderr: stdout_write,
                    tty,
                },
                false => Stdio {
                    stdin: (stdin_read >= 0).then_some(stdin_read),
                    stdout: stdout_write,
                    stderr: stderr_write,
                    tty,
                },
            };
            let forked = sys::fork(|| spawn::run(given, own, (id, spawn), stdio, &self.cgroups, failure));
            own.after_fork();
            forked.map_err(|error| (Stage::Resources, error))
        });
        match made {
            Err(failure) => {
                self.cgroups.remove(id);
                pipes.0.into_iter().for_each(close);
                Err(failure)
            }
            Ok(pid) => {
                let (slave, stdout_write) = if tty { (stdout_write, -1) } else { (-1, stdout_write) };
                [stdin_read, stdout_write, stderr_write].into_iter().for_each(close);
                for fd in [stdin_write, stdout_read, stderr_read] {
                    if fd >= 0 {
                        sys::set_nonblocking(fd);
                    }
                }
                let started = sys::now();
                self.sessions.forget(pid as u32);
                let mut company = false;
                for other in self.commands_mut().filter(|other| !other.reported) {
                    other.company = true;
                    company = true;
                }
                self.commands[place] = Command {
                    id,
                    pid,
                    stdin: Stdin {
                        fd: (stdin_write >= 0).then_some(stdin_write),
                        ..Stdin::NONE
                    },
                    outputs: [stdout_read, stderr_read].map(|fd| (fd >= 0).then_some(fd)),
                    pipes: if tty { [Pipe::Terminal; 2] } else { Command::FREE.pipes },
                    slave,
                    credit: spawn.window,
                    started,
                    deadline: (spawn.deadline > 0).then(|| started.saturating_add(spawn.deadline.saturating_mul(1000))),
                    oom_before,
                    company,
                    ..Command::FREE
                };
                Ok(())
            }
        }
    }

    /// Waits for something that has ended: a command's first process, or one that has lost its parent. `false`: it cannot be
    /// waited for.
    pub fn reap(&mut self, proc: Proc, pid: i32, oom_kills: impl Fn() -> u32) -> bool {
        let ended = |command: &Command| command.id != 0 && command.is(pid);
        match self.commands.iter().position(ended) {
            Some(place) => self.reap_first(proc, place, oom_kills()),
            None => self.reap_orphan(proc, pid, oom_kills),
        }
    }

    fn reap_first(&mut self, proc: Proc, place: usize, oom_kills: u32) -> bool {
        let command = &mut self.commands[place];
        if oom_kills != command.oom_before {
            command.look_at_start(proc);
        }
        let Some(waited) = sys::wait_for(command.pid) else {
            return false;
        };
        let killed = waited.signal == sys::SIGKILL as u8;
        let said = self.failures[place].load(Ordering::Relaxed);
        // Before its limits a process is killed by those of the agent, or as the agent was told.
        let is_failure = said != spawn::YET_UNLIMITED || (killed && command.cause == Cause::Own);
        let failure = spawn::failure(said).filter(|_| is_failure);
        command.ended(waited, failure, oom_kills);
        if command.cause == Cause::Own {
            self.sessions.remember(command.pid as u32);
            self.settle_at.get_or_insert(command.ended + SETTLE);
            if killed {
                self.victim(Owner::Command(place), None, oom_kills);
            }
        }
        true
    }

    fn reap_orphan(&mut self, proc: Proc, pid: i32, oom_kills: impl Fn() -> u32) -> bool {
        // What is known of it goes with the wait.
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
                let command = &mut self.commands[place];
                if command.cause != Cause::Own || orphan.is_some_and(|orphan| command.surely_began(&orphan)) {
                    command.used.add(&waited);
                } else {
                    command.company = true;
                }
            }
            Owner::Nobody => self.unreported().for_each(|command| command.company = true),
            Owner::Unknown => {}
        }
        if waited.signal == sys::SIGKILL as u8 {
            self.victim(owner, orphan, oom_kills());
        }
        true
    }

    fn unreported(&mut self) -> impl Iterator<Item = &mut Command> {
        self.commands_mut().filter(|command| !command.reported)
    }

    /// Whose a process is that has lost its parent.
    fn owner(&mut self, proc: Proc, orphan: &Process) -> Owner {
        let of_session =
            |command: &Command| command.id != 0 && !command.reported && command.pid as u32 == orphan.session;
        if let Some(place) = self.commands.iter().position(of_session) {
            return Owner::Command(place);
        }
        if self.sessions.contains(orphan.session) {
            return Owner::Nobody;
        }
        // Nothing of a command is older than it. One that is being killed is the likeliest.
        self.unreported().for_each(|command| command.look_at_start(proc));
        let mut owner = Owner::Nobody;
        for killing in [true, false] {
            for (place, command) in self.commands.iter().enumerate() {
                let could = command.id != 0 && !command.reported && command.ticks <= orphan.started;
                if could && (command.cause != Cause::Own) == killing {
                    owner = match owner {
                        Owner::Nobody => Owner::Command(place),
                        _ => Owner::Unknown,
                    };
                }
            }
            if owner != Owner::Nobody {
                break;
            }
        }
        match owner {
            Owner::Command(place) if self.commands[place].is_unsure_of_orphans() => Owner::Unknown,
            owner => owner,
        }
    }

    /// A process was killed by SIGKILL. If there was a kill for memory that nobody else is known to have died of, it was
    /// this one's.
    fn victim(&mut self, owner: Owner, orphan: Option<Process>, oom_kills: u32) {
        if let Owner::Command(place) = owner
            && self.commands[place].cause != Cause::Own
        {
            // By the agent.
            return;
        }
        for (place, command) in self.commands.iter_mut().enumerate() {
            if command.id == 0 || command.reported || command.unexplained(oom_kills) == 0 {
                continue;
            }
            let elsewhere = match owner {
                Owner::Command(own) if own == place && orphan.is_some_and(|orphan| !command.surely_began(&orphan)) => {
                    continue;
                }
                Owner::Command(own) => own != place,
                Owner::Nobody => true,
                // Older than the command.
                Owner::Unknown if orphan.is_some_and(|orphan| orphan.started < command.ticks) => true,
                Owner::Unknown => continue,
            };
            let count = if elsewhere {
                &mut command.oom_elsewhere
            } else {
                &mut command.oom_own
            };
            *count += 1;
        }
    }

    /// Decides of the commands that have ended whether it was for want of memory, as soon as everything has been waited for
    /// that has ended by now.
    pub fn judge(&mut self, proc: Proc) {
        for place in 0..MAX_COMMANDS {
            let command = &self.commands[place];
            if command.id != 0 && command.end.is_some() && command.for_memory.is_none() {
                let for_memory = self.was_for_memory(proc, place);
                self.commands[place].for_memory = Some(for_memory);
            }
        }
    }

    fn was_for_memory(&mut self, proc: Proc, place: usize) -> bool {
        let command = &self.commands[place];
        let Some(end) = &command.end else {
            return false;
        };
        if command.cause != Cause::Own || command.killed_for_memory() == 0 {
            return false;
        }
        // Exact, where it has a group of its own.
        if let Some(used) = self.cgroups.used(command.id) {
            return used.oom_kills > 0;
        }
        if command.killed_for_memory() <= command.oom_elsewhere {
            return false;
        }
        if command.oom_own > 0 || end.signal == 0 && end.code == KILLED {
            return true;
        }
        // It was one that another process has waited for. That was of the command, if there is nobody else.
        if command.company || command.ticks == 0 {
            return false;
        }
        let target = Target {
            root: command.pid,
            waited: true,
            // One of the same tick can be older, and is not blamed on it.
            started: command.ticks + 1,
            others: &[],
        };
        kill::has_company(proc, &target, &mut self.sessions) == Some(false)
    }

    /// Looks what the commands have left that have ended a little while ago.
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

    /// When there is something to be done, in any case.
    pub fn due(&self, now: u64) -> Option<u64> {
        let deadlines = self.commands().filter_map(Command::due);
        let output = self
            .commands()
            .any(Command::waits_for_output)
            .then_some(now + LOOK_AT_OUTPUT);
        deadlines.chain(self.settle_at).chain(output).min()
    }

    /// One round for each command that is being killed, one after the other. Not for long: where there are many, each looks
    /// at the processes of all.
    pub fn kill_round(&mut self, pid1: &Pid1, proc: Proc) {
        let begun = sys::now();
        for _ in 0..MAX_COMMANDS {
            let i = self.next_kill;
            self.next_kill = (i + 1) % MAX_COMMANDS;
            let command = &self.commands[i];
            let (id, root, waited, ticks) = (command.id, command.pid, command.end.is_some(), command.ticks);
            if id == 0 {
                continue;
            }
            let Some(mut killing) = command.killing else {
                continue;
            };
            let others = Roots::new(
                self.commands()
                    .filter(|other| other.id != id && other.runs())
                    .map(|other| other.pid),
            );
            let now = sys::now();
            let target = Target {
                root,
                waited,
                started: ticks,
                others: others.as_slice(),
            };
            let progress = match self.cgroups.are_made() {
                true => killing.round_in_cgroup(&self.cgroups, id, &target, now),
                false => killing.round(pid1, proc, &target, &mut self.sessions, now),
            };
            let command = &mut self.commands[i];
            command.killing = (progress == Progress::GoesOn).then_some(killing);
            command.all_dead = progress == Progress::AllDead;
            if sys::now().saturating_sub(begun) > KILL_TURN {
                return;
            }
        }
    }

    /// Frees the places of commands of which nothing more is to be told.
    pub fn free(&mut self) {
        let Self { commands, cgroups, .. } = self;
        let was_stale = cgroups.stale;
        for command in commands.iter_mut().filter(|command| command.id != 0) {
            let over = command.outputs == [None, None] || command.failure.is_some();
            if command.reported && command.end.is_some() && over {
                command.close(cgroups);
            }
        }
        // Once: what a command has left behind may live for ever.
        if self.cgroups.stale && !was_stale {
            self.settle_at.get_or_insert(sys::now() + SETTLE);
        }
    }

    /// Removes the control groups of commands that have ended, once nothing lives in them.
    pub fn sweep(&mut self) {
        let Self { commands, cgroups, .. } = self;
        cgroups.sweep(|id| commands.iter().any(|command| command.id == id));
    }

    /// The commands, and what tells of what they have used.
    pub fn ends(&mut self) -> (impl Iterator<Item = &mut Command>, &Cgroups) {
        (
            self.commands.iter_mut().filter(|command| command.id != 0),
            &self.cgroups,
        )
    }
}

/// A reading and a writing end for each of three streams; -1: none.
struct Pipes([Fd; 6]);

impl Pipes {
    fn make(&mut self, with_stdin: bool) -> sys::Result<()> {
        for stream in usize::from(!with_stdin)..3 {
            self.0[2 * stream..2 * stream + 2].copy_from_slice(&sys::pipe()?);
        }
        Ok(())
    }

    /// The master as what is read from, and a copy of it as what is written to; the slave as standard output.
    fn make_terminal(&mut self, with_stdin: bool, size: Size) -> sys::Result<()> {
        [self.0[2], self.0[3]] = sys::terminal()?;
        sys::set_size(self.0[2], size);
        if with_stdin {
            self.0[1] = sys::duplicate(self.0[2])?;
        }
        Ok(())
    }
}

fn close(fd: Fd) {
    if fd >= 0 {
        sys::close(fd);
    }
}

impl Used {
    fn add(&mut self, waited: &Waited) {
        self.user += waited.user;
        self.system += waited.system;
        self.peak_kib = self.peak_kib.max(waited.peak_kib);
    }
}

impl Stdin {
    const NONE: Self = Self {
        fd: None,
        buf: None,
        start: 0,
        end: 0,
        ending: false,
        window: STDIN_WINDOW,
        to_credit: 0,
        closed: false,
    };

    fn close(&mut self) {
        self.fd.take().into_iter().for_each(sys::close);
        self.buf = None;
        (self.start, self.end) = (0, 0);
    }
}

impl Command {
    const FREE: Self = Self {
        id: 0,
        pid: 0,
        end: None,
        used: Used {
            user: 0,
            system: 0,
            peak_kib: 0,
        },
        reported: false,
        stdin: Stdin::NONE,
        outputs: [None; 2],
        slave: -1,
        pipes: [Pipe::Frames(0); 2],
        own_output: [0; 2],
        discards: false,
        credit: 0,
        started: 0,
        ended: 0,
        deadline: None,
        ticks: 0,
        oom_before: UNKNOWN,
        oom_own: 0,
        oom_elsewhere: 0,
        company: false,
        for_memory: None,
        cause: Cause::Own,
        killing: None,
        all_dead: false,
        failure: None,
    };

    /// Its first process has not been waited for.
    pub fn runs(&self) -> bool {
        self.end.is_none()
    }

    fn has_terminal(&self) -> bool {
        self.pipes[0] == Pipe::Terminal
    }

    fn is(&self, pid: i32) -> bool {
        self.pid == pid && self.runs()
    }

    /// When it is to be ended, or its end to be told, if that is not being done.
    pub fn due(&self) -> Option<u64> {
        let waits = self.runs() || !self.reported && self.own_output != [0, 0];
        self.deadline.filter(|_| waits && self.cause == Cause::Own)
    }

    /// It has ended, and there is output of it that can be read, or could before another process took it.
    fn waits_for_output(&self) -> bool {
        self.end.is_some() && !self.reported && self.own_output != [0, 0] && self.may_print()
    }

    /// Whether an orphan that has left all sessions can also be of what was there beside it. All that a command has begun
    /// ends with it where it is killed, and then counts as its own.
    fn is_unsure_of_orphans(&self) -> bool {
        self.company && self.cause == Cause::Own
    }

    /// Whether an orphan that can be its own is that. One of the same tick can be older.
    fn surely_began(&self, orphan: &Process) -> bool {
        orphan.session == self.pid as u32 || self.ticks != 0 && orphan.started > self.ticks
    }

    /// Finds out when it was started, as long as its number is its own.
    fn look_at_start(&mut self, proc: Proc) {
        if self.ticks == 0 && self.runs() {
            // It is a zombie at worst, and still in the list.
            self.ticks = kill::process(proc, self.pid).map_or(0, |process| process.started);
        }
    }

    /// How many kills for memory there were while it ran.
    fn kills_for_memory(&self, now: u32) -> u32 {
        match (self.oom_before, now) {
            (UNKNOWN, _) | (_, UNKNOWN) => UNKNOWN,
            (before, after) => after.saturating_sub(before),
        }
    }

    /// ...of which it is not known whom they took.
    fn unexplained(&self, now: u32) -> u32 {
        let kills = match &self.end {
            Some(end) => end.oom_kills,
            None => self.kills_for_memory(now),
        };
        match kills {
            UNKNOWN => 0,
            kills => kills.saturating_sub(self.oom_own + self.oom_elsewhere),
        }
    }

    fn killed_for_memory(&self) -> u32 {
        match &self.end {
            Some(end) if end.oom_kills != UNKNOWN => end.oom_kills,
            _ => 0,
        }
    }

    fn ended(&mut self, waited: Waited, failure: Option<(Stage, Errno)>, oom_kills: u32) {
        self.failure = failure;
        self.used.add(&waited);
        self.end = Some(End {
            signal: waited.signal,
            code: waited.code,
            oom_kills: self.kills_for_memory(oom_kills),
        });
        self.ended = sys::now();
        close(core::mem::replace(&mut self.slave, -1));
        let pending = |fd| {
            if self.has_terminal() {
                TTY_ROOM
            } else {
                sys::pending(fd)
            }
        };
        self.own_output = self.outputs.map(|fd| fd.map_or(0, pending));
        for stream in 0..2 {
            if self.pipes[stream] == Pipe::Taken {
                // The library looks for itself.
                self.own_output[stream] = 0;
            }
        }
        self.stdin.close();
    }

    /// One that has ended by itself already is told of then, whatever output of it is still to be read.
    pub fn begin_kill(&mut self, proc: Proc, cause: Cause) {
        if !self.runs() {
            self.own_output = [0, 0];
            return;
        }
        if self.killing.is_some() || self.reported {
            return;
        }
        self.look_at_start(proc);
        self.cause = cause;
        self.killing = Some(Killing::begin(sys::now()));
    }

    pub fn report(&mut self, cgroups: &Cgroups) -> Report {
        // Its end is told after what it has printed; what others print who hold its output may come later. What others
        // have taken from its pipes is not waited for.
        let is_empty = |fd| !self.has_terminal() && sys::pending(fd) == 0;
        let is_read = self.outputs.map(|fd| fd.is_none_or(is_empty));
        for (output, _) in self.own_output.iter_mut().zip(is_read).filter(|(_, is_read)| *is_read) {
            *output = 0;
        }
        let prints = self.cause == Cause::Own && self.own_output != [0, 0];
        if self.reported || self.killing.is_some() || prints && self.failure.is_none() {
            return Report::None;
        }
        if self.runs() && self.cause == Cause::Own {
            return Report::None;
        }
        let own = cgroups.used(self.id);
        let (user, system) = own
            .as_ref()
            .map_or((self.used.user, self.used.system), |own| (own.user, own.system));
        let exit = Exit {
            cause: self.cause,
            all_dead: self.all_dead,
            own_peak: own.map_or(NO_COUNT, |own| own.peak),
            container_peak: cgroups.container_peak(),
            user,
            system,
            peak_kib: self.used.peak_kib,
            for_memory: self.for_memory == Some(true),
            ..Exit::default()
        };
        let report = match (&self.end, self.failure) {
            (Some(_), Some((stage, errno))) if self.cause == Cause::Own => Report::CannotStart(stage, errno),
            (Some(end), _) => Report::Exit(Exit {
                signal: end.signal,
                code: if end.signal == 0 { end.code } else { 0 },
                wall: self.ended.saturating_sub(self.started),
                oom_kills: end.oom_kills,
                ..exit
            }),
            // It does not die.
            (None, _) if self.cause != Cause::Own => Report::Exit(Exit {
                signal: sys::SIGKILL as u8,
                wall: sys::now().saturating_sub(self.started),
                oom_kills: UNKNOWN,
                ..exit
            }),
            (None, _) => return Report::None,
        };
        self.reported = true;
        report
    }

    fn close(&mut self, cgroups: &mut Cgroups) {
        cgroups.remove(self.id);
        self.stdin.close();
        self.outputs.into_iter().flatten().for_each(sys::close);
        close(self.slave);
        *self = Self::FREE;
    }

    /// `None`: more than there was credit for, or there is no memory for it.
    pub fn take_stdin(&mut self, data: &[u8]) -> Option<()> {
        let stdin = &mut self.stdin;
        stdin.window = stdin.window.checked_sub(data.len() as u32)?;
        if stdin.fd.is_none() || stdin.ending {
            return Some(());
        }
        if stdin.buf.is_none() {
            match Bytes::new(STDIN_WINDOW as usize) {
                Ok(memory) => stdin.buf = Some(memory),
                // Who may has taken the agent's memory from it. An input that breaks off would pass for a whole one.
                Err(_) => return None,
            }
        }
        let buf = stdin.buf.as_mut()?;
        if stdin.end + data.len() > buf.len() {
            buf.copy_within(stdin.start..stdin.end, 0);
            stdin.end -= stdin.start;
            stdin.start = 0;
        }
        buf.get_mut(stdin.end..stdin.end + data.len())?.copy_from_slice(data);
        stdin.end += data.len();
        Some(())
    }

    pub fn end_stdin(&mut self) {
        self.stdin.ending = true;
    }

    /// Once more when it can take more.
    pub fn wants_to_write(&self) -> Option<Fd> {
        self.stdin.fd.filter(|_| self.stdin.start < self.stdin.end)
    }

    pub fn write_stdin(&mut self) -> Written {
        let stdin = &mut self.stdin;
        if let (Some(fd), Some(buf)) = (stdin.fd, stdin.buf.as_ref()) {
            while stdin.start < stdin.end {
                match sys::write(fd, &buf[stdin.start..stdin.end]) {
                    Ok(len) => {
                        stdin.start += len;
                        stdin.to_credit += len as u32;
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => {
                        stdin.close();
                        stdin.closed = true;
                        break;
                    }
                }
            }
        }
        if stdin.start == stdin.end {
            (stdin.start, stdin.end) = (0, 0);
            if stdin.ending {
                stdin.close();
            }
        }
        Written {
            credit: if stdin.fd.is_some() { stdin.to_credit } else { 0 },
            closed: stdin.closed,
        }
    }

    /// The library was told of what was written.
    pub fn credited(&mut self) {
        self.stdin.window += core::mem::take(&mut self.stdin.to_credit);
    }

    pub fn forget_stdin(&mut self) {
        self.stdin.closed = false;
    }

    /// Whether there is credit for whatever one read gives. What does not fit of a packet is lost.
    fn may_print(&self) -> bool {
        self.credit >= PACKET
    }

    pub fn wants_to_read(&self, stream: usize, output_fits: bool) -> Option<Fd> {
        let by_frames = matches!(self.pipes[stream], Pipe::Terminal | Pipe::Frames(_) | Pipe::Refused);
        self.outputs[stream].filter(|_| self.discards || by_frames && self.may_print() && output_fits)
    }

    /// Gives its terminal another size, if it has one.
    pub fn resize(&self, size: Size) {
        if let Some(terminal) = self.outputs[0].filter(|_| self.has_terminal()) {
            sys::set_size(terminal, size);
        }
    }

    /// The end of a stream that the library reads itself.
    pub fn waits_for_hang_up(&self, stream: usize) -> Option<Fd> {
        self.outputs[stream].filter(|_| self.pipes[stream] == Pipe::Taken && !self.discards)
    }

    /// Whether the library has taken the pipe that it was offered. `None`: it was not.
    pub fn answer_pipe(&mut self, stream: usize, taken: bool) -> Option<()> {
        let pipe = self.pipes.get_mut(stream).filter(|pipe| **pipe == Pipe::Offered)?;
        *pipe = if taken { Pipe::Taken } else { Pipe::Refused };
        if taken {
            self.own_output[stream] = 0;
        }
        Some(())
    }

    pub fn read_output(&mut self, stream: usize, out: &mut Out) {
        let (kind, end_kind, pipe_kind) = match stream {
            0 => (from_agent::STDOUT, from_agent::STDOUT_END, from_agent::STDOUT_PIPE),
            _ => (from_agent::STDERR, from_agent::STDERR_END, from_agent::STDERR_PIPE),
        };
        if let Some(fd) = self.waits_for_hang_up(stream) {
            if sys::hung_up(fd) {
                sys::close(fd);
                self.outputs[stream] = None;
            }
            return;
        }
        // A few times only: others wait too.
        for _ in 0..4 {
            let Some(fd) = self.wants_to_read(stream, out.has_data_room()) else {
                return;
            };
            if let Pipe::Frames(PIPE_AFTER..) = self.pipes[stream]
                && !self.discards
                && out.has_room()
                && out.can_pass()
                && out.pass(pipe_kind, self.id, fd).is_ok()
            {
                // Fewer turns of writer and reader.
                sys::enlarge_pipe(fd, PIPE_SIZE);
                self.pipes[stream] = Pipe::Offered;
                return;
            }
            let read = if self.discards {
                sys::read(fd, &mut [0; SCRATCH])
            } else {
                out.data(kind, self.id, fd, self.credit as usize)
            };
            match read {
                Ok(0) => {}
                Ok(len) => {
                    self.own_output[stream] = self.own_output[stream].saturating_sub(len);
                    if !self.discards {
                        self.credit -= len as u32;
                    }
                    if let Pipe::Frames(count) = &mut self.pipes[stream] {
                        *count = count.saturating_add(len);
                    }
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    // It was empty.
                    self.own_output[stream] = 0;
                    return;
                }
                // Of a terminal: nobody has it any more.
                Err(_) => {}
            }
            if out.has_room() {
                sys::close(fd);
                self.outputs[stream] = None;
                self.own_output[stream] = 0;
                out.frame(end_kind, self.id, &[]);
            }
            return;
        }
    }
}
