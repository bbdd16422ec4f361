//! A picture of what the processes of a container can change and what outlives them: mounts, objects of System V, the files
//! that are mounted for writing, `/dev`, the limits of PID 1. Two pictures that are the same show that nothing of it has
//! changed. See "Baseline and clean" in PROTOCOL.md.

use core::ffi::CStr;

use crate::protocol::{Fields, MAX_SAID, Why};
use crate::sys::{self, Bytes, Errno, OwnedFd};
use crate::users;

/// The longest path, with its NUL.
const MAX_PATH: usize = 1024;

/// The most bytes of a picture.
const ROOM: usize = 256 * 1024;

/// Small directories of the engine's own in memory, in which root can make files: devices, the mounts of control groups of
/// version 1, and what Podman mounts over a read-only root, with a file of its own in it.
const LISTED: [&CStr; 3] = [c"/dev", c"/sys/fs/cgroup", c"/run"];

/// The first bytes of the paths at which the library mounts its own files.
const OWN: &[u8] = b"/.dockerpool-agent";

/// Texts in which the kernel tells of what processes can change.
const TEXTS: [&CStr; 7] = [
    c"/proc/sysvipc/shm",
    c"/proc/sysvipc/sem",
    c"/proc/sysvipc/msg",
    c"/proc/sys/kernel/hostname",
    c"/proc/sys/kernel/domainname",
    c"/proc/self/cgroup",
    c"/proc/self/autogroup",
];

/// The view of the network. Where containers share it, the library names it among what is shared.
const NETWORK: &[u8] = b"/proc/net";

/// The same directory, where links are not followed. The rights of its files are those of the container's network alone.
const NETWORK_DIR: &CStr = c"/proc/self/net";

/// Labels of flows, which stay for a minute after the process that took them.
const FLOW_LABELS: &CStr = c"/proc/self/net/ip6_flowlabel";

/// All sockets of the container that are not of IP.
const SOCKETS: &CStr = c"/proc/self/net/unix";

/// The kernel's counts of what has happened in the network of the container.
const COUNTS: &CStr = c"/proc/self/net/snmp";
const COUNTS_6: &CStr = c"/proc/self/net/snmp6";

/// The counts that are compared: the start of a line, and the place of the number. Packets that were sent by version 4 of IP,
/// loopback included, and connections by TCP that were begun and accepted.
const COUNTED: [(&[u8], usize); 3] = [(b"Ip:", 10), (b"Tcp:", 5), (b"Tcp:", 6)];

/// The same by version 6: only what the kernel does not send by itself.
const COUNTED_6: [&[u8]; 2] = [b"Udp6OutDatagrams", b"Icmp6OutType128"];

/// All packets that were sent by version 6, and those of ICMP, by which alone the kernel sends by itself. The difference counts
/// what was sent by any other protocol, of which not each has a count of its own.
const SENT_6: [&[u8]; 2] = [b"Ip6OutRequests", b"Icmp6OutMsgs"];

/// The counts of each device, and the start of the line of the loopback device. What programs send to themselves is counted there
/// whatever its protocol, and the kernel sends nothing through it by itself.
const DEVICES: &CStr = c"/proc/self/net/dev";
const LOOPBACK: &[u8] = b"lo:";

/// How deep directories of the network are looked into.
const NETWORK_DEPTH: u32 = 4;

const MOUNTS: &CStr = c"/proc/self/mountinfo";

/// The reason, the kernel's error, and a path.
#[derive(Clone, Copy, Debug)]
pub struct Problem {
    pub why: Why,
    pub errno: Errno,
    path: [u8; MAX_SAID],
    len: usize,
}

impl Problem {
    #[inline(never)]
    pub fn new(why: Why, errno: Errno, path: &[u8]) -> Self {
        let mut this = Self {
            why,
            errno,
            path: [0; MAX_SAID],
            len: path.len().min(MAX_SAID),
        };
        this.path[..this.len].copy_from_slice(&path[..this.len]);
        this
    }

