//! Bad surroundings: each is a typed error that says what to do; nothing leaks, and the pool goes on.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use dockerpool::{DockerEngine, Engine, EngineErrorKind, Error, PullPolicy};
use support::{containers_of, engine, eventually, eventually_now, pool};

fn kind(error: &Error) -> EngineErrorKind {
    error.engine_error().unwrap_or_else(|| panic!("{error:?}")).kind()
}

#[tokio::test]
async fn an_engine_that_is_not_there() {
    let docker = Docker::connect_with_http("tcp://127.0.0.1:1", 4, bollard::API_DEFAULT_VERSION).unwrap();
    let error = DockerEngine::from_bollard(docker).await.unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::Unreachable);
    assert!(error.is_retryable());
    assert!(error.to_string().contains("DOCKER_HOST"), "{error}");
}

#[tokio::test]
async fn an_image_that_is_not_there_and_may_not_be_pulled() {
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
async fn an_image_for_another_architecture() {
    let engine = engine().await;
    let docker = engine.bollard();
    let tag = format!("dockerpool-test/foreign-{:x}", std::process::id());
    let own = engine.check().await.unwrap().platform;
    let foreign = if own == "linux/arm64" {
        "linux/amd64"
    } else {
        "linux/arm64"
    };
    // An empty archive makes an image without files, of the platform it is said to be for.
    let options = bollard::query_parameters::CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(tag.clone()),
        tag: Some("1".to_owned()),
        platform: foreign.to_owned(),
        ..Default::default()
    };
    let archive = bollard::body_full(vec![0; 1024].into());
    let imported = futures_util::StreamExt::collect::<Vec<_>>(docker.create_image(Some(options), Some(archive), None));
    for step in imported.await {
        step.unwrap();
    }
    let image = format!("{tag}:1");
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

#[tokio::test]
async fn a_pid_1_that_is_not_in_the_image() {
    let engine = engine().await;
    let error = pool("no-pid1")
        .cmd(["no-such-program"])
        .min_idle(1)
        .build()
        .await
        .unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::CannotStart, "{error:?}");
    assert!(error.engine_error().unwrap().to_string().contains("no-such-program"));
    let ours = dockerpool::engine::Selector::label(dockerpool::labels::POOL, "no-pid1");
    eventually("nothing is left", async || engine.list(&ours).await.unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_user_that_does_not_exist() {
    let error = pool("no-user")
        .user("nobody-of-this-name")
        .min_idle(1)
        .build()
        .await
        .unwrap_err();
    assert_eq!(kind(&error), EngineErrorKind::CannotStart, "{error:?}");
    assert!(
        error
            .engine_error()
            .unwrap()
            .to_string()
            .contains("nobody-of-this-name")
    );
}

#[tokio::test]
async fn a_command_a_directory_and_a_user_that_are_not_there_leave_the_container_usable() {
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
        assert!(
            matches!(&error, Error::CannotStart { container, .. } if container == c.name()),
            "{error:?}"
        );
        assert!(error.to_string().contains(words), "{error}");
    }
    drop(c);
    assert_eq!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_idle_container_that_is_removed_behind_our_back_is_replaced_before_it_is_lent() {
    let engine = engine().await;
    let pool = pool("behind").min_idle(1).max_total(1).build().await.unwrap();
    let id = {
        let c = pool.acquire().await.unwrap();
        c.id().to_owned()
    };
    engine.remove(&id).await.unwrap();
    // Told by the engine's events, not found out by a lease.
    eventually_now("it is gone from the pool", || {
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
async fn idle_containers_that_are_killed_or_paused_behind_our_back_are_replaced() {
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
async fn a_leased_container_that_is_removed_behind_our_back_is_a_typed_error_and_is_replaced() {
    let engine = engine().await;
    let pool = pool("leased").max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    engine.remove(c.id()).await.unwrap();
    let error = c.command("true").output().await.unwrap_err();
    assert!(
        matches!(&error, Error::ContainerGone { container, .. } if container == c.name()),
        "{error:?}"
    );
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
