//! A real engine that is stopped, killed, frozen, starved of disk: typed errors, no leak, and the pool whole again soon
//! after it answers. Each on an engine of the test's own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::private_engine::PrivateEngine;
use crate::support::{Capability, containers_of, eventually_now, lacks, pool};
use dockerpool::engine::{Lifecycle, Observation, Selector};
use dockerpool::{DockerEngine, EngineErrorKind, Error, ExitStatus, Output, Pool, PoolBuilder, PullPolicy};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

const TOTAL: usize = 3;

/// Full capacity is promised within 5 s and the time of a creation once the engine answers; five times that here.
const WHOLE_AGAIN: Duration = Duration::from_secs(25 + 5);

fn pool_on(engine: &Arc<DockerEngine>, name: &str) -> PoolBuilder {
    pool(name)
        .engine(engine.clone())
        .pull(PullPolicy::Never)
        .min_idle(2)
        .max_total(TOTAL)
        .engine_timeout(Duration::from_secs(5))
}

/// Watches the pool's numbers until it is asked whether they were right throughout.
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

    async fn were_right(self) {
        self.0.abort();
        assert!(self.0.await.unwrap_err().is_cancelled());
    }
}

/// A lease with a command in it that goes on until the engine makes an end of it.
fn lease_with_command(pool: &Pool) -> JoinHandle<(String, Result<Output, Error>)> {
    let pool = pool.clone();
    tokio::spawn(async move {
        let c = pool.acquire().await.unwrap();
        let result = c.command("sleep").arg("1000").output().await;
        (c.name().to_owned(), result)
    })
}

/// A failure says on which container, what failed, and that another try may do.
fn assert_typed(container: &str, result: Result<Output, Error>) {
    match result {
        Ok(output) => assert!(
            // An engine that ends in good order kills its containers first, and may still tell of that.
            matches!(
                output.status,
                ExitStatus::ContainerGone | ExitStatus::Unknown | ExitStatus::Signaled(9)
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

/// All there may be can be had, and every one of them works.
async fn whole_again(what: &str, pool: &Pool) {
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

/// Nothing is left, and nothing was ever too many.
async fn ended_well(engine: &DockerEngine, pool: Pool, numbers: Numbers) {
    pool.shutdown().await.unwrap();
    assert_eq!(pool.status().total(), 0);
    numbers.were_right().await;
    assert_eq!(containers_of(engine, &pool).await, 0);
}

/// Both idle containers and one with a command in it are there as the daemon goes; it comes back after a while.
async fn restarted(what: &str, options: &str, signal: &str) {
    let mut private = PrivateEngine::start(options).await;
    let engine = private.connect().await;
    let pool = pool_on(&engine, "restarted").build().await.unwrap();
    let numbers = Numbers::of(&pool);
    let busy = lease_with_command(&pool);
    eventually_now("all are up", || pool.status().idle == 2 && pool.status().in_use == 1).await;

    private.end(signal).await;
    // All are tainted as their lifelines break, also those that live on.
    eventually_now("none is lent any more", || pool.status().idle == 0).await;
    let (container, result) = busy.await.unwrap();
    assert_typed(&container, result);
    let error = pool.acquire_timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error:?}");
    let cause = error.engine_error().expect("a creation was tried meanwhile").kind();
    assert!(
        matches!(
            cause,
            EngineErrorKind::Unreachable | EngineErrorKind::Protocol | EngineErrorKind::Internal
        ),
        "{error:?}"
    );

    private.dockerd().await;
    whole_again(what, &pool).await;
    // The stream of events is there again.
    let idle = pool.acquire().await.unwrap().id().to_owned();
    eventually_now("it is whole", || {
        pool.status().in_use == 0 && pool.status().creating == 0
    })
    .await;
    let before = pool.status();
    engine.kill(&idle).await.unwrap();
    eventually_now("a death is told", || pool.status().idle < before.idle).await;
    ended_well(&engine, pool, numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_stopped_and_started() {
    if lacks(Capability::Root) {
        return;
    }
    restarted("stopped and started", "", "TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_stopped_and_started_while_containers_live_on() {
    if lacks(Capability::Root) {
        return;
    }
    restarted("stopped and started with live-restore", "--live-restore", "TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_and_started() {
    if lacks(Capability::Root) {
        return;
    }
    restarted("killed and started", "", "KILL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_accepts_and_does_not_answer_for_ten_seconds() {
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
    // What is idle is still lent; there is no more when that is gone.
    let lent = [
        pool.try_acquire().unwrap().unwrap(),
        pool.try_acquire().unwrap().unwrap(),
    ];
    let error = pool.acquire_timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    drop(lent);
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(frozen.elapsed())).await;
    private.signal("CONT").await;

    whole_again("frozen for ten seconds", &pool).await;
    ended_well(&engine, pool, numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_whose_disk_is_full_and_whose_image_is_removed() {
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
    whole_again("disk full", &pool).await;

    // An image that is in use can be taken away only by force, which takes its name.
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
    whole_again("image removed", &pool).await;
    ended_well(&engine, pool, numbers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_removed_and_made_again() {
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
    whole_again("network removed", &pool).await;
    ended_well(&engine, pool, numbers).await;
}

/// Leaves two idle ones and room for a third.
async fn discard_one(pool: &Pool) {
    let all = join_all((0..TOTAL).map(|_| pool.acquire())).await;
    for (c, discard) in all.into_iter().zip([true, false, false]) {
        let c = c.unwrap();
        if discard {
            c.discard();
        }
    }
    eventually_now("one is gone", || pool.status().idle == 2 && pool.status().total() == 2).await;
}

/// What is idle is lent all the time; why there is no third.
async fn cannot_refill(pool: &Pool) -> dockerpool::EngineError {
    let _lent = [
        pool.try_acquire().unwrap().unwrap(),
        pool.try_acquire().unwrap().unwrap(),
    ];
    let error = pool.acquire_timeout(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    error.engine_error().expect("a creation was tried meanwhile").clone()
}
