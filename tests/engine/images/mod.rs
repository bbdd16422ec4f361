//! Images on real registries: policies, logins, pins, platforms, progress, and the errors on the way.

mod login;
mod registry;

use std::sync::Arc;

use crate::support::{Capability, engine, lacks, tag};
use dockerpool::{DockerEngine, EngineErrorKind, Error, ExecVia, Pool, PoolBuilder, Progress, PullPolicy};
use parking_lot::Mutex;
use registry::{Registry, TestImage, breaking, refusing};

/// Returns a builder of a pool of this image that creates containers only on demand.
pub fn pool_of(engine: &Arc<DockerEngine>, image: &str) -> PoolBuilder {
    crate::support::pool("images").image(image).engine(engine.clone())
}

pub async fn builds(builder: PoolBuilder) {
    builder.build().await.unwrap().shutdown().await.unwrap();
}

/// Returns the kind and the full text of the error a build fails with.
pub async fn fails(builder: PoolBuilder) -> (EngineErrorKind, String) {
    let error: Error = builder.build().await.expect_err("no image");
    let source = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    (source.kind(), format!("{error}: {source}"))
}

async fn a_command_runs(pool: &Pool) {
    let c = pool.acquire().await.unwrap();
    assert_eq!(c.exec(["echo", "pulled"]).await.unwrap().stdout_lossy(), "pulled\n");
}

#[tokio::test]
async fn a_missing_image_is_pulled_once_and_its_progress_is_reported() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let image = registry.fill(engine.bollard(), "small:1").await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let builder = {
        let told = told.clone();
        pool_of(&engine, &image.name).on_progress(move |step| told.lock().push(step))
    };

    let pool = builder.clone().build().await.unwrap();
    a_command_runs(&pool).await;
    pool.shutdown().await.unwrap();
    let mut steps = std::mem::take(&mut *told.lock());
    let ready = Progress::ImageReady {
        image: image.name.clone(),
    };
    assert_eq!(steps.pop(), Some(ready.clone()));
    let words: Vec<_> = steps
        .iter()
        .map(|step| match step {
            Progress::Pulling { image: of, status } if *of == image.name => status.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    // The first status of Docker, and that of Podman.
    let begun = |words: &str| words.contains("Pulling from small") || words.ends_with(": Pulling fs layer");
    assert!(words.iter().any(|words| begun(words)), "{words:?}");

    // The image exists now, so the build needs neither a pull nor the registry.
    drop(registry);
    builds(builder).await;
    assert_eq!(std::mem::take(&mut *told.lock()), [ready]);
}

#[tokio::test]
async fn each_pull_policy_pulls_as_documented() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let docker = engine.bollard();
    let image = registry.fill(docker, "moved:1").await;
    let build = |policy| pool_of(&engine, &image.name).pull(policy);

    let (kind, text) = fails(build(PullPolicy::Never)).await;
    assert_eq!(kind, EngineErrorKind::ImageNotFound);
    assert!(text.contains("pulling it is forbidden"), "{text}");
    assert!(!image.is_there(docker).await);

    builds(build(PullPolicy::IfMissing)).await;
    let first = docker.inspect_image(&image.name).await.unwrap().id;
    // The tag moves in the registry only.
    let local = TestImage::named(format!("{}/moved:new", registry.address));
    let second = local.commit(docker).await;
    let first_again = TestImage::named(format!("{}/moved:old", registry.address));
    tag(docker, &image.name, &first_again.name).await;
    tag(docker, &local.name, &image.name).await;
    registry.push(docker, &image).await;
    tag(docker, &first_again.name, &image.name).await;

    builds(build(PullPolicy::IfMissing)).await;
    builds(build(PullPolicy::Never)).await;
    assert_eq!(docker.inspect_image(&image.name).await.unwrap().id, first);
    builds(build(PullPolicy::Always)).await;
    // Podman returns the same id with and without the prefix of its digest.
    let third = docker.inspect_image(&image.name).await.unwrap().id.unwrap();
    assert_eq!(
        third.trim_start_matches("sha256:"),
        second.trim_start_matches("sha256:")
    );
    drop(registry);
    let (kind, _) = fails(build(PullPolicy::Always)).await;
    assert_eq!(kind, EngineErrorKind::RegistryUnreachable);
}

