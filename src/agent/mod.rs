//! The library's side of the resident agent: the small program that is PID 1 of a warm container and runs commands
//! without the engine's exec. What both sides say to each other is in `agent/PROTOCOL.md`.

mod client;
mod decode;
#[cfg_attr(not(target_os = "linux"), path = "no_dir.rs")]
mod dir;
mod file;
mod session;
#[cfg_attr(not(target_os = "linux"), path = "no_socket.rs")]
mod socket;
#[cfg(test)]
mod tests;
#[path = "../../agent/protocol.rs"]
#[allow(dead_code)] // each side uses its half of it
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use crate::engine::{
    Capabilities, ContainerSpec, Engine, EngineError, EngineErrorKind, EngineInfo, ProgressFn, PullPolicy, raw,
};
use crate::error::{Error, FieldError};
use crate::runtime::bounded;
use crate::values::status::{ASKED_FOR, ActiveExec, Lifeline};

pub(crate) use client::{Client, Limit, Place};
#[cfg(fuzzing)]
pub(crate) use decode::said;
pub(crate) use file::{AgentFile, AgentVolume, InUse, bind};
pub(crate) use socket::Socket;

/// The agent of this build; empty where it could not be built.
pub(crate) const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// Why it could not be built.
const PROBLEM: &str = env!("DOCKERPOOL_AGENT_PROBLEM");

/// Where its socket is mounted.
pub(crate) const SOCKET_TARGET: &str = match wire::SOCKET.to_str() {
    Ok(path) => path,
    Err(_) => unreachable!(),
};

/// How commands are to be run.
///
/// | | `Agent` | `Docker` |
/// |---|---|---|
/// | a command costs | a millisecond | 50 milliseconds, in the engine's runtime |
/// | a command that is ended | ends alone, with all it has started | takes its container with it |
/// | how it ended | exactly, with what it used | exit code, of which 128 + *n* is taken for signal *n* |
///
/// The agent is a program of 64 KB. Wherever it can run it is PID 1 of the containers, and holds the [`Lifeline`]: also
/// where commands are run by the engine.
///
/// It is mounted read-only, from a directory on this machine: in `XDG_RUNTIME_DIR`, in `/run` for root, or else in the
/// directory for temporary files. If that directory is cleaned away, the next creation of a container makes it anew. Where
/// the engine does not see this machine's files (it is on another machine or in a virtual one, as with Docker Desktop, Colima
/// and `podman machine`, or its socket was lent to a container), the agent comes from a volume that the pool makes, fills once
/// (some 100 to 300 milliseconds), and removes with itself. Where the engine says that it uses SELinux, program and socket
/// are mounted with the option `z`, which labels these two files, and no file of the user's. If
/// the process is killed, directory and volume are left, and the next pool of the same name, or the next process of the same
/// user, removes them. Containers outside of a pool have no volume.
///
/// The agent needs an engine of the architecture the library was built for (else see
/// [`agent_path`](ContainerSpec::agent_path)), and containers that have no [`cmd`](ContainerSpec::cmd) of their own (unless
/// it is [supervised](ContainerSpec::supervise_command)), share no pid namespace, are not privileged and have no
/// `SYS_PTRACE`: with that, or as somebody who may trace it, what runs in a container could make it say anything.
///
/// The agent runs 64 commands at once. Further ones wait in turn; the time of a command that has a
/// [`timeout`](crate::Command::timeout) goes on meanwhile. A command that has ended counts until its output has been read, or
/// is dropped.
///
/// Whether the agent runs is tried out with one container when a pool is built: the first one of the pool, or one that is
/// removed again where the pool has none at the beginning. The answer is remembered for as long as the process runs, by
/// engine, image, runtime and user.
///
/// Also with the agent, commands with a [`user`](crate::Command::user) of their own are run by the engine where PID 1 may not
/// become that user: it is not root, or has not the usual capabilities.
///
/// # Examples
///
/// ```
/// use dockerpool::{Error, ExecVia, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// // To be sure of the agent, and not to find out by the time commands take.
/// let builder = Pool::builder("judge").image("python:3.12-alpine").exec_via(ExecVia::Agent);
/// # let builder = builder.engine(engine);
/// match builder.build().await {
///     Ok(pool) => println!("{} is ready", pool.name()),
///     Err(Error::Config(problems)) => {
///         assert_eq!(problems[0].field(), "exec_via");
///         println!("{}", problems[0]); // e.g. the engine is on another machine
///     }
///     Err(other) => return Err(other),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecVia {
    /// By the agent where that can be, else by the engine.
    Auto,
    /// By the agent; where that cannot be, building the pool fails and says why.
    Agent,
    /// By the engine's exec API. PID 1 is the agent all the same, where it can be. The default.
    #[default]
    Docker,
}

