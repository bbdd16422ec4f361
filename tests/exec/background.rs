//! Commands that go on in the background of a lease.

use std::sync::Arc;

use crate::support::{eventually_now, pool};
use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::{BackgroundCommand, Command, CommandState, Error, ExecVia, ExitStatus, Pool, Signal, Stdio};

const BOTH: [ExecVia; 2] = [ExecVia::Docker, ExecVia::Agent];

const KEPT: usize = BackgroundCommand::KEPT_OUTPUT;

#[tokio::test]
async fn a_lease_finds_its_commands_in_the_background() {
    for via in BOTH {
        let pool = pool("background").max_total(1).exec_via(via).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        assert!(c.commands().is_empty());
        let mut cat = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
        let stdin = cat.stdin.take();
        let cat = cat.detach();
        let script = "echo out; echo err >&2; exit 3";
        let short = c.command("sh").args(["-c", script]).spawn().await.unwrap().detach();
        let missing = c.command("no-such-program").spawn().await.unwrap().detach();
        assert_eq!([cat, short, missing].map(|id| id.to_string()), ["1", "2", "3"]);

        let short = c.background(short).unwrap();
        assert_eq!(short.wait().await.unwrap(), ExitStatus::Exited(3));
        assert_eq!(short.wait().await.unwrap(), ExitStatus::Exited(3), "the same again");
        let mut output: Vec<_> = short.output_lossy().lines().map(str::to_owned).collect();
        // The order of both outputs is not known so exactly.
        output.sort();
        assert_eq!((output, short.printed()), (vec!["err".to_owned(), "out".to_owned()], 8));
        let error = c.background(missing).unwrap().wait().await.unwrap_err();
        assert!(matches!(error, Error::CannotStart { .. }), "{error:?}");
        let seen: Vec<_> = c
            .commands()
            .iter()
            .map(|it| (it.program().to_owned(), it.state()))
            .collect();
        assert_eq!(
            seen,
            [
                ("cat".to_owned(), CommandState::Running),
                ("sh".to_owned(), CommandState::Ended(ExitStatus::Exited(3))),
                ("no-such-program".to_owned(), CommandState::Failed),
            ]
        );
        // Its standard input is the owner's still.
        drop(stdin);
        let cat = c.background(cat).unwrap();
        assert_eq!(cat.wait().await.unwrap(), ExitStatus::Exited(0));
        drop((cat, short));
        drop(c);

        let c = pool.acquire().await.unwrap();
        assert!(c.commands().is_empty(), "another lease");
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn commands_in_the_background_can_be_ended() {
    for via in BOTH {
        let pool = pool("background-ends")
            .max_total(1)
            .exec_via(via)
            .build()
            .await
            .unwrap();
        let lease = pool.acquire().await.unwrap();
        let mut command = Command::new("sleep");
        let (lease, id) = command.arg("1000").spawn_owned(lease).await.unwrap().detach();
        let sleep = lease.background(id).unwrap();
        let sent = sleep.signal(Signal::TERM).await;
        if via == ExecVia::Agent {
            sent.unwrap();
            assert_eq!(sleep.wait().await.unwrap(), ExitStatus::Signaled(15));
            let id = lease.command("sleep").arg("1000").spawn().await.unwrap().detach();
            let sleep = lease.background(id).unwrap();
            let status = sleep.stop(Signal::INT, std::time::Duration::from_secs(60)).await;
            assert_eq!(status.unwrap(), ExitStatus::Signaled(2));
            let id = lease.command("sleep").arg("1000").spawn().await.unwrap().detach();
            assert_eq!(lease.background(id).unwrap().kill().await.unwrap(), ExitStatus::Killed);
            assert_eq!(lease.taint(), None);
        } else {
            assert!(matches!(sent, Err(Error::Unsupported { .. })), "{sent:?}");
            assert_eq!(sleep.kill().await.unwrap(), ExitStatus::Killed);
        }
        drop(lease);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn the_end_of_much_output_is_kept_and_its_reader_does_not_hold_up_the_command() {
    for via in BOTH {
        let pool = pool("background-tail")
            .max_total(1)
            .exec_via(via)
            .build()
            .await
            .unwrap();
        let c = pool.acquire().await.unwrap();
        let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end";
        let id = c.command("sh").args(["-c", script]).spawn().await.unwrap().detach();
        let command = c.background(id).unwrap();
        assert_eq!(command.wait().await.unwrap(), ExitStatus::Exited(0));
        let output = command.output();
        assert_eq!((output.len(), command.printed()), (KEPT, 3_000_009), "{via:?}");
        assert!(output.ends_with(b"xxx\nthe end\n"));
        drop(command);
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn the_next_lease_of_a_key_finds_them_and_no_other_lease() {
    let pool = pool("background-keys")
        .max_total(1)
        .exec_via(ExecVia::Agent)
        .build()
        .await
        .unwrap();
    let c = pool.acquire_for("session").await.unwrap();
    let id = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap().detach();
    drop(c);
    let c = pool.acquire_for("session").await.unwrap();
    assert!(c.is_resumed());
    let cat = c.background(id).unwrap();
    eventually_now("its input has ended", || cat.state() != CommandState::Running).await;
    assert_eq!(cat.wait().await.unwrap(), ExitStatus::Exited(0));
    drop(cat);
    drop(c);
    let c = pool.acquire().await.unwrap();
    assert!(c.commands().is_empty());
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_oldest_that_have_ended_are_forgotten_and_none_that_runs() {
    let engine = FakeEngine::new();
    engine.on_exec(|request| match &*request.argv[0] {
        "server" => FakeProcess::forever(),
        _ => FakeProcess::exit(0),
    });
    let pool = Pool::builder("background").image("any").engine(Arc::new(engine));
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let server = c.command("server").spawn().await.unwrap().detach();
    for _ in 0..70 {
        let id = c.command("short").spawn().await.unwrap().detach();
        assert!(c.background(id).unwrap().wait().await.unwrap().success());
    }
    let ids: Vec<_> = c.commands().iter().map(|command| command.id().to_string()).collect();
    let expected: Vec<_> = std::iter::once(1).chain(8..=71).map(|id: u32| id.to_string()).collect();
    assert_eq!(ids, expected);
    assert_eq!(c.background(server).unwrap().state(), CommandState::Running);
}