#[tokio::test]
async fn an_image_can_be_pinned_by_its_digest() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let docker = engine.bollard();
    let image = TestImage::named(format!("{}/pinned:1", registry.address));
    image.commit(docker).await;
    registry.push(docker, &image).await;
    let digest = registry.manifest("pinned:1").await.digest;
    image.forget();
    let pin = TestImage::named(format!("{}/pinned@{digest}", registry.address));
    let pin_with_tag = TestImage::named(format!("{}@{digest}", image.name));

    for name in [&pin, &pin_with_tag] {
        assert!(!name.is_there(docker).await);
        let pool = pool_of(&engine, &name.name).build().await.unwrap();
        a_command_runs(&pool).await;
        pool.shutdown().await.unwrap();
        pin.forget();
    }
    let other = format!("{}/pinned@sha256:{}", registry.address, "0".repeat(64));
    assert_eq!(fails(pool_of(&engine, &other)).await.0, EngineErrorKind::ImageNotFound);
}

#[tokio::test]
async fn an_image_the_registry_does_not_have_is_not_found() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let image = registry.fill(engine.bollard(), "there:1").await;
    // The last names contain words that engines and registries use in their messages.
    for name in ["there:2", "not-there:1", "not-there", "no-platform:1", "timeout:EOF"] {
        let name = format!("{}/{name}", registry.address);
        let (kind, text) = fails(pool_of(&engine, &name)).await;
        assert_eq!(kind, EngineErrorKind::ImageNotFound, "{text}");
        assert!(text.contains(&name), "{text}");
    }
    drop(image);
}

#[tokio::test]
async fn a_missing_registry_is_an_error_of_its_own_kind() {
    let engine = engine().await;
    let address = {
        let registry = Registry::open().await;
        registry.address.clone()
    };
    for name in [format!("{address}/a:1"), "registry.invalid/a:1".to_owned()] {
        let error = pool_of(&engine, &name).build().await.unwrap_err();
        let kind = error.engine_error().unwrap().kind();
        assert_eq!(kind, EngineErrorKind::RegistryUnreachable, "{error:?}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_registry_lost_during_a_pull_is_an_error_of_its_own_kind() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let image = registry.fill_with_much(engine.bollard(), "much:1").await;
    let name = image.name.replace(&registry.address, &breaking(&registry).await);
    let told = Arc::new(Mutex::new(Vec::new()));
    let builder = {
        let told = told.clone();
        pool_of(&engine, &name).on_progress(move |step| told.lock().push(step))
    };
    let error = builder.build().await.unwrap_err();
    let kind = error.engine_error().unwrap().kind();
    assert_eq!(kind, EngineErrorKind::PullInterrupted, "{error:?}");
    assert!(error.is_retryable());
    let is_podman = dockerpool::Engine::check(&*engine)
        .await
        .unwrap()
        .version
        .starts_with("Podman");
    // Podman reports no progress before the first layer.
    assert!(is_podman || !told.lock().is_empty());
    // Over a stable connection, the pull succeeds.
    builds(pool_of(&engine, &image.name)).await;
}

#[tokio::test]
async fn an_image_that_lacks_the_platform_is_refused_under_every_policy() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let image = registry.fill(engine.bollard(), "one-platform:1").await;
    let own = dockerpool::Engine::check(&*engine).await.unwrap().platform;
    builds(pool_of(&engine, &image.name).platform(&own)).await;
    let foreign = if own == "linux/arm64" {
        "linux/amd64"
    } else {
        "linux/arm64"
    };
    for policy in [PullPolicy::Never, PullPolicy::IfMissing, PullPolicy::Always] {
        let (kind, text) = fails(pool_of(&engine, &image.name).platform(foreign).pull(policy)).await;
        assert_eq!(kind, EngineErrorKind::WrongPlatform, "{policy:?}: {text}");
        assert!(text.contains(foreign), "{text}");
    }
}

#[tokio::test]
async fn an_index_is_searched_for_the_platform() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let docker = engine.bollard();
    let image = TestImage::named(format!("{}/index:one", registry.address));
    image.commit(docker).await;
    registry.push(docker, &image).await;
    let manifest = registry.manifest("index:one").await;
    image.forget();
    let own = dockerpool::Engine::check(&*engine).await.unwrap().platform;
    registry.put_index("index:own", &[(&manifest, &own)]).await;
    registry.put_index("index:foreign", &[(&manifest, "linux/mips")]).await;

    let (kind, text) = fails(pool_of(&engine, &format!("{}/index:foreign", registry.address))).await;
    assert_eq!(kind, EngineErrorKind::WrongPlatform, "{text}");
    let found = TestImage::named(format!("{}/index:own", registry.address));
    builds(pool_of(&engine, &found.name)).await;
    assert!(found.is_there(docker).await);
}

