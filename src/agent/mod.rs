//! The library's side of the resident agent: the small program that is PID 1 of a warm container and runs commands
//! without the engine's exec. What both sides say to each other is in `agent/PROTOCOL.md`.

mod client;
mod decode;
mod file;
mod session;
#[cfg_attr(not(target_os = "linux"), path = "no_socket.rs")]
mod socket;
#[cfg(test)]
mod tests;
#[path = "../../agent/protocol.rs"]
#[allow(dead_code)] // each side uses its half of it
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle as RuntimeHandle;

use crate::engine::{
    Capabilities, ContainerSpec, Engine, EngineError, EngineInfo, ProgressFn, PullPolicy, bounded, raw,
};
use crate::error::{Error, FieldError};

pub(crate) use client::{Client, Limit, Place};
#[cfg(fuzzing)]
pub(crate) use decode::said;
pub(crate) use file::{AgentFile, AgentVolume, bind};
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
/// The agent is a program of 40 KB, PID 1 of each container, mounted read-only: from this machine's directory for
/// temporary files, or, where the engine does not see that (it is on another machine, or its socket was lent to a
/// container), from a volume that the pool makes, fills once, and removes with itself. What a pool leaves whose process was
/// killed is removed when the next pool of its name is built. Containers outside of a pool have no volume.
///
/// It needs an engine of the architecture the library was built for (else see
/// [`agent_path`](ContainerSpec::agent_path)), and containers that have no [`cmd`](ContainerSpec::cmd) of their own (unless
/// it is [supervised](ContainerSpec::supervise_command)), share no pid namespace, are not privileged and have no
/// `SYS_PTRACE`: with that, or as somebody who may trace it, what runs in a container could make it say anything.
///
/// The agent runs 64 commands at once. Further ones wait in turn; the time of a command that has a
/// [`timeout`](crate::Command::timeout) goes on meanwhile. A command that has ended counts until its output has been read, or
/// is dropped.
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
    /// By the agent where that can be, else by the engine. Building a pool starts one container more to see.
    Auto,
    /// By the agent; where that cannot be, building the pool fails and says why.
    Agent,
    /// By the engine's exec API.
    #[default]
    Docker,
}

/// How commands are run, once that is decided.
///
/// # Examples
///
/// ```
/// use dockerpool::{ActiveExec, ExecVia, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let builder = Pool::builder("judge").image("busybox:1.36").exec_via(ExecVia::Auto);
/// # let builder = builder.engine(engine);
/// let pool = builder.build().await?;
/// match pool.status().exec {
///     ActiveExec::Agent => println!("commands take a millisecond"),
///     ActiveExec::Docker { why } => println!("commands take 50, since {why}"),
///     _ => {}
/// }
/// # assert_eq!(pool.status().exec, ActiveExec::Docker { why: "the engine cannot run the agent" });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActiveExec {
    /// By the agent.
    Agent,
    /// By the engine's exec API.
    Docker {
        /// Why not by the agent.
        why: &'static str,
    },
}

impl Default for ActiveExec {
    fn default() -> Self {
        Self::Docker { why: ASKED_FOR }
    }
}

pub(crate) const ASKED_FOR: &str = "it was asked for";

/// How the agent's program is to come into containers.
pub(crate) enum Way {
    /// As a file; where the engine does not see it, in a volume of this name.
    File(AgentFile, Option<String>),
    /// In a volume of this name.
    Volume(String),
}

/// Decides how commands are to be run in containers of this spec, before anything is done: by the agent, or why not.
/// `volume` is the name of a volume that may be made.
pub(crate) fn decide(
    spec: &ContainerSpec,
    volume: Option<String>,
    engine: &dyn Engine,
    info: &EngineInfo,
) -> Result<Result<Way, &'static str>, Error> {
    match choose(spec, volume, engine.capabilities(), info) {
        Err(why) if spec.exec_via == ExecVia::Agent => {
            let problem = format!("the agent cannot be had: {why}");
            Err(Error::Config(vec![FieldError::new("exec_via", problem)]))
        }
        Err(why) if spec.supervise => {
            let problem = format!("needs the agent, which cannot be had: {why}");
            Err(Error::Config(vec![FieldError::new("supervise_command", problem)]))
        }
        decided => Ok(decided),
    }
}

