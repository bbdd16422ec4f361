//! Reading a tree of this machine for a container.
//!
//! Each name is one entry of a directory that this side has opened, and no link is followed: so nothing outside of the
//! directory is read, whatever other processes make of it meanwhile.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use bytes::{BufMut, Bytes, BytesMut};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::download::Failure;
use super::limits::{FileLimits, Left};
use super::transfer::{SkipReason, Transfer, stays_inside};
use crate::agent::file_protocol::{DIRECTORY, HEADER, LINK, MAX_DATA, MAX_DEPTH, MAX_PATH, Meta, REGULAR, piece};

/// The rights that are told. The bits of set-user-id, set-group-id and sticky are not.
const RIGHTS: u32 = 0o777;

/// The size of the pieces in which the frames are sent on.
const PIECE: usize = HEADER + MAX_DATA;

/// The walk over the tree.
struct Walk<S> {
    send: S,
    frames: BytesMut,
    path: Vec<Vec<u8>>,
    left: Left,
    done: Transfer,
}

/// Says why a walk ends early.
enum Stop {
    Failed(io::Error),
    /// The entry is not what it was when its name or type was read, and nothing was told of it.
    Changed,
    /// Nobody takes the frames any more.
    NotWanted,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Returns why an entry cannot be begun.
fn not_begun(error: Errno) -> Stop {
    match error {
        // `EINVAL` is the answer to reading a link that is none any more.
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::INVAL => Stop::Changed,
        error => Stop::Failed(error.into()),
    }
}

/// Sends the frames of a tree, in pieces. `send` returns whether more are wanted; the tree is told only as far as they are.
pub(super) fn walk(source: &Path, limits: FileLimits, send: impl FnMut(Bytes) -> bool) -> Result<Transfer, Failure> {
    // The path is the caller's own, and links in it are followed.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(source, flags, Mode::empty()).map_err(|error| (Vec::new(), error.into()))?;
    let mut walk = Walk {
        send,
        frames: BytesMut::with_capacity(2 * PIECE),
        path: Vec::new(),
        left: Left::of(limits),
        done: Transfer::default(),
    };
    let walked = walk
        .dir(&dir)
        .and_then(|()| walk.frame(piece::DONE, &[]))
        .and_then(|()| walk.flush());
    match walked {
        Ok(()) | Err(Stop::NotWanted | Stop::Changed) => Ok(walk.done),
        Err(Stop::Failed(error)) => Err((walk.path.join(&b'/'), error)),
    }
}

impl<S: FnMut(Bytes) -> bool> Walk<S> {
    fn dir(&mut self, dir: &OwnedFd) -> Result<(), Stop> {
        for entry in rustix::fs::Dir::read_from(dir).map_err(io::Error::from)? {
            let entry = match entry {
                // The directory was removed.
                Err(Errno::NOENT) => break,
                entry => entry.map_err(io::Error::from)?,
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.path.push(name.to_bytes().to_vec());
            self.left.take_entry()?;
            match self.entry(dir.as_fd(), name) {
                Err(Stop::Changed) => self.done.skip(self.path.join(&b'/'), SkipReason::Changed),
                done => done?,
            }
            self.path.pop();
        }
        Ok(())
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Stop> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(not_begun)?;
        match file_type(&stat) {
            FileType::RegularFile => self.file(dir, name),
            FileType::Directory => {
                if self.path.len() > MAX_DEPTH {
                    let words = format!("more than {MAX_DEPTH} directories within each other");
                    return Err(io::Error::new(io::ErrorKind::InvalidFilename, words).into());
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(not_begun)?;
                self.begin(DIRECTORY, &stat, 0)?;
                self.done.dirs += 1;
                self.dir(&inner)?;
                self.frame(piece::LEAVE, &[])
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, name, Vec::new()).map_err(not_begun)?;
                let target = target.to_bytes();
                if target.len() >= MAX_PATH || !stays_inside(target, self.path.len() - 1) {
                    self.done.skip(self.path.join(&b'/'), SkipReason::LinkOutside);
                    return Ok(());
                }
                self.begin(LINK, &stat, 0)?;
                self.done.links += 1;
                self.frame(piece::TARGET, &[target])
            }
            _ => {
                self.done.skip(self.path.join(&b'/'), SkipReason::Special);
                Ok(())
            }
        }
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Stop> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, name, flags, Mode::empty()).map_err(not_begun)?;
        let stat = rustix::fs::fstat(&file).map_err(io::Error::from)?;
        if file_type(&stat) != FileType::RegularFile {
            return Err(Stop::Changed);
        }
        let size = stat.st_size as u64;
        self.left.has_room(size)?;
        self.begin(REGULAR, &stat, size)?;
        // A file that grows while it is read has an end.
        let mut file = std::fs::File::from(file).take(size);
        loop {
            let start = self.frames.len();
            self.frames.put_bytes(0, HEADER + MAX_DATA);
            let read = loop {
                match file.read(&mut self.frames[start + HEADER..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read,
                }
            };
            let len = *read.as_ref().unwrap_or(&0);
            self.frames.truncate(start + if len > 0 { HEADER + len } else { 0 });
            read?;
            if len == 0 {
                break;
            }
            self.frames[start..start + 4].copy_from_slice(&(len as u32).to_le_bytes());
            self.frames[start + 4] = piece::DATA;
            self.left.take(len)?;
            self.done.bytes += len as u64;
            self.flush_if_full()?;
        }
        self.done.files += 1;
        self.frame(piece::LEAVE, &[])
    }

    fn begin(&mut self, kind: u32, stat: &Stat, size: u64) -> Result<(), Stop> {
        // Its type is another one on other systems.
        let mode: u32 = stat.st_mode as _;
        let meta = Meta {
            mode: kind | mode & RIGHTS,
            size,
            ..Meta::default()
        };
        let name = self.path.last().cloned().unwrap_or_default();
        self.frame(piece::ENTRY, &[&meta.encode(), &name])
    }

    fn frame(&mut self, kind: u8, parts: &[&[u8]]) -> Result<(), Stop> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        self.frames.put_u32_le(len as u32);
        self.frames.put_u8(kind);
        for part in parts {
            self.frames.put_slice(part);
        }
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> Result<(), Stop> {
        if self.frames.len() >= PIECE / 2 {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let frames = self.frames.split().freeze();
        self.frames.reserve(PIECE);
        match (self.send)(frames) {
            true => Ok(()),
            false => Err(Stop::NotWanted),
        }
    }
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode as _)
}
