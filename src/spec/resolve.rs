//! Turns a [`ContainerSpec`] into a [`Plan`], in this one place: [`resolve`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use bollard::models::{ContainerCreateBody, HostConfig, MountType};
use sha2::{Digest, Sha256};

use super::cleaning::{self, Cleaning, FirstChanges};
use super::command_defaults::CommandDefaults;
use super::command_limits::{limits_of_commands, spare_pid_1};
use super::container_spec::ContainerSpec;
use super::judge::Asked;
use super::merge::merge;
use super::ready::Readiness;
use super::security::SecurityReport;
use super::server_env::ServerEnv;
use super::take_body::take_body;
use crate::agent::{AgentFile, ExecVia, Limit};
use crate::engine::docker::create_body;
use crate::engine::{Mount, MountSource, Network, Plan, Publish};
use crate::values::labels;
use crate::values::status::{ASKED_FOR, ActiveExec, Lifeline};

/// Why there is no agent where nothing was decided about the spec.
pub(super) const NOT_DECIDED: &str = "the engine cannot run the agent";

/// Why a container has no lifeline.
pub(super) const OWN_COMMAND: &str = "the containers have a command of their own, see supervise_command()";

/// The permissions of a directory that every user can write to, as `/tmp` has them.
const ANYBODY: u32 = 0o1777;

/// The library's own decisions about the containers of a spec.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decided {
    /// The labels under the reserved prefix.
    pub(crate) own_labels: BTreeMap<String, String>,
    /// The directories that the image declares as volumes, once they are known.
    pub(crate) image_volumes: Vec<String>,
    /// The command that the agent runs beside those of leases, once it is known.
    pub(crate) supervised: Option<Vec<String>>,
    /// The agent, where it is PID 1.
    pub(crate) agent: Option<AgentFile>,
    /// The user of commands without a user of their own, where PID 1 is another user.
    pub(crate) command_user: Option<String>,
    /// Why PID 1 is not the agent, once that is decided.
    pub(crate) why_no_agent: Option<&'static str>,
    /// Why commands can harm PID 1 although it is the agent.
    pub(crate) why_weak: Option<&'static str>,
    /// Whether containers are to be cleaned between two leases.
    pub(crate) clean: bool,
    /// Where the engine mounts file systems in memory over a read-only root, once that is known.
    pub(crate) read_only_tmpfs: Vec<String>,
    /// The engine's default runtime, once it is known.
    pub(crate) default_runtime: Option<String>,
}

/// A resolved spec: the plan for the engine, and the library's own settings for such containers.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) plan: Plan,
    pub(crate) decided: Decided,
    pub(crate) exec_via: ExecVia,
    without_agent_socket: bool,
    /// The limits that the agent sets for commands and does not have itself. Empty where the engine runs commands: the engine
    /// gives each the container's limits.
    pub(crate) command_limits: Vec<Limit>,
    /// The options of commands that set none.
    pub(crate) command_defaults: CommandDefaults,
    /// How containers are cleaned, or why they cannot be.
    pub(crate) cleaning: Result<Cleaning, &'static str>,
    /// Where something is mounted, and whether it is a file system in memory.
    places: BTreeMap<String, bool>,
    /// The changes of the root file system that each such container has from the start.
    pub(crate) first_changes: FirstChanges,
    /// The variables of the supervised command alone.
    pub(crate) server_env: ServerEnv,
    /// When containers are ready to be lent.
    pub(crate) ready: Readiness,
    /// What the sandbox asks for, where there is one.
    pub(crate) sandbox: Option<Arc<Asked>>,
    /// What a first container of the sandbox has, once it was looked at.
    pub(crate) security: Arc<OnceLock<SecurityReport>>,
}

/// Resolves a spec and decisions into a plan. The spec must have no [`problems`](ContainerSpec::problems).
pub(crate) fn resolve(spec: &ContainerSpec, decided: Decided) -> Resolved {
    let (mut body, _) = merge(spec, &decided);
    if decided.clean && decided.agent.is_some() {
        cleaning::add_tmp(&mut body, &decided.image_volumes);
    }
    let cleaning = cleaning::plan(&body, &decided);
    let covered = covered_volumes(&decided.image_volumes, &body);
    let places = places(&body, &decided.image_volumes, &covered);
    let sandbox = spec.sandbox.as_ref();
    let sandbox =
        sandbox.map(|sandbox| Arc::new(Asked::new(sandbox, &body, &covered, decided.default_runtime.as_deref())));
    let mut command_limits = Vec::new();
    if decided.agent.is_some() && spec.exec_via != ExecVia::Docker {
        command_limits = limits_of_commands(&body);
        spare_pid_1(&mut body);
    }
    let mut plan = Plan::new(&spec.image);
    plan.image.platform = spec.platform.clone();
    plan.image.pull = spec.pull;
    plan.image.registry_auth = spec.registry_auth.clone();
    plan.network = spec.network.clone();
    let publish = |port| Publish::new(port, spec.publish_address);
    plan.ports = spec.ports().into_iter().map(publish).collect();
    plan.security.writable_cgroups = spec.writable_cgroups;
    plan.pid1.lifeline = spec.has_lifeline();
    plan.mounts.extend(decided.agent.as_ref().map(AgentFile::mount));
    plan.mounts.extend(covered);
    take_body(&mut body, &mut plan);
    if body != ContainerCreateBody::default() {
        // No type in a body fails to serialize.
        plan.engine_config = serde_json::to_value(&body).unwrap_or_default();
    }
    Resolved {
        plan,
        decided,
        exec_via: spec.exec_via,
        without_agent_socket: spec.without_agent_socket,
        command_limits,
        command_defaults: spec.command_defaults.clone(),
        cleaning,
        places,
        first_changes: FirstChanges::default(),
        server_env: spec.server_env.clone(),
        ready: Readiness::of(spec),
        sandbox,
        security: Arc::default(),
    }
}

