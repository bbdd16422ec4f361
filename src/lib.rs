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

pub use container::{Container, Created, Exited, Paused, Running, State, Taint};
pub use engine::{ContainerSpec, DockerEngine, Engine, EngineError, EngineErrorKind, Progress, PullPolicy};
pub use error::{AcquireTimeout, CommandError, Error, FieldError};
pub use exec::{
    Budget, Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, LimitReached, Limited, Output, Stdio,
    Usage,
};
pub use pool::{Pool, PoolBuilder, PooledContainer, Reuse, Status};
