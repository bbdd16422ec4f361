//! Programs that obscure how and when a command has ended, or its usage. The library reports the real end and usage.

use std::time::Duration;

use dockerpool::{ExitStatus, Stdio};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{MARK, eventually_now, processes, unique_mark};
use crate::ways::{HANG, each, lease_is_sound, run, run_for};

/// Returns a script that asks to be traced by its parent, which is PID 1 with the agent, and then stops.
fn traced(then: &str) -> String {
    format!(
        "import ctypes, os, signal, threading, time\n\
         libc = ctypes.CDLL(None)\n\
         def trace(): assert libc.ptrace(0, 0, 0, 0) == 0\n\
         {then}"
    )
}

#[tokio::test]
async fn a_stop_of_a_traced_process_is_not_its_end() {
    let stops = [
        (
            "trace(); os.kill(os.getpid(), signal.SIGUSR1)",
            ExitStatus::Signaled(10),
        ),
        (
            "trace(); signal.signal(signal.SIGUSR1, lambda *_: os._exit(7)); os.kill(os.getpid(), signal.SIGUSR1)\n\
             while True: time.sleep(1)",
            ExitStatus::Exited(7),
        ),
        // A thread other than the first one stops.
        (
            "def other(): trace(); libc.syscall(234, os.getpid(), threading.get_native_id(), signal.SIGUSR1); time.sleep(60)\n\
             threading.Thread(target=other).start()",
            ExitStatus::Signaled(10),
        ),
        // The process stays stopped.
        ("trace(); os.kill(os.getpid(), signal.SIGSTOP)", ExitStatus::TimedOut),
    ];
    each("traced", async |way, user, pool| {
        for (then, end) in stops {
            let attack = format!("{way:?} {user} {then}");
            let c = pool.acquire().await.unwrap();
            let out = run_for(&c, user, &traced(then), Duration::from_secs(5)).await.unwrap();
            if way.is_agent() {
                assert_eq!((out.status, c.taint()), (end, None), "{attack}: {}", out.stderr_lossy());
                assert_eq!(c.process_count().await.unwrap(), 0, "{attack}");
            }
            lease_is_sound(pool, c, &attack).await;
        }
    })
    .await;
}

