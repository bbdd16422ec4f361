//! Faults of a real engine, which is stopped, killed, frozen, or out of disk: errors are typed, nothing leaks, and
//! the pool is whole again soon after the engine answers. Each test has an engine of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::private_engine::PrivateEngine;
use crate::support::{Capability, containers_of, eventually_now, lacks, pool};
use dockerpool::engine::{Lifecycle, Observation, Selector};
use dockerpool::{DockerEngine, EngineErrorKind, Error, ExitStatus, Output, Pool, PoolBuilder, PullPolicy};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

const TOTAL: usize = 3;

/// The promise is full capacity within 5 s plus the time of one creation once the engine answers. This bound is five
/// times as long.
const WHOLE_AGAIN: Duration = Duration::from_secs(25 + 5);

fn pool_on(engine: &Arc<DockerEngine>, name: &str) -> PoolBuilder {
    pool(name)
        .engine(engine.clone())
        .pull(PullPolicy::Never)
        .min_idle(2)
        .max_total(TOTAL)
        .engine_timeout(Duration::from_secs(5))
}

/// Watches the counts of a pool. Asserts at the end that they never exceeded the maximum.
struct Numbers(JoinHandle<()>);

impl Numbers {
    fn of(pool: &Pool) -> Self {
        let pool = pool.clone();
        Self(tokio::spawn(async move {
            loop {
                let status = pool.status();
                assert!(status.total() <= TOTAL, "{status}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }))
    }

    async fn assert_never_exceeded(self) {
        self.0.abort();
        assert!(self.0.await.unwrap_err().is_cancelled());
    }
}

/// Leases a container and runs a command in it until the engine ends it.
fn lease_with_command(pool: &Pool) -> JoinHandle<(String, Result<Output, Error>)> {
    let pool = pool.clone();
    tokio::spawn(async move {
        let c = pool.acquire().await.unwrap();
        let result = c.command("sleep").arg("1000").output().await;
        (c.name().to_owned(), result)
    })
}

/// Asserts that a failure names its container and its cause, and is retryable.
fn assert_typed(container: &str, result: Result<Output, Error>) {
    match result {
        Ok(output) => assert!(
            // An engine that shuts down in good order kills its containers first, and may still report that.
            matches!(
                output.status,
                ExitStatus::ContainerGone { .. } | ExitStatus::Unknown | ExitStatus::Signaled(9)
            ),
            "{output:?}"
        ),
        Err(error) => {
            assert!(error.is_retryable(), "{error:?}");
            assert_eq!(error.container(), Some(container), "{error:?}");
            assert!(error.engine_error().is_some(), "{error:?}");
        }
    }
}

/// Asserts that all containers can be acquired in time and that each of them runs a command.
async fn assert_whole_again(what: &str, pool: &Pool) {
    let answered = Instant::now();
    let all = join_all((0..TOTAL).map(|_| pool.acquire_timeout(2 * WHOLE_AGAIN))).await;
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    let took = answered.elapsed();
    for c in &all {
        let status = c.command("true").timeout(Duration::from_secs(30)).status().await;
        assert!(status.unwrap().success());
    }
    println!("{what}: full capacity {took:.2?} after the engine answered");
    assert!(took < WHOLE_AGAIN, "{took:?}");
}

/// Asserts that nothing is left and that the counts were right throughout.
async fn assert_ended_well(engine: &DockerEngine, pool: Pool, numbers: Numbers) {
    pool.shutdown().await.unwrap();
    assert_eq!(pool.status().total(), 0);
    numbers.assert_never_exceeded().await;
    assert_eq!(containers_of(engine, &pool).await, 0);
}

/// Ends the daemon while two containers are idle and one runs a command, and starts it again after a while.
async fn restarted(what: &str, options: &str, signal: &str) {
    let mut private = PrivateEngine::start(options).await;
    let engine = private.connect().await;
    let pool = pool_on(&engine, "restarted").build().await.unwrap();
    let numbers = Numbers::of(&pool);
    let busy = lease_with_command(&pool);
    eventually_now("all are up", || pool.status().idle == 2 && pool.status().in_use == 1).await;

    private.end(signal).await;
    // The broken lifelines taint all containers, also those that live on.
    eventually_now("no container is idle", || pool.status().idle == 0).await;
    let (container, result) = busy.await.unwrap();
    assert_typed(&container, result);
    let error = pool.acquire_timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error:?}");
    let cause = error.engine_error().expect("a creation was tried").kind();
    assert!(
        matches!(
            cause,
            EngineErrorKind::Unreachable | EngineErrorKind::Protocol | EngineErrorKind::Internal
        ),
        "{error:?}"
    );

    private.dockerd().await;
    assert_whole_again(what, &pool).await;
    // The pool has subscribed to events again.
    let idle = pool.acquire().await.unwrap().id().to_owned();
    eventually_now("the pool is whole", || {
        pool.status().in_use == 0 && pool.status().creating == 0
    })
    .await;
    let before = pool.status();
    engine.kill(&idle).await.unwrap();
    eventually_now("the death is noticed", || pool.status().idle < before.idle).await;
    assert_ended_well(&engine, pool, numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_recovers_from_an_engine_that_is_stopped_and_started() {
    if lacks(Capability::Root) {
        return;
    }
    restarted("stopped and started", "", "TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_recovers_from_a_restart_during_which_containers_live_on() {
    if lacks(Capability::Root) {
        return;
    }
    restarted("stopped and started with live-restore", "--live-restore", "TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_recovers_from_an_engine_that_is_killed_and_started() {
    if lacks(Capability::Root) {
        return;
    }
    restarted("killed and started", "", "KILL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_recovers_from_an_engine_that_accepts_but_does_not_answer_for_ten_seconds() {
    if lacks(Capability::Root) {
        return;
    }
    let mut private = PrivateEngine::start("").await;
    let engine = private.connect().await;
    let builder = pool_on(&engine, "frozen");
    let pool = builder.engine_timeout(Duration::from_secs(3)).build().await.unwrap();
    let numbers = Numbers::of(&pool);
    let c = pool.acquire().await.unwrap();
    eventually_now("all are up", || pool.status().idle == 2).await;

    private.signal("STOP").await;
    let frozen = Instant::now();
    let error = c.command("true").output().await.unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error:?}");
    assert_eq!(error.container(), Some(c.name()));
    assert!(frozen.elapsed() < Duration::from_secs(9), "{:?}", frozen.elapsed());
    assert!(c.taint().is_some());
    drop(c);
    // Idle containers are still lent. After them, acquires time out.
    let lent = [
        pool.try_acquire().unwrap().unwrap(),
        pool.try_acquire().unwrap().unwrap(),
    ];
    let error = pool.acquire_timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    drop(lent);
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(frozen.elapsed())).await;
    private.signal("CONT").await;

    assert_whole_again("frozen for ten seconds", &pool).await;
    assert_ended_well(&engine, pool, numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_recovers_from_a_full_disk_and_from_a_removed_image() {
    if lacks(Capability::Root) {
        return;
    }
    let mut private = PrivateEngine::not_started("").await;
    let data = private.data().display().to_string();
    private.run(&format!("mount -t tmpfs -o size=64m tmpfs {data}")).await;
    private.dockerd().await;
    private.load_image().await;
    let engine = private.connect().await;
    let pool = pool_on(&engine, "full").build().await.unwrap();
    let numbers = Numbers::of(&pool);
    discard_one(&pool).await;
    private
        .run(&format!("dd if=/dev/zero of={data}/filler bs=4k 2>/dev/null || true"))
        .await;
    let error = cannot_refill(&pool).await;
    assert_eq!(error.kind(), EngineErrorKind::Internal, "{error:?}");
    assert!(
        error.to_string().contains("space") || format!("{error:?}").contains("no space left"),
        "{error:?}"
    );
    assert!(error.is_retryable());
    private.run(&format!("rm {data}/filler")).await;
    assert_whole_again("disk full", &pool).await;

    // An image in use can be removed only by force, which removes its name.
    let options = bollard::query_parameters::RemoveImageOptions {
        force: true,
        ..Default::default()
    };
    engine
        .bollard()
        .remove_image(&crate::support::busybox(), Some(options), None)
        .await
        .unwrap();
    discard_one(&pool).await;
    let error = cannot_refill(&pool).await;
    assert_eq!(error.kind(), EngineErrorKind::ImageNotFound, "{error:?}");
    assert!(!error.is_retryable());
    private.load_image().await;
    assert_whole_again("image removed", &pool).await;
    assert_ended_well(&engine, pool, numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_recovers_from_a_network_that_is_removed_and_made_again() {
    if lacks(Capability::Root) {
        return;
    }
    let private = PrivateEngine::start("").await;
    let engine = private.connect().await;
    let request = bollard::models::NetworkCreateRequest {
        name: "lonely".to_owned(),
        internal: Some(true),
        ..Default::default()
    };
    engine.bollard().create_network(request.clone()).await.unwrap();
    let host = bollard::models::HostConfig {
        network_mode: Some("lonely".to_owned()),
        ..Default::default()
    };
    let pool = pool_on(&engine, "network").host_config(host).build().await.unwrap();
    let numbers = Numbers::of(&pool);
    discard_one(&pool).await;
    for container in engine
        .list(&Selector::label(dockerpool::labels::INSTANCE, pool.instance()))
        .await
        .unwrap()
    {
        let leave = bollard::models::NetworkDisconnectRequest {
            container: container.id,
            force: Some(true),
        };
        engine.bollard().disconnect_network("lonely", leave).await.unwrap();
    }
    engine.bollard().remove_network("lonely").await.unwrap();
    let error = cannot_refill(&pool).await;
    assert!(
        error.to_string().contains("lonely") || format!("{error:?}").contains("lonely"),
        "{error:?}"
    );
    engine.bollard().create_network(request).await.unwrap();
    assert_whole_again("network removed", &pool).await;
    assert_ended_well(&engine, pool, numbers).await;
}

/// Leaves two idle containers and a free slot for a third.
async fn discard_one(pool: &Pool) {
    let all = join_all((0..TOTAL).map(|_| pool.acquire())).await;
    for (c, discard) in all.into_iter().zip([true, false, false]) {
        let c = c.unwrap();
        if discard {
            c.discard();
        }
    }
    eventually_now("one container is removed", || {
        pool.status().idle == 2 && pool.status().total() == 2
    })
    .await;
}

/// Asserts that idle containers are lent although no third can be created. Returns the reason.
async fn cannot_refill(pool: &Pool) -> dockerpool::EngineError {
    let _lent = [
        pool.try_acquire().unwrap().unwrap(),
        pool.try_acquire().unwrap().unwrap(),
    ];
    let error = pool.acquire_timeout(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    error.engine_error().expect("a creation was tried").clone()
}
