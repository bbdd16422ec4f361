//! Translates between this library's plain types and bollard's.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::models::{
    ChangeType, ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
    FilesystemChange, HealthStatusEnum, SystemVersion,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ports, transport, versions, words};
use crate::engine::{
    Change, ChangeKind, ContainerReport, ContainerState, EngineError, EngineErrorKind, Health, Selector,
};
use crate::error::is_too_many_open_files;
use crate::values::shown::Rounded;

/// Returns the filters of a list or event call, which name an id differently.
pub(super) fn filters(selector: &Selector, id_filter: &str) -> HashMap<String, Vec<String>> {
    let mut filters = HashMap::new();
    match selector {
        // Without a filter the engine returns all containers.
        Selector::Labels(labels) if labels.is_empty() => {}
        Selector::Labels(labels) => {
            let labels = labels.iter().map(|(key, value)| format!("{key}={value}"));
            filters.insert("label".to_owned(), labels.collect());
        }
        Selector::Id(id) => {
            filters.insert(id_filter.to_owned(), vec![id.clone()]);
        }
    }
    filters
}

/// Returns whether the engine is Podman.
pub(super) fn is_podman(version: &SystemVersion) -> bool {
    let mut components = version.components.iter().flatten();
    components.any(|component| component.name.starts_with("Podman"))
}

/// States that only Podman has, with the API's words for them. A container is `stopped` until Podman has cleaned up after
/// it.
const OTHER_STATES: [(&str, &str); 3] = [
    ("stopped", "exited"),
    ("initialized", "created"),
    ("configured", "created"),
];

/// Decodes the description of one or many containers that bollard could not decode because of an unknown state.
pub(super) fn with_other_states<T: DeserializeOwned>(error: DockerError) -> Result<T, DockerError> {
    let DockerError::JsonDataError { contents, .. } = &error else {
        return Err(error);
    };
    let Ok(mut found) = serde_json::from_str::<Value>(contents) else {
        return Err(error);
    };
    let containers = match &mut found {
        Value::Array(many) => many.as_mut_slice(),
        one => std::slice::from_mut(one),
    };
    for container in containers {
        // A list has the state as a string, an inspect as an object.
        for place in ["/State", "/State/Status"] {
            if let Some(Value::String(state)) = container.pointer_mut(place)
                && let Some((_, known)) = OTHER_STATES.iter().find(|(other, _)| other == state)
            {
                *state = (*known).to_owned();
            }
        }
    }
    serde_json::from_value(found).map_err(|_| error)
}

/// The maximum length of an id or name on an engine, in bytes.
const MAX_NAME: usize = 255;

/// Ids and names from an engine become part of request paths. A name like `../images/prune?x=` would turn the request into
/// another one.
pub(super) fn checked(id: String) -> Result<String, EngineError> {
    if is_name(&id) { Ok(id) } else { Err(no_name(&id)) }
}

fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn no_name(text: &str) -> EngineError {
    EngineError::new(
        EngineErrorKind::Protocol,
        format!("the engine returned `{text}` as an id or a name, which is invalid"),
    )
}

/// Returns the container's own name, without its leading slash. Links add more names, with the name of another container in
/// between. A container that is being removed may have none.
fn name_among(names: Vec<String>) -> Result<String, EngineError> {
    let bare = |name: &String| name.strip_prefix('/').unwrap_or(name).to_owned();
    match names.iter().map(bare).find(|name| is_name(name)) {
        Some(name) => Ok(name),
        None => match names.into_iter().find(|name| !name.is_empty()) {
            Some(name) => Err(no_name(&name)),
            None => Ok(String::new()),
        },
    }
}

