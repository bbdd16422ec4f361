//! Programs that try to get out of a sandbox, or to take more than it gives.

use dockerpool::{ExitStatus, Output, Pool};

use crate::support::{eventually_now, is_podman};
use crate::{builder, end, printed, run, shared, strict};

/// Has functions for attempts: `tried` prints how a call ends, `call` makes a system call by its numbers on both architectures.
const PRELUDE: &str = "import ctypes, errno, os, platform, resource, socket, stat, subprocess, sys\n\
    libc = ctypes.CDLL(None, use_errno=True)\n\
    is_arm = platform.machine() == 'aarch64'\n\
    def call(x86, arm, *args):\n\
    \x20   result = libc.syscall(arm if is_arm else x86, *args)\n\
    \x20   if result < 0: raise OSError(ctypes.get_errno(), '')\n\
    \x20   return result\n\
    def tried(what):\n\
    \x20   try: print('done', what())\n\
    \x20   except OSError as e: print(errno.errorcode[e.errno])\n";

/// Runs an attempt in a pool of sandboxes.
async fn attempt_in(pool: &Pool, script: &str) -> Output {
    let c = pool.acquire().await.unwrap();
    run(&c, &format!("{PRELUDE}{script}")).await
}

/// Runs an attempt in a strict sandbox.
async fn attempt(script: &str) -> Output {
    run(&shared().await, &format!("{PRELUDE}{script}")).await
}

