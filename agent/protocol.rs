//! The protocol between the agent and the library, see PROTOCOL.md. Both sides are built from this file. It has no system
//! calls, no allocation and no unsafe code.

use core::ffi::CStr;

/// The version of the protocol. Both sides must have the same.
pub const VERSION: u16 = 6;

/// Begins the payload of both hellos.
pub const MAGIC: [u8; 4] = *b"dpag";

/// The path of the library's socket in a container, if it has mounted one.
pub const SOCKET: &CStr = c"/.dockerpool-agent-socket";

/// The length of the token by which the library knows that the agent has connected to its socket.
pub const TOKEN: usize = 16;

/// The bytes before each payload: its length, the kind, the id.
pub const HEADER: usize = 9;

/// The most bytes of input or output in one frame.
pub const MAX_DATA: usize = 64 * 1024;

/// The most bytes of standard input of one command that may be on their way before the agent gives credit.
pub const STDIN_WINDOW: u32 = 64 * 1024;

/// After so many bytes of output in frames the agent offers the pipe of a stream, where there is the socket.
pub const PIPE_AFTER: usize = 128 * 1024;

/// The most bytes of a spawn: arguments, environment, directory and user, and the numbers before them.
pub const MAX_SPAWN: usize = 2 * 1024 * 1024 + 64 * 1024;

/// The most bytes of a wipe: its paths, and the number before them.
pub const MAX_WIPE: usize = 16 * 1024;

/// The most bytes of a baseline: its paths, and the numbers before them.
pub const MAX_BASELINE: usize = 64 * 1024;

/// The most bytes of a path in an answer. The rest is cut off.
pub const MAX_SAID: usize = 80;

/// The most commands at once in one container, with those that have ended while other processes hold their output.
pub const MAX_COMMANDS: usize = 64;

/// The most arguments, and the most variables.
pub const MAX_STRINGS: u32 = 256 * 1024;

/// A count of 32 bits that is not known.
pub const UNKNOWN: u32 = u32::MAX;

/// A count of 64 bits that is not known.
pub const NO_COUNT: u64 = u64::MAX;

/// A flag in [`Spawn::flags`]: standard input is sent. Otherwise it is `/dev/null`.
pub const WITH_STDIN: u32 = 1;
/// A flag in [`Spawn::flags`]: the command gets none of the agent's own variables.
pub const CLEAR_ENV: u32 = 2;
/// A flag in [`Spawn::flags`]: the command has a terminal in place of pipes.
pub const WITH_TTY: u32 = 4;
/// A flag in [`Spawn::flags`]: in place of executing a program the process serves files, by its standard streams.
pub const FILES: u32 = 8;

/// A flag in the answer to a baseline: nothing can be written to the root file system.
pub const READ_ONLY_ROOT: u8 = 1;

/// The number of limits that Linux has for a process.
pub const LIMITS: usize = 16;

/// The bytes of one limit: its number, and the soft and the hard limit.
pub const LIMIT: usize = 4 + 8 + 8;

/// A flag in the agent's hello: commands can run as any user.
pub const ANY_USER: u8 = 1;
/// A flag in the agent's hello: all further frames, of both sides, go through the socket.
pub const BY_SOCKET: u8 = 2;
/// A flag in the agent's hello: the container has control groups of version 1.
pub const V1: u8 = 4;
/// A flag in the agent's hello: the container has control groups of version 2.
pub const V2: u8 = 8;

/// Kinds of frames to the agent.
pub mod to_agent {
    pub const HELLO: u8 = 1;
    pub const SPAWN: u8 = 2;
    pub const STDIN: u8 = 3;
    pub const STDIN_END: u8 = 4;
    pub const CREDIT: u8 = 5;
    pub const SIGNAL: u8 = 6;
    pub const KILL: u8 = 7;
    pub const CLOSE: u8 = 8;
    pub const KILL_ALL: u8 = 9;
    pub const WIPE: u8 = 10;
    pub const COUNT: u8 = 11;
    pub const PING: u8 = 12;
    pub const PIPE: u8 = 13;
    pub const LIMITS: u8 = 14;
    pub const RESIZE: u8 = 15;
    pub const CGROUPS: u8 = 16;
    pub const BASELINE: u8 = 17;
    pub const CLEAN: u8 = 18;

