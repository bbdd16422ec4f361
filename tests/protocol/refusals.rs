//! Settings refused by the engine, its runtime or its kernel: `build()` fails at once, with a kind that is not
//! retryable, and names the setting. Nothing is left.

use std::collections::HashMap;
use std::time::Duration;

use crate::support::{engine, is_podman, pool, unique_name};
use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, HostConfig, HostConfigLogConfig, Mount, MountType,
};
use dockerpool::engine::{Observation, Selector};
use dockerpool::{EngineErrorKind, Error, ExecVia, PoolBuilder, labels};
use futures_util::{StreamExt, stream};

/// Describes one bad setting, and the name that the error must contain.
#[derive(Clone)]
struct Bad {
    what: &'static str,
    named: &'static str,
    host: HostConfig,
    body: ContainerCreateBody,
}

fn bad(what: &'static str, named: &'static str, host: HostConfig) -> Bad {
    let body = ContainerCreateBody::default();
    Bad {
        what,
        named,
        host,
        body,
    }
}

fn map(name: &str, value: &str) -> Option<HashMap<String, String>> {
    Some(HashMap::from([(name.to_owned(), value.to_owned())]))
}

fn option(option: &str) -> HostConfig {
    HostConfig {
        security_opt: Some(vec![option.to_owned()]),
        ..Default::default()
    }
}

fn bind(source: &str, target: &str) -> HostConfig {
    HostConfig {
        mounts: Some(vec![Mount {
            typ: Some(MountType::BIND),
            source: Some(source.to_owned()),
            target: Some(target.to_owned()),
            ..Default::default()
        }]),
        ..Default::default()
    }
}

fn device(path: &str) -> HostConfig {
    HostConfig {
        devices: Some(vec![DeviceMapping {
            path_on_host: Some(path.to_owned()),
            path_in_container: Some("/dev/x".to_owned()),
            cgroup_permissions: Some("rwm".to_owned()),
        }]),
        ..Default::default()
    }
}

fn sysctl(name: &str, value: &str) -> HostConfig {
    HostConfig {
        sysctls: map(name, value),
        ..Default::default()
    }
}

