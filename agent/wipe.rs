//! Empties directories, a little at a time: the agent has one thread, and commands and their deadlines must not wait.

use core::ffi::CStr;

use crate::protocol::Fields;
use crate::sys::{self, Bytes, Errno, Fd, OwnedFd};

/// The most time of one turn, in microseconds, and the number of entries that are removed between two looks at the clock.
const TURN: u64 = 1000;
const CLOCK_CHECK: u32 = 16;

/// The most names that are tried for a directory that is moved up.
const NAMES: u32 = 64;

/// The longest name of an entry, with its NUL.
const NAME: usize = 256;

/// The most bytes of a directory that are read at once.
const LISTED: usize = 1024;

/// A wipe that goes on. It removes everything in its directories, but not the directories themselves, follows no symbolic
/// link and enters no mount.
pub struct Wipe {
    pub id: u32,
    /// When it is given up, in microseconds.
    until: u64,
    /// The [`Buffers`], and then the paths.
    memory: Bytes,
    /// The place of the next path, and the number of paths that were begun.
    at: usize,
    begun: u32,
    /// The directory of the last path that was begun, until it is empty.
    top: Option<Top>,
    /// For the next name of a directory that is moved up.
    next_name: u32,
    /// The first failure, and the number of its path.
    failure: Option<(Errno, u32)>,
    /// Whether a directory is left alone that is not the root of a mount.
    mounts_only: bool,
}

/// The result of a wipe: the first failure and the number of its path, from 0 on.
pub type Outcome = Result<(), (Errno, u32)>;

/// A directory that is being emptied. Directories two levels below are moved up into it before they are emptied, so that no
/// depth can use up file descriptors or the stack.
struct Top {
    list: Listing,
    /// A directory in it that is being emptied.
    inner: Option<Inner>,
    /// Something was removed or moved in this pass over it.
    moved: bool,
    /// The last failure in this pass.
    left: Option<Errno>,
}

/// A directory in the [`Top`]. Its name is in the buffers.
struct Inner {
    list: Listing,
    left: Option<Errno>,
}

/// The entries that were read of both directories, and the name of the inner one.
struct Buffers<'a> {
    top: &'a mut [u8],
    inner: &'a mut [u8],
    name: &'a mut [u8],
}

impl<'a> Buffers<'a> {
    const SIZE: usize = 2 * LISTED + NAME;

    /// Splits the memory into the buffers and the rest.
    fn of(memory: &'a mut [u8]) -> (Self, &'a [u8]) {
        let (top, rest) = memory.split_at_mut(LISTED);
        let (inner, rest) = rest.split_at_mut(LISTED);
        let (name, rest) = rest.split_at_mut(NAME);
        (Self { top, inner, name }, rest)
    }
}

impl Wipe {
    /// Takes the payload of a request. Returns `None` if it makes no sense.
    pub fn begin(id: u32, mut fields: Fields<'_>, now: u64) -> Option<sys::Result<Self>> {
        let until = now.saturating_add(u64::from(fields.u32()?) * 1000);
        let mut rest = fields;
        while !rest.0.is_empty() {
            rest.text()?;
        }
        let mut memory = match Bytes::new(Buffers::SIZE + fields.0.len()) {
            Ok(memory) => memory,
            Err(error) => return Some(Err(error)),
        };
        memory[Buffers::SIZE..].copy_from_slice(fields.0);
        Some(Ok(Self {
            id,
            until,
            memory,
            at: 0,
            begun: 0,
            top: None,
            next_name: 0,
            failure: None,
            mounts_only: false,
        }))
    }

    /// Wipes an open directory, without a limit of time.
    pub fn of(dir: OwnedFd) -> sys::Result<Self> {
        Ok(Self {
            id: 0,
            until: u64::MAX,
            memory: Bytes::new(Buffers::SIZE)?,
            at: 0,
            begun: 1,
            top: Some(Top::new(dir)),
            next_name: 0,
            failure: None,
            mounts_only: false,
        })
    }

    /// Leaves directories alone that are not roots of mounts: somebody outside of the container has put them there.
    pub fn mounts_only(mut self) -> Self {
        self.mounts_only = true;
        self
    }

