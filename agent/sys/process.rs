//! Processes: the agent itself, its children, and the users that they run as.

use core::ffi::CStr;

use super::call::{call, memory_call};
use super::file::readlink;
use super::memory::Texts;
use super::signal::SIGCHLD;
use super::{Errno, Fd, Result};

/// The exit code of an agent that is not PID 1 of a container.
pub const REFUSED: i32 = 125;

/// Proves that this process is PID 1 of a pid namespace that is not the machine's own, and so may kill everything in it.
pub struct Pid1(());

/// Exits unless this process is PID 1 of a container. Elsewhere its work would end the whole machine.
pub fn guard() -> Pid1 {
    // The first process of a pid namespace has no parent that it can see.
    if getpid() != 1 || call!(GETPPID) != Ok(0) {
        exit(REFUSED);
    }
    // The kernel's fixed number of the machine's pid namespace. A namespace without a readable number may be that one.
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

pub(super) fn getpid() -> usize {
    call!(GETPID).unwrap_or(0)
}

/// Starts a child, which runs `child` and exits, and returns its pid. The agent has one thread, so a child may do all that
/// it may.
pub fn fork(child: impl FnOnce()) -> Result<i32> {
    // SAFETY: without further flags the child has a copy of all memory, its stack too.
    match unsafe { memory_call!(CLONE, SIGCHLD, 0, 0, 0, 0) }? {
        0 => {
            child();
            exit(0)
        }
        pid => Ok(pid as i32),
    }
}

/// Executes a program in place of this process. Returns only if that fails.
pub fn exec(path: &CStr, mut args: Texts<'_>, mut env: Texts<'_>) -> Errno {
    let lists = args.end().and_then(|args| Ok((args, env.end()?)));
    let executed = lists.and_then(|(args, env)| {
        // SAFETY: a path that ends with NUL, and two lists of such texts that end with a null pointer, are only read.
        unsafe { memory_call!(EXECVE, path.as_ptr(), args, env) }
    });
    executed.err().unwrap_or(Errno::INVAL)
}

/// A child that has ended or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// The child of this pid is a zombie until [`wait_for`].
    Ended(i32),
    /// The child of this pid is stopped. PID 1 is told so of children that it traces, since they asked for that.
    Stopped(i32),
}

/// Returns a child that has ended or stopped. The kernel gives the same one again until it is dealt with.
pub fn next_child() -> Option<Child> {
    const P_ALL: usize = 0;
    const CLD_EXITED_KILLED_DUMPED: core::ops::RangeInclusive<i32> = 1..=3;
    match wait_id(P_ALL, 0, WEXITED | WNOWAIT)? {
        (pid, code, _) if CLD_EXITED_KILLED_DUMPED.contains(&code) => Some(Child::Ended(pid)),
        (pid, ..) => Some(Child::Stopped(pid)),
    }
}

/// Stops tracing a stopped child, which gets the signal that stopped it. Returns `false` if the child is not stopped any
/// more.
pub fn let_go(pid: i32) -> bool {
    const P_PID: usize = 1;
    const PTRACE_DETACH: usize = 17;
    let Some((_, _, status)) = wait_id(P_PID, pid, WSTOPPED) else {
        return false;
    };
    // SAFETY: this operation takes numbers: a pid and a signal.
    let _ = unsafe { memory_call!(PTRACE, PTRACE_DETACH, pid, 0, status & 0x7f) };
    true
}

/// Returns the pid, the code and the status of a child in one of these states.
fn wait_id(which: usize, id: i32, states: usize) -> Option<(i32, i32, i32)> {
    // `siginfo` on machines of 64 bits.
    let mut info = [0i32; 32];
    // SAFETY: the kernel writes at most the 128 bytes of `info`, and no usage.
    unsafe { memory_call!(WAITID, which, id, info.as_mut_ptr(), states | WNOHANG | WALL, 0) }.ok()?;
    let (code, pid, status) = (info[2], info[4], info[6]);
    (pid > 0).then_some((pid, code, status))
}