/// Returns whether one name can hold images of several platforms on this engine, as in containerd's image store.
async fn keeps_several_platforms(docker: &bollard::Docker) -> bool {
    let status = docker.info().await.unwrap().driver_status.unwrap_or_default();
    status
        .iter()
        .flatten()
        .any(|word| word == "io.containerd.snapshotter.v1")
}

/// Pushes an index with an image for the engine's platform and one for another. Returns the index and both platforms.
async fn index_of_two(registry: &Registry, engine: &DockerEngine, name: &str) -> (TestImage, String, String) {
    let (repository, _) = name.split_once(':').unwrap();
    let image = TestImage::named(format!("{}/{repository}:base", registry.address));
    image.commit(engine.bollard()).await;
    registry.push(engine.bollard(), &image).await;
    image.forget();
    let base = registry.manifest(&format!("{repository}:base")).await;
    let own = dockerpool::Engine::check(engine).await.unwrap().platform;
    let foreign = if own == "linux/s390x" {
        "linux/ppc64le"
    } else {
        "linux/s390x"
    };
    let for_own = registry.put_like(&format!("{repository}:own"), &base, &own).await;
    let for_foreign = registry
        .put_like(&format!("{repository}:foreign"), &base, foreign)
        .await;
    registry
        .put_index(name, &[(&for_own, &own), (&for_foreign, foreign)])
        .await;
    let index = TestImage::named(format!("{}/{name}", registry.address));
    (index, own, foreign.to_owned())
}

/// Builds a pool, and asserts by the variables and volumes of a container that it is made from the image for this
/// platform. Only the name of the platform is foreign: the programs are this machine's.
async fn builds_for(builder: PoolBuilder, platform: &str) {
    let pool = builder.exec_via(ExecVia::Docker).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let told = c
        .exec(["sh", "-c", "echo $PLATFORM; grep ' /of/' /proc/mounts"])
        .await
        .unwrap();
    let told = told.stdout_lossy();
    let (_, architecture) = platform.split_once('/').unwrap();
    assert!(
        told.starts_with(&format!("{platform}\ntmpfs /of/{architecture} ")) && told.lines().count() == 2,
        "{told}"
    );
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn images_of_two_platforms_under_one_name_are_kept_apart() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let (image, own, foreign) = index_of_two(&registry, &engine, "both:1").await;
    let pool = || pool_of(&engine, &image.name);
    // If the name holds one image at a time, the other image loses its name and is used by its id.
    let mut by_id = Vec::new();
    builds_for(pool(), &own).await;
    for platform in [&foreign, &own, &foreign] {
        builds_for(pool().platform(platform), platform).await;
        builds_for(pool().platform(platform).pull(PullPolicy::Never), platform).await;
        let found = engine.bollard().inspect_image(&image.name).await.unwrap();
        by_id.push(TestImage::named(found.id.unwrap()));
    }
    // Engines also accept other names of the same platform.
    if own == "linux/amd64" {
        builds_for(pool().platform("linux/x86_64"), &own).await;
    }
    if keeps_several_platforms(engine.bollard()).await {
        drop(registry);
        for platform in [&foreign, &own] {
            builds_for(pool().platform(platform), platform).await;
        }
        builds_for(pool(), &own).await;
    }
}

