//! Limits of the plan that the engine does not set: those of its warnings, and those that it silently drops.
//!
//! The words are those of Docker 20.10 to 29 (`verifyPlatformContainerResources` of its daemon) and of Podman. Docker clears
//! a limit that its kernel lacks, continues, and warns in the answer to the create call.

use bollard::models::{HostConfig, ResourcesUlimits, SystemInfo, SystemInfoCgroupVersionEnum};
use serde_json::Value;

use crate::engine::LimitSupport;

/// Limits by their names in the API, whose values mean "no limit" when they are zero, negative, empty or false. Engines may
/// describe them in other words than the request, so that only their absence counts.
const LIMITS: [&str; 12] = [
    "CpuShares",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpusetCpus",
    "CpusetMems",
    "BlkioWeight",
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "ShmSize",
];

/// The kernel's usual period of a CPU quota, in microseconds.
const CPU_PERIOD: i64 = 100_000;

/// Billionths of a processor that rounding may add: a quota is a whole number of microseconds of such a period.
const CPU_ROUNDING: i64 = 1_000_000_000 / CPU_PERIOD;

/// Returns whether a warning says that a requested limit is not set.
pub(super) fn says_discarded(warning: &str, asked: &HostConfig) -> bool {
    let warning = warning.to_ascii_lowercase();
    if warning.contains("swap limit") || warning.contains("without swap") {
        // Docker gives this warning for every container with limited memory, even without a limit on swap.
        return asked.memory_swap.is_some_and(|limit| limit > 0);
    }
    let unsupported = warning.contains("does not support") || warning.contains("not supported");
    let dropped = ["discarded", "ignored", "cgroup is not mounted"];
    // The first word also occurs in "Published ports are discarded when using host network mode", which is not about a
    // limit.
    dropped.iter().any(|word| warning.contains(word)) && (unsupported || warning.contains("limit"))
}

/// The limits, and the setters of a spec that request them.
const SETTERS: [(&str, &str); 3] = [("Memory", "memory"), ("PidsLimit", "pids_limit"), ("NanoCpus", "cpus")];

/// Returns the requested limits that the container does not have, by its description: those that are missing or larger.
/// Smaller limits are fine.
pub(super) fn missing(asked: &HostConfig, found: &HostConfig, is_podman: bool) -> Vec<String> {
    let mut missing = Vec::new();
    let amounts = [
        ("Memory", asked.memory, found.memory, 0),
        ("MemorySwap", asked.memory_swap, found.memory_swap, 0),
        ("PidsLimit", asked.pids_limit, found.pids_limit, 0),
        ("NanoCpus", nano_cpus(asked), nano_cpus(found), CPU_ROUNDING),
        (
            "MemoryReservation",
            asked.memory_reservation.filter(|_| !is_podman),
            found.memory_reservation,
            0,
        ),
    ];
    for (name, asked, found, more) in amounts {
        let Some(wanted) = asked.filter(|asked| *asked > 0) else {
            continue;
        };
        if found.is_none_or(|found| found <= 0 || found > wanted.saturating_add(more)) {
            let found = found.map_or_else(|| "null".to_owned(), |found| found.to_string());
            let setter = SETTERS.iter().find(|(limit, _)| *limit == name);
            let hint = setter.map_or(String::new(), |(_, setter)| format!(" (see {setter}())"));
            missing.push(format!("{name} is {found} where {wanted} was asked for{hint}"));
        }
    }
    missing.extend(missing_ulimits(asked, found, is_podman));
    let as_json = |config: &HostConfig| serde_json::to_value(config).unwrap_or_default();
    let (asked, found) = (as_json(asked), as_json(found));
    let absent = LIMITS
        .iter()
        .filter(|name| is_limit(&asked[**name]) && !is_limit(&found[**name]));
    missing.extend(absent.map(|name| format!("{name} is {} where {} was asked for", found[*name], asked[*name])));
    missing
}

/// Returns the usable processor time, in billionths of one processor, whether the limit is given directly or as a quota.
fn nano_cpus(config: &HostConfig) -> Option<i64> {
    if let Some(cpus) = config.nano_cpus.filter(|cpus| *cpus > 0) {
        return Some(cpus);
    }
    let quota = config.cpu_quota.filter(|quota| *quota > 0)?;
    let period = config.cpu_period.filter(|period| *period > 0).unwrap_or(CPU_PERIOD);
    let cpus = i128::from(quota) * 1_000_000_000 / i128::from(period);
    Some(i64::try_from(cpus).unwrap_or(i64::MAX))
}

