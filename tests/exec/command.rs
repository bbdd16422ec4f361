//! Settings of a command beside its arguments, and the shorthands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{exec_via, pool, taint_of_ended, with_shared};
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{Command, Error, ExecVia, ExitStatus, OnLimit, OutputLines, Pool, PooledContainer, Stdio, Taint};

async fn with_container<T>(run: impl AsyncFnOnce(&PooledContainer) -> T) -> T {
    with_shared(exec_via(), run).await
}

#[tokio::test]
async fn env_clear_leaves_only_what_was_set() {
    with_container(async |c| {
        let out = c.command("env").env("A", "1").output().await.unwrap();
        assert!(out.stdout_lossy().contains("FROM=container"));
        let mut command = c.command("env");
        let out = command
            .env("A", "1")
            .env_clear()
            .env("B", "2 = two")
            .output()
            .await
            .unwrap();
        assert_eq!(out.stdout_lossy(), "A=1\nB=2 = two\n");
        let out = c.command("no-such-program").env_clear().output().await.unwrap();
        assert_eq!(out.status, ExitStatus::Exited(127));
    })
    .await;
}

#[tokio::test]
async fn an_output_can_be_discarded() {
    with_container(async |c| {
        let script = ["-c", "echo out; echo err >&2"];
        let out = c
            .command("sh")
            .args(script)
            .stdout(Stdio::null())
            .output()
            .await
            .unwrap();
        assert_eq!((out.stdout_lossy(), out.stderr_lossy()), ("".into(), "err\n".into()));
        let out = c
            .command("sh")
            .args(script)
            .stderr(Stdio::null())
            .output()
            .await
            .unwrap();
        assert_eq!((out.stdout_lossy(), out.stderr_lossy()), ("out\n".into(), "".into()));
        // Discarded output does not count towards the limit.
        let many = ["-c", "head -c 100000 /dev/zero >&2; echo out"];
        let out = c
            .command("sh")
            .args(many)
            .stderr(Stdio::null())
            .output_limit(4)
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(0), "out\n".into())
        );
    })
    .await;
}

#[tokio::test]
async fn a_terminal_has_its_requested_size_and_can_be_resized() {
    with_container(async |c| {
        let out = c
            .command("sh")
            .args(["-c", "test -t 0 && test -t 1 && echo terminal"])
            .tty(24, 80)
            .output()
            .await;
        assert_eq!(out.unwrap().stdout_lossy(), "terminal\r\n");
        let plain = c.command("sh").args(["-c", "test -t 1"]).status().await.unwrap();
        assert_eq!(plain, ExitStatus::Exited(1));

        // The script prints the size of its terminal for each line of input.
        let script = "while read x; do stty size; done";
        let mut child = c
            .command("sh")
            .args(["-c", script])
            .tty(33, 101)
            .stdin(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        let (mut stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(stdout));
        for (rows, cols) in [(33, 101), (50, 132)] {
            child.resize(rows, cols).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stdin, b"?\n").await.unwrap();
            // The terminal echoes the input.
            assert_eq!(lines.next_line().await.unwrap().unwrap(), "?");
            assert_eq!(lines.next_line().await.unwrap().unwrap(), format!("{rows} {cols}"));
        }
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
    })
    .await;
}

#[tokio::test]
async fn each_stream_can_have_its_own_limit() {
    with_container(async |c| {
        let script = ["-c", "echo 123456789; echo abcdefghi >&2; exit 3"];
        let mut command = c.command("sh");
        let out = command
            .args(script)
            .stdout_limit(4)
            .stderr_limit(6)
            .on_limit(OnLimit::Truncate)
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.stdout_lossy(), out.stderr_lossy()),
            ("1234".into(), "abcdef".into())
        );
        assert_eq!((out.status, out.truncated), (ExitStatus::Exited(3), true));

        let out = c
            .command("sh")
            .args(script)
            .stdout_limit(10)
            .stderr_limit(10)
            .output()
            .await
            .unwrap();
        assert_eq!((out.status, out.truncated), (ExitStatus::Exited(3), false));
        assert_eq!(c.taint(), None);

        let out = c.command("sh").args(script).stderr_limit(9).output().await.unwrap();
        assert_eq!(
            (out.status, out.truncated),
            (
                ExitStatus::OutputLimit {
                    limit: 9,
                    is_default: false
                },
                true
            )
        );
        assert_eq!(
            (out.stdout_lossy(), out.stderr_lossy()),
            ("123456789\n".into(), "abcdefghi".into())
        );
    })
    .await;
}

