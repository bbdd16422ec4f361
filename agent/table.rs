//! The commands that run, and those that have ended while others still hold their output.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::kill::{self, Killing, Progress, Roots, Target};
use crate::own::Own;
use crate::protocol::{
    Cause, Exit, MAX_COMMANDS, PIPE_AFTER, STDIN_WINDOW, Size, Spawn, Stage, UNKNOWN, WITH_STDIN, WITH_TTY, from_agent,
};
use crate::spawn::{self, Given, Stdio};
use crate::sys::{self, Errno, Fd, Pid1, Waited};
use crate::wire::Out;

/// Read at once where nobody wants it.
const SCRATCH: usize = 4096;

/// More than a terminal holds. How much there is in it cannot be asked: some of it is on the way within the kernel.
const TTY_ROOM: usize = 64 * 1024;

/// The room of a pipe that the library reads.
const PIPE_SIZE: usize = 256 * 1024;

pub struct Table {
    commands: [Command; MAX_COMMANDS],
    /// Why children could not become their commands, by place.
    failures: &'static [AtomicU32],
}

/// One command. Free if its id is 0.
pub struct Command {
    pub id: u32,
    pub pid: i32,
    /// What was waited for; the oom kills from then on are others'.
    end: Option<(Waited, u32)>,
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
    cause: Cause,
    pub killing: Option<Killing>,
    all_dead: bool,
    failure: Option<(Stage, Errno)>,
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
    buf: Option<&'static mut [u8]>,
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
    pub fn new() -> sys::Result<Self> {
        Ok(Self {
            commands: [const { Command::FREE }; MAX_COMMANDS],
            failures: sys::map_shared(MAX_COMMANDS)?,
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
        oom_before: u32,
    ) -> Option<Result<(), (Stage, Errno)>> {
        if id == 0 || self.find(id).is_some() {
            return None;
        }
        Some(self.try_spawn((given, own), id, spawn, oom_before))
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
                let place = self.commands.iter().position(over).ok_or((Stage::Table, Errno::AGAIN))?;
                self.commands[place].close();
                place
            }
        };
        let failure = &self.failures[place];
        failure.store(0, Ordering::Relaxed);
        let mut pipes = Pipes([-1; 6]);
        let (with_stdin, tty) = (spawn.flags & WITH_STDIN != 0, spawn.flags & WITH_TTY != 0);
        let made = match tty {
            true => pipes.make_terminal(with_stdin, spawn.size).map_err(|error| (Stage::Terminal, error)),
            false => pipes.make(with_stdin).map_err(|error| (Stage::Resources, error)),
        };
        let made = made.and_then(|()| {
            own.before_fork();
            sys::fork().map_err(|error| (Stage::Resources, error))
        });
        if made != Ok(0) {
            own.after_fork();
        }
        let [stdin_read, stdin_write, stdout_read, stdout_write, stderr_read, stderr_write] = pipes.0;
        match made {
            Err(failure) => {
                pipes.0.into_iter().for_each(close);
                Err(failure)
            }
            Ok(0) => {
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
                spawn::run(given, own, spawn, stdio, failure)
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
                    ..Command::FREE
                };
                Ok(())
            }
        }
    }

    /// Something has ended that was a command's first process, or was left behind by one.
    pub fn ended(&mut self, waited: Waited, oom_kills: impl FnOnce() -> u32) {
        let ended = |command: &Command| command.id != 0 && command.is(waited.pid);
        if let Some(place) = self.commands.iter().position(ended) {
            let failure = spawn::failure(self.failures[place].load(Ordering::Relaxed));
            self.commands[place].ended(waited, failure, oom_kills());
        }
    }

    /// One round for every command that is being killed.
    pub fn kill_round(&mut self, pid1: &Pid1, proc: Fd, now: u64) {
        for i in 0..MAX_COMMANDS {
            let command = &self.commands[i];
            let (id, root, waited, ticks) = (command.id, command.pid, command.end.is_some(), command.ticks);
            if id == 0 {
                continue;
            }
            let Some(mut killing) = command.killing else {
                continue;
            };
            let others = Roots::new(self.commands().filter(|other| other.id != id && other.runs()).map(|other| other.pid));
            let target = Target {
                root,
                waited,
                started: ticks,
                others: others.as_slice(),
            };
            let progress = killing.round(pid1, proc, target, now);
            let command = &mut self.commands[i];
            command.killing = (progress == Progress::GoesOn).then_some(killing);
            command.all_dead = progress == Progress::AllDead;
        }
    }

    /// Frees the places of commands of which nothing more is to be told.
    pub fn free(&mut self) {
        for command in self.commands_mut() {
            let over = command.outputs == [None, None] || command.failure.is_some();
            if command.reported && command.end.is_some() && over {
                command.close();
            }
        }
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
        self.buf.take().into_iter().for_each(sys::unmap);
        (self.start, self.end) = (0, 0);
    }
}

