//! Decides which program is PID 1 of a spec's containers: [`decide`] finds the ways that are possible, before anything is made,
//! and [`bring`] tries them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::container_spec::ContainerSpec;
use super::merge::merge;
use super::raw_config;
use super::resolve::{Decided, NOT_DECIDED, OWN_COMMAND, Resolved, resolve};
use crate::agent::{self, AgentFile, ExecVia};
use crate::engine::{
    Capabilities, Engine, EngineError, EngineErrorKind, EngineInfo, ImageInfo, ProgressFn, PullPolicy,
};
use crate::error::{Error, FieldError};
use crate::runtime::bounded;

/// The first version of Docker's API whose engines can make control groups writable (Docker 28).
const WRITABLE_SINCE: (u32, u32) = (1, 48);

/// Refuses writable control groups if the engine's description rules them out.
pub(crate) fn check_cgroups(spec: &ContainerSpec, info: &EngineInfo) -> Result<(), Error> {
    if !spec.writable_cgroups {
        return Ok(());
    }
    let problem = |problem: String| Err(Error::Config(vec![FieldError::new("writable_cgroups", problem)]));
    let userns = merge(spec, &Decided::default())
        .0
        .host_config
        .and_then(|host| host.userns_mode);
    if let Some(mode) = userns.filter(|mode| !matches!(&**mode, "" | "host")) {
        return problem(format!(
            "does not go with host_config.userns_mode, which is {mode:?}: the control groups could be those of the commands' \
             user. Use one of the two"
        ));
    }
    if info.cgroup_version == Some(1) {
        return problem("needs cgroup v2, and the engine's machine has cgroup v1".to_owned());
    }
    let api = info.api_version.split_once('.').and_then(|(major, minor)| {
        let version: (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
        Some(version)
    });
    if info.version.starts_with("Docker ") && api.is_some_and(|api| api < WRITABLE_SINCE) {
        return problem(format!("needs Docker 28 or later, and this is {}", info.version));
    }
    if info.version.starts_with("Docker ") && info.remaps_users {
        return problem("Docker has no writable cgroups where it runs rootless or remaps users".to_owned());
    }
    Ok(())
}

/// Why there is no agent where the containers have another architecture.
const FOREIGN: &str = "the agent was built for another architecture than the containers' (agent_path() takes one that was built \
                       for theirs)";

/// Why there is no agent where a container was tried with it and failed.
const DOES_NOT_RUN: &str = "the agent does not run on the engine";

/// Why there is no agent where the kernel refuses to execute it.
const MAY_NOT_RUN: &str = "the agent does not run on the engine: its kernel forbids containers to execute it (permission denied: by \
                           SELinux or AppArmor, in a file system that is mounted noexec, or for want of a file there)";

/// Returns why there is no agent, given the error of the container that was tried.
fn why_not(error: &EngineError) -> &'static str {
    let words = error.to_string().to_ascii_lowercase();
    let is_forbidden = ["permission denied", "operation not permitted"]
        .iter()
        .any(|its| words.contains(its));
    if error.kind() == EngineErrorKind::CannotStart && is_forbidden {
        MAY_NOT_RUN
    } else {
        DOES_NOT_RUN
    }
}

/// The user and group of `cat` as PID 1 where it must not be the commands' user. The number is in no system's user list, and
/// within user namespaces of the usual size.
pub(crate) const GUARD_USER: &str = "65525:65525";

/// A way to provide PID 1 in containers with a lifeline.
#[derive(Clone)]
enum Way {
    /// The agent, from a file.
    File(AgentFile),
    /// The agent, from a volume of this name.
    Volume(String),
    /// `cat`, as another user than commands.
    CatApart,
    /// `cat`, as the commands' user.
    Cat,
}

impl Way {
    fn is_agent(&self) -> bool {
        matches!(self, Self::File(_) | Self::Volume(_))
    }
}

/// The possible ways to provide PID 1, the best first.
pub(crate) struct Ways {
    ways: Vec<Way>,
    /// Why the agent is not among the ways.
    why_no_agent: Option<&'static str>,
}

