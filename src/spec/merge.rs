//! Merges a [`ContainerSpec`] into a body in Docker's own terms: the raw configuration is the base, the values of typed
//! setters are written into it, and defaults fill the rest. The docs of [`ContainerSpec`] have the rules.

use std::collections::HashMap;
use std::fmt::Debug;

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, ResourcesUlimits, RestartPolicyNameEnum,
};

use super::container_spec::{ContainerSpec, Setting};
use super::pid1::GUARD_USER;
use super::raw_config;
use super::resolve::Decided;
use crate::engine::docker::create_body;
use crate::error::FieldError;
use crate::values::labels;
use crate::values::shown::{Argv, variable};

/// The program of a PID 1 with a lifeline that is not the agent. `cat` ends when its standard input does.
const LIFELINE_PID1: &str = "cat";

/// Capabilities of root that engines give to containers and that hardly any program in a sandbox needs. Others stay: the agent
/// needs `SETUID` and `SETGID` to start commands as other users, and `KILL` to end them.
pub(super) const DROPPED_CAPABILITIES: [&str; 6] = [
    "NET_RAW",
    "MKNOD",
    "AUDIT_WRITE",
    "SETFCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
];

/// The default `oom_score_adj`: when memory is short, the kernel kills a container's process before one of the host's.
const OOM_SCORE_ADJ: i64 = 500;

/// Returns the body for a container of the spec, with the defaults filled in, and every conflict. The body has no mounts of
/// the library's own.
pub(super) fn merge(spec: &ContainerSpec, decided: &Decided) -> (ContainerCreateBody, Vec<FieldError>) {
    let (mut body, problems) = raw_config::of(spec);
    let mut conflicts = Conflicts(problems);
    let inner = body.host_config.take();
    let mut host = match (&spec.host_config, inner) {
        (Some(host), Some(inner)) if *host != inner => {
            conflicts.add(
                "docker_config.host_config",
                "is different from what host_config() was given",
            );
            host.clone()
        }
        (Some(host), _) => host.clone(),
        (None, inner) => inner.unwrap_or_default(),
    };

    raw_config::forget_empty(&mut host);
    refuse(spec, &body, &host, &mut conflicts);
    set_identity(spec, decided, &mut body, &mut conflicts);
    set_limits(spec, &mut host, &mut conflicts);
    set_isolation(spec, &mut body, &mut host, &mut conflicts);
    if let Some(sandbox) = &spec.sandbox {
        sandbox.apply(spec, &mut body, &mut host, &mut conflicts);
    }
    set_defaults(spec, &mut host);
    set_pid1(spec, decided, &mut body, &mut host, &mut conflicts);
    refuse_undone(spec, &body, &host, &mut conflicts);
    if !spec.supervise && !spec.wants_health() {
        // The image's server does not run, so its health check would only fail.
        body.healthcheck.get_or_insert_with(create_body::no_health_check);
    }
    host.log_config.get_or_insert_with(create_body::no_output);
    body.host_config = Some(host);
    if spec.raw_config.is_some() {
        for problem in &mut conflicts.0 {
            if let Some(renamed) = raw_config::renamed(problem) {
                *problem = renamed;
            }
        }
    }
    (body, conflicts.0)
}

/// Collects the conflicts of a spec, by field.
pub(super) struct Conflicts(Vec<FieldError>);

impl Conflicts {
    pub(super) fn add(&mut self, field: &str, problem: impl Into<String>) {
        self.0.push(FieldError::new(field, problem));
    }

    /// Writes a setter's value into a field, and adds a conflict if the field has another value.
    fn set<T: PartialEq + Debug>(&mut self, field: &str, setter: &str, raw: &mut Option<T>, value: T) {
        if let Some(old) = raw.replace(value)
            && raw.as_ref() != Some(&old)
        {
            self.differ(field, setter, &old);
        }
    }

    /// Writes a setter's value into a map as [`set`](Self::set) does into a field.
    fn insert(&mut self, field: &str, setter: &str, raw: &mut HashMap<String, String>, name: &str, value: &str) {
        if let Some(old) = raw.insert(name.to_owned(), value.to_owned())
            && old != value
        {
            self.differ_in(field, setter, name);
        }
    }

    /// Writes a setter's command into a field as [`set`](Self::set) does. The conflict shows the program only.
    fn set_command(&mut self, field: &str, setter: &str, raw: &mut Option<Vec<String>>, value: &[String]) {
        if let Some(old) = raw.replace(value.to_vec())
            && old != value
        {
            self.differ(field, setter, &Argv(&old));
        }
    }

    /// Adds a conflict of two values of one name. Neither value is shown, since it may be a secret.
    fn differ_in(&mut self, field: &str, setter: &str, name: &str) {
        self.add(
            field,
            format!("has another value for {name:?} than {setter}(): set it in one place"),
        );
    }

