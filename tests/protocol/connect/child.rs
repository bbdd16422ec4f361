//! Environment variables: each case runs in a process of its own, since a process has only one environment.

use crate::support::{itself, own_test};
use std::path::Path;
use std::process::Stdio;

use dockerpool::{DockerEngine, Engine};
use tempfile::TempDir;
use tokio::process::Command;

use super::{a_command_runs, certificates};
use crate::proxy::{Authority, Proxy, real_socket};

/// Set in the child process: `connect` lets it connect and report the result, `command` lets it also run a command.
const CHILD: &str = "DOCKERPOOL_TEST_CHILD";

/// Returns the report of a child process with exactly this environment.
pub async fn child(what: &str, environment: &[(&str, &str)]) -> String {
    let output = Command::from(itself(&own_test!("the_environment_selects_the_engine")))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env(CHILD, what)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    match output.split_once("<<").and_then(|(_, rest)| rest.split_once(">>")) {
        Some((said, _)) => said.to_owned(),
        None => panic!("the child reported nothing: {output}"),
    }
}

async fn report(what: &str) -> String {
    match DockerEngine::connect().await {
        Ok(engine) => {
            let endpoint = engine.endpoint().unwrap().to_string();
            engine.check().await.unwrap();
            if what == "command" {
                a_command_runs(engine).await;
            }
            format!("connected {endpoint}")
        }
        Err(error) => {
            let mut text = format!("{error}");
            let mut source = std::error::Error::source(&error);
            while let Some(error) = source {
                text += &format!(": {error}");
                source = error.source();
            }
            text
        }
    }
}

#[tokio::test]
async fn the_environment_selects_the_engine() {
    if let Ok(what) = std::env::var(CHILD) {
        println!("\n<<{}>>", report(&what).await);
        return;
    }
    let socket = format!("unix://{}", real_socket().await);
    let proxy = Proxy::plain().await;
    let tcp = format!("tcp://{}", proxy.address);

    let host = |host: &str| [("DOCKER_HOST".to_owned(), host.to_owned())];
    let said = async |environment: &[(String, String)]| {
        let environment: Vec<_> = environment.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        child("connect", &environment).await
    };
    assert_eq!(said(&host(&socket)).await, format!("connected {socket}"));
    assert_eq!(said(&host(&tcp)).await, format!("connected {tcp}"));

    let text = said(&host("tcp://192.0.2.1:2375")).await;
    assert!(
        text.contains("DOCKER_HOST: ")
            && text.contains("DOCKER_TLS_VERIFY")
            && text.contains("DOCKERPOOL_INSECURE_TCP"),
        "{text}"
    );
    let text = said(&host("nonsense")).await;
    assert!(
        text.contains("DOCKER_HOST: `nonsense` must begin with unix://"),
        "{text}"
    );
    let text = said(&host("unix:///nowhere.sock")).await;
    assert!(
        text.contains("unix:///nowhere.sock") && text.contains("No such file"),
        "{text}"
    );
    let text = said(&host("unix:///etc/passwd")).await;
    assert!(text.contains("/etc/passwd is no socket"), "{text}");
    let text = said(&[("DOCKER_CONTEXT".to_owned(), "gone".to_owned())]).await;
    assert!(text.contains("DOCKER_CONTEXT: there is no context `gone`"), "{text}");
}

#[tokio::test]
async fn the_tls_variables_select_certificates() {
    let authority = Authority::new();
    let proxy = Proxy::tls(authority.server(&["127.0.0.1"])).await;
    let folder = certificates(&authority, Some(&authority));
    let folder = folder.path().to_str().unwrap();
    let host = format!("tcp://{}", proxy.address);
    let environment = [("DOCKER_HOST", host.as_str()), ("DOCKER_TLS_VERIFY", "1")];
    let named = [environment[0], environment[1], ("DOCKER_CERT_PATH", folder)];
    let in_config = [environment[0], environment[1], ("DOCKER_CONFIG", folder)];
    assert_eq!(child("connect", &named).await, format!("connected {host}"));
    assert_eq!(child("connect", &in_config).await, format!("connected {host}"));
    // Without the TLS variables, the library speaks plain HTTP to a server that expects TLS.
    let text = child("connect", &environment[..1]).await;
    assert!(text.contains(&host) && !text.starts_with("connected"), "{text}");
    let text = child(
        "connect",
        &[environment[0], environment[1], ("DOCKER_CERT_PATH", "/nowhere")],
    )
    .await;
    assert!(
        text.contains("DOCKER_CERT_PATH: /nowhere/ca.pem cannot be read"),
        "{text}"
    );
}

