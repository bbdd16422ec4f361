//! Outages of the engine of a minute: once the engine answers, the pool is whole again within 5 s plus the time of
//! one creation.

use std::sync::Arc;
use std::time::Duration;

use crate::support::eventually_now;
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Pool};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

const CALLS: [Call; 9] = [
    Call::Check,
    Call::Create,
    Call::Attach,
    Call::Start,
    Call::Exec,
    Call::Inspect,
    Call::List,
    Call::Kill,
    Call::Remove,
];

const TOTAL: usize = 4;
const CREATION: Duration = Duration::from_secs(1);

async fn pool_of_four(engine: &FakeEngine, min_idle: usize) -> Pool {
    let builder = Pool::builder("recovery")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()));
    builder.min_idle(min_idle).max_total(TOTAL).build().await.unwrap()
}

/// Runs an outage that begins while all containers are lent. During the outage, half of them are discarded, and the
/// others are returned.
async fn out_for_a_minute(outage: Answer, min_idle: usize) {
    let engine = FakeEngine::new();
    let pool = pool_of_four(&engine, min_idle).await;
    let all = join_all((0..TOTAL).map(|_| pool.acquire())).await;
    let mut all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    for call in CALLS {
        engine.answer(call, outage);
    }
    for c in all.drain(..TOTAL / 2) {
        c.discard();
    }
    // An acquire waits for the discarded ones, and times out.
    let error = pool.acquire_timeout(Duration::from_secs(20)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error:?}");
    // A command runs, and another container dies.
    let c = all.pop().unwrap();
    assert!(
        c.command("true")
            .timeout(Duration::from_secs(5))
            .output()
            .await
            .is_err_and(|e| e.is_retryable())
            || c.taint().is_some()
    );
    drop(c);
    engine.end_container(all[0].id());
    drop(all);
    sleep(Duration::from_secs(40)).await;
    assert!(pool.status().total() <= TOTAL);

    for call in CALLS {
        engine.answer(call, Answer::Ok);
    }
    engine.answer(Call::Create, Answer::After(CREATION));
    let begun = Instant::now();
    let all = join_all((0..TOTAL).map(|_| pool.acquire())).await;
    let took = begun.elapsed();
    let all: Vec<_> = all.into_iter().map(Result::unwrap).collect();
    assert!(
        took <= Duration::from_secs(5) + CREATION + Duration::from_millis(100),
        "{outage:?}: {took:?}"
    );
    for c in &all {
        assert!(c.command("true").status().await.unwrap().success());
    }
    assert_eq!(pool.status().total(), TOTAL);
    drop(all);
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty(), "{outage:?}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_recovers_from_an_engine_that_is_down_for_a_minute() {
    for _ in 0..20 {
        out_for_a_minute(Answer::Fail(EngineErrorKind::Unreachable), 0).await;
        out_for_a_minute(Answer::Fail(EngineErrorKind::Unreachable), TOTAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_recovers_from_an_engine_that_is_stopped_for_a_minute() {
    for _ in 0..20 {
        out_for_a_minute(Answer::Hold, 0).await;
        out_for_a_minute(Answer::Hold, TOTAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_recovers_from_an_engine_that_breaks_every_connection_for_a_minute() {
    for _ in 0..20 {
        out_for_a_minute(Answer::Fail(EngineErrorKind::Protocol), 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn idle_containers_are_lent_during_an_outage_and_the_engine_is_not_flooded() {
    let engine = FakeEngine::new();
    let pool = pool_of_four(&engine, 2).await;
    for call in CALLS {
        engine.answer(call, Answer::Fail(EngineErrorKind::Unreachable));
    }
    let before = engine.calls(Call::Create);
    let held = pool.acquire().await.unwrap();
    for _ in 0..600 {
        assert!(pool.try_acquire().unwrap().is_some());
        sleep(Duration::from_millis(100)).await;
    }
    // Attempts come after 0.1, 0.2 ... 3.2 s, then every 2.5 to 5 s, up to two at a time.
    let attempts = engine.calls(Call::Create) - before;
    assert!((10..=70).contains(&attempts), "{attempts}");
    drop(held);
    pool.shutdown_timeout(Duration::ZERO).await.unwrap_err();
}

const DISCARDED: usize = 3;

/// Makes a pool of which `DISCARDED` containers are being removed, without success, for nine minutes.
async fn removed_in_vain(hang: impl FnOnce(&FakeEngine)) -> (FakeEngine, Pool, usize) {
    let engine = FakeEngine::new();
    let pool = pool_of_four(&engine, 0).await;
    let all = join_all((0..DISCARDED).map(|_| pool.acquire())).await;
    let before = engine.calls(Call::Check);
    hang(&engine);
    all.into_iter().for_each(|c| c.unwrap().discard());
    sleep(Duration::from_secs(540)).await;
    assert_eq!(pool.status().recycling, DISCARDED);
    let checks = engine.calls(Call::Check) - before;
    (engine, pool, checks)
}

#[tokio::test(start_paused = true)]
async fn a_hung_engine_gets_one_request_for_each_removal() {
    let (engine, pool, checks) = removed_in_vain(|engine| {
        for call in CALLS {
            engine.answer(call, Answer::Hold);
        }
    })
    .await;
    assert_eq!(engine.calls(Call::Remove), DISCARDED);
    // Checks come after 30, 60, 120, 120 and 120 s without an answer to the removal. Each check takes 30 s.
    assert!((DISCARDED..=5 * DISCARDED).contains(&checks), "{checks}");
    for call in CALLS {
        engine.answer(call, Answer::Ok);
    }
    let begun = Instant::now();
    eventually_now("all is removed", || pool.status().total() == 0).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((engine.calls(Call::Remove), engine.containers().len()), (DISCARDED, 0));
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_alone_is_never_answered_is_retried_with_growing_pauses() {
    let (engine, pool, _) = removed_in_vain(|engine| engine.answer(Call::Remove, Answer::Never)).await;
    // Attempts come at 0, 30, 90, 210, 330 and 450 s, and slightly later because of the back-off.
    assert_eq!(engine.calls(Call::Remove), 6 * DISCARDED);
    engine.answer(Call::Remove, Answer::Ok);
    // The last request times out after 120 s.
    sleep(Duration::from_secs(120)).await;
    assert_eq!(
        (engine.calls(Call::Remove), engine.containers().len()),
        (7 * DISCARDED, 0)
    );
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_forgot_its_requests_gets_them_again() {
    let (engine, pool, _) = removed_in_vain(|engine| {
        for call in CALLS {
            engine.answer(call, Answer::Never);
        }
    })
    .await;
    assert_eq!(engine.calls(Call::Remove), DISCARDED);
    for call in CALLS {
        engine.answer(call, Answer::Ok);
    }
    sleep(Duration::from_secs(125)).await;
    assert_eq!(
        (engine.calls(Call::Remove), engine.containers().len()),
        (2 * DISCARDED, 0)
    );
    pool.shutdown().await.unwrap();
}

/// Refusals are answers: the silence after which a removal asks again begins anew with a request that is lost.
#[tokio::test(start_paused = true)]
async fn a_lost_removal_after_refused_ones_frees_its_place_as_soon_as_any() {
    let engine = FakeEngine::new();
    let pool = pool_of_four(&engine, 0).await;
    engine.answer_once(Call::Start, Answer::Fail(EngineErrorKind::Internal));
    for _ in 0..5 {
        engine.answer_once(Call::Remove, Answer::Fail(EngineErrorKind::Internal));
    }
    engine.answer_once(Call::Remove, Answer::DoneButNever);
    drop(pool.acquire().await.unwrap());
    let begun = Instant::now();
    eventually_now("the failed creation is removed", || pool.status().recycling == 0).await;
    // The refusals with their pauses, the time limit of one call, and the check.
    assert!((30..40).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}
