//! Attacks of a hostile command on the agent, as root of the container and as another user. The kernel refuses the
//! attack, or the container is tainted and replaced. No attack leads to a wrong result or a hang.

use std::time::{Duration, Instant};

use crate::support::{by_transport, eventually, python};
use bollard::models::HostConfig;
use dockerpool::{Error, ExecVia, ExitStatus, Output, Pool, PooledContainer, Reuse, Taint};

const USERS: [&str; 2] = ["root", "nobody"];

/// Bounds each attack far above its normal duration, also on a busy machine.
const HANG: Duration = Duration::from_secs(60);

async fn hostile(name: &str) -> Pool {
    let pool = Pool::builder(name)
        .image(python())
        .min_idle(0)
        .memory(128 << 20)
        .pids_limit(100)
        // The container that was attacked is to be lent again, whatever is left in it.
        .reuse(Reuse::AsIs)
        .exec_via(ExecVia::Agent);
    by_transport(pool).build().await.unwrap()
}

/// Runs an attack. Afterwards either the container works as before, or the container is tainted and the next one works.
async fn attack(pool: &Pool, user: &str, script: &str) -> Result<Output, Error> {
    let begun = Instant::now();
    let c = pool.acquire().await.unwrap();
    let result = c
        .command("python3")
        .args(["-c", script])
        .user(user)
        .timeout(Duration::from_secs(30))
        .output()
        .await;
    let id = c.id().to_owned();
    let works = answers(&c).await;
    let taint = c.taint();
    drop(c);
    assert!(works || taint.is_some(), "neither works nor tainted: {user} {result:?}");
    let next = pool.acquire().await.unwrap();
    assert!(answers(&next).await, "{user}: the next lease: {result:?}");
    assert_eq!(next.id() == id, taint.is_none(), "{user}: {taint:?}");
    assert!(begun.elapsed() < HANG, "{user}: {:?}", begun.elapsed());
    result
}

/// Returns whether the container runs a command properly. A wrong answer fails the test.
async fn answers(c: &PooledContainer) -> bool {
    let script = "echo out; echo err >&2; read x; echo $x; ulimit -n; exit 7";
    let timeout = Duration::from_secs(10);
    match c
        .command("sh")
        .args(["-c", script])
        .stdin("in\n")
        .timeout(timeout)
        .output()
        .await
    {
        Ok(out) if out.status == ExitStatus::Exited(7) => {
            let stdout = out.stdout_lossy();
            let limit = stdout
                .strip_prefix("out\nin\n")
                .expect("the command printed its input")
                .trim();
            assert!(limit == "unlimited" || limit.parse::<u64>().unwrap() > 1000, "{limit}");
            assert_eq!(out.stderr_lossy(), "err\n");
            true
        }
        Ok(out) => {
            // The command ended with its container, or was killed for memory.
            let is_known = matches!(
                out.status,
                ExitStatus::ContainerGone { .. }
                    | ExitStatus::OutOfMemory { .. }
                    | ExitStatus::TimedOut
                    | ExitStatus::Unknown
            );
            assert!(is_known, "{out:?}");
            false
        }
        Err(_) => false,
    }
}

