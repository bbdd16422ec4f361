//! What a container is to be like, in plain data.

use std::collections::BTreeMap;

use bollard::models::{ContainerCreateBody, HostConfig};

use super::reference::Reference;
use super::{AuthKind, RegistryAuth};
use crate::error::FieldError;
use crate::labels;

/// When to pull the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PullPolicy {
    /// Never: it must be on the engine.
    Never,
    /// Only if it is not on the engine yet.
    #[default]
    IfMissing,
    /// Every time a pool is built, so that a moved tag is followed.
    Always,
}

/// What a container is to be like: image, PID 1, limits, environment, labels.
///
/// The defaults are those of a sandbox: no network, at most 512 MiB of memory (and no swap), at most 512 processes, no
/// gaining of privileges by set-uid programs, and a PID 1 of the library's own that ends when this process ends.
///
/// A raw Docker configuration can be given beside the typed setters, see [`docker_config`](Self::docker_config).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ContainerSpec {
    pub(crate) image: String,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) pull: PullPolicy,
    pub(crate) platform: Option<String>,
    pub(crate) registry_auth: RegistryAuth,
    pub(crate) memory: Option<u64>,
    pub(crate) cpus: Option<f64>,
    pub(crate) pids: Option<u32>,
    pub(crate) user: Option<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Labels under the reserved prefix, set by the library.
    pub(crate) own_labels: BTreeMap<String, String>,
    pub(crate) docker_config: ContainerCreateBody,
    pub(crate) host_config: HostConfig,
}

impl ContainerSpec {
    /// The default memory limit in bytes: 512 MiB.
    pub const DEFAULT_MEMORY: u64 = 512 << 20;
    /// The default limit of processes (threads count).
    pub const DEFAULT_PIDS: u32 = 512;
    /// The smallest memory limit the Docker engine takes, in bytes: 6 MiB.
    pub const MIN_MEMORY: u64 = 6 << 20;

    /// A container of this image, with the defaults of a sandbox. The image is named as everywhere with Docker:
    /// `[registry/]name[:tag][@sha256:digest]`; without a tag or a digest, `latest` is meant.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            cmd: None,
            pull: PullPolicy::default(),
            platform: None,
            registry_auth: RegistryAuth::default(),
            memory: Some(Self::DEFAULT_MEMORY),
            cpus: None,
            pids: Some(Self::DEFAULT_PIDS),
            user: None,
            working_dir: None,
            env: Vec::new(),
            labels: BTreeMap::new(),
            own_labels: BTreeMap::new(),
            docker_config: ContainerCreateBody::default(),
            host_config: HostConfig::default(),
        }
    }

    /// PID 1 of the container, in place of the library's own. It must keep running; it need not do anything.
    ///
    /// The library's own PID 1 reads an attached standard input and ends with it, so that the container is gone soon
    /// after this process is, however it ended. With a command of your own there is no such lifeline: containers of an
    /// owner that was killed stay until somebody removes them (they carry the label
    /// [`labels::MANAGED_BY`](crate::labels::MANAGED_BY)).
    #[must_use]
    pub fn cmd<I, A>(mut self, cmd: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        self.cmd = Some(cmd.into_iter().map(Into::into).collect());
        self
    }

    /// When to pull the image. Default: [`PullPolicy::IfMissing`].
    #[must_use]
    pub fn pull(mut self, policy: PullPolicy) -> Self {
        self.pull = policy;
        self
    }

    /// The image's platform where it is not the engine's own, e.g. `linux/arm64` under an emulator. An image of that name
    /// on the engine that is for another platform counts as missing.
    #[must_use]
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.platform = Some(platform.into());
        self
    }

    /// How the registry is told who pulls. Default: by the user's Docker configuration, as for `docker pull`.
    #[must_use]
    pub fn registry_auth(mut self, auth: RegistryAuth) -> Self {
        self.registry_auth = auth;
        self
    }

    /// Memory limit in bytes; swap is not added to it. `None`: unlimited. Default: [`Self::DEFAULT_MEMORY`].
    #[must_use]
    pub fn memory(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.memory = bytes.into();
        self
    }

    /// How many cpus' worth of time it may use, e.g. `0.5`. `None` (the default): as many as there are.
    #[must_use]
    pub fn cpus(mut self, cpus: impl Into<Option<f64>>) -> Self {
        self.cpus = cpus.into();
        self
    }

    /// How many processes and threads it may have, PID 1 among them. `None`: unlimited. Default:
    /// [`Self::DEFAULT_PIDS`].
    #[must_use]
    pub fn pids_limit(mut self, pids: impl Into<Option<u32>>) -> Self {
        self.pids = pids.into();
        self
    }

    /// The user PID 1 and the commands run as: `user[:group]`, by name or number. Default: the image's.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The working directory of PID 1 and of the commands, absolute. Default: the image's.
    #[must_use]
    pub fn working_dir(mut self, dir: impl Into<String>) -> Self {
        self.working_dir = Some(dir.into());
        self
    }

    /// Adds an environment variable; the last value given for a name counts.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// Adds a label. Names that begin with [`labels::PREFIX`](crate::labels::PREFIX) are the library's own and are
    /// refused.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// A raw Docker configuration as the base, for what has no setter here. What a typed setter was given (and what the
    /// library needs for itself: labels under its prefix, PID 1's standard input, automatic removal, no log file) wins
    /// over it; the sandbox defaults apply where it says nothing. Its `host_config` is used unless
    /// [`host_config`](Self::host_config) is given.
    #[must_use]
    pub fn docker_config(mut self, config: ContainerCreateBody) -> Self {
        if let Some(host) = &config.host_config {
            self.host_config = host.clone();
        }
        self.drop_defaults_set_in_host_config();
        self.docker_config = config;
        self
    }

    /// A raw Docker host configuration as the base, under the same rule as [`docker_config`](Self::docker_config).
    #[must_use]
    pub fn host_config(mut self, config: HostConfig) -> Self {
        self.host_config = config;
        self.drop_defaults_set_in_host_config();
        self
    }

    /// A default of ours must not win over a value the user wrote into the raw configuration.
    fn drop_defaults_set_in_host_config(&mut self) {
        if self.host_config.memory.is_some() && self.memory == Some(Self::DEFAULT_MEMORY) {
            self.memory = None;
        }
        if self.host_config.pids_limit.is_some() && self.pids == Some(Self::DEFAULT_PIDS) {
            self.pids = None;
        }
    }

    /// The image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// All labels a container of this spec carries, by name.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels
            .iter()
            .chain(&self.own_labels)
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether containers of this spec end with their owner: no PID 1 of the user's own was given.
    pub fn has_lifeline(&self) -> bool {
        self.cmd.is_none() && self.docker_config.cmd.is_none() && self.docker_config.entrypoint.is_none()
    }

    /// Everything that is wrong with it, by field.
    pub(crate) fn problems(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut bad = |field: &str, problem: &str| found.push(FieldError::new(field, problem));

        if let Err(problem) = Reference::parse(&self.image) {
            bad("image", &problem);
        }
        match &self.registry_auth.0 {
            AuthKind::Password { username, .. } if username.is_empty() => {
                bad("registry_auth", "the user name must not be empty");
            }
            AuthKind::IdentityToken(token) if token.is_empty() => bad("registry_auth", "the token must not be empty"),
            _ => {}
        }
        match self.cmd.as_deref() {
            Some([]) => bad("cmd", "must not be empty"),
            Some([program, ..]) if program.is_empty() => bad("cmd", "the program must not be empty"),
            Some(words) if words.iter().any(|word| word.contains('\0')) => bad("cmd", "must not contain NUL"),
            _ => {}
        }
        if self.memory.is_some_and(|bytes| bytes < Self::MIN_MEMORY) {
            bad("memory", "must be at least 6 MiB");
        }
        if self.memory.is_some_and(|bytes| i64::try_from(bytes).is_err()) {
            bad("memory", "must fit in 63 bits");
        }
        if self
            .cpus
            .is_some_and(|cpus| !(cpus.is_finite() && (0.01..=1e6).contains(&cpus)))
        {
            bad("cpus", "must be a number from 0.01 up");
        }
        if self.pids == Some(0) {
            bad("pids_limit", "must be at least 1");
        }
        if let Some(user) = &self.user {
            check_text(&mut bad, "user", user);
        }
        if let Some(platform) = &self.platform {
            let parts: Vec<_> = platform.split('/').collect();
            if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
                bad(
                    "platform",
                    "must be os/architecture or os/architecture/variant, e.g. linux/arm64",
                );
            }
        }
        if let Some(dir) = &self.working_dir {
            check_text(&mut bad, "working_dir", dir);
            if !dir.starts_with('/') {
                bad("working_dir", "must be an absolute path");
            }
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains('=') {
                bad("env", "a name must not be empty nor contain '='");
            }
            if name.contains('\0') || value.contains('\0') {
                bad("env", "must not contain NUL");
            }
        }
        for (name, value) in &self.labels {
            check_text(&mut bad, "label", name);
            if value.contains('\0') {
                bad("label", "must not contain NUL");
            }
            if name.starts_with(labels::PREFIX) {
                bad("label", "names that begin with `dockerpool.` are reserved");
            }
        }
        found
    }
}

