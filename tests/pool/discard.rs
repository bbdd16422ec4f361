//! Discarding: the container is removed and replaced in the background.

use std::sync::Arc;

use crate::support::{containers_of, engine, eventually, eventually_now, pool};
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Pool};
use tokio::runtime::Handle;

#[tokio::test]
async fn a_discarded_container_is_gone_from_the_engine_and_replaced() {
    let pool = pool("discard").min_idle(1).max_total(1).build().await.unwrap();
    let engine = engine().await;
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    c.discard();
    // The slot stays taken until the engine has removed the container: there is never more than one.
    assert_eq!(pool.status().total(), 1);
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), id);
    assert!(engine.bollard().inspect_container(&id, None).await.is_err());
    drop(c);
    eventually("the container is replaced", async || {
        containers_of(&*engine, &pool).await == 1
    })
    .await;
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_removal_is_retried_and_holds_its_slot_until_it_succeeds() {
    let engine = FakeEngine::new();
    let pool = Pool::builder("discard")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
        .max_total(1)
        .build()
        .await
        .unwrap();
    for _ in 0..3 {
        engine.answer_once(Call::Remove, Answer::Fail(EngineErrorKind::Internal));
    }
    pool.acquire().await.unwrap().discard();
    assert_eq!((pool.status().recycling, pool.status().total()), (1, 1));
    let c = pool.acquire().await.unwrap();
    assert_eq!(engine.calls(Call::Remove), 4);
    assert_eq!(engine.peak(), 1);
    drop(c);
}

#[tokio::test]
async fn the_minimum_is_restored_after_all_are_discarded() {
    let engine = FakeEngine::new();
    let pool = Pool::builder("discard")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(3)
        .build()
        .await
        .unwrap();
    for _ in 0..3 {
        pool.acquire().await.unwrap().discard();
    }
    eventually_now("three are idle again", || {
        pool.status().idle == 3 && pool.status().total() == 3
    })
    .await;
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}
