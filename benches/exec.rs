//! Commands on the real engine. Three ways run in the same container: this library (`exec_api`), bollard by hand
//! (`raw_bollard`) and the docker command line (`docker_cli`). This library with the agent (`agent`) runs in a
//! container of its own. With the agent reached through the engine alone (`agent_attached`), as where its socket is not
//! available, it runs in another one.
//!
//! The agent's floor (`fork_floor`) is the time that a shell in that container needs to start the same program and wait
//! for it: the kernel's work for a fork, an exec and an exit. The floor is measured for `exec_true` only.
//!
//! The code by hand does the same work: it creates and starts the command, collects both outputs, and asks until the
//! command has provably ended.
//!
//! - `exec_true`, `exec_1kib`, `exec_100mib`: one command at a time that prints nothing, 1 KiB or 100 MiB.
//! - `exec_true_8_at_once`: eight commands at once that print nothing.
//!
//! Criterion measures one way after the other, and other work on the machine easily slows one of them down by 5 %. A
//! second measurement of the library's cost therefore runs in pairs: one command each way, by turns, and the median of
//! the pairs' ratios. Its table is printed at the end and kept in `target/tmp/exec_pairs.md`.
//!
//! A second table, in `target/tmp/runtime_pairs.md`, shows the cost of the library's own runtime. It compares commands
//! by the agent in a container whose background tasks run there (`own`) with a container whose background tasks run on
//! the caller's runtime (`given`), for both flavors of the caller's runtime. `cargo bench --bench exec --
//! runtime_pairs` makes this table alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{Container, ContainerSpec, DockerEngine, ExecVia, Running};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Handle, Runtime};

const SILENT: &[&str] = &["true"];
const KIB: &[&str] = &["head", "-c", "1024", "/dev/zero"];
/// Prints in large pieces: busybox's `head` moves each byte by itself, which costs more than the transfer.
const MIB_100: &[&str] = &["dd", "if=/dev/zero", "bs=65536", "count=1600", "status=none"];

/// The size of a read from the connection, as in the library.
const READ_CAPACITY: usize = 64 * 1024;

/// The containers, and the ways to run a command. Each way returns the size of the output.
struct Bench {
    container: Container<Running>,
    /// The container with the agent.
    by_agent: Container<Running>,
    /// The container with the agent reached through the engine alone.
    attached: Container<Running>,
    docker: Docker,
}

impl Bench {
    async fn new() -> Self {
        let engine = DockerEngine::connect().await.expect("an engine: ./dev engine start");
        let docker = engine.bollard().clone();
        let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or("dockerpool-local/busybox:1".to_owned());
        let engine = Arc::new(engine);
        let spec = |via| ContainerSpec::new(image.clone()).exec_via(via);
        let start = async |spec| {
            let created = Container::create(engine.clone(), spec).await;
            created.expect("a container").start().await.expect("it starts")
        };
        Self {
            container: start(spec(ExecVia::Docker)).await,
            by_agent: start(spec(ExecVia::Agent)).await,
            attached: start(spec(ExecVia::Agent).without_agent_socket()).await,
            docker,
        }
    }

    async fn exec_api(&self, argv: &[&str]) -> usize {
        Self::command(&self.container, argv).await
    }

    async fn agent(&self, argv: &[&str]) -> usize {
        Self::command(&self.by_agent, argv).await
    }

    async fn agent_attached(&self, argv: &[&str]) -> usize {
        Self::command(&self.attached, argv).await
    }

    async fn command(container: &Container<Running>, argv: &[&str]) -> usize {
        let mut command = container.command(argv[0]);
        let output = command
            .args(argv[1..].iter().copied())
            .output_limit(None)
            .output()
            .await;
        output
            .expect("the command runs")
            .check()
            .expect("it ends well")
            .stdout
            .len()
    }

    /// Returns the time that a shell needs to start `true` this often.
    async fn forks(&self, count: u64) -> Duration {
        let script = format!("i=0; while [ $i -lt {count} ]; do /bin/true; i=$((i+1)); done");
        let begun = Instant::now();
        let status = self.by_agent.command("sh").args(["-c", &script]).status().await;
        assert!(status.expect("the command runs").success());
        begun.elapsed()
    }

