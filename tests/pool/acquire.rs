//! Acquiring: which container is lent, when an acquire waits, and how its wait ends.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{engine, eventually_now, pool};
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Error, Pool, PoolBuilder};
use tokio::runtime::Handle;

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("acquire")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
}

#[tokio::test]
async fn an_acquired_container_runs_commands_and_has_the_settings_of_its_pool() {
    let pool = pool("acquire")
        .min_idle(1)
        .label("who", "me")
        .env("COLOUR", "blue")
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let out = c
        .command("sh")
        .args(["-c", "echo $COLOUR; ls /sys/class/net"])
        .output()
        .await
        .unwrap();
    assert!(out.status.success());
    // No network by default: nothing but the loopback interface.
    assert_eq!(out.stdout_lossy(), "blue\nlo\n");

    let report = c.inspect().await.unwrap();
    assert_eq!(report.name, c.name());
    assert_eq!(report.labels["who"], "me");
    assert_eq!(report.labels[dockerpool::labels::POOL], "acquire");
    assert_eq!(report.labels[dockerpool::labels::INSTANCE], pool.instance());
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn limits_reach_the_engine() {
    let pool = pool("limits")
        .memory(32 << 20)
        .cpus(0.5)
        .pids_limit(17)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let found = engine().await.bollard().inspect_container(c.id(), None).await.unwrap();
    let host = found.host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(32 << 20), Some(32 << 20)));
    assert_eq!(host.nano_cpus, Some(500_000_000));
    assert_eq!(host.pids_limit, Some(17));
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_container_returned_last_is_lent_first() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(2).build().await.unwrap();
    let (a, b) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let (a_id, b_id) = (a.id().to_owned(), b.id().to_owned());
    assert_ne!(a_id, b_id);
    // The pool restores its minimum while both are lent. Containers made for that must not be lent before returned
    // ones.
    eventually_now("two more are idle", || pool.status().idle == 2).await;
    drop(a);
    drop(b);
    assert_eq!(pool.acquire().await.unwrap().id(), b_id);
    let _b = pool.acquire().await.unwrap();
    assert_eq!(pool.acquire().await.unwrap().id(), a_id);
}

#[tokio::test]
async fn try_acquire_takes_only_idle_containers() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(1).max_total(1).build().await.unwrap();
    let c = pool.try_acquire().unwrap().expect("one is idle");
    assert!(pool.try_acquire().unwrap().is_none());
    assert_eq!(engine.calls(Call::Create), 1);
    drop(c);
    assert!(pool.try_acquire().unwrap().is_some());
    pool.shutdown().await.unwrap();
    assert!(pool.try_acquire().unwrap_err().is_shutdown());
}

