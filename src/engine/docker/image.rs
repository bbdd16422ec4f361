//! Having the image on the engine.

use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;

use super::DockerEngine;
use super::convert::engine_error;
use super::credentials::{self, Login};
use crate::engine::reference::Reference;
use crate::engine::{ContainerSpec, Engine, EngineError, EngineErrorKind, Progress, ProgressFn, PullPolicy};
use crate::text;

/// A pull may take as long as it makes progress; after this long without any it has failed.
const PULL_SILENCE: Duration = Duration::from_secs(60);

/// Makes sure that the image is there and fits the engine.
pub(super) async fn prepare(
    engine: &DockerEngine,
    spec: &ContainerSpec,
    progress: &ProgressFn,
) -> Result<(), EngineError> {
    let image = &spec.image;
    let wanted = match &spec.platform {
        Some(platform) => platform.clone(),
        None => engine.check().await?.platform,
    };
    let there = match spec.pull {
        PullPolicy::Always => None,
        PullPolicy::Never | PullPolicy::IfMissing => inspect(engine, image).await?,
    };
    let found = match (there, spec.pull) {
        // One that is there for another platform than was asked for is not the one that was asked for.
        (Some(found), PullPolicy::IfMissing) if spec.platform.is_some() && !fits(&found, &wanted) => None,
        (Some(found), _) => Some(found),
        (None, PullPolicy::Never) => {
            return Err(EngineError::new(
                EngineErrorKind::ImageNotFound,
                format!("the image {image} is not on the engine, and pulling it is forbidden"),
            ));
        }
        (None, _) => None,
    };
    let found = match found {
        Some(found) => found,
        None => {
            pull(engine, spec, progress).await?;
            inspect(engine, image).await?.ok_or_else(|| {
                EngineError::new(
                    EngineErrorKind::ImageNotFound,
                    format!("the image {image} was pulled, but is not on the engine"),
                )
            })?
        }
    };
    // Found out here, since a container of the wrong architecture starts, and its PID 1 then dies with few words.
    if !fits(&found, &wanted) {
        return Err(EngineError::new(
            EngineErrorKind::WrongPlatform,
            format!(
                "the image {image} is for {}, and {wanted} is needed",
                platform_of(&found)
            ),
        ));
    }
    progress(Progress::ImageReady { image: image.clone() });
    Ok(())
}

async fn inspect(engine: &DockerEngine, image: &str) -> Result<Option<ImageInspect>, EngineError> {
    match engine.docker.inspect_image(image).await {
        Ok(found) => Ok(Some(found)),
        Err(error) => match engine_error("the engine did not describe the image", error) {
            error if matches!(error.kind(), EngineErrorKind::ImageNotFound | EngineErrorKind::NotFound) => Ok(None),
            error => Err(error),
        },
    }
}

async fn pull(engine: &DockerEngine, spec: &ContainerSpec, progress: &ProgressFn) -> Result<(), EngineError> {
    let image = &spec.image;
    let reference = Reference::parse(image).map_err(|problem| {
        EngineError::new(
            EngineErrorKind::Rejected,
            format!("`{image}` does not name an image: {problem}"),
        )
    })?;
    let Login { credentials, trouble } = credentials::of(&spec.registry_auth, reference.registry()).await;
    let failed = |begun, error| with_trouble(pull_error(image, begun, error), trouble.as_deref());
    // Without a tag the engine would pull every tag there is.
    let tag = (reference.tag.is_none() && reference.digest.is_none()).then(|| "latest".to_owned());
    let options = CreateImageOptions {
        from_image: Some(image.clone()),
        tag,
        platform: spec.platform.clone().unwrap_or_default(),
        ..Default::default()
    };
    let mut steps = engine.lines(|docker| docker.create_image(Some(options), None, credentials));
    // The engine tells the first step when it has the image's manifest.
    let mut begun = false;
    loop {
        let step = match tokio::time::timeout(PULL_SILENCE, steps.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(step))) => step,
            Ok(Some(Err(error))) => return Err(failed(begun, error)),
            Err(_) => {
                return Err(EngineError::new(
                    EngineErrorKind::Timeout,
                    format!("pulling {image} made no progress for {PULL_SILENCE:?}"),
                ));
            }
        };
        if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
            return Err(failed(begun, DockerError::DockerStreamError { error: message }));
        }
        if let Some(status) = step.status {
            begun = true;
            let status = match step.id {
                Some(layer) => format!("{layer}: {status}"),
                None => status,
            };
            progress(Progress::Pulling {
                image: image.clone(),
                status: text::clean(&status).into_owned(),
            });
        }
    }
}

