//! Stress: random actions, deaths and failures on many threads; ten thousand waiters; runtimes that end while guards
//! live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::eventually_now;
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{EngineErrorKind, Error, Lease, Pool, PoolBuilder};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

const TOTAL: usize = 8;

async fn pool_of_eight(engine: &FakeEngine) -> Pool {
    builder_of_eight(engine).build().await.unwrap()
}

fn builder_of_eight(engine: &FakeEngine) -> PoolBuilder {
    let builder = Pool::builder("stress").image("any").engine(Arc::new(engine.clone()));
    builder
        .min_idle(2)
        .max_idle(4)
        .max_total(TOTAL)
        .acquire_timeout(Duration::from_secs(60))
        .engine_timeout(Duration::from_millis(50))
        .max_uses(50)
}

/// Asserts that all containers can be acquired at once, none twice, and that none is left at the end.
async fn assert_whole(pool: &Pool, engine: &FakeEngine) {
    let mut all = Vec::new();
    for _ in 0..TOTAL {
        all.push(pool.acquire().await.unwrap());
    }
    let status = pool.status();
    assert_eq!((status.in_use, status.total(), status.waiting), (TOTAL, TOTAL, 0));
    let mut ids: Vec<_> = all.iter().map(|c| c.id().to_owned()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), TOTAL, "a container was lent twice");
    drop(all);
    pool.shutdown().await.unwrap();
    assert_eq!(pool.status().total(), 0);
    assert!(engine.containers().is_empty());
}

