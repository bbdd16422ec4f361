//! The fate of the image's `ENTRYPOINT`: [`Entrypoint`].

use super::container_spec::ContainerSpec;
use super::raw_config;
use crate::engine::ImageInfo;

/// Says what becomes of the image's `ENTRYPOINT`; for [`entrypoint`](crate::ContainerSpec::entrypoint).
///
/// # Examples
///
/// ```
/// use dockerpool::{Entrypoint, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// // The image's script starts what it is given, which commands of leases do not need.
/// let builder = Pool::builder("scripts").image("node:22-alpine").entrypoint(Entrypoint::Ignore);
/// # let builder = builder.engine(engine);
/// let pool = builder.build().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Entrypoint {
    /// The image's `ENTRYPOINT` runs only as a part of a [supervised](crate::ContainerSpec::supervise_command) command. If the image
    /// has one that is not run, building a pool warns. The default.
    #[default]
    Warn,
    /// The same, without a warning.
    Ignore,
}

impl ContainerSpec {
    /// Returns the warning for an `ENTRYPOINT` of the image that is neither run nor declined.
    pub(crate) fn warning_of_entrypoint(&self, image: &ImageInfo) -> Option<String> {
        let program = image.entrypoint.as_ref()?.first()?;
        let (raw, _) = raw_config::of(self);
        if self.entrypoint == Entrypoint::Ignore || raw.entrypoint.is_some() {
            return None;
        }
        let instead = match (self.supervise, &self.cmd) {
            (true, None) => return None,
            (true, Some(_)) => "cmd() is run in its place: begin that with it",
            (false, Some(_)) => "cmd() is run in its place: begin that with it, or leave it to supervise_command(true)",
            (false, None) => "supervise_command(true) runs it",
        };
        Some(format!(
            "the ENTRYPOINT of the image {}, `{program}`, is not run ({instead}; entrypoint(Entrypoint::Ignore) declines it)",
            self.image
        ))
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ContainerCreateBody;

    use super::*;

    #[test]
    fn an_entrypoint_that_is_neither_run_nor_declined_is_warned_of() {
        let mut image = ImageInfo::default();
        let spec = || ContainerSpec::new("any");
        let is_warned = |spec: &ContainerSpec, image: &ImageInfo| {
            let warning = spec.warning_of_entrypoint(image);
            warning.is_some_and(|warning| warning.contains("`entry`"))
        };
        assert!(!is_warned(&spec(), &image), "not known");
        image.entrypoint = Some(Vec::new());
        assert!(!is_warned(&spec(), &image), "there is none");
        image.entrypoint = Some(vec!["entry".to_owned(), "-x".to_owned()]);
        assert!(is_warned(&spec(), &image));
        assert!(is_warned(&spec().cmd(["serve"]), &image));
        assert!(is_warned(&spec().cmd(["serve"]).supervise_command(true), &image));
        assert!(!is_warned(&spec().supervise_command(true), &image));
        assert!(!is_warned(&spec().entrypoint(Entrypoint::Ignore), &image));
        let raw = spec().docker_config(ContainerCreateBody {
            entrypoint: Some(vec!["mine".to_owned()]),
            ..Default::default()
        });
        assert!(!is_warned(&raw, &image), "it was replaced");
    }
}
