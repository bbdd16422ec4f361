//! The one place where wishes become a [`Plan`]: [`resolve`].

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use bollard::models::ContainerCreateBody;
use sha2::{Digest, Sha256};

use super::command_limits::{limits_of_commands, spare_pid_1};
use super::container_spec::ContainerSpec;
use super::merge::merge;
use super::take_body::take_body;
use crate::agent::{AgentFile, ExecVia, Limit};
use crate::engine::docker::create_body;
use crate::engine::{Mount, MountSource, Network, Plan};
use crate::values::labels;
use crate::values::status::{ASKED_FOR, ActiveExec, Lifeline};

/// Why a container has no agent whose spec was never decided on.
pub(super) const NOT_DECIDED: &str = "the engine cannot run the agent";

/// Why a container has no lifeline.
pub(super) const OWN_COMMAND: &str = "the containers have a command of their own, see supervise_command()";

/// The permissions of a temporary directory, in which every user can write.
const ANYBODY: u32 = 0o1777;

/// Holds all that the library decides about containers of a spec, beside the wishes themselves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decided {
    /// Labels under the reserved prefix.
    pub(crate) own_labels: BTreeMap<String, String>,
    /// The directories that the image declares as volumes, once they are known.
    pub(crate) image_volumes: Vec<String>,
    /// The command that the agent runs beside those of leases, once it is known.
    pub(crate) supervised: Option<Vec<String>>,
    /// The agent, where it is PID 1.
    pub(crate) agent: Option<AgentFile>,
    /// The user of commands that name none, where PID 1 is another user.
    pub(crate) command_user: Option<String>,
    /// Why PID 1 is not the agent, once that is decided.
    pub(crate) why_no_agent: Option<&'static str>,
    /// Why commands can reach the agent.
    pub(crate) why_weak: Option<&'static str>,
}

/// Holds a spec that is resolved: the plan for the engine, and what the library needs to know of such containers itself.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) plan: Plan,
    pub(crate) decided: Decided,
    pub(crate) exec_via: ExecVia,
    without_agent_socket: bool,
    /// Limits that the agent sets for commands, since it cannot have them itself. None where the engine runs commands, which
    /// gives each those of the container.
    pub(crate) command_limits: Vec<Limit>,
}

/// Resolves wishes and decisions into a plan. The spec must have no [`problems`](ContainerSpec::problems).
pub(crate) fn resolve(spec: &ContainerSpec, decided: Decided) -> Resolved {
    let (mut body, _) = merge(spec, &decided);
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
    plan.security.writable_cgroups = spec.writable_cgroups;
    plan.pid1.lifeline = spec.has_lifeline();
    plan.mounts.extend(decided.agent.as_ref().map(AgentFile::mount));
    plan.mounts.extend(covered_volumes(&decided.image_volumes, &body));
    take_body(&mut body, &mut plan);
    if body != ContainerCreateBody::default() {
        // No type in it can fail to be written.
        plan.engine_config = serde_json::to_value(&body).unwrap_or_default();
    }
    Resolved {
        plan,
        decided,
        exec_via: spec.exec_via,
        without_agent_socket: spec.without_agent_socket,
        command_limits,
    }
}

impl Resolved {
    /// Returns the same with another of the library's own labels.
    pub(crate) fn with_label(mut self, name: &str, value: String) -> Self {
        self.decided.own_labels.insert(name.to_owned(), value.clone());
        self.plan.labels.insert(name.to_owned(), value);
        self
    }

    /// Returns the same with other labels of the library's own.
    pub(crate) fn with_own_labels(mut self, own_labels: BTreeMap<String, String>) -> Self {
        self.plan.labels.retain(|name, _| !labels::is_reserved(name));
        self.plan.labels.extend(own_labels.clone());
        self.decided.own_labels = own_labels;
        self
    }

    /// Returns the plan with the agent's program where it is now: the directory that it was in may have been made anew.
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

    /// Returns whether the agent is PID 1, and runs commands.
    pub(crate) fn agent_runs_commands(&self) -> bool {
        self.decided.agent.is_some() && self.exec_via != ExecVia::Docker
    }

    /// Returns the agent where commands go through its socket. The lifeline needs none.
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

    /// Returns a hash of the plan without the library's own labels, of the image that it is for, and of what the agent does in
    /// such a container. JSON with sorted keys is the same in every process; SHA-256, cut to half, is short enough for a label.
    pub(crate) fn fingerprint(&self, image_id: &str) -> String {
        let mut plan = self.plan.clone();
        plan.labels.retain(|name, _| !labels::is_reserved(name));
        // What came out of a body goes into one.
        let body = create_body::of(&plan).unwrap_or_default();
        let mut body = serde_json::to_value(&body).unwrap_or_default();
        // The keys are sorted anyway, unless somebody in the same program has asked for serde_json's `preserve_order`.
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

/// Covers each volume of the image by a file system in memory, but for those that have something mounted on them or are
/// named in the raw configuration. The engine would make an anonymous volume for each, on its disk and without a limit.
fn covered_volumes(volumes: &[String], body: &ContainerCreateBody) -> Vec<Mount> {
    let Some(host) = &body.host_config else {
        return Vec::new();
    };
    // Whatever those containers have there, nobody knows here.
    if host.volumes_from.as_ref().is_some_and(|from| !from.is_empty()) {
        return Vec::new();
    }
    let limit = host
        .memory
        .and_then(|limit| u64::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    // Full before the container's memory is, where there is a limit.
    let bytes = limit.unwrap_or(ContainerSpec::DEFAULT_MEMORY) / 2;
    let mut covered: Vec<Mount> = Vec::new();
    for path in volumes {
        let plain = path.trim_end_matches('/');
        let is_it = |other: &str| other.trim_end_matches('/') == plain;
        // `source:target[:options]`.
        let bound = |bind: &String| bind.split(':').nth(1).is_some_and(is_it);
        let mut mounts = host.mounts.iter().flatten().filter_map(|mount| mount.target.as_deref());
        let taken = plain.is_empty()
            || host.binds.iter().flatten().any(bound)
            || host.tmpfs.iter().flatten().any(|(path, _)| is_it(path))
            || mounts.any(is_it)
            || covered.iter().any(|mount| is_it(&mount.target))
            || body.volumes.iter().flatten().any(|path| is_it(path));
        if !taken {
            covered.push(Mount::new(plain, MountSource::Memory { bytes, mode: ANYBODY }));
        }
    }
    covered
}
