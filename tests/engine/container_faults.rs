//! Containers that another client removes, kills, stops or pauses, idle or lent, or that run out of memory. The pool
//! notices by itself and is whole again soon.

use std::time::{Duration, Instant};

use crate::support::{MARK, containers_of, engine, eventually_now, pool, processes, unique_mark};
use dockerpool::engine::{EventKind, Lifecycle, Observation, Pausing, Selector};
use dockerpool::{Container, DockerEngine, Error, ExitStatus, Output, Pool, Running, Taint};
use futures_util::StreamExt;
use futures_util::future::join_all;

/// The promise is that a death is noticed within 100 ms. This bound is ten times as long.
const SEEN: Duration = Duration::from_secs(1);

/// Lists what another client can do to a container.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Remove,
    Kill,
    Stop,
    Pause,
}

const FAULTS: [Fault; 4] = [Fault::Remove, Fault::Kill, Fault::Stop, Fault::Pause];

impl Fault {
    async fn happen(self, engine: &DockerEngine, id: &str) {
        let happened = match self {
            Self::Remove => engine.remove(id).await,
            Self::Kill => engine.kill(id).await,
            Self::Stop => engine.stop(id, Duration::from_secs(1)).await,
            Self::Pause => engine.pause(id).await,
        };
        happened.unwrap();
    }
}

/// Asserts that all containers can be acquired at once and run commands, and that nothing is left after the shutdown.
async fn assert_whole_to_the_end(engine: &DockerEngine, pool: Pool, gone: &[String]) {
    let total = pool.status().max_total;
    let all = join_all((0..total).map(|_| pool.acquire())).await;
    for c in &all {
        let c = c.as_ref().unwrap();
        assert!(!gone.iter().any(|id| id == c.id()));
        assert!(c.command("true").status().await.unwrap().success());
        assert_eq!(pool.status().total(), total);
    }
    drop(all);
    pool.shutdown().await.unwrap();
    assert_eq!(pool.status().total(), 0);
    assert_eq!(containers_of(engine, &pool).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_containers_hit_by_another_client_are_noticed_by_events_and_replaced() {
    let engine = engine().await;
    let pool = pool("idle-faults").min_idle(2).max_total(2).build().await.unwrap();
    let mut gone = Vec::new();
    for fault in FAULTS {
        eventually_now("all are up", || pool.status().idle == 2).await;
        let id = pool.acquire().await.unwrap().id().to_owned();
        let (called, idle) = (Instant::now(), async {
            eventually_now("the fault is noticed", || pool.status().idle < 2).await;
            Instant::now()
        });
        let happened = async {
            fault.happen(&engine, &id).await;
            Instant::now()
        };
        let (seen, happened) = tokio::join!(idle, happened);
        eventually_now("the container is replaced", || pool.status().idle == 2).await;
        println!(
            "{fault:?} of an idle container: the call took {:.1?}, it was seen after {:.1?} and replaced after {:.1?}",
            happened - called,
            seen - called,
            called.elapsed()
        );
        let seen = seen.saturating_duration_since(happened);
        assert!(seen < SEEN, "{fault:?}: {seen:?}");
        gone.push(id);
    }
    assert_whole_to_the_end(&engine, pool, &gone).await;
}

/// Asserts the outcome of a command whose container met a fault.
fn assert_told(fault: Fault, c: &Container<Running>, result: Result<Output, Error>) {
    match result {
        Ok(output) => match fault {
            // A paused command does not go on, so its own timeout ends it.
            Fault::Pause => assert!(matches!(output.status, ExitStatus::TimedOut), "{output:?}"),
            _ => assert!(
                matches!(
                    output.status,
                    ExitStatus::ContainerGone { .. } | ExitStatus::Signaled(9)
                ),
                "{output:?}"
            ),
        },
        Err(error) => {
            assert_eq!(error.container(), Some(c.name()), "{error:?}");
            assert!(error.is_retryable(), "{error:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lent_containers_hit_by_another_client_fail_their_commands_and_are_replaced() {
    let engine = engine().await;
    let pool = pool("loan-faults").max_total(FAULTS.len()).build().await.unwrap();
    let broken = FAULTS.map(async |fault| {
        let c = pool.acquire().await.unwrap();
        let id = c.id().to_owned();
        let mark = unique_mark();
        let mut command = c.command("sh");
        let command = command
            .args(["-c", "exec sleep 1000"])
            .env(MARK, &mark)
            .timeout(Duration::from_secs(10))
            .output();
        let fault_in_the_middle = async {
            eventually_now("the command runs", || !processes(&mark).is_empty()).await;
            fault.happen(&engine, &id).await;
        };
        let (result, ()) = tokio::join!(command, fault_in_the_middle);
        assert_told(fault, &c, result);
        // Later commands fail in the same way.
        if !matches!(fault, Fault::Pause) {
            let error = c.command("true").output().await.unwrap_err();
            assert!(matches!(&error, Error::ContainerGone { .. }), "{fault:?}: {error:?}");
            assert!(c.taint().is_some());
        }
        id
    });
    let gone = join_all(broken).await;
    assert_whole_to_the_end(&engine, pool, &gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_paused_while_lent_is_not_lent_again() {
    let engine = engine().await;
    let pool = pool("paused").max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let mut events = engine.events(&Selector::id(&*id), None);
    let (_, event) = tokio::join!(engine.pause(&id), events.next());
    assert_eq!(event.unwrap().unwrap().kind, EventKind::Paused);
    // The lease stays clean, since its owner may unpause the container and go on.
    assert_eq!(c.taint(), None);
    drop(c);
    eventually_now("the container is taken out of the pool", || pool.status().total() == 0).await;
    assert_whole_to_the_end(&engine, pool, &[id]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_runs_out_of_memory_reports_it_and_is_not_lent_again() {
    let engine = engine().await;
    let pool = pool("memory").memory(16 << 20).max_total(2).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let output = c.command("tail").arg("/dev/zero").output().await.unwrap();
    assert_eq!(output.status, ExitStatus::OutOfMemory { exit: None });
    assert_eq!(c.taint(), Some(Taint::OutOfMemory));
    drop(c);
    assert_whole_to_the_end(&engine, pool, &[id]).await;
}