/// Brings the agent to the engine as was decided, and has the spec say so; or finds that this cannot be. The image must be
/// there. What was made before an error is the caller's to release.
pub(crate) async fn bring(
    spec: &mut ContainerSpec,
    decided: Result<Way, &'static str>,
    engine: &dyn Engine,
    call_timeout: Duration,
) -> Result<ActiveExec, Error> {
    let way = match decided {
        Ok(way) => way,
        Err(why) => return Ok(ActiveExec::Docker { why }),
    };
    let auto = spec.exec_via == ExecVia::Auto;
    let (file, volume) = match way {
        Way::File(file, volume) => (Some(file), volume),
        Way::Volume(name) => (None, Some(name)),
    };
    let mut brought = Ok(());
    if file.is_some() {
        spec.agent = file;
        // Where there is nothing else to be done, the first container tells.
        if auto || volume.is_some() {
            brought = probe(spec, engine, call_timeout).await;
        }
    }
    if let Some(name) = volume
        && (spec.agent.is_none() || brought.is_err())
    {
        spec.agent = Some(AgentFile::in_volume(name));
        brought = match fill(spec, engine, call_timeout).await {
            Ok(()) if auto => probe(spec, engine, call_timeout).await,
            filled => filled,
        };
    }
    match brought {
        Ok(()) => Ok(ActiveExec::Agent),
        Err(error) if !auto || spec.supervise => Err(Error::engine("bring the agent to the engine", None, error)),
        Err(error) => {
            tracing::info!(%error, "the agent does not run on the engine; commands are run by its exec API");
            undo(spec, engine, call_timeout).await;
            Ok(ActiveExec::Docker {
                why: "the agent does not run on the engine",
            })
        }
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

/// Whether the agent runs in a container. A socket on this machine may lead to another, of whose files Podman makes what it
/// does not find; the directory for temporary files may be mounted so that nothing in it can be executed.
async fn probe(spec: &ContainerSpec, engine: &dyn Engine, call_timeout: Duration) -> Result<(), EngineError> {
    let name = format!("dockerpool-probe-{:032x}", fastrand::u128(..));
    let greeted = match bounded("the creation of a container", call_timeout, engine.create(&name, spec)).await {
        Ok(created) => bounded("the agent's first answer", call_timeout, greet(engine, &created.id)).await,
        Err(error) => Err(error),
    };
    let removed = bounded("the removal of a container", call_timeout, engine.remove(&name)).await;
    greeted.and(removed)
}

async fn greet(engine: &dyn Engine, id: &str) -> Result<(), EngineError> {
    let attachment = engine.attach(id).await?;
    engine.start(id).await?;
    let agent = Client::connect(attachment, None, &[], &RuntimeHandle::current()).await;
    agent.map(drop)
}

/// Has the engine fill the volume. All else is ready, and not to be pulled again.
async fn fill(spec: &ContainerSpec, engine: &dyn Engine, call_timeout: Duration) -> Result<(), EngineError> {
    let spec = spec.clone().pull(PullPolicy::Never);
    let silent: ProgressFn = Arc::new(|_| {});
    bounded("the filling of a volume", call_timeout, engine.prepare(&spec, &silent)).await
}

/// Goes on without the agent.
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
}

/// How the agent's program is to come into containers of this spec on this engine, or why it is not.
fn choose(
    spec: &ContainerSpec,
    volume: Option<String>,
    engine: Capabilities,
    info: &EngineInfo,
) -> Result<Way, &'static str> {
    if spec.exec_via == ExecVia::Docker {
        return Err(ASKED_FOR);
    }
    if !engine.agent {
        return Err("the engine cannot run the agent");
    }
    if let Some(why) = conflict(spec) {
        return Err(why);
    }
    if let Some(path) = &spec.agent_path {
        return Ok(Way::File(AgentFile::elsewhere(path.clone()), None));
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
        return Err("the agent was built for another architecture than the containers'");
    }
    if !engine.local_files {
        return volume
            .map(Way::Volume)
            .ok_or("the engine is not on this machine, this is no pool that brings the agent to it, and no agent_path was given");
    }
    match (AgentFile::embedded(EMBEDDED), volume) {
        (Ok(file), volume) => Ok(Way::File(file, volume)),
        (Err(error), volume) => {
            tracing::warn!(%error, "the agent's program could not be written to the directory for temporary files");
            volume
                .map(Way::Volume)
                .ok_or("the agent's program could not be written to the directory for temporary files")
        }
    }
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
        Some("the containers have a command of their own, see supervise_command()")
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
