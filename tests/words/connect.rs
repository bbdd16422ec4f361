//! Connections to engines: nobody answers, or something that is no engine.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dockerpool::{DockerEngine, Endpoint, Pool};
use insta::assert_snapshot;

use crate::said;
use crate::stub::{Fault, Route, Stub};
use crate::support::{itself, own_test};

/// Returns what is said of a connection that fails. `folder` is replaced in it.
async fn failed(endpoint: Endpoint, folder: &Path) -> String {
    let error = DockerEngine::connect_to(endpoint).await.unwrap_err();
    said(&error).replace(&folder.display().to_string(), "[folder]")
}

/// Returns what is said where the daemon has this fault from the beginning.
async fn faulty(set: impl FnOnce(&Stub)) -> String {
    let stub = Stub::start();
    set(&stub);
    failed(Endpoint::unix(stub.socket()), stub.socket().parent().unwrap()).await
}

#[tokio::test]
async fn nobody_answers_where_no_engine_is() {
    let folder = tempfile::tempdir().unwrap();
    let unix = async |name: &str| failed(Endpoint::unix(folder.path().join(name)), folder.path()).await;
    std::fs::write(folder.path().join("file"), "").unwrap();
    drop(UnixListener::bind(folder.path().join("left")).unwrap());
    assert_snapshot!(unix("none").await, @"could not reach the Docker engine: no engine answers at unix://[folder]/none: No such file or directory (os error 2) (is the engine running there?)");
    assert_snapshot!(unix("left").await, @"could not reach the Docker engine: no engine answers at unix://[folder]/left: Connection refused (os error 111) (is the engine running there?)");
    assert_snapshot!(unix("file").await, @"could not reach the Docker engine: no engine answers at unix://[folder]/file: [folder]/file is no socket");
    assert_snapshot!(failed("tcp://127.0.0.1:1".parse().unwrap(), folder.path()).await, @"could not reach the Docker engine: no engine answers at tcp://127.0.0.1:1: Connection refused (os error 111) (is the engine running there?)");
}

#[tokio::test]
async fn what_answers_and_is_no_engine_is_told_in_one_line() {
    assert_snapshot!(faulty(|stub| stub.fault(Route::Version, Fault::Close)).await, @"could not reach the Docker engine: the engine at unix://[folder]/docker.sock did not tell its version: connection closed before message completed");
    assert_snapshot!(faulty(|stub| stub.fault(Route::Version, Fault::Garbage)).await, @"could not reach the Docker engine: the engine at unix://[folder]/docker.sock did not tell its version: invalid HTTP version parsed");
    assert_snapshot!(faulty(|stub| stub.say(Route::Version, 503, r#"{"message":"starting"}"#)).await, @"could not reach the Docker engine: the engine at unix://[folder]/docker.sock did not tell its version: starting");
    assert_snapshot!(faulty(|stub| stub.say(Route::Version, 200, r#"{"ApiVersion":"1.12"}"#)).await, @"could not reach the Docker engine: the engine at unix://[folder]/docker.sock cannot be used: the engine is too old: it speaks version 1.12 of its API at most, but 1.25 is needed at least (Docker 1.13)");
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_used_is_bad_configuration() {
    let nowhere = Path::new("/nowhere");
    assert_snapshot!(failed(Endpoint::unix(""), nowhere).await, @"bad configuration: endpoint: the path is empty");
    assert_snapshot!(failed(Endpoint::tls("engine.example.com", nowhere), Path::new("/unused")).await, @"bad configuration: endpoint: /nowhere/ca.pem cannot be read: there is no such file");
}

/// Names the role of the child of the next test.
const CHILD: &str = "DOCKERPOOL_TEST_WORDS";

#[tokio::test]
async fn the_setting_that_names_the_engine_is_told() {
    if std::env::var_os(CHILD).is_some() {
        println!(
            "\n<<{}>>",
            said(&Pool::builder("words").image("any").build().await.unwrap_err())
        );
        return;
    }
    let child = |host: &str| {
        let mut child = itself(&own_test!("the_setting_that_names_the_engine_is_told"));
        let output = child.env(CHILD, "1").env("DOCKER_HOST", host).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.split_once("<<").and_then(|(_, rest)| rest.split_once(">>"));
        said.unwrap_or_else(|| panic!("{output:?}")).0.to_owned()
    };
    assert_snapshot!(child("unix:///no/such.sock"), @"could not reach the Docker engine for pool words: no engine answers at unix:///no/such.sock, which DOCKER_HOST names: No such file or directory (os error 2) (is the engine running there?)");
    assert_snapshot!(child("nonsense"), @"bad configuration of pool words: DOCKER_HOST: `nonsense` must begin with unix://, tcp://, ssh:// or npipe://");
}

#[tokio::test]
async fn a_connection_that_breaks_later_names_pool_container_and_program() {
    let stub = Stub::start();
    let engine = DockerEngine::connect_to(Endpoint::unix(stub.socket())).await.unwrap();
    let pool = Pool::builder("words")
        .image("any")
        .engine(Arc::new(engine))
        .min_idle(0)
        .max_total(1);
    let pool = pool.engine_timeout(Duration::from_secs(10)).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    stub.fault(Route::ExecCreate, Fault::Close);
    assert_snapshot!(said(&c.exec(["make"]).await.unwrap_err()), @"could not run `make` in container dockerpool-words-[id]-[n] of pool words: the engine did not run the command: connection closed before message completed");
    stub.fault(Route::Inspect, Fault::GarbageBody);
    assert_snapshot!(said(&c.inspect().await.unwrap_err()), @"could not inspect the container dockerpool-words-[id]-[n] of pool words: the engine did not describe the container: the answer cannot be understood: expected value at line 1 column 1");
    stub.heal();
    drop(c);
    pool.shutdown().await.unwrap();
}
