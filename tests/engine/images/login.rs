//! Logins at registries: explicit ones, ones from Docker's configuration, and ones from credential helpers.

use crate::support::{Capability, itself, lacks, own_test};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dockerpool::{EngineErrorKind, RegistryAuth};

use super::registry::{Registry, USER, with_tokens};
use super::{builds, fails, pool_of};
use crate::support::engine;

/// Contains characters whose encoding differs between the alphabets of base64, at each position where that matters.
const PASSWORD: &str = "s3cret~~~>>>???ü";

#[tokio::test]
async fn a_registry_with_a_password_accepts_only_the_right_one() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, registry) = (engine().await, Registry::with_password(PASSWORD).await);
    let image = registry.fill(engine.bollard(), "private:1").await;
    let with = |auth| pool_of(&engine, &image.name).registry_auth(auth);
    for auth in [
        RegistryAuth::anonymous(),
        RegistryAuth::password(USER, "wr0ng"),
        RegistryAuth::password("nobody", PASSWORD),
    ] {
        let builder = with(auth.clone());
        let error = builder.build().await.unwrap_err();
        let kind = error.engine_error().unwrap().kind();
        assert_eq!(kind, EngineErrorKind::LoginRefused, "{auth:?}: {error:?}");
        assert!(!error.is_retryable());
        let shown = format!("{error}{error:?}{}", error.engine_error().unwrap());
        assert!(!shown.contains("s3cret") && !shown.contains("wr0ng"), "{shown}");
        assert!(!image.is_there(engine.bollard()).await);
    }
    let builder = with(RegistryAuth::password(USER, PASSWORD));
    assert!(!format!("{builder:?}").contains("s3cret"));
    builds(builder).await;
    assert!(image.is_there(engine.bollard()).await);
}

#[tokio::test]
async fn a_login_written_by_docker_login_is_used() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, mut registry) = (engine().await, Registry::with_password(PASSWORD).await);
    // Podman allows a login without TLS only for this name.
    registry.address = registry.address.replace("127.0.0.1", "localhost");
    let image = registry.fill(engine.bollard(), "private:1").await;
    let folder = tempfile::tempdir().unwrap();
    let auth = RegistryAuth::docker_config_in(folder.path());
    let builder = pool_of(&engine, &image.name).registry_auth(auth);
    // Without a file there is no login.
    assert_eq!(fails(builder.clone()).await.0, EngineErrorKind::LoginRefused);

    // Docker itself writes the file.
    let mut login = std::process::Command::new("docker")
        .arg("--config")
        .arg(folder.path())
        .args(["login", "--username", USER, "--password-stdin", &registry.address])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut login.stdin.take().unwrap(), PASSWORD.as_bytes()).unwrap();
    let login = login.wait_with_output().unwrap();
    assert!(login.status.success(), "{}", String::from_utf8_lossy(&login.stderr));
    builds(builder.clone()).await;

    image.forget();
    fs::write(folder.path().join("config.json"), "{").unwrap();
    let (kind, text) = fails(builder).await;
    assert_eq!(kind, EngineErrorKind::LoginRefused);
    assert!(text.contains("config.json"), "{text}");
}

