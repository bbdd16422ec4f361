//! What the agent and the library say to each other, see PROTOCOL.md. Both sides are built from this file. It has no
//! system calls, no allocation and no unsafe code.

use core::ffi::CStr;

/// Of the protocol; both sides must have the same.
pub const VERSION: u16 = 4;

/// Begins the payload of both hellos.
pub const MAGIC: [u8; 4] = *b"dpag";

/// Where the library's socket is in a container, if it has mounted one.
pub const SOCKET: &CStr = c"/.dockerpool-agent-socket";

/// The bytes by which the library knows who has connected to that.
pub const TOKEN: usize = 16;

/// Bytes before each payload: its length, the kind, the id.
pub const HEADER: usize = 9;

/// The most bytes of input or output in one frame.
pub const MAX_DATA: usize = 64 * 1024;

/// How much standard input of one command may be on its way to it before the agent gives credit.
pub const STDIN_WINDOW: u32 = 64 * 1024;

/// After so much output in frames a stream's pipe itself is given to the library, where there is the socket.
pub const PIPE_AFTER: usize = 128 * 1024;

/// The most a command may be made of: arguments, environment, directory and user, with what counts them.
pub const MAX_SPAWN: usize = 2 * 1024 * 1024 + 64 * 1024;

/// The most paths of one wipe may have together.
pub const MAX_WIPE: usize = 16 * 1024;

/// The most commands at once in one container, those among them that have ended while others hold their output.
pub const MAX_COMMANDS: usize = 64;

/// The most arguments, and the most variables.
pub const MAX_STRINGS: u32 = 256 * 1024;

/// A count that nobody knows.
pub const UNKNOWN: u32 = u32::MAX;

/// The same of 64 bits.
pub const NO_COUNT: u64 = u64::MAX;

/// In [`Spawn::flags`]: standard input is sent; else it is `/dev/null`.
pub const WITH_STDIN: u32 = 1;
/// ...and none of the agent's own variables are the command's.
pub const CLEAR_ENV: u32 = 2;
/// ...and it has a terminal in place of pipes.
pub const WITH_TTY: u32 = 4;

/// As many kinds of limits as Linux has for a process.
pub const LIMITS: usize = 16;

/// Bytes for one of them: which, and the soft and the hard limit.
pub const LIMIT: usize = 4 + 8 + 8;

/// In the agent's hello: commands can be of any user.
pub const ANY_USER: u8 = 1;
/// ...and all further frames, of both sides, come through the socket.
pub const BY_SOCKET: u8 = 2;
/// ...and the container has control groups of this version; neither: it sees none.
pub const V1: u8 = 4;
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

    /// The least and the most bytes such a frame may have; `None`: there is no such frame.
    pub fn sizes(kind: u8) -> Option<(usize, usize)> {
        Some(match kind {
            HELLO => (6, 6 + super::TOKEN),
            SPAWN => (super::Spawn::FIXED, super::MAX_SPAWN),
            STDIN => (1, super::MAX_DATA),
            CREDIT | SIGNAL | RESIZE => (4, 4),
            WIPE => (4, super::MAX_WIPE),
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
            ALL_KILLED => (4, 4),
            _ => return None,
        })
    }
}

/// Which frame, of which command, with how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub len: usize,
    pub kind: u8,
    pub id: u32,
}

impl Header {
    pub fn encode(self) -> [u8; HEADER] {
        let len = (self.len as u32).to_le_bytes();
        let id = self.id.to_le_bytes();
        [len[0], len[1], len[2], len[3], self.kind, id[0], id[1], id[2], id[3]]
    }

    /// `None`: too few bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            len: fields.u32()? as usize,
            kind: fields.u8()?,
            id: fields.u32()?,
        })
    }
}

/// What the agent has got from the library, as far as it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Less than a header.
    Nothing,
    /// A frame, of which there may be more to come.
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

/// The version in a hello of ours, or in the first part of the agent's.
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

