//! What typed setters were given explicitly, and a raw configuration that undoes it in another field.

use dockerpool::{ExecVia, Network, Pool, PoolBuilder, PooledContainer};
use serde_json::json;

use crate::support::{busybox, is_podman};

fn pool() -> PoolBuilder {
    Pool::builder("attack-conflict")
        .image(busybox())
        .min_idle(0)
        .max_total(1)
        .exec_via(ExecVia::Agent)
}

async fn sh(c: &PooledContainer, script: &str) -> String {
    let output = c.exec(["sh", "-c", script]).await.unwrap();
    format!("{} {}", output.stdout_lossy().trim(), output.stderr_lossy().trim())
}

/// Returns what a script prints in a container; `None` where the settings are refused.
async fn prints(builder: PoolBuilder, script: &str) -> Option<String> {
    let refused = |error: dockerpool::Error| {
        println!("refused: {error}");
        None::<String>
    };
    let pool = match builder.build().await {
        Ok(pool) => pool,
        Err(error) => return refused(error),
    };
    let said = match pool.acquire().await {
        Ok(c) => Some(sh(&c, script).await),
        Err(error) => refused(error),
    };
    pool.shutdown().await.unwrap();
    println!("{said:?}");
    said
}

/// The engine connects the container to each network of `EndpointsConfig`, whatever `NetworkMode` is.
#[tokio::test]
async fn no_network_that_was_asked_for_is_no_network() {
    let raw = json!({"NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}});
    let builder = pool().network(Network::None).raw_config(raw);
    let said = prints(builder, "ls /sys/class/net").await;
    assert!(said.is_none_or(|said| !said.contains("eth0")));
}

/// The same where the default is all that says it: `plan()` says that there is no network.
#[tokio::test]
async fn a_plan_without_a_network_makes_a_container_without_one() {
    let raw = json!({"NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}});
    let plan = dockerpool::ContainerSpec::new(busybox()).raw_config(raw.clone()).plan();
    let said = prints(pool().raw_config(raw), "ls /sys/class/net").await;
    let has_network = said.is_some_and(|said| said.contains("eth0"));
    assert!(!(has_network && plan.is_ok_and(|plan| plan.network == Some(Network::None))));
}

/// A limit of a tmpfs that the raw configuration gives with another spelling of the path.
#[tokio::test]
async fn a_tmpfs_has_the_size_that_was_asked_for() {
    let raw = json!({"HostConfig": {"Tmpfs": {"/scratch/": "size=64m"}}});
    let builder = pool().tmpfs("/scratch", 1 << 20).raw_config(raw);
    let said = prints(builder, "grep ' /scratch' /proc/self/mounts").await;
    assert!(
        said.as_ref()
            .is_none_or(|said| said.contains("size=1024k") && !said.contains("65536k")),
        "{said:?}"
    );
}

/// A mount under a tmpfs of the same path.
#[tokio::test]
async fn a_mount_is_there_that_was_asked_for() {
    for raw in [
        json!({"HostConfig": {"Binds": ["/etc:/scratch:ro"]}}),
        json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/scratch", "ReadOnly": true}]}}),
    ] {
        let builder = pool().tmpfs("/scratch", 1 << 20).raw_config(raw.clone());
        let said = prints(builder, "ls /scratch").await;
        assert!(
            said.as_ref().is_none_or(|said| said.contains("passwd")),
            "{raw}: {said:?}"
        );
    }
}

/// Typed `memory()` says: no swap.
#[tokio::test]
async fn a_memory_limit_leaves_no_swap() {
    let raw = json!({"HostConfig": {"MemorySwap": 0}});
    let builder = pool().memory(64 << 20).raw_config(raw);
    let said = prints(
        builder,
        "cat /sys/fs/cgroup/memory.swap.max /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
    )
    .await;
    assert!(
        said.as_ref()
            .is_none_or(|said| said.starts_with("0 ") || said.starts_with("0\n") || said.starts_with("67108864")),
        "{said:?}"
    );
}

/// Returns whether this machine, which is the engine's, has all capabilities of its kernel. Then it can give them to containers.
fn has_all_capabilities() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let bounds = status.lines().find_map(|line| line.strip_prefix("CapBnd:")).unwrap();
    let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    u64::from_str_radix(bounds.trim(), 16).unwrap() == (1 << (last + 1)) - 1
}

/// The engine refuses these at each start; they are no fault of a moment.
#[tokio::test]
async fn a_setting_that_is_refused_fails_the_build_at_once_as_rejected() {
    let mut wrong = Vec::new();
    let mut refused = vec![
        json!({"HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": "x", "splunk-url": "x"}}}}),
        json!({"Env": ["TOKEN=a\u{0}b"]}),
        json!({"HostConfig": {"Ulimits": [{"Name": "nofile"}]}}),
    ];
    // Podman adds those of all that it has.
    if !has_all_capabilities() && !is_podman().await {
        refused.push(json!({"HostConfig": {"CapAdd": ["ALL"]}}));
    }
    for raw in refused {
        let begun = std::time::Instant::now();
        let built = tokio::time::timeout(
            std::time::Duration::from_secs(60),
            pool()
                .min_idle(1)
                .exec_via(ExecVia::Auto)
                .raw_config(raw.clone())
                .build(),
        )
        .await;
        let took = begun.elapsed();
        match built {
            Err(_) => wrong.push(format!("{raw}: no answer within {took:?}")),
            Ok(Ok(pool)) => {
                let c = pool.acquire().await.unwrap();
                wrong.push(format!(
                    "{raw}: built, {}",
                    sh(&c, "id; pwd; hostname; grep ' /x' /proc/self/mounts").await
                ));
                drop(c);
                pool.shutdown().await.unwrap();
            }
            Ok(Err(dockerpool::Error::Config(problems))) => println!("{raw}: {problems:?}"),
            Ok(Err(error)) => {
                let kind = error.engine_error().map(dockerpool::EngineError::kind);
                println!("{raw}: {took:?} {error}");
                if error.is_retryable() {
                    wrong.push(format!("{raw}: {took:?} {kind:?} {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The engine takes the endpoints in place of the network that was named.
#[tokio::test]
async fn the_network_that_was_named_is_the_one_that_is_had() {
    let name = crate::support::unique_name("dockerpool-attack");
    let raw = json!({"NetworkingConfig": {"EndpointsConfig": {"bridge": {}}}});
    let builder = pool()
        .network(Network::create(name).internal(true).remove_on_shutdown())
        .raw_config(raw);
    let said = prints(builder, "ip route").await;
    assert!(said.as_ref().is_none_or(|said| !said.contains("default")), "{said:?}");
}