/// An empty text, or one with a NUL in it.
fn check_text(bad: &mut impl FnMut(&str, &str), field: &str, text: &str) {
    if text.is_empty() {
        bad(field, "must not be empty");
    }
    if text.contains('\0') {
        bad(field, "must not contain NUL");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_those_of_a_sandbox() {
        let spec = ContainerSpec::new("busybox");
        assert!(spec.problems().is_empty());
        assert_eq!(spec.memory, Some(512 << 20));
        assert_eq!(spec.pids, Some(512));
        assert!(spec.has_lifeline());
        assert!(!spec.cmd(["sleep", "1"]).has_lifeline());
    }

    #[test]
    fn a_value_in_the_raw_configuration_beats_a_default_but_not_a_setter() {
        let raw = HostConfig {
            memory: Some(1 << 30),
            ..Default::default()
        };
        assert_eq!(ContainerSpec::new("a").host_config(raw.clone()).memory, None);
        assert_eq!(
            ContainerSpec::new("a").memory(64 << 20).host_config(raw.clone()).memory,
            Some(64 << 20)
        );
        assert_eq!(
            ContainerSpec::new("a").host_config(raw).memory(64 << 20).memory,
            Some(64 << 20)
        );
    }

    #[test]
    fn every_bad_value_is_named() {
        let spec = ContainerSpec::new("a b")
            .cmd(Vec::<String>::new())
            .memory(1)
            .cpus(-1.0)
            .pids_limit(0)
            .user("")
            .working_dir("tmp")
            .env("A=B", "x\0")
            .label("dockerpool.pool", "x");
        let problems = spec.problems();
        let fields: Vec<_> = problems.iter().map(FieldError::field).collect();
        assert_eq!(
            fields,
            [
                "image",
                "cmd",
                "memory",
                "cpus",
                "pids_limit",
                "user",
                "working_dir",
                "env",
                "env",
                "label"
            ]
        );
    }
}
