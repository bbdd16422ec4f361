//! The library's side of the agent: the small program that is PID 1 of a warm container and runs commands without the
//! engine's exec API. `agent/PROTOCOL.md` describes the protocol between both sides.

mod client;
mod decode;
#[cfg_attr(not(target_os = "linux"), path = "no_dir.rs")]
mod dir;
mod file;
#[path = "../../agent/file_protocol.rs"]
#[allow(dead_code)]
pub(crate) mod file_protocol;
mod session;
#[cfg_attr(not(target_os = "linux"), path = "no_socket.rs")]
mod socket;
#[cfg(test)]
mod tests;
#[path = "../../agent/protocol.rs"]
#[allow(dead_code)] // each side uses its half of the protocol
mod wire;

// The name by which `file_protocol` knows it.
use wire as protocol;

pub(crate) use client::{Client, Limit, Place};
#[cfg(fuzzing)]
pub(crate) use decode::said;
pub(crate) use file::{AgentFile, InUse};
pub(crate) use session::Role;
pub(crate) use socket::Socket;
pub(crate) use wire::Fields;

/// The agent's program in this build; empty if it could not be built.
pub(crate) const EMBEDDED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

/// Why the agent could not be built; empty if it was.
pub(crate) const PROBLEM: &str = env!("DOCKERPOOL_AGENT_PROBLEM");

/// The path in a container where the agent's socket is mounted.
pub(crate) const SOCKET_TARGET: &str = match wire::SOCKET.to_str() {
    Ok(path) => path,
    Err(_) => unreachable!(),
};

/// Selects how commands are run.
///
/// | | `Agent` | `Docker` |
/// |---|---|---|
/// | a command costs | a millisecond | 50 milliseconds, in the engine's runtime |
/// | a command that is ended | ends alone, with all it has started | takes its container with it |
/// | exit status | exact, with resource usage | exit code, of which 128 + *n* is taken for signal *n* |
///
/// The agent is a program of at most 112 KB. Wherever the agent can run, it is PID 1 of the containers and holds the
/// [`Lifeline`](crate::Lifeline), also where the engine runs the commands.
///
/// # How the agent gets into a container
///
/// The agent is mounted read-only from a directory on this machine: in `XDG_RUNTIME_DIR`, for root in `/run/dockerpool`, else
/// in the directory for temporary files. If somebody removes that directory, the next creation of a container makes it anew.
///
/// Where the engine does not see this machine's files, the agent comes from a volume. Such an engine is on another
/// machine, or in a virtual machine (Docker Desktop, Colima, `podman machine`), or its socket was lent to a container. The pool
/// makes the volume, fills it once (some 100 to 300 milliseconds), and removes it at its end. Containers outside of a pool
/// have no volume.
///
/// If the process is killed, directory and volume stay. The next pool of the same name removes the volume, the next process
/// of the same user the directory. Where the engine reports SELinux, the agent's program and socket are mounted with the
/// option `z`, which labels these two files and none of yours.
///
/// # What the agent needs
///
/// - An engine of the architecture that the library was built for; else see
///   [`agent_path`](crate::ContainerSpec::agent_path).
/// - Containers without a [`cmd`](crate::ContainerSpec::cmd) of their own, unless that is
///   [supervised](crate::ContainerSpec::supervise_command).
/// - Containers that share no pid namespace, are not privileged, and have neither `SYS_PTRACE` nor `SYS_ADMIN`: a process that
///   may trace the agent could forge its messages.
///
/// When a pool is built, the agent is tried in the pool's first container. The result is remembered for as long as the process
/// runs, by engine, image, runtime and user, so that later pools with a [`min_idle`](crate::PoolBuilder::min_idle) of 0 create none.
///
/// # Limits
///
/// The agent runs 64 commands at once. Further commands wait in turn, and their [`timeout`](crate::Command::timeout) runs
/// meanwhile. A command that has ended counts until its output is read or dropped.
///
/// The engine runs a command with a [`user`](crate::Command::user) of its own where PID 1 may not become that user: where
/// PID 1 is not root, or lacks the usual capabilities.
///
/// # Examples
///
/// ```
/// use dockerpool::{Error, ExecVia, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// // Fails at once where there is no agent, instead of running slowly.
/// let builder = Pool::builder("judge").image("python:3.12-alpine").exec_via(ExecVia::Agent);
/// # let builder = builder.engine(engine);
/// match builder.build().await {
///     Ok(pool) => println!("{} is ready", pool.name()),
///     Err(Error::Config(problems)) => {
///         assert_eq!(problems[0].field(), "exec_via");
///         println!("{}", problems[0]); // e.g. the engine has another architecture
///     }
///     Err(other) => return Err(other),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExecVia {
    /// Runs commands by the agent where it can run, else by the engine. The default.
    #[default]
    Auto,
    /// Runs commands by the agent. Where it cannot run, building the pool fails and says why.
    Agent,
    /// Runs commands by the engine's exec API. PID 1 is the agent all the same, where it can run.
    Docker,
}