/// Finds the ways to provide PID 1 in containers of this spec, before anything is made. `volume` is the name of a volume that
/// may be made. Fails if the spec needs the agent and no way has it.
pub(crate) fn decide(
    spec: &ContainerSpec,
    volume: Option<String>,
    engine: &dyn Engine,
    info: &EngineInfo,
) -> Result<Ways, Error> {
    let chosen = choose(spec, volume, engine.capabilities(), info);
    match chosen {
        Err(why) if spec.exec_via == ExecVia::Agent => {
            let problem = format!("the agent cannot be used: {why}; ExecVia::Auto does without it");
            Err(Error::Config(vec![FieldError::new("exec_via", problem)]))
        }
        Err(why) if spec.writable_cgroups => {
            let problem = format!("needs the agent, which cannot be used: {why}");
            Err(Error::Config(vec![FieldError::new("writable_cgroups", problem)]))
        }
        Err(why) if spec.supervise => {
            let problem = format!("needs the agent, which cannot be used: {why}");
            Err(Error::Config(vec![FieldError::new("supervise_command", problem)]))
        }
        chosen => {
            let why_no_agent = chosen.as_ref().err().copied();
            let mut ways = chosen.unwrap_or_default();
            if spec.has_lifeline() && !must_have_agent(spec) {
                // Podman can give the workspaces of a sandbox to the user of PID 1 alone.
                if spec.sandbox.is_none() || !info.version.starts_with("Podman") {
                    ways.push(Way::CatApart);
                }
                ways.push(Way::Cat);
            }
            Ok(Ways { ways, why_no_agent })
        }
    }
}

/// Returns whether the spec works with the agent only.
fn must_have_agent(spec: &ContainerSpec) -> bool {
    spec.exec_via == ExecVia::Agent || spec.supervise || spec.writable_cgroups
}

/// The engine and the image on which PID 1 is to run.
#[derive(Clone, Copy)]
pub(crate) struct On<'a> {
    pub(crate) engine: &'a dyn Engine,
    pub(crate) info: &'a EngineInfo,
    /// The image's description, where the engine has one.
    pub(crate) image: Option<&'a ImageInfo>,
    pub(crate) call_timeout: Duration,
}

