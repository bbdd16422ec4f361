//! Every way to reach an engine: how it is selected, and that it works. In each test this is the real engine, behind
//! a proxy of the test.

mod child;
mod kept;
mod limits;
mod relay;
mod ssh;
mod versions;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::proxy::{Authority, Proxy};
use crate::support::pool;
use dockerpool::engine::{Commands, ExecRequest};
use dockerpool::{DockerEngine, Endpoint, Engine, EngineErrorKind, Error, ExecVia, ExitStatus, Taint};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// Runs a command with input and output in a container with a lifeline, so that all kinds of connection are used.
pub async fn a_command_runs(engine: DockerEngine) {
    let pool = pool("connect").engine(Arc::new(engine)).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    // `cat` ends only if the end of its input gets through while its output is still read.
    let input = "over the wire\n".repeat(10_000);
    let out = c.command("cat").stdin(input.clone()).output().await.unwrap();
    assert!(out.status.success(), "{}", out.status);
    assert_eq!(out.stdout_lossy(), input);
    drop(c);
    pool.shutdown().await.unwrap();
}

fn kind(result: Result<DockerEngine, Error>) -> EngineErrorKind {
    let error = result.expect_err("no connection");
    error.engine_error().unwrap_or_else(|| panic!("{error:?}")).kind()
}

