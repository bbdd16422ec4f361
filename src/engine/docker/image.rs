//! Images: checks, pulls, and descriptions.

use std::time::Duration;

use bollard::errors::Error as DockerError;
use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;

use super::convert::engine_error;
use super::credentials::{self, Login};
use super::pull_words::{self, Failure};
use super::{DockerEngine, versions, words};
use crate::engine::reference::Reference;
use crate::engine::{Engine, EngineError, EngineErrorKind, Image, Progress, ProgressFn, PullPolicy};
use crate::values::shown::Rounded;
use crate::values::text;

/// A pull may take as long as it makes progress, and fails after this long without any.
const PULL_SILENCE: Duration = Duration::from_secs(60);

/// Makes sure that the image is on the engine and fits the platform.
pub(super) async fn prepare(engine: &DockerEngine, asked: &Image, progress: &ProgressFn) -> Result<(), EngineError> {
    let image = &asked.name;
    let wanted = match &asked.platform {
        Some(platform) => platform.clone(),
        None => engine.check().await?.platform,
    };
    let there = match asked.pull {
        PullPolicy::Always => None,
        PullPolicy::Never | PullPolicy::IfMissing => find(engine, asked).await?,
    };
    let found = match (there, asked.pull) {
        // An image of another platform than the requested one does not count. Without a requested platform, an index does
        // not count either if it lacks the engine's platform: a pull adds to an index, and removes nothing from it.
        (Some(found), PullPolicy::IfMissing)
            if (asked.platform.is_some() || is_index(&found)) && !fits(&found, &wanted) =>
        {
            None
        }
        (Some(found), _) => Some(found),
        (None, PullPolicy::Never) => {
            let message = format!("the image {image} is not on the engine, and pulling it is forbidden");
            let error = EngineError::new(EngineErrorKind::ImageNotFound, message);
            return Err(error.advise("pull the image, or allow that with PullPolicy::IfMissing"));
        }
        (None, _) => None,
    };
    let found = match found {
        Some(found) => found,
        None => {
            pull(engine, asked, progress).await?;
            describe(engine, asked).await?
        }
    };
    // The check is needed because a container of the wrong architecture starts, and its PID 1 then dies with an obscure
    // message.
    if !fits(&found, &wanted) {
        return Err(EngineError::new(
            EngineErrorKind::WrongPlatform,
            format!(
                "the image {image} is for {}, but {wanted} is needed",
                platform_of(&found)
            ),
        ));
    }
    progress(Progress::ImageReady { image: image.clone() });
    Ok(())
}

/// Returns the engine's description of the image, for the requested platform if the engine can select one. `None`: the image
/// is missing, or is for another platform.
async fn find(engine: &DockerEngine, asked: &Image) -> Result<Option<ImageInspect>, EngineError> {
    match describe(engine, asked).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), EngineErrorKind::ImageNotFound | EngineErrorKind::NotFound) => Ok(None),
        // An index in containerd's store may only have other platforms. A pull adds this one.
        Err(error) if error.kind() == EngineErrorKind::WrongPlatform && asked.pull != PullPolicy::Never => Ok(None),
        Err(error) => Err(error),
    }
}

