//! Files and directories.

use core::ffi::CStr;

use super::call::{at_path, call, memory_call, nr};
use super::{Errno, Fd, Result};

/// Stands for the working directory, and for no directory where a path is absolute.
pub const AT_FDCWD: Fd = -100;

pub(super) const O_CLOEXEC: usize = 0o2000000;
pub(super) const O_NONBLOCK: usize = 0o4000;
pub(super) const O_RDWR: usize = 2;
pub(super) const O_NOCTTY: usize = 0o400;
const O_WRONLY: usize = 1;
const O_CREAT: usize = 0o100;
const O_EXCL: usize = 0o200;
const O_TRUNC: usize = 0o1000;
const O_PATH: usize = 0o10000000;
#[cfg(target_arch = "x86_64")]
const O_DIRECTORY: usize = 0o200000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
const O_DIRECTORY: usize = 0o40000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: usize = 0o100000;

/// Reads into a buffer, and returns how many bytes there were.
#[inline(never)]
pub fn read(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the bytes of `buf`.
    unsafe { memory_call!(READ, fd, buf.as_mut_ptr(), buf.len()) }
}

/// Reads from the start of a file, wherever it was read before.
#[inline(never)]
pub fn read_from_start(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the bytes of `buf`.
    unsafe { memory_call!(PREAD64, fd, buf.as_mut_ptr(), buf.len(), 0) }
}

/// Writes to the start of a file, wherever it was written before.
pub fn write_at_start(fd: Fd, buf: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads at most the bytes of `buf`.
    unsafe { memory_call!(PWRITE64, fd, buf.as_ptr(), buf.len(), 0) }
}

/// Writes from a buffer, and returns how many bytes there was room for.
#[inline(never)]
pub fn write(fd: Fd, buf: &[u8]) -> Result<usize> {
    // SAFETY: the kernel reads at most the bytes of `buf`.
    unsafe { memory_call!(WRITE, fd, buf.as_ptr(), buf.len()) }
}

#[inline(never)]
pub fn close(fd: Fd) {
    let _ = call!(CLOSE, fd);
}

/// A file descriptor that is closed on drop.
#[derive(Debug)]
pub struct OwnedFd(Fd);

impl OwnedFd {
    /// Takes a file descriptor that a call has just opened.
    pub(super) fn opened(fd: usize) -> Self {
        Self(fd as Fd)
    }

    pub fn fd(&self) -> Fd {
        self.0
    }

