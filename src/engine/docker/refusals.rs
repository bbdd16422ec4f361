//! One table of the words of engines and runtimes about a container that is not made or started because of one of its settings.
//!
//! Most of it comes with the status 500, as a fault of the engine's own does, and some with that of another failure. What is
//! in the table fails again each time, so it is [`Rejected`](EngineErrorKind::Rejected), and no retry is advised. Collected by
//! provoking each on Docker 20.10, Docker 28 and Podman 5.8, and from the sources of Moby, runc, crun and Podman.

use crate::engine::{EngineError, EngineErrorKind, OWN_TARGETS};

/// All of these phrases, in lower case, are in the words; and the setting that they are about.
struct Row {
    phrases: &'static [&'static str],
    setting: &'static str,
}

const fn row(phrases: &'static [&'static str], setting: &'static str) -> Row {
    Row { phrases, setting }
}

const SECCOMP: &str = "host_config.security_opt: Docker wants the profile itself after `seccomp=`, as JSON, and not the path of a \
                       file; Podman wants the path of one on its machine";
const SECURITY_OPT: &str = "host_config.security_opt";
const DEVICES: &str = "host_config.devices, or the devices of host_config.blkio_*";
const SYSCTLS: &str = "host_config.sysctls";
const MOUNTS: &str = "host_config.mounts and host_config.binds";
const TMPFS: &str = "tmpfs() and tmpfs_with()";
const ULIMITS: &str = "ulimit()";
const USER: &str = "user(): the image has no such user or group, or its number is beyond the engine's range";
const OTHERS: &str = "the other container named in host_config (volumes_from, links, or a mode `container:`)";

/// The row whose first phrase stands first in the words counts, and of several there the longest: what a setting names itself, as
/// a path, comes after the phrase that introduces it, and cannot pass for another setting.
const TABLE: &[Row] = &[
    row(&["seccomp"], SECCOMP),
    row(&["--security-opt"], SECURITY_OPT),
    row(&["apparmor"], SECURITY_OPT),
    row(&["systempaths option"], SECURITY_OPT),
    row(&["custom device \""], DEVICES),
    row(&["is not a valid device"], DEVICES),
    row(&["invalid device mode"], DEVICES),
    row(&["device cgroup rule"], "host_config.device_cgroup_rules"),
    row(&["could not select device driver"], "host_config.device_requests"),
    row(&["cdi device"], "host_config.device_requests"),
    row(&["stat /dev/", "no such file or directory"], DEVICES),
    row(&["stat of device"], DEVICES),
    row(&["not a device node"], DEVICES),
    row(&["blkio.throttle.", "no such device"], DEVICES),
    row(&["write /sys/fs/cgroup", "io.max", "no such device"], DEVICES),
    row(&["storage-opt"], "host_config.storage_opt"),
    row(&["storage opt"], "host_config.storage_opt"),
    row(&["unknown option "], "host_config.storage_opt"),
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
        "host_config.volume_driver and the drivers of host_config.mounts",
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
        "tmpfs_with(), host_config.mounts and host_config.binds",
    ),
    row(&["bind-propagation="], MOUNTS),
    row(&["invalid filesystem type"], MOUNTS),
    row(&["invalid option type"], MOUNTS),
    row(&["fill out specgen: lstat "], MOUNTS),
    row(&["must be an absolute path"], MOUNTS),
    row(&["wrong rlimit value"], ULIMITS),
    row(&["ulimit option"], ULIMITS),
    row(&["unknown capability"], "cap_add() and host_config.cap_drop"),
    row(
        &["write to `cpu.max`", "invalid argument"],
        "cpus() and host_config.cpu_*",
    ),
    row(&["oom_score_adj", "invalid argument"], "host_config.oom_score_adj"),
    row(&["blkio-weight-device"], DEVICES),
    row(&["could not parse device"], DEVICES),
    row(&["cannot set memory"], "memory() and host_config.memory_*"),
    row(&["the memory limit could be too low"], "memory()"),
    row(&["invalid ulimit"], ULIMITS),
    row(&["cpu real-time"], "host_config.cpu_realtime_*"),
    row(&["invalid isolation"], "host_config.isolation"),
    row(&["invalid ipc mode"], "host_config.ipc_mode"),
    row(&["joining network namespace of container"], OTHERS),
    row(&["cpu.rt_", "invalid argument"], "host_config.cpu_realtime_*"),
    row(&["logging plugin"], "host_config.log_config"),
    row(&["logging driver: invalid "], "host_config.log_config"),
    row(&["log driver"], "host_config.log_config"),
    row(&["bad nameserver address"], "host_config.dns"),
    row(&["sethostname"], "docker_config.hostname"),
    row(&["invalid mac address"], "docker_config.mac_address"),
    row(&["cannot mkdir: "], "working_dir()"),
    // Docker makes the directory as it creates the container, runc as it starts it.
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
    row(&["cannot disable oom killer"], "host_config.oom_kill_disable"),
    row(&["not a block device"], DEVICES),
];

