//! Keeps Docker containers warm and lends them out.
//!
//! The library is for programs that run many short commands in isolation: untrusted or model-written code, online judges,
//! agent sandboxes, CI. [`Pool::acquire`] returns a guard, the guard runs commands, and dropping it gives the container back.
//!
//! Between two leases a container is cleaned, and proven to be as before its first lease, or else replaced: see [`Reuse`].
//!
//! ```
//! use dockerpool::Pool;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
//! # let engine = dockerpool::testing::FakeEngine::new();
//! # engine.on_exec(|_| dockerpool::testing::FakeProcess::exit(0).stdout("some input\n"));
//! let pool = Pool::builder("python-runner")
//!     .image("python:3.12-alpine")
//!     .min_idle(4)                          // kept ready
//!     .max_total(16)                        // never more, whatever happens
//!     .memory("64m")
//!     .cpus(0.5)
//! #     .engine(std::sync::Arc::new(engine))
//!     .build()
//!     .await?;
//! {
//!     let c = pool.acquire().await?;        // waits in line if all are lent
//!     let out = c
//!         .command("python")
//!         .args(["-c", "print(input())"])
//!         .stdin("some input\n")
//!         .timeout(Duration::from_secs(5))  // ends the process, not just the wait
//!         .output_limit(64 * 1024)          // bounded while it is read
//!         .output()
//!         .await?;
//!     println!("{}: {}", out.status, out.stdout_lossy());
//!     if out.stdout != b"some input\n" {
//!         c.discard();                      // broken in a way that only you can see: replaced
//!     }
//! }                                         // else Drop gives it back
//! # assert_eq!(pool.status().lifetime.lent, 1);
//! pool.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The types
//!
//! | task | types |
//! |---|---|
//! | keep and lend containers | [`Pool`], made by a [`PoolBuilder`]; [`Status`] and its [`Counters`] describe its state |
//! | hold a container of a pool | [`PooledContainer`], the guard, which is a [`Container`]`<`[`Running`]`>` by `Deref` |
//! | have a container without a pool | [`Container`], whose [`State`] is a type: [`Created`], [`Running`], [`Paused`], [`Exited`] |
//! | describe containers | [`ContainerSpec`], whose setters a [`PoolBuilder`] has too, with amounts as [`ByteSize`] and [`Cpus`]; [`Network`] |
//! | get the image | [`PullPolicy`], [`RegistryAuth`]; [`Progress`] while `build()` waits for the image |
//! | run a command | [`Command`] with [`Stdio`]: with all output at once by [`output`](Command::output), line by line by [`OutputLines`], as a [`Child`] with [`ChildStdin`], [`ChildStdout`], [`ChildStderr`], or as an [`OwnedChild`], which keeps its [`Guard`] |
//! | read, write and copy files of a container | [`Files`] with [`FileLimits`], [`FileReader`], [`FileMetadata`], [`FileType`], [`FileEntry`]; [`FileWatch`] with [`FileEvent`] and [`FileChange`]; [`Transfer`] with [`Skipped`] and [`SkipReason`] |
//! | choose how commands are run | [`ExecVia`]; [`ActiveExec`] tells how they are |
//! | have both outputs and the end as one stream | [`Child::events`]: [`Events`], line by line [`EventLines`], of [`Event`]s |
//! | signal and stop a command | [`Signal`], [`Child::signal_group`], [`Child::stop`] |
//! | let a command go on in the background | [`Container::commands`]: [`BackgroundCommand`] with its [`CommandId`] and [`CommandState`] |
//! | learn a command's end | [`Output`] and [`CheckedOutput`], [`ExitStatus`] with [`WhyGone`], [`Usage`]; [`Cgroups`] tells how exact they are |
//! | limit a command's time and output | [`Command::timeout`], [`Command::idle_timeout`], [`Command::output_limit`] with [`OnLimit`] |
//! | limit what a command uses | [`Command::cpu_time`], [`Command::memory`], [`Command::processes`], [`Command::file_size`] |
//! | give options to all commands of a pool | [`CommandDefaults`] |
//! | limit any other reader | [`Limited`], [`Budget`], [`LimitReached`] |
//! | handle errors | [`Error`] with [`FieldError`], [`AcquireTimeout`], [`CommandError`]; [`Subject`] names pool, container and program; [`EngineError`] with its [`EngineErrorKind`] |
//! | reach a server in a container | [`publish`](ContainerSpec::publish) with [`Container::port`] and [`Container::ip`]; [`Ready`] tells when the server is there |
//! | separate leases | [`Reuse`], [`Taint`] |
//! | find the same container again | a lease with a key, [`acquire_for`](Pool::acquire_for) |
//! | give one lease variables, files, secrets | a [`Lease`], [`acquire_with`](Pool::acquire_with) |
//! | do something with each container before its first lease and after each | [`on_create`](PoolBuilder::on_create), [`on_return`](PoolBuilder::on_return) with a [`HookContainer`], [`HookError`] and [`Return`] |
//! | limit a container's life | [`max_lifetime`](PoolBuilder::max_lifetime), [`max_uses`](PoolBuilder::max_uses), [`idle_timeout`](PoolBuilder::idle_timeout); [`Pool::refresh`] replaces all containers |
//! | end leases that take too long | the watchdog, [`max_lease`](PoolBuilder::max_lease) |
//! | clean up after a crash | the lifeline; [`Adopt`] |
//! | find containers from outside | [`labels`] |
//! | use another engine | [`DockerEngine`] at an [`Endpoint`]; any type that implements the trait [`Engine`], whose plain types are in [`engine`] |
//! | test without an engine | [`FakeEngine`], with its `Call`, `Answer` and `FakeProcess` (feature `testing`) |
//!
//! # Failure is not always an error
//!
//! If a command fails, runs out of time or prints too much, the result is an [`ExitStatus`], and the output so far is kept.
//! `Err` means that a command could not be run: the engine failed, the program is missing, the container is gone.
//! [`Output::check`] turns a status that is no success into an error, for use with `?`.
//!
//! ```
//! use std::time::Duration;
//! use dockerpool::ExitStatus;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
//! # use dockerpool::testing::{FakeEngine, FakeProcess};
//! # let engine = FakeEngine::new();
//! # engine.on_exec(|_| FakeProcess::forever().stdout("working\n"));
//! # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
//! # let c = pool.acquire().await?;
//! let out = c.command("worker").timeout(Duration::from_millis(100)).output().await?;
//! assert_eq!(out.status, ExitStatus::TimedOut);
//! assert_eq!(out.stdout_lossy(), "working\n");
//! assert!(out.check().unwrap_err().is_timeout());
//! # Ok(())
//! # }
//! ```
//!
//! # When a container is lent again
//!
//! A container is lent again only if every command in it has provably ended, and if the container has no [`Taint`]. Otherwise
//! the container is removed and replaced in the background. [`discard`](PooledContainer::discard) does the same to any container.
//!
//! By default the agent cleans a container between two leases: it ends everything that runs, and proves that nothing is left.
//! A container for which that fails is replaced. [`Reuse`] lists what is proven, and what makes it fail.
//!
//! # How commands are run
//!
//! By default the library's agent runs them, a small program that is PID 1 of the containers wherever it can run. Elsewhere the
//! engine's exec API does, which is fifty times slower and cannot end a single command. The calls are the same for both: see
//! [`ExecVia`]. [`Status::exec`] tells which of the two runs the commands, and why.
//!
//! # When the process dies
//!
//! Containers end with their owner, even after `SIGKILL`. Their PID 1 reads a standard input that the pool holds open: the
//! lifeline. When the process is gone, PID 1 reads end-of-file and ends, and the engine removes the container. No other
//! program is needed for that.
//!
//! Where PID 1 is the library's agent, no code in the container can prevent the end, whatever its user. Where the agent
//! cannot run, PID 1 is the image's `cat`, and code that runs as root can prevent it. See [`Lifeline`], and
//! [`Status::lifeline`] for which of the two it is.
//!
//! A container with a [`cmd`](PoolBuilder::cmd) of its own has no lifeline and outlives its owner, and so does a paused
//! container. The next pool of the same name removes such containers or takes them over: see [`Adopt`].
//!
//! # Runtime
//!
//! Pools, containers and [`DockerEngine`]s work on any thread: in any [tokio](https://docs.rs/tokio) runtime, in several
//! runtimes one after the other, with another executor, or with none. One pool in a `static` can therefore serve all tests of
//! a program, each of which has its own runtime: see the page `docs/pools-in-tests.md`.
//!
//! Background tasks (creations, removals, moving output, timeouts) run on a runtime of the library's own. Its one thread,
//! named `dockerpool`, starts with the first pool, container or engine and is shared by all of them. The thread does not keep
//! the process from ending. [`PoolBuilder::tokio_runtime`] and [`Container::create_on`] take another runtime instead.
//!
//! - Callbacks run elsewhere, so that a slow one delays no task: [`on_error`](PoolBuilder::on_error), and each call of
//!   [`on_create`](PoolBuilder::on_create) and [`on_return`](PoolBuilder::on_return), on a thread of its own,
//!   [`on_progress`](PoolBuilder::on_progress) where `build()` is polled.
//! - Futures of types that implement [`Engine`] are polled on the library's thread. They must not block.
//! - Wakers of the futures that you poll are called on the library's thread. They must not block. A panic of a waker is
//!   logged.
//!
//! A process that forks without executing another program must build its pools after the fork. The child has only the
//! thread that forked, and an inherited pool does not work in it.
//!
//! Errors that no call returns go to [`on_error`](PoolBuilder::on_error), or by default to
//! [`tracing`](https://docs.rs/tracing).
//!
//! # Secrets
//!
//! `Debug` and the errors of this library show variables by name, commands by their program, and nothing of logins and
//! standard inputs. Labels, names of images and paths are shown: do not put secrets there. Do not put secrets into arguments
//! either: every user of the engine's machine can read them while the command runs. The engine's own words may quote options of
//! volume drivers, such as a password of CIFS. `Debug` of [`Output`] shows the beginning of each stream.
//!
//! The library's client of Docker's interface, [`bollard`], logs the bodies of requests and answers through the crate `log`,
//! with the variables of containers in them: under the target `bollard::docker`, at the levels `debug` and `trace`. Keep that
//! target at `info` where variables are secret, e.g. with `RUST_LOG=debug,bollard=info`.
//!
//! # Features
//!
//! - `agent` (on by default): builds the [agent](ExecVia) together with the library, with the same compiler. If the agent
//!   cannot be built, a warning says why, and the library works without it. [`agent_path`](ContainerSpec::agent_path) takes an
//!   agent that was built elsewhere.
//! - `tls` (on by default): connects to engines by TLS, see [`Endpoint::tls`].
//! - `bollard-0_21`: puts types of the crate [`bollard`], version 0.21, into the public interface: `DockerEngine::bollard` and
//!   `DockerEngine::from_bollard` for calls that this library does not make, and the setters `docker_config` and `host_config`
//!   beside [`raw_config`](ContainerSpec::raw_config). The feature is replaced when the library moves to bollard's next
//!   version, so libraries should not use it.
//! - `testing`: adds [`FakeEngine`], an engine in memory that fails, hangs and is slow on request.
//!
#![cfg_attr(feature = "testing", doc = "[`FakeEngine`]: testing::FakeEngine")]
#![cfg_attr(not(feature = "testing"), doc = "[`FakeEngine`]: #features")]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agent;
mod container;
pub mod engine;
mod error;
mod exec;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod pool;
mod runtime;
mod spec;
mod values;