/// Prepares PID 1 in the best way that works, and resolves the spec again with that way. The image must be on the engine.
///
/// `bring_up` makes a container, checks that its PID 1 runs, and keeps the container only if told so. `bring_up` must remove
/// a container that failed. Where there is a choice whose result is not remembered, a container is tried, and the first that
/// works is returned. After an error, `resolved` has what was made, for the caller to release.
///
/// The futures of `bring_up` are boxed and own their arguments: the future of an async closure would not be `Send` here.
#[allow(clippy::too_many_arguments)]
pub(crate) async fn bring<'a, T: Send>(
    spec: &ContainerSpec,
    resolved: &mut Resolved,
    ways: Ways,
    on: On<'_>,
    bring_up: impl Fn(Resolved, Keep) -> BoxFuture<'a, Result<Option<T>, EngineError>> + Send + Sync,
) -> Result<Option<T>, Error> {
    let Ways { ways, why_no_agent } = ways;
    let On {
        engine,
        info,
        image,
        call_timeout,
    } = on;
    let mut base = resolved.decided.clone();
    base.why_no_agent = why_no_agent;
    base.why_weak = why_weak(spec, info);
    base.default_runtime.clone_from(&info.runtime);
    if spec.writable_cgroups {
        base.command_user = command_user(spec, image);
        if base.command_user.is_none() {
            let problem = "commands must not run as root, who could write to the control groups: set another user() (and no \
                           further groups)";
            return Err(Error::Config(vec![FieldError::new("writable_cgroups", problem)]));
        }
    }
    *resolved = resolve(spec, base.clone());
    let mut ways = ways.into_iter().peekable();
    if ways.peek().is_none() && spec.sandbox.is_some() {
        // A sandbox with a PID 1 of its own.
        let first = bring_up(resolved.clone(), Keep(true)).await;
        return first.map_err(|error| Error::engine("create the first containers", None, error));
    }
    while let Some(way) = ways.next() {
        let Some(decided) = way.decide(spec, image, base.clone()) else {
            continue;
        };
        let is_last = ways.peek().is_none();
        let known = Known::new(info, spec, &base, &way);
        // No trial where there is no alternative: the pool's first container shows whether the way works.
        let is_tried = !is_last
            || spec.sandbox.is_some()
            || way.is_agent() && (spec.exec_via != ExecVia::Agent || spec.writable_cgroups);
        *resolved = resolve(spec, decided);
        let filled = fill(resolved, engine, call_timeout).await;
        let is_filled = filled.is_ok();
        let tried = match filled {
            // Control groups depend on more than the key by which working ways are remembered, and the first container of a
            // sandbox is looked at. Both are always tried.
            Ok(()) if !is_tried || known.works() && !spec.writable_cgroups && spec.sandbox.is_none() => Ok(None),
            Ok(()) if matches!(way, Way::CatApart) => {
                // First as the commands' user: a missing user, or one that may not run `cat`, must be an error as always,
                // and a PID 1 of another user would not meet it.
                match bring_up(resolve(spec, base.clone()), Keep(false)).await {
                    Ok(_) => bring_up(resolved.clone(), Keep(true)).await,
                    Err(error) => Err(error),
                }
            }
            Ok(()) => bring_up(resolved.clone(), Keep(true)).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(first) => {
                if is_tried {
                    known.remember();
                }
                return Ok(first);
            }
            // Not PID 1's fault: no other way would help.
            Err(error)
                if error.is_of_settings()
                    || matches!(
                        error.kind(),
                        EngineErrorKind::LimitDiscarded | EngineErrorKind::SettingIgnored | EngineErrorKind::NotReady
                    ) =>
            {
                return Err(Error::engine("create the first containers", None, error));
            }
            Err(error) if is_last => {
                let op = match (way.is_agent(), is_filled) {
                    (true, false) => "bring the agent to the engine",
                    (true, true) => "bring the agent into a first container",
                    (false, _) => "create the first containers",
                };
                return Err(Error::engine(op, None, error));
            }
            Err(error) => {
                tracing::warn!(%error, "PID 1 cannot run in the best way; the next way is tried");
                if way.is_agent() {
                    base.why_no_agent = Some(why_not(&error));
                }
                undo(resolved, engine, call_timeout).await;
                *resolved = resolve(spec, base.clone());
            }
        }
    }
    Ok(None)
}

/// Whether a container that was made for a trial is kept.
pub(crate) struct Keep(pub(crate) bool);

impl Way {
    /// Returns the decisions for this way. `None`: the spec does not allow this way.
    fn decide(&self, spec: &ContainerSpec, image: Option<&ImageInfo>, mut decided: Decided) -> Option<Decided> {
        match self {
            Self::File(file) => decided.agent = Some(file.clone()),
            Self::Volume(name) => decided.agent = Some(AgentFile::in_volume(name.clone())),
            Self::CatApart => decided.command_user = Some(command_user(spec, image)?),
            Self::Cat => {}
        }
        Some(decided)
    }
}

/// Returns the user of commands without a user of their own, if PID 1 can be another user. `None` if that user is unknown or
/// root: root could harm PID 1 whatever PID 1's user is, and would have no capabilities beside a PID 1 that is not root.
fn command_user(spec: &ContainerSpec, image: Option<&ImageInfo>) -> Option<String> {
    let (body, _) = merge(spec, &Decided::default());
    // Commands with an explicit user would not be in the additional groups.
    let groups = body.host_config.and_then(|host| host.group_add);
    if groups.is_some_and(|groups| !groups.is_empty()) {
        return None;
    }
    let user = match body.user {
        Some(user) if !user.is_empty() => user,
        _ => image?.user.clone()?,
    };
    let name = user.split(':').next().unwrap_or_default();
    (!matches!(name, "" | "root" | "0")).then_some(user)
}

/// The key under which a way is remembered to work, once a container came up in it. `None` for engines without an identity.
struct Known(Option<String>);

/// The keys of all ways that this process knows to work.
static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