    /// Leaves the file descriptor open for the life of the process.
    pub fn keep(self) -> Fd {
        core::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for OwnedFd {
    fn drop(&mut self) {
        close(self.0);
    }
}

/// Closes all file descriptors from this one on.
pub fn close_from(first: Fd) {
    // More than the agent has open at once. The kernel always gives the lowest that is free.
    const MOST: Fd = 1024;
    // An old kernel does not know the call, nor does an old policy.
    if call!(CLOSE_RANGE, first, u32::MAX, 0).is_err() {
        (first..MOST).for_each(close);
    }
}

/// Opens a path in a directory, or from the working directory, so that it is closed by an exec.
pub(super) fn open_with(dir: Option<Fd>, path: &CStr, flags: usize) -> Result<OwnedFd> {
    let dir = dir.unwrap_or(AT_FDCWD);
    at_path(nr::OPENAT, dir, path, [O_CLOEXEC | flags, 0]).map(OwnedFd::opened)
}

/// Opens a regular file. Anything else fails: opening or reading it may block, or never end.
pub fn open_regular(path: &CStr) -> Result<OwnedFd> {
    let fd = open_with(None, path, O_NONBLOCK)?;
    match mode(fd.fd(), c"") {
        Ok(mode) if mode & S_IFMT == S_IFREG => Ok(fd),
        _ => Err(Errno::INVAL),
    }
}

/// Opens a file for reading and writing.
pub fn open_both(path: &CStr) -> Result<OwnedFd> {
    open_with(None, path, O_RDWR)
}

/// Opens a file for reading.
#[inline(never)]
pub fn open(path: &CStr) -> Result<OwnedFd> {
    open_with(None, path, 0)
}

/// Opens a file in a directory for reading.
#[inline(never)]
pub fn open_at(dir: Fd, path: &CStr) -> Result<OwnedFd> {
    open_with(Some(dir), path, 0)
}

/// Opens an existing file in a directory for writing.
#[inline(never)]
pub fn open_to_write(dir: Fd, path: &CStr) -> Result<OwnedFd> {
    open_with(Some(dir), path, O_WRONLY)
}

/// Opens a directory, but not through a symbolic link. `dir` is `None` for an absolute path.
pub fn open_dir(dir: Option<Fd>, path: &CStr) -> Result<OwnedFd> {
    open_with(dir, path, O_DIRECTORY | O_NOFOLLOW)
}

/// Opens a directory to look up names in it, which needs no right to read it. `dir` is `None` for an absolute path.
pub fn open_dir_path(dir: Option<Fd>, path: &CStr) -> Result<OwnedFd> {
    open_with(dir, path, O_DIRECTORY | O_NOFOLLOW | O_PATH)
}

/// Opens a directory to read its entries, by an absolute path in which links are followed.
pub fn open_to_list(path: &CStr) -> Result<OwnedFd> {
    open_with(None, path, O_DIRECTORY)
}

/// Opens a directory to look up names in it, by an absolute path in which links are followed.
pub fn open_to_list_names(path: &CStr) -> Result<OwnedFd> {
    open_with(None, path, O_DIRECTORY | O_PATH)
}

/// Opens a file for reading, without waiting for anybody. Links are followed only on request. `dir` is `None` for an absolute
/// path.
pub fn open_entry(dir: Option<Fd>, path: &CStr, follow: bool) -> Result<OwnedFd> {
    let flags = if follow { 0 } else { O_NOFOLLOW };
    open_with(dir, path, O_NONBLOCK | O_NOCTTY | flags)
}

/// Opens a file for writing, empty, without waiting for anybody, and makes it with these rights if there is none. A new one
/// must not be there before. `dir` is `None` for an absolute path.
pub fn create(dir: Option<Fd>, path: &CStr, new: bool, mode: usize) -> Result<OwnedFd> {
    let flags = if new { O_EXCL | O_NOFOLLOW } else { O_TRUNC };
    let flags = O_CLOEXEC | O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | flags;
    at_path(nr::OPENAT, dir.unwrap_or(AT_FDCWD), path, [flags, mode]).map(OwnedFd::opened)
}

/// Makes a directory with these rights, less those that the process's mask takes. `dir` is `None` for an absolute path.
pub fn make_dir(dir: Option<Fd>, path: &CStr, mode: usize) -> Result<()> {
    at_path(nr::MKDIRAT, dir.unwrap_or(AT_FDCWD), path, [mode, 0]).map(drop)
}

/// Makes a symbolic link.
pub fn symlink(target: &CStr, dir: Fd, name: &CStr) -> Result<()> {
    // SAFETY: both texts end with NUL.
    unsafe { memory_call!(SYMLINKAT, target.as_ptr(), dir, name.as_ptr()) }.map(drop)
}

/// Moves an entry by absolute paths, over one of the new name.
pub fn rename_over(from: &CStr, to: &CStr) -> Result<()> {
    // SAFETY: both paths end with NUL.
    unsafe { memory_call!(RENAMEAT2, AT_FDCWD, from.as_ptr(), AT_FDCWD, to.as_ptr(), 0) }.map(drop)
}

pub fn mkdir(dir: Fd, name: &CStr) -> Result<()> {
    at_path(nr::MKDIRAT, dir, name, [0o755, 0]).map(drop)
}

pub fn is_link(dir: Fd, name: &CStr) -> bool {
    readlink_at(dir, name, &mut [0; 1]).is_ok()
}

/// Returns where a symbolic link points to, cut to the buffer.
pub fn readlink<'a>(path: &CStr, buf: &'a mut [u8]) -> Result<&'a [u8]> {
    let len = readlink_at(AT_FDCWD, path, buf)?;
    Ok(&buf[..len])
}

