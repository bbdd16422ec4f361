//! The status of a command whose container is gone says why. What the engine tells decides, in whatever order it tells it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::told::Told;
use dockerpool::engine::{BoxStream, Commands, Event, EventKind, Lifecycle, Observation, Selector};
use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::{Engine, EngineError, ExitStatus, Pool, PoolBuilder, PooledContainer, Taint, WhyGone};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

fn engine() -> FakeEngine {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::forever());
    engine
}

/// Passes everything on to an engine in memory. Can tell of kills for memory, also of containers that are gone, and cut its
/// streams of events.
#[derive(Clone, Debug)]
struct Teller {
    inner: FakeEngine,
    told: Told,
}

impl Teller {
    fn new() -> Self {
        Self {
            inner: engine(),
            told: Told::new(),
        }
    }

    fn tell_of_kill(&self, id: &str) {
        self.told.send(Event::new(id, EventKind::OutOfMemory));
    }
}

impl Engine for Teller {
    crate::support::forward!(capabilities, check, parts);
}

impl Lifecycle for Teller {
    crate::support::forward!(prepare, release, sweep, create, attach, start, kill, stop, remove);
}

impl Commands for Teller {
    crate::support::forward!(exec);
}

impl Observation for Teller {
    crate::support::forward!(image, inspect, list, missing_limits, ignored_settings);

    fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>> {
        self.told.join(self.inner.events(selector, since))
    }
}

fn pool(engine: impl Engine) -> PoolBuilder {
    let builder = Pool::builder("gone").image("any").min_idle(0);
    builder.engine(Arc::new(engine)).tokio_runtime(Handle::current())
}

const fn gone(why: WhyGone) -> ExitStatus {
    ExitStatus::ContainerGone { why }
}

/// Returns the status of a command during which `happens` ends its container, and the container's taint.
async fn status(c: &PooledContainer, happens: impl Future<Output = ()>) -> (ExitStatus, Option<Taint>) {
    let mut child = c.command("forever").spawn().await.unwrap();
    let (status, ()) = tokio::join!(child.wait(), happens);
    (status.unwrap(), c.taint())
}

#[tokio::test(start_paused = true)]
async fn a_container_that_somebody_else_ends_was_removed() {
    let engine = engine();
    let pool = pool(engine.clone()).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let begun = Instant::now();
    let ended = status(&c, async { engine.end_container(c.id()) }).await;
    assert_eq!(ended, (gone(WhyGone::Removed), Some(Taint::Died)));
    // By the exec API a process that was killed may have been killed for memory, which is told late.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_command_beside_one_that_the_exec_api_ends_is_told_that_the_library_did_it() {
    let engine = engine();
    let pool = pool(engine.clone()).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let ended = status(&c, async {
        let status = c.command("other").timeout(Duration::from_secs(1)).status().await;
        assert_eq!(status.unwrap(), ExitStatus::TimedOut);
    });
    assert_eq!(ended.await, (gone(WhyGone::ByLibrary), Some(Taint::TimedOut)));
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pid_1_of_the_users_own_that_ends_is_told_from_one_that_is_killed() {
    let engine = engine();
    let pool = pool(engine.clone()).cmd(["server"]).build().await.unwrap();
    for (code, why) in [
        (0, WhyGone::CommandEnded),
        (3, WhyGone::CommandEnded),
        (137, WhyGone::Unknown),
    ] {
        let c = pool.acquire().await.unwrap();
        let ended = status(&c, async { engine.end_with_code(c.id(), code) }).await;
        assert_eq!(ended, (gone(why), Some(Taint::Died)), "{code}");
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_kill_for_memory_decides_before_the_end_and_after_it() {
    let engine = Teller::new();
    let pool = pool(engine.clone()).build().await.unwrap();
    for pause in [0, 100, 400, 1500] {
        for told_first in [true, false] {
            let c = pool.acquire().await.unwrap();
            let id = c.id().to_owned();
            let late = Duration::from_millis(pause);
            let ended = status(&c, async {
                if told_first {
                    engine.tell_of_kill(&id);
                    sleep(late).await;
                }
                // As the kernel kills PID 1: no call of anybody.
                engine.inner.end_with_code(&id, 137);
                if !told_first {
                    sleep(late).await;
                    engine.tell_of_kill(&id);
                }
            });
            let expected = (ExitStatus::OutOfMemory { exit: None }, Some(Taint::OutOfMemory));
            assert_eq!(ended.await, expected, "{pause} {told_first}");
        }
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_several_commands_none_is_blamed_for_memory_that_took_pid_1() {
    let engine = Teller::new();
    let pool = pool(engine.clone()).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let mut first = c.command("first").spawn().await.unwrap();
    let mut second = c.command("second").spawn().await.unwrap();
    engine.inner.end_with_code(c.id(), 137);
    // Later than a command's own kill is waited for, which the exec API reports by the same exit code.
    sleep(Duration::from_secs(3)).await;
    engine.tell_of_kill(c.id());
    let ends = tokio::join!(first.wait(), second.wait());
    let why = WhyGone::OutOfMemory;
    assert_eq!((ends.0.unwrap(), ends.1.unwrap()), (gone(why), gone(why)));
    assert_eq!(c.taint(), Some(Taint::OutOfMemory));
    drop((first, second));
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_end_with_the_connection_to_the_engine_is_that_of_the_engine() {
    let engine = Teller::new();
    let pool = pool(engine.clone()).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let ended = status(&c, async {
        // The pool's subscription to events stands by now.
        sleep(Duration::from_secs(3)).await;
        engine.told.cut();
        engine.inner.end_with_code(c.id(), 0);
    });
    assert_eq!(ended.await, (gone(WhyGone::EngineRestarted), Some(Taint::Died)));
    // A loss before the command says nothing about its end.
    drop(c);
    let c = pool.acquire().await.unwrap();
    sleep(Duration::from_secs(3)).await;
    engine.told.cut();
    sleep(Duration::from_secs(1)).await;
    let ended = status(&c, async { engine.inner.end_container(c.id()) }).await;
    assert_eq!(ended.0, gone(WhyGone::Removed));
    drop(c);
    pool.shutdown().await.unwrap();
}