    /// The least and the most bytes such a frame may have; `None`: there is no such frame.
    pub fn sizes(kind: u8) -> Option<(usize, usize)> {
        Some(match kind {
            HELLO => (6, 6 + super::TOKEN),
            SPAWN => (super::Spawn::FIXED, super::MAX_SPAWN),
            STDIN => (1, super::MAX_DATA),
            CREDIT | RESIZE => (4, 4),
            SIGNAL => (5, 5),
            WIPE => (4, super::MAX_WIPE),
            BASELINE => (8, super::MAX_BASELINE),
            CLEAN => (4, 4),
            PIPE => (2, 2),
            LIMITS => (super::LIMIT, super::LIMITS * super::LIMIT),
            STDIN_END | KILL | CLOSE | KILL_ALL | COUNT | PING | CGROUPS => (0, 0),
            _ => return None,
        })
    }
}

/// Kinds of frames from the agent.
pub mod from_agent {
    pub const HELLO: u8 = 129;
    pub const STDOUT: u8 = 130;
    pub const STDERR: u8 = 131;
    pub const STDOUT_END: u8 = 132;
    pub const STDERR_END: u8 = 133;
    pub const STDIN_CREDIT: u8 = 134;
    pub const STDIN_CLOSED: u8 = 135;
    pub const EXIT: u8 = 136;
    pub const CANNOT_START: u8 = 137;
    pub const ALL_KILLED: u8 = 138;
    pub const WIPED: u8 = 139;
    pub const COUNTED: u8 = 140;
    pub const PONG: u8 = 141;
    pub const STDOUT_PIPE: u8 = 142;
    pub const STDERR_PIPE: u8 = 143;
    pub const CGROUPS_MADE: u8 = 144;
    pub const BASELINE_TAKEN: u8 = 145;
    pub const CLEANED: u8 = 146;

    /// The least and the most bytes such a frame may have; `None`: there is no such frame.
    pub fn sizes(kind: u8) -> Option<(usize, usize)> {
        Some(match kind {
            HELLO => (7, 7),
            STDOUT | STDERR => (1, super::MAX_DATA),
            STDIN_CREDIT | COUNTED | PONG => (4, 4),
            STDOUT_END | STDERR_END | STDIN_CLOSED | STDOUT_PIPE | STDERR_PIPE => (0, 0),
            EXIT => (super::Exit::SIZE, super::Exit::SIZE),
            CANNOT_START | CGROUPS_MADE => (5, 5),
            WIPED => (9, 9),
            BASELINE_TAKEN | CLEANED => (6, 6 + super::MAX_SAID),
            ALL_KILLED => (4, 4),
            _ => return None,
        })
    }
}

/// The part of a frame before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length of the payload.
    pub len: usize,
    pub kind: u8,
    /// The id of the command or the question.
    pub id: u32,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER] {
        let len = (self.len as u32).to_le_bytes();
        let id = self.id.to_le_bytes();
        [len[0], len[1], len[2], len[3], self.kind, id[0], id[1], id[2], id[3]]
    }

    /// Returns `None` if there are too few bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            len: fields.u32()? as usize,
            kind: fields.u8()?,
            id: fields.u32()?,
        })
    }
}

/// The beginning of what has come from the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// There is less than a header.
    Nothing,
    /// There is a frame, whose payload may not be whole.
    Frame(Header),
    /// There is no such frame.
    Malformed,
}

impl Begun {
    pub fn of(bytes: &[u8]) -> Self {
        let Some(header) = Header::decode(bytes) else {
            return Self::Nothing;
        };
        match to_agent::sizes(header.kind) {
            Some((least, most)) if (least..=most).contains(&header.len) => Self::Frame(header),
            _ => Self::Malformed,
        }
    }
}

/// Reads a payload from its beginning.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// A text with the NUL that ends it.
    pub fn text(&mut self) -> Option<&'a CStr> {
        let text = CStr::from_bytes_until_nul(self.0).ok()?;
        self.take(text.count_bytes() + 1)?;
        Some(text)
    }
}

/// Reads the first part of a hello, which both sides have in common, and returns its version.
pub fn hello_version(fields: &mut Fields<'_>) -> Option<u16> {
    if fields.take(4)? != MAGIC {
        return None;
    }
    fields.u16()
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub cols: u16,
}

impl Size {
    pub fn encode(self) -> [u8; 4] {
        let (rows, cols) = (self.rows.to_le_bytes(), self.cols.to_le_bytes());
        [rows[0], rows[1], cols[0], cols[1]]
    }

    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            rows: fields.u16()?,
            cols: fields.u16()?,
        })
    }
}

