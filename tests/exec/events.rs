//! Both outputs of a command and its end as one stream.

use crate::support::{pool, with_shared};
use dockerpool::{Command, Error, Event, EventLines, Events, ExecVia, ExitStatus, Signal, Stdio, Taint};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncWriteExt;

const BOTH: [ExecVia; 2] = [ExecVia::Docker, ExecVia::Agent];

/// Takes all events. Returns the lines of each output, and the end.
async fn drain<G>(mut lines: EventLines<'_, G>) -> ([Vec<String>; 2], ExitStatus) {
    let mut outputs = [Vec::new(), Vec::new()];
    let mut end = None;
    while let Some(event) = lines.next().await {
        assert_eq!(end, None, "nothing comes after the end");
        match event.unwrap() {
            Event::Stdout(line) => outputs[0].push(line),
            Event::Stderr(line) => outputs[1].push(line),
            Event::Exit(status) => end = Some(status),
            other => panic!("{other:?}"),
        }
    }
    (outputs, end.unwrap())
}

#[tokio::test]
async fn events_come_while_the_command_runs_and_end_with_its_exit() {
    for via in BOTH {
        with_shared(via, async |c| {
            // The next line is written when the one before was seen.
            let script = "echo a; read x; echo b >&2; read x; echo c; read x; printf d >&2; exit 3";
            let mut child = c
                .command("sh")
                .args(["-c", script])
                .stdin(Stdio::piped())
                .spawn()
                .await
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let mut lines = child.events().lines();
            for expected in [
                Event::Stdout("a"),
                Event::Stderr("b"),
                Event::Stdout("c"),
                Event::Stderr("d"),
                Event::Exit(ExitStatus::Exited(3)),
            ] {
                let event = lines.next().await.unwrap().unwrap();
                assert_eq!(event.to_sse(), expected.to_sse(), "{via:?}");
                let _ = stdin.write_all(b"\n").await;
            }
            assert!(lines.next().await.is_none() && lines.next().await.is_none());
            assert!(lines.into_child().wait().await.unwrap() == ExitStatus::Exited(3));
        })
        .await;
    }
}

#[tokio::test]
async fn large_outputs_come_whole_through_one_stream() {
    for via in BOTH {
        with_shared(via, async |c| {
            let script = "seq 30000 & seq 30000 >&2; wait";
            let child = c.command("sh").args(["-c", script]).spawn().await.unwrap();
            let ([stdout, stderr], status) = drain(child.events().lines()).await;
            let expected: Vec<_> = (1..=30_000).map(|i: u32| i.to_string()).collect();
            assert!(
                stdout == expected && stderr == expected,
                "{via:?} {} {}",
                stdout.len(),
                stderr.len()
            );
            assert_eq!(status, ExitStatus::Exited(0));
        })
        .await;
    }
}

#[tokio::test]
async fn limits_and_commands_that_do_not_start_are_told_at_the_end() {
    for via in BOTH {
        with_shared(via, async |c| {
            let mut command = c.command("sh");
            command.args(["-c", "yes & yes >&2"]).output_limit(1000);
            let mut events = command.spawn().await.unwrap().events();
            let (mut printed, mut end) = (0, None);
            while let Some(event) = events.next().await {
                match event.unwrap() {
                    Event::Stdout(data) | Event::Stderr(data) => printed += data.len(),
                    Event::Exit(status) => end = Some(status),
                    other => panic!("{other:?}"),
                }
            }
            let limit = ExitStatus::OutputLimit {
                limit: 1000,
                is_default: false,
            };
            assert_eq!((printed, end), (1000, Some(limit)), "{via:?}");
            assert!(events.is_truncated());
        })
        .await;
        with_shared(via, async |c| {
            let missing = c.command("no-such-program").spawn().await.unwrap();
            let events: Vec<_> = missing.events().collect().await;
            assert!(matches!(&*events, [Err(Error::CannotStart { .. })]), "{events:?}");

            // Outputs that were taken out, or that are null, are missing.
            let mut command = c.command("sh");
            command.args(["-c", "echo out; echo err >&2"]);
            let mut child = command.spawn().await.unwrap();
            drop(child.stdout.take());
            let (outputs, status) = drain(child.events().lines()).await;
            assert_eq!(
                (outputs, status),
                ([vec![], vec!["err".to_owned()]], ExitStatus::Exited(0))
            );
            let child = command.stderr(Stdio::null()).spawn().await.unwrap();
            let (outputs, _) = drain(child.events().lines()).await;
            assert_eq!(outputs, [vec!["out".to_owned()], vec![]]);
        })
        .await;
    }
}

#[tokio::test]
async fn events_of_an_owned_child_hold_its_guard() {
    for via in BOTH {
        let pool = pool("events-owned").max_total(1).exec_via(via).build().await.unwrap();
        let lease = pool.acquire().await.unwrap();
        let id = lease.id().to_owned();
        let child = Command::new("echo").arg("hello").spawn_owned(lease).await.unwrap();
        let mut events: Events<'static, _> = child.events();
        let task = tokio::spawn(async move {
            let printed: Vec<_> = (&mut events).try_collect().await.unwrap();
            (printed, events.into_child().into_guard())
        });
        let (printed, lease) = task.await.unwrap();
        assert!(matches!(
            &*printed,
            [Event::Stdout(_), .., Event::Exit(ExitStatus::Exited(0))]
        ));
        assert_eq!((lease.id(), pool.in_use()), (&*id, 1));

        // Dropping them ends the command, and then the container is lent again or replaced.
        let mut events = Command::new("yes").spawn_owned(lease).await.unwrap().events();
        assert!(matches!(events.next().await, Some(Ok(Event::Stdout(_)))));
        drop(events);
        let next = pool.acquire().await.unwrap();
        assert_eq!(next.id() == id, via == ExecVia::Agent);
        drop(next);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_stop_by_the_exec_api_kills_the_container_at_once() {
    let pool = pool("stop-docker")
        .exec_via(ExecVia::Docker)
        .max_total(1)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let mut child = c.command("sleep").arg("1000").spawn().await.unwrap();
    for error in [child.signal(Signal::TERM).await, child.signal_group(Signal::TERM).await] {
        assert!(matches!(error, Err(Error::Unsupported { .. })), "{error:?}");
    }
    let grace = std::time::Duration::from_secs(1000);
    assert!(matches!(child.stop(0, grace).await, Err(Error::BadCommand { .. })));
    assert_eq!(c.taint(), None);
    assert_eq!(child.stop(Signal::TERM, grace).await.unwrap(), ExitStatus::Killed);
    assert_eq!(c.taint(), Some(Taint::Killed));
    drop(child);
    drop(c);
    pool.shutdown().await.unwrap();
}
