//! Acquires that are told at once, and removals.

use std::sync::Arc;
use std::time::Duration;

use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{EngineErrorKind, Pool, PoolBuilder, Reuse};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

fn builder(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("attack")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
        .acquire_timeout(Duration::from_secs(3600))
}

/// A liar: refuses, dies, succeeds at random; waiters come, go and are dropped.
#[tokio::test(start_paused = true)]
async fn a_lying_engine_and_thousands_of_waiters() {
    for seed in 0..12u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let engine = FakeEngine::new();
        let total = random.usize(1..6);
        let mut b = builder(&engine)
            .max_total(total)
            .max_concurrent_creates(random.usize(1..5))
            .acquire_timeout(Duration::from_secs(120));
        if random.bool() {
            b = b.reuse(Reuse::Never);
        }
        if random.bool() {
            b = b.min_idle(1);
        }
        let pool = b.build().await.unwrap();
        let mut tasks = Vec::new();
        for i in 0..3000 {
            let pool = pool.clone();
            let hold = Duration::from_millis(random.u64(0..20));
            let patience = Duration::from_millis(random.u64(1..100_000));
            let end = random.u8(0..4);
            let start = Duration::from_millis(random.u64(0..5000));
            tasks.push(tokio::spawn(async move {
                sleep(start).await;
                let got = tokio::time::timeout(patience, pool.acquire()).await;
                if let Ok(Ok(c)) = got {
                    sleep(hold).await;
                    match end {
                        0 => c.discard(),
                        1 if i % 7 == 0 => drop(c.into_inner()),
                        _ => drop(c),
                    }
                }
            }));
        }
        for _ in 0..200 {
            let answer = match random.u8(0..6) {
                0 => Answer::Fail(EngineErrorKind::Rejected),
                1 => Answer::Fail(EngineErrorKind::Internal),
                2 => Answer::After(Duration::from_millis(random.u64(1..300))),
                3 => Answer::DoneButNever,
                _ => Answer::Ok,
            };
            let call = [Call::Create, Call::Start, Call::Remove, Call::Attach][random.usize(0..4)];
            if answer == Answer::DoneButNever && random.u8(0..10) > 0 {
                continue;
            }
            engine.answer(call, answer);
            if random.u8(0..5) == 0
                && let Some(c) = random.choice(engine.containers())
            {
                engine.end_container(&c.id);
            }
            sleep(Duration::from_millis(random.u64(1..50))).await;
            let status = pool.status();
            assert!(status.total() <= total, "{seed}: {status:?}");
        }
        for call in [Call::Create, Call::Start, Call::Remove, Call::Attach] {
            engine.answer(call, Answer::Ok);
        }
        for task in tasks {
            task.await.unwrap();
        }
        let status = pool.status();
        assert_eq!((status.waiting, status.in_use), (0, 0), "{seed}: {status:?}");
        // All of it is there again.
        let all = tokio::time::timeout(Duration::from_secs(60), join_all((0..total).map(|_| pool.acquire()))).await;
        let all: Vec<_> = all
            .unwrap_or_else(|_| panic!("{seed}: {:?}", pool.status()))
            .into_iter()
            .map(Result::unwrap)
            .collect();
        drop(all);
        pool.shutdown().await.unwrap();
        assert!(engine.containers().is_empty(), "{seed}");
    }
}

/// The first in the queue get what comes; those behind them are told.
#[tokio::test(start_paused = true)]
async fn the_waiters_that_are_told_are_the_last_ones() {
    let engine = FakeEngine::new();
    let pool = builder(&engine)
        .max_concurrent_creates(3)
        .max_total(3)
        .build()
        .await
        .unwrap();
    engine.answer_once(Call::Create, Answer::After(Duration::from_secs(1)));
    engine.answer_once(Call::Create, Answer::After(Duration::from_secs(2)));
    engine.answer_once(Call::Start, Answer::Fail(EngineErrorKind::Rejected));
    let waiters: Vec<_> = (0..100)
        .map(|i| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.acquire().await.map_err(|e| (i, e)) })
        })
        .collect();
    let served: Vec<_> = join_all(waiters)
        .await
        .into_iter()
        .map(|one| one.unwrap().is_ok())
        .collect();
    let last_ok = served.iter().rposition(|ok| *ok);
    let first_err = served.iter().position(|ok| !*ok);
    assert!(first_err.is_none() || last_ok < first_err);
}

