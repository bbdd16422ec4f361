//! The system calls that the processes of a sandbox may make: [`Seccomp`].

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::values::shown::Fields;

/// Tells which system calls the processes of a [`Sandbox`](crate::Sandbox) may make.
///
/// A profile reaches Docker as part of the request to create a container. Podman takes the path of a file on its own machine
/// in that place, so that [`strict`](Self::strict) and [`profile`](Self::profile) are
/// [`EngineErrorKind::Unsupported`](crate::EngineErrorKind::Unsupported) there: use [`engine`](Self::engine).
///
/// # Examples
///
/// ```
/// use dockerpool::{Sandbox, Seccomp};
/// use serde_json::json;
///
/// let by_default = Sandbox::strict();
/// let with_podman = Sandbox::strict().seccomp(Seccomp::engine());
/// // A profile of your own, in Docker's form.
/// let own = Seccomp::profile(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}));
/// assert_ne!(by_default, with_podman.seccomp(own));
/// ```
///
/// `Debug` shows the fields of a profile, and not their values.
#[derive(Clone, PartialEq)]
pub struct Seccomp(pub(super) Kind);

#[derive(Clone, PartialEq)]
pub(super) enum Kind {
    Strict,
    Engine,
    Profile(Arc<Value>),
    Unconfined,
}

impl Seccomp {
    /// Uses the library's own profile, which is the default of [`Sandbox::strict`](crate::Sandbox::strict).
    ///
    /// The profile is a list of calls that are allowed, after Docker's default profile. Programs for users and their
    /// compilers, interpreters and debuggers work under it. Among the calls that fail are:
    ///
    /// - `socket` with another address family than those of Unix, IPv4, IPv6 and netlink: no `AF_ALG`, no `AF_VSOCK`, no
    ///   `AF_PACKET`, no Bluetooth;
    /// - `io_uring_setup`, `io_uring_enter` and `io_uring_register`;
    /// - `userfaultfd`, `bpf`, `perf_event_open`, `keyctl`, `add_key`, `request_key`;
    /// - `unshare`, `setns`, `mount` and its kind, also where the process has capabilities; `clone` with new namespaces;
    /// - `clone3`, with `ENOSYS`, since a filter cannot look at its flags: C libraries then use `clone`;
    /// - `modify_ldt`, `fanotify_mark`, `adjtimex`, `name_to_handle_at`, `kcmp`, `pidfd_getfd`.
    ///
    /// A process that makes a call of another architecture is killed: 32-bit programs do not run, since their `socketcall`
    /// cannot be filtered.
    pub fn strict() -> Self {
        Self(Kind::Strict)
    }

    /// Uses the engine's own profile. Which calls it allows depends on the engine and its version: those of older engines allow
    /// `io_uring` and `AF_ALG`, for one. [`Pool::security`](crate::Pool::security) warns of these.
    pub fn engine() -> Self {
        Self(Kind::Engine)
    }

    /// Uses this profile, as JSON in Docker's form.
    pub fn profile(profile: Value) -> Self {
        Self(Kind::Profile(Arc::new(profile)))
    }

    /// Uses no profile: processes may make every call that the kernel has. Some breakouts of the past needed no more than a
    /// call that every profile refuses.
    pub fn unconfined() -> Self {
        Self(Kind::Unconfined)
    }

    /// Returns the value of the engine's option `seccomp`. `None`: the option is left out.
    pub(super) fn option(&self) -> Option<String> {
        match &self.0 {
            Kind::Strict => Some(strict().to_string()),
            Kind::Engine => None,
            Kind::Profile(profile) => Some(profile.to_string()),
            Kind::Unconfined => Some("unconfined".to_owned()),
        }
    }

    /// Returns whether some profile is in force.
    pub(super) fn is_filter(&self) -> bool {
        self.0 != Kind::Unconfined
    }

    /// Returns what was asked for, in words.
    pub(super) fn words(&self) -> &'static str {
        match self.0 {
            Kind::Strict => "the library's profile",
            Kind::Engine => "the engine's profile",
            Kind::Profile(_) => "a profile of its own",
            Kind::Unconfined => "no profile",
        }
    }
}

impl fmt::Debug for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Strict => f.write_str("Strict"),
            Kind::Engine => f.write_str("Engine"),
            Kind::Unconfined => f.write_str("Unconfined"),
            Kind::Profile(profile) => f.debug_tuple("Profile").field(&Fields(&**profile)).finish(),
        }
    }
}

/// The calls that every process may make, by what they are about. Names that an engine or a kernel does not know are skipped
/// by the engine.
const ALLOWED: [&str; 9] = [
    FILES, PATHS, MEMORY, PROCESSES, IDENTITY, SIGNALS, TIME, WAITING, MESSAGES,
];

const FILES: &str = "\
    cachestat close close_range copy_file_range creat dup dup2 dup3 fadvise64 fallocate fchmod fchown fcntl \
    fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate getdents getdents64 \
    io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit ioctl lseek open openat openat2 pipe pipe2 \
    pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv sendfile splice sync sync_file_range \
    syncfs tee vmsplice write writev";

