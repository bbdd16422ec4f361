//! dockerpool keeps Docker containers warm and lends them out.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod backoff;
pub mod container;
pub mod engine;
mod error;
pub mod exec;
pub mod labels;
pub mod pool;

/// An engine in memory, for tests of code that uses a pool. Needs the feature `testing`.
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::engine::fake::{Answer, Call, FakeEngine, FakeProcess};
}

pub use container::{Container, Created, Exited, Paused, Running, State, Taint};
pub use engine::{ContainerSpec, DockerEngine, Engine, EngineError, EngineErrorKind, Progress, PullPolicy};
pub use error::{AcquireTimeout, CommandError, Error, FieldError};
pub use exec::{
    Budget, Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, LimitReached, Limited, Output, Stdio,
    Usage,
};
pub use pool::{Pool, PoolBuilder, PooledContainer, Reuse, Status};