/// A command, as it is to be started.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    pub flags: u32,
    /// The most bytes of output that may be on their way before there is credit.
    pub window: u32,
    /// The time to run, in milliseconds, or 0 for no deadline.
    pub deadline: u64,
    /// The most processor time of all its processes together, in microseconds, or 0 for no limit of its own.
    pub cpu_time: u64,
    /// The most bytes of memory: of all its processes together with a control group of its own, else of each. 0 for no limit of
    /// its own.
    pub memory: u64,
    /// The most bytes of a file that it writes, or 0 for no limit of its own.
    pub file_size: u64,
    /// The most processes and threads: of its own with a control group of its own, else of its user. 0 for no limit of its own.
    pub pids: u32,
    /// The size of its terminal, if it has one.
    pub size: Size,
    /// The number of arguments, the program included.
    pub argc: u32,
    /// The number of variables.
    pub envc: u32,
    /// The directory, or nothing for the container's.
    pub cwd: &'a CStr,
    /// `user[:group]`, or nothing for the container's.
    pub user: &'a CStr,
    /// The arguments, then the variables, which are in the order of their names. Each name comes once.
    pub texts: Fields<'a>,
}

impl<'a> Spawn<'a> {
    /// The bytes before the texts.
    pub const FIXED: usize = 4 + 4 + 4 * 8 + 4 + 4 + 4 + 4;

    /// Returns `None` unless the payload is a whole spawn, with nothing after it.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let spawn = Self {
            flags: fields.u32()?,
            window: fields.u32()?,
            deadline: fields.u64()?,
            cpu_time: fields.u64()?,
            memory: fields.u64()?,
            file_size: fields.u64()?,
            pids: fields.u32()?,
            size: Size::decode(&mut fields)?,
            argc: fields.u32()?,
            envc: fields.u32()?,
            cwd: fields.text()?,
            user: fields.text()?,
            texts: fields,
        };
        if spawn.flags & !(WITH_STDIN | CLEAR_ENV | WITH_TTY | FILES) != 0
            || spawn.flags & FILES != 0 && spawn.flags != FILES | WITH_STDIN
            || spawn.argc == 0
            || spawn.argc > MAX_STRINGS
            || spawn.envc > MAX_STRINGS
        {
            return None;
        }
        for _ in 0..spawn.argc + spawn.envc {
            fields.text()?;
        }
        fields.0.is_empty().then_some(spawn)
    }

    pub fn args(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        texts(self.texts, 0, self.argc)
    }

    pub fn env(&self) -> impl Iterator<Item = &'a CStr> + use<'a> {
        texts(self.texts, self.argc, self.envc)
    }
}

fn texts(fields: Fields<'_>, skip: u32, count: u32) -> impl Iterator<Item = &CStr> {
    let mut fields = fields;
    core::iter::from_fn(move || fields.text())
        .skip(skip as usize)
        .take(count as usize)
}

/// The processes of a command that a signal is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reach {
    /// The first process.
    First = 0,
    /// All processes.
    All = 1,
    /// All processes, which are to end: the command has ended once all of them have.
    End = 2,
}

impl Reach {
    pub fn decode(code: u8) -> Option<Self> {
        [Self::First, Self::All, Self::End]
            .into_iter()
            .find(|reach| *reach as u8 == code)
    }
}

/// Why a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// By itself, or by something in the container.
    #[default]
    Own = 0,
    /// The agent killed it on request.
    Kill = 1,
    /// The agent killed it at its deadline.
    Deadline = 2,
    /// By itself after it was to end. What was left of it has ended too, or the agent killed it.
    Stop = 3,
    /// The agent killed it since its processes had used up their processor time.
    CpuTime = 4,
}

/// The flags of an [`Exit`].
const ALL_DEAD: u8 = 1;
const FOR_MEMORY: u8 = 2;
const CPU_TIME: u8 = 4;

/// The end of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// The signal that ended the first process, or 0.
    pub signal: u8,
    /// The exit code, if no signal ended the first process.
    pub code: u8,
    pub cause: Cause,
    /// The command was killed or was to end, and no process of it lives.
    pub all_dead: bool,
    /// The time from the start to the end of the first process, in microseconds.
    pub wall: u64,
    /// The processor time of all its processes that were waited for, by each other or by PID 1, in microseconds.
    pub user: u64,
    pub system: u64,
    /// The largest resident size of one of these processes, in KiB.
    pub peak_kib: u64,
    /// The number of processes of the container that the kernel killed for memory meanwhile, or [`UNKNOWN`].
    pub oom_kills: u32,
    /// A process of the command was killed for memory.
    pub for_memory: bool,
    /// The processes of the command have used as much processor time as they may.
    pub cpu_time_used_up: bool,
    /// The most memory that all its processes had at once, in bytes, or [`NO_COUNT`] without a control group of its own.
    pub own_peak: u64,
    /// The most memory that the container had at once so far, in bytes, or [`NO_COUNT`].
    pub container_peak: u64,
}

