//! Two OCI runtimes on one engine, `runc` and `crun`: the time to make a container that is ready for commands, and to
//! run `true` in it by the exec API and by the agent.
//!
//! The engine must have both: for Docker, `"runtimes": {"crun": {"path": "/usr/bin/crun"}}` in `daemon.json`. Otherwise
//! the benchmark reports that, and measures nothing.
//!
//! The two runtimes are measured by turns, and the median of the pairs' ratios counts, so that other work on the
//! machine slows both. The table is printed and kept in `target/tmp/oci_runtimes.md`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dockerpool::{Container, ContainerSpec, DockerEngine, Engine, ExecVia, Running};

const RUNTIMES: [&str; 2] = ["runc", "crun"];

/// The number of pairs of containers, and of commands.
const CONTAINERS: usize = 15;
const COMMANDS: usize = 60;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let docker = DockerEngine::connect().await.expect("an engine: ./dev engine start");
    let info = docker.bollard().info().await.expect("the engine's description");
    let known = info.runtimes.unwrap_or_default();
    let missing: Vec<_> = RUNTIMES.into_iter().filter(|name| !known.contains_key(*name)).collect();
    let version = docker.check().await.expect("the engine's version").version;
    // Podman lists more runtimes than a container can ask for.
    if !missing.is_empty() || version.starts_with("Podman") {
        println!(
            "Nothing is measured: {version} does not let containers choose between {}.",
            RUNTIMES.join(" and ")
        );
        return;
    }
    let engine: Arc<dyn Engine> = Arc::new(docker);
    let mut table =
        format!("On {version}, medians of pairs.\n\n| | `runc` | `crun` | `crun` is faster |\n|---|---:|---:|---:|\n");

    let make = async |runtime: &str, via| {
        let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or("dockerpool-local/busybox:1".to_owned());
        let spec = ContainerSpec::new(image).runtime(runtime).exec_via(via);
        let created = Container::create(engine.clone(), spec).await.expect("a container");
        created.start().await.expect("a container that runs")
    };
    let mut times = Vec::new();
    for _ in 0..CONTAINERS {
        let mut pair = [Duration::ZERO; 2];
        for (time, runtime) in pair.iter_mut().zip(RUNTIMES) {
            let begun = Instant::now();
            let container = make(runtime, ExecVia::Docker).await;
            *time = begun.elapsed();
            container.remove().await.expect("a removal");
        }
        times.push(pair);
    }
    table += &row("create to ready", &times);

    for (name, via) in [
        ("`true` by the exec API", ExecVia::Docker),
        ("`true` by the agent", ExecVia::Agent),
    ] {
        let containers = [make(RUNTIMES[0], via).await, make(RUNTIMES[1], via).await];
        let mut times = Vec::new();
        for _ in 0..COMMANDS {
            times.push([run(&containers[0]).await, run(&containers[1]).await]);
        }
        table += &row(name, &times);
        for container in containers {
            container.remove().await.expect("a removal");
        }
    }
    println!("{table}");
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("oci_runtimes.md");
    std::fs::write(file, table).expect("the table is kept");
}

async fn run(container: &Container<Running>) -> Duration {
    let begun = Instant::now();
    let status = container.command("true").status().await.expect("a command");
    assert!(status.success(), "{status}");
    begun.elapsed()
}

fn row(what: &str, times: &[[Duration; 2]]) -> String {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let milliseconds = |which: usize| median(times.iter().map(|pair| pair[which].as_secs_f64() * 1e3).collect());
    let ratio = median(
        times
            .iter()
            .map(|[runc, crun]| runc.as_secs_f64() / crun.as_secs_f64())
            .collect(),
    );
    format!(
        "| {what} | {:.1} ms | {:.1} ms | {ratio:.2} times |\n",
        milliseconds(0),
        milliseconds(1)
    )
}
