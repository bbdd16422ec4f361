//! One table of the words of engines and runtimes about a setting for which they do not create or start a container.
//!
//! Most of these words come with the status 500, as the engine's own faults do. A failure in the table repeats on each
//! attempt, so its kind is [`Rejected`](EngineErrorKind::Rejected), and no retry is advised. The words were provoked on
//! Docker 20.10, Docker 28 and Podman 5.8, and collected from the sources of Moby, runc, crun and Podman.

use crate::engine::{EngineError, EngineErrorKind, OWN_TARGETS};

/// Holds phrases, in lower case, that all occur in the words, and the setting that they are about.
struct Row {
    phrases: &'static [&'static str],
    setting: &'static str,
}

const fn row(phrases: &'static [&'static str], setting: &'static str) -> Row {
    Row { phrases, setting }
}

const SECCOMP: &str = "HostConfig.SecurityOpt: Docker wants the profile itself after `seccomp=`, as JSON, and not the path of a \
                       file; Podman wants the path of one on its machine";
const SECURITY_OPT: &str = "HostConfig.SecurityOpt";
const DEVICES: &str = "HostConfig.Devices, or the devices of HostConfig.Blkio*";
const SYSCTLS: &str = "HostConfig.Sysctls";
const MOUNTS: &str = "HostConfig.Mounts and HostConfig.Binds";
const TMPFS: &str = "tmpfs() and tmpfs_with()";
const ULIMITS: &str = "ulimit()";
const USER: &str = "user(): the image has no such user or group, or its number is beyond the engine's range";
const OTHERS: &str = "the other container named in HostConfig (VolumesFrom, Links, or a mode `container:`)";