impl Known {
    /// Builds the key of a way from the engine and everything about the containers that PID 1 depends on.
    fn new(info: &EngineInfo, spec: &ContainerSpec, decided: &Decided, way: &Way) -> Self {
        let way = match way {
            Way::File(file) => format!("file {:?}", file.place()),
            Way::Volume(_) => "volume".to_owned(),
            Way::CatApart | Way::Cat => "cat".to_owned(),
        };
        let (body, _) = merge(spec, decided);
        let host = body.host_config.unwrap_or_default();
        let container = (
            body.image,
            body.user,
            &spec.platform,
            host.runtime,
            host.security_opt,
            spec.writable_cgroups,
        );
        Self(
            info.id
                .as_ref()
                .map(|id| format!("{:?}", (id, &info.version, way, container))),
        )
    }

    /// Returns whether the way is remembered to work.
    fn works(&self) -> bool {
        self.0.as_ref().is_some_and(|key| KNOWN.lock().contains(key))
    }

    /// Remembers that the way works.
    fn remember(self) {
        KNOWN.lock().extend(self.0);
    }
}

/// Returns the command that the agent runs beside the commands of leases, if the spec asks for that.
pub(crate) fn find_command(spec: &ContainerSpec, image: &ImageInfo) -> Result<Option<Vec<String>>, Error> {
    if !spec.supervise {
        return Ok(None);
    }
    let ImageInfo { entrypoint, cmd, .. } = image;
    let (Some(entrypoint), Some(cmd)) = (entrypoint.clone(), cmd.clone()) else {
        let message = format!("the engine does not tell the command of the image {}", spec.image());
        let error = EngineError::new(EngineErrorKind::Unsupported, message);
        return Err(Error::engine("find the image's command", None, error));
    };
    let command = own_command(spec, entrypoint, cmd);
    if command.is_empty() {
        let problem = "the image has no command of its own, and no cmd() was given";
        return Err(Error::Config(vec![FieldError::new("supervise_command", problem)]));
    }
    Ok(Some(command))
}

/// Returns the command that would be PID 1 without the library, by the engine's rules: the spec's entrypoint replaces the
/// image's entrypoint and arguments, and the spec's arguments replace the image's arguments.
fn own_command(spec: &ContainerSpec, entrypoint: Vec<String>, cmd: Vec<String>) -> Vec<String> {
    let (raw, _) = raw_config::of(spec);
    let (program, arguments) = match (&spec.cmd, &raw.entrypoint, &raw.cmd) {
        (Some(cmd), ..) => (cmd.clone(), Vec::new()),
        (None, Some(entrypoint), cmd) => (entrypoint.clone(), cmd.clone().unwrap_or_default()),
        (None, None, Some(cmd)) => (entrypoint, cmd.clone()),
        (None, None, None) => (entrypoint, cmd),
    };
    [program, arguments].concat()
}

/// Has the engine fill the plan's volume, if there is one. The image is ready, and is not pulled again.
async fn fill(resolved: &Resolved, engine: &dyn Engine, call_timeout: Duration) -> Result<(), EngineError> {
    if resolved.plan.volumes().next().is_none() {
        return Ok(());
    }
    let mut plan = resolved.plan.clone();
    plan.image.pull = PullPolicy::Never;
    let silent: ProgressFn = Arc::new(|_| {});
    bounded("the filling of a volume", call_timeout, engine.prepare(&plan, &silent)).await
}

/// Releases the volume of a way that failed.
async fn undo(resolved: &Resolved, engine: &dyn Engine, call_timeout: Duration) {
    if resolved.plan.volumes().next().is_none() {
        return;
    }
    // The network must stay.
    let mut only_volume = resolved.plan.clone();
    only_volume.network = None;
    let released = bounded("the release of a volume", call_timeout, engine.release(&only_volume)).await;
    if let Err(error) = released {
        tracing::warn!(%error, "a volume for the agent may be left");
    }
}

