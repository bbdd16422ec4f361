//! The file server: what a child does in place of executing a program. It has the rights of the command's user, reads one
//! request from its standard input, answers on its standard output, and exits.
//!
//! Nothing here trusts the files of the container, and nothing needs to: whatever they make of this process, it has no more
//! rights than they.

use core::ffi::CStr;

use crate::file_protocol::{
    DIRECTORY, HEADER, IN_MEMORY, LINK, MAX_DATA, MAX_DEPTH, MAX_NAME, MAX_PATH, Meta, REGULAR, Request, WITH_MODE,
    WITH_PARENTS, event, piece, request,
};
use crate::protocol::Fields;
use crate::sys::{self, Bytes, Errno, Fd, OwnedFd, Result};
use crate::wipe::{Listing, Wipe};

const STDIN: Fd = 0;
const STDOUT: Fd = 1;

/// The rights that are kept of a file of a tree: no file gets the bits of set-user-id, set-group-id and sticky.
const RIGHTS: u32 = 0o777;

/// The most bytes of a directory that are read at once.
const LISTED: usize = 8 * 1024;

/// The signal for a file beyond the limit of its size. Without the signal the call fails.
const SIGXFSZ: i32 = 25;

/// Serves one request.
pub fn serve() -> ! {
    sys::block_signals(&[SIGXFSZ]);
    let served = Server::new().and_then(|mut server| server.serve());
    sys::exit(i32::from(served.is_err()))
}

struct Server {
    input: Input,
    output: Output,
}

/// The path of an entry beneath the root of a tree, for errors.
struct Path {
    bytes: [u8; MAX_PATH],
    len: usize,
}

impl Server {
    fn new() -> Result<Self> {
        Ok(Self {
            input: Input::new()?,
            output: Output::new()?,
        })
    }

    fn serve(&mut self) -> Result<()> {
        let (op, payload) = self.input.frame()?;
        // The frames after this one overwrite it.
        let mut memory = Bytes::new(Request::MOST)?;
        let copy = memory.get_mut(..payload.len()).ok_or(Errno::INVAL)?;
        copy.copy_from_slice(payload);
        let asked = Request::decode(copy).ok_or(Errno::INVAL)?;
        let mut path = Path {
            bytes: [0; MAX_PATH],
            len: 0,
        };
        match self.answer(op, asked, &mut path) {
            Ok(()) => self.output.frame(piece::DONE, &[])?,
            Err(Errno(errno)) => {
                let path = &path.bytes[..path.len];
                self.output.frame(piece::FAILED, &[&errno.to_le_bytes(), path])?;
            }
        }
        self.output.flush()
    }

    fn answer(&mut self, op: u8, asked: Request<'_>, at: &mut Path) -> Result<()> {
        let Request { path, to, flags, mode } = asked;
        let mode = if flags & WITH_MODE != 0 { Some(mode) } else { None };
        if flags & WITH_PARENTS != 0 {
            make_parents(path)?;
        }
        match op {
            request::STAT => {
                let meta = meta(&sys::stat(None, path)?);
                self.output.frame(piece::META, &[&meta.encode()])
            }
            request::LIST => self.list(sys::open_to_list(path)?),
            request::READ => self.read(path),
            request::WRITE => self.write(path, mode, flags & IN_MEMORY != 0),
            request::MAKE_DIR => {
                match sys::make_dir(None, path, 0o777) {
                    Err(Errno::EXIST) if flags & WITH_PARENTS != 0 => return sys::open_to_list_names(path).map(drop),
                    made => made?,
                }
                match mode {
                    Some(mode) => sys::set_mode(sys::open_to_list(path)?.fd(), mode as u16),
                    None => Ok(()),
                }
            }
            request::RENAME => sys::rename_over(path, to),
            request::REMOVE => sys::unlink(sys::AT_FDCWD, path),
            request::REMOVE_ALL => remove_all(path),
            request::PACK => self.pack(sys::open_to_list(path)?, 0),
            request::UNPACK => {
                match sys::make_dir(None, path, 0o777) {
                    Err(Errno::EXIST) => {}
                    made => made?,
                }
                let dir = sys::open_to_list(path)?;
                self.unpack(&dir, 0, at)
            }
            request::WATCH => self.watch(path),
            _ => Err(Errno::INVAL),
        }
    }