impl Resolved {
    /// Adds one of the library's own labels.
    pub(crate) fn with_label(mut self, name: &str, value: String) -> Self {
        self.decided.own_labels.insert(name.to_owned(), value.clone());
        self.plan.labels.insert(name.to_owned(), value);
        self
    }

    /// Returns whether a file of this absolute path without `..` is in a file system in memory.
    pub(crate) fn is_in_memory(&self, path: &str) -> bool {
        let path = plain(path);
        let mut parents: Vec<_> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
        parents.reverse();
        let mounted = parents.into_iter().find_map(|parent| self.places.get(parent));
        mounted.copied().unwrap_or_default()
    }

    /// Returns whether containers that are cleaned have a root file system to which nothing can be written.
    pub(crate) fn has_read_only_root(&self) -> bool {
        self.cleaning.as_ref().is_ok_and(|cleaning| cleaning.read_only_root)
    }

    /// Replaces the library's own labels.
    pub(crate) fn with_own_labels(mut self, own_labels: BTreeMap<String, String>) -> Self {
        self.plan.labels.retain(|name, _| !labels::is_reserved(name));
        self.plan.labels.extend(own_labels.clone());
        self.decided.own_labels = own_labels;
        self
    }

    /// Returns the plan with the present path of the agent's program, whose directory may have been made anew.
    pub(crate) fn present_plan(&self) -> Cow<'_, Plan> {
        match self.decided.agent.as_ref().map(AgentFile::mount) {
            Some(present) if !self.plan.mounts.contains(&present) => {
                let mut plan = self.plan.clone();
                plan.mounts.retain(|mount| mount.target != present.target);
                plan.mounts.insert(0, present);
                Cow::Owned(plan)
            }
            _ => Cow::Borrowed(&self.plan),
        }
    }

    /// Returns whether containers end with their owner.
    pub(crate) fn has_lifeline(&self) -> bool {
        self.plan.pid1.lifeline
    }

    /// Returns whether the agent is PID 1 and runs commands.
    pub(crate) fn agent_runs_commands(&self) -> bool {
        self.decided.agent.is_some() && self.exec_via != ExecVia::Docker
    }

    /// Returns the agent if commands go through its socket. An agent that only holds the lifeline needs no socket.
    pub(crate) fn agent_with_socket(&self) -> Option<&AgentFile> {
        let agent = self.decided.agent.as_ref()?;
        (self.agent_runs_commands() && !self.without_agent_socket).then_some(agent)
    }

    /// Returns what holds the lifeline.
    pub(crate) fn lifeline(&self) -> Lifeline {
        let Decided {
            agent,
            why_no_agent,
            why_weak,
            ..
        } = &self.decided;
        match (agent, *why_no_agent) {
            (Some(_), _) => match *why_weak {
                Some(why) => Lifeline::Weak { why },
                None => Lifeline::Agent,
            },
            (None, why) if self.has_lifeline() => Lifeline::Weak {
                why: why.unwrap_or(NOT_DECIDED),
            },
            (None, _) => Lifeline::None { why: OWN_COMMAND },
        }
    }

    /// Returns how commands are run.
    pub(crate) fn active_exec(&self) -> ActiveExec {
        match (self.exec_via, &self.decided.agent) {
            (ExecVia::Docker, _) => ActiveExec::Docker { why: ASKED_FOR },
            (_, Some(_)) => ActiveExec::Agent,
            (_, None) => ActiveExec::Docker {
                why: self.decided.why_no_agent.unwrap_or(NOT_DECIDED),
            },
        }
    }

    /// Returns whether the network is to be removed when the pool is shut down.
    pub(crate) fn removes_network(&self) -> bool {
        self.plan.network.as_ref().is_some_and(Network::is_removed)
    }

    /// Returns a hash of the plan without the library's own labels, of the image, and of the supervised command and the limits
    /// that the agent sets. JSON with sorted keys is the same in every process. Half of a SHA-256 hash is short enough for a
    /// label.
    pub(crate) fn fingerprint(&self, image_id: &str) -> String {
        let mut plan = self.plan.clone();
        plan.labels.retain(|name, _| !labels::is_reserved(name));
        // The plan came out of a body, so that it always goes into one.
        let body = create_body::of(&plan).unwrap_or_default();
        let mut body = serde_json::to_value(&body).unwrap_or_default();
        // The keys are not sorted yet if a crate of the same program turns on serde_json's feature `preserve_order`.
        body.sort_all_objects();
        let mut hash = Sha256::new();
        hash.update(body.to_string());
        hash.update([0]);
        hash.update(image_id);
        hash.update([0]);
        hash.update(plan.image.platform.as_deref().unwrap_or_default());
        for word in self.decided.supervised.iter().flatten() {
            hash.update([0]);
            hash.update(word);
        }
        for variable in self.server_env.variables() {
            hash.update([1]);
            hash.update(variable);
        }
        for limit in &self.command_limits {
            hash.update(limit.which.to_le_bytes());
            hash.update(limit.soft.to_le_bytes());
            hash.update(limit.hard.to_le_bytes());
        }
        let mut text = String::with_capacity(32);
        for byte in &hash.finalize()[..16] {
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// Returns a file system in memory for each volume of the image. Volumes that have another mount or are named in the raw
/// configuration get none. Without a mount, the engine would make an anonymous volume on its disk, without a limit.
fn covered_volumes(volumes: &[String], body: &ContainerCreateBody) -> Vec<Mount> {
    let Some(host) = &body.host_config else {
        return Vec::new();
    };
    if has_volumes_of_others(body) {
        return Vec::new();
    }
    let bytes = half_of_memory(host);
    let mut covered: Vec<Mount> = Vec::new();
    for path in volumes {
        let path = plain(path);
        let taken = path.is_empty() || is_mounted(body, &path) || covered.iter().any(|mount| mount.target == path);
        if !taken {
            covered.push(Mount::new(path, MountSource::Memory { bytes, mode: ANYBODY }));
        }
    }
    covered
}

/// Returns whether there are mounts that come from other containers, which are not known here.
fn has_volumes_of_others(body: &ContainerCreateBody) -> bool {
    let host = body.host_config.as_ref();
    let from = host.and_then(|host| host.volumes_from.as_ref());
    from.is_some_and(|from| !from.is_empty())
}

/// Returns half of the memory limit, so that a file system of that size is full before the container's memory is.
pub(super) fn half_of_memory(host: &HostConfig) -> u64 {
    let limit = host.memory.and_then(|limit| u64::try_from(limit).ok());
    limit
        .filter(|limit| *limit > 0)
        .unwrap_or(ContainerSpec::DEFAULT_MEMORY)
        / 2
}

/// Returns where something is mounted, and whether it is a file system in memory of the container's own. Where it is not known
/// what else is mounted, nothing is in memory.
fn places(body: &ContainerCreateBody, image_volumes: &[String], covered: &[Mount]) -> BTreeMap<String, bool> {
    if has_volumes_of_others(body) {
        return BTreeMap::new();
    }
    let ipc = body.host_config.as_ref().and_then(|host| host.ipc_mode.as_deref());
    let own_shm = matches!(ipc, None | Some("" | "private"));
    let mut places = BTreeMap::from([("/dev/shm".to_owned(), own_shm)]);
    places.extend(image_volumes.iter().map(|path| (plain(path), false)));
    places.extend(covered.iter().map(|mount| (plain(&mount.target), true)));
    places.extend(mounted(body));
    places
}

/// Returns where the body mounts something or declares a volume, and whether it is a file system in memory.
fn mounted(body: &ContainerCreateBody) -> BTreeMap<String, bool> {
    let mut places: BTreeMap<_, _> = body.volumes.iter().flatten().map(|path| (plain(path), false)).collect();
    let Some(host) = &body.host_config else { return places };
    places.extend(host.tmpfs.iter().flatten().map(|(path, _)| (plain(path), true)));
    let mounts = host.mounts.iter().flatten();
    places.extend(mounts.map(|mount| {
        let target = plain(mount.target.as_deref().unwrap_or_default());
        (target, mount.typ == Some(MountType::TMPFS))
    }));
    // `source:target[:options]`.
    let binds = host.binds.iter().flatten();
    places.extend(binds.filter_map(|bind| Some((plain(bind.split(':').nth(1)?), false))));
    places
}

/// Returns whether the body mounts something on this path, or declares a volume there.
pub(super) fn is_mounted(body: &ContainerCreateBody, path: &str) -> bool {
    mounted(body).contains_key(path)
}

/// Returns a path as engines take it: without `.`, `..` and needless slashes, whatever is a link there. The root is empty.
pub(super) fn plain(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.iter().flat_map(|name| ["/", name]).collect()
}
