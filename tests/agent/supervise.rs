//! The container's own command, which the agent runs beside the commands of leases.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::support::{busybox, containers_of, engine, eventually, eventually_now, is_podman, pool, python};
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, CreateImageOptions, InspectContainerOptions, RemoveContainerOptions,
};
use dockerpool::{Error, ExecVia, ExitStatus, PoolBuilder, PooledContainer, Reuse, Taint, WhyGone};
use futures_util::StreamExt;
use parking_lot::Mutex;

/// An image with the given entrypoint and command. Drop removes it.
struct Image(String);

impl Image {
    fn with_new_name() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("dockerpool-test/supervise-{}-{number}:1", std::process::id()))
    }

    async fn shell(script: &str) -> Self {
        Self::new(&["sh", "-c"], &[script]).await
    }

    /// Makes an image that has files but no command.
    async fn without_command() -> Self {
        let image = Self::with_new_name();
        let (repo, tag) = image.0.rsplit_once(':').unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        archive.append_data(&mut header, "file", &[][..]).unwrap();
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        let archive = bollard::body_full(archive.into_inner().unwrap().into());
        let steps = engine()
            .await
            .bollard()
            .create_image(Some(options), Some(archive), None);
        steps.for_each(async |step| drop(step.unwrap())).await;
        image
    }

    async fn new(entrypoint: &[&str], cmd: &[&str]) -> Self {
        let image = Self::with_new_name();
        let (repo, tag) = image.0.rsplit_once(':').unwrap();
        let (engine, words) = (engine().await, |words: &[&str]| {
            Some(words.iter().map(|word| (*word).to_owned()).collect())
        });
        let body = ContainerCreateBody {
            image: Some(busybox()),
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..Default::default()
        };
        let created = engine
            .bollard()
            .create_container(None::<CreateContainerOptions>, body)
            .await
            .unwrap();
        let options = CommitContainerOptions {
            container: Some(created.id.clone()),
            repo: Some(repo.to_owned()),
            tag: Some(tag.to_owned()),
            ..Default::default()
        };
        let committed = engine
            .bollard()
            .commit_container(options, ContainerConfig::default())
            .await;
        engine
            .bollard()
            .remove_container(&created.id, None::<RemoveContainerOptions>)
            .await
            .unwrap();
        committed.unwrap();
        image
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // The command line is synchronous, and `drop` cannot wait for an answer of the engine.
        let _ = Command::new("docker")
            .args(["image", "rm", "--force", &self.0])
            .output();
    }
}

fn supervised(name: &str, image: &Image) -> PoolBuilder {
    pool(name)
        .image(&image.0)
        .exec_via(ExecVia::Agent)
        .supervise_command(true)
}

async fn sh(c: &PooledContainer, script: &str) -> String {
    c.command("sh").args(["-c", script]).output_string().await.unwrap()
}

