//! What a [`ContainerSpec`] comes to in Docker's terms: the raw configuration, with what the typed setters were given
//! written into it, completed by the defaults of a sandbox. The rule is told at [`ContainerSpec`].

use std::collections::{BTreeMap, HashMap};
use std::fmt::{Debug, Write as _};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountTmpfsOptions, MountType, ResourcesUlimits, RestartPolicyNameEnum,
};
use sha2::{Digest, Sha256};

use super::network::{Network, NetworkKind};
use super::spec::{ContainerSpec, Setting};
use crate::agent::{self, ExecVia, Limit};
use crate::error::FieldError;
use crate::values::labels;
use crate::values::shown::{Argv, variable};

/// PID 1 of a container with a lifeline: reads its standard input to the end, and ends.
const LIFELINE_PID1: &str = "cat";

/// Capabilities of root's that engines leave to containers and that hardly any program in a sandbox needs. The rest stays:
/// the agent starts commands as other users (`SETUID`, `SETGID`) and ends them (`KILL`).
const DROPPED_CAPABILITIES: [&str; 6] = [
    "NET_RAW",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
];

/// Where the kernel has to kill something for memory, it takes a container's process before one of the host's.
const OOM_SCORE_ADJ: i64 = 500;

/// The permissions of a temporary directory: whoever the program runs as can write in it. As Docker's interface has it.
const ANYBODY: i64 = 0o1777;

/// The body of the create call, and every conflict met on the way to it.
pub(crate) fn merge(spec: &ContainerSpec) -> (ContainerCreateBody, Vec<FieldError>) {
    let mut conflicts = Conflicts(Vec::new());
    let mut body = spec.docker_config.clone();
    let inner = body.host_config.take();
    let mut host = match (&spec.host_config, inner) {
        (Some(host), Some(inner)) if *host != inner => {
            conflicts.add(
                "docker_config.host_config",
                "host_config() was given too, and is different",
            );
            host.clone()
        }
        (Some(host), _) => host.clone(),
        (None, inner) => inner.unwrap_or_default(),
    };

    refuse(spec, &body, &host, &mut conflicts);
    set_identity(spec, &mut body, &mut conflicts);
    set_limits(spec, &mut host, &mut conflicts);
    set_isolation(spec, &mut body, &mut host, &mut conflicts);
    set_pid1(spec, &mut body, &mut host, &mut conflicts);
    cover_volumes(spec, &body, &mut host);
    if !spec.supervise {
        // The server that the image's own check asks does not run here.
        body.healthcheck.get_or_insert_with(|| HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        });
    }
    // The default driver would write PID 1's output to the engine's disk.
    host.log_config.get_or_insert_with(|| HostConfigLogConfig {
        typ: Some("none".to_owned()),
        config: None,
    });
    body.host_config = Some(host);
    (body, conflicts.0)
}

/// What would be PID 1 without the library: as the engine has it, an entrypoint of the spec's takes the image's away with
/// its arguments, and arguments of the spec's take those of the image away.
pub(crate) fn own_command(spec: &ContainerSpec, entrypoint: Vec<String>, cmd: Vec<String>) -> Vec<String> {
    let raw = &spec.docker_config;
    let (program, arguments) = match (&spec.cmd, &raw.entrypoint, &raw.cmd) {
        (Some(cmd), ..) => (cmd.clone(), Vec::new()),
        (None, Some(entrypoint), cmd) => (entrypoint.clone(), cmd.clone().unwrap_or_default()),
        (None, None, Some(cmd)) => (entrypoint, cmd.clone()),
        (None, None, None) => (entrypoint, cmd),
    };
    [program, arguments].concat()
}

/// Limits that PID 1 cannot live with when it is the agent, by name and the kernel's number.
const NOT_FOR_PID_1: [(&str, u32); 5] = [("cpu", 0), ("data", 2), ("stack", 3), ("nofile", NOFILE), ("as", 9)];
const NOFILE: u32 = 7;

/// Descriptors that the agent may need.
const AGENT_FILES: i64 = 1024;

