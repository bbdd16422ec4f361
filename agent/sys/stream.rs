//! Pipes, terminals and sockets, and waiting for them.

use core::ffi::CStr;

use super::call::{at_path, call, memory_call, nr};
use super::file::{AT_FDCWD, O_CLOEXEC, O_NOCTTY, O_NONBLOCK, O_RDWR, OwnedFd, numbered, open_with};
use super::{Errno, Fd, Result};
use crate::protocol::Size;

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;
const POLLHUP: i16 = 16;

/// Returns the time of the monotonic clock, in microseconds.
#[inline(never)]
pub fn now() -> u64 {
    const CLOCK_MONOTONIC: usize = 1;
    let mut time = [0i64; 2];
    // SAFETY: the kernel writes two words, seconds and nanoseconds.
    let _ = unsafe { memory_call!(CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr()) };
    time[0] as u64 * 1_000_000 + time[1] as u64 / 1000
}

/// A file descriptor to wait for, and what has become of it, in the kernel's layout. One of -1 is ignored.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: Fd,
    pub events: i16,
    pub revents: i16,
}

/// Waits for at most so many microseconds, or without a limit.
pub fn poll(fds: &mut [PollFd], timeout: Option<u64>) -> Result<()> {
    let mut time = timeout.map(|micros| [(micros / 1_000_000) as i64, (micros % 1_000_000 * 1000) as i64]);
    let time = time.as_mut().map_or(core::ptr::null_mut(), |time| time.as_mut_ptr());
    // SAFETY: the kernel reads and writes so many entries, and two words of time where there are some.
    match unsafe { memory_call!(PPOLL, fds.as_mut_ptr(), fds.len(), time, 0, 8) } {
        Ok(_) => Ok(()),
        Err(Errno::INTR) => {
            fds.iter_mut().for_each(|fd| fd.revents = 0);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Returns whether nobody has the other end any more.
pub fn hung_up(fd: Fd) -> bool {
    let mut fds = [PollFd {
        fd,
        events: 0,
        revents: 0,
    }];
    poll(&mut fds, Some(0)).is_ok() && fds[0].revents & POLLHUP != 0
}

/// Makes a pipe, and returns its reading and its writing end.
pub fn pipe() -> Result<[OwnedFd; 2]> {
    let mut fds = [0u32; 2];
    // SAFETY: the kernel writes two file descriptors.
    unsafe { memory_call!(PIPE2, fds.as_mut_ptr(), O_CLOEXEC) }?;
    Ok(fds.map(|fd| OwnedFd::opened(fd as usize)))
}

pub fn set_nonblocking(fd: Fd) {
    const F_GETFL: usize = 3;
    const F_SETFL: usize = 4;
    // SAFETY: this command takes no argument.
    let flags = unsafe { memory_call!(FCNTL, fd, F_GETFL) }.unwrap_or(0);
    // SAFETY: this command takes a number.
    let _ = unsafe { memory_call!(FCNTL, fd, F_SETFL, flags | O_NONBLOCK) };
}

/// Gives a pipe this much room. It stays as it is where that is refused, as more than a megabyte is to a plain user.
pub fn enlarge_pipe(fd: Fd, size: usize) {
    const F_SETPIPE_SZ: usize = 1031;
    // SAFETY: this command takes a number.
    let _ = unsafe { memory_call!(FCNTL, fd, F_SETPIPE_SZ, size) };
}

/// Makes a copy of a file descriptor that is closed by an exec.
pub fn duplicate(fd: Fd) -> Result<OwnedFd> {
    const F_DUPFD_CLOEXEC: usize = 1030;
    const LEAST: usize = 3;
    // SAFETY: this command takes a number.
    unsafe { memory_call!(FCNTL, fd, F_DUPFD_CLOEXEC, LEAST) }.map(OwnedFd::opened)
}

/// Makes a copy of a file descriptor at a number. The copy outlives an exec.
pub fn dup_to(fd: Fd, to: Fd) -> Result<()> {
    call!(DUP3, fd, to, 0).map(drop)
}

/// Returns how many bytes can be read.
pub fn pending(fd: Fd) -> usize {
    const FIONREAD: usize = 0x541b;
    let mut count = 0i32;
    // SAFETY: the kernel writes a number of 4 bytes.
    let _ = unsafe { memory_call!(IOCTL, fd, FIONREAD, &raw mut count) };
    count.max(0) as usize
}

/// Makes a terminal, and returns its master and its slave.
pub fn terminal() -> Result<[OwnedFd; 2]> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTPEER: usize = 0x5441;
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    const FLAGS: usize = O_RDWR | O_NOCTTY;
    // The file system's own first: a process of the container may have put another file at `/dev/ptmx`.
    let open = |path| open_with(None, path, FLAGS | O_NONBLOCK);
    let master = open(c"/dev/pts/ptmx").or_else(|_| open(c"/dev/ptmx"))?;
    let locked = 0i32;
    // SAFETY: the kernel reads a number of 4 bytes.
    let unlocked = unsafe { memory_call!(IOCTL, master.fd(), TIOCSPTLCK, &raw const locked) };
    let slave = unlocked
        .and_then(|_| {
            // SAFETY: this request takes a number.
            unsafe { memory_call!(IOCTL, master.fd(), TIOCGPTPEER, FLAGS) }.map(OwnedFd::opened)
        })
        .or_else(|_| slave_by_path(master.fd(), FLAGS))?;
    // After it is opened, since the command would see the flag among those of the file.
    // SAFETY: this command takes a number.
    unsafe { memory_call!(FCNTL, slave.fd(), F_SETFD, FD_CLOEXEC) }?;
    Ok([master, slave])
}

/// Opens a slave by its path, for kernels that do not give it by the master (gVisor).
fn slave_by_path(master: Fd, flags: usize) -> Result<OwnedFd> {
    const TIOCGPTN: usize = 0x8004_5430;
    let mut number = 0i32;
    // SAFETY: the kernel writes a number of 4 bytes.
    unsafe { memory_call!(IOCTL, master, TIOCGPTN, &raw mut number) }?;
    let path = numbered::<24>(b"/dev/pts/", number);
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::INVAL)?;
    // Without `O_CLOEXEC`, as the other way.
    at_path(nr::OPENAT, AT_FDCWD, path, [flags, 0]).map(OwnedFd::opened)
}

/// Makes a terminal the controlling one of this process's session, which has just begun.
pub fn take_terminal(slave: Fd) -> Result<()> {
    const TIOCSCTTY: usize = 0x540e;
    // SAFETY: this request takes a number.
    unsafe { memory_call!(IOCTL, slave, TIOCSCTTY, 0) }.map(drop)
}

/// Sets the size of a terminal, of which its processes are told by a signal.
pub fn set_size(terminal: Fd, size: Size) {
    const TIOCSWINSZ: usize = 0x5414;
    let size = [size.rows, size.cols, 0, 0];
    // SAFETY: the kernel reads four numbers of 2 bytes.
    let _ = unsafe { memory_call!(IOCTL, terminal, TIOCSWINSZ, size.as_ptr()) };
}

/// Connects to the unix socket of this path.
pub fn connect(path: &CStr) -> Result<OwnedFd> {
    const AF_UNIX: u16 = 1;
    const SOCK_STREAM_CLOEXEC: usize = 1 | O_CLOEXEC;
    let mut address = [0u8; 110];
    let path = path.to_bytes_with_nul();
    let len = 2 + path.len();
    address[..2].copy_from_slice(&AF_UNIX.to_ne_bytes());
    address.get_mut(2..len).ok_or(Errno::INVAL)?.copy_from_slice(path);
    let fd = call!(SOCKET, AF_UNIX, SOCK_STREAM_CLOEXEC, 0).map(OwnedFd::opened)?;
    // SAFETY: the kernel reads `len` bytes, which `address` has.
    unsafe { memory_call!(CONNECT, fd.fd(), address.as_ptr(), len) }?;
    Ok(fd)
}

/// Connects to a TCP port of the loopback interface, by version 4 or 6 of IP.
pub fn connect_loopback(port: u16, by_version_6: bool) -> Result<OwnedFd> {
    const AF_INET: u16 = 2;
    const AF_INET6: u16 = 10;
    const SOCK_STREAM_CLOEXEC: usize = 1 | O_CLOEXEC;
    // The kernel's layouts: family, port, and the address after it or, in version 6, after 4 bytes.
    let mut address = [0u8; 28];
    let (family, len) = if by_version_6 { (AF_INET6, 28) } else { (AF_INET, 16) };
    address[..2].copy_from_slice(&family.to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    match by_version_6 {
        true => address[23] = 1,
        false => address[4..8].copy_from_slice(&[127, 0, 0, 1]),
    }
    let fd = call!(SOCKET, family, SOCK_STREAM_CLOEXEC, 0).map(OwnedFd::opened)?;
    // SAFETY: the kernel reads `len` bytes, which `address` has.
    unsafe { memory_call!(CONNECT, fd.fd(), address.as_ptr(), len) }?;
    Ok(fd)
}

/// Writes to a socket, and sends a file descriptor with the first byte.
pub fn send_with(socket: Fd, bytes: &[u8], fd: Fd) -> Result<usize> {
    const SOL_SOCKET: u64 = 1;
    const SCM_RIGHTS: u64 = 1;
    const HEADER: u64 = 16;
    // The kernel's layouts on machines of 64 bits, little-endian: `cmsghdr` with one descriptor, `iovec`, `msghdr`.
    let control = [HEADER + 4, SOL_SOCKET | SCM_RIGHTS << 32, fd as u64];
    let data = [bytes.as_ptr() as usize, bytes.len()];
    let (at_data, at_control) = (data.as_ptr() as usize, control.as_ptr() as usize);
    let message = [0, 0, at_data, 1, at_control, size_of_val(&control), 0];
    // SAFETY: the kernel reads the message, the data and the control part that it points to, and at most the bytes of
    // `bytes`.
    unsafe { memory_call!(SENDMSG, socket, message.as_ptr(), 0) }
}
