//! Writing a tree that comes from a container to a directory of this machine.
//!
//! The tree is not trusted. Each name is one entry of a directory that this side has opened, is made anew, and is never
//! followed: so nothing outside of the target directory can be reached, whatever comes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::answers::{Answer, is_name, malformed};
use super::limits::{FileLimits, Left};
use super::transfer::{SkipReason, Transfer, stays_inside};
use crate::agent::file_protocol::{DIRECTORY, LINK, MAX_DEPTH, Meta, REGULAR};

/// An error, and the path within the tree to which it belongs.
pub(super) type Failure = (Vec<u8>, io::Error);

/// The rights that the owner of a directory and of a file always gets, so that what was copied can be removed again.
const OWN_DIR: u32 = 0o700;
const OWN_FILE: u32 = 0o600;

/// The rights that are kept. The bits of set-user-id, set-group-id and sticky are not.
const RIGHTS: u32 = 0o777;

/// Numbers of errors of Linux, which the container's kernel is.
const ENXIO: i32 = 6;
const EISDIR: i32 = 21;
const ENOENT: i32 = 2;
const ENOTDIR: i32 = 20;
const ELOOP: i32 = 40;
const ENOTSUP: i32 = 95;

/// The tree so far.
pub(super) struct Tree {
    dirs: Vec<OwnedFd>,
    /// The names of the directories that are open beneath the first, and of the file or link that goes on.
    path: Vec<Bytes>,
    now: Now,
    left: Left,
    done: Transfer,
}

/// What comes next.
enum Now {
    /// An entry of the last directory, or its end.
    Entry,
    /// The contents of a file, or their end.
    File(File),
    /// The target of a link.
    Link,
    /// The rest of a file or directory that is skipped: so many ends.
    Skips(usize),
    /// The target of a link within it, and then [`Skips`](Self::Skips).
    SkipsLink(usize),
}

