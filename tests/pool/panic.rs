//! Panics while a guard is held: the container is not lent again, and no slot is lost.

use std::sync::Arc;

use crate::support::{containers_of, engine, pool};
use dockerpool::Pool;
use dockerpool::testing::FakeEngine;
use tokio::runtime::Handle;

#[tokio::test]
async fn a_container_whose_lease_panicked_is_replaced() {
    let pool = pool("panic").max_total(1).build().await.unwrap();
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            let c = pool.acquire().await.unwrap();
            assert!(c.command("true").status().await.unwrap().success());
            if c.taint().is_none() {
                panic!("{}", c.id());
            }
        }
    });
    let panicked = task.await.unwrap_err().into_panic();
    let id = panicked.downcast_ref::<String>().unwrap();
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), id);
    assert_eq!(containers_of(&*engine().await, &pool).await, 1);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[test]
fn a_panic_through_the_runtime_leaves_nothing() {
    let engine = FakeEngine::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe({
        let engine = engine.clone();
        move || {
            runtime.block_on(async {
                let pool = Pool::builder("panic")
                    .image("any")
                    .engine(Arc::new(engine))
                    .min_idle(2)
                    .tokio_runtime(Handle::current())
                    .build()
                    .await
                    .unwrap();
                let _c = pool.acquire().await.unwrap();
                panic!("on purpose");
            })
        }
    }));
    assert!(result.is_err());
    // The panic ended the runtime. Threads of the library do the remaining work.
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !engine.containers().is_empty() {
        assert!(std::time::Instant::now() < give_up, "left: {:?}", engine.containers());
        std::thread::yield_now();
    }
}
