//! Everything at random: leases, commands, cancellations, and containers that another client kills, stops, pauses and
//! removes. Takes ten seconds, or any time by `./dev soak`.

mod support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dockerpool::engine::{ContainerState, Lifecycle, Observation, Pausing, Selector};
use dockerpool::{Container, DockerEngine, Error, ExecVia, ExitStatus, Output, Pool, Running};
use fastrand::Rng;
use futures_util::future::join_all;
use parking_lot::Mutex;
use support::{containers_of, engine, exec_via, pool};
use tokio::time::{sleep, timeout};

/// The variable with the duration, in seconds.
const SECONDS: &str = "DOCKERPOOL_SOAK_SECONDS";

/// The variable with the seed of a former run. The engine's timing still differs.
const SEED: &str = "DOCKERPOOL_SOAK_SEED";

const TOTAL: usize = 6;
const WORKERS: u64 = 4;

/// The most that the memory of this process may grow between a tenth of the time and the end, in KiB.
const GROWTH: u64 = 32 * 1024;

/// Held by each test, since the tests measure the memory and file descriptors of the process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} must be a number: {text}")),
    )
}

/// Returns the memory of this process, in KiB, and its number of file descriptors.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = line.trim().trim_end_matches(" kB").parse().unwrap();
    (memory, std::fs::read_dir("/proc/self/fd").unwrap().count())
}

/// The state that all tasks share.
struct Soak {
    engine: Arc<DockerEngine>,
    pool: Pool,
    until: Instant,
    /// The containers hit by `interfere`. Each is noted before it is hit.
    hit: Mutex<HashSet<String>>,
    leases: AtomicUsize,
    commands: AtomicUsize,
    failures: AtomicUsize,
}

impl Soak {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// Leases containers and uses them as an application does.
    async fn work(&self, mut rng: Rng) {
        while self.goes_on() {
            if rng.u8(..8) == 0 {
                // The acquire is dropped, perhaps just as it is served.
                let _ = timeout(Duration::from_micros(rng.u64(..2000)), self.pool.acquire()).await;
                continue;
            }
            let c = match self.pool.acquire_timeout(Duration::from_secs(60)).await {
                Ok(c) => c,
                Err(error) => panic!("no container for a minute: {error:?}"),
            };
            self.leases.fetch_add(1, Ordering::Relaxed);
            for _ in 0..rng.usize(..6) {
                self.command(&c, &mut rng).await;
            }
            match rng.u8(..10) {
                0 => c.discard(),
                1 => {
                    let c = c.into_inner();
                    self.command(&c, &mut rng).await;
                }
                _ => drop(c),
            }
        }
    }