/// Shutdown while acquires are told, while removals hang, with a check that hangs.
#[tokio::test(start_paused = true)]
async fn a_shutdown_is_bounded_while_the_engine_hangs() {
    let engine = FakeEngine::new();
    let pool = builder(&engine).max_total(20).build().await.unwrap();
    let all = join_all((0..20).map(|_| pool.acquire())).await;
    for call in [
        Call::Remove,
        Call::Check,
        Call::Create,
        Call::List,
        Call::Kill,
        Call::Inspect,
        Call::Release,
    ] {
        engine.answer(call, Answer::Never);
    }
    all.into_iter().for_each(|c| c.unwrap().discard());
    sleep(Duration::from_secs(10)).await;
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    let before = engine.calls(Call::Remove);
    pool.shutdown_timeout(Duration::from_secs(3)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(waiter.await.unwrap().unwrap_err().is_shutdown());
    sleep(Duration::from_secs(300)).await;
    println!("removals: {before} then {}", engine.calls(Call::Remove));
    for call in [
        Call::Remove,
        Call::Check,
        Call::Create,
        Call::List,
        Call::Kill,
        Call::Inspect,
        Call::Release,
    ] {
        engine.answer(call, Answer::Ok);
    }
    sleep(Duration::from_secs(130)).await;
    assert_eq!(engine.containers().len(), 0);
}

/// Ten minutes of an engine that hangs, with callers that go on asking.
#[tokio::test(start_paused = true)]
async fn requests_do_not_pile_up_in_an_engine_that_hangs() {
    let all = [
        Call::Check,
        Call::Create,
        Call::Attach,
        Call::Start,
        Call::Exec,
        Call::Inspect,
        Call::List,
        Call::Kill,
        Call::Rename,
        Call::Remove,
    ];
    let engine = FakeEngine::new();
    let pool = builder(&engine)
        .max_total(4)
        .min_idle(2)
        .acquire_timeout(Duration::from_secs(5))
        .build()
        .await
        .unwrap();
    let lent = join_all((0..2).map(|_| pool.acquire())).await;
    all.iter().for_each(|call| engine.answer(*call, Answer::Hold));
    let before = all.map(|call| engine.calls(call));
    let begun = Instant::now();
    drop(lent);
    while begun.elapsed() < Duration::from_secs(590) {
        let _ = pool.acquire().await.map(|c| c.discard());
        sleep(Duration::from_secs(1)).await;
    }
    for (call, before) in all.into_iter().zip(before) {
        println!("{call:?}: {}", engine.calls(call) - before);
    }
    println!("{:?}", pool.status());
    all.iter().for_each(|call| engine.answer(*call, Answer::Ok));
    let begun = Instant::now();
    let lent = join_all((0..4).map(|_| pool.acquire())).await;
    assert!(lent.iter().all(Result::is_ok), "{lent:?}");
    println!("{:?}", begun.elapsed());
}

/// A container that may be used once does not come back, so nobody waits for it.
#[tokio::test(start_paused = true)]
async fn a_lent_container_of_a_single_use_is_not_waited_for() {
    let engine = FakeEngine::new();
    let pool = builder(&engine).max_uses(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    engine.answer(Call::Create, Answer::Fail(EngineErrorKind::Rejected));
    let error = pool.acquire_timeout(Duration::from_secs(600)).await.unwrap_err();
    assert!(!error.is_timeout(), "{error}");
    drop(c);
}
