//! Errors of calls to the engine.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::values::text;

/// A failed engine call: the kind of failure, its words, and its cause. Cheap to clone.
///
/// The words may come from an engine, a registry or a program in a container. They are safe to print and to log: one line
/// of at most 2 KiB, in which control characters and characters that change the direction of text are escaped. The same holds for
/// the [`source`](std::error::Error::source).
///
/// # Examples
///
/// ```
/// use dockerpool::{EngineError, EngineErrorKind};
///
/// // In an engine of your own.
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
    of_settings: bool,
    of_shutdown: bool,
    doing: Option<&'static str>,
    /// Boxed, since most errors have none, and a large error makes every `Result` large.
    advice: Option<Box<Cow<'static, str>>>,
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
    /// Nothing answers at the engine's address: the engine never received the request. Or the engine was replaced by one that
    /// speaks another version of the API and has refused the request for that; the next request is in its version.
    Unreachable,
    /// No file descriptor is left to this process (`ulimit -n`) or to the machine: the engine never received the request.
    TooManyOpenFiles,
    /// TLS failed: the engine's certificate is not signed by the trusted authority or not for its name, the engine refuses the
    /// client's certificate, or the engine does not speak TLS.
    Untrusted,
    /// The engine did not answer within the library's deadline.
    Timeout,
    /// The container, or the command in it, does not exist.
    NotFound,
    /// The container exists, but its state forbids the call (not running, paused, being removed).
    Conflict,
    /// The image is not on the engine and was not, or could not be, pulled.
    ImageNotFound,
    /// The registry requires a login, or refused the given one. See [`RegistryAuth`](crate::RegistryAuth). Some registries
    /// answer [`ImageNotFound`](Self::ImageNotFound) instead, so as not to reveal which images exist.
    ///
    /// Docker with containerd's image store answers the same for a refused login and for a repository that does not exist. With a
    /// login that is this kind; without one it may be [`ImageNotFound`](Self::ImageNotFound).
    LoginRefused,
    /// The engine could not use the registry: no registry answers at that address, its certificate is not trusted, it answers
    /// with server errors, or it limits the rate of requests.
    RegistryUnreachable,
    /// The connection to the registry broke during the pull. The engine keeps the layers that it has.
    PullInterrupted,
    /// The network of the containers does not exist on the engine.
    NetworkNotFound,
    /// The image is for another operating system or architecture than the engine's.
    WrongPlatform,
    /// The program could not be started: it does not exist or is not executable, or its directory or user is bad.
    CannotStart,
    /// The container has no processes, file descriptors or memory left for another command.
    Exhausted,
    /// The engine, or its runtime, refused the request as malformed, not allowed or not available: a setting is wrong, and a
    /// retry fails again. The message has the engine's words and, where they tell, the setting.
    Rejected,
    /// The engine does not have this operation.
    Unsupported,
    /// A limit, of the library's defaults or of the spec, is not in force: the engine or its kernel cannot set it.
    LimitDiscarded,
    /// A setting of isolation, of the library's defaults or of the spec, is not in force: the engine accepted and ignored it. The
    /// message names each such setting.
    SettingIgnored,
    /// The container did not get ready in its time: see [`ready_when`](crate::ContainerSpec::ready_when). The message says what was
    /// waited for, what was seen last, and the last words of the container's command.
    NotReady,
    /// A function given to [`on_create`](crate::PoolBuilder::on_create) or [`on_return`](crate::PoolBuilder::on_return) failed,
    /// panicked or did not end in its time. The message has its error's words.
    HookFailed,
    /// No failure: the engine carried the request out with a warning, or the image has an
    /// [`Entrypoint`](crate::Entrypoint) that is not run. Only passed to
    /// [`on_error`](crate::PoolBuilder::on_error).
    Warning,
    /// The connection broke, or the answer makes no sense: it is not known whether the engine carried the request out.
    Protocol,
    /// The tokio runtime that was given for background tasks has ended: see
    /// [`PoolBuilder::tokio_runtime`](crate::PoolBuilder::tokio_runtime). The engine was not asked.
    RuntimeEnded,
    /// Any other failure: a fault inside the engine, which may pass.
    Internal,
}