/// The number of such a limit, with what it is to be. One that makes no sense is the engine's to refuse.
fn not_for_pid_1(ulimit: &ResourcesUlimits, may_run_all: bool) -> Option<Limit> {
    let name = ulimit.name.as_deref()?.to_ascii_lowercase();
    let (_, which) = NOT_FOR_PID_1.into_iter().find(|(known, _)| *known == name)?;
    // -1 stands for none, here and in the kernel.
    let (soft, hard) = (ulimit.soft? as u64, ulimit.hard? as u64);
    // Few descriptors let the agent run fewer commands at once, but the engine may have to run some for it.
    let spares = soft <= hard && (may_run_all || which != NOFILE);
    spares.then_some(Limit { which, soft, hard })
}

/// Whether nothing that is known before the container's start says that PID 1 may not become another user. Commands of
/// other users are the engine's where it may not.
fn may_become_user(host: &HostConfig, user: Option<&str>) -> bool {
    const NEEDED: [&str; 5] = ["ALL", "CHOWN", "KILL", "SETGID", "SETUID"];
    let needed = |name: &String| {
        let name = name.to_ascii_uppercase();
        NEEDED.contains(&name.trim_start_matches("CAP_"))
    };
    let user = user.and_then(|user| user.split(':').next()).unwrap_or_default();
    matches!(user, "" | "0" | "root") && !host.cap_drop.iter().flatten().any(needed)
}

/// The limits that the agent sets for commands, since it cannot have them itself. None where the engine runs commands: it
/// gives each those of the container.
pub(crate) fn limits_of_commands(spec: &ContainerSpec) -> Vec<Limit> {
    if !spec.agent_runs_commands() {
        return Vec::new();
    }
    let (body, _) = merge(spec);
    let host = body.host_config.unwrap_or_default();
    let may_run_all = may_become_user(&host, body.user.as_deref());
    let limits = host.ulimits.iter().flatten();
    // One of each kind: the frame has no room for more.
    let limits: BTreeMap<_, _> = limits
        .filter_map(|ulimit| not_for_pid_1(ulimit, may_run_all))
        .map(|limit| (limit.which, limit))
        .collect();
    limits.into_values().collect()
}