#[tokio::test]
async fn a_truncated_command_finishes_and_keeps_its_container_clean() {
    with_container(async |c| {
        let script = "head -c 30000000 /dev/zero; echo done >/tmp/done; exit 7";
        let mut command = c.command("sh");
        let out = command
            .args(["-c", script])
            .output_limit(1000)
            .on_limit(OnLimit::Truncate)
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout.len(), out.truncated),
            (ExitStatus::Exited(7), 1000, true)
        );
        assert_eq!(c.taint(), None);
        assert_eq!(
            c.command("cat").arg("/tmp/done").output_string().await.unwrap(),
            "done\n"
        );
    })
    .await;
}

#[tokio::test]
async fn a_silent_command_is_ended_by_its_idle_timeout() {
    with_container(async |c| {
        let limit = Duration::from_secs(4);
        // In all, this takes longer than the limit.
        let steady = "for i in 1 2 3 4 5 6 7 8 9 1 2 3; do echo $i; sleep 0.4; done";
        let out = c
            .command("sh")
            .args(["-c", steady])
            .idle_timeout(limit)
            .output()
            .await
            .unwrap();
        assert_eq!((out.status, out.stdout.len()), (ExitStatus::Exited(0), 24));
        let out = c
            .command("sh")
            .args(["-c", "echo one; sleep 1000"])
            .idle_timeout(limit)
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::IdleTimedOut, "one\n".into())
        );
        assert_eq!(c.taint(), taint_of_ended(Taint::TimedOut));
        assert!(out.check().unwrap_err().is_timeout());
    })
    .await;
}

#[tokio::test]
async fn a_detached_command_runs_until_the_lease_ends() {
    let pool = pool("detach").max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let script = "while true; do echo tick >>/tmp/ticks; sleep 0.05; done";
    c.command("sh").args(["-c", script]).spawn().await.unwrap().detach();
    let ticks = async || {
        let out = c
            .command("sh")
            .args(["-c", "cat /tmp/ticks 2>/dev/null | wc -l"])
            .output_string()
            .await
            .unwrap();
        out.trim().parse::<usize>().unwrap()
    };
    let before = ticks().await;
    crate::support::eventually("the command goes on", async || ticks().await > before + 2).await;
    assert_eq!(c.taint(), None);
    drop(c);
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), id);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_child_can_be_polled_without_waiting() {
    with_container(async |c| {
        let mut child = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        if exec_via() == ExecVia::Docker {
            assert!(matches!(child.signal(15).await, Err(Error::Unsupported { .. })));
        }
        drop(child.stdin.take());
        let mut status = None;
        crate::support::eventually_now("the child ends", || {
            status = child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        assert_eq!(status, Some(ExitStatus::Exited(0)));
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
    })
    .await;
}

#[tokio::test]
async fn shorthands_run_commands_and_return_their_output() {
    with_container(async |c| {
        let out = c.exec(["sh", "-c", "echo $0-$1", "a", "b c"]).await.unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(0), "a-b c\n".into())
        );
        assert!(
            matches!(c.exec([""; 0]).await, Err(Error::BadCommand { problem, .. }) if problem.field() == "program")
        );
        for name in ["", "a=b"] {
            let result = c.command("true").env(name, "c").status().await;
            assert!(
                matches!(&result, Err(Error::BadCommand { problem, .. }) if problem.field() == "env 1"),
                "{name}: {result:?}"
            );
        }

        assert_eq!(c.command("echo").arg("hé").output_string().await.unwrap(), "hé\n");
        let error = c
            .command("sh")
            .args(["-c", "echo why >&2; exit 4"])
            .output_string()
            .await
            .unwrap_err();
        assert!(matches!(&error, Error::Command(failed) if failed.output.status == ExitStatus::Exited(4)));
        assert!(error.to_string().ends_with(" exited with 4: why"), "{error}");
        let script = "printf 'a\\377'; head -c 100000 /dev/zero";
        let error = c.command("sh").args(["-c", script]).output_string().await.unwrap_err();
        let Error::NotUtf8 { output, source, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!((output.stdout.len(), source.valid_up_to()), (100_002, 1));
        assert!(
            format!("{error:?}").len() < 4000,
            "the output is in the error, and not in its `Debug`"
        );
        assert_eq!(error.container(), Some(c.name()));

        let mut lines = c
            .command("sh")
            .args(["-c", "echo one; echo two; printf three; exit 2"])
            .lines()
            .await
            .unwrap();
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            seen.push(line);
        }
        assert_eq!(seen, ["one", "two", "three"]);
        assert_eq!(lines.wait().await.unwrap(), ExitStatus::Exited(2));

        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut command = c.command("sh");
        let status = command
            .args(["-c", "cat; echo err >&2"])
            .stdin("in")
            .run_to(&mut out, &mut err)
            .await
            .unwrap();
        assert_eq!(
            (status, &out[..], &err[..]),
            (ExitStatus::Exited(0), &b"in"[..], &b"err\n"[..])
        );
        assert_eq!(c.taint(), None);
    })
    .await;
}

