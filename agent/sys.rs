//! The system calls, and all of the agent's unsafe code.

use core::arch::{asm, global_asm};
use core::ffi::CStr;
use core::sync::atomic::AtomicU32;

use crate::protocol::Size;
use crate::tree::Process;

#[cfg(target_arch = "x86_64")]
mod nr {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const LSEEK: usize = 8;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const PREAD64: usize = 17;
    pub const PWRITE64: usize = 18;
    pub const MADVISE: usize = 28;
    pub const GETPID: usize = 39;
    pub const SOCKET: usize = 41;
    pub const CONNECT: usize = 42;
    pub const SENDMSG: usize = 46;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const GETCWD: usize = 79;
    pub const CHDIR: usize = 80;
    pub const FCHOWN: usize = 93;
    pub const PTRACE: usize = 101;
    pub const GETUID: usize = 102;
    pub const SETUID: usize = 105;
    pub const SETGID: usize = 106;
    pub const GETPPID: usize = 110;
    pub const CAPGET: usize = 125;
    pub const SETSID: usize = 112;
    pub const SETGROUPS: usize = 116;
    pub const PRCTL: usize = 157;
    pub const SCHED_SETAFFINITY: usize = 203;
    pub const SCHED_GETAFFINITY: usize = 204;
    pub const GETDENTS64: usize = 217;
    pub const CLOCK_GETTIME: usize = 228;
    pub const EXIT_GROUP: usize = 231;
    pub const TGKILL: usize = 234;
    pub const WAITID: usize = 247;
    pub const IOPRIO_SET: usize = 251;
    pub const IOPRIO_GET: usize = 252;
    pub const OPENAT: usize = 257;
    pub const MKDIRAT: usize = 258;
    pub const UNLINKAT: usize = 263;
    pub const READLINKAT: usize = 267;
    pub const FCHMODAT: usize = 268;
    pub const FACCESSAT: usize = 269;
    pub const PPOLL: usize = 271;
    pub const SIGNALFD4: usize = 289;
    pub const DUP3: usize = 292;
    pub const PIPE2: usize = 293;
    pub const PRLIMIT64: usize = 302;
    pub const SCHED_SETATTR: usize = 314;
    pub const SCHED_GETATTR: usize = 315;
    pub const RENAMEAT2: usize = 316;
    pub const STATX: usize = 332;
    pub const CLOSE_RANGE: usize = 436;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    pub const GETCWD: usize = 17;
    pub const PTRACE: usize = 117;
    pub const TGKILL: usize = 131;
    pub const DUP3: usize = 24;
    pub const FCNTL: usize = 25;
    pub const IOCTL: usize = 29;
    pub const IOPRIO_SET: usize = 30;
    pub const IOPRIO_GET: usize = 31;
    pub const MKDIRAT: usize = 34;
    pub const UNLINKAT: usize = 35;
    pub const FACCESSAT: usize = 48;
    pub const CHDIR: usize = 49;
    pub const FCHMODAT: usize = 53;
    pub const FCHOWN: usize = 55;
    pub const OPENAT: usize = 56;
    pub const CLOSE: usize = 57;
    pub const PIPE2: usize = 59;
    pub const GETDENTS64: usize = 61;
    pub const LSEEK: usize = 62;
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const PREAD64: usize = 67;
    pub const PWRITE64: usize = 68;
    pub const PPOLL: usize = 73;
    pub const SIGNALFD4: usize = 74;
    pub const READLINKAT: usize = 78;
    pub const EXIT_GROUP: usize = 94;
    pub const WAITID: usize = 95;
    pub const CLOCK_GETTIME: usize = 113;
    pub const SCHED_SETAFFINITY: usize = 122;
    pub const SCHED_GETAFFINITY: usize = 123;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const CAPGET: usize = 90;
    pub const SETGID: usize = 144;
    pub const SETUID: usize = 146;
    pub const SETSID: usize = 157;
    pub const SETGROUPS: usize = 159;
    pub const PRCTL: usize = 167;
    pub const GETPID: usize = 172;
    pub const GETPPID: usize = 173;
    pub const GETUID: usize = 174;
    pub const SOCKET: usize = 198;
    pub const CONNECT: usize = 203;
    pub const SENDMSG: usize = 211;
    pub const MUNMAP: usize = 215;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const MMAP: usize = 222;
    pub const MADVISE: usize = 233;
    pub const WAIT4: usize = 260;
    pub const PRLIMIT64: usize = 261;
    pub const SCHED_SETATTR: usize = 274;
    pub const SCHED_GETATTR: usize = 275;
    pub const RENAMEAT2: usize = 276;
    pub const STATX: usize = 291;
    pub const CLOSE_RANGE: usize = 436;
}

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const PERM: Self = Self(1);
    pub const NOENT: Self = Self(2);
    pub const SRCH: Self = Self(3);
    pub const INTR: Self = Self(4);
    pub const AGAIN: Self = Self(11);
    pub const ACCES: Self = Self(13);
    pub const ISDIR: Self = Self(21);
    pub const INVAL: Self = Self(22);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// An open descriptor. Never 0 to 2 for anything the agent has opened itself.
