//! Moves the fields that a [`Plan`] has from a body in Docker's own terms into the plan. The rest of the body goes with the
//! plan, as the engine's configuration.

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, ResourcesUlimits};

use crate::engine::docker::create_body;
use crate::engine::{Network, Plan, Ulimit};

/// Moves the fields that a plan has from the body into the plan. Other fields stay in the body.
pub(super) fn take_body(body: &mut ContainerCreateBody, plan: &mut Plan) {
    body.image = None;
    plan.user = body.user.take();
    plan.working_dir = body.working_dir.take();
    plan.labels = body.labels.take().unwrap_or_default().into_iter().collect();
    for entry in body.env.take().unwrap_or_default() {
        match entry.split_once('=') {
            Some((name, value)) => plan.env.push((name.to_owned(), value.to_owned())),
            // A name alone removes a variable of the image's.
            None => body.env.get_or_insert_default().push(entry),
        }
    }
    plan.pid1.program = body.entrypoint.take();
    plan.pid1.arguments = body.cmd.take();
    plan.pid1.stop_signal = body.stop_signal.take();
    if plan.pid1.lifeline {
        (body.open_stdin, body.stdin_once, body.tty) = (None, None, None);
    }
    plan.health_check = body
        .healthcheck
        .take_if(|check| *check == create_body::no_health_check())
        .is_none();
    if let Some(host) = &mut body.host_config {
        take_host(host, plan);
    }
    body.host_config.take_if(|host| *host == HostConfig::default());
}

/// Moves the fields that a plan has from the `HostConfig` into the plan.
fn take_host(host: &mut HostConfig, plan: &mut Plan) {
    let is_true = |value: &mut bool| *value;
    plan.pid1.init = host.init.take().unwrap_or(false);
    plan.auto_remove = host.auto_remove.take_if(is_true).is_some();
    plan.keep_output = host
        .log_config
        .take_if(|config| *config == create_body::no_output())
        .is_none();
    plan.tmpfs = host.tmpfs.take().unwrap_or_default().into_iter().collect();
    let mode = host
        .network_mode
        .take_if(|mode| plan.network.is_some() || *mode == "none");
    if mode.is_some_and(|mode| mode == "none") {
        plan.network = Some(Network::None);
    }

    let limits = &mut plan.limits;
    limits.memory = take_amount(&mut host.memory);
    limits.memory_and_swap = take_amount(&mut host.memory_swap);
    limits.nano_cpus = take_amount(&mut host.nano_cpus);
    limits.pids = take_amount(&mut host.pids_limit);
    limits.shm_size = take_amount(&mut host.shm_size);
    limits.oom_score_adj = host.oom_score_adj.take();
    for ulimit in host.ulimits.take().unwrap_or_default() {
        match plain_ulimit(&ulimit) {
            Some(plain) => limits.ulimits.push(plain),
            None => host.ulimits.get_or_insert_default().push(ulimit),
        }
    }

    let security = &mut plan.security;
    security.read_only_root = host.readonly_rootfs.take_if(is_true).is_some();
    security.cap_add = host.cap_add.take_if(|caps| !caps.is_empty()).unwrap_or_default();
    security.cap_drop = host.cap_drop.take_if(|caps| !caps.is_empty()).unwrap_or_default();
    security.runtime = host.runtime.take();
    if let Some(options) = &mut host.security_opt
        && options.last().is_some_and(|option| option == NO_NEW_PRIVILEGES)
    {
        security.no_new_privileges = true;
        options.pop();
    }
    if security.no_new_privileges {
        host.security_opt.take_if(|options| options.is_empty());
    }
    if security.writable_cgroups {
        host.cgroupns_mode
            .take_if(|mode| *mode == HostConfigCgroupnsModeEnum::PRIVATE);
    }
}

/// The option by which Docker forbids programs to gain privileges.
const NO_NEW_PRIVILEGES: &str = "no-new-privileges";

/// Takes a positive amount. Others stay: they mean "no limit", in the engine's own terms.
fn take_amount(amount: &mut Option<i64>) -> Option<u64> {
    let taken = amount.take_if(|amount| *amount > 0)?;
    u64::try_from(taken).ok()
}

/// Returns the plan's form of a `ulimit`, if it has one.
fn plain_ulimit(ulimit: &ResourcesUlimits) -> Option<Ulimit> {
    // -1 means no limit.
    let amount = |amount: i64| match amount {
        -1 => Some(None),
        amount => u64::try_from(amount).ok().map(Some),
    };
    let (soft, hard) = (amount(ulimit.soft?)?, amount(ulimit.hard?)?);
    Some(Ulimit::new(ulimit.name.clone()?, soft, hard))
}
