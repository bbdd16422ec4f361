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

pub(crate) use client::{Client, Limit, Place};
#[cfg(fuzzing)]
pub(crate) use decode::said;
pub(crate) use file::{AgentFile, InUse};
pub(crate) use socket::Socket;

/// The agent of this build; empty where it could not be built.
pub(crate) const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// Why the agent could not be built.
pub(crate) const PROBLEM: &str = env!("DOCKERPOOL_AGENT_PROBLEM");

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
/// The agent is a program of 64 KB. Wherever it can run it is PID 1 of the containers, and holds the
/// [`Lifeline`](crate::Lifeline): also where commands are run by the engine.
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
/// [`agent_path`](crate::ContainerSpec::agent_path)), and containers that have no [`cmd`](crate::ContainerSpec::cmd) of their
/// own (unless it is [supervised](crate::ContainerSpec::supervise_command)), share no pid namespace, are not privileged and
/// have no `SYS_PTRACE`: with that, or as somebody who may trace it, what runs in a container could make it say anything.
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