/// Runs a script of attempts, each of which must be refused. The script prints the attempts that succeeded.
async fn all_refused(name: &str, attempts: &str) {
    let script = format!(
        "import os, ctypes, signal, resource, errno\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         def refused(what, call):\n\
         \x20   try:\n\
         \x20       result = call()\n\
         \x20   except OSError as e:\n\
         \x20       return\n\
         \x20   except ValueError as e:\n\
         \x20       return\n\
         \x20   if result != -1: print('not refused:', what, result)\n\
         {attempts}\n\
         print('done')\n"
    );
    let pool = hostile(name).await;
    for user in USERS {
        let out = attack(&pool, user, &script).await.unwrap();
        assert_eq!(
            (out.status, &*out.stdout_lossy()),
            (ExitStatus::Exited(0), "done\n"),
            "{user}: {}",
            out.stderr_lossy()
        );
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_command_opens_the_agents_descriptors_or_memory() {
    all_refused(
        "descriptors",
        "for fd in range(12):\n\
         \x20   for mode in (os.O_RDONLY, os.O_WRONLY):\n\
         \x20       refused(f'fd {fd}', lambda: os.open(f'/proc/1/fd/{fd}', mode))\n\
         for file in ('mem', 'environ', 'maps', 'auxv', 'syscall', 'stack', 'io'):\n\
         \x20   refused(file, lambda: os.read(os.open(f'/proc/1/{file}', os.O_RDONLY), 1))\n\
         refused('write mem', lambda: os.open('/proc/1/mem', os.O_RDWR))\n\
         for file in ('exe', 'cwd', 'root'):\n\
         \x20   refused(file, lambda: os.readlink(f'/proc/1/{file}'))\n\
         refused('attach', lambda: libc.ptrace(16, 1, 0, 0))\n\
         refused('seize', lambda: libc.ptrace(0x4206, 1, 0, 0))\n\
         class iovec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]\n\
         buf = ctypes.create_string_buffer(8)\n\
         own, its = iovec(ctypes.addressof(buf), 8), iovec(0x200000, 8)\n\
         refused('read vm', lambda: libc.process_vm_readv(1, ctypes.byref(own), 1, ctypes.byref(its), 1, 0))\n\
         refused('write vm', lambda: libc.process_vm_writev(1, ctypes.byref(own), 1, ctypes.byref(its), 1, 0))\n\
         pidfd = libc.syscall(434, 1, 0)\n\
         refused('getfd', lambda: libc.syscall(438, pidfd, 0, 0))\n\
         refused('getfd', lambda: libc.syscall(438, pidfd, 1, 0))",
    )
    .await;
}

#[tokio::test]
async fn no_command_changes_the_agents_program_file() {
    all_refused(
        "file",
        "agent = '/.dockerpool-agent'\n\
         refused('write', lambda: os.open(agent, os.O_WRONLY))\n\
         refused('truncate', lambda: os.truncate(agent, 0))\n\
         refused('remove', lambda: os.unlink(agent))\n\
         refused('rename', lambda: os.rename(agent, '/x'))\n\
         y = f'/tmp/{os.getuid()}'; open(y, 'w').close()\n\
         refused('replace', lambda: os.rename(y, agent))\n\
         refused('chmod', lambda: os.chmod(agent, 0o777))\n\
         refused('chown', lambda: os.chown(agent, 1, 1))\n\
         refused('utime', lambda: os.utime(agent, (1, 1)))\n\
         refused('umount', lambda: libc.umount2(agent.encode(), 2))\n\
         refused('bind', lambda: libc.mount(b'/tmp', b'/proc', None, 4096, None))",
    )
    .await;
}

/// The agent closes its listening socket before any other program runs in the container. Where the library reaches the
/// agent through the engine alone, the socket file does not exist.
#[tokio::test]
async fn no_command_can_use_the_agents_socket() {
    all_refused(
        "socket",
        "import socket\n\
         path = '/.dockerpool-agent-socket'\n\
         if os.path.lexists(path):\n\
         \x20   for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):\n\
         \x20       refused(f'connect {kind}', lambda: socket.socket(socket.AF_UNIX, kind).connect(path))\n\
         \x20   refused('bind', lambda: socket.socket(socket.AF_UNIX).bind(path))\n\
         \x20   for mode in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_CREAT | os.O_TRUNC):\n\
         \x20       refused(f'open {mode}', lambda: os.open(path, mode))\n\
         \x20   refused('truncate', lambda: os.truncate(path, 0))\n\
         \x20   refused('remove', lambda: os.unlink(path))\n\
         \x20   refused('rename', lambda: os.rename(path, '/x'))\n\
         \x20   y = f'/tmp/{os.getuid()}'; open(y, 'w').close()\n\
         \x20   refused('replace', lambda: os.rename(y, path))\n\
         \x20   refused('link', lambda: os.link(path, '/tmp/link'))\n\
         \x20   refused('chmod', lambda: os.chmod(path, 0o777))\n\
         \x20   refused('chown', lambda: os.chown(path, 1, 1))\n\
         \x20   refused('utime', lambda: os.utime(path, (1, 1)))\n\
         \x20   refused('umount', lambda: libc.umount2(path.encode(), 2))",
    )
    .await;
}

#[tokio::test]
async fn no_signal_of_a_command_harms_the_agent() {
    let pool = hostile("signals").await;
    let script = "import os, ctypes\n\
                  libc = ctypes.CDLL(None)\n\
                  for round in range(20):\n\
                  \x20   for n in range(1, 65):\n\
                  \x20       try: os.kill(1, n)\n\
                  \x20       except OSError: pass\n\
                  \x20       libc.syscall(234, 1, 1, n)\n\
                  \x20       info = (ctypes.c_int * 32)(n, 0, -1, 0, 0, 0)\n\
                  \x20       libc.syscall(129, 1, n, ctypes.byref(info))\n\
                  \x20       info = (ctypes.c_int * 32)(n, 0, 0, 0, 0, 0)\n\
                  \x20       libc.syscall(129, 1, n, ctypes.byref(info))\n\
                  print('done')";
    for user in USERS {
        let out = attack(&pool, user, script).await.unwrap();
        assert_eq!(
            (out.status, &*out.stdout_lossy()),
            (ExitStatus::Exited(0), "done\n"),
            "{user}"
        );
    }
    assert_eq!(pool.status().total(), 1, "no container was replaced");
    // Killing every process does not harm the agent either.
    for user in USERS {
        let out = attack(
            &pool,
            user,
            "import os\ntry: os.kill(-1, 9)\nexcept ProcessLookupError: print('nobody else')",
        )
        .await
        .unwrap();
        // `kill(-1)` spares the caller too.
        assert_eq!(out.status, ExitStatus::Exited(0), "{user}");
    }
    pool.shutdown().await.unwrap();
}

/// The kernel forgets who has sent a signal where too many signals are pending, and a signal of nobody looks as if it came from
/// outside.
#[tokio::test]
async fn a_signal_of_a_forgotten_sender_harms_its_container_at_most() {
    let script = "import ctypes, os, resource\n\
                  libc = ctypes.CDLL(None)\n\
                  hard = resource.prlimit(1, resource.RLIMIT_SIGPENDING)[1]\n\
                  try: resource.prlimit(1, resource.RLIMIT_SIGPENDING, (0, hard))\n\
                  except OSError as error: print(error)\n\
                  libc.tgkill(1, 1, 15)\n\
                  print('done')";
    let pool = hostile("forgotten").await;
    for user in USERS {
        let out = attack(&pool, user, script).await;
        println!("{user}: {out:?}");
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn resource_limits_set_on_the_agent_harm_no_later_command() {
    let pool = hostile("limits").await;
    for limit in 0..16 {
        for user in USERS {
            for value in [0, 1] {
                let script = format!(
                    "import resource\n\
                     try: resource.prlimit(1, {limit}, ({value}, {value}))\n\
                     except OSError as e: print(e)"
                );
                // `attack` checks the outcome.
                let _ = attack(&pool, user, &script).await;
            }
        }
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_zero_cpu_limit_on_the_agent_ends_no_command_without_a_reason() {
    let pool = hostile("no-time").await;
    for user in USERS {
        let script = "import resource\n\
                      try: resource.prlimit(1, resource.RLIMIT_CPU, (0, 0))\n\
                      except OSError as e: print(e)";
        let _ = attack(&pool, user, script).await;
        let c = pool.acquire().await.unwrap();
        let _ = c.command("python3").args(["-c", script]).user(user).output().await;
        // The kernel may end any process with the limit, the agent too, at any tick.
        for _ in 0..300 {
            if !answers(&c).await {
                break;
            }
        }
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_agent_survives_memory_exhaustion_or_the_container_is_replaced() {
    let pool = hostile("memory").await;
    for user in USERS {
        // In the second round the script tries to make the agent the kernel's first victim.
        for first in [false, true] {
            let script = format!(
                "if {}:\n\
                 \x20   try: open('/proc/1/oom_score_adj', 'w').write('1000')\n\
                 \x20   except OSError: pass\n\
                 hold = []\n\
                 while True: hold.append(bytearray(1 << 20))",
                if first { "True" } else { "False" }
            );
            let out = attack(&pool, user, &script).await.unwrap();
            // Also where PID 1 goes with it.
            assert_eq!(out.status, ExitStatus::OutOfMemory { exit: None }, "{user}: {out:?}");
            if !first {
                assert!(out.usage.oom_kills > Some(0), "{out:?}");
            }
        }
        // Files in a tmpfs count as memory of the container.
        let script = "f = open('/dev/shm/x', 'wb')\n\
                      try:\n\
                      \x20   while True: f.write(bytes(1 << 20))\n\
                      except OSError: print('full')";
        let out = attack(&pool, user, script).await.unwrap();
        assert!(
            matches!(out.status, ExitStatus::Exited(0) | ExitStatus::OutOfMemory { .. }),
            "{user}: {out:?}"
        );
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_command_can_forge_the_agents_frames() {
    let pool = hostile("forged").await;
    // For each of the first commands: output, an end of the output, an exit with code 0 and an answer to each request.
    let script = "import os, struct\n\
                  def frame(kind, id, payload=b''): return struct.pack('<IBI', len(payload), kind, id) + payload\n\
                  forged = b''\n\
                  for id in range(1, 20):\n\
                  \x20   exit = struct.pack('<BBBBQQQQI', 0, 0, 0, 1, 1, 1, 1, 1, 0)\n\
                  \x20   forged += frame(130, id, b'forged') + frame(132, id) + frame(136, id, exit) + frame(141, id)\n\
                  \x20   forged += frame(7, id) + frame(9, id)\n\
                  for fd in range(1024):\n\
                  \x20   try: os.write(fd, forged)\n\
                  \x20   except OSError: pass\n\
                  \x20   else: os.write(2, b'<%d>' % fd)\n\
                  os._exit(9)";
    for user in USERS {
        let out = attack(&pool, user, script).await.unwrap();
        assert_eq!(out.status, ExitStatus::Exited(9), "{user}");
        // The command can write to two descriptors only, and the library takes all forged bytes as output.
        let forged = &out.stdout;
        assert_eq!(
            forged.windows(6).filter(|bytes| bytes == b"forged").count(),
            19,
            "{user}"
        );
        assert_eq!(out.stderr, [b"<1>", &forged[..], b"<2>"].concat(), "{user}");
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_command_that_exhausts_descriptors_does_not_harm_the_agent() {
    let pool = hostile("fds").await;
    let script = "import os, resource\n\
                  hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
                  resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n\
                  count = 0\n\
                  try:\n\
                  \x20   while count < 60000: os.pipe(); count += 2\n\
                  except OSError: pass\n\
                  print(count)";
    for user in USERS {
        let out = attack(&pool, user, script).await.unwrap();
        assert_eq!(out.status, ExitStatus::Exited(0), "{user}: {out:?}");
    }
    pool.shutdown().await.unwrap();
}

const BOMBS: [(&str, &str); 4] = [
    // Kinds of fork bombs: plain; in sessions of their own; orphans; stopped.
    (
        "plain",
        "import os\nwhile True:\n try: os.fork()\n except OSError: pass",
    ),
    (
        "sessions",
        "import os\nwhile True:\n try:\n  if os.fork() == 0: os.setsid()\n except OSError: pass",
    ),
    (
        "orphans",
        "import os\nwhile True:\n try:\n  if os.fork() == 0:\n   os.setsid()\n   if os.fork() > 0: os._exit(0)\n except OSError: pass",
    ),
    (
        "stopped",
        "import os, signal\nwhile True:\n try:\n  if os.fork() == 0:\n   os.setsid(); os.kill(os.getpid(), signal.SIGSTOP)\n except OSError: pass",
    ),
];

#[tokio::test]
async fn a_fork_bomb_at_the_limit_dies_and_the_container_is_usable_again() {
    let pool = Pool::builder("bomb")
        .image(python())
        .min_idle(0)
        .memory(1 << 30)
        // On a slow machine the agent waits for its turn among hundreds of processes.
        .engine_timeout(Duration::from_secs(120))
        .reuse(Reuse::AsIs)
        .exec_via(ExecVia::Agent);
    let pool = by_transport(pool).build().await.unwrap();
    for (kind, bomb) in BOMBS {
        for user in USERS {
            let c = pool.acquire().await.unwrap();
            let mut child = c
                .command("python3")
                .args(["-c", bomb])
                .user(user)
                .spawn()
                .await
                .unwrap();
            eventually("the bomb is at the limit", async || {
                c.process_count().await.unwrap() >= 500
            })
            .await;
            let begun = Instant::now();
            assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
            println!("{kind} as {user}: dead after {:?}", begun.elapsed());
            drop(child);
            assert!(begun.elapsed() < HANG, "{kind} as {user}");
            // On a busy machine the agent may get no processor time for a second. Then the container is tainted.
            if c.taint().is_none() {
                assert_eq!(c.process_count().await.unwrap(), 0, "{kind} as {user}");
                assert!(answers(&c).await);
            } else {
                assert_eq!(c.taint(), Some(Taint::Killed), "{kind} as {user}");
            }
        }
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn killing_a_fork_bomb_spares_another_command_or_ends_the_container() {
    let pool = hostile("beside").await;
    let c = pool.acquire().await.unwrap();
    let mut other = c.command("sleep").arg("1000").spawn().await.unwrap();
    let mut child = c.command("python3").args(["-c", BOMBS[2].1]).spawn().await.unwrap();
    eventually("the bomb is at the limit", async || {
        c.process_count().await.unwrap() >= 95
    })
    .await;
    let begun = Instant::now();
    assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
    assert!(begun.elapsed() < HANG);
    match c.taint() {
        None => {
            assert_eq!(other.try_wait().unwrap(), None);
            assert_eq!(c.process_count().await.unwrap(), 1);
        }
        Some(_) => assert!(other.wait().await.unwrap().is_container_gone()),
    }
    drop((other, child));
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn stopped_processes_at_the_limit_do_not_harm_the_agent() {
    let pool = hostile("pids").await;
    for user in USERS {
        // The script leaves stopped processes.
        let script = "import os, signal\n\
                      try:\n\
                      \x20   while True:\n\
                      \x20       if os.fork() == 0:\n\
                      \x20           os.setsid(); os.close(1); os.close(2); os.kill(os.getpid(), signal.SIGSTOP)\n\
                      except OSError: print('full')";
        let out = attack(&pool, user, script).await.unwrap();
        assert_eq!(
            (out.status, &*out.stdout_lossy()),
            (ExitStatus::Exited(0), "full\n"),
            "{user}"
        );
    }
    // `kill_all` makes the container usable again.
    let c = pool.acquire().await.unwrap();
    c.kill_all().await.unwrap();
    assert!(answers(&c).await);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_is_not_root_withstands_the_same_attacks() {
    let pool = Pool::builder("same-user")
        .image(python())
        .min_idle(0)
        .reuse(Reuse::AsIs)
        .user("nobody")
        .host_config(HostConfig {
            readonly_rootfs: Some(true),
            ..HostConfig::default()
        })
        .exec_via(ExecVia::Agent);
    let pool = by_transport(pool).build().await.unwrap();
    for script in [
        "import os; os.open('/proc/1/fd/0', os.O_RDONLY)",
        "import os; os.open('/proc/1/mem', os.O_RDWR)",
        "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(16, 1, 0, 0) & 1)",
        "import os; os.kill(1, 9); os.kill(1, 19); os.kill(1, 15); raise Exception",
        "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)); raise Exception",
        "import os; os.setpriority(os.PRIO_PROCESS, 1, 19); raise Exception",
    ] {
        let c = pool.acquire().await.unwrap();
        let out = c.command("python3").args(["-c", script]).output().await.unwrap();
        // Two scripts take limits or priority from PID 1, which all commands inherit. Such a container cannot be
        // trusted. Podman may be late to notice that the container has ended.
        let takes = script.contains("NOFILE") || script.contains("setpriority");
        let gone = takes && matches!(out.status, ExitStatus::ContainerGone { .. } | ExitStatus::Unknown);
        assert!(gone || out.status == ExitStatus::Exited(1), "{script}: {out:?}");
        assert!(answers(&c).await || c.taint().is_some());
        drop(c);
        assert!(answers(&pool.acquire().await.unwrap()).await, "{script}");
    }
    pool.shutdown().await.unwrap();
}
