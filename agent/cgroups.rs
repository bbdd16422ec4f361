//! Control groups (`Documentation/admin-guide/cgroup-v2.rst` of the kernel): the container's own, which is read, and one for
//! each command where the agent may write to them.

use core::ffi::CStr;

use crate::protocol::{NO_COUNT, UNKNOWN, V1, V2};
use crate::sys::{self, Errno, Fd, OwnedFd};
use crate::users;

const ROOT: &CStr = c"/sys/fs/cgroup";

/// The agent's own group. A group that gives controllers to groups in it may have no process of its own.
const AGENT: &CStr = c"dockerpool-agent";

/// The room for the path of a file in a command's group.
const PATH: usize = 48;

pub struct Cgroups {
    /// The version, as the agent's hello has it.
    pub version: u8,
    /// The container's own group, if each command has a group in it.
    root: Option<Fd>,
    oom: OomKills,
    /// The file of the most memory that the container has had at once.
    peak: Option<Fd>,
    /// There may be groups of commands that have ended.
    pub stale: bool,
}

/// Counts the container's processes that the kernel has killed for memory.
#[derive(Clone, Copy)]
pub struct OomKills(Option<Fd>);

impl OomKills {
    /// Returns the count by now, or [`UNKNOWN`].
    pub fn count(self) -> u32 {
        let mut text = [0; 512];
        let len = self.0.and_then(|file| sys::read_from_start(file, &mut text).ok());
        len.and_then(|len| value(&text[..len], b"oom_kill "))
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or(UNKNOWN)
    }
}

/// The usage of all processes that ever were in a command's group.
pub struct Used {
    /// Processor time, in microseconds.
    pub user: u64,
    pub system: u64,
    /// The most memory at once, in bytes, or [`NO_COUNT`].
    pub peak: u64,
    /// Kills for memory.
    pub oom_kills: u32,
}

/// The step at which no groups could be made, see PROTOCOL.md, and why.
pub type Failure = (u8, Errno);

impl Cgroups {
    /// Finds the version, and opens the container's own counters.
    pub fn find() -> Self {
        let first = |paths: [&CStr; 2]| paths.into_iter().position(|path| sys::open(path).is_ok());
        let open = |paths: [&CStr; 2]| {
            paths
                .into_iter()
                .find_map(|path| sys::open(path).ok())
                .map(OwnedFd::keep)
        };
        let version = match first([
            c"/sys/fs/cgroup/cgroup.controllers",
            c"/sys/fs/cgroup/memory/memory.oom_control",
        ]) {
            Some(0) => V2,
            Some(_) => V1,
            None => 0,
        };
        Self {
            version,
            root: None,
            oom: OomKills(open([
                c"/sys/fs/cgroup/memory.events",
                c"/sys/fs/cgroup/memory/memory.oom_control",
            ])),
            peak: open([
                c"/sys/fs/cgroup/memory.peak",
                c"/sys/fs/cgroup/memory/memory.max_usage_in_bytes",
            ]),
            stale: false,
        }
    }

    /// Returns the counter of the container's processes that the kernel has killed for memory.
    pub fn oom_kills(&self) -> OomKills {
        self.oom
    }

    /// Gives each command a group of its own from now on, and moves the agent into one. A process of the agent's user could
    /// freeze it there, and so no command runs as that user.
    pub fn make(&mut self) -> core::result::Result<(), Failure> {
        let at = |step| move |error| (step, error);
        if self.version != V2 {
            return Err((1, Errno(0)));
        }
        if sys::uid() != 0 || !sys::can_become_user() {
            return Err((2, Errno::PERM));
        }
        let root = sys::open_dir(None, ROOT).map_err(at(3))?.keep();
        sys::mkdir(root, AGENT).map_err(at(3))?;
        // Without `cgroup.kill` no death is proven.
        sys::open_to_write(root, c"dockerpool-agent/cgroup.kill").map_err(at(4))?;
        write(root, c"dockerpool-agent/cgroup.procs", b"0").map_err(at(5))?;
        write(root, c"cgroup.subtree_control", b"+memory +pids").map_err(at(6))?;
        // With this one the agent has as large a share of the processor as a command, however many processes that has. Not
        // every engine of a plain user can delegate it.
        let _ = write(root, c"cgroup.subtree_control", b"+cpu");
        self.root = Some(root);
        Ok(())
    }

    /// Returns whether each command has a group of its own.
    pub fn are_made(&self) -> bool {
        self.root.is_some()
    }