impl Command {
    const FREE: Self = Self {
        id: 0,
        pid: 0,
        end: None,
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

    /// When it is to be ended, if it runs and is not being ended.
    pub fn due(&self) -> Option<u64> {
        self.deadline.filter(|_| self.runs() && self.cause == Cause::Own)
    }

    fn ended(&mut self, waited: Waited, failure: Option<(Stage, Errno)>, oom_kills: u32) {
        self.failure = failure;
        let oom_kills = match (self.oom_before, oom_kills) {
            (UNKNOWN, _) | (_, UNKNOWN) => UNKNOWN,
            (before, after) => after.saturating_sub(before),
        };
        self.end = Some((waited, oom_kills));
        self.ended = sys::now();
        close(core::mem::replace(&mut self.slave, -1));
        let pending = |fd| if self.has_terminal() { TTY_ROOM } else { sys::pending(fd) };
        self.own_output = self.outputs.map(|fd| fd.map_or(0, pending));
        for stream in 0..2 {
            if self.pipes[stream] == Pipe::Taken {
                // The library looks for itself.
                self.own_output[stream] = 0;
            }
        }
        self.stdin.close();
    }

    pub fn begin_kill(&mut self, proc: Fd, cause: Cause) {
        if !self.runs() || self.killing.is_some() || self.reported {
            return;
        }
        // It is a zombie at worst, and still in the list.
        self.ticks = kill::started(proc, self.pid).unwrap_or(0);
        self.cause = cause;
        self.killing = Some(Killing::begin(sys::now()));
    }

    pub fn report(&mut self) -> Report {
        // Its end is told after what it has printed; what others print who hold its output may come later.
        let prints = self.cause == Cause::Own && self.own_output != [0, 0];
        if self.reported || self.killing.is_some() || prints && self.failure.is_none() {
            return Report::None;
        }
        let exit = Exit {
            cause: self.cause,
            all_dead: self.all_dead,
            ..Exit::default()
        };
        let report = match (&self.end, self.failure) {
            (Some(_), Some((stage, errno))) if self.cause == Cause::Own => Report::CannotStart(stage, errno),
            (Some((waited, oom_kills)), _) => Report::Exit(Exit {
                signal: waited.signal,
                code: if waited.signal == 0 { waited.code } else { 0 },
                wall: self.ended.saturating_sub(self.started),
                user: waited.user,
                system: waited.system,
                peak_kib: waited.peak_kib,
                oom_kills: *oom_kills,
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

    fn close(&mut self) {
        self.stdin.close();
        self.outputs.into_iter().flatten().for_each(sys::close);
        close(self.slave);
        *self = Self::FREE;
    }

    /// `None`: more than there was credit for.
    pub fn take_stdin(&mut self, data: &[u8]) -> Option<()> {
        let stdin = &mut self.stdin;
        stdin.window = stdin.window.checked_sub(data.len() as u32)?;
        if stdin.fd.is_none() || stdin.ending {
            return Some(());
        }
        if stdin.buf.is_none() {
            match sys::map(STDIN_WINDOW as usize) {
                Ok(memory) => stdin.buf = Some(memory),
                // Its input breaks off; it is told, as by a command that closes it.
                Err(_) => {
                    stdin.close();
                    stdin.closed = true;
                    return Some(());
                }
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

    pub fn wants_to_read(&self, stream: usize, output_fits: bool) -> Option<Fd> {
        let by_frames = matches!(self.pipes[stream], Pipe::Terminal | Pipe::Frames(_) | Pipe::Refused);
        self.outputs[stream].filter(|_| self.discards || by_frames && self.credit > 0 && output_fits)
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
