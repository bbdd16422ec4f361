//! Keeps Docker containers warm and lends them out.
//!
//! For programs that run short commands in isolation, many times: untrusted or model-written code, online judges, agent
//! sandboxes, CI. [`Pool::acquire`] gives a guard, the guard runs commands, and dropping it gives the container back.
//!
//! ```
//! use dockerpool::Pool;
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
//! # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
//! # let code = "print(1)";
//! let pool = Pool::builder("python-runner")
//!     .image("python:3.12-alpine")
//!     .min_idle(4)
//! #     .engine(engine)
//!     .build()
//!     .await?;
//!
//! {
//!     let c = pool.acquire().await?;
//!     let out = c
//!         .command("python")
//!         .args(["-c", code])
//!         .timeout(Duration::from_secs(5))
//!         .output_limit(64 * 1024)
//!         .output()
//!         .await?;
//!     println!("{}: {}", out.status, out.stdout_lossy());
//!     if out.status.is_unknown() {
//!         c.discard(); // explicit; else Drop gives it back
//!     }
//! }
//! # assert!(pool.idle_count() >= 4);
//! pool.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The types
//!
//! | to | there is |
//! |---|---|
//! | keep and lend containers | [`Pool`], made by a [`PoolBuilder`]; [`Status`] and its [`Counters`] tell how it does |
//! | hold one | [`PooledContainer`], the guard, which is a [`Container`]`<`[`Running`]`>` by `Deref` |
//! | have one without a pool | [`Container`], whose [`State`] is a type: [`Created`], [`Running`], [`Paused`], [`Exited`] |
//! | say what containers are like | [`ContainerSpec`], whose setters a [`PoolBuilder`] has too; [`Network`] |
//! | have the image there | [`PullPolicy`], [`RegistryAuth`]; [`Progress`] while `build()` waits for it |
//! | run a command | [`Command`] with [`Stdio`]; all at once by [`output`](Command::output), by the line with [`OutputLines`], or as a [`Child`] with [`ChildStdin`], [`ChildStdout`], [`ChildStderr`]; as an [`OwnedChild`], which keeps its [`Guard`] |
//! | choose how it is run | [`ExecVia`]; [`ActiveExec`] tells what came of that |
//! | know what became of it | [`Output`], [`ExitStatus`], [`Usage`]; [`Cgroups`] say how exactly that is known |
//! | bound its time and its output | [`Command::timeout`], [`Command::idle_timeout`], [`Command::output_limit`] with [`OnLimit`] |
//! | bound any other reader | [`Limited`], [`Budget`], [`LimitReached`] |
//! | know what went wrong | [`Error`] and, inside of it, [`FieldError`], [`AcquireTimeout`], [`CommandError`]; the [`Subject`] names pool, container and program; [`EngineError`] with its [`EngineErrorKind`] |
//! | say what one lease sees of another | [`Reuse`], [`Taint`] |
//! | bound a container's life | [`max_lifetime`](PoolBuilder::max_lifetime), [`max_uses`](PoolBuilder::max_uses), [`idle_timeout`](PoolBuilder::idle_timeout); [`Pool::refresh`] replaces all |
//! | get back what is held too long | the watchdog, [`max_lease`](PoolBuilder::max_lease) |
//! | outlive a crash | the lifeline; [`Adopt`] |
//! | find them from outside | [`labels`] |
//! | use another engine | [`DockerEngine`] at an [`Endpoint`]; anything that implements the trait [`Engine`], whose plain types are in [`engine`] |
//! | test without one | [`FakeEngine`], with its `Call`, `Answer` and `FakeProcess` (feature `testing`) |
//!
//! # Failure is not always an error
//!
//! A command that fails, runs out of time or prints too much is an [`ExitStatus`], and what it had printed is kept. `Err`
//! is for what keeps a command from being run: the engine failed, the program is not there, the container is gone.
//! [`Output::check`] makes one of the other, for those who want `?`.
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
//! # Whether a container is lent again
//!
//! Only if every command in it has provably ended by itself. What speaks against that is a [`Taint`]; a tainted container
//! is removed and replaced in the background. [`discard`](PooledContainer::discard) says so of a container that the library knows
//! nothing against. What of one lease the next can see is said by [`Reuse`].
//!
//! # How commands are run
//!
//! By the engine's exec API, which works with every engine and cannot end a single command; or by the library's agent, a
//! small program, which is fifty times faster, and can. The calls are the same: see [`ExecVia`]. Either way the agent is
//! PID 1 of the containers, wherever it can run.
//!
//! # When the process dies
//!
//! Containers do not outlive their owner, whatever ended it, `SIGKILL` included. Their PID 1 reads a standard input that
//! the pool holds open, the lifeline: when the process is gone it reads end-of-file and ends, and the engine removes the
//! container. No other program has to look after that.
//!
//! Where PID 1 is the library's agent, no code in the container can prevent that, whatever user it is. Where the agent
//! cannot run, PID 1 is the image's `cat`, and code that runs as root can: see [`Lifeline`], and [`Status::lifeline`] for
//! which of the two it is.
//!
//! A container with a [`cmd`](PoolBuilder::cmd) of its own has no lifeline, and stays; so does one that is paused. The next
//! pool of the same name finds it, and removes it or takes it over: see [`Adopt`].
//!
//! # Runtime
//!
//! Pools, containers and [`DockerEngine`]s work on any thread: in any [tokio](https://docs.rs/tokio) runtime, in several one
//! after the other, with another executor, or with none. So one pool in a `static` serves all tests of a program, each of
//! which has a runtime of its own.
//!
//! Background tasks (creations, removals, the moving of output, limits of time) run on a runtime of the library's own: one
//! thread named `dockerpool`, which begins with the first pool, container or engine, is shared by all of them, and does not
//! keep the process from ending. [`PoolBuilder::tokio_runtime`] and [`Container::create_on`] take another runtime in its
//! place. Functions that are given to the library run elsewhere, so that a slow one holds up nobody else:
//! [`on_error`](PoolBuilder::on_error) on a thread of its own, [`on_progress`](PoolBuilder::on_progress) where `build()` is
//! polled. What implements [`Engine`] is polled on the library's thread too, and must not block.
//! Wakers of the futures that you poll are called on that thread: they must not block. If a waker panics, that is logged.
//!
//! A process that forks without executing another program must build its pools after that: the child has no threads but
//! the one that forked, and a pool that it has inherited does not work in it.
//!
//! What is not returned by any call goes to [`tracing`](https://docs.rs/tracing), or to
//! [`on_error`](PoolBuilder::on_error).
//!
//! # Secrets
//!
//! `Debug` and the errors of this library show variables by their names only, commands by their program, and nothing of
//! logins and of what goes to a standard input. Labels, names of images and paths are shown: they are no place for
//! secrets, and neither are arguments, which every user of the engine's machine can read while the command runs.
//!
//! The client of Docker's interface that is used here, [`bollard`], logs the bodies of requests and answers through the
//! crate `log`, with the variables of containers in them: under the target `bollard::docker`, at the levels `debug` and
//! `trace`. Keep that target at `info`, e.g. with `RUST_LOG=debug,bollard=info`, wherever variables are secret.
//!
//! # Features
//!
//! - `agent` (on by default): builds the [agent](ExecVia) with the library, with the same compiler. Where it cannot be built, the
//!   build says why, and the library works without it. [`agent_path`](ContainerSpec::agent_path) takes one that was built elsewhere.
//! - `tls` (on by default): engines behind TLS, see [`Endpoint::tls`].
//! - `bollard-0_21`: the types of the crate [`bollard`], version 0.21, in the public interface:
//!   `DockerEngine::bollard` and `DockerEngine::from_bollard` for calls that this library does not make, and the setters
//!   `docker_config` and `host_config` beside [`raw_config`](ContainerSpec::raw_config). A library that depends on this one should
//!   do without: the feature goes when bollard's next version comes.
//! - `testing`: [`FakeEngine`], an engine in memory that fails, hangs and dawdles on request.
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

/// An engine in memory, for tests of code that uses a pool. Needs the feature `testing`.
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::engine::fake::{Answer, Call, FakeEngine, FakeProcess};

    /// Has the agent reached through the engine alone, as where its socket cannot be had. For the library's own tests.
    #[doc(hidden)]
    pub trait WithoutAgentSocket {
        /// Returns the same, without the socket.
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
    Budget, Child, ChildStderr, ChildStdin, ChildStdout, Command, LimitReached, Limited, OnLimit, OutputLines,
    OwnedChild, Stdio,
};
pub use pool::{Adopt, Pool, PoolBuilder, PooledContainer, Reuse};
pub use spec::ContainerSpec;
pub use values::labels;
pub use values::outcome::{ExitStatus, Output, Usage};
pub use values::status::{ActiveExec, Cgroups, Counters, Lifeline, Status};
pub use values::subject::Subject;

/// Has the README's program compiled by a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