/// Returns the error of a command in a container that is gone, as text.
async fn why_gone(c: &PooledContainer) -> String {
    match c.command("true").status().await.unwrap_err() {
        Error::ContainerGone { source, .. } => source.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Returns why there is no container. The build fails with the reason. On a busy machine, where the command still seems
/// to run at the build, an acquire fails with it.
async fn why_none(builder: PoolBuilder) -> String {
    let pool = match builder.min_idle(1).build().await {
        Ok(pool) => pool,
        Err(error) => return error.engine_error().unwrap().to_string(),
    };
    let failure = Mutex::new(None);
    eventually("the end is told", async || {
        let error = pool.acquire_timeout(Duration::from_millis(10)).await.err();
        *failure.lock() = error.and_then(|error| error.engine_error().map(ToString::to_string));
        failure.lock().is_some()
    })
    .await;
    pool.shutdown().await.unwrap();
    failure.into_inner().unwrap()
}

#[tokio::test]
async fn the_images_server_serves_the_commands_of_leases() {
    // The engine joins the entrypoint and its arguments.
    let image = Image::new(&["httpd", "-f"], &["-p", "8080", "-h", "/etc"]).await;
    let pool = supervised("server", &image)
        .env("GREETING", "hello")
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(c.has_lifeline());
    assert_eq!(c.process_count().await.unwrap(), 1);
    eventually("the server answers", async || {
        let mut wget = c.command("wget");
        let out = wget
            .args(["-q", "-O", "-", "http://127.0.0.1:8080/passwd"])
            .output()
            .await
            .unwrap();
        out.stdout_lossy().contains("root:")
    })
    .await;
    // The server runs as the container's user, in its environment. The server is the agent's child. A child of the
    // server may serve a connection that is ending.
    let server = "for p in $(pidof httpd); do\n\
                  if grep -q '^PPid:.1$' /proc/$p/status; then tr '\\0' '\\n' </proc/$p/environ; fi; done";
    let environ = sh(&c, server).await;
    assert!(environ.contains("GREETING=hello"), "{environ}");
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_command_set_on_the_builder_can_be_supervised() {
    let command = [
        "python3",
        "-u",
        "-m",
        "http.server",
        "8080",
        "--bind",
        "127.0.0.1",
        "--directory",
        "/etc",
    ];
    let pool = pool("own")
        .image(python())
        .memory(128 << 20)
        .user("65534:65534")
        .cmd(command)
        .exec_via(ExecVia::Auto)
        .supervise_command(true)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    eventually("the server answers", async || {
        let script =
            "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080/passwd').read().decode())";
        let out = c.command("python3").args(["-c", script]).output().await.unwrap();
        out.stdout_lossy().contains("root:")
    })
    .await;
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_supervised_command_is_spared_when_a_command_is_killed() {
    let image = Image::shell("sleep 1001 & (setsid sh -c 'sleep 1002 & sleep 1003' &); exec sleep 1004").await;
    let pool = supervised("spared", &image).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let sleeps = "ps -o args | grep '^sleep' | sort | tr '\\n' ' '";
    let all = "sleep 1001 sleep 1002 sleep 1003 sleep 1004 ";
    eventually("all runs", async || sh(&c, sleeps).await == all).await;
    // The kernel's start times have a resolution of 10 ms. Processes started in the same tick could belong to either
    // command.
    tokio::time::sleep(Duration::from_millis(20)).await;
    for script in [
        "sleep 2000 & setsid sleep 2001 & sleep 2002",
        // With so many processes the agent stops all processes before it looks.
        "for i in $(seq 100); do sleep 2000 & setsid sleep 2001 & done; sleep 2002",
    ] {
        let mut command = c.command("sh");
        let out = command
            .args(["-c", script])
            .timeout(Duration::from_secs(1))
            .output()
            .await
            .unwrap();
        assert_eq!(out.status, ExitStatus::TimedOut);
        assert_eq!(sh(&c, sleeps).await, all);
    }
    let stopped = sh(&c, "grep -l '^State:.T' /proc/[0-9]*/status; true").await;
    assert_eq!(stopped, "");
    assert_eq!(c.taint(), None);
    let id = c.id().to_owned();
    drop(c);
    assert_eq!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_end_of_the_supervised_command_ends_the_container_and_a_lease_is_told_why() {
    let image =
        Image::shell("echo $$ >/pid; while [ ! -e /stop ]; do sleep 0.01; done; echo out of coal >&2; exit 7").await;
    let pool = supervised("end", &image).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let running = c.command("sleep").arg("1000").spawn().await.unwrap();
    assert!(c.command("touch").arg("/stop").status().await.unwrap().success());
    let out = running.wait_with_output().await.unwrap();
    let why = WhyGone::CommandEnded;
    assert_eq!(out.status, ExitStatus::ContainerGone { why });
    assert_eq!(c.taint(), Some(Taint::Died));
    assert_eq!(
        why_gone(&c).await,
        "the container's command, `sh`, has ended with exit code 7: out of coal"
    );
    drop(c);

    let c = pool.acquire().await.unwrap();
    // The command that kills may end with the container, so its status is ignored.
    let _ = c.command("sh").args(["-c", "kill -9 $(cat /pid)"]).status().await;
    eventually_now("the end is seen", || c.taint() == Some(Taint::Died)).await;
    assert_eq!(
        why_gone(&c).await,
        "the container's command, `sh`, was ended by signal 9"
    );
    drop(c);
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine().await, &pool).await, 0);
}

#[tokio::test]
async fn an_idle_container_whose_command_has_ended_is_replaced() {
    let image = Image::shell("while [ ! -e /stop ]; do sleep 0.01; done").await;
    let pool = supervised("replaced", &image)
        .min_idle(1)
        .max_total(1)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    // The container is returned before its command ends.
    let script = "(sleep 0.5; touch /stop) >/dev/null 2>&1 &";
    assert!(c.command("sh").args(["-c", script]).status().await.unwrap().success());
    drop(c);
    eventually("another container is there", async || {
        let c = pool.acquire().await.unwrap();
        c.id() != id
    })
    .await;
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn kill_all_ends_the_supervised_command_and_the_container() {
    let image = Image::shell("sleep 1000").await;
    let pool = supervised("kill-all", &image).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    c.kill_all().await.unwrap();
    assert_eq!(c.taint(), Some(Taint::Killed));
    assert!(matches!(
        c.command("true").status().await,
        Err(Error::ContainerGone { .. })
    ));
    let id = c.id().to_owned();
    drop(c);
    assert_ne!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn output_of_the_supervised_command_is_discarded_and_blocks_nothing() {
    let image = Image::new(&["yes"], &["0123456789012345678901234567890123456789"]).await;
    let pool = supervised("flood", &image).reuse(Reuse::AsIs).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let written = async || {
        let io = sh(&c, "cat /proc/$(pidof yes)/io").await;
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
        line.parse::<u64>().unwrap()
    };
    let before = written().await;
    // More bytes than the pipe and the connection can hold.
    eventually("the command prints", async || written().await > before + 4_000_000).await;
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_supervised_command_that_does_not_run_fails_the_build() {
    for (image, words) in [
        (
            Image::shell("echo no coal; exit 3").await,
            "`sh`, has ended with exit code 3: no coal",
        ),
        (
            Image::new(&[], &["no-such-program"]).await,
            "`no-such-program`, could not be started: executable file",
        ),
    ] {
        let found = why_none(supervised("broken", &image)).await;
        assert!(found.contains(words), "{found}");
    }
    // Podman gives an imported image no name.
    if is_podman().await {
        return;
    }
    let error = supervised("none", &Image::without_command().await)
        .build()
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("supervise_command: the image has no command"),
        "{error}"
    );
}

#[tokio::test]
async fn supervising_a_command_needs_the_agent() {
    let without = |builder: PoolBuilder| builder.cmd(["sleep", "1000"]).supervise_command(true);
    let privileged = HostConfig {
        privileged: Some(true),
        ..Default::default()
    };
    for builder in [
        without(pool("a")).exec_via(ExecVia::Docker),
        without(pool("b")).exec_via(ExecVia::Auto).host_config(privileged),
    ] {
        let Error::Config(problems) = builder.build().await.unwrap_err() else {
            panic!("the configuration was accepted")
        };
        assert_eq!(problems[0].field(), "supervise_command");
        assert!(problems[0].problem().starts_with("needs the agent"), "{problems:?}");
    }
    // This agent's program does not exist on the engine's machine.
    let builder = without(pool("c")).exec_via(ExecVia::Auto).agent_path("/no/such/agent");
    let error = builder.build().await.unwrap_err();
    assert!(error.to_string().contains("bring the agent"), "{error}");
}

#[tokio::test]
async fn the_last_line_of_the_supervised_command_is_escaped_in_the_error() {
    let image = Image::shell("printf 'dying\\033]0;owned\\007\\nlast line\\n'; exit 7").await;
    let words = why_none(supervised("supervise-words", &image)).await;
    assert!(
        words.contains("exit code 7: dying\\u{1b}]0;owned\\u{7}\\nlast line"),
        "{words:?}"
    );
    assert!(!words.contains(char::is_control), "{words:?}");
}

#[tokio::test]
async fn variables_of_the_server_reach_a_command_on_request_only() {
    let image = Image::shell("echo $PASSWORD-$SHARED >/said; sleep 1000").await;
    let pool = supervised("server-env", &image)
        .env("SHARED", "both")
        .env("PASSWORD", "of nobody")
        .server_env("PASSWORD", "secret")
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    eventually("the server has said it", async || {
        sh(&c, "cat /said").await == "secret-both\n"
    })
    .await;
    assert_eq!(sh(&c, "echo $PASSWORD-$SHARED").await, "of nobody-both\n");
    let with = async |change: fn(&mut dockerpool::Command<'_>)| {
        let mut command = c.command("sh");
        change(command.args(["-c", "echo $PASSWORD-$SHARED"]).server_env());
        command.output_string().await.unwrap()
    };
    assert_eq!(with(|_| {}).await, "secret-both\n");
    let own = with(|command| {
        command.env("PASSWORD", "own");
    });
    assert_eq!(own.await, "own-both\n");
    let alone = with(|command| {
        command.env_clear();
    });
    assert_eq!(alone.await, "secret-\n");
    // The engine does not know them, and no `Debug` shows them.
    let described = engine()
        .await
        .bollard()
        .inspect_container(c.id(), None::<InspectContainerOptions>)
        .await;
    assert!(!format!("{:?}", described.unwrap()).contains("secret"));
    assert!(!format!("{:?}", supervised("x", &image).server_env("PASSWORD", "secret")).contains("secret"));
    drop(c);
    pool.shutdown().await.unwrap();

    let without = crate::support::pool("server-env").server_env("PASSWORD", "secret");
    let error = without.build().await.unwrap_err();
    assert!(error.to_string().contains("server_env: no command"), "{error}");
}
