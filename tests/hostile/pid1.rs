//! Programs that keep PID 1 from its work, or take away the resources that PID 1 needs.

use std::time::Duration;

use dockerpool::{ExitStatus, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::ways::{HANG, each, lease_is_sound, run};

/// Leaves children of PID 1 that it traces and that stop again and again.
const STOPS: &str = "import ctypes, os, signal, sys, time\n\
    libc = ctypes.CDLL(None)\n\
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)\n\
    for _ in range(40):\n\
    \x20   if os.fork() == 0:\n\
    \x20       if os.fork() != 0: os._exit(0)\n\
    \x20       os.setsid()\n\
    \x20       for fd in range(3): os.dup2(os.open('/dev/null', os.O_RDWR), fd)\n\
    \x20       while os.getppid() != 1: time.sleep(0.001)\n\
    \x20       pid, traceme, tgkill = os.getpid(), libc.ptrace, libc.tgkill\n\
    \x20       until = time.time() + 60\n\
    \x20       while time.time() < until:\n\
    \x20           traceme(0, 0, 0, 0)\n\
    \x20           tgkill(pid, pid, 12)\n\
    \x20       os._exit(0)\n\
    \x20   os.wait()\n\
    print('left')\n";

#[tokio::test]
async fn children_that_stop_endlessly_hide_no_end_of_another_command() {
    each("stops", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let out = run(&c, user, STOPS).await.unwrap();
        assert_eq!(
            (out.status, &*out.stdout_lossy()),
            (ExitStatus::Exited(0), "left\n"),
            "{way:?} {user}"
        );
        for _ in 0..10 {
            // The command has no timeout of its own, since a timeout would kill the container of a silent agent.
            let ended = tokio::time::timeout(HANG / 2, c.command("true").status()).await;
            let ended = ended
                .unwrap_or_else(|_| panic!("{way:?} {user}: no end is reported"))
                .unwrap();
            assert_eq!(ended, ExitStatus::Exited(0), "{way:?} {user}");
        }
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn output_in_packets_arrives_complete() {
    let script = |count: u32, size: u32| {
        format!(
            "import fcntl, os\n\
             fcntl.fcntl(1, fcntl.F_SETFL, fcntl.fcntl(1, fcntl.F_GETFL) | os.O_DIRECT)\n\
             for i in range({count}): os.write(1, b'x' * {size})\n"
        )
    };
    each("packets", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        for (count, size) in [(512, 4096), (3000, 3001), (20_000, 100)] {
            let out = run(&c, user, &script(count, size)).await.unwrap();
            assert_eq!(
                (out.status, out.stdout.len()),
                (ExitStatus::Exited(0), (count * size) as usize),
                "{way:?} {user} {size}: {}",
                out.stderr_lossy()
            );
        }
        drop(c);
    })
    .await;
}

#[tokio::test]
async fn a_memory_limit_on_pid_1_cuts_no_input_short() {
    each("input", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("cat");
        let mut child = command.stdin(Stdio::piped()).spawn().await.unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let attack = "import resource\nresource.prlimit(1, resource.RLIMIT_AS, (4096, 4096))";
        let attacked = run(&c, user, attack).await;
        let fed = async {
            stdin.write_all(b"all of it\n").await?;
            stdin.shutdown().await
        };
        let fed = fed.await;
        let mut out = String::new();
        let read = stdout.read_to_string(&mut out).await;
        let status = child.wait().await.unwrap();
        drop(child);
        assert!(
            !status.success() || out == "all of it\n",
            "{way:?} {user}: {attacked:?} {fed:?} {read:?} {out:?} {status:?}"
        );
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

/// Leaves a daemon in the command's session. Later the daemon starts a process that leaves all sessions and takes all
/// memory.
const LATER: &str = "import os, time\n\
    if os.fork() == 0:\n\
    \x20   for fd in range(3): os.dup2(os.open('/dev/null', os.O_RDWR), fd)\n\
    \x20   while not os.path.exists('/tmp/go'): time.sleep(0.01)\n\
    \x20   time.sleep(0.2)\n\
    \x20   if os.fork() == 0:\n\
    \x20       os.setsid()\n\
    \x20       if os.fork() == 0:\n\
    \x20           open('/proc/self/oom_score_adj', 'w').write('1000')\n\
    \x20           open('/tmp/victim', 'w').write(str(os.getpid()))\n\
    \x20           taken = []\n\
    \x20           while True: taken.append(bytearray(b'x' * (1 << 20)))\n\
    \x20       os._exit(0)\n\
    \x20   os.wait()\n\
    \x20   time.sleep(60)\n\
    \x20   os._exit(0)\n";

#[tokio::test]
async fn a_kill_for_memory_after_a_commands_end_is_not_blamed_on_another() {
    each("later", async |way, user, pool| {
        if !way.is_agent() {
            // The engine's event names only the container, see `ExitStatus::OutOfMemory`.
            return;
        }
        let c = pool.acquire().await.unwrap();
        let first = run(&c, user, LATER).await.unwrap();
        assert_eq!(first.status, ExitStatus::Exited(0), "{way:?} {user}");
        let script = "touch /tmp/go; until [ -s /tmp/victim ]; do sleep 0.1; done; \
                      while [ -e /proc/$(cat /tmp/victim) ]; do sleep 0.1; done; sleep 0.5; echo fine";
        let mut command = c.command("sh");
        let out = command
            .args(["-c", script])
            .user(user)
            .timeout(Duration::from_secs(30))
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, &*out.stdout_lossy()),
            (ExitStatus::Exited(0), "fine\n"),
            "{way:?} {user}"
        );
        assert!(
            out.usage.oom_kills.is_some_and(|kills| kills > 0),
            "the attack took place: {:?}",
            out.usage
        );
        c.discard();
    })
    .await;
}