    /// Goes on for a turn. Returns the result once the wipe is over.
    pub fn turn(&mut self) -> Option<Outcome> {
        let begun = sys::now();
        loop {
            for _ in 0..CLOCK_CHECK {
                if self.step() {
                    return Some(self.failure.map_or(Ok(()), Err));
                }
            }
            let now = sys::now();
            if now > self.until {
                // The failure is of the current path.
                self.failure.get_or_insert((Errno::TIME, self.begun.saturating_sub(1)));
                return Some(self.failure.map_or(Ok(()), Err));
            }
            if now.saturating_sub(begun) > TURN {
                return None;
            }
        }
    }

    /// Removes one entry. Returns whether all is over.
    fn step(&mut self) -> bool {
        let (mut buffers, paths) = Buffers::of(&mut self.memory);
        if let Some(top) = &mut self.top {
            if let Some(done) = top.step(&mut buffers, &mut self.next_name) {
                self.top = None;
                self.note(done);
            }
            return false;
        }
        let Ok(path) = CStr::from_bytes_until_nul(&paths[self.at..]) else {
            return true;
        };
        self.at += path.count_bytes() + 1;
        let opened = open_path(path, self.mounts_only);
        self.begun += 1;
        match opened {
            Ok(dir) => {
                self.top = Some(Top::new(dir));
            }
            Err(error) => self.note(Err(error)),
        }
        false
    }

    /// Keeps the first failure.
    fn note(&mut self, done: sys::Result<()>) {
        if let Err(error) = done {
            self.failure.get_or_insert((error, self.begun - 1));
        }
    }
}

impl Top {
    fn new(dir: OwnedFd) -> Self {
        Self {
            list: Listing::new(dir),
            inner: None,
            moved: false,
            left: None,
        }
    }

    /// Removes one entry. Passes over the directory go on until nothing is left or nothing moves. Then the result is
    /// returned.
    fn step(&mut self, buffers: &mut Buffers<'_>, next_name: &mut u32) -> Option<sys::Result<()>> {
        let top = self.list.dir.fd();
        if let Some(inner) = &mut self.inner {
            let dir = inner.list.dir.fd();
            let done = match inner.list.next(buffers.inner) {
                Ok(Some(name)) => {
                    let removed = match remove(dir, &name) {
                        Err(Errno::NOTEMPTY) => move_up(dir, &name, top, next_name),
                        Err(Errno::ACCES) => {
                            sys::open_up(top, text(buffers.name));
                            remove(dir, &name)
                        }
                        done => done,
                    };
                    match removed {
                        Ok(()) => self.moved = true,
                        Err(error) => inner.left = Some(error),
                    }
                    return None;
                }
                Ok(None) => sys::rmdir(top, text(buffers.name)),
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => self.moved = true,
                Err(error) => self.left = Some(inner.left.unwrap_or(error)),
            }
            self.inner = None;
            return None;
        }
        match self.list.next(buffers.top) {
            Ok(Some(name)) => {
                match remove(top, &name) {
                    Ok(()) => self.moved = true,
                    Err(Errno::NOTEMPTY) => match open_inner(top, &name) {
                        Ok(dir) => {
                            buffers.name.copy_from_slice(&name.0);
                            self.inner = Some(Inner {
                                list: Listing::new(dir),
                                left: None,
                            });
                        }
                        Err(error) => self.left = Some(error),
                    },
                    Err(error) => self.left = Some(error),
                }
                None
            }
            Ok(None) if self.moved => {
                (self.moved, self.left) = (false, None);
                self.list.rewind();
                None
            }
            Ok(None) => Some(self.left.map_or(Ok(()), Err)),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Opens a directory by a path in which nothing is a symbolic link. It opens one name after the other, since not every
/// kernel has `openat2`. With `mounts_only` it fails with `XDEV` for a directory of the same file system as its parent.
fn open_path(path: &CStr, mounts_only: bool) -> sys::Result<OwnedFd> {
    let mut names = path.to_bytes().strip_prefix(b"/").ok_or(Errno::INVAL)?;
    let mut dir = sys::open_dir_path(None, c"/")?;
    let mut is_mount = false;
    while let Some((name, rest)) = first_name(names) {
        names = rest;
        let name = Name::new(name).filter(|name| name.as_c_str() != c"..");
        let inner = open_name(dir.fd(), &name.ok_or(Errno::INVAL)?)?;
        if mounts_only {
            is_mount = sys::stat(Some(inner.fd()), c".")?.device() != sys::stat(Some(dir.fd()), c".")?.device();
        }
        dir = inner;
    }
    if mounts_only && !is_mount {
        return Err(Errno::XDEV);
    }
    // This needs the right to read it, which those on the way need not give.
    sys::open_dir(Some(dir.fd()), c".")
}

/// Returns the first name of a path that is neither empty nor `.`, and the rest.
fn first_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut rest = path;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        let name = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or(b"");
        if !matches!(name, b"" | b".") {
            return Some((name, rest));
        }
    }
    None
}

/// Opens a directory on the way. Fails with `LOOP` for a symbolic link.
fn open_name(dir: Fd, name: &Name) -> sys::Result<OwnedFd> {
    match sys::open_dir_path(Some(dir), name.as_c_str()) {
        Err(Errno::NOTDIR) if sys::is_link(dir, name.as_c_str()) => Err(Errno::LOOP),
        opened => opened,
    }
}

/// Opens a directory within the top, with the rights to do so.
fn open_inner(top: Fd, name: &Name) -> sys::Result<OwnedFd> {
    match sys::open_dir(Some(top), name.as_c_str()) {
        Err(Errno::ACCES) => {
            sys::open_up(top, name.as_c_str());
            sys::open_dir(Some(top), name.as_c_str())
        }
        dir => dir,
    }
}

/// Moves a directory into the top, by a name that nothing has there.
fn move_up(dir: Fd, name: &Name, top: Fd, next_name: &mut u32) -> sys::Result<()> {
    // Its entry `..` changes, and so it must be writable.
    sys::open_up(dir, name.as_c_str());
    for _ in 0..NAMES {
        let mut new = *b".dockerpool-wipe-00000000";
        for (i, digit) in new[17..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(*next_name >> (28 - 4 * i)) as usize & 15];
        }
        *next_name = next_name.wrapping_add(1);
        let new = Name::new(&new).ok_or(Errno::INVAL)?;
        match sys::rename(dir, name.as_c_str(), top, new.as_c_str()) {
            Err(Errno::EXIST) => {}
            done => return done,
        }
    }
    Err(Errno::EXIST)
}