/// Lists the ways to run a command.
#[derive(Clone, Copy, Debug)]
enum Run {
    Output,
    Status,
    OutputString,
    Lines,
    CopyTo,
    Spawn,
}

const RUNS: [Run; 6] = [
    Run::Output,
    Run::Status,
    Run::OutputString,
    Run::Lines,
    Run::CopyTo,
    Run::Spawn,
];

/// Runs a command that succeeds. Returns its output on both streams, as far as this way shows it.
async fn run(run: Run, command: &mut Command<'_>) -> [String; 2] {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    match run {
        Run::Output => {
            let out = command.output().await.unwrap().check().unwrap();
            [text(out.stdout), text(out.stderr)]
        }
        Run::Status => {
            assert!(command.status().await.unwrap().success());
            Default::default()
        }
        Run::OutputString => [command.output_string().await.unwrap(), String::new()],
        Run::Lines => {
            let mut lines = command.lines().await.unwrap();
            let mut seen = String::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                seen += &line;
                seen.push('\n');
            }
            assert!(lines.wait().await.unwrap().success());
            [seen, String::new()]
        }
        Run::CopyTo => {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            assert!(command.run_to(&mut out, &mut err).await.unwrap().success());
            [text(out), text(err)]
        }
        Run::Spawn => {
            let child = command.spawn().await.unwrap();
            let out = child.wait_with_output().await.unwrap().check().unwrap();
            [text(out.stdout), text(out.stderr)]
        }
    }
}