const PATHS: &str = "\
    access chdir chmod chown faccessat faccessat2 fchdir fchmodat fchmodat2 fchownat futimesat getcwd getxattr \
    getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch lchown lgetxattr link linkat listmount \
    listxattr listxattrat llistxattr lremovexattr lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat readlink \
    readlinkat removexattr removexattrat rename renameat renameat2 rmdir setxattr setxattrat stat statfs statmount \
    statx symlink symlinkat truncate umask unlink unlinkat utime utimensat utimes";

const MEMORY: &str = "\
    brk madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mprotect \
    mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease \
    remap_file_pages";

const PROCESSES: &str = "\
    arch_prctl execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getitimer getpgid \
    getpgrp getpid getppid getpriority getrlimit getrusage getsid gettid ioprio_get ioprio_set landlock_add_rule \
    landlock_create_ruleset landlock_restrict_self pidfd_open prctl prlimit64 rseq sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp set_robust_list \
    set_thread_area set_tid_address setpgid setpriority setrlimit setsid sysinfo times uname uretprobe vfork wait4 \
    waitid";

const IDENTITY: &str = "\
    capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid setgid setgroups \
    setregid setresgid setresuid setreuid setuid";

const SIGNALS: &str = "\
    alarm kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4 tgkill tkill";

const TIME: &str = "\
    clock_getres clock_gettime clock_nanosleep gettimeofday nanosleep setitimer time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime";

const WAITING: &str = "\
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_requeue \
    futex_wait futex_waitv futex_wake poll ppoll pselect6 select";

const MESSAGES: &str = "\
    accept accept4 bind connect getpeername getrandom getsockname getsockopt listen mq_getsetattr mq_notify mq_open \
    mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmsg semctl semget \
    semop semtimedop sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketpair";

/// Calls by which a process looks at or changes another one of its own user. Before this kernel they were a way past the
/// profile.
const DEBUGGING: [&str; 3] = ["process_vm_readv", "process_vm_writev", "ptrace"];
const DEBUGGING_SINCE: &str = "4.8";

/// The address families of sockets: those of Unix, IPv4, IPv6, and netlink, by which C libraries list addresses.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];

/// The flags of `clone` that make namespaces.
const NEW_NAMESPACES: u32 = 0x7E02_0000;

/// The values of `personality` that Docker allows: that of Linux, of 32-bit programs, each with or without `uname26`, and the
/// question for the present one.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x20000, 0x20008, 0xffff_ffff];

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Returns the names of the calls that every process may make.
fn allowed() -> impl Iterator<Item = &'static str> {
    ALLOWED.into_iter().flat_map(str::split_whitespace)
}

/// Returns the library's profile. No architecture is named, so that the machine's own is the only one.
fn strict() -> Value {
    let allow = "SCMP_ACT_ALLOW";
    let only = |name: &str, value: u32| {
        let arg = json!({"index": 0, "value": value, "op": "SCMP_CMP_EQ"});
        json!({"names": [name], "action": allow, "args": [arg]})
    };
    let mut calls = vec![
        json!({"names": allowed().collect::<Vec<_>>(), "action": allow}),
        json!({"names": DEBUGGING, "action": allow, "includes": {"minKernel": DEBUGGING_SINCE}}),
        json!({"names": ["clone"], "action": allow, "args": [
            {"index": 0, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"},
        ]}),
        json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}),
    ];
    calls.extend(FAMILIES.map(|family| only("socket", family)));
    calls.extend(PERSONALITIES.map(|value| only("personality", value)));
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM, "syscalls": calls})
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_call_is_allowed_twice_or_refused_and_allowed() {
        let distinct: BTreeSet<_> = allowed().collect();
        assert_eq!(distinct.len(), allowed().count());
        let refused = "io_uring_setup io_uring_enter io_uring_register userfaultfd bpf keyctl add_key request_key unshare setns \
                       clone clone3 socket socketcall mount umount2 pivot_root perf_event_open open_by_handle_at init_module \
                       kexec_load reboot chroot personality modify_ldt name_to_handle_at kcmp pidfd_getfd";
        for refused in refused.split_whitespace() {
            assert!(!distinct.contains(refused), "{refused}");
        }
    }

    #[test]
    fn the_profile_refuses_what_it_does_not_name() {
        let profile = strict();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let allowed = |value: u32| {
            let mut calls = profile["syscalls"].as_array().unwrap().iter();
            calls.any(|call| call["names"][0] == "socket" && call["args"][0]["value"] == value)
        };
        assert!(allowed(1) && allowed(2) && allowed(10));
        assert!(!allowed(38) && !allowed(40) && !allowed(17));
        assert!(Seccomp::engine().option().is_none());
        assert!(!format!("{:?}", Seccomp::profile(json!({"a": "secret"}))).contains("secret"));
    }
}
