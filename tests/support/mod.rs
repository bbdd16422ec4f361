//! What the tests on the real engine share.
#![allow(dead_code)] // each test binary uses its part of it

use std::sync::Arc;
use std::time::Duration;

use dockerpool::{DockerEngine, Engine, Pool, PoolBuilder};

/// A small image with a shell; `./dev` says which.
pub fn busybox() -> String {
    image("DOCKERPOOL_BUSYBOX_IMAGE", "dockerpool-local/busybox:1")
}

/// An image with a real Python.
pub fn python() -> String {
    image("DOCKERPOOL_PYTHON_IMAGE", "dockerpool-local/python:1")
}

fn image(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// A pool of busybox containers, none of which is made before it is asked for.
pub fn pool(name: &str) -> PoolBuilder {
    Pool::builder(name).image(busybox()).min_idle(0).memory(64 << 20)
}

/// The real engine.
pub async fn engine() -> Arc<DockerEngine> {
    Arc::new(
        DockerEngine::connect()
            .await
            .expect("a Docker engine is needed: ./dev engine start"),
    )
}

/// How many containers of this pool the engine has, in any state.
pub async fn containers_of(engine: &dyn Engine, pool: &Pool) -> usize {
    containers_of_instance(engine, pool.instance()).await
}

/// The same, when the pool itself is gone.
pub async fn containers_of_instance(engine: &dyn Engine, instance: &str) -> usize {
    let selector = dockerpool::engine::Selector::label(dockerpool::labels::INSTANCE, instance);
    engine
        .list(&selector)
        .await
        .expect("the engine lists its containers")
        .len()
}

/// Waits until a condition holds; fails after half a minute, which is far more than anything here takes.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(tokio::time::Instant::now() < give_up, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same for a condition that needs no engine.
pub async fn eventually_now(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || std::future::ready(holds())).await;
}
