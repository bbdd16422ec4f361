//! The engine refuses the pool's settings: acquires that only a new container could serve do not wait for the end of their time.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{self, engine, eventually_now};
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineError, EngineErrorKind, Error, ExecVia, Pool, PoolBuilder, PooledContainer, Reuse};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Time is paused in these tests. No acquire of theirs may come to this.
const TOO_LONG: Duration = Duration::from_secs(3600);

/// Has the engine refuse settings from now on.
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
async fn an_acquire_is_told_at_once_and_the_pool_stays_usable() {
    let refuse: [(EngineErrorKind, Refuse); 3] = [
        (EngineErrorKind::Rejected, |engine| {
            engine.answer(Call::Start, Answer::Fail(EngineErrorKind::Rejected));
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
        // The pauses of the back-off, and nothing else: 0.1, 0.2 and 0.4 s at most.
        assert!(begun.elapsed() <= Duration::from_millis(710), "{:?}", begun.elapsed());
        let status = pool.status();
        assert_eq!((status.waiting, status.lifetime.acquire_timeouts), (0, 0));
        assert_eq!(status.lifetime.create_failures, 4);

        // Somebody mends it.
        engine.answer(Call::Start, Answer::Ok);
        engine.lack_limits([]);
        engine.ignore_settings([]);
        drop(pool.acquire().await.unwrap());
        pool.shutdown().await.unwrap();
        assert!(engine.containers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn all_are_told_that_nothing_else_could_serve_and_as_many_wait_as_others_are_being_created() {
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
    // The one that has waited longest gets the first container. The creation that hangs is refused at last.
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
async fn nobody_is_told_while_a_container_on_loan_may_come_back() {
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
        assert_eq!(served.id(), id, "one after the other, the same one");
    }
}

#[tokio::test(start_paused = true)]
async fn where_none_is_lent_again_nobody_waits_for_those_on_loan() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).reuse(Reuse::Never).build().await.unwrap();
    let _c = pool.acquire().await.unwrap();
    engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    assert_refused(pool.acquire().await, EngineErrorKind::Rejected);
    assert_eq!(
        pool.status().lifetime.create_failures,
        2,
        "the first of them may be a fault of the engine"
    );
}

#[tokio::test(start_paused = true)]
async fn one_refusal_of_settings_that_have_worked_is_tried_again() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    pool.acquire().await.unwrap().discard();
    eventually_now("it is gone", || pool.status().total() == 0).await;
    engine.answer_once(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    let served = join_all((0..4).map(|_| pool.acquire())).await;
    assert!(served.iter().all(Result::is_ok), "{served:?}");
    assert_eq!(pool.status().lifetime.create_failures, 1);
}

#[tokio::test]
async fn a_user_that_the_image_does_not_have_is_told_by_the_first_acquire() {
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
