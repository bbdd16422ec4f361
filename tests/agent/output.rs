//! Large output of commands that the agent runs: complete, in order and bounded, whatever process holds the pipe.

use std::time::{Duration, Instant};

use crate::support::{eventually, pool, with_agent, with_container};
use dockerpool::{ExecVia, ExitStatus, Stdio};
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// So many lines are far more than the agent sends in frames before it hands the pipe over, where there is a socket.
const MANY_LINES: u32 = 200_000;

fn sh(script: &str) -> [String; 2] {
    ["-c".to_owned(), script.to_owned()]
}

/// Returns the output of `seq`.
fn numbers(to: u32) -> String {
    (1..=to).map(|i| format!("{i}\n")).collect()
}

#[tokio::test]
async fn both_streams_arrive_complete_and_in_order() {
    with_agent(async |c| {
        let script = format!("seq {MANY_LINES} >&2 & seq {MANY_LINES}; wait; echo end; echo end >&2; exit 3");
        let expected = numbers(MANY_LINES) + "end\n";
        for _ in 0..3 {
            let out = c
                .command("sh")
                .args(sh(&script))
                .output_limit(None)
                .output()
                .await
                .unwrap();
            assert_eq!(out.status, ExitStatus::Exited(3));
            assert!(out.stdout == expected.as_bytes(), "{} bytes", out.stdout.len());
            assert!(out.stderr == expected.as_bytes(), "{} bytes", out.stderr.len());
        }
        assert_eq!(c.process_count().await.unwrap(), 0);
    })
    .await;
}

/// Sizes just below and above the one at which the agent hands pipes over, and around the capacity of a pipe.
#[tokio::test]
async fn output_of_any_size_arrives_complete() {
    with_agent(async |c| {
        for size in [
            65_535,
            65_536,
            131_071,
            131_072,
            131_073,
            196_608,
            200_000,
            1 << 20,
            3_000_001,
        ] {
            let out = c
                .command("sh")
                .args(sh(&format!(
                    "head -c {size} /dev/urandom | tee /tmp/f; md5sum </tmp/f >&2"
                )))
                .output_limit(None)
                .output()
                .await
                .unwrap();
            assert_eq!((out.status, out.stdout.len()), (ExitStatus::Exited(0), size));
            let again = c.command("md5sum").stdin(out.stdout.clone()).output().await.unwrap();
            assert_eq!(again.stdout_lossy(), out.stderr_lossy(), "{size}");
        }
    })
    .await;
}

#[tokio::test]
async fn concurrent_commands_with_large_output_each_get_their_own() {
    with_agent(async |c| {
        let outs = join_all((0..20u32).map(async |i| {
            let script = format!("i=0; while [ $i -lt 40000 ]; do echo {i} $i; i=$((i+1)); done | tee /dev/stderr");
            let out = c.command("sh").args(sh(&script)).output_limit(None).output().await;
            (i, out.unwrap())
        }))
        .await;
        for (i, out) in outs {
            let expected: String = (0..40_000).map(|line| format!("{i} {line}\n")).collect();
            assert!(out.stdout == expected.as_bytes(), "{i}: {} bytes", out.stdout.len());
            assert!(out.stderr == expected.as_bytes(), "{i}: {} bytes", out.stderr.len());
        }
    })
    .await;
}

