//! Control groups (`Documentation/admin-guide/cgroup-v2.rst` of the kernel): what the container's own tells, and one for each
//! command where it can be written to.

use core::ffi::CStr;

use crate::protocol::{NO_COUNT, UNKNOWN, V1, V2};
use crate::sys::{self, Errno, Fd, OwnedFd};
use crate::users;

const ROOT: &CStr = c"/sys/fs/cgroup";

/// Where the agent goes: a group that has controllers for others in it may have no process of its own.
const AGENT: &CStr = c"dockerpool-agent";

/// The longest name of a command's group with that of a file in it.
const PATH: usize = 48;

pub struct Cgroups {
    /// In the agent's hello.
    pub version: u8,
    /// The container's own group, where each command has one of its own in it.
    root: Option<Fd>,
    /// Where the kernel counts its kills for memory in the container.
    oom: OomKills,
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

/// What was used in a command's group.
pub struct Used {
    /// Microseconds.
    pub user: u64,
    pub system: u64,
    /// Bytes, or [`NO_COUNT`].
    pub peak: u64,
    pub oom_kills: u32,
}

/// At which step no groups could be made, see PROTOCOL.md, and why.
pub type Failure = (u8, Errno);

impl Cgroups {
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

    /// Has each command get a group of its own from now on. The agent goes into one too. Who runs as its user could freeze
    /// it there, and so no command does.
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
        // Without it nothing is proven.
        sys::open_to_write(root, c"dockerpool-agent/cgroup.kill").map_err(at(4))?;
        write(root, c"dockerpool-agent/cgroup.procs", b"0").map_err(at(5))?;
        write(root, c"cgroup.subtree_control", b"+memory +pids").map_err(at(6))?;
        // Then the agent has as large a share of the processor as a command, however many processes that has. Not every engine
        // of a plain user has this one delegated.
        let _ = write(root, c"cgroup.subtree_control", b"+cpu");
        self.root = Some(root);
        Ok(())
    }

    /// Whether each command has a group of its own.
    pub fn are_made(&self) -> bool {
        self.root.is_some()
    }

    /// Makes the group of a command, with its limits, if they are not 0.
    pub fn begin(&mut self, id: u32, memory: u64, pids: u32) -> sys::Result<()> {
        let Some(root) = self.root else {
            return if memory == 0 && pids == 0 {
                Ok(())
            } else {
                Err(Errno::INVAL)
            };
        };
        sys::mkdir(root, path(&mut [0; PATH], id, b""))?;
        let set = || {
            if memory > 0 {
                set(root, id, b"/memory.max", memory)?;
                // Swap is not added to it. Where there is no swap there is no such file.
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

    /// In the child that becomes the command.
    pub fn enter(&self, id: u32) -> sys::Result<()> {
        match self.root {
            Some(root) => write(root, path(&mut [0; PATH], id, b"/cgroup.procs"), b"0"),
            None => Ok(()),
        }
    }

    /// Kills all that is in a command's group or in groups within it, also what is begun meanwhile.
    pub fn kill(&self, id: u32) {
        let Some(root) = self.root else { return };
        let _ = write(root, path(&mut [0; PATH], id, b"/cgroup.kill"), b"1");
        // The kernel sends this to first threads. A process whose first thread has ended goes on, and is killed as a whole.
        let mut buf = [0; 1024];
        let Some(listed) = self.read(id, b"/cgroup.procs", &mut buf) else {
            return;
        };
        // The last number may be cut, and another round follows.
        let whole = listed.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        for pid in listed[..whole].split(|byte| *byte == b'\n').filter_map(users::number) {
            let _ = sys::kill(pid as i32, sys::SIGKILL);
        }
    }

    /// Whether nothing lives in a command's group, nor in groups within it. A first thread that has ended alone is no end of
    /// its process here.
    pub fn is_empty(&self, id: u32) -> bool {
        let mut text = [0; 128];
        self.read(id, b"/cgroup.events", &mut text)
            .is_some_and(|text| value(text, b"populated ") == Some(0))
    }

    /// What all that was ever in a command's group has used; `None` where it has no group.
    #[inline(never)]
    pub fn used(&self, id: u32) -> Option<Used> {
        let mut buf = [0; 1024];
        let stat = self.read(id, b"/cpu.stat", &mut buf)?;
        let (user, system) = (value(stat, b"user_usec ")?, value(stat, b"system_usec ")?);
        let peak = self
            .read(id, b"/memory.peak", &mut buf)
            .and_then(|text| value(text, b""));
        // Of the groups within it too. A kill counts where its victim was, whatever limit it was for.
        let events = self.read(id, b"/memory.events", &mut buf)?;
        Some(Used {
            user,
            system,
            peak: peak.unwrap_or(NO_COUNT),
            oom_kills: u32::try_from(value(events, b"oom_kill ")?).unwrap_or(u32::MAX),
        })
    }

    /// The most memory that the container has had at once so far.
    pub fn container_peak(&self) -> u64 {
        let mut text = [0; 32];
        let len = self.peak.and_then(|peak| sys::read_from_start(peak, &mut text).ok());
        len.and_then(|len| value(&text[..len], b"")).unwrap_or(NO_COUNT)
    }

    /// Removes the group of a command that has ended. While something of it lives on it stays, and is removed later.
    pub fn remove(&mut self, id: u32) {
        if let Some(root) = self.root
            && sys::rmdir(root, path(&mut [0; PATH], id, b"")).is_err()
        {
            self.stale = true;
        }
    }

    /// Removes the groups in which nothing lives any more, but for those of commands that run.
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

    #[inline(never)]
    fn read<'a>(&self, id: u32, file: &[u8], buf: &'a mut [u8]) -> Option<&'a [u8]> {
        let file = sys::open_at(self.root?, path(&mut [0; PATH], id, file)).ok()?;
        let len = sys::read(file.fd(), buf).ok()?;
        Some(&buf[..len])
    }
}

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

/// A file in the group of a command; the group itself if empty.
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

/// The number after this in one of the lines.
#[inline(never)]
fn value(text: &[u8], key: &[u8]) -> Option<u64> {
    let line = text
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(key))?;
    let mut number = 0u64;
    for digit in line {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    (!line.is_empty()).then_some(number)
}
