//! Tests of the body of Docker's create call that a spec becomes in the end.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, Mount, MountType, PortBinding,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::merge::{DROPPED_CAPABILITIES, merge};
use super::{ContainerSpec, Decided, resolve};
use crate::agent::AgentFile;
use crate::engine::Network;
use crate::engine::docker::create_body;
use crate::error::FieldError;
use crate::values::labels;

fn host(change: impl FnOnce(&mut HostConfig)) -> HostConfig {
    let mut host = HostConfig::default();
    change(&mut host);
    host
}

fn config(change: impl FnOnce(&mut ContainerCreateBody)) -> ContainerCreateBody {
    let mut body = ContainerCreateBody::default();
    change(&mut body);
    body
}

fn spec() -> ContainerSpec {
    ContainerSpec::new("busybox")
}

fn conflicts(spec: &ContainerSpec) -> Vec<FieldError> {
    merge(spec, &Decided::default()).1
}

fn decided(spec: &ContainerSpec, decided: Decided) -> (ContainerCreateBody, HostConfig) {
    assert_eq!(conflicts(spec), []);
    let mut body = create_body::of(&resolve(spec, decided).plan).unwrap();
    let host = body.host_config.take().unwrap();
    (body, host)
}

fn merged(spec: &ContainerSpec) -> (ContainerCreateBody, HostConfig) {
    decided(spec, Decided::default())
}

fn fingerprint(spec: &ContainerSpec, image_id: &str) -> String {
    resolve(spec, Decided::default()).fingerprint(image_id)
}

#[test]
fn the_defaults_are_a_sandbox_with_a_lifeline() {
    let (body, host) = merged(&spec());
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert_eq!(host.memory, Some(512 << 20));
    assert_eq!(host.memory_swap, host.memory);
    assert_eq!(host.pids_limit, Some(512));
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    assert_eq!((host.init, host.auto_remove), (Some(true), Some(true)));
    assert_eq!((body.open_stdin, body.stdin_once), (Some(true), Some(true)));
    assert_eq!(body.entrypoint, Some(vec!["cat".to_owned()]));
}

