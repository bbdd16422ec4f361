//! How a registry is told who pulls: [`RegistryAuth`].

use std::fmt;
use std::path::PathBuf;

/// How a registry is told who pulls. `Debug` shows no secrets.
///
/// The default is what `docker pull` does: the user's Docker configuration is asked. There, in this order: a credential
/// helper for the registry (`credHelpers`), what `docker login` wrote into the file (`auths`), the credential store
/// (`credsStore`); none of these: without a login. Helpers are programs named `docker-credential-NAME` in absolute folders
/// of the `PATH`, with letters, digits, `_` and `-` in the name. One that takes longer than twenty seconds, or prints more
/// than 1 MiB, is killed. If the configuration or a helper fails, the pull goes on without a login; what failed is logged,
/// and told in the error if the registry refuses.
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
    /// The folder of Docker's configuration; that of the environment if `None`.
    DockerConfig(Option<PathBuf>),
    Password {
        username: String,
        password: String,
    },
    IdentityToken(String),
    Anonymous,
}

impl RegistryAuth {
    /// Without a login, whatever the user's Docker configuration says.
    pub fn anonymous() -> Self {
        Self(AuthKind::Anonymous)
    }

    /// With this name and password (or access token, which most registries take in its place).
    pub fn password(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self(AuthKind::Password {
            username: username.into(),
            password: password.into(),
        })
    }

    /// With an identity token (an OAuth2 refresh token), as `docker login` gets one from some registries.
    pub fn identity_token(token: impl Into<String>) -> Self {
        Self(AuthKind::IdentityToken(token.into()))
    }

    /// With what the user's Docker configuration says, in `DOCKER_CONFIG` or `~/.docker`. The default.
    pub fn docker_config() -> Self {
        Self(AuthKind::DockerConfig(None))
    }

    /// The same with the `config.json` in this folder.
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