pub type Fd = i32;

pub const SIGKILL: i32 = 9;
pub const SIGPIPE: i32 = 13;
pub const SIGTERM: i32 = 15;
pub const SIGCHLD: i32 = 17;
pub const SIGCONT: i32 = 18;
pub const SIGSTOP: i32 = 19;

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;
const POLLHUP: i16 = 16;

const AT_FDCWD: Fd = -100;
const O_CLOEXEC: usize = 0o2000000;
const O_NONBLOCK: usize = 0o4000;
const O_RDWR: usize = 2;
const O_NOCTTY: usize = 0o400;
#[cfg(target_arch = "x86_64")]
const O_DIRECTORY: usize = 0o200000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: usize = 0o400000;
#[cfg(target_arch = "aarch64")]
const O_DIRECTORY: usize = 0o40000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: usize = 0o100000;

#[cfg(target_arch = "x86_64")]
unsafe fn raw(n: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's convention: it keeps all registers but these. The caller vouches for the arguments.
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

#[cfg(target_arch = "aarch64")]
unsafe fn raw(n: usize, a: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's convention: it keeps all registers but x0. The caller vouches for the arguments.
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

/// # Safety
///
/// Every pointer among the arguments must be good for what the kernel does with it.
#[inline(never)]
unsafe fn call(n: usize, args: &[usize]) -> Result<usize> {
    let mut a = [0; 6];
    a[..args.len()].copy_from_slice(args);
    // SAFETY: passed on.
    match unsafe { raw(n, a) } {
        error @ -4095..=-1 => Err(Errno(-error as i32)),
        result => Ok(result as usize),
    }
}

macro_rules! call {
    ($n:ident $(, $arg:expr)*) => {
        // SAFETY: every pointer given here is of a borrow that lives through the call, with its true length, or of a
        // text that ends with NUL.
        unsafe { call(nr::$n, &[$($arg as usize),*]) }
    };
}

// The kernel enters here, with the arguments and the environment on the stack.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl {start}",
    "brk #1",
    start = sym start,
);

unsafe extern "C" fn start(stack: *const usize) -> ! {
    // Before anything else.
    let pid1 = guard();
    // SAFETY: the kernel's layout: the number of arguments, the arguments, NULL, the environment, NULL. All of it stays
    // where it is for the life of the process.
    let env = unsafe {
        let env = stack.add(1 + *stack + 1) as *const *const u8;
        let mut len = 0;
        while !(*env.add(len)).is_null() {
            len += 1;
        }
        Env(core::slice::from_raw_parts(env, len))
    };
    crate::run(pid1, env)
}

/// Shows that this process is PID 1 of a pid namespace that is not the machine's own. Whoever has it may end everything.
pub struct Pid1(());

/// Ends the process unless it is PID 1 of a container: what it does there would end the whole machine elsewhere.
fn guard() -> Pid1 {
    const REFUSED: i32 = 125;
    // The first process of a pid namespace has no parent that it could see.
    if getpid() != 1 || call!(GETPPID) != Ok(0) {
        exit(REFUSED);
    }
    // The kernel's fixed number of the first pid namespace. Where it cannot be read, nothing is known.
    let mut buf = [0; 64];
    match readlink(c"/proc/self/ns/pid", &mut buf) {
        Ok(name) if name.starts_with(b"pid:[") && name != b"pid:[4026531836]" => Pid1(()),
        _ => exit(REFUSED),
    }
}

pub fn exit(code: i32) -> ! {
    let _ = call!(EXIT_GROUP, code);
    loop {
        core::hint::spin_loop();
    }
}

fn getpid() -> usize {
    call!(GETPID).unwrap_or(0)
}

/// Signals every process but this one; `Err(SRCH)` proves that there is none, not even one that was not waited for.
pub fn kill_everything(_: &Pid1, signal: i32) -> Result<()> {
    // Once more, although a `Pid1` cannot be had elsewhere: a forked child has a copy of it.
    if getpid() != 1 {
        exit(125);
    }
    call!(KILL, -1i32 as isize, signal).map(drop)
}

/// Signals one process.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    if pid <= 1 {
        return Err(Errno::SRCH);
    }
    call!(KILL, pid, signal).map(drop)
}