fn missing_ulimits(asked: &HostConfig, found: &HostConfig, is_podman: bool) -> Vec<String> {
    // A negative number is unlimited. Podman may write unlimited in another way, which bollard does not decode as a number.
    let amount = |value: Option<i64>| value.map_or(0, |value| u64::try_from(value).unwrap_or(u64::MAX));
    let name = |limit: &ResourcesUlimits| {
        let name = limit.name.as_deref().unwrap_or_default().to_ascii_lowercase();
        name.strip_prefix("rlimit_").unwrap_or(&name).to_owned()
    };
    let mut missing = Vec::new();
    for wanted in asked.ulimits.iter().flatten() {
        let (soft, hard) = (amount(wanted.soft), amount(wanted.hard));
        let there = found.ulimits.iter().flatten().find(|there| name(there) == name(wanted));
        let is = match there {
            // Not every version of Podman describes all limits.
            None if is_podman => continue,
            None => "not set".to_owned(),
            Some(there) if amount(there.soft) > soft || amount(there.hard) > hard => {
                format!("{}:{}", amount(there.soft), amount(there.hard))
            }
            Some(_) => continue,
        };
        missing.push(format!(
            "ulimit {} is {is} where {soft}:{hard} was asked for",
            name(wanted)
        ));
    }
    missing
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

/// Returns the version of the control groups of the engine's kernel. `None`: not reported; engines report it since API 1.41.
pub(super) fn cgroup_version(info: &SystemInfo) -> Option<u8> {
    match info.cgroup_version? {
        SystemInfoCgroupVersionEnum::_1 => Some(1),
        SystemInfoCgroupVersionEnum::_2 => Some(2),
        _ => None,
    }
}

/// Returns whether root in a container is another user outside.
pub(super) fn remaps_users(info: &SystemInfo) -> bool {
    let says = |option: &String| {
        option
            .split(',')
            .any(|part| matches!(part, "name=rootless" | "name=userns"))
    };
    info.security_options.iter().flatten().any(says)
}

/// Returns the limits that the engine claims to support. A limit that it does not mention counts as supported.
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

    #[test]
    fn real_time_limits_that_podman_drops_are_missing() {
        let asked = HostConfig {
            cpu_realtime_period: Some(1_000_000),
            cpu_realtime_runtime: Some(950_000),
            ..Default::default()
        };
        let dropped = HostConfig {
            cpu_realtime_period: Some(0),
            cpu_realtime_runtime: None,
            ..Default::default()
        };
        for is_podman in [false, true] {
            let told = missing(&asked, &dropped, is_podman);
            assert_eq!(
                told,
                [
                    "CpuRealtimePeriod is 0 where 1000000 was asked for",
                    "CpuRealtimeRuntime is null where 950000 was asked for",
                ]
            );
            assert_eq!(missing(&asked, &asked, is_podman), [""; 0]);
        }
    }

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
    fn warnings_about_discarded_limits_differ_from_other_warnings() {
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
    fn an_absent_or_larger_limit_is_missing_and_a_smaller_one_is_not() {
        let found = HostConfig {
            memory: Some(1 << 19),
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
        assert_eq!(missing(&asked(), &found, true), told);
        assert_eq!(missing(&found, &found, false), [""; 0]);
        let found = HostConfig {
            blkio_weight: Some(10),
            ..asked()
        };
        assert_eq!(
            missing(&asked(), &found, false),
            [""; 0],
            "of another value, as engines may round it"
        );
    }

    #[test]
    fn an_amount_is_missing_if_it_is_unlimited_or_larger() {
        type Set = fn(&mut HostConfig, Option<i64>);
        let amounts: [(&str, Set); 5] = [
            ("Memory is", |config, value| config.memory = value),
            ("MemorySwap is", |config, value| config.memory_swap = value),
            ("MemoryReservation is", |config, value| {
                config.memory_reservation = value
            }),
            ("PidsLimit is", |config, value| config.pids_limit = value),
            ("NanoCpus is", |config, value| config.nano_cpus = value),
        ];
        let asked = 500_000_000;
        for (name, set) in amounts {
            let with = |value| {
                let mut config = HostConfig::default();
                set(&mut config, value);
                config
            };
            for bad in [None, Some(0), Some(-1), Some(asked + 10_001), Some(i64::MAX)] {
                let told = missing(&with(Some(asked)), &with(bad), false);
                assert!(told.len() == 1 && told[0].starts_with(name), "{bad:?}: {told:?}");
            }
            for good in [1, asked] {
                assert_eq!(missing(&with(Some(asked)), &with(Some(good)), false), [""; 0], "{name}");
            }
            for nothing in [None, Some(0), Some(-1)] {
                assert_eq!(missing(&with(nothing), &with(Some(i64::MAX)), false), [""; 0], "{name}");
            }
        }
    }

    #[test]
    fn processor_time_is_compared_in_all_its_forms() {
        let cpus = |nano_cpus| HostConfig {
            nano_cpus,
            ..Default::default()
        };
        let quota = |cpu_quota, cpu_period| HostConfig {
            cpu_quota,
            cpu_period,
            ..Default::default()
        };
        for is_podman in [false, true] {
            let holds = |asked: &HostConfig, found: &HostConfig| missing(asked, found, is_podman).is_empty();
            assert!(holds(&cpus(Some(500_000_000)), &quota(Some(50_000), Some(100_000))));
            assert!(holds(&cpus(Some(500_000_000)), &quota(Some(50_000), None)));
            assert!(holds(&cpus(Some(333_333_333)), &quota(Some(33_334), Some(100_000))));
            assert!(holds(&quota(Some(25_000), Some(50_000)), &cpus(Some(500_000_000))));
            assert!(!holds(&cpus(Some(500_000_000)), &quota(Some(50_000), Some(50_000))));
            assert!(!holds(&cpus(Some(500_000_000)), &quota(Some(-1), Some(100_000))));
            assert!(!holds(&quota(Some(25_000), Some(50_000)), &cpus(Some(64_000_000_000))));
            assert!(!holds(&cpus(Some(500_000_000)), &cpus(None)));
        }
    }

    #[test]
    fn a_ulimit_is_missing_if_it_is_absent_or_larger() {
        let with = |name: &str, soft, hard| HostConfig {
            ulimits: Some(vec![ResourcesUlimits {
                name: Some(name.to_owned()),
                soft: Some(soft),
                hard: Some(hard),
            }]),
            ..Default::default()
        };
        let asked = with("nofile", 100, 200);
        for found in [
            with("nofile", 101, 200),
            with("nofile", 100, -1),
            with("RLIMIT_NOFILE", 100, 201),
        ] {
            assert_eq!(missing(&asked, &found, false).len(), 1, "{found:?}");
            assert_eq!(missing(&asked, &found, true).len(), 1, "{found:?}");
        }
        for found in [with("nofile", 100, 200), with("RLIMIT_NOFILE", 50, 200)] {
            assert_eq!(missing(&asked, &found, false), [""; 0]);
        }
        let other = with("core", 0, 0);
        assert_eq!(
            missing(&asked, &other, false),
            ["ulimit nofile is not set where 100:200 was asked for"]
        );
        assert_eq!(missing(&asked, &other, true), [""; 0]);
        assert_eq!(
            missing(&other, &with("core", -1, -1), false).len(),
            1,
            "no core at all was asked for"
        );
        assert_eq!(missing(&with("core", -1, -1), &other, false), [""; 0]);
    }

    #[test]
    fn an_engines_cgroup_version_and_user_mapping_are_decoded() {
        let info = |version, options: &[&str]| SystemInfo {
            cgroup_version: version,
            security_options: Some(options.iter().map(|option| (*option).to_owned()).collect()),
            ..Default::default()
        };
        let v2 = info(
            Some(SystemInfoCgroupVersionEnum::_2),
            &["name=seccomp,profile=builtin", "name=cgroupns"],
        );
        assert_eq!((cgroup_version(&v2), remaps_users(&v2)), (Some(2), false));
        let v1 = info(
            Some(SystemInfoCgroupVersionEnum::_1),
            &["name=seccomp,profile=builtin", "name=userns"],
        );
        assert_eq!((cgroup_version(&v1), remaps_users(&v1)), (Some(1), true));
        assert!(remaps_users(&info(
            None,
            &["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]
        )));
        assert_eq!(
            cgroup_version(&info(Some(SystemInfoCgroupVersionEnum::EMPTY), &[])),
            None
        );
        assert!(!remaps_users(&SystemInfo::default()));
    }
}
