//! Finds the address of the user's engine: the same settings as the docker command line, in its order.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::endpoint::Endpoint;
use super::files;
use crate::error::{Error, FieldError};
use crate::values::text;

/// The environment variables that are read.
const VARIABLES: [&str; 11] = [
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "DOCKER_CERT_PATH",
    "DOCKERPOOL_INSECURE_TCP",
    "CONTAINER_HOST",
    "XDG_RUNTIME_DIR",
    "HOME",
    "USERPROFILE",
];

/// The name of the context that stands for "no context".
const NO_CONTEXT: &str = "default";

/// Podman's socket, in the directory for sockets.
const PODMAN: &str = "podman/podman.sock";

/// The socket of the virtual machine of `podman machine`, in the home directory.
const PODMAN_MACHINE: &str = ".local/share/containers/podman/machine/podman.sock";

/// Holds a possible engine, and the setting that named it, for errors.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) endpoint: Endpoint,
    pub(super) named_by: String,
}

/// Holds the environment in which the process looks for its engine.
pub(super) struct Environment {
    variables: HashMap<&'static str, OsString>,
    /// The user's number, which is part of the paths of rootless engines' sockets.
    uid: Option<u32>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let set = |name| Some((name, std::env::var_os(name)?));
        Self {
            variables: VARIABLES.into_iter().filter_map(set).collect(),
            uid: uid(),
        }
    }

    /// Returns the value of a variable. An empty one counts as not set, as for the docker command line.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(name)?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        match self.path(name) {
            None => Ok(None),
            Some(path) => match path.into_os_string().into_string() {
                Ok(text) => Ok(Some(text)),
                Err(_) => Err(bad(name, "is not UTF-8")),
            },
        }
    }

    fn home(&self) -> Option<PathBuf> {
        self.path("HOME").or_else(|| self.path("USERPROFILE"))
    }

    /// Returns Docker's own directory.
    pub(super) fn config_dir(&self) -> Option<PathBuf> {
        self.path("DOCKER_CONFIG")
            .or_else(|| Some(self.home()?.join(".docker")))
    }

    /// Returns the engines to try, in order: the one that a setting names, or else those on the usual sockets.
    pub(super) fn candidates(&self) -> Result<Vec<Candidate>, Error> {
        if let Some(host) = self.text("DOCKER_HOST")? {
            return Ok(vec![self.named_by_host(&host)?]);
        }
        if let Some(candidate) = self.named_by_context()? {
            return Ok(vec![candidate]);
        }
        Ok(self.usual())
    }

    /// Returns advice for a user whose engine was not found.
    pub(super) fn hint(&self) -> Option<&'static str> {
        let is_set = self.path("CONTAINER_HOST").is_some();
        is_set.then_some("CONTAINER_HOST is Podman's own and is not read: set DOCKER_HOST to the address of its socket")
    }

    fn named_by_host(&self, host: &str) -> Result<Candidate, Error> {
        let variable = "DOCKER_HOST";
        let endpoint = parse(host, variable)?;
        // Docker's own libraries differ in which of the three variables turns TLS on. Here any of them does, and the server
        // is always verified: a user who wanted TLS must not get less.
        let tls = ["DOCKER_TLS_VERIFY", "DOCKER_TLS", "DOCKER_CERT_PATH"]
            .iter()
            .any(|name| self.path(name).is_some());
        let mut named_by = variable;
        let endpoint = if tls {
            let folder = self.path("DOCKER_CERT_PATH").or_else(|| self.config_dir());
            named_by = "DOCKER_CERT_PATH";
            endpoint.with_tls(folder.ok_or_else(|| bad(named_by, "is needed, since there is no home directory"))?)
        } else if self.path("DOCKERPOOL_INSECURE_TCP").is_some() {
            endpoint.allow_insecure()
        } else {
            endpoint
        };
        if let Some(problem) = endpoint.problem() {
            return Err(bad(variable, problem));
        }
        Ok(Candidate {
            endpoint,
            named_by: named_by.to_owned(),
        })
    }

    fn named_by_context(&self) -> Result<Option<Candidate>, Error> {
        let dir = self.config_dir();
        let (name, named_by) = match self.text("DOCKER_CONTEXT")? {
            Some(name) => (name, "DOCKER_CONTEXT".to_owned()),
            None => {
                let Some(file) = dir.as_ref().map(|dir| dir.join("config.json")) else {
                    return Ok(None);
                };
                let named_by = format!("currentContext in {}", file.display());
                // The docker command line, too, warns and continues as if the file were empty.
                let config = read_json(&file).unwrap_or_else(|problem| {
                    let (file, problem) = (file.display().to_string(), text::clean(&problem));
                    tracing::warn!(
                        file = &*text::clean(&file),
                        "ignoring a file of Docker's configuration: it {problem}"
                    );
                    None
                });
                match config.unwrap_or_default()["currentContext"].as_str() {
                    Some(name) if !name.is_empty() => (name.to_owned(), named_by),
                    _ => return Ok(None),
                }
            }
        };
        if name == NO_CONTEXT {
            return Ok(None);
        }
        let contexts = dir.unwrap_or_default().join("contexts");
        let bad = |problem: String| bad(&named_by, problem);
        let Some((folder, meta)) = find_context(&contexts, &name).map_err(bad)? else {
            return Err(bad(format!(
                "there is no context `{name}` in {} (see `docker context ls`)",
                contexts.display()
            )));
        };
        let docker = &meta["Endpoints"]["docker"];
        let Some(host) = docker["Host"].as_str() else {
            return Err(bad(format!("the context `{name}` names no Docker engine")));
        };
        if docker["SkipTLSVerify"].as_bool() == Some(true) {
            return Err(bad(format!(
                "the context `{name}` skips the verification of its server, which this library does not allow: \
                 give it a CA with `docker context update`"
            )));
        }
        let mut endpoint = parse(host, &named_by)?;
        let certificates = contexts.join("tls").join(folder).join("docker");
        if certificates.is_dir() {
            endpoint = endpoint.with_tls(certificates);
        } else if self.path("DOCKERPOOL_INSECURE_TCP").is_some() {
            endpoint = endpoint.allow_insecure();
        }
        match endpoint.problem() {
            Some(problem) => Err(bad(format!("the context `{name}`: {problem}"))),
            None => Ok(Some(Candidate { endpoint, named_by })),
        }
    }

    /// Returns the sockets on which engines usually listen.
    fn usual(&self) -> Vec<Candidate> {
        let mut found: Vec<Endpoint> = Vec::new();
        let mut add = |endpoint| {
            if !found.contains(&endpoint) {
                found.push(endpoint);
            }
        };
        if cfg!(windows) {
            add(Endpoint::named_pipe("//./pipe/docker_engine"));
            add(Endpoint::named_pipe("//./pipe/dockerDesktopLinuxEngine"));
        } else {
            add(Endpoint::unix("/var/run/docker.sock"));
            if let Some(dir) = self.path("XDG_RUNTIME_DIR") {
                add(Endpoint::unix(dir.join("docker.sock")));
            }
            if let Some(uid) = self.uid {
                add(Endpoint::unix(format!("/run/user/{uid}/docker.sock")));
            }
            if let Some(home) = self.home() {
                add(Endpoint::unix(home.join(".docker/run/docker.sock")));
                add(Endpoint::unix(home.join(".docker/desktop/docker.sock")));
            }
            // Podman's sockets come after all of Docker's: the order is that of the docker command line as far as that knows
            // the sockets.
            if let Some(dir) = self.path("XDG_RUNTIME_DIR") {
                add(Endpoint::unix(dir.join(PODMAN)));
            }
            if let Some(uid) = self.uid {
                add(Endpoint::unix(format!("/run/user/{uid}/{PODMAN}")));
            }
            add(Endpoint::unix(Path::new("/run").join(PODMAN)));
            if let Some(home) = self.home() {
                add(Endpoint::unix(home.join(PODMAN_MACHINE)));
            }
        }
        let named_by = "the default socket".to_owned();
        let candidate = |endpoint| Candidate {
            endpoint,
            named_by: named_by.clone(),
        };
        found.into_iter().map(candidate).collect()
    }
}