impl Exit {
    pub const SIZE: usize = 4 + 4 * 8 + 4 + 2 * 8;

    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let flags = (ALL_DEAD * self.all_dead as u8)
            | (FOR_MEMORY * self.for_memory as u8)
            | (CPU_TIME * self.cpu_time_used_up as u8);
        bytes[..4].copy_from_slice(&[self.signal, self.code, self.cause as u8, flags]);
        for (i, value) in [self.wall, self.user, self.system, self.peak_kib]
            .into_iter()
            .enumerate()
        {
            bytes[4 + 8 * i..][..8].copy_from_slice(&value.to_le_bytes());
        }
        bytes[36..40].copy_from_slice(&self.oom_kills.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.own_peak.to_le_bytes());
        bytes[48..].copy_from_slice(&self.container_peak.to_le_bytes());
        bytes
    }

    pub fn decode(payload: &[u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let (signal, code) = (fields.u8()?, fields.u8()?);
        let cause = match fields.u8()? {
            0 => Cause::Own,
            1 => Cause::Kill,
            2 => Cause::Deadline,
            3 => Cause::Stop,
            4 => Cause::CpuTime,
            _ => return None,
        };
        let flags = fields
            .u8()
            .filter(|flags| flags & !(ALL_DEAD | FOR_MEMORY | CPU_TIME) == 0)?;
        let exit = Self {
            signal,
            code,
            cause,
            all_dead: flags & ALL_DEAD != 0,
            for_memory: flags & FOR_MEMORY != 0,
            cpu_time_used_up: flags & CPU_TIME != 0,
            wall: fields.u64()?,
            user: fields.u64()?,
            system: fields.u64()?,
            peak_kib: fields.u64()?,
            oom_kills: fields.u32()?,
            own_peak: fields.u64()?,
            container_peak: fields.u64()?,
        };
        (fields.0.is_empty() && exit.signal <= 64 && (exit.signal == 0 || exit.code == 0)).then_some(exit)
    }
}

/// The step at which a command could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// There are as many commands as there may be.
    Table = 1,
    /// There is no process, file descriptor or memory for the command.
    Resources = 2,
    /// The user is not known.
    User = 3,
    /// The group is not known.
    Group = 4,
    /// The process may not become the user.
    BecomeUser = 5,
    /// The working directory cannot be entered.
    Directory = 6,
    /// The program is nowhere on the `PATH`.
    Lookup = 7,
    /// The program cannot be executed.
    Exec = 8,
    /// Limits or priorities were changed from within the container, and cannot be put right.
    Limits = 9,
    /// There is no terminal to be had.
    Terminal = 10,
    /// The control group cannot be made or entered.
    Cgroup = 11,
    /// The user of the command could write to control groups.
    CgroupUser = 12,
    /// The kernel does not limit the processes of this user.
    Processes = 13,
}

impl Stage {
    pub fn decode(code: u8) -> Option<Self> {
        use Stage::*;
        [
            Table, Resources, User, Group, BecomeUser, Directory, Lookup, Exec, Limits, Terminal, Cgroup, CgroupUser,
            Processes,
        ]
        .into_iter()
        .find(|stage| *stage as u8 == code)
    }
}

/// Why there is no baseline, or why a container is not proven to be as at its baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Why {
    /// A call of the kernel failed.
    Failed = 1,
    /// There is more to look at than the agent has memory for.
    TooMuch = 2,
    /// A directory is mounted for writing that is no workspace.
    Writable = 3,
    /// A workspace has something in it at the start.
    NotEmpty = 4,
    /// No file system of message queues is mounted, so that nobody can list them.
    NoQueues = 5,
    /// Processes are left.
    Processes = 6,
    /// A workspace could not be emptied.
    Workspace = 7,
    /// An object of System V could not be removed.
    Object = 8,
    /// A text of the kernel's, a file or a directory is not as it was.
    Changed = 9,
    /// There is no baseline.
    NoBaseline = 10,
    /// A mount of the user's own is not at the path that was told, and may be where a workspace should be.
    Elsewhere = 11,
}

impl Why {
    pub fn decode(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Failed,
            2 => Self::TooMuch,
            3 => Self::Writable,
            4 => Self::NotEmpty,
            5 => Self::NoQueues,
            6 => Self::Processes,
            7 => Self::Workspace,
            8 => Self::Object,
            9 => Self::Changed,
            10 => Self::NoBaseline,
            11 => Self::Elsewhere,
            _ => return None,
        })
    }
}
