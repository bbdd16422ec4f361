//! Errors of the library's calls: [`Error`]; of the engine: [`EngineError`]; of single values: [`FieldError`].

mod acquire_timeout;
mod command;
mod engine;
mod field;
mod hint;
mod words;

use std::borrow::Cow;
use std::sync::Arc;

use crate::values::outcome::{ExitStatus, Output};
use crate::values::subject::Subject;
pub use acquire_timeout::AcquireTimeout;
pub use command::CommandError;
pub(crate) use engine::is_too_many_open_files;
pub use engine::{EngineError, EngineErrorKind};
pub use field::FieldError;
pub(crate) use hint::FORBIDDEN;
pub(crate) use words::{RUNTIME_ENDED, root_cause};

/// Tells why a call of the library failed.
///
/// `Display` is one sentence that stands alone: what failed, for which program, container and pool, why, and what can be done
/// about it where the cause tells. The words of the cause are in it, and those of the innermost cause, such as a refused
/// connection. So [`source`](std::error::Error::source) is the first cause that `Display` does not tell, and mostly there is
/// none. The cause itself is [`engine_error`](Self::engine_error) or a field; its own `source` is the system's error, such as
/// an [`io::Error`](std::io::Error), where there was one.
///
/// Neither `Display` nor `Debug` shows arguments or variables of a command.
///
/// A command that failed, was stopped at its time limit or printed too much is not an error here: it is an
/// [`ExitStatus`]. [`Output::check`](crate::Output::check) turns it into [`Error::Command`] for those who want `?`.
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
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Values given to a builder, or in the environment, cannot be used. Nothing was done.
    Config(Vec<FieldError>),

    /// A command cannot be run as it was given. Nothing was done.
    #[non_exhaustive]
    BadCommand {
        /// The program and its container.
        subject: Subject,
        /// The part of the command that cannot be used.
        problem: FieldError,
    },

    /// A call to the engine failed.
    #[non_exhaustive]
    Engine {
        /// The action that failed, e.g. `start the container`.
        op: Cow<'static, str>,
        /// The pool, the container and the program, as far as the call was about them.
        subject: Subject,
        /// The engine's answer, or the reason for which there was none.
        source: EngineError,
    },

    /// No container could be had before the deadline of the acquire.
    AcquireTimeout(Box<AcquireTimeout>),

    /// The pool was shut down, or is being so.
    #[non_exhaustive]
    Shutdown {
        /// The pool's name.
        pool: String,
    },

    /// The tokio runtime given to [`PoolBuilder::tokio_runtime`](crate::PoolBuilder::tokio_runtime) or
    /// [`Container::create_on`](crate::Container::create_on) has ended, and the background tasks of its pools and
    /// containers with it. Whether a command that ran at that moment has ended is not known.
    RuntimeEnded,

    /// Containers may be left on the engine after a shutdown, because the engine did not answer or refused to remove them.
    #[non_exhaustive]
    ShutdownIncomplete {
        /// The pool's name.
        pool: String,
        /// The value of the label [`labels::INSTANCE`](crate::labels::INSTANCE) on the containers that are left.
        instance: String,
        /// The engine's last answer.
        source: Option<EngineError>,
    },

    /// The program could not be started in the container: the program is not there or not executable, or the working directory
    /// or the user is bad. The container is as it was before. Where the command itself did not name the bad part, the container
    /// is tainted: [`Taint::Broken`](crate::Taint::Broken).
    #[non_exhaustive]
    CannotStart {
        /// The program and its container.
        subject: Subject,
        /// The engine's words.
        reason: String,
    },

    /// The container ended or was removed before the command, or the call on files, could be started in it. Acquire another one
    /// unless the pool is shut down, which the error says.
    #[non_exhaustive]
    ContainerGone {
        /// The program and its container. There is no program in a call on files.
        subject: Subject,
        /// The engine's answer.
        source: EngineError,
    },

    /// The output of a command is not UTF-8; returned by [`Command::output_string`](crate::Command::output_string).
    #[non_exhaustive]
    NotUtf8 {
        /// The program and its container.
        subject: Subject,
        /// The output, whole. Its `Debug` shows the beginning alone.
        output: Box<Output>,
        /// Where the standard output stops being UTF-8.
        source: std::str::Utf8Error,
    },

    /// The output of a command could not be written to the caller's writer.
    #[non_exhaustive]
    Write {
        /// The program and its container.
        subject: Subject,
        /// `standard output` or `standard error`.
        stream: Cow<'static, str>,
        /// The writer's error.
        source: std::io::Error,
    },

    /// Reading a command's output failed: at its output limit, or because the output is not UTF-8.
    #[non_exhaustive]
    Read {
        /// The program and its container.
        subject: Subject,
        /// The reader's error.
        source: std::io::Error,
    },

    /// This container, or the way commands are run in it, cannot do what was asked for. Nothing was done.
    #[non_exhaustive]
    Unsupported {
        /// The container, and the program where there is one.
        subject: Subject,
        /// What is missing, and what can be done in its place.
        reason: String,
    },

    /// A call on files failed. What the container had done by then stays done: a file that was being written may be there in
    /// part.
    ///
    /// The kind of the source tells why: what the container's kernel said, such as
    /// [`NotFound`](std::io::ErrorKind::NotFound); [`InvalidInput`](std::io::ErrorKind::InvalidInput) for a path that is not
    /// absolute; [`FileTooLarge`](std::io::ErrorKind::FileTooLarge), [`QuotaExceeded`](std::io::ErrorKind::QuotaExceeded) and
    /// [`TimedOut`](std::io::ErrorKind::TimedOut) for the limits of bytes, entries and time;
    /// [`ConnectionAborted`](std::io::ErrorKind::ConnectionAborted) where the process that serves the files was ended, as by
    /// another process of the same user; [`InvalidData`](std::io::ErrorKind::InvalidData) for an answer that makes no sense.
    #[non_exhaustive]
    File {
        /// The container.
        subject: Subject,
        /// The action that failed, e.g. `read`.
        op: Cow<'static, str>,
        /// The path, as one line in which control characters and what is not UTF-8 are replaced.
        path: String,
        /// Whether the path is one of this machine, and not of the container.
        on_host: bool,
        /// The reason.
        source: std::io::Error,
    },

    /// A command did not end well; made by [`Output::check`](crate::Output::check).
    Command(Box<CommandError>),
}