/// Signals a process group.
pub fn kill_group(pgid: i32, signal: i32) -> Result<()> {
    if pgid <= 1 {
        return Err(Errno::SRCH);
    }
    call!(KILL, -pgid as isize, signal).map(drop)
}

/// In the child, `Ok(0)`.
pub fn fork() -> Result<i32> {
    call!(CLONE, SIGCHLD, 0, 0, 0, 0).map(|pid| pid as i32)
}

/// Replaces this process; both lists end with a null pointer, as the kernel wants them. Comes back only with an error.
pub fn exec(path: &CStr, argv: &[*const u8], env: &[*const u8]) -> Errno {
    match (argv.last(), env.last()) {
        (Some(arg), Some(var)) if arg.is_null() && var.is_null() => {}
        _ => return Errno::INVAL,
    }
    match call!(EXECVE, path.as_ptr(), argv.as_ptr(), env.as_ptr()) {
        Err(error) => error,
        Ok(_) => Errno::INVAL,
    }
}

/// A child that has something to say.
#[derive(Clone, Copy)]
pub enum Child {
    /// It has ended, and is a zombie until [`wait_for`].
    Ended(i32),
    /// It is stopped. That is told of those that have made PID 1 trace them, as anybody may.
    Stopped(i32),
}

/// The next child that has something to say, of whatever kind. It will say so again.
pub fn next_child() -> Option<Child> {
    const P_ALL: usize = 0;
    const CLD_EXITED_KILLED_DUMPED: core::ops::RangeInclusive<i32> = 1..=3;
    match wait_id(P_ALL, 0, WEXITED | WNOWAIT)? {
        (pid, code, _) if CLD_EXITED_KILLED_DUMPED.contains(&code) => Some(Child::Ended(pid)),
        (pid, ..) => Some(Child::Stopped(pid)),
    }
}

/// Stops tracing a child that is stopped. It gets the signal that it was stopped by, as if it had not been traced. `false`:
/// it is not stopped any more.
pub fn let_go(pid: i32) -> bool {
    const P_PID: usize = 1;
    const PTRACE_DETACH: usize = 17;
    let Some((_, _, status)) = wait_id(P_PID, pid, WSTOPPED) else {
        return false;
    };
    let _ = call!(PTRACE, PTRACE_DETACH, pid, 0, status & 0x7f);
    true
}

