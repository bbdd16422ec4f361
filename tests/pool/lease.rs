//! Overdue leases: `max_lease` takes the container back.

use std::fmt::Debug;
use std::sync::{Arc, Once};
use std::time::Duration;

use crate::support::{containers_of, engine, eventually, eventually_now, pool};
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{Error, ExitStatus, Pool, PoolBuilder, Taint, WhyGone};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::{Level, span};

const LIMIT: Duration = Duration::from_secs(60);

/// Enables logging in every test. `tracing` caches for each call site whether any subscriber was interested at its
/// first use, so that a test without a subscriber, on another thread, could silence the site for all tests.
fn hear_everything() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Log::default()).unwrap());
}

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    hear_everything();
    Pool::builder("lease")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
        .max_total(1)
        .max_lease(LIMIT)
}

/// Collects what is logged down to a level: the errors, by default.
#[derive(Clone)]
struct Log(Arc<Mutex<Vec<String>>>, Level);

impl Default for Log {
    fn default() -> Self {
        Self(Arc::default(), Level::ERROR)
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= self.1
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_guard_is_logged_with_its_acquire_site_and_its_container_is_replaced() {
    hear_everything();
    let log = Log::default();
    let _log = tracing::subscriber::set_default(log.clone());
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let line = line!() + 1;
    let c = pool.acquire().await.unwrap();
    let (id, name) = (c.id().to_owned(), c.name().to_owned());
    std::mem::forget(c);

    sleep(LIMIT - Duration::from_secs(1)).await;
    assert_eq!((pool.status().in_use, log.0.lock().len()), (1, 0));
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.status().total(), 0);
    assert!(engine.containers().is_empty());
    {
        let log = log.0.lock();
        assert_eq!(log.len(), 1, "{log:?}");
        let site = format!("acquired_at={}:{line}:", file!());
        assert!(log[0].contains(&site) && log[0].contains(&name), "{log:?}");
    }
    assert_ne!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_acquire_method_logs_its_acquire_site() {
    hear_everything();
    let log = Log::default();
    let _log = tracing::subscriber::set_default(log.clone());
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let (mut lines, mut acquired) = (Vec::new(), Vec::new());
    drop(pool.acquire().await.unwrap());
    lines.push(line!() + 1);
    acquired.push(pool.try_acquire().unwrap().unwrap());
    lines.push(line!() + 1);
    acquired.push(pool.acquire_timeout(LIMIT * 2).await.unwrap());
    sleep(LIMIT * 2).await;
    let log = log.0.lock();
    assert_eq!(log.len(), 2, "{log:?}");
    for (line, logged) in lines.into_iter().zip(log.iter()) {
        assert!(logged.contains(&format!("{}:{line}:", file!())), "{line}: {logged}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_logs_the_leases_that_it_waits_for_and_those_that_it_ends() {
    hear_everything();
    let log = Log(Arc::default(), Level::INFO);
    let _log = tracing::subscriber::set_default(log.clone());
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_total(3).build().await.unwrap();
    let line = line!() + 1;
    let (late, soon) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    // Neither a lease that has ended nor a container that was taken out is waited for.
    let over = pool.acquire().await.unwrap();
    let taken = over.name().to_owned();
    let own = over.into_inner();
    let (shutdown, ()) = tokio::join!(pool.shutdown_timeout(Duration::from_secs(5)), async {
        sleep(Duration::from_secs(1)).await;
        drop(soon);
    });
    shutdown.unwrap();
    let log = log.0.lock();
    let of_shutdown: Vec<_> = log.iter().filter(|line| line.contains("shutdown")).collect();
    assert_eq!(of_shutdown.len(), 3, "{log:?}");
    let site = format!("acquired_at={}:{line}:", file!());
    assert!(of_shutdown.iter().all(|logged| logged.contains(&site)), "{log:?}");
    assert!(
        of_shutdown[2].contains(late.name()) && of_shutdown[2].contains("did not end"),
        "{log:?}"
    );
    assert!(!of_shutdown.iter().any(|logged| logged.contains(&taken)), "{log:?}");
    drop(own);
}

#[tokio::test(start_paused = true)]
async fn a_late_guard_does_no_harm() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::forever().stdout("so far"));
    let pool = fake_pool(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let output = c.command("sleep").output().await.unwrap();
    let why = WhyGone::ByLibrary;
    assert_eq!(output.status, ExitStatus::ContainerGone { why });
    assert_eq!(output.stdout, b"so far");
    assert_eq!(c.taint(), Some(Taint::LeaseExpired));
    let error = c.command("true").status().await.unwrap_err();
    assert!(matches!(error, Error::ContainerGone { .. }), "{error:?}");

    let successor = pool.acquire().await.unwrap();
    assert_ne!(successor.id(), c.id());
    drop(c);
    assert_eq!((pool.status().in_use, pool.status().total()), (1, 1));
    assert_eq!(engine.containers().len(), 1);
    drop(successor);
    assert_eq!(pool.status().idle, 1);
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn late_guards_may_be_discarded_and_taken_out() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    sleep(LIMIT * 2).await;
    c.discard();
    let c = pool.acquire().await.unwrap();
    sleep(LIMIT * 2).await;
    drop(c.into_inner());
    assert_eq!(pool.status().total(), 0);
    drop(pool.acquire().await.unwrap());
    assert_eq!(pool.status().total(), 1);
    pool.shutdown().await.unwrap();
    eventually_now("all are gone", || engine.containers().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ends_in_time_is_not_disturbed_and_the_next_has_its_own_time() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let c = pool.acquire().await.unwrap();
        sleep(LIMIT * 3 / 4).await;
        assert_eq!(c.taint(), None);
        ids.push(c.id().to_owned());
    }
    assert!(ids.iter().all(|id| *id == ids[0]));
    // A container that was taken out of the pool has no lease.
    let own = pool.acquire().await.unwrap().into_inner();
    sleep(LIMIT * 2).await;
    assert_eq!(own.taint(), None);
    assert!(own.command("true").status().await.unwrap().success());
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_does_not_answer_only_delays_the_reclaim() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    std::mem::forget(pool.acquire().await.unwrap());
    engine.answer(Call::Kill, Answer::Never);
    engine.answer(Call::Remove, Answer::Never);
    sleep(LIMIT * 2).await;
    // The container may still run: its slot is not free.
    assert_eq!((pool.status().recycling, pool.status().total()), (1, 1));
    engine.answer(Call::Kill, Answer::Ok);
    engine.answer(Call::Remove, Answer::Ok);
    eventually_now("the container is removed", || engine.containers().is_empty()).await;
    drop(pool.acquire().await.unwrap());
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_overdue_lease_on_a_real_engine_ends_its_command_and_frees_its_slot() {
    hear_everything();
    let engine = engine().await;
    let builder = pool("lease").max_total(1).max_lease(Duration::from_secs(2));
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let output = c.command("sleep").arg("1000").output().await.unwrap();
    let why = WhyGone::ByLibrary;
    assert_eq!(output.status, ExitStatus::ContainerGone { why });
    std::mem::forget(c);
    eventually("the slot is free", async || pool.status().total() == 0).await;
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), id);
    assert!(c.command("true").status().await.unwrap().success());
    drop(c);
    assert_eq!(containers_of(&*engine, &pool).await, 1);
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}
