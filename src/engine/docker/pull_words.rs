//! Translates the words of a failed pull, which come from the engine's client of registries.
//!
//! There are three such clients: that of Docker's own image store, that of containerd's store (`containerd-snapshotter`, the
//! default of new installations since Docker 29), and Podman's. Each passes on the registry's answer, in its own words, and
//! often without a status. The words here are those of Docker 20.10 to 29 (`daemon/internal/distribution` and
//! `daemon/containerd` with containerd's `core/remotes`), and of Podman (`containers/image`).

use crate::engine::EngineErrorKind as Kind;

/// Holds the facts about a failed pull.
pub(super) struct Failure<'a> {
    /// The name of the image.
    pub(super) image: &'a str,
    /// The engine's words.
    pub(super) words: &'a str,
    /// The status of the engine's answer. `None`: the failure came after the first step.
    pub(super) status: Option<u16>,
    /// Whether the engine sent a login to the registry.
    pub(super) with_login: bool,
    /// Whether the engine reported a step before: the first step comes with the image's manifest.
    pub(super) begun: bool,
}

/// Returns the kind of the failure. `kind` is the kind that the answer would have for any other call.
pub(super) fn kind_of(failure: &Failure<'_>, kind: Kind) -> Kind {
    let words = without_names(failure.words, failure.image);
    let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    // The words of the store itself, without those of the cause.
    let of_platform = kind == Kind::WrongPlatform || says(&["no match for platform"]);
    if of_platform && !is_missing_in_truth(&words) {
        return Kind::WrongPlatform;
    }
    if says(&["pull access denied"]) {
        return match () {
            () if says(&["no basic auth credentials", "unauthorized"]) => Kind::LoginRefused,
            // The registry accepted the login.
            () if says(&[": denied: "]) => Kind::ImageNotFound,
            // Containerd's store uses the same words for a refused login and a missing repository.
            () if failure.with_login => Kind::LoginRefused,
            () => Kind::ImageNotFound,
        };
    }
    // A 404 to a pull is about the image, whatever its words.
    if of_platform || status_in(&words) == Some(404) || matches!(kind, Kind::NotFound | Kind::ImageNotFound) {
        return Kind::ImageNotFound;
    }
    let status = failure.status.filter(|status| *status != 500).or(status_in(&words));
    let refused = matches!(status, Some(401 | 403)) && !says(&["is a reserved name"]);
    if refused || says(&LOGIN_WORDS) {
        return Kind::LoginRefused;
    }
    if matches!(status, Some(429 | 502..=504)) || matches!(status_in(&words), Some(429 | 500..)) {
        return Kind::RegistryUnreachable;
    }
    if says(&NETWORK_WORDS) {
        // Podman reports no first step; but an "unexpected EOF" proves that data was read.
        return match failure.begun || says(&["unexpected EOF"]) {
            true => Kind::PullInterrupted,
            false => Kind::RegistryUnreachable,
        };
    }
    kind
}

/// The words of registries, and of the engine's client, for a missing or refused login.
const LOGIN_WORDS: [&str; 10] = [
    "unauthorized",
    "401 Unauthorized",
    "authorization failed",
    "missing username or secret",
    "no basic auth credentials",
    "authentication required",
    "incorrect username or password",
    "access to the resource is denied",
    "denied: ",
    "403 Forbidden",
];

/// The words of the engine's client for a registry that it cannot reach, or no longer reaches.
const NETWORK_WORDS: [&str; 15] = [
    "dial tcp",
    "connection refused",
    "connection reset",
    "broken pipe",
    "EOF",
    "timeout",
    "Timeout",
    "deadline exceeded",
    "no such host",
    "server misbehaving",
    "x509: ",
    "tls: ",
    "server gave HTTP response to HTTPS client",
    "received unexpected HTTP status: 5",
    "toomanyrequests",
];

