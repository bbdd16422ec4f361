//! Starts of commands by the exec API of a real engine: commands that cannot start, containers that end or are
//! unpaused at that moment, and containers without processes left.

use std::time::Duration;

use crate::support::{engine, pool, with_shared};
use dockerpool::engine::{Lifecycle, Pausing};
use dockerpool::{EngineErrorKind, Error, ExecVia, Pool, PooledContainer, Taint};

async fn by_engine(name: &str) -> Pool {
    pool(name).exec_via(ExecVia::Docker).max_total(1).build().await.unwrap()
}

/// Runs a script that must succeed.
async fn sh(c: &PooledContainer, script: &str) {
    let out = c.exec(["sh", "-c", script]).await.unwrap();
    assert!(out.status.success(), "{script}: {out:?}");
}

#[tokio::test]
async fn a_command_that_cannot_start_is_an_error_with_and_without_a_terminal_and_costs_no_container() {
    with_shared(ExecVia::Docker, async |c| {
        sh(
            c,
            "ln -s a /tmp/b; ln -s b /tmp/a; echo x >/tmp/plain; mkdir -p /tmp/dir",
        )
        .await;
        let long = format!("/{}", "n".repeat(300));
        for tty in [false, true] {
            for (program, directory, user) in [
                ("no-such-program", None, None),
                ("/no/such/program", None, None),
                // A loop of links, a name that is too long, a directory, and a file that is not executable.
                ("/tmp/a", None, None),
                (&*long, None, None),
                ("/tmp/dir", None, None),
                ("/tmp/plain", None, None),
                ("/tmp/plain/below", None, None),
                ("true", Some("/no/such/dir"), None),
                ("true", Some("/tmp/plain"), None),
                ("true", Some("/tmp/a"), None),
                ("true", None, Some("nobody-of-this-name")),
                ("true", None, Some("0:no-group-of-this-name")),
                ("true", None, Some("4294967295")),
            ] {
                let mut command = c.command(program);
                if let Some(directory) = directory {
                    command.current_dir(directory);
                }
                if let Some(user) = user {
                    command.user(user);
                }
                if tty {
                    command.tty(24, 80);
                }
                let what = format!("{tty} {program} {directory:?} {user:?}");
                let result = command.output().await;
                assert!(matches!(result, Err(Error::CannotStart { .. })), "{what}: {result:?}");
                assert_eq!(c.taint(), None, "{what}: {result:?}");
            }
        }
        assert!(c.command("true").status().await.unwrap().success());
    })
    .await;
}

#[tokio::test]
async fn a_container_killed_as_a_command_begins_is_gone() {
    // In each round, the kill comes at another moment.
    const ROUNDS: u32 = 40;
    let engine = engine().await;
    let pool = by_engine("killed").await;
    let mut began = 0;
    for round in 0..ROUNDS {
        let c = pool.acquire().await.unwrap();
        let id = c.id().to_owned();
        let kill = async {
            tokio::time::sleep(Duration::from_millis(3) * round).await;
            engine.kill(&id).await.unwrap();
        };
        let mut command = c.command("sleep");
        let (result, ()) = tokio::join!(command.arg("1000").output(), kill);
        match &result {
            Ok(out) if out.status.is_container_gone() => began += 1,
            Err(Error::ContainerGone { .. }) => {}
            _ => panic!("{round}: {result:?}"),
        }
        if let Ok(out) = &result {
            assert_eq!((&*out.stdout_lossy(), &*out.stderr_lossy()), ("", ""), "{round}");
        }
        assert_eq!(c.taint(), Some(Taint::Died), "{round}: {result:?}");
    }
    println!("{began} of {ROUNDS} had begun");
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_without_processes_left_for_a_command_reports_it() {
    let builder = pool("full").exec_via(ExecVia::Docker).pids_limit(12).max_total(1);
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    // The children take almost all processes, for longer than the test.
    let fill = "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo full; wait";
    let mut filler = c.command("sh");
    let mut filler = filler
        .args(["-c", fill])
        .stdout(dockerpool::Stdio::piped())
        .stderr(dockerpool::Stdio::null())
        .spawn()
        .await
        .unwrap();
    let mut told = [0; 1];
    let stdout = filler.stdout.as_mut().unwrap();
    // When no process is left, the shell fails and closes its output. Its children live on.
    let _ = tokio::io::AsyncReadExt::read(stdout, &mut told).await.unwrap();
    let mut refused = 0;
    for round in 0..20 {
        match c.command("true").output().await {
            Ok(out) => assert!(out.stdout.is_empty() && out.stderr.is_empty(), "{round}: {out:?}"),
            Err(error) => {
                assert_eq!(
                    error.engine_error().map(dockerpool::EngineError::kind),
                    Some(EngineErrorKind::Exhausted),
                    "{round}: {error:?}"
                );
                assert_eq!(c.taint(), Some(Taint::Exhausted), "{round}: {error:?}");
                refused += 1;
            }
        }
    }
    println!("{refused} of 10 were refused");
    drop(filler);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_that_ends_during_its_unpause_is_no_failure_of_the_engine() {
    let engine = engine().await;
    let pool = by_engine("unpaused").await;
    for round in 0..10 {
        let c = pool.acquire().await.unwrap();
        engine.pause(c.id()).await.unwrap();
        let id = c.id().to_owned();
        let (unpaused, killed) = tokio::join!(engine.unpause(&id), engine.kill(&id));
        if let Err(error) = &unpaused {
            assert!(
                matches!(error.kind(), EngineErrorKind::Conflict | EngineErrorKind::NotFound),
                "{round}: {error:?}"
            );
        }
        killed.unwrap();
        drop(c);
    }
    pool.shutdown().await.unwrap();
}
