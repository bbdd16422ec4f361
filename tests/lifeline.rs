//! The lifeline: containers end with their owner, however it ended, and are replaced when it breaks.

#[path = "support/memory_group.rs"]
mod memory_group;
mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockerpool::engine::{ContainerState, Selector};
use dockerpool::{DockerEngine, Endpoint, Engine, Taint};
use memory_group::MemoryGroup;
use support::{containers_of, containers_of_instance, engine, eventually, eventually_now, finish, pool, unique_name};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Makes a test, run by itself in a process of its own, the owner that comes to an end.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// Runs this test again in another process, which has one container idle and one busy, and ends it by `end`; or is that
/// process, and then comes to its end by `own_end` if that returns.
async fn ended(test: &str, own_end: fn(), end: impl FnOnce(&mut Child)) -> Option<ExitStatus> {
    if std::env::var_os(OWNER).is_some() {
        own(own_end).await;
        return None;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let instance = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("instance ").map(str::to_owned))
        .expect("the owner says its instance");
    let engine = engine().await;
    assert!(containers_of_instance(&*engine, &instance).await >= 2);

    end(&mut owner);
    let status = owner.wait().unwrap();
    let ended = Instant::now();
    eventually("its containers are gone", async || {
        containers_of_instance(&*engine, &instance).await == 0
    })
    .await;
    println!("{test}: gone after {:.0?}", ended.elapsed());
    // Within a second, as promised, on a machine with nothing else to do; ten times that here.
    assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
    Some(status)
}

async fn own(end: fn()) {
    let pool = pool("owner").min_idle(2).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(c.has_lifeline());
    // Not while one is being created: until its start it has no PID 1 that could see its owner go.
    eventually_now("all are up", || pool.status().idle == 2 && pool.status().creating == 0).await;
    println!("\ninstance {}", pool.instance());
    std::thread::spawn(move || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        end();
    });
    // Ended here, with one container idle and one busy.
    let _ = c.command("sleep").arg("1000").status().await;
}

fn never() {
    std::thread::sleep(Duration::from_secs(1000));
}