#[tokio::test]
async fn an_image_of_another_platform_does_not_count_as_the_image() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let (image, own, foreign) = index_of_two(&registry, &engine, "other:1").await;
    let pool = || pool_of(&engine, &image.name);
    builds_for(pool().platform(&foreign), &foreign).await;
    for builder in [pool(), pool().platform(&own)] {
        let (kind, text) = fails(builder.pull(PullPolicy::Never)).await;
        assert_eq!(kind, EngineErrorKind::WrongPlatform, "{text}");
    }
    match keeps_several_platforms(engine.bollard()).await {
        // The missing platform is pulled.
        true => builds_for(pool(), &own).await,
        // A pull would move the name to another image.
        false => assert_eq!(fails(pool()).await.0, EngineErrorKind::WrongPlatform),
    }
}

#[tokio::test]
async fn an_image_without_a_name_is_found_by_its_id() {
    let (engine, registry) = (engine().await, Registry::open().await);
    let docker = engine.bollard();
    let image = TestImage::named(format!("{}/nameless:1", registry.address));
    let id = TestImage::named(image.commit(docker).await);
    let id = TestImage::named(match id.name.starts_with("sha256:") {
        true => id.name.clone(),
        false => format!("sha256:{}", id.name),
    });
    // Another image takes the name.
    image.commit(docker).await;
    let found = docker.inspect_image(&id.name).await.unwrap();
    assert_eq!(found.repo_tags.unwrap_or_default(), [""; 0]);
    for policy in [PullPolicy::Never, PullPolicy::IfMissing] {
        let pool = pool_of(&engine, &id.name).pull(policy).build().await.unwrap();
        a_command_runs(&pool).await;
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_refresh_follows_a_tag_that_has_moved() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::open().await);
    let docker = engine.bollard();
    let image = registry.fill(docker, "rolling:1").await;
    let pool = pool_of(&engine, &image.name).pull(PullPolicy::Always).min_idle(1);
    let pool = pool.build().await.unwrap();
    let image_of = async || {
        let c = pool.acquire().await.unwrap();
        let found = docker.inspect_container(c.id(), None::<bollard::query_parameters::InspectContainerOptions>);
        found.await.unwrap().image.unwrap()
    };
    let first = image_of().await;
    // This image will lose its name; its id is enough to remove it.
    let _first = TestImage::named(&first);
    // The image is the same: the containers are replaced all the same.
    pool.refresh().await.unwrap();
    assert_eq!(image_of().await, first);
    let second = image.commit(docker).await;
    registry.push(docker, &image).await;
    image.forget();
    pool.refresh().await.unwrap();
    let now = image_of().await;
    assert_ne!(now, first);
    // Podman repacks images when it pushes and pulls them, so that their ids differ.
    if !crate::support::is_podman().await {
        assert_eq!(now, second);
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_refusal_of_a_registry_is_classified_by_its_status() {
    if lacks(Capability::Loopback) {
        return;
    }
    let engine = engine().await;
    let errors = r#"{"errors":[{"code":"CODE","message":"a reason"}]}"#;
    for (status, body, expected) in [
        ("500 Internal Server Error", "oh", EngineErrorKind::RegistryUnreachable),
        ("502 Bad Gateway", "<html>", EngineErrorKind::RegistryUnreachable),
        ("503 Service Unavailable", errors, EngineErrorKind::RegistryUnreachable),
        ("429 Too Many Requests", "slowly", EngineErrorKind::RegistryUnreachable),
        ("403 Forbidden", "no", EngineErrorKind::LoginRefused),
        ("404 Not Found", "what", EngineErrorKind::ImageNotFound),
    ] {
        let address = refusing(status, body).await;
        let (kind, text) = fails(pool_of(&engine, &format!("{address}/a:1"))).await;
        assert_eq!(kind, expected, "{status} {body}: {text}");
    }
}