#[test]
fn the_default_hardening_gives_way_to_given_values() {
    let ulimit = |soft| ResourcesUlimits {
        name: Some("core".into()),
        soft: Some(soft),
        hard: Some(soft),
    };
    let (body, hardened) = merged(&spec());
    assert_eq!(hardened.cap_drop.unwrap(), DROPPED_CAPABILITIES);
    assert_eq!(hardened.oom_score_adj, Some(500));
    assert_eq!(hardened.ulimits.unwrap(), [ulimit(0)]);
    assert_eq!(body.healthcheck.unwrap().test.unwrap(), ["NONE"]);

    let drops = |spec: ContainerSpec| merged(&spec).1.cap_drop;
    let without = |names: &[&str]| {
        let left = DROPPED_CAPABILITIES.iter().filter(|name| !names.contains(name));
        Some(left.map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(drops(spec().cap_add("NET_RAW")), without(&["NET_RAW"]));
    assert_eq!(
        drops(spec().cap_add("cap_mknod").cap_add("CAP_SETFCAP").cap_add("SYS_NICE")),
        without(&["MKNOD", "SETFCAP"])
    );
    assert_eq!(drops(spec().cap_add("ALL")), None);
    assert_eq!(
        drops(spec().cap_drop_all().cap_add("NET_RAW")),
        Some(vec!["ALL".into()])
    );
    let raw = |change: fn(&mut HostConfig)| spec().host_config(host(change));
    assert_eq!(drops(raw(|host| host.cap_drop = Some(vec![]))), Some(vec![]));
    assert_eq!(
        drops(raw(|host| host.cap_add = Some(vec!["SYS_CHROOT".into()]))),
        without(&["SYS_CHROOT"])
    );
    assert_eq!(drops(raw(|host| host.privileged = Some(true))), None);

    assert_eq!(
        merged(&raw(|host| host.oom_score_adj = Some(0))).1.oom_score_adj,
        Some(0)
    );
    assert_eq!(merged(&spec().ulimit("core", 7, 7)).1.ulimits.unwrap(), [ulimit(7)]);
    let asked = spec().docker_config(config(|body| body.healthcheck = Some(HealthConfig::default())));
    assert_eq!(merged(&asked).0.healthcheck, Some(HealthConfig::default()));
    let supervised = spec().supervise_command(true).exec_via(crate::ExecVia::Agent);
    assert_eq!(merged(&supervised).0.healthcheck, None);
}

#[test]
fn published_ports_are_bound_to_the_loopback_interface_unless_another_address_is_named() {
    let online = || spec().network(Network::existing("bridge"));
    let bound = |spec: &ContainerSpec| {
        let (body, host) = merged(spec);
        let mut bindings: Vec<_> = host.port_bindings.unwrap_or_default().into_iter().collect();
        bindings.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut exposed = body.exposed_ports.unwrap_or_default();
        exposed.sort();
        assert!(exposed.iter().eq(bindings.iter().map(|(name, _)| name)));
        let one = |(name, bindings): (String, Option<Vec<PortBinding>>)| {
            let binding = &bindings.unwrap()[0];
            let [ip, port] = [&binding.host_ip, &binding.host_port].map(|part| part.clone().unwrap());
            format!("{name} {ip} {port:?}")
        };
        bindings.into_iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(bound(&online()), [""; 0]);
    assert_eq!(bound(&online().publish(80).publish(80)), ["80/tcp 127.0.0.1 \"\""]);
    let range = online().publish_range(80..=81).publish_address(Ipv4Addr::UNSPECIFIED);
    assert_eq!(bound(&range), ["80/tcp 0.0.0.0 \"\"", "81/tcp 0.0.0.0 \"\""]);
    assert_ne!(fingerprint(&online(), ""), fingerprint(&online().publish(80), ""));

    let raw = |change: fn(&mut HostConfig)| spec().publish(80).host_config(host(change));
    fn bind(host: &mut HostConfig, name: &str) {
        host.network_mode = Some("bridge".to_owned());
        host.port_bindings = Some([(name.to_owned(), Some(Vec::new()))].into());
    }
    for (spec, field) in [
        (spec().publish(80), "publish"),
        (raw(|host| host.network_mode = Some("host".to_owned())), "publish"),
        (
            raw(|host| host.network_mode = Some("container:x".to_owned())),
            "publish",
        ),
        (raw(|host| bind(host, "80/tcp")), "host_config.port_bindings"),
        (raw(|host| bind(host, "80")), "host_config.port_bindings"),
    ] {
        let found = conflicts(&spec);
        assert_eq!(
            found.iter().map(FieldError::field).collect::<Vec<_>>(),
            [field],
            "{spec:?}"
        );
    }
    assert_eq!(conflicts(&raw(|host| bind(host, "80/udp"))), []);
    assert_eq!(conflicts(&raw(|host| bind(host, "81/tcp"))), []);
}

#[test]
fn volumes_of_the_image_are_covered_unless_the_spec_names_them() {
    let of_volumes = |image_volumes| Decided {
        image_volumes,
        ..Decided::default()
    };
    let with_volumes = |spec: &ContainerSpec, volumes| decided(spec, of_volumes(volumes));
    let covered = |spec: ContainerSpec| {
        let image_volumes = vec!["/a/".into(), "/b".into(), "/".into()];
        let mounts = with_volumes(&spec.memory(64 << 20), image_volumes)
            .1
            .mounts
            .unwrap_or_default();
        let tmpfs = mounts.into_iter().filter(|mount| mount.typ == Some(MountType::TMPFS));
        let sized = tmpfs.filter(|mount| mount.tmpfs_options.as_ref().unwrap().size_bytes == Some(32 << 20));
        sized.filter_map(|mount| mount.target).collect::<Vec<_>>()
    };
    assert_eq!(covered(spec()), ["/a", "/b"]);
    assert_eq!(covered(spec().tmpfs("/a", 1)), ["/b"]);
    let raw = |change: fn(&mut HostConfig)| spec().host_config(host(change));
    assert_eq!(covered(raw(|host| host.binds = Some(vec!["/x:/b:ro".into()]))), ["/a"]);
    assert_eq!(
        covered(raw(|host| {
            host.mounts = Some(vec![Mount {
                target: Some("/b/".into()),
                ..Default::default()
            }]);
        })),
        ["/a"]
    );
    assert_eq!(covered(raw(|host| host.volumes_from = Some(vec!["x".into()]))), [""; 0]);
    let asked = spec().docker_config(config(|body| body.volumes = Some(vec!["/a".into()])));
    assert_eq!(covered(asked), ["/b"]);
    let with = resolve(&spec(), of_volumes(vec!["/a".into()]));
    assert_ne!(with.fingerprint(""), fingerprint(&spec(), ""));
}

#[test]
fn a_container_with_its_own_command_has_no_lifeline_and_no_automatic_removal() {
    let (body, host) = merged(&spec().cmd(["sleep", "60"]));
    assert_eq!(body.entrypoint, Some(vec!["sleep".to_owned(), "60".to_owned()]));
    assert_eq!(body.open_stdin, None);
    assert_eq!(host.auto_remove, None);
}

#[test]
fn security_options_allow_gaining_privileges_only_by_name() {
    let of = |options: &[&str]| {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let raw = config(|body| body.host_config = Some(host(|host| host.security_opt = Some(options))));
        merged(&spec().docker_config(raw)).1.security_opt.unwrap()
    };
    assert_eq!(of(&["label=disable"]), ["label=disable", "no-new-privileges"]);
    for said in [
        &[][..],
        &["no-new-privileges=false"],
        &["seccomp=unconfined", "no-new-privileges:true"],
    ] {
        assert_eq!(of(said), said);
    }
}

#[test]
fn the_raw_configuration_replaces_defaults_and_is_joined_with_the_setters() {
    let raw = config(|body| {
        body.env = Some(vec!["A=same".into(), "B=raw".into()]);
        body.labels = Some(HashMap::from([("a".into(), "raw".into())]));
        body.hostname = Some("raw".into());
        body.host_config = Some(host(|host| {
            host.network_mode = Some("bridge".into());
            host.pids_limit = Some(7);
            host.memory = Some(64 << 20);
            host.security_opt = Some(vec![]);
            host.tmpfs = Some(HashMap::from([("/raw".into(), "".into())]));
        }));
    });
    let (body, host) = merged(
        &spec()
            .docker_config(raw)
            .env("A", "same")
            .env("C", "typed")
            .label("b", "typed")
            .memory(64 << 20)
            .tmpfs("/typed", 1 << 20),
    );
    assert_eq!(body.env.unwrap(), ["B=raw", "A=same", "C=typed"]);
    assert_eq!(body.labels.unwrap().len(), 2);
    assert_eq!(body.hostname.as_deref(), Some("raw"));
    assert_eq!(host.network_mode.as_deref(), Some("bridge"));
    assert_eq!(
        (host.pids_limit, host.memory, host.memory_swap),
        (Some(7), Some(64 << 20), Some(64 << 20))
    );
    assert_eq!(host.security_opt, Some(vec![]));
    assert_eq!(host.tmpfs.unwrap().len(), 2);
}

#[test]
fn an_unlimited_setter_differs_from_a_default_and_from_a_raw_limit() {
    let unlimited = spec().memory(None).pids_limit(None);
    let (_, host_config) = merged(&unlimited);
    assert_eq!((host_config.memory, host_config.pids_limit), (None, None));
    assert_eq!(resolve(&unlimited, Decided::default()).plan.limits.pids, None);
    let raw = spec().host_config(host(|host| host.memory = Some(0)));
    assert_eq!(merged(&raw).1.memory, Some(0));
    assert_eq!(resolve(&spec(), Decided::default()).plan.limits.pids, Some(512));
}

/// Returns the fields with conflicts, and checks that they do not depend on which of the two was set first.
fn complaints(
    typed: impl Fn(ContainerSpec) -> ContainerSpec,
    raw: impl Fn(ContainerSpec) -> ContainerSpec,
) -> Vec<String> {
    let fields = |spec: &ContainerSpec| -> Vec<_> {
        let found = conflicts(spec);
        found.iter().map(|problem| problem.field().to_owned()).collect()
    };
    let one = fields(&typed(raw(spec())));
    assert_eq!(one, fields(&raw(typed(spec()))));
    one
}

macro_rules! differs {
    ($field:literal, $typed:expr, host.$name:ident = $value:expr) => {
        let raw = |spec: ContainerSpec| spec.host_config(host(|host| host.$name = Some($value)));
        assert_eq!(complaints($typed, raw), [$field]);
    };
    ($field:literal, $typed:expr, body.$name:ident = $value:expr) => {
        let raw = |spec: ContainerSpec| spec.docker_config(config(|body| body.$name = Some($value)));
        assert_eq!(complaints($typed, raw), [$field]);
    };
}

#[test]
fn every_field_with_two_different_values_is_named() {
    differs!("docker_config.image", |s| s, body.image = "other".into());
    differs!("docker_config.user", |s| s.user("a"), body.user = "b".into());
    differs!(
        "docker_config.working_dir",
        |s| s.working_dir("/a"),
        body.working_dir = "/b".into()
    );
    differs!("docker_config.env", |s| s.env("A", "1"), body.env = vec!["A=2".into()]);
    differs!(
        "docker_config.labels",
        |s| s.label("a", "1"),
        body.labels = HashMap::from([("a".into(), "2".into())])
    );
    differs!(
        "docker_config.entrypoint",
        |s| s.cmd(["a"]),
        body.entrypoint = vec!["b".into()]
    );
    differs!("docker_config.cmd", |s| s.cmd(["a"]), body.cmd = vec!["b".into()]);
    differs!("host_config.memory", |s| s.memory(64 << 20), host.memory = 1 << 30);
    differs!("host_config.memory", |s| s.memory(None), host.memory = 1 << 30);
    differs!("host_config.pids_limit", |s| s.pids_limit(7), host.pids_limit = 8);
    differs!("host_config.pids_limit", |s| s.pids_limit(None), host.pids_limit = 8);
    differs!("host_config.nano_cpus", |s| s.cpus(1.0), host.nano_cpus = 5);
    differs!("host_config.cpu_quota", |s| s.cpus(1.0), host.cpu_quota = 5);
    differs!("host_config.shm_size", |s| s.shm_size(1), host.shm_size = 2);
    let nofile = ResourcesUlimits {
        name: Some("nofile".into()),
        soft: Some(1),
        hard: Some(1),
    };
    differs!(
        "host_config.ulimits",
        |s| s.ulimit("nofile", 2, 2),
        host.ulimits = vec![nofile.clone()]
    );
    differs!(
        "host_config.tmpfs",
        |s| s.tmpfs("/t", 1),
        host.tmpfs = HashMap::from([("/t".into(), "".into())])
    );
    differs!(
        "host_config.readonly_rootfs",
        |s| s.read_only_root(true),
        host.readonly_rootfs = false
    );
    differs!(
        "host_config.runtime",
        |s| s.runtime("runsc"),
        host.runtime = "runc".into()
    );
    differs!(
        "host_config.cap_drop",
        |s| s.cap_drop_all(),
        host.cap_drop = vec!["NET_RAW".into()]
    );
    differs!(
        "host_config.cap_add",
        |s| s.cap_add("CHOWN"),
        host.cap_add = vec!["NET_RAW".into()]
    );
    differs!(
        "host_config.network_mode",
        |s| s.network(Network::none()),
        host.network_mode = "none".into()
    );
    differs!(
        "docker_config.network_disabled",
        |s| s.network(Network::existing("a")),
        body.network_disabled = true
    );
    differs!(
        "docker_config.host_config",
        |s| s.host_config(host(|host| host.memory = Some(1))),
        body.host_config = host(|host| host.memory = Some(2))
    );
}

#[test]
fn settings_that_would_break_the_pool_are_refused() {
    differs!(
        "docker_config.labels",
        |s| s,
        body.labels = HashMap::from([("dockerpool.pool".into(), "x".into())])
    );
    let always = RestartPolicy {
        name: Some(RestartPolicyNameEnum::ALWAYS),
        maximum_retry_count: None,
    };
    differs!(
        "host_config.restart_policy",
        |s| s,
        host.restart_policy = always.clone()
    );
    differs!("host_config.auto_remove", |s| s, host.auto_remove = false);
    differs!(
        "host_config.auto_remove",
        |s| s.cmd(["sleep", "1"]),
        host.auto_remove = true
    );
    for option in ["writable-cgroups", "writable-cgroups=true"] {
        differs!(
            "host_config.security_opt",
            |s| s,
            host.security_opt = vec![option.into()]
        );
    }
    merged(&spec().host_config(host(|host| {
        host.security_opt = Some(vec!["writable-cgroups=false".into()]);
    })));
    differs!("docker_config.open_stdin", |s| s, body.open_stdin = false);
    differs!("docker_config.stdin_once", |s| s, body.stdin_once = false);
    differs!("docker_config.tty", |s| s, body.tty = true);
    // Harmless values are accepted.
    let no = RestartPolicy {
        name: Some(RestartPolicyNameEnum::NO),
        maximum_retry_count: None,
    };
    merged(&spec().host_config(host(|host| {
        host.restart_policy = Some(no);
        host.auto_remove = Some(true);
    })));
    merged(&spec().cmd(["sh"]).docker_config(config(|body| {
        body.tty = Some(true);
        body.open_stdin = Some(true);
    })));
}

#[test]
fn a_fingerprint_depends_on_what_matters_and_nothing_else() {
    let of = |spec: ContainerSpec| fingerprint(&spec, "sha256:1");
    let full = || {
        spec()
            .env("A", "1")
            .env("B", "2")
            .label("a", "1")
            .label("b", "2")
            .tmpfs("/a", 1)
            .tmpfs("/b", 2)
            .host_config(host(|host| {
                host.sysctls = Some((0..9).map(|i| (i.to_string(), String::new())).collect())
            }))
    };
    assert_eq!(of(full()), of(full()));
    let owned = resolve(&full(), Decided::default()).with_label(labels::INSTANCE, "x".into());
    assert_eq!(of(full()), owned.fingerprint("sha256:1"));
    assert_ne!(of(full()), of(full().label("c", "3")));
    assert_ne!(of(full()), of(full().memory(64 << 20)));
    assert_ne!(of(full()), of(full().platform("linux/arm64")));
    assert_ne!(of(full()), fingerprint(&full(), "sha256:2"));
    // The fingerprint is the same in every process and with every toolchain.
    assert_eq!(of(spec()), "7cafac16b73c2c7bdac484bc16954e3c");
}

#[test]
fn where_cgroups_are_writable_pid_1_is_root_in_a_namespace_of_its_own() {
    let private = Some(HostConfigCgroupnsModeEnum::PRIVATE);
    let spec = spec().user("nobody").writable_cgroups(true);
    let (body, host) = merged(&spec);
    assert_eq!(
        (body.user.as_deref(), host.cgroupns_mode),
        (Some("nobody"), private),
        "PID 1 is not decided"
    );
    let with_agent = || Decided {
        agent: Some(AgentFile::in_volume("any".to_owned())),
        ..Decided::default()
    };
    let (body, host) = decided(&spec, with_agent());
    assert_eq!((body.user.as_deref(), host.cgroupns_mode), (Some("0:0"), private));
    // The engine adds its own option for writable groups.
    assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
    let (body, host) = decided(&spec.clone().writable_cgroups(false), with_agent());
    assert_eq!((body.user.as_deref(), host.cgroupns_mode), (Some("nobody"), None));
    let raw = self::host(|host| host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST));
    let problems = conflicts(&spec.host_config(raw));
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].field(), "host_config.cgroupns_mode");
}

