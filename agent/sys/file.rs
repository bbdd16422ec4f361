//! Files and directories.

use core::ffi::CStr;

use super::call::call;
use super::{Errno, Fd, Result};

pub(super) const AT_FDCWD: Fd = -100;
pub(super) const O_CLOEXEC: usize = 0o2000000;
pub(super) const O_NONBLOCK: usize = 0o4000;
pub(super) const O_RDWR: usize = 2;
pub(super) const O_NOCTTY: usize = 0o400;
#[cfg(target_arch = "x86_64")]
const O_DIRECTORY: usize = 0o200000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
const O_DIRECTORY: usize = 0o40000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: usize = 0o100000;

#[inline(never)]
pub fn read(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    call!(READ, fd, buf.as_mut_ptr(), buf.len())
}

#[inline(never)]
pub fn read_from_start(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    call!(PREAD64, fd, buf.as_mut_ptr(), buf.len(), 0)
}

pub fn write_at_start(fd: Fd, buf: &[u8]) -> Result<usize> {
    call!(PWRITE64, fd, buf.as_ptr(), buf.len(), 0)
}

#[inline(never)]
pub fn write(fd: Fd, buf: &[u8]) -> Result<usize> {
    call!(WRITE, fd, buf.as_ptr(), buf.len())
}

#[inline(never)]
pub fn close(fd: Fd) {
    let _ = call!(CLOSE, fd);
}

/// Closes all descriptors from this one on.
pub fn close_from(first: Fd) {
    // More than the agent has open at once. The kernel always gives the lowest that is free.
    const MOST: Fd = 1024;
    // An old kernel or a policy for old ones does not know the call.
    if call!(CLOSE_RANGE, first, u32::MAX, 0).is_err() {
        (first..MOST).for_each(close);
    }
}

/// A regular file; anything else may block whoever opens or reads it, or never end.
pub fn open_regular(path: &CStr) -> Result<Fd> {
    const AT_EMPTY_PATH: usize = 0x1000;
    let flags = O_CLOEXEC | O_NONBLOCK;
    let fd = call!(OPENAT, AT_FDCWD as isize, path.as_ptr(), flags)? as Fd;
    let mut stat = [0u16; 128];
    let looked = call!(
        STATX,
        fd,
        c"".as_ptr(),
        AT_EMPTY_PATH,
        STATX_TYPE_AND_MODE,
        stat.as_mut_ptr()
    );
    if looked.is_ok() && stat[STATX_MODE] & S_IFMT == S_IFREG {
        return Ok(fd);
    }
    close(fd);
    Err(Errno::INVAL)
}

/// To be read and written.
pub fn open_both(path: &CStr) -> Result<Fd> {
    const O_RDWR: usize = 2;
    call!(OPENAT, AT_FDCWD as isize, path.as_ptr(), O_CLOEXEC | O_RDWR).map(|fd| fd as Fd)
}

#[inline(never)]
pub fn open(path: &CStr) -> Result<Fd> {
    call!(OPENAT, AT_FDCWD as isize, path.as_ptr(), O_CLOEXEC).map(|fd| fd as Fd)
}

#[inline(never)]
pub fn open_at(dir: Fd, path: &CStr) -> Result<Fd> {
    call!(OPENAT, dir as isize, path.as_ptr(), O_CLOEXEC).map(|fd| fd as Fd)
}

/// A file that is there, to be written to.
#[inline(never)]
pub fn open_to_write(dir: Fd, path: &CStr) -> Result<Fd> {
    const O_WRONLY: usize = 1;
    call!(OPENAT, dir as isize, path.as_ptr(), O_CLOEXEC | O_WRONLY).map(|fd| fd as Fd)
}

pub fn mkdir(dir: Fd, name: &CStr) -> Result<()> {
    call!(MKDIRAT, dir, name.as_ptr(), 0o755).map(drop)
}

/// A directory, not through a symbolic link; `dir` is `None` for an absolute path.
pub fn open_dir(dir: Option<Fd>, path: &CStr) -> Result<Fd> {
    let flags = O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW;
    call!(OPENAT, dir.unwrap_or(AT_FDCWD) as isize, path.as_ptr(), flags).map(|fd| fd as Fd)
}

