//! The credentials for a registry: given by the user, or read from Docker's own configuration and its helpers.

use std::path::Path;
use std::time::Duration;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use bollard::auth::DockerCredentials;
use serde_json::Value;

use super::discover::Environment;
use super::{files, helper};
use crate::engine::{AuthKind, RegistryAuth};
use crate::values::shown::Rounded;
use crate::values::text;

/// How long a credential helper may take. A helper may ask its user something.
const HELPER_TIMEOUT: Duration = Duration::from_secs(20);

/// The default registry, and the key of its credentials in Docker's configuration, which is older than other registries.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Holds the login of a pull.
#[derive(Default)]
pub(super) struct Login {
    /// The credentials. `None`: a pull without a login.
    pub(super) credentials: Option<DockerCredentials>,
    /// The reason why Docker's configuration gave no credentials. The pull goes on: most images are public, and `docker
    /// pull` goes on too. The reason becomes part of the error if the registry then refuses.
    pub(super) trouble: Option<String>,
}

pub(super) async fn of(auth: &RegistryAuth, registry: &str) -> Login {
    let key = if registry == DOCKER_HUB {
        DOCKER_HUB_KEY
    } else {
        registry
    };
    let found = match &auth.0 {
        AuthKind::Anonymous => None,
        AuthKind::Password { username, password } => Some(DockerCredentials {
            username: Some(username.clone()),
            password: Some(password.clone()),
            ..Default::default()
        }),
        AuthKind::IdentityToken(token) => Some(DockerCredentials {
            identitytoken: Some(token.clone()),
            ..Default::default()
        }),
        AuthKind::DockerConfig(folder) => match folder.clone().or_else(|| Environment::of_process().config_dir()) {
            Some(folder) => match configured(&folder, key).await {
                Ok(found) => found,
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
    Login {
        credentials: found.map(|found| DockerCredentials {
            serveraddress: Some(key.to_owned()),
            ..found
        }),
        trouble: None,
    }
}

/// Reads the credentials for a registry from Docker's configuration.
async fn configured(folder: &Path, key: &str) -> Result<Option<DockerCredentials>, String> {
    let file = folder.join("config.json");
    let failed = |why: String| {
        let words = format!("reading the credentials for {key} by {} failed: {why}", file.display());
        text::clean(&words).into_owned()
    };
    let look_up = async {
        let read = files::off_the_runtime({
            let file = file.clone();
            move || files::read(&file)
        });
        let content = read.await.map_err(|error| error.to_string())??.unwrap_or_default();
        if content.trim_ascii().is_empty() {
            return Ok(None);
        }
        let config: Value =
            serde_json::from_slice(&content).map_err(|error| format!("the file is not JSON: {error}"))?;
        let named = |helper: &Value| helper.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        if let Some(name) = named(&config["credHelpers"][key]) {
            return helper::ask(&name, key).await;
        }
        if let Some(written) = written_in(&config["auths"], key)? {
            return Ok(Some(written));
        }
        match named(&config["credsStore"]) {
            Some(name) => helper::ask(&name, key).await,
            None => Ok(None),
        }
    };
    match tokio::time::timeout(HELPER_TIMEOUT, look_up).await {
        Ok(found) => found.map_err(failed),
        Err(_) => Err(failed(format!(
            "the credential helper did not answer within {}",
            Rounded(HELPER_TIMEOUT)
        ))),
    }
}

/// Reads the entry that `docker login` has written for a registry.
fn written_in(auths: &Value, key: &str) -> Result<Option<DockerCredentials>, String> {
    let alike = || {
        let mut auths = auths.as_object().into_iter().flatten();
        auths
            .find(|(other, _)| registry_of(other) == registry_of(key))
            .map(|(_, auth)| auth)
    };
    let Some(auth) = auths.get(key).or_else(alike) else {
        return Ok(None);
    };
    let text = |name: &str| auth[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    if let Some(token) = text("identitytoken") {
        return Ok(Some(DockerCredentials {
            identitytoken: Some(token),
            ..Default::default()
        }));
    }
    let (username, password) = match text("auth") {
        Some(encoded) => decode(&encoded).ok_or_else(|| "its entry in the file is not a valid login".to_owned())?,
        None => match (text("username"), text("password")) {
            (Some(username), Some(password)) => (username, password),
            _ => return Ok(None),
        },
    };
    Ok(Some(DockerCredentials {
        username: Some(username),
        password: Some(password),
        ..Default::default()
    }))
}

/// Returns whether a key names this registry. Versions of Docker have written keys with a scheme and a path, or without.
fn registry_of(key: &str) -> &str {
    let host = match key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")) {
        Some(rest) => rest.split('/').next().unwrap_or_default(),
        None => key,
    };
    match host {
        "registry-1.docker.io" | "docker.io" => "index.docker.io",
        host => host,
    }
}

/// Decodes `user:password` from base64, with or without padding.
fn decode(encoded: &str) -> Option<(String, String)> {
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let decoded = GeneralPurpose::new(&alphabet::STANDARD, padding).decode(encoded).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn entries_of_docker_login_are_found_in_all_their_forms() {
        let found = |auths: Value, key| {
            let found = written_in(&auths, key)?;
            Ok::<_, String>(found.map(|found| (found.username, found.password, found.identitytoken)))
        };
        let login = Ok(Some((Some("me".to_owned()), Some("pa:ss".to_owned()), None)));
        // `me:pa:ss`, without and with padding.
        for encoded in ["bWU6cGE6c3M", "bWU6cGE6c3M="] {
            let auth = json!({ "auth": encoded });
            assert_eq!(found(json!({ "r.example": auth }), "r.example"), login);
            assert_eq!(found(json!({ "https://r.example/v1/": auth }), "r.example"), login);
            assert_eq!(found(json!({ "docker.io": auth }), DOCKER_HUB_KEY), login);
            assert_eq!(found(json!({ "other.example": auth }), "r.example"), Ok(None));
        }
        let plain = json!({"r.example": {"username": "me", "password": "pa:ss"}});
        assert_eq!(found(plain, "r.example"), login);
        let token = json!({"r.example": {"auth": "bWU6", "identitytoken": "t"}});
        assert_eq!(found(token, "r.example"), Ok(Some((None, None, Some("t".to_owned())))));
        for nothing in [
            json!(null),
            json!({}),
            json!([]),
            json!({"r.example": {}}),
            json!({"r.example": {"auth": ""}}),
        ] {
            assert_eq!(found(nothing, "r.example"), Ok(None));
        }
        for bad in ["%", "bWU=", "/w=="] {
            assert!(
                found(json!({"r.example": {"auth": bad}}), "r.example").is_err(),
                "{bad}"
            );
        }
    }
}