impl EngineError {
    /// Makes an error without a cause. Control characters in the message are escaped; a message of more than 2 KiB loses its
    /// middle.
    pub fn new(kind: EngineErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: text::clean(&message.into()).into_owned(),
            source: None,
            of_container: false,
            unexplained: false,
            of_any_command: false,
            of_settings: false,
            of_shutdown: false,
            doing: None,
            advice: None,
        }
    }

    /// Adds the cause, whose words the message should not repeat. A cause with words that are not safe to print, its own or those
    /// of its causes, is replaced by the escaped words.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(match Words::instead_of(&source) {
            Some(words) => Arc::new(words),
            None => Arc::new(source),
        });
        self
    }

    /// Makes the error of a failed call to this machine's system: of this kind, unless no file descriptor was left.
    pub(crate) fn of_system(kind: EngineErrorKind, message: impl Into<String>, error: std::io::Error) -> Self {
        let kind = match is_too_many_open_files(&error) {
            true => EngineErrorKind::TooManyOpenFiles,
            false => kind,
        };
        Self::new(kind, message).with_source(error)
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> EngineErrorKind {
        self.kind
    }

    /// Returns whether the same call may succeed later though the caller changes nothing.
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, EngineErrorKind::NotReady) && !self.of_settings
            || matches!(
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
                    | EngineErrorKind::HookFailed
            )
    }

    /// Returns whether it is certain that the command was not started.
    pub(crate) fn says_not_started(&self) -> bool {
        matches!(self.kind, EngineErrorKind::CannotStart | EngineErrorKind::Exhausted)
    }

    /// Marks the error of a program that could not be started because of the state of its container.
    #[must_use]
    pub(crate) fn of_container(mut self) -> Self {
        self.of_container = true;
        self
    }

    pub(crate) fn is_of_container(&self) -> bool {
        self.of_container
    }

    /// Marks the error of a program that could not be started for a reason that the engine does not tell.
    #[must_use]
    pub(crate) fn unexplained(mut self) -> Self {
        self.unexplained = true;
        self
    }

    pub(crate) fn is_unexplained(&self) -> bool {
        self.unexplained
    }

    /// Marks the error of a program that could not be started for a reason that holds for any other program too.
    #[must_use]
    pub(crate) fn of_any_command(mut self) -> Self {
        self.of_any_command = true;
        self
    }

    pub(crate) fn is_of_any_command(&self) -> bool {
        self.of_any_command
    }

    /// Marks the error of a container that cannot be created or started because of its settings, whatever its PID 1.
    #[must_use]
    pub(crate) fn of_settings(mut self) -> Self {
        self.of_settings = true;
        self
    }

    pub(crate) fn is_of_settings(&self) -> bool {
        self.of_settings
    }

    /// Marks the error of a container that is gone since its pool was shut down.
    #[must_use]
    pub(crate) fn of_shutdown(mut self) -> Self {
        self.of_shutdown = true;
        self
    }

    pub(crate) fn is_of_shutdown(&self) -> bool {
        self.of_shutdown
    }

    /// Names the step that failed, of a call with several steps.
    #[must_use]
    pub(crate) fn while_doing(mut self, doing: &'static str) -> Self {
        self.doing = Some(doing);
        self
    }

    /// Returns the step that failed, of a call with several steps.
    pub(crate) fn doing(&self) -> Option<&'static str> {
        self.doing
    }

    /// Returns whether a cause says that this user has no permission.
    pub(crate) fn is_forbidden(&self) -> bool {
        let mut causes = std::iter::successors(self.source(), |&cause| cause.source());
        causes.any(|cause| {
            let system = cause.downcast_ref::<std::io::Error>();
            system.is_some_and(|system| system.kind() == std::io::ErrorKind::PermissionDenied)
        })
    }

    /// Replaces the message, and keeps the kind and the cause.
    #[must_use]
    pub(crate) fn reworded(mut self, message: impl Into<String>) -> Self {
        self.message = text::clean(&message.into()).into_owned();
        self
    }

    /// Sets what the reader of the error can do, in place of the advice for the kind of the error. Empty: nothing is advised.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.advice = Some(Box::new(advice.into()));
        self
    }

    /// Returns the advice that was set.
    pub(crate) fn advice(&self) -> Option<&str> {
        self.advice.as_ref().map(|advice| &***advice)
    }

    /// Returns whether the error says that the container does not exist or does not run.
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

