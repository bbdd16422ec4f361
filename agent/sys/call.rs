//! Calls of the kernel. The type of a call's number says what its arguments are, and so whether a caller must vouch for
//! them.

use core::arch::asm;
use core::ffi::CStr;

use super::{Errno, Fd, Result};

/// The number of a call that takes numbers alone: no argument makes the kernel read or change memory of this process.
#[derive(Clone, Copy)]
pub struct Plain(usize);

/// The number of a call that takes a directory, a path in it and up to two numbers.
#[derive(Clone, Copy)]
pub struct AtPath(usize);

/// The number of a call that is given pointers, or that changes which memory there is.
#[derive(Clone, Copy)]
pub struct Raw(usize);

/// Enters the kernel.
///
/// # Safety
///
/// Every pointer among the arguments must be valid for what the call does with it, and no memory that is in use may go.
#[cfg(target_arch = "x86_64")]
unsafe fn enter(n: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel keeps all registers but these. The caller vouches for the arguments.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") n as isize => result,
            in("rdi") a[0], in("rsi") a[1], in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Enters the kernel.
///
/// # Safety
///
/// Every pointer among the arguments must be valid for what the call does with it, and no memory that is in use may go.
#[cfg(target_arch = "aarch64")]
unsafe fn enter(n: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel keeps all registers but x0. The caller vouches for the arguments.
    unsafe {
        asm!(
            "svc #0",
            in("x8") n,
            inlateout("x0") a[0] as isize => result,
            in("x1") a[1], in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5],
            options(nostack),
        );
    }
    result
}

/// Makes any call.
///
/// # Safety
///
/// Every pointer among the arguments must be valid for what the call does with it, and no memory that is in use may go.
#[inline(never)]
pub unsafe fn raw(Raw(n): Raw, args: &[usize]) -> Result<usize> {
    let mut a = [0; 6];
    a[..args.len()].copy_from_slice(args);
    // SAFETY: the caller's promise is the same.
    match unsafe { enter(n, a) } {
        error @ -4095..=-1 => Err(Errno(-error as i32)),
        result => Ok(result as usize),
    }
}

/// Makes a call that takes numbers alone.
pub fn plain(Plain(n): Plain, args: &[usize]) -> Result<usize> {
    // SAFETY: a `Plain` call has nothing to do with memory.
    unsafe { raw(Raw(n), args) }
}

/// Makes a call on a path in a directory.
#[inline(never)]
pub fn at_path(AtPath(n): AtPath, dir: Fd, path: &CStr, numbers: [usize; 2]) -> Result<usize> {
    let [a, b] = numbers;
    // SAFETY: the only pointer is that of the path, which ends with NUL and is only read.
    unsafe { raw(Raw(n), &[dir as usize, path.as_ptr() as usize, a, b]) }
}

/// [`raw`] with arguments of any type that is a number or a pointer. Numbers are extended by their sign.
macro_rules! memory_call {
    ($n:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::call::raw($crate::sys::call::nr::$n, &[$($arg as usize),*])
    };
}

/// [`plain`] with arguments of any type that is a number. They are extended by their sign.
macro_rules! call {
    ($n:ident $(, $arg:expr)* $(,)?) => {
        $crate::sys::call::plain($crate::sys::call::nr::$n, &[$($arg as usize),*])
    };
}

pub(super) use {call, memory_call};

#[cfg(target_arch = "x86_64")]
pub mod nr {
    use super::{AtPath, Plain, Raw};