/// An engine in memory, for tests of code that uses a pool. The module needs the feature `testing`.
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::engine::fake::{Answer, Call, FakeEngine, FakeProcess};

    /// Makes specs and builders reach the agent through the engine alone, without its socket. For the library's own tests.
    #[doc(hidden)]
    pub trait WithoutAgentSocket {
        /// Turns the socket off.
        #[must_use]
        fn without_agent_socket(self) -> Self;
    }

    impl WithoutAgentSocket for crate::ContainerSpec {
        fn without_agent_socket(mut self) -> Self {
            self.without_agent_socket = true;
            self
        }
    }

    impl WithoutAgentSocket for crate::PoolBuilder {
        fn without_agent_socket(self) -> Self {
            self.map_spec(WithoutAgentSocket::without_agent_socket)
        }
    }
}

pub use agent::ExecVia;
pub use container::{Container, Created, Exited, Guard, Paused, Running, State, Taint};
pub use engine::calls::Engine;
pub use engine::docker::{DockerEngine, Endpoint};
pub use engine::network::Network;
pub use engine::plan::PullPolicy;
pub use engine::progress::Progress;
pub use engine::registry_auth::RegistryAuth;
pub use error::{AcquireTimeout, CommandError, EngineError, EngineErrorKind, Error, FieldError};
pub use exec::{
    BackgroundCommand, Budget, Child, ChildStderr, ChildStdin, ChildStdout, Command, CommandId, CommandState, Event,
    EventLines, Events, FileChange, FileEntry, FileEvent, FileLimits, FileMetadata, FileReader, FileType, FileWatch,
    Files, LimitReached, Limited, OutputLines, OwnedChild, SkipReason, Skipped, Stdio, Transfer,
};
pub use pool::{Adopt, HookContainer, HookError, Lease, Pool, PoolBuilder, PooledContainer, Return, Reuse};
pub use spec::{
    CommandDefaults, ContainerSpec, Entrypoint, HowSeen, Ready, Sandbox, Seccomp, SecurityItem, SecurityReport,
};
pub use values::amounts::{ByteSize, Cpus};
pub use values::checked::CheckedOutput;
pub use values::command_options::OnLimit;
pub use values::labels;
pub use values::outcome::{ExitStatus, Output, Usage};
pub use values::signal::Signal;
pub use values::status::{ActiveExec, Cgroups, Counters, Lifeline, Status};
pub use values::subject::Subject;
pub use values::why_gone::WhyGone;

/// Lets a doc test compile the README's program.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
