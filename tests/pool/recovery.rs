//! The engine fails or hangs for a minute: once it answers, the pool is whole again within 5 s and the time of a creation.

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

/// The outage begins while everything is lent; during it, all is given up that could be.
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
    // Somebody waits for them, and gives up.
    let error = pool.acquire_timeout(Duration::from_secs(20)).await.unwrap_err();
    assert!(error.is_timeout() && error.is_retryable(), "{error:?}");
    // A command, and the death of another container.
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
async fn an_engine_that_is_down_for_a_minute() {
    for _ in 0..20 {
        out_for_a_minute(Answer::Fail(EngineErrorKind::Unreachable), 0).await;
        out_for_a_minute(Answer::Fail(EngineErrorKind::Unreachable), TOTAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_stopped_for_a_minute_and_goes_on() {
    for _ in 0..20 {
        out_for_a_minute(Answer::Hold, 0).await;
        out_for_a_minute(Answer::Hold, TOTAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_breaks_every_connection_for_a_minute() {
    for _ in 0..20 {
        out_for_a_minute(Answer::Fail(EngineErrorKind::Protocol), 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_idle_is_lent_while_the_engine_is_down_and_it_is_not_hammered() {
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
    // After 0.1, 0.2 ... 3.2 s, and then every 2.5 to 5 s, up to two at a time.
    let attempts = engine.calls(Call::Create) - before;
    assert!((10..=70).contains(&attempts), "{attempts}");
    drop(held);
    pool.shutdown_timeout(Duration::ZERO).await.unwrap_err();
}

const DISCARDED: usize = 3;

/// A pool of which so many containers are being removed, in vain, for nine minutes.
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
async fn an_engine_that_hangs_is_asked_once_for_each_removal() {
    let (engine, pool, checks) = removed_in_vain(|engine| {
        for call in CALLS {
            engine.answer(call, Answer::Hold);
        }
    })
    .await;
    assert_eq!(engine.calls(Call::Remove), DISCARDED);
    // After 30, 60, 120, 120 and 120 s without an answer to the removal, each with 30 s for the check.
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
async fn a_removal_that_alone_is_never_answered_is_repeated_with_growing_pauses() {
    let (engine, pool, _) = removed_in_vain(|engine| engine.answer(Call::Remove, Answer::Never)).await;
    // At 0, 30, 90, 210, 330 and 450 s, and a little later for the back-off.
    assert_eq!(engine.calls(Call::Remove), 6 * DISCARDED);
    engine.answer(Call::Remove, Answer::Ok);
    // The last request is given up after 120 s.
    sleep(Duration::from_secs(120)).await;
    assert_eq!(
        (engine.calls(Call::Remove), engine.containers().len()),
        (7 * DISCARDED, 0)
    );
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_comes_back_without_its_requests_is_asked_again() {
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