/// Kills containers, and makes the engine fail, delay and hang. The engine answers normally at the end.
async fn trouble(engine: FakeEngine, time: Duration) {
    // After a failure, creations pause. With many failures, little else would happen.
    let answers = [
        Answer::Ok,
        Answer::Ok,
        Answer::Ok,
        Answer::Ok,
        Answer::Ok,
        Answer::Ok,
        Answer::Ok,
        Answer::Ok,
        Answer::AfterPolls(3),
        Answer::After(Duration::from_millis(2)),
        Answer::Fail(EngineErrorKind::Internal),
        Answer::DoneButNever,
    ];
    let calls = [
        Call::Create,
        Call::Attach,
        Call::Start,
        Call::Exec,
        Call::Kill,
        Call::Remove,
    ];
    let begun = Instant::now();
    while begun.elapsed() < time {
        engine.answer(
            calls[fastrand::usize(..calls.len())],
            answers[fastrand::usize(..answers.len())],
        );
        let containers = engine.containers();
        if !containers.is_empty() && fastrand::u8(..4) == 0 {
            engine.end_container(&containers[fastrand::usize(..containers.len())].id);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for call in calls {
        engine.answer(call, Answer::Ok);
    }
    engine.on_exec(|_| FakeProcess::exit(0));
}

/// Performs one random action on a pool.
async fn act(pool: &Pool) {
    let limit = Duration::from_micros(fastrand::u64(..3000));
    let key = ["a", "b", "c"][fastrand::usize(..3)];
    let c = match fastrand::u8(..7) {
        0 => pool.try_acquire().unwrap(),
        3 => tokio::time::timeout(limit, pool.acquire_for(key))
            .await
            .ok()
            .and_then(Result::ok),
        4 => pool.acquire_for(key).await.ok(),
        5 => {
            let lease = Lease::new().key(key).timeout(limit).acquire_timeout(limit);
            pool.acquire_with(lease).await.ok()
        }
        6 => {
            pool.forget(key);
            None
        }
        // The acquire is dropped at any moment, also just as it is served.
        1 => tokio::time::timeout(limit, pool.acquire())
            .await
            .ok()
            .and_then(Result::ok),
        2 => pool.acquire_timeout(limit).await.ok(),
        _ => pool.acquire().await.ok(),
    };
    let Some(c) = c else { return };
    match fastrand::u8(..10) {
        0 => c.discard(),
        1 => drop(c.into_inner()),
        2 => drop(std::thread::spawn(move || drop(c)).join()),
        3 => drop(tokio::time::timeout(limit, c.command("program").output()).await),
        4 => drop(c.command("program").timeout(limit).status().await),
        5 => {
            let panicked = tokio::spawn(async move {
                let _c = c;
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            assert!(panicked.await.is_err());
        }
        6 => tokio::time::sleep(limit).await,
        _ => drop(c),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_actions_of_many_tasks_on_many_threads_lose_no_slot() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| {
        if fastrand::bool() {
            FakeProcess::exit(0)
        } else {
            FakeProcess::forever()
        }
    });
    let pool = pool_of_eight(&engine).await;
    let stop = Arc::new(AtomicBool::new(false));
    let time = Duration::from_secs(4);
    let trouble = tokio::spawn(trouble(engine.clone(), time));
    let watch = tokio::spawn({
        let (pool, stop) = (pool.clone(), stop.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                let status = pool.status();
                assert!(status.total() <= TOTAL, "{status}");
                assert!(status.idle == 0 || status.waiting == 0, "{status}");
                tokio::task::yield_now().await;
            }
        }
    });
    let actions = Arc::new(AtomicUsize::new(0));
    let mut actors = JoinSet::new();
    let begun = Instant::now();
    for _ in 0..32 {
        let (pool, actions) = (pool.clone(), actions.clone());
        actors.spawn(async move {
            while begun.elapsed() < time {
                act(&pool).await;
                actions.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(done) = actors.join_next().await {
        done.unwrap();
    }
    trouble.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    watch.await.unwrap();
    let (actions, creations) = (actions.load(Ordering::Relaxed), engine.calls(Call::Create));
    assert!(
        actions > 100 && creations > 20,
        "{actions} actions, {creations} creations"
    );
    assert_whole(&pool, &engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_waiters_are_all_served_except_a_third_that_leaves() {
    let engine = FakeEngine::new();
    let pool = pool_of_eight(&engine).await;
    let mut held = Vec::new();
    for _ in 0..TOTAL {
        held.push(pool.acquire().await.unwrap());
    }
    let served = Arc::new(AtomicUsize::new(0));
    let mut waiting = Vec::new();
    for _ in 0..10_000 {
        let (pool, served) = (pool.clone(), served.clone());
        waiting.push(tokio::spawn(async move {
            let c = pool.acquire().await.unwrap();
            served.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            drop(c);
        }));
    }
    eventually_now("all wait", || pool.status().waiting == 10_000).await;
    // Some waiters leave before the others are served, and some at the same moment.
    for task in waiting.iter().step_by(6) {
        task.abort();
    }
    drop(held);
    for task in waiting.iter().skip(3).step_by(6) {
        task.abort();
    }
    let mut left = 0;
    for task in waiting {
        match task.await {
            Ok(()) => {}
            Err(error) if error.is_cancelled() => left += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(left <= 3334, "{left}");
    assert!(served.load(Ordering::Relaxed) + left >= 10_000);
    assert_eq!(pool.status().waiting, 0);
    assert!(engine.peak() <= TOTAL);
    assert_whole(&pool, &engine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn waiters_that_leave_just_as_they_are_served_lose_no_container() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("stress").image("any").engine(Arc::new(engine.clone()));
    let pool = builder.min_idle(0).max_total(1).build().await.unwrap();
    for _ in 0..2000 {
        let held = pool.acquire().await.unwrap();
        let waiter = tokio::spawn({
            let pool = pool.clone();
            async move { pool.acquire().await.map(drop) }
        });
        let giver = std::thread::spawn(move || drop(held));
        waiter.abort();
        giver.join().unwrap();
        let _ = waiter.await;
        let status = pool.status();
        assert_eq!((status.in_use, status.waiting, status.total()), (0, 0, 1), "{status}");
    }
    assert_eq!(engine.calls(Call::Create), 1);
}

#[test]
fn a_runtime_that_ends_while_guards_live_on_other_threads_leaves_nothing() {
    for _ in 0..20 {
        let engine = FakeEngine::new();
        let runtime = Runtime::new().unwrap();
        let (pool, guards) = runtime.block_on(async {
            let builder = builder_of_eight(&engine).tokio_runtime(Handle::current());
            let pool = builder.build().await.unwrap();
            let mut guards = Vec::new();
            for _ in 0..6 {
                guards.push(pool.acquire().await.unwrap());
            }
            (pool, guards)
        });
        let threads: Vec<_> = guards
            .into_iter()
            .enumerate()
            .map(|(i, c)| {
                std::thread::spawn(move || match i % 3 {
                    0 => drop(c),
                    1 => c.discard(),
                    _ => drop(c.into_inner()),
                })
            })
            .collect();
        drop(runtime);
        for thread in threads {
            thread.join().unwrap();
        }
        // No container of this pool is left, and acquires fail with the reason.
        assert!(matches!(pool.try_acquire(), Err(Error::RuntimeEnded)));
        assert_eq!((pool.status().idle, pool.status().in_use), (0, 0));
        drop(pool);
        let give_up = Instant::now() + Duration::from_secs(30);
        while !engine.containers().is_empty() {
            assert!(Instant::now() < give_up, "{:?}", engine.containers());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_runtime_that_ends_while_a_failed_creation_is_removed_leaves_nothing() {
    let engine = FakeEngine::new();
    engine.answer(Call::Start, Answer::Fail(EngineErrorKind::Internal));
    engine.answer(Call::Remove, Answer::Hold);
    let runtime = Runtime::new().unwrap();
    let pool = runtime.block_on(async {
        let builder = Pool::builder("stress").image("any").engine(Arc::new(engine.clone()));
        let builder = builder.min_idle(0).tokio_runtime(Handle::current());
        let pool = builder.build().await.unwrap();
        let error = pool.acquire_timeout(Duration::from_millis(100)).await.unwrap_err();
        assert!(error.is_timeout());
        eventually_now("the removal is in progress", || engine.calls(Call::Remove) > 0).await;
        pool
    });
    drop(runtime);
    assert!(!engine.containers().is_empty());
    engine.answer(Call::Remove, Answer::Ok);
    drop(pool);
    let give_up = Instant::now() + Duration::from_secs(30);
    while !engine.containers().is_empty() {
        assert!(Instant::now() < give_up, "{:?}", engine.containers());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The pool's background task may be at work while its runtime ends. Each demand for containers has it start creations, which the
/// runtime refuses then.
#[test]
fn a_runtime_ends_while_the_pool_starts_creations() {
    for _ in 0..300 {
        let engine = FakeEngine::new();
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (pool, c) = runtime.block_on(async {
            let builder = builder_of_eight(&engine).tokio_runtime(Handle::current());
            let pool = builder.build().await.unwrap();
            let c = pool.acquire().await.unwrap();
            (pool, c)
        });
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(runtime);
            tell.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(60)).expect("the runtime ends");
        drop(c);
        assert!(matches!(pool.try_acquire(), Err(Error::RuntimeEnded)));
    }
}
