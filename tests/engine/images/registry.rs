//! Registries for tests: real ones on loopback, as child processes, with images that exist nowhere else.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::process::{Child, Command, Stdio};

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters as query;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{busybox, eventually_now};

/// The only user of a registry with a password.
pub const USER: &str = "me";

/// Runs Debian's `docker-registry`. Ends when dropped.
pub struct Registry {
    process: Child,
    /// `127.0.0.1:port`, the first part of the names of its images.
    pub address: String,
    credentials: DockerCredentials,
    _folder: TempDir,
}

impl Registry {
    pub async fn open() -> Self {
        Self::start(None).await
    }

    /// Starts a registry that accepts only [`USER`] with this password.
    pub async fn with_password(password: &str) -> Self {
        Self::start(Some(password)).await
    }

    async fn start(password: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // This port is free now. The registry would not report a port that it chose itself.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \
             \"{address}\"}}\n",
            folder.path().join("data").display()
        );
        let mut credentials = DockerCredentials::default();
        if let Some(password) = password {
            let users = folder.path().join("htpasswd");
            // The cheapest hash.
            fs::write(&users, format!("{USER}:{}\n", bcrypt::hash(password, 4).unwrap())).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", users.display());
            credentials.username = Some(USER.to_owned());
            credentials.password = Some(password.to_owned());
        }
        let file = folder.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is needed: apt-get install docker-registry");
        let registry = Self {
            process,
            address: address.to_string(),
            credentials,
            _folder: folder,
        };
        eventually_now("the registry listens", || TcpStream::connect(address).is_ok()).await;
        registry
    }

    /// Pushes a small runnable image under this name and removes it from the engine.
    pub async fn fill(&self, docker: &Docker, name: &str) -> TestImage {
        let image = TestImage::named(format!("{}/{name}", self.address));
        image.commit(docker).await;
        self.push(docker, &image).await;
        image.forget();
        image
    }

    /// Like `fill`, with an image that has megabytes of its own.
    pub async fn fill_with_much(&self, docker: &Docker, name: &str) -> TestImage {
        let image = TestImage::named(format!("{}/{name}", self.address));
        image.commit_noise(docker, 4 << 20).await;
        self.push(docker, &image).await;
        image.forget();
        image
    }

    /// Returns the registry's manifest of a name, `repository:tag`. The engine's own may differ, since Podman repacks
    /// an image when it pushes it.
    pub async fn manifest(&self, name: &str) -> Manifest {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let kinds = "Accept: application/vnd.docker.distribution.manifest.v2+json, \
                     application/vnd.oci.image.manifest.v1+json\r\n";
        let path = format!("{repository}/manifests/{tag}");
        let (head, text) = self.ask("GET", &path, kinds, "").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        Manifest {
            kind: header(&head, "Content-Type: "),
            digest: header(&head, "Docker-Content-Digest: "),
            text,
        }
    }

    /// Makes this name an index of these images, each for a platform.
    pub async fn put_index(&self, name: &str, images: &[(&Manifest, &str)]) {
        let kind = "application/vnd.docker.distribution.manifest.list.v2+json";
        let manifests: Vec<_> = images
            .iter()
            .map(|(manifest, platform)| {
                let (os, architecture) = platform.split_once('/').unwrap();
                serde_json::json!({
                    "mediaType": manifest.kind,
                    "size": manifest.text.len(),
                    "digest": manifest.digest,
                    "platform": {"os": os, "architecture": architecture},
                })
            })
            .collect();
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
        self.put(name, kind, &index.to_string()).await;
    }

    /// Makes this name a copy of another image of the repository, with another platform in its configuration. The
    /// copy has a variable `PLATFORM` and declares a volume, `/of/` and its architecture.
    pub async fn put_like(&self, name: &str, image: &Manifest, platform: &str) -> Manifest {
        let (repository, _) = name.rsplit_once(':').unwrap();
        let (os, architecture) = platform.split_once('/').unwrap();
        let mut manifest: serde_json::Value = serde_json::from_str(&image.text).unwrap();
        let digest = manifest["config"]["digest"].as_str().unwrap();
        let path = format!("{repository}/blobs/{digest}");
        let (_, config) = self.ask("GET", &path, "", "").await;
        let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
        config["os"] = os.into();
        config["architecture"] = architecture.into();
        config["config"]["Env"] = serde_json::json!(["PATH=/bin", format!("PLATFORM={platform}")]);
        config["config"]["Volumes"] = serde_json::json!({format!("/of/{architecture}"): {}});
        let config = config.to_string();
        let digest = format!("sha256:{:x}", Sha256::digest(&config));
        let (head, _) = self.ask("POST", &format!("{repository}/blobs/uploads/"), "", "").await;
        let location = header(&head, "Location: ");
        let (_, path) = location.split_once("/v2/").unwrap();
        let path = format!("{path}&digest={digest}");
        let kind = "Content-Type: application/octet-stream\r\n";
        let (head, body) = self.ask("PUT", &path, kind, &config).await;
        assert!(head.starts_with("HTTP/1.1 201 "), "{head}{body}");
        manifest["config"]["digest"] = digest.into();
        manifest["config"]["size"] = config.len().into();
        self.put(name, &image.kind, &manifest.to_string()).await;
        self.manifest(name).await
    }

    async fn put(&self, name: &str, kind: &str, manifest: &str) {
        let (repository, tag) = name.rsplit_once(':').unwrap();
        let path = format!("{repository}/manifests/{tag}");
        let kind = format!("Content-Type: {kind}\r\n");
        let (head, body) = self.ask("PUT", &path, &kind, manifest).await;
        assert!(head.starts_with("HTTP/1.1 201 "), "{head}{body}");
    }

    /// Sends one request. Returns the head and the body of the answer.
    async fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> (String, String) {
        let request = format!(
            "{method} /v2/{path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(&self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    pub async fn push(&self, docker: &Docker, image: &TestImage) {
        let (repository, tag) = image.name.rsplit_once(':').unwrap();
        let options = query::PushImageOptions {
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        // Without credentials, the push of an engine before 20.10 fails with `EOF`.
        let mut steps = std::pin::pin!(docker.push_image(repository, Some(options), Some(self.credentials.clone())));
        while let Some(step) = steps.next().await {
            let step = step.unwrap();
            assert_eq!(step.error_detail, None, "{step:?}");
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An image in a registry.
pub struct Manifest {
    kind: String,
    pub digest: String,
    text: String,
}

/// Returns the value of a header. `name` includes the separator.
fn header(head: &str, name: &str) -> String {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)).expect(name).to_owned()
}

/// A unique name on the engine. Dropping it removes the name, and with it the image.
pub struct TestImage {
    pub name: String,
}

impl TestImage {
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }

    /// Commits busybox with a random label, so that no two images are equal. Returns the id of the image.
    pub async fn commit(&self, docker: &Docker) -> String {
        self.commit_with(docker, None).await
    }

    /// Like `commit`, with the files of an archive.
    async fn commit_with(&self, docker: &Docker, archive: Option<Vec<u8>>) -> String {
        let body = ContainerCreateBody {
            image: Some(busybox()),
            labels: Some([(dockerpool::labels::MANAGED_BY.to_owned(), "test".to_owned())].into()),
            ..Default::default()
        };
        let container = docker
            .create_container(None::<query::CreateContainerOptions>, body)
            .await
            .unwrap();
        if let Some(archive) = archive {
            let options = query::UploadToContainerOptions {
                path: "/".to_owned(),
                ..Default::default()
            };
            let body = bollard::body_full(archive.into());
            docker
                .upload_to_container(&container.id, Some(options), body)
                .await
                .unwrap();
        }
        let (repo, tag) = self.name.rsplit_once(':').unwrap();
        let options = query::CommitContainerOptions {
            container: Some(container.id.clone()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        let unique = ("unique".to_owned(), format!("{:x}", fastrand::u128(..)));
        let config = ContainerConfig {
            labels: Some([unique].into()),
            ..Default::default()
        };
        // Podman fails if another test removes an image meanwhile: see "Pulls beside removals" in docs/engines.md.
        let is_passing = |error: &bollard::errors::Error| error.to_string().contains("layer not known");
        let mut committed = docker.commit_container(options.clone(), config.clone()).await;
        while committed.as_ref().is_err_and(is_passing) {
            committed = docker.commit_container(options.clone(), config.clone()).await;
        }
        docker
            .remove_container(&container.id, None::<query::RemoveContainerOptions>)
            .await
            .unwrap();
        committed.unwrap().id
    }

    /// Commits an image with one file of noise, which does not compress.
    async fn commit_noise(&self, docker: &Docker, bytes: usize) {
        let mut noise = vec![0; bytes];
        fastrand::Rng::new().fill(&mut noise);
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "noise", &noise[..]).unwrap();
        self.commit_with(docker, Some(archive.into_inner().unwrap())).await;
    }

    /// Returns whether the engine has the image.
    pub async fn is_there(&self, docker: &Docker) -> bool {
        docker.inspect_image(&self.name).await.is_ok()
    }

    /// Removes the name from the engine.
    pub fn forget(&self) {
        // Uses the command line, since `drop` cannot await an answer of the engine. The status is ignored, since the
        // image may not exist.
        let _ = Command::new("docker")
            .args(["image", "rm", "--force", &self.name])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for TestImage {
    fn drop(&mut self) {
        self.forget();
    }
}

/// Starts a relay to a registry that breaks off at the first blob: half of the blob gets through, then nothing
/// listens any more. Returns its address.
pub async fn breaking(registry: &Registry) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let behind = registry.address.clone();
    tokio::spawn(async move {
        let lost = std::sync::Arc::new(tokio::sync::Notify::new());
        // The connections end together with the listener.
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                () = lost.notified() => return,
                Ok((client, _)) = listener.accept() => {
                    let (behind, lost) = (behind.clone(), lost.clone());
                    connections.spawn(async move {
                        if relay(client, &behind).await.is_break() {
                            lost.notify_one();
                        }
                    });
                }
            }
        }
    });
    address
}

/// Passes requests and answers on, one after the other. Breaks in the middle of a blob.
async fn relay(mut client: tokio::net::TcpStream, behind: &str) -> ControlFlow<()> {
    let mut registry = tokio::net::TcpStream::connect(behind).await.unwrap();
    loop {
        let Some((request, body)) = read_head(&mut client).await else {
            return ControlFlow::Continue(());
        };
        registry.write_all(&[request.as_bytes(), &body].concat()).await.unwrap();
        let (head, mut body) = read_head(&mut registry).await.expect("an answer");
        let is_blob = request.starts_with("GET ") && request.lines().next().unwrap().contains("/blobs/");
        let length = match request.starts_with("HEAD ") {
            true => 0,
            false => length_of(&head),
        };
        while body.len() < length {
            registry.read_buf(&mut body).await.unwrap();
        }
        if is_blob {
            body.truncate(length / 2);
        }
        let passed_on = client.write_all(&[head.as_bytes(), &body].concat()).await;
        if is_blob {
            return ControlFlow::Break(());
        }
        if passed_on.is_err() {
            return ControlFlow::Continue(());
        }
    }
}

/// Reads a head up to and including its empty line. Also returns the bytes read beyond it. Returns `None` at the end
/// of the connection. A client that tries TLS first is told that this is plain HTTP, and gives `None` too.
async fn read_head(stream: &mut tokio::net::TcpStream) -> Option<(String, Vec<u8>)> {
    let mut read = Vec::new();
    loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            let body = read.split_off(end + 4);
            return Some((String::from_utf8(read).unwrap(), body));
        }
        match stream.read_buf(&mut read).await {
            Ok(1..) if read[0] == TLS_HANDSHAKE => {
                let _ = stream.write_all(NOT_TLS).await;
                return None;
            }
            Ok(1..) => {}
            _ => return None,
        }
    }
}

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 22;

