//! Every future of the public interface is dropped at every step of the engine, under every combination of the
//! engine's answers: success, failure, delay, no answer. In all cases, all slots come back.

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::support::eventually_now;
use dockerpool::engine::Lifecycle;
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{
    Adopt, ContainerSpec, EngineErrorKind, Error, Lifeline, Network, Pool, PoolBuilder, PooledContainer, Reuse, labels,
};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_millis(10);

/// The timeout of one call.
const CALL: Duration = Duration::from_millis(45);

const GATES: [Answer; 4] = [
    Answer::Ok,
    Answer::Fail(EngineErrorKind::Internal),
    Answer::After(SLOW),
    Answer::Never,
];

const CALLS: [Call; 11] = [
    Call::Create,
    Call::Attach,
    Call::Start,
    Call::Exec,
    Call::Kill,
    Call::Remove,
    Call::List,
    Call::Rename,
    Call::Prepare,
    Call::Image,
    Call::Release,
];

/// The milliseconds after which a future is dropped: before the first step, between any two steps of slow calls,
/// before and after the timeout of a call, and late.
const MOMENTS: [u64; 9] = [0, 5, 15, 25, 35, 48, 65, 95, 200];

/// The number of containers a pool may have here.
const TOTAL: usize = 2;

/// Yields every combination of answers to these calls.
fn combinations(calls: &[Call]) -> impl Iterator<Item = Vec<(Call, Answer)>> {
    let count = GATES.len().pow(calls.len() as u32);
    (0..count).map(|number| {
        let digit = |i: usize| number / GATES.len().pow(i as u32) % GATES.len();
        calls
            .iter()
            .enumerate()
            .map(|(i, call)| (*call, GATES[digit(i)]))
            .collect()
    })
}

struct World {
    engine: FakeEngine,
    pool: Pool,
    /// Containers that must not be lent again.
    spoilt: HashSet<String>,
}

impl World {
    async fn new() -> Self {
        let engine = FakeEngine::new();
        let builder = Pool::builder("gates")
            .reuse(Reuse::AsIs)
            .tokio_runtime(Handle::current())
            .image("any")
            .engine(Arc::new(engine.clone()));
        let pool = builder
            .min_idle(0)
            .max_total(TOTAL)
            .engine_timeout(CALL)
            .build()
            .await
            .unwrap();
        Self {
            engine,
            pool,
            spoilt: HashSet::new(),
        }
    }

    fn set(&self, answers: &[(Call, Answer)]) {
        for (call, answer) in answers {
            self.engine.answer(*call, *answer);
        }
    }

    /// Acquires a container while all calls succeed.
    async fn lease(&self) -> PooledContainer {
        self.pool.acquire().await.unwrap()
    }

    /// Asserts the invariants that hold at every moment.
    fn check(&self) {
        let status = self.pool.status();
        assert!(status.total() <= TOTAL, "{status}");
        assert!(status.idle == 0 || status.waiting == 0, "{status}");
    }

    /// Lets the engine answer again. Asserts that all containers are available within the promised time and that none
    /// is left at the end.
    async fn check_whole(self, what: &str) {
        self.check();
        for call in CALLS {
            self.engine.answer(call, Answer::Ok);
        }
        let mut all = Vec::new();
        let begun = Instant::now();
        for _ in 0..TOTAL {
            let c = self
                .pool
                .acquire()
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!self.spoilt.contains(c.id()), "{what}: lent again");
            assert!(c.command("true").status().await.unwrap().success(), "{what}");
            all.push(c);
        }
        assert!(
            begun.elapsed() <= Duration::from_secs(5) + CALL * 2,
            "{what}: {:?}",
            begun.elapsed()
        );
        let status = self.pool.status();
        assert_eq!(
            (status.in_use, status.total(), status.waiting),
            (TOTAL, TOTAL, 0),
            "{what}"
        );
        drop(all);
        assert_eq!(self.pool.status().idle, TOTAL, "{what}");
        self.pool
            .shutdown()
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(self.pool.status().total(), 0, "{what}");
        eventually_now(what, || self.engine.containers().is_empty()).await;
        assert!(self.engine.peak() <= TOTAL + 1, "{what}: at most one was taken out");
    }
}