    /// Makes the group of a command, with those of its limits that are not 0. Without groups its process limits itself.
    pub fn begin(&mut self, id: u32, memory: u64, pids: u32) -> sys::Result<()> {
        let Some(root) = self.root else { return Ok(()) };
        sys::mkdir(root, path(&mut [0; PATH], id, b""))?;
        let set = || {
            if memory > 0 {
                set(root, id, b"/memory.max", memory)?;
                // Swap is not to add to the memory. Without swap there is no such file.
                match set(root, id, b"/memory.swap.max", 0) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
            if pids > 0 {
                set(root, id, b"/pids.max", pids.into())?;
            }
            Ok(())
        };
        let set = set();
        if set.is_err() {
            self.remove(id);
        }
        set
    }

    /// Moves this process, which becomes the command, into the command's group.
    pub fn enter(&self, id: u32) -> sys::Result<()> {
        match self.root {
            Some(root) => write(root, path(&mut [0; PATH], id, b"/cgroup.procs"), b"0"),
            None => Ok(()),
        }
    }

    /// Kills all processes in a command's group and in groups within it, those that are begun meanwhile too.
    pub fn kill(&self, id: u32) {
        let Some(root) = self.root else { return };
        let _ = write(root, path(&mut [0; PATH], id, b"/cgroup.kill"), b"1");
        // The kernel kills by first threads, and so misses a process whose first thread has ended. Its pid reaches the whole
        // process.
        let mut buf = [0; 1024];
        let Some(listed) = self.read(id, b"/cgroup.procs", &mut buf) else {
            return;
        };
        // The buffer may cut the last number. Another round follows.
        let whole = listed.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        for pid in listed[..whole].split(|byte| *byte == b'\n').filter_map(users::number) {
            let _ = sys::kill(pid as i32, sys::SIGKILL);
        }
    }

    /// Calls `see` for each process in a command's group.
    pub fn each_process(&self, id: u32, mut see: impl FnMut(i32)) {
        let Some(root) = self.root else { return };
        let Ok(file) = sys::open_at(root, path(&mut [0; PATH], id, b"/cgroup.procs")) else {
            return;
        };
        let (mut buf, mut len) = ([0; 1024], 0);
        while let Ok(read @ 1..) = sys::read(file.fd(), &mut buf[len..]) {
            len += read;
            // The buffer may cut the last number.
            let whole = buf[..len]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            for pid in buf[..whole].split(|byte| *byte == b'\n').filter_map(users::number) {
                see(pid as i32);
            }
            buf.copy_within(whole..len, 0);
            len -= whole;
        }
    }

    /// Returns whether nothing lives in a command's group and in groups within it. A process whose first thread has ended
    /// counts as living.
    pub fn is_empty(&self, id: u32) -> bool {
        let mut text = [0; 128];
        self.read(id, b"/cgroup.events", &mut text)
            .is_some_and(|text| value(text, b"populated ") == Some(0))
    }

    /// Returns what a command's group has used, or `None` if it has no group.
    #[inline(never)]
    pub fn used(&self, id: u32) -> Option<Used> {
        let mut buf = [0; 1024];
        let stat = self.read(id, b"/cpu.stat", &mut buf)?;
        let (user, system) = (value(stat, b"user_usec ")?, value(stat, b"system_usec ")?);
        let peak = self
            .read(id, b"/memory.peak", &mut buf)
            .and_then(|text| value(text, b""));
        // The file counts groups within too, and a kill where its victim was, whatever limit it was for.
        let events = self.read(id, b"/memory.events", &mut buf)?;
        Some(Used {
            user,
            system,
            peak: peak.unwrap_or(NO_COUNT),
            oom_kills: u32::try_from(value(events, b"oom_kill ")?).unwrap_or(u32::MAX),
        })
    }

    /// Returns the most memory that the container has had at once so far, in bytes, or [`NO_COUNT`].
    pub fn container_peak(&self) -> u64 {
        let mut text = [0; 32];
        let len = self.peak.and_then(|peak| sys::read_from_start(peak, &mut text).ok());
        len.and_then(|len| value(&text[..len], b"")).unwrap_or(NO_COUNT)
    }

    /// Removes the group of a command that has ended. [`sweep`](Self::sweep) removes it later if something lives in it.
    pub fn remove(&mut self, id: u32) {
        if let Some(root) = self.root
            && sys::rmdir(root, path(&mut [0; PATH], id, b"")).is_err()
        {
            self.stale = true;
        }
    }

    /// Removes the groups of ended commands in which nothing lives any more. `runs` tells which ids are of other commands.
    pub fn sweep(&mut self, runs: impl Fn(u32) -> bool) {
        let Some(root) = self.root.filter(|_| self.stale) else {
            return;
        };
        self.stale = false;
        sys::rewind(root);
        let mut buf = [0; 1024];
        while let Ok(len) = sys::read_dir(root, &mut buf)
            && len > 0
        {
            for name in sys::entries(&buf[..len]) {
                let id = name.to_bytes().strip_prefix(b"c").and_then(users::number);
                if id.is_some_and(|id| !runs(id)) && sys::rmdir(root, name).is_err() {
                    self.stale = true;
                }
            }
        }
    }

    /// Reads a file in the group of a command.
    #[inline(never)]
    fn read<'a>(&self, id: u32, file: &[u8], buf: &'a mut [u8]) -> Option<&'a [u8]> {
        let file = sys::open_at(self.root?, path(&mut [0; PATH], id, file)).ok()?;
        let len = sys::read(file.fd(), buf).ok()?;
        Some(&buf[..len])
    }
}

/// Writes a limit to a file in the group of a command.
fn set(root: Fd, id: u32, file: &[u8], value: u64) -> sys::Result<()> {
    write(
        root,
        path(&mut [0; PATH], id, file),
        users::decimal(value, &mut [0; 20]),
    )
}

#[inline(never)]
fn write(dir: Fd, path: &CStr, text: &[u8]) -> sys::Result<()> {
    let file = sys::open_to_write(dir, path)?;
    sys::write(file.fd(), text).map(drop)
}

/// Returns the path of a file in the group of a command, or of the group itself if `file` is empty.
#[inline(never)]
fn path<'a>(buf: &'a mut [u8; PATH], id: u32, file: &[u8]) -> &'a CStr {
    let mut digits = [0; 20];
    let mut len = 0;
    for part in [b"c", users::decimal(id.into(), &mut digits), file] {
        buf[len..len + part.len()].copy_from_slice(part);
        len += part.len();
    }
    CStr::from_bytes_until_nul(buf).unwrap_or(c"c")
}

/// Returns the number that follows `key` in the first line that begins with it.
#[inline(never)]
fn value(text: &[u8], key: &[u8]) -> Option<u64> {
    let line = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key))?;
    users::long_number(line)
}