/// Asserts that each expression fails with one of these errors.
async fn all_fail(attempts: &[(&str, &[&str])]) {
    let mut others = Vec::new();
    for (expression, errors) in attempts {
        let out = attempt(&format!("tried(lambda: {expression})")).await;
        if !errors.contains(&out.stdout_lossy().trim()) {
            others.push(format!("{expression}: {} {}", out.stdout_lossy(), out.stderr_lossy()));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

#[tokio::test]
async fn nothing_outside_of_the_workspaces_can_be_written() {
    const REFUSED: &[&str] = &["EROFS", "EACCES", "EPERM"];
    all_fail(&[
        ("open('/etc/passwd', 'a')", REFUSED),
        ("open('/new', 'w')", REFUSED),
        ("os.mkdir('/usr/bin/new')", REFUSED),
        ("os.unlink('/usr/bin/python3')", REFUSED),
        ("os.chmod('/usr', 0o777)", REFUSED),
        ("open('/dev/new', 'w')", REFUSED),
        ("open('/etc/hosts', 'a')", REFUSED),
        (
            "open('/.dockerpool-agent', 'r+b')",
            &["EROFS", "EACCES", "EPERM", "ETXTBSY"],
        ),
        ("open('/proc/sys/kernel/core_pattern', 'w')", REFUSED),
        (
            "open('/proc/sysrq-trigger', 'w')",
            &["EROFS", "EACCES", "EPERM", "ENOENT"],
        ),
        (
            "open('/proc/self/oom_score_adj', 'w').write('-1000') and 0 or open('/etc/x', 'w')",
            REFUSED,
        ),
        (
            "open('/sys/fs/cgroup/cgroup.procs', 'w').write('1')",
            &["EROFS", "EACCES", "EPERM", "ENOENT"],
        ),
        ("os.remove('/work')", &["EISDIR", "EROFS", "EACCES", "EPERM", "EBUSY"]),
    ])
    .await;
}

#[tokio::test]
async fn the_root_file_system_is_read_only_for_its_owner_too() {
    let pool = builder("owner", strict().await.run_as(0, 0)).build().await.unwrap();
    let script = "for path in ('/etc/passwd', '/etc/new', '/usr/bin/new', '/new'): tried(lambda: open(path, 'a'))";
    let out = attempt_in(&pool, script).await;
    assert_eq!(out.stdout_lossy(), "EROFS\n".repeat(4), "{out:?}");
    end(pool).await;
}

#[tokio::test]
async fn no_right_can_be_gained() {
    const REFUSED: &[&str] = &["EPERM"];
    all_fail(&[
        ("os.setuid(0)", REFUSED),
        ("os.setgid(0)", REFUSED),
        ("os.setgroups([0])", REFUSED),
        ("os.chroot('/tmp')", REFUSED),
        ("os.chown(os.open('/work/x', os.O_CREAT), 0, 0)", REFUSED),
        ("os.mknod('/work/sda', stat.S_IFBLK | 0o666, os.makedev(8, 0))", REFUSED),
        ("call(165, 40, b'none', b'/work', b'tmpfs', 0, 0)", REFUSED),
        ("call(165, 40, b'/proc', b'/work', b'', 4096, 0)", REFUSED),
        ("call(166, 39, b'/tmp', 0)", REFUSED),
        ("call(155, 41, b'/work', b'/work')", REFUSED),
        ("socket.sethostname('x')", REFUSED),
        ("call(302, 261, 0, 4, (ctypes.c_uint64 * 2)(9, 9), None)", REFUSED),
        ("os.setpriority(os.PRIO_PROCESS, 0, -5)", &["EACCES", "EPERM"]),
        // The last one loads a module.
        ("call(175, 105, 0, 0, b'')", REFUSED),
    ])
    .await;
}

#[tokio::test]
async fn a_set_uid_program_has_no_effect() {
    let script = "for place in ('/tmp', '/work'):\n\
                  \x20   path = place + '/id'\n\
                  \x20   subprocess.run(['cp', sys.executable, path], check=True)\n\
                  \x20   os.chmod(path, 0o6755)\n\
                  \x20   print(subprocess.run([path, '-c', 'import os; print(os.getresuid())'], capture_output=True).stdout)\n";
    let out = attempt(script).await;
    let line = "b'(65534, 65534, 65534)\\n'\n";
    assert_eq!(out.stdout_lossy(), [line, line].concat(), "{out:?}");
}

#[tokio::test]
async fn pid_1_can_neither_be_traced_nor_ended_and_its_memory_not_be_read() {
    all_fail(&[
        ("call(101, 117, 16, 1, 0, 0)", &["EPERM"]),
        ("call(101, 117, 0x4206, 1, 0, 0)", &["EPERM"]),
        ("open('/proc/1/mem', 'rb').read(1)", &["EACCES", "EPERM"]),
        ("open('/proc/1/environ', 'rb').read(1)", &["EACCES", "EPERM"]),
        ("os.listdir('/proc/1/fd')", &["EACCES", "EPERM"]),
        ("os.readlink('/proc/1/exe')", &["EACCES", "EPERM"]),
        (
            "os.kill(1, 9) or os.kill(1, 15) or os.kill(1, 19) or open('/new', 'w')",
            &["EROFS"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn system_calls_that_let_code_out_are_refused() {
    if is_podman().await {
        // The profile is Podman's, which lets more through.
        all_fail(&[("call(246, 104, 0, 0, 0, 0)", &["EPERM", "ENOSYS"])]).await;
        return;
    }
    const REFUSED: &[&str] = &["EPERM"];
    all_fail(&[
        ("socket.socket(38, socket.SOCK_SEQPACKET)", REFUSED),
        ("socket.socket(40, socket.SOCK_STREAM)", REFUSED),
        ("socket.socket(17, socket.SOCK_RAW)", REFUSED),
        ("socket.socket(31, socket.SOCK_RAW, 1)", REFUSED),
        ("call(425, 425, 8, ctypes.create_string_buffer(120))", REFUSED),
        ("call(272, 97, 0x10000000)", REFUSED),
        ("call(272, 97, 0x00020000)", REFUSED),
        ("call(56, 220, 0x10000011, 0, 0, 0, 0)", REFUSED),
        ("call(56, 220, 0x00020011, 0, 0, 0, 0)", REFUSED),
        ("call(435, 435, 0, 0)", &["ENOSYS"]),
        ("call(308, 268, os.open('/proc/self/ns/user', 0), 0)", REFUSED),
        ("call(250, 219, 0, -3, 0)", REFUSED),
        ("call(248, 217, b'user', b'x', b'y', 1, -3)", REFUSED),
        ("call(249, 218, b'user', b'x', 0, -3)", REFUSED),
        ("call(323, 282, 1)", REFUSED),
        ("call(321, 280, 0, 0, 0)", REFUSED),
        ("call(298, 241, 0, 0, -1, -1, 0)", REFUSED),
        ("call(304, 265, -1, 0, 0)", REFUSED),
    ])
    .await;
}

#[tokio::test]
async fn a_32_bit_call_does_not_get_past_the_profile() {
    if is_podman().await || cfg!(not(target_arch = "x86_64")) {
        // The profile is Podman's, or the machine has no such calls.
        return;
    }
    if crate::support::lacks(crate::support::Capability::Calls32) {
        return;
    }
    // `int 0x80` with the number of `getpid`, which every profile for programs of 32 bits allows.
    let script = "import mmap\n\
                  code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n\
                  code.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n\
                  at = ctypes.addressof(ctypes.c_char.from_buffer(code))\n\
                  print('done', ctypes.CFUNCTYPE(ctypes.c_int)(at)())\n";
    let out = attempt(script).await;
    assert_eq!(
        (out.status, &*out.stdout_lossy()),
        (ExitStatus::Signaled(31), ""),
        "{out:?}"
    );
}

#[tokio::test]
async fn nothing_is_reachable() {
    all_fail(&[
        ("socket.create_connection(('192.0.2.1', 80), 2)", &["ENETUNREACH"]),
        (
            "socket.create_connection(('127.0.0.1', 2375), 2)",
            &["ECONNREFUSED", "ENETUNREACH"],
        ),
        (
            "socket.socket(socket.AF_UNIX).connect('/var/run/docker.sock')",
            &["ENOENT", "EACCES"],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_process_cannot_have_more_than_its_limits() {
    let script = "held = []\n\
                  try:\n\
                  \x20   while True: held.append(os.open('/dev/null', 0))\n\
                  except OSError as e: print(errno.errorcode[e.errno], len(held) <= 1024)\n\
                  for fd in held: os.close(fd)\n\
                  children = []\n\
                  try:\n\
                  \x20   while len(children) < 1000:\n\
                  \x20       pid = os.fork()\n\
                  \x20       if pid == 0:\n\
                  \x20           import signal; signal.pause()\n\
                  \x20       children.append(pid)\n\
                  except OSError as e: print(errno.errorcode[e.errno], 64 < len(children) < 128)\n\
                  for pid in children: os.kill(pid, 9)\n";
    let out = attempt(script).await;
    assert_eq!(out.stdout_lossy(), "EMFILE True\nEAGAIN True\n", "{out:?}");
}

#[tokio::test]
async fn a_workspace_holds_no_more_than_its_size_and_inodes() {
    let script = "def fill(path, most):\n\
                  \x20   block, size = b'x' * (1 << 20), 0\n\
                  \x20   try:\n\
                  \x20       with open(path, 'wb', buffering=0) as f:\n\
                  \x20           while size < most << 20: size += f.write(block)\n\
                  \x20   except OSError as e: return size >> 20, errno.errorcode[e.errno]\n\
                  \x20   finally: os.unlink(path)\n\
                  \x20   return size >> 20, 'whole'\n\
                  print(fill('/tmp/x', 100), fill('/dev/shm/x', 100), fill('/work/x', 100))\n\
                  count = 0\n\
                  try:\n\
                  \x20   while count < 20000:\n\
                  \x20       os.close(os.open('/tmp/%d' % count, os.O_CREAT)); count += 1\n\
                  except OSError as e: print(errno.errorcode[e.errno], count < 16384)\n";
    let out = attempt(script).await;
    let printed = out.stdout_lossy().into_owned();
    let (sizes, inodes) = printed.split_once('\n').unwrap_or_default();
    // The largest file of `/work` is as large as `/work`.
    let ends = ["EFBIG", "ENOSPC"].map(|end| format!("(32, 'ENOSPC') (32, 'ENOSPC') (64, '{end}')"));
    assert!(ends.iter().any(|end| end == sizes), "{out:?}");
    // On Podman the inodes have the kernel's limit.
    assert_eq!(inodes, if is_podman().await { "" } else { "ENOSPC True\n" }, "{out:?}");
}

#[tokio::test]
async fn memory_ends_at_its_limit_and_the_next_lease_is_sound() {
    let pool = builder("memory", strict().await).build().await.unwrap();
    let out = attempt_in(
        &pool,
        "held = [bytearray(os.urandom(1) * (1 << 20)) for _ in range(1000)]\nprint('all')",
    )
    .await;
    assert!(!out.status.success() && out.stdout_lossy().is_empty(), "{out:?}");
    eventually_now("cleaned or replaced", || pool.status().recycling == 0).await;
    let c = pool.acquire().await.unwrap();
    assert_eq!(printed(&c, "print(1)").await, "1");
    drop(c);
    end(pool).await;
}

/// Prints what a command can find that root, who has no capability here, may have left. Each container has times of its own.
const LEFT: &str = "find /dev /tmp /work /dev/shm -exec stat -c '%N %F %u %g %a' {} +; cat /proc/sysvipc/*; \
                    cat /proc/1/oom_score_adj /proc/1/coredump_filter /proc/1/limits; sed 's/.* //' /proc/1/autogroup; \
                    stat -L -c '%n %u %g %a' /proc/net/. /proc/net/*; \
                    stat -c 'time %n %Y' /dev /dev/pts /proc;";

/// By the exec API a command can be root, and PID 1 has no rights over what it leaves.
#[tokio::test]
async fn what_root_leaves_by_the_exec_api_reaches_no_later_lease() {
    let pool = builder("root", strict().await).build().await.unwrap();
    let attempts = [
        "open('/dev/new', 'w')",
        "os.chmod('/dev', 0o700)",
        "os.utime('/dev', (42, 42))",
        "os.symlink('x', '/dev/link')",
        "os.utime('/dev/pts', (42, 42))",
        "os.chmod('/dev/pts', 0o711)",
        "os.chmod('/dev/pts/ptmx', 0o600)",
        "os.utime('/dev/mqueue', (42, 42))",
        "open('/tmp/new', 'w')",
        "os.makedirs('/tmp/a/b', 0o700)",
        "os.makedirs('/work/a/b', 0o700)",
        "os.makedirs('/dev/shm/a/b', 0o700)",
        "libc.mq_open(b'/new', os.O_CREAT | os.O_RDWR, 0o600, None)",
        "call(64, 190, 7, 1, 0o1600)",
        "call(29, 194, 7, 4096, 0o1600)",
        "call(68, 186, 7, 0o1600)",
        "open('/proc/1/oom_score_adj', 'w').write('777')",
        "open('/proc/1/coredump_filter', 'w').write('1')",
        "open('/proc/1/autogroup', 'w').write('5')",
        "resource.prlimit(1, resource.RLIMIT_SIGPENDING, (42, 42))",
        "os.chmod('/proc/net/dev', 0o600)",
        "os.chmod('/proc/net', 0o500)",
        "os.sched_setaffinity(1, {0})",
        "os.setpriority(os.PRIO_PROCESS, 1, 19)",
        "os.posix_spawn('/bin/sleep', ['sleep', '1000'], {})",
    ];
    let mut faults = Vec::new();
    let look = async |c: &dockerpool::PooledContainer| {
        let mut command = c.command("sh");
        let out = command
            .args(["-c", LEFT])
            .output()
            .await
            .unwrap()
            .stdout_lossy()
            .into_owned();
        assert!(out.contains("time /proc "), "{out}");
        assert_eq!(c.process_count().await.unwrap(), 0);
        (c.id().to_owned(), out)
    };
    for attempt in attempts {
        let c = pool.acquire().await.unwrap();
        let before = look(&c).await;
        let mut command = c.command("python3");
        command
            .args(["-c", &format!("{PRELUDE}tried(lambda: {attempt})")])
            .user("0:0");
        let out = command.output().await.unwrap();
        drop(c);
        let c = pool.acquire().await.unwrap();
        let after = look(&c).await;
        println!("{attempt}: {} {:?}", out.stdout_lossy().trim(), pool.last_unclean());
        let is_same = before.0 == after.0;
        let counts = |line: &&str| is_same || !line.starts_with("time");
        let [before, after] = [&before.1, &after.1].map(|text| text.lines().filter(counts).collect::<Vec<_>>());
        if before != after {
            let new = after.iter().filter(|line| !before.contains(line));
            faults.push(format!("{attempt}: {:?}", new.take(5).collect::<Vec<_>>()));
        }
        drop(c);
    }
    end(pool).await;
    assert!(faults.is_empty(), "{faults:#?}");
}
