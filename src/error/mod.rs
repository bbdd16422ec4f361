//! Errors: of the library's calls, of the engine, of single values.

mod engine;
mod field;

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::values::outcome::{ExitStatus, Output};
use crate::values::status::Status;
use crate::values::text;
pub(crate) use engine::is_too_many_open_files;
pub use engine::{EngineError, EngineErrorKind};
pub use field::FieldError;

/// Tells why a call of the library failed. Cheap to move; the details are in a box.
///
/// A command that failed, was stopped at its time limit or printed too much is not an error here: it is an
/// [`ExitStatus`]. [`Output::check`] turns it into [`Error::Command`] for those who want `?`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").max_total(1).engine(std::sync::Arc::new(engine.clone())).build().await?;
/// let only = pool.acquire().await?;
/// let error = pool.acquire_timeout(Duration::ZERO).await.unwrap_err();
/// assert!(error.is_timeout() && error.is_retryable());
///
/// drop(only);
/// pool.shutdown().await?;
/// let error = pool.acquire().await.unwrap_err();
/// assert!(error.is_shutdown() && !error.is_retryable());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Values given to a builder, or in the environment, cannot be used. Nothing was done.
    #[error("bad configuration: {}", Problems(.0))]
    Config(Vec<FieldError>),

    /// A command cannot be run as it was given. Nothing was done.
    #[error("bad command: {0}")]
    BadCommand(FieldError),

    /// A call to the engine failed.
    #[error("could not {op}{}{}", On(.container), Hint(.source))]
    Engine {
        /// The action that failed, e.g. `start the container`.
        op: &'static str,
        /// The container's name, where it was about one.
        container: Option<String>,
        /// The engine's answer, or the reason for which there was none.
        source: EngineError,
    },

    /// No container could be had before the deadline of the acquire.
    #[error("no container after {:?} ({}){}", .0.waited, .0.status, LastCreate(&.0.last_create_error))]
    AcquireTimeout(Box<AcquireTimeout>),

    /// The pool was shut down, or is being so.
    #[error("the pool `{pool}` is shut down")]
    Shutdown {
        /// The pool's name.
        pool: String,
    },

    /// The tokio runtime given to [`PoolBuilder::tokio_runtime`](crate::PoolBuilder::tokio_runtime) or
    /// [`Container::create_on`](crate::Container::create_on) has ended, and the background tasks of its pools and
    /// containers with it. Whether a command that ran at that moment has ended is not known.
    #[error("{}", RUNTIME_ENDED)]
    RuntimeEnded,

    /// Containers may be left on the engine after a shutdown, because it did not answer or refused to remove them.
    #[error(
        "shutdown of the pool `{pool}` could not remove everything; look for containers with the label {}={instance}",
        crate::labels::INSTANCE
    )]
    ShutdownIncomplete {
        /// The pool's name.
        pool: String,
        /// The value of the label [`labels::INSTANCE`](crate::labels::INSTANCE) on whatever is left.
        instance: String,
        /// The engine's last answer.
        source: Option<EngineError>,
    },

    /// The program could not be started in the container: it is not there, not executable, or the working directory
    /// or the user is bad. The container is as it was before. Where the command itself did not name what is bad, it is
    /// tainted: [`Taint::Broken`](crate::Taint::Broken).
    #[error("cannot start `{}` in container {container}: {reason}", text::clean(program))]
    CannotStart {
        /// The container's name.
        container: String,
        /// The program that was to be run.
        program: String,
        /// The engine's words.
        reason: String,
    },

    /// The container ended or was removed before the command could be started in it. Discard it and acquire another.
    #[error("container {container} is gone; discard it and acquire another")]
    ContainerGone {
        /// The container's name.
        container: String,
        /// The engine's answer.
        source: EngineError,
    },

    /// The output of a command is no UTF-8; returned by [`Command::output_string`](crate::Command::output_string).
    #[error("the output of a command in container {container} is not UTF-8")]
    NotUtf8 {
        /// The container's name.
        container: String,
        /// The output, and where it stops being UTF-8.
        source: std::string::FromUtf8Error,
    },

    /// The output of a command could not be written to the caller's writer.
    #[error("could not write the {stream} of a command in container {container}")]
    Write {
        /// The container's name.
        container: String,
        /// `standard output` or `standard error`.
        stream: &'static str,
        /// The writer's error.
        source: std::io::Error,
    },

    /// Reading a command's output failed: at its output limit, or because it is no UTF-8.
    #[error("could not read the output of a command in container {container}")]
    Read {
        /// The container's name.
        container: String,
        /// The reader's error.
        source: std::io::Error,
    },

    /// The way commands are run here cannot do this.
    #[error("{0}")]
    Unsupported(&'static str),

    /// A command did not end well; made by [`Output::check`].
    #[error("command {}", CommandFailure(.0))]
    Command(Box<CommandError>),
}

