//! Owned children, which keep the guard of their container.

use std::sync::Arc;

use crate::support::{MARK, eventually_now, pool, processes, unique_mark};
use dockerpool::{Command, Error, ExecVia, ExitStatus, Guard, OwnedChild, Pool, PooledContainer, Stdio, Taint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOTH: [ExecVia; 2] = [ExecVia::Docker, ExecVia::Agent];

async fn pool_of_one(name: &str, via: ExecVia) -> Pool {
    pool(name).max_total(1).exec_via(via).build().await.unwrap()
}

/// Starts a command that never ends by itself. Returns the child and the mark of its processes.
async fn forever<G: Guard>(guard: G) -> (OwnedChild<G>, String) {
    let mark = unique_mark();
    let mut command = Command::new("sh");
    command
        .args(["-c", "(sleep 1000; true) & sleep 1000; true"])
        .env(MARK, &mark);
    let child = command.spawn_owned(guard).await.unwrap();
    eventually_now("the command runs", || !processes(&mark).is_empty()).await;
    (child, mark)
}

#[tokio::test]
async fn an_owned_child_moves_to_another_task_and_returns_its_guard() {
    for via in BOTH {
        let pool = pool_of_one("owned", via).await;
        let lease = pool.acquire().await.unwrap();
        let id = lease.id().to_owned();
        let mut command = Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).spawn_owned(lease).await.unwrap();
        let task = tokio::spawn(async move {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(b"there and back").await.unwrap();
            stdin.shutdown().await.unwrap();
            let mut read = String::new();
            child.stdout.as_mut().unwrap().read_to_string(&mut read).await.unwrap();
            (read, child.wait().await.unwrap(), child.into_guard())
        });
        let (read, status, lease) = task.await.unwrap();
        assert_eq!((&*read, status), ("there and back", ExitStatus::Exited(0)));
        assert_eq!((lease.id(), lease.taint(), pool.in_use()), (&*id, None, 1));
        // Both the command and the container can be used again.
        let child = command.stdin("again").spawn_owned(lease).await.unwrap();
        assert_eq!(child.wait_with_output().await.unwrap().stdout, b"again");
        assert_eq!(pool.acquire().await.unwrap().id(), id);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_owned_child_ends_its_command_and_then_returns_the_container() {
    for via in BOTH {
        let pool = pool_of_one("owned-dropped", via).await;
        let lease = pool.acquire().await.unwrap();
        let id = lease.id().to_owned();
        let (child, mark) = forever(lease).await;
        drop(child);
        // The pool has one container, so an acquire waits until the guard is back.
        let next = pool.acquire().await.unwrap();
        assert_eq!(processes(&mark), [0; 0], "{via:?}");
        assert_eq!(
            next.id() == id,
            via == ExecVia::Agent,
            "ended alone, or with its container"
        );
        assert_eq!(next.taint(), None);
        drop(next);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn children_share_a_guard_and_the_last_one_ends_the_lease() {
    for via in BOTH {
        let pool = pool_of_one("owned-shared", via).await;
        let lease = Arc::new(pool.acquire().await.unwrap());
        // The command runs in the container of the guard, whatever container it was created from.
        let mut first = lease.command("true").spawn_owned(lease.clone()).await.unwrap();
        let mut second = Command::new("sh")
            .args(["-c", "read line; echo $line"])
            .stdin(Stdio::piped())
            .spawn_owned(lease)
            .await
            .unwrap();
        assert!(first.wait().await.unwrap().success());
        drop(first);
        assert_eq!(pool.in_use(), 1);
        assert!(second.guard().command("true").status().await.unwrap().success());
        let mut stdin = second.stdin.take().unwrap();
        stdin.write_all(b"still here\n").await.unwrap();
        assert_eq!(second.wait_with_output().await.unwrap().stdout, b"still here\n");
        assert_eq!(pool.in_use(), 0);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_can_be_started_and_awaited_later() {
    for via in BOTH {
        let pool = pool_of_one("owned-kill", via).await;
        let (mut child, mark) = forever(pool.acquire().await.unwrap()).await;
        assert_eq!(child.try_wait().unwrap(), None);
        child.start_kill();
        child.start_kill();
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Killed);
        assert_eq!(processes(&mark), [0; 0]);
        let lease: PooledContainer = child.into_guard();
        assert_eq!(lease.taint(), (via == ExecVia::Docker).then_some(Taint::Killed));
        drop(lease);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_detached_command_runs_on_while_the_guard_is_used() {
    for via in BOTH {
        let pool = pool_of_one("owned-detached", via).await;
        let (child, mark) = forever(pool.acquire().await.unwrap()).await;
        let (lease, _) = child.detach();
        assert!(lease.command("true").status().await.unwrap().success());
        assert!(!processes(&mark).is_empty());
        let id = lease.id().to_owned();
        drop(lease);
        assert_ne!(pool.acquire().await.unwrap().id(), id);
        eventually_now("the command has ended with its container", || {
            processes(&mark).is_empty()
        })
        .await;
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_cannot_run_returns_its_guard_to_the_pool() {
    let pool = pool_of_one("owned-bad", ExecVia::Agent).await;
    let lease = pool.acquire().await.unwrap();
    let id = lease.id().to_owned();
    let error = Command::new("").spawn_owned(lease).await.unwrap_err();
    assert!(
        matches!(&error, Error::BadCommand { problem, .. } if problem.field() == "program"),
        "{error:?}"
    );
    assert_eq!(pool.in_use(), 0);
    let lease = pool.acquire().await.unwrap();
    assert_eq!(lease.id(), id);
    let mut child = Command::new("no-such-program").spawn_owned(lease).await.unwrap();
    let error = child.wait().await.unwrap_err();
    assert!(matches!(error, Error::CannotStart { .. }), "{error:?}");
    assert_eq!(
        (error.pool(), error.program()),
        (Some(pool.name()), Some("no-such-program"))
    );
    drop(child);
    assert_eq!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}
