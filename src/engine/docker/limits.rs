//! Limits that were asked for and that the engine does not set: what it says of them, and what it does not say.
//!
//! The words are those of Docker 20.10 to 29 (`verifyPlatformContainerResources` of its daemon) and of Podman. Docker sets
//! a limit that its kernel lacks to nothing, goes on, and says so in the answer to the create call.

use bollard::models::{HostConfig, SystemInfo};
use serde_json::Value;

use crate::engine::LimitSupport;

/// Limits by their names in the API, whose values mean "no limit" when they are zero, negative, empty or false.
const LIMITS: [&str; 17] = [
    "Memory",
    "MemorySwap",
    "MemoryReservation",
    "PidsLimit",
    "NanoCpus",
    "CpuShares",
    "CpuQuota",
    "CpuRealtimeRuntime",
    "CpusetCpus",
    "CpusetMems",
    "BlkioWeight",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "ShmSize",
    "Ulimits",
];

/// Podman describes some of the others in another way than they were asked for.
const LIMITS_OF_PODMAN: [&str; 3] = ["Memory", "MemorySwap", "PidsLimit"];

/// Whether this warning says that a limit that was asked for is not set.
pub(super) fn says_discarded(warning: &str, asked: &HostConfig) -> bool {
    let warning = warning.to_ascii_lowercase();
    if warning.contains("swap limit") || warning.contains("without swap") {
        // Docker says so of every container with limited memory, also where the swap was not to be limited.
        return asked.memory_swap.is_some_and(|limit| limit > 0);
    }
    let unsupported = warning.contains("does not support") || warning.contains("not supported");
    let dropped = ["discarded", "ignored", "cgroup is not mounted"];
    // "Published ports are discarded when using host network mode" is about no limit.
    dropped.iter().any(|word| warning.contains(word)) && (unsupported || warning.contains("limit"))
}

/// The limits that were asked for and that the container does not have, by its description.
pub(super) fn missing(asked: &HostConfig, found: &HostConfig, is_podman: bool) -> Vec<String> {
    let as_json = |config: &HostConfig| serde_json::to_value(config).unwrap_or_default();
    let (asked, found) = (as_json(asked), as_json(found));
    let limits = if is_podman { &LIMITS_OF_PODMAN[..] } else { &LIMITS[..] };
    let missing = limits
        .iter()
        .filter(|name| is_limit(&asked[**name]) && !is_limit(&found[**name]));
    missing
        .map(|name| format!("{name} is {} where {} was asked for", found[*name], asked[*name]))
        .collect()
}

fn is_limit(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64().is_some_and(|number| number > 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// What the engine says that it can limit. What it does not say counts as possible.
pub(super) fn support(info: &SystemInfo) -> LimitSupport {
    let can = |said: Option<bool>| said.unwrap_or(true);
    LimitSupport {
        memory: can(info.memory_limit),
        swap: can(info.swap_limit),
        pids: can(info.pids_limit),
        cpu: can(info.cpu_cfs_quota) && can(info.cpu_cfs_period),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> HostConfig {
        HostConfig {
            memory: Some(1 << 20),
            memory_swap: Some(1 << 20),
            blkio_weight: Some(300),
            cpuset_cpus: Some("0".to_owned()),
            ..Default::default()
        }
    }

    #[test]
    fn what_engines_say_of_discarded_limits_is_told_from_other_warnings() {
        for warning in [
            "Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.",
            "Your kernel does not support PIDs limit capabilities or the cgroup is not mounted. PIDs limit discarded.",
            "Your kernel does not support CPU CFS quota or the cgroup is not mounted. Quota discarded.",
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
            "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
            "Resource limits are not supported and ignored on cgroups V1 rootless systems",
        ] {
            assert!(says_discarded(warning, &asked()), "{warning}");
        }
        for warning in [
            "Published ports are discarded when using host network mode",
            "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running \
             out of resources.",
            "The requested image's platform (linux/arm64) does not match the detected host platform (linux/amd64)",
            "Specifying a kernel memory limit is deprecated and will be removed in a future release.",
        ] {
            assert!(!says_discarded(warning, &asked()), "{warning}");
        }
        let swap = "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited \
                    without swap.";
        for memory_swap in [None, Some(-1)] {
            let asked = HostConfig { memory_swap, ..asked() };
            assert!(!says_discarded(swap, &asked), "{memory_swap:?}");
        }
    }

    #[test]
    fn a_limit_that_is_not_there_is_missing_and_one_of_another_value_is_not() {
        let found = HostConfig {
            memory: Some(2 << 20),
            memory_swap: Some(-1),
            blkio_weight: Some(0),
            ..Default::default()
        };
        let told = missing(&asked(), &found, false);
        assert_eq!(
            told,
            [
                "MemorySwap is -1 where 1048576 was asked for",
                "CpusetCpus is null where \"0\" was asked for",
                "BlkioWeight is 0 where 300 was asked for",
            ]
        );
        assert_eq!(missing(&asked(), &found, true), told[..1]);
        assert_eq!(missing(&found, &found, false), [""; 0]);
    }
}