/// Creates a credential helper of this name in the directory.
fn helper(folder: &Path, name: &str, script: &str) {
    let program = folder.join(format!("docker-credential-{name}"));
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Set in the child process: the image to pull.
const CHILD: &str = "DOCKERPOOL_TEST_IMAGE";

/// Runs each case in a process of its own, since helpers are looked up on the `PATH` of the process.
#[tokio::test]
async fn credential_helpers_are_asked() {
    if lacks(Capability::Loopback) {
        return;
    }
    let engine = engine().await;
    if let Ok(image) = std::env::var(CHILD) {
        let said = match pool_of(&engine, &image).build().await {
            Ok(pool) => pool.shutdown().await.map(|()| "pulled".to_owned()).unwrap(),
            Err(error) => {
                let source = error.engine_error().unwrap();
                format!("{:?} {error}: {source}", source.kind())
            }
        };
        println!("\n<<{said}>>");
        return;
    }
    let registry = Registry::with_password(PASSWORD).await;
    let image = registry.fill(engine.bollard(), "private:1").await;
    let folder = tempfile::tempdir().unwrap();
    let config = |json: serde_json::Value| fs::write(folder.path().join("config.json"), json.to_string()).unwrap();
    let pull_once = async || {
        image.forget();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let output = tokio::process::Command::from(itself(&own_test!("credential_helpers_are_asked")))
            .env(CHILD, &image.name)
            .env("PATH", path)
            .env("DOCKER_CONFIG", folder.path())
            // DOCKER_CONFIG also selects the contexts, so the engine is named explicitly.
            .env("DOCKER_HOST", engine.endpoint().unwrap().to_string())
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let said = text.split_once("<<").and_then(|(_, rest)| rest.split_once(">>"));
        said.unwrap_or_else(|| panic!("{output:?}")).0.to_owned()
    };

    // Podman relies on layers that it has, and fails if the removal of another image takes one away at the same time.
    // Other tests of this file remove images with the same layers.
    let pull = async || {
        for _ in 0..10 {
            let said = pull_once().await;
            if !(said.starts_with("Internal") && said.contains("layer not known")) {
                return said;
            }
        }
        panic!("each pull lost a layer");
    };

    let answer = serde_json::json!({"ServerURL": registry.address, "Username": USER, "Secret": PASSWORD});
    let for_us = format!(
        "read server\n[ \"$1 $server\" = \"get {}\" ] && echo '{answer}' || {{ echo 'credentials not found in native \
         keychain'; exit 1; }}",
        registry.address
    );
    helper(folder.path(), "good", &for_us);
    helper(
        folder.path(),
        "none",
        "read server; echo 'credentials not found in native keychain'; exit 1",
    );
    helper(
        folder.path(),
        "broken",
        "read server; echo s3cret; echo the vault is locked >&2; exit 1",
    );

    config(serde_json::json!({"credHelpers": {registry.address.as_str(): "good"}}));
    assert_eq!(pull().await, "pulled");
    config(serde_json::json!({"credsStore": "good", "auths": {registry.address.as_str(): {}}}));
    assert_eq!(pull().await, "pulled");
    // A helper without credentials for this registry is no error. The registry then refuses the pull.
    config(serde_json::json!({"credsStore": "none"}));
    let text = pull().await;
    assert!(
        text.starts_with("LoginRefused") && (text.contains("no basic auth") || text.contains("unauthorized")),
        "{text}"
    );
    config(serde_json::json!({"credsStore": "broken"}));
    let text = pull().await;
    assert!(
        text.starts_with("LoginRefused") && text.contains("docker-credential-broken failed: the vault is locked"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
    config(serde_json::json!({"credsStore": "missing"}));
    let text = pull().await;
    assert!(
        text.starts_with("LoginRefused") && text.contains("docker-credential-missing is not on the PATH"),
        "{text}"
    );

    // Hostile helpers cost neither memory nor the build, and are gone afterwards.
    let pid_file = folder.path().join("pid");
    let hostile = async |name: &str, script: &str, words: &str| {
        let script = format!("echo $$ > {}; {script}", pid_file.display());
        helper(folder.path(), name, &script);
        config(serde_json::json!({ "credsStore": name }));
        let text = pull().await;
        assert!(
            text.starts_with("LoginRefused") && text.contains(words),
            "{name}: {text}"
        );
        assert!(
            text.len() < 8192 && !text.contains(char::is_control),
            "{name}: {text:?}"
        );
        let pid = fs::read_to_string(&pid_file).unwrap();
        let gone = || !Path::new("/proc").join(pid.trim()).exists();
        crate::support::eventually_now("the helper is gone", gone).await;
    };
    hostile("endless", "exec cat /dev/zero", "prints more than").await;
    hostile("complains", "exec cat /dev/zero >&2", "prints more than").await;
    hostile("hangs", "exec sleep 600", "did not answer within 20 s").await;
    hostile("babbles", "echo '{'; exit 0", "cannot be understood").await;
    hostile(
        "escapes",
        "printf 'no\\033]0;owned\\007\\nno' >&2; exit 1",
        "failed: no\\u{1b}]0;owned\\u{7}\\nno",
    )
    .await;

    // A helper name with a path in it is not run.
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir(folder.path().join("docker-credential-x")).unwrap();
    fs::write(
        elsewhere.join("evil"),
        format!("#!/bin/sh\ntouch {}/ran\n", folder.path().display()),
    )
    .unwrap();
    fs::set_permissions(elsewhere.join("evil"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["x/../elsewhere/evil", "../elsewhere/evil", "x y", "."] {
        config(serde_json::json!({ "credsStore": name }));
        let text = pull().await;
        assert!(
            text.starts_with("LoginRefused") && text.contains("is no name of a credential helper"),
            "{text}"
        );
        config(serde_json::json!({"credHelpers": {registry.address.as_str(): name}}));
        assert!(pull().await.contains("is no name of a credential helper"));
    }
    assert!(!folder.path().join("ran").exists());

    // A configuration that is not a regular file is not read, even if the image is public.
    let file = folder.path().join("config.json");
    fs::remove_file(&file).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&file)
            .status()
            .unwrap()
            .success()
    );
    let text = pull().await;
    assert!(
        text.starts_with("LoginRefused") && text.contains("no regular file"),
        "{text}"
    );
    fs::remove_file(&file).unwrap();
    // An empty configuration counts as none.
    fs::write(&file, "").unwrap();
    let text = pull().await;
    assert!(
        text.starts_with("LoginRefused") && !text.contains("config.json"),
        "{text}"
    );
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_a_token_of_the_registry() {
    if lacks(Capability::Loopback) {
        return;
    }
    let (engine, (address, mut received)) = (engine().await, with_tokens().await);
    let builder = pool_of(&engine, &format!("{address}/a:1")).registry_auth(RegistryAuth::identity_token("refr3sh"));
    assert!(!format!("{builder:?}").contains("refr3sh"));
    let (kind, text) = fails(builder).await;
    assert_eq!(kind, EngineErrorKind::ImageNotFound, "{text}");
    let mut asked = String::new();
    while let Ok(request) = received.try_recv() {
        asked += &request;
    }
    assert!(asked.contains("refresh_token=refr3sh"), "{asked}");
}