/// Counts where no row of the table fits: where Podman makes its own form of what was asked for.
const VAGUE: &[Row] = &[
    row(&["fill out specgen: "], "docker_config and host_config"),
    row(&["make cli opts(): "], "docker_config and host_config"),
];

/// In the paths of the library's own files on this machine.
const OWN_DIRECTORY: &str = "/dockerpool";

/// Of these the same call may succeed later, or the setting is not to blame, whatever else is said.
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
    // Its words name the container, and so the pool.
    "programming external connectivity",
    "port is already allocated",
    "address already in use",
    "timed out",
    "client.timeout",
    "deadline exceeded",
    "context canceled",
    "no such process",
];

/// As [`PASSING`], where it is a word of its own: settings have it in their names, as `net.ipv4.tcp_fin_timeout`.
const PASSING_WORD: &str = "timeout";

/// Whether a word stands in a text otherwise than within a name.
fn has_word(text: &str, word: &str) -> bool {
    let is_of_name = |character: char| character.is_alphanumeric() || "_-./\"`'".contains(character);
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        // A full stop ends a sentence, and no name.
        before.is_none_or(|before| !is_of_name(before)) && after.is_none_or(|after| after == '.' || !is_of_name(after))
    })
}

/// About the program that is PID 1, which has a kind of its own.
const PROGRAM: [&str; 2] = ["exec: \"", "executable file "];

/// An engine does not make or start a container: says that it is for a setting, and which, where the words tell. `own` is
/// what the library itself has mounted in it: of that, another way may work.
pub(super) fn explain(error: EngineError, own: &[String]) -> EngineError {
    use EngineErrorKind as Kind;

    let words = error.to_string();
    let is_own = words.contains(OWN_TARGETS)
        || words.contains(OWN_DIRECTORY)
        || own.iter().any(|source| words.contains(&**source));
    let setting = setting(&words);
    // Other settings than mounts name no files of the library's.
    let is_own = is_own && setting.is_none_or(|setting| setting == MOUNTS);
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
        None => error,
    };
    // Where the words are in no row, the engine's own status says that it is for what was asked.
    match (setting.is_some() || is_rejected) && !may_be_own {
        true => error.of_settings(),
        false => error,
    }
}

/// As [`explain`], where there is no container yet: another one that is not there is one that a setting names.
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
    fn what_engines_were_heard_to_say_of_settings_is_no_fault_of_theirs() {
        for (words, setting) in [
            // Docker 20.10 and 28 with runc.
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
                "host_config.storage_opt",
            ),
            (
                "CDI device injection failed: unresolvable CDI devices vendor.com/x=y",
                "host_config.device_requests",
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
    fn what_a_setting_names_itself_does_not_pass_for_another_setting_or_for_what_is_passing() {
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
                "host_config.log_config",
            ),
            (
                "failed to write \"950000\": write /sys/fs/cgroup/cpu/docker/0/cpu.rt_runtime_us: invalid argument: unknown",
                "host_config.cpu_realtime_*",
            ),
        ] {
            let error = explain(EngineError::new(EngineErrorKind::Internal, words), &[]);
            assert_eq!(error.kind(), EngineErrorKind::Rejected, "{words}");
            let told = error.to_string();
            assert!(told.ends_with(&format!("(see {setting})")), "{told}");
        }
    }

    #[test]
    fn what_may_go_well_later_stays_what_it_was() {
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
        // Whatever the words: the engine did not answer.
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
    fn a_mount_that_may_be_the_librarys_leaves_other_ways_open() {
        let words = "invalid mount config for type \"bind\": bind source path does not exist: /host_mnt/x";
        let refused = || EngineError::new(EngineErrorKind::Rejected, words);
        assert!(!explain(refused(), &["/run/dockerpool/x/agent".to_owned()]).is_of_settings());
        assert!(explain(refused(), &[]).is_of_settings());
    }

    #[test]
    fn a_refusal_in_words_that_nobody_knows_is_of_the_settings_too() {
        let error = explained(EngineErrorKind::Rejected, "Minimum memory limit allowed is 6MB");
        assert!(error.is_of_settings());
        let missing = EngineError::new(EngineErrorKind::NotFound, "No such container: no-such");
        assert_eq!(explain_creation(missing.clone(), &[]).kind(), EngineErrorKind::Rejected);
        // Of a start it may be the container itself.
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
