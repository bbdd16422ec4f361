//! Typed setters and the raw configuration: all of it reaches the engine, and what contradicts itself is refused.

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, HostConfig};
use bollard::query_parameters::InspectContainerOptions;
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{Error, Network, Pool, PoolBuilder, PooledContainer, labels};
use support::{engine, is_podman, pool};

async fn inspect(c: &PooledContainer) -> ContainerInspectResponse {
    let options = None::<InspectContainerOptions>;
    engine()
        .await
        .bollard()
        .inspect_container(c.id(), options)
        .await
        .unwrap()
}

async fn sh(c: &PooledContainer, script: &str) -> String {
    let output = c.exec(["sh", "-c", script]).await.unwrap();
    output.stdout_lossy().trim().to_owned()
}

#[tokio::test]
async fn typed_setters_reach_the_engine_and_the_container() {
    let is_podman = is_podman().await;
    // It does not know the owner of a file system in memory.
    let owner = if is_podman { "mode=1777" } else { "uid=123" };
    let pool = pool("typed")
        .memory(48 << 20)
        .cpus(0.5)
        .pids_limit(77)
        .tmpfs("/scratch", 1 << 20)
        .tmpfs_with("/owned", format!("size=2m,{owner},exec"))
        .read_only_root(true)
        .runtime("runc")
        .shm_size(3 << 20)
        .ulimit("nofile", 100, 200)
        .cap_drop_all()
        .cap_add("NET_BIND_SERVICE")
        .user("123:456")
        .working_dir("/owned")
        .env("A", "1")
        .label("mine", "yes")
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let found = inspect(&c).await;
    let host = found.host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(48 << 20), Some(48 << 20)));
    assert_eq!((host.nano_cpus, host.pids_limit), (Some(500_000_000), Some(77)));
    assert_eq!((host.readonly_rootfs, host.shm_size), (Some(true), Some(3 << 20)));
    // Podman says `oci`, whatever it uses.
    assert_eq!(host.runtime.as_deref(), Some(if is_podman { "oci" } else { "runc" }));
    // Podman lists them; what it comes to is seen below.
    assert!(is_podman || host.cap_drop.unwrap() == ["ALL"]);
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert_eq!(found.config.unwrap().labels.unwrap()["mine"], "yes");

    assert_eq!(sh(&c, "id -u; id -g; pwd; echo $A").await, "123\n456\n/owned\n1");
    assert_eq!(
        sh(&c, "touch /x 2>&1; touch /scratch/x && echo ok")
            .await
            .lines()
            .last(),
        Some("ok")
    );
    assert!(sh(&c, "touch /x 2>&1").await.contains("Read-only"));
    // What is executed may have the hard limit as its soft one: with Podman always, with runc 1.1 now and then.
    let limits = sh(&c, "ulimit -Sn; ulimit -Hn").await;
    assert!(matches!(&*limits, "100\n200" | "200\n200"), "{limits}");
    let (owner, mode) = if is_podman { ("0", "1777") } else { ("123", "755") };
    assert_eq!(sh(&c, "stat -c '%u %a' /owned").await, format!("{owner} {mode}"));
    let sizes = sh(&c, "df -k /scratch /owned /dev/shm | awk 'NR>1 {print $2}'").await;
    assert_eq!(sizes, "1024\n2048\n3072");
    // CAP_NET_BIND_SERVICE is the tenth.
    assert_eq!(
        sh(&c, "grep CapBnd /proc/self/status").await,
        "CapBnd:\t0000000000000400"
    );
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_raw_configuration_reaches_the_engine_whole_beside_the_setters() {
    let config = ContainerCreateBody {
        hostname: Some("raw-host".into()),
        env: Some(vec!["RAW=1".into()]),
        labels: Some(HashMap::from([("raw".into(), "yes".into())])),
        ..Default::default()
    };
    let host = HostConfig {
        oom_score_adj: Some(500),
        memory: Some(50 << 20),
        extra_hosts: Some(vec!["somewhere:10.1.2.3".into()]),
        tmpfs: Some(HashMap::from([("/raw".into(), "size=1m".into())])),
        ..Default::default()
    };
    // Without the memory that `support::pool` sets.
    let pool = Pool::builder("raw")
        .image(support::busybox())
        .min_idle(0)
        .docker_config(config.clone())
        .host_config(host.clone())
        .env("TYPED", "2")
        .tmpfs("/typed", 1 << 20)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    assert_eq!(sh(&c, "hostname; echo $RAW $TYPED").await, "raw-host\n1 2");
    assert_eq!(sh(&c, "stat -f -c %T /raw /typed").await, "tmpfs\ntmpfs");
    assert_eq!(sh(&c, "cat /proc/1/oom_score_adj").await, "500");
    let found = inspect(&c).await;
    let inspected = found.host_config.unwrap();
    assert_eq!(
        (inspected.memory, inspected.memory_swap),
        (Some(50 << 20), Some(50 << 20))
    );
    assert_eq!(inspected.extra_hosts, host.extra_hosts);
    assert_eq!(inspected.pids_limit, Some(512), "a default where neither says anything");
    let found = found.config.unwrap().labels.unwrap();
    assert_eq!((found["raw"].as_str(), found[labels::POOL].as_str()), ("yes", "raw"));
    drop(c);
    pool.shutdown().await.unwrap();
    // What was given is as it was.
    assert_eq!(config.labels.unwrap().len(), 1);
    assert_eq!(host.network_mode, None);
}