/// Writes where a symbolic link points to to a buffer, cut to it, and returns the length.
pub fn readlink_at(dir: Fd, path: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the path ends with NUL, and the kernel writes at most the bytes of `buf`.
    unsafe { memory_call!(READLINKAT, dir, path.as_ptr(), buf.as_mut_ptr(), buf.len()) }
}

/// Starts a directory again from its first entry.
pub fn rewind(fd: Fd) {
    let _ = call!(LSEEK, fd, 0, 0);
}

/// Reads the next entries of a directory, for [`entries`]. There are none at its end.
pub fn read_dir(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the bytes of `buf`.
    unsafe { memory_call!(GETDENTS64, fd, buf.as_mut_ptr(), buf.len()) }
}

/// Returns the names among the bytes that [`read_dir`] has read.
pub fn entries(buf: &[u8]) -> impl Iterator<Item = &CStr> {
    let mut rest = buf;
    core::iter::from_fn(move || {
        let (name, len) = entry(rest)?;
        rest = rest.get(len..)?;
        Some(name)
    })
}

/// Returns the first name among the bytes that [`read_dir`] has read, and the length of its entry.
pub fn entry(buf: &[u8]) -> Option<(&CStr, usize)> {
    let len = u16::from_ne_bytes([*buf.get(16)?, *buf.get(17)?]).max(20) as usize;
    let name = CStr::from_bytes_until_nul(buf.get(19..len)?).ok()?;
    Some((name, len))
}

/// Removes anything but a directory.
pub fn unlink(dir: Fd, name: &CStr) -> Result<()> {
    at_path(nr::UNLINKAT, dir, name, [0, 0]).map(drop)
}

pub fn rmdir(dir: Fd, name: &CStr) -> Result<()> {
    const AT_REMOVEDIR: usize = 0x200;
    at_path(nr::UNLINKAT, dir, name, [AT_REMOVEDIR, 0]).map(drop)
}

/// Moves an entry. Fails if the new name exists.
pub fn rename(from: Fd, name: &CStr, to: Fd, new: &CStr) -> Result<()> {
    const RENAME_NOREPLACE: usize = 1;
    // SAFETY: both names end with NUL.
    unsafe { memory_call!(RENAMEAT2, from, name.as_ptr(), to, new.as_ptr(), RENAME_NOREPLACE) }.map(drop)
}

/// Gives the owner of a directory all rights to it. A symbolic link is not followed, which `fchmodat` alone would do.
pub fn open_up(dir: Fd, name: &CStr) {
    let Ok(fd) = open_dir_path(Some(dir), name) else { return };
    if let Ok(path) = CStr::from_bytes_until_nul(&numbered::<32>(b"/proc/self/fd/", fd.fd())) {
        let _ = at_path(nr::FCHMODAT, AT_FDCWD, path, [0o700, 0]);
    }
}

const S_IFMT: u16 = 0o170000;
const S_IFDIR: u16 = 0o040000;
const S_IFREG: u16 = 0o100000;

/// Returns the type and the rights of a file. With an empty path that is the open file `dir`.
fn mode(dir: Fd, path: &CStr) -> Result<u16> {
    const AT_EMPTY_PATH: usize = 0x1000;
    let flags = if path.is_empty() { AT_EMPTY_PATH } else { 0 };
    statx(dir, path, flags, 3).map(|stat| stat.mode())
}

/// Returns the attributes of a file or directory, or of a symbolic link itself. `dir` is `None` for an absolute path.
#[inline(never)]
pub fn stat(dir: Option<Fd>, path: &CStr) -> Result<Stat> {
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    const BASIC_STATS: usize = 0x7ff;
    statx(dir.unwrap_or(AT_FDCWD), path, AT_SYMLINK_NOFOLLOW, BASIC_STATS)
}

