//! Having the image on the engine.

use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;

use super::DockerEngine;
use super::convert::engine_error;
use crate::engine::{ContainerSpec, Engine, EngineError, EngineErrorKind, Progress, ProgressFn, PullPolicy};

/// A pull may take as long as it makes progress; after this long without any it has failed.
const PULL_SILENCE: Duration = Duration::from_secs(60);

/// Makes sure that the image is there and fits the engine.
pub(super) async fn prepare(
    engine: &DockerEngine,
    spec: &ContainerSpec,
    progress: &ProgressFn,
) -> Result<(), EngineError> {
    let image = &spec.image;
    let there = match spec.pull {
        PullPolicy::Always => None,
        PullPolicy::Never | PullPolicy::IfMissing => inspect(engine, image).await?,
    };
    let found = match (there, spec.pull) {
        (Some(found), _) => found,
        (None, PullPolicy::Never) => {
            return Err(EngineError::new(
                EngineErrorKind::ImageNotFound,
                format!("the image {image} is not on the engine, and pulling it is forbidden"),
            ));
        }
        (None, _) => {
            pull(engine, spec, progress).await?;
            inspect(engine, image).await?.ok_or_else(|| {
                EngineError::new(
                    EngineErrorKind::ImageNotFound,
                    format!("the image {image} was pulled, but is not on the engine"),
                )
            })?
        }
    };
    check_platform(engine, spec, &found).await?;
    progress(Progress::ImageReady { image: image.clone() });
    Ok(())
}

async fn inspect(engine: &DockerEngine, image: &str) -> Result<Option<ImageInspect>, EngineError> {
    match engine.bollard().inspect_image(image).await {
        Ok(found) => Ok(Some(found)),
        Err(error) => match engine_error("the engine did not describe the image", error) {
            error if matches!(error.kind(), EngineErrorKind::ImageNotFound | EngineErrorKind::NotFound) => Ok(None),
            error => Err(error),
        },
    }
}

async fn pull(engine: &DockerEngine, spec: &ContainerSpec, progress: &ProgressFn) -> Result<(), EngineError> {
    let image = &spec.image;
    // Without a tag the engine would pull every tag there is.
    let last_part = image.rsplit('/').next().unwrap_or(image);
    let tag = (!last_part.contains(':') && !image.contains('@')).then(|| "latest".to_owned());
    let mut steps = engine.bollard().create_image(
        Some(CreateImageOptions {
            from_image: Some(image.clone()),
            tag,
            platform: spec.platform.clone().unwrap_or_default(),
            ..Default::default()
        }),
        None,
        None,
    );
    loop {
        let step = match tokio::time::timeout(PULL_SILENCE, steps.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(step))) => step,
            Ok(Some(Err(error))) => return Err(pull_error(image, error)),
            Err(_) => {
                return Err(EngineError::new(
                    EngineErrorKind::Timeout,
                    format!("pulling {image} made no progress for {PULL_SILENCE:?}"),
                ));
            }
        };
        if let Some(message) = step.error_detail.and_then(|detail| detail.message) {
            return Err(pull_error(
                image,
                bollard::errors::Error::DockerStreamError { error: message },
            ));
        }
        if let Some(status) = step.status {
            let status = match step.id {
                Some(layer) => format!("{layer}: {status}"),
                None => status,
            };
            progress(Progress::Pulling {
                image: image.clone(),
                status,
            });
        }
    }
}

/// A 404 to a pull is about the image, whatever its words.
fn pull_error(image: &str, error: bollard::errors::Error) -> EngineError {
    let error = engine_error(
        &format!("the image {image} is not on the engine and could not be pulled"),
        error,
    );
    match error.kind() {
        EngineErrorKind::NotFound => EngineError::new(EngineErrorKind::ImageNotFound, error.to_string()),
        _ => error,
    }
}

/// Found out here, since a container of the wrong architecture starts, and its PID 1 then dies with few words.
async fn check_platform(engine: &DockerEngine, spec: &ContainerSpec, image: &ImageInspect) -> Result<(), EngineError> {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let of_image = format!("{}/{}", part(&image.os), part(&image.architecture));
    let wanted = match &spec.platform {
        Some(platform) => platform.clone(),
        None => engine.check().await?.platform,
    };
    // An image that does not say, or a variant (`linux/arm/v7`) we cannot compare, is left to the engine.
    let fits = wanted.starts_with(&of_image) || image.architecture.as_deref().is_none_or(str::is_empty);
    if fits {
        return Ok(());
    }
    Err(EngineError::new(
        EngineErrorKind::WrongPlatform,
        format!("the image {} is for {of_image}, and {wanted} is needed", spec.image),
    ))
}
