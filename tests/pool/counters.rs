//! Counters and gauges of a pool, and the errors of its background tasks.

use std::sync::Arc;
use std::time::Duration;

use crate::support::eventually_now;
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Error, Pool, PoolBuilder};
use parking_lot::Mutex;
use tokio::runtime::Handle;

fn builder(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("counted")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
}

#[tokio::test]
async fn every_step_is_counted_once() {
    let engine = FakeEngine::new();
    let pool = builder(&engine).min_idle(1).max_total(3).build().await.unwrap();
    assert_eq!((pool.idle_count(), pool.in_use()), (1, 0));
    let c = pool.acquire().await.unwrap();
    assert_eq!(pool.in_use(), 1);
    drop(c);
    pool.acquire().await.unwrap().discard();
    let taken = pool.acquire().await.unwrap().into_inner();
    eventually_now("the discarded container is replaced", || {
        pool.idle_count() == 1 && pool.status().recycling == 0
    })
    .await;
    let now = pool.status().lifetime;
    assert_eq!(
        (now.lent, now.returned, now.discarded, now.taken),
        (3, 1, 1, 1),
        "{now:?}"
    );
    assert_eq!(
        now.created,
        now.removed + now.taken + pool.status().total() as u64,
        "{now:?}"
    );
    taken.remove().await.unwrap();

    let guards = [
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
        pool.acquire().await.unwrap(),
    ];
    pool.acquire_timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(pool.status().lifetime.acquire_timeouts, 1);
    drop(guards);
    pool.shutdown().await.unwrap();
    let now = pool.status().lifetime;
    assert_eq!(now.lent, now.returned + now.discarded + now.taken, "{now:?}");
    assert_eq!(now.created, now.removed + now.taken, "{now:?}");
}

#[tokio::test]
async fn a_container_that_died_idle_does_not_count_as_lent() {
    let engine = FakeEngine::new();
    let pool = builder(&engine).min_idle(2).build().await.unwrap();
    engine.end_container(&engine.containers()[0].id);
    eventually_now("the dead container is replaced", || {
        pool.status().lifetime.created == 3 && pool.idle_count() == 2
    })
    .await;
    let now = pool.status().lifetime;
    assert_eq!((now.lent, now.discarded), (0, 0));
    eventually_now("the dead container is removed", || pool.status().lifetime.removed == 1).await;
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn failed_creations_are_counted_and_reported_and_a_panicking_listener_ends_nothing() {
    let engine = FakeEngine::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let pool = builder(&engine)
        .on_error(move |error| {
            listener.lock().push(error.to_string());
            assert!(matches!(error, Error::Engine { .. }) && error.container().is_some());
            panic!("a panic of the listener");
        })
        .build()
        .await
        .unwrap();
    engine.answer_once(Call::Create, Answer::Fail(EngineErrorKind::Internal));
    engine.answer_once(Call::Start, Answer::Fail(EngineErrorKind::Internal));
    drop(pool.acquire().await.unwrap());
    let now = pool.status().lifetime;
    assert_eq!((now.create_failures, now.created), (2, 1), "{now:?}");
    assert_eq!(told.lock().len(), 2, "{told:?}");
    assert!(told.lock()[0].contains("could not create the container"), "{told:?}");
    pool.shutdown().await.unwrap();
    assert_eq!(
        pool.status().lifetime.removed,
        1,
        "a container that never started does not count as removed"
    );
}

#[tokio::test(start_paused = true)]
async fn containers_left_by_the_end_of_a_dropped_pool_are_reported() {
    let engine = FakeEngine::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let tell = move |error: &Error| listener.lock().push(matches!(error, Error::ShutdownIncomplete { .. }));
    let pool = builder(&engine).on_error(tell).build().await.unwrap();
    engine.answer(Call::List, Answer::Fail(EngineErrorKind::Rejected));
    drop(pool);
    eventually_now("the incomplete shutdown is reported", || told.lock().contains(&true)).await;
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_removal_is_reported_whatever_its_cause() {
    let engine = FakeEngine::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = told.clone();
    let tell = move |error: &Error| match error {
        Error::Engine { op, .. } => listener
            .lock()
            .push((op.to_string(), error.container().unwrap().to_owned())),
        error => panic!("{error:?}"),
    };
    let pool = builder(&engine).on_error(tell).build().await.unwrap();
    engine.answer(Call::Remove, Answer::Fail(EngineErrorKind::Internal));
    // Three removals: by the pool, by the owner of a container that was taken out, and after a creation that failed
    // half way.
    let discarded = pool.acquire().await.unwrap();
    let taken_out = pool.acquire().await.unwrap().into_inner();
    let mut names = vec![discarded.name().to_owned(), taken_out.name().to_owned()];
    discarded.discard();
    drop(taken_out);
    engine.answer_once(Call::Start, Answer::Fail(EngineErrorKind::Internal));
    drop(pool.acquire().await.unwrap());
    let (op, half_made) = told.lock().remove(0);
    assert_eq!(op, "create the container");
    names.push(half_made);

    tokio::time::sleep(Duration::from_secs(590)).await;
    assert!(told.lock().is_empty(), "{told:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut given_up: Vec<_> = told.lock().drain(..).collect();
    given_up.sort();
    names.sort();
    let expected: Vec<_> = names
        .into_iter()
        .map(|name| ("remove the container".to_owned(), name))
        .collect();
    assert_eq!(given_up, expected);
    engine.answer(Call::Remove, Answer::Ok);
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test]
async fn concurrent_removals_are_bounded_by_their_limit() {
    for limit in [1, 3] {
        let engine = FakeEngine::new();
        engine.answer(Call::Remove, Answer::Never);
        let pool = builder(&engine)
            .min_idle(8)
            .max_concurrent_removals(limit)
            .build()
            .await
            .unwrap();
        let guards: Vec<_> = (0..8).map(|_| pool.try_acquire().unwrap().unwrap()).collect();
        guards.into_iter().for_each(|guard| guard.discard());
        eventually_now("the first are being removed", || engine.calls(Call::Remove) == limit).await;
        eventually_now("the others wait", || pool.status().recycling == 8).await;
        assert_eq!(engine.calls(Call::Remove), limit);
        engine.answer(Call::Remove, Answer::Ok);
        pool.shutdown_timeout(Duration::ZERO).await.unwrap();
        assert!(engine.containers().is_empty());
    }
}
