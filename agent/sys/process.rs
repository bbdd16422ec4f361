//! Processes: the agent itself, its children, and as whom they run.

use core::ffi::CStr;

use super::call::call;
use super::file::readlink;
use super::signal::SIGCHLD;
use super::{Errno, Fd, Result};

/// Shows that this process is PID 1 of a pid namespace that is not the machine's own. Whoever has it may end everything.
pub struct Pid1(());

/// Ends the process unless it is PID 1 of a container: what it does there would end the whole machine elsewhere.
pub fn guard() -> Pid1 {
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

pub(super) fn getpid() -> usize {
    call!(GETPID).unwrap_or(0)
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

/// The environment, which the kernel has put on the stack.
#[derive(Clone, Copy)]
pub struct Env(&'static [*const u8]);

impl Env {
    /// # Safety
    ///
    /// Each pointer must be of a text that ends with NUL, and that stays for the life of the process.
    pub unsafe fn new(texts: &'static [*const u8]) -> Self {
        Self(texts)
    }

    pub fn len(self) -> usize {
        self.0.len()
    }

    pub fn texts(self) -> impl Iterator<Item = &'static CStr> {
        // SAFETY: texts that end with NUL, and stay for the life of the process, see `new`.
        self.0.iter().map(|text| unsafe { CStr::from_ptr((*text).cast()) })
    }
}
