//! Helpers shared by the tests on the real engine.
#![allow(dead_code, unused_imports)] // each test binary uses a part of this module

mod capability;
mod forward;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub use capability::{Capability, lacks};
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{ActiveExec, DockerEngine, Engine, ExecVia, Pool, PoolBuilder, PooledContainer, Reuse, Taint};
#[allow(unused_imports)] // each test binary uses a part of this module
pub(crate) use forward::forward;
use tokio::sync::OnceCell;

/// The answer of an engine's call.
pub type Answer<'a, T> = dockerpool::engine::BoxFuture<'a, Result<T, dockerpool::EngineError>>;

/// Returns a small image with a shell. `./dev` sets it.
pub fn busybox() -> String {
    image("DOCKERPOOL_BUSYBOX_IMAGE", "dockerpool-local/busybox:1")
}

/// Returns an image with a real Python.
pub fn python() -> String {
    image("DOCKERPOOL_PYTHON_IMAGE", "dockerpool-local/python:1")
}

/// Returns an image of Redis, whose own command serves on port 6379. See [`Capability::Servers`].
pub fn redis() -> String {
    image("DOCKERPOOL_REDIS_IMAGE", "dockerpool-local/redis:1")
}

/// Returns an image of PostgreSQL, whose own command makes a database and serves on port 5432. See [`Capability::Servers`].
pub fn postgres() -> String {
    image("DOCKERPOOL_POSTGRES_IMAGE", "dockerpool-local/postgres:1")
}

/// Returns an image with `cc` and `python3`. See [`Capability::Judge`].
pub fn judge() -> String {
    image("DOCKERPOOL_JUDGE_IMAGE", "dockerpool-local/judge:1")
}

fn image(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// Begins a pool of busybox containers with `min_idle` of 0.
pub fn pool(name: &str) -> PoolBuilder {
    let pool = Pool::builder(name)
        .image(busybox())
        .min_idle(0)
        .memory(64 << 20)
        // Tests look at what one lease leaves for the next.
        .reuse(Reuse::AsIs)
        .exec_via(exec_via());
    by_transport(pool)
}

/// Has the library reach the agent through the engine alone in the test binaries named for that.
pub fn by_transport(pool: PoolBuilder) -> PoolBuilder {
    if env!("CARGO_CRATE_NAME").ends_with("_attached") {
        pool.without_agent_socket()
    } else {
        pool
    }
}

/// Returns how commands are run in tests of them: by the exec API, or by `DOCKERPOOL_TEST_EXEC`. Tests of the agent say so.
pub fn exec_via() -> ExecVia {
    match std::env::var("DOCKERPOOL_TEST_EXEC").as_deref() {
        // `Auto`, since some tests have containers in which the agent cannot run.
        Ok("agent") => ExecVia::Auto,
        Ok("docker") => ExecVia::Docker,
        Ok(other) => panic!("DOCKERPOOL_TEST_EXEC is `agent` or `docker`, not `{other}`"),
        Err(_) => ExecVia::Docker,
    }
}

/// Returns the taint after a command was ended: the exec API ends the whole container, the agent only the command.
pub fn taint_of_ended(taint: Taint) -> Option<Taint> {
    (exec_via() == ExecVia::Docker).then_some(taint)
}

/// Connects to the real engine.
pub async fn engine() -> Arc<DockerEngine> {
    Arc::new(
        DockerEngine::connect()
            .await
            .expect("a Docker engine is needed: ./dev engine start"),
    )
}

/// Returns whether the engine is Podman.
pub async fn is_podman() -> bool {
    // An engine runs programs to tell its version, and tests ask in loops.
    static IS_PODMAN: OnceCell<bool> = OnceCell::const_new();
    let ask = async || engine().await.check().await.unwrap().version.starts_with("Podman");
    *IS_PODMAN.get_or_init(ask).await
}

/// Returns whether PID 1 is the agent and is as far out of commands' reach as the engine allows.
pub async fn is_strong(lifeline: dockerpool::Lifeline) -> bool {
    match lifeline {
        dockerpool::Lifeline::Agent => true,
        dockerpool::Lifeline::Weak { why } => is_podman().await && why.starts_with("Podman lets root"),
        _ => false,
    }
}

/// Returns whether the engine's default runtime is crun.
pub async fn is_crun() -> bool {
    static IS_CRUN: OnceCell<bool> = OnceCell::const_new();
    let ask = async || {
        let info = engine().await.bollard().info().await.unwrap();
        info.default_runtime.as_deref() == Some("crun")
    };
    *IS_CRUN.get_or_init(ask).await
}

/// Counts this pool's containers on the engine, in any state.
pub async fn containers_of(engine: &dyn Engine, pool: &Pool) -> usize {
    containers_of_instance(engine, pool.instance()).await
}

/// Counts the containers of a pool by its instance, for pools that are gone.
pub async fn containers_of_instance(engine: &dyn Engine, instance: &str) -> usize {
    let selector = dockerpool::engine::Selector::label(dockerpool::labels::INSTANCE, instance);
    engine
        .list(&selector)
        .await
        .expect("the engine lists its containers")
        .len()
}

/// Waits until a condition holds. Fails after two minutes: on a slow machine a fork bomb needs one of them to reach its limit.
///
/// The pause between two looks grows with what a look takes: a look at the engine, or at all processes, would otherwise keep a
/// processor from what is waited for.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let give_up = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        let begun = Instant::now();
        if holds().await {
            return;
        }
        assert!(tokio::time::Instant::now() < give_up, "did not happen: {what}");
        let pause = (begun.elapsed() * 2).clamp(Duration::from_millis(5), Duration::from_millis(200));
        tokio::time::sleep(pause).await;
    }
}

