//! The lifetime of containers: by age, by uses, by idle time, and by the image they were made from.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{busybox, engine, eventually, eventually_now, python, tag};
use bollard::query_parameters::RemoveImageOptions;
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Error, Pool, PoolBuilder, PullPolicy};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("lifetime")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
}

fn ids(engine: &FakeEngine) -> HashSet<String> {
    engine.containers().into_iter().map(|container| container.id).collect()
}

/// Waits for an event, and asserts at every look that at least this many containers are idle.
async fn meanwhile_idle(pool: &Pool, at_least: usize, what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(600);
    while !holds() {
        let status = pool.status();
        assert!(status.idle >= at_least, "a gap: {status}");
        assert!(status.total() <= status.max_total, "{status}");
        assert!(Instant::now() < give_up, "did not happen: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_container_that_is_too_old_is_replaced_before_it_is_removed() {
    let engine = FakeEngine::new();
    let builder = fake_pool(&engine).min_idle(2).max_total(4);
    let pool = builder.max_lifetime(Duration::from_secs(100)).build().await.unwrap();
    let first = ids(&engine);
    engine.answer(Call::Create, Answer::After(Duration::from_secs(5)));
    let begun = Instant::now();
    meanwhile_idle(&pool, 2, "both are replaced", || ids(&engine).is_disjoint(&first)).await;
    let took = begun.elapsed().as_secs_f64();
    assert!((95.0..=106.0).contains(&took), "{took}");
    assert_eq!((pool.status().idle, engine.containers().len()), (2, 2));
    // Their successors are replaced in the same way.
    let second = ids(&engine);
    meanwhile_idle(&pool, 2, "both are replaced again", || {
        ids(&engine).is_disjoint(&second)
    })
    .await;
    assert!(engine.peak() <= 4);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn containers_made_together_do_not_end_together() {
    let engine = FakeEngine::new();
    let builder = fake_pool(&engine).min_idle(8);
    let pool = builder.max_lifetime(Duration::from_secs(1000)).build().await.unwrap();
    let first = ids(&engine);
    let begun = Instant::now();
    let (mut earliest, mut latest) = (None, 0.0);
    while !ids(&engine).is_disjoint(&first) {
        sleep(Duration::from_millis(100)).await;
        if ids(&engine) != first {
            earliest.get_or_insert(begun.elapsed().as_secs_f64());
        }
        latest = begun.elapsed().as_secs_f64();
    }
    let earliest = earliest.unwrap();
    assert!(earliest >= 900.0 && latest <= 1001.0, "{earliest} to {latest}");
    // By chance, eight of them fall within a hundredth of the span once in 10^13.
    assert!(latest - earliest > 1.0, "{earliest} to {latest}");
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_container_does_not_disturb_its_lease() {
    let engine = FakeEngine::new();
    let builder = fake_pool(&engine).min_idle(0).max_total(1);
    let pool = builder.max_lifetime(Duration::from_secs(10)).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    sleep(Duration::from_secs(60)).await;
    assert!(c.command("true").status().await.unwrap().success());
    assert_eq!(c.taint(), None);
    drop(c);
    assert_ne!(pool.acquire().await.unwrap().id(), id);
    assert_eq!(engine.calls(Call::Create), 2);
}

#[tokio::test(start_paused = true)]
async fn a_container_is_lent_at_most_max_uses_times() {
    for (limit, at_least) in [(1, 1), (3, 3), (100, 90)] {
        let engine = FakeEngine::new();
        let builder = fake_pool(&engine).min_idle(0).max_total(1).max_uses(limit);
        let pool = builder.build().await.unwrap();
        let mut uses = 0;
        let first = pool.acquire().await.unwrap().id().to_owned();
        loop {
            uses += 1;
            if pool.acquire().await.unwrap().id() != first {
                break;
            }
        }
        assert!((at_least..=limit).contains(&uses), "{uses} of {limit}");
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn containers_idle_for_too_long_are_removed_down_to_the_minimum() {
    let engine = FakeEngine::new();
    let builder = fake_pool(&engine).min_idle(1).max_total(5);
    let pool = builder.idle_timeout(Duration::from_secs(60)).build().await.unwrap();
    let mut burst = Vec::new();
    for _ in 0..5 {
        burst.push(pool.acquire().await.unwrap());
    }
    // The container that was returned last is lent first.
    let used = burst.last().unwrap().id().to_owned();
    drop(burst);
    assert_eq!(pool.status().idle, 5);
    sleep(Duration::from_secs(45)).await;
    for _ in 0..10 {
        let c = pool.acquire().await.unwrap();
        assert_eq!(c.id(), used);
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(pool.status().idle, 5);
    sleep(Duration::from_secs(10)).await;
    assert_eq!((pool.status().idle, engine.containers().len()), (1, 1));
    // The minimum stays, however long no acquire comes.
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(pool.acquire().await.unwrap().id(), used);
    assert_eq!(engine.calls(Call::Create), 5);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_replaces_idle_containers_without_a_gap_and_lent_ones_when_they_return() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(3).max_total(6).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    eventually_now("the pool is refilled", || pool.status().idle == 3).await;
    let before = ids(&engine);
    engine.answer(Call::Create, Answer::After(Duration::from_secs(1)));
    let refresh = tokio::spawn({
        let pool = pool.clone();
        async move { pool.refresh().await }
    });
    meanwhile_idle(&pool, 3, "the refresh ends", || refresh.is_finished()).await;
    refresh.await.unwrap().unwrap();
    assert_eq!(engine.calls(Call::Prepare), 2);
    for _ in 0..3 {
        let c = pool.try_acquire().unwrap().unwrap();
        assert!(!before.contains(c.id()));
        std::mem::forget(c);
    }
    // The lease goes on; its container is removed at its end.
    assert!(held.command("true").status().await.unwrap().success());
    let id = held.id().to_owned();
    drop(held);
    eventually_now("the old container is removed", || !ids(&engine).contains(&id)).await;
    pool.shutdown_timeout(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_a_full_pool_replaces_one_at_a_time() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(3).max_total(3).build().await.unwrap();
    let before = ids(&engine);
    engine.answer(Call::Create, Answer::After(Duration::from_secs(1)));
    let refresh = tokio::spawn({
        let pool = pool.clone();
        async move { pool.refresh().await }
    });
    meanwhile_idle(&pool, 2, "the refresh ends", || refresh.is_finished()).await;
    refresh.await.unwrap().unwrap();
    eventually_now("three are idle", || pool.status().idle == 3).await;
    assert!(ids(&engine).is_disjoint(&before));
    assert_eq!((engine.peak(), engine.calls(Call::Create)), (3, 6));
}

#[tokio::test(start_paused = true)]
async fn a_refresh_to_an_unavailable_image_changes_nothing() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(2).build().await.unwrap();
    let before = ids(&engine);
    engine.answer(Call::Prepare, Answer::Fail(EngineErrorKind::ImageNotFound));
    let error = pool.refresh().await.unwrap_err();
    assert_eq!(error.engine_error().unwrap().kind(), EngineErrorKind::ImageNotFound);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(ids(&engine), before);
    assert_eq!(pool.status().idle, 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_to_an_image_that_does_not_start_keeps_lending_the_old_one() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(2).build().await.unwrap();
    let before = ids(&engine);
    engine.answer(Call::Start, Answer::Fail(EngineErrorKind::CannotStart));
    let error = pool.refresh().await.unwrap_err();
    assert_eq!(error.engine_error().unwrap().kind(), EngineErrorKind::CannotStart);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(pool.status().idle, 2);
    assert!(before.contains(pool.acquire().await.unwrap().id()));
    // Once the new image starts, the refresh completes.
    engine.answer(Call::Start, Answer::Ok);
    eventually_now("all are new", || {
        ids(&engine).is_disjoint(&before) && pool.status().idle == 2
    })
    .await;
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_replaces_containers_in_creation_and_those_a_dropped_acquire_returns() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(1).max_total(2).build().await.unwrap();
    let held = pool.acquire().await.unwrap();
    let old = held.id().to_owned();
    engine.answer(Call::Create, Answer::After(Duration::from_secs(5)));
    engine.answer(Call::Start, Answer::After(Duration::from_secs(5)));
    // The refill is in progress: at 7 s it is between create and start.
    sleep(Duration::from_secs(7)).await;
    assert_eq!(pool.status().creating, 1);
    let half_made = ids(&engine);
    let mut waiting = tokio_test::task::spawn(pool.acquire());
    assert!(waiting.poll().is_pending());
    drop(held);
    // The container is handed over, but the acquire has not taken it.
    assert_eq!((pool.status().waiting, pool.status().in_use), (0, 1));
    pool.refresh().await.unwrap();
    drop(waiting);
    eventually_now("both are gone", || {
        let now = ids(&engine);
        !now.contains(&old) && now.is_disjoint(&half_made) && pool.status().idle == 1
    })
    .await;
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_ends_with_the_pool() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).min_idle(1).build().await.unwrap();
    engine.answer(Call::Create, Answer::Never);
    let (refreshed, down) = tokio::join!(pool.refresh(), async {
        sleep(Duration::from_secs(1)).await;
        pool.shutdown().await
    });
    assert!(refreshed.unwrap_err().is_shutdown());
    down.unwrap();
    assert!(pool.refresh().await.unwrap_err().is_shutdown());
}

#[tokio::test]
async fn limits_of_zero_are_refused() {
    let engine = FakeEngine::new();
    let zero = Duration::ZERO;
    let builder = fake_pool(&engine).max_lifetime(zero).max_uses(0).idle_timeout(zero);
    let Err(Error::Config(problems)) = builder.max_lease(zero).build().await else {
        panic!("zero was accepted");
    };
    let fields: Vec<_> = problems.iter().map(|problem| problem.field()).collect();
    assert_eq!(fields, ["max_lifetime", "max_uses", "idle_timeout", "max_lease"]);
}

#[tokio::test]
async fn a_refresh_moves_a_real_pool_to_the_image_its_tag_names_now() {
    let engine = engine().await;
    let docker = engine.bollard();
    let image = format!("dockerpool-test/refresh-{:x}:1", std::process::id());
    let has_python = async |pool: &Pool| {
        let c = pool.acquire().await.unwrap();
        let found = c
            .command("sh")
            .args(["-c", "command -v python3"])
            .output()
            .await
            .unwrap();
        found.status.success()
    };
    tag(docker, &busybox(), &image).await;
    let builder = crate::support::pool("refresh").image(&image).pull(PullPolicy::Never);
    let pool = builder.engine(engine.clone()).min_idle(2).build().await.unwrap();
    let before = has_python(&pool).await;
    tag(docker, &python(), &image).await;
    let refreshed = pool.refresh().await;
    let after = has_python(&pool).await;
    pool.shutdown().await.unwrap();
    docker
        .remove_image(&image, None::<RemoveImageOptions>, None)
        .await
        .unwrap();
    refreshed.unwrap();
    assert!(!before && after, "{before} before, {after} after");
    eventually("nothing is left", async || {
        crate::support::containers_of(&*engine, &pool).await == 0
    })
    .await;
}