    pub fn path(&self) -> &[u8] {
        &self.path[..self.len]
    }
}

pub type Result<T> = core::result::Result<T, Problem>;

/// A directory that is emptied between two leases, with the attributes that it has at first.
#[derive(Clone, Copy)]
pub struct Workspace {
    pub path: Path,
    pub uid: u32,
    pub gid: u32,
    pub mode: u16,
}

/// A path, with its final NUL.
#[derive(Clone, Copy)]
pub struct Path([u8; MAX_PATH]);

impl Path {
    /// Returns `None` if the path is too long.
    fn new(bytes: &[u8]) -> Option<Self> {
        let mut path = [0; MAX_PATH];
        path[..MAX_PATH - 1].get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(path))
    }

    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

/// The paths of a container that the library names, see "Baseline" in PROTOCOL.md.
pub struct Told {
    memory: Bytes,
    workspaces: usize,
    shared: usize,
}

impl Told {
    /// Takes the payload of a request. Returns `None` if it makes no sense.
    #[inline(never)]
    pub fn new(mut fields: Fields<'_>) -> Option<sys::Result<Self>> {
        let (workspaces, shared) = (fields.u32()? as usize, fields.u32()? as usize);
        let mut rest = fields;
        let mut count = 0;
        while !rest.0.is_empty() {
            rest.text()?;
            count += 1;
        }
        if workspaces.checked_add(shared)? > count {
            return None;
        }
        let memory = Bytes::new(fields.0.len()).map(|mut memory| {
            memory.copy_from_slice(fields.0);
            memory
        });
        Some(memory.map(|memory| Self {
            memory,
            workspaces,
            shared,
        }))
    }

    fn paths(&self) -> impl Iterator<Item = &CStr> {
        let mut fields = Fields(&self.memory);
        core::iter::from_fn(move || fields.text())
    }

    fn is_workspace(&self, path: &[u8]) -> bool {
        self.paths().take(self.workspaces).any(|its| its.to_bytes() == path)
    }

    /// Whether the directory is the user's, who wants it to outlive leases.
    fn is_shared(&self, path: &[u8]) -> bool {
        self.shared().any(|its| its.to_bytes() == path)
    }

    fn shared(&self) -> impl Iterator<Item = &CStr> {
        self.paths().skip(self.workspaces).take(self.shared)
    }

    /// The files and directories of the root file system that are not those of the image.
    fn watched(&self) -> impl Iterator<Item = &CStr> {
        self.paths().skip(self.workspaces + self.shared)
    }
}

/// A picture: records of a kind, a name and data, each with its length before it.
pub struct Picture {
    memory: Bytes,
    len: usize,
    /// Whether nothing can be written to the root file system.
    pub root_is_read_only: bool,
}