/// The pid, the code and the status of a child in one of these states.
fn wait_id(which: usize, id: i32, states: usize) -> Option<(i32, i32, i32)> {
    let mut info = [0i32; 32];
    call!(WAITID, which, id, info.as_mut_ptr(), states | WNOHANG | WALL, 0).ok()?;
    // `siginfo` on machines of 64 bits.
    let (code, pid, status) = (info[2], info[4], info[6]);
    (pid > 0).then_some((pid, code, status))
}

/// Whether this is the number of a process, not of a thread beside the first. One that traces threads is told of the end
/// of each.
pub fn is_process(pid: i32) -> bool {
    call!(TGKILL, pid, pid, 0) != Err(Errno::SRCH)
}

/// A child that has ended.
pub struct Waited {
    /// 0: by itself.
    pub signal: u8,
    pub code: u8,
    /// Microseconds.
    pub user: u64,
    pub system: u64,
    pub peak_kib: u64,
}

const WNOHANG: usize = 1;
const WSTOPPED: usize = 2;
const WEXITED: usize = 4;
const WNOWAIT: usize = 0x0100_0000;
const WALL: usize = 0x4000_0000;

/// Waits for a child that has ended.
pub fn wait_for(pid: i32) -> Option<Waited> {
    let (mut status, mut usage) = (0i32, [0i64; 18]);
    let waited = call!(WAIT4, pid, &raw mut status, WNOHANG | WALL, usage.as_mut_ptr()).ok()?;
    let micros = |i: usize| (usage[i] as u64) * 1_000_000 + usage[i + 1] as u64;
    // A stop is not an end.
    let ended = waited == pid as usize && status & 0xff != 0x7f;
    ended.then_some(Waited {
        signal: (status & 0x7f) as u8,
        code: (status >> 8) as u8,
        user: micros(0),
        system: micros(2),
        peak_kib: usage[4] as u64,
    })
}

pub fn setsid() {
    let _ = call!(SETSID);
}

pub fn uid() -> u32 {
    call!(GETUID).unwrap_or(0) as u32
}

/// Whether this process may become any user, give a stream to it, and signal it then.
pub fn can_become_user() -> bool {
    const VERSION: u32 = 0x2008_0522;
    const CHOWN_KILL_SETGID_SETUID: u32 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7;
    let (header, mut data) = ([VERSION, 0], [0u32; 6]);
    call!(CAPGET, header.as_ptr(), data.as_mut_ptr()).is_ok() && !data[0] & CHOWN_KILL_SETGID_SETUID == 0
}

pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    call!(SETGROUPS, groups.len(), groups.as_ptr())?;
    call!(SETGID, gid)?;
    call!(SETUID, uid).map(drop)
}

pub fn chown(fd: Fd, uid: u32) {
    let _ = call!(FCHOWN, fd, uid, u32::MAX);
}

/// Closes `/proc/1` to processes of the same user, and this memory to everybody.
pub fn hide() {
    const PR_SET_DUMPABLE: usize = 4;
    let _ = call!(PRCTL, PR_SET_DUMPABLE, 0);
}

/// No program that this process executes has more rights than it has.
pub fn gain_no_privileges() -> Result<()> {
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    call!(PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).map(drop)
}

pub type Limit = [u64; 2];

pub fn limit(which: usize) -> Limit {
    let mut limit = [0u64; 2];
    let _ = call!(PRLIMIT64, 0, which, 0, limit.as_mut_ptr());
    limit
}

pub fn set_limit(which: usize, limit: &Limit) -> Result<()> {
    call!(PRLIMIT64, 0, which, limit.as_ptr(), 0).map(drop)
}

/// How a process is scheduled, as the kernel has it (`sched_attr`).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Scheduling {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub least: u32,
    pub most: u32,
}

/// How this process is scheduled.
pub fn scheduling() -> Result<Scheduling> {
    let mut attr = Scheduling {
        size: 0,
        policy: 0,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime: 0,
        deadline: 0,
        period: 0,
        least: 0,
        most: 0,
    };
    call!(SCHED_GETATTR, 0, &raw mut attr, size_of::<Scheduling>(), 0)?;
    Ok(attr)
}