/// Returns the ways to bring the agent into containers of this spec on this engine, the best first, or why there is none.
fn choose(
    spec: &ContainerSpec,
    volume: Option<String>,
    engine: Capabilities,
    info: &EngineInfo,
) -> Result<Vec<Way>, &'static str> {
    if !engine.programs {
        return Err(NOT_DECIDED);
    }
    if let Some(why) = conflict(spec) {
        return Err(why);
    }
    if let Some(path) = &spec.agent_path {
        return Ok(vec![Way::File(AgentFile::elsewhere(path.clone()))]);
    }
    if !agent::PROBLEM.is_empty() {
        return Err(agent::PROBLEM);
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let foreign = |platform: &str| platform.split('/').nth(1).is_some_and(|arch| arch != architecture);
    if !info.platform.starts_with("linux/") || foreign(&info.platform) || spec.platform.as_deref().is_some_and(foreign)
    {
        return Err(FOREIGN);
    }
    let volume = volume.map(Way::Volume);
    if !engine.local_files {
        let without_volume = "the engine is not on this machine, a container outside of a pool has no volume for the agent, and \
                              no agent_path() was given";
        return Ok(vec![volume.ok_or(without_volume)?]);
    }
    match AgentFile::embedded(agent::EMBEDDED) {
        Ok(file) => Ok([Some(Way::File(file)), volume].into_iter().flatten().collect()),
        Err(error) => {
            tracing::warn!(%error, "the agent's program could not be written to any directory of this machine");
            let without_volume = "the agent's program could not be written to any directory of this machine";
            Ok(vec![volume.ok_or(without_volume)?])
        }
    }
}

/// Returns why a command could freeze PID 1 by a control group, although PID 1 is the agent. A command can write to the
/// container's groups if they are writable, or if it may make namespaces in which it is root and mount the groups there.
fn why_weak(spec: &ContainerSpec, info: &EngineInfo) -> Option<&'static str> {
    if spec.writable_cgroups {
        // With writable groups no command runs as root.
        return None;
    }
    let (body, _) = merge(spec, &Decided::default());
    let options = body.host_config.unwrap_or_default().security_opt.unwrap_or_default();
    let says = |wanted: fn(&str, &str) -> bool| {
        options.iter().any(|option| {
            let option = option.to_ascii_lowercase();
            let (name, value) = option.split_once(['=', ':']).unwrap_or((&option, "true"));
            wanted(name, value)
        })
    };
    if says(|name, value| name == "writable-cgroups" && value != "false")
        || says(|name, value| name == "unmask" && (value.contains("all") || value.contains("cgroup")))
    {
        Some("the containers' security_opt lets root of the container write to the control groups, and so freeze PID 1")
    } else if says(|name, value| name == "seccomp" && value == "unconfined") {
        Some("without seccomp, root of the container can make namespaces in which it can freeze PID 1")
    } else if info.version.starts_with("Podman") {
        Some("Podman lets root of the container make namespaces in which it can freeze PID 1")
    } else {
        None
    }
}