impl Picture {
    /// Takes a picture. `found` is given each workspace.
    #[inline(never)]
    pub fn take(told: &Told, found: &mut dyn FnMut(Workspace) -> sys::Result<()>) -> Result<Self> {
        let failed = |errno, path: &CStr| Problem::new(Why::Failed, errno, path.to_bytes());
        let mut picture = Self {
            memory: Bytes::new(ROOM).map_err(|errno| failed(errno, c""))?,
            len: 0,
            root_is_read_only: false,
        };
        let mut text = Bytes::new(ROOM).map_err(|errno| failed(errno, c""))?;
        let len = read_text(MOUNTS, &mut text).map_err(|errno| failed(errno, MOUNTS))?;
        let mounts = &text[..len];
        picture.record(MOUNTS.to_bytes(), &mut |room| fill(room, mounts))?;
        for path in TEXTS {
            picture.record(path.to_bytes(), &mut |room| match read_text(path, room) {
                // A kernel may lack it.
                Err(Errno::NOENT) => Ok(0),
                read => read,
            })?;
        }
        if !told.is_shared(NETWORK) {
            picture.record(b"what was sent to the network", &mut sent)?;
            picture.record(FLOW_LABELS.to_bytes(), &mut |room| match read_text(FLOW_LABELS, room) {
                Err(Errno::NOENT) => Ok(0),
                read => read,
            })?;
            picture.record(SOCKETS.to_bytes(), &mut sockets)?;
            match sys::open_dir(None, NETWORK_DIR) {
                Err(Errno::NOENT) => {}
                dir => picture.rights(&dir.map_err(|errno| failed(errno, NETWORK_DIR))?, NETWORK_DEPTH)?,
            }
        }
        picture.record(b"the session's keyring", &mut sys::session_keys)?;
        picture.record(b"limits", &mut |room| fill(room, &sys::all_limits()))?;
        let mut has_queues = false;
        for line in mounts.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mount = Mount::parse(line).ok_or_else(|| failed(Errno::INVAL, MOUNTS))?;
            has_queues |= mount.kind == Kind::Queues;
            if let Some(workspace) = picture.mount(told, &mount)? {
                found(workspace).map_err(|errno| failed(errno, mount.path.as_c_str()))?;
            }
        }
        if !has_queues {
            return Err(Problem::new(Why::NoQueues, Errno(0), b""));
        }
        for path in told.watched() {
            match sys::stat(None, path) {
                // A missing file must be missing later, too.
                Err(Errno::NOENT | Errno::NOTDIR) => picture.record(path.to_bytes(), &mut |_| Ok(0))?,
                _ => picture.state(path, true)?,
            }
        }
        expect_shared(told, mounts)?;
        Ok(picture)
    }

    /// Fails if the mounts are not those of the picture.
    #[inline(never)]
    pub fn expect_mounts(&self) -> Result<()> {
        let failed = |errno| Problem::new(Why::Failed, errno, MOUNTS.to_bytes());
        let mut text = Bytes::new(ROOM).map_err(failed)?;
        let len = read_text(MOUNTS, &mut text).map_err(failed)?;
        // The first record.
        match next_record(&mut Fields(&self.memory[..self.len])) {
            Some((_, mounts)) if *mounts == text[..len] => Ok(()),
            _ => Err(Problem::new(Why::Changed, Errno(0), MOUNTS.to_bytes())),
        }
    }

    /// Fails with the name of the first record that is not the same.
    #[inline(never)]
    pub fn compare(&self, other: &Self) -> Result<()> {
        let (mut these, mut others) = (Fields(&self.memory[..self.len]), Fields(&other.memory[..other.len]));
        loop {
            match (next_record(&mut these), next_record(&mut others)) {
                (None, None) => return Ok(()),
                (Some(this), Some(other)) if this == other => {}
                (Some((name, _)), _) | (None, Some((name, _))) => {
                    return Err(Problem::new(Why::Changed, Errno(0), name));
                }
            }
        }
    }

    /// Adds a record, whose data `write` puts into the room that is left. Returns how many bytes that were.
    #[inline(never)]
    fn record(&mut self, name: &[u8], write: &mut dyn FnMut(&mut [u8]) -> sys::Result<usize>) -> Result<()> {
        let too_much = || Problem::new(Why::TooMuch, Errno::NOMEM, name);
        let head = 8 + name.len();
        let room = self.memory.get_mut(self.len..).filter(|room| room.len() > head);
        let (start, room) = room.ok_or_else(too_much)?.split_at_mut(head);
        let len = write(room).map_err(|errno| match errno {
            Errno::NOMEM => too_much(),
            errno => Problem::new(Why::Failed, errno, name),
        })?;
        start[..4].copy_from_slice(&(name.len() as u32).to_le_bytes());
        start[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        start[8..].copy_from_slice(name);
        self.len += head + len;
        Ok(())
    }

    /// Adds what is at a mount. Returns the workspace that it is, which must be empty.
    #[inline(never)]
    fn mount(&mut self, told: &Told, mount: &Mount) -> Result<Option<Workspace>> {
        let path = mount.path.as_c_str();
        if path == c"/" {
            self.root_is_read_only = mount.read_only;
        }
        let stat = sys::stat(None, path).map_err(|errno| Problem::new(Why::Failed, errno, path.to_bytes()))?;
        let is_own = path.to_bytes().starts_with(OWN);
        let is_shared = told.is_shared(path.to_bytes());
        self.state(path, !(mount.read_only || is_own || stat.is_dir()))?;
        if stat.is_dir() && !(mount.read_only || is_own || path == c"/" || is_shared) {
            // Its owner can set its times to anything. Where the agent may not, a command of the engine's exec API may, as root.
            if sys::forget_times(path).is_err() {
                self.record(path.to_bytes(), &mut |room| fill(room, &stat.times()))?;
            }
            if mount.kind == Kind::Memory {
                self.record(path.to_bytes(), &mut |room| {
                    fill(room, &sys::flags(path)?.to_ne_bytes())
                })?;
            }
        }
        let is_told = is_shared || told.is_workspace(path.to_bytes());
        if mount.kind == Kind::Memory && LISTED.contains(&path) && !is_told {
            self.list(path)?;
            return Ok(None);
        }
        if mount.kind == Kind::Terminals {
            self.terminals(path)?;
        }
        let is_left_alone = mount.read_only
            || matches!(mount.kind, Kind::Kernel | Kind::Terminals)
            || is_own
            || !stat.is_dir()
            || path == c"/"
            || is_shared;
        if is_left_alone {
            return Ok(None);
        }
        let is_workspace = match mount.kind {
            Kind::Queues => true,
            Kind::Memory => told.is_workspace(path.to_bytes()),
            Kind::Kernel | Kind::Terminals | Kind::Other => false,
        };
        if !is_workspace {
            return Err(Problem::new(Why::Writable, Errno(0), path.to_bytes()));
        }
        let dir = sys::open_dir(None, path).map_err(|errno| Problem::new(Why::Failed, errno, path.to_bytes()))?;
        expect_empty(&dir, path)?;
        Ok(Some(Workspace {
            path: mount.path,
            uid: stat.uid(),
            gid: stat.gid(),
            mode: stat.mode() & 0o7777,
        }))
    }

    /// Adds the attributes of a file or directory, and the names of its extended attributes. With `contents` a file's
    /// times are among them, which nobody can put back.
    #[inline(never)]
    fn state(&mut self, path: &CStr, contents: bool) -> Result<()> {
        self.record(path.to_bytes(), &mut |room| {
            let stat = sys::stat(None, path)?;
            let mut len = fill(room, &stat.attributes(contents && !stat.is_dir()))?;
            let free = room.get_mut(len..).ok_or(Errno::NOMEM)?;
            len += match sys::list_xattrs(path, free) {
                Err(Errno::NOTSUP) => 0,
                listed => listed?,
            };
            Ok(len)
        })
    }

    /// Adds the names of the terminals, and the device that makes them. Its times change with their use, also by the agent, and are
    /// set back.
    ///
    /// A terminal outlives its processes where somebody else holds the other end, as the engine does with those of its exec API.
    /// Such a terminal still has the input that nobody has read.
    #[inline(never)]
    fn terminals(&mut self, dir: &CStr) -> Result<()> {
        const NAME: &[u8] = b"/ptmx";
        self.names(dir)?;
        let dir = dir.to_bytes();
        let mut path = [0; MAX_PATH];
        let room = path.get_mut(..dir.len() + NAME.len());
        let room = room.ok_or_else(|| Problem::new(Why::TooMuch, Errno::NOMEM, dir))?;
        room[..dir.len()].copy_from_slice(dir);
        room[dir.len()..].copy_from_slice(NAME);
        let Some(path) = Path::new(room) else {
            return Err(Problem::new(Why::TooMuch, Errno::NOMEM, dir));
        };
        match sys::forget_times(path.as_c_str()) {
            Ok(()) => self.state(path.as_c_str(), false),
            // Not every file system of terminals has it.
            Err(Errno::NOENT) => Ok(()),
            // Nobody is root, and nobody may use it.
            Err(Errno::PERM | Errno::ACCES) => self.state(path.as_c_str(), true),
            Err(errno) => Err(Problem::new(Why::Failed, errno, path.as_c_str().to_bytes())),
        }
    }

    /// Adds the names in a directory.
    #[inline(never)]
    fn names(&mut self, path: &CStr) -> Result<()> {
        let failed = |errno| Problem::new(Why::Failed, errno, path.to_bytes());
        let dir = sys::open_dir(None, path).map_err(failed)?;
        let mut buf = [0; 1024];
        loop {
            let len = sys::read_dir(dir.fd(), &mut buf).map_err(failed)?;
            if len == 0 {
                return Ok(());
            }
            for name in sys::entries(&buf[..len]) {
                self.record(path.to_bytes(), &mut |room| fill(room, name.to_bytes()))?;
            }
        }
    }

    /// Adds who may do what with each file in a directory of the kernel's.
    #[inline(never)]
    fn rights(&mut self, dir: &OwnedFd, depth: u32) -> Result<()> {
        let failed = |errno| Problem::new(Why::Failed, errno, NETWORK);
        let mut buf = [0; 1024];
        loop {
            let len = sys::read_dir(dir.fd(), &mut buf).map_err(failed)?;
            if len == 0 {
                return Ok(());
            }
            for name in sys::entries(&buf[..len]).filter(|name| *name != c"..") {
                let stat = sys::stat(Some(dir.fd()), name).map_err(failed)?;
                self.record(NETWORK, &mut |room| {
                    let len = fill(room, name.to_bytes())?;
                    let rest = room.get_mut(len..).ok_or(Errno::NOMEM)?;
                    Ok(len + fill(rest, &stat.attributes(false))?)
                })?;
                if stat.is_dir() && name != c"." && depth > 0 {
                    match sys::open_dir(Some(dir.fd()), name) {
                        // Its own rights are those that count.
                        Err(Errno::ACCES) => {}
                        inner => self.rights(&inner.map_err(failed)?, depth - 1)?,
                    }
                }
            }
        }
    }

    /// Adds everything in a small directory. Other file systems that are mounted in it come by themselves.
    #[inline(never)]
    fn list(&mut self, path: &CStr) -> Result<()> {
        let failed = |errno| Problem::new(Why::Failed, errno, path.to_bytes());
        let dir = sys::open_dir(None, path).map_err(failed)?;
        let device = sys::stat(None, path).map_err(failed)?.device();
        let mut buf = [0; 2048];
        loop {
            let len = sys::read_dir(dir.fd(), &mut buf).map_err(failed)?;
            if len == 0 {
                return Ok(());
            }
            for name in sys::entries(&buf[..len]).filter(|name| *name != c"." && *name != c"..") {
                let stat = sys::stat(Some(dir.fd()), name).map_err(failed)?;
                if stat.is_dir() && stat.device() == device {
                    // Nobody looks further into it.
                    let inner = sys::open_dir(Some(dir.fd()), name).map_err(failed)?;
                    expect_empty(&inner, path)?;
                }
                let contents = stat.device() == device;
                self.record(name.to_bytes(), &mut |room| fill(room, &stat.attributes(contents)))?;
            }
        }
    }
}

