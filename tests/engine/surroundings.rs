//! Bad surroundings: each gives a typed error with a remedy, nothing leaks, and the pool goes on.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{containers_of, engine, eventually, eventually_now, pool};
use bollard::Docker;
use dockerpool::engine::{Lifecycle, Observation, Pausing};
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{DockerEngine, Engine, EngineErrorKind, Error, ExecVia, Pool, PullPolicy};
use futures_util::StreamExt;
use tokio::runtime::Handle;

fn kind(error: &Error) -> EngineErrorKind {
    error.engine_error().unwrap_or_else(|| panic!("{error:?}")).kind()
}

#[tokio::test]
async fn an_engine_that_does_not_exist_is_unreachable() {
    let docker = Docker::connect_with_http("tcp://127.0.0.1:1", 4, bollard::API_DEFAULT_VERSION).unwrap();
    let error = DockerEngine::from_bollard(docker).await.unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::Unreachable);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("DOCKER_HOST"), "{error}");
}

#[tokio::test]
async fn a_missing_image_that_may_not_be_pulled_is_not_found() {
    let error = pool("missing")
        .image("dockerpool-test/none:1")
        .pull(PullPolicy::Never)
        .build()
        .await
        .unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::ImageNotFound);
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("PullPolicy"), "{error}");
    assert!(
        error
            .engine_error()
            .unwrap()
            .to_string()
            .contains("dockerpool-test/none:1")
    );
}

#[tokio::test]
async fn an_image_for_another_architecture_is_refused() {
    let engine = engine().await;
    let docker = engine.bollard();
    let tag = format!("dockerpool-test/foreign-{:x}", std::process::id());
    let own = engine.check().await.unwrap().platform;
    let foreign = if own == "linux/arm64" {
        "linux/amd64"
    } else {
        "linux/arm64"
    };
    let image = format!("{tag}:1");
    let archive = bollard::body_full(empty_image(&image, foreign).into());
    let options = bollard::query_parameters::ImportImageOptions::default();
    let loaded: Vec<_> = docker.import_image(options, archive, None).collect().await;
    for step in loaded {
        step.unwrap();
    }
    let result = pool("foreign").image(&image).pull(PullPolicy::Never).build().await;
    docker
        .remove_image(&image, None::<bollard::query_parameters::RemoveImageOptions>, None)
        .await
        .unwrap();
    let error = result.unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::WrongPlatform, "{error:?}");
    assert!(error.engine_error().unwrap().to_string().contains(foreign));
    assert!(!error.is_retryable());
}

