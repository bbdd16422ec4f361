//! A pausing relay between the library and the engine: output is whole or reported as incomplete, for every kind of
//! reader.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use dockerpool::{DockerEngine, Endpoint, Error, ExecVia, ExitStatus, PooledContainer};
use tokio::io::AsyncReadExt;

use crate::proxy::{Proxy, Relay};
use crate::support::pool;

const SIZE: usize = 150_000;

async fn through(relay: Relay, run: impl AsyncFnOnce(&PooledContainer)) {
    let proxy = Proxy::slow(relay).await;
    let endpoint = Endpoint::tcp(proxy.address.to_string());
    let engine = DockerEngine::connect_to(endpoint).await.unwrap();
    let builder = pool("relay").engine(Arc::new(engine)).exec_via(ExecVia::Docker);
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    run(&c).await;
    drop(c);
    pool.shutdown().await.unwrap();
}

/// Returns the arguments of a shell that prints `SIZE` bytes and exits with this code.
fn script(code: i32) -> [String; 2] {
    ["-c".to_owned(), format!("head -c {SIZE} /dev/zero; exit {code}")]
}

#[tokio::test]
async fn output_through_a_pausing_relay_is_whole() {
    let [none, pause, long] = [0, 400, 1500].map(Duration::from_millis);
    for (after, pause, then) in [
        // The pause comes before any output, in the middle, and right before the end.
        (1, pause, none),
        (32_768, pause, none),
        (SIZE - 1000, pause, none),
        // The pause is longer than the wait before the engine is asked for the exit code. In the last case, the rest
        // comes slowly.
        (32_768, long, none),
        (32_768, pause, Duration::from_millis(60)),
    ] {
        let relay = Relay {
            after,
            pause: Some(pause),
            then,
        };
        through(relay, async |c| {
            for code in [0, 3] {
                let out = c.command("sh").args(script(code)).output().await.unwrap();
                assert_eq!(
                    (out.status, out.stdout.len()),
                    (ExitStatus::Exited(code), SIZE),
                    "{relay:?}"
                );
            }
            assert_eq!(c.taint(), None);
        })
        .await;
    }
}

#[tokio::test]
async fn incomplete_output_is_reported_to_every_kind_of_reader() {
    let relay = Relay {
        after: 100_000,
        pause: None,
        then: Duration::ZERO,
    };
    through(relay, async |c| {
        let output = async {
            for (code, status) in [(0, ExitStatus::Incomplete(0)), (3, ExitStatus::Incomplete(3))] {
                let out = c.command("sh").args(script(code)).output().await.unwrap();
                assert_eq!((out.status, out.incomplete, out.truncated), (status, true, false));
                assert!(!out.status.success() && out.status.code().is_none());
                assert!(!out.stdout.is_empty() && out.stdout.len() < 100_000);
                let error = out.check().unwrap_err();
                assert!(error.to_string().contains("the end of its output missing"), "{error}");
            }
        };
        let reader = async {
            let mut child = c.command("sh").args(script(0)).spawn().await.unwrap();
            let mut data = Vec::new();
            let error = child.stdout.take().unwrap().read_to_end(&mut data).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
            assert!(!data.is_empty());
            assert_eq!(child.wait().await.unwrap(), ExitStatus::Incomplete(0));
        };
        let lines = async {
            let script = format!("yes | head -c {SIZE}");
            let mut lines = c.command("sh").args(["-c", &script]).lines().await.unwrap();
            let error = loop {
                match lines.next_line().await {
                    Ok(line) => assert_eq!(line.as_deref(), Some("y")),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, Error::Read { source, .. } if source.kind() == ErrorKind::UnexpectedEof));
            assert_eq!(lines.wait().await.unwrap(), ExitStatus::Incomplete(0));
        };
        let copied = async {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            let mut command = c.command("sh");
            let status = command.args(script(0)).run_to(&mut out, &mut err).await.unwrap();
            assert_eq!(status, ExitStatus::Incomplete(0));
            assert!(!out.is_empty());
        };
        // If the output is not read, none of it is missing.
        let status = async {
            let mut command = c.command("sh");
            let status = command.args(script(3)).status().await.unwrap();
            assert_eq!(status, ExitStatus::Exited(3));
        };
        tokio::join!(output, reader, lines, copied, status);
        // The command has ended in all cases.
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn late_output_does_not_time_out_a_command_that_ended_in_time() {
    let relay = Relay {
        after: 1000,
        pause: Some(Duration::from_secs(4)),
        then: Duration::ZERO,
    };
    through(relay, async |c| {
        let limit = Duration::from_secs(2);
        let out = c.command("sh").args(script(3)).timeout(limit).output().await.unwrap();
        assert_eq!((out.status, out.stdout.len()), (ExitStatus::Exited(3), SIZE));
        let mut command = c.command("sh");
        let out = command.args(script(3)).idle_timeout(limit).output().await.unwrap();
        assert_eq!((out.status, out.stdout.len()), (ExitStatus::Exited(3), SIZE));
        assert_eq!(c.taint(), None);
    })
    .await;
}
