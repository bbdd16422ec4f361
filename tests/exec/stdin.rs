//! Standard input: of any size, concurrently with the output, up to its own end or that of the command.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::{exec_via, is_podman, with_shared};
use dockerpool::{ExitStatus, Stdio};
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio_util::codec::{FramedRead, LinesCodec};

/// Far longer than anything here takes, and far shorter than a hang.
const SOON: Duration = Duration::from_secs(60);

/// Returns bytes whose period is a prime number, so that a lost or doubled buffer shows.
fn pattern() -> Vec<u8> {
    (0..65_521_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[tokio::test]
async fn ten_megabytes_are_echoed_back() {
    with_shared(exec_via(), async |c| {
        let data = pattern().repeat(160);
        assert!(data.len() > 10_000_000);
        let out = c.command("cat").stdin(data.clone()).output().await.unwrap();
        assert_eq!((out.status, out.truncated), (ExitStatus::Exited(0), false));
        assert!(out.stdout == data);
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_hundred_mebibytes_are_echoed_back_without_being_buffered() {
    with_shared(exec_via(), async |c| {
        const TOTAL: usize = 100 << 20;
        let mut child = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let write = async {
            let pattern = pattern();
            let mut left = TOTAL;
            while left > 0 {
                let part = &pattern[..left.min(pattern.len())];
                stdin.write_all(part).await.unwrap();
                left -= part.len();
            }
            stdin.shutdown().await.unwrap();
        };
        let read = async {
            let pattern = pattern();
            let mut buffer = vec![0; 64 * 1024];
            let mut total = 0;
            loop {
                let read = stdout.read(&mut buffer).await.unwrap();
                if read == 0 {
                    return total;
                }
                let mut rest = &buffer[..read];
                while !rest.is_empty() {
                    let at = total % pattern.len();
                    let part = rest.len().min(pattern.len() - at);
                    assert!(rest[..part] == pattern[at..at + part], "differs after {total} bytes");
                    rest = &rest[part..];
                    total += part;
                }
            }
        };
        let ((), total) = tokio::join!(write, read);
        assert_eq!(total, TOTAL);
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
        drop(child);
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn the_end_of_a_command_does_not_wait_for_its_open_input() {
    with_shared(exec_via(), async |c| {
        let begun = Instant::now();
        let mut child = c
            .command("sh")
            .args(["-c", "echo done; exit 4"])
            .stdin(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        let stdin = child.stdin.take();
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
        assert_eq!(out, "done\n");
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(4));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        drop(stdin);
        drop(child);
        assert_eq!(c.taint(), None);
        assert!(c.command("true").status().await.unwrap().success());
    })
    .await;
}

#[tokio::test]
async fn unread_input_is_dropped_without_an_error() {
    let podman = is_podman().await;
    with_shared(exec_via(), async |c| {
        let begun = Instant::now();
        let data = vec![b'x'; 64 << 20];
        let out = c.command("head").args(["-c", "5"]).stdin(data).output().await.unwrap();
        // Podman may say that it lost the end of the output of such a command.
        let is_whole = |status| status == ExitStatus::Exited(0) || podman && status == ExitStatus::Incomplete(0);
        assert!(is_whole(out.status) && out.stdout_lossy() == "xxxxx", "{out:?}");
        let out = c.command("true").stdin(vec![b'x'; 64 << 20]).output().await.unwrap();
        assert!(is_whole(out.status) && out.stdout.is_empty(), "{out:?}");
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn an_input_pipe_is_closed_by_shutdown_by_drop_and_by_wait() {
    with_shared(exec_via(), async |c| {
        for how in ["shutdown", "drop", "wait"] {
            let mut child = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            // Each line is answered before the next one is written.
            for line in ["one", "two"] {
                stdin.write_all(format!("{line}\n").as_bytes()).await.unwrap();
                stdin.flush().await.unwrap();
                assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(line));
            }
            stdin.write_all(b"last").await.unwrap();
            match how {
                "shutdown" => {
                    stdin.shutdown().await.unwrap();
                    // A second shutdown is a no-op, and writes fail.
                    stdin.shutdown().await.unwrap();
                    let error = stdin.write_all(b"more").await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
                    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("last"), "{how}");
                }
                "drop" => {
                    drop(stdin);
                    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("last"), "{how}");
                }
                _ => child.stdin = Some(stdin),
            }
            assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0), "{how}");
            if how == "wait" {
                assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("last"), "{how}");
            }
            assert_eq!(lines.next_line().await.unwrap(), None, "{how}");
        }
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn absent_input_is_end_of_file_at_once() {
    with_shared(exec_via(), async |c| {
        for stdin in [None, Some(Stdio::null()), Some(Stdio::from("")), Some(Stdio::piped())] {
            let mut command = c.command("sh");
            command.args(["-c", "cat; echo end"]);
            let shown = format!("{stdin:?}");
            if let Some(stdin) = stdin {
                command.stdin(stdin);
            }
            let out = command.output().await.unwrap();
            assert_eq!(
                (out.status, out.stdout_lossy()),
                (ExitStatus::Exited(0), "end\n".into()),
                "{shown}"
            );
        }
    })
    .await;
}

#[tokio::test]
async fn input_bytes_can_have_any_value() {
    with_shared(exec_via(), async |c| {
        let all: Vec<u8> = (0..=255).collect();
        let out = c.command("cat").stdin(all.clone()).output().await.unwrap();
        assert_eq!(out.stdout, all);
    })
    .await;
}

#[tokio::test]
async fn streams_implement_the_traits_of_tokio() {
    with_shared(exec_via(), async |c| {
        let mut child = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let data = pattern().repeat(20);
        let feed = async {
            let copied = tokio::io::copy(&mut &data[..], &mut stdin).await.unwrap();
            drop(stdin);
            copied
        };
        let mut back = Vec::new();
        let (fed, read) = tokio::join!(feed, tokio::io::copy(&mut stdout, &mut back));
        assert_eq!((fed, read.unwrap()), (data.len() as u64, data.len() as u64));
        assert!(back == data);
        assert!(child.wait().await.unwrap().success());

        let mut child = c.command("seq").arg("5000").spawn().await.unwrap();
        let mut lines = FramedRead::new(child.stdout.take().unwrap(), LinesCodec::new());
        let mut expected = 1..=5000;
        while let Some(line) = lines.next().await {
            assert_eq!(line.unwrap(), expected.next().unwrap().to_string());
        }
        assert_eq!(expected.next(), None);
        assert!(child.wait().await.unwrap().success());

        // Each stream moves to a task of its own.
        let mut child = c
            .command("sh")
            .args(["-c", "cat >&2; echo out"])
            .stdin(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let writer = tokio::spawn(async move { stdin.write_all(b"in").await });
        let out = tokio::spawn(async move {
            {
                let mut text = String::new();
                stdout.read_to_string(&mut text).await.map(|_| text)
            }
        });
        let err = tokio::spawn(async move {
            {
                let mut text = String::new();
                stderr.read_to_string(&mut text).await.map(|_| text)
            }
        });
        writer.await.unwrap().unwrap();
        assert_eq!(out.await.unwrap().unwrap(), "out\n");
        assert_eq!(err.await.unwrap().unwrap(), "in");
        assert!(child.wait().await.unwrap().success());
    })
    .await;
}