#[tokio::test]
async fn settings_that_are_not_regular_files_do_not_block_a_connect() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let fifo = |name: &str| {
        let made = std::process::Command::new("mkfifo").arg(path(name)).status().unwrap();
        assert!(made.success());
    };
    let socket = format!("unix://{}", real_socket().await);
    std::fs::create_dir(path("none")).unwrap();
    std::fs::create_dir(path("pipe")).unwrap();
    fifo("pipe/config.json");
    std::fs::create_dir(path("endless")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", path("endless/config.json")).unwrap();
    std::fs::create_dir(path("broken")).unwrap();
    std::fs::write(path("broken/config.json"), "{").unwrap();
    std::fs::write(path("plain"), "").unwrap();

    // The engine found without any configuration, on whatever machine this is.
    let usual = child("connect", &[("DOCKER_CONFIG", &text("none"))]).await;
    for name in ["pipe", "endless", "broken", "plain", "not-there"] {
        let said = child("connect", &[("DOCKER_CONFIG", &text(name))]).await;
        assert_eq!(said, usual, "{name}");
        let with_host = [("DOCKER_CONFIG", &*text(name)), ("DOCKER_HOST", &*socket)];
        assert_eq!(
            child("connect", &with_host).await,
            format!("connected {socket}"),
            "{name}"
        );
    }
    assert_eq!(child("connect", &[("HOME", &text("plain"))]).await, usual);

    // A file that was named explicitly and cannot be read is an error.
    std::fs::create_dir(path("certificates")).unwrap();
    fifo("certificates/ca.pem");
    let environment = [
        ("DOCKER_HOST", "tcp://127.0.0.1:2376"),
        ("DOCKER_CERT_PATH", &*text("certificates")),
    ];
    let said = child("connect", &environment).await;
    assert!(said.contains("ca.pem cannot be read: it is no regular file"), "{said}");
}

/// Runs the Docker command line with a configuration of its own.
async fn docker(config: &Path, args: &[&str]) {
    let output = Command::new("docker")
        .arg("--config")
        .arg(config)
        .args(args)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
}

#[tokio::test]
async fn contexts_made_by_docker_are_followed() {
    let authority = Authority::new();
    let proxy = Proxy::tls(authority.server(&["127.0.0.1"])).await;
    let files = certificates(&authority, Some(&authority));
    let file = |name: &str| files.path().join(name).display().to_string();
    let secure = format!(
        "host=tcp://{},ca={},cert={},key={}",
        proxy.address,
        file("ca.pem"),
        file("cert.pem"),
        file("key.pem")
    );
    let config: TempDir = tempfile::tempdir().unwrap();
    let socket = format!("unix://{}", real_socket().await);
    let local = format!("host={socket}");
    docker(config.path(), &["context", "create", "secure", "--docker", &secure]).await;
    docker(config.path(), &["context", "create", "local", "--docker", &local]).await;
    let with = |name| {
        [
            ("DOCKER_CONFIG", config.path().to_str().unwrap()),
            ("DOCKER_CONTEXT", name),
        ]
    };
    let over_tls = format!("connected tcp://{}", proxy.address);
    let over_socket = format!("connected {socket}");
    assert_eq!(child("connect", &with("secure")).await, over_tls);
    assert_eq!(child("connect", &with("local")).await, over_socket);

    docker(config.path(), &["context", "use", "secure"]).await;
    assert_eq!(child("connect", &with("secure")[..1]).await, over_tls);
    docker(config.path(), &["context", "use", "local"]).await;
    assert_eq!(child("connect", &with("")[..1]).await, over_socket);
    // DOCKER_HOST takes precedence over any context.
    let host = ("DOCKER_HOST", socket.as_str());
    assert_eq!(
        child("connect", &[with("secure")[0], with("secure")[1], host]).await,
        over_socket
    );
}