/// Returns the attributes of an open file.
pub fn stat_open(fd: Fd) -> Result<Stat> {
    const AT_EMPTY_PATH: usize = 0x1000;
    const BASIC_STATS: usize = 0x7ff;
    statx(fd, c"", AT_EMPTY_PATH, BASIC_STATS)
}

/// Returns whether an open file is in a file system in memory.
pub fn is_in_memory(fd: Fd) -> Result<bool> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    // The kernel's `struct statfs`, which begins with the kind of the file system.
    let mut stat = [0u64; 16];
    // SAFETY: the kernel writes 120 of the 128 bytes of `stat`.
    unsafe { memory_call!(FSTATFS, fd, stat.as_mut_ptr()) }?;
    Ok(matches!(stat[0], TMPFS | RAMFS))
}

fn statx(dir: Fd, path: &CStr, flags: usize, wanted: usize) -> Result<Stat> {
    let mut stat = Stat([0; 256]);
    // SAFETY: the path ends with NUL, and the kernel writes at most the 256 bytes of `stat`.
    unsafe { memory_call!(STATX, dir, path.as_ptr(), flags, wanted, stat.0.as_mut_ptr()) }?;
    Ok(stat)
}

/// The kernel's `struct statx`.
pub struct Stat([u8; 256]);

impl Stat {
    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut part = [0; N];
        part.copy_from_slice(&self.0[at..at + N]);
        part
    }

    pub fn uid(&self) -> u32 {
        u32::from_ne_bytes(self.part(20))
    }

    pub fn gid(&self) -> u32 {
        u32::from_ne_bytes(self.part(24))
    }

    /// Returns the type and the rights.
    pub fn mode(&self) -> u16 {
        u16::from_ne_bytes(self.part(28))
    }

    pub fn size(&self) -> u64 {
        u64::from_ne_bytes(self.part(40))
    }

    /// Returns when the contents were changed, in seconds since 1970 and nanoseconds.
    pub fn changed(&self) -> (i64, u32) {
        (i64::from_ne_bytes(self.part(112)), u32::from_ne_bytes(self.part(120)))
    }

    pub fn is_dir(&self) -> bool {
        self.mode() & S_IFMT == S_IFDIR
    }

    /// Returns the file system's major and minor number.
    pub fn device(&self) -> u64 {
        u64::from_ne_bytes(self.part(136))
    }

    /// Returns when the attributes and the contents were changed. The first cannot be set, and changes with the second.
    pub fn times(&self) -> [u8; 24] {
        let mut both = [0; 24];
        both[..12].copy_from_slice(&self.0[96..108]);
        both[12..].copy_from_slice(&self.0[112..124]);
        both
    }

    /// Returns what identifies the file and who may do what with it. With `times` also what changes with its contents: the
    /// number of links, the size, the device that it is, and the times of change, of which one cannot be set.
    pub fn attributes(&self, times: bool) -> [u8; 96] {
        let mut all = [0; 96];
        // Attributes; user, group and mode; the inode; the file system.
        for (to, from, len) in [(0, 8, 8), (8, 20, 10), (24, 32, 8), (32, 136, 8)] {
            all[to..to + len].copy_from_slice(&self.0[from..from + len]);
        }
        if times {
            // The links; the size; the times of change, each of 12 bytes; the device.
            for (to, from, len) in [(40, 16, 4), (48, 40, 8), (56, 96, 12), (72, 112, 12), (88, 128, 8)] {
                all[to..to + len].copy_from_slice(&self.0[from..from + len]);
            }
        }
        all
    }
}

/// Writes the names of a file's extended attributes to a buffer, each with a NUL, and returns their length.
pub fn list_xattrs(path: &CStr, buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the path ends with NUL, and the kernel writes at most the bytes of `buf`.
    unsafe { memory_call!(LLISTXATTR, path.as_ptr(), buf.as_mut_ptr(), buf.len()) }
}

