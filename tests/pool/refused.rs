//! Settings that the engine refuses: an acquire that only a new container could serve fails at once.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{self, engine, eventually_now};
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{EngineError, EngineErrorKind, Error, ExecVia, Pool, PoolBuilder, PooledContainer, Reuse};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Time is paused in these tests. No acquire here may reach this timeout.
const TOO_LONG: Duration = Duration::from_secs(3600);

/// Lets the engine refuse settings from now on.
type Refuse = fn(&FakeEngine);

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("refused")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .acquire_timeout(TOO_LONG)
        .min_idle(0)
}

fn acquire(pool: &Pool) -> JoinHandle<Result<PooledContainer, Error>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire().await })
}

#[track_caller]
fn assert_refused(result: Result<PooledContainer, Error>, kind: EngineErrorKind) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::Engine { .. }), "{error:?}");
    assert_eq!(error.engine_error().map(EngineError::kind), Some(kind));
    assert!(!error.is_timeout() && !error.is_retryable(), "{error:?}");
    let words = error.to_string();
    assert!(
        words.starts_with("could not create a container for pool refused: "),
        "{words}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_acquire_fails_at_once_and_the_pool_stays_usable() {
    let refuse: [(EngineErrorKind, Refuse); 7] = [
        (EngineErrorKind::Rejected, |engine| {
            engine.answer(Call::Start, Answer::Fail(EngineErrorKind::Rejected));
        }),
        // PID 1 cannot be run, or the image or the network was removed or replaced.
        (EngineErrorKind::CannotStart, |engine| {
            engine.answer(Call::Start, Answer::Fail(EngineErrorKind::CannotStart));
        }),
        (EngineErrorKind::ImageNotFound, |engine| {
            engine.answer(Call::Create, Answer::Fail(EngineErrorKind::ImageNotFound));
        }),
        (EngineErrorKind::WrongPlatform, |engine| {
            engine.answer(Call::Create, Answer::Fail(EngineErrorKind::WrongPlatform));
        }),
        (EngineErrorKind::NetworkNotFound, |engine| {
            engine.answer(Call::Start, Answer::Fail(EngineErrorKind::NetworkNotFound));
        }),
        (EngineErrorKind::LimitDiscarded, |engine| {
            engine.lack_limits(["memory".to_owned()]);
        }),
        (EngineErrorKind::SettingIgnored, |engine| {
            engine.ignore_settings(["runtime".to_owned()]);
        }),
    ];
    for (kind, refuse) in refuse {
        let engine = FakeEngine::new();
        let pool = fake_pool(&engine).build().await.unwrap();
        refuse(&engine);
        let begun = Instant::now();
        for attempt in 1..=4 {
            assert_refused(pool.acquire().await, kind);
            assert_eq!(engine.calls(Call::Create), attempt);
        }
        // Only the pauses of the back-off: 0.1, 0.2 and 0.4 s at most.
        assert!(begun.elapsed() <= Duration::from_millis(710), "{:?}", begun.elapsed());
        let status = pool.status();
        assert_eq!((status.waiting, status.lifetime.acquire_timeouts), (0, 0));
        assert_eq!(status.lifetime.create_failures, 4);

        // The engine accepts the settings again.
        engine.answer(Call::Create, Answer::Ok);
        engine.answer(Call::Start, Answer::Ok);
        engine.lack_limits([]);
        engine.ignore_settings([]);
        drop(pool.acquire().await.unwrap());
        pool.shutdown().await.unwrap();
        assert!(engine.containers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_fails_all_waiters_except_one_for_each_creation_in_progress() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_concurrent_creates(3).build().await.unwrap();
    engine.answer_once(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    engine.answer_once(Call::Create, Answer::Hold);
    engine.answer_once(Call::Create, Answer::After(Duration::from_secs(10)));
    engine.answer(Call::Create, Answer::Hold);
    let mut waiters: Vec<_> = (0..5).map(|_| acquire(&pool)).collect();
    eventually_now("two are left", || pool.status().waiting == 2).await;
    for told in waiters.drain(2..) {
        assert_refused(told.await.unwrap(), EngineErrorKind::Rejected);
    }
    // The longest waiter gets the first container. The hanging creation is refused in the end.
    let second = waiters.pop().unwrap();
    let c = waiters.pop().unwrap().await.unwrap().unwrap();
    c.discard();
    engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    engine.answer(Call::Start, Answer::Fail(EngineErrorKind::Rejected));
    assert_refused(second.await.unwrap(), EngineErrorKind::Rejected);
    assert_eq!(pool.status().waiting, 0);
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_waiter_fails_while_a_lent_container_may_come_back() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    let waiters: Vec<_> = (0..3).map(|_| acquire(&pool)).collect();
    eventually_now("several creations were refused", || {
        pool.status().lifetime.create_failures >= 9
    })
    .await;
    assert_eq!(pool.status().waiting, 3);
    drop(c);
    for waiter in waiters {
        let served = waiter.await.unwrap().unwrap();
        assert_eq!(served.id(), id, "each waiter in turn gets the same container");
    }
}

#[tokio::test(start_paused = true)]
async fn lent_containers_that_are_known_not_to_come_back_are_not_waited_for() {
    for what in ["tainted", "killed", "outdated", "in its last use"] {
        let engine = FakeEngine::new();
        let pool = fake_pool(&engine);
        let pool = if what == "in its last use" {
            pool.max_uses(2)
        } else {
            pool
        };
        let pool = pool.build().await.unwrap();
        drop(pool.acquire().await.unwrap());
        let c = pool.acquire().await.unwrap();
        engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
        // The first refusal may be a fault of the engine, and the container may still come back.
        let waiter = acquire(&pool);
        eventually_now("a creation was refused", || pool.status().lifetime.create_failures >= 1).await;
        match what {
            "tainted" => {
                engine.on_exec(|_| FakeProcess::forever());
                let ended = c.command("sleep").timeout(Duration::from_secs(1)).status().await;
                assert!(c.taint().is_some(), "{ended:?}");
            }
            "killed" => engine.end_container(c.id()),
            "outdated" => {
                let pool = pool.clone();
                tokio::spawn(async move { pool.refresh().await });
            }
            _ => {}
        }
        assert_refused(waiter.await.unwrap(), EngineErrorKind::Rejected);
        assert_refused(pool.acquire().await, EngineErrorKind::Rejected);
        assert_eq!(pool.status().waiting, 0, "{what}");
        drop(c);
        pool.shutdown().await.unwrap();
        assert!(engine.containers().is_empty(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn lent_containers_that_are_never_reused_are_not_waited_for() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).reuse(Reuse::Never).build().await.unwrap();
    let _c = pool.acquire().await.unwrap();
    engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    assert_refused(pool.acquire().await, EngineErrorKind::Rejected);
    assert_eq!(
        pool.status().lifetime.create_failures,
        2,
        "the first refusal may be a fault of the engine"
    );
}

#[tokio::test(start_paused = true)]
async fn one_refusal_of_settings_that_have_worked_is_retried() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    pool.acquire().await.unwrap().discard();
    eventually_now("the discarded container is removed", || pool.status().total() == 0).await;
    engine.answer_once(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    let served = join_all((0..4).map(|_| pool.acquire())).await;
    assert!(served.iter().all(Result::is_ok), "{served:?}");
    assert_eq!(pool.status().lifetime.create_failures, 1);
}

/// Lets the pool have one container, removes it, and begins four creations, of which the engine holds all.
async fn four_held_creations(engine: &FakeEngine) -> (Pool, Vec<JoinHandle<Result<PooledContainer, Error>>>) {
    let pool = fake_pool(engine).max_concurrent_creates(4).build().await.unwrap();
    pool.acquire().await.unwrap().discard();
    eventually_now("the discarded container is removed", || pool.status().total() == 0).await;
    for _ in 0..4 {
        engine.answer_once(Call::Create, Answer::After(Duration::from_secs(1)));
    }
    let waiters = (0..4).map(|_| acquire(&pool)).collect();
    eventually_now("four creations are under way", || engine.calls(Call::Create) == 5).await;
    (pool, waiters)
}

#[tokio::test(start_paused = true)]
async fn several_refusals_in_one_bad_moment_are_one() {
    let engine = FakeEngine::new();
    let (pool, waiters) = four_held_creations(&engine).await;
    // All four are refused at their start, and nothing later.
    for _ in 0..4 {
        engine.answer_once(Call::Start, Answer::Fail(EngineErrorKind::Rejected));
    }
    for waiter in join_all(waiters).await {
        drop(waiter.unwrap().unwrap());
    }
    assert_eq!(pool.status().lifetime.create_failures, 4);

    // The next bad moment lasts.
    let engine = FakeEngine::new();
    let (pool, waiters) = four_held_creations(&engine).await;
    engine.answer(Call::Start, Answer::Fail(EngineErrorKind::Rejected));
    for waiter in join_all(waiters).await {
        assert_refused(waiter.unwrap(), EngineErrorKind::Rejected);
    }
    let failures = pool.status().lifetime.create_failures;
    assert!((5..=8).contains(&failures), "{failures}");
}

#[tokio::test]
async fn a_user_that_the_image_lacks_is_reported_by_the_first_acquire() {
    let pool = support::pool("refused")
        .exec_via(ExecVia::Docker)
        .cmd(["sleep", "infinity"])
        .supervise_command(false)
        .user("nobody-of-this-name")
        .acquire_timeout(TOO_LONG)
        .build()
        .await
        .unwrap();
    for attempt in 1..=2 {
        let error = pool.acquire().await.unwrap_err();
        let Error::Engine { source, .. } = &error else {
            panic!("{error:?}")
        };
        assert!(source.to_string().contains("nobody-of-this-name"), "{source}");
        assert!(!error.is_retryable() && !error.is_timeout(), "{error:?}");
        assert_eq!(pool.status().lifetime.create_failures, attempt);
    }
    pool.shutdown().await.unwrap();
    assert_eq!(support::containers_of(&*engine().await, &pool).await, 0);
}