/// Writes what was sent to the network. The kernel remembers addresses of neighbours and the ends of connections, and counts
/// packets, also on the loopback device. Nobody here can make it forget them, and everybody can ask for them.
#[inline(never)]
fn sent(room: &mut [u8]) -> sys::Result<usize> {
    let mut text = [0; 8192];
    let mut len = 0;
    let mut add = |number: &[u8]| {
        let free = room.get_mut(len..).ok_or(Errno::NOMEM)?;
        len += fill(free, number)?;
        *room.get_mut(len).ok_or(Errno::NOMEM)? = b' ';
        len += 1;
        Ok(())
    };
    match read_text(COUNTS, &mut text) {
        // A kernel may lack it.
        Err(Errno::NOENT) => {}
        read => {
            let lines = text[..read?].split(|byte| *byte == b'\n');
            for (start, at) in COUNTED {
                // The names are in one line, and the numbers in the next.
                let numbers = lines.clone().filter(|line| line.starts_with(start)).nth(1);
                let number = numbers.and_then(|numbers| numbers.split(|byte| *byte == b' ').nth(at));
                add(number.ok_or(Errno::INVAL)?)?;
            }
        }
    }
    match read_text(COUNTS_6, &mut text) {
        Err(Errno::NOENT) => {}
        read => {
            let mut sent = [0u64; 2];
            for line in text[..read?].split(|byte| *byte == b'\n') {
                if COUNTED_6.iter().any(|name| line.starts_with(name)) {
                    add(line)?;
                }
                for (count, name) in sent.iter_mut().zip(SENT_6) {
                    if let Some(number) = line.strip_prefix(name) {
                        *count = users::long_number(number.trim_ascii()).ok_or(Errno::INVAL)?;
                    }
                }
            }
            add(&sent[0].wrapping_sub(sent[1]).to_ne_bytes())?;
        }
    }
    match read_text(DEVICES, &mut text) {
        Err(Errno::NOENT) => {}
        read => {
            let mut lines = text[..read?].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
            if let Some(line) = lines.find(|line| line.starts_with(LOOPBACK)) {
                add(line)?;
            }
        }
    }
    Ok(len)
}