/// Has this process scheduled so.
pub fn set_scheduling(attr: &Scheduling) -> Result<()> {
    call!(SCHED_SETATTR, 0, &raw const *attr, 0).map(drop)
}

/// A bit for each processor. On a machine of more than 1024 the kernel refuses, and nothing is known.
pub type Processors = [u64; 16];

pub const ALL_PROCESSORS: Processors = [u64::MAX; 16];

/// Where this process may run.
pub fn processors() -> Result<Processors> {
    let mut mask = Processors::default();
    call!(SCHED_GETAFFINITY, 0, size_of::<Processors>(), mask.as_mut_ptr())?;
    Ok(mask)
}

pub fn set_processors(mask: &Processors) -> Result<()> {
    call!(SCHED_SETAFFINITY, 0, size_of::<Processors>(), mask.as_ptr()).map(drop)
}

const IOPRIO_WHO_PROCESS: usize = 1;

/// The class and the priority of this process's input and output.
pub fn io_priority() -> Result<usize> {
    call!(IOPRIO_GET, IOPRIO_WHO_PROCESS, 0)
}

pub fn set_io_priority(priority: usize) -> Result<()> {
    call!(IOPRIO_SET, IOPRIO_WHO_PROCESS, 0, priority).map(drop)
}

/// How late timers may be, in nanoseconds.
pub fn timer_slack() -> Result<usize> {
    const PR_GET_TIMERSLACK: usize = 30;
    call!(PRCTL, PR_GET_TIMERSLACK)
}

pub fn set_timer_slack(slack: usize) -> Result<()> {
    const PR_SET_TIMERSLACK: usize = 29;
    call!(PRCTL, PR_SET_TIMERSLACK, slack).map(drop)
}

/// Blocks these signals; gives the mask from before.
pub fn block_signals(signals: &[i32]) -> u64 {
    let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
    let mut old = 0u64;
    let _ = call!(RT_SIGPROCMASK, 0, &raw const set, &raw mut old, 8);
    old
}

pub fn set_signal_mask(mask: u64) {
    let _ = call!(RT_SIGPROCMASK, 2, &raw const mask, 0, 8);
}

/// A descriptor that tells of these (blocked) signals.
pub fn signal_fd(signals: &[i32]) -> Result<Fd> {
    let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
    call!(SIGNALFD4, -1i32 as isize, &raw const set, 8, O_CLOEXEC | O_NONBLOCK).map(|fd| fd as Fd)
}

/// One signal from such a descriptor: which, and whether it came from outside of the container.
pub fn next_signal(fd: Fd) -> Option<(i32, bool)> {
    let mut info = [0u32; 32];
    let len = call!(READ, fd, info.as_mut_ptr(), 128).ok()?;
    // A `kill` (code 0) whose sender has no pid here. A code of 0 cannot be forged from within.
    (len == 128).then_some((info[0] as i32, info[2] == 0 && info[3] == 0))
}

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

/// The path of this number in a directory, without leading zeros, and NUL.
fn numbered<const N: usize>(dir: &[u8], number: i32) -> [u8; N] {
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

const PROT_READ_WRITE: usize = 3;
const MAP_PRIVATE: usize = 2;
const MAP_SHARED: usize = 1;
const MAP_ANONYMOUS: usize = 0x20;

/// Fresh memory, all zero; only what is touched counts.
pub fn map(len: usize) -> Result<&'static mut [u8]> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let at = call!(MMAP, 0, len, PROT_READ_WRITE, flags, -1i32 as isize, 0)?;
    // SAFETY: memory of this length that is nobody else's, until `unmap`.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

pub fn unmap(memory: &'static mut [u8]) {
    let _ = call!(MUNMAP, memory.as_mut_ptr(), memory.len());
}

/// Gives the memory back; it is zero afterwards.
pub fn forget(memory: &mut [u8]) {
    const MADV_DONTNEED: usize = 4;
    let _ = call!(MADVISE, memory.as_mut_ptr(), memory.len(), MADV_DONTNEED);
}

/// Numbers that forked children can write to as well, until they exec.
pub fn map_shared(count: usize) -> Result<&'static [AtomicU32]> {
    let flags = MAP_SHARED | MAP_ANONYMOUS;
    let at = call!(MMAP, 0, count * 4, PROT_READ_WRITE, flags, -1i32 as isize, 0)?;
    // SAFETY: memory of this length that stays mapped for the life of the process; atomics may be shared.
    Ok(unsafe { core::slice::from_raw_parts(at as *const AtomicU32, count) })
}

