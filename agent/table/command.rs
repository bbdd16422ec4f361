//! One command, from its start to the last of its output. Each state has the fields that mean something in it.

use super::cpu::CpuLimit;
use super::streams::{Outputs, Stdin};
use crate::cgroups::Cgroups;
use crate::kill::{self, Killing, Proc, Progress};
use crate::protocol::{Cause, Exit, NO_COUNT, Spawn, UNKNOWN};
use crate::spawn::Failure;
use crate::sys::{self, OwnedFd, Waited};
use crate::tree::Process;
use crate::wire::Out;

/// A command in its place in the table.
pub struct Command {
    pub id: u32,
    pub stdin: Stdin,
    pub outputs: Outputs,
    pub(super) state: State,
}

pub(super) enum State {
    /// The first process was not waited for, and the library waits for the end.
    Running(Running),
    /// The first process was waited for, and the library waits for the end.
    Ended(Ended),
    /// The kill was given up, and the library was told so. The first process was not waited for.
    Undying(First),
    /// The first process was waited for, and the library was told of the end. Output may still come.
    Reported,
}

pub(super) struct Running {
    pub first: First,
    pub life: Life,
}

pub(super) struct Ended {
    pub life: Life,
    signal: u8,
    code: u8,
    /// When the first process was waited for, in microseconds.
    at: u64,
    /// Set if the command did not begin.
    failure: Option<Failure>,
    /// The bytes of each output that are certainly from before the end, and were not read.
    unread: [usize; 2],
    /// The kills for memory in the container while the first process ran, or [`UNKNOWN`]. Later ones are of others.
    pub kills: u32,
    /// Set once it is judged whether the command was killed for memory.
    for_memory: Option<bool>,
}

/// The first process.
pub(super) struct First {
    pub pid: i32,
    /// The slave of the command's terminal. It is kept open, since a command that closes its own can open it again by name.
    _slave: Option<OwnedFd>,
}

/// The facts for the exit, until it is told.
pub(super) struct Life {
    /// The number of the first process, and so of the command's session.
    pub session: i32,
    /// When the command was started, in microseconds.
    started: u64,
    /// When the command was started, in the kernel's ticks. It is looked up once that matters.
    pub ticks: Option<u64>,
    deadline: Option<u64>,
    /// The limit of processor time of all its processes.
    pub cpu: Option<CpuLimit>,
    /// The usage of those of its processes that PID 1 has waited for.
    used: Used,
    /// The container's count of kills for memory at the start, or [`UNKNOWN`].
    kills_before: u32,
    /// The kills for memory since the start whose victim was of the command.
    pub kills_own: u32,
    /// The kills for memory since the start whose victim was of others.
    pub kills_elsewhere: u32,
    /// There were processes of others while the command ran.
    pub has_company: bool,
    /// The agent was told to send it a signal.
    pub is_signalled: bool,
    fate: Fate,
}

/// The agent's part in the end of a command.
enum Fate {
    /// Nobody has asked the agent to end it.
    Own,
    /// A signal was sent that is to end it. Holds when somebody looks next whether anything is left.
    Stopping(Look),
    Killing(Cause, Killing),
    /// Everything is dead, or the kill was given up.
    Killed(Cause, Progress),
}

/// A look whether something is left of a command whose first process has ended. Times are in microseconds.
#[derive(Clone, Copy)]
struct Look {
    next: u64,
    pause: u64,
}

/// The first and the longest pause between two such looks.
const LOOKS: (u64, u64) = (2_000, 128_000);

/// Processor time in microseconds, and the largest resident size of one process.
#[derive(Default)]
struct Used {
    user: u64,
    system: u64,
    peak_kib: u64,
}

/// A process that was started for a command, and the agent's ends of its streams.
pub struct Started {
    pub pid: i32,
    pub stdin: Stdin,
    pub outputs: Outputs,
    pub slave: Option<OwnedFd>,
    /// The container's count of kills for memory before the start, or [`UNKNOWN`].
    pub oom_before: u32,
}

/// The frame by which the library is told of a command's end, if it is to be told.
#[derive(Debug, PartialEq, Eq)]
pub enum Report {
    None,
    CannotStart(Failure),
    Exit(Exit),
}

