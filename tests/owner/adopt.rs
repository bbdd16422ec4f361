//! What happens to the containers of dead owners and of living ones.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};

use crate::support::{busybox, engine, eventually, eventually_now, finish, itself, own_test, unique_name};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptions;
use dockerpool::engine::{ContainerReport, Lifecycle, Observation, Pausing, Selector};
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{Adopt, DockerEngine, EngineErrorKind, Pool, PoolBuilder, labels};

/// Makes a run of this binary, in a process of its own, an owner that will be killed. The value is the pool's name,
/// optionally followed by a memory limit.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// Number of idle containers of an owner.
const IDLE: usize = 4;

/// A unique name. Drop removes all containers with that name, also when the test fails.
struct Name(String);

impl Name {
    fn new() -> Self {
        Self(unique_name("adopt"))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let name = self.0.clone();
        finish(async move {
            let engine = engine().await;
            for container in all(&engine, &name).await {
                let _ = engine.remove(&container.id).await;
            }
        });
    }
}

fn builder(name: &str, memory: u64) -> PoolBuilder {
    crate::support::pool(name).cmd(["sleep", "1000"]).memory(memory)
}

fn plain(name: &str) -> PoolBuilder {
    builder(name, 64 << 20)
}

/// Returns all containers of pools of this name, in any state.
async fn all(engine: &DockerEngine, name: &str) -> Vec<ContainerReport> {
    engine.list(&Selector::pool(name)).await.unwrap()
}

async fn ids(engine: &DockerEngine, name: &str) -> BTreeSet<String> {
    all(engine, name).await.into_iter().map(|report| report.id).collect()
}

/// A process with a pool.
struct Owner {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
    instance: String,
    lent: Vec<String>,
}