/// Leaves PID 1 without the limits that are for commands, but with the right to give them theirs.
pub(crate) fn spare_pid_1(body: &mut ContainerCreateBody) {
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

/// A hash of the create call's body without the library's own labels, and of the image it is made from. JSON with sorted
/// keys is the same in every process; SHA-256, cut to half, is short enough for a label.
pub(crate) fn fingerprint(spec: &ContainerSpec, image_id: &str) -> String {
    let (mut body, _) = merge(spec);
    if let Some(labels) = &mut body.labels {
        labels.retain(|name, _| !labels::is_reserved(name));
    }
    // No type in it can fail to be written.
    let mut body = serde_json::to_value(&body).unwrap_or_default();
    // They are sorted anyway, unless somebody in the same program has asked for serde_json's `preserve_order`.
    body.sort_all_objects();
    let mut hash = Sha256::new();
    hash.update(body.to_string());
    hash.update([0]);
    hash.update(image_id);
    hash.update([0]);
    hash.update(spec.platform.as_deref().unwrap_or_default());
    for word in spec.supervised.iter().flatten() {
        hash.update([0]);
        hash.update(word);
    }
    let mut text = String::with_capacity(32);
    for byte in &hash.finalize()[..16] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl ContainerSpec {
    /// Whether the agent is PID 1, and runs commands.
    pub(crate) fn agent_runs_commands(&self) -> bool {
        self.agent.is_some() && self.exec_via != ExecVia::Docker
    }

    /// Whether its containers are on no network.
    pub(crate) fn is_without_network(&self) -> bool {
        let raw = self.raw_host().and_then(|host| host.network_mode.as_deref());
        match &self.network {
            Some(network) => network.kind == NetworkKind::None,
            None => raw.is_none_or(|mode| mode == "none"),
        }
    }

    /// Whether their network is to be removed when the pool is shut down.
    pub(crate) fn removes_network(&self) -> bool {
        self.network.as_ref().is_some_and(Network::is_removed)
    }

    /// Whether the number of processes in its containers is limited.
    pub(crate) fn limits_pids(&self) -> bool {
        let raw = self.raw_host().and_then(|host| host.pids_limit);
        match (self.pids, raw) {
            (Setting::Given(given), _) => given.is_some(),
            (Setting::Default(_), Some(raw)) => raw > 0,
            (Setting::Default(default), None) => default.is_some(),
        }
    }

    fn raw_host(&self) -> Option<&HostConfig> {
        self.host_config.as_ref().or(self.docker_config.host_config.as_ref())
    }
}

struct Conflicts(Vec<FieldError>);

impl Conflicts {
    fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(FieldError::new(field, problem));
    }

    /// Writes what a setter was given into a field, where nothing else may stand.
    fn set<T: PartialEq + Debug>(&mut self, field: &str, setter: &str, raw: &mut Option<T>, value: T) {
        if let Some(old) = raw.replace(value)
            && raw.as_ref() != Some(&old)
        {
            self.differ(field, setter, &old);
        }
    }

    /// The same for one name in a list of names.
    fn insert(&mut self, field: &str, setter: &str, raw: &mut HashMap<String, String>, name: &str, value: &str) {
        if let Some(old) = raw.insert(name.to_owned(), value.to_owned())
            && old != value
        {
            self.differ_in(field, setter, name);
        }
    }

    /// The same for a command.
    fn set_command(&mut self, field: &str, setter: &str, raw: &mut Option<Vec<String>>, value: &[String]) {
        if let Some(old) = raw.replace(value.to_vec())
            && old != value
        {
            self.differ(field, setter, &Argv(&old));
        }
    }

    /// Two values of one name; neither is told, since it may be a secret.
    fn differ_in(&mut self, field: &str, setter: &str, name: &str) {
        self.add(
            field,
            format!("says something else of {name:?} than {setter}(): say it in one place"),
        );
    }

    /// A setter has said that there is no limit.
    fn unlimited(&mut self, field: &str, setter: &str, raw: Option<i64>) {
        if let Some(limit) = raw.filter(|limit| *limit > 0) {
            self.differ(field, setter, &limit);
        }
    }

    fn differ(&mut self, field: &str, setter: &str, raw: &dyn Debug) {
        self.add(
            field,
            format!("is {raw:?}, and {setter}() says something else: say it in one place"),
        );
    }
}

/// What would break the library's own work.
fn refuse(spec: &ContainerSpec, body: &ContainerCreateBody, host: &HostConfig, conflicts: &mut Conflicts) {
    let lifeline = spec.has_lifeline();
    if body
        .labels
        .iter()
        .flatten()
        .any(|(name, _)| name.starts_with(labels::PREFIX))
    {
        conflicts.add(
            "docker_config.labels",
            "names that begin with `dockerpool.` are reserved",
        );
    }
    let restarts = |name| !matches!(name, RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO);
    if host
        .restart_policy
        .as_ref()
        .and_then(|policy| policy.name)
        .is_some_and(restarts)
    {
        conflicts.add(
            "host_config.restart_policy",
            "a container that has died is replaced by the pool, and must not come back by itself",
        );
    }
    match host.auto_remove {
        Some(true) if !lifeline => conflicts.add(
            "host_config.auto_remove",
            "the library removes containers with a command of their own itself, and may ask for their exit code first",
        ),
        Some(false) if lifeline => conflicts.add(
            "host_config.auto_remove",
            "a container that ends with its owner has nobody else to remove it; give it a cmd() of its own",
        ),
        _ => {}
    }
    if !lifeline {
        return;
    }
    let reason = match spec.supervise {
        true => "the agent needs its standard input",
        false => "the library's own PID 1 needs its standard input; give it a cmd() of its own",
    };
    for (field, refused) in [
        ("docker_config.open_stdin", body.open_stdin == Some(false)),
        ("docker_config.stdin_once", body.stdin_once == Some(false)),
        ("docker_config.tty", body.tty == Some(true)),
    ] {
        if refused {
            conflicts.add(field, reason);
        }
    }
}

/// Image, user, directory, environment, labels.
fn set_identity(spec: &ContainerSpec, body: &mut ContainerCreateBody, conflicts: &mut Conflicts) {
    conflicts.set("docker_config.image", "image", &mut body.image, spec.image.clone());
    if let Some(user) = &spec.user {
        conflicts.set("docker_config.user", "user", &mut body.user, user.clone());
    }
    if let Some(dir) = &spec.working_dir {
        conflicts.set(
            "docker_config.working_dir",
            "working_dir",
            &mut body.working_dir,
            dir.clone(),
        );
    }
    if !spec.env.is_empty() {
        let env = body.env.get_or_insert_default();
        for (name, value) in &spec.env {
            let typed = format!("{name}={value}");
            let same_name = |raw: &&String| raw.split('=').next() == Some(name);
            if let Some(raw) = env.iter().find(same_name).filter(|raw| **raw != typed) {
                conflicts.differ_in("docker_config.env", "env", variable(raw));
            }
            env.retain(|raw| !same_name(&raw));
            env.push(typed);
        }
    }
    let labels = body.labels.get_or_insert_default();
    for (name, value) in &spec.labels {
        conflicts.insert("docker_config.labels", "label", labels, name, value);
    }
    labels.extend(spec.own_labels.clone());
}

/// Memory, cpus, processes.
fn set_limits(spec: &ContainerSpec, host: &mut HostConfig, conflicts: &mut Conflicts) {
    // The checks of the spec have seen to it that the numbers fit.
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    match spec.memory {
        Setting::Given(Some(bytes)) => {
            conflicts.set("host_config.memory", "memory", &mut host.memory, signed(bytes));
        }
        Setting::Given(None) => conflicts.unlimited("host_config.memory", "memory", host.memory),
        Setting::Default(bytes) => host.memory = host.memory.or(bytes.map(signed)),
    }
    if let Some(limit) = host.memory.filter(|limit| *limit > 0) {
        // The engine's default would allow as much swap again.
        host.memory_swap.get_or_insert(limit);
    }
    match spec.pids {
        Setting::Given(Some(pids)) => {
            conflicts.set(
                "host_config.pids_limit",
                "pids_limit",
                &mut host.pids_limit,
                i64::from(pids),
            );
        }
        Setting::Given(None) => conflicts.unlimited("host_config.pids_limit", "pids_limit", host.pids_limit),
        Setting::Default(pids) => host.pids_limit = host.pids_limit.or(pids.map(i64::from)),
    }
    if let Some(cpus) = spec.cpus {
        conflicts.set(
            "host_config.nano_cpus",
            "cpus",
            &mut host.nano_cpus,
            (cpus * 1e9) as i64,
        );
        // Another way to say the same; the engine takes only one of them.
        conflicts.unlimited("host_config.cpu_quota", "cpus", host.cpu_quota);
        conflicts.unlimited("host_config.cpu_period", "cpus", host.cpu_period);
    }
    if let Some(bytes) = spec.shm_size {
        conflicts.set("host_config.shm_size", "shm_size", &mut host.shm_size, signed(bytes));
    }
    if !spec.ulimits.is_empty() {
        let ulimits = host.ulimits.get_or_insert_default();
        for (name, limit) in &spec.ulimits {
            let typed = ResourcesUlimits {
                name: Some(name.clone()),
                soft: Some(signed(limit.soft)),
                hard: Some(signed(limit.hard)),
            };
            let same_name = |raw: &&ResourcesUlimits| raw.name.as_ref() == Some(name);
            if let Some(raw) = ulimits.iter().find(same_name).filter(|raw| **raw != typed) {
                conflicts.differ("host_config.ulimits", "ulimit", raw);
            }
            ulimits.retain(|raw| !same_name(&raw));
            ulimits.push(typed);
        }
    }
    // The kernel may write a program's memory to where it likes, on the engine's machine too (`core_pattern`).
    let ulimits = host.ulimits.get_or_insert_default();
    if !ulimits.iter().any(|limit| limit.name.as_deref() == Some("core")) {
        ulimits.push(ResourcesUlimits {
            name: Some("core".to_owned()),
            soft: Some(0),
            hard: Some(0),
        });
    }
    host.oom_score_adj.get_or_insert(OOM_SCORE_ADJ);
}

/// Network, files, privileges, runtime.
fn set_isolation(
    spec: &ContainerSpec,
    body: &mut ContainerCreateBody,
    host: &mut HostConfig,
    conflicts: &mut Conflicts,
) {
    if let Some(network) = &spec.network {
        // Also where both mean the same network: who reads either should not have to look for the other.
        if let Some(mode) = &host.network_mode {
            conflicts.add(
                "host_config.network_mode",
                format!("is {mode:?}, and network() was called: say it in one place"),
            );
        }
        if network.name().is_some() && body.network_disabled == Some(true) {
            conflicts.add(
                "docker_config.network_disabled",
                "is true, and network() names a network",
            );
        }
        host.network_mode = Some(network.name().unwrap_or("none").to_owned());
    }
    host.network_mode.get_or_insert_with(|| "none".to_owned());

    if !spec.tmpfs.is_empty() {
        let tmpfs = host.tmpfs.get_or_insert_default();
        for (path, options) in &spec.tmpfs {
            conflicts.insert("host_config.tmpfs", "tmpfs", tmpfs, path, options);
        }
    }
    if let Some(read_only) = spec.read_only_root {
        conflicts.set(
            "host_config.readonly_rootfs",
            "read_only_root",
            &mut host.readonly_rootfs,
            read_only,
        );
    }
    if let Some(runtime) = &spec.runtime {
        conflicts.set("host_config.runtime", "runtime", &mut host.runtime, runtime.clone());
    }
    if spec.writable_cgroups {
        // The groups of others are not to be seen, let alone written to.
        conflicts.set(
            "host_config.cgroupns_mode",
            "writable_cgroups",
            &mut host.cgroupns_mode,
            HostConfigCgroupnsModeEnum::PRIVATE,
        );
    }
    if spec.cap_drop_all {
        conflicts.set(
            "host_config.cap_drop",
            "cap_drop_all",
            &mut host.cap_drop,
            vec!["ALL".to_owned()],
        );
    }
    if !spec.cap_add.is_empty() {
        conflicts.set(
            "host_config.cap_add",
            "cap_add",
            &mut host.cap_add,
            spec.cap_add.clone(),
        );
    }
    drop_capabilities(host);
    gain_no_privileges(host);
}

/// Forbids programs to gain privileges, unless the raw configuration says something of that. An empty list does.
fn gain_no_privileges(host: &mut HostConfig) {
    const OPTION: &str = "no-new-privileges";
    match &mut host.security_opt {
        Some(options) if options.is_empty() || options.iter().any(|option| option.starts_with(OPTION)) => {}
        options => options.get_or_insert_default().push(OPTION.to_owned()),
    }
}

/// Takes away what nobody has given, where nobody has said what is to be taken away.
fn drop_capabilities(host: &mut HostConfig) {
    if host.cap_drop.is_some() || host.privileged == Some(true) {
        return;
    }
    // Engines take the names in both cases, with and without the prefix.
    let bare = |name: &String| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
    };
    let given: Vec<_> = host.cap_add.iter().flatten().map(bare).collect();
    if given.iter().any(|name| name == "ALL") {
        return;
    }
    let dropped = DROPPED_CAPABILITIES
        .iter()
        .filter(|name| !given.iter().any(|given| given == *name));
    host.cap_drop = Some(dropped.map(|name| (*name).to_owned()).collect());
}