#[tokio::test]
async fn output_printed_before_a_kill_arrives() {
    with_agent(async |c| {
        // The test reads most of the output while the command runs. The rest is small, since unread output must not
        // keep the other stream from being read.
        let script = format!("seq {MANY_LINES}; echo ready >&2; sleep 1000");
        let mut child = c.command("sh").args(sh(&script)).spawn().await.unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let expected = numbers(MANY_LINES);
        let mut first = vec![0; expected.len() - 1_000];
        stdout.read_exact(&mut first).await.unwrap();
        let mut ready = [0; 6];
        stderr.read_exact(&mut ready).await.unwrap();
        assert_eq!(child.kill().await.unwrap(), ExitStatus::Killed);
        stdout.read_to_end(&mut first).await.unwrap();
        assert!(first == expected.as_bytes(), "{} bytes", first.len());
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn cutting_off_large_output_ends_the_command_alone() {
    with_agent(async |c| {
        let limit = 2_000_000;
        let out = c.command("yes").output_limit(limit).output().await.unwrap();
        assert_eq!(
            (out.status, out.stdout.len()),
            (
                ExitStatus::OutputLimit {
                    limit,
                    is_default: false
                },
                limit as usize
            )
        );
        // The second command has a timeout in place of an output limit.
        let out = c
            .command("yes")
            .output_limit(None)
            .timeout(Duration::from_millis(200))
            .output()
            .await
            .unwrap();
        assert_eq!(out.status, ExitStatus::TimedOut);
        assert!(out.stdout.chunks_exact(2).all(|line| line == b"y\n"));
        assert_eq!(c.process_count().await.unwrap(), 0);
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_command_whose_output_is_dropped_runs_to_its_end() {
    with_agent(async |c| {
        let mut child = c.command("seq").arg("2000000").spawn().await.unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut some = vec![0; 1_000_000];
        stdout.read_exact(&mut some).await.unwrap();
        // The command goes on without a reader and ends well.
        drop(stdout);
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
    })
    .await;
}

#[tokio::test]
async fn a_server_left_with_much_output_delays_no_exit_and_is_not_ended() {
    with_agent(async |c| {
        // Each write is large, since system calls are slow on some kernels.
        let server = "more=$(seq 10000); while :; do echo \"$more\" || exit; done";
        let script = format!("seq {MANY_LINES}; ({server}) & echo $! >/tmp/server; exit 5");
        let begun = Instant::now();
        let out = c
            .command("sh")
            .args(sh(&script))
            .output_limit(1 << 30)
            .output()
            .await
            .unwrap();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        assert_eq!(out.status, ExitStatus::Exited(5));
        assert!(out.stdout.starts_with(numbers(MANY_LINES).as_bytes()));
        let written = async || {
            let script = "sed -n 's/^wchar: //p' /proc/$(cat /tmp/server)/io";
            let count = c.command("sh").args(sh(script)).output_string().await.unwrap();
            count.trim().parse::<u64>().expect("the server runs")
        };
        let before = written().await;
        // More bytes than any pipe can hold.
        eventually("the server prints", async || written().await > before + 3_000_000).await;
        c.kill_all().await.unwrap();
        assert_eq!(c.process_count().await.unwrap(), 0);
    })
    .await;
}

/// The command owns its output descriptors and can change them.
#[tokio::test]
async fn changes_of_a_command_to_its_output_pipes_harm_no_other_command() {
    let python = pool("pipes")
        .image(crate::support::python())
        .exec_via(ExecVia::Agent)
        .memory(128 << 20);
    with_container(python, async |c| {
        let begin = "import os, fcntl, sys, time\n\
                     for fd in (1, 2):\n\
                     \x20   for _ in range(40): os.write(fd, bytes(10000))\n\
                     time.sleep(0.2)\n";
        for (what, status) in [
            // Makes the pipe larger, as small as possible, a packet pipe and non-blocking.
            ("fcntl.fcntl(1, 1031, 1 << 20); os.write(1, bytes(1 << 20))", 0),
            ("fcntl.fcntl(1, 1031, 4096); os.write(1, bytes(1 << 20))", 0),
            ("fcntl.fcntl(1, 4, os.O_WRONLY | 0o40000); os.write(1, bytes(1 << 20))", 0),
            ("os.set_blocking(1, False); [os.write(1, b'x') for _ in range(1000)]", 0),
            // Tries to read its own output.
            (
                "os.set_blocking(1, True); r = os.open('/proc/self/fd/1', os.O_RDONLY | os.O_NONBLOCK); os.write(1, b'x')\n\
                 try: os.read(r, 100)\n\
                 except BlockingIOError: pass\n\
                 os.write(1, bytes(100000))",
                0,
            ),
            ("os.close(1); os.close(2); os._exit(3)", 3),
        ] {
            let out = c
                .command("python3")
                .args(["-c", &format!("{begin}{what}")])
                .output_limit(None)
                .timeout(Duration::from_secs(60))
                .output()
                .await
                .unwrap();
            assert_eq!(out.status, ExitStatus::Exited(status), "{what}: {out:?}");
            assert!(out.stdout.len() >= 400_000, "{what}: {}", out.stdout.len());
            assert!(out.stderr.len() == 400_000, "{what}: {}", out.stderr.len());
        }
        assert_eq!(c.command("true").status().await.unwrap(), ExitStatus::Exited(0));
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn input_and_output_flow_at_the_same_time() {
    with_agent(async |c| {
        let mut child = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        // The agent must keep answering each question after the output has become large enough for a pipe.
        for i in 0..200u32 {
            let piece = vec![i as u8; 5000];
            stdin.write_all(&piece).await.unwrap();
            let mut answer = vec![0; piece.len()];
            stdout.read_exact(&mut answer).await.unwrap();
            assert!(answer == piece, "{i}");
        }
        stdin.shutdown().await.unwrap();
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
    })
    .await;
}
