//! Returns: which containers are lent again, and which are not.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{containers_of, engine, eventually, eventually_now, pool};
use dockerpool::testing::{Call, FakeEngine, FakeProcess};
use dockerpool::{ExecVia, ExitStatus, Pool, PoolBuilder, Reuse, Taint};

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("return")
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
}

#[tokio::test]
async fn a_clean_container_is_lent_again_unchanged() {
    let pool = pool("return").build().await.unwrap();
    let first = {
        let c = pool.acquire().await.unwrap();
        assert!(c.command("touch").arg("/tmp/mark").status().await.unwrap().success());
        c.id().to_owned()
    };
    let c = pool.acquire().await.unwrap();
    assert_eq!(c.id(), first);
    // `Reuse::AsIs` keeps files.
    assert!(
        c.command("test")
            .args(["-f", "/tmp/mark"])
            .status()
            .await
            .unwrap()
            .success()
    );
    drop(c);
    assert_eq!(containers_of(&*engine().await, &pool).await, 1);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn reuse_never_gives_each_lease_a_fresh_container() {
    let pool = pool("never").reuse(Reuse::Never).max_total(1).build().await.unwrap();
    let first = {
        let c = pool.acquire().await.unwrap();
        assert!(c.command("touch").arg("/tmp/mark").status().await.unwrap().success());
        c.id().to_owned()
    };
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), first);
    assert_eq!(
        c.command("test").args(["-f", "/tmp/mark"]).status().await.unwrap(),
        ExitStatus::Exited(1)
    );
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_that_timed_out_is_replaced() {
    // The exec API cannot end one command alone.
    let by_docker = pool("tainted").exec_via(ExecVia::Docker);
    let pool = by_docker.max_total(1).build().await.unwrap();
    let first = {
        let c = pool.acquire().await.unwrap();
        let status = c
            .command("sleep")
            .arg("1000")
            .timeout(Duration::from_millis(300))
            .status()
            .await
            .unwrap();
        assert_eq!(status, ExitStatus::TimedOut);
        assert_eq!(c.taint(), Some(Taint::TimedOut));
        c.id().to_owned()
    };
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), first);
    assert!(c.command("true").status().await.unwrap().success());
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_returned_beyond_max_idle_is_removed() {
    let pool = pool("surplus").max_idle(1).build().await.unwrap();
    let lent = (
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
    );
    assert_eq!(pool.status().in_use, 3);
    drop(lent);
    let engine = engine().await;
    eventually("only one container is kept", async || {
        containers_of(&*engine, &pool).await == 1
    })
    .await;
    assert_eq!(pool.status().idle, 1);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_max_idle_of_zero_keeps_no_container() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_idle(0).build().await.unwrap();
    drop(pool.acquire().await.unwrap());
    eventually_now("the container is removed", || {
        engine.containers().is_empty() && pool.status().total() == 0
    })
    .await;
}

#[tokio::test]
async fn a_forgotten_child_forbids_reuse() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::forever());
    let pool = fake_pool(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    std::mem::forget(c.command("run").spawn().await.unwrap());
    assert_eq!(c.taint(), None);
    drop(c);
    // The command is not known to have ended, so the pool removes the container.
    eventually_now("the container is removed", || {
        engine.containers().iter().all(|container| container.id != id)
    })
    .await;
    assert_ne!(pool.acquire().await.unwrap().id(), id);
}

#[tokio::test]
async fn into_inner_takes_a_container_out_of_the_pool_for_good() {
    let pool = pool("leave").max_total(1).build().await.unwrap();
    let container = pool.acquire().await.unwrap().into_inner();
    assert_eq!(pool.status().total(), 0);
    // The slot is free at once: another container can be acquired although `max_total` is 1.
    let other = pool.acquire().await.unwrap();
    assert_ne!(other.id(), container.id());
    assert!(container.command("true").status().await.unwrap().success());
    let id = container.id().to_owned();
    drop(container);
    let engine = engine().await;
    eventually("the container is removed when dropped", async || {
        engine.bollard().inspect_container(&id, None).await.is_err()
    })
    .await;
    drop(other);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_return_is_visible_at_once_and_makes_no_call() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(1).max_total(1).build().await.unwrap();
    let calls =
        |engine: &FakeEngine| [Call::Create, Call::Inspect, Call::Remove, Call::List].map(|call| engine.calls(call));
    let before = calls(&engine);
    for _ in 0..1000 {
        let c = pool.acquire().await.unwrap();
        drop(c);
        assert_eq!(pool.status().idle, 1);
    }
    assert_eq!(calls(&engine), before);
}
