//! The login for a registry: [`RegistryAuth`].

use std::fmt;
use std::path::PathBuf;

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
}

impl Default for RegistryAuth {
    fn default() -> Self {
        Self::docker_config()
    }
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AuthKind::DockerConfig(None) => f.write_str("the user's Docker configuration"),
            AuthKind::DockerConfig(Some(folder)) => write!(f, "the Docker configuration in {}", folder.display()),
            AuthKind::Password { username, .. } => write!(f, "{username} with a password"),
            AuthKind::IdentityToken(_) => f.write_str("an identity token"),
            AuthKind::Anonymous => f.write_str("anonymous"),
        }
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
