//! The version of the API: negotiated with old and new engines, and named in each request.

use std::sync::Arc;
use std::time::Duration;

use bollard::models::{HealthConfig, HostConfig};
use dockerpool::engine::{ContainerReport, Observation, Selector};
use dockerpool::{
    Container, ContainerSpec, DockerEngine, Endpoint, Engine, EngineErrorKind, Error, ExecVia, Network, Pool,
    PullPolicy,
};

use crate::proxy::real_socket;
use crate::stub::{Route, Stub};
use crate::support::{pool, unique_name};
use crate::teller::{Changes, Teller};

fn version(newest: &str, oldest: &str) -> String {
    format!(r#"{{"Version":"0","ApiVersion":"{newest}","MinAPIVersion":"{oldest}","Os":"linux","Arch":"riscv64"}}"#)
}

async fn connect(stub: &Stub) -> Result<DockerEngine, Error> {
    DockerEngine::connect_to(Endpoint::unix(stub.socket())).await
}

async fn list(engine: &DockerEngine) -> Result<Vec<ContainerReport>, dockerpool::EngineError> {
    engine.list(&Selector::label("a", "b")).await
}

fn kind_and_words(result: Result<DockerEngine, Error>) -> (EngineErrorKind, String) {
    let error = result.expect_err("there is no common version");
    let error = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn the_newest_common_version_is_spoken() {
    let stub = Stub::start();
    let newest = bollard::API_DEFAULT_VERSION.minor_version;
    for minor in 25..=60 {
        stub.say(Route::Version, 200, version(&format!("1.{minor}"), "1.24"));
        let engine = connect(&stub).await.unwrap();
        list(&engine).await.unwrap();
        let asked = stub.requests().pop().unwrap();
        let path = format!("GET /v1.{}/containers/json?", newest.min(minor));
        assert!(asked.starts_with(&path), "{asked}");
    }
}

#[tokio::test]
async fn an_engine_without_a_common_version_is_refused_in_words() {
    let stub = Stub::start();
    stub.say(Route::Version, 200, version("1.24", "1.12"));
    let (kind, words) = kind_and_words(connect(&stub).await);
    assert_eq!(kind, EngineErrorKind::Unsupported);
    assert!(
        words.contains("speaks version 1.24") && words.contains("1.25 is needed"),
        "{words}"
    );

    stub.say(Route::Version, 200, version("1.99", "1.90"));
    let (kind, words) = kind_and_words(connect(&stub).await);
    assert_eq!(kind, EngineErrorKind::Unsupported);
    assert!(words.contains("before 1.90") && words.contains("too old"), "{words}");
    assert!(words.contains("the engine at unix://"), "{words}");

    for nonsense in ["", "1", "one", "v1.41", "1.41.0", "-1.41"] {
        stub.say(Route::Version, 200, version(nonsense, "1.24"));
        let (kind, words) = kind_and_words(connect(&stub).await);
        assert_eq!(kind, EngineErrorKind::Protocol);
        assert!(words.contains(&format!("it says `{nonsense}`")), "{words}");
    }
    stub.say(Route::Version, 200, r#"{"Version":"0"}"#);
    let (kind, words) = kind_and_words(connect(&stub).await);
    assert_eq!(kind, EngineErrorKind::Protocol);
    assert!(words.contains("does not say which version"), "{words}");
    // Without a valid minimum, the engine itself refuses versions that it does not support.
    for oldest in [r#""MinAPIVersion":"one","#, ""] {
        stub.say(Route::Version, 200, format!(r#"{{{oldest}"ApiVersion":"1.41"}}"#));
        list(&connect(&stub).await.unwrap()).await.unwrap();
    }
    // The refused engines got no other request.
    let others = stub.requests().into_iter().filter(|asked| !asked.contains("/version"));
    assert_eq!(others.count(), 2);
}

#[tokio::test]
async fn the_version_is_negotiated_again_when_a_newer_or_older_engine_replaces_the_first() {
    let stub = Stub::start();
    stub.speaks(Some((24, 41)));
    let engine = connect(&stub).await.unwrap();
    list(&engine).await.unwrap();
    let mut spoken = 41;
    for (oldest, newest) in [(44, 52), (24, 43)] {
        stub.speaks(Some((oldest, newest)));
        // A request refused for its version is repeated once.
        list(&engine).await.unwrap();
        list(&engine).await.unwrap();
        let asked = stub.requests();
        let versions = [spoken, newest, newest];
        for (asked, version) in asked[asked.len() - 3..].iter().zip(versions) {
            assert!(asked.starts_with(&format!("GET /v1.{version}/")), "{asked}");
        }
        spoken = newest;
    }
    // This engine ignores versions.
    stub.speaks(None);
    list(&engine).await.unwrap();
}

#[tokio::test]
async fn a_setting_too_new_for_the_engine_fails_the_build() {
    let stub = Stub::start();
    stub.say(Route::Version, 200, version("1.40", "1.12"));
    let engine = Arc::new(connect(&stub).await.unwrap());
    let build = async |change: fn(ContainerSpec) -> ContainerSpec| {
        let builder = Pool::builder("old")
            .spec(change(ContainerSpec::new("any")))
            .engine(engine.clone());
        let error = builder
            .pull(PullPolicy::Never)
            .min_idle(0)
            .build()
            .await
            .expect_err("the setting is refused");
        let error = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
        assert_eq!(error.kind(), EngineErrorKind::Unsupported, "{error}");
        error.to_string()
    };
    let words = build(|spec| spec.platform("linux/riscv64")).await;
    assert!(words.contains("platform() needs version 1.41"), "{words}");
    let words = build(|spec| {
        spec.docker_config(bollard::models::ContainerCreateBody {
            healthcheck: Some(HealthConfig {
                start_interval: Some(1_000_000_000),
                ..Default::default()
            }),
            host_config: Some(HostConfig {
                annotations: Some([("a".to_owned(), "b".to_owned())].into()),
                ..Default::default()
            }),
            ..Default::default()
        })
    })
    .await;
    assert!(
        words.contains("Healthcheck.StartInterval needs version 1.44")
            && words.contains("HostConfig.Annotations needs version 1.43"),
        "{words}"
    );
    assert_eq!(stub.calls(Route::Create), 0);

    // The working directory is a setting of the command, so the build cannot check it.
    stub.say(Route::Version, 200, version("1.34", "1.12"));
    let engine = Arc::new(connect(&stub).await.unwrap());
    let pool = Pool::builder("old")
        .image("any")
        .engine(engine)
        .pull(PullPolicy::Never)
        .min_idle(0);
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let error = c.command("pwd").current_dir("/tmp").output().await.unwrap_err();
    let error = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(error.kind(), EngineErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("1.35"), "{error}");
    assert_eq!(stub.calls(Route::ExecCreate), 0);
}

/// Uses everything the library can request of an engine.
async fn whole_life(engine: Arc<DockerEngine>) {
    let name = unique_name("versions");
    let builder = pool(&name).engine(engine.clone()).exec_via(ExecVia::Docker);
    let network = Network::create(&name).remove_on_shutdown();
    let built = builder.network(network).min_idle(1).build().await.unwrap();
    let c = built.acquire().await.unwrap();
    let out = c
        .command("cat")
        .stdin("in")
        .current_dir("/tmp")
        .env("A", "b")
        .output()
        .await
        .unwrap();
    assert_eq!(out.stdout_lossy(), "in");
    let tty = c.command("true").tty(24, 80).output().await.unwrap();
    assert!(tty.status.success());
    let timed = c
        .command("sleep")
        .arg("60")
        .timeout(Duration::from_millis(300))
        .output()
        .await
        .unwrap();
    assert!(!timed.status.success());
    drop(c);
    built.shutdown().await.unwrap();

    let spec = ContainerSpec::new(crate::support::busybox()).cmd(["sleep", "60"]);
    let c = Container::create(engine.clone(), spec)
        .await
        .unwrap()
        .start()
        .await
        .unwrap();
    let c = c.pause().await.unwrap().unpause().await.unwrap();
    c.stop(Duration::ZERO).await.unwrap().remove().await.unwrap();

    let missing = pool(&unique_name("versions"))
        .image("127.0.0.1:1/nothing:1")
        .engine(engine);
    missing.pull(PullPolicy::IfMissing).build().await.unwrap_err();
}

#[tokio::test]
async fn every_request_names_the_version() {
    // On Docker Desktop, the agent comes in a volume. This adds requests for volumes.
    let changes = Changes {
        info: |said| said["OperatingSystem"] = "Docker Desktop".into(),
        ..Default::default()
    };
    let teller = Teller::start(real_socket().await, changes);
    let engine = Arc::new(DockerEngine::connect_to(Endpoint::unix(teller.socket())).await.unwrap());
    let spoken = engine.check().await.unwrap().api_version;
    let newest = bollard::API_DEFAULT_VERSION;
    let minor: usize = spoken.strip_prefix("1.").unwrap().parse().unwrap();
    let prefix = format!("/v1.{}/", newest.minor_version.min(minor));
    whole_life(engine).await;

    let asked: Vec<_> = teller.asked().into_iter().map(|(line, _)| line).collect();
    assert_eq!(asked[0], "GET /version HTTP/1.1", "no version is negotiated yet");
    for line in &asked[1..] {
        let path = line.split(' ').nth(1).unwrap();
        assert!(path.starts_with(&prefix) && !path[1..].contains("/v1."), "{line}");
    }
    // Every kind of request occurred, so that none escapes the check above.
    for (method, part) in [
        ("GET", "/version"),
        ("GET", "/info"),
        ("GET", "/images/"),
        ("POST", "/images/create?"),
        ("POST", "/containers/create?"),
        ("POST", "/attach?"),
        ("POST", "/start"),
        ("GET", "/containers/json?"),
        ("POST", "/exec"),
        ("POST", "/resize?"),
        ("GET", "/exec/"),
        ("POST", "/kill?"),
        ("POST", "/pause"),
        ("POST", "/unpause"),
        ("POST", "/stop?"),
        ("PUT", "/archive?"),
        ("DELETE", "/containers/"),
        ("GET", "/events?"),
        ("GET", "/networks"),
        ("POST", "/networks/create"),
        ("DELETE", "/networks/"),
        ("POST", "/volumes/create"),
        ("GET", "/volumes"),
        ("DELETE", "/volumes/"),
    ] {
        let is_it = |line: &String| line.starts_with(&format!("{method} {prefix}")) && line.contains(part);
        assert!(asked.iter().any(is_it), "{method} {part}: {asked:#?}");
    }
}