/// The names with a large first letter are Docker's, as `raw_config()` takes them. bollard's types document them too.
///
/// The row whose first phrase occurs first in the words wins; of several at one place, the longest. A name chosen by the
/// user, such as a path, comes after the phrase that introduces it, and so cannot pass for another setting.
const TABLE: &[Row] = &[
    row(&["seccomp"], SECCOMP),
    row(&["--security-opt"], SECURITY_OPT),
    row(&["apparmor"], SECURITY_OPT),
    row(&["systempaths option"], SECURITY_OPT),
    row(&["custom device \""], DEVICES),
    row(&["is not a valid device"], DEVICES),
    row(&["invalid device mode"], DEVICES),
    row(&["device cgroup rule"], "HostConfig.DeviceCgroupRules"),
    row(&["could not select device driver"], "HostConfig.DeviceRequests"),
    row(&["cdi device"], "HostConfig.DeviceRequests"),
    row(&["stat /dev/", "no such file or directory"], DEVICES),
    row(&["stat of device"], DEVICES),
    row(&["not a device node"], DEVICES),
    row(&["blkio.throttle.", "no such device"], DEVICES),
    row(&["write /sys/fs/cgroup", "io.max", "no such device"], DEVICES),
    row(&["storage-opt"], "HostConfig.StorageOpt"),
    row(&["storage opt"], "HostConfig.StorageOpt"),
    row(&["unknown option "], "HostConfig.StorageOpt"),
    row(&["unknown runtime"], "runtime()"),
    row(&["unknown or invalid runtime"], "runtime()"),
    row(&["sysctl"], SYSCTLS),
    row(&["open /proc/sys/"], SYSCTLS),
    row(&["open `/proc/sys/"], SYSCTLS),
    row(&["open `sys/"], SYSCTLS),
    row(&["write /proc/sys/"], SYSCTLS),
    row(&["write to `/proc/sys/"], SYSCTLS),
    row(&["invalid tmpfs option"], TMPFS),
    row(&["error mounting \"tmpfs\" to rootfs at "], TMPFS),
    row(&["mount `tmpfs` to `"], TMPFS),
    row(&["error mounting \"", "\" to rootfs at \""], MOUNTS),
    row(&["mount `", "` to `"], MOUNTS),
    row(&["error while creating mount source path"], MOUNTS),
    row(&["bind source path does not exist"], MOUNTS),
    row(&["but it is not a shared mount"], MOUNTS),
    row(&["but it is not a shared or slave mount"], MOUNTS),
    row(&["failed to mount local volume"], MOUNTS),
    row(&["invalid mount"], MOUNTS),
    row(&["duplicate mount"], MOUNTS),
    row(&["invalid mode: "], MOUNTS),
    row(&["invalid volume"], MOUNTS),
    row(
        &["volume plugin"],
        "HostConfig.VolumeDriver and the drivers of HostConfig.Mounts",
    ),
    row(&["cannot access path /", "/volumes/"], MOUNTS),
    row(&["statfs /", "no such file or directory"], MOUNTS),
    row(&["making volume mountpoint"], MOUNTS),
    row(&["mkdir `/proc/"], MOUNTS),
    row(
        &["error creating directory `", "exists and it is not a directory"],
        MOUNTS,
    ),
    row(
        &["unknown mount option \""],
        "tmpfs_with(), HostConfig.Mounts and HostConfig.Binds",
    ),
    row(&["bind-propagation="], MOUNTS),
    row(&["invalid filesystem type"], MOUNTS),
    row(&["invalid option type"], MOUNTS),
    row(&["fill out specgen: lstat "], MOUNTS),
    row(&["must be an absolute path"], MOUNTS),
    row(&["wrong rlimit value"], ULIMITS),
    row(&["ulimit option"], ULIMITS),
    row(&["unknown capability"], "cap_add() and HostConfig.CapDrop"),
    row(
        &["write to `cpu.max`", "invalid argument"],
        "cpus() and HostConfig.Cpu*",
    ),
    row(&["oom_score_adj", "invalid argument"], "HostConfig.OomScoreAdj"),
    row(&["blkio-weight-device"], DEVICES),
    row(&["could not parse device"], DEVICES),
    row(&["range of cpus is from"], "cpus()"),
    row(&["nano cpus"], "cpus() and HostConfig.Cpu*"),
    row(&["cpu cfs "], "HostConfig.CpuPeriod and HostConfig.CpuQuota"),
    row(&["cpuset cpus"], "HostConfig.CpusetCpus"),
    row(&["requested cpus are not available"], "HostConfig.CpusetCpus"),
    row(&["cpuset.cpus"], "HostConfig.CpusetCpus"),
    row(&["cpuset mems"], "HostConfig.CpusetMems"),
    row(&["requested memory nodes are not available"], "HostConfig.CpusetMems"),
    row(&["cpuset.mems"], "HostConfig.CpusetMems"),
    row(&["memoryswap"], "memory() and HostConfig.MemorySwap"),
    row(&["memory reservation"], "memory() and HostConfig.MemoryReservation"),
    row(&["swappiness range"], "HostConfig.MemorySwappiness"),
    row(&["minimum memory limit allowed"], "memory()"),
    row(&["blkio weight"], "HostConfig.BlkioWeight"),
    row(&["shm size"], "shm_size()"),
    row(&["cannot set memory"], "memory() and HostConfig.Memory*"),
    row(&["the memory limit could be too low"], "memory()"),
    row(&["invalid ulimit"], ULIMITS),
    row(&["cpu real-time"], "HostConfig.CpuRealtime*"),
    row(&["invalid isolation"], "HostConfig.Isolation"),
    row(&["invalid ipc mode"], "HostConfig.IpcMode"),
    row(&["joining network namespace of container"], OTHERS),
    row(&["cpu.rt_", "invalid argument"], "HostConfig.CpuRealtime*"),
    row(&["logging plugin"], "HostConfig.LogConfig"),
    row(&["failed to initialize logging driver"], "HostConfig.LogConfig"),
    row(&["unable to apply caps"], "cap_add() and HostConfig.CapAdd"),
    row(&["logging driver: invalid "], "HostConfig.LogConfig"),
    row(&["log driver"], "HostConfig.LogConfig"),
    row(&["bad nameserver address"], "HostConfig.Dns"),
    row(&["sethostname"], "Hostname"),
    row(&["invalid mac address"], "MacAddress"),
    row(&["cannot mkdir: "], "working_dir()"),
    // Docker makes the directory at the creation of the container, runc at the start.
    row(&["lstat /", "/merged/", "not a directory"], "working_dir()"),
    row(
        &["container init: mkdir /", "no such file or directory"],
        "working_dir()",
    ),
    row(&["workdir \"", "is not a directory"], "working_dir()"),
    row(&["uids and gids must be in range"], USER),
    row(&["unable to find user ", "no matching entries"], USER),
    row(&["unable to find group ", "no matching entries"], USER),
    row(&["setuid to unmapped uid"], USER),
    row(&["setgid to unmapped gid"], USER),
    row(&["cannot disable oom killer"], "HostConfig.OomKillDisable"),
    row(&["not a block device"], DEVICES),
];