async fn pull(engine: &DockerEngine, asked: &Image, progress: &ProgressFn) -> Result<(), EngineError> {
    let image = &asked.name;
    let reference = Reference::parse(image).map_err(|problem| {
        EngineError::new(
            EngineErrorKind::Rejected,
            format!("`{image}` does not name an image: {problem}"),
        )
    })?;
    let Login { credentials, trouble } = credentials::of(&asked.registry_auth, reference.registry()).await;
    let with_login = credentials.is_some();
    let failed = |begun, error| with_trouble(pull_error(image, with_login, begun, error), trouble.as_deref());
    // Without a tag the engine would pull every tag there is.
    let tag = (reference.tag.is_none() && reference.digest.is_none()).then(|| "latest".to_owned());
    let options = CreateImageOptions {
        from_image: Some(image.clone()),
        tag,
        platform: asked.platform.clone().unwrap_or_default(),
        ..Default::default()
    };
    let mut steps = engine.lines(|docker| docker.create_image(Some(options), None, credentials));
    // The engine reports its first step when it has the image's manifest.
    let mut begun = false;
    // bollard skips the `error` field of a line, and Podman before 5 reports a failure in that field only. Both engines end
    // a successful pull with a status.
    let mut ends_with_status = true;
    loop {
        let step = match tokio::time::timeout(PULL_SILENCE, steps.next()).await {
            Ok(None) if !ends_with_status => {
                // A failure is the last line.
                return Err(EngineError::new(
                    EngineErrorKind::Internal,
                    format!(
                        "{}: the engine reported a failure without a message",
                        could_not_be_pulled(image)
                    ),
                ));
            }
            Ok(None) => return Ok(()),
            Ok(Some(Ok(step))) => step,
            Ok(Some(Err(error))) => return Err(failed(begun, error)),
            Err(_) => {
                return Err(EngineError::new(
                    EngineErrorKind::Timeout,
                    format!("pulling {image} made no progress for {}", Rounded(PULL_SILENCE)),
                ));
            }
        };
        if let Some(detail) = &step.error_detail {
            let message = detail.message.clone().filter(|message| !message.is_empty());
            let error = message.unwrap_or_else(|| "the engine did not say why".to_owned());
            return Err(failed(begun, DockerError::DockerStreamError { error }));
        }
        ends_with_status = step.status.is_some();
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

/// Describes an image that is on the engine, for the requested platform.
pub(super) async fn describe(engine: &DockerEngine, asked: &Image) -> Result<ImageInspect, EngineError> {
    const WHAT: &str = "the engine did not describe the image";
    let image = &asked.name;
    let version = engine.agreed.get();
    let knows_platforms = !engine.is_podman && version.is_some_and(|version| version >= versions::IMAGE_PLATFORM);
    let platform = asked
        .platform
        .as_deref()
        .filter(|_| knows_platforms)
        .and_then(Platform::parse);
    let found = match &platform {
        // One name in containerd's store may stand for images of several platforms. Without a parameter the engine describes
        // the image of its own platform.
        //
        // bollard has no such parameter, and puts the name into the path unescaped. The end of bollard's own path becomes
        // the value of a parameter that no engine knows.
        Some(platform) => {
            let name = format!("{image}/json?platform={}&_=", platform.encoded());
            engine.docker.inspect_image(&name).await
        }
        None => engine.docker.inspect_image(image).await,
    };
    let found = found.map_err(|error| engine_error(WHAT, error))?;
    // Only containerd's store reports a descriptor. Here the store has the name, but no image for the engine's own platform.
    if found.descriptor.is_some() && found.config.is_none() {
        let wanted = asked.platform.as_deref().unwrap_or("the engine's platform");
        let words = format!("{WHAT}: the images of {image} are not for {wanted}");
        return Err(EngineError::new(EngineErrorKind::WrongPlatform, words));
    }
    Ok(found)
}

/// Returns whether the name stands for images of several platforms, some of which may be missing: in containerd's store.
fn is_index(found: &ImageInspect) -> bool {
    let kind = found
        .descriptor
        .as_ref()
        .and_then(|target| target.media_type.as_deref());
    kind.is_some_and(|kind| kind.contains("index") || kind.contains("manifest.list"))
}

/// Adds the reason for a missing login to an error that the login may have prevented.
fn with_trouble(error: EngineError, trouble: Option<&str>) -> EngineError {
    match (error.kind(), trouble) {
        (kind @ (EngineErrorKind::LoginRefused | EngineErrorKind::ImageNotFound), Some(trouble)) => {
            // The obstacle to a login is to be mended.
            EngineError::new(kind, format!("{error} ({trouble})")).advise("")
        }
        _ => error,
    }
}

/// Translates the failure of a pull. The engine passes on the words of its own registry client, mostly with the status 500.
fn pull_error(image: &str, with_login: bool, begun: bool, error: DockerError) -> EngineError {
    let (words, status) = match &error {
        DockerError::DockerResponseServerError { message, status_code } => {
            (words::shortened(message), Some(*status_code))
        }
        DockerError::DockerStreamError { error } => (words::shortened(error), None),
        // The engine itself has failed, not the registry.
        _ => return engine_error(&could_not_be_pulled(image), error),
    };
    let words = words.into_owned();
    let error = engine_error(&could_not_be_pulled(image), error);
    let failure = Failure {
        image,
        words: &words,
        status,
        with_login,
        begun,
    };
    let error = EngineError::new(pull_words::kind_of(&failure, error.kind()), error.to_string());
    match error.kind() {
        // Many registries say the same of an image that needs a login.
        EngineErrorKind::ImageNotFound if !with_login => {
            error.advise("is the name right? a private image needs a login: see registry_auth(), or `docker login`")
        }
        EngineErrorKind::ImageNotFound => error.advise("is the name right, and may this login pull it?"),
        _ => error,
    }
}

fn could_not_be_pulled(image: &str) -> String {
    format!("the image {image} could not be pulled")
}

/// Holds an operating system and an architecture, as engines and registries name them.
#[derive(Debug, PartialEq, Eq)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// Parses `os/architecture[/variant]`. Accepts the aliases of some architectures that engines accept.
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let mut parts = text.splitn(3, '/');
        let (os, architecture) = (parts.next()?, parts.next()?);
        let (architecture, implied) = match architecture {
            "aarch64" => ("arm64", None),
            "x86_64" | "x86-64" => ("amd64", None),
            "i386" => ("386", None),
            "armhf" => ("arm", Some("v7")),
            "armel" => ("arm", Some("v6")),
            other => (other, None),
        };
        let named = !os.is_empty() && !architecture.is_empty();
        named.then(|| Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: parts.next().or(implied).map(str::to_owned),
        })
    }

    /// Returns the platform encoded as a value in a query.
    fn encoded(&self) -> String {
        let mut json = serde_json::json!({"os": self.os, "architecture": self.architecture});
        if let Some(variant) = &self.variant {
            json["variant"] = variant.clone().into();
        }
        let bytes = json.to_string().into_bytes();
        bytes.into_iter().map(|byte| format!("%{byte:02X}")).collect()
    }
}