/// The longest chain of causes that is kept.
const MAX_CAUSES: usize = 16;

/// The escaped words of an error and of its causes, in place of the error.
#[derive(Debug)]
struct Words {
    words: String,
    source: Option<Box<Words>>,
}

impl Words {
    /// Returns the escaped words, or `None` if the error can be printed as it is.
    fn instead_of(error: &dyn StdError) -> Option<Self> {
        let mut all = Vec::new();
        let mut harmful = false;
        let mut next = Some(error);
        while let Some(error) = next.filter(|_| all.len() < MAX_CAUSES) {
            let words = error.to_string();
            let clean = text::clean(&words);
            harmful |= *clean != *words;
            all.push(clean.into_owned());
            next = error.source();
        }
        let chain = |source: Option<Self>, words| {
            Some(Words {
                words,
                source: source.map(Box::new),
            })
        };
        if harmful {
            all.into_iter().rev().fold(None, chain)
        } else {
            None
        }
    }
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl StdError for Words {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The system's error codes for a lack of file descriptors: `EMFILE` and `ENFILE`; on Windows `WSAEMFILE`.
const TOO_MANY_OPEN_FILES: &[i32] = if cfg!(windows) { &[10024] } else { &[24, 23] };

/// Returns whether the error, or one of its causes, is a lack of file descriptors.
pub(crate) fn is_too_many_open_files(error: &(dyn StdError + 'static)) -> bool {
    let system = error.downcast_ref::<std::io::Error>();
    if let Some(code) = system.and_then(std::io::Error::raw_os_error) {
        return TOO_MANY_OPEN_FILES.contains(&code);
    }
    // `source` of an I/O error skips the error that it wraps.
    match system.and_then(std::io::Error::get_ref) {
        Some(wrapped) => is_too_many_open_files(wrapped),
        None => error.source().is_some_and(is_too_many_open_files),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_lack_of_file_descriptors_has_a_kind_of_its_own_in_any_call() {
        let kind = |error| EngineError::of_system(EngineErrorKind::Protocol, "what", error).kind();
        for code in [24, 23] {
            let bare = || std::io::Error::from_raw_os_error(code);
            assert_eq!(kind(bare()), EngineErrorKind::TooManyOpenFiles);
            assert_eq!(
                kind(std::io::Error::other(std::io::Error::other(bare()))),
                EngineErrorKind::TooManyOpenFiles
            );
        }
        assert_eq!(kind(std::io::Error::from_raw_os_error(32)), EngineErrorKind::Protocol);
    }

    /// An error with these words and this cause.
    #[derive(Debug)]
    struct Saying(&'static str, Option<Box<Saying>>);

    impl fmt::Display for Saying {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Saying {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|source| source as &(dyn StdError + 'static))
        }
    }

    #[test]
    fn neither_the_message_nor_a_cause_has_escape_codes() {
        let inner = Saying("inner\x1b]0;title\x07", None);
        let error = EngineError::new(EngineErrorKind::Internal, "outer\nline")
            .with_source(Saying("harmless", Some(inner.into())));
        let source = error.source().unwrap();
        assert_eq!(error.to_string(), "outer\\nline");
        assert_eq!(source.to_string(), "harmless");
        assert_eq!(source.source().unwrap().to_string(), "inner\\u{1b}]0;title\\u{7}");
        assert!(!format!("{error:?}").contains(char::is_control));

        let error = EngineError::new(EngineErrorKind::Internal, "").with_source(Saying("harmless", None));
        assert!(
            error.source().unwrap().is::<Saying>(),
            "a harmless source stays what it is"
        );
    }
}