/// Rows that apply if no row of [`TABLE`] does: Podman's errors while it builds its own form of the request.
const VAGUE: &[Row] = &[
    row(&["fill out specgen: "], "raw_config()"),
    row(&["make cli opts(): "], "raw_config()"),
];

/// The start of the paths of the library's own files on this machine.
const OWN_DIRECTORY: &str = "/dockerpool";

/// Words of failures that a retry may not meet again, or that no setting causes. They win over every row.
const PASSING: &[&str] = &[
    "no space left on device",
    "disk quota exceeded",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "too many open files",
    "device or resource busy",
    "input/output error",
    "read-only file system",
    "connection refused",
    "connection reset",
    "no such host",
    "no route to host",
    "network is unreachable",
    "host is down",
    "stale file handle",
    // These words contain the container's name, and so the pool's.
    "programming external connectivity",
    "port is already allocated",
    "address already in use",
    "timed out",
    "client.timeout",
    "deadline exceeded",
    "context canceled",
    "no such process",
];

/// A phrase like those in [`PASSING`], but only as a word of its own: settings contain it in their names, such as
/// `net.ipv4.tcp_fin_timeout`.
const PASSING_WORD: &str = "timeout";

/// Returns whether a text contains this word outside of longer names.
fn has_word(text: &str, word: &str) -> bool {
    let is_of_name = |character: char| character.is_alphanumeric() || "_-./\"`'".contains(character);
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        // A full stop ends a sentence, and is no part of a name.
        before.is_none_or(|before| !is_of_name(before)) && after.is_none_or(|after| after == '.' || !is_of_name(after))
    })
}

/// Phrases about the program of PID 1, which has a kind of its own.
const PROGRAM: [&str; 2] = ["exec: \"", "executable file "];

/// Explains the error of an engine that does not create or start a container: names the setting to blame, if the words tell.
/// `own` are the library's own mounts in the container: if one of them is to blame, another way to mount it may work.
pub(super) fn explain(error: EngineError, own: &[String]) -> EngineError {
    use EngineErrorKind as Kind;

    let words = error.to_string();
    let is_own = words.contains(OWN_TARGETS)
        || words.contains(OWN_DIRECTORY)
        || own.iter().any(|source| words.contains(&**source));
    let setting = setting(&words);
    // Only settings of mounts name files of the library.
    let is_own = is_own && setting.is_none_or(|setting| setting == MOUNTS);
    if is_own && error.kind() == Kind::CannotStart {
        // Not the image's program.
        return error.advise("the engine's machine does not let the agent run: see ExecVia");
    }
    if is_own
        || !matches!(
            error.kind(),
            Kind::Internal | Kind::NotFound | Kind::Rejected | Kind::CannotStart
        )
    {
        return error;
    }
    // An engine in a virtual machine has other names for this machine's files.
    let may_be_own = !own.is_empty() && (setting == Some(MOUNTS) || words.to_ascii_lowercase().contains("mount"));
    let is_rejected = error.kind() == Kind::Rejected;
    let error = match setting {
        Some(setting) => EngineError::new(Kind::Rejected, format!("{words} (see {setting})")),
        None if says_exhausted(&words) => {
            error.advise("the container has too little for its own start: see pids_limit() and memory()")
        }
        None => error,
    };
    // If no row matches, the engine's own status says that the request is to blame.
    match (setting.is_some() || is_rejected) && !may_be_own {
        true => error.of_settings(),
        false => error,
    }
}

/// Returns whether a container could not be started for want of processes or memory.
fn says_exhausted(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    let phrases = [
        "resource temporarily unavailable",
        "cannot allocate memory",
        "oom-killed",
    ];
    phrases.iter().any(|phrase| words.contains(phrase))
}

/// Explains the error of a create call, like [`explain`]. A missing container is then one that a setting names.
pub(super) fn explain_creation(error: EngineError, own: &[String]) -> EngineError {
    let words = error.to_string().to_ascii_lowercase();
    let names_another = ["no such container", "no container with name"];
    let is_answer = matches!(
        error.kind(),
        EngineErrorKind::NotFound | EngineErrorKind::Rejected | EngineErrorKind::Internal
    );
    if is_answer && names_another.iter().any(|its| words.contains(its)) {
        let words = format!("{error} (see {OTHERS})");
        return EngineError::new(EngineErrorKind::Rejected, words).of_settings();
    }
    explain(error, own)
}