    /// Runs one command and asserts its outcome.
    async fn command(&self, c: &Container<Running>, rng: &mut Rng) {
        let number = rng.u32(..);
        let limit = Duration::from_secs(5);
        let tainted = c.taint().is_some();
        let (script, expected) = match rng.u8(..10) {
            0..3 => (format!("echo {number}"), ExitStatus::Exited(0)),
            3..5 => (format!("echo {number}; exit 7"), ExitStatus::Exited(7)),
            5..7 => (
                format!("echo {number}; yes"),
                ExitStatus::OutputLimit {
                    limit: 4096,
                    is_default: false,
                },
            ),
            7..9 => (format!("echo {number}; kill -9 $$"), ExitStatus::Signaled(9)),
            _ => {
                // The command is dropped. The library must end it, together with its container unless the agent ends
                // it alone.
                let mut command = c.command("sleep");
                let _ = timeout(Duration::from_millis(rng.u64(..200)), command.arg("1000").output()).await;
                assert!(c.taint().is_some() || exec_via() != ExecVia::Docker, "{c:?}");
                return;
            }
        };
        let mut command = c.command("sh");
        let result = command
            .args(["-c", &script])
            .timeout(limit)
            .output_limit(4096)
            .output()
            .await;
        self.commands.fetch_add(1, Ordering::Relaxed);
        match result {
            Ok(output) if output.status == expected => {
                assert!(output.stdout_lossy().starts_with(&format!("{number}\n")), "{output:?}");
            }
            // The command ran while its container was hit, or came after that.
            result if tainted || self.was_hit(c) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                assert_typed(c, result);
            }
            Ok(output) if output.status == ExitStatus::TimedOut => println!("a slow machine: {output:?}"),
            result => panic!("nobody has touched {c:?}: {script}: {result:?}"),
        }
    }

    fn was_hit(&self, c: &Container<Running>) -> bool {
        self.hit.lock().contains(c.id())
    }

    /// Hits containers as another client may.
    async fn interfere(&self, mut rng: Rng) {
        let ours = Selector::label(dockerpool::labels::INSTANCE, self.pool.instance());
        while self.goes_on() {
            sleep(Duration::from_millis(rng.u64(300..1500))).await;
            if rng.u8(..4) == 0 {
                // Only an idle container is paused. An engine may wait for ever for a command that was frozen just as
                // it started, and then answers nothing more about its container.
                if let Some(c) = self.pool.try_acquire().unwrap() {
                    self.hit.lock().insert(c.id().to_owned());
                    let _ = self.engine.pause(c.id()).await;
                }
                continue;
            }
            let mut found = self.engine.list(&ours).await.unwrap();
            // A paused container belongs to the pool alone.
            found.retain(|one| one.state == ContainerState::Running);
            let Some(one) = rng.choice(found) else { continue };
            self.hit.lock().insert(one.id.clone());
            // The container may be gone by now.
            let _ = match rng.u8(..3) {
                0 => self.engine.kill(&one.id).await,
                1 => self.engine.stop(&one.id, Duration::from_secs(1)).await,
                _ => self.engine.remove(&one.id).await,
            };
        }
    }

    /// Asserts at short intervals that the pool keeps to its maximum.
    async fn watch(&self) {
        while self.goes_on() {
            let status = self.pool.status();
            assert!(status.total() <= TOTAL, "{status}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn assert_typed(c: &Container<Running>, result: Result<Output, Error>) {
    if let Err(error) = result {
        assert_eq!(error.container(), Some(c.name()), "{error:?}");
        assert!(error.is_retryable(), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_actions_for_a_while_lose_nothing_and_leak_nothing() {
    let _alone = ALONE.lock().await;
    let seconds = number(SECONDS).unwrap_or(10);
    let seed = number(SEED).unwrap_or_else(|| fastrand::u64(..));
    println!("soak: {seconds} s, {SEED}={seed}");
    let mut rng = Rng::with_seed(seed);

    let engine = engine().await;
    let (_, descriptors_before) = held();
    let builder = pool("soak").min_idle(2).max_idle(4).max_total(TOTAL).max_uses(30);
    let soak = Arc::new(Soak {
        pool: builder.engine(engine.clone()).build().await.unwrap(),
        engine: engine.clone(),
        until: Instant::now() + Duration::from_secs(seconds),
        hit: Mutex::default(),
        leases: AtomicUsize::new(0),
        commands: AtomicUsize::new(0),
        failures: AtomicUsize::new(0),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let (soak, rng) = (soak.clone(), rng.fork());
        tasks.spawn(async move { soak.work(rng).await });
    }
    tasks.spawn({
        let (soak, rng) = (soak.clone(), rng.fork());
        async move { soak.interfere(rng).await }
    });
    tasks.spawn({
        let soak = soak.clone();
        async move { soak.watch().await }
    });
    sleep(Duration::from_secs(seconds) / 10).await;
    let (memory_early, descriptors_early) = held();
    let mut broken = Ok(());
    while let Some(ended) = tasks.join_next().await {
        broken = broken.and(ended);
    }
    if broken.is_err() {
        // A paused container does not notice the end of its owner.
        let _ = soak.pool.shutdown().await;
    }
    broken.unwrap();
    let (memory, descriptors) = held();

    // All slots come back, and every container works.
    let all = join_all((0..TOTAL).map(|_| soak.pool.acquire_timeout(Duration::from_secs(60)))).await;
    for c in all {
        assert!(c.unwrap().command("true").status().await.unwrap().success());
    }
    soak.pool.shutdown().await.unwrap();
    assert_eq!(soak.pool.status().total(), 0);
    support::eventually("containers taken out of the pool are gone", async || {
        containers_of(&*engine, &soak.pool).await == 0
    })
    .await;
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "soak: {} leases, {} commands, {} containers hit, {} commands failed by that; memory {memory_early} to {memory} KiB, \
         {descriptors_before}, {descriptors_early}, {descriptors} descriptors, {} after it",
        count(&soak.leases),
        count(&soak.commands),
        soak.hit.lock().len(),
        count(&soak.failures),
        held().1,
    );
    assert!(count(&soak.commands) > 0 && !soak.hit.lock().is_empty());
    assert!(memory < memory_early + GROWTH, "{memory_early} to {memory} KiB");
    // The allowance: a lifeline for each container, a command for each worker, and the kept connections to the
    // engine.
    assert!(
        descriptors < descriptors_before + 64,
        "{descriptors_before} to {descriptors}"
    );
    assert!(
        held().1 < descriptors_before + 32,
        "{descriptors_before} to {}",
        held().1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_commands_through_one_container_leak_nothing() {
    let _alone = ALONE.lock().await;
    // The engine runs forty commands a second, so ten thousand need a long run.
    let count = if number(SECONDS).is_some_and(|seconds| seconds >= 600) {
        10_000
    } else {
        200
    };
    let engine = engine().await;
    let pool = pool("many").min_idle(1).max_total(1).build().await.unwrap();
    let id = pool.acquire().await.unwrap().id().to_owned();
    let mut early = None;
    for number in 0..count {
        let c = pool.acquire().await.unwrap();
        assert_eq!(c.id(), id, "the container was replaced before command {number}");
        let output = c.command("echo").arg(number.to_string()).output().await.unwrap();
        assert_eq!(output.stdout_lossy(), format!("{number}\n"));
        if number == count / 10 {
            early = Some(held());
        }
    }
    let ((memory_early, descriptors_early), (memory, descriptors)) = (early.unwrap(), held());
    println!(
        "{count} commands: memory {memory_early} to {memory} KiB, {descriptors_early} to {descriptors} descriptors"
    );
    assert!(memory < memory_early + GROWTH);
    assert!(descriptors <= descriptors_early + 8);
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}
