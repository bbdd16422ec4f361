//! The work of a child between the fork and the exec.

use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::cgroups::Cgroups;
use crate::files;
use crate::own::Own;
use crate::protocol::{CLEAR_ENV, FILES, Fields, LIMITS, Spawn, Stage};
use crate::sys::{self, Bytes, Env, Errno, Fd, Limit, List, Texts};
use crate::users;

/// The longest path the kernel takes.
const PATH_MAX: usize = 4096;

/// The most bytes of a file of users or groups that are read.
const USERS_FILE: usize = 1 << 20;

/// The attributes that the agent was started with, and that commands start with.
pub struct Given {
    pub env: Env,
    pub signal_mask: u64,
    pub limits: [Limit; LIMITS],
    cwd: [u8; PATH_MAX],
    pub uid: u32,
    /// `/dev/null`.
    pub null: Fd,
}

impl Given {
    pub fn new(env: Env, signal_mask: u64) -> sys::Result<Self> {
        let mut cwd = [0; PATH_MAX];
        // A directory without a path is replaced by the root.
        if sys::cwd(&mut cwd[..PATH_MAX - 1]).is_err() {
            cwd[0] = b'/';
        }
        let mut limits = [[0; 2]; LIMITS];
        for (which, limit) in limits.iter_mut().enumerate() {
            *limit = sys::limit(which);
        }
        Ok(Self {
            env,
            signal_mask,
            limits,
            cwd,
            uid: sys::uid(),
            null: sys::open(c"/dev/null")?.keep(),
        })
    }

    /// Takes limits for commands that would stop the agent itself. Returns `None` if they make no sense.
    pub fn set_limits(&mut self, mut fields: Fields<'_>) -> Option<()> {
        while !fields.0.is_empty() {
            let which = fields.u32()? as usize;
            let limit = [fields.u64()?, fields.u64()?];
            *self.limits.get_mut(which).filter(|_| limit[0] <= limit[1])? = limit;
        }
        Some(())
    }
}

/// The limit of processor time. One of 0 seconds kills the process that has it, and may be meant for the agent.
const CPU: usize = 0;

/// The limit of the size of a file.
const FSIZE: usize = 1;

/// The limit of a user's processes. The kernel looks at it when a process becomes that user.
const NPROC: usize = 6;

/// The limit of a process's addresses.
const AS: usize = 9;

/// The seconds by which a process's limit of processor time is above that of its command. The agent adds up all processes of the
/// command and kills it before; the kernel kills one process if the agent does not get to run.
const LATER: u64 = 1;

/// The word of a child that has not set its own limit of processor time yet.
pub const YET_UNLIMITED: u32 = (Stage::Limits as u32) << 16;

/// The command's ends of its streams.
#[derive(Clone, Copy)]
pub struct Stdio {
    pub stdin: Option<Fd>,
    pub stdout: Fd,
    pub stderr: Fd,
    /// All three are the same terminal.
    pub tty: bool,
}

/// The limits of one command.
type Limits = [Limit; LIMITS];

/// The step at which a command did not begin, and the error.
pub type Failure = (Stage, Errno);

