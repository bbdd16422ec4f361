//! Containers with servers, on the real engine: published ports, and the signs that a server is ready.

use std::net::SocketAddr;
use std::time::Duration;

use crate::network::Name;
use crate::support::{Capability, eventually, eventually_now, is_podman, lacks, pool, python};
use dockerpool::{EngineError, EngineErrorKind, ExecVia, Network, PoolBuilder, Ready, Reuse};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Answers each connection on port 8080 with its container's name.
const SERVER: &str = "import socket
server = socket.create_server(('', 8080))
while True: server.accept()[0].sendall(socket.gethostname().encode())";

fn servers(name: &str, network: &Name) -> PoolBuilder {
    pool(name)
        .image(python())
        .exec_via(ExecVia::Agent)
        .cmd(["python3", "-c", SERVER])
        .supervise_command(true)
        .network(Network::create(&network.0).remove_on_shutdown())
        .publish(8080)
}

/// Returns what a server answers, or nothing: a proxy of the engine may accept before there is a server.
async fn ask(address: SocketAddr) -> String {
    let mut answer = String::new();
    if let Ok(Ok(mut server)) = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(address)).await {
        let _ = server.read_to_string(&mut answer).await;
    }
    answer
}

#[tokio::test]
async fn each_container_is_reached_at_its_own_published_port() {
    let network = Name::new();
    let pool = servers("published", &network).min_idle(2).build().await.unwrap();
    let (one, two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    for c in [&one, &two] {
        let address = c.port(8080).unwrap();
        assert!(address.ip().is_loopback(), "{address}");
        let name = c.command("hostname").output_string().await.unwrap();
        eventually("the server answers", async || ask(address).await == name.trim()).await;
    }
    assert_ne!(one.port(8080).unwrap(), two.port(8080).unwrap());
    // The address is the one that the container itself has.
    let own = one.command("hostname").arg("-i").output_string().await.unwrap();
    assert_eq!(one.ip().unwrap().to_string(), own.trim());
    // A rootless engine keeps the networks of containers to itself.
    if !lacks(Capability::Root) {
        let address = SocketAddr::new(two.ip().unwrap(), 8080);
        let name = two.command("hostname").output_string().await.unwrap();
        assert_eq!(ask(address).await, name.trim());
    }
    drop((one, two));
    pool.shutdown().await.unwrap();
}

/// A server that begins late, and writes down each request. It is busy for the first three.
const LATE: &str = "import http.server, time
time.sleep(0.5)
class Handler(http.server.BaseHTTPRequestHandler):
    seen = 0
    def do_GET(self):
        Handler.seen += 1
        open('/tmp/seen', 'w').write(f'{Handler.seen} {self.path}')
        self.send_response(503 if Handler.seen < 4 else 204)
        self.end_headers()
print('it is', end=' ', flush=True)
server = http.server.HTTPServer(('', 8080), Handler)
print('about to serve', flush=True)
server.serve_forever()";

fn late(name: &str) -> PoolBuilder {
    pool(name)
        .image(python())
        .memory(128 << 20)
        .cmd(["python3", "-c", LATE])
        .ready_timeout(Duration::from_secs(30))
}

fn supervised(name: &str) -> PoolBuilder {
    late(name).exec_via(ExecVia::Agent).supervise_command(true)
}

#[tokio::test]
async fn a_server_is_there_when_its_container_is_lent() {
    let network = Name::new();
    let builder = servers("listening", &network).ready_when(Ready::tcp(8080));
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    // The first request, which the proxy of an engine would have accepted also before there was a server.
    let name = c.command("hostname").output_string().await.unwrap();
    assert_eq!(ask(c.port(8080).unwrap()).await, name.trim());
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_web_server_is_asked_from_the_inside_until_its_answer_is_the_right_one() {
    // Without a network there is the loopback interface.
    let builder = supervised("asked").ready_when(Ready::http("/health?a=1", 204).port(8080));
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert_eq!(
        c.exec(["cat", "/tmp/seen"]).await.unwrap().stdout_lossy(),
        "4 /health?a=1"
    );
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn words_of_the_server_and_a_command_can_be_the_sign() {
    let builder = supervised("spoken")
        .ready_when(Ready::log("it is about to serve"))
        .ready_when(Ready::command([
            "python3",
            "-c",
            "import socket; socket.create_connection(('127.0.0.1', 8080))",
        ]));
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let get = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8080/').status)";
    let first = c.exec(["python3", "-c", get]).await.unwrap();
    assert!(first.stderr_lossy().contains("503"), "{first:?}");
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_pid_1_gets_ready_too() {
    let network = Name::new();
    let builder = late("plain")
        .exec_via(ExecVia::Docker)
        .network(Network::create(&network.0).remove_on_shutdown())
        .publish(8080)
        .ready_when(Ready::log("it is about to serve"))
        .ready_when(Ready::tcp(8080))
        .ready_when(Ready::http("/", 204));
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(!c.has_lifeline());
    assert_eq!(c.exec(["cat", "/tmp/seen"]).await.unwrap().stdout_lossy(), "4 /");
    drop(c);
    pool.shutdown().await.unwrap();
}

/// Returns the words of a build that fails since its container does not get ready.
async fn why_not_ready(builder: PoolBuilder) -> String {
    let error = builder.min_idle(1).build().await.unwrap_err();
    let source = error.engine_error().unwrap();
    assert_eq!(source.kind(), EngineErrorKind::NotReady, "{source}");
    source.to_string()
}

#[tokio::test]
async fn the_last_words_of_a_server_that_is_never_ready_are_told() {
    let script = |script: &str| pool("never").cmd(["sh", "-c", script]).ready_when(Ready::tcp(80));
    let by_agent = |builder: PoolBuilder| builder.exec_via(ExecVia::Agent).supervise_command(true);
    let plain = |builder: PoolBuilder| builder.exec_via(ExecVia::Docker);

    let waits = || script("echo no coal; sleep 1000").ready_timeout(Duration::from_secs(5));
    for words in [
        why_not_ready(by_agent(waits())).await,
        why_not_ready(plain(waits())).await,
    ] {
        let expected = "not ready within 5 s: waited for a server that listens on port 80, and saw: nothing listens there; \
                        the last words of the container's command: no coal";
        assert_eq!(words, expected);
    }
    // Before anybody looks, and while somebody waits.
    for seconds in ["0", "0.5"] {
        let ends = || script(&format!("sleep {seconds}; echo out of coal >&2; exit 7"));
        let begin = "not ready: waited for a server that listens on port 80";
        let words = why_not_ready(by_agent(ends())).await;
        let end = "the container's command, `sh`, has ended with exit code 7: out of coal";
        assert!(words.starts_with(begin) && words.ends_with(end), "{words}");
        let words = why_not_ready(plain(ends())).await;
        let end = "PID 1, `sh`, has ended with exit code 7; the last words of the container's command: out of coal";
        assert!(words.starts_with(begin) && words.ends_with(end), "{words}");
    }
    // The server's own words say nothing of its start. The end may come during a look.
    for seconds in ["0.05", "0.08", "0.1", "0.15", "0.25"] {
        let says = || {
            script(&format!(
                "echo could not be started: bad config; sleep {seconds}; exit 1"
            ))
        };
        for builder in [by_agent(says()), plain(says())] {
            let words = why_not_ready(builder).await;
            let is_told = words.starts_with("not ready: waited for") && words.contains("has ended with exit code 1");
            assert!(
                is_told && words.ends_with("could not be started: bad config"),
                "{words}"
            );
        }
    }
}

#[tokio::test]
async fn a_server_that_the_image_does_not_have_is_told_from_one_that_is_never_ready() {
    let missing = || pool("no-server").cmd(["no-such-server"]).ready_when(Ready::tcp(80));
    for (builder, advice) in [
        (
            missing().exec_via(ExecVia::Agent).supervise_command(true),
            "see supervise_command()",
        ),
        // The engine's init starts, and gives an exit code.
        (missing().exec_via(ExecVia::Docker), "see cmd()"),
    ] {
        let error = builder.min_idle(1).build().await.unwrap_err();
        assert_eq!(
            error.engine_error().unwrap().kind(),
            EngineErrorKind::CannotStart,
            "{error}"
        );
        assert!(error.to_string().contains(advice), "{error}");
    }
}

#[tokio::test]
async fn a_health_check_of_the_engine_can_be_the_sign() {
    // Its checks need systemd, which may not be there.
    if is_podman().await {
        return;
    }
    let check = json!({"Healthcheck": {"Test": ["CMD", "test", "-e", "/tmp/healthy"], "Interval": 50_000_000}});
    let server = ["sh", "-c", "sleep 0.3; touch /tmp/healthy; sleep 1000"];
    let builder = pool("healthy")
        .cmd(server)
        .raw_config(check)
        .ready_when(Ready::healthcheck());
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(c.exec(["test", "-e", "/tmp/healthy"]).await.unwrap().status.success());
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_that_was_cleaned_must_be_ready_again() {
    let shared = tempfile::tempdir().unwrap();
    let probe = "echo >>/shared/runs; [ ! -e /shared/broken ]";
    let binds = json!({"HostConfig": {"Binds": [format!("{}:/shared", shared.path().display())]}});
    let pool = pool("again")
        .exec_via(ExecVia::Agent)
        .reuse(Reuse::Clean)
        .raw_config(binds)
        .ready_when(Ready::command(["sh", "-c", probe]))
        .ready_timeout(Duration::from_millis(500))
        .max_total(1)
        .build()
        .await
        .unwrap();
    let runs = || std::fs::read(shared.path().join("runs")).unwrap().len();
    let c = pool.acquire().await.unwrap();
    let (first, before) = (c.id().to_owned(), runs());
    assert!(c.exec(["true"]).await.unwrap().status.success());
    drop(c);
    let c = pool.acquire().await.unwrap();
    assert_eq!((c.id(), runs()), (&*first, before + 1), "{:?}", pool.last_unclean());

    // What is in a mount of the user's own is left alone.
    assert!(c.exec(["touch", "/shared/broken"]).await.unwrap().status.success());
    drop(c);
    eventually_now("it is not ready", || pool.status().lifetime.unclean == 1).await;
    assert_eq!(
        pool.last_unclean().as_ref().map(EngineError::kind),
        Some(EngineErrorKind::NotReady)
    );
    std::fs::remove_file(shared.path().join("broken")).unwrap();
    assert_ne!(pool.acquire().await.unwrap().id(), first);
    pool.shutdown().await.unwrap();
}