#[tokio::test]
async fn orphans_that_are_traced_by_pid_1_die_with_their_command() {
    let script = traced(
        "for number in (signal.SIGSTOP, signal.SIGUSR2, signal.SIGTRAP):\n\
         \x20   if os.fork() == 0:\n\
         \x20       os.setsid()\n\
         \x20       parent = os.getpid()\n\
         \x20       if os.fork() == 0:\n\
         \x20           while os.getppid() == parent: time.sleep(0.01)\n\
         \x20           trace()\n\
         \x20           if number == signal.SIGUSR2: signal.signal(number, lambda *_: None)\n\
         \x20           print(number, flush=True)\n\
         \x20           os.kill(os.getpid(), number)\n\
         \x20           while True: time.sleep(1)\n\
         \x20       os._exit(0)\n\
         while True: time.sleep(1)",
    );
    each("traced-orphans", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let mark = unique_mark();
        let mut command = c.command("python3");
        command
            .args(["-c", &script])
            .user(user)
            .env(MARK, &mark)
            .stdout(Stdio::piped());
        let mut child = command.spawn().await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        if way.is_agent() {
            for _ in 0..3 {
                assert!(lines.next_line().await.unwrap().is_some());
            }
            // The agent still answers.
            assert!(c.process_count().await.unwrap() >= 3, "{way:?} {user}");
        }
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed, "{way:?} {user}");
        drop(child);
        if way.is_agent() {
            assert_eq!(
                (c.taint(), c.process_count().await.unwrap()),
                (None, 0),
                "{way:?} {user}"
            );
        }
        eventually_now("no process of the command lives", || processes(&mark).is_empty()).await;
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

/// Another process holds the command's own pipe and reads from it around the command's end. The library loses these
/// bytes, but not the end of the output.
#[tokio::test]
async fn output_bytes_taken_by_another_process_do_not_delay_the_end() {
    each("thief", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        // The smaller size goes through frames, the larger one through the pipe itself.
        for (round, size) in [60_000, 600_000].into_iter().cycle().take(10).enumerate() {
            let script = format!(
                "import os, time\n\
                 thief = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)\n\
                 command = os.getpid()\n\
                 if os.fork() == 0:\n\
                 \x20   os.setsid()\n\
                 \x20   until = None\n\
                 \x20   while until is None or time.monotonic() < until:\n\
                 \x20       try: os.read(thief, 700)\n\
                 \x20       except BlockingIOError: pass\n\
                 \x20       if until is None and os.getppid() != command: until = time.monotonic() + 0.2\n\
                 \x20   os._exit(0)\n\
                 left = {size}\n\
                 while left > 0: left -= os.write(1, bytes(min(left, 5000)))\n\
                 os._exit(5)"
            );
            let mut command = c.command("python3");
            command
                .args(["-c", &script])
                .user(user)
                .timeout(Duration::from_secs(15));
            let out = command.output_limit(None).output().await.unwrap();
            assert_eq!(out.status, ExitStatus::Exited(5), "{way:?} {user} {round}");
            assert!(out.stdout.len() <= size, "{way:?} {user} {round}");
        }
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

/// Prints without a reader until the pipe is full, and then ends.
const FILL: &str = "import os, sys, time\n\
                    os.set_blocking(1, False)\n\
                    last = time.monotonic()\n\
                    while time.monotonic() < last + 0.5:\n\
                    \x20   try:\n\
                    \x20       os.write(1, bytes(4096))\n\
                    \x20       last = time.monotonic()\n\
                    \x20   except BlockingIOError: time.sleep(0.01)\n";

#[tokio::test]
async fn output_taken_before_it_was_read_does_not_delay_the_end() {
    let script = "if os.fork() == 0:\n\
                  \x20   os.setsid()\n\
                  \x20   thief = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK)\n\
                  \x20   open(sys.argv[1] + '-ready', 'w').close()\n\
                  \x20   while not os.path.exists('/tmp/steal'): time.sleep(0.01)\n\
                  \x20   try:\n\
                  \x20       while os.read(thief, 65536): pass\n\
                  \x20   except BlockingIOError: pass\n\
                  \x20   open(sys.argv[1], 'w').close()\n\
                  \x20   time.sleep(60)\n";
    each("taken", async |way, user, pool| {
        if !way.is_agent() {
            // The exec API does not count unread output.
            return;
        }
        let c = pool.acquire().await.unwrap();
        let stolen = format!("/tmp/stolen-{user}");
        let script = ["import os, sys, time\n", script, FILL, "os._exit(5)"].concat();
        let mut command = c.command("python3");
        command.args(["-c", &script, &stolen]).user(user);
        command.output_limit(None).stdout(Stdio::piped());
        let mut child = command.spawn().await.unwrap();
        // The command ends, and then the bytes are taken, before the library reads.
        let wait = format!(
            "import os, time\n\
             while not os.path.exists('{stolen}-ready'): time.sleep(0.01)\n\
             def of_main():\n\
             \x20   for pid in filter(str.isdigit, os.listdir('/proc')):\n\
             \x20       try:\n\
             \x20           text = open(f'/proc/{{pid}}/cmdline').read()\n\
             \x20           state = open(f'/proc/{{pid}}/stat').read().rsplit(')', 1)[1].split()\n\
             \x20       except OSError: continue\n\
             \x20       if '{stolen}' in text and 'of_main' not in text and state[0] != 'Z': yield pid\n\
             while len(list(of_main())) != 1: time.sleep(0.01)\n\
             open('/tmp/steal', 'w').close()\n\
             while not os.path.exists('{stolen}'): time.sleep(0.01)\n\
             os.unlink('/tmp/steal')"
        );
        let out = run(&c, "root", &wait).await.unwrap();
        assert!(out.status.success(), "{way:?} {user}: {out:?}");
        let mut stdout = child.stdout.take().unwrap();
        let mut nowhere = tokio::io::sink();
        let read = tokio::io::copy(&mut stdout, &mut nowhere);
        let read = tokio::time::timeout(HANG, read).await;
        assert!(read.is_ok(), "{way:?} {user}: the output does not end");
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(5), "{way:?} {user}");
        drop((stdout, child));
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn an_ended_command_with_unread_output_can_be_killed() {
    each("unread", async |way, user, pool| {
        if !way.is_agent() {
            // The exec API does not count unread output.
            return;
        }
        let c = pool.acquire().await.unwrap();
        let script = [FILL, "open(sys.argv[1], 'w').close()"].concat();
        let mark = format!("/tmp/unread-{user}");
        let mut command = c.command("python3");
        command.args(["-c", &script, &mark]).user(user);
        let mut child = command.output_limit(None).stdout(Stdio::piped()).spawn().await.unwrap();
        let wait = format!("import os, time\nwhile not os.path.exists('{mark}'): time.sleep(0.01)");
        assert!(run(&c, "root", &wait).await.unwrap().status.success());
        let status = child.kill().await.unwrap();
        assert!(
            matches!(status, ExitStatus::Killed | ExitStatus::Exited(0)),
            "{way:?} {user}: {status:?}"
        );
        drop(child);
        if way.is_agent() {
            assert_eq!(c.taint(), None, "{way:?} {user}");
        }
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

/// Returns a script that leaves a process. The process waits for a file and then takes all memory, as the kernel's
/// first victim.
fn leave_glutton(go: &str, glutton: &str) -> String {
    format!(
        "import os, time\n\
         def eat():\n\
         \x20   open('/proc/self/oom_score_adj', 'w').write('1000')\n\
         \x20   hold = []\n\
         \x20   while True: hold.append(bytearray(1 << 20))\n\
         if os.fork() == 0:\n\
         \x20   os.setsid()\n\
         \x20   if os.fork() == 0:\n\
         \x20       os.close(1); os.close(2)\n\
         \x20       while not os.path.exists('{go}'): time.sleep(0.01)\n\
         \x20       {glutton}\n\
         \x20   os._exit(0)\n\
         os.wait()"
    )
}

#[tokio::test]
async fn a_kill_for_memory_is_not_blamed_on_another_leases_command() {
    // The glutton runs alone, or as the child of a process that goes on.
    let gluttons = [
        "eat()",
        "child = os.fork()\n\
         \x20       if child == 0: eat()\n\
         \x20       os.wait()\n\
         \x20       open('/tmp/eaten', 'w').close()\n\
         \x20       time.sleep(60)",
    ];
    // Waits until the kernel has killed: the glutton is then unreadable or a zombie.
    let wait = "import glob, os, time\n\
                def gluttons():\n\
                \x20   count = 0\n\
                \x20   for path in glob.glob('/proc/[0-9]*'):\n\
                \x20       try:\n\
                \x20           adj = open(path + '/oom_score_adj').read().strip()\n\
                \x20           zombie = ') Z' in open(path + '/stat').read()\n\
                \x20       except OSError: continue\n\
                \x20       count += adj == '1000' and not zombie\n\
                \x20   return count\n\
                def kills():\n\
                \x20   for path in ('/sys/fs/cgroup/memory.events', '/sys/fs/cgroup/memory/memory.oom_control'):\n\
                \x20       try: return int(open(path).read().split('oom_kill ')[1].split()[0])\n\
                \x20       except OSError: pass\n\
                before = kills()\n\
                open('/tmp/go', 'w').close()\n\
                while before == kills(): time.sleep(0.01)\n\
                while gluttons(): time.sleep(0.01)\n\
                print('fine')";
    each("blame", async |way, user, pool| {
        for glutton in gluttons {
            let attack = format!("{way:?} {user} {glutton}");
            let c = pool.acquire().await.unwrap();
            let id = c.id().to_owned();
            let out = run(&c, user, &leave_glutton("/tmp/go", glutton)).await.unwrap();
            assert!(out.status.success(), "{attack}: {out:?}");
            drop(c);
            let c = pool.acquire().await.unwrap();
            assert_eq!(c.id(), id, "{attack}: the next lease has the same container");
            let out = run(&c, "root", wait).await.unwrap();
            if out.usage.oom_kills.is_some_and(|kills| kills > 1) {
                // A slow kernel has killed this command too before the first victim's memory was free.
                assert!(out.status.is_out_of_memory(), "{attack}: {out:?}");
                c.discard();
                continue;
            }
            assert_eq!(
                (out.status, &*out.stdout_lossy()),
                (ExitStatus::Exited(0), "fine\n"),
                "{attack}: {out:?}"
            );
            if way.is_agent() {
                assert_eq!(out.usage.oom_kills, Some(1), "{attack}");
                // A command's own kill is reported while a process of another lease is present.
                let out = run(&c, user, "hold = []\nwhile True: hold.append(bytearray(1 << 20))")
                    .await
                    .unwrap();
                assert!(out.status.is_out_of_memory(), "{attack}: {out:?}");
            }
            c.discard();
        }
    })
    .await;
}

#[tokio::test]
async fn a_killed_commands_usage_is_that_of_all_it_started() {
    let script = "import os, signal, time\n\
                  def burn():\n\
                  \x20   hold = bytearray(40 << 20)\n\
                  \x20   while time.process_time() < 0.3: pass\n\
                  \x20   print('burnt', flush=True)\n\
                  \x20   while True: time.sleep(1)\n\
                  if os.fork() == 0: burn()\n\
                  if os.fork() == 0:\n\
                  \x20   os.setsid()\n\
                  \x20   if os.fork() == 0: burn()\n\
                  \x20   os._exit(0)\n\
                  while True: time.sleep(1)";
    each("usage", async |way, user, pool| {
        if !way.is_agent() {
            // The exec API reports no usage.
            return;
        }
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("python3");
        command.args(["-c", script]).user(user).stdout(Stdio::piped());
        let mut child = command.spawn().await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for _ in 0..2 {
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("burnt"));
        }
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
        let usage = child.wait_with_output().await.unwrap().usage;
        let time = usage.cpu_time().unwrap();
        assert!(time >= Duration::from_millis(550), "{way:?} {user}: {usage:?}");
        assert!(usage.peak_memory >= Some(40 << 20), "{way:?} {user}: {usage:?}");
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}