fn say_when(owner: &mut Child) {
    owner.stdin.as_mut().unwrap().write_all(b"now\n").unwrap();
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing() {
    let status = ended("a_killed_owner_leaves_nothing", never, |owner| owner.kill().unwrap()).await;
    assert!(status.is_none_or(|status| status.signal() == Some(9)));
}

#[tokio::test]
async fn an_owner_that_is_asked_to_end_and_does_nothing_about_it_leaves_nothing() {
    let status = ended(
        "an_owner_that_is_asked_to_end_and_does_nothing_about_it_leaves_nothing",
        never,
        |owner| {
            let pid = owner.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        },
    )
    .await;
    assert!(status.is_none_or(|status| status.signal() == Some(15)));
}

/// What a panic comes to in a program built with `panic = "abort"`.
#[tokio::test]
async fn an_owner_that_aborts_leaves_nothing() {
    let status = ended(
        "an_owner_that_aborts_leaves_nothing",
        || std::process::abort(),
        say_when,
    )
    .await;
    assert!(status.is_none_or(|status| status.signal() == Some(6)));
}

#[tokio::test]
async fn an_owner_that_ends_without_shutting_down_leaves_nothing() {
    let status = ended(
        "an_owner_that_ends_without_shutting_down_leaves_nothing",
        || std::process::exit(3),
        say_when,
    )
    .await;
    assert!(status.is_none_or(|status| status.code() == Some(3)));
}

#[tokio::test]
async fn an_owner_that_runs_out_of_memory_leaves_nothing() {
    let mut group = None;
    let status = ended(
        "an_owner_that_runs_out_of_memory_leaves_nothing",
        || {
            let mut all = Vec::new();
            loop {
                all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        },
        |owner| {
            group = Some(MemoryGroup::with(owner.id(), 128 << 20));
            say_when(owner);
        },
    )
    .await;
    // By the kernel.
    assert!(status.is_none_or(|status| status.signal() == Some(9)), "{status:?}");
}

/// Removes what there still is of pools of this name: also where the test has failed.
struct RemovedAtLast(String);

impl Drop for RemovedAtLast {
    fn drop(&mut self) {
        let ours = Selector::pool(&self.0);
        finish(async move {
            let engine = engine().await;
            for left in engine.list(&ours).await.unwrap() {
                let _ = engine.remove(&left.id).await;
            }
        });
    }
}

/// What is paused does not see its owner go.
#[tokio::test]
async fn a_paused_container_outlives_its_owner_until_it_is_unpaused_or_the_next_pool_of_its_name_comes() {
    const TEST: &str = "a_paused_container_outlives_its_owner_until_it_is_unpaused_or_the_next_pool_of_its_name_comes";
    if let Ok(name) = std::env::var(OWNER) {
        let pool = pool(&name).build().await.unwrap();
        let _running = pool.acquire().await.unwrap();
        for _ in 0..2 {
            let paused = pool.acquire().await.unwrap().into_inner().pause().await.unwrap();
            println!("\npaused {}", paused.id());
            std::mem::forget(paused);
        }
        return std::future::pending().await;
    }
    let name = unique_name("paused");
    let _cleaned_up = RemovedAtLast(name.clone());
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(OWNER, &name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ids = lines.filter_map(|line| line.strip_prefix("paused ").map(str::to_owned));
    let ids: Vec<_> = ids.take(2).collect();
    owner.kill().unwrap();
    owner.wait().unwrap();

    let engine = engine().await;
    let left = async || {
        let found = engine.list(&Selector::pool(&name)).await.unwrap();
        let mut found: Vec<_> = found.into_iter().map(|one| (one.id, one.state)).collect();
        found.sort_by_key(|(id, _)| ids.iter().position(|known| known == id));
        found
    };
    let paused = |ids: &[String]| {
        ids.iter()
            .cloned()
            .map(|id| (id, ContainerState::Paused))
            .collect::<Vec<_>>()
    };
    eventually("the one that runs is gone", async || left().await == paused(&ids)).await;
    engine.unpause(&ids[0]).await.unwrap();
    eventually("so is the one that was unpaused", async || {
        left().await == paused(&ids[1..])
    })
    .await;
    let next = pool(&name).build().await.unwrap();
    eventually("the next pool removes what is left", async || left().await.is_empty()).await;
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_command_of_ones_own_has_none_and_says_so() {
    let pool = pool("own-command").cmd(["sleep", "1000"]).build().await.unwrap();
    assert!(!pool.acquire().await.unwrap().has_lifeline());
    pool.shutdown().await.unwrap();
}

/// Between the library and the engine: passes everything on, and can let go of the attached connections.
struct Proxy {
    cut: watch::Sender<bool>,
    folder: tempfile::TempDir,
}

/// What becomes of the engine's side of a connection that is cut.
#[derive(Clone, Copy)]
enum Side {
    /// It is cut as well, so that the engine sees the end.
    Cut,
    /// It stays, as where a machine in the middle has forgotten the connection: PID 1 lives on.
    Kept,
}

impl Proxy {
    async fn start(side: Side) -> Self {
        let theirs = engine().await.endpoint().unwrap().to_string();
        let theirs = theirs.strip_prefix("unix://").unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let cut = watch::Sender::new(false);
        let cuts = cut.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let engine = UnixStream::connect(&theirs).await.unwrap();
                tokio::spawn(pass_on(client, engine, cuts.subscribe(), side));
            }
        });
        Self { cut, folder }
    }

    async fn engine(&self) -> Arc<DockerEngine> {
        let endpoint = Endpoint::unix(self.folder.path().join("socket"));
        Arc::new(DockerEngine::connect_to(endpoint).await.unwrap())
    }
}

async fn pass_on(mut client: UnixStream, mut engine: UnixStream, mut cut: watch::Receiver<bool>, side: Side) {
    let mut attached = false;
    let (mut from_client, mut from_engine) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            Ok(count) = client.read(&mut from_client) => {
                let data = &from_client[..count];
                attached |= data.windows(8).any(|part| part == b"/attach?");
                if count == 0 || engine.write_all(data).await.is_err() {
                    return;
                }
            }
            Ok(count) = engine.read(&mut from_engine) => {
                if count == 0 || client.write_all(&from_engine[..count]).await.is_err() {
                    return;
                }
            }
            // Those that are there now; not those made after it.
            Ok(()) = cut.changed(), if attached => break,
            else => return,
        }
    }
    drop(client);
    if matches!(side, Side::Kept) {
        let _ = engine.read(&mut from_engine).await;
    }
}

async fn replaced_unnoticed(side: Side) {
    let proxy = Proxy::start(side).await;
    let engine = proxy.engine().await;
    let pool = pool("cut")
        .min_idle(2)
        .max_total(3)
        .engine(engine.clone())
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    eventually_now("all are up", || pool.status().idle == 2).await;
    let mut before = vec![c.id().to_owned()];
    {
        let idle = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
        before.extend(idle.iter().map(|c| c.id().to_owned()));
    }

    proxy.cut.send_replace(true);
    eventually_now("it is noticed", || pool.status().idle < 2).await;
    // No one who has no lease on a broken one sees anything of it.
    for _ in 0..10 {
        let other = pool.acquire().await.unwrap();
        assert!(!before.iter().any(|id| id == other.id()));
        assert!(other.command("true").status().await.unwrap().success());
    }
    assert_eq!(c.taint(), Some(Taint::Died));
    if matches!(side, Side::Kept) {
        // Nor does a lease whose container goes on.
        assert!(c.command("true").status().await.unwrap().success());
    }
    drop(c);
    eventually_now("all are replaced", || {
        pool.status().idle == 2 && pool.status().recycling == 0
    })
    .await;
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_whose_lifeline_breaks_are_replaced() {
    replaced_unnoticed(Side::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_whose_lifeline_is_lost_on_the_way_are_replaced_though_they_live_on() {
    replaced_unnoticed(Side::Kept).await;
}