impl Command {
    pub fn new(id: u32, spawn: &Spawn<'_>, started: Started) -> Self {
        let now = sys::now();
        let deadline = || now.saturating_add(spawn.deadline.saturating_mul(1000));
        Self {
            id,
            stdin: started.stdin,
            outputs: started.outputs,
            state: State::Running(Running {
                first: First {
                    pid: started.pid,
                    _slave: started.slave,
                },
                life: Life {
                    session: started.pid,
                    started: now,
                    ticks: None,
                    deadline: (spawn.deadline > 0).then(deadline),
                    cpu: CpuLimit::new(spawn.cpu_time, now),
                    used: Used::default(),
                    kills_before: started.oom_before,
                    kills_own: 0,
                    kills_elsewhere: 0,
                    has_company: false,
                    is_signalled: false,
                    fate: Fate::Own,
                },
            }),
        }
    }

    /// Returns the pid of the first process if it was not waited for.
    pub fn pid(&self) -> Option<i32> {
        match &self.state {
            State::Running(Running { first, .. }) | State::Undying(first) => Some(first.pid),
            State::Ended(_) | State::Reported => None,
        }
    }

    /// Returns what is known of the command if its end was not told.
    pub(super) fn life(&self) -> Option<&Life> {
        match &self.state {
            State::Running(Running { life, .. }) | State::Ended(Ended { life, .. }) => Some(life),
            State::Undying(_) | State::Reported => None,
        }
    }

    /// Like [`life`](Self::life), to be changed.
    pub(super) fn life_mut(&mut self) -> Option<&mut Life> {
        match &mut self.state {
            State::Running(Running { life, .. }) | State::Ended(Ended { life, .. }) => Some(life),
            State::Undying(_) | State::Reported => None,
        }
    }

    /// Returns whether the library was told of the end.
    pub fn is_reported(&self) -> bool {
        self.life().is_none()
    }

