//! Typed setters and the raw configuration: both reach the engine whole, and contradictions are refused.

use std::collections::HashMap;
use std::sync::Arc;

use crate::support::{busybox, engine, is_podman, pool, unique_name};
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, HealthConfig, HostConfig, Mount, MountType,
    ResourcesUlimits,
};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions,
    RemoveImageOptions, WaitContainerOptions,
};
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{EngineErrorKind, Error, ExecVia, Network, Pool, PoolBuilder, PooledContainer, labels};
use futures_util::StreamExt;

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
    // Podman's API has no option for the owner of a tmpfs.
    let owner = if is_podman { "mode=1777" } else { "uid=123" };
    // On Podman, only the default runtime can be requested.
    let runtime = crate::support::engine()
        .await
        .bollard()
        .info()
        .await
        .unwrap()
        .default_runtime
        .unwrap();
    let pool = pool("typed")
        .memory(48 << 20)
        .cpus(0.5)
        .pids_limit(77)
        .tmpfs("/scratch", 1 << 20)
        .tmpfs_with("/owned", format!("size=2m,{owner},exec"))
        .read_only_root(true)
        .runtime(&runtime)
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
    // Podman reports `oci` for every runtime.
    assert_eq!(host.runtime.as_deref(), Some(if is_podman { "oci" } else { &*runtime }));
    // Podman reports a list of its own. The capabilities in force are checked below.
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
    // A command may get the hard limit as its soft limit: always on Podman, sometimes with runc 1.1.
    let limits = sh(&c, "ulimit -Sn; ulimit -Hn").await;
    assert!(matches!(&*limits, "100\n200" | "200\n200"), "{limits}");
    let (owner, mode) = if is_podman { ("0", "1777") } else { ("123", "755") };
    assert_eq!(sh(&c, "stat -c '%u %a' /owned").await, format!("{owner} {mode}"));
    let sizes = sh(&c, "df -k /scratch /owned /dev/shm | awk 'NR>1 {print $2}'").await;
    assert_eq!(sizes, "1024\n2048\n3072");
    // CAP_NET_BIND_SERVICE has the number 10.
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
    // Not `crate::support::pool`, since that sets a memory limit.
    let pool = Pool::builder("raw")
        .image(crate::support::busybox())
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
    assert_eq!(
        inspected.pids_limit,
        Some(512),
        "the default applies if neither sets a limit"
    );
    let found = found.config.unwrap().labels.unwrap();
    assert_eq!((found["raw"].as_str(), found[labels::POOL].as_str()), ("yes", "raw"));
    drop(c);
    pool.shutdown().await.unwrap();
    // The caller's values are unchanged.
    assert_eq!(config.labels.unwrap().len(), 1);
    assert_eq!(host.network_mode, None);
}