#[tokio::test]
async fn containers_are_created_on_demand_and_the_minimum_is_kept_while_others_are_lent() {
    let engine = FakeEngine::new();
    let lazy = fake_pool(&engine).build().await.unwrap();
    assert_eq!(engine.calls(Call::Create), 0);
    drop(lazy.acquire().await.unwrap());
    assert_eq!(engine.calls(Call::Create), 1);
    lazy.shutdown().await.unwrap();

    let engine = FakeEngine::new();
    let eager = fake_pool(&engine).min_idle(3).build().await.unwrap();
    assert_eq!(eager.status().idle, 3);
    let lent = [eager.acquire().await.unwrap(), eager.acquire().await.unwrap()];
    eventually_now("the minimum is restored", || eager.status().idle == 3).await;
    assert_eq!(eager.status().in_use, 2);
    drop(lent);
    eager.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_does_not_hold_an_acquire_past_its_deadline() {
    let engine = FakeEngine::new();
    engine.answer(Call::Create, Answer::Never);
    let pool = fake_pool(&engine)
        .acquire_timeout(Duration::from_secs(2))
        .build()
        .await
        .unwrap();

    let begun = tokio::time::Instant::now();
    let error = pool.acquire().await.unwrap_err();
    assert_eq!(begun.elapsed().as_secs(), 2);
    assert!(error.is_timeout(), "{error}");
    let Error::AcquireTimeout(timeout) = error else {
        panic!("{error:?}")
    };
    assert_eq!(timeout.waited.as_secs(), 2);
    assert_eq!((timeout.status.creating, timeout.status.in_use), (1, 0));
    assert!(timeout.last_create_error.is_none());
    assert_eq!(pool.status().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_carries_the_last_create_error_and_says_whether_a_retry_can_help() {
    for (kind, retryable) in [
        (EngineErrorKind::Internal, true),
        (EngineErrorKind::LoginRefused, false),
    ] {
        let engine = FakeEngine::new();
        engine.answer(Call::Create, Answer::Fail(kind));
        let pool = fake_pool(&engine)
            .acquire_timeout(Duration::from_secs(20))
            .build()
            .await
            .unwrap();
        let error = pool.acquire().await.unwrap_err();
        assert_eq!(error.engine_error().unwrap().kind(), kind);
        assert_eq!(error.is_retryable(), retryable);
        assert!(error.to_string().contains("Create was made to fail"), "{error}");
        // Back-off: pauses of 0.1 s, doubling to 5 s, each shortened by up to half. Within 20 s there are 8 pauses at
        // their longest and 12 at their shortest.
        let attempts = engine.calls(Call::Create);
        assert!((9..=13).contains(&attempts), "{attempts} attempts");
    }
}

#[tokio::test(start_paused = true)]
async fn idle_containers_are_lent_while_creations_fail() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(1).build().await.unwrap();
    engine.answer(Call::Start, Answer::Fail(EngineErrorKind::Internal));
    for _ in 0..10 {
        // Lending the last idle container starts a creation, which fails.
        let _c = pool.acquire().await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(engine.calls(Call::Start) > 1);
    engine.answer(Call::Start, Answer::Ok);
    let _both = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    pool.shutdown_timeout(Duration::ZERO).await.unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test]
async fn a_pool_never_has_more_containers_than_its_maximum() {
    let engine = FakeEngine::new();
    for call in [Call::Create, Call::Start, Call::Remove] {
        engine.answer(call, Answer::AfterPolls(3));
    }
    let pool = fake_pool(&engine).max_total(4).max_idle(2).build().await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..500 {
        let pool = pool.clone();
        tasks.spawn(async move {
            let c = pool.acquire().await.unwrap();
            tokio::task::yield_now().await;
            assert!(pool.status().total() <= 4);
            if i % 3 == 0 {
                c.discard();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert!(engine.peak() <= 4, "{} at once", engine.peak());
    eventually_now("containers beyond max_idle are removed", || pool.status().total() <= 2).await;
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test]
async fn concurrent_creations_are_bounded() {
    let engine = FakeEngine::new();
    engine.answer(Call::Create, Answer::Never);
    let pool = fake_pool(&engine).max_concurrent_creates(3).build().await.unwrap();
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            tokio::spawn({
                let pool = pool.clone();
                async move { pool.acquire().await }
            })
        })
        .collect();
    eventually_now("all wait", || pool.status().waiting == 10).await;
    eventually_now("three are being created", || engine.calls(Call::Create) == 3).await;
    tokio::task::yield_now().await;
    assert_eq!((pool.status().creating, engine.calls(Call::Create)), (3, 3));
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_acquire_with_a_zero_timeout_still_takes_an_idle_container() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(1).max_total(1).build().await.unwrap();
    let c = pool.acquire_timeout(Duration::ZERO).await.unwrap();
    assert!(pool.acquire_timeout(Duration::ZERO).await.unwrap_err().is_timeout());
    drop(c);
}

#[tokio::test(start_paused = true)]
async fn one_slow_creation_does_not_hold_up_the_others() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_concurrent_creates(3).build().await.unwrap();
    engine.answer_once(Call::Start, Answer::After(Duration::from_secs(20)));
    let begun = tokio::time::Instant::now();
    let waiting: Vec<_> = (0..6)
        .map(|_| {
            tokio::spawn({
                let pool = pool.clone();
                async move {
                    let c = pool.acquire().await.unwrap();
                    // Held until the end, so that no waiter is served by a returned container.
                    (c, begun.elapsed())
                }
            })
        })
        .collect();
    let mut waits = Vec::new();
    let mut held = Vec::new();
    for waiter in waiting {
        let (c, wait) = waiter.await.unwrap();
        waits.push(wait);
        held.push(c);
    }
    waits.sort();
    assert!(waits[4] < Duration::from_secs(1), "{waits:?}");
    assert!(waits[5] >= Duration::from_secs(20), "{waits:?}");
    drop(held);
    pool.shutdown().await.unwrap();
}