    /// Adds a conflict if a field has a limit and the setter was given none.
    fn unlimited(&mut self, field: &str, setter: &str, raw: Option<i64>) {
        if let Some(limit) = raw.filter(|limit| *limit > 0) {
            self.differ(field, setter, &limit);
        }
    }

    /// Adds a conflict between a field's value and the setter's.
    fn differ(&mut self, field: &str, setter: &str, raw: &dyn Debug) {
        self.add(
            field,
            format!("is {raw:?}, and {setter}() was given another value: set it in one place"),
        );
    }
}

/// Refuses settings that would break the library's own work.
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
    let ulimits = host.ulimits.iter().flatten();
    for ulimit in ulimits.filter(|ulimit| ulimit.soft.is_none() || ulimit.hard.is_none()) {
        // The engine takes 0 for the missing one.
        let name = ulimit.name.as_deref().unwrap_or_default();
        conflicts.add(
            "host_config.ulimits",
            format!("{name:?} must have both a soft and a hard limit"),
        );
    }
    for entry in body.env.iter().flatten() {
        if entry.contains('\0') || entry.is_empty() || entry.starts_with('=') {
            conflicts.add(
                "docker_config.env",
                "a name must not be empty, and nothing may contain NUL",
            );
        }
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
            "the pool replaces a container that has died, which must not restart by itself",
        );
    }
    let opens_cgroups = |option: &String| {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
        name.eq_ignore_ascii_case("writable-cgroups") && !value.eq_ignore_ascii_case("false")
    };
    if !spec.writable_cgroups && host.security_opt.iter().flatten().any(opens_cgroups) {
        conflicts.add(
            "host_config.security_opt",
            "writable-cgroups would let every command write to the control groups; use writable_cgroups(), which keeps them \
             from commands and gives each a group of its own",
        );
    }
    match host.auto_remove {
        Some(true) if !lifeline => conflicts.add(
            "host_config.auto_remove",
            "the library itself removes a container with a cmd() of its own, and may ask for its exit code first",
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

/// Refuses settings that the engine would let another setting undo, without a word.
fn refuse_undone(spec: &ContainerSpec, body: &ContainerCreateBody, host: &HostConfig, conflicts: &mut Conflicts) {
    // Where there are endpoints, the engine connects the container to them and not to the network of the mode.
    let endpoints = body
        .networking_config
        .as_ref()
        .and_then(|config| config.endpoints_config.as_ref());
    let mut names = endpoints.into_iter().flat_map(HashMap::keys);
    let mode = host.network_mode.as_ref();
    let decides = spec.network.is_some() || mode.is_some_and(|mode| mode == "none");
    if decides && names.any(|name| Some(name) != mode) {
        conflicts.add(
            "docker_config.networking_config",
            "names another network than network() or host_config.network_mode, whose default is none",
        );
    }
    refuse_ports(spec, body, host, conflicts);
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    let covers: Vec<_> = host.tmpfs.iter().flatten().map(|(path, _)| plain(path)).collect();
    let mounts = host.mounts.iter().flatten().filter_map(|mount| mount.target.as_deref());
    for target in mounts.map(plain).filter(|target| covers.contains(target)) {
        conflicts.add(
            "host_config.mounts",
            format!("mounts something on {target:?}, which is a tmpfs too"),
        );
    }
}

/// Refuses ports that cannot be published, and those that the raw configuration binds too.
fn refuse_ports(spec: &ContainerSpec, body: &ContainerCreateBody, host: &HostConfig, conflicts: &mut Conflicts) {
    let ports = spec.ports();
    if ports.is_empty() {
        return;
    }
    let mode = host.network_mode.as_deref().unwrap_or_default();
    if mode == "none" || body.network_disabled == Some(true) {
        conflicts.add(
            "publish",
            "there is no network, which is the default: name one with network(), such as Network::existing(\"bridge\")",
        );
    } else if mode == "host" || mode.starts_with("container:") || mode.starts_with("ns:") {
        conflicts.add(
            "publish",
            "the network is that of the machine or of another container, where no port can be published",
        );
    }
    for name in host.port_bindings.iter().flatten().map(|(name, _)| name) {
        let number = name.strip_suffix("/tcp").unwrap_or(name);
        if number.parse().is_ok_and(|port| ports.contains(&port)) {
            conflicts.add(
                "host_config.port_bindings",
                format!("binds port {number}, and publish() was called for it: set it in one place"),
            );
        }
    }
}

/// Sets the image, the user, the working directory, variables and labels.
fn set_identity(spec: &ContainerSpec, decided: &Decided, body: &mut ContainerCreateBody, conflicts: &mut Conflicts) {
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
    labels.extend(decided.own_labels.clone());
}

/// Sets memory, processors, processes, shared memory and `ulimits`.
fn set_limits(spec: &ContainerSpec, host: &mut HostConfig, conflicts: &mut Conflicts) {
    match spec.memory {
        Setting::Given(Some(bytes)) => {
            conflicts.set("host_config.memory", "memory", &mut host.memory, signed(bytes));
        }
        Setting::Given(None) => conflicts.unlimited("host_config.memory", "memory", host.memory),
        Setting::Default(_) => {}
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
        Setting::Default(_) => {}
    }
    if let Some(cpus) = spec.cpus {
        conflicts.set(
            "host_config.nano_cpus",
            "cpus",
            &mut host.nano_cpus,
            (cpus * 1e9) as i64,
        );
        // Quota and period set the same limit in another way, and the engine takes only one of the two.
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
}

/// Fills the fields that neither the raw configuration nor a setter has set.
fn set_defaults(spec: &ContainerSpec, host: &mut HostConfig) {
    if let Setting::Default(bytes) = spec.memory {
        host.memory = host.memory.or(bytes.map(signed));
    }
    if let Some(limit) = host.memory.filter(|limit| *limit > 0) {
        // By default the engine would allow the same amount of swap beside the memory.
        host.memory_swap.get_or_insert(limit);
    }
    if let Setting::Default(pids) = spec.pids {
        host.pids_limit = host.pids_limit.or(pids.map(i64::from));
    }
    // The kernel's `core_pattern` decides where core dumps go, which may be on the engine's machine.
    let ulimits = host.ulimits.get_or_insert_default();
    if !ulimits.iter().any(|limit| limit.name.as_deref() == Some("core")) {
        ulimits.push(ResourcesUlimits {
            name: Some("core".to_owned()),
            soft: Some(0),
            hard: Some(0),
        });
    }
    host.oom_score_adj.get_or_insert(OOM_SCORE_ADJ);
    host.network_mode.get_or_insert_with(|| "none".to_owned());
    drop_capabilities(host);
    gain_no_privileges(host);
}

/// Returns an amount in the engine's type. The checks of the spec refuse amounts that do not fit.
pub(super) fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// Sets the network, file systems, privileges and the runtime.
fn set_isolation(
    spec: &ContainerSpec,
    body: &mut ContainerCreateBody,
    host: &mut HostConfig,
    conflicts: &mut Conflicts,
) {
    if let Some(network) = &spec.network {
        // A conflict even where both name the same network: the driver and the labels stand in network() alone.
        if let Some(mode) = &host.network_mode {
            conflicts.add(
                "host_config.network_mode",
                format!("is {mode:?}, and network() was called: set it in one place"),
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
        // The container must not see other containers' groups, nor write to them.
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
}

/// Keeps programs from gaining privileges, unless the raw configuration has that option or an empty list of options.
fn gain_no_privileges(host: &mut HostConfig) {
    const OPTION: &str = "no-new-privileges";
    match &mut host.security_opt {
        Some(options) if options.is_empty() || options.iter().any(|option| option.starts_with(OPTION)) => {}
        options => options.get_or_insert_default().push(OPTION.to_owned()),
    }
}

/// Drops the default list of capabilities, without those that were added. Does nothing if the configuration has a list.
fn drop_capabilities(host: &mut HostConfig) {
    if host.cap_drop.is_some() || host.privileged == Some(true) {
        return;
    }
    // Engines accept names in upper and lower case, with and without the prefix.
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

/// Sets the program of PID 1.
fn set_pid1(
    spec: &ContainerSpec,
    decided: &Decided,
    body: &mut ContainerCreateBody,
    host: &mut HostConfig,
    conflicts: &mut Conflicts,
) {
    // The engine's init reaps zombies, which would count against the pids limit. Most programs do not reap.
    host.init.get_or_insert(true);
    // Set as the entrypoint: before a command the engine would put the image's entrypoint.
    if let Some(cmd) = &spec.cmd {
        conflicts.set_command("docker_config.entrypoint", "cmd", &mut body.entrypoint, cmd);
        if let Some(raw) = body.cmd.take().filter(|raw| raw != cmd) {
            conflicts.differ("docker_config.cmd", "cmd", &Argv(&raw));
        }
    }
    if spec.has_lifeline() {
        let pid1 = match &decided.agent {
            Some(file) => {
                if spec.writable_cgroups {
                    body.user = Some("0:0".to_owned());
                }
                // The agent reaps by itself, and must be PID 1.
                host.init = Some(false);
                // The only signal that ends the agent. With the image's signal a stop would take its whole timeout.
                body.stop_signal = Some("SIGTERM".to_owned());
                file.program()
            }
            None => {
                if decided.command_user.is_some() {
                    body.user = Some(GUARD_USER.to_owned());
                }
                LIFELINE_PID1
            }
        };
        // Replaces a supervised command, which the agent starts.
        body.entrypoint = Some(vec![pid1.to_owned()]);
        body.cmd = None;
        body.open_stdin = Some(true);
        body.stdin_once = Some(true);
        body.tty = Some(false);
        host.auto_remove = Some(true);
    }
}