pub(super) fn report_of_inspect(found: ContainerInspectResponse) -> Result<ContainerReport, EngineError> {
    let state = found.state.unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let mut report = ContainerReport::new(
        checked(found.id.unwrap_or_default())?,
        name_among(found.name.into_iter().collect())?,
        match state.status {
            Some(ContainerStateStatusEnum::CREATED) => ContainerState::Created,
            Some(ContainerStateStatusEnum::RUNNING) => ContainerState::Running,
            Some(ContainerStateStatusEnum::PAUSED) => ContainerState::Paused,
            Some(ContainerStateStatusEnum::RESTARTING) => ContainerState::Restarting,
            Some(ContainerStateStatusEnum::REMOVING) => ContainerState::Removing,
            Some(ContainerStateStatusEnum::EXITED) => ContainerState::Exited,
            Some(ContainerStateStatusEnum::DEAD) => ContainerState::Dead,
            _ => ContainerState::Unknown,
        },
    );
    // Before the end of PID 1 the engine returns 0, which is no exit code.
    if matches!(report.state, ContainerState::Exited | ContainerState::Dead) {
        report.exit_code = state.exit_code;
    }
    report.image = config.image.unwrap_or_default();
    report.labels = config.labels.unwrap_or_default();
    report.health = match state.health.and_then(|health| health.status) {
        Some(HealthStatusEnum::STARTING) => Some(Health::Starting),
        Some(HealthStatusEnum::HEALTHY) => Some(Health::Healthy),
        Some(HealthStatusEnum::UNHEALTHY) => Some(Health::Unhealthy),
        Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) | None => None,
    };
    let network = found.network_settings.unwrap_or_default();
    report.ip = ports::ip(&network);
    report.ports = ports::published(&network);
    Ok(report)
}

pub(super) fn report_of_summary(found: ContainerSummary) -> Result<ContainerReport, EngineError> {
    let mut report = ContainerReport::new(
        checked(found.id.unwrap_or_default())?,
        name_among(found.names.unwrap_or_default())?,
        match found.state {
            Some(ContainerSummaryStateEnum::CREATED) => ContainerState::Created,
            Some(ContainerSummaryStateEnum::RUNNING) => ContainerState::Running,
            Some(ContainerSummaryStateEnum::PAUSED) => ContainerState::Paused,
            Some(ContainerSummaryStateEnum::RESTARTING) => ContainerState::Restarting,
            Some(ContainerSummaryStateEnum::REMOVING) => ContainerState::Removing,
            Some(ContainerSummaryStateEnum::EXITED) => ContainerState::Exited,
            Some(ContainerSummaryStateEnum::DEAD) => ContainerState::Dead,
            _ => ContainerState::Unknown,
        },
    );
    report.image = found.image.unwrap_or_default();
    report.labels = found.labels.unwrap_or_default();
    Ok(report)
}

/// Translates a change of the root file system.
pub(super) fn change_of(found: FilesystemChange) -> Change {
    let kind = match found.kind {
        ChangeType::_0 => ChangeKind::Modified,
        ChangeType::_1 => ChangeKind::Added,
        ChangeType::_2 => ChangeKind::Deleted,
    };
    Change::new(found.path, kind)
}

/// Translates the failure of a query, like [`engine_error`]. A query starts nothing, so its error is never about a start,
/// whatever its words.
pub(super) fn question_error(what: &str, error: DockerError) -> EngineError {
    let error = engine_error(what, error);
    match error.kind() {
        EngineErrorKind::CannotStart | EngineErrorKind::Exhausted | EngineErrorKind::LimitDiscarded => {
            EngineError::new(EngineErrorKind::Internal, error.to_string())
        }
        _ => error,
    }
}