/// What a command is made of.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    pub flags: u32,
    /// How much output may be on its way before there is credit.
    pub window: u32,
    /// Milliseconds from now on; 0: none.
    pub deadline: u64,
    /// The most bytes of memory of all it starts together; 0: no limit of its own.
    pub memory: u64,
    /// The most processes and threads; 0: no limit of its own.
    pub pids: u32,
    /// Of its terminal, if it has one.
    pub size: Size,
    pub argc: u32,
    pub envc: u32,
    /// Empty: the container's.
    pub cwd: &'a CStr,
    /// `user[:group]`; empty: the container's.
    pub user: &'a CStr,
    /// `argc` arguments, then `envc` variables, in the order of their names and each name once.
    pub texts: Fields<'a>,
}

impl<'a> Spawn<'a> {
    /// The bytes before the texts.
    pub const FIXED: usize = 4 + 4 + 8 + 8 + 4 + 4 + 4 + 4;

    /// `None` unless it is whole, with nothing after it.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let spawn = Self {
            flags: fields.u32()?,
            window: fields.u32()?,
            deadline: fields.u64()?,
            memory: fields.u64()?,
            pids: fields.u32()?,
            size: Size::decode(&mut fields)?,
            argc: fields.u32()?,
            envc: fields.u32()?,
            cwd: fields.text()?,
            user: fields.text()?,
            texts: fields,
        };
        if spawn.flags & !(WITH_STDIN | CLEAR_ENV | WITH_TTY) != 0
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

/// Who ended a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Itself, or something in the container.
    #[default]
    Own = 0,
    /// The agent, on request.
    Kill = 1,
    /// The agent, at its deadline.
    Deadline = 2,
}

/// In [`Exit`]'s flags.
const ALL_DEAD: u8 = 1;
const FOR_MEMORY: u8 = 2;

/// How a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Ended by this signal; 0: by itself.
    pub signal: u8,
    /// The exit code, if by itself.
    pub code: u8,
    pub cause: Cause,
    /// Of one that was killed: nothing of it runs any more.
    pub all_dead: bool,
    /// Microseconds.
    pub wall: u64,
    /// Of all its processes that were waited for, by each other or by PID 1.
    pub user: u64,
    pub system: u64,
    /// The largest resident size of one of them, in KiB.
    pub peak_kib: u64,
    /// How many processes of the container the kernel killed for memory while it ran, or [`UNKNOWN`].
    pub oom_kills: u32,
    /// One of them was its own.
    pub for_memory: bool,
    /// The most memory that all it has started had at once, in bytes, where it has a control group of its own, or
    /// [`NO_COUNT`].
    pub own_peak: u64,
    /// ...and that the container had at once so far.
    pub container_peak: u64,
}

impl Exit {
    pub const SIZE: usize = 4 + 4 * 8 + 4 + 2 * 8;

    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let flags = (ALL_DEAD * self.all_dead as u8) | (FOR_MEMORY * self.for_memory as u8);
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
            _ => return None,
        };
        let flags = fields.u8().filter(|flags| flags & !(ALL_DEAD | FOR_MEMORY) == 0)?;
        let exit = Self {
            signal,
            code,
            cause,
            all_dead: flags & ALL_DEAD != 0,
            for_memory: flags & FOR_MEMORY != 0,
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

/// What a command could not be started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// As many commands as there may be.
    Table = 1,
    /// No process, descriptor or memory for it.
    Resources = 2,
    /// Its user is not known.
    User = 3,
    /// Its group is not known.
    Group = 4,
    /// It may not become its user.
    BecomeUser = 5,
    /// Its working directory.
    Directory = 6,
    /// The program is nowhere on the `PATH`.
    Lookup = 7,
    /// The program itself.
    Exec = 8,
    /// Its limits, or the agent's priority, were changed from within the container, and cannot be put right.
    Limits = 9,
    /// A terminal.
    Terminal = 10,
    /// Its control group.
    Cgroup = 11,
    /// Who it is to run as could write to control groups.
    CgroupUser = 12,
}

impl Stage {
    pub fn decode(code: u8) -> Option<Self> {
        use Stage::*;
        [
            Table, Resources, User, Group, BecomeUser, Directory, Lookup, Exec, Limits, Terminal, Cgroup, CgroupUser,
        ]
        .into_iter()
        .find(|stage| *stage as u8 == code)
    }
}
