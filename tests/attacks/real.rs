//! Attacks that need the real engine.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{MARK, busybox, engine, processes, unique_mark};
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::InspectContainerOptions;
use dockerpool::{Command, ExecVia, Pool, PoolBuilder, PooledContainer};
use serde_json::{Value, json};

fn pool(raw: Value) -> PoolBuilder {
    Pool::builder("attack-real")
        .image(busybox())
        .min_idle(0)
        .max_total(2)
        .raw_config(raw)
}

async fn inspect(c: &PooledContainer) -> ContainerInspectResponse {
    engine()
        .await
        .bollard()
        .inspect_container(c.id(), None::<InspectContainerOptions>)
        .await
        .unwrap()
}

async fn sh(c: &PooledContainer, script: &str) -> String {
    let output = c.exec(["sh", "-c", script]).await.unwrap();
    format!("{} {}", output.stdout_lossy().trim(), output.stderr_lossy().trim())
}

/// `""` in `NetworkMode`: the container has the engine's default network, a sandbox has none.
#[tokio::test]
async fn an_empty_network_mode_is_no_network() {
    let pool = match pool(json!({"HostConfig": {"NetworkMode": ""}})).build().await {
        Ok(pool) => pool,
        Err(error) => return println!("{error}"),
    };
    let c = pool.acquire().await.unwrap();
    let devices = sh(&c, "ls /sys/class/net; ip addr").await;
    let mode = inspect(&c).await.host_config.unwrap().network_mode;
    drop(c);
    pool.shutdown().await.unwrap();
    assert!(!devices.contains("eth0"), "{mode:?}: {devices}");
}

/// `Readonly` for `ReadOnly` within `Mounts`.
#[tokio::test]
async fn a_mount_that_was_meant_to_be_read_only_is_not_writable() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let raw = json!({"HostConfig": {"Mounts": [
        {"Type": "bind", "Source": dir.path(), "Target": "/data", "Readonly": true},
    ]}});
    let pool = match pool(raw).build().await {
        Ok(pool) => pool,
        Err(error) => return println!("{error}"),
    };
    let c = pool.acquire().await.unwrap();
    let said = sh(&c, "touch /data/written").await;
    drop(c);
    pool.shutdown().await.unwrap();
    assert!(
        !dir.path().join("written").exists(),
        "the host's directory was written to: {said}"
    );
}

/// What engines quote of bad settings.
#[tokio::test]
async fn no_secret_is_in_an_error_of_the_real_engine() {
    let mut leaks = Vec::new();
    for raw in [json!({"Env": ["=hunter2"]}), json!({"Env": ["TOKEN=hunter2\u{0}x"]})] {
        let built = pool(raw.clone()).acquire_timeout(Duration::from_secs(8)).build().await;
        let said = match built {
            Ok(pool) => {
                let said = match pool.acquire().await {
                    Ok(c) => format!("acquired {:?} {:?}", c.taint(), c.command("true").status().await),
                    Err(error) => format!("{error} {error:?}"),
                };
                let _ = pool.shutdown().await;
                said
            }
            Err(error) => format!("{error} {error:?}"),
        };
        println!("{raw}: {said}\n");
        if said.contains("hunter2") {
            leaks.push(format!("{raw}: {said}"));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

/// Owned children are dropped at random moments, on other threads, with and without clones of the guard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_command_of_a_dropped_owned_child_is_in_the_next_lease() {
    for via in [ExecVia::Agent, ExecVia::Docker] {
        let rounds = if via == ExecVia::Agent { 60 } else { 6 };
        let pool = Pool::builder("attack-owned")
            .image(busybox())
            .min_idle(0)
            .max_total(1)
            .exec_via(via)
            .build()
            .await
            .unwrap();
        for round in 0..rounds {
            let lease = Arc::new(pool.acquire().await.unwrap());
            let mark = unique_mark();
            let mut command = Command::new("sh");
            command.args(["-c", "trap '' TERM INT; (setsid sh -c 'trap \"\" TERM; while :; do sleep 1000 & wait; done' &) ; while :; do sleep 1000; done"]).env(MARK, &mark);
            let spawn = command.spawn_owned(lease.clone());
            let child = tokio::time::timeout(Duration::from_micros(300 * round), spawn).await;
            tokio::time::sleep(Duration::from_millis(round % 20)).await;
            match (round % 5, child) {
                (_, Err(_)) => drop(lease),
                (0, Ok(child)) => {
                    drop(lease);
                    std::thread::spawn(move || drop(child)).join().unwrap()
                }
                (1, Ok(child)) => {
                    drop(child);
                    drop(lease)
                }
                (2, Ok(child)) => {
                    drop(child.unwrap().into_guard());
                    drop(lease)
                }
                (3, Ok(child)) => {
                    let _ = std::thread::spawn(move || {
                        let _both = (lease, child);
                        panic!("with both")
                    })
                    .join();
                }
                (_, Ok(child)) => {
                    drop(child.unwrap().detach());
                    drop(lease)
                }
            }
            let next = pool.acquire().await.unwrap();
            assert_eq!(processes(&mark), [0; 0], "{via:?} {round}");
            assert_eq!(next.taint(), None);
        }
        pool.shutdown().await.unwrap();
    }
}