/// Writes how many sockets there are. Descriptors that are on their way through sockets that are among them outlive their processes
/// until the kernel has found that nobody can take them, at a time of its own.
#[inline(never)]
fn sockets(room: &mut [u8]) -> sys::Result<usize> {
    let len = match read_text(SOCKETS, room) {
        // A kernel may lack it.
        Err(Errno::NOENT) => return Ok(0),
        read => read?,
    };
    let count = room[..len].iter().filter(|byte| **byte == b'\n').count();
    fill(room, &count.to_ne_bytes())
}

/// Fails if a mount of the user's own is not at its path. If the path has a link in it, the mount is somewhere else, and may be
/// taken for a workspace.
#[inline(never)]
fn expect_shared(told: &Told, mounts: &[u8]) -> Result<()> {
    for path in told.shared().filter(|path| path.to_bytes() != NETWORK) {
        let is_there = |line| Mount::parse(line).is_some_and(|mount| mount.path.as_c_str() == path);
        if !mounts.split(|byte| *byte == b'\n').any(is_there) {
            return Err(Problem::new(Why::Elsewhere, Errno(0), path.to_bytes()));
        }
    }
    Ok(())
}

/// Reads a whole text of the kernel's, and returns its length.
#[inline(never)]
pub fn read_text(path: &CStr, room: &mut [u8]) -> sys::Result<usize> {
    let file = sys::open(path)?;
    let mut len = 0;
    loop {
        // With no room left it is not known whether that was all.
        let free = room
            .get_mut(len..)
            .filter(|free| !free.is_empty())
            .ok_or(Errno::NOMEM)?;
        match sys::read(file.fd(), free)? {
            0 => return Ok(len),
            read => len += read,
        }
    }
}