/// Waits until a condition holds that needs no call to the engine.
pub async fn eventually_now(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || std::future::ready(holds())).await;
}

/// Runs a function with one container of a pool of its own, and shuts the pool down.
pub async fn with_container<T>(pool: PoolBuilder, run: impl AsyncFnOnce(&PooledContainer) -> T) -> T {
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let result = run(&c).await;
    drop(c);
    pool.shutdown().await.unwrap();
    result
}

/// Runs a function with a container of a pool that the tests of a process share. No process of an earlier lease is left in it, and
/// no file in its directories for temporary files.
///
/// The containers end with the process. See [`together`] for more than one test in it.
pub async fn with_shared<T>(via: ExecVia, run: impl AsyncFnOnce(&PooledContainer) -> T) -> T {
    static POOLS: [OnceCell<Pool>; 3] = [const { OnceCell::const_new() }; 3];
    let [by_agent, by_docker, by_either] = &POOLS;
    let shared = match via {
        ExecVia::Agent => by_agent,
        ExecVia::Docker => by_docker,
        _ => by_either,
    };
    let build = async || {
        let builder = pool("shared").exec_via(via).env("FROM", "container");
        builder.build().await.unwrap()
    };
    let pool = shared.get_or_init(build).await;
    assert!(via != ExecVia::Agent || pool.status().exec == ActiveExec::Agent);
    let reset = async |c: &PooledContainer| {
        c.kill_all().await?;
        c.wipe(&["/tmp", "/dev/shm"]).await
    };
    for _ in 0..10 {
        let c = pool.acquire().await.unwrap();
        match reset(&c).await {
            Ok(()) => return run(&c).await,
            Err(error) => println!("another container, since {error}"),
        }
        c.discard();
    }
    panic!("no container can be emptied");
}

/// Runs a function with a container whose commands the agent runs, as [`with_shared`] does.
pub async fn with_agent<T>(run: impl AsyncFnOnce(&PooledContainer) -> T) -> T {
    with_shared(ExecVia::Agent, run).await
}

/// Gives another name to an image: `to` is `REPOSITORY:TAG`.
pub async fn tag(docker: &bollard::Docker, from: &str, to: &str) {
    let (repo, tag) = to.rsplit_once(':').unwrap();
    let options = bollard::query_parameters::TagImageOptions {
        repo: Some(repo.to_owned()),
        tag: Some(tag.to_owned()),
    };
    docker.tag_image(from, Some(options)).await.unwrap();
}

/// Runs the tests of these modules in one process, as `cargo test` does, since they share containers. `.config/nextest.toml` leaves
/// them out, so that nextest does not run each in a process, and with a container, of its own. Without nextest, does nothing.
pub fn together(modules: &[&str]) {
    if std::env::var_os("NEXTEST").is_none() {
        return;
    }
    // Both lists must name the same modules: nextest leaves them out, and this process runs them.
    let (binary, names) = (env!("CARGO_CRATE_NAME"), modules.join("|"));
    let (binary, names) = (format!("binary({binary})"), format!("test(/^({names})/)"));
    let mut left_out = include_str!("../../.config/nextest.toml").lines();
    assert!(
        left_out.any(|line| line.contains(&binary) && line.contains(&names)),
        "{binary} {names}"
    );
    let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
    let tests = tests.args(["--test-threads", "3"]).args(modules).env_remove("NEXTEST");
    let output = tests.output().unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let is_empty = String::from_utf8_lossy(&output.stdout).contains(" 0 passed");
    assert!(output.status.success() && !is_empty, "{}", output.status);
}

