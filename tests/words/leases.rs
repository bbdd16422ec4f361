//! Leases: no container in time, a pool that is shut down, and errors that no call returns.

use std::sync::Arc;
use std::time::Duration;

use dockerpool::engine::Creation;
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind as Kind, Error, Lease, Reuse};
use insta::assert_snapshot;
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::time::sleep;

use crate::support::eventually_now;
use crate::{builder, said};

const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_acquire_that_is_not_served_in_time_says_why() {
    let engine = FakeEngine::new();
    let pool = builder(&engine)
        .max_total(1)
        .acquire_timeout(Duration::from_secs(10))
        .build()
        .await
        .unwrap();
    let c = pool.acquire_for("session 1").await.unwrap();
    assert_snapshot!(said(&pool.acquire().await.unwrap_err()), @"no container of pool words within 10 s (0 idle, 1 in use, 0 creating, 0 recycling, at most 1; 1 waiting); all are lent: give them back sooner, or raise max_total()");
    assert_snapshot!(said(&pool.acquire_for("session 1").await.unwrap_err()), @"no container of pool words within 10 s (0 idle, 1 in use, 0 creating, 0 recycling, at most 1; 0 waiting); another lease of the same key did not end: give it back sooner");
    drop(c);
    pool.shutdown().await.unwrap();

    engine.answer(Call::Create, Answer::Fail(Kind::Unreachable));
    let pool = builder(&engine).min_idle(0).build().await.unwrap();
    assert_snapshot!(said(&pool.acquire_timeout(SOON).await.unwrap_err()), @"no container of pool words within 1 s (0 idle, 0 in use, 0 creating, 0 recycling, at most 32; 1 waiting); the last attempt to create one failed: Create was made to fail (is the engine running? see DOCKER_HOST)");
    engine.answer(Call::Create, Answer::Fail(Kind::Rejected));
    assert_snapshot!(said(&pool.acquire().await.unwrap_err()), @"could not create a container for pool words: Create was made to fail");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_says_what_it_could_not_do_and_later_acquires_that_it_was() {
    let engine = FakeEngine::new();
    let pool = builder(&engine).build().await.unwrap();
    pool.shutdown().await.unwrap();
    assert_snapshot!(said(&pool.acquire().await.unwrap_err()), @"pool words is shut down and lends no more containers; build another");
    assert_snapshot!(said(&pool.refresh().await.unwrap_err()), @"pool words is shut down and lends no more containers; build another");

    let pool = builder(&engine).build().await.unwrap();
    engine.answer(Call::Remove, Answer::Fail(Kind::Rejected));
    assert_snapshot!(said(&pool.shutdown_timeout(SOON).await.unwrap_err()), @"the shutdown of pool words could not remove everything: Remove was made to fail; look for containers with the label dockerpool.instance=[id]");
    engine.answer(Call::Remove, Answer::Ok);
    let pool = builder(&engine).build().await.unwrap();
    engine.answer(Call::Remove, Answer::Never);
    assert_snapshot!(said(&pool.shutdown_timeout(SOON).await.unwrap_err()), @"the shutdown of pool words could not remove everything: the engine did not remove everything within 10 s; look for containers with the label dockerpool.instance=[id]");
}

#[test]
fn a_runtime_that_has_ended_is_told() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let pool = runtime.block_on(async { builder(&FakeEngine::new()).build().await.unwrap() });
    runtime.shutdown_timeout(Duration::from_secs(60));
    let other = Builder::new_current_thread().build().unwrap();
    assert_snapshot!(said(&other.block_on(pool.acquire()).unwrap_err()), @"the runtime given to PoolBuilder::tokio_runtime() or Container::create_on() has ended, and their work with it; build them on a runtime that outlives them");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_says_at_which_step() {
    let engine = FakeEngine::new();
    let pool = builder(&engine).build().await.unwrap();
    engine.answer_once(Call::Prepare, Answer::Fail(Kind::ImageNotFound));
    assert_snapshot!(said(&pool.refresh().await.unwrap_err()), @"could not prepare the image for pool words: Prepare was made to fail (is the name right? else pull the image: see pull() and Pool::refresh())");
    engine.answer_once(Call::Create, Answer::Fail(Kind::Internal));
    assert_snapshot!(said(&pool.refresh().await.unwrap_err()), @"could not create the successor of a container for pool words: Create was made to fail");
}

#[tokio::test]
async fn a_bad_lease_is_named() {
    let pool = builder(&FakeEngine::new()).reuse(Reuse::AsIs).build().await.unwrap();
    let lease = Lease::new()
        .key("")
        .env("A=B", "x")
        .file("etc/motd", "x")
        .secret_file("/root/token", "x");
    assert_snapshot!(said(&pool.acquire_with(lease).await.unwrap_err()), @"bad configuration of pool words: key: must not be empty; env 1: a name must not be empty nor contain '='; file 1 (etc/motd): must be an absolute path of a file, without NUL; secret_file 2 (/root/token): must be in a file system in memory, such as one of tmpfs()");
}

#[tokio::test(start_paused = true)]
async fn errors_that_no_call_returns_name_pool_and_container() {
    let engine = FakeEngine::new();
    let mut creation = Creation::new("");
    creation.warnings = vec!["no swap".to_owned()];
    engine.say_of_created(creation);
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = {
        let told = told.clone();
        move |error: &Error| told.lock().push(said(error))
    };
    let pool = builder(&engine).on_error(tell).build().await.unwrap();
    let next = async || {
        eventually_now("the pool tells of an error", || !told.lock().is_empty()).await;
        told.lock().remove(0)
    };
    assert_snapshot!(next().await, @"the engine warns about container dockerpool-words-[id]-[n] of pool words: no swap");
    let c = pool.acquire().await.unwrap();
    eventually_now("the pool is filled", || pool.idle_count() == 1).await;
    engine.answer(Call::Remove, Answer::Fail(Kind::Internal));
    c.discard();
    // As long as a removal is tried.
    sleep(Duration::from_secs(700)).await;
    assert_snapshot!(next().await, @"could not remove the container dockerpool-words-[id]-[n] of pool words: Remove was made to fail");
    engine.answer(Call::Remove, Answer::Ok);
    engine.answer(Call::Create, Answer::Fail(Kind::Internal));
    pool.acquire().await.unwrap().discard();
    assert_snapshot!(next().await, @"could not create the container dockerpool-words-[id]-[n] of pool words: Create was made to fail");
}
