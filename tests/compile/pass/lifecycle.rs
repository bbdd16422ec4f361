//! The counterparts of the failing cases: each state allows its transitions. Runs on the in-memory engine.

use std::sync::Arc;
use std::time::Duration;

use dockerpool::testing::FakeEngine;
use dockerpool::{
    Child, Command, Container, ContainerSpec, Created, Error, Exited, Paused, Pool, PooledContainer, Running,
};

async fn alone(engine: Arc<FakeEngine>) -> Result<(), Error> {
    let spec = ContainerSpec::new("any").cmd(["sleep", "60"]);
    let created: Container<Created> = Container::create(engine, spec).await?;
    let running: Container<Running> = created.start().await?;
    let _ = running.command("true").status().await?;
    let paused: Container<Paused> = running.pause().await?;
    let running: Container<Running> = paused.unpause().await?;
    let exited: Container<Exited> = running.stop(Duration::ZERO).await?;
    let running: Container<Running> = exited.start().await?;
    let exited: Container<Exited> = running.pause().await?.kill().await?;
    exited.remove().await
}

async fn lent(pool: &Pool) -> Result<(), Error> {
    let guard: PooledContainer = pool.acquire().await?;
    let mut command: Command<'_> = guard.command("true");
    let mut child: Child<'_> = command.spawn().await?;
    let _ = child.wait().await?;
    drop(child);
    guard.discard();

    let inner: Container<Running> = pool.acquire().await?.into_inner();
    inner.remove().await
}

/// Lent containers can move to other tasks and threads.
fn assert_send<T: Send + 'static>() {}

#[tokio::main(flavor = "current_thread")]
pub async fn main() -> Result<(), Error> {
    assert_send::<Pool>();
    assert_send::<PooledContainer>();
    assert_send::<Container<Created>>();
    assert_send::<Container<Running>>();
    assert_send::<Container<Paused>>();
    assert_send::<Container<Exited>>();

    let engine = Arc::new(FakeEngine::new());
    alone(engine.clone()).await?;
    let pool = Pool::builder("lifecycle")
        .image("any")
        .engine(engine.clone())
        .build()
        .await?;
    lent(&pool).await?;
    pool.shutdown().await?;
    assert!(engine.containers().is_empty());
    Ok(())
}
