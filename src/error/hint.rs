//! Advice for the reader of an error.

use super::engine::{EngineError, EngineErrorKind};
use crate::values::subject::Subject;

/// Returns the advice that follows an engine's error, with a space before it, or nothing.
pub(super) fn hint(error: &EngineError) -> &'static str {
    match error.kind() {
        EngineErrorKind::CannotStart if has_ended(error) => " (PID 1 must go on running: see cmd())",
        EngineErrorKind::Unreachable => " (is the engine running, and may this user reach it? see DOCKER_HOST)",
        EngineErrorKind::TooManyOpenFiles => " (close some files or connections, or raise the limit: ulimit -n)",
        EngineErrorKind::Untrusted => " (see ca.pem, cert.pem and key.pem in DOCKER_CERT_PATH)",
        EngineErrorKind::ImageNotFound => " (pull the image, or allow it with PullPolicy::IfMissing)",
        EngineErrorKind::RegistryUnreachable => {
            " (can the engine's machine reach this registry? or load the image there)"
        }
        EngineErrorKind::LoginRefused => " (see registry_auth(), or `docker login`)",
        EngineErrorKind::NetworkNotFound => " (create the network, or let Network::create do it)",
        EngineErrorKind::WrongPlatform => " (use an image for the engine's platform, or set platform())",
        EngineErrorKind::CannotStart => " (does the image have this program? see cmd())",
        EngineErrorKind::LimitDiscarded => {
            " (has the engine's machine this limit, and, where the engine runs rootless, has systemd delegated it to its user?)"
        }
        EngineErrorKind::NotReady => " (see ready_when() and ready_timeout())",
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

/// Returns whether PID 1 of the caller's own was begun and has ended. With the engine's init, the codes 126 and 127 are those of
/// a program that could not be begun.
fn has_ended(error: &EngineError) -> bool {
    let words = error.to_string();
    let code = words.split_once("ended right after the start, with exit code ");
    code.is_some_and(|(_, code)| !matches!(code, "126" | "127"))
}
