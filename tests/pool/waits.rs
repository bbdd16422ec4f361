//! How the wait of an acquire ends: at its own limit of time, in any order, and whatever its waker does.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use dockerpool::testing::FakeEngine;
use dockerpool::{Error, Pool};
use tokio::runtime::Handle;
use tokio::time::Instant;

/// Returns a pool of one container.
async fn of_one() -> Pool {
    let engine = Arc::new(FakeEngine::new());
    let builder = Pool::builder("waits").image("any").engine(engine);
    let builder = builder.tokio_runtime(Handle::current()).min_idle(1).max_total(1);
    builder.build().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_wait_ends_at_its_own_limit_in_whatever_order_they_began() {
    let pool = of_one().await;
    let held = pool.acquire().await.unwrap();
    // Longer and shorter than those before, the same ones, and one without end.
    let limits = [40, 10, 30, 10, 20, 50, 5, 40].map(Duration::from_secs);
    let begun = Instant::now();
    let mut waits = tokio::task::JoinSet::new();
    for limit in limits.into_iter().chain([Duration::MAX]) {
        let pool = pool.clone();
        waits.spawn(async move { (limit, pool.acquire_timeout(limit).await, begun.elapsed()) });
    }
    for _ in limits {
        let (limit, ended, elapsed) = waits.join_next().await.unwrap().unwrap();
        let Err(Error::AcquireTimeout(timeout)) = ended else {
            panic!("{ended:?}")
        };
        assert!(
            elapsed >= limit && elapsed < limit + Duration::from_millis(5),
            "{limit:?}: {elapsed:?}"
        );
        assert_eq!(timeout.waited.as_secs(), limit.as_secs());
    }
    let status = pool.status();
    assert_eq!(
        (status.waiting, status.lifetime.acquire_timeouts),
        (1, limits.len() as u64)
    );
    drop(held);
    let (limit, ended, _) = waits.join_next().await.unwrap().unwrap();
    assert!(limit == Duration::MAX && ended.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_without_time_takes_an_idle_container_only() {
    let pool = of_one().await;
    let held = pool.acquire_timeout(Duration::ZERO).await.unwrap();
    let begun = Instant::now();
    let error = pool.acquire_timeout(Duration::ZERO).await.unwrap_err();
    assert!(
        error.is_timeout() && begun.elapsed() < Duration::from_millis(5),
        "{error}"
    );
    drop(held);
    drop(pool.acquire_timeout(Duration::ZERO).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn an_acquire_that_nobody_polls_leaves_the_queue_at_its_limit() {
    let pool = of_one().await;
    let held = pool.acquire().await.unwrap();
    let mut abandoned = pin!(pool.acquire_timeout(Duration::from_secs(1)));
    assert!(
        abandoned
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    );
    assert_eq!(pool.status().waiting, 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.status().waiting, 0);
    // The container is not handed to it.
    drop(held);
    assert_eq!(pool.status().idle, 1);
    drop(pool.try_acquire().unwrap().unwrap());
    assert!(abandoned.await.unwrap_err().is_timeout());
}

/// A waker that counts, and panics.
#[derive(Default)]
struct Panics(AtomicUsize);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("a waker of the caller's");
    }
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_ends_neither_the_pool_nor_the_lease_that_wakes_it() {
    let pool = of_one().await;
    let waker = Arc::new(Panics::default());
    let callers = Waker::from(waker.clone());
    let cx = &mut Context::from_waker(&callers);

    // Woken by the drop of a guard.
    let held = pool.acquire().await.unwrap();
    let mut waits = Box::pin(pool.acquire());
    assert!(waits.as_mut().poll(cx).is_pending());
    drop(held);
    assert_eq!(waker.0.load(Ordering::SeqCst), 1);
    let Poll::Ready(Ok(held)) = waits.as_mut().poll(cx) else {
        panic!("the container was handed over")
    };
    // Given back by a future that is dropped after it was served.
    let mut waits = Box::pin(pool.acquire());
    assert!(waits.as_mut().poll(cx).is_pending());
    drop(held);
    drop(waits);
    assert_eq!((waker.0.load(Ordering::SeqCst), pool.status().idle), (2, 1));

    // Woken by the pool's own task, at the limit of time and at the shutdown.
    let held = pool.acquire().await.unwrap();
    let mut late = Box::pin(pool.acquire_timeout(Duration::from_secs(1)));
    let mut closed = Box::pin(pool.acquire_timeout(Duration::from_secs(100)));
    assert!(late.as_mut().poll(cx).is_pending() && closed.as_mut().poll(cx).is_pending());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(waker.0.load(Ordering::SeqCst), 3);
    assert!(late.await.unwrap_err().is_timeout());
    // The task still works.
    assert!(
        pool.acquire_timeout(Duration::from_secs(1))
            .await
            .unwrap_err()
            .is_timeout()
    );
    drop(held);
    assert_eq!(waker.0.load(Ordering::SeqCst), 4);
    drop(closed);
    let held = pool.acquire().await.unwrap();
    let mut closed = Box::pin(pool.acquire());
    assert!(closed.as_mut().poll(cx).is_pending());
    pool.shutdown_timeout(Duration::ZERO).await.unwrap();
    assert_eq!(waker.0.load(Ordering::SeqCst), 5);
    assert!(matches!(closed.await, Err(Error::Shutdown { .. })));
    drop(held);
}