    /// Returns whether nothing more is to be told of the command.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Reported) && self.outputs.are_closed()
    }

    pub fn is_being_killed(&self) -> bool {
        self.life().is_some_and(|life| matches!(life.fate, Fate::Killing(..)))
    }

    /// Returns the deadline, if something is to be done then: a command that runs is killed, and so is what is left of one that
    /// was to end; and the end of one that has ended is told, whatever is still to be read.
    pub fn due(&self) -> Option<u64> {
        let life = match &self.state {
            State::Running(running) => &running.life,
            State::Ended(ended) if ended.unread != [0, 0] || ended.life.is_stopping() => &ended.life,
            _ => return None,
        };
        life.deadline.filter(|_| life.ended_by_itself())
    }

    /// Has the command end: its end is told once all of its processes have ended. The signal for that is sent elsewhere.
    pub fn begin_stop(&mut self) {
        if let State::Running(Running { life, .. }) = &mut self.state
            && matches!(life.fate, Fate::Own)
        {
            life.fate = Fate::Stopping(Look {
                next: 0,
                pause: LOOKS.0,
            });
        }
    }

    /// Returns when it is to be looked whether something is left of a command that was to end.
    pub fn stop_due(&self) -> Option<u64> {
        match &self.state {
            State::Ended(ended) => match ended.life.fate {
                Fate::Stopping(look) => Some(look.next),
                _ => None,
            },
            _ => None,
        }
    }

    /// Notes what a look has found.
    pub fn has_looked(&mut self, is_left: bool, now: u64) {
        if let State::Ended(ended) = &mut self.state
            && let Fate::Stopping(look) = &mut ended.life.fate
        {
            if is_left {
                look.next = now + look.pause;
                look.pause = (2 * look.pause).min(LOOKS.1);
            } else {
                // A kill proves it.
                ended.life.fate = Fate::Killing(Cause::Stop, Killing::begin(now));
            }
        }
    }

    /// Returns whether there is output from before the end that can be read, unless another process takes it.
    pub fn waits_for_output(&self) -> bool {
        matches!(&self.state, State::Ended(ended) if ended.unread != [0, 0]) && self.outputs.may_print()
    }

    /// Looks up when the command was started. Its first process must not have been waited for, since the pid could be
    /// another's.
    pub(super) fn look_at_start(&mut self, proc: Proc) {
        if let State::Running(Running { first, life }) = &mut self.state
            && life.ticks.is_none()
        {
            life.ticks = kill::process(proc, first.pid).map(|process| process.started);
        }
    }

    /// Sends a signal to the first process, if it was not waited for.
    pub fn signal(&mut self, signal: i32) {
        if let Some(pid) = self.pid() {
            self.note_signal();
            let _ = sys::kill(pid, signal);
        }
    }

    /// Notes that the command is sent a signal, which may reach its first process before its program is executed.
    pub(super) fn note_signal(&mut self) {
        if let Some(life) = self.life_mut() {
            life.is_signalled = true;
        }
    }

    /// Begins to kill the command. If the command has ended by itself, its end is told at once, whatever is still to be
    /// read; what is left of a command that was to end is killed first.
    #[inline(never)]
    pub fn begin_kill(&mut self, proc: Proc, cause: Cause) {
        self.look_at_start(proc);
        match &mut self.state {
            State::Running(Running { life, .. }) if matches!(life.fate, Fate::Own | Fate::Stopping(_)) => {
                life.fate = Fate::Killing(cause, Killing::begin(sys::now()));
            }
            State::Ended(ended) => {
                ended.unread = [0, 0];
                if let Fate::Stopping(_) = ended.life.fate {
                    ended.life.fate = Fate::Killing(Cause::Stop, Killing::begin(sys::now()));
                }
            }
            _ => {}
        }
    }

    /// Returns the kill that goes on.
    pub fn killing(&self) -> Option<Killing> {
        match self.life()?.fate {
            Fate::Killing(_, killing) => Some(killing),
            _ => None,
        }
    }

    /// Notes what came of a round of the kill.
    pub fn has_killed(&mut self, round: Killing, progress: Progress) {
        if let Some(life) = self.life_mut()
            && let Fate::Killing(cause, killing) = &mut life.fate
        {
            match progress {
                Progress::GoesOn => *killing = round,
                over => life.fate = Fate::Killed(*cause, over),
            }
        }
    }

    /// Notes that the first process was waited for. `kills` is the container's count of kills for memory by now. Returns the
    /// time.
    pub(super) fn end(&mut self, waited: &Waited, failure: Option<Failure>, kills: u32) -> u64 {
        let at = sys::now();
        self.stdin.close();
        self.state = match core::mem::replace(&mut self.state, State::Reported) {
            State::Running(Running { mut life, .. }) => {
                life.used.add(waited);
                if failure.is_some()
                    && let Fate::Stopping(_) = life.fate
                {
                    // A command that did not begin has left nothing.
                    life.fate = Fate::Own;
                }
                State::Ended(Ended {
                    signal: waited.signal,
                    code: waited.code,
                    at,
                    failure,
                    unread: [0, 1].map(|stream| self.outputs.unread(stream)),
                    kills: life.kills_by(kills),
                    for_memory: None,
                    life,
                })
            }
            State::Undying(_) => State::Reported,
            state => state,
        };
        at
    }

    /// Reads an output, see [`Outputs::read`].
    pub fn read_output(&mut self, stream: usize, out: &mut Out) {
        let read = self.outputs.read(self.id, stream, out);
        if let State::Ended(ended) = &mut self.state {
            let unread = &mut ended.unread[stream];
            *unread = if read.is_empty {
                0
            } else {
                unread.saturating_sub(read.len)
            };
        }
    }

    /// Takes the library's answer whether it reads the pipe that it was offered. Returns `None` if none was offered.
    pub fn answer_pipe(&mut self, stream: usize, is_taken: bool) -> Option<()> {
        self.outputs.answer_pipe(stream, is_taken)?;
        if let State::Ended(ended) = &mut self.state
            && is_taken
        {
            ended.unread[stream] = 0;
        }
        Some(())
    }

    /// Returns the report of the end once it is due: after all output from before the end, or after the kill.
    #[inline(never)]
    pub fn report(&mut self, cgroups: &Cgroups) -> Report {
        match &mut self.state {
            State::Running(running) if matches!(running.life.fate, Fate::Killed(..)) => {}
            State::Ended(ended) if !matches!(ended.life.fate, Fate::Stopping(_) | Fate::Killing(..)) => {
                // Output that other processes have taken from the pipe is not waited for.
                for (stream, unread) in ended.unread.iter_mut().enumerate() {
                    if *unread > 0 && self.outputs.is_empty(stream) {
                        *unread = 0;
                    }
                }
                if ended.life.ended_by_itself() && ended.failure.is_none() && ended.unread != [0, 0] {
                    return Report::None;
                }
            }
            _ => return Report::None,
        }
        match core::mem::replace(&mut self.state, State::Reported) {
            State::Running(Running { first, life }) => {
                self.state = State::Undying(first);
                Report::Exit(Exit {
                    signal: sys::SIGKILL as u8,
                    wall: sys::now().saturating_sub(life.started),
                    oom_kills: UNKNOWN,
                    ..life.exit(self.id, cgroups)
                })
            }
            State::Ended(ended) => match ended.failure {
                Some(failure) if ended.life.cause() == Cause::Own => {
                    // This is the last frame of the command.
                    self.outputs.close_all();
                    Report::CannotStart(failure)
                }
                _ => Report::Exit(ended.exit(self.id, cgroups)),
            },
            State::Undying(_) | State::Reported => Report::None,
        }
    }
}

