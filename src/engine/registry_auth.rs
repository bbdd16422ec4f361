//! The login for a registry: [`RegistryAuth`].

use std::fmt;
use std::path::{Path, PathBuf};

/// Says how the engine logs in to the image's registry. `Debug` shows no secrets.
///
/// The default does what `docker pull` does, and reads the user's Docker configuration, in this order: a credential helper
/// for the registry (`credHelpers`), the entry that `docker login` wrote into the file (`auths`), the credential store
/// (`credsStore`). Without any of these the pull goes without a login.
///
/// Helpers are programs named `docker-credential-NAME` in absolute directories of the `PATH`, with letters, digits, `_` and
/// `-` in the name. A helper that takes longer than twenty seconds, or prints more than 1 MiB, is killed. If the
/// configuration or a helper fails, the pull goes on without a login; the failure is logged, and named in the error if the
/// registry refuses the pull.
///
/// # Examples
///
/// ```
/// use dockerpool::{Pool, RegistryAuth};
///
/// let token = std::env::var("REGISTRY_TOKEN").unwrap_or_else(|_| "secret".to_owned());
/// let auth = RegistryAuth::password("robot", &token);
/// assert!(!format!("{auth:?}").contains(&token));
/// let builder = Pool::builder("private")
///     .image("registry.example.com/team/runner:3")
///     .registry_auth(auth);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryAuth(pub(crate) AuthKind);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum AuthKind {
    /// The directory of Docker's configuration. `None`: that of the environment.
    DockerConfig(Option<PathBuf>),
    Password {
        username: String,
        password: String,
    },
    IdentityToken(String),
    Anonymous,
}

impl RegistryAuth {
    /// Uses no login, whatever the user's Docker configuration says.
    pub fn anonymous() -> Self {
        Self(AuthKind::Anonymous)
    }

    /// Uses this name and password (or access token, which most registries take in its place).
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self(AuthKind::Password {
            username: username.into(),
            password: password.into(),
        })
    }

    /// Uses an identity token (an OAuth2 refresh token), which `docker login` gets from some registries.
    pub fn identity_token(token: impl Into<String>) -> Self {
        Self(AuthKind::IdentityToken(token.into()))
    }

    /// Uses the user's Docker configuration, in `DOCKER_CONFIG` or `~/.docker`. The default.
    pub fn docker_config() -> Self {
        Self(AuthKind::DockerConfig(None))
    }

    /// Uses the `config.json` in this directory.
    pub fn docker_config_in(folder: impl Into<PathBuf>) -> Self {
        Self(AuthKind::DockerConfig(Some(folder.into())))
    }

    /// Returns the parts, with their secrets, for an engine that logs in by itself.
    pub fn login(&self) -> Login<'_> {
        match &self.0 {
            AuthKind::DockerConfig(folder) => Login::DockerConfig(folder.as_deref()),
            AuthKind::Password { username, password } => Login::Password { username, password },
            AuthKind::IdentityToken(token) => Login::IdentityToken(token),
            AuthKind::Anonymous => Login::Anonymous,
        }
    }
}

/// The parts of a [`RegistryAuth`], for an [`Engine`](crate::engine::Engine) that pulls by itself. `Debug` shows no secrets.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Login;
/// use dockerpool::RegistryAuth;
///
/// let auth = RegistryAuth::password("robot", "secret");
/// let Login::Password { username, password } = auth.login() else { panic!("it is one") };
/// assert_eq!((username, password), ("robot", "secret"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Login<'a> {
    /// The user's Docker configuration. The directory is given, or else `None`: `DOCKER_CONFIG` or `~/.docker`.
    DockerConfig(Option<&'a Path>),
    /// A name and a password or access token.
    Password {
        /// The name.
        username: &'a str,
        /// The password or access token.
        password: &'a str,
    },
    /// An OAuth2 refresh token.
    IdentityToken(&'a str),
    /// No login.
    Anonymous,
}

impl fmt::Debug for Login<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DockerConfig(None) => f.write_str("the user's Docker configuration"),
            Self::DockerConfig(Some(folder)) => write!(f, "the Docker configuration in {}", folder.display()),
            Self::Password { username, .. } => write!(f, "{username} with a password"),
            Self::IdentityToken(_) => f.write_str("an identity token"),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}

impl Default for RegistryAuth {
    fn default() -> Self {
        Self::docker_config()
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.login().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for auth in [
            RegistryAuth::password("me", "s3cret"),
            RegistryAuth::identity_token("s3cret"),
        ] {
            assert!(!format!("{auth:?}").contains("s3cret"));
        }
        assert!(format!("{:?}", RegistryAuth::password("me", "s3cret")).contains("me"));
    }
}
