//! What an engine call can fail with.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// A failed engine call: what kind of failure, in which words, and what caused it. Cheap to clone.
///
/// # Examples
///
/// ```
/// use dockerpool::{EngineError, EngineErrorKind};
///
/// // In an engine of one's own.
/// let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
/// let error = EngineError::new(EngineErrorKind::Protocol, "the cluster hung up").with_source(broken);
/// assert!(error.is_retryable());
/// assert_eq!(error.to_string(), "the cluster hung up");
/// ```
#[derive(Clone)]
pub struct EngineError {
    kind: EngineErrorKind,
    message: String,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    of_container: bool,
    unexplained: bool,
    of_any_command: bool,
}

/// The kinds of [`EngineError`] that callers act on differently.
///
/// # Examples
///
/// ```
/// use dockerpool::testing::{Answer, Call, FakeEngine};
/// use dockerpool::{EngineError, EngineErrorKind, Pool};
/// # use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// # let engine = FakeEngine::new();
/// # engine.answer(Call::Prepare, Answer::Fail(EngineErrorKind::LoginRefused));
/// let builder = Pool::builder("private").image("registry.example.com/runner:3");
/// # let builder = builder.engine(Arc::new(engine));
/// let error = builder.build().await.unwrap_err();
/// let advice = match error.engine_error().map(EngineError::kind) {
///     Some(EngineErrorKind::Unreachable) => "start Docker",
///     Some(EngineErrorKind::LoginRefused) => "run `docker login`",
///     _ => "read the message",
/// };
/// assert_eq!(advice, "run `docker login`");
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EngineErrorKind {
    /// Nothing answers where the engine should be: it never got the request.
    Unreachable,
    /// This process has as many files and connections open as it may (`ulimit -n`), or the machine has: the engine never got
    /// the request.
    TooManyOpenFiles,
    /// TLS failed: the engine's certificate is not by the authority we trust or not for its name, or the engine does not
    /// take ours, or does not speak TLS at all.
    Untrusted,
    /// It did not answer within our deadline.
    Timeout,
    /// The container (or the command in it) is not there.
    NotFound,
    /// The container is there, but in a state in which this cannot be done (not running, paused, being removed).
    Conflict,
    /// The image is not on the engine and was not, or could not be, pulled.
    ImageNotFound,
    /// The registry wants a login, or refused the one it was given. See [`RegistryAuth`](crate::RegistryAuth). Some
    /// registries say [`ImageNotFound`](Self::ImageNotFound) in its place, so as not to tell what they have.
    LoginRefused,
    /// The engine did not get through to the registry: there is none at that address, its certificate is not trusted, it
    /// answers with server errors, or wants fewer requests.
    RegistryUnreachable,
    /// The registry had the image, and was lost while it was being pulled. What had been pulled by then is kept by the engine.
    PullInterrupted,
    /// The network that containers are to be on is not on the engine.
    NetworkNotFound,
    /// The image is for another operating system or architecture than the engine's.
    WrongPlatform,
    /// The program could not be started: it is not there, not executable, or its directory or user is bad.
    CannotStart,
    /// The container has no processes, descriptors or memory left for another command.
    Exhausted,
    /// The engine refused what was asked for as malformed or not allowed.
    Rejected,
    /// The engine cannot do this at all.
    Unsupported,
    /// A limit that was asked for, by the library's defaults or the user, is not set: the engine or its kernel cannot.
    LimitDiscarded,
    /// No failure: the engine did what it was asked, and had something to say about it. Told to
    /// [`on_error`](crate::PoolBuilder::on_error) only.
    Warning,
    /// The connection broke, or what came over it makes no sense: whether the engine did what it was asked is not known.
    Protocol,
    /// The tokio runtime that the user gave for background tasks has ended: see
    /// [`PoolBuilder::tokio_runtime`](crate::PoolBuilder::tokio_runtime). The engine was not asked.
    RuntimeEnded,
    /// Everything else: a fault inside the engine.
    Internal,
}

impl EngineError {
    /// A failure without an underlying error.
    pub fn new(kind: EngineErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
            of_container: false,
            unexplained: false,
            of_any_command: false,
        }
    }

    /// Adds what caused it. The message should not repeat the source's.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// What kind of failure it was.
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without anything being changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            EngineErrorKind::Unreachable
                | EngineErrorKind::TooManyOpenFiles
                | EngineErrorKind::Timeout
                | EngineErrorKind::Conflict
                | EngineErrorKind::Protocol
                | EngineErrorKind::Internal
                | EngineErrorKind::RegistryUnreachable
                | EngineErrorKind::PullInterrupted
                | EngineErrorKind::Exhausted
        )
    }

    /// Whether this says for certain that a command was not started.
    pub(crate) fn says_not_started(&self) -> bool {
        matches!(self.kind, EngineErrorKind::CannotStart | EngineErrorKind::Exhausted)
    }

    /// A program could not be started because of the state of its container, not because of what it is.
    #[must_use]
    pub(crate) fn of_container(mut self) -> Self {
        self.of_container = true;
        self
    }

    pub(crate) fn is_of_container(&self) -> bool {
        self.of_container
    }

    /// A program could not be started, and the engine does not say why.
    #[must_use]
    pub(crate) fn unexplained(mut self) -> Self {
        self.unexplained = true;
        self
    }

    pub(crate) fn is_unexplained(&self) -> bool {
        self.unexplained
    }

    /// A program could not be started for a reason that the command did not bring along: none other could be either.
    #[must_use]
    pub(crate) fn of_any_command(mut self) -> Self {
        self.of_any_command = true;
        self
    }

    pub(crate) fn is_of_any_command(&self) -> bool {
        self.of_any_command
    }

    /// Whether this says that the container is not there or does not run.
    pub(crate) fn says_gone(&self) -> bool {
        matches!(self.kind, EngineErrorKind::NotFound | EngineErrorKind::Conflict)
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineError")
            .field("kind", &self.kind)
            .field("message", &self.message)
            .field("source", &self.source)
            .finish()
    }
}

impl StdError for EngineError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}
