//! Advice for the reader of an error.

use std::fmt;

use super::engine::{EngineError, EngineErrorKind};
use crate::values::subject::Subject;

/// The advice where this user may not open the engine's socket.
pub(crate) const FORBIDDEN: &str = "may this user open the engine's socket? mostly its group may";

/// The advice that follows an engine's error: the one that the error brings with it, or else the one for its kind. With a space
/// before it, or nothing.
pub(super) struct Hint<'a>(pub(super) &'a EngineError);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.advice().unwrap_or_else(|| of_kind(self.0)) {
            "" => Ok(()),
            advice => write!(f, " ({advice})"),
        }
    }
}

fn of_kind(error: &EngineError) -> &'static str {
    match error.kind() {
        EngineErrorKind::Unreachable if error.is_forbidden() => FORBIDDEN,
        EngineErrorKind::Unreachable => "is the engine running? see DOCKER_HOST",
        EngineErrorKind::TooManyOpenFiles => "close some files or connections, or raise the limit: ulimit -n",
        EngineErrorKind::Untrusted => {
            "see ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH, or as given to Endpoint::tls()"
        }
        EngineErrorKind::ImageNotFound => "is the name right? else pull the image: see pull() and Pool::refresh()",
        EngineErrorKind::RegistryUnreachable => "can the engine's machine reach this registry? or load the image there",
        EngineErrorKind::LoginRefused => "see registry_auth(), or `docker login`",
        EngineErrorKind::NetworkNotFound => "create the network, or let Network::create do it",
        EngineErrorKind::WrongPlatform => "use an image for that platform, or set platform()",
        EngineErrorKind::CannotStart => "see cmd(), user() and working_dir()",
        EngineErrorKind::LimitDiscarded => {
            "has the engine's machine this limit, and, where the engine runs rootless, has systemd delegated it to its user?"
        }
        EngineErrorKind::NotReady => "see ready_when() and ready_timeout()",
        _ => "",
    }
}

/// Returns the advice for a program that is not there and has arguments in its name, as if a shell took them apart; or nothing.
pub(super) fn no_shell(subject: &Subject, reason: &str) -> &'static str {
    let looks_like_line = |program: &&str| program.contains(' ') && reason.contains(*program);
    let is_missing = ["not found", "no such file"]
        .iter()
        .any(|words| reason.to_lowercase().contains(words));
    match subject.program().filter(looks_like_line) {
        Some(_) if is_missing => {
            " (a program's name has a space in it: there is no shell; give arguments one by one, or run sh -c)"
        }
        _ => "",
    }
}