    /// Sends what happens to a file or a directory, until that is gone. The library ends this process when it has heard enough.
    fn watch(&mut self, path: &CStr) -> Result<()> {
        let watch = sys::watch(path, event::ALL)?;
        // Nothing that happens from now on is missed.
        let meta = meta(&sys::stat(None, path)?);
        self.output.frame(piece::META, &[&meta.encode()])?;
        let mut buf = Bytes::new(LISTED)?;
        loop {
            self.output.flush()?;
            let len = match sys::read(watch.fd(), &mut buf) {
                Err(Errno::INTR) => 0,
                read => read?,
            };
            let mut fields = Fields(&buf[..len]);
            // The watch, the event, the number of a rename, and how long the name is with the NULs after it.
            while let (Some(_), Some(mask), Some(rename), Some(len)) =
                (fields.u32(), fields.u32(), fields.u32(), fields.u32())
            {
                if mask & event::IGNORED != 0 {
                    return Ok(());
                }
                let (name, rest) = fields.0.split_at_checked(len as usize).ok_or(Errno::INVAL)?;
                fields.0 = rest;
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                self.output.frame(
                    piece::EVENT,
                    &[&mask.to_le_bytes(), &rename.to_le_bytes(), &name[..end]],
                )?;
            }
        }
    }

