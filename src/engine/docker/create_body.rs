//! The body of Docker's create call, translated from a [`Plan`]. The translation decides nothing.

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount as DockerMount, MountTmpfsOptions, MountType, MountVolumeOptions, ResourcesUlimits,
};

use super::ports;
use crate::engine::{
    EngineError, EngineErrorKind, Identity, Limits, Mount, MountSource, Pid1, Plan, ProgramVolume, Security,
};

/// The security option that keeps programs from gaining privileges.
const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// Translates a plan, without the parts that belong to one container alone. The plan's own configuration is the base: its
/// fields win, and the items of its lists come first.
///
/// # Errors
///
/// Fails with [`EngineErrorKind::Rejected`] for configuration that is no body of Docker's create call.
pub(crate) fn of(plan: &Plan) -> Result<ContainerCreateBody, EngineError> {
    let mut body = match &plan.engine_config {
        serde_json::Value::Null => ContainerCreateBody::default(),
        config => serde_json::from_value(config.clone()).map_err(|error| {
            let message = "the plan's engine_config is not a valid body of Docker's create call";
            EngineError::new(EngineErrorKind::Rejected, format!("{message}: {error}")).with_source(error)
        })?,
    };
    let mut host = body.host_config.take().unwrap_or_default();
    ports::publish(&plan.ports, &mut body, &mut host);
    body.image = Some(plan.image.name.clone());
    fill(&mut body.user, &plan.user);
    fill(&mut body.working_dir, &plan.working_dir);
    if !plan.env.is_empty() {
        let env = plan.env.iter().map(|(name, value)| format!("{name}={value}"));
        body.env.get_or_insert_default().extend(env);
    }
    let labels = body.labels.get_or_insert_default();
    labels.extend(plan.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    if !plan.health_check {
        body.healthcheck.get_or_insert_with(no_health_check);
    }
    set_pid1(&plan.pid1, &mut body);

    host.init.get_or_insert(plan.pid1.init);
    if plan.auto_remove {
        host.auto_remove.get_or_insert(true);
    }
    if !plan.keep_output {
        host.log_config.get_or_insert_with(no_output);
    }
    if let Some(network) = &plan.network {
        host.network_mode
            .get_or_insert_with(|| network.name().unwrap_or("none").to_owned());
    }
    if !plan.tmpfs.is_empty() {
        let tmpfs = host.tmpfs.get_or_insert_default();
        tmpfs.extend(plan.tmpfs.iter().map(|(path, options)| (path.clone(), options.clone())));
    }
    add_mounts(&plan.mounts, &mut host);
    set_limits(&plan.limits, &mut host);
    set_security(&plan.security, &mut host);
    body.host_config = Some(host);
    Ok(body)
}

/// Adds the parts that belong to one container alone, without its name, which is no part of the body.
pub(super) fn add_identity(identity: &Identity, body: &mut ContainerCreateBody) {
    add_mounts(&identity.mounts, body.host_config.get_or_insert_default());
}

fn set_pid1(pid1: &Pid1, body: &mut ContainerCreateBody) {
    // An entrypoint, not a command: the engine would put the image's own entrypoint in front of a command.
    fill(&mut body.entrypoint, &pid1.program);
    fill(&mut body.cmd, &pid1.arguments);
    fill(&mut body.stop_signal, &pid1.stop_signal);
    if pid1.lifeline {
        body.open_stdin = Some(true);
        body.stdin_once = Some(true);
        body.tty = Some(false);
    }
}

fn set_limits(limits: &Limits, host: &mut HostConfig) {
    let amount = |amount: Option<u64>| amount.map(|amount| i64::try_from(amount).unwrap_or(i64::MAX));
    fill(&mut host.memory, &amount(limits.memory));
    fill(&mut host.memory_swap, &amount(limits.memory_and_swap));
    fill(&mut host.nano_cpus, &amount(limits.nano_cpus));
    fill(&mut host.pids_limit, &amount(limits.pids));
    fill(&mut host.shm_size, &amount(limits.shm_size));
    fill(&mut host.oom_score_adj, &limits.oom_score_adj);
    if !limits.ulimits.is_empty() {
        let ulimits = limits.ulimits.iter().map(|ulimit| ResourcesUlimits {
            name: Some(ulimit.name.clone()),
            // For Docker, -1 is unlimited.
            soft: amount(ulimit.soft).or(Some(-1)),
            hard: amount(ulimit.hard).or(Some(-1)),
        });
        host.ulimits.get_or_insert_default().extend(ulimits);
    }
}

/// Translates the security settings, without writable control groups, for which each engine has its own option: see
/// [`writable_cgroups`].
fn set_security(security: &Security, host: &mut HostConfig) {
    if security.read_only_root {
        host.readonly_rootfs.get_or_insert(true);
    }
    if !security.cap_add.is_empty() {
        host.cap_add.get_or_insert_default().extend(security.cap_add.clone());
    }
    if !security.cap_drop.is_empty() {
        host.cap_drop.get_or_insert_default().extend(security.cap_drop.clone());
    }
    fill(&mut host.runtime, &security.runtime);
    if security.no_new_privileges {
        host.security_opt
            .get_or_insert_default()
            .push(NO_NEW_PRIVILEGES.to_owned());
    }
    if security.writable_cgroups {
        host.cgroupns_mode.get_or_insert(HostConfigCgroupnsModeEnum::PRIVATE);
    }
}

/// Requests writable control groups, with this engine's option.
pub(super) fn writable_cgroups(body: &mut ContainerCreateBody, is_podman: bool) {
    let option = match is_podman {
        true => "unmask=/sys/fs/cgroup",
        false => "writable-cgroups=true",
    };
    let host = body.host_config.get_or_insert_default();
    host.security_opt.get_or_insert_default().push(option.to_owned());
}

fn add_mounts(mounts: &[Mount], host: &mut HostConfig) {
    if !mounts.is_empty() {
        host.mounts.get_or_insert_default().extend(mounts.iter().map(mount));
    }
}

fn mount(mount: &Mount) -> DockerMount {
    let target = mount.target.clone();
    match &mount.source {
        // A mount, and not an entry of `tmpfs`: only a mount keeps the engine from making a volume there.
        MountSource::Memory { bytes, mode } => DockerMount {
            target: Some(target),
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: Some(i64::try_from(*bytes).unwrap_or(i64::MAX)),
                mode: Some(i64::from(*mode)),
                ..Default::default()
            }),
            ..Default::default()
        },
        MountSource::File { path, .. } => DockerMount {
            typ: Some(MountType::BIND),
            source: Some(path.to_string_lossy().into_owned()),
            target: Some(target),
            read_only: Some(true),
            ..Default::default()
        },
        MountSource::Volume(volume) => DockerMount {
            read_only: Some(true),
            ..volume_mount(volume, target)
        },
    }
}

/// Mounts a volume in the container that fills it.
pub(super) fn volume_mount(volume: &ProgramVolume, target: String) -> DockerMount {
    DockerMount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.name.clone()),
        target: Some(target),
        // The image's files at this path must not be copied into the volume.
        volume_options: Some(MountVolumeOptions {
            no_copy: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Returns a health check that never runs, in place of the image's.
pub(crate) fn no_health_check() -> HealthConfig {
    HealthConfig {
        test: Some(vec!["NONE".to_owned()]),
        ..Default::default()
    }
}

/// Returns a configuration without logs: the default driver would write PID 1's output to the engine's disk.
pub(crate) fn no_output() -> HostConfigLogConfig {
    HostConfigLogConfig {
        typ: Some("none".to_owned()),
        config: None,
    }
}

/// Writes the plan's value into a field that the plan's own configuration leaves empty.
fn fill<T: Clone>(field: &mut Option<T>, value: &Option<T>) {
    if field.is_none() {
        field.clone_from(value);
    }
}