/// Translates the failure of a call. `what` names the step that failed. If the engine answered, its words are added; else
/// the source is the innermost cause, without what the HTTP client has put around it.
pub(super) fn engine_error(what: &str, error: DockerError) -> EngineError {
    use EngineErrorKind as Kind;

    let kind = match &error {
        DockerError::DockerResponseServerError { status_code, message } => {
            return answered(what, *status_code, message);
        }
        DockerError::DockerStreamError { error } => return answered(what, 500, error),
        DockerError::RequestTimeoutError => {
            let limit = Duration::from_secs(transport::RESPONSE_TIMEOUT);
            return EngineError::new(Kind::Timeout, format!("{what}: no answer within {}", Rounded(limit)));
        }
        DockerError::SocketNotFoundError(_) => Kind::Unreachable,
        error if is_too_many_open_files(error) => Kind::TooManyOpenFiles,
        #[cfg(feature = "tls")]
        error if any_cause(error, super::tls::is_tls) => Kind::Untrusted,
        error if any_cause(error, super::ssh::is_tunnel) => Kind::Unreachable,
        // The engine did nothing, and the next request uses a version that it accepts.
        error if transport::is_replaced(error) => Kind::Unreachable,
        DockerError::IOError { .. } => Kind::Protocol,
        DockerError::HyperLegacyError { err } if err.is_connect() => Kind::Unreachable,
        DockerError::HyperLegacyError { .. } | DockerError::HyperResponseError { .. } => Kind::Protocol,
        DockerError::UnsupportedURISchemeError { .. } => Kind::Unsupported,
        // The error's other field is the whole answer, which may contain environment variables of containers.
        DockerError::JsonDataError { message, .. } => {
            return EngineError::new(Kind::Protocol, what).with_source(Undecodable(message.clone()));
        }
        DockerError::JsonSerdeError { .. } => Kind::Protocol,
        DockerError::HttpClientError { .. } | DockerError::InvalidURIError { .. } => Kind::Rejected,
        _ => Kind::Internal,
    };
    match kind {
        // Nothing is to be done: the next request finds the new engine.
        Kind::Unreachable if transport::is_replaced(&error) => {
            EngineError::new(kind, what).with_source(transport::Replaced).advise("")
        }
        _ => EngineError::new(kind, what).with_source(innermost(&error)),
    }
}

/// Translates an engine's answer about a failure.
fn answered(what: &str, status: u16, message: &str) -> EngineError {
    let message = words::shortened(message);
    let error = EngineError::new(kind_of_answer(status, &message), format!("{what}: {}", message.trim()));
    match error.kind() {
        EngineErrorKind::CannotStart => error.advise(words::advice(&message)),
        _ => error,
    }
}