impl Owner {
    /// Starts an owner, and waits until it has [`IDLE`] idle containers, one lent and never used, one lent and used,
    /// and one returned.
    fn start(name: &str, memory: u64) -> Self {
        let mut process = itself(&own_test!("an_owner"))
            .env(OWNER, format!("{name} {memory}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut owner = Self {
            lines: BufReader::new(process.stdout.take().unwrap()).lines(),
            process,
            instance: String::new(),
            lent: Vec::new(),
        };
        owner.lent = ["one", "two", "three"].map(|which| owner.read(which)).into();
        owner.instance = owner.read("instance");
        owner
    }

    fn read(&mut self, what: &str) -> String {
        let mut lines = (&mut self.lines).map(Result::unwrap);
        lines
            .find_map(|line| line.strip_prefix(what).map(|rest| rest.trim().to_owned()))
            .unwrap_or_else(|| panic!("the owner prints its {what}"))
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn containers(&self, engine: &DockerEngine) -> BTreeSet<String> {
        let found = engine
            .list(&Selector::label(labels::INSTANCE, &self.instance))
            .await
            .unwrap();
        found.into_iter().map(|report| report.id).collect()
    }

    /// Returns the containers that were never lent.
    async fn unused(&self, engine: &DockerEngine) -> Vec<String> {
        let mut found = self.containers(engine).await;
        found.retain(|id| !self.lent.contains(id));
        found.into_iter().collect()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs as an owner. This is not a test of its own.
#[tokio::test]
async fn an_owner() {
    let Ok(setting) = std::env::var(OWNER) else { return };
    let (name, memory) = setting.split_once(' ').unwrap();
    let pool = builder(name, memory.parse().unwrap())
        .min_idle(IDLE)
        .max_idle(IDLE + 1)
        .adopt(Adopt::Clean)
        .build()
        .await
        .unwrap();
    let (unused, used, returned) = tokio::join!(pool.acquire(), pool.acquire(), pool.acquire());
    let (unused, used, returned) = (unused.unwrap(), used.unwrap(), returned.unwrap());
    assert!(used.exec(["true"]).await.unwrap().status.success());
    println!("\none {}\ntwo {}\nthree {}", unused.id(), used.id(), returned.id());
    let name = unused.name().to_owned();
    eventually("the container that was only lent has lost its mark", async || {
        unused.inspect().await.unwrap().name == name
    })
    .await;
    eventually_now("all containers are up", || {
        pool.status().idle == IDLE && pool.status().creating == 0
    })
    .await;
    drop(returned);
    println!("\ninstance {}", pool.instance());
    // The test kills this process here.
    let _ = used.command("sleep").arg("1000").status().await;
}

#[tokio::test]
async fn only_clean_equal_containers_of_dead_owners_are_adopted_and_living_owners_keep_theirs() {
    let (engine, name) = (engine().await, Name::new());
    let mut dead = Owner::start(&name.0, 64 << 20);
    let mut different = Owner::start(&name.0, 65 << 20);
    let living = Owner::start(&name.0, 64 << 20);
    let unused = dead.unused(&engine).await;
    assert_eq!(unused.len(), IDLE);
    dead.kill();
    different.kill();
    engine.kill(&unused[0]).await.unwrap();
    engine.pause(&unused[1]).await.unwrap();
    let foreign = foreign(&engine, &name.0).await;
    let of_the_living = living.containers(&engine).await;
    assert_eq!(of_the_living.len(), IDLE + 3);

    let pool = plain(&name.0).min_idle(1).adopt(Adopt::Clean).build().await.unwrap();
    let adopted: BTreeSet<_> = unused[2..].iter().cloned().collect();
    assert_eq!((pool.status().lifetime.adopted, pool.idle_count()), (2, 2));
    let mut expected: BTreeSet<_> = adopted.union(&of_the_living).cloned().collect();
    expected.insert(foreign.clone());
    eventually("the rest is removed", async || ids(&engine, &name.0).await == expected).await;

    // The adopted containers are the pool's own now: it lends them, sees them die and replaces them.
    let c = pool.acquire().await.unwrap();
    assert!(adopted.contains(c.id()));
    assert!(c.exec(["true"]).await.unwrap().status.success());
    assert_eq!(c.inspect().await.unwrap().name, c.name());
    let own_words: BTreeSet<_> = c
        .labels()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let engines_words: BTreeSet<_> = c.inspect().await.unwrap().labels.into_iter().collect();
    assert!(own_words.is_subset(&engines_words), "{own_words:?} {engines_words:?}");
    let idle = adopted.iter().find(|id| *id != c.id()).unwrap();
    engine.kill(idle).await.unwrap();
    eventually("a dead container is replaced", async || {
        pool.idle_count() == 1 && !ids(&engine, &name.0).await.contains(idle)
    })
    .await;
    drop(c);

    // A shutdown removes the adopted containers and no container of another owner.
    pool.shutdown().await.unwrap();
    expected = of_the_living;
    expected.insert(foreign);
    assert_eq!(ids(&engine, &name.0).await, expected);
}

/// Creates a container of an owner on another machine, which otherwise meets all conditions for adoption.
async fn foreign(engine: &DockerEngine, name: &str) -> String {
    let mut of_another = labels::of_pool(name);
    of_another.insert(
        labels::OWNER.to_owned(),
        "11111111-2222-3333-4444-555555555555.4026531836.1.1".to_owned(),
    );
    let body = ContainerCreateBody {
        image: Some(busybox()),
        cmd: Some(vec!["sleep".to_owned(), "1000".to_owned()]),
        labels: Some(of_another.into_iter().collect()),
        ..Default::default()
    };
    let options = CreateContainerOptions {
        name: Some(format!("dockerpool-{name}-elsewhere.fresh")),
        ..Default::default()
    };
    let created = engine.bollard().create_container(Some(options), body).await.unwrap();
    engine.start(&created.id).await.unwrap();
    created.id
}

#[tokio::test]
async fn two_pools_built_at_once_adopt_each_container_once() {
    let (engine, name) = (engine().await, Name::new());
    let mut dead = Owner::start(&name.0, 64 << 20);
    let unused: BTreeSet<_> = dead.unused(&engine).await.into_iter().collect();
    dead.kill();
    let build = || plain(&name.0).adopt(Adopt::Clean).build();
    let (a, b) = tokio::join!(build(), build());
    let pools = [a.unwrap(), b.unwrap()];
    let adopted: Vec<_> = pools
        .iter()
        .map(|pool| pool.status().lifetime.adopted as usize)
        .collect();
    assert_eq!(adopted.iter().sum::<usize>(), IDLE);
    let mut seen = Vec::new();
    for (pool, count) in pools.iter().zip(adopted) {
        let guards: Vec<_> = (0..count).map(|_| pool.try_acquire().unwrap().unwrap()).collect();
        for c in &guards {
            assert!(c.exec(["true"]).await.unwrap().status.success());
            seen.push(c.id().to_owned());
        }
    }
    assert_eq!(seen.len(), IDLE, "no container is adopted twice");
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), unused);
    for pool in pools {
        pool.shutdown().await.unwrap();
    }
    eventually("all containers are gone", async || {
        all(&engine, &name.0).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn an_adopted_container_is_adopted_again_when_its_second_owner_dies() {
    let (engine, name) = (engine().await, Name::new());
    let mut first = Owner::start(&name.0, 64 << 20);
    let of_the_first = first.unused(&engine).await;
    first.kill();
    // The second owner lends three of its four adopted containers.
    let mut second = Owner::start(&name.0, 64 << 20);
    let kept: Vec<_> = of_the_first.iter().filter(|id| !second.lent.contains(id)).collect();
    assert_eq!(kept.len(), 1);
    // While the second owner lives it keeps its containers, although their labels name the first owner.
    let pool = plain(&name.0).adopt(Adopt::Clean).build().await.unwrap();
    assert_eq!(pool.status().lifetime.adopted, 0);
    pool.shutdown().await.unwrap();
    assert!(
        ids(&engine, &name.0)
            .await
            .is_superset(&of_the_first.iter().cloned().collect())
    );

    second.kill();
    let pool = plain(&name.0).adopt(Adopt::Clean).build().await.unwrap();
    assert_eq!(pool.status().lifetime.adopted as usize, IDLE);
    let found = ids(&engine, &name.0).await;
    assert!(found.contains(kept[0]));
    pool.shutdown().await.unwrap();
    eventually("all containers are gone", async || {
        all(&engine, &name.0).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn without_adoption_all_containers_of_a_dead_owner_are_removed() {
    let (engine, name) = (engine().await, Name::new());
    let mut dead = Owner::start(&name.0, 64 << 20);
    dead.kill();
    assert_eq!(dead.containers(&engine).await.len(), IDLE + 3);
    let pool = plain(&name.0).build().await.unwrap();
    assert_eq!(pool.status().lifetime.adopted, 0);
    eventually("all containers are gone", async || {
        all(&engine, &name.0).await.is_empty()
    })
    .await;
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn no_command_begins_before_the_mark_is_removed() {
    let engine = FakeEngine::new();
    let pool = Pool::builder("marked")
        .image("any")
        .cmd(["any"])
        .engine(std::sync::Arc::new(engine.clone()))
        .adopt(Adopt::Clean)
        .build()
        .await
        .unwrap();
    assert!(engine.containers()[0].name.ends_with(".fresh"));
    engine.answer(
        Call::Rename,
        dockerpool::testing::Answer::Fail(EngineErrorKind::Internal),
    );
    let c = pool.acquire().await.unwrap();
    c.exec(["true"]).await.unwrap_err();
    assert_eq!(engine.calls(Call::Exec), 0);
    drop(c);
    // The lease's background task may have tried again. The container does not come back.
    eventually_now("the container is removed", || pool.status().lifetime.removed == 1).await;
    engine.answer(Call::Rename, dockerpool::testing::Answer::Ok);
    let renames = engine.calls(Call::Rename);
    let c = pool.acquire().await.unwrap();
    for _ in 0..3 {
        assert!(c.exec(["true"]).await.unwrap().status.success());
    }
    assert_eq!(engine.calls(Call::Rename), renames + 1, "one rename for each container");
    assert!(engine.containers().iter().any(|report| report.name == c.name()));
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pool_whose_containers_cannot_be_adopted_sets_no_mark() {
    for (cmd, adopt) in [(true, Adopt::Never), (false, Adopt::Clean)] {
        let engine = FakeEngine::new();
        let builder = Pool::builder("plain")
            .image("any")
            .engine(std::sync::Arc::new(engine.clone()));
        let builder = if cmd { builder.cmd(["any"]) } else { builder };
        let pool = builder.adopt(adopt).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        assert!(c.exec(["true"]).await.unwrap().status.success());
        assert_eq!(engine.calls(Call::Rename), 0);
        drop(c);
        pool.shutdown().await.unwrap();
    }
}