/// Drops a future at a moment. Returns its output if it was ready before.
async fn dropped_at<T>(moment: u64, future: impl Future<Output = T>) -> Option<T> {
    if moment == 0 {
        // A single poll.
        let mut future = pin!(future);
        return poll_fn(|cx| {
            Poll::Ready(match future.as_mut().poll(cx) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            })
        })
        .await;
    }
    timeout(Duration::from_millis(moment), future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn an_acquire_dropped_at_any_moment_loses_no_slot() {
    for answers in combinations(&[Call::Create, Call::Attach, Call::Start, Call::Remove]) {
        for moment in MOMENTS {
            let world = World::new().await;
            world.set(&answers);
            let acquired = dropped_at(moment, world.pool.acquire()).await;
            world.check();
            drop(acquired);
            world.check_whole(&format!("{answers:?} dropped at {moment}")).await;
        }
    }
}

/// Lists the ways to run a command.
#[derive(Clone, Copy, Debug)]
enum Way {
    Output,
    SpawnAndWait,
    SpawnAndKill,
    SpawnAndDrop,
}

async fn run(c: &PooledContainer, way: Way) -> Result<(), Error> {
    let mut command = c.command("program");
    command.timeout(Duration::from_millis(40));
    match way {
        Way::Output => drop(command.output().await?),
        Way::SpawnAndWait => drop(command.spawn().await?.wait().await?),
        Way::SpawnAndKill => drop(command.spawn().await?.kill().await?),
        Way::SpawnAndDrop => drop(command.spawn().await?),
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_command_dropped_at_any_moment_loses_no_slot() {
    let ways = [Way::Output, Way::SpawnAndWait, Way::SpawnAndKill, Way::SpawnAndDrop];
    for answers in combinations(&[Call::Exec, Call::Kill, Call::Remove]) {
        for (way, endless) in ways.iter().flat_map(|way| [(*way, false), (*way, true)]) {
            for moment in [0, 15, 43, 200] {
                let what = format!("{way:?}, endless: {endless}, {answers:?} dropped at {moment}");
                let mut world = World::new().await;
                let c = world.lease().await;
                world.set(&answers);
                world.engine.on_exec(move |_| match endless {
                    true => FakeProcess::forever().stdout("x"),
                    false => FakeProcess::exit(0).stdout("x"),
                });
                let done = dropped_at(moment, run(&c, way)).await;
                world.check();
                // A command that was begun forbids reuse, unless it has ended by itself and this is known.
                if world.engine.calls(Call::Exec) > 0 && (endless || done.is_none()) {
                    assert!(c.taint().is_some(), "{what}");
                }
                if c.taint().is_some() {
                    world.spoilt.insert(c.id().to_owned());
                }
                drop(c);
                world.engine.on_exec(|_| FakeProcess::exit(0));
                world.check_whole(&what).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_discard_and_a_dropped_removal_lose_no_slot() {
    for answers in combinations(&[Call::Kill, Call::Remove, Call::Create]) {
        for moment in MOMENTS {
            let mut world = World::new().await;
            let (discarded, taken_out) = (world.lease().await, world.lease().await);
            world
                .spoilt
                .extend([discarded.id().to_owned(), taken_out.id().to_owned()]);
            world.set(&answers);
            discarded.discard();
            let removed = dropped_at(moment, taken_out.into_inner().remove()).await;
            world.check();
            drop(removed);
            world.check_whole(&format!("{answers:?} dropped at {moment}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_dropped_at_any_moment_removes_all() {
    for answers in combinations(&[Call::Create, Call::Remove, Call::List]) {
        for moment in MOMENTS {
            let what = format!("{answers:?} dropped at {moment}");
            let world = World::new().await;
            // One container is idle, another is being created.
            let held = world.lease().await;
            world.set(&answers);
            let mut waiting = tokio_test::task::spawn(world.pool.acquire());
            assert!(waiting.poll().is_pending());
            tokio::task::yield_now().await;
            drop(held);
            let down = dropped_at(moment, world.pool.shutdown_timeout(Duration::from_millis(100))).await;
            world.check();
            for call in CALLS {
                world.engine.answer(call, Answer::Ok);
            }
            // The shutdown goes on, and every caller gets the same result. If the engine failed it, containers may be
            // left.
            let again = world.pool.shutdown().await;
            if let Some(down) = down {
                assert_eq!(down.is_ok(), again.is_ok(), "{what}");
            }
            drop(waiting);
            eventually_now(&what, || world.pool.status().total() == 0).await;
            eventually_now(&what, || world.engine.containers().is_empty()).await;
            assert!(world.pool.acquire().await.unwrap_err().is_shutdown());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_dropped_at_any_moment_loses_no_slot_in_all_4096_combinations() {
    let calls = [
        Call::Create,
        Call::Attach,
        Call::Start,
        Call::Exec,
        Call::Kill,
        Call::Remove,
    ];
    for (number, answers) in combinations(&calls).enumerate() {
        // The number of moments has no common factor with the number of gates, so that every gate meets every moment.
        let moment = MOMENTS[number % MOMENTS.len()];
        let mut world = World::new().await;
        world.engine.on_exec(|_| FakeProcess::forever());
        world.set(&answers);
        let life = async {
            let c = world.pool.acquire_timeout(Duration::from_millis(100)).await?;
            let id = c.id().to_owned();
            run(&c, Way::Output).await?;
            match number % 3 {
                0 => drop(c),
                1 => c.discard(),
                _ => c.into_inner().remove().await?,
            }
            Ok::<_, Error>(id)
        };
        if let Some(Ok(id)) = dropped_at(moment, life).await {
            world.spoilt.insert(id);
        }
        world.check();
        world.engine.on_exec(|_| FakeProcess::exit(0));
        world.check_whole(&format!("{answers:?} dropped at {moment}")).await;
    }
}

/// The first container shows whether the agent runs, which fails here. This container has the labels of its owner
/// from its creation on.
#[tokio::test(start_paused = true)]
async fn a_build_that_tries_the_agent_leaves_nothing() {
    for answers in combinations(&[Call::Create, Call::Attach, Call::Start, Call::Remove]) {
        for moment in MOMENTS {
            let what = format!("{answers:?} dropped at {moment}");
            let engine = FakeEngine::new();
            engine.pretend_programs();
            for (call, answer) in &answers {
                engine.answer(*call, *answer);
            }
            let builder = Pool::builder("gates")
                .reuse(Reuse::AsIs)
                .image("any")
                .engine(Arc::new(engine.clone()));
            let builder = builder.tokio_runtime(Handle::current());
            let build = builder.min_idle(1).engine_timeout(CALL).build();
            let built = dropped_at(moment, build).await;
            // Another owner finds an abandoned container by these labels.
            for found in engine.containers() {
                for label in [labels::MANAGED_BY, labels::POOL, labels::INSTANCE, labels::OWNER] {
                    assert!(found.labels.contains_key(label), "{what}: {found:?}");
                }
            }
            for call in CALLS {
                engine.answer(call, Answer::Ok);
            }
            if let Some(Ok(pool)) = built {
                assert!(matches!(pool.status().lifeline, Lifeline::Weak { .. }), "{what}");
                assert!(engine.calls(Call::Create) >= 2, "{what}: the agent was tried");
                pool.shutdown().await.unwrap();
            }
            eventually_now(&what, || engine.containers().is_empty()).await;
        }
    }
}

/// The maximum lease, which is longer than `check_whole` takes.
const LEASE: Duration = Duration::from_secs(20);

#[tokio::test(start_paused = true)]
async fn a_reclaimed_lease_loses_no_slot_when_the_engine_fails() {
    for answers in combinations(&[Call::Kill, Call::Remove]) {
        for moment in MOMENTS {
            let engine = FakeEngine::new();
            let builder = Pool::builder("gates")
                .reuse(Reuse::AsIs)
                .tokio_runtime(Handle::current())
                .image("any")
                .engine(Arc::new(engine.clone()));
            let builder = builder.min_idle(0).max_total(TOTAL).engine_timeout(CALL);
            let pool = builder.max_lease(LEASE).build().await.unwrap();
            let world = World {
                engine,
                pool,
                spoilt: HashSet::new(),
            };
            let (c, forgotten) = (world.lease().await, world.lease().await);
            std::mem::forget(forgotten);
            world.set(&answers);
            // The container is returned just before the reclaim, or at one of its steps.
            sleep(LEASE - Duration::from_millis(10) + Duration::from_millis(moment)).await;
            drop(c);
            world.check();
            sleep(Duration::from_millis(200)).await;
            world.check();
            world.check_whole(&format!("{answers:?} dropped at {moment}")).await;
        }
    }
}

/// Builds pools of one name, on engines with containers that a dead owner left.
struct Builds {
    /// The labels of the containers of a dead owner.
    labels: HashMap<String, String>,
}

impl Builds {
    fn builder(engine: &FakeEngine) -> PoolBuilder {
        let builder = Pool::builder("gates").reuse(Reuse::AsIs).image("any").cmd(["any"]);
        let builder = builder.engine(Arc::new(engine.clone())).engine_timeout(CALL);
        builder.tokio_runtime(Handle::current())
    }

    async fn new() -> Self {
        let engine = FakeEngine::new();
        let pool = Self::builder(&engine).build().await.unwrap();
        let mut labels = engine.containers().remove(0).labels;
        pool.shutdown().await.unwrap();
        // The same process id with another start time: such an owner is dead.
        let owner = &labels[labels::OWNER];
        let (process, start) = owner.rsplit_once('.').unwrap();
        let dead = format!("{process}.{}", start.parse::<u64>().unwrap() + 1);
        labels.insert(labels::OWNER.to_owned(), dead);
        labels.insert(labels::INSTANCE.to_owned(), "another".to_owned());
        Self { labels }
    }

    /// Creates an engine with three containers of the dead owner: one that can be adopted, one that cannot, and its
    /// lock.
    async fn engine(&self) -> FakeEngine {
        let engine = FakeEngine::new();
        for name in ["left.fresh", "left", "dockerpool-gates.adopting"] {
            let id = engine
                .create(
                    &dockerpool::engine::Identity::new(name),
                    &ContainerSpec::new("any").cmd(["any"]).plan().unwrap(),
                )
                .await
                .unwrap()
                .id;
            engine.start(&id).await.unwrap();
            for (label, value) in &self.labels {
                engine.set_label(&id, label, value);
            }
        }
        engine
    }

    /// Drops a build at every moment under every combination of answers to these calls. Asserts that the next build
    /// of the same name does not wait, and that nothing of either build is left.
    async fn drop_in_every_combination(&self, calls: &[Call], with: impl Fn(PoolBuilder) -> PoolBuilder) {
        for answers in combinations(calls) {
            for moment in MOMENTS {
                let what = format!("{answers:?} dropped at {moment}");
                let engine = self.engine().await;
                for (call, answer) in &answers {
                    engine.answer(*call, *answer);
                }
                drop(dropped_at(moment, with(Self::builder(&engine)).build()).await);
                for call in CALLS {
                    engine.answer(call, Answer::Ok);
                }
                let begun = Instant::now();
                let builder = Self::builder(&engine).adopt(Adopt::Clean);
                let pool = builder.build().await.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(
                    begun.elapsed() <= Duration::from_secs(6),
                    "{what}: {:?}",
                    begun.elapsed()
                );
                let c = pool.acquire().await.unwrap();
                assert!(c.command("true").status().await.unwrap().success(), "{what}");
                drop(c);
                pool.shutdown().await.unwrap();
                eventually_now(&what, || engine.containers().is_empty()).await;
                eventually_now(&what, || engine.networks() == ["bridge"]).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_build_that_adopts_leaves_nothing() {
    let calls = [Call::List, Call::Create, Call::Rename, Call::Remove];
    let builds = Builds::new().await;
    builds
        .drop_in_every_combination(&calls, |builder| builder.adopt(Adopt::Clean))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_build_that_adopts_none_leaves_nothing() {
    let calls = [Call::List, Call::Create, Call::Rename, Call::Remove];
    let builds = Builds::new().await;
    builds.drop_in_every_combination(&calls, |builder| builder).await;
}

#[tokio::test(start_paused = true)]
async fn a_dropped_build_that_makes_a_network_leaves_nothing() {
    let calls = [Call::Prepare, Call::Image, Call::Release, Call::Start];
    let builds = Builds::new().await;
    let network = || Network::create("gates").remove_on_shutdown();
    builds
        .drop_in_every_combination(&calls, |builder| builder.network(network()))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_lock_whose_creation_got_no_answer_does_not_block_the_next_build() {
    let builds = Builds::new().await;
    for adopt in [Adopt::Never, Adopt::Clean] {
        let engine = builds.engine().await;
        engine.remove("dockerpool-gates.adopting").await.unwrap();
        engine.answer_once(Call::Create, Answer::DoneButNever);
        let begun = Instant::now();
        let dropped = dropped_at(15, Builds::builder(&engine).min_idle(0).adopt(adopt).build()).await;
        assert_eq!(
            dropped.is_some(),
            adopt == Adopt::Never,
            "only a build that adopts waits for the lock"
        );
        eventually_now("the lock is requested", || engine.calls(Call::Create) == 4).await;
        drop(dropped);
        let pool = Builds::builder(&engine).adopt(Adopt::Clean).build().await.unwrap();
        assert!(
            begun.elapsed() <= Duration::from_secs(1),
            "{adopt:?}: {:?}",
            begun.elapsed()
        );
        assert_eq!(pool.status().lifetime.adopted, 1);
        pool.shutdown().await.unwrap();
        eventually_now("all containers are removed", || engine.containers().is_empty()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_lock_is_made_if_no_container_can_be_adopted() {
    let builds = Builds::new().await;
    for adopt in [Adopt::Never, Adopt::Clean] {
        let engine = builds.engine().await;
        engine.remove("left.fresh").await.unwrap();
        let made = engine.calls(Call::Create);
        let pool = Builds::builder(&engine).min_idle(0).adopt(adopt).build().await.unwrap();
        eventually_now("the containers of the dead owner are removed", || {
            engine.containers().is_empty()
        })
        .await;
        assert_eq!(engine.calls(Call::Create), made);
        pool.shutdown().await.unwrap();
    }
}