/// Returns the innermost cause of a failed request.
fn innermost(error: &DockerError) -> io::Error {
    let causes = std::iter::successors(Some(error as &(dyn StdError + 'static)), |&error| error.source());
    let Some(cause) = causes.last() else {
        return io::Error::other(error.to_string());
    };
    let system = cause.downcast_ref::<io::Error>();
    match system.and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => {
            let kind = system.map_or(io::ErrorKind::Other, io::Error::kind);
            io::Error::new(kind, cause.to_string())
        }
    }
}

/// Says why an answer could not be decoded.
#[derive(Debug, thiserror::Error)]
#[error("the answer cannot be understood: {0}")]
struct Undecodable(String);

/// Returns whether the error, or any of its sources, matches.
fn any_cause(error: &DockerError, is: fn(&(dyn StdError + 'static)) -> bool) -> bool {
    std::iter::successors(Some(error as &(dyn StdError + 'static)), |&error| error.source()).any(is)
}

/// Returns the kind of an answer. The engine's status codes say little; its messages are precise, and its own command line
/// goes by them too.
fn kind_of_answer(status: u16, message: &str) -> EngineErrorKind {
    use EngineErrorKind as Kind;

    let says = |words: &str| message.contains(words);
    if says("No such image")
        || says("image not known")
        || says("manifest unknown")
        || says("pull access denied")
        || says("repository does not exist")
    {
        return Kind::ImageNotFound;
    }
    if says("no matching manifest")
        || says("does not match the specified platform")
        || says("was found but does not provide")
        || says("no image found in manifest list")
    {
        return Kind::WrongPlatform;
    }
    // Another engine has taken the place of the first one, and no version of the API is common to both sides.
    if versions::is_refusal(message) {
        return Kind::Unsupported;
    }
    if says_limit_not_set(message) {
        return Kind::LimitDiscarded;
    }
    if words::cannot_start(message) {
        return Kind::CannotStart;
    }
    // Podman gives these failures no status of their own.
    if says("that name is already in use") || says("network already exists") || says("container state improper") {
        return Kind::Conflict;
    }
    // The second phrase and the third are about the driver of a network.
    if message.trim_end().ends_with(": invalid argument")
        || says("failed to find driver or plugin")
        || says("not found in plugin directories")
        || says(": invalid mount option")
    {
        return Kind::Rejected;
    }
    // While a container is being removed, the status is not always 404.
    if says("no such container") || says("no such exec session") {
        return Kind::NotFound;
    }
    match status {
        404 => Kind::NotFound,
        409 | 304 => Kind::Conflict,
        400..=499 => Kind::Rejected,
        501 => Kind::Unsupported,
        _ => Kind::Internal,
    }
}

/// Returns whether an engine did not start a container because it cannot set one of its limits. Docker's daemon leaves out a
/// limit that its kernel lacks, and warns. Podman's runtime fails at the start of the container, as does any runtime whose
/// user may not raise a limit. The words are those of crun and runc.
fn says_limit_not_set(message: &str) -> bool {
    let says = |words: &str| message.contains(words);
    let is_of_cgroup = |name: &str| {
        ["cpu.", "cpuset.", "io.", "memory.", "pids.", "hugetlb."]
            .iter()
            .any(|controller| name.starts_with(controller))
    };
    let opened = message.split_once("open `").map(|(_, name)| name);
    (says("controller `") && says("` is not available under "))
        || opened.is_some_and(|name| is_of_cgroup(name) && says("` for writing: "))
        || (says("error setting cgroup config for ")
            && says("/sys/fs/cgroup")
            && (says("no such file or directory") || says("permission denied")))
        || says("setrlimit `")
        || says("error setting rlimit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn undecodable(contents: &str) -> DockerError {
        DockerError::JsonDataError {
            message: String::new(),
            column: 0,
            contents: contents.to_owned(),
        }
    }

    #[test]
    fn states_that_only_podman_has_are_decoded_in_a_list_and_in_an_inspect() {
        let list = r#"[{"Id":"a","Names":["/x"],"State":"stopped"},{"Id":"b","State":"running"}]"#;
        let found: Vec<ContainerSummary> = with_other_states(undecodable(list)).unwrap();
        let reports: Vec<_> = found
            .into_iter()
            .map(|found| report_of_summary(found).unwrap())
            .collect();
        assert_eq!((&*reports[0].name, reports[0].state), ("x", ContainerState::Exited));
        assert_eq!((&*reports[1].id, reports[1].state), ("b", ContainerState::Running));

        let one = r#"{"Id":"a","State":{"Status":"initialized"}}"#;
        let found: ContainerInspectResponse = with_other_states(undecodable(one)).unwrap();
        assert_eq!(report_of_inspect(found).unwrap().state, ContainerState::Created);
    }

    #[test]
    fn only_ids_and_names_that_stay_one_path_segment_are_accepted() {
        for id in ["a", "0123abc", "x_y.z-1", "a..b", &"f".repeat(64)] {
            assert_eq!(checked(id.to_owned()).unwrap(), id);
        }
        for id in [
            "",
            ".",
            "..",
            "-a",
            "_a",
            "a/b",
            "../../images/prune?x=",
            "prune?x=",
            "a#b",
            "a%2fb",
            "a b",
            "a\n",
            "\u{e4}",
            &"f".repeat(256),
        ] {
            assert_eq!(
                checked(id.to_owned()).unwrap_err().kind(),
                EngineErrorKind::Protocol,
                "{id}"
            );
        }
        let name = |names: &[&str]| name_among(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(name(&["/other/alias", "/mine"]).unwrap(), "mine");
        assert_eq!(name(&["/mine"]).unwrap(), "mine");
        assert_eq!(name(&[]).unwrap(), "");
        assert_eq!(name(&[""]).unwrap(), "");
        assert!(name(&["/../x"]).is_err() && name(&["//x"]).is_err());
    }

    #[test]
    fn an_answer_that_cannot_be_decoded_is_not_in_the_error() {
        let error = engine_error("nothing was done", undecodable(r#"{"Env": ["TOKEN=s3cret"]}"#));
        assert_eq!(error.kind(), EngineErrorKind::Protocol);
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    }

    #[test]
    fn an_unknown_decode_error_is_returned_unchanged() {
        for contents in ["", "[{", r#"[{"State":"frozen"}]"#, r#"[{"State":7}]"#] {
            let result: Result<Vec<ContainerSummary>, _> = with_other_states(undecodable(contents));
            assert!(matches!(result, Err(DockerError::JsonDataError { .. })), "{contents}");
        }
    }

    #[test]
    fn a_limit_that_cannot_be_set_differs_from_other_failures_of_a_start() {
        for message in [
            "crun: controller `cpuset` is not available under /sys/fs/cgroup/user.slice/a/container/cgroup.controllers: OCI \
             runtime error",
            "crun: open `io.weight` for writing: No such file or directory: OCI runtime attempted to invoke a command that was \
             not found",
            "crun: setrlimit `RLIMIT_NOFILE`: Operation not permitted: OCI permission denied",
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: \
             unable to start container process: error during container init: error setting rlimits for ready process: error \
             setting rlimit type 7: operation not permitted",
            "OCI runtime create failed: runc create failed: unable to start container process: unable to apply cgroup \
             configuration: error setting cgroup config for procHooks process: openat2 /sys/fs/cgroup/a/cpuset.cpus: no such \
             file or directory",
        ] {
            assert_eq!(
                kind_of_answer(500, message),
                EngineErrorKind::LimitDiscarded,
                "{message}"
            );
        }
        for (message, kind) in [
            (
                "OCI runtime create failed: runc create failed: unable to start container process: exec: \
                 \"/.dockerpool-agent\": permission denied",
                EngineErrorKind::CannotStart,
            ),
            (
                "crun: the path `/.dockerpool-agent` exists but it is not executable: Operation not permitted: OCI permission \
                 denied",
                EngineErrorKind::CannotStart,
            ),
            (
                "crun: executable file `nothing` not found: No such file or directory: OCI runtime attempted to invoke a \
                 command that was not found",
                EngineErrorKind::CannotStart,
            ),
            (
                "crun: open `/x` for writing: No such file or directory: OCI runtime error",
                EngineErrorKind::Internal,
            ),
            (
                "error setting cgroup config for procHooks process: failed to write 1: device or resource busy",
                EngineErrorKind::Internal,
            ),
        ] {
            assert_eq!(kind_of_answer(500, message), kind, "{message}");
        }
    }

    #[test]
    fn a_refused_api_version_differs_from_a_refused_request() {
        for message in [
            "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer \
             version",
            "client version 1.53 is too new. Maximum supported API version is 1.41",
        ] {
            assert_eq!(kind_of_answer(400, message), EngineErrorKind::Unsupported);
        }
    }

    #[test]
    fn answers_of_podman_have_the_same_kinds_as_dockers() {
        for (status, message, kind) in [
            (
                404,
                "no such image: docker.io/x/y:1: image not known",
                EngineErrorKind::ImageNotFound,
            ),
            (
                500,
                "container create: creating container storage: the container name \"x\" is already in use by abc. You have \
                 to remove that container to be able to reuse that name: that name is already in use",
                EngineErrorKind::Conflict,
            ),
            (
                500,
                "can only create exec sessions on running containers: container state improper",
                EngineErrorKind::Conflict,
            ),
            (
                404,
                "no container with name or ID \"x\" found: no such container",
                EngineErrorKind::NotFound,
            ),
            (
                500,
                "network name x already used: network already exists",
                EngineErrorKind::Conflict,
            ),
            (
                500,
                "unsupported driver no-such-driver: invalid argument",
                EngineErrorKind::Rejected,
            ),
            (
                500,
                "failed to find driver or plugin \"no-such-driver\"",
                EngineErrorKind::Rejected,
            ),
            // Podman 6.
            (
                500,
                "netavark (exit code 1): plugin for driver \"no-such-driver\" not found in plugin directories",
                EngineErrorKind::Rejected,
            ),
            (
                500,
                "container create: unknown mount option \"uid=123\": invalid mount option",
                EngineErrorKind::Rejected,
            ),
            (
                500,
                "choosing an image from manifest list docker://x/y:1: no image found in manifest list for architecture \
                 amd64, variant \"\", OS linux",
                EngineErrorKind::WrongPlatform,
            ),
            (
                500,
                "container abc does not exist in database: no such container",
                EngineErrorKind::NotFound,
            ),
        ] {
            assert_eq!(kind_of_answer(status, message), kind, "{message}");
        }
    }
}