#[tokio::test]
async fn a_command_can_run_again_unchanged_after_any_way_of_running_it() {
    for (via, all) in [(ExecVia::Agent, &RUNS[..]), (ExecVia::Docker, &[Run::Output])] {
        with_shared(via, async |c| {
            for (null_out, null_err) in [(false, false), (true, false), (false, true)] {
                let command = || {
                    let mut command = c.command("sh");
                    command.args(["-c", "cat; echo out; echo err >&2"]).stdin("in\n");
                    if null_out {
                        command.stdout(Stdio::null());
                    }
                    if null_err {
                        command.stderr(Stdio::null());
                    }
                    command
                };
                let out = if null_out { "" } else { "in\nout\n" };
                let err = if null_err { "" } else { "err\n" };
                for &second in all {
                    let expected = match second {
                        Run::Output | Run::CopyTo | Run::Spawn => [out, err],
                        Run::OutputString | Run::Lines => [out, ""],
                        Run::Status => ["", ""],
                    };
                    for first in RUNS {
                        let mut command = command();
                        run(first, &mut command).await;
                        let seen = run(second, &mut command).await;
                        assert_eq!(seen, expected, "{via:?}: {first:?}, {second:?}, {null_out} {null_err}");
                    }
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_line_beyond_the_maximum_is_an_error_and_the_next_lines_follow() {
    for via in [ExecVia::Agent, ExecVia::Docker] {
        with_shared(via, async |c| {
            let too_long = |error: Option<Error>, most: usize| {
                let Some(Error::Read { source, .. }) = error else {
                    panic!("{error:?}")
                };
                assert_eq!(source.kind(), std::io::ErrorKind::InvalidData);
                assert_eq!(source.to_string(), format!("a line has more than {most} bytes"));
            };
            let script = "echo 1234; echo 12345; printf '1234\\r\\n'; echo; echo 123456789; printf 1234";
            let mut lines = c.command("sh").args(["-c", script]).lines().await.unwrap().max_line(4);
            let mut seen = Vec::new();
            for _ in 0..6 {
                match lines.next_line().await {
                    Ok(line) => seen.push(line.unwrap()),
                    Err(error) => {
                        too_long(Some(error), 4);
                        seen.push("error".to_owned());
                    }
                }
            }
            assert_eq!(seen, ["1234", "error", "1234", "", "error", "1234"]);
            assert_eq!(lines.next_line().await.unwrap(), None);
            assert_eq!(lines.wait().await.unwrap(), ExitStatus::Exited(0));

            // The same under the default maximum.
            let script = "head -c 10000000 /dev/zero; echo; echo after";
            let mut lines = c.command("sh").args(["-c", script]).lines().await.unwrap();
            too_long(lines.next_line().await.err(), OutputLines::DEFAULT_MAX_LINE);
            assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("after"));
            assert_eq!(lines.wait().await.unwrap(), ExitStatus::Exited(0));
        })
        .await;
    }
}

#[tokio::test]
async fn collected_output_is_limited_by_default_also_for_a_child() {
    with_container(async |c| {
        let more = Command::DEFAULT_OUTPUT_LIMIT + 1;
        let script = format!("head -c {more} /dev/zero");
        let limit = ExitStatus::OutputLimit {
            limit: Command::DEFAULT_OUTPUT_LIMIT,
            is_default: true,
        };
        let child = c.command("sh").args(["-c", &script]).spawn().await.unwrap();
        let out = child.wait_with_output().await.unwrap();
        assert_eq!((out.status, out.truncated), (limit, true));
        assert_eq!(out.stdout.len() as u64, Command::DEFAULT_OUTPUT_LIMIT);
        assert_eq!(out.status.to_string(), "default output limit of 16 MiB");
    })
    .await;
    with_container(async |c| {
        let more = Command::DEFAULT_OUTPUT_LIMIT + 1;
        let script = format!("head -c {more} /dev/zero");
        let mut command = c.command("sh");
        let child = command.args(["-c", &script]).output_limit(None).spawn().await.unwrap();
        let out = child.wait_with_output().await.unwrap();
        assert_eq!((out.status, out.truncated), (ExitStatus::Exited(0), false));
        assert_eq!(out.stdout.len() as u64, more);
    })
    .await;
}

#[tokio::test]
async fn a_failing_writer_ends_the_command_with_a_typed_error() {
    with_container(async |c| {
        let (mut writer, reader) = tokio::io::duplex(64);
        drop(reader);
        let error = c
            .command("yes")
            .run_to(&mut writer, &mut tokio::io::sink())
            .await
            .unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Write { stream, .. } if stream == "standard output"
            ),
            "{error:?}"
        );
        assert_eq!(c.taint(), taint_of_ended(Taint::Cancelled));
    })
    .await;
}

#[tokio::test]
async fn lines_fail_at_the_limit_and_at_invalid_utf8() {
    with_container(async |c| {
        let mut lines = c.command("printf").arg("a\\377\\n").lines().await.unwrap();
        assert!(matches!(lines.next_line().await, Err(Error::Read { .. })));
        assert_eq!(lines.wait().await.unwrap(), ExitStatus::Exited(0));

        // The limit bounds a line without an end.
        let mut lines = c
            .command("cat")
            .arg("/dev/zero")
            .output_limit(100_000)
            .lines()
            .await
            .unwrap();
        assert!(matches!(lines.next_line().await, Err(Error::Read { .. })));
        assert_eq!(
            lines.wait().await.unwrap(),
            ExitStatus::OutputLimit {
                limit: 100_000,
                is_default: false
            }
        );
    })
    .await;
}

#[tokio::test]
async fn background_children_that_hold_the_output_do_not_delay_the_outcome() {
    with_container(async |c| {
        let begun = Instant::now();
        let out = c
            .command("sh")
            .args(["-c", "sleep 30 & echo started; exit 5"])
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(5), "started\n".into())
        );
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        // The child runs on in the background, as `Reuse::AsIs` allows.
        let alive = c.exec(["sh", "-c", "grep -x sleep /proc/[0-9]*/comm"]).await.unwrap();
        assert_eq!(alive.status, ExitStatus::Exited(0));
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_slow_reader_gets_the_whole_output() {
    for via in [ExecVia::Docker, ExecVia::Agent] {
        with_shared(via, async |c| {
            // The sizes lie around the capacity of the way from the command to its reader: some commands end before
            // anything is read, and some do not.
            let sizes = (1_300_000..2_300_000).step_by(50_000);
            let commands = sizes.map(async |size: usize| {
                let script = format!("head -c {size} /dev/zero; exit 5");
                let mut child = c.command("sh").args(["-c", &script]).spawn().await.unwrap();
                let mut stdout = child.stdout.take().unwrap();
                let mut first = [0; 1000];
                tokio::io::AsyncReadExt::read_exact(&mut stdout, &mut first)
                    .await
                    .unwrap();
                // The engine drops output that is not read within two seconds after the end of a command.
                tokio::time::sleep(Duration::from_secs(5)).await;
                let mut rest = Vec::new();
                let end = tokio::io::AsyncReadExt::read_to_end(&mut stdout, &mut rest).await;
                let (status, len) = (child.wait().await.unwrap(), first.len() + rest.len());
                // If the machine is too slow to read the rest in that time, both the reader and the status report it.
                if let (Err(error), ExecVia::Docker) = (&end, via) {
                    assert_eq!(
                        error.kind(),
                        std::io::ErrorKind::UnexpectedEof,
                        "{via:?} {size}: {error}"
                    );
                    assert_eq!(status, ExitStatus::Incomplete(5), "{via:?} {size}");
                } else {
                    end.unwrap();
                    assert_eq!((status, len), (ExitStatus::Exited(5), size), "{via:?} {size}");
                }
                assert!(len <= size, "{via:?} {size}");
            });
            futures_util::future::join_all(commands).await;
            assert_eq!(c.taint(), None);
        })
        .await;
    }
}

#[tokio::test]
async fn the_end_of_a_command_is_noticed_although_its_output_is_not_read() {
    // These are more pieces than the library buffers for a reader, and fewer bytes than any engine buffers (about 1.4
    // MB in Docker, 200 kB in Podman). With the agent, unread output stays in the pipe of the command, which blocks
    // it.
    const PIECES: usize = 60;
    with_shared(ExecVia::Docker, async |c| {
        let script = format!("i=0; while [ $i -lt {PIECES} ]; do echo piece; i=$((i + 1)); sleep 0.05; done; exit 5");
        let mut command = c.command("sh");
        command.args(["-c", &script]).timeout(Duration::from_secs(60));
        let mut child = command.spawn().await.unwrap();
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(5));
        let out = child.wait_with_output().await.unwrap();
        assert_eq!(out.status, ExitStatus::Exited(5));
        assert_eq!(out.stdout_lossy(), "piece\n".repeat(PIECES));
    })
    .await;
}

#[tokio::test]
async fn too_many_arguments_are_refused_by_position_before_any_call() {
    let engine = FakeEngine::new();
    let pool = Pool::builder("args")
        .image("any")
        .engine(Arc::new(engine.clone()))
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let long = "x".repeat(100_000);
    let error = c
        .command("echo")
        .args(vec![long.clone(); 30])
        .output()
        .await
        .unwrap_err();
    let Error::BadCommand { problem, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(problem.field(), "arg 21");
    let mut command = c.command("echo");
    for i in 0..30 {
        command.env(format!("V{i}"), &long);
    }
    let error = command.output().await.unwrap_err();
    assert!(
        matches!(&error, Error::BadCommand { problem, .. } if problem.field() == "env 21"),
        "{error:?}"
    );
    assert_eq!(engine.calls(Call::Exec), 0);
}

#[tokio::test]
async fn arguments_up_to_the_limit_run() {
    with_container(async |c| {
        let args = vec!["x".repeat(100_000); 20];
        let out = c
            .command("sh")
            .args(["-c", "echo $#", "sh"])
            .args(args)
            .output()
            .await
            .unwrap();
        assert_eq!((out.status, out.stdout_lossy()), (ExitStatus::Exited(0), "20\n".into()));
        let out = c
            .command("sh")
            .args(["-c", "echo ${#1}", "sh"])
            .arg("x".repeat(128 * 1024 - 1))
            .output()
            .await
            .unwrap();
        assert_eq!(out.stdout_lossy(), "131071\n");
    })
    .await;
}

#[tokio::test]
async fn streams_can_be_read_one_after_the_other_once_the_command_was_ended() {
    // Each stream holds more than a pipe takes. Reading one stream to its end must not wait for the other.
    let flood = ["-c", "yes out & yes err >&2"];
    let ended = async |c: &PooledContainer| {
        let out = c.command("sh").args(flood).output_limit(1000).output().await.unwrap();
        assert_eq!(
            (out.status, out.truncated),
            (
                ExitStatus::OutputLimit {
                    limit: 1000,
                    is_default: false
                },
                true
            )
        );
        assert_eq!(out.stdout.len() + out.stderr.len(), 1000);
    };
    let turns = async |c: &PooledContainer| {
        let mut child = c
            .command("sh")
            .args(flood)
            .timeout(Duration::from_secs(4))
            .spawn()
            .await
            .unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        assert_eq!(child.wait().await.unwrap(), ExitStatus::TimedOut);
        for stream in [
            &mut stdout as &mut (dyn tokio::io::AsyncRead + Unpin),
            &mut stderr as &mut (dyn tokio::io::AsyncRead + Unpin),
        ] {
            let mut data = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(stream, &mut data).await.unwrap();
            assert!(data.len() > 1000, "{}", data.len());
        }
    };
    for (name, run) in [("limit", true), ("turns", false)] {
        let done = with_container(async |c| if run { ended(c).await } else { turns(c).await });
        tokio::time::timeout(Duration::from_secs(60), done).await.expect(name);
    }
}

#[tokio::test]
async fn arguments_can_be_paths_and_other_text_is_refused() {
    with_container(async |c| {
        let path = std::path::PathBuf::from("/etc").join("hostname");
        let mut command = c.command("echo");
        command
            .arg(&path)
            .arg(std::ffi::OsStr::new("text"))
            .args([path.as_path()]);
        assert_eq!(
            command.output_string().await.unwrap(),
            "/etc/hostname text /etc/hostname\n"
        );
        let out = c.exec([std::path::Path::new("echo"), &path]).await.unwrap();
        assert_eq!(out.stdout_lossy(), "/etc/hostname\n");
    })
    .await;
}

#[tokio::test]
async fn texts_that_no_engine_takes_are_refused_before_any_call() {
    use std::os::unix::ffi::OsStrExt as _;

    let engine = FakeEngine::new();
    let pool = Pool::builder("args").image("any").engine(Arc::new(engine.clone()));
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let bad = std::ffi::OsStr::from_bytes(b"a\xffb");
    let fine = std::ffi::OsStr::new("fine");
    let mut results = Vec::new();
    results.push(("arg 2", "UTF-8", c.command("x").arg(fine).arg(bad).output().await));
    results.push(("arg 1", "NUL", c.command("x").arg("a\0b").output().await));
    results.push(("program", "UTF-8", c.exec([bad, fine]).await));
    results.push(("arg 1", "UTF-8", c.exec([fine, bad]).await));
    results.push((
        "env 2",
        "=",
        c.command("x").env("A", "1").env("B=C", "2").output().await,
    ));
    results.push(("env 1", "empty", c.command("x").envs([("", "2")]).output().await));
    results.push(("env 1", "NUL", c.command("x").env("A", "\0").output().await));
    results.push(("env 1", "NUL", c.command("x").env("A\0", "").output().await));
    for (field, words, result) in results {
        let Err(Error::BadCommand { problem, .. }) = &result else {
            panic!("{field}: {result:?}")
        };
        assert_eq!(problem.field(), field);
        assert!(problem.problem().contains(words), "{problem}");
    }
    assert_eq!(engine.calls(Call::Exec), 0);
}

#[tokio::test]
async fn a_line_in_place_of_a_program_gives_a_hint() {
    for via in [ExecVia::Docker, ExecVia::Agent] {
        with_shared(via, async |c| {
            let hint = "there is no shell";
            for line in ["ls -l", "/bin/ls -l"] {
                let error = c.exec([line]).await.unwrap_err();
                assert!(matches!(error, Error::CannotStart { .. }), "{error:?}");
                assert!(error.to_string().contains(hint), "{via:?}: {error}");
            }
            for program in ["no-such-program", "/"] {
                let error = c.exec([program]).await.unwrap_err();
                assert!(!error.to_string().contains(hint), "{via:?}: {error}");
            }
            let mut command = c.command("ls -l");
            let error = command.current_dir("/no/such/dir").output().await.unwrap_err();
            assert!(!error.to_string().contains(hint), "{via:?}: {error}");
        })
        .await;
    }
}
