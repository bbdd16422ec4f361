//! Kept connections: the library reuses them, and its calls succeed when one has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dockerpool::engine::Pausing;
use dockerpool::{DockerEngine, Endpoint, Engine, EngineErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::Proxy;

async fn connect(proxy: &Proxy) -> DockerEngine {
    DockerEngine::connect_to(Endpoint::tcp(proxy.address.to_string()))
        .await
        .unwrap()
}

#[tokio::test]
async fn calls_share_a_connection() {
    let proxy = Proxy::plain().await;
    let engine = connect(&proxy).await;
    for _ in 0..20 {
        engine.check().await.unwrap();
    }
    // On a busy machine, a connection may not be back yet when the next call begins.
    let accepted = proxy.accepted();
    assert!(accepted <= 3, "{accepted} connections");
}

#[tokio::test]
async fn calls_succeed_after_kept_connections_end() {
    let proxy = Proxy::plain().await;
    let engine = connect(&proxy).await;
    for round in 0..30 {
        // Concurrent calls, so that several connections are kept.
        let (a, b, c) = tokio::join!(engine.check(), engine.check(), engine.check());
        for answer in [a, b, c] {
            answer.unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        }
        proxy.cut().await;
    }
    assert!(proxy.accepted() >= 30, "connections did end: {}", proxy.accepted());
}

#[tokio::test]
async fn an_engine_that_comes_back_is_reached_again() {
    let proxy = Proxy::plain().await;
    let engine = connect(&proxy).await;
    let address = proxy.address;
    for _ in 0..5 {
        engine.check().await.unwrap();
    }
    proxy.stop().await;
    let error = engine.check().await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Unreachable, "{error:?}");
    let _proxy = Proxy::plain_at(address).await;
    engine.check().await.unwrap();
}

/// Starts an engine that answers the first request on each connection, which is the one of connecting. It closes the
/// connection without an answer at the second request. Also returns a counter of the requests.
async fn forgetful_engine() -> (Endpoint, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::tcp(listener.local_addr().unwrap().to_string());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                for answered in [true, false] {
                    if !request(&mut stream).await {
                        break;
                    }
                    counter.fetch_add(1, Ordering::Relaxed);
                    let body = r#"{"Version":"0","ApiVersion":"1.41","Os":"linux","Arch":"amd64"}"#;
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    if answered {
                        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (endpoint, requests)
}

/// Reads a request without a body. Returns false at the end of the connection.
async fn request(stream: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => seen.push(byte),
            Err(_) => return false,
        }
    }
    true
}

#[tokio::test]
async fn a_query_lost_on_a_kept_connection_is_retried_on_a_new_one() {
    let (endpoint, requests) = forgetful_engine().await;
    let engine = DockerEngine::connect_to(endpoint).await.unwrap();
    assert_eq!(requests.load(Ordering::Relaxed), 1);
    engine.check().await.unwrap();
    let asked = 1 + 3;
    assert_eq!(
        requests.load(Ordering::Relaxed),
        asked,
        "the version is requested, lost and requested again; then the limits are requested"
    );
}

#[tokio::test]
async fn a_lost_call_that_may_have_had_an_effect_is_not_retried() {
    let (endpoint, requests) = forgetful_engine().await;
    let engine = DockerEngine::connect_to(endpoint).await.unwrap();
    let error = engine.pause("any").await.unwrap_err();
    assert_eq!(error.kind(), EngineErrorKind::Protocol, "{error:?}");
    assert_eq!(requests.load(Ordering::Relaxed), 2, "requested once");
}

#[test]
fn another_runtime_does_not_wait_for_the_first() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    let engine = first.block_on(crate::support::engine());
    // From here on, no task polls the first runtime or the connection that was kept in it.
    for _ in 0..3 {
        second.block_on(engine.check()).unwrap();
    }
    first.block_on(engine.check()).unwrap();
    drop(first);
    second.block_on(engine.check()).unwrap();
}