/// Covers each volume of the image by a file system in memory, but for those that have something mounted on them or are
/// named in the raw configuration. The engine would make an anonymous volume for each, on its disk and without a limit.
fn cover_volumes(spec: &ContainerSpec, body: &ContainerCreateBody, host: &mut HostConfig) {
    // Whatever those containers have there, nobody knows here.
    if host.volumes_from.as_ref().is_some_and(|from| !from.is_empty()) {
        return;
    }
    let limit = host
        .memory
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    // Full before the container's memory is, where there is one.
    let size = limit.unwrap_or(ContainerSpec::DEFAULT_MEMORY) / 2;
    for path in &spec.image_volumes {
        let plain = path.trim_end_matches('/');
        let is_it = |other: &str| other.trim_end_matches('/') == plain;
        // `source:target[:options]`.
        let bound = |bind: &String| bind.split(':').nth(1).is_some_and(is_it);
        let taken = plain.is_empty()
            || host.binds.iter().flatten().any(bound)
            || host.tmpfs.iter().flatten().any(|(path, _)| is_it(path))
            || host
                .mounts
                .iter()
                .flatten()
                .filter_map(|mount| mount.target.as_deref())
                .any(is_it)
            || body.volumes.iter().flatten().any(|path| is_it(path));
        if taken {
            continue;
        }
        // A mount, and not an entry of `tmpfs`: only for one of those the engine makes no volume.
        host.mounts.get_or_insert_default().push(Mount {
            target: Some(plain.to_owned()),
            typ: Some(MountType::TMPFS),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: Some(i64::try_from(size).unwrap_or(i64::MAX)),
                mode: Some(ANYBODY),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
}

/// What runs as PID 1.
fn set_pid1(spec: &ContainerSpec, body: &mut ContainerCreateBody, host: &mut HostConfig, conflicts: &mut Conflicts) {
    // Reaps the zombies that a PID 1 not made for it leaves, which would count against the pids limit.
    host.init.get_or_insert(true);
    // An entrypoint, not a command: the image's own entrypoint must not be put before it.
    if let Some(cmd) = &spec.cmd {
        conflicts.set_command("docker_config.entrypoint", "cmd", &mut body.entrypoint, cmd);
        if let Some(raw) = body.cmd.take().filter(|raw| raw != cmd) {
            conflicts.differ("docker_config.cmd", "cmd", &Argv(&raw));
        }
    }
    if spec.has_lifeline() {
        let pid1 = match &spec.agent {
            Some(file) => {
                let mounts = host.mounts.get_or_insert_default();
                mounts.push(file.mount());
                let socket = spec.agent_socket.as_deref();
                mounts.extend(socket.map(|socket| agent::bind(socket, agent::SOCKET_TARGET)));
                if spec.writable_cgroups {
                    body.user = Some("0:0".to_owned());
                }
                // It reaps for itself, and must be PID 1.
                host.init = Some(false);
                // The only signal that it knows from outside, whatever the image says; else a stop takes all its time.
                body.stop_signal = Some("SIGTERM".to_owned());
                file.program()
            }
            None => {
                if spec.command_user.is_some() {
                    body.user = Some(agent::GUARD_USER.to_owned());
                }
                LIFELINE_PID1
            }
        };
        // In place of a command that is supervised.
        body.entrypoint = Some(vec![pid1.to_owned()]);
        body.cmd = None;
        body.open_stdin = Some(true);
        body.stdin_once = Some(true);
        body.tty = Some(false);
        host.auto_remove = Some(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::RestartPolicy;

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

    fn merged(spec: &ContainerSpec) -> (ContainerCreateBody, HostConfig) {
        let (mut body, conflicts) = merge(spec);
        assert_eq!(conflicts, []);
        let host = body.host_config.take().unwrap();
        (body, host)
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
    fn the_default_hardening_gives_way_to_what_was_said() {
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
    fn volumes_of_the_image_are_covered_unless_something_is_said_of_them() {
        let covered = |spec: ContainerSpec| {
            let mut spec = spec.memory(64 << 20);
            spec.image_volumes = vec!["/a/".into(), "/b".into(), "/".into()];
            let mounts = merged(&spec).1.mounts.unwrap_or_default();
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
        let mut with = spec();
        with.image_volumes = vec!["/a".into()];
        assert_ne!(fingerprint(&with, ""), fingerprint(&spec(), ""));
    }

    #[test]
    fn a_command_of_the_users_own_has_no_lifeline_and_is_not_removed_by_the_engine() {
        let (body, host) = merged(&spec().cmd(["sleep", "60"]));
        assert_eq!(body.entrypoint, Some(vec!["sleep".to_owned(), "60".to_owned()]));
        assert_eq!(body.open_stdin, None);
        assert_eq!(host.auto_remove, None);
    }

    #[test]
    fn options_of_security_let_programs_gain_privileges_only_where_they_say_so() {
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
    fn the_raw_configuration_wins_over_defaults_and_is_joined_with_the_setters() {
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
        assert!(!unlimited.limits_pids());
        let raw = spec().host_config(host(|host| host.memory = Some(0)));
        assert_eq!(merged(&raw).1.memory, Some(0));
        assert!(spec().limits_pids());
    }

    /// The fields that are complained about, whichever of the two was said first.
    fn complaints(
        typed: impl Fn(ContainerSpec) -> ContainerSpec,
        raw: impl Fn(ContainerSpec) -> ContainerSpec,
    ) -> Vec<String> {
        let fields = |spec: &ContainerSpec| -> Vec<_> {
            let found = merge(spec).1;
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
    fn every_field_that_is_said_twice_and_differently_is_named() {
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
    fn what_would_break_the_pool_is_refused() {
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
        differs!("docker_config.open_stdin", |s| s, body.open_stdin = false);
        differs!("docker_config.stdin_once", |s| s, body.stdin_once = false);
        differs!("docker_config.tty", |s| s, body.tty = true);
        // What does no harm is let through.
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
    fn a_fingerprint_tells_what_matters_and_nothing_else() {
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
        let mut owned = full();
        owned.own_labels.insert(labels::INSTANCE.into(), "x".into());
        assert_eq!(of(full()), of(owned));
        assert_ne!(of(full()), of(full().label("c", "3")));
        assert_ne!(of(full()), of(full().memory(64 << 20)));
        assert_ne!(of(full()), of(full().platform("linux/arm64")));
        assert_ne!(of(full()), fingerprint(&full(), "sha256:2"));
        // The same in every process and with every toolchain.
        assert_eq!(of(spec()), "7cafac16b73c2c7bdac484bc16954e3c");
    }

    #[test]
    fn the_own_command_is_as_the_engine_would_have_it() {
        let image = || (vec!["entry".to_owned()], vec!["cmd".to_owned()]);
        let of = |spec: &ContainerSpec| own_command(spec, image().0, image().1).join(" ");
        let raw = |entrypoint: Option<&str>, cmd: Option<&str>| {
            let words = |text: Option<&str>| text.map(|text| vec![text.to_owned()]);
            spec().docker_config(config(|body| {
                body.entrypoint = words(entrypoint);
                body.cmd = words(cmd);
            }))
        };
        assert_eq!(of(&spec()), "entry cmd");
        assert_eq!(of(&spec().cmd(["sleep", "60"])), "sleep 60");
        assert_eq!(of(&raw(None, Some("mine"))), "entry mine");
        assert_eq!(of(&raw(Some("mine"), None)), "mine");
        assert_eq!(of(&raw(Some("mine"), Some("too"))), "mine too");
        assert_eq!(own_command(&spec(), Vec::new(), Vec::new()), [""; 0]);
    }

    #[test]
    fn where_cgroups_are_writable_pid_1_is_root_in_a_namespace_of_its_own() {
        let private = Some(HostConfigCgroupnsModeEnum::PRIVATE);
        let mut spec = spec().user("nobody").writable_cgroups(true);
        let (body, host) = merged(&spec);
        assert_eq!(
            (body.user.as_deref(), host.cgroupns_mode),
            (Some("nobody"), private),
            "PID 1 is not decided"
        );
        spec.agent = Some(agent::AgentFile::in_volume("any".to_owned()));
        let (body, host) = merged(&spec);
        assert_eq!((body.user.as_deref(), host.cgroupns_mode), (Some("0:0"), private));
        // The way to ask for it is the engine's own.
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        let (body, host) = merged(&spec.clone().writable_cgroups(false));
        assert_eq!((body.user.as_deref(), host.cgroupns_mode), (Some("nobody"), None));
        let raw = super::tests::host(|host| host.cgroupns_mode = Some(HostConfigCgroupnsModeEnum::HOST));
        let problems = merge(&spec.host_config(raw)).1;
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].field(), "host_config.cgroupns_mode");
    }

    #[test]
    fn a_supervised_command_is_not_pid_1_and_is_told_in_the_fingerprint() {
        let supervised = |cmd: &str| {
            let mut spec = spec()
                .cmd([cmd])
                .supervise_command(true)
                .exec_via(crate::ExecVia::Agent);
            spec.supervised = Some(vec![cmd.to_owned()]);
            spec
        };
        let (body, host) = merged(&supervised("a"));
        assert_eq!((body.entrypoint, body.cmd), (Some(vec!["cat".to_owned()]), None));
        assert_eq!((body.open_stdin, host.auto_remove), (Some(true), Some(true)));
        assert_ne!(fingerprint(&supervised("a"), ""), fingerprint(&supervised("b"), ""));
        // Said twice it is still compared.
        let raw = config(|body| body.cmd = Some(vec!["b".to_owned()]));
        assert_eq!(merge(&supervised("a").docker_config(raw)).1.len(), 1);
    }

    #[test]
    fn an_image_may_be_named_in_the_raw_configuration() {
        let spec = ContainerSpec::new("").docker_config(config(|body| body.image = Some("raw".into())));
        assert_eq!(spec.image(), "raw");
        assert!(spec.problems().is_empty());
    }
}