    fn list(&mut self, dir: OwnedFd) -> Result<()> {
        let mut buf = Bytes::new(LISTED)?;
        let mut list = Listing::new(dir);
        while let Some(name) = list.next(&mut buf)? {
            match sys::stat(Some(list.dir.fd()), name.as_c_str()) {
                Ok(stat) => self.output.entry(&meta(&stat), name.as_c_str())?,
                // An entry that has gone meanwhile is none.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &CStr) -> Result<()> {
        let file = sys::open_entry(None, path, true)?;
        let meta = regular(&file)?;
        self.output.frame(piece::META, &[&meta.encode()])?;
        // A file of the kernel's has no size, and is not at its end there.
        self.output.contents(&file, u64::MAX)
    }

    fn write(&mut self, path: &CStr, mode: Option<u32>, in_memory: bool) -> Result<()> {
        let file = sys::create(None, path, false, 0o666)?;
        regular(&file)?;
        // Another process may have put a link in the way.
        if in_memory && !sys::is_in_memory(file.fd())? {
            return Err(Errno::XDEV);
        }
        if let Some(mode) = mode {
            sys::set_mode(file.fd(), mode as u16)?;
        }
        match self.input.contents(&file)? {
            piece::DONE => Ok(()),
            _ => Err(Errno::INVAL),
        }
    }

    /// Sends what is in a directory.
    fn pack(&mut self, dir: OwnedFd, depth: usize) -> Result<()> {
        let mut buf = Bytes::new(LISTED)?;
        let mut list = Listing::new(dir);
        loop {
            let name = match list.next(&mut buf) {
                // The directory was removed.
                Ok(None) | Err(Errno::NOENT) => return Ok(()),
                Ok(Some(name)) => name,
                Err(error) => return Err(error),
            };
            let (dir, name) = (list.dir.fd(), name.as_c_str());
            let meta = match sys::stat(Some(dir), name) {
                Ok(stat) => meta(&stat),
                // An entry that has gone meanwhile is none.
                Err(Errno::NOENT) => continue,
                Err(error) => {
                    self.output.missed(name, error)?;
                    continue;
                }
            };
            match meta.kind() {
                REGULAR => match sys::open_entry(Some(dir), name, false) {
                    Ok(file) => match regular(&file) {
                        Ok(meta) => {
                            self.output.entry(&meta, name)?;
                            // The size is that of the entry: a file that grows while it is read has an end.
                            self.output.contents(&file, meta.size)?;
                            self.output.frame(piece::LEAVE, &[])?;
                        }
                        Err(error) => self.output.missed(name, error)?,
                    },
                    Err(error) => self.output.missed(name, error)?,
                },
                DIRECTORY if depth == MAX_DEPTH => self.output.missed(name, Errno::NAMETOOLONG)?,
                DIRECTORY => match sys::open_dir(Some(dir), name) {
                    Ok(inner) => {
                        self.output.entry(&meta, name)?;
                        self.pack(inner, depth + 1)?;
                        self.output.frame(piece::LEAVE, &[])?;
                    }
                    Err(error) => self.output.missed(name, error)?,
                },
                LINK => {
                    let mut target = [0; MAX_PATH];
                    match sys::readlink_at(dir, name, &mut target) {
                        Ok(len @ 1..MAX_PATH) => {
                            self.output.entry(&meta, name)?;
                            self.output.frame(piece::TARGET, &[&target[..len]])?;
                        }
                        Ok(_) => self.output.missed(name, Errno::NAMETOOLONG)?,
                        Err(error) => self.output.missed(name, error)?,
                    }
                }
                _ => self.output.missed(name, Errno::NOTSUP)?,
            }
        }
    }

    /// Makes what is to be in a directory.
    fn unpack(&mut self, dir: &OwnedFd, depth: usize, at: &mut Path) -> Result<()> {
        let dir = dir.fd();
        loop {
            let (meta, mut memory, len) = match self.input.frame()? {
                (piece::ENTRY, payload) => {
                    let mut fields = Fields(payload);
                    let meta = Meta::decode(&mut fields).ok_or(Errno::INVAL)?;
                    let mut name = [0; MAX_NAME + 1];
                    let len = fields.0.len();
                    name[..MAX_NAME]
                        .get_mut(..len)
                        .ok_or(Errno::INVAL)?
                        .copy_from_slice(fields.0);
                    (meta, name, len)
                }
                (piece::LEAVE, _) if depth > 0 => return Ok(()),
                (piece::DONE, _) if depth == 0 => return Ok(()),
                _ => return Err(Errno::INVAL),
            };
            memory[len] = 0;
            let name = CStr::from_bytes_until_nul(&memory).map_err(|_| Errno::INVAL)?;
            if name.count_bytes() != len
                || matches!(name.to_bytes(), b"" | b"." | b"..")
                || memory[..len].contains(&b'/')
            {
                return Err(Errno::INVAL);
            }
            let before = at.len;
            at.push(name.to_bytes());
            match meta.kind() {
                DIRECTORY if depth == MAX_DEPTH => return Err(Errno::NAMETOOLONG),
                DIRECTORY => {
                    let made = sys::make_dir(Some(dir), name, 0o700);
                    if let Err(error) = made
                        && error != Errno::EXIST
                    {
                        return Err(error);
                    }
                    let inner = sys::open_dir(Some(dir), name)?;
                    self.unpack(&inner, depth + 1, at)?;
                    if made.is_ok() {
                        sys::set_mode(inner.fd(), (meta.mode & RIGHTS) as u16)?;
                    }
                }
                REGULAR => {
                    let file = replacing(dir, name, || sys::create(Some(dir), name, true, 0o600))?;
                    sys::set_mode(file.fd(), (meta.mode & RIGHTS) as u16)?;
                    if self.input.contents(&file)? != piece::LEAVE {
                        return Err(Errno::INVAL);
                    }
                }
                LINK => {
                    let (kind, payload) = self.input.frame()?;
                    let mut target = [0; MAX_PATH];
                    let text = target[..MAX_PATH - 1].get_mut(..payload.len()).ok_or(Errno::INVAL)?;
                    text.copy_from_slice(payload);
                    let target = CStr::from_bytes_until_nul(&target).map_err(|_| Errno::INVAL)?;
                    if kind != piece::TARGET {
                        return Err(Errno::INVAL);
                    }
                    replacing(dir, name, || sys::symlink(target, dir, name))?;
                }
                _ => return Err(Errno::INVAL),
            }
            at.len = before;
        }
    }
}

impl Path {
    /// Appends a name. One that does not fit is left out.
    fn push(&mut self, name: &[u8]) {
        let start = self.len + usize::from(self.len > 0);
        if let Some(room) = self.bytes.get_mut(start..start + name.len()) {
            room.copy_from_slice(name);
            if start > 0 {
                self.bytes[start - 1] = b'/';
            }
            self.len = start + name.len();
        }
    }
}

/// Makes an entry, in place of one that is no directory.
fn replacing<T>(dir: Fd, name: &CStr, make: impl Fn() -> Result<T>) -> Result<T> {
    match make() {
        Err(Errno::EXIST) => {
            sys::unlink(dir, name)?;
            make()
        }
        made => made,
    }
}

/// Makes the directories in which a path is, as far as they are missing.
fn make_parents(path: &CStr) -> Result<()> {
    let bytes = path.to_bytes();
    let mut parent = [0; MAX_PATH];
    for (end, _) in bytes.iter().enumerate().filter(|(at, byte)| **byte == b'/' && *at > 0) {
        parent
            .get_mut(..end)
            .ok_or(Errno::NAMETOOLONG)?
            .copy_from_slice(&bytes[..end]);
        let made = CStr::from_bytes_until_nul(&parent).map_err(|_| Errno::NAMETOOLONG)?;
        match sys::make_dir(None, made, 0o777) {
            // What is there may be a directory, also where nothing may be made.
            Err(Errno::EXIST | Errno::ROFS | Errno::ACCES | Errno::PERM) => {}
            made => made?,
        }
    }
    Ok(())
}

/// Removes anything, with everything in it. No symbolic link is followed, but those in the path to it.
fn remove_all(path: &CStr) -> Result<()> {
    match sys::unlink(sys::AT_FDCWD, path) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done,
    }
    let opened = match sys::open_dir(None, path) {
        Err(Errno::ACCES) => {
            sys::open_up(sys::AT_FDCWD, path);
            sys::open_dir(None, path)
        }
        opened => opened,
    };
    let mut wipe = Wipe::of(opened?)?;
    loop {
        if let Some(outcome) = wipe.turn() {
            outcome.map_err(|(error, _)| error)?;
            return sys::rmdir(sys::AT_FDCWD, path);
        }
    }
}

/// Returns the attributes of an open file, or fails if that is none to be read.
fn regular(file: &OwnedFd) -> Result<Meta> {
    let meta = meta(&sys::stat_open(file.fd())?);
    match meta.kind() {
        REGULAR => Ok(meta),
        DIRECTORY => Err(Errno::ISDIR),
        _ => Err(Errno::NOTSUP),
    }
}

fn meta(stat: &sys::Stat) -> Meta {
    let (seconds, nanos) = stat.changed();
    Meta {
        mode: stat.mode().into(),
        uid: stat.uid(),
        gid: stat.gid(),
        size: stat.size(),
        seconds,
        nanos,
    }
}

/// The frames to the server.
struct Input {
    buf: Bytes,
    start: usize,
    end: usize,
}

impl Input {
    fn new() -> Result<Self> {
        Ok(Self {
            buf: Bytes::new(2 * (HEADER + MAX_DATA))?,
            start: 0,
            end: 0,
        })
    }

