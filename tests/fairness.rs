//! First come, first served, by whichever comes first: a returned container or a new one.

mod support;

use std::sync::Arc;

use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{Pool, PooledContainer};
use parking_lot::Mutex;
use support::eventually_now;
use tokio::task::JoinHandle;

async fn pool_of_one(engine: &FakeEngine) -> Pool {
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    builder.min_idle(1).max_total(1).build().await.unwrap()
}

/// An acquire that is known to wait, and notes its number when it is served.
async fn waiter(pool: &Pool, number: usize, served: &Arc<Mutex<Vec<usize>>>) -> JoinHandle<PooledContainer> {
    let before = pool.status().waiting;
    let task = tokio::spawn({
        let (pool, served) = (pool.clone(), served.clone());
        async move {
            let c = pool.acquire().await.unwrap();
            served.lock().push(number);
            c
        }
    });
    eventually_now("it waits", || pool.status().waiting == before + 1).await;
    task
}

#[tokio::test]
async fn waiters_are_served_in_the_order_they_came() {
    let engine = FakeEngine::new();
    let pool = pool_of_one(&engine).await;
    let served = Arc::default();
    let held = pool.acquire().await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..100 {
        waiting.push(waiter(&pool, number, &served).await);
    }
    drop(held);
    for task in waiting {
        drop(task.await.unwrap());
    }
    assert_eq!(*served.lock(), (0..100).collect::<Vec<_>>());
    assert_eq!(engine.calls(Call::Create), 1);
}

#[tokio::test]
async fn nobody_overtakes_those_who_wait() {
    let engine = FakeEngine::new();
    let pool = pool_of_one(&engine).await;
    let served = Arc::default();
    let held = pool.acquire().await.unwrap();
    let waiting = waiter(&pool, 0, &served).await;
    drop(held);
    // Handed over, though the waiter has not run yet: there is nothing for anybody else.
    assert!(pool.try_acquire().unwrap().is_none());
    drop(waiting.await.unwrap());
    assert!(pool.try_acquire().unwrap().is_some());
}

#[tokio::test]
async fn a_waiter_that_left_is_skipped() {
    let engine = FakeEngine::new();
    let pool = pool_of_one(&engine).await;
    let served = Arc::default();
    let held = pool.acquire().await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..3 {
        waiting.push(waiter(&pool, number, &served).await);
    }
    let first = waiting.remove(0);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(pool.status().waiting, 2);
    drop(held);
    for task in waiting {
        drop(task.await.unwrap());
    }
    assert_eq!(*served.lock(), [1, 2]);
}

#[tokio::test]
async fn a_waiter_takes_what_comes_back_although_one_is_being_created_for_it() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    let pool = builder.min_idle(0).max_total(2).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let id = held.id().to_owned();
    engine.answer(Call::Create, Answer::Never);
    let served = Arc::default();
    let waiting = waiter(&pool, 0, &served).await;
    eventually_now("one is being created for it", || engine.calls(Call::Create) == 2).await;
    drop(held);
    assert_eq!(waiting.await.unwrap().id(), id);
}

#[tokio::test]
async fn a_waiter_takes_what_is_created_although_others_hold_theirs() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    let pool = builder.min_idle(0).max_total(2).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let other = pool.acquire().await.unwrap();
    assert_ne!(held.id(), other.id());
}
