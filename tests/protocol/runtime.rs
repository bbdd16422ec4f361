//! Settings that an engine may silently ignore, first of all the container runtime. (Tokio runtimes are tested in
//! `owner/runtimes.rs`.)

use std::sync::Arc;
use std::time::Duration;

use crate::stub::{Route, Stub};
use crate::support::{engine, eventually_now, is_podman, pool};
use bollard::query_parameters::InspectContainerOptions;
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{
    DockerEngine, Endpoint, EngineError, EngineErrorKind as Kind, ExecVia, Pool, PoolBuilder, PullPolicy,
};
use serde_json::{Value, json};

#[tokio::test]
async fn a_runtime_the_engine_lacks_is_refused_before_anything_is_made() {
    let docker = engine().await;
    // The image does not exist either. The build must fail before it looks for the image.
    let builder = Pool::builder("no-such-runtime")
        .image("registry.invalid/none:1")
        .pull(PullPolicy::Always)
        .engine(docker.clone())
        .runtime("no-such-runtime");
    let error = builder.build().await.unwrap_err();
    let source = error.engine_error().unwrap();
    let default = docker.bollard().info().await.unwrap().default_runtime.unwrap();
    let expected = if is_podman().await {
        Kind::Unsupported
    } else {
        Kind::Rejected
    };
    assert_eq!(source.kind(), expected, "{source}");
    let words = source.to_string();
    assert!(
        words.contains("`no-such-runtime`") && words.contains(&default),
        "{words}"
    );
}

/// Returns the runtimes a container can choose. For Docker these are the names in its configuration. Podman offers no
/// choice, only its default.
async fn runtimes(docker: &DockerEngine) -> Vec<String> {
    let info = docker.bollard().info().await.unwrap();
    match is_podman().await {
        true => vec![info.default_runtime.unwrap()],
        false => info.runtimes.unwrap().into_keys().collect(),
    }
}

#[tokio::test]
async fn each_runtime_of_the_engine_can_be_chosen() {
    let docker = engine().await;
    for runtime in runtimes(&docker).await {
        for via in [ExecVia::Auto, ExecVia::Docker] {
            let pool = pool("chosen")
                .runtime(&runtime)
                .exec_via(via)
                .min_idle(1)
                .build()
                .await
                .unwrap();
            let c = pool.acquire().await.unwrap();
            assert!(c.command("true").status().await.unwrap().success(), "{runtime}");
            let found = docker
                .bollard()
                .inspect_container(c.id(), None::<InspectContainerOptions>)
                .await;
            let found = found.unwrap().host_config.unwrap().runtime;
            // Podman reports this word for every runtime.
            let expected = if is_podman().await { "oci" } else { &*runtime };
            assert_eq!(found.as_deref(), Some(expected));
            drop(c);
            pool.shutdown().await.unwrap();
        }
    }
}

async fn with_stub(stub: &Stub) -> PoolBuilder {
    let endpoint = Endpoint::unix(stub.socket().to_str().unwrap());
    Pool::builder("ignoring")
        .image("any")
        .engine(Arc::new(DockerEngine::connect_to(endpoint).await.unwrap()))
        .exec_via(ExecVia::Docker)
        .read_only_root(true)
        .user("7:7")
        .tmpfs("/tmp", 1 << 20)
        .runtime("runsc")
        .min_idle(1)
}

#[tokio::test]
async fn an_engine_that_ignores_a_setting_fails_the_build() {
    for (field, changes) in [
        ("", json!({})),
        ("Runtime", json!({"HostConfig": {"Runtime": "runc"}})),
        ("Runtime", json!({"HostConfig": {"Runtime": Value::Null}})),
        ("ReadonlyRootfs", json!({"HostConfig": {"ReadonlyRootfs": false}})),
        ("NetworkMode", json!({"HostConfig": {"NetworkMode": "bridge"}})),
        ("CapDrop", json!({"HostConfig": {"CapDrop": ["MKNOD"]}})),
        ("SecurityOpt", json!({"HostConfig": {"SecurityOpt": []}})),
        ("Tmpfs", json!({"HostConfig": {"Tmpfs": Value::Null}})),
        ("AutoRemove", json!({"HostConfig": {"AutoRemove": false}})),
        ("OomScoreAdj", json!({"HostConfig": {"OomScoreAdj": 0}})),
        ("User", json!({"User": ""})),
        ("Labels", json!({"Labels": Value::Null})),
    ] {
        let stub = Stub::start();
        stub.describe(changes);
        let result = with_stub(&stub).await.build().await;
        if field.is_empty() {
            let _ = result.unwrap().shutdown_timeout(Duration::ZERO).await;
            continue;
        }
        let error = result.unwrap_err();
        let source = error.engine_error().unwrap();
        let words = source.to_string();
        assert_eq!(source.kind(), Kind::SettingIgnored, "{words}");
        assert!(
            words.contains(&format!("ignored what was asked for: {field} is ")),
            "{words}"
        );
        assert!(!error.is_retryable());
        assert_eq!(stub.calls(Route::Start), 0, "{field}");
        eventually_now("the container is removed", || stub.calls(Route::Remove) > 0).await;
    }
}

#[tokio::test]
async fn a_setting_reported_as_ignored_fails_the_build_or_the_first_acquire() {
    const SAID: &str = "the root can be written to";
    let engine = FakeEngine::new();
    engine.ignore_settings([SAID.to_owned()]);
    let builder = || Pool::builder("ignoring").image("any").engine(Arc::new(engine.clone()));
    let error = builder().build().await.unwrap_err();
    let source = error.engine_error().unwrap();
    assert_eq!(source.kind(), Kind::SettingIgnored, "{source}");
    assert!(source.to_string().contains(SAID), "{source}");
    assert_eq!(engine.calls(Call::Start), 0);
    eventually_now("the container is removed", || engine.containers().is_empty()).await;

    let pool = builder().min_idle(0).build().await.unwrap();
    let error = pool.acquire_timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.engine_error().map(EngineError::kind), Some(Kind::SettingIgnored));
    engine.ignore_settings([]);
    drop(pool.acquire().await.unwrap());
    pool.shutdown().await.unwrap();
}