impl Lifeline {
    /// What a spec comes to, when that is decided.
    pub(crate) fn of(spec: &ContainerSpec) -> Self {
        match (&spec.agent, spec.why_no_agent) {
            (Some(_), _) => match spec.why_weak {
                Some(why) => Self::Weak { why },
                None => Self::Agent,
            },
            (None, why) if spec.has_lifeline() => Self::Weak {
                why: why.unwrap_or(NOT_DECIDED),
            },
            (None, _) => Self::None { why: OWN_COMMAND },
        }
    }
}

/// The first version of Docker's API whose engines can have control groups writable (Docker 28).
const WRITABLE_SINCE: (u32, u32) = (1, 48);

/// Refuses writable control groups where the engine says that it has none.
pub(crate) fn check_cgroups(spec: &ContainerSpec, info: &EngineInfo) -> Result<(), Error> {
    if !spec.writable_cgroups {
        return Ok(());
    }
    let problem = |problem: String| Err(Error::Config(vec![FieldError::new("writable_cgroups", problem)]));
    let userns = raw::merge(spec).0.host_config.and_then(|host| host.userns_mode);
    if userns.is_some_and(|mode| !matches!(&*mode, "" | "host")) {
        return problem(
            "does not go with a userns_mode: the control groups could be those of the commands' user".to_owned(),
        );
    }
    if info.cgroup_version == Some(1) {
        return problem("the engine's machine has cgroup v1, and this needs cgroup v2".to_owned());
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

/// Why a container has no agent whose spec was never decided on.
const NOT_DECIDED: &str = "the engine cannot run the agent";

/// Why a container has no lifeline.
const OWN_COMMAND: &str = "the containers have a command of their own, see supervise_command()";

/// Why there is no agent on an engine, or for a platform, of another architecture.
const FOREIGN: &str = "the agent was built for another architecture than the containers' (agent_path() takes one that was built \
                       for theirs)";

/// Why commands or the lifeline do without the agent where it was tried out.
const DOES_NOT_RUN: &str = "the agent does not run on the engine";

/// The same, where the kernel forbade it.
const MAY_NOT_RUN: &str = "the agent does not run on the engine: its kernel forbids containers to execute it (permission denied: by \
                           SELinux or AppArmor, in a file system that is mounted noexec, or for want of a file there)";

/// Why, by the error that came of it.
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

/// The user and group of a PID 1 that is not the agent, as far as that is to be told from commands. No system's
/// user list has it, and user namespaces of the usual size do.
pub(crate) const GUARD_USER: &str = "65525:65525";

/// What can be PID 1 of containers that have a lifeline.
#[derive(Clone)]
enum Way {
    /// The agent, in a file.
    File(AgentFile),
    /// The agent, in a volume of this name.
    Volume(String),
    /// `cat`, as a user that no command is.
    CatApart,
    /// `cat`, as the commands' own user.
    Cat,
}

impl Way {
    fn is_agent(&self) -> bool {
        matches!(self, Self::File(_) | Self::Volume(_))
    }
}

/// All ways to have a PID 1, the best one first, and why the agent is not among them.
pub(crate) struct Ways {
    ways: Vec<Way>,
    why_no_agent: Option<&'static str>,
}

/// Decides what PID 1 may be in containers of this spec, before anything is done. `volume` is the name of a volume that
/// may be made.
pub(crate) fn decide(
    spec: &ContainerSpec,
    volume: Option<String>,
    engine: &dyn Engine,
    info: &EngineInfo,
) -> Result<Ways, Error> {
    let chosen = choose(spec, volume, engine.capabilities(), info);
    match chosen {
        Err(why) if spec.exec_via == ExecVia::Agent => {
            let problem = format!("the agent cannot be had: {why}; ExecVia::Auto does without it");
            Err(Error::Config(vec![FieldError::new("exec_via", problem)]))
        }
        Err(why) if spec.writable_cgroups => {
            let problem = format!("needs the agent, which cannot be had: {why}");
            Err(Error::Config(vec![FieldError::new("writable_cgroups", problem)]))
        }
        Err(why) if spec.supervise => {
            let problem = format!("needs the agent, which cannot be had: {why}");
            Err(Error::Config(vec![FieldError::new("supervise_command", problem)]))
        }
        chosen => {
            let why_no_agent = chosen.as_ref().err().copied();
            let mut ways = chosen.unwrap_or_default();
            if spec.has_lifeline() && !must_have_agent(spec) {
                ways.extend([Way::CatApart, Way::Cat]);
            }
            Ok(Ways { ways, why_no_agent })
        }
    }
}

fn must_have_agent(spec: &ContainerSpec) -> bool {
    spec.exec_via == ExecVia::Agent || spec.supervise || spec.writable_cgroups
}

/// Makes PID 1 ready in the best way that works, and has the spec say so. The image must be there. `bring_up` makes a
/// container of a spec, in which PID 1 has shown that it runs, and keeps it if it is told to; it must not leave one that
/// failed. The first container that works is given back, where one was needed to know: where there is nothing to choose, or
/// the answer is remembered, none is made. What was made before an error is the caller's to release.
///
/// The futures of `bring_up` are boxed, and own what they take: the future of an async closure here would not be `Send`.
pub(crate) async fn bring<'a, T: Send>(
    spec: &mut ContainerSpec,
    ways: Ways,
    engine: &dyn Engine,
    info: &EngineInfo,
    call_timeout: Duration,
    bring_up: impl Fn(ContainerSpec, Keep) -> BoxFuture<'a, Result<Option<T>, EngineError>> + Send + Sync,
) -> Result<(ActiveExec, Option<T>), Error> {
    let Ways { ways, why_no_agent } = ways;
    spec.why_no_agent = why_no_agent;
    spec.why_weak = why_weak(spec, info);
    if spec.writable_cgroups {
        spec.command_user = command_user(spec, engine, call_timeout).await;
        if spec.command_user.is_none() {
            let problem = "commands must not be root's, who could write to the control groups: name another user() (and no \
                           further groups)";
            return Err(Error::Config(vec![FieldError::new("writable_cgroups", problem)]));
        }
    }
    let mut ways = ways.into_iter().peekable();
    while let Some(way) = ways.next() {
        let is_last = ways.peek().is_none();
        let known = Known::new(info, spec, &way);
        // Where nothing else would be done, the pool's first container tells.
        let is_tried = !is_last || way.is_agent() && (spec.exec_via != ExecVia::Agent || spec.writable_cgroups);
        let tried = match apply(&way, spec, engine, call_timeout).await {
            Ok(false) => continue,
            // Whether there are control groups to be had depends on more than is remembered by.
            Ok(true) if !is_tried || known.works() && !spec.writable_cgroups => Ok(None),
            Ok(true) if matches!(way, Way::CatApart) => {
                // A user that is not there, or may not run `cat`, is told of as ever: PID 1 would not notice.
                let as_commands = ContainerSpec {
                    command_user: None,
                    ..spec.clone()
                };
                match bring_up(as_commands, Keep(false)).await {
                    Ok(_) => bring_up(spec.clone(), Keep(true)).await,
                    Err(error) => Err(error),
                }
            }
            Ok(true) => bring_up(spec.clone(), Keep(true)).await,
            Err(error) => Err(error),
        };
        match tried {
            Ok(first) => {
                if is_tried {
                    known.remember();
                }
                return Ok((active(spec), first));
            }
            // It is none of PID 1's doing.
            Err(error)
                if error.is_of_settings()
                    || matches!(
                        error.kind(),
                        EngineErrorKind::LimitDiscarded | EngineErrorKind::SettingIgnored
                    ) =>
            {
                return Err(Error::engine("create the first containers", None, error));
            }
            Err(error) if is_last => {
                let op = match way.is_agent() {
                    true => "bring the agent to the engine",
                    false => "create the first containers",
                };
                return Err(Error::engine(op, None, error));
            }
            Err(error) => {
                tracing::warn!(%error, "PID 1 does not run in the best way; the next one is tried");
                if way.is_agent() {
                    spec.why_no_agent = Some(why_not(&error));
                }
                undo(spec, engine, call_timeout).await;
            }
        }
    }
    Ok((active(spec), None))
}

/// Whether a container that was made to see how it goes is kept.
pub(crate) struct Keep(pub(crate) bool);

/// How commands are run in containers of a spec whose PID 1 is decided.
fn active(spec: &ContainerSpec) -> ActiveExec {
    match (spec.exec_via, &spec.agent) {
        (ExecVia::Docker, _) => ActiveExec::Docker { why: ASKED_FOR },
        (_, Some(_)) => ActiveExec::Agent,
        (_, None) => ActiveExec::Docker {
            why: spec.why_no_agent.unwrap_or(NOT_DECIDED),
        },
    }
}

/// Has the spec say that PID 1 is this, and makes ready what that needs. `false`: there is no such way for this spec.
async fn apply(
    way: &Way,
    spec: &mut ContainerSpec,
    engine: &dyn Engine,
    call_timeout: Duration,
) -> Result<bool, EngineError> {
    match way {
        Way::File(file) => spec.agent = Some(file.clone()),
        Way::Volume(name) => {
            spec.agent = Some(AgentFile::in_volume(name.clone()));
            fill(spec, engine, call_timeout).await?;
        }
        Way::CatApart => {
            spec.command_user = command_user(spec, engine, call_timeout).await;
            return Ok(spec.command_user.is_some());
        }
        Way::Cat => {}
    }
    Ok(true)
}

/// The user of commands that name none, where PID 1 can be another one: `None` if that is root, who could harm PID 1
/// whatever user that is, and would have no capabilities beside a PID 1 that is not root's.
async fn command_user(spec: &ContainerSpec, engine: &dyn Engine, call_timeout: Duration) -> Option<String> {
    let (body, _) = raw::merge(spec);
    // Commands whose user is named would not be in them.
    let groups = body.host_config.and_then(|host| host.group_add);
    if groups.is_some_and(|groups| !groups.is_empty()) {
        return None;
    }
    let user = match body.user {
        Some(user) if !user.is_empty() => user,
        _ => bounded("the description of the image", call_timeout, engine.own_user(spec))
            .await
            .ok()?,
    };
    let name = user.split(':').next().unwrap_or_default();
    (!matches!(name, "" | "root" | "0")).then_some(user)
}

/// What is remembered of containers that were brought up in a way: that it works.
struct Known(Option<String>);

/// All of this process.
static KNOWN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

impl Known {
    /// On this engine, for containers that have in common with these what PID 1 depends on. Of an engine without an
    /// identity nothing is remembered.
    fn new(info: &EngineInfo, spec: &ContainerSpec, way: &Way) -> Self {
        let way = match way {
            Way::File(file) => format!("file {:?}", file.place()),
            Way::Volume(_) => "volume".to_owned(),
            Way::CatApart | Way::Cat => "cat".to_owned(),
        };
        let (body, _) = raw::merge(spec);
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

    fn works(&self) -> bool {
        self.0.as_ref().is_some_and(|key| KNOWN.lock().contains(key))
    }

    fn remember(self) {
        KNOWN.lock().extend(self.0);
    }
}

/// Has the spec say which command the agent is to run beside those of leases, where it is asked for. The image must be
/// there.
pub(crate) async fn find_command(
    spec: &mut ContainerSpec,
    engine: &dyn Engine,
    call_timeout: Duration,
) -> Result<(), Error> {
    if !spec.supervise {
        return Ok(());
    }
    let command = bounded("the description of the image", call_timeout, engine.own_command(spec))
        .await
        .map_err(|error| Error::engine("find the image's command", None, error))?;
    if command.is_empty() {
        let problem = "the image has no command of its own, and no cmd() was given";
        return Err(Error::Config(vec![FieldError::new("supervise_command", problem)]));
    }
    spec.supervised = Some(command);
    Ok(())
}

/// Has the engine fill the volume. All else is ready, and not to be pulled again.
async fn fill(spec: &ContainerSpec, engine: &dyn Engine, call_timeout: Duration) -> Result<(), EngineError> {
    let spec = spec.clone().pull(PullPolicy::Never);
    let silent: ProgressFn = Arc::new(|_| {});
    bounded("the filling of a volume", call_timeout, engine.prepare(&spec, &silent)).await
}

/// Goes back to where nothing was tried.
async fn undo(spec: &mut ContainerSpec, engine: &dyn Engine, call_timeout: Duration) {
    if spec.agent.as_ref().is_some_and(|agent| agent.volume().is_some()) {
        // The network is not to go.
        let only_volume = ContainerSpec {
            network: None,
            ..spec.clone()
        };
        let released = bounded("the release of a volume", call_timeout, engine.release(&only_volume)).await;
        if let Err(error) = released {
            tracing::warn!(%error, "a volume for the agent may be left");
        }
    }
    spec.agent = None;
    if !spec.writable_cgroups {
        spec.command_user = None;
    }
}

/// How the agent can come into containers of this spec on this engine, the best way first, or why it cannot.
fn choose(
    spec: &ContainerSpec,
    volume: Option<String>,
    engine: Capabilities,
    info: &EngineInfo,
) -> Result<Vec<Way>, &'static str> {
    if !engine.agent {
        return Err(NOT_DECIDED);
    }
    if let Some(why) = conflict(spec) {
        return Err(why);
    }
    if let Some(path) = &spec.agent_path {
        return Ok(vec![Way::File(AgentFile::elsewhere(path.clone()))]);
    }
    if !PROBLEM.is_empty() {
        return Err(PROBLEM);
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
        let without_volume = "the engine is not on this machine, this is no pool that brings the agent to it, and no \
                              agent_path was given";
        return Ok(vec![volume.ok_or(without_volume)?]);
    }
    match AgentFile::embedded(EMBEDDED) {
        Ok(file) => Ok([Some(Way::File(file)), volume].into_iter().flatten().collect()),
        Err(error) => {
            tracing::warn!(%error, "the agent's program could not be written to any directory of this machine");
            let without_volume = "the agent's program could not be written to any directory of this machine";
            Ok(vec![volume.ok_or(without_volume)?])
        }
    }
}

/// Whether a command could freeze PID 1 by a control group, although that is the agent: it gets at the container's groups where
/// they are writable, or where it may make namespaces in which it is root, and mount them there.
fn why_weak(spec: &ContainerSpec, info: &EngineInfo) -> Option<&'static str> {
    if spec.writable_cgroups {
        // No command is root there.
        return None;
    }
    let (body, _) = raw::merge(spec);
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
        Some("its security_opt lets root of the container write to the control groups, and so freeze PID 1")
    } else if says(|name, value| name == "seccomp" && value == "unconfined") {
        Some("without seccomp, root of the container can make namespaces in which it can freeze PID 1")
    } else if info.version.starts_with("Podman") {
        Some("Podman lets root of the container make namespaces in which it can freeze PID 1")
    } else {
        None
    }
}

/// The beginning of the names of all files that the library itself mounts.
pub(crate) const OWN_TARGETS: &str = ".dockerpool";

/// Whether the library itself mounts something there.
pub(crate) fn is_own_target(target: &str) -> bool {
    [file::TARGET, SOCKET_TARGET].contains(&target)
}

/// What of a spec the agent does not go with.
fn conflict(spec: &ContainerSpec) -> Option<&'static str> {
    let (body, _) = raw::merge(spec);
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
