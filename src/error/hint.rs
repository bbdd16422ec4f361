//! Advice for the reader of an error.

use super::engine::EngineErrorKind;

/// Returns the advice that follows an engine's error of this kind, with a space before it, or nothing.
pub(super) fn hint(kind: EngineErrorKind) -> &'static str {
    match kind {
        EngineErrorKind::Unreachable => " (is the engine running, and may this user reach it? see DOCKER_HOST)",
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
    }
}