/// What the engine says of an image that it has.
pub(super) async fn describe(engine: &DockerEngine, name: &str) -> Result<ImageInspect, EngineError> {
    let found = engine.docker.inspect_image(name).await;
    found.map_err(|error| engine_error("the engine did not describe the image", error))
}

/// Adds why there was no login to an error that a login may have kept from happening.
fn with_trouble(error: EngineError, trouble: Option<&str>) -> EngineError {
    match (error.kind(), trouble) {
        (kind @ (EngineErrorKind::LoginRefused | EngineErrorKind::ImageNotFound), Some(trouble)) => {
            EngineError::new(kind, format!("{error} ({trouble})"))
        }
        _ => error,
    }
}

/// What a failed pull means. The engine passes on what its own client of the registry said, most of it as a 500.
fn pull_error(image: &str, begun: bool, error: DockerError) -> EngineError {
    use EngineErrorKind as Kind;

    let answer = match &error {
        DockerError::DockerResponseServerError { message, .. } => Some(message.clone()),
        DockerError::DockerStreamError { error } => Some(error.clone()),
        // The engine itself is in trouble, not the registry.
        _ => None,
    };
    let error = engine_error(&format!("the image {image} could not be pulled"), error);
    let kind = match (error.kind(), answer) {
        // A 404 to a pull is about the image, whatever its words.
        (Kind::NotFound | Kind::ImageNotFound, _) => Kind::ImageNotFound,
        (Kind::WrongPlatform, _) | (_, None) => return error,
        (_, Some(words)) if says(&words, &LOGIN_WORDS) => Kind::LoginRefused,
        // Podman tells of no beginning; but something was read of what ends unexpectedly.
        (_, Some(words)) if says(&words, &NETWORK_WORDS) && (begun || words.contains("unexpected EOF")) => {
            Kind::PullInterrupted
        }
        (_, Some(words)) if says(&words, &NETWORK_WORDS) => Kind::RegistryUnreachable,
        _ => return error,
    };
    EngineError::new(kind, error.to_string())
}

fn says(message: &str, words: &[&str]) -> bool {
    words.iter().any(|words| message.contains(words))
}

/// How registries, and the engine's client of them, say that they want a login or another one.
const LOGIN_WORDS: [&str; 6] = [
    "unauthorized",
    "no basic auth credentials",
    "authentication required",
    "incorrect username or password",
    "denied: ",
    "403 Forbidden",
];

/// How the engine's client of registries says that it did not get through to one, or no longer does.
const NETWORK_WORDS: [&str; 14] = [
    "dial tcp",
    "connection refused",
    "connection reset",
    "broken pipe",
    "EOF",
    "timeout",
    "Timeout",
    "deadline exceeded",
    "no such host",
    "x509: ",
    "tls: ",
    "server gave HTTP response to HTTPS client",
    "received unexpected HTTP status: 5",
    "toomanyrequests",
];

/// As images and engines name it; empty where the image does not say.
fn platform_of(image: &ImageInspect) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&image.os), part(&image.architecture))
}

/// Whether an image is for a platform. A variant (`linux/arm/v7`) is left to the engine, as is an image that does not say.
fn fits(image: &ImageInspect, wanted: &str) -> bool {
    let mut parts = wanted.splitn(3, '/');
    let os_and_architecture = format!("{}/{}", parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    image.architecture.as_deref().is_none_or(str::is_empty) || platform_of(image) == os_and_architecture
}

#[cfg(test)]
mod tests {
    use super::*;
    use EngineErrorKind as Kind;

    fn kind(begun: bool, message: &str) -> Kind {
        let error = DockerError::DockerStreamError {
            error: message.to_owned(),
        };
        pull_error("image", begun, error).kind()
    }

    #[test]
    fn what_docker_hub_says_is_understood() {
        let denied = "pull access denied for a, repository does not exist or may require 'docker login': denied: \
                      requested access to the resource is denied";
        assert_eq!(kind(false, denied), Kind::ImageNotFound);
        assert_eq!(
            kind(false, "unauthorized: incorrect username or password"),
            Kind::LoginRefused
        );
        assert_eq!(
            kind(false, "toomanyrequests: You have reached your pull rate limit."),
            Kind::RegistryUnreachable
        );
        assert_eq!(
            kind(true, "write /var/lib/docker/tmp/x: no space left on device"),
            Kind::Internal
        );
    }

    #[test]
    fn platforms_are_compared_by_their_parts() {
        let image = ImageInspect {
            os: Some("linux".to_owned()),
            architecture: Some("arm".to_owned()),
            ..Default::default()
        };
        assert!(fits(&image, "linux/arm") && fits(&image, "linux/arm/v7"));
        assert!(!fits(&image, "linux/arm64") && !fits(&image, "windows/arm"));
        assert!(fits(&ImageInspect::default(), "linux/arm64"));
    }
}
