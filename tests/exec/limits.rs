//! Limits of time and output, and cancelled commands: the output so far is kept, the container is not lent again, and
//! the processes are gone. The tests look for them among the processes of the machine.

use std::time::Duration;

use crate::support::{MARK, eventually_now, exec_via, pool, processes, taint_of_ended, unique_mark, with_shared};
use dockerpool::{Command, ExecVia, ExitStatus, LimitReached, OnLimit, Output, PooledContainer, Stdio, Taint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Long enough for a command to begin on a busy machine.
const LIMIT: Duration = Duration::from_secs(4);

/// Runs a script that does not end by itself, under the given limits. Asserts that it ran, that none of its processes
/// is left once the outcome is known, and that its container is lent again only if the agent has ended it alone.
async fn ended(name: &str, script: &str, limits: impl FnOnce(&mut Command<'_>)) -> (Output, Option<Taint>) {
    let pool = pool(name).max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let (id, mark) = (c.id().to_owned(), unique_mark());
    let mut command = c.command("sh");
    command.args(["-c", script]).env(MARK, &mark);
    limits(&mut command);
    let (out, ()) = tokio::join!(
        command.output(),
        eventually_now("the command runs", || !processes(&mark).is_empty())
    );
    assert_eq!(processes(&mark), [0; 0], "{name}");
    let taint = c.taint();
    drop(c);
    let same = pool.acquire().await.unwrap().id() == id;
    assert_eq!(same, taint.is_none(), "{name}");
    pool.shutdown().await.unwrap();
    (out.unwrap(), taint)
}

#[tokio::test]
async fn a_timeout_ends_all_processes_of_a_command_even_those_that_ignore_signals() {
    let script = "trap '' TERM INT HUP; echo out; echo err >&2; (sleep 1000; true) & sleep 1000; true";
    let (out, taint) = ended("timeout", script, |command| {
        command.timeout(LIMIT);
    })
    .await;
    assert_eq!(out.status, ExitStatus::TimedOut);
    assert_eq!(
        (out.stdout_lossy(), out.stderr_lossy()),
        ("out\n".into(), "err\n".into())
    );
    assert!(!out.truncated);
    assert!(out.usage.wall >= LIMIT, "{:?}", out.usage.wall);
    assert_eq!(taint, taint_of_ended(Taint::TimedOut));
}

#[tokio::test]
async fn a_timeout_ends_a_command_that_does_not_read_its_input() {
    let (out, taint) = ended("unread", "echo out; sleep 1000; true", |command| {
        command.stdin(vec![b'x'; 64 << 20]).timeout(LIMIT);
    })
    .await;
    assert_eq!((out.status, out.stdout_lossy()), (ExitStatus::TimedOut, "out\n".into()));
    assert_eq!(taint, taint_of_ended(Taint::TimedOut));
}

#[tokio::test]
async fn a_timeout_ends_a_command_that_has_closed_its_outputs() {
    let script = "echo out; exec >&- 2>&-; sleep 1000; true";
    let (out, taint) = ended("closed", script, |command| {
        command.timeout(LIMIT);
    })
    .await;
    assert_eq!((out.status, out.stdout_lossy()), (ExitStatus::TimedOut, "out\n".into()));
    assert_eq!(taint, taint_of_ended(Taint::TimedOut));
}

#[tokio::test]
async fn a_timeout_ends_a_command_that_prints_all_the_time() {
    let (out, taint) = ended("yes", "yes", |command| {
        command.timeout(LIMIT).output_limit(1001).on_limit(OnLimit::Truncate);
    })
    .await;
    assert_eq!((out.status, out.truncated), (ExitStatus::TimedOut, true));
    assert_eq!(out.stdout, &"y\n".repeat(501).as_bytes()[..1001]);
    assert_eq!(taint, taint_of_ended(Taint::TimedOut));

    // The same if the output is not read.
    with_shared(exec_via(), async |c| {
        let mark = unique_mark();
        let mut child = c.command("yes").arg(&mark).timeout(LIMIT).spawn().await.unwrap();
        assert_eq!(child.wait().await.unwrap(), ExitStatus::TimedOut);
        assert_eq!(processes(&mark), [0; 0]);
        // The first output can still be read.
        let mut line = vec![0; mark.len() + 1];
        child.stdout.take().unwrap().read_exact(&mut line).await.unwrap();
        assert_eq!(line, format!("{mark}\n").into_bytes());
        drop(child);
        let status = c.command("true").timeout(LIMIT).status().await;
        let gone = matches!(status, Err(dockerpool::Error::ContainerGone { .. }));
        assert_eq!(gone, exec_via() == ExecVia::Docker, "{status:?}");
    })
    .await;
}

#[tokio::test]
async fn an_idle_timeout_ends_all_processes_of_a_command() {
    let script = "echo out; (sleep 1000; true) & sleep 1000; true";
    let (out, taint) = ended("idle", script, |command| {
        command.idle_timeout(LIMIT);
    })
    .await;
    assert_eq!(
        (out.status, out.stdout_lossy()),
        (ExitStatus::IdleTimedOut, "out\n".into())
    );
    assert_eq!(taint, taint_of_ended(Taint::TimedOut));
}

#[tokio::test]
async fn an_idle_timeout_applies_until_the_end_of_the_command_not_of_its_outputs() {
    for via in [ExecVia::Docker, ExecVia::Agent] {
        let pool = pool("idle-closed").exec_via(via).build().await.unwrap();
        for (script, printed) in [
            ("exec >&- 2>&-; sleep 1000; true", ""),
            ("echo out; exec >&- 2>&-; sleep 1000; true", "out\n"),
            ("echo out; exec >&-; sleep 1000; true", "out\n"),
            (
                "echo out; exec >/dev/null 2>&1; while :; do echo more; usleep 1000; done",
                "out\n",
            ),
        ] {
            let c = pool.acquire().await.unwrap();
            let mut command = c.command("sh");
            command.args(["-c", script]).idle_timeout(Duration::from_secs(1));
            let out = command.timeout(Duration::from_secs(60)).output().await.unwrap();
            assert_eq!(
                (out.status, out.stdout_lossy()),
                (ExitStatus::IdleTimedOut, printed.into()),
                "{via:?} {script}"
            );
            assert_eq!(c.taint().is_none(), via == ExecVia::Agent, "{script}");
            drop(c);
        }
        // A command that has ended is not idle, even if another process holds its output.
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("sh");
        command
            .args(["-c", "sleep 1000 & echo out"])
            .idle_timeout(Duration::from_millis(1500));
        let out = command.output().await.unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(0), "out\n".into()),
            "{via:?}"
        );
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn an_output_limit_ends_all_processes_of_a_command() {
    // The processes start before the flood, so that the test can see them before the limit is reached.
    let script = "read go; (sleep 1000; true) & yes 0123456789; true";
    let pool = pool("output").max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let (id, mark) = (c.id().to_owned(), unique_mark());
    let mut command = c.command("sh");
    command.args(["-c", script]).env(MARK, &mark).stdin(Stdio::piped());
    let mut child = command.output_limit(30_000).spawn().await.unwrap();
    eventually_now("the command runs", || !processes(&mark).is_empty()).await;
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"go\n").await.unwrap();
    let mut read = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    let error = stdout.read_to_end(&mut read).await.unwrap_err();
    assert!(LimitReached::is(&error), "{error:?}");
    assert!(stdout.is_truncated());
    assert!(read == "0123456789\n".repeat(3000).as_bytes()[..30_000]);
    assert_eq!(
        child.wait().await.unwrap(),
        ExitStatus::OutputLimit {
            limit: 30_000,
            is_default: false
        }
    );
    assert_eq!(processes(&mark), [0; 0]);
    drop(child);
    assert_eq!(c.taint(), taint_of_ended(Taint::OutputLimit));
    let taint = c.taint();
    drop(c);
    assert_eq!(pool.acquire().await.unwrap().id() == id, taint.is_none());
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_dropped_child_and_a_dropped_output_end_all_processes_of_a_command() {
    let script = "echo out; (sleep 1000; true) & sleep 1000; true";
    let pool = pool("dropped").max_total(1).build().await.unwrap();
    for what in ["child", "output"] {
        let c = pool.acquire().await.unwrap();
        let (id, mark) = (c.id().to_owned(), unique_mark());
        let mut command = c.command("sh");
        command.args(["-c", script]).env(MARK, &mark);
        let runs = eventually_now("the command runs", || !processes(&mark).is_empty());
        match what {
            "child" => {
                let child = command.spawn().await.unwrap();
                runs.await;
                drop(child);
            }
            _ => tokio::select! {
                out = command.output() => panic!("{out:?}"),
                () = runs => {}
            },
        }
        // Reuse is forbidden at once. The command ends in the background.
        assert_eq!(c.taint(), taint_of_ended(Taint::Cancelled), "{what}");
        eventually_now("the command is gone", || processes(&mark).is_empty()).await;
        drop(c);
        if exec_via() == ExecVia::Docker {
            assert_ne!(pool.acquire().await.unwrap().id(), id, "{what}");
        }
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_killed_child_is_gone_when_the_kill_returns() {
    with_shared(exec_via(), async |c| {
        let mark = unique_mark();
        let mut command = c.command("sh");
        command.args(["-c", "echo out; (sleep 1000; true) & sleep 1000; true"]);
        let mut child = command.env(MARK, &mark).spawn().await.unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut line = [0; 4];
        stdout.read_exact(&mut line).await.unwrap();
        assert!(!processes(&mark).is_empty());
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!(processes(&mark), [0; 0]);
        assert_eq!(c.taint(), taint_of_ended(Taint::Killed));
        // A second kill changes nothing.
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!(stdout.read(&mut line).await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_kill_after_the_end_changes_nothing() {
    with_shared(exec_via(), async |c| {
        let mut child = c.command("echo").arg("out").spawn().await.unwrap();
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Exited(0));
        assert_eq!(child.wait_with_output().await.unwrap().stdout, b"out\n");
        assert_eq!(c.taint(), None);
        assert!(c.command("true").status().await.unwrap().success());
    })
    .await;
}

/// Runs a script under an output limit, in a container that is still clean.
async fn limited(c: &PooledContainer, script: &str, limit: u64) -> Output {
    let mut command = c.command("sh");
    command.args(["-c", script]).output_limit(limit);
    command.output().await.unwrap()
}

#[tokio::test]
async fn output_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
    let pool = pool("exact").build().await.unwrap();
    {
        let c = pool.acquire().await.unwrap();
        // The engine's framing of the output does not count.
        let exact = [
            ("echo hi", 3),
            ("printf 0123456789", 10),
            ("printf 01234; printf 56789 >&2", 10),
            ("for i in 0 1 2 3 4 5 6 7 8 9; do printf $i; done", 10),
            ("head -c 1000000 /dev/zero", 1_000_000),
            ("true", 0),
        ];
        for (script, limit) in exact {
            let out = limited(&c, script, limit).await;
            assert_eq!((out.status, out.truncated), (ExitStatus::Exited(0), false), "{script}");
            assert_eq!((out.stdout.len() + out.stderr.len()) as u64, limit, "{script}");
        }
        assert_eq!(c.taint(), None);
    }
    let over = [
        ("echo hi", 2),
        ("printf 0123456789", 9),
        ("head -c 1000001 /dev/zero", 1_000_000),
        ("printf x", 0),
        ("printf x >&2", 0),
    ];
    for (script, limit) in over {
        let c = pool.acquire().await.unwrap();
        let out = limited(&c, script, limit).await;
        assert_eq!(
            (out.status, out.truncated),
            (
                ExitStatus::OutputLimit {
                    limit,
                    is_default: false
                },
                true
            ),
            "{script}"
        );
        assert_eq!((out.stdout.len() + out.stderr.len()) as u64, limit, "{script}");
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn many_small_writes_do_not_exceed_the_limit() {
    with_shared(exec_via(), async |c| {
        let script = "i=0; while [ $i -lt 300 ]; do echo 0123456789; i=$((i+1)); done";
        let out = limited(c, script, 16).await;
        assert_eq!(
            (out.status, out.stdout_lossy(), out.truncated),
            (
                ExitStatus::OutputLimit {
                    limit: 16,
                    is_default: false
                },
                "0123456789\n01234".into(),
                true
            )
        );
    })
    .await;
}

#[tokio::test]
async fn both_outputs_together_do_not_exceed_the_limit() {
    with_shared(exec_via(), async |c| {
        let script = "while true; do echo out; echo err >&2; done";
        let out = limited(c, script, 10_001).await;
        assert_eq!(
            (out.status, out.truncated),
            (
                ExitStatus::OutputLimit {
                    limit: 10_001,
                    is_default: false
                },
                true
            )
        );
        assert_eq!(out.stdout.len() + out.stderr.len(), 10_001);
        assert!(out.stdout == "out\n".repeat(10_000).as_bytes()[..out.stdout.len()]);
        assert!(out.stderr == "err\n".repeat(10_000).as_bytes()[..out.stderr.len()]);
        assert_eq!(c.taint(), taint_of_ended(Taint::OutputLimit));
    })
    .await;
}

#[tokio::test]
async fn a_timeout_of_zero_passes_at_once() {
    let pool = pool("zero").max_total(1).build().await.unwrap();
    let mark = unique_mark();
    for _ in 0..3 {
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("sh");
        command.args(["-c", "sleep 1000; true"]).env(MARK, &mark);
        let out = command.timeout(Duration::ZERO).output().await.unwrap();
        assert_eq!((out.status, out.stdout.len()), (ExitStatus::TimedOut, 0));
        assert_eq!(processes(&mark), [0; 0]);
        assert!(out.check().unwrap_err().is_timeout());
    }
    assert!(
        pool.acquire()
            .await
            .unwrap()
            .command("true")
            .status()
            .await
            .unwrap()
            .success()
    );
    pool.shutdown().await.unwrap();
    assert_eq!(processes(&mark), [0; 0]);
}

#[tokio::test]
async fn a_timeout_in_the_far_future_never_passes() {
    with_shared(exec_via(), async |c| {
        for timeout in [Duration::from_secs(100 * 366 * 86_400), Duration::MAX] {
            let mut command = c.command("sh");
            command.args(["-c", "sleep 0.2; echo done"]);
            let out = command.timeout(timeout).idle_timeout(timeout).output().await.unwrap();
            assert_eq!(
                (out.status, out.stdout_lossy()),
                (ExitStatus::Exited(0), "done\n".into())
            );
        }
        assert_eq!(c.taint(), None);
    })
    .await;
}