/// Returns an image without files, in the format of `docker save`.
fn empty_image(name: &str, platform: &str) -> Vec<u8> {
    let (os, architecture) = platform.split_once('/').unwrap();
    let layer = vec![0; 1024];
    let config = serde_json::json!({
        "os": os,
        "architecture": architecture,
        "config": {},
        // The digest of an empty archive.
        "rootfs": {"type": "layers", "diff_ids": [
            "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
        ]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    let files = [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, &data[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn an_image_without_the_librarys_pid_1_is_refused_at_once() {
    // The agent needs no program of the image.
    let pool_with_agent = pool("no-cat").exec_via(ExecVia::Docker).env("PATH", "/nowhere");
    let pool_with_agent = pool_with_agent.min_idle(1).build().await.unwrap();
    pool_with_agent.shutdown().await.unwrap();
    // Without the agent, PID 1 is `cat`, which is not on this PATH.
    let error = pool("no-cat")
        .exec_via(ExecVia::Docker)
        .agent_path("/no/such/agent")
        .env("PATH", "/nowhere")
        .min_idle(1)
        .build()
        .await
        .unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::CannotStart, "{error:?}");
    assert!(error.engine_error().unwrap().to_string().contains("cat"), "{error:?}");
    let engine = engine().await;
    let ours = dockerpool::engine::Selector::label(dockerpool::labels::POOL, "no-cat");
    eventually("nothing is left", async || engine.list(&ours).await.unwrap().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_pid_1_that_ends_soon_is_replaced_with_growing_pauses() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("short-lived")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()));
    let pool = builder.min_idle(1).build().await.unwrap();
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let begun = tokio::time::Instant::now();
        engine.end_container(&engine.containers()[0].id);
        eventually_now("the container is gone", || pool.status().idle == 0).await;
        eventually_now("the container is replaced", || pool.status().idle == 1).await;
        pauses.push(begun.elapsed().as_secs_f64());
    }
    // The pauses double from 0.1 s to 5 s, each shortened by up to half.
    assert!(pauses[0] < 0.2, "{pauses:?}");
    assert!(pauses[7] > 2.4, "{pauses:?}");
    // A container that has lived for a while is replaced at once.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let begun = tokio::time::Instant::now();
    engine.end_container(&engine.containers()[0].id);
    eventually_now("the container is gone", || {
        pool.status().idle == 0 || engine.calls(Call::Create) > 9
    })
    .await;
    eventually_now("the container is replaced", || pool.status().idle == 1).await;
    assert!(begun.elapsed() < Duration::from_millis(50));
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_pid_1_that_the_image_lacks_is_an_early_death() {
    match pool("no-pid1").cmd(["no-such-program"]).min_idle(1).build().await {
        Err(error) => {
            let said = error.engine_error().unwrap().to_string();
            match kind(&error) {
                EngineErrorKind::CannotStart => assert!(said.contains("no-such-program"), "{error:?}"),
                // The build saw the death, as described below, before its end.
                other => assert!(
                    other == EngineErrorKind::Internal && said.contains("ended soon"),
                    "{error:?}"
                ),
            }
        }
        // The engine's init starts first, and fails to start the program a little later. If init gets no time to run,
        // that is after the library's look at the container, which cannot tell it from a good one: in both, PID 1 is
        // a running init. To be sure, the library would have to wait longer for every container with a `cmd`, or to
        // list its processes (16 ms each). So the pool treats this as any early death: it learns of it from the
        // engine's event, creates the next one after a pause, and reports it to acquires.
        Ok(pool) => {
            eventually_now("the death is noticed", || pool.status().lifetime.removed > 0).await;
            pool.shutdown().await.unwrap();
        }
    }
    let engine = engine().await;
    let ours = dockerpool::engine::Selector::label(dockerpool::labels::POOL, "no-pid1");
    eventually("nothing is left", async || engine.list(&ours).await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_user_that_does_not_exist_is_refused_with_a_remedy() {
    // With the agent as PID 1, and without.
    for builder in [pool("no-user"), pool("no-user").agent_path("/no/such/agent")] {
        let builder = builder.exec_via(ExecVia::Docker).user("nobody-of-this-name");
        let error = builder.min_idle(1).build().await.unwrap_err();
        assert_eq!(kind(&error), EngineErrorKind::Rejected, "{error:?}");
        let text = error.engine_error().unwrap().to_string();
        assert!(
            text.contains("nobody-of-this-name") && text.contains("(see user()"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_missing_program_directory_or_user_leaves_the_container_usable() {
    let pool = pool("bad-command").max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let results = [
        c.command("no-such-program").output().await,
        c.command("true").current_dir("/no/such/dir").output().await,
        c.command("true").user("nobody-of-this-name").output().await,
    ];
    for (result, words) in results
        .into_iter()
        .zip(["no-such-program", "/no/such/dir", "nobody-of-this-name"])
    {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::CannotStart { .. }), "{error:?}");
        assert_eq!(error.container(), Some(c.name()));
        assert!(error.to_string().contains(words), "{error}");
    }
    drop(c);
    assert_eq!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_idle_container_removed_by_another_client_is_replaced_before_it_is_lent() {
    let engine = engine().await;
    let pool = pool("behind").min_idle(1).max_total(1).build().await.unwrap();
    let id = {
        let c = pool.acquire().await.unwrap();
        c.id().to_owned()
    };
    engine.remove(&id).await.unwrap();
    // The pool learns of it from the engine's event, not from a failed lease.
    eventually_now("the container is gone from the pool", || {
        pool.status().recycling > 0 || pool.status().creating > 0
    })
    .await;
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), id);
    assert!(c.command("true").status().await.unwrap().success());
    drop(c);
    assert_eq!(containers_of(&*engine, &pool).await, 1);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn idle_containers_killed_or_paused_by_another_client_are_replaced() {
    let engine = engine().await;
    let pool = pool("killed")
        .cmd(["sleep", "1000"])
        .min_idle(1)
        .max_total(1)
        .build()
        .await
        .unwrap();
    for what in ["kill", "pause"] {
        let id = pool.acquire().await.unwrap().id().to_owned();
        match what {
            "kill" => engine.kill(&id).await.unwrap(),
            _ => engine.pause(&id).await.unwrap(),
        }
        eventually(what, async || {
            let c = pool.try_acquire().unwrap();
            c.is_some_and(|c| c.id() != id)
        })
        .await;
    }
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}

#[tokio::test]
async fn a_lent_container_removed_by_another_client_gives_a_typed_error_and_is_replaced() {
    let engine = engine().await;
    let pool = pool("leased").max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    engine.remove(c.id()).await.unwrap();
    let error = c.command("true").output().await.unwrap_err();
    assert!(matches!(error, Error::ContainerGone { .. }), "{error:?}");
    assert_eq!(error.container(), Some(c.name()));
    assert!(error.is_retryable());
    assert!(c.taint().is_some());
    drop(c);
    let c = pool.acquire_timeout(Duration::from_secs(30)).await.unwrap();
    assert!(c.command("true").status().await.unwrap().success());
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn two_pools_of_one_name_do_not_touch_each_other() {
    let engine: Arc<DockerEngine> = engine().await;
    let one = pool("twin").min_idle(1).engine(engine.clone()).build().await.unwrap();
    let two = pool("twin").min_idle(1).engine(engine.clone()).build().await.unwrap();
    one.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine, &two).await, 1);
    assert!(
        two.acquire()
            .await
            .unwrap()
            .command("true")
            .status()
            .await
            .unwrap()
            .success()
    );
    two.shutdown().await.unwrap();
}