/// Returns the problems of a setting, as `field: problem`.
fn refused(result: Result<DockerEngine, Error>) -> String {
    match result {
        Err(error @ Error::Config(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Creates a directory with the certificate of `trusted` and, if `client` is given, a client certificate signed by
/// it.
fn certificates(trusted: &Authority, client: Option<&Authority>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    trusted.write_ca(folder.path());
    if let Some(authority) = client {
        authority.write_client(folder.path());
    }
    folder
}

#[tokio::test]
async fn plain_tcp_works_on_loopback() {
    let proxy = Proxy::plain().await;
    let endpoint = Endpoint::tcp(proxy.address.to_string());
    let engine = DockerEngine::connect_to(endpoint.clone()).await.unwrap();
    assert_eq!(engine.endpoint(), Some(&endpoint));
    let (mut here, there) = (
        engine.check().await.unwrap(),
        crate::support::engine().await.check().await.unwrap(),
    );
    // The proxy leads to the same engine.
    assert_ne!(here.id, there.id);
    here.id.clone_from(&there.id);
    assert_eq!(here, there);
    a_command_runs(engine).await;
}

#[tokio::test]
async fn plain_tcp_beyond_loopback_is_refused_before_anything_is_sent() {
    // TEST-NET-1: no host has this address, and nothing is sent to it.
    let begun = Instant::now();
    let text = refused(DockerEngine::connect_to(Endpoint::tcp("192.0.2.1:2375")).await);
    assert!(
        text.contains("endpoint: 192.0.2.1:2375 is beyond this machine"),
        "{text}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn mutual_tls_works() {
    let authority = Authority::new();
    let proxy = Proxy::tls(authority.server(&["127.0.0.1"])).await;
    let folder = certificates(&authority, Some(&authority));
    let endpoint = Endpoint::tls(proxy.address.to_string(), folder.path());
    a_command_runs(DockerEngine::connect_to(endpoint).await.unwrap()).await;
}

#[tokio::test]
async fn an_untrusted_peer_is_an_error_of_its_own_kind() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let proxy = Proxy::tls(authority.server(&["127.0.0.1"])).await;
    let elsewhere = Proxy::tls(authority.server(&["example.com"])).await;
    let plain = Proxy::plain().await;
    for (what, proxy, trusted, client) in [
        ("no client certificate", &proxy, &authority, None),
        ("a client of another authority", &proxy, &authority, Some(&stranger)),
        ("a server of another authority", &proxy, &stranger, Some(&authority)),
        ("a server of another name", &elsewhere, &authority, Some(&authority)),
        ("no TLS on the other side", &plain, &authority, Some(&authority)),
    ] {
        let folder = certificates(trusted, client);
        let endpoint = Endpoint::tls(proxy.address.to_string(), folder.path());
        let error = DockerEngine::connect_to(endpoint).await.expect_err(what);
        assert_eq!(
            error.engine_error().map(|error| error.kind()),
            Some(EngineErrorKind::Untrusted),
            "{what}: {error:?}"
        );
        assert!(!error.is_retryable(), "{what}");
    }
}

#[tokio::test]
async fn a_bad_certificate_file_is_named() {
    let authority = Authority::new();
    let folder = certificates(&authority, Some(&authority));
    let connect = async || refused(DockerEngine::connect_to(Endpoint::tls("127.0.0.1:1", folder.path())).await);
    for (name, content) in [
        ("key.pem", None),
        ("key.pem", Some("no key")),
        ("ca.pem", Some("")),
        ("ca.pem", None),
    ] {
        let file = folder.path().join(name);
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let text = connect().await;
        assert!(text.contains(&file.display().to_string()), "{text}");
    }
}

#[tokio::test]
async fn an_address_without_an_engine_is_unreachable() {
    let proxy = Proxy::plain().await;
    let address = proxy.address.to_string();
    proxy.stop().await;
    let error = DockerEngine::connect_to(Endpoint::tcp(&address)).await.unwrap_err();
    assert!(
        error.engine_error().unwrap().to_string().contains(&address),
        "{error:?}"
    );
    assert_eq!(kind(Err(error)), EngineErrorKind::Unreachable);
    assert_eq!(
        kind(DockerEngine::connect_to(Endpoint::unix("/nowhere/docker.sock")).await),
        EngineErrorKind::Unreachable
    );
}

#[tokio::test]
async fn input_over_tls_does_not_wait_for_an_acknowledgement() {
    let authority = Authority::new();
    let proxy = Proxy::tls(authority.server(&["127.0.0.1"])).await;
    let folder = certificates(&authority, Some(&authority));
    let endpoint = Endpoint::tls(proxy.address.to_string(), folder.path());
    let engine = Arc::new(DockerEngine::connect_to(endpoint).await.unwrap());
    let pool = pool("connect").engine(engine.clone()).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let argv = ["sh", "-c", "while read line; do echo $line; done"];
    let mut request = ExecRequest::new(argv);
    request.stdin = true;
    let mut session = engine.exec(c.id(), &request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    // Without TCP_NODELAY, the second half of a line waits for the acknowledgement of the first. Only a timer of the
    // other side sends that acknowledgement, after 40 ms on any machine. The fastest of many rounds does not depend
    // on the load of the machine.
    let mut fastest = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        for half in ["a", "b\n"] {
            stdin.write_all(half.as_bytes()).await.unwrap();
            stdin.flush().await.unwrap();
        }
        assert_eq!(session.output.next().await.unwrap().unwrap().data, "ab\n");
        fastest = fastest.min(begun.elapsed());
    }
    assert!(fastest < Duration::from_millis(35), "{fastest:?}");
    drop(c);
    pool.shutdown().await.unwrap();
}

/// Takes the evidence from the agent's counter, since the engine's events come late or, as here and with Podman,
/// never.
#[tokio::test]
async fn out_of_memory_is_detected_without_events() {
    let changes = crate::teller::Changes {
        refused: |line, _| line.contains("/events").then(|| (500, "no events here".to_owned())),
        ..Default::default()
    };
    let teller = crate::teller::Teller::start(crate::proxy::real_socket().await, changes);
    let engine = DockerEngine::connect_to(Endpoint::unix(teller.socket())).await.unwrap();
    let pool = pool("no-events")
        .engine(Arc::new(engine))
        .exec_via(ExecVia::Docker)
        .memory(32 << 20)
        .max_total(1);
    let pool = pool.build().await.unwrap();
    for (script, memory_ran_out) in [
        ("tail /dev/zero", ExitStatus::OutOfMemory { exit: None }),
        (
            "tail /dev/zero | cat; exit 0",
            ExitStatus::OutOfMemory { exit: Some(0) },
        ),
        ("kill -9 $$", ExitStatus::Signaled(9)),
        ("exit 137", ExitStatus::Signaled(9)),
        ("exit 0", ExitStatus::Exited(0)),
    ] {
        let c = pool.acquire().await.unwrap();
        let out = c.command("sh").args(["-c", script]).output().await.unwrap();
        if memory_ran_out.is_out_of_memory() && out.status.is_container_gone() {
            // `crun exec` gives commands the score of the engine's process, so that the kernel kills PID 1 first. Only an event
            // could say why.
            assert!(crate::support::is_crun().await, "{script}");
            assert_eq!(c.taint(), Some(Taint::Died), "{script}");
            continue;
        }
        assert_eq!(out.status, memory_ran_out, "{script}");
        let taint = memory_ran_out.is_out_of_memory().then_some(Taint::OutOfMemory);
        assert_eq!(c.taint(), taint, "{script}");
    }
    assert!(teller.asked().iter().any(|(line, _)| line.contains("/events")));
    pool.shutdown().await.unwrap();
}
