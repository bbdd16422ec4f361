//! Settings: a build names every bad value before it does anything.

use std::sync::Arc;
use std::time::Duration;

use crate::support::eventually_now;
use dockerpool::engine::{Creation, LimitSupport};
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{EngineError, EngineErrorKind, Error, FieldError, Pool, PoolBuilder, RegistryAuth};

/// Returns the fields a build complains about.
async fn bad_fields(change: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Vec<String> {
    let engine = FakeEngine::new();
    let builder = Pool::builder("name").image("image").engine(Arc::new(engine.clone()));
    let fields = match change(builder).build().await {
        Ok(_) => Vec::new(),
        Err(Error::Config(problems)) => problems.iter().map(|problem| problem.field().to_owned()).collect(),
        Err(error) => panic!("{error:?}"),
    };
    let calls = engine.calls(Call::Check) + engine.calls(Call::Create);
    assert_eq!(calls == 0, !fields.is_empty(), "a build with a bad value makes no call");
    fields
}

#[tokio::test]
async fn each_bad_value_is_named() {
    assert_eq!(bad_fields(|b| b).await, [""; 0]);
    assert_eq!(bad_fields(|b| b.image("")).await, ["image"]);
    assert_eq!(bad_fields(|b| b.image("a\0b")).await, ["image"]);
    for image in [
        "Busybox",
        "a b",
        "a:b:c",
        "https://host/a",
        "a@sha256:00",
        "host:port/a",
    ] {
        assert_eq!(bad_fields(|b| b.image(image)).await, ["image"], "{image}");
    }
    assert_eq!(
        bad_fields(|b| b.registry_auth(RegistryAuth::password("", "x"))).await,
        ["registry_auth"]
    );
    assert_eq!(
        bad_fields(|b| b.registry_auth(RegistryAuth::identity_token(""))).await,
        ["registry_auth"]
    );
    assert_eq!(bad_fields(|b| b.platform("arm64")).await, ["platform"]);
    assert_eq!(bad_fields(|b| b.min_idle(3).max_idle(2)).await, ["min_idle"]);
    assert_eq!(bad_fields(|b| b.min_idle(3).max_total(2)).await, ["min_idle"]);
    assert_eq!(bad_fields(|b| b.max_idle(5).max_total(2)).await, ["max_idle"]);
    assert_eq!(bad_fields(|b| b.max_idle(2).max_total(2)).await, [""; 0]);
    // The default maximum of idle containers gives way.
    assert_eq!(bad_fields(|b| b.max_total(2)).await, [""; 0]);
    assert_eq!(bad_fields(|b| b.max_total(0)).await, ["max_total"]);
    assert_eq!(
        bad_fields(|b| b.max_concurrent_creates(0)).await,
        ["max_concurrent_creates"]
    );
    assert_eq!(
        bad_fields(|b| b.engine_timeout(Duration::ZERO)).await,
        ["engine_timeout"]
    );
    assert_eq!(bad_fields(|b| b.memory(1)).await, ["memory"]);
    assert_eq!(bad_fields(|b| b.memory("64 megs")).await, ["memory"]);
    assert_eq!(bad_fields(|b| b.memory("64m")).await, [""; 0]);
    assert_eq!(bad_fields(|b| b.cpus(0.0)).await, ["cpus"]);
    assert_eq!(bad_fields(|b| b.cpus(0)).await, ["cpus"]);
    assert_eq!(bad_fields(|b| b.cpus(1)).await, [""; 0]);
    assert_eq!(bad_fields(|b| b.cpus(f64::NAN)).await, ["cpus"]);
    assert_eq!(bad_fields(|b| b.pids_limit(0)).await, ["pids_limit"]);
    assert_eq!(bad_fields(|b| b.cmd([""; 0])).await, ["cmd"]);
    assert_eq!(bad_fields(|b| b.cmd(["a", "\0"])).await, ["cmd"]);
    assert_eq!(bad_fields(|b| b.env("A=B", "")).await, ["env"]);
    assert_eq!(bad_fields(|b| b.env("A", "\0")).await, ["env"]);
    assert_eq!(bad_fields(|b| b.label("", "x")).await, ["label"]);
    assert_eq!(bad_fields(|b| b.label("dockerpool.pool", "x")).await, ["label"]);
    assert_eq!(bad_fields(|b| b.working_dir("here")).await, ["working_dir"]);
    assert_eq!(bad_fields(|b| b.user("")).await, ["user"]);
    assert_eq!(bad_fields(|b| b.platform("")).await, ["platform"]);
}

#[tokio::test]
async fn all_bad_values_are_described_in_one_error() {
    for name in ["", "a\0b"] {
        let error = Pool::builder(name)
            .min_idle(5)
            .max_idle(4)
            .max_total(0)
            .build()
            .await
            .unwrap_err();
        let Error::Config(problems) = &error else {
            panic!("{error:?}")
        };
        let fields: Vec<_> = problems.iter().map(FieldError::field).collect();
        assert_eq!(fields, ["name", "min_idle", "max_total", "image"]);
        let text = error.to_string();
        assert!(text.contains("min_idle: 5 is more than max_idle, which is 4"), "{text}");
    }
}

#[tokio::test]
async fn zero_and_defaults_have_their_documented_meaning() {
    let engine = FakeEngine::new();
    let builder = || Pool::builder("name").image("image").engine(Arc::new(engine.clone()));
    let pool = builder().build().await.unwrap();
    assert_eq!(pool.status().max_total, PoolBuilder::DEFAULT_MAX_TOTAL);
    assert_eq!(pool.status().idle, PoolBuilder::DEFAULT_MIN_IDLE);
    pool.shutdown().await.unwrap();
    let pool = builder().min_idle(0).max_idle(50).build().await.unwrap();
    assert_eq!((pool.status().idle, pool.status().max_total), (0, 50));
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn one_builder_builds_many_pools() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("name").image("image").engine(Arc::new(engine.clone()));
    let (one, two) = (builder.clone().build().await.unwrap(), builder.build().await.unwrap());
    assert_ne!(one.instance(), two.instance());
    let labels: Vec<_> = engine
        .containers()
        .iter()
        .map(|container| container.labels[dockerpool::labels::INSTANCE].clone())
        .collect();
    assert_eq!(labels.len(), 2);
    assert_ne!(labels[0], labels[1]);
    one.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_limit_the_engine_cannot_set_is_refused_before_any_container_is_made() {
    let engine = FakeEngine::new();
    let mut can = LimitSupport::all();
    (can.memory, can.swap, can.pids, can.cpu) = (false, false, false, false);
    engine.support_limits(can);
    let builder = || Pool::builder("limits").image("any").engine(Arc::new(engine.clone()));
    let fields = async |builder: PoolBuilder| {
        let Error::Config(problems) = builder.build().await.unwrap_err() else {
            panic!("another error")
        };
        problems
            .iter()
            .map(|problem| problem.field().to_owned())
            .collect::<Vec<_>>()
    };
    let all = ["memory", "host_config.memory_swap", "pids_limit", "cpus"];
    assert_eq!(fields(builder()).await, all[..3]);
    assert_eq!(fields(builder().cpus(0.5)).await, all);
    assert_eq!(engine.calls(Call::Prepare), 0);
    let unlimited = builder().memory(None).pids_limit(None).build().await.unwrap();
    unlimited.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_discarded_limit_fails_the_build_and_other_warnings_are_reported_once() {
    const SAID: &str = "Weight discarded.";
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    for look in [false, true] {
        let engine = FakeEngine::new();
        let builder = || Pool::builder("limits").image("any").engine(Arc::new(engine.clone()));
        if look {
            engine.lack_limits([SAID.to_owned()]);
        } else {
            let mut said = Creation::new("");
            said.discarded = vec![SAID.to_owned()];
            engine.say_of_created(said);
        }
        let error = builder().build().await.unwrap_err();
        let source = error.engine_error().unwrap();
        assert_eq!(source.kind(), EngineErrorKind::LimitDiscarded, "{source}");
        assert!(source.to_string().contains(SAID), "{source}");
        assert_eq!(engine.calls(Call::Start), 0);
        eventually_now("the container is removed", || engine.containers().is_empty()).await;

        // If the build makes no container, the first acquire reports the discarded limit.
        let pool = builder().min_idle(0).build().await.unwrap();
        let error = pool.acquire_timeout(Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(
            error.engine_error().map(EngineError::kind),
            Some(EngineErrorKind::LimitDiscarded)
        );
        pool.shutdown().await.unwrap();

        let mut said = Creation::new("");
        said.warnings = vec!["the first".to_owned(), "the second".to_owned()];
        engine.say_of_created(said);
        engine.lack_limits([]);
        let note = told.clone();
        let tell = move |error: &Error| {
            note.lock()
                .push(error.engine_error().map(|error| (error.kind(), error.to_string())))
        };
        let pool = builder().min_idle(2).on_error(tell).build().await.unwrap();
        pool.shutdown().await.unwrap();
        let expected = ["the first", "the second"].map(|said| Some((EngineErrorKind::Warning, said.to_owned())));
        eventually_now("both warnings are reported", || told.lock().len() >= 2).await;
        assert_eq!(*told.lock(), expected);
        told.lock().clear();
    }
}