/// Returns the image's platform as engines name it; empty if the image has none.
fn platform_of(image: &ImageInspect) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&image.os), part(&image.architecture))
}

/// Returns whether an image is for a platform. The engine checks the variant (`linux/arm/v7`), and an image without a
/// platform fits.
fn fits(image: &ImageInspect, wanted: &str) -> bool {
    let wanted = match Platform::parse(wanted) {
        Some(wanted) => format!("{}/{}", wanted.os, wanted.architecture),
        None => wanted.to_owned(),
    };
    image.architecture.as_deref().is_none_or(str::is_empty) || platform_of(image) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_compared_by_their_parts() {
        let image = |architecture: &str| ImageInspect {
            os: Some("linux".to_owned()),
            architecture: Some(architecture.to_owned()),
            ..Default::default()
        };
        let arm = image("arm");
        assert!(fits(&arm, "linux/arm") && fits(&arm, "linux/arm/v7") && fits(&arm, "linux/armhf"));
        assert!(!fits(&arm, "linux/arm64") && !fits(&arm, "windows/arm") && !fits(&arm, "arm"));
        assert!(fits(&image("arm64"), "linux/aarch64") && fits(&image("amd64"), "Linux/x86_64"));
        assert!(fits(&ImageInspect::default(), "linux/arm64"));
    }

    #[test]
    fn a_platform_in_a_query_is_one_value_whatever_is_in_it() {
        let decoded = |text: &str| {
            let encoded = Platform::parse(text).unwrap().encoded();
            let bytes = encoded
                .split('%')
                .skip(1)
                .map(|byte| u8::from_str_radix(byte, 16).unwrap());
            serde_json::from_slice::<serde_json::Value>(&bytes.collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(
            decoded("linux/amd64"),
            serde_json::json!({"os": "linux", "architecture": "amd64"})
        );
        let with_variant = serde_json::json!({"os": "linux", "architecture": "arm", "variant": "v7"});
        assert_eq!(decoded("linux/arm/v7"), with_variant);
        assert_eq!(decoded("linux/armhf"), with_variant);
        assert_eq!(decoded("a&b=/c#%/\"")["variant"], "\"");
        for bad in ["", "linux", "arm64", "/amd64", "linux/"] {
            assert_eq!(Platform::parse(bad), None, "{bad}");
        }
    }
}