    /// Returns the next frame. An input that ends is no frame: the library has gone.
    fn frame(&mut self) -> Result<(u8, &[u8])> {
        self.fill(HEADER)?;
        let mut fields = Fields(&self.buf[self.start..self.end]);
        let (len, kind) = (fields.u32().unwrap_or(0) as usize, fields.u8().unwrap_or(0));
        if len > MAX_DATA {
            return Err(Errno::INVAL);
        }
        self.fill(HEADER + len)?;
        let payload = self.start + HEADER;
        self.start = payload + len;
        Ok((kind, &self.buf[payload..payload + len]))
    }

    /// Reads until so many bytes are there.
    fn fill(&mut self, len: usize) -> Result<()> {
        while self.end - self.start < len {
            if self.start + len > self.buf.len() || self.start == self.end {
                self.buf.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            }
            match sys::read(STDIN, &mut self.buf[self.end..]) {
                Ok(0) => return Err(Errno::NOENT),
                Ok(more) => self.end += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the contents that come to a file. Returns the kind of the frame after them.
    fn contents(&mut self, file: &OwnedFd) -> Result<u8> {
        loop {
            match self.frame()? {
                (piece::DATA, data) => write_all(file.fd(), data)?,
                (kind, _) => return Ok(kind),
            }
        }
    }
}

/// The frames from the server.
struct Output {
    buf: Bytes,
    len: usize,
}

impl Output {
    fn new() -> Result<Self> {
        Ok(Self {
            buf: Bytes::new(2 * (HEADER + MAX_DATA))?,
            len: 0,
        })
    }

    fn flush(&mut self) -> Result<()> {
        write_all(STDOUT, &self.buf[..self.len])?;
        self.len = 0;
        Ok(())
    }

    fn header(&mut self, kind: u8, len: usize) {
        self.buf[self.len..][..4].copy_from_slice(&(len as u32).to_le_bytes());
        self.buf[self.len + 4] = kind;
        self.len += HEADER;
    }

    fn frame(&mut self, kind: u8, parts: &[&[u8]]) -> Result<()> {
        let len = parts.iter().map(|part| part.len()).sum();
        if self.buf.len() - self.len < HEADER + len {
            self.flush()?;
        }
        self.header(kind, len);
        for part in parts {
            self.buf[self.len..][..part.len()].copy_from_slice(part);
            self.len += part.len();
        }
        Ok(())
    }

    fn entry(&mut self, meta: &Meta, name: &CStr) -> Result<()> {
        self.frame(piece::ENTRY, &[&meta.encode(), name.to_bytes()])
    }

    /// Names an entry that is not sent.
    fn missed(&mut self, name: &CStr, Errno(errno): Errno) -> Result<()> {
        self.frame(piece::MISSED, &[&errno.to_le_bytes(), name.to_bytes()])
    }

    /// Sends the contents of a file to its end, or so many bytes.
    fn contents(&mut self, file: &OwnedFd, size: u64) -> Result<()> {
        let mut left = size;
        loop {
            if self.buf.len() - self.len < HEADER + MAX_DATA {
                self.flush()?;
            }
            let start = self.len + HEADER;
            let most = left.min(MAX_DATA as u64) as usize;
            match sys::read(file.fd(), &mut self.buf[start..start + most]) {
                Ok(0) => return Ok(()),
                Ok(len) => {
                    self.header(piece::DATA, len);
                    self.len += len;
                    left -= len as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn write_all(fd: Fd, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        match sys::write(fd, data) {
            Ok(len) => data = &data[len..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
