//! Pipes, terminals and sockets, and waiting for them.

use core::ffi::CStr;

use super::call::call;
use super::file::{AT_FDCWD, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR, close, numbered};
use super::{Errno, Fd, Result};
use crate::protocol::Size;

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;
const POLLHUP: i16 = 16;

/// Microseconds since some moment.
#[inline(never)]
pub fn now() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    let mut time = [0i64; 2];
    let _ = call!(CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr());
    time[0] as u64 * 1_000_000 + time[1] as u64 / 1000
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: Fd,
    pub events: i16,
    pub revents: i16,
}

/// Waits for this many microseconds at most; `None`: for ever.
pub fn poll(fds: &mut [PollFd], timeout: Option<u64>) -> Result<()> {
    let time = timeout.map(|micros| [(micros / 1_000_000) as i64, (micros % 1_000_000 * 1000) as i64]);
    let time = time.as_ref().map_or(core::ptr::null(), |time| time.as_ptr());
    match call!(PPOLL, fds.as_mut_ptr(), fds.len(), time, 0, 8) {
        Ok(_) => Ok(()),
        Err(Errno::INTR) => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The reading and the writing end.
pub fn pipe() -> Result<[Fd; 2]> {
    let mut fds = [0; 2];
    call!(PIPE2, fds.as_mut_ptr(), O_CLOEXEC)?;
    Ok(fds)
}

pub fn set_nonblocking(fd: Fd) {
    const F_GETFL: usize = 3;
    const F_SETFL: usize = 4;
    let flags = call!(FCNTL, fd, F_GETFL, 0).unwrap_or(0);
    let _ = call!(FCNTL, fd, F_SETFL, flags | O_NONBLOCK);
}

/// Gives a pipe this much room, which is at most a megabyte for an unprivileged user. Where that is refused it stays as it
/// is.
pub fn enlarge_pipe(fd: Fd, size: usize) {
    const F_SETPIPE_SZ: usize = 1031;
    let _ = call!(FCNTL, fd, F_SETPIPE_SZ, size);
}

/// A new terminal: its master and its slave.
pub fn terminal() -> Result<[Fd; 2]> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    const FLAGS: usize = O_RDWR | O_NOCTTY;
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    // The file system's own first: what is at `/dev/ptmx` may have been put there from within.
    let open = |path: &CStr| {
        let flags = FLAGS | O_CLOEXEC | O_NONBLOCK;
        call!(OPENAT, AT_FDCWD as isize, path.as_ptr(), flags)
    };
    let master = open(c"/dev/pts/ptmx").or_else(|_| open(c"/dev/ptmx"))? as Fd;
    let unlocked = 0i32;
    let slave = call!(IOCTL, master, TIOCSPTLCK, &raw const unlocked)
        .and_then(|_| call!(IOCTL, master, TIOCGPTPEER, FLAGS))
        .or_else(|_| slave_by_path(master, FLAGS));
    // Afterwards, for the command would see it among the flags of the file.
    let slave = slave.and_then(|slave| call!(FCNTL, slave, F_SETFD, FD_CLOEXEC).map(|_| slave));
    match slave {
        Ok(slave) => Ok([master, slave as Fd]),
        Err(error) => {
            close(master);
            Err(error)
        }
    }
}

/// For kernels that do not give it by the master (gVisor).
fn slave_by_path(master: Fd, flags: usize) -> Result<usize> {
    const TIOCGPTN: usize = 0x8004_5430;
    let mut number = 0i32;
    call!(IOCTL, master, TIOCGPTN, &raw mut number)?;
    let path = numbered::<24>(b"/dev/pts/", number);
    call!(OPENAT, AT_FDCWD as isize, path.as_ptr(), flags)
}

/// Makes a terminal that of this session, which has just begun.
pub fn take_terminal(slave: Fd) -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    call!(IOCTL, slave, TIOCSCTTY, 0).map(drop)
}

/// Gives a terminal a size; those who run in it are told.
pub fn set_size(terminal: Fd, size: Size) {
    const TIOCSWINSZ: usize = 0x5414;
    let size = [size.rows, size.cols, 0, 0];
    let _ = call!(IOCTL, terminal, TIOCSWINSZ, size.as_ptr());
}

/// How many bytes there are to be read.
pub fn pending(fd: Fd) -> usize {
    const FIONREAD: usize = 0x541b;
    let mut count = 0i32;
    let _ = call!(IOCTL, fd, FIONREAD, &raw mut count);
    count.max(0) as usize
}

/// Nobody has the other end any more.
pub fn hung_up(fd: Fd) -> bool {
    let mut fds = [PollFd {
        fd,
        events: 0,
        revents: 0,
    }];
    poll(&mut fds, Some(0)).is_ok() && fds[0].revents & POLLHUP != 0
}

/// A copy that ends with an exec.
pub fn duplicate(fd: Fd) -> Result<Fd> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    call!(FCNTL, fd, F_DUPFD_CLOEXEC, 3).map(|fd| fd as Fd)
}

/// Connects to the socket of this name.
pub fn connect(path: &CStr) -> Result<Fd> {
    const AF_UNIX: u16 = 1;
    const SOCK_STREAM_CLOEXEC: usize = 1 | O_CLOEXEC;
    let mut address = [0u8; 110];
    address[..2].copy_from_slice(&AF_UNIX.to_ne_bytes());
    let path = path.to_bytes_with_nul();
    address
        .get_mut(2..2 + path.len())
        .ok_or(Errno::INVAL)?
        .copy_from_slice(path);
    let fd = call!(SOCKET, AF_UNIX, SOCK_STREAM_CLOEXEC, 0)? as Fd;
    match call!(CONNECT, fd, address.as_ptr(), 2 + path.len()) {
        Ok(_) => Ok(fd),
        Err(error) => {
            close(fd);
            Err(error)
        }
    }
}

/// Writes to a socket, and sends a descriptor with the first byte.
pub fn send_with(socket: Fd, bytes: &[u8], fd: Fd) -> Result<usize> {
    const SOL_SOCKET: u64 = 1;
    const SCM_RIGHTS: u64 = 1;
    const HEADER: u64 = 16;
    // The kernel's layouts on machines of 64 bits, little-endian: `cmsghdr` with one descriptor, `iovec`, `msghdr`.
    let control = [HEADER + 4, SOL_SOCKET | SCM_RIGHTS << 32, fd as u64];
    let data = [bytes.as_ptr() as usize, bytes.len()];
    let (data, control) = (data.as_ptr() as usize, control.as_ptr() as usize);
    let message = [0, 0, data, 1, control, size_of::<[u64; 3]>(), 0];
    call!(SENDMSG, socket, message.as_ptr(), 0)
}

/// The copy outlives an exec.
pub fn dup_to(fd: Fd, to: Fd) -> Result<()> {
    call!(DUP3, fd, to, 0).map(drop)
}