/// The same for a directory that is only gone through, which needs no right to read it.
pub fn open_dir_path(dir: Option<Fd>, path: &CStr) -> Result<Fd> {
    const O_PATH: usize = 0o10000000;
    let flags = O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW | O_PATH;
    call!(OPENAT, dir.unwrap_or(AT_FDCWD) as isize, path.as_ptr(), flags).map(|fd| fd as Fd)
}

pub fn is_link(dir: Fd, name: &CStr) -> bool {
    let mut buf = [0u8; 1];
    call!(READLINKAT, dir as isize, name.as_ptr(), buf.as_mut_ptr(), buf.len()).is_ok()
}

pub fn rewind(fd: Fd) {
    let _ = call!(LSEEK, fd, 0, 0);
}

/// The next entries of a directory, for [`entries`]; none at its end.
pub fn read_dir(fd: Fd, buf: &mut [u8]) -> Result<usize> {
    call!(GETDENTS64, fd, buf.as_mut_ptr(), buf.len())
}

/// The names in what [`read_dir`] gave.
pub fn entries(buf: &[u8]) -> impl Iterator<Item = &CStr> {
    let mut rest = buf;
    core::iter::from_fn(move || {
        let (name, len) = entry(rest)?;
        rest = &rest[len..];
        Some(name)
    })
}

/// The first name in what [`read_dir`] gave, and the length of its entry.
pub fn entry(buf: &[u8]) -> Option<(&CStr, usize)> {
    let len = u16::from_ne_bytes([*buf.get(16)?, *buf.get(17)?]).max(20) as usize;
    let name = CStr::from_bytes_until_nul(buf.get(19..len)?).ok()?;
    Some((name, len))
}

pub fn unlink(dir: Fd, name: &CStr) -> Result<()> {
    call!(UNLINKAT, dir, name.as_ptr(), 0).map(drop)
}

pub fn rmdir(dir: Fd, name: &CStr) -> Result<()> {
    const AT_REMOVEDIR: usize = 0x200;
    call!(UNLINKAT, dir, name.as_ptr(), AT_REMOVEDIR).map(drop)
}

/// Fails if there is something of the new name.
pub fn rename(from: Fd, name: &CStr, to: Fd, new: &CStr) -> Result<()> {
    const RENAME_NOREPLACE: usize = 1;
    call!(RENAMEAT2, from, name.as_ptr(), to, new.as_ptr(), RENAME_NOREPLACE).map(drop)
}

/// Makes a directory usable for its owner. A symbolic link is not followed, which `fchmodat` alone would do.
pub fn open_up(dir: Fd, name: &CStr) {
    let Ok(fd) = open_dir_path(Some(dir), name) else { return };
    let path = numbered::<32>(b"/proc/self/fd/", fd);
    let _ = call!(FCHMODAT, AT_FDCWD as isize, path.as_ptr(), 0o700);
    close(fd);
}

pub fn readlink<'a>(path: &CStr, buf: &'a mut [u8]) -> Result<&'a [u8]> {
    let len = call!(
        READLINKAT,
        AT_FDCWD as isize,
        path.as_ptr(),
        buf.as_mut_ptr(),
        buf.len()
    )?;
    Ok(&buf[..len])
}

const STATX_TYPE_AND_MODE: usize = 3;
/// Where the answer has the mode, in halves of words.
const STATX_MODE: usize = 14;
const S_IFMT: u16 = 0o170000;
const S_IFDIR: u16 = 0o040000;
const S_IFREG: u16 = 0o100000;

/// Whether this user may execute the file; `Err(ISDIR)` for a directory.
pub fn executable(path: &CStr) -> Result<()> {
    let mut stat = [0u16; 128];
    call!(
        STATX,
        AT_FDCWD as isize,
        path.as_ptr(),
        0,
        STATX_TYPE_AND_MODE,
        stat.as_mut_ptr()
    )?;
    if stat[STATX_MODE] & S_IFMT == S_IFDIR {
        return Err(Errno::ISDIR);
    }
    if stat[STATX_MODE] & 0o111 == 0 {
        return Err(Errno::ACCES);
    }
    call!(FACCESSAT, AT_FDCWD as isize, path.as_ptr(), 1).map(drop)
}

pub fn chdir(path: &CStr) -> Result<()> {
    call!(CHDIR, path.as_ptr()).map(drop)
}

/// The working directory, with its final NUL.
pub fn cwd(buf: &mut [u8]) -> Result<usize> {
    call!(GETCWD, buf.as_mut_ptr(), buf.len())
}

/// The path of this number in a directory, without leading zeros, and NUL.
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