    pub const READ: Raw = Raw(0);
    pub const WRITE: Raw = Raw(1);
    pub const CLOSE: Plain = Plain(3);
    pub const LSEEK: Plain = Plain(8);
    pub const MMAP: Raw = Raw(9);
    pub const MUNMAP: Raw = Raw(11);
    pub const RT_SIGPROCMASK: Raw = Raw(14);
    pub const IOCTL: Raw = Raw(16);
    pub const PREAD64: Raw = Raw(17);
    pub const PWRITE64: Raw = Raw(18);
    pub const MADVISE: Raw = Raw(28);
    pub const SHMCTL: Raw = Raw(31);
    pub const GETPID: Plain = Plain(39);
    pub const SOCKET: Plain = Plain(41);
    pub const CONNECT: Raw = Raw(42);
    pub const SENDMSG: Raw = Raw(46);
    pub const CLONE: Raw = Raw(56);
    pub const EXECVE: Raw = Raw(59);
    pub const WAIT4: Raw = Raw(61);
    pub const KILL: Plain = Plain(62);
    pub const SEMCTL: Raw = Raw(66);
    pub const MSGCTL: Raw = Raw(71);
    pub const FCNTL: Raw = Raw(72);
    pub const GETCWD: Raw = Raw(79);
    pub const CHDIR: Raw = Raw(80);
    pub const FCHMOD: Plain = Plain(91);
    pub const FCHOWN: Plain = Plain(93);
    pub const PTRACE: Raw = Raw(101);
    pub const GETUID: Plain = Plain(102);
    pub const SETUID: Plain = Plain(105);
    pub const SETGID: Plain = Plain(106);
    pub const GETPPID: Plain = Plain(110);
    pub const CAPGET: Raw = Raw(125);
    pub const SETSID: Plain = Plain(112);
    pub const SETGROUPS: Raw = Raw(116);
    pub const SETRESUID: Plain = Plain(117);
    pub const FSTATFS: Raw = Raw(138);
    pub const PRCTL: Raw = Raw(157);
    pub const LLISTXATTR: Raw = Raw(195);
    pub const SCHED_SETAFFINITY: Raw = Raw(203);
    pub const SCHED_GETAFFINITY: Raw = Raw(204);
    pub const GETDENTS64: Raw = Raw(217);
    pub const CLOCK_GETTIME: Raw = Raw(228);
    pub const EXIT_GROUP: Plain = Plain(231);
    pub const TGKILL: Plain = Plain(234);
    pub const WAITID: Raw = Raw(247);
    pub const KEYCTL: Raw = Raw(250);
    pub const IOPRIO_SET: Plain = Plain(251);
    pub const IOPRIO_GET: Plain = Plain(252);
    pub const INOTIFY_ADD_WATCH: Raw = Raw(254);
    pub const OPENAT: AtPath = AtPath(257);
    pub const MKDIRAT: AtPath = AtPath(258);
    pub const UNLINKAT: AtPath = AtPath(263);
    pub const SYMLINKAT: Raw = Raw(266);
    pub const READLINKAT: Raw = Raw(267);
    pub const FCHMODAT: AtPath = AtPath(268);
    pub const FACCESSAT: AtPath = AtPath(269);
    pub const PPOLL: Raw = Raw(271);
    pub const UTIMENSAT: Raw = Raw(280);
    pub const SIGNALFD4: Raw = Raw(289);
    pub const DUP3: Plain = Plain(292);
    pub const PIPE2: Raw = Raw(293);
    pub const INOTIFY_INIT1: Plain = Plain(294);
    pub const PRLIMIT64: Raw = Raw(302);
    pub const SCHED_SETATTR: Raw = Raw(314);
    pub const SCHED_GETATTR: Raw = Raw(315);
    pub const RENAMEAT2: Raw = Raw(316);
    pub const STATX: Raw = Raw(332);
    pub const ADD_KEY: Raw = Raw(248);
    pub const REQUEST_KEY: Raw = Raw(249);
    pub const UNSHARE: Plain = Plain(272);
    pub const SETNS: Plain = Plain(308);
    pub const BPF: Raw = Raw(321);
    pub const USERFAULTFD: Plain = Plain(323);
    pub const IO_URING_SETUP: Raw = Raw(425);
    pub const IO_URING_ENTER: Raw = Raw(426);
    pub const IO_URING_REGISTER: Raw = Raw(427);
    pub const CLONE3: Raw = Raw(435);
    pub const CLOSE_RANGE: Plain = Plain(436);
}

#[cfg(target_arch = "aarch64")]
pub mod nr {
    use super::{AtPath, Plain, Raw};

