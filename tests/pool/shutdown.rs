//! Shutting down: idle, busy, twice, at the same time, with an engine that fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{containers_of, engine, eventually_now, pool};
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Error, ExitStatus, Pool, PoolBuilder};
use tokio::runtime::Handle;

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("shutdown")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
}

#[tokio::test]
async fn an_idle_pool_leaves_nothing_and_takes_about_as_long_as_removing_one() {
    let engine = engine().await;
    // PID 1 is `sleep`, which ignores SIGTERM: a stop would take its ten seconds of grace.
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
async fn twenty_are_removed_at_once_and_not_one_after_the_other() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(20).max_idle(20).build().await.unwrap();
    // None is answered before the last one was asked for.
    engine.answer(Call::Remove, Answer::Never);
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown_timeout(Duration::from_secs(5)).await }
    });
    eventually_now("all are asked for", || engine.calls(Call::Remove) == 20).await;
    engine.answer(Call::Remove, Answer::Ok);
    shutdown.await.unwrap().unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test]
async fn leases_are_waited_for() {
    let engine = engine().await;
    let pool = pool("busy").min_idle(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown().await }
    });
    eventually_now("it has begun", || pool.try_acquire().is_err()).await;
    // The lease goes on undisturbed.
    assert_eq!(c.command("echo").arg("on").output().await.unwrap().stdout, b"on\n");
    assert!(!shutdown.is_finished());
    drop(c);
    shutdown.await.unwrap().unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}

#[tokio::test]
async fn a_lease_that_does_not_end_is_ended() {
    let engine = engine().await;
    let pool = pool("stubborn").min_idle(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let command = async { c.command("sleep").arg("1000").output().await.unwrap() };
    let shutdown = pool.shutdown_timeout(Duration::from_millis(500));
    let (output, done) = tokio::join!(command, shutdown);
    done.unwrap();
    assert_eq!(output.status, ExitStatus::ContainerGone);
    assert_eq!(containers_of(&*engine, &pool).await, 0);
    // The guard that is left does no harm.
    assert!(matches!(
        c.command("true").status().await,
        Err(Error::ContainerGone { .. })
    ));
    drop(c);
}

#[tokio::test]
async fn twice_and_at_the_same_time_it_gives_the_same_answer() {
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
async fn a_forgotten_guard_does_not_hold_it_up_for_ever() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(3).build().await.unwrap();
    std::mem::forget(pool.acquire().await.unwrap());
    let begun = tokio::time::Instant::now();
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown().await }
    });
    // The idle ones are removed at once, not when the last lease has ended.
    eventually_now("only the forgotten one is left", || engine.containers().len() == 1).await;
    assert!(begun.elapsed() < Pool::DEFAULT_SHUTDOWN_TIMEOUT);
    shutdown.await.unwrap().unwrap();
    assert!(begun.elapsed() <= Pool::DEFAULT_SHUTDOWN_TIMEOUT + Pool::SHUTDOWN_SWEEP_TIMEOUT);
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_told() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_total(1).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    eventually_now("it waits", || pool.status().waiting == 1).await;
    let shutdown = pool.shutdown();
    let (told, ()) = tokio::join!(waiting, async {
        shutdown.await.unwrap();
    });
    assert!(told.unwrap().unwrap_err().is_shutdown());
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn creations_that_are_under_way_are_ended_too() {
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
        eventually_now("it is being created", || engine.calls(Call::Create) == 1).await;
        pool.shutdown().await.unwrap();
        assert!(acquire.await.unwrap().unwrap_err().is_shutdown());
        // An answer that comes after the shutdown finds nobody: what it made is removed all the same.
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(engine.containers().is_empty(), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_fails_makes_a_bounded_and_honest_error() {
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
async fn dropping_the_last_handle_removes_what_is_idle() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(3).build().await.unwrap();
    let another = pool.clone();
    drop(pool);
    assert_eq!(another.status().idle, 3);
    drop(another);
    eventually_now("everything is removed", || engine.containers().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn returns_that_race_with_it_leave_nothing() {
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
        eventually_now("they are at it", || pool.status().lifetime.lent > 20).await;
        pool.shutdown().await.unwrap();
        assert_eq!((engine.containers().len(), pool.status().total()), (0, 0));
        for lessee in lessees {
            lessee.await.unwrap();
        }
        assert_eq!(engine.containers().len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_lists_what_it_says_is_removed_is_not_hammered() {
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
        // 10 seconds with a pause of up to a quarter of one.
        let (lists, removals) = (engine.calls(Call::List), engine.calls(Call::Remove));
        assert!((40..60).contains(&lists), "{lists}");
        assert!(removals <= 2 * lists + 4, "{removals}");
        drop(held);
    }
}
