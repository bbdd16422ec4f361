//! Clocks that are set while a pool runs: its timers are monotonic, and it understands an engine whose clock differs.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::{containers_of, engine, eventually_now, is_podman, pool};
use crate::told::Told;
use dockerpool::engine::{BoxStream, Commands, Event, EventKind, Lifecycle, Observation, Pausing, Selector};
use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::{Engine, EngineError, ExitStatus, Pool, Taint};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

const HOUR: Duration = Duration::from_secs(3600);

/// Wraps a [`FakeEngine`] with a clock of its own, which dates its out-of-memory events. It can also cut its event
/// streams.
#[derive(Debug)]
struct Clocked {
    inner: FakeEngine,
    told: Told,
    /// The container that ends after the next list and before the next subscription. The engine sends no event for
    /// it, since `since` is in the engine's future.
    dies_untold: Mutex<Option<String>>,
}

impl Clocked {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: FakeEngine::new(),
            told: Told::new(),
            dies_untold: Mutex::new(None),
        })
    }

    fn pool(self: &Arc<Self>) -> dockerpool::PoolBuilder {
        Pool::builder("clock")
            .tokio_runtime(Handle::current())
            .image("any")
            .engine(self.clone())
    }
}

impl Engine for Clocked {
    crate::support::forward!(capabilities, check, parts);
}

impl Lifecycle for Clocked {
    crate::support::forward!(prepare, release, sweep, create, attach, start, kill, stop, remove);
}

impl Commands for Clocked {
    crate::support::forward!(exec);
}

impl Observation for Clocked {
    crate::support::forward!(image, inspect, list, missing_limits, ignored_settings);

    fn events(&self, selector: &Selector, since: Option<SystemTime>) -> BoxStream<'static, Result<Event, EngineError>> {
        if since.is_some()
            && let Some(id) = self.dies_untold.lock().take()
        {
            self.inner.end_container(&id);
        }
        self.told.join(self.inner.events(selector, since))
    }
}

#[tokio::test(start_paused = true)]
async fn out_of_memory_kills_are_told_apart_by_their_times_however_the_clock_is_set() {
    let engine = Clocked::new();
    let pool = engine.pool().build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let begun = SystemTime::now();
    let killed_at = async |at: SystemTime| {
        let (told, id) = (engine.told.clone(), c.id().to_owned());
        engine.inner.on_exec(move |_| {
            let mut event = Event::new(&id, EventKind::OutOfMemory);
            event.at = Some(at);
            told.send(event);
            FakeProcess::exit(137)
        });
        c.command("greedy").status().await.unwrap()
    };
    for at in [begun, begun - HOUR, begun + HOUR, begun - 2 * HOUR] {
        assert_eq!(killed_at(at).await, ExitStatus::OutOfMemory { exit: None });
    }
    assert_eq!(c.taint(), Some(Taint::OutOfMemory));
    // The engine sends the same event again, as it does to a subscriber who asks for past events.
    assert_eq!(killed_at(begun).await, ExitStatus::Signaled(9));
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_death_missed_because_the_clocks_differ_is_found_by_a_list() {
    let engine = Clocked::new();
    let pool = engine.pool().min_idle(2).max_total(2).build().await.unwrap();
    // The first full list is over.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let dead = engine.inner.containers()[0].id.clone();
    *engine.dies_untold.lock() = Some(dead.clone());
    engine.told.cut();
    eventually_now("the pool has subscribed again", || engine.dies_untold.lock().is_none()).await;
    let begun = Instant::now();
    eventually_now("the dead container is replaced", || {
        pool.status().idle == 2 && engine.inner.containers().iter().all(|c| c.id != dead)
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_engine_sends_current_events_whatever_time_it_is_asked_since() {
    let engine = engine().await;
    let pool = pool("hours").build().await.unwrap();
    let ours = Selector::label(dockerpool::labels::INSTANCE, pool.instance());
    for since in [SystemTime::now() - HOUR, SystemTime::now() + HOUR] {
        if since > SystemTime::now() && is_podman().await {
            // Podman sends no events until that time. The pool finds missed deaths by a list, as the test before this
            // one shows.
            continue;
        }
        let c = pool.acquire().await.unwrap();
        let mut events = engine.events(&ours, Some(since));
        let killed = async {
            // Repeated until the subscription stands, since the engine does not confirm it.
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                engine.pause(c.id()).await.unwrap();
                engine.unpause(c.id()).await.unwrap();
            }
        };
        let told = async {
            while let Some(event) = events.next().await {
                let event = event.unwrap();
                if (event.id.as_str(), event.kind) == (c.id(), EventKind::Paused) {
                    return;
                }
            }
        };
        let told = async {
            tokio::select! {
                () = told => {}
                () = killed => {}
            }
        };
        timeout(Duration::from_secs(30), told)
            .await
            .expect("the engine sends the event");
        c.discard();
    }
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}