/// Returns the fields a build complains about.
async fn complaints(change: impl FnOnce(PoolBuilder) -> PoolBuilder) -> Vec<String> {
    let engine = FakeEngine::new();
    let builder = Pool::builder("name").image("image").engine(Arc::new(engine.clone()));
    let error = change(builder).build().await.unwrap_err();
    assert_eq!(engine.calls(Call::Check), 0, "no call is made");
    match error {
        Error::Config(problems) => problems.iter().map(|problem| problem.field().to_owned()).collect(),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn contradictions_and_settings_that_break_the_pool_are_refused_by_field() {
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
async fn labels_name_the_owner_of_a_container_and_the_spec_it_was_made_from() {
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

/// Returns pool builders for all ways of running commands.
fn ways(name: &str) -> [PoolBuilder; 3] {
    [
        pool(name).exec_via(ExecVia::Docker),
        pool(name).exec_via(ExecVia::Agent),
        pool(name).exec_via(ExecVia::Agent).without_agent_socket(),
    ]
}

/// The capabilities that are dropped by default, by their numbers in `linux/capability.h`.
const NET_RAW: u64 = 1 << 13;
const DROPPED: u64 = NET_RAW | 1 << 27 | 1 << 29 | 1 << 31 | 1 << 10 | 1 << 18;
/// `CHOWN`, `KILL`, `SETGID`, `SETUID`.
const KEPT: u64 = 1 | 1 << 5 | 1 << 6 | 1 << 7;

async fn capabilities(c: &PooledContainer, of: &str, set: &str) -> u64 {
    let found = sh(c, &format!("awk '/^{set}:/ {{print $2}}' /proc/{of}/status")).await;
    u64::from_str_radix(&found, 16).unwrap_or_else(|_| panic!("{found:?}"))
}

#[tokio::test]
async fn the_default_hardening_is_in_force_inside_the_container() {
    let is_podman = is_podman().await;
    let info = engine().await.bollard().info().await.unwrap();
    // `crun exec` gives a command the value of its caller.
    let is_crun = info.default_runtime.unwrap().ends_with("crun");
    for (pool, is_engines) in ways("hardened").into_iter().zip([true, false, false]) {
        let pool = pool.build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        for of in ["self", "1"] {
            for set in ["CapBnd", "CapEff", "CapPrm"] {
                let found = capabilities(&c, of, set).await;
                assert_eq!(found & DROPPED, 0, "{of} {set} {found:x}");
                assert_eq!(found & KEPT, KEPT, "{of} {set} {found:x}");
            }
        }
        assert_eq!(sh(&c, "cat /proc/1/oom_score_adj").await, "500");
        let of_command: i32 = sh(&c, "cat /proc/self/oom_score_adj").await.parse().unwrap();
        assert!(of_command >= 500 || is_crun && is_engines, "{of_command}");
        assert_eq!(sh(&c, "ulimit -Sc; ulimit -Hc").await, "0\n0");
        // The library's own needs are met: to run as other users, to give files to them, and to end their processes.
        let mut other = c.command("id");
        assert_eq!(
            other.args(["-u"]).user("123:456").output_string().await.unwrap(),
            "123\n"
        );
        let script = "touch /tmp/x && chown 123:456 /tmp/x && stat -c %u:%g /tmp/x";
        assert_eq!(sh(&c, script).await, "123:456");
        let host = inspect(&c).await.host_config.unwrap();
        assert_eq!(host.oom_score_adj, Some(500));
        // Podman reports only the capabilities that it would have granted. Those in force are checked above.
        let dropped = host.cap_drop.unwrap_or_default();
        for name in [
            "NET_RAW",
            "MKNOD",
            "AUDIT_WRITE",
            "SETFCAP",
            "NET_BIND_SERVICE",
            "SYS_CHROOT",
        ] {
            assert!(
                is_podman || dropped.iter().any(|dropped| dropped.trim_start_matches("CAP_") == name),
                "{dropped:?}"
            );
        }
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn the_default_hardening_yields_to_setters_and_to_the_raw_configuration() {
    for pool in ways("softened") {
        let core = ResourcesUlimits {
            name: Some("core".into()),
            soft: Some(4096),
            hard: Some(4096),
        };
        let pool = pool
            .cap_add("NET_RAW")
            .host_config(HostConfig {
                // More than the score of a user's own engine under systemd (200), below which no container of it can be.
                oom_score_adj: Some(300),
                ulimits: Some(vec![core]),
                ..Default::default()
            })
            .build()
            .await
            .unwrap();
        let c = pool.acquire().await.unwrap();
        let bounding = capabilities(&c, "self", "CapBnd").await;
        assert_eq!(bounding & DROPPED, NET_RAW, "{bounding:x}");
        assert_eq!(sh(&c, "cat /proc/1/oom_score_adj").await, "300");
        // The limit is in blocks of 512 bytes.
        assert_eq!(sh(&c, "ulimit -Hc").await, "8");
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

/// An image that declares two volumes and a health check, which creates a file. Removed when dropped.
struct Declaring(String);

impl Declaring {
    async fn make() -> Self {
        let docker = engine().await.bollard().clone();
        let name = unique_name("dockerpool-test-declaring");
        let body = ContainerCreateBody {
            image: Some(busybox()),
            cmd: Some(vec!["true".into()]),
            ..Default::default()
        };
        let options = CreateContainerOptions {
            name: Some(name.clone()),
            ..Default::default()
        };
        let id = docker.create_container(Some(options), body).await.unwrap().id;
        let options = CommitContainerOptions {
            container: Some(id.clone()),
            repo: Some(format!("localhost/{name}")),
            tag: Some("1".into()),
            // Podman 4.3 does not take volumes from the configuration.
            changes: Some("VOLUME /data\nVOLUME /more/data".into()),
            ..Default::default()
        };
        let config = ContainerConfig {
            healthcheck: Some(HealthConfig {
                test: Some(vec!["CMD-SHELL".into(), "touch /checked".into()]),
                interval: Some(100_000_000),
                ..Default::default()
            }),
            ..Default::default()
        };
        let made = docker.commit_container(options, config).await;
        let force = RemoveContainerOptions {
            force: true,
            v: true,
            ..Default::default()
        };
        docker.remove_container(&id, Some(force)).await.unwrap();
        made.unwrap();
        Self(format!("localhost/{name}:1"))
    }
}

impl Drop for Declaring {
    fn drop(&mut self) {
        let image = self.0.clone();
        crate::support::finish(async move {
            let docker = engine().await.bollard().clone();
            let force = RemoveImageOptions {
                force: true,
                ..Default::default()
            };
            let _ = docker.remove_image(&image, Some(force), None).await;
        });
    }
}

/// Returns the types of the mounts on a directory of a container.
fn mounted(found: &ContainerInspectResponse, on: &str) -> Vec<String> {
    let mounts = found.mounts.iter().flatten();
    let on_it = mounts.filter(|mount| mount.destination.as_deref() == Some(on));
    on_it.filter_map(|mount| mount.typ.clone()).collect()
}

#[tokio::test]
async fn declarations_of_an_image_apply_only_on_request() {
    let image = Declaring::make().await;
    let is_podman = is_podman().await;
    for pool in ways("declaring") {
        let pool = pool
            .image(&image.0)
            .user("123:456")
            .read_only_root(true)
            .build()
            .await
            .unwrap();
        let c = pool.acquire().await.unwrap();
        let found = inspect(&c).await;
        // Without a health check, the state is absent or `none`.
        let health = found.state.as_ref().and_then(|state| state.health.as_ref()?.status);
        assert!(
            health.is_none_or(|health| matches!(&*health.to_string(), "" | "none")),
            "{health:?}"
        );
        for path in ["/data", "/more/data"] {
            assert!(!mounted(&found, path).contains(&"volume".to_owned()), "{path}");
            let line = sh(&c, &format!("awk '$2 == \"{path}\"' /proc/mounts")).await;
            assert!(line.starts_with("tmpfs ") && line.contains("size=32768k"), "{line:?}");
            assert!(line.contains("noexec"), "{line:?}");
            // Any user can write, up to the size of the tmpfs and before the memory limit of the container.
            let write = format!("head -c 40000000 /dev/zero > {path}/x; wc -c < {path}/x; rm {path}/x");
            let written: u64 = sh(&c, &write).await.parse().unwrap();
            assert!((30 << 20..=32 << 20).contains(&written), "{path}: {written}");
        }
        drop(c);
        pool.shutdown().await.unwrap();
    }

    // Here the health check and the volume are requested.
    for pool in ways("declaring-asked") {
        let mine = Mount {
            target: Some("/more/data".into()),
            typ: Some(MountType::TMPFS),
            ..Default::default()
        };
        let pool = pool
            .image(&image.0)
            .docker_config(ContainerCreateBody {
                healthcheck: Some(HealthConfig::default()),
                volumes: Some(vec!["/data".into()]),
                host_config: Some(HostConfig {
                    mounts: Some(vec![mine]),
                    ..Default::default()
                }),
                ..Default::default()
            })
            .build()
            .await
            .unwrap();
        let c = pool.acquire().await.unwrap();
        let found = inspect(&c).await;
        assert_eq!(mounted(&found, "/data"), ["volume"]);
        assert!(
            !sh(&c, "awk '$2 == \"/more/data\"' /proc/mounts")
                .await
                .contains("size=32768k")
        );
        // Podman leaves the checks to systemd, which may not run.
        if !is_podman {
            crate::support::eventually("the health check of the image runs", async || {
                sh(&c, "ls /").await.contains("checked")
            })
            .await;
        }
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_tmpfs_is_empty_and_noexec_unless_requested_otherwise() {
    let mount = |target: &str, options: Option<Vec<Vec<String>>>| Mount {
        target: Some(target.into()),
        typ: Some(MountType::TMPFS),
        tmpfs_options: options.map(|options| bollard::models::MountTmpfsOptions {
            size_bytes: Some(4 << 20),
            options: Some(options),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut mounts = vec![mount("/mounted", None)];
    // Docker has these options since version 1.46 of its API. Podman takes them from another field.
    let has_options = is_podman().await || {
        let version = engine().await.bollard().version().await.unwrap();
        let minor = version.api_version.unwrap();
        minor.split_once('.').unwrap().1.parse::<u32>().unwrap() >= 46
    };
    if has_options {
        mounts.push(mount("/mounted-exec", Some(vec![vec!["exec".into()]])));
    }
    let host = HostConfig {
        tmpfs: Some(HashMap::from([
            ("/raw".into(), "size=4m".into()),
            ("/raw-exec".into(), "size=4m,exec".into()),
        ])),
        mounts: Some(mounts),
        ..Default::default()
    };
    let pool = pool("executes")
        .host_config(host)
        // A directory that has files in the image.
        .tmpfs("/etc", 4 << 20)
        .tmpfs_with("/typed-exec", "size=4m,exec")
        .min_idle(1)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    assert_eq!(
        sh(&c, "ls /etc | grep -vxE 'hosts|hostname|resolv.conf|mtab'").await,
        ""
    );
    for path in ["/etc", "/raw", "/mounted", "/raw-exec", "/typed-exec", "/mounted-exec"] {
        if path == "/mounted-exec" && !has_options {
            continue;
        }
        let script = format!("cp \"$(readlink -f /bin/busybox)\" {path}/busybox; {path}/busybox true 2>&1; echo $?");
        let said = sh(&c, &script).await;
        let expected = if path.ends_with("exec") { "0" } else { "126" };
        assert_eq!(said.lines().last(), Some(expected), "{path}: {said}");
        let line = sh(&c, &format!("awk '$2 == \"{path}\"' /proc/mounts")).await;
        assert!(line.contains("nosuid") && line.contains("nodev"), "{line}");
    }
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_limit_that_the_kernel_lacks_fails_the_build() {
    let host = HostConfig {
        blkio_weight: Some(300),
        ..Default::default()
    };
    let is_set = weight_is_set(&host).await;
    for min_idle in [1, 0] {
        let builder = pool("discarded").host_config(host.clone()).min_idle(min_idle);
        let result = match builder.build().await {
            Ok(pool) => {
                let acquired = pool.acquire_timeout(std::time::Duration::from_secs(60)).await.map(drop);
                pool.shutdown().await.unwrap();
                acquired
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => assert!(is_set),
            Err(error) => {
                let source = error.engine_error().unwrap();
                assert_eq!(
                    (is_set, source.kind()),
                    (false, EngineErrorKind::LimitDiscarded),
                    "{source}"
                );
                assert!(source.to_string().contains("eight"), "{source}");
            }
        }
    }
}

/// Returns whether the kernel applies this I/O weight to a container that the engine creates without the library.
async fn weight_is_set(host: &HostConfig) -> bool {
    let docker = engine().await.bollard().clone();
    // Values that stand for no limit are filtered out.
    let script = "cd /sys/fs/cgroup; cat io.weight io.bfq.weight blkio/blkio.weight blkio/blkio.bfq.weight 2>/dev/null | \
                  grep -vxE '(default )?100|500' | grep -q .";
    let body = ContainerCreateBody {
        image: Some(busybox()),
        entrypoint: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        host_config: Some(HostConfig {
            network_mode: Some("none".into()),
            ..host.clone()
        }),
        ..Default::default()
    };
    let id = docker
        .create_container(None::<CreateContainerOptions>, body)
        .await
        .unwrap()
        .id;
    let is_set = match docker.start_container(&id, None).await {
        Ok(()) => {
            let mut end = docker.wait_container(&id, None::<WaitContainerOptions>);
            // bollard reports a nonzero exit code as an error.
            matches!(end.next().await, Some(Ok(_)))
        }
        Err(error) => {
            println!("{error}");
            false
        }
    };
    let force = RemoveContainerOptions {
        force: true,
        v: true,
        ..Default::default()
    };
    docker.remove_container(&id, Some(force)).await.unwrap();
    is_set
}

type Change = fn(&mut HostConfig, &Around);

/// Holds a container and a network that settings can name.
struct Around {
    container: String,
    network: String,
}

fn some(words: &[&str]) -> Option<Vec<String>> {
    Some(words.iter().map(|&word| word.to_owned()).collect())
}

fn map(entries: &[(&str, &str)]) -> Option<HashMap<String, String>> {
    let entries = entries.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Some(entries.collect())
}

fn ulimit(name: &str, soft: i64, hard: i64) -> ResourcesUlimits {
    ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(soft),
        hard: Some(hard),
    }
}

/// Usual settings, with short descriptions. Those of a row go together on most machines.
const USUAL: [&[(&str, Change)]; 12] = [
    &[
        ("none", |host, _| host.network_mode = Some("none".into())),
        ("host's ipc", |host, _| host.ipc_mode = Some("host".into())),
        ("host's pids", |host, _| host.pid_mode = Some("host".into())),
        ("no seccomp", |host, _| {
            host.security_opt = some(&["seccomp=unconfined"])
        }),
        ("tmpfs", |host, _| {
            host.tmpfs = map(&[
                ("/a/", ""),
                ("/b", "rw"),
                ("/c", "rw,nosuid,nodev,exec,size=65536k,mode=1777"),
            ]);
        }),
        ("shares", |host, _| host.cpu_shares = Some(512)),
        ("no masks", |host, _| {
            host.masked_paths = Some(Vec::new());
            host.readonly_paths = Some(Vec::new());
        }),
    ],
    &[
        ("host's network", |host, _| host.network_mode = Some("host".into())),
        ("shareable ipc", |host, _| host.ipc_mode = Some("shareable".into())),
        ("host's name", |host, _| host.uts_mode = Some("host".into())),
        ("no seccomp, as before", |host, _| {
            host.security_opt = some(&["seccomp:unconfined"])
        }),
        ("a capability", |host, _| host.cap_add = some(&["cap_sys_ptrace"])),
        ("tmpfs by percent", |host, _| {
            host.tmpfs = map(&[("/a", "size=10%,nr_inodes=1k")])
        }),
        ("ulimits", |host, _| {
            host.ulimits = Some(vec![
                ulimit("nofile", 100, 200),
                ulimit("core", 0, 0),
                ulimit("stack", 8 << 20, -1),
            ]);
        }),
        ("quota", |host, _| {
            host.cpu_quota = Some(50_000);
            host.cpu_period = Some(100_000);
        }),
    ],
    &[
        ("default network", |host, _| host.network_mode = Some("default".into())),
        ("private ipc", |host, _| host.ipc_mode = Some("private".into())),
        ("own seccomp", |host, _| {
            host.security_opt = some(&[r#"seccomp={"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}"#]);
        }),
        ("few capabilities", |host, _| {
            host.cap_drop = some(&["all"]);
            host.cap_add = some(&["KILL", "cap_setuid"]);
        }),
        ("named volume", |host, _| {
            host.binds = some(&["dockerpool-test-usual:/v:ro", "dockerpool-test-usual:/w"])
        }),
        ("device", |host, _| {
            host.devices = Some(vec![bollard::models::DeviceMapping {
                path_on_host: Some("/dev/null".into()),
                path_in_container: Some("/dev/nothing".into()),
                cgroup_permissions: Some("rwm".into()),
            }]);
        }),
        ("groups", |host, _| host.group_add = some(&["7", "8"])),
        ("sysctls", |host, _| {
            host.sysctls = map(&[("net.ipv4.ip_unprivileged_port_start", "0"), ("kernel.shmmax", "65536")]);
        }),
        ("small shm", |host, _| host.shm_size = Some(1 << 20)),
        ("hosts and servers of names", |host, _| {
            host.extra_hosts = some(&["somewhere:10.1.2.3"]);
            host.dns = some(&["10.1.2.3"]);
        }),
        ("odd memory", |host, _| {
            host.memory = Some((64 << 20) + 1);
            host.memory_reservation = Some(32 << 20);
        }),
    ],
    &[
        ("named network", |host, with| {
            host.network_mode = Some(with.network.clone())
        }),
        ("no ipc", |host, _| host.ipc_mode = Some("none".into())),
        ("host's users", |host, _| host.userns_mode = Some("host".into())),
        ("no apparmor", |host, _| {
            host.security_opt = some(&["apparmor=unconfined"])
        }),
        ("no swap limit", |host, _| host.memory_swap = Some(-1)),
    ],
    &[
        ("container's network", |host, with| {
            host.network_mode = Some(format!("container:{}", with.container));
        }),
        ("container's ipc", |host, with| {
            host.ipc_mode = Some(format!("container:{}", with.container));
        }),
        ("container's pids", |host, with| {
            host.pid_mode = Some(format!("container:{}", with.container));
        }),
        ("no label", |host, _| host.security_opt = some(&["label=disable"])),
        ("cgroup parent", |host, _| {
            host.cgroup_parent = Some("/dockerpool-test".into())
        }),
    ],
    &[
        ("label, as before", |host, _| {
            host.security_opt = some(&["label:disable"])
        }),
        ("cgroup namespace", |host, _| {
            host.cgroupns_mode = Some(bollard::models::HostConfigCgroupnsModeEnum::HOST);
        }),
    ],
    &[("new privileges", |host, _| {
        host.security_opt = some(&["no-new-privileges:false"])
    })],
    &[("cgroup slice", |host, _| {
        host.cgroup_parent = Some("dockerpooltest.slice".into())
    })],
    // Some machines refuse these.
    &[("all capabilities", |host, _| host.cap_add = some(&["ALL"]))],
    &[("privileged", |host, _| host.privileged = Some(true))],
    &[("binds", |host, _| {
        host.binds = some(&["/tmp:/t/:ro", "/tmp:/u:rprivate", "/tmp:/w:ro,rslave"])
    })],
    &[("mounts", |host, _| {
        let bind = |target: &str, propagation| Mount {
            typ: Some(MountType::BIND),
            source: Some("/tmp".into()),
            target: Some(target.into()),
            read_only: Some(true),
            bind_options: Some(bollard::models::MountBindOptions {
                propagation: Some(propagation),
                ..Default::default()
            }),
            ..Default::default()
        };
        use bollard::models::MountBindOptionsPropagationEnum as Propagation;
        host.mounts = Some(vec![
            bind("/m", Propagation::RPRIVATE),
            bind("/n/", Propagation::RSLAVE),
        ]);
    })],
];

/// Each setting is in force, or the engine refuses it. None may be reported as ignored or as a discarded limit.
#[tokio::test]
async fn usual_settings_are_read_back_unchanged() {
    let docker = engine().await.bollard().clone();
    let name = unique_name("dockerpool-test-usual");
    let label = (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_VALUE.to_owned());
    let request = bollard::models::NetworkCreateRequest {
        name: name.clone(),
        internal: Some(true),
        labels: Some([label].into()),
        ..Default::default()
    };
    docker.create_network(request).await.unwrap();
    let host = HostConfig {
        ipc_mode: Some("shareable".into()),
        ..Default::default()
    };
    let other = pool("usual-other")
        .host_config(host)
        .cmd(["sleep", "1000"])
        .build()
        .await
        .unwrap();
    let other_container = other.acquire().await.unwrap();
    let around = Around {
        container: other_container.id().to_owned(),
        network: name.clone(),
    };
    let (mut wrong, mut built) = (Vec::new(), 0);
    for row in USUAL {
        for user in [None, Some("65534:7")] {
            match build_usual(row, user, &around).await {
                Ok(()) => {
                    built += row.len();
                    continue;
                }
                Err(error) => note(row, &error, &mut wrong),
            }
            // A setting that this engine refuses hides the others.
            for alone in row.chunks(1).filter(|_| row.len() > 1) {
                match build_usual(alone, user, &around).await {
                    Ok(()) => built += 1,
                    Err(error) => note(alone, &error, &mut wrong),
                }
            }
        }
    }
    drop(other_container);
    other.shutdown().await.unwrap();
    docker.remove_network(&name).await.unwrap();
    let volume = docker.remove_volume(
        "dockerpool-test-usual",
        None::<bollard::query_parameters::RemoveVolumeOptions>,
    );
    let _ = volume.await;
    assert_eq!(wrong, [""; 0]);
    // Half of them, each with both users.
    assert!(built > USUAL.iter().map(|row| row.len()).sum::<usize>(), "{built}");
}

/// Builds a pool of one container with these settings.
async fn build_usual(settings: &[(&str, Change)], user: Option<&str>, around: &Around) -> Result<(), Error> {
    let mut host = HostConfig::default();
    for (_, change) in settings {
        change(&mut host, around);
    }
    let mut builder = Pool::builder("usual")
        .image(busybox())
        .min_idle(1)
        .max_total(1)
        .host_config(host)
        .cmd(["sleep", "1000"]);
    if let Some(user) = user {
        builder = builder.user(user);
    }
    builder.build().await?.shutdown().await.unwrap();
    Ok(())
}

/// Notes a setting that was reported as ignored, and tells of one that the engine has refused.
fn note(settings: &[(&str, Change)], error: &Error, wrong: &mut Vec<String>) {
    use EngineErrorKind::{LimitDiscarded, SettingIgnored};

    let what: Vec<_> = settings.iter().map(|(what, _)| *what).collect();
    let words = format!("{}: {error}", what.join(", "));
    match error.engine_error().map(|source| source.kind()) {
        Some(SettingIgnored | LimitDiscarded) => wrong.push(words),
        _ => println!("{words}"),
    }
}