/// Returns why the agent cannot be PID 1 with this spec, if it cannot.
fn conflict(spec: &ContainerSpec) -> Option<&'static str> {
    let (body, _) = merge(spec, &Decided::default());
    let host = body.host_config.unwrap_or_default();
    let traces = |capability: &String| {
        let capability = capability.to_ascii_uppercase();
        matches!(
            capability.trim_start_matches("CAP_"),
            "SYS_PTRACE" | "SYS_ADMIN" | "ALL"
        )
    };
    if !spec.has_lifeline() {
        Some(OWN_COMMAND)
    } else if host.privileged == Some(true) {
        Some("the containers are privileged")
    } else if host.cap_add.iter().flatten().any(traces) {
        Some("the containers have SYS_PTRACE, SYS_ADMIN or all capabilities")
    } else if host.pid_mode.is_some_and(|mode| !mode.is_empty()) {
        Some("the containers share a pid namespace")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerCreateBody;

    use super::*;

    fn spec() -> ContainerSpec {
        ContainerSpec::new("busybox")
    }

    #[test]
    fn the_own_command_is_what_the_engine_would_run() {
        let image = || (vec!["entry".to_owned()], vec!["cmd".to_owned()]);
        let of = |spec: &ContainerSpec| own_command(spec, image().0, image().1).join(" ");
        let raw = |entrypoint: Option<&str>, cmd: Option<&str>| {
            let words = |text: Option<&str>| text.map(|text| vec![text.to_owned()]);
            spec().docker_config(ContainerCreateBody {
                entrypoint: words(entrypoint),
                cmd: words(cmd),
                ..Default::default()
            })
        };
        assert_eq!(of(&spec()), "entry cmd");
        assert_eq!(of(&spec().cmd(["sleep", "60"])), "sleep 60");
        assert_eq!(of(&raw(None, Some("mine"))), "entry mine");
        assert_eq!(of(&raw(Some("mine"), None)), "mine");
        assert_eq!(of(&raw(Some("mine"), Some("too"))), "mine too");
        assert_eq!(own_command(&spec(), Vec::new(), Vec::new()), [""; 0]);
    }

    #[test]
    fn writable_cgroups_are_refused_by_the_engines_description() {
        let refused = |engine: &str, api: &str, cgroups: Option<u8>| {
            let mut info = EngineInfo::new(engine, api, "linux/amd64");
            info.cgroup_version = cgroups;
            let spec = ContainerSpec::new("any");
            assert!(check_cgroups(&spec, &info).is_ok(), "not asked for");
            let checked = check_cgroups(&spec.writable_cgroups(true), &info);
            checked.err().map(|error| error.to_string())
        };
        let mut rootless = EngineInfo::new("Docker 28.5.2", "1.51", "linux/amd64");
        rootless.remaps_users = true;
        let spec = ContainerSpec::new("any").writable_cgroups(true);
        let error = check_cgroups(&spec, &rootless).unwrap_err();
        assert!(error.to_string().contains("rootless"), "{error}");
        let refused_for = |why: &str, refused: Option<String>| {
            let refused = refused.unwrap();
            assert!(
                refused.contains("writable_cgroups") && refused.contains(why),
                "{refused}"
            );
        };
        refused_for("cgroup v1", refused("Docker 28.5.2", "1.51", Some(1)));
        refused_for("cgroup v1", refused("Podman 5.8.6", "1.41", Some(1)));
        refused_for(
            "Docker 28 or later, and this is Docker 26.1.5",
            refused("Docker 26.1.5", "1.45", Some(2)),
        );
        refused_for("Docker 28", refused("Docker 27.5.1", "1.47", None));
        assert_eq!(refused("Docker 28.0.0", "1.48", Some(2)), None);
        // Where the description says nothing, the first container will show it.
        assert_eq!(refused("Podman 5.8.6", "1.41", None), None);
        assert_eq!(refused("Mine 1", "1", None), None);
        assert_eq!(refused("Docker 30", "2.0", None), None);
    }

    #[test]
    fn settings_that_open_the_control_groups_to_commands_weaken_the_lifeline() {
        let info = |version: &str| EngineInfo::new(version, "1.51", "linux/amd64");
        let with = |option: &str| {
            ContainerSpec::new("any").host_config(bollard::models::HostConfig {
                security_opt: Some(vec![option.to_owned()]),
                ..Default::default()
            })
        };
        let (docker, podman) = (info("Docker 28.5.2"), info("Podman 5.8.6"));
        for option in [
            "seccomp=unconfined",
            "seccomp:unconfined",
            "writable-cgroups",
            "writable-cgroups=true",
            "unmask=ALL",
            "unmask=/proc/x:/sys/fs/cgroup",
        ] {
            assert!(why_weak(&with(option), &docker).is_some(), "{option}");
        }
        for option in [
            "seccomp={}",
            "writable-cgroups=false",
            "unmask=/proc/acpi",
            "label=disable",
        ] {
            assert_eq!(why_weak(&with(option), &docker), None, "{option}");
            assert!(why_weak(&with(option), &podman).is_some(), "{option}");
        }
        // With writable groups no command runs as root.
        let groups = ContainerSpec::new("any").user("nobody").writable_cgroups(true);
        assert_eq!(why_weak(&groups, &podman), None);
        let kept = bollard::models::HostConfig {
            userns_mode: Some("keep-id".to_owned()),
            ..Default::default()
        };
        check_cgroups(&groups.clone(), &podman).unwrap();
        check_cgroups(&groups.host_config(kept), &podman).unwrap_err();
    }
}