/// Returns whether this is the number of a process, and not of a thread beside its first. A tracer of threads is told of
/// the end of each.
pub fn is_process(pid: i32) -> bool {
    call!(TGKILL, pid, pid, 0) != Err(Errno::SRCH)
}

/// The end of a child, and its usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waited {
    /// The signal that ended the child, or 0.
    pub signal: u8,
    /// The exit code, if no signal ended the child.
    pub code: u8,
    /// Processor time in microseconds, with that of children that the child waited for.
    pub user: u64,
    pub system: u64,
    /// The largest resident size, in KiB.
    pub peak_kib: u64,
}

const WNOHANG: usize = 1;
const WSTOPPED: usize = 2;
const WEXITED: usize = 4;
const WNOWAIT: usize = 0x0100_0000;
const WALL: usize = 0x4000_0000;

/// Waits for a child that has ended. Returns `None` if it has not.
pub fn wait_for(pid: i32) -> Option<Waited> {
    let (mut status, mut usage) = (0i32, [0i64; 18]);
    let (at_status, at_usage) = (&raw mut status, usage.as_mut_ptr());
    // SAFETY: the kernel writes the status and a `rusage`, which has 18 words on machines of 64 bits.
    let waited = unsafe { memory_call!(WAIT4, pid, at_status, WNOHANG | WALL, at_usage) }.ok()?;
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

/// Begins a session, which no process from outside can enter.
pub fn setsid() {
    let _ = call!(SETSID);
}

pub fn uid() -> u32 {
    call!(GETUID).unwrap_or(0) as u32
}

/// Returns whether this process may become any user, give streams to it, and signal it.
pub fn can_become_user() -> bool {
    const VERSION: u32 = 0x2008_0522;
    const CHOWN_KILL_SETGID_SETUID: u32 = 1 << 0 | 1 << 5 | 1 << 6 | 1 << 7;
    let (mut header, mut data) = ([VERSION, 0], [0u32; 6]);
    // SAFETY: the kernel reads and writes the header, and writes the 24 bytes that this version has.
    let got = unsafe { memory_call!(CAPGET, header.as_mut_ptr(), data.as_mut_ptr()) };
    got.is_ok() && !data[0] & CHOWN_KILL_SETGID_SETUID == 0
}

pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    // SAFETY: the kernel reads so many numbers of 4 bytes.
    unsafe { memory_call!(SETGROUPS, groups.len(), groups.as_ptr()) }?;
    call!(SETGID, gid)?;
    call!(SETUID, uid).map(drop)
}

/// Gives an open file to a user.
pub fn chown(fd: Fd, uid: u32) {
    let _ = call!(FCHOWN, fd, uid, u32::MAX);
}

/// Closes `/proc/1` to processes of the same user, and this memory to everybody.
pub fn hide() {
    const PR_SET_DUMPABLE: usize = 4;
    // SAFETY: this operation takes a number.
    let _ = unsafe { memory_call!(PRCTL, PR_SET_DUMPABLE, 0) };
}

/// Lets no program that this process executes have more rights than it has.
pub fn gain_no_privileges() -> Result<()> {
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    // SAFETY: this operation takes numbers.
    unsafe { memory_call!(PRCTL, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.map(drop)
}

/// The environment of this process, where the kernel has put it.
#[derive(Clone, Copy)]
pub struct Env(&'static [*const u8]);

impl Env {
    /// # Safety
    ///
    /// Each pointer must be of a text that ends with NUL and stays unchanged for the life of the process.
    pub unsafe fn new(texts: &'static [*const u8]) -> Self {
        Self(texts)
    }

    pub fn len(self) -> usize {
        self.0.len()
    }

    pub fn texts(self) -> impl Iterator<Item = &'static CStr> {
        self.0.iter().map(|text| {
            // SAFETY: the caller of `new` has promised such texts.
            unsafe { CStr::from_ptr((*text).cast()) }
        })
    }
}