/// Fails if a directory has something in it. The path is for errors.
#[inline(never)]
fn expect_empty(dir: &sys::OwnedFd, path: &CStr) -> Result<()> {
    let problem = |why, errno| Problem::new(why, errno, path.to_bytes());
    let failed = |errno| problem(Why::Failed, errno);
    let mut buf = [0; 512];
    loop {
        match sys::read_dir(dir.fd(), &mut buf).map_err(failed)? {
            0 => return Ok(()),
            len if sys::entries(&buf[..len]).any(|name| name != c"." && name != c"..") => {
                return Err(problem(Why::NotEmpty, Errno(0)));
            }
            _ => {}
        }
    }
}

/// Writes bytes to the beginning of the room, and returns how many there were.
fn fill(room: &mut [u8], bytes: &[u8]) -> sys::Result<usize> {
    room.get_mut(..bytes.len()).ok_or(Errno::NOMEM)?.copy_from_slice(bytes);
    Ok(bytes.len())
}

/// Returns the name and the data of the next record.
fn next_record<'a>(fields: &mut Fields<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let (name, data) = (fields.u32()? as usize, fields.u32()? as usize);
    Some((fields.take(name)?, fields.take(data)?))
}

/// The kinds of file systems that are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A `tmpfs` of this container alone.
    Memory,
    Queues,
    /// Views of the kernel's own, in which no file can be made.
    Kernel,
    /// Terminals, which end with the processes that have opened them, and the device that makes them.
    Terminals,
    Other,
}

