//! What the registry is shown: given by the user, or had from Docker's own configuration and its helpers.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::thread;
use std::time::Duration;

use bollard::auth::DockerCredentials;
use docker_credential::{CredentialRetrievalError as Failure, DockerCredential, get_credential_from_reader};
use tokio::sync::oneshot;

use super::discover::Environment;
use crate::engine::{AuthKind, RegistryAuth};

/// How long a credential helper may take; one that asks its user something may take a while.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);

/// The default registry, and the name under which Docker has kept its credentials since before there were others.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// What a pull begins with.
#[derive(Default)]
pub(super) struct Login {
    /// `None`: without a login.
    pub(super) credentials: Option<DockerCredentials>,
    /// What kept Docker's configuration from giving one. No reason not to try: most images are public, and `docker pull`
    /// goes on too. It is told if the registry then refuses.
    pub(super) trouble: Option<String>,
}

pub(super) async fn of(auth: &RegistryAuth, registry: &str) -> Login {
    let key = if registry == DOCKER_HUB {
        DOCKER_HUB_KEY
    } else {
        registry
    };
    let credential = match &auth.0 {
        AuthKind::Anonymous => None,
        AuthKind::Password { username, password } => {
            Some(DockerCredential::UsernamePassword(username.clone(), password.clone()))
        }
        AuthKind::IdentityToken(token) => Some(DockerCredential::IdentityToken(token.clone())),
        AuthKind::DockerConfig(folder) => match folder.clone().or_else(|| Environment::of_process().config_dir()) {
            Some(folder) => match configured(&folder, key).await {
                Ok(credential) => credential,
                Err(trouble) => {
                    tracing::warn!(registry, "pulling without a login: {trouble}");
                    return Login {
                        credentials: None,
                        trouble: Some(trouble),
                    };
                }
            },
            None => None,
        },
    };
    let serveraddress = Some(key.to_owned());
    let credentials = credential.map(|credential| match credential {
        DockerCredential::UsernamePassword(username, password) => DockerCredentials {
            username: Some(username),
            password: Some(password),
            serveraddress,
            ..Default::default()
        },
        DockerCredential::IdentityToken(token) => DockerCredentials {
            identitytoken: Some(token),
            serveraddress,
            ..Default::default()
        },
    });
    Login {
        credentials,
        trouble: None,
    }
}

/// What Docker's configuration has for a registry.
async fn configured(folder: &Path, key: &str) -> Result<Option<DockerCredential>, String> {
    let file = folder.join("config.json");
    let failed = |why: String| format!("no credentials for {key} could be had by {}: {why}", file.display());
    let reader = match File::open(&file) {
        Ok(opened) => BufReader::new(opened),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    // Helpers are waited for without a limit, and a runtime waits for its blocking tasks when it ends: so a thread of its
    // own, which a helper that hangs holds and nothing else.
    let (sender, answer) = oneshot::channel();
    let server = key.to_owned();
    thread::Builder::new()
        .name("docker-credential".to_owned())
        .spawn(move || {
            // Nobody waits any more if this fails.
            let _ = sender.send(get_credential_from_reader(reader, &server));
        })
        .map_err(|error| failed(error.to_string()))?;
    match tokio::time::timeout(HELPER_TIMEOUT, answer).await {
        Ok(Ok(Ok(credential))) => Ok(Some(credential)),
        Ok(Ok(Err(Failure::NoCredentialConfigured))) => Ok(None),
        Ok(Ok(Err(Failure::HelperFailure { helper, stdout, stderr }))) => {
            // All helpers use these words, on standard output, for "I have none".
            if stdout.contains("credentials not found") {
                return Ok(None);
            }
            // Its standard output is where secrets would be.
            Err(failed(format!("{helper} failed: {}", stderr.trim())))
        }
        Ok(Ok(Err(error))) => Err(failed(error.to_string())),
        Ok(Err(_)) => Err(failed("the search for them broke off".to_owned())),
        Err(_) => Err(failed(format!(
            "the credential helper did not answer within {HELPER_TIMEOUT:?}"
        ))),
    }
}
