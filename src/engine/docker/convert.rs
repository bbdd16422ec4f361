//! Between this library's plain types and bollard's.

use std::collections::HashMap;
use std::error::Error as StdError;

use bollard::errors::Error as DockerError;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
};

use crate::engine::{ContainerReport, ContainerState, EngineError, EngineErrorKind, Selector};

/// The filters of list and event calls; they name an id differently.
pub(super) fn filters(selector: &Selector, id_filter: &str) -> HashMap<String, Vec<String>> {
    let mut filters = HashMap::new();
    if !selector.labels.is_empty() {
        let labels = selector.labels.iter().map(|(key, value)| format!("{key}={value}"));
        filters.insert("label".to_owned(), labels.collect());
    }
    if let Some(id) = &selector.id {
        filters.insert(id_filter.to_owned(), vec![id.clone()]);
    }
    filters
}

pub(super) fn report_of_inspect(found: ContainerInspectResponse) -> ContainerReport {
    let state = found.state.unwrap_or_default();
    let config = found.config.unwrap_or_default();
    let mut report = ContainerReport::new(
        found.id.unwrap_or_default(),
        found.name.unwrap_or_default().trim_start_matches('/'),
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
    // Before the end the engine gives 0, which is no exit code.
    if matches!(report.state, ContainerState::Exited | ContainerState::Dead) {
        report.exit_code = state.exit_code;
    }
    report.image = config.image.unwrap_or_default();
    report.labels = config.labels.unwrap_or_default();
    report
}

pub(super) fn report_of_summary(found: ContainerSummary) -> ContainerReport {
    let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    let mut report = ContainerReport::new(
        found.id.unwrap_or_default(),
        name.trim_start_matches('/'),
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
    report
}

/// What a failed call means. `what` says what did not happen; the engine's own words are added where it answered, and
/// are the source where it did not.
pub(super) fn engine_error(what: &str, error: DockerError) -> EngineError {
    use EngineErrorKind as Kind;

    let kind = match &error {
        DockerError::DockerResponseServerError { status_code, message } => {
            return EngineError::new(
                kind_of_answer(*status_code, message),
                format!("{what}: {}", message.trim()),
            );
        }
        DockerError::DockerStreamError { error } => {
            return EngineError::new(kind_of_answer(500, error), format!("{what}: {}", error.trim()));
        }
        DockerError::RequestTimeoutError => Kind::Timeout,
        DockerError::SocketNotFoundError(_) => Kind::Unreachable,
        #[cfg(feature = "tls")]
        error if any_cause(error, super::tls::is_tls) => Kind::Untrusted,
        error if any_cause(error, super::ssh::is_tunnel) => Kind::Unreachable,
        DockerError::IOError { .. } => Kind::Protocol,
        DockerError::HyperLegacyError { err } if err.is_connect() => Kind::Unreachable,
        DockerError::HyperLegacyError { .. } | DockerError::HyperResponseError { .. } => Kind::Protocol,
        DockerError::UnsupportedURISchemeError { .. } => Kind::Unsupported,
        DockerError::JsonDataError { .. } | DockerError::JsonSerdeError { .. } => Kind::Protocol,
        DockerError::HttpClientError { .. } | DockerError::InvalidURIError { .. } => Kind::Rejected,
        _ => Kind::Internal,
    };
    EngineError::new(kind, what).with_source(error)
}

/// Whether the error or anything that caused it is of some kind.
fn any_cause(error: &DockerError, is: fn(&(dyn StdError + 'static)) -> bool) -> bool {
    std::iter::successors(Some(error as &(dyn StdError + 'static)), |&error| error.source()).any(is)
}

/// The engine's status codes say little, and its messages are what its own command line goes by.
fn kind_of_answer(status: u16, message: &str) -> EngineErrorKind {
    use EngineErrorKind as Kind;

    let says = |words: &str| message.contains(words);
    if says("No such image")
        || says("manifest unknown")
        || says("pull access denied")
        || says("repository does not exist")
    {
        return Kind::ImageNotFound;
    }
    if says("no matching manifest") || says("does not match the specified platform") {
        return Kind::WrongPlatform;
    }
    if says("executable file not found")
        || says("OCI runtime exec failed")
        || (says("OCI runtime create failed") && (says("no such file or directory") || says("permission denied")))
        || says("unable to find user")
        || says("unable to find group")
    {
        return Kind::CannotStart;
    }
    match status {
        404 => Kind::NotFound,
        409 | 304 => Kind::Conflict,
        400..=499 => Kind::Rejected,
        501 => Kind::Unsupported,
        _ => Kind::Internal,
    }
}