impl Life {
    /// Returns why the command ends, as far as the agent is concerned.
    pub fn cause(&self) -> Cause {
        match self.fate {
            Fate::Own | Fate::Stopping(_) => Cause::Own,
            Fate::Killing(cause, _) | Fate::Killed(cause, _) => cause,
        }
    }

    /// Returns whether the agent has not killed the first process.
    pub fn ended_by_itself(&self) -> bool {
        matches!(self.cause(), Cause::Own | Cause::Stop)
    }

    /// Returns whether the command is to end, and what it leaves with it.
    pub fn is_stopping(&self) -> bool {
        matches!(self.fate, Fate::Stopping(_))
    }

    /// Returns whether a process that has left all sessions can also be of others. A command that is killed ends with all
    /// that it could have begun, and so that counts as its own.
    pub fn is_unsure_of_orphans(&self) -> bool {
        self.has_company && self.cause() == Cause::Own
    }

    /// Returns whether a process that can be the command's certainly is. One of the same tick can be older.
    pub fn surely_began(&self, orphan: &Process) -> bool {
        orphan.session == self.session as u32 || self.ticks.is_some_and(|ticks| orphan.started > ticks)
    }

    /// Returns whether the command is certainly younger than a process.
    pub fn is_younger_than(&self, process: &Process) -> bool {
        self.ticks.is_some_and(|ticks| process.started < ticks)
    }

    /// Counts what a process of the command has used.
    pub fn add(&mut self, waited: &Waited) {
        self.used.add(waited);
    }

    /// Returns the processor time of those of its processes that PID 1 has waited for, in microseconds.
    pub fn waited_cpu_time(&self) -> u64 {
        self.used.user.saturating_add(self.used.system)
    }

    /// Returns whether the container's count of kills for memory has changed since the start.
    pub fn has_seen_kills(&self, now: u32) -> bool {
        self.kills_before != now
    }

    /// Returns how many kills for memory there were since the start, or [`UNKNOWN`]. `now` is the container's count.
    pub fn kills_by(&self, now: u32) -> u32 {
        match (self.kills_before, now) {
            (UNKNOWN, _) | (_, UNKNOWN) => UNKNOWN,
            (before, now) => now.saturating_sub(before),
        }
    }

    /// Returns the exit as far as it does not depend on how the first process ended.
    fn exit(&self, id: u32, cgroups: &Cgroups) -> Exit {
        let own = cgroups.used(id);
        let (user, system) = own
            .as_ref()
            .map_or((self.used.user, self.used.system), |own| (own.user, own.system));
        Exit {
            cause: self.cause(),
            all_dead: matches!(self.fate, Fate::Killed(_, Progress::AllDead)),
            cpu_time_used_up: self
                .cpu
                .as_ref()
                .is_some_and(|cpu| cpu.is_used_up(user.saturating_add(system))),
            own_peak: own.map_or(NO_COUNT, |own| own.peak),
            container_peak: cgroups.container_peak(),
            user,
            system,
            peak_kib: self.used.peak_kib,
            ..Exit::default()
        }
    }
}

impl Ended {
    /// Returns whether it is still to be judged whether the command was killed for memory.
    pub fn is_to_be_judged(&self) -> bool {
        self.for_memory.is_none()
    }

    /// Notes whether the command was killed for memory.
    pub fn judge(&mut self, for_memory: bool) {
        self.for_memory = Some(for_memory);
    }

    /// Returns the exit code, if no signal ended the first process.
    pub fn code(&self) -> Option<u8> {
        (self.signal == 0).then_some(self.code)
    }

    fn exit(&self, id: u32, cgroups: &Cgroups) -> Exit {
        Exit {
            signal: self.signal,
            code: self.code().unwrap_or(0),
            wall: self.at.saturating_sub(self.life.started),
            oom_kills: self.kills,
            for_memory: self.for_memory == Some(true),
            ..self.life.exit(id, cgroups)
        }
    }
}

impl Used {
    fn add(&mut self, waited: &Waited) {
        self.user += waited.user;
        self.system += waited.system;
        self.peak_kib = self.peak_kib.max(waited.peak_kib);
    }
}