impl Error {
    pub(crate) fn engine(op: &'static str, container: Option<&str>, source: EngineError) -> Self {
        if source.kind() == EngineErrorKind::RuntimeEnded {
            return Self::RuntimeEnded;
        }
        Self::Engine {
            op,
            container: container.map(str::to_owned),
            source,
        }
    }

    /// Whether a deadline passed: of an acquire, of an engine call, or of a command (after [`Output::check`]).
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::AcquireTimeout(_) => true,
            Self::Engine { source, .. } => source.kind() == EngineErrorKind::Timeout,
            Self::Command(failed) => {
                matches!(failed.output.status, ExitStatus::TimedOut | ExitStatus::IdleTimedOut)
            }
            _ => false,
        }
    }

    /// Whether the pool was shut down.
    pub fn is_shutdown(&self) -> bool {
        matches!(self, Self::Shutdown { .. })
    }

    /// Whether the same call may succeed later without anything being changed by the caller. For an error about one
    /// container that is: with another container.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::AcquireTimeout(timeout) => timeout.last_create_error.as_ref().is_none_or(EngineError::is_retryable),
            Self::Engine { source, .. } => source.is_retryable(),
            Self::ContainerGone { .. } => true,
            Self::ShutdownIncomplete { .. } => true,
            _ => false,
        }
    }

    /// The name of the container it is about.
    pub fn container(&self) -> Option<&str> {
        match self {
            Self::Engine { container, .. } => container.as_deref(),
            Self::CannotStart { container, .. }
            | Self::ContainerGone { container, .. }
            | Self::NotUtf8 { container, .. }
            | Self::Write { container, .. }
            | Self::Read { container, .. } => Some(container),
            Self::Command(failed) => Some(&failed.container),
            _ => None,
        }
    }

    /// Returns the engine's error, where an engine's call failed.
    pub fn engine_error(&self) -> Option<&EngineError> {
        match self {
            Self::Engine { source, .. } | Self::ContainerGone { source, .. } => Some(source),
            Self::AcquireTimeout(timeout) => timeout.last_create_error.as_ref(),
            Self::ShutdownIncomplete { source, .. } => source.as_ref(),
            _ => None,
        }
    }
}

/// Is told of errors that no call returns.
pub(crate) const RUNTIME_ENDED: &str =
    "the runtime given to PoolBuilder::tokio_runtime() or Container::create_on() has ended, and their work with it";

pub(crate) type ErrorFn = Arc<dyn Fn(Error) + Send + Sync>;

/// Tells what was known when the deadline of an acquire passed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::Error;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").max_total(1).engine(std::sync::Arc::new(engine.clone())).build().await?;
/// let only = pool.acquire().await?;
/// match pool.acquire_timeout(Duration::ZERO).await {
///     Err(Error::AcquireTimeout(timeout)) => {
///         // All of them are lent, and none failed to be created: the pool is too small for this load.
///         assert_eq!(timeout.status.in_use, timeout.status.max_total);
///         assert!(timeout.last_create_error.is_none());
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AcquireTimeout {
    /// How long it waited.
    pub waited: Duration,
    /// The pool at that moment.
    pub status: Status,
    /// Why the last attempt to create a container failed, if the last one did.
    pub last_create_error: Option<EngineError>,
}