impl Tree {
    /// Begins in a directory that is made unless it is there, and must be empty.
    pub(super) fn begin(target: &Path, limits: FileLimits) -> io::Result<Self> {
        match std::fs::create_dir(target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // The path is the caller's own, and links in it are followed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(target, flags, Mode::empty())?;
        for entry in rustix::fs::Dir::read_from(&dir)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "the directory is not empty"));
            }
        }
        Ok(Self {
            dirs: vec![dir],
            path: Vec::new(),
            now: Now::Entry,
            left: Left::of(limits),
            done: Transfer::default(),
        })
    }

    /// Takes the next piece of the tree.
    pub(super) fn take(&mut self, answer: Answer) -> Result<(), Failure> {
        self.step(answer).map_err(|error| (self.at(), error))
    }

    /// Returns what was copied, if the tree is whole.
    pub(super) fn end(self) -> Result<Transfer, Failure> {
        match (self.now, &self.path[..]) {
            (Now::Entry, []) => Ok(self.done),
            _ => Err((Vec::new(), malformed())),
        }
    }

    /// Returns the path of the entry that goes on.
    pub(super) fn at(&self) -> Vec<u8> {
        self.path.join(&b'/')
    }

    fn step(&mut self, answer: Answer) -> io::Result<()> {
        self.now = match (std::mem::replace(&mut self.now, Now::Entry), answer) {
            (Now::Entry, Answer::Entry(meta, name)) => self.entry(meta, name)?,
            (Now::Entry, Answer::Leave) if self.dirs.len() > 1 => {
                self.dirs.pop();
                self.path.pop();
                Now::Entry
            }
            (Now::Entry, Answer::Missed(errno, name)) => self.missed(errno, name)?,
            (Now::File(mut file), Answer::Data(data)) => {
                self.left.take(data.len())?;
                file.write_all(&data)?;
                self.done.bytes += data.len() as u64;
                Now::File(file)
            }
            (Now::File(_), Answer::Leave) => {
                self.done.files += 1;
                self.path.pop();
                Now::Entry
            }
            (Now::Link, Answer::Target(target)) => {
                self.link(&target)?;
                Now::Entry
            }
            (Now::Skips(depth), answer) => self.go_on_skipping(depth, answer)?,
            (Now::SkipsLink(depth), Answer::Target(_)) => Now::Skips(depth),
            _ => return Err(malformed()),
        };
        Ok(())
    }

    fn entry(&mut self, meta: Meta, name: Bytes) -> io::Result<Now> {
        // The decoder has refused such a name. This is the place that must not see one.
        if !is_name(&name) {
            return Err(malformed());
        }
        self.path.push(name);
        self.left.take_entry()?;
        match meta.kind() {
            REGULAR => {
                // A file that is too large by its size is not begun.
                self.left.has_room(meta.size)?;
                Ok(match self.create(meta.mode)? {
                    Some(file) => Now::File(file),
                    None => self.taken(),
                })
            }
            DIRECTORY => self.enter(meta.mode),
            LINK => Ok(Now::Link),
            _ => Err(malformed()),
        }
    }

    /// Makes a directory, and opens it.
    fn enter(&mut self, mode: u32) -> io::Result<Now> {
        // The container's side enters none beyond.
        if self.dirs.len() > MAX_DEPTH {
            return Err(malformed());
        }
        let (dir, name) = (self.dir(), self.name());
        let mode = Mode::from_raw_mode(((mode & RIGHTS) | OWN_DIR) as _);
        match rustix::fs::mkdirat(dir, &name[..], mode) {
            Err(rustix::io::Errno::EXIST) => return Ok(self.taken()),
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(dir, &name[..], flags, Mode::empty())?;
        self.dirs.push(inner);
        self.done.dirs += 1;
        Ok(Now::Entry)
    }

    /// Makes the file that goes on. Returns `None` if there is something of that name.
    fn create(&mut self, mode: u32) -> io::Result<Option<File>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(((mode & RIGHTS) | OWN_FILE) as _);
        match rustix::fs::openat(self.dir(), &self.name()[..], flags, mode) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(rustix::io::Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn link(&mut self, target: &[u8]) -> io::Result<()> {
        if !stays_inside(target, self.dirs.len() - 1) {
            self.skip(SkipReason::LinkOutside);
            return Ok(());
        }
        match rustix::fs::symlinkat(target, self.dir(), &self.name()[..]) {
            Err(rustix::io::Errno::EXIST) => self.skip(SkipReason::Changed),
            made => {
                made?;
                self.done.links += 1;
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Deals with an entry that the container's side could not send.
    fn missed(&mut self, errno: i32, name: Bytes) -> io::Result<Now> {
        self.path.push(name);
        self.left.take_entry()?;
        match errno {
            ENOTSUP => self.skip(SkipReason::Special),
            ENOENT | ENXIO | ENOTDIR | EISDIR | ELOOP => self.skip(SkipReason::Changed),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
        Ok(Now::Entry)
    }

    /// Skips a file or directory whose name is taken: it came twice, or is another one's on a file system that does not
    /// tell upper from lower case.
    fn taken(&mut self) -> Now {
        self.skip(SkipReason::Changed);
        Now::Skips(1)
    }

    /// Notes that the entry is skipped, and leaves it.
    fn skip(&mut self, reason: SkipReason) {
        self.done.skip(self.at(), reason);
        self.path.pop();
    }

    fn go_on_skipping(&mut self, depth: usize, answer: Answer) -> io::Result<Now> {
        Ok(match answer {
            Answer::Data(data) => {
                self.left.take(data.len())?;
                Now::Skips(depth)
            }
            Answer::Entry(meta, _) => {
                self.left.take_entry()?;
                match meta.kind() {
                    REGULAR | DIRECTORY if depth > MAX_DEPTH + 1 => return Err(malformed()),
                    REGULAR | DIRECTORY => Now::Skips(depth + 1),
                    LINK => Now::SkipsLink(depth),
                    _ => return Err(malformed()),
                }
            }
            Answer::Missed(..) => {
                self.left.take_entry()?;
                Now::Skips(depth)
            }
            Answer::Leave if depth == 1 => Now::Entry,
            Answer::Leave => Now::Skips(depth - 1),
            _ => return Err(malformed()),
        })
    }

    fn dir(&self) -> &OwnedFd {
        match self.dirs.last() {
            Some(dir) => dir,
            None => unreachable!("the first directory is never left"),
        }
    }

    fn name(&self) -> Bytes {
        self.path.last().cloned().unwrap_or_default()
    }
}
