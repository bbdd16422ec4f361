//! The calls of the engine's interface that the library makes are those that `SECURITY.md` lists, for those who put a proxy
//! before the engine's socket that lets these alone through.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use dockerpool::{Adopt, DockerEngine, Endpoint, ExecVia, Network, Pool, PoolBuilder, Reuse};

use crate::proxy::real_socket;
use crate::support::{busybox, unique_name};
use crate::teller::{Changes, Teller};

/// Calls for which a registry, an engine on another machine or a container without free processes is needed. Tests of
/// `engine/images/`, `agent/volume.rs` and `hostile/broken.rs` make them.
const ELSEWHERE: [&str; 6] = [
    "GET /containers/{id}/stats",
    "POST /images/create",
    "PUT /containers/{id}/archive",
    "POST /volumes/create",
    "DELETE /volumes/{name}",
    "GET /volumes",
];

/// Returns the calls in the table.
fn listed() -> BTreeSet<String> {
    let text = include_str!("../../SECURITY.md");
    let calls = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let is_call = |call: &&str| call.contains(" /");
    calls.map(|(call, _)| call).filter(is_call).map(str::to_owned).collect()
}

/// Returns method and path of a request, with placeholders for ids and names.
fn call(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let path = target.split('?').next().unwrap();
    let mut parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
    if parts[0].starts_with("v1.") {
        parts.remove(0);
    }
    let path = match parts[..] {
        // The name of an image has slashes.
        ["images", .., "json"] => "images/{name}/json".to_owned(),
        ["containers", id, ref rest @ ..] if !["create", "json"].contains(&id) => ["containers", "{id}"]
            .iter()
            .chain(rest)
            .copied()
            .collect::<Vec<_>>()
            .join("/"),
        ["exec", _, action] => format!("exec/{{id}}/{action}"),
        [kind @ ("networks" | "volumes"), name] if name != "create" => format!("{kind}/{{name}}"),
        _ => parts.join("/"),
    };
    format!("{method} /{path}")
}

#[tokio::test]
async fn the_calls_of_the_engine_are_those_that_are_listed() {
    let teller = Teller::start(real_socket().await, Changes::default());
    let engine = DockerEngine::connect_to(Endpoint::unix(teller.socket())).await.unwrap();
    let engine = Arc::new(engine);
    let builder = |name: &str| -> PoolBuilder {
        Pool::builder(name)
            .image(busybox())
            .engine(engine.clone())
            .memory(64 << 20)
            .max_total(2)
    };
    // The defaults, with a network, a command, cleaning, a refresh.
    let network = Network::create(unique_name("calls")).remove_on_shutdown();
    let pool = builder("calls").network(network).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(c.command("true").status().await.unwrap().success());
    drop(c);
    pool.refresh().await.unwrap();
    // All states of a container.
    let c = pool.acquire().await.unwrap().into_inner();
    let c = c.pause().await.unwrap().unpause().await.unwrap();
    c.stop(Duration::from_secs(1)).await.unwrap().remove().await.unwrap();
    let c = pool.acquire().await.unwrap().into_inner();
    c.kill().await.unwrap().remove().await.unwrap();
    pool.shutdown().await.unwrap();
    // Commands by the engine, with a terminal, and an end by a timeout.
    let pool = builder("calls-exec")
        .exec_via(ExecVia::Docker)
        .reuse(Reuse::Never)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let mut command = c.command("sh");
    let mut child = command
        .args(["-c", "echo ready; exec sleep 60"])
        .tty(20, 60)
        .spawn()
        .await
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).await.unwrap();
    child.resize(30, 90).await.unwrap();
    drop(child);
    drop(c);
    let c = pool.acquire().await.unwrap();
    let ended = c
        .command("sleep")
        .arg("60")
        .timeout(Duration::from_millis(200))
        .status()
        .await
        .unwrap();
    assert_eq!(ended, dockerpool::ExitStatus::TimedOut);
    drop(c);
    pool.shutdown().await.unwrap();
    // Containers that can be taken over.
    let pool = builder("calls-adopt")
        .adopt(Adopt::Clean)
        .cmd(["sleep", "60"])
        .build()
        .await
        .unwrap();
    assert!(
        pool.acquire()
            .await
            .unwrap()
            .command("true")
            .status()
            .await
            .unwrap()
            .success()
    );
    pool.shutdown().await.unwrap();

    let made: BTreeSet<_> = teller.asked().iter().map(|(line, _)| call(line)).collect();
    let listed = listed();
    let unlisted: Vec<_> = made.difference(&listed).collect();
    assert!(unlisted.is_empty(), "SECURITY.md does not list {unlisted:?}");
    let unmade: Vec<_> = listed
        .difference(&made)
        .filter(|call| !ELSEWHERE.contains(&&***call))
        .collect();
    assert!(unmade.is_empty(), "no longer made, or never by this test: {unmade:?}");
}