/// Removes a file or an empty directory.
fn remove(dir: Fd, name: &Name) -> sys::Result<()> {
    match sys::unlink(dir, name.as_c_str()) {
        Err(Errno::ISDIR | Errno::PERM) => sys::rmdir(dir, name.as_c_str()),
        done => done,
    }
}

/// The entries of a directory, one after the other, by way of a buffer.
pub struct Listing {
    pub dir: OwnedFd,
    at: usize,
    len: usize,
}

impl Listing {
    pub fn new(dir: OwnedFd) -> Self {
        Self { dir, at: 0, len: 0 }
    }

    fn rewind(&mut self) {
        sys::rewind(self.dir.fd());
        (self.at, self.len) = (0, 0);
    }

    /// Returns the next entry, or `None` at the end. The buffer must be the same in each call.
    pub fn next(&mut self, buf: &mut [u8]) -> sys::Result<Option<Name>> {
        loop {
            if self.at >= self.len {
                (self.at, self.len) = (0, sys::read_dir(self.dir.fd(), buf)?);
                if self.len == 0 {
                    return Ok(None);
                }
            }
            let (name, len) = sys::entry(&buf[self.at..self.len]).ok_or(Errno::INVAL)?;
            self.at += len;
            if name != c"." && name != c".." {
                return Ok(Some(Name::new(name.to_bytes()).ok_or(Errno::INVAL)?));
            }
        }
    }
}

/// A name, with its final NUL.
pub struct Name([u8; NAME]);

impl Name {
    /// Returns `None` if no entry can have such a name.
    fn new(bytes: &[u8]) -> Option<Self> {
        let mut name = [0; NAME];
        name[..NAME - 1].get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(name))
    }

    pub fn as_c_str(&self) -> &CStr {
        text(&self.0)
    }
}

/// Returns the text before the first NUL.
fn text(bytes: &[u8]) -> &CStr {
    CStr::from_bytes_until_nul(bytes).unwrap_or(c"")
}
