//! The library's side of the resident agent: the small program that is PID 1 of a warm container and runs commands
//! without the engine's exec. What both sides say to each other is in `agent/PROTOCOL.md`.

mod client;
mod decode;
mod file;
mod session;
#[cfg(test)]
mod tests;
#[path = "../../agent/protocol.rs"]
#[allow(dead_code)] // each side uses its half of it
mod wire;

use std::time::Duration;

use crate::engine::{Capabilities, ContainerSpec, Engine, EngineError, EngineInfo, bounded, raw};
use crate::error::{Error, FieldError};

pub(crate) use client::Client;
pub(crate) use file::AgentFile;

/// The agent of this build; empty where it could not be built.
const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// Why it could not be built.
const PROBLEM: &str = env!("DOCKERPOOL_AGENT_PROBLEM");

/// Where it is in a container.
pub(crate) const TARGET: &str = "/.dockerpool-agent";

/// How commands are to be run.
///
/// | | `Agent` | `Docker` |
/// |---|---|---|
/// | a command costs | a millisecond | 50 milliseconds, in the engine's runtime |
/// | a command that is ended | ends alone, with all it has started | takes its container with it |
/// | how it ended | exactly, with what it used | exit code, of which 128 + *n* is taken for signal *n* |
///
/// The agent is a program of 40 KB, PID 1 of each container, mounted read-only from this machine's directory for temporary
/// files. It needs a Docker engine on this machine, of the architecture the library was built for (else see
/// [`agent_path`](ContainerSpec::agent_path)), and containers that have no
/// [`cmd`](ContainerSpec::cmd) of their own, share no pid namespace, are not privileged and have no `SYS_PTRACE`:
/// with that, or as somebody who may trace it, what runs in a container could make it say anything.
///
/// Also with the agent, commands with a [`tty`](crate::Command::tty) are run by the engine, and so are those with a
/// [`user`](crate::Command::user) of their own where PID 1 may not become that user: it is not root, or has not the usual
/// capabilities.
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

/// Decides how commands are to be run in containers of this spec, and has the spec say so; before anything is done.
pub(crate) fn decide(spec: &mut ContainerSpec, engine: &dyn Engine, info: &EngineInfo) -> Result<ActiveExec, Error> {
    match choose(spec, engine.capabilities(), info) {
        Ok(file) => {
            spec.agent = Some(file);
            Ok(ActiveExec::Agent)
        }
        Err(why) if spec.exec_via == ExecVia::Agent => {
            let problem = format!("the agent cannot be had: {why}");
            Err(Error::Config(vec![FieldError::new("exec_via", problem)]))
        }
        Err(why) => Ok(ActiveExec::Docker { why }),
    }
}

/// Takes the decision back where it need not be the agent and the engine cannot mount it. The image must be there.
pub(crate) async fn confirm(
    spec: &mut ContainerSpec,
    decided: ActiveExec,
    engine: &dyn Engine,
    call_timeout: Duration,
) -> ActiveExec {
    if decided == ActiveExec::Agent
        && spec.exec_via == ExecVia::Auto
        && let Err(error) = probe(spec, engine, call_timeout).await
    {
        tracing::info!(%error, "the engine cannot mount the agent; commands are run by its exec API");
        spec.agent = None;
        return ActiveExec::Docker {
            why: "the engine cannot mount a file of this machine",
        };
    }
    decided
}

/// Whether the engine sees the agent's file: a socket on this machine may lead to another.
async fn probe(spec: &ContainerSpec, engine: &dyn Engine, call_timeout: Duration) -> Result<(), EngineError> {
    let name = format!("dockerpool-probe-{:032x}", fastrand::u128(..));
    let created = bounded("the creation of a container", call_timeout, engine.create(&name, spec)).await;
    let removed = bounded("the removal of a container", call_timeout, engine.remove(&name)).await;
    created.map(drop).and(removed)
}

/// The agent's program for containers of this spec on this engine, or why there is none.
fn choose(spec: &ContainerSpec, engine: Capabilities, info: &EngineInfo) -> Result<AgentFile, &'static str> {
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
        return Ok(AgentFile::elsewhere(path.clone()));
    }
    if !engine.local_files {
        return Err("the engine is not on this machine, and no agent_path was given");
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
    AgentFile::embedded(EMBEDDED).map_err(|error| {
        tracing::warn!(%error, "the agent's program could not be written");
        "the agent's program could not be written to the directory for temporary files"
    })
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
        Some("the containers have a command of their own")
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