/// A command that did not end with exit code 0.
///
/// # Examples
///
/// ```
/// use dockerpool::Error;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(1).stdout("1 of 2\n").stderr("no space left\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let error = c.exec(["make", "all"]).await?.check().unwrap_err();
/// assert!(error.to_string().ends_with("ended with exited 1: no space left"));
/// let Error::Command(failed) = error else { panic!("check() makes no other") };
/// assert_eq!(failed.output.stdout, b"1 of 2\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandError {
    /// The container's name.
    pub container: String,
    /// How it ended, and all that it had printed by then.
    pub output: Output,
}

struct Problems<'a>(&'a [FieldError]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

struct On<'a>(&'a Option<String>);

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(container) => write!(f, " {container}"),
            None => Ok(()),
        }
    }
}

/// Adds to a message what its reader can do about it; the cause itself is in `source()`.
struct Hint<'a>(&'a EngineError);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.kind() {
            EngineErrorKind::Unreachable => {
                " (is the engine running, and may this user reach it? see DOCKER_HOST)"
            }
            EngineErrorKind::TooManyOpenFiles => " (close some files or connections, or raise the limit: ulimit -n)",
            EngineErrorKind::Untrusted => " (see ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH)",
            EngineErrorKind::ImageNotFound => " (pull the image, or allow it with PullPolicy::IfMissing)",
            EngineErrorKind::LoginRefused => " (see registry_auth(), or `docker login`)",
            EngineErrorKind::NetworkNotFound => " (create the network, or let Network::create do it)",
            EngineErrorKind::WrongPlatform => " (use an image for the engine's platform, or set platform())",
            EngineErrorKind::CannotStart => " (does the image have this program? see cmd())",
            EngineErrorKind::LimitDiscarded => {
                " (has the engine's machine this limit, and, where the engine runs rootless, has systemd delegated it to its user?)"
            }
            _ => "",
        })
    }
}

/// A timeout's own message names the last create error, and all that caused it: it is not its source, since the wait is what
/// failed.
struct LastCreate<'a>(&'a Option<EngineError>);

impl fmt::Display for LastCreate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(error) => {
                write!(f, "; the last attempt to create one failed: {error}")?;
                let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
                causes.try_for_each(|cause| write!(f, ": {cause}"))
            }
            None => Ok(()),
        }
    }
}

struct CommandFailure<'a>(&'a CommandError);

impl fmt::Display for CommandFailure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CommandError { container, output } = self.0;
        write!(f, "in container {container} ended with {}", output.status)?;
        let words = String::from_utf8_lossy(&output.stderr);
        match words.lines().rev().find(|line| !line.trim().is_empty()) {
            // The program's own words, which stay as they are in the output.
            Some(line) => write!(f, ": {}", text::clean(line.trim())),
            None => Ok(()),
        }
    }
}

impl Output {
    /// Turns every end but exit code 0 into an [`Error::Command`] that carries the output.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] unless [`ExitStatus::success`].
    pub fn check(self) -> Result<Self, Error> {
        if self.status.success() {
            return Ok(self);
        }
        let container = self.container.clone();
        Err(Error::Command(Box::new(CommandError {
            container,
            output: self,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::outcome::Usage;

    #[test]
    fn the_name_of_a_program_that_cannot_be_started_is_one_harmless_line() {
        let error = Error::CannotStart {
            container: "box".to_owned(),
            program: "a\nb\u{1b}[31m".to_owned() + &"c".repeat(5000),
            reason: "why".to_owned(),
        };
        let words = error.to_string();
        assert!(words.starts_with("cannot start `a\\nb\\u{1b}[31mc"), "{words}");
        assert!(!words.contains(char::is_control) && words.len() < 3000, "{words}");
    }

    #[test]
    fn check_gives_the_output_back_either_way() {
        let output = |status| Output {
            status,
            stdout: b"partial".to_vec(),
            stderr: b"first\nlast line\n\n".to_vec(),
            truncated: false,
            incomplete: false,
            usage: Usage::default(),
            container: "box".to_owned(),
        };
        assert_eq!(output(ExitStatus::Exited(0)).check().unwrap().stdout, b"partial");
        let error = output(ExitStatus::TimedOut).check().unwrap_err();
        assert!(error.is_timeout());
        assert_eq!(
            error.to_string(),
            "command in container box ended with timed out: last line"
        );
        let Error::Command(failed) = error else {
            panic!("{error:?}")
        };
        assert_eq!(failed.output.stdout, b"partial");
    }
}