/// The answer of a server without TLS to a TLS handshake, which clients recognize.
const NOT_TLS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

fn length_of(head: &str) -> usize {
    let mut lengths = head.lines().filter_map(|line| {
        let line = line.to_ascii_lowercase();
        line.strip_prefix("content-length: ")
            .map(|length| length.parse().unwrap())
    });
    lengths.next().unwrap_or(0)
}

/// Starts a server that answers every request with this status and text. Returns its address.
pub async fn refusing(status: &'static str, body: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                if read_head(&mut client).await.is_some() {
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\nContent-Type: \
                         application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    let _ = client.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    address
}

/// Starts a registry without images that asks for a token, as large public registries do, and grants one for a
/// refresh token. Returns its address and the requests it gets.
pub async fn with_tokens() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, received) = tokio::sync::mpsc::unbounded_channel();
    let realm = format!("http://{address}/token");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (sender, realm) = (sender.clone(), realm.clone());
            tokio::spawn(async move {
                // The connection is closed after each answer, to keep this simple. A form may arrive separately from
                // its head.
                let mut request = String::new();
                let mut part = vec![0; 16 * 1024];
                while !complete(&request) {
                    match client.read(&mut part).await {
                        Ok(read @ 1..) => match std::str::from_utf8(&part[..read]) {
                            Ok(part) => request += part,
                            // The engine tries TLS first.
                            Err(_) => {
                                let _ = client.write_all(NOT_TLS).await;
                                return;
                            }
                        },
                        _ => return,
                    }
                }
                let (status, header, body) = if request.starts_with("POST /token") {
                    (
                        "200 OK",
                        "Content-Type: application/json".to_owned(),
                        r#"{"access_token":"granted","expires_in":300}"#,
                    )
                } else if request.contains("Bearer granted") {
                    (
                        "404 Not Found",
                        "Content-Type: application/json".to_owned(),
                        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#,
                    )
                } else {
                    (
                        "401 Unauthorized",
                        format!("Www-Authenticate: Bearer realm=\"{realm}\",service=\"test\""),
                        r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
                    )
                };
                let _ = sender.send(request);
                let answer = format!(
                    "HTTP/1.1 {status}\r\nDocker-Distribution-Api-Version: registry/2.0\r\n{header}\r\nConnection: \
                     close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = client.write_all(answer.as_bytes()).await;
            });
        }
    });
    (address, received)
}

/// Returns whether a request is complete.
fn complete(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else {
        return false;
    };
    body.len() >= length_of(head)
}