    async fn raw_bollard(&self, argv: &[&str]) -> usize {
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(argv.iter().map(|arg| (*arg).to_owned()).collect()),
            ..Default::default()
        };
        let exec = self.docker.create_exec(self.container.id(), config).await;
        let exec = exec.expect("it is created").id;
        let options = StartExecOptions {
            output_capacity: Some(READ_CAPACITY),
            ..Default::default()
        };
        let started = self.docker.start_exec(&exec, Some(options)).await;
        let StartExecResults::Attached { mut output, .. } = started.expect("it is started") else {
            unreachable!("it was not started detached")
        };
        let mut collected = Vec::new();
        while let Some(piece) = output.next().await {
            collected.extend_from_slice(&piece.expect("a piece of output").into_bytes());
        }
        loop {
            let found = self.docker.inspect_exec(&exec).await.expect("it is known");
            if found.running == Some(false) {
                assert_eq!(found.exit_code, Some(0));
                return collected.len();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn docker_cli(&self, argv: &[&str]) -> usize {
        let mut command = tokio::process::Command::new("docker");
        let output = command.arg("exec").arg(self.container.name()).args(argv).output();
        let output = output.await.expect("the docker command line");
        assert!(output.status.success());
        output.stdout.len()
    }

    fn group(&self, runtime: &Runtime, group: &mut BenchmarkGroup<'_, WallTime>, argv: &[&str], at_once: usize) {
        group.bench_function("agent", |bencher| {
            let run = async || join_all((0..at_once).map(|_| self.agent(argv))).await;
            bencher.to_async(runtime).iter(run);
        });
        group.bench_function("agent_attached", |bencher| {
            let run = async || join_all((0..at_once).map(|_| self.agent_attached(argv))).await;
            bencher.to_async(runtime).iter(run);
        });
        group.bench_function("exec_api", |bencher| {
            let run = async || join_all((0..at_once).map(|_| self.exec_api(argv))).await;
            bencher.to_async(runtime).iter(run);
        });
        group.bench_function("raw_bollard", |bencher| {
            let run = async || join_all((0..at_once).map(|_| self.raw_bollard(argv))).await;
            bencher.to_async(runtime).iter(run);
        });
        group.bench_function("docker_cli", |bencher| {
            let run = async || join_all((0..at_once).map(|_| self.docker_cli(argv))).await;
            bencher.to_async(runtime).iter(run);
        });
    }

    /// Measures both ways by turns. Returns a line of the table.
    async fn pairs(&self, name: &str, argv: &[&str], count: usize) -> String {
        let (mut api, mut raw, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..count {
            let begun = Instant::now();
            let (api_time, raw_time);
            // Each way goes first every other time.
            if i % 2 == 0 {
                self.exec_api(argv).await;
                api_time = begun.elapsed().as_secs_f64();
                self.raw_bollard(argv).await;
                raw_time = begun.elapsed().as_secs_f64() - api_time;
            } else {
                self.raw_bollard(argv).await;
                raw_time = begun.elapsed().as_secs_f64();
                self.exec_api(argv).await;
                api_time = begun.elapsed().as_secs_f64() - raw_time;
            }
            api.push(api_time);
            raw.push(raw_time);
            ratios.push(api_time / raw_time);
        }
        format!(
            "| {name} | {count} | {:.2} ms | {:.2} ms | {:.3} |\n",
            median(&mut api) * 1e3,
            median(&mut raw) * 1e3,
            median(&mut ratios)
        )
    }
}

/// Measures the cost of the library's own runtime. Returns one line of the table for each command.
async fn runtime_pairs(flavor: &str) -> String {
    let engine = Arc::new(DockerEngine::connect().await.expect("an engine: ./dev engine start"));
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or("dockerpool-local/busybox:1".to_owned());
    let spec = ContainerSpec::new(image).exec_via(ExecVia::Agent);
    let own = Container::create(engine.clone(), spec.clone()).await;
    let given = Container::create_on(Handle::current(), engine, spec).await;
    let own = own.expect("a container").start().await.expect("it starts");
    let given = given.expect("a container").start().await.expect("it starts");
    let mut lines = String::new();
    for (name, argv, at_once, count) in [
        ("exec_true", SILENT, 1, 1000),
        ("exec_true_8_at_once", SILENT, 8, 300),
        ("exec_100mib", MIB_100, 1, 40),
    ] {
        let run = async |container| {
            let begun = Instant::now();
            join_all((0..at_once).map(|_| Bench::command(container, argv))).await;
            begun.elapsed().as_secs_f64()
        };
        let (mut own_times, mut given_times, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..count {
            // Each way goes first every other time.
            let (own_time, given_time);
            if i % 2 == 0 {
                own_time = run(&own).await;
                given_time = run(&given).await;
            } else {
                given_time = run(&given).await;
                own_time = run(&own).await;
            }
            own_times.push(own_time);
            given_times.push(given_time);
            ratios.push(own_time / given_time);
        }
        lines += &format!(
            "| {flavor} | {name} | {count} | {:.3} ms | {:.3} ms | {:.3} |\n",
            median(&mut own_times) * 1e3,
            median(&mut given_times) * 1e3,
            median(&mut ratios)
        );
    }
    own.remove().await.expect("it is removed");
    given.remove().await.expect("it is removed");
    lines
}

/// Makes the second table.
fn runtime_table() {
    let mut table =
        "| caller's runtime | command | pairs | own | given | ratio |\n|---|---|---|---|---|---|\n".to_owned();
    let flavors = [
        ("multi_thread", Builder::new_multi_thread()),
        ("current_thread", Builder::new_current_thread()),
    ];
    for (flavor, mut builder) in flavors {
        let runtime = builder.enable_all().build().expect("a runtime");
        table += &runtime.block_on(runtime_pairs(flavor));
    }
    print!("{table}");
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/runtime_pairs.md");
    std::fs::write(file, table).expect("the table is written");
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

fn main() {
    if std::env::args().any(|arg| arg == "runtime_pairs") {
        return runtime_table();
    }
    let runtime = Runtime::new().expect("a runtime");
    let bench = runtime.block_on(Bench::new());
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .sample_size(20)
        .configure_from_args();

    let mut group = criterion.benchmark_group("exec_true");
    bench.group(&runtime, &mut group, SILENT, 1);
    group.bench_function("fork_floor", |bencher| {
        bencher.to_async(&runtime).iter_custom(|count| bench.forks(count));
    });
    group.finish();
    let mut group = criterion.benchmark_group("exec_1kib");
    bench.group(&runtime, &mut group, KIB, 1);
    group.finish();
    let mut group = criterion.benchmark_group("exec_true_8_at_once");
    group.throughput(Throughput::Elements(8)).sample_size(10);
    bench.group(&runtime, &mut group, SILENT, 8);
    group.finish();
    let mut group = criterion.benchmark_group("exec_100mib");
    group.throughput(Throughput::Bytes(100 << 20)).sample_size(10);
    bench.group(&runtime, &mut group, MIB_100, 1);
    group.finish();

    // Skips the pairs where the command line selects some of the benchmarks by name.
    if std::env::args().skip(1).all(|arg| arg == "--bench") {
        runtime.block_on(async {
            let mut table = "| in pairs | pairs | exec_api | raw_bollard | ratio |\n|---|---|---|---|---|\n".to_owned();
            table += &bench.pairs("exec_true", SILENT, 60).await;
            table += &bench.pairs("exec_1kib", KIB, 60).await;
            table += &bench.pairs("exec_100mib", MIB_100, 10).await;
            print!("{table}");
            let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/exec_pairs.md");
            std::fs::write(file, table).expect("the table is written");
        });
        runtime_table();
    }
    criterion.final_summary();
    runtime.block_on(bench.container.remove()).expect("it is removed");
    runtime.block_on(bench.by_agent.remove()).expect("it is removed");
    runtime.block_on(bench.attached.remove()).expect("it is removed");
}