/// Fresh memory of [`map`] as a list of processes.
pub fn as_processes(memory: &mut [u8]) -> &mut [Process] {
    // SAFETY: its pages are aligned for anything; every bit pattern that the agent writes is of a `Process`, and zero is
    // one too.
    let (_, processes, _) = unsafe { memory.align_to_mut::<Process>() };
    processes
}

/// Memory for a list of pointers, all null.
pub fn map_pointers(count: usize) -> Result<&'static mut [*const u8]> {
    let memory = map(count * size_of::<*const u8>())?;
    // SAFETY: pages are aligned for pointers, and zero is the null pointer.
    Ok(unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr() as *mut *const u8, count) })
}

/// These texts as a list, `most` of them at most.
pub fn list<'a>(texts: impl Iterator<Item = &'a CStr>, most: usize) -> Result<&'a [&'a CStr]> {
    let at = map((most * size_of::<&CStr>()).max(1))?.as_mut_ptr() as *mut &'a CStr;
    let mut count = 0;
    for text in texts.take(most) {
        // SAFETY: below `most`, for which there is room; pages are aligned for anything.
        unsafe { at.add(count).write(text) };
        count += 1;
    }
    // SAFETY: so many were written, and the memory is nobody else's.
    Ok(unsafe { core::slice::from_raw_parts(at, count) })
}

/// Fresh memory with a value in each place.
pub fn map_values<T: 'static>(count: usize, value: impl Fn() -> T) -> Result<&'static mut [T]> {
    let at = map(count * size_of::<T>())?.as_mut_ptr().cast::<T>();
    // SAFETY: memory of this size that is nobody else's and stays, aligned as pages are; each place is written before it
    // is lent.
    unsafe {
        for i in 0..count {
            at.add(i).write(value());
        }
        Ok(core::slice::from_raw_parts_mut(at, count))
    }
}

/// The environment, which the kernel has put on the stack.
#[derive(Clone, Copy)]
pub struct Env(&'static [*const u8]);

impl Env {
    pub fn len(self) -> usize {
        self.0.len()
    }

    pub fn texts(self) -> impl Iterator<Item = &'static CStr> {
        // SAFETY: texts that end with NUL, and stay for the life of the process, see `start`.
        self.0.iter().map(|text| unsafe { CStr::from_ptr((*text).cast()) })
    }
}

// What the compiler calls for copies and comparisons. The crate is `no_builtins`, so these loops stay loops.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        {
            let words = len / 8;
            for i in 0..words {
                let word = from.cast::<u64>().add(i).read_unaligned();
                to.cast::<u64>().add(i).write_unaligned(word);
            }
            for i in words * 8..len {
                *to.add(i) = *from.add(i);
            }
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        if (to as usize).wrapping_sub(from as usize) >= len {
            return memcpy(to, from, len);
        }
        let mut i = len;
        while i > 0 {
            i -= 1;
            *to.add(i) = *from.add(i);
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        for i in 0..len {
            *to.add(i) = byte as u8;
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (*a.add(i), *b.add(i)) };
        if a != b {
            return a as i32 - b as i32;
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller's promise.
    while unsafe { *text.add(len) } != 0 {
        len += 1;
    }
    len
}

/// The core library's tables name it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The container ends with its PID 1: nothing goes on with an agent in an unknown state.
    exit(101)
}