#[test]
fn a_supervised_command_is_not_pid_1_and_is_part_of_the_fingerprint() {
    let supervised = |cmd: &str| {
        spec()
            .cmd([cmd])
            .supervise_command(true)
            .exec_via(crate::ExecVia::Agent)
    };
    let fingerprint = |cmd: &str| {
        let decided = Decided {
            supervised: Some(vec![cmd.to_owned()]),
            ..Decided::default()
        };
        resolve(&supervised(cmd), decided).fingerprint("")
    };
    let (body, host) = merged(&supervised("a"));
    assert_eq!((body.entrypoint, body.cmd), (Some(vec!["cat".to_owned()]), None));
    assert_eq!((body.open_stdin, host.auto_remove), (Some(true), Some(true)));
    assert_ne!(fingerprint("a"), fingerprint("b"));
    // A command that is set twice is still compared.
    let raw = config(|body| body.cmd = Some(vec!["b".to_owned()]));
    assert_eq!(conflicts(&supervised("a").docker_config(raw)).len(), 1);
}

#[test]
fn an_image_may_be_named_in_the_raw_configuration() {
    let spec = ContainerSpec::new("").docker_config(config(|body| body.image = Some("raw".into())));
    assert_eq!(spec.image(), "raw");
    assert!(spec.problems().is_empty());
}