/// The fields a build complains about.
async fn complaints(change: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Vec<String> {
    let engine = FakeEngine::new();
    let builder = Pool::builder("name").image("image").engine(Arc::new(engine.clone()));
    let error = change(builder).build().await.unwrap_err();
    assert_eq!(engine.calls(Call::Check), 0, "nothing is done");
    match error {
        Error::Config(problems) => problems.iter().map(|problem| problem.field().to_owned()).collect(),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn what_is_said_twice_and_differently_or_breaks_the_pool_is_refused_by_field_at_build() {
    let host = || HostConfig {
        memory: Some(64 << 20),
        network_mode: Some("bridge".into()),
        auto_remove: Some(false),
        ..Default::default()
    };
    let found = complaints(|builder| {
        builder
            .host_config(host())
            .memory(32 << 20)
            .network(Network::none())
            .user("a")
            .docker_config(ContainerCreateBody {
                user: Some("b".into()),
                tty: Some(true),
                ..Default::default()
            })
    })
    .await;
    assert_eq!(
        found,
        [
            "host_config.auto_remove",
            "docker_config.tty",
            "docker_config.user",
            "host_config.memory",
            "host_config.network_mode"
        ]
    );
}

#[tokio::test]
async fn bad_values_of_the_setters_are_named() {
    assert_eq!(complaints(|b| b.tmpfs("here", 1)).await, ["tmpfs"]);
    assert_eq!(complaints(|b| b.tmpfs("/", 1)).await, ["tmpfs"]);
    assert_eq!(complaints(|b| b.tmpfs("/a", 0)).await, ["tmpfs"]);
    assert_eq!(complaints(|b| b.runtime("")).await, ["runtime"]);
    assert_eq!(complaints(|b| b.shm_size(0)).await, ["shm_size"]);
    assert_eq!(complaints(|b| b.ulimit("nofile", 2, 1)).await, ["ulimit"]);
    assert_eq!(complaints(|b| b.cap_add("")).await, ["cap_add"]);
    assert_eq!(
        complaints(|b| b.max_concurrent_removals(0)).await,
        ["max_concurrent_removals"]
    );
}

#[tokio::test]
async fn containers_tell_by_their_labels_whose_they_are_and_what_they_were_made_from() {
    let build = |memory: u64| {
        let engine = FakeEngine::new();
        let builder = Pool::builder("labelled").image("any").engine(Arc::new(engine.clone()));
        let build = builder.memory(memory).build();
        async move { (build.await.unwrap(), engine.containers()[0].labels.clone()) }
    };
    let ((a, of_a), (_b, of_b), (_c, of_c)) = tokio::join!(build(64 << 20), build(64 << 20), build(65 << 20));
    for (name, value) in labels::of_pool("labelled") {
        assert_eq!(of_a[&name], value);
    }
    assert_eq!(of_a[labels::INSTANCE], a.instance());
    assert_ne!(of_a[labels::INSTANCE], of_b[labels::INSTANCE]);
    assert_eq!(of_a[labels::SPEC], of_b[labels::SPEC]);
    assert_ne!(of_a[labels::SPEC], of_c[labels::SPEC]);
    assert!(
        of_a[labels::OWNER].contains(&format!(".{}.", std::process::id())),
        "{of_a:?}"
    );
    let created: u64 = of_a[labels::CREATED].parse().unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert!(now.abs_diff(created) < 600);
    assert!(of_a.keys().all(|name| labels::is_reserved(name)));
}
