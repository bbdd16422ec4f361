//! Cancelled acquires, builds and shutdowns: a future dropped at any point loses its place in the queue, never a
//! container.

use std::sync::Arc;
use std::time::Duration;

use crate::support::eventually_now;
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Pool};
use tokio::runtime::Handle;

/// Lists how the engine answers the calls of a creation.
const ANSWERS: [Answer; 4] = [
    Answer::Ok,
    Answer::AfterPolls(3),
    Answer::Fail(EngineErrorKind::Internal),
    Answer::After(Duration::from_millis(30)),
];

/// Polls a future `polls` times, lets all other tasks run in between, and drops it. Returns `true` if it was ready.
async fn polled<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = tokio_test::task::spawn(future);
    for _ in 0..polls {
        if future.poll().is_ready() {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

async fn pool_of_two(engine: &FakeEngine) -> Pool {
    let builder = Pool::builder("cancellation")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()));
    builder.min_idle(0).max_total(2).build().await.unwrap()
}

/// Asserts that both containers can still be acquired, and that none is left after the shutdown.
async fn assert_whole(pool: &Pool, engine: &FakeEngine) {
    for call in [Call::Create, Call::Attach, Call::Start, Call::Remove] {
        engine.answer(call, Answer::Ok);
    }
    let both = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    assert_eq!(
        (pool.status().in_use, pool.status().total(), pool.status().waiting),
        (2, 2, 0)
    );
    assert!(pool.try_acquire().unwrap().is_none());
    drop(both);
    assert_eq!(pool.status().idle, 2);
    assert!(engine.peak() <= 2);
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_creates_can_be_dropped_at_every_poll_under_every_answer() {
    for create in ANSWERS {
        for start in ANSWERS {
            for polls in 0..12 {
                let engine = FakeEngine::new();
                engine.answer(Call::Create, create);
                engine.answer(Call::Start, start);
                let pool = pool_of_two(&engine).await;
                polled(pool.acquire(), polls).await;
                assert!(pool.status().total() <= 2);
                assert_whole(&pool, &engine).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_waits_for_a_return_can_be_dropped_at_every_poll() {
    for return_after in 0..4 {
        for polls in 0..6 {
            let engine = FakeEngine::new();
            let pool = pool_of_two(&engine).await;
            let mut held = Some((pool.acquire().await.unwrap(), pool.acquire().await.unwrap()));
            {
                let mut acquire = tokio_test::task::spawn(pool.acquire());
                for poll in 0..polls {
                    if poll == return_after {
                        held = None;
                    }
                    if acquire.poll().is_ready() {
                        break;
                    }
                }
                // Dropped here: the container was handed over, but the acquire is never polled again.
                if polls == return_after {
                    held = None;
                }
            }
            drop(held);
            assert_eq!(
                pool.status().idle,
                2,
                "returned after {return_after}, dropped after {polls}"
            );
            assert_whole(&pool, &engine).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_acquire_is_dropped_goes_on_and_its_container_becomes_idle() {
    let engine = FakeEngine::new();
    engine.answer(Call::Create, Answer::After(Duration::from_secs(1)));
    let pool = pool_of_two(&engine).await;
    assert!(
        tokio::time::timeout(Duration::from_millis(100), pool.acquire())
            .await
            .is_err()
    );
    assert_eq!((pool.status().creating, pool.status().waiting), (1, 0));
    eventually_now("the container becomes idle", || pool.status().idle == 1).await;
    assert_eq!(engine.calls(Call::Create), 1);
    assert_whole(&pool, &engine).await;
}

#[tokio::test(start_paused = true)]
async fn ten_acquires_with_a_short_timeout_leave_no_container_without_an_owner() {
    let engine = FakeEngine::new();
    engine.answer(Call::Start, Answer::After(Duration::from_secs(2)));
    let pool = pool_of_two(&engine).await;
    for _ in 0..10 {
        let error = pool.acquire_timeout(Duration::from_millis(100)).await.unwrap_err();
        assert!(error.is_timeout());
    }
    assert!(engine.containers().len() <= 2);
    assert_whole(&pool, &engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_answer_is_lost_is_found_and_removed() {
    let engine = FakeEngine::new();
    engine.answer_once(Call::Create, Answer::DoneButNever);
    let pool = pool_of_two(&engine).await;
    // After the engine's timeout, the pool removes the lost container by its name and creates another one.
    let c = pool.acquire_timeout(Duration::from_secs(120)).await.unwrap();
    assert_eq!(engine.containers().len(), 1);
    assert_eq!(engine.containers()[0].id, c.id());
    drop(c);
    assert_whole(&pool, &engine).await;
}

#[tokio::test(start_paused = true)]
async fn a_build_dropped_at_every_poll_leaves_nothing() {
    for answer in ANSWERS {
        for polls in 0..24 {
            let engine = FakeEngine::new();
            for call in [Call::Check, Call::Prepare, Call::Create, Call::Attach, Call::Start] {
                engine.answer(call, answer);
            }
            let builder = Pool::builder("cancellation")
                .tokio_runtime(Handle::current())
                .image("any")
                .engine(Arc::new(engine.clone()));
            polled(builder.min_idle(2).build(), polls).await;
            // Creations in progress finish; the pool removes their containers afterwards.
            tokio::time::sleep(Duration::from_secs(30)).await;
            assert!(
                engine.containers().is_empty(),
                "{answer:?} after {polls}: {:?}",
                engine.containers()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_is_dropped_goes_on() {
    for polls in 0..8 {
        let engine = FakeEngine::new();
        engine.answer(Call::Remove, Answer::AfterPolls(5));
        let pool = pool_of_two(&engine).await;
        drop((pool.acquire().await.unwrap(), pool.acquire().await.unwrap()));
        polled(pool.shutdown(), polls).await;
        if polls > 0 {
            eventually_now("everything is removed", || engine.containers().is_empty()).await;
        }
        assert_whole_after_shutdown(&pool, &engine).await;
    }
}

async fn assert_whole_after_shutdown(pool: &Pool, engine: &FakeEngine) {
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
    assert!(pool.acquire().await.unwrap_err().is_shutdown());
}
