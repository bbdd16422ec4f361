//! What an engine cannot do is refused before anything is made.

use super::adopt::Adopt;
use crate::engine::{Engine, LimitSupport, Network, Plan};
use crate::error::{Error, FieldError};

/// Refuses what was asked for and the engine cannot do.
pub(super) fn check_capabilities(engine: &dyn Engine, plan: &Plan, adopt: Adopt) -> Result<(), Error> {
    let can = engine.capabilities();
    let mut missing = Vec::new();
    let is_without_network = plan.network == Some(Network::None);
    if plan.pid1.lifeline && !can.lifeline {
        missing.push(FieldError::new(
            "cmd",
            "this engine cannot hold a lifeline: give PID 1 a command of its own",
        ));
    }
    if plan.limits.pids.is_some() && !can.pids_limit {
        missing.push(FieldError::new("pids_limit", "this engine cannot limit processes"));
    }
    if !is_without_network && !can.networks {
        missing.push(FieldError::new("network", "this engine cannot choose a network"));
    }
    if !plan.ports.is_empty() && !can.ports {
        missing.push(FieldError::new("publish", "this engine cannot publish ports"));
    }
    if is_without_network && !can.no_network {
        missing.push(FieldError::new("network", "this engine cannot do without a network"));
    }
    if !plan.engine_config.is_null() && !can.engine_config {
        missing.push(FieldError::new(
            "raw_config",
            "this engine takes no configuration but that of the typed setters",
        ));
    }
    if adopt != Adopt::Never && engine.parts().renaming.is_none() {
        missing.push(FieldError::new("adopt", "this engine cannot hand containers over"));
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Config(missing))
    }
}

/// Refuses limits that the engine says it cannot set.
pub(super) fn check_limits(can: LimitSupport, plan: &Plan) -> Result<(), Error> {
    let limits = &plan.limits;
    // Docker's other way to say the same.
    let quota = plan.engine_config["HostConfig"]["CpuQuota"].as_i64();
    let asked = [
        ("memory", limits.memory.is_some(), can.memory, "memory"),
        (
            "host_config.memory_swap",
            limits.memory_and_swap.is_some(),
            can.swap,
            "swap (which counts as limited wherever memory is; -1 asks for no limit)",
        ),
        ("pids_limit", limits.pids.is_some(), can.pids, "processes"),
        (
            "cpus",
            limits.nano_cpus.is_some() || quota.is_some_and(|quota| quota > 0),
            can.cpu,
            "processor time",
        ),
    ];
    let missing: Vec<_> = asked
        .into_iter()
        .filter(|(_, asked, can, _)| *asked && !can)
        .map(|(field, _, _, what)| FieldError::new(field, format!("the engine says that it cannot limit {what}")))
        .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Config(missing))
    }
}