/// Receives the errors that no call returns.
pub(crate) type ErrorFn = Arc<dyn Fn(Error) + Send + Sync>;

impl Error {
    pub(crate) fn engine(op: impl Into<Cow<'static, str>>, container: Option<&str>, source: EngineError) -> Self {
        Self::engine_about(op, Subject::new(None, container), source)
    }

    pub(crate) fn engine_about(op: impl Into<Cow<'static, str>>, subject: Subject, source: EngineError) -> Self {
        if source.kind() == EngineErrorKind::RuntimeEnded {
            return Self::RuntimeEnded;
        }
        Self::Engine {
            op: op.into(),
            subject,
            source,
        }
    }

    /// Names the pool, where the error does not yet.
    #[must_use]
    pub(crate) fn of_pool(mut self, pool: &str) -> Self {
        match &mut self {
            Self::Config(problems) => problems.iter_mut().for_each(|problem| problem.set_pool(pool)),
            Self::BadCommand { subject, .. }
            | Self::Engine { subject, .. }
            | Self::CannotStart { subject, .. }
            | Self::ContainerGone { subject, .. }
            | Self::NotUtf8 { subject, .. }
            | Self::Write { subject, .. }
            | Self::Read { subject, .. }
            | Self::Unsupported { subject, .. }
            | Self::File { subject, .. } => subject.set_pool(pool),
            Self::Command(failed) => failed.output.subject.set_pool(pool),
            Self::AcquireTimeout(_) | Self::Shutdown { .. } | Self::RuntimeEnded | Self::ShutdownIncomplete { .. } => {}
        }
        self
    }

    /// Names a call on files, such as `read /a`, in place of the program that was to be run for it.
    #[must_use]
    pub(crate) fn in_call(mut self, call: &str) -> Self {
        if let Self::Engine { subject, .. } | Self::CannotStart { subject, .. } | Self::ContainerGone { subject, .. } =
            &mut self
        {
            subject.set_call(call);
        }
        self
    }

    /// Returns whether a deadline passed: of an acquire, of an engine call, of a call on files, or of a command (after
    /// [`Output::check`](crate::Output::check)).
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::AcquireTimeout(_) => true,
            Self::Engine { source, .. } => source.kind() == EngineErrorKind::Timeout,
            Self::File { source, .. } => source.kind() == std::io::ErrorKind::TimedOut,
            Self::Command(failed) => {
                matches!(failed.output.status, ExitStatus::TimedOut | ExitStatus::IdleTimedOut)
            }
            _ => false,
        }
    }

    /// Returns whether the pool was shut down: before an acquire, or while its container was lent.
    pub fn is_shutdown(&self) -> bool {
        match self {
            Self::Shutdown { .. } => true,
            Self::ContainerGone { source, .. } => source.is_of_shutdown(),
            _ => false,
        }
    }

    /// Returns whether the same call may succeed later without anything being changed by the caller. For an error about one
    /// container that is: with another container.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::AcquireTimeout(timeout) => {
                timeout.key_in_use || timeout.last_create_error.as_ref().is_none_or(EngineError::is_retryable)
            }
            Self::Engine { source, .. } => source.is_retryable(),
            Self::ContainerGone { source, .. } => !source.is_of_shutdown(),
            Self::ShutdownIncomplete { .. } => true,
            _ => false,
        }
    }

    /// Returns the names of the pool, the container and the program, where the error is about one container or one call of a
    /// pool.
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Self::BadCommand { subject, .. }
            | Self::Engine { subject, .. }
            | Self::CannotStart { subject, .. }
            | Self::ContainerGone { subject, .. }
            | Self::NotUtf8 { subject, .. }
            | Self::Write { subject, .. }
            | Self::Read { subject, .. }
            | Self::Unsupported { subject, .. }
            | Self::File { subject, .. } => Some(subject),
            Self::Command(failed) => Some(&failed.output.subject),
            _ => None,
        }
    }

    /// Returns the name of the pool.
    pub fn pool(&self) -> Option<&str> {
        match self {
            Self::Config(problems) => problems.first()?.pool(),
            Self::AcquireTimeout(timeout) => Some(&timeout.pool),
            Self::Shutdown { pool } | Self::ShutdownIncomplete { pool, .. } => Some(pool),
            other => other.subject()?.pool(),
        }
    }

    /// Returns the name of the container.
    pub fn container(&self) -> Option<&str> {
        self.subject()?.container()
    }

    /// Returns the program of the command.
    pub fn program(&self) -> Option<&str> {
        self.subject()?.program()
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