/// Returns whether the image itself is missing, although Docker's words are about the platform: Docker looks for the word
/// "platform" anywhere in containerd's error, also in the image's name.
fn is_missing_in_truth(words: &str) -> bool {
    let cause = words.split_once("in the manifest list entries: ");
    cause.is_some_and(|(_, cause)| !cause.contains("platform"))
}

/// Returns the registry's status in the words. Containerd's client: `unexpected status from HEAD request to URL: 503 Service
/// Unavailable`. Docker's client, for an answer that it cannot parse: `error parsing HTTP 429 response body`.
fn status_in(words: &str) -> Option<u16> {
    let rest = match words.split_once("error parsing HTTP ") {
        Some((_, rest)) => rest,
        None => words.split_once("unexpected status")?.1.split_once(": ")?.1,
    };
    rest.get(..3)?.parse().ok()
}

/// Removes the names of images and the addresses of registries, which may contain any word.
fn without_names(words: &str, image: &str) -> String {
    let mut left = String::with_capacity(words.len());
    let mut rest = words;
    while let Some(at) = rest.find("://") {
        let scheme = rest[..at].trim_end_matches(|c: char| c.is_ascii_alphanumeric()).len();
        left += &rest[..scheme];
        // A colon at the end belongs to the sentence.
        let end = rest[at..].find([' ', '"', '\n']).map_or(rest.len(), |end| at + end);
        let end = scheme + rest[scheme..end].trim_end_matches(':').len();
        rest = &rest[end..];
    }
    left += rest;
    match image {
        "" => left,
        image => left.replace(image, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: &str = "r.example:5000/team/timeout-platform:EOF";

    /// Returns the kinds for these words, with a login and without, before the first step.
    fn kinds(status: u16, kind: Kind, words: &str) -> [Kind; 2] {
        [true, false].map(|with_login| {
            let failure = Failure {
                image: IMAGE,
                words: &words.replace("IMAGE", IMAGE),
                status: Some(status),
                with_login,
                begun: false,
            };
            kind_of(&failure, kind)
        })
    }

    #[test]
    fn the_words_of_each_store_have_their_kinds() {
        let url = "\"https://r.example:5000/v2/team/timeout-platform/manifests/EOF\"";
        for (status, words, with_login, without) in [
            // Docker's own store.
            (
                404,
                "pull access denied for IMAGE, repository does not exist or may require 'docker login': denied: requested \
                 access to the resource is denied",
                Kind::ImageNotFound,
                Kind::ImageNotFound,
            ),
            (
                404,
                "manifest for IMAGE not found: manifest unknown",
                Kind::ImageNotFound,
                Kind::ImageNotFound,
            ),
            (
                500,
                "Get URL: no basic auth credentials",
                Kind::LoginRefused,
                Kind::LoginRefused,
            ),
            (
                500,
                "unauthorized: incorrect username or password",
                Kind::LoginRefused,
                Kind::LoginRefused,
            ),
            (
                500,
                "toomanyrequests: You have reached your pull rate limit.",
                Kind::RegistryUnreachable,
                Kind::RegistryUnreachable,
            ),
            (
                500,
                "received unexpected HTTP status: 503 Service Unavailable",
                Kind::RegistryUnreachable,
                Kind::RegistryUnreachable,
            ),
            (
                500,
                "write /var/lib/docker/tmp/x: no space left on device",
                Kind::Internal,
                Kind::Internal,
            ),
            (
                500,
                "error parsing HTTP 429 response body: invalid character 's'",
                Kind::RegistryUnreachable,
                Kind::RegistryUnreachable,
            ),
            (
                500,
                "error parsing HTTP 404 response body: invalid character 'w'",
                Kind::ImageNotFound,
                Kind::ImageNotFound,
            ),
            // Containerd's store.
            (
                404,
                "failed to resolve reference \"IMAGE\": IMAGE: not found",
                Kind::ImageNotFound,
                Kind::ImageNotFound,
            ),
            (
                404,
                "no matching manifest for linux/amd64 in the manifest list entries: failed to resolve reference \"IMAGE\": \
                 IMAGE: not found",
                Kind::ImageNotFound,
                Kind::ImageNotFound,
            ),
            (
                404,
                "no matching manifest for linux/arm64 in the manifest list entries: no match for platform in manifest: not \
                 found",
                Kind::WrongPlatform,
                Kind::WrongPlatform,
            ),
            (
                404,
                "no match for platform in manifest sha256:0: not found",
                Kind::WrongPlatform,
                Kind::WrongPlatform,
            ),
            (
                404,
                "pull access denied for IMAGE, repository does not exist or may require 'docker login'",
                Kind::LoginRefused,
                Kind::ImageNotFound,
            ),
            (
                404,
                "failed to resolve reference \"IMAGE\": pull access denied, repository does not exist or may require \
                 authorization: authorization failed: no basic auth credentials",
                Kind::LoginRefused,
                Kind::LoginRefused,
            ),
            (
                404,
                "failed to resolve reference \"IMAGE\": pull access denied, repository does not exist or may require \
                 authorization: server message: insufficient_scope: authorization failed",
                Kind::LoginRefused,
                Kind::ImageNotFound,
            ),
            (
                500,
                "failed to resolve reference \"IMAGE\": failed to authorize: failed to fetch oauth token: unexpected status \
                 from POST request to https://auth.example/token: 401 Unauthorized",
                Kind::LoginRefused,
                Kind::LoginRefused,
            ),
            (
                403,
                "Your authorization token has expired. Reauthenticate.",
                Kind::LoginRefused,
                Kind::LoginRefused,
            ),
            (403, "'scratch' is a reserved name", Kind::Rejected, Kind::Rejected),
            (
                429,
                "You have reached your pull rate limit.",
                Kind::RegistryUnreachable,
                Kind::RegistryUnreachable,
            ),
            (
                500,
                "unknown: failed to resolve reference \"IMAGE\": unexpected status from HEAD request to \
                 https://r.example:5000/v2/x/manifests/1?ns=r.example:5000: 503 Service Unavailable",
                Kind::RegistryUnreachable,
                Kind::RegistryUnreachable,
            ),
            (
                500,
                "unexpected status code https://r.example/v2/x/manifests/1: 500 Internal Server Error",
                Kind::RegistryUnreachable,
                Kind::RegistryUnreachable,
            ),
            (
                500,
                "failed to resolve reference \"IMAGE\": failed to do request: Head URL: dial tcp 127.0.0.1:5: connect: \
                 connection refused",
                Kind::RegistryUnreachable,
                Kind::RegistryUnreachable,
            ),
            (
                500,
                "failed to resolve reference \"IMAGE\": failed to do request: Head URL: Service Unavailable",
                Kind::Internal,
                Kind::Internal,
            ),
        ] {
            let kind = match status {
                404 if words.contains("no matching manifest") => Kind::WrongPlatform,
                404 => Kind::NotFound,
                400..=499 => Kind::Rejected,
                _ => Kind::Internal,
            };
            let told = kinds(status, kind, &words.replace("URL", url));
            assert_eq!(told, [with_login, without], "{words}");
        }
    }

    #[test]
    fn a_failure_after_the_first_step_is_an_interruption() {
        for words in [
            "failed to copy: httpReadSeeker: failed open: failed to do request: Get \"http://r.example/v2/x\": dial tcp: \
             connection refused",
            "short read: expected 7 bytes but got 3: unexpected EOF",
        ] {
            let failure = |begun| Failure {
                image: IMAGE,
                words,
                status: None,
                with_login: false,
                begun,
            };
            assert_eq!(kind_of(&failure(true), Kind::Internal), Kind::PullInterrupted);
        }
    }

    #[test]
    fn names_and_addresses_are_removed() {
        let words = "a IMAGE b: Head \"https://x.y/IMAGE\": c http://d/e?f=g: 500 h";
        assert_eq!(without_names(words, "IMAGE"), "a  b: Head \"\": c : 500 h");
        assert_eq!(without_names("://", ""), "");
        assert_eq!(without_names("ä://ö ü", "ü"), "ä ");
    }
}
