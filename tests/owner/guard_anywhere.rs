//! A guard is dropped without a runtime, in another runtime, and after its runtime has ended.

use std::time::{Duration, Instant};

use crate::support::{containers_of_instance, engine, pool};
use dockerpool::PooledContainer;
use tokio::runtime::{Handle, Runtime};

/// Waits, on a runtime made for it, until the engine has no container of this instance.
fn assert_all_gone(instance: &str) {
    let runtime = Runtime::new().unwrap();
    let engine = runtime.block_on(engine());
    let give_up = Instant::now() + Duration::from_secs(30);
    while runtime.block_on(containers_of_instance(&*engine, instance)) > 0 {
        assert!(Instant::now() < give_up, "containers are left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_dropped_on_a_plain_thread_returns_its_container() {
    let pool = pool("thread").build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    std::thread::spawn(move || drop(c)).join().unwrap();
    assert_eq!(pool.status().idle, 1);
    assert_eq!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guard_dropped_in_another_runtime_returns_its_container() {
    let pool = pool("other-runtime").build().await.unwrap();
    let c: PooledContainer = pool.acquire().await.unwrap();
    let out = std::thread::spawn(move || {
        Runtime::new().unwrap().block_on(async move {
            let out = c.command("echo").arg("hello").output().await;
            drop(c);
            out
        })
    })
    .join()
    .unwrap();
    assert_eq!(out.unwrap().stdout, b"hello\n");
    assert_eq!(pool.status().idle, 1);
    pool.shutdown().await.unwrap();
}

#[test]
fn a_guard_dropped_after_its_runtime_removes_its_container() {
    let runtime = Runtime::new().unwrap();
    let (pool, c) = runtime.block_on(async {
        // A custom command has no lifeline, so that only the guard's `Drop` can remove the container.
        let builder = pool("gone").cmd(["sleep", "1000"]).tokio_runtime(Handle::current());
        let pool = builder.build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        (pool, c)
    });
    let instance = pool.instance().to_owned();
    drop(runtime);
    c.discard();
    drop(pool);
    assert_all_gone(&instance);
}

#[test]
fn a_clean_guard_and_its_pool_leave_nothing_after_their_runtime() {
    let runtime = Runtime::new().unwrap();
    let (pool, c) = runtime.block_on(async {
        let builder = pool("gone").min_idle(1).cmd(["sleep", "1000"]);
        let pool = builder.tokio_runtime(Handle::current()).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        (pool, c)
    });
    let instance = pool.instance().to_owned();
    drop(runtime);
    drop(c);
    assert_eq!(pool.status().idle, 0);
    drop(pool);
    assert_all_gone(&instance);
}

#[test]
fn a_guard_outlives_every_handle_of_its_pool() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let pool = pool("outlives").build().await.unwrap();
        let instance = pool.instance().to_owned();
        let c = pool.acquire().await.unwrap();
        drop(pool);
        assert!(c.command("true").status().await.unwrap().success());
        drop(c);
        let engine = engine().await;
        crate::support::eventually("the container is removed", async || {
            containers_of_instance(&*engine, &instance).await == 0
        })
        .await;
    });
}
