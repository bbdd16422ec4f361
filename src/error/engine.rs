//! Errors of calls to the engine.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use crate::values::text;

/// A failed engine call: what kind of failure, in which words, and what caused it. Cheap to clone.
///
/// The words may be those of an engine, a registry or a program in a container. They are safe to print and to log: one line
/// of at most 2 KiB, in which control characters and what changes the direction of text are escaped. The same holds for
/// its [`source`](std::error::Error::source).
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
    of_settings: bool,
    doing: Option<&'static str>,
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
    /// Nothing answers where the engine should be: it never got the request. Or the engine has been replaced by one that speaks
    /// another version of its API: it has refused the request for that alone, and the next one is in its version.
    Unreachable,
    /// This process has as many files and connections open as it may (`ulimit -n`), or the machine has: the engine never got
    /// the request.
    TooManyOpenFiles,
    /// TLS failed: the engine's certificate is not by the authority we trust or not for its name, or the engine does not
    /// take ours, or does not speak TLS at all.
    Untrusted,
    /// The engine did not answer within the library's deadline.
    Timeout,
    /// The container (or the command in it) is not there.
    NotFound,
    /// The container is there, but in a state in which this cannot be done (not running, paused, being removed).
    Conflict,
    /// The image is not on the engine and was not, or could not be, pulled.
    ImageNotFound,
    /// The registry wants a login, or refused the one it was given. See [`RegistryAuth`](crate::RegistryAuth). Some
    /// registries say [`ImageNotFound`](Self::ImageNotFound) in its place, so as not to tell what they have.
    ///
    /// Docker with containerd's image store says the same of a refused login as of a repository that is not there. With a
    /// login that is this kind, without one it may be [`ImageNotFound`](Self::ImageNotFound).
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
    /// The engine, or its runtime, refused what was asked for as malformed, not allowed, or not to be had there: a setting is
    /// wrong. Fails again each time. The message has the engine's words and, where they tell, the setting.
    Rejected,
    /// The engine cannot do this at all.
    Unsupported,
    /// A limit that was asked for, by the library's defaults or the user, is not set: the engine or its kernel cannot.
    LimitDiscarded,
    /// A setting of isolation that was asked for, by the library's defaults or the user, is not in force: the engine took it,
    /// ignored it, and said nothing. The message names each.
    SettingIgnored,
    /// No failure: the engine did what it was asked, and had something to say about it. Told to
    /// [`on_error`](crate::PoolBuilder::on_error) only.
    Warning,
    /// The connection broke, or what came over it makes no sense: whether the engine did what it was asked is not known.
    Protocol,
    /// The tokio runtime that the user gave for background tasks has ended: see
    /// [`PoolBuilder::tokio_runtime`](crate::PoolBuilder::tokio_runtime). The engine was not asked.
    RuntimeEnded,
    /// Everything else: a fault inside the engine, which may pass.
    Internal,
}

impl EngineError {
    /// A failure without an underlying error. Control characters in the message are escaped, and the middle of one that is
    /// longer than 2 KiB is cut out.
    pub fn new(kind: EngineErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: text::clean(&message.into()).into_owned(),
            source: None,
            of_container: false,
            unexplained: false,
            of_any_command: false,
            of_settings: false,
            doing: None,
        }
    }

    /// Adds what caused it. The message should not repeat the source's. A source whose words, or those of what caused it,
    /// are not safe to print is replaced by its words made safe.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(match Words::instead_of(&source) {
            Some(words) => Arc::new(words),
            None => Arc::new(source),
        });
        self
    }

    /// Returns what an operation of this machine's own system failed with: of this kind, unless the system had no file
    /// descriptor left for it.
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

    /// A container is not made or started because of its settings, whatever is PID 1 in it.
    #[must_use]
    pub(crate) fn of_settings(mut self) -> Self {
        self.of_settings = true;
        self
    }

    pub(crate) fn is_of_settings(&self) -> bool {
        self.of_settings
    }

    /// Says which part of a call failed that does several things.
    #[must_use]
    pub(crate) fn while_doing(mut self, doing: &'static str) -> Self {
        self.doing = Some(doing);
        self
    }

    /// Which part of its call failed, where that does several things.
    pub(crate) fn doing(&self) -> Option<&'static str> {
        self.doing
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

/// Longer chains of causes are cut.
const MAX_CAUSES: usize = 16;

/// An error's words, and those of what caused it, in place of the error.
#[derive(Debug)]
struct Words {
    words: String,
    source: Option<Box<Words>>,
}

impl Words {
    /// `None` where the error can be printed as it is.
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

/// The kernel's words for it when this process, or the machine, may open nothing more: `EMFILE` and `ENFILE`; on Windows
/// `WSAEMFILE`.
const TOO_MANY_OPEN_FILES: &[i32] = if cfg!(windows) { &[10024] } else { &[24, 23] };

/// Whether the error, or anything that caused it, is the system's lack of file descriptors.
pub(crate) fn is_too_many_open_files(error: &(dyn StdError + 'static)) -> bool {
    let system = error.downcast_ref::<std::io::Error>();
    if let Some(code) = system.and_then(std::io::Error::raw_os_error) {
        return TOO_MANY_OPEN_FILES.contains(&code);
    }
    // What such an error wraps is not its source: that is the source of the wrapped one.
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
    fn a_lack_of_descriptors_is_of_a_kind_of_its_own_whatever_it_befalls() {
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

    /// An error, the words it says, and what caused it.
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
    fn neither_the_message_nor_a_source_has_escape_codes() {
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
