//! Published ports, as an engine describes them.

use std::sync::Arc;
use std::time::Duration;

use crate::stub::{Route, Stub};
use crate::support::eventually_now;
use dockerpool::{DockerEngine, Endpoint, EngineErrorKind as Kind, ExecVia, Network, Pool, PoolBuilder};
use serde_json::{Value, json};

async fn with_stub(stub: &Stub) -> PoolBuilder {
    stub.say(Route::Network, 200, r#"{"Name":"bridge","Id":"n1"}"#);
    let endpoint = Endpoint::unix(stub.socket().to_str().unwrap());
    Pool::builder("ports")
        .image("any")
        .engine(Arc::new(DockerEngine::connect_to(endpoint).await.unwrap()))
        .exec_via(ExecVia::Docker)
        .network(Network::existing("bridge"))
        .publish(80)
}

#[tokio::test]
async fn a_port_that_the_engine_has_not_published_fails_the_build() {
    for ports in [
        Value::Null,
        json!({"80/tcp": Value::Null}),
        json!({"80/tcp": []}),
        json!({"80/udp": [{"HostIp": "127.0.0.1", "HostPort": "7"}]}),
    ] {
        let stub = Stub::start();
        stub.describe(json!({"NetworkSettings": {"Ports": ports}}));
        let error = with_stub(&stub).await.build().await.unwrap_err();
        let source = error.engine_error().unwrap();
        assert_eq!(source.kind(), Kind::SettingIgnored, "{source}");
        assert!(source.to_string().contains("port 80 was to be published"), "{source}");
        eventually_now("the container is removed", || stub.calls(Route::Remove) > 0).await;
    }
}

#[tokio::test]
async fn ports_and_address_are_those_that_the_engine_describes() {
    let stub = Stub::start();
    stub.describe(json!({"NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "7"}, {"HostIp": "::", "HostPort": "8"}]},
        "Networks": {"bridge": {"IPAddress": "172.17.0.9"}},
    }}));
    let pool = with_stub(&stub).await.build().await.unwrap();
    let asked = stub.bodies(Route::Create);
    let host = &asked[0]["HostConfig"];
    assert_eq!(
        host["PortBindings"],
        json!({"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]})
    );
    assert_eq!(asked[0]["ExposedPorts"], json!({"80/tcp": {}}));
    let c = pool.acquire().await.unwrap();
    assert_eq!(c.ip().unwrap().to_string(), "172.17.0.9");
    // The engine is on this machine, where the port is bound to all addresses.
    assert_eq!(c.port(80).unwrap().to_string(), "127.0.0.1:7");
    let words = c.port(8080).unwrap_err().to_string();
    assert!(
        words.contains("port 8080 is not published, published are [80"),
        "{words}"
    );
    drop(c);
    let _ = pool.shutdown_timeout(Duration::ZERO).await;
}
