//! First come, first served: a waiter takes a returned container or a new one, whichever is there first.

use std::sync::Arc;

use crate::support::eventually_now;
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{Pool, PooledContainer};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

async fn pool_of_one(engine: &FakeEngine) -> Pool {
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    builder.min_idle(1).max_total(1).build().await.unwrap()
}

/// Starts an acquire, waits until it is in the queue, and notes its number when it is served.
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
    eventually_now("the acquire waits", || pool.status().waiting == before + 1).await;
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
async fn a_later_acquire_does_not_overtake_a_waiter() {
    let engine = FakeEngine::new();
    let pool = pool_of_one(&engine).await;
    let served = Arc::default();
    let held = pool.acquire().await.unwrap();
    let waiting = waiter(&pool, 0, &served).await;
    drop(held);
    // The container is handed over, though the waiter has not run yet: there is none for anybody else.
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
async fn a_waiter_takes_a_returned_container_while_another_is_being_created_for_it() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    let builder = builder.tokio_runtime(Handle::current());
    let pool = builder.min_idle(0).max_total(2).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let id = held.id().to_owned();
    engine.answer(Call::Create, Answer::Never);
    let served = Arc::default();
    let waiting = waiter(&pool, 0, &served).await;
    eventually_now("a container is being created for the waiter", || {
        engine.calls(Call::Create) == 2
    })
    .await;
    drop(held);
    assert_eq!(waiting.await.unwrap().id(), id);
}

#[tokio::test]
async fn an_acquire_gets_a_new_container_while_others_hold_theirs() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    let builder = builder.tokio_runtime(Handle::current());
    let pool = builder.min_idle(0).max_total(2).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let other = pool.acquire().await.unwrap();
    assert_ne!(held.id(), other.id());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_whose_container_dies_keeps_its_place() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    let builder = builder.tokio_runtime(Handle::current());
    let pool = builder.min_idle(0).max_total(3).build().await.unwrap();
    let [one, two, three] = [pool.acquire().await, pool.acquire().await, pool.acquire().await].map(Result::unwrap);
    // The dead container is not replaced during the test.
    engine.answer(Call::Create, Answer::Never);
    let mut first = tokio_test::task::spawn(pool.acquire());
    let mut second = tokio_test::task::spawn(pool.acquire());
    let mut third = tokio_test::task::spawn(pool.acquire());
    for waiting in [&mut first, &mut second, &mut third] {
        assert!(waiting.poll().is_pending());
    }
    let ids = [two.id().to_owned(), three.id().to_owned()];
    let dead = one.id().to_owned();
    drop(one);
    assert!(first.is_woken());
    engine.end_container(&dead);
    // Paused time advances only when all tasks are idle: by now the pool has handled the death.
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert!(first.poll().is_pending());
    assert_eq!(pool.status().waiting, 3);

    drop(two);
    assert!(second.poll().is_pending() && third.poll().is_pending());
    assert!(matches!(first.poll(), std::task::Poll::Ready(Ok(c)) if c.id() == ids[0]));
    // A container that is returned at once goes to the later waiters, in their order.
    assert!(third.poll().is_pending());
    assert!(matches!(second.poll(), std::task::Poll::Ready(Ok(c)) if c.id() == ids[0]));
    drop(three);
    assert!(matches!(third.poll(), std::task::Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn a_kept_place_ends_with_its_waiter() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("fairness").image("any").engine(Arc::new(engine.clone()));
    let builder = builder.tokio_runtime(Handle::current());
    let pool = builder.min_idle(0).max_total(2).build().await.unwrap();
    let [one, two] = [pool.acquire().await, pool.acquire().await].map(Result::unwrap);
    engine.answer(Call::Create, Answer::Never);
    let limit = std::time::Duration::from_secs(1);
    let mut first = tokio_test::task::spawn(pool.acquire_timeout(limit));
    let mut second = tokio_test::task::spawn(pool.acquire());
    assert!(first.poll().is_pending() && second.poll().is_pending());
    let dead = one.id().to_owned();
    drop(one);
    engine.end_container(&dead);
    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    assert!(first.poll().is_pending());
    // The timeout covers the whole wait, not only the part after the death.
    tokio::time::sleep(limit).await;
    assert!(matches!(first.poll(), std::task::Poll::Ready(Err(_))));
    assert_eq!(pool.status().waiting, 1);
    drop(two);
    assert!(matches!(second.poll(), std::task::Poll::Ready(Ok(_))));
}