    pub const GETCWD: Raw = Raw(17);
    pub const LLISTXATTR: Raw = Raw(12);
    pub const FSTATFS: Raw = Raw(44);
    pub const FCHMOD: Plain = Plain(52);
    pub const SETRESUID: Plain = Plain(147);
    pub const MSGCTL: Raw = Raw(187);
    pub const SEMCTL: Raw = Raw(191);
    pub const SHMCTL: Raw = Raw(195);
    pub const KEYCTL: Raw = Raw(219);
    pub const PTRACE: Raw = Raw(117);
    pub const TGKILL: Plain = Plain(131);
    pub const DUP3: Plain = Plain(24);
    pub const FCNTL: Raw = Raw(25);
    pub const INOTIFY_INIT1: Plain = Plain(26);
    pub const INOTIFY_ADD_WATCH: Raw = Raw(27);
    pub const IOCTL: Raw = Raw(29);
    pub const IOPRIO_SET: Plain = Plain(30);
    pub const IOPRIO_GET: Plain = Plain(31);
    pub const MKDIRAT: AtPath = AtPath(34);
    pub const UNLINKAT: AtPath = AtPath(35);
    pub const SYMLINKAT: Raw = Raw(36);
    pub const FACCESSAT: AtPath = AtPath(48);
    pub const CHDIR: Raw = Raw(49);
    pub const FCHMODAT: AtPath = AtPath(53);
    pub const FCHOWN: Plain = Plain(55);
    pub const OPENAT: AtPath = AtPath(56);
    pub const CLOSE: Plain = Plain(57);
    pub const PIPE2: Raw = Raw(59);
    pub const GETDENTS64: Raw = Raw(61);
    pub const LSEEK: Plain = Plain(62);
    pub const READ: Raw = Raw(63);
    pub const WRITE: Raw = Raw(64);
    pub const PREAD64: Raw = Raw(67);
    pub const PWRITE64: Raw = Raw(68);
    pub const PPOLL: Raw = Raw(73);
    pub const SIGNALFD4: Raw = Raw(74);
    pub const READLINKAT: Raw = Raw(78);
    pub const UTIMENSAT: Raw = Raw(88);
    pub const EXIT_GROUP: Plain = Plain(94);
    pub const WAITID: Raw = Raw(95);
    pub const CLOCK_GETTIME: Raw = Raw(113);
    pub const SCHED_SETAFFINITY: Raw = Raw(122);
    pub const SCHED_GETAFFINITY: Raw = Raw(123);
    pub const KILL: Plain = Plain(129);
    pub const RT_SIGPROCMASK: Raw = Raw(135);
    pub const CAPGET: Raw = Raw(90);
    pub const SETGID: Plain = Plain(144);
    pub const SETUID: Plain = Plain(146);
    pub const SETSID: Plain = Plain(157);
    pub const SETGROUPS: Raw = Raw(159);
    pub const PRCTL: Raw = Raw(167);
    pub const GETPID: Plain = Plain(172);
    pub const GETPPID: Plain = Plain(173);
    pub const GETUID: Plain = Plain(174);
    pub const SOCKET: Plain = Plain(198);
    pub const CONNECT: Raw = Raw(203);
    pub const SENDMSG: Raw = Raw(211);
    pub const MUNMAP: Raw = Raw(215);
    pub const CLONE: Raw = Raw(220);
    pub const EXECVE: Raw = Raw(221);
    pub const MMAP: Raw = Raw(222);
    pub const MADVISE: Raw = Raw(233);
    pub const WAIT4: Raw = Raw(260);
    pub const PRLIMIT64: Raw = Raw(261);
    pub const SCHED_SETATTR: Raw = Raw(274);
    pub const SCHED_GETATTR: Raw = Raw(275);
    pub const RENAMEAT2: Raw = Raw(276);
    pub const STATX: Raw = Raw(291);
    pub const UNSHARE: Plain = Plain(97);
    pub const ADD_KEY: Raw = Raw(217);
    pub const REQUEST_KEY: Raw = Raw(218);
    pub const SETNS: Plain = Plain(268);
    pub const BPF: Raw = Raw(280);
    pub const USERFAULTFD: Plain = Plain(282);
    pub const IO_URING_SETUP: Raw = Raw(425);
    pub const IO_URING_ENTER: Raw = Raw(426);
    pub const IO_URING_REGISTER: Raw = Raw(427);
    pub const CLONE3: Raw = Raw(435);
    pub const CLOSE_RANGE: Plain = Plain(436);
}