#[test]
fn a_plan_keeps_every_setting() {
    let raw = config(|body| {
        body.env = Some(vec!["TAKEN_AWAY".into(), "A=raw=b".into()]);
        body.tty = Some(false);
        body.volumes = Some(vec!["/v".into()]);
        body.exposed_ports = Some(vec!["80/tcp".into()]);
        body.stop_signal = Some("SIGINT".into());
        body.healthcheck = Some(HealthConfig::default());
    });
    let raw_host = host(|host| {
        host.memory = Some(0);
        host.memory_swap = Some(-1);
        host.pids_limit = Some(-1);
        host.network_mode = Some("container:x".into());
        host.readonly_rootfs = Some(false);
        host.cap_drop = Some(vec![]);
        host.security_opt = Some(vec!["label=disable".into()]);
        host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST);
        host.binds = Some(vec!["/x:/y:ro".into()]);
        host.mounts = Some(vec![Mount {
            typ: Some(MountType::BIND),
            source: Some("/x".into()),
            target: Some("/z".into()),
            ..Default::default()
        }]);
        host.ulimits = Some(vec![ResourcesUlimits {
            name: Some("core".into()),
            soft: Some(-1),
            hard: Some(-1),
        }]);
        host.init = Some(false);
        host.sysctls = Some(HashMap::from([("a".into(), "b".into())]));
    });
    let full = spec()
        .user("me")
        .working_dir("/w")
        .cpus(0.5)
        .shm_size(1 << 20)
        .tmpfs("/t", 1 << 20)
        .cap_add("CHOWN");
    for spec in [
        spec(),
        full.clone(),
        full.clone().docker_config(raw.clone()).host_config(raw_host.clone()),
        full.docker_config(raw).host_config(raw_host).cmd(["sleep", "60"]),
    ] {
        let (mut body, conflicts) = merge(&spec, &Decided::default());
        assert_eq!(conflicts, []);
        // The variables to be removed come first.
        body.env
            .iter_mut()
            .for_each(|env| env.sort_by_key(|entry| entry.contains('=')));
        let plan = resolve(&spec, Decided::default()).plan;
        assert_eq!(create_body::of(&plan).unwrap(), body);
    }
}
