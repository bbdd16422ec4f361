//! Commands at a terminal: input and its end, size, signals, and all limits.

use std::time::Duration;

use dockerpool::{Command, ExitStatus, OnLimit, Pool, PooledContainer, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::{eventually, is_podman};
use crate::ways::{Way, each, ended, lease_is_sound, run};

/// Returns a shell script at a terminal, with a timeout that no test here reaches.
fn sh<'c>(c: &'c PooledContainer, user: &str, script: &str) -> Command<'c> {
    let mut command = c.command("sh");
    command
        .args(["-c", script])
        .user(user)
        .tty(24, 80)
        .timeout(Duration::from_secs(30));
    command
}

async fn lease(pool: &Pool) -> PooledContainer {
    pool.acquire().await.unwrap()
}

#[tokio::test]
async fn the_end_of_input_is_typed_and_the_output_goes_on() {
    each("tty-end", async |way, user, pool| {
        let c = lease(pool).await;
        // The terminal echoes the input.
        let late = "read x; echo got $x; sleep 1; echo more; exit 3";
        for (script, stdin, printed, code) in [
            ("cat", "hello\n", "hello\r\nhello\r\n", 0),
            ("cat", "within", "withinwithin", 0),
            ("cat", "", "", 0),
            (
                "cat; echo $?",
                "two\nlines\n",
                "two\r\nlines\r\ntwo\r\nlines\r\n0\r\n",
                0,
            ),
            (late, "hello\n", "hello\r\ngot hello\r\nmore\r\n", 3),
            (late, "", "got\r\nmore\r\n", 3),
            ("exec cat >/dev/null", "x\r", "x\r\n", 0),
            // Closing the terminal does not end the command.
            ("exec <&- >&- 2>&-; sleep 0.3; exit 7", "", "", 7),
            (
                "t=$(tty); exec <&- >&- 2>&-; sleep 0.3; echo back >$t; exit 7",
                "",
                "back\r\n",
                7,
            ),
        ] {
            let out = sh(&c, user, script).stdin(stdin).output().await.unwrap();
            assert_eq!(
                out.status,
                ExitStatus::Exited(code),
                "{way:?} {user} {script} {stdin:?}"
            );
            assert_eq!(out.stdout_lossy(), printed, "{way:?} {user} {script} {stdin:?}");
        }
        // Without input the command sees the end of input at once.
        assert_eq!(
            sh(&c, user, "cat; exit 4").status().await.unwrap(),
            ExitStatus::Exited(4),
            "{way:?} {user}"
        );

        let mut child = sh(&c, user, "stty -echo; echo ready; cat; echo over")
            .stdin(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stdin = child.stdin.take().unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
        stdin.write_all(b"one\n").await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "one");
        stdin.write_all(b"two\n").await.unwrap();
        stdin.shutdown().await.unwrap();
        assert!(stdin.write_all(b"three\n").await.is_err());
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "two");
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "over");
        assert_eq!(lines.next_line().await.unwrap(), None);
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
        drop(child);
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn a_terminal_has_the_given_size_signals_a_new_one_and_belongs_to_the_command() {
    // The signal is blocked and fetched by `sigwait`: a handler could run between the last check and the wait.
    let script = "import os, signal\n\
                  signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])\n\
                  def size(): os.write(1, b'%d %d\\n' % os.get_terminal_size()[::-1])\n\
                  assert os.isatty(0) and os.isatty(1) and os.isatty(2)\n\
                  assert os.stat(os.ttyname(0)).st_uid == os.getuid()\n\
                  assert os.tcgetpgrp(0) == os.getpid() == os.getsid(0)\n\
                  os.open('/dev/tty', os.O_RDWR)\n\
                  size()\n\
                  while signal.sigwait([signal.SIGWINCH]): size()\n";
    each("tty-size", async |way, user, pool| {
        let c = lease(pool).await;
        let mut command = c.command("python3");
        let mut child = command
            .args(["-c", script])
            .user(user)
            .tty(33, 101)
            .spawn()
            .await
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // By the exec API a terminal gets its size only after the command has begun.
        let mut before = if way.is_agent() {
            String::new()
        } else {
            "0 0".to_owned()
        };
        for (rows, cols) in [(33, 101), (50, 132), (1, 65535)] {
            let wanted = format!("{rows} {cols}");
            if (rows, cols) != (33, 101) {
                child.resize(rows, cols).await.unwrap();
            }
            loop {
                let line = lines.next_line().await.unwrap().expect("the program runs");
                if line == wanted {
                    break;
                }
                // The signal may arrive after the program has already printed the new size.
                assert_eq!(line, before, "{way:?} {user}");
            }
            before = wanted;
        }
        let _ = child.kill().await.unwrap();
        child
            .resize(1, 1)
            .await
            .unwrap_or_else(|error| assert!(!way.is_agent(), "{error:?}"));
        drop(child);
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn control_c_interrupts_the_program_in_the_foreground() {
    each("tty-int", async |way, user, pool| {
        let c = lease(pool).await;
        for (script, status, last) in [
            ("echo ready; exec sleep 1000", ExitStatus::Signaled(2), "ready"),
            (
                "trap : INT; echo ready; sleep 1000; echo over; exit 6",
                ExitStatus::Exited(6),
                "over",
            ),
        ] {
            let mut child = sh(&c, user, script).stdin(Stdio::piped()).spawn().await.unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
            let mut stdin = child.stdin.take().unwrap();
            // The shell may not have started `sleep` yet, so Ctrl-C is repeated.
            let mut printed = vec!["ready".to_owned()];
            let status_seen = loop {
                // Writing fails once the command has ended.
                let _ = stdin.write_all(b"\x03").await;
                tokio::select! {
                    line = lines.next_line() => match line.unwrap() {
                        Some(line) => printed.push(line.trim_start_matches("^C").to_owned()),
                        None => break child.wait().await.unwrap(),
                    },
                    () = tokio::time::sleep(Duration::from_millis(200)) => {}
                }
            };
            printed.retain(|line| !line.is_empty());
            let what = format!("{way:?} {user}: {printed:?}");
            if ended(way, status_seen, status, &what).await {
                assert_eq!(printed.last().unwrap(), last, "{what}");
            }
        }
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn megabytes_pass_through_a_terminal_in_both_directions() {
    let line = "x".repeat(79) + "\n";
    let much = line.repeat(5000);
    each("tty-much", async |way, user, pool| {
        let c = lease(pool).await;
        let out = sh(&c, user, "head -c 1000000 /dev/zero | tr '\\0' x; exit 2")
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout.len()),
            (ExitStatus::Exited(2), 1_000_000),
            "{way:?} {user}"
        );

        // Podman's conmon does not read while it writes to a terminal, and the program may be waiting for conmon to
        // read.
        let may_hang = way == Way::ExecApi && is_podman().await;
        let limit = Duration::from_secs(if may_hang { 10 } else { 30 });
        let mut child = sh(&c, user, "stty -echo; echo ready; cat")
            .timeout(limit)
            .stdin(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut ready = [0; 7];
        stdout.read_exact(&mut ready).await.unwrap();
        assert_eq!(&ready, b"ready\r\n");
        let write = async {
            stdin.write_all(much.as_bytes()).await?;
            stdin.shutdown().await
        };
        let mut printed = String::new();
        let (written, read) = tokio::join!(write, stdout.read_to_string(&mut printed));
        let status = child.wait().await.unwrap();
        drop(child);
        let expected = much.replace('\n', "\r\n");
        if may_hang && status == ExitStatus::TimedOut {
            assert!(
                expected.starts_with(&printed),
                "{way:?} {user}: {} bytes",
                printed.len()
            );
            return lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
        }
        written.unwrap();
        read.unwrap();
        assert_eq!(status, ExitStatus::Exited(0));
        assert!(printed == expected, "{way:?} {user}: {} bytes", printed.len());

        // The command reads neither many lines nor a line that is too long for a terminal.
        for stdin in [much.clone(), "y".repeat(200_000)] {
            let out = sh(&c, user, "stty -echo; sleep 0.3; echo over; exit 5")
                .stdin(stdin)
                .output()
                .await
                .unwrap();
            if ended(way, out.status, ExitStatus::Exited(5), &format!("{way:?} {user}")).await {
                assert!(out.stdout_lossy().ends_with("over\r\n"), "{way:?} {user}");
            }
        }
        let cut = sh(&c, user, "stty -echo; wc -c")
            .stdin("z".repeat(20_000))
            .output()
            .await
            .unwrap();
        assert!(cut.status.success(), "{way:?} {user}: {}", cut.status);
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

/// Asserts the scope of the kill: by the exec API the container is gone, by the agent only the command is.
async fn ended_alone(way: Way, c: &PooledContainer, what: &str) {
    if way.is_agent() {
        assert_eq!(c.taint(), None, "{what}");
        assert_eq!(c.process_count().await.unwrap(), 0, "{what}");
    } else {
        assert!(c.taint().is_some(), "{what}");
    }
}

#[tokio::test]
async fn all_limits_hold_at_a_terminal() {
    let runs = "trap '' HUP INT TERM; (sleep 1000)& setsid sleep 1000 & echo up; while :; do sleep 1; done";
    each("tty-limits", async |way, user, pool| {
        for limit in ["timeout", "idle", "output", "kill", "drop"] {
            let what = format!("{way:?} {user} {limit}");
            let c = lease(pool).await;
            let mut command = sh(&c, user, runs);
            match limit {
                "timeout" => {
                    let out = command.timeout(Duration::from_secs(1)).output().await.unwrap();
                    assert_eq!(
                        (out.status, &*out.stdout_lossy()),
                        (ExitStatus::TimedOut, "up\r\n"),
                        "{what}"
                    );
                }
                "idle" => {
                    let out = command.idle_timeout(Duration::from_secs(1)).output().await.unwrap();
                    assert_eq!(
                        (out.status, &*out.stdout_lossy()),
                        (ExitStatus::IdleTimedOut, "up\r\n"),
                        "{what}"
                    );
                }
                "output" => {
                    let mut yes = sh(&c, user, "yes");
                    let out = yes.output_limit(10_000).on_limit(OnLimit::Kill).output().await.unwrap();
                    assert_eq!(
                        (out.status, out.stdout.len()),
                        (
                            ExitStatus::OutputLimit {
                                limit: 10_000,
                                is_default: false
                            },
                            10_000
                        ),
                        "{what}"
                    );
                }
                _ => {
                    let mut child = command.spawn().await.unwrap();
                    let mut up = [0; 4];
                    child.stdout.as_mut().unwrap().read_exact(&mut up).await.unwrap();
                    if limit == "kill" {
                        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed, "{what}");
                    }
                    drop(child);
                    if way.is_agent() {
                        eventually("the command ends", async || c.process_count().await.unwrap() == 0).await;
                    }
                }
            }
            drop(command);
            ended_alone(way, &c, &what).await;
            lease_is_sound(pool, c, &what).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_process_that_keeps_the_terminal_open_does_not_delay_the_end() {
    each("tty-kept", async |way, user, pool| {
        let c = lease(pool).await;
        let script = "import os, signal, time\n\
                      signal.signal(signal.SIGHUP, signal.SIG_IGN)\n\
                      if os.fork() == 0:\n\
                      \x20os.setsid()\n\
                      \x20while True:\n\
                      \x20\x20time.sleep(0.001)\n\
                      \x20\x20try: os.write(1, b'noise\\n')\n\
                      \x20\x20except OSError: pass\n\
                      os.write(1, b'own\\n')\n\
                      os._exit(4)\n";
        let mut command = c.command("python3");
        let out = command
            .args(["-c", script])
            .user(user)
            .tty(24, 80)
            .timeout(Duration::from_secs(30))
            .output()
            .await
            .unwrap();
        assert_eq!(out.status, ExitStatus::Exited(4), "{way:?} {user}");
        assert!(out.stdout_lossy().contains("own\r\n"), "{way:?} {user}");
        if way.is_agent() {
            c.kill_all().await.unwrap();
            assert_eq!(c.taint(), None);
        }
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn a_replaced_ptmx_is_not_used() {
    each("tty-ptmx", async |way, user, pool| {
        if !way.is_agent() || user != "root" {
            return;
        }
        for other in [
            "",
            "os.mkfifo('/dev/ptmx')",
            "os.mkdir('/dev/ptmx')",
            "open('/dev/ptmx', 'w').close()",
            "os.symlink('/dev/null', '/dev/ptmx')",
            "os.symlink('/dev/ptmx', '/dev/ptmx')",
        ] {
            let c = lease(pool).await;
            let out = run(&c, user, &format!("import os\nos.remove('/dev/ptmx')\n{other}\n"))
                .await
                .unwrap();
            assert!(out.status.success(), "{}", out.stderr_lossy());
            let out = sh(&c, user, "tty; exit 8").output().await.unwrap();
            assert_eq!(out.status, ExitStatus::Exited(8), "{way:?} {other}");
            assert!(out.stdout_lossy().starts_with("/dev/pts/"), "{way:?} {other}");
            c.discard();
        }
    })
    .await;
}