fn setting(words: &str) -> Option<&'static str> {
    let words = words.to_ascii_lowercase();
    let says = |phrase: &&str| words.contains(*phrase);
    if PASSING.iter().any(says) || has_word(&words, PASSING_WORD) || PROGRAM.iter().any(says) {
        return None;
    }
    let fits = |row: &&Row| row.phrases.iter().all(says);
    let place = |row: &&Row| {
        let first = row.phrases[0];
        (words.find(first), std::cmp::Reverse(first.len()))
    };
    let row = TABLE.iter().filter(fits).min_by_key(place);
    Some(row.or_else(|| VAGUE.iter().find(fits))?.setting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(kind: EngineErrorKind, words: &str) -> EngineError {
        explain(EngineError::new(kind, words), &["/run/user/0/x/agent".to_owned()])
    }

    #[test]
    fn observed_words_about_settings_are_rejections() {
        for (words, setting) in [
            // Words of Docker 20.10 and 28 with runc.
            (
                "Decoding seccomp profile failed: invalid character '/' looking for beginning of value",
                SECCOMP,
            ),
            (
                "failed to create shim task: OCI runtime create failed: runc create failed: string SCMP_ACT_MAYBE is not a \
                 valid action for seccomp: unknown",
                SECCOMP,
            ),
            ("invalid --security-opt 2: \"nonsense=1\"", SECURITY_OPT),
            (
                "error gathering device information while adding custom device \"/dev/no-such\": no such file or directory",
                DEVICES,
            ),
            ("stat /dev/no: no such file or directory", DEVICES),
            (
                "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
                "HostConfig.StorageOpt",
            ),
            (
                "CDI device injection failed: unresolvable CDI devices vendor.com/x=y",
                "HostConfig.DeviceRequests",
            ),
            (
                "OCI runtime create failed: runc create failed: unable to start container process: error during container \
                 init: open /proc/sys/net/ipv4/no_such: no such file or directory: unknown",
                SYSCTLS,
            ),
            (
                "OCI runtime create failed: runc create failed: sysctl \"vm.swappiness\" is not in a separate kernel namespace",
                SYSCTLS,
            ),
            (
                "OCI runtime create failed: runc create failed: unable to start container process: error during container \
                 init: error mounting \"/etc\" to rootfs at \"/bin/busybox\": mount /etc:/bin/busybox: not a directory",
                MOUNTS,
            ),
            (
                "OCI runtime create failed: runc create failed: unable to start container process: error during container \
                 init: error mounting \"tmpfs\" to rootfs at \"/x\": mount tmpfs:/x: invalid argument",
                TMPFS,
            ),
            ("runc create failed: wrong rlimit value: RLIMIT_NONSENSE", ULIMITS),
        ] {
            for kind in [EngineErrorKind::Internal, EngineErrorKind::CannotStart] {
                let error = explain(EngineError::new(kind, words), &[]);
                assert_eq!(error.kind(), EngineErrorKind::Rejected, "{words}");
                assert!(error.is_of_settings() && !error.is_retryable(), "{words}");
                let told = error.to_string();
                assert!(
                    told.starts_with(words) && told.ends_with(&format!("(see {setting})")),
                    "{told}"
                );
            }
        }
    }

    #[test]
    fn names_in_a_setting_do_not_pass_for_other_settings_or_passing_failures() {
        const WORKING_DIR: &str = "working_dir()";
        for (words, setting) in [
            (
                "OCI runtime create failed: runc create failed: unable to start container process: error during container \
                 init: write /proc/sys/net/ipv4/tcp_fin_timeout: invalid argument: unknown",
                SYSCTLS,
            ),
            (
                "error gathering device information while adding custom device \"/dev/timeout\": no such file or directory",
                DEVICES,
            ),
            (
                "error gathering device information while adding custom device \"/dev/dockerpool-seccomp\": no such file",
                DEVICES,
            ),
            (
                "invalid mount config for type \"bind\": bind source path does not exist: /etc/apparmor.d",
                MOUNTS,
            ),
            (
                "runc create failed: error mounting \"/a/seccomp\" to rootfs at \"/sysctl\": not a directory",
                MOUNTS,
            ),
            ("Cannot mkdir: /etc/passwd/seccomp is not a directory", WORKING_DIR),
            (
                "lstat /var/lib/docker/overlay2/0/merged/usr/bin/busybox/seccomp: not a directory",
                WORKING_DIR,
            ),
            (
                "lstat /var/lib/docker/overlay2/0/merged/usr/bin/busybox/x: not a directory",
                WORKING_DIR,
            ),
            (
                "runc create failed: error during container init: mkdir /proc/nope: no such file or directory: unknown",
                WORKING_DIR,
            ),
            (
                "failed to initialize logging driver: invalid size: 'nonsense'",
                "HostConfig.LogConfig",
            ),
            (
                "failed to write \"950000\": write /sys/fs/cgroup/cpu/docker/0/cpu.rt_runtime_us: invalid argument: unknown",
                "HostConfig.CpuRealtime*",
            ),
        ] {
            let error = explain(EngineError::new(EngineErrorKind::Internal, words), &[]);
            assert_eq!(error.kind(), EngineErrorKind::Rejected, "{words}");
            let told = error.to_string();
            assert!(told.ends_with(&format!("(see {setting})")), "{told}");
        }
    }

    #[test]
    fn failures_that_may_pass_keep_their_kind() {
        for words in [
            "error mounting \"/etc\" to rootfs at \"/x\": no space left on device",
            "error creating overlay mount to /var/lib/docker/overlay2/x/merged: no such file or directory",
            "cannot start a stopped process: unknown",
            "failed to create shim task: context deadline exceeded: seccomp",
            "the moon is full",
            "failed to mount local volume: mount :/e:/var/lib/docker/volumes/v/_data, data: addr=10.0.0.9: no route to host",
            "failed to mount local volume: mount :/e:/var/lib/docker/volumes/v/_data, data: addr=10.0.0.9: i/o timeout",
            "driver failed programming external connectivity on endpoint dockerpool-seccomp-0-1 (0): Bind for 0.0.0.0:80 \
             failed: port is already allocated",
        ] {
            let error = explained(EngineErrorKind::Internal, words);
            assert_eq!(error.kind(), EngineErrorKind::Internal, "{words}");
            assert!(!error.is_of_settings(), "{words}");
        }
        let program = "OCI runtime create failed: exec: \"seccomp\": executable file not found in $PATH";
        assert_eq!(
            explained(EngineErrorKind::CannotStart, program).kind(),
            EngineErrorKind::CannotStart
        );
        // Whatever its words, this error is not an engine's answer.
        for kind in [EngineErrorKind::Timeout, EngineErrorKind::Protocol] {
            assert_eq!(explained(kind, "bad seccomp").kind(), kind);
        }
    }

    #[test]
    fn the_librarys_own_mounts_are_no_settings() {
        for words in [
            "invalid mount config for type \"bind\": bind source path does not exist: /run/user/0/x/agent",
            "error mounting \"/a\" to rootfs at \"/.dockerpool-agent\": permission denied",
        ] {
            for kind in [EngineErrorKind::Rejected, EngineErrorKind::Internal] {
                let error = explained(kind, words);
                assert_eq!((error.kind(), error.is_of_settings()), (kind, false), "{words}");
            }
        }
    }

    #[test]
    fn a_refused_mount_that_may_be_the_librarys_allows_another_way() {
        let words = "invalid mount config for type \"bind\": bind source path does not exist: /host_mnt/x";
        let refused = || EngineError::new(EngineErrorKind::Rejected, words);
        assert!(!explain(refused(), &["/run/dockerpool/x/agent".to_owned()]).is_of_settings());
        assert!(explain(refused(), &[]).is_of_settings());
    }

    #[test]
    fn a_refusal_in_unknown_words_blames_the_settings_too() {
        let error = explained(EngineErrorKind::Rejected, "Minimum memory limit allowed is 6MB");
        assert!(error.is_of_settings());
        let missing = EngineError::new(EngineErrorKind::NotFound, "No such container: no-such");
        assert_eq!(explain_creation(missing.clone(), &[]).kind(), EngineErrorKind::Rejected);
        // At a start, the missing container may be this one.
        assert_eq!(explain(missing, &[]).kind(), EngineErrorKind::NotFound);
    }

    #[test]
    fn all_phrases_are_in_lower_case() {
        for phrase in TABLE
            .iter()
            .chain(VAGUE)
            .flat_map(|row| row.phrases)
            .chain(PASSING)
            .chain(&PROGRAM)
        {
            assert_eq!(*phrase, phrase.to_ascii_lowercase());
        }
    }
}