/// One mount, from a line of `mountinfo`.
struct Mount {
    path: Path,
    kind: Kind,
    read_only: bool,
}

impl Mount {
    /// Takes a line of `mountinfo`. Returns `None` if the line is not as `proc(5)` says, or its path is too long.
    #[inline(never)]
    fn parse(line: &[u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        // The numbers of the mount and its parent, and the device.
        let root = words.by_ref().nth(3)?;
        let (path, options) = (words.next()?, words.next()?);
        let kind = words.by_ref().skip_while(|word| *word != b"-").nth(1)?;
        Some(Self {
            path: unescape(path)?,
            kind: match kind {
                // A part of a file system that others may have mounted too does not belong to the container.
                b"tmpfs" | b"ramfs" if root == b"/" => Kind::Memory,
                b"mqueue" => Kind::Queues,
                b"proc" | b"sysfs" | b"cgroup" | b"cgroup2" => Kind::Kernel,
                b"devpts" => Kind::Terminals,
                _ => Kind::Other,
            },
            read_only: options.split(|byte| *byte == b',').any(|option| option == b"ro"),
        })
    }
}

/// Returns a path of `mountinfo`, in which some bytes are octal numbers.
#[inline(never)]
fn unescape(text: &[u8]) -> Option<Path> {
    let mut path = [0; MAX_PATH];
    let (mut len, mut rest) = (0, text);
    while let [first, more @ ..] = rest {
        let (byte, more) = match (first, more) {
            (b'\\', [a, b, c, more @ ..]) => {
                let digit = |byte: &u8| byte.checked_sub(b'0').filter(|digit| *digit < 8);
                let value = u32::from(digit(a)?) * 64 + u32::from(digit(b)?) * 8 + u32::from(digit(c)?);
                (u8::try_from(value).ok()?, more)
            }
            _ => (*first, more),
        };
        *path.get_mut(len)? = byte;
        len += 1;
        rest = more;
    }
    Path::new(path.get(..len)?)
}

/// Gives a workspace the attributes that it had at first.
#[inline(never)]
pub fn restore(workspace: &Workspace) -> sys::Result<()> {
    let path = workspace.path.as_c_str();
    let now = sys::stat(None, path)?;
    if (now.uid(), now.gid(), now.mode() & 0o7777) == (workspace.uid, workspace.gid, workspace.mode) {
        return Ok(());
    }
    let dir = sys::open_dir(None, path)?;
    if (now.uid(), now.gid()) != (workspace.uid, workspace.gid) {
        sys::give(dir.fd(), workspace.uid, workspace.gid)?;
    }
    // The kernel takes bits away when the owner changes.
    sys::set_mode(dir.fd(), workspace.mode)
}