/// Returns the user's number, as the owner of this process's directory in `/proc`: the C library's call would be unsafe
/// code.
fn uid() -> Option<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        Some(fs::metadata("/proc/self").ok()?.uid())
    }
    #[cfg(not(unix))]
    None
}

fn bad(field: impl ToString, problem: impl Into<String>) -> Error {
    Error::Config(vec![FieldError::new(field.to_string(), problem)])
}

/// Parses an endpoint; an error names the setting.
fn parse(host: &str, named_by: &str) -> Result<Endpoint, Error> {
    host.parse().map_err(|error| match error {
        Error::Config(problems) => Error::Config(
            problems
                .iter()
                .map(|problem| FieldError::new(named_by, problem.problem()))
                .collect(),
        ),
        error => error,
    })
}

/// Reads a JSON file; `None` if the file does not exist, or is empty.
fn read_json(file: &Path) -> Result<Option<Value>, String> {
    let text = files::read(file)?.unwrap_or_default();
    if text.trim_ascii().is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(format!("is not JSON: {error}")),
    }
}

/// Finds the directory and the content of a context. Docker names the directory by a hash of the name, and also writes the
/// name into its file: comparing that name needs no hash.
fn find_context(contexts: &Path, name: &str) -> Result<Option<(OsString, Value)>, String> {
    let Ok(folders) = fs::read_dir(contexts.join("meta")) else {
        return Ok(None);
    };
    for folder in folders.flatten() {
        let file = folder.path().join("meta.json");
        let meta = match read_json(&file) {
            Ok(meta) => meta.unwrap_or_default(),
            // A broken file of another context does not matter.
            Err(_) => continue,
        };
        if meta["Name"].as_str() == Some(name) {
            return Ok(Some((folder.file_name(), meta)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&'static str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(name, value)| (*name, value.into())).collect(),
            uid: Some(1000),
        }
    }

    fn only(variables: &[(&'static str, &str)]) -> Endpoint {
        let mut found = environment(variables).candidates().unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0).endpoint
    }

    /// Returns the setting that the error names, and its message.
    fn refused(variables: &[(&'static str, &str)]) -> (String, String) {
        match environment(variables).candidates() {
            Err(Error::Config(problems)) => (problems[0].field().to_owned(), problems[0].problem().to_owned()),
            other => panic!("{other:?}"),
        }
    }

    /// Makes a directory of Docker's with one context.
    fn config_with_context(host: &str, current: Option<&str>, tls: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let meta = dir.path().join("contexts/meta/abc");
        fs::create_dir_all(&meta).unwrap();
        let json = serde_json::json!({"Name": "far", "Metadata": {}, "Endpoints": {"docker": {"Host": host}}});
        fs::write(meta.join("meta.json"), json.to_string()).unwrap();
        if tls {
            fs::create_dir_all(dir.path().join("contexts/tls/abc/docker")).unwrap();
        }
        if let Some(current) = current {
            let json = serde_json::json!({ "currentContext": current });
            fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
        }
        dir
    }

    #[test]
    fn docker_host_comes_first() {
        let dir = config_with_context("unix:///far.sock", Some("far"), false);
        let config = dir.path().to_str().unwrap();
        let host = ("DOCKER_HOST", "unix:///near.sock");
        assert_eq!(
            only(&[host, ("DOCKER_CONTEXT", "far"), ("DOCKER_CONFIG", config)]),
            Endpoint::unix("/near.sock")
        );
        // An empty variable is not set.
        assert_eq!(
            only(&[("DOCKER_HOST", ""), ("DOCKER_CONFIG", config)]),
            Endpoint::unix("/far.sock")
        );
    }

    #[test]
    fn any_variable_of_tls_turns_it_on_for_tcp_only() {
        let host = ("DOCKER_HOST", "tcp://10.0.0.1:2376");
        let tls = |folder: &str| Endpoint::tls("10.0.0.1:2376", folder);
        assert_eq!(
            only(&[host, ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/certs")]),
            tls("/certs")
        );
        assert_eq!(only(&[host, ("DOCKER_CERT_PATH", "/certs")]), tls("/certs"));
        assert_eq!(
            only(&[host, ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/home/me")]),
            tls("/home/me/.docker")
        );
        assert_eq!(
            only(&[host, ("DOCKER_TLS", "1"), ("DOCKER_CONFIG", "/conf")]),
            tls("/conf")
        );
        assert_eq!(
            only(&[("DOCKER_HOST", "unix:///a"), ("DOCKER_TLS_VERIFY", "1"), ("HOME", "/")]),
            Endpoint::unix("/a")
        );
        assert_eq!(refused(&[host, ("DOCKER_TLS_VERIFY", "1")]).0, "DOCKER_CERT_PATH");
    }

    #[test]
    fn plain_tcp_beyond_this_machine_is_refused_or_asked_for_by_name() {
        let host = ("DOCKER_HOST", "tcp://10.0.0.1:2375");
        let (field, problem) = refused(&[host]);
        assert_eq!(field, "DOCKER_HOST");
        assert!(problem.contains("DOCKERPOOL_INSECURE_TCP=1"), "{problem}");
        assert_eq!(
            only(&[host, ("DOCKERPOOL_INSECURE_TCP", "1")]),
            Endpoint::insecure_tcp("10.0.0.1:2375")
        );
        let dir = config_with_context("tcp://10.0.0.1:2375", None, false);
        let context = [
            ("DOCKER_CONTEXT", "far"),
            ("DOCKER_CONFIG", dir.path().to_str().unwrap()),
        ];
        assert_eq!(refused(&context).0, "DOCKER_CONTEXT");
    }

    #[test]
    fn a_context_is_named_by_variable_or_by_the_config_file() {
        let dir = config_with_context("tcp://10.0.0.1:2376", Some("far"), true);
        let config = ("DOCKER_CONFIG", dir.path().to_str().unwrap());
        let far = Endpoint::tls("10.0.0.1:2376", dir.path().join("contexts/tls/abc/docker"));
        assert_eq!(only(&[config]), far);
        assert_eq!(only(&[config, ("DOCKER_CONTEXT", "far")]), far);
        // The name that stands for no context wins over the one in the file.
        let found = environment(&[config, ("DOCKER_CONTEXT", "default")])
            .candidates()
            .unwrap();
        assert_eq!(found[0].endpoint, Endpoint::unix("/var/run/docker.sock"));
    }

    #[test]
    fn a_context_that_cannot_be_used_is_an_error() {
        let dir = config_with_context("unix:///far.sock", Some("gone"), false);
        let config = ("DOCKER_CONFIG", dir.path().to_str().unwrap());
        let (field, problem) = refused(&[config]);
        assert!(field.starts_with("currentContext in "), "{field}");
        assert!(problem.contains("no context `gone`"), "{problem}");
        let (field, problem) = refused(&[config, ("DOCKER_CONTEXT", "other")]);
        assert_eq!(field, "DOCKER_CONTEXT");
        assert!(problem.contains("no context `other`"), "{problem}");

        let dir = config_with_context("nonsense", Some("far"), false);
        assert!(
            refused(&[("DOCKER_CONFIG", dir.path().to_str().unwrap())])
                .1
                .contains("nonsense")
        );
    }

    #[cfg(unix)]
    #[test]
    fn an_invalid_config_file_is_ignored_as_docker_does() {
        let dir = config_with_context("unix:///far.sock", None, false);
        let file = dir.path().join("config.json");
        let config = ("DOCKER_CONFIG", dir.path().to_str().unwrap());
        let usual = || {
            let found = environment(&[config]).candidates().unwrap();
            assert_eq!(found[0].endpoint, Endpoint::unix("/var/run/docker.sock"));
        };
        for text in [
            "",
            " \n",
            "\u{feff}{\"currentContext\":\"far\"}",
            "{",
            "nonsense",
            "null",
            "[]",
            "7",
            "{\"currentContext\":7}",
        ] {
            fs::write(&file, text).unwrap();
            usual();
        }
        fs::write(&file, [0xff, 0xfe]).unwrap();
        usual();
        fs::File::create(&file).unwrap().set_len(1 << 30).unwrap();
        usual();
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        usual();
        fs::remove_dir(&file).unwrap();
        for target in ["/dev/zero", "/nowhere", "config.json"] {
            std::os::unix::fs::symlink(target, &file).unwrap();
            usual();
            fs::remove_file(&file).unwrap();
        }
        let made = std::process::Command::new("mkfifo").arg(&file).status().unwrap();
        assert!(made.success());
        usual();

        // A context that a variable names is still looked up, and a broken one beside it does no harm.
        let beside = dir.path().join("contexts/meta/beside");
        fs::create_dir_all(&beside).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(beside.join("meta.json"))
            .status()
            .unwrap();
        assert!(made.success());
        assert_eq!(only(&[config, ("DOCKER_CONTEXT", "far")]), Endpoint::unix("/far.sock"));

        // A home that is no directory has no settings.
        let plain = dir.path().join("plain");
        fs::write(&plain, "").unwrap();
        for name in ["HOME", "DOCKER_CONFIG"] {
            let found = environment(&[(name, plain.to_str().unwrap())]).candidates().unwrap();
            assert_eq!(found[0].endpoint, Endpoint::unix("/var/run/docker.sock"));
        }
    }

    #[cfg(unix)]
    #[test]
    fn without_settings_the_usual_sockets_are_tried_in_order() {
        let found = environment(&[("XDG_RUNTIME_DIR", "/run/user/1000"), ("HOME", "/home/me")])
            .candidates()
            .unwrap();
        let found: Vec<_> = found.iter().map(|candidate| candidate.endpoint.to_string()).collect();
        assert_eq!(
            found,
            [
                "unix:///var/run/docker.sock",
                "unix:///run/user/1000/docker.sock",
                "unix:///home/me/.docker/run/docker.sock",
                "unix:///home/me/.docker/desktop/docker.sock",
                "unix:///run/user/1000/podman/podman.sock",
                "unix:///run/podman/podman.sock",
                "unix:///home/me/.local/share/containers/podman/machine/podman.sock",
            ]
        );
        // XDG_RUNTIME_DIR may be another user's, or missing: after `su`, and for programs that the system starts.
        let found = environment(&[("XDG_RUNTIME_DIR", "/run/user/7")]).candidates().unwrap();
        let found: Vec<_> = found.iter().map(|candidate| candidate.endpoint.to_string()).collect();
        assert_eq!(
            found,
            [
                "unix:///var/run/docker.sock",
                "unix:///run/user/7/docker.sock",
                "unix:///run/user/1000/docker.sock",
                "unix:///run/user/7/podman/podman.sock",
                "unix:///run/user/1000/podman/podman.sock",
                "unix:///run/podman/podman.sock",
            ]
        );
    }

    #[test]
    fn the_hint_names_podmans_own_variable() {
        assert!(
            environment(&[("CONTAINER_HOST", "unix:///a")])
                .hint()
                .unwrap()
                .contains("DOCKER_HOST")
        );
        assert_eq!(environment(&[("CONTAINER_HOST", "")]).hint(), None);
    }
}
