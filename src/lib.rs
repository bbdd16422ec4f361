//! Keeps Docker containers warm and lends them out.
//!
//! For programs that run short commands in isolation, many times: untrusted or model-written code, online judges, agent
//! sandboxes, CI. [`Pool::acquire`] gives a guard, the guard runs commands, and dropping it gives the container back.
//!
//! ```no_run
//! use dockerpool::Pool;
//! use std::time::Duration;
//!
//! # async fn example(code: &str) -> Result<(), dockerpool::Error> {
//! let pool = Pool::builder("python-runner")
//!     .image("python:3.12-alpine")
//!     .min_idle(4)
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
//! pool.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # The types
//!
//! | to | there is |
//! |---|---|
//! | keep and lend containers | [`Pool`], made by a [`PoolBuilder`]; [`Reuse`], [`Adopt`], [`Status`], [`Counters`] |
//! | hold one | [`PooledContainer`], the guard, which is a [`Container`]`<`[`Running`]`>` by `Deref` |
//! | have one without a pool | [`Container`] with its states [`Created`], [`Running`], [`Paused`], [`Exited`]; [`ContainerSpec`], [`Network`] |
//! | run a command | [`Command`], [`Child`], [`Stdio`] |
//! | know what became of it | [`Output`], [`ExitStatus`], [`Usage`] |
//! | bound a reader | [`Limited`], [`Budget`], [`LimitReached`] |
//! | know what went wrong | [`Error`], [`EngineError`], [`Taint`] |
//! | pull the image | [`PullPolicy`], [`RegistryAuth`], [`Progress`] |
//! | use another engine, or none | the trait [`Engine`]; [`DockerEngine`] at an [`Endpoint`]; `testing::FakeEngine` (feature `testing`) |
//!
//! # Failure is not always an error
//!
//! A command that fails, runs out of time or prints too much is an [`ExitStatus`], and what it had printed is kept. `Err`
//! is for what keeps a command from being run: the engine failed, the program is not there, the container is gone.
//! [`Output::check`] makes one of the other, for those who want `?`.
//!
//! # Whether a container is lent again
//!
//! Only if every command in it has provably ended by itself. What speaks against that is a [`Taint`]; a tainted container
//! is removed and replaced behind. What of one lease the next can see is said by [`Reuse`].
//!
//! # Runtime
//!
//! Pools need a [tokio](https://docs.rs/tokio) runtime with I/O and time enabled: the one in which they are built does
//! their work behind. Guards may be used and dropped anywhere, in another runtime, on a plain thread, and after the
//! runtime is gone.
//!
//! # Features
//!
//! - `tls` (on by default): engines behind TLS, see [`Endpoint::tls`].
//! - `testing`: `testing::FakeEngine`, an engine in memory that fails, hangs and dawdles on request.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod agent;
mod backoff;
pub mod container;
pub mod engine;
mod error;
pub mod exec;
pub mod labels;
mod owner;
pub mod pool;

/// An engine in memory, for tests of code that uses a pool. Needs the feature `testing`.
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::engine::fake::{Answer, Call, FakeEngine, FakeProcess};
}

pub use agent::{ActiveExec, ExecVia};
pub use container::{Container, Created, Exited, Paused, Running, State, Taint};
pub use engine::{
    ContainerSpec, DockerEngine, Endpoint, Engine, EngineError, EngineErrorKind, Network, Progress, PullPolicy,
    RegistryAuth,
};
pub use error::{AcquireTimeout, CommandError, Error, FieldError};
pub use exec::{
    Budget, Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, LimitReached, Limited, OnLimit, Output,
    OutputLines, Stdio, Usage,
};
pub use pool::{Adopt, Counters, Pool, PoolBuilder, PooledContainer, Reuse, Status};
