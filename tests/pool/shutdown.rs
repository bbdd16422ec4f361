//! Shutdowns: of idle and busy pools, twice, concurrently, and with an engine that fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{containers_of, engine, eventually_now, pool};
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Error, ExitStatus, Pool, PoolBuilder, WhyGone};
use tokio::runtime::Handle;

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("shutdown")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
}

#[tokio::test]
async fn a_shutdown_of_an_idle_pool_leaves_nothing_and_takes_about_as_long_as_one_removal() {
    let engine = engine().await;
    // PID 1 is `sleep`, which ignores SIGTERM. A stop would take its ten seconds of grace.
    let pool = pool("idle").cmd(["sleep", "1000"]).min_idle(6).build().await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 6);
    let begun = Instant::now();
    pool.shutdown().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(containers_of(&*engine, &pool).await, 0);
    assert_eq!(pool.status().total(), 0);
    for error in [pool.acquire().await.unwrap_err(), pool.try_acquire().unwrap_err()] {
        assert!(error.is_shutdown(), "{error}");
    }
}

#[tokio::test]
async fn a_shutdown_removes_twenty_containers_concurrently() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(20).max_idle(20).build().await.unwrap();
    // The engine answers no removal before it got the last request.
    engine.answer(Call::Remove, Answer::Never);
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown_timeout(Duration::from_secs(5)).await }
    });
    eventually_now("all removals are requested", || engine.calls(Call::Remove) == 20).await;
    engine.answer(Call::Remove, Answer::Ok);
    shutdown.await.unwrap().unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test]
async fn a_shutdown_waits_for_leases() {
    let engine = engine().await;
    let pool = pool("busy").min_idle(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown().await }
    });
    eventually_now("the shutdown has begun", || pool.try_acquire().is_err()).await;
    // The lease goes on undisturbed.
    assert_eq!(c.command("echo").arg("on").output().await.unwrap().stdout, b"on\n");
    assert!(!shutdown.is_finished());
    drop(c);
    shutdown.await.unwrap().unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}

#[tokio::test]
async fn a_shutdown_ends_overdue_leases() {
    let engine = engine().await;
    let pool = pool("stubborn").min_idle(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let command = async { c.command("sleep").arg("1000").output().await.unwrap() };
    let shutdown = pool.shutdown_timeout(Duration::from_millis(500));
    let (output, done) = tokio::join!(command, shutdown);
    done.unwrap();
    let why = WhyGone::ByLibrary;
    assert_eq!(output.status, ExitStatus::ContainerGone { why });
    assert_eq!(containers_of(&*engine, &pool).await, 0);
    // The remaining guard does no harm.
    assert!(matches!(
        c.command("true").status().await,
        Err(Error::ContainerGone { .. })
    ));
    drop(c);
}

#[tokio::test]
async fn repeated_and_concurrent_shutdowns_give_the_same_result() {
    let engine = FakeEngine::new();
    engine.answer(Call::Remove, Answer::AfterPolls(10));
    let pool = fake_pool(&engine).min_idle(5).build().await.unwrap();
    let (a, b, c) = tokio::join!(pool.shutdown(), pool.shutdown(), pool.shutdown_timeout(Duration::ZERO));
    a.unwrap();
    b.unwrap();
    c.unwrap();
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_guard_does_not_block_a_shutdown_for_ever() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(3).build().await.unwrap();
    std::mem::forget(pool.acquire().await.unwrap());
    let begun = tokio::time::Instant::now();
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown().await }
    });
    // The idle containers are removed at once, not when the last lease has ended.
    eventually_now("only the forgotten container is left", || {
        engine.containers().len() == 1
    })
    .await;
    assert!(begun.elapsed() < Pool::DEFAULT_SHUTDOWN_TIMEOUT);
    shutdown.await.unwrap().unwrap();
    assert!(begun.elapsed() <= Pool::DEFAULT_SHUTDOWN_TIMEOUT + Pool::SHUTDOWN_SWEEP_TIMEOUT);
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_fails_all_waiters() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_total(1).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    eventually_now("the acquire waits", || pool.status().waiting == 1).await;
    let shutdown = pool.shutdown();
    let (told, ()) = tokio::join!(waiting, async {
        shutdown.await.unwrap();
    });
    assert!(told.unwrap().unwrap_err().is_shutdown());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_removes_containers_in_creation() {
    for answer in [
        Answer::Never,
        Answer::DoneButNever,
        Answer::After(Duration::from_secs(5)),
    ] {
        let engine = FakeEngine::new();
        engine.answer(Call::Create, answer);
        let pool = fake_pool(&engine).build().await.unwrap();
        let acquire = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await.map(drop) }
        });
        eventually_now("the container is being created", || engine.calls(Call::Create) == 1).await;
        pool.shutdown().await.unwrap();
        assert!(acquire.await.unwrap().unwrap_err().is_shutdown());
        // An answer after the shutdown reaches no pool; its container is removed all the same.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(engine.containers().is_empty(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_engine_gives_a_shutdown_an_honest_error_in_bounded_time() {
    for answer in [
        Answer::Never,
        Answer::Fail(EngineErrorKind::Internal),
        Answer::Fail(EngineErrorKind::Rejected),
    ] {
        let engine = FakeEngine::new();
        let pool = fake_pool(&engine).min_idle(2).build().await.unwrap();
        engine.answer(Call::Remove, answer);
        let begun = tokio::time::Instant::now();
        let error = pool.shutdown().await.unwrap_err();
        let bound = Pool::DEFAULT_SHUTDOWN_TIMEOUT + Pool::SHUTDOWN_SWEEP_TIMEOUT;
        assert!(
            begun.elapsed() <= bound + Duration::from_millis(10),
            "{answer:?}: {:?}",
            begun.elapsed()
        );
        assert!(
            matches!(&error, Error::ShutdownIncomplete { instance, .. } if instance == pool.instance()),
            "{error}"
        );
        assert!(error.to_string().contains(pool.instance()));
    }
}