/// Returns the mounts of a container, as the kernel lists them.
pub async fn mounts(c: &PooledContainer) -> String {
    let mut command = c.command("cat");
    command.arg("/proc/self/mountinfo").output_string().await.unwrap()
}

/// Finds the library's directory on this machine, with the agent and its sockets, by the mounts of a container.
pub fn agent_dir(mounts: &str) -> std::path::PathBuf {
    let mount = mounts.lines().find(|line| line.contains(" /.dockerpool-agent "));
    // The mount names the directory within its file system, but not the place of that file system on this machine.
    let name = mount.and_then(|line| line.split(['/', ' ']).find(|part| part.starts_with("dockerpool-")));
    let name = name.expect("the mount's root names the directory");
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    let places = [session, Some("/run/dockerpool".into()), Some(std::env::temp_dir())];
    let mut found = places.into_iter().flatten().map(|place| place.join(name));
    found
        .find(|dir| dir.is_dir())
        .expect("the directory is on this machine")
}

/// Returns the full name of a test in this module, for another run of the binary with that test alone.
#[allow(unused_macros)]
macro_rules! own_test {
    ($name:expr) => {{
        let path = [module_path!(), $name].join("::");
        // The first part is the name of the binary.
        path.split_once("::").expect("the test is in a module").1.to_owned()
    }};
}
pub(crate) use own_test;

/// Returns a command that runs this test binary with one test, named by [`own_test`].
pub fn itself(test: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command
}

/// Returns whether this process runs that test alone, as with nextest. Otherwise starts such a process, which must
/// succeed.
pub fn is_alone(test: &str) -> bool {
    const ALONE: &str = "DOCKERPOOL_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() || std::env::var_os("NEXTEST").is_some() {
        return true;
    }
    let output = itself(test).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
    false
}

/// Another run of the test binary with one test that is an owner. Drop kills it.
pub struct Owner(std::process::Child);

impl Owner {
    /// Starts the owner and waits until it prints `ready`. Its environment selects its role.
    pub fn start(test: &str, tell: impl FnOnce(&mut std::process::Command) -> &mut std::process::Command) -> Self {
        use std::io::BufRead;

        let mut command = itself(test);
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null());
        let mut owner = Self(tell(&mut command).spawn().unwrap());
        let mut lines = std::io::BufReader::new(owner.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "ready"), "the owner gets ready");
        owner
    }

    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The variable by which [`processes`] finds a command and all processes that it starts.
pub const MARK: &str = "DOCKERPOOL_TEST_MARK";

/// Returns a text that is unique on this machine.
pub fn unique_mark() -> String {
    format!("{}-end", unique_name("mark"))
}

/// Returns a name that is unique on this machine.
pub fn unique_name(prefix: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{prefix}-{}-{number}", std::process::id())
}

/// Runs a future to its end, on a thread and a runtime of its own: for a `Drop`, which cannot await.
pub fn finish(work: impl Future<Output = ()> + Send + 'static) {
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(work);
    });
    let _ = worker.join();
}

/// Returns the processes on this machine, in containers or not, with this mark in their arguments or environment. Needs
/// root, and an engine on this machine.
pub fn processes(mark: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.path(), entry.file_name().to_str()?.parse().ok()?))
        })
        .filter(|(path, _): &(std::path::PathBuf, u32)| {
            is_marked(path, mark).unwrap_or_else(|| {
                // The first thread has neither once it has ended alone, but the other threads do.
                let threads = std::fs::read_dir(path.join("task")).into_iter().flatten();
                let mut threads = threads.filter_map(|thread| Some(thread.ok()?.path()));
                threads.any(|thread| is_marked(&thread, mark) == Some(true))
            })
        })
        .map(|(_, pid)| pid)
        .collect()
}

/// Returns whether a process has this mark, by its directory or that of one of its threads, which all show the same. `None`: the
/// process shows nothing, as one that has ended.
fn is_marked(dir: &std::path::Path, mark: &str) -> Option<bool> {
    // A process that has ended meanwhile has no such files.
    let read = |name| std::fs::read(dir.join(name)).unwrap_or_default();
    let contains = |text: &[u8]| text.windows(mark.len()).any(|part| part == mark.as_bytes());
    let (arguments, variables) = (read("cmdline"), read("environ"));
    if arguments.is_empty() && variables.is_empty() {
        return None;
    }
    Some(contains(&arguments) || contains(&variables))
}
