//! Limits that are for commands alone. Where PID 1 is the agent, it sets these limits for each command and has none of them
//! itself.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, HostConfig, ResourcesUlimits};

use crate::agent::Limit;

/// Limits that could end the agent, by name and the kernel's number.
const NOT_FOR_PID_1: [(&str, u32); 5] = [("cpu", 0), ("data", 2), ("stack", 3), ("nofile", NOFILE), ("as", 9)];
const NOFILE: u32 = 7;

/// The most file descriptors that the agent may need.
const AGENT_FILES: i64 = 1024;

/// Returns a limit for the agent to set, if PID 1 must not have this one. Invalid limits are left to the engine, which
/// refuses them.
fn not_for_pid_1(ulimit: &ResourcesUlimits, may_run_all: bool) -> Option<Limit> {
    let name = ulimit.name.as_deref()?.to_ascii_lowercase();
    let (_, which) = NOT_FOR_PID_1.into_iter().find(|(known, _)| *known == name)?;
    // -1 means no limit, also in the kernel.
    let (soft, hard) = (ulimit.soft? as u64, ulimit.hard? as u64);
    // Where the engine may have to run some commands, `nofile` must hold for PID 1 too: commands of the engine get the
    // container's limits. Few descriptors only let the agent run fewer commands at once.
    let spares = soft <= hard && (may_run_all || which != NOFILE);
    spares.then_some(Limit { which, soft, hard })
}

/// Returns whether PID 1 may become another user, as far as the configuration tells. Where PID 1 may not, the engine runs the
/// commands of other users.
fn may_become_user(host: &HostConfig, user: Option<&str>) -> bool {
    const NEEDED: [&str; 5] = ["ALL", "CHOWN", "KILL", "SETGID", "SETUID"];
    let needed = |name: &String| {
        let name = name.to_ascii_uppercase();
        NEEDED.contains(&name.trim_start_matches("CAP_"))
    };
    let user = user.and_then(|user| user.split(':').next()).unwrap_or_default();
    matches!(user, "" | "0" | "root") && !host.cap_drop.iter().flatten().any(needed)
}

/// Returns the limits that the agent sets for commands.
pub(super) fn limits_of_commands(body: &ContainerCreateBody) -> Vec<Limit> {
    let Some(host) = &body.host_config else {
        return Vec::new();
    };
    let may_run_all = may_become_user(host, body.user.as_deref());
    let limits = host.ulimits.iter().flatten();
    // At most one limit of each kind: the frame to the agent has no room for more.
    let limits: BTreeMap<_, _> = limits
        .filter_map(|ulimit| not_for_pid_1(ulimit, may_run_all))
        .map(|limit| (limit.which, limit))
        .collect();
    limits.into_values().collect()
}

/// Takes the limits of commands away from PID 1. PID 1 keeps hard limits that allow it to set those of commands.
pub(super) fn spare_pid_1(body: &mut ContainerCreateBody) {
    let Some(host) = &mut body.host_config else { return };
    let may_run_all = may_become_user(host, body.user.as_deref());
    for ulimit in host.ulimits.iter_mut().flatten() {
        let limit = match not_for_pid_1(ulimit, may_run_all) {
            None => continue,
            Some(limit) if limit.which == NOFILE => ulimit
                .hard
                .map(|hard| if hard < 0 { hard } else { hard.max(AGENT_FILES) }),
            Some(_) => Some(-1),
        };
        (ulimit.soft, ulimit.hard) = (limit, limit);
    }
}