#[tokio::test]
async fn a_drop_of_the_last_handle_removes_idle_containers() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(3).build().await.unwrap();
    let another = pool.clone();
    drop(pool);
    assert_eq!(another.status().idle, 3);
    drop(another);
    eventually_now("everything is removed", || engine.containers().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn returns_during_a_shutdown_leave_nothing() {
    for _ in 0..50 {
        let engine = FakeEngine::new();
        let pool = fake_pool(&engine).max_total(4).build().await.unwrap();
        let lessees: Vec<_> = (0..8)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let mut leases = 0;
                    while let Ok(c) = pool.acquire().await {
                        leases += 1;
                        if leases % 3 == 0 {
                            c.discard();
                        }
                        tokio::task::yield_now().await;
                    }
                    leases
                })
            })
            .collect();
        eventually_now("the tasks are running", || pool.status().lifetime.lent > 20).await;
        pool.shutdown().await.unwrap();
        assert_eq!((engine.containers().len(), pool.status().total()), (0, 0));
        for lessee in lessees {
            lessee.await.unwrap();
        }
        assert_eq!(engine.containers().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_lists_removed_containers_is_not_flooded() {
    for command in [None, Some(["sleep", "1000"])] {
        let engine = FakeEngine::new();
        let builder = command.map_or(fake_pool(&engine), |command| fake_pool(&engine).cmd(command));
        let pool = builder.min_idle(2).build().await.unwrap();
        engine.keep_removed(true);
        let begun = tokio::time::Instant::now();
        let limit = Duration::from_secs(3);
        let held = pool.acquire().await.unwrap();
        let error = pool.shutdown_timeout(limit).await.unwrap_err();
        let took = begun.elapsed();
        assert!(took <= limit + Pool::SHUTDOWN_SWEEP_TIMEOUT, "{took:?}");
        assert_eq!(
            error.engine_error().unwrap().kind(),
            EngineErrorKind::Timeout,
            "{error}"
        );
        // 10 seconds, with pauses of up to a quarter of a second.
        let (lists, removals) = (engine.calls(Call::List), engine.calls(Call::Remove));
        assert!((40..60).contains(&lists), "{lists}");
        assert!(removals <= 2 * lists + 4, "{removals}");
        drop(held);
    }
}
