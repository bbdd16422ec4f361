//! Between this library's plain types and bollard's.

use std::collections::HashMap;
use std::error::Error as StdError;

use bollard::errors::Error as DockerError;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, HostConfigLogConfig,
};

use crate::engine::{ContainerReport, ContainerSpec, ContainerState, EngineError, EngineErrorKind, Selector};

/// PID 1 of a container with a lifeline: reads its standard input to the end, and ends.
const LIFELINE_PID1: &str = "cat";

/// The body of the create call: the raw configuration, overridden by what the typed setters were given, completed by
/// the defaults of a sandbox, and with what the library needs for itself.
pub(super) fn create_body(spec: &ContainerSpec) -> ContainerCreateBody {
    let mut body = spec.docker_config.clone();
    let mut host = spec.host_config.clone();

    body.image = Some(spec.image.clone());
    if let Some(user) = &spec.user {
        body.user = Some(user.clone());
    }
    if let Some(dir) = &spec.working_dir {
        body.working_dir = Some(dir.clone());
    }
    if !spec.env.is_empty() {
        let mut env = body.env.take().unwrap_or_default();
        env.retain(|raw| spec.env.iter().all(|(name, _)| raw.split('=').next() != Some(name)));
        env.extend(spec.env.iter().map(|(name, value)| format!("{name}={value}")));
        body.env = Some(env);
    }
    let mut labels = body.labels.take().unwrap_or_default();
    labels.extend(spec.labels().map(|(name, value)| (name.to_owned(), value.to_owned())));
    body.labels = Some(labels);

    if let Some(bytes) = spec.memory.and_then(|bytes| i64::try_from(bytes).ok()) {
        host.memory = Some(bytes);
        // The engine's default would allow as much swap again.
        host.memory_swap = Some(bytes);
    }
    if let Some(cpus) = spec.cpus {
        // The builder has checked the range.
        host.nano_cpus = Some((cpus * 1e9) as i64);
    }
    if let Some(pids) = spec.pids {
        host.pids_limit = Some(i64::from(pids));
    }
    // Reaps the zombies that a PID 1 not made for it leaves, which would count against the pids limit.
    host.init.get_or_insert(true);
    host.network_mode.get_or_insert_with(|| "none".to_owned());
    host.security_opt
        .get_or_insert_with(|| vec!["no-new-privileges".to_owned()]);
    // The default driver would write PID 1's output to the engine's disk.
    host.log_config.get_or_insert_with(|| HostConfigLogConfig {
        typ: Some("none".to_owned()),
        config: None,
    });

    // An entrypoint, not a command: the image's own entrypoint must not be put before it.
    if let Some(cmd) = &spec.cmd {
        body.entrypoint = Some(cmd.clone());
        body.cmd = None;
    } else if spec.has_lifeline() {
        body.entrypoint = Some(vec![LIFELINE_PID1.to_owned()]);
        body.open_stdin = Some(true);
        body.stdin_once = Some(true);
        body.tty = Some(false);
        host.auto_remove = Some(true);
    }
    body.host_config = Some(host);
    body
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::HostConfig;

    #[test]
    fn the_defaults_are_a_sandbox_with_a_lifeline() {
        let body = create_body(&ContainerSpec::new("busybox"));
        let host = body.host_config.unwrap();
        assert_eq!(host.network_mode.as_deref(), Some("none"));
        assert_eq!(host.memory, Some(512 << 20));
        assert_eq!(host.memory_swap, host.memory);
        assert_eq!(host.pids_limit, Some(512));
        assert_eq!(host.security_opt, Some(vec!["no-new-privileges".to_owned()]));
        assert_eq!((host.init, host.auto_remove), (Some(true), Some(true)));
        assert_eq!((body.open_stdin, body.stdin_once), (Some(true), Some(true)));
        assert_eq!(body.entrypoint, Some(vec!["cat".to_owned()]));
    }

    #[test]
    fn setters_win_over_the_raw_configuration_and_it_wins_over_defaults() {
        let spec = ContainerSpec::new("busybox")
            .docker_config(ContainerCreateBody {
                env: Some(vec!["A=raw".into(), "B=raw".into()]),
                user: Some("raw".into()),
                hostname: Some("raw".into()),
                ..Default::default()
            })
            .host_config(HostConfig {
                network_mode: Some("bridge".into()),
                pids_limit: Some(7),
                ..Default::default()
            })
            .env("A", "typed")
            .user("typed");
        let body = create_body(&spec);
        let host = body.host_config.unwrap();
        assert_eq!(body.env, Some(vec!["B=raw".to_owned(), "A=typed".to_owned()]));
        assert_eq!(body.user.as_deref(), Some("typed"));
        assert_eq!(body.hostname.as_deref(), Some("raw"));
        assert_eq!(host.network_mode.as_deref(), Some("bridge"));
        assert_eq!(host.pids_limit, Some(7));
    }

    #[test]
    fn a_command_of_the_users_own_has_no_lifeline_and_is_not_removed_by_the_engine() {
        let body = create_body(&ContainerSpec::new("busybox").cmd(["sleep", "60"]));
        assert_eq!(body.entrypoint, Some(vec!["sleep".to_owned(), "60".to_owned()]));
        assert_eq!(body.open_stdin, None);
        assert_eq!(body.host_config.unwrap().auto_remove, None);
    }
}