/// Becomes the command, or exits and leaves the reason in `failure`.
pub fn run(
    given: &Given,
    own: &Own,
    (id, spawn): (u32, &Spawn<'_>),
    stdio: Stdio,
    cgroups: &Cgroups,
    failure: &AtomicU32,
) -> ! {
    let limits = limits(given, spawn, cgroups);
    let Err((stage, Errno(errno))) = set_limit(&limits, CPU).and_then(|()| {
        failure.store(0, Ordering::Relaxed);
        become_command(given, &limits, own, (id, spawn), stdio, cgroups)
    });
    failure.store((stage as u32) << 16 | errno as u32 & 0xffff, Ordering::Relaxed);
    sys::exit(127)
}

/// Returns why a command did not begin, from the word that [`run`] has left. A process that was killed early has left
/// [`YET_UNLIMITED`].
pub fn failure(word: u32) -> Option<Failure> {
    Some((Stage::decode((word >> 16) as u8)?, Errno((word & 0xffff) as i32)))
}

/// Becomes the command, or returns why it cannot.
fn become_command(
    given: &Given,
    limits: &Limits,
    own: &Own,
    (id, spawn): (u32, &Spawn<'_>),
    stdio: Stdio,
    cgroups: &Cgroups,
) -> Result<core::convert::Infallible, Failure> {
    let at = |stage| move |error| (stage, error);
    let resources = at(Stage::Resources);

    // Before all else, since this process has copies of other commands' pipes.
    for (fd, to) in [
        (stdio.stdin.unwrap_or(given.null), 0),
        (stdio.stdout, 1),
        (stdio.stderr, 2),
    ] {
        sys::dup_to(fd, to).map_err(resources)?;
    }
    // `CLONE_INTO_CGROUP` would do this with the fork, but the engines' policies do not let `clone3` through.
    cgroups.enter(id).map_err(at(Stage::Cgroup))?;
    sys::close_from(3);
    sys::setsid();
    own.begin_child().map_err(at(Stage::Limits))?;
    if stdio.tty {
        sys::take_terminal(1).map_err(at(Stage::Terminal))?;
    }
    let mut passwd = Bytes::new(USERS_FILE).map_err(resources)?;
    let mut group = Bytes::new(USERS_FILE).map_err(resources)?;
    let user = match spawn.user.to_bytes() {
        b"" => None,
        wanted => {
            let (passwd, group) = (
                read_file(c"/etc/passwd", &mut passwd),
                read_file(c"/etc/group", &mut group),
            );
            let user = users::find(passwd, group, wanted).map_err(|stage| (stage, Errno(0)))?;
            let own_home = users::find(passwd, group, users::decimal(given.uid.into(), &mut [0; 20]))
                .map(|own| own.home)
                .unwrap_or(b"/");
            Some((user, own_home))
        }
    };
    if cgroups.are_made() {
        // A process of the user that owns the groups could leave its own, and freeze the agent.
        if user
            .as_ref()
            .is_none_or(|(user, _)| user.uid == 0 || user.uid == given.uid)
        {
            return Err((Stage::CgroupUser, Errno::PERM));
        }
        sys::gain_no_privileges().map_err(at(Stage::CgroupUser))?;
    }
    if let Some((user, _)) = &user
        && user.uid != given.uid
    {
        let first = if stdio.stdin.is_some() { 0 } else { 1 };
        (first..=2).for_each(|fd| sys::chown(fd, user.uid));
    }
    set_limit(limits, NPROC)?;

    let cwd = match spawn.cwd.to_bytes() {
        b"" => CStr::from_bytes_until_nul(&given.cwd).unwrap_or(c"/"),
        _ => spawn.cwd,
    };
    // As the agent's user, and if that may not, as the command's.
    let directory = sys::chdir(cwd);
    if let Some((user, _)) = &user {
        let groups = &user.groups[..user.group_count];
        sys::become_user(user.uid, user.gid, groups).map_err(at(Stage::BecomeUser))?;
        // Another user may open the memory again, by the kernel's setting `suid_dumpable`.
        sys::hide();
    }
    if directory.is_err() {
        sys::chdir(cwd).map_err(at(Stage::Directory))?;
    }
    if spawn.flags & FILES != 0 {
        (0..LIMITS).try_for_each(|which| set_limit(limits, which))?;
        files::serve();
    }
    if spawn.pids > 0 && !cgroups.are_made() {
        prove_limit_of_processes(&limits[NPROC])?;
    }

    let mut args = Texts::new(spawn.argc as usize).map_err(resources)?;
    spawn.args().try_for_each(|arg| args.push(arg)).map_err(resources)?;
    let mut home = [0; PATH_MAX];
    let home = match &user {
        Some((user, own_home)) => join(&mut home, &[b"HOME=", user.home]).map(|home| (home, *own_home)),
        None => None,
    };
    let (env, path) = environment(given, spawn, stdio.tty, home).map_err(resources)?;
    let Some(program) = spawn.args().next() else {
        return Err((Stage::Exec, Errno::INVAL));
    };
    let mut found = [0; PATH_MAX];
    let program = look_up(program, path, &mut found)?;
    sys::set_signal_mask(given.signal_mask);
    // At the end, since they are not meant for what was done before. A process that may change the agent's limits has
    // changed those that this process began with.
    (0..LIMITS).try_for_each(|which| set_limit(limits, which))?;
    Err((Stage::Exec, sys::exec(program, args, env)))
}

/// Returns the environment of a command, and its `PATH`. `home` is the variable of the command's user, and the home of the
/// agent's user, if the command has a user of its own.
fn environment<'a>(
    given: &Given,
    spawn: &Spawn<'a>,
    tty: bool,
    home: Option<(&'a CStr, &[u8])>,
) -> sys::Result<(Texts<'a>, &'a [u8])> {
    let mut own_vars = List::new(spawn.envc as usize)?;
    spawn.env().try_for_each(|var| own_vars.push(var))?;
    // One more, for `TERM`.
    let mut env = Texts::new(given.env.len() + own_vars.len() + 1)?;
    let podman = given.env.texts().any(|var| var == c"container=podman");
    let cleared = spawn.flags & CLEAR_ENV != 0;
    let mut path: &[u8] = b"";
    for (i, var) in given.env.texts().enumerate() {
        if own_vars.binary_search_by(|own| name(own).cmp(name(var))).is_ok() {
            continue;
        }
        // Programs are looked up there even if the command does not get the variable.
        path = var.to_bytes().strip_prefix(b"PATH=").unwrap_or(path);
        if cleared {
            continue;
        }
        let mut var: &CStr = var;
        // Not the container's, but the runtime's for the agent's own user: runtimes put it at the end, Podman anywhere.
        if let Some((home, own_home)) = home
            && (i + 1 == given.env.len() || podman)
            && var.to_bytes().strip_prefix(b"HOME=") == Some(own_home)
        {
            var = home;
        }
        env.push(var)?;
    }
    for var in own_vars.iter().copied() {
        env.push(var)?;
        path = var.to_bytes().strip_prefix(b"PATH=").unwrap_or(path);
    }
    // The engine does the same.
    let is_term = |var: &CStr| name(var) == b"TERM";
    if tty && !cleared && !given.env.texts().any(is_term) && !spawn.env().any(is_term) {
        env.push(c"TERM=xterm")?;
    }
    Ok((env, path))
}

/// Returns the limits of a command: those of all commands, or its own where these are lower.
fn limits(given: &Given, spawn: &Spawn<'_>, cgroups: &Cgroups) -> Limits {
    // In a group of its own the group has these two.
    let by_group = cgroups.are_made();
    let seconds = spawn.cpu_time.div_ceil(1_000_000).saturating_add(LATER);
    let own = [
        (CPU, spawn.cpu_time > 0, seconds),
        (FSIZE, spawn.file_size > 0, spawn.file_size),
        (NPROC, spawn.pids > 0 && !by_group, spawn.pids.into()),
        (AS, spawn.memory > 0 && !by_group, spawn.memory),
    ];
    let mut limits = given.limits;
    for (which, is_set, most) in own {
        if is_set {
            limits[which] = limits[which].map(|limit| limit.min(most));
        }
    }
    limits
}

/// Sets a limit of this process to that of the command.
fn set_limit(limits: &Limits, which: usize) -> Result<(), Failure> {
    let limit = &limits[which];
    if sys::limit(which) == *limit {
        return Ok(());
    }
    sys::set_limit(which, limit).map_err(|error| (Stage::Limits, error))
}

/// Fails unless the kernel limits how many processes this process's user may have. Linux does not for root, nor for a process with
/// certain capabilities; other kernels may do so for nobody. A container that is full passes for a proof: it limits all the same.
fn prove_limit_of_processes(limit: &Limit) -> Result<(), Failure> {
    let at = |stage| move |error| (stage, error);
    if sys::uid() == 0 {
        return Err((Stage::Processes, Errno(0)));
    }
    sys::set_limit(NPROC, &[0, limit[1]]).map_err(at(Stage::Limits))?;
    match sys::fork(|| {}) {
        Err(Errno::AGAIN) => {}
        Err(error) => return Err((Stage::Resources, error)),
        // The child ends with this process.
        Ok(_) => return Err((Stage::Processes, Errno(0))),
    }
    sys::set_limit(NPROC, limit).map_err(at(Stage::Limits))
}

/// Returns the part before the `=`.
fn name(var: &CStr) -> &[u8] {
    let var = var.to_bytes();
    &var[..var.iter().position(|byte| *byte == b'=').unwrap_or(var.len())]
}

/// Returns a path as it is, and a name in the first directory of the `PATH` that has it as an executable file.
fn look_up<'a>(program: &'a CStr, path: &[u8], found: &'a mut [u8; PATH_MAX]) -> Result<&'a CStr, Failure> {
    let bytes = program.to_bytes();
    if bytes.contains(&b'/') {
        return match sys::executable(program) {
            Ok(()) => Ok(program),
            Err(error) => Err((Stage::Exec, error)),
        };
    }
    let mut failure = (Stage::Lookup, Errno::NOENT);
    for dir in path.split(|byte| *byte == b':') {
        let dir = if dir.is_empty() { b"." } else { dir };
        let Some(candidate) = join(found, &[dir, b"/", bytes]) else {
            continue;
        };
        match sys::executable(candidate) {
            // Joined once more for the borrow checker.
            Ok(()) => return join(found, &[dir, b"/", bytes]).ok_or(failure),
            Err(Errno::ACCES) => failure.1 = Errno::ACCES,
            Err(_) => {}
        }
    }
    Err(failure)
}

/// Joins parts of a path, with a final NUL. Returns `None` if there is no room.
fn join<'a>(buf: &'a mut [u8; PATH_MAX], parts: &[&[u8]]) -> Option<&'a CStr> {
    let mut len = 0;
    for part in parts {
        buf.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    *buf.get_mut(len)? = 0;
    CStr::from_bytes_until_nul(buf).ok()
}

/// Returns the beginning of a regular file, or nothing if there is none.
fn read_file<'a>(path: &CStr, buf: &'a mut [u8]) -> &'a [u8] {
    let Ok(file) = sys::open_regular(path) else {
        return b"";
    };
    let mut len = 0;
    while let Ok(more) = sys::read(file.fd(), &mut buf[len..])
        && more > 0
    {
        len += more;
    }
    &buf[..len]
}