fn all() -> Vec<Bad> {
    vec![
        bad(
            "the path of a seccomp profile",
            "as JSON",
            option("seccomp=/no/such/profile.json"),
        ),
        bad(
            "an unknown seccomp action",
            "seccomp",
            option(r#"seccomp={"defaultAction":"SCMP_ACT_MAYBE"}"#),
        ),
        bad("a security option", "SecurityOpt", option("nonsense=1")),
        bad("a missing device", "Devices", device("/dev/no-such")),
        bad("a file that is no device", "Devices", device("/etc/hosts")),
        bad(
            "a device driver",
            "DeviceRequests",
            HostConfig {
                device_requests: Some(vec![DeviceRequest {
                    driver: Some("no-such".to_owned()),
                    count: Some(-1),
                    capabilities: Some(vec![vec!["gpu".to_owned()]]),
                    ..Default::default()
                }]),
                ..Default::default()
            },
        ),
        bad(
            "a storage driver option",
            "StorageOpt",
            HostConfig {
                storage_opt: map("nonsense", "1"),
                ..Default::default()
            },
        ),
        bad("a missing sysctl", "Sysctls", sysctl("net.ipv4.no_such", "1")),
        bad("a sysctl of the machine", "Sysctls", sysctl("vm.swappiness", "1")),
        bad(
            "a value of a sysctl",
            "Sysctls",
            sysctl("net.ipv4.ip_forward", "nonsense"),
        ),
        // Names that look like a transient failure, like another setting, or like a file of the library.
        bad(
            "a sysctl named like a transient failure",
            "Sysctls",
            sysctl("net.ipv4.tcp_fin_timeout", "nonsense"),
        ),
        bad(
            "a device named like a transient failure",
            "Devices",
            device("/dev/timeout"),
        ),
        bad("a device named like the library", "Devices", device("/dev/dockerpool")),
        bad(
            "a source named like another setting",
            "Mounts",
            bind("/no/apparmor.d", "/x"),
        ),
        bad("a mount source", "Mounts", bind("/no/such", "/x")),
        bad("a directory over a file", "Mounts", bind("/etc", "/bin/busybox")),
        bad("a file over a directory", "Mounts", bind("/etc/hosts", "/bin")),
        bad(
            "a mount mode",
            "Binds",
            HostConfig {
                binds: Some(vec!["/etc:/x:nonsense".to_owned()]),
                ..Default::default()
            },
        ),
        bad(
            "a volume driver",
            "VolumeDriver",
            HostConfig {
                volume_driver: Some("no-such-driver".to_owned()),
                binds: Some(vec!["dockerpool-test-never-made:/x".to_owned()]),
                ..Default::default()
            },
        ),
        bad(
            "a tmpfs size",
            "tmpfs",
            HostConfig {
                tmpfs: map("/x", "size=nonsense"),
                ..Default::default()
            },
        ),
        bad(
            "another container",
            "VolumesFrom",
            HostConfig {
                volumes_from: Some(vec!["no-such-container".to_owned()]),
                ..Default::default()
            },
        ),
        bad(
            "a log driver",
            "LogConfig",
            HostConfig {
                log_config: Some(HostConfigLogConfig {
                    typ: Some("no-such".to_owned()),
                    config: None,
                }),
                ..Default::default()
            },
        ),
        bad(
            "more processors than there are",
            "cpus()",
            HostConfig {
                nano_cpus: Some(100_000_000_000_000),
                ..Default::default()
            },
        ),
        bad(
            "a processor that is not there",
            "CpusetCpus",
            HostConfig {
                cpuset_cpus: Some("8000".to_owned()),
                ..Default::default()
            },
        ),
        bad(
            "less memory with swap than without",
            "MemorySwap",
            HostConfig {
                memory_swap: Some(16 << 20),
                ..Default::default()
            },
        ),
        bad(
            "a swappiness",
            "MemorySwappiness",
            HostConfig {
                memory_swappiness: Some(1000),
                ..Default::default()
            },
        ),
        Bad {
            body: ContainerCreateBody {
                hostname: Some("a".repeat(70)),
                ..Default::default()
            },
            ..bad("a hostname", "Hostname", HostConfig::default())
        },
    ]
}

/// Returns the error of a build, and the full text of its cause.
async fn refused(builder: PoolBuilder, what: &str) -> (Error, String) {
    let error = match builder.min_idle(1).build().await {
        Err(error) => error,
        Ok(_) => panic!("{what}: the pool was built"),
    };
    let source = error.engine_error().unwrap_or_else(|| panic!("{what}: {error:?}"));
    let words = source.to_string();
    // The library itself knows what Podman would take for the path of a file.
    let is_refused = source.kind() == EngineErrorKind::Rejected
        || is_podman().await && source.kind() == EngineErrorKind::Unsupported;
    assert!(is_refused, "{what}: {error:?}");
    assert!(!error.is_retryable(), "{what}: {error:?}");
    (error, words)
}

#[tokio::test]
async fn a_refused_setting_fails_the_build_at_once_and_is_named() {
    let engine = engine().await;
    let podman = is_podman().await;
    let bad = all()
        .into_iter()
        .filter(|bad| !podman || !PODMAN_TAKES.contains(&bad.what));
    // With and without the agent as PID 1. The pool tries the agent before it uses it.
    let builds = bad.flat_map(|bad| [ExecVia::Docker, ExecVia::Auto].map(|via| (bad.clone(), via)));
    let checks = builds.map(async |(bad, via)| {
        let name = unique_name("refused");
        // Docker looks for a volume driver for half a minute.
        let builder = pool(&name).engine_timeout(Duration::from_secs(120));
        let builder = builder.exec_via(via).host_config(bad.host);
        let (error, words) = refused(builder.docker_config(bad.body), bad.what).await;
        assert!(words.contains(bad.named), "{}: {words}", bad.what);
        assert!(error.to_string().contains("create the first containers"), "{error}");
        let left = engine.list(&Selector::label(labels::POOL, &name)).await.unwrap();
        assert!(left.is_empty(), "{}: {left:?}", bad.what);
    });
    let checked = stream::iter(checks).buffer_unordered(AT_ONCE).count().await;
    assert!(checked > 30, "{checked}");
}

/// The number of concurrent builds.
const AT_ONCE: usize = 4;

/// The settings that Podman 5.8 silently accepts through this interface: it ignores device requests and volume
/// drivers, and it creates missing mount sources.
const PODMAN_TAKES: [&str; 4] = [
    "a device driver",
    "a mount source",
    "a source named like another setting",
    "a volume driver",
];

#[tokio::test]
async fn a_missing_runtime_is_named_by_the_error() {
    let result = pool("refused-runtime").runtime("no-such-runtime").build().await;
    let error = result.unwrap_err();
    assert!(error.to_string().contains("could not use the runtime"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_platform_the_image_lacks_is_not_reported_as_a_network_problem() {
    let error = pool("refused-platform")
        .platform("linux/s390x")
        .pull(dockerpool::PullPolicy::Never)
        .build()
        .await
        .unwrap_err();
    let words = error.to_string();
    assert!(!words.contains("network"), "{words}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn an_agent_of_another_architecture_is_reported_with_remedies() {
    let error = pool("refused-arch")
        .exec_via(ExecVia::Agent)
        .platform("linux/s390x")
        .build()
        .await
        .unwrap_err();
    let words = error.to_string();
    assert!(
        words.contains("agent_path()") && words.contains("ExecVia::Auto"),
        "{words}"
    );
}

/// Requests an AppArmor profile that the kernel lacks, and a user that the image lacks.
#[tokio::test]
async fn settings_that_are_ignored_or_refused_only_at_start_are_named() {
    let no_apparmor =
        std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").map_or(true, |on| on.trim() != "Y");
    for via in [ExecVia::Docker, ExecVia::Agent] {
        let host = HostConfig {
            security_opt: Some(vec!["apparmor=no-such".to_owned()]),
            ..Default::default()
        };
        let builder = pool("no-such").exec_via(via).host_config(host).min_idle(1);
        let error = builder.build().await.unwrap_err();
        let kind = error.engine_error().unwrap().kind();
        match no_apparmor && !is_podman().await {
            true => assert_eq!(kind, EngineErrorKind::SettingIgnored, "{error:?}"),
            false => assert_eq!(kind, EngineErrorKind::Rejected, "{error:?}"),
        }

        for user in ["no-such-user", "nobody:no-such-group"] {
            let (_, words) = refused(pool("no-such").exec_via(via).user(user), user).await;
            assert!(words.contains("(see user()"), "{words}");
        }
    }
}