/// Sets the times of a file to the beginning of time, or else, which those may do who may write to it, to now.
pub fn forget_times(path: &CStr) -> Result<()> {
    const AT_SYMLINK_NOFOLLOW: usize = 0x100;
    const UTIME_NOW: u64 = 0x3fff_ffff;
    let set = |nanoseconds: u64| {
        let times = [0, nanoseconds, 0, nanoseconds];
        // SAFETY: the path ends with NUL, and the kernel reads four numbers of 8 bytes. It writes none.
        unsafe { memory_call!(UTIMENSAT, AT_FDCWD, path.as_ptr(), times.as_ptr(), AT_SYMLINK_NOFOLLOW) }
    };
    set(0).or_else(|_| set(UTIME_NOW)).map(drop)
}

/// Returns the flags of a directory (`chattr(1)`). File systems that have none count as none set.
pub fn flags(path: &CStr) -> Result<u64> {
    const FS_IOC_GETFLAGS: usize = 0x8008_6601;
    let dir = open_dir(None, path)?;
    let mut flags = 0u64;
    // SAFETY: the kernel writes a number of 4 or 8 bytes.
    let _ = unsafe { memory_call!(IOCTL, dir.fd(), FS_IOC_GETFLAGS, &raw mut flags) };
    Ok(flags)
}

/// Gives an open file or directory to a user and a group.
pub fn give(fd: Fd, uid: u32, gid: u32) -> Result<()> {
    call!(FCHOWN, fd, uid, gid).map(drop)
}

/// Sets the rights of an open file or directory.
pub fn set_mode(fd: Fd, mode: u16) -> Result<()> {
    call!(FCHMOD, fd, usize::from(mode)).map(drop)
}

/// Returns whether this user may execute the file. Fails with `ISDIR` for a directory.
pub fn executable(path: &CStr) -> Result<()> {
    const X_OK: usize = 1;
    let mode = match path.is_empty() {
        true => return Err(Errno::NOENT),
        false => mode(AT_FDCWD, path)?,
    };
    if mode & S_IFMT == S_IFDIR {
        return Err(Errno::ISDIR);
    }
    if mode & 0o111 == 0 {
        return Err(Errno::ACCES);
    }
    at_path(nr::FACCESSAT, AT_FDCWD, path, [X_OK, 0]).map(drop)
}

/// Begins to watch a file, or the entries of a directory. The events are read from what is returned.
pub fn watch(path: &CStr, events: u32) -> Result<OwnedFd> {
    let watch = call!(INOTIFY_INIT1, O_CLOEXEC).map(OwnedFd::opened)?;
    // SAFETY: the path ends with NUL, and is only read.
    unsafe { memory_call!(INOTIFY_ADD_WATCH, watch.fd(), path.as_ptr(), events) }?;
    Ok(watch)
}

pub fn chdir(path: &CStr) -> Result<()> {
    // SAFETY: the path ends with NUL.
    unsafe { memory_call!(CHDIR, path.as_ptr()) }.map(drop)
}

/// Writes the path of the working directory to a buffer, with its final NUL, and returns its length.
pub fn cwd(buf: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most the bytes of `buf`.
    unsafe { memory_call!(GETCWD, buf.as_mut_ptr(), buf.len()) }
}

/// Returns the path of a number in a directory, with a final NUL.
pub(super) fn numbered<const N: usize>(dir: &[u8], number: i32) -> [u8; N] {
    let mut path = [0; N];
    path[..dir.len()].copy_from_slice(dir);
    let mut unit = 1;
    while number / unit >= 10 {
        unit *= 10;
    }
    for byte in &mut path[dir.len()..N - 1] {
        if unit == 0 {
            break;
        }
        *byte = b'0' + (number / unit % 10) as u8;
        unit /= 10;
    }
    path
}
