//! The agent on engines that do not see this machine's files. A volume brings the agent to such an engine and is
//! removed with its pool.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::proxy::Proxy;
use crate::support::{Owner, busybox, engine, eventually, finish, is_podman, own_test, unique_name};
use crate::teller::{Changes, Teller};
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use dockerpool::engine::{Lifecycle, Observation, Selector};
use dockerpool::{
    ActiveExec, Container, ContainerSpec, DockerEngine, Endpoint, Engine, Error, ExecVia, Lifeline, Pool, PoolBuilder,
};
use dockerpool::{Taint, labels};
use serde_json::Value;

/// Makes a run of this binary, in a process of its own, the owner of a pool of this name.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// A unique name. Drop removes all containers and volumes with that name, also when the test fails.
struct Name(String);

impl Name {
    fn new() -> Self {
        Self(unique_name("volume"))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let name = self.0.clone();
        finish(async move {
            let engine = engine().await;
            for container in engine.list(&Selector::pool(&name)).await.unwrap() {
                let _ = engine.remove(&container.id).await;
            }
            for volume in volumes(&engine, &name).await {
                let _ = remove_volume(&engine, &volume).await;
            }
        });
    }
}

/// Returns the volumes of pools of this name.
async fn volumes(engine: &DockerEngine, name: &str) -> Vec<String> {
    let of_pool = format!("{}={name}", labels::POOL);
    let options = ListVolumesOptions {
        filters: Some([("label".to_owned(), vec![of_pool])].into()),
    };
    let found = engine.bollard().list_volumes(Some(options)).await.unwrap();
    found.volumes.into_iter().flatten().map(|volume| volume.name).collect()
}

async fn remove_volume(engine: &DockerEngine, volume: &str) -> Result<(), bollard::errors::Error> {
    engine
        .bollard()
        .remove_volume(volume, None::<RemoveVolumeOptions>)
        .await
}

/// Counts the containers and volumes of pools of this name.
async fn all(engine: &DockerEngine, name: &str) -> (usize, usize) {
    let containers = engine.list(&Selector::pool(name)).await.unwrap();
    (containers.len(), volumes(engine, name).await.len())
}

/// The real engine, reached as if it were on another machine.
struct Remote {
    engine: Arc<DockerEngine>,
    _proxy: Proxy,
}

impl Remote {
    async fn new() -> Self {
        let proxy = Proxy::plain().await;
        let endpoint = Endpoint::tcp(proxy.address.to_string());
        let engine = Arc::new(DockerEngine::connect_to(endpoint).await.unwrap());
        assert!(!engine.capabilities().local_files);
        Self { engine, _proxy: proxy }
    }

    fn pool(&self, name: &Name) -> PoolBuilder {
        crate::support::pool(&name.0)
            .engine(self.engine.clone())
            .exec_via(ExecVia::Agent)
    }
}

async fn runs_commands(pool: &Pool) {
    let c = pool.acquire().await.unwrap();
    let input = "over the wire\n".repeat(10_000);
    let out = c.command("cat").stdin(input.clone()).output().await.unwrap();
    assert!(out.status.success() && out.stdout_lossy() == input, "{}", out.status);
    // Only the agent as PID 1 supports this call.
    assert_eq!(c.process_count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_remote_engine_runs_the_agent_from_a_volume_that_goes_with_the_pool() {
    let (name, remote) = (Name::new(), Remote::new().await);
    for via in [ExecVia::Agent, ExecVia::Auto, ExecVia::Docker] {
        let begun = Instant::now();
        let pool = remote.pool(&name).exec_via(via).build().await.unwrap();
        println!("built in {:?}", begun.elapsed());
        assert!(crate::support::is_strong(pool.status().lifeline).await);
        runs_commands(&pool).await;
        assert_eq!(all(&remote.engine, &name.0).await, (1, 1));
        let volume = volumes(&remote.engine, &name.0).await.remove(0);
        let found = remote.engine.bollard().inspect_volume(&volume).await.unwrap();
        assert_eq!(found.labels[labels::INSTANCE], pool.instance());
        assert!(found.labels.contains_key(labels::OWNER), "{found:?}");

        let c = pool.acquire().await.unwrap();
        let mounts = crate::support::mounts(&c).await;
        assert!(mounts.contains(" /.dockerpool ro,"), "{mounts}");
        // Code in the container can read the mounts. They must not reveal the owner.
        for secret in [&*name.0, &pool.instance()[..12]] {
            assert!(!mounts.contains(secret), "{secret}: {mounts}");
        }
        drop(c);
        pool.shutdown().await.unwrap();
        assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
    }
}

#[tokio::test]
async fn the_volume_works_with_a_read_only_root_and_an_unprivileged_user() {
    let (name, remote) = (Name::new(), Remote::new().await);
    let pool = remote
        .pool(&name)
        .read_only_root(true)
        .user("65534:65534")
        .cap_drop_all()
        .tmpfs("/tmp", 1 << 20)
        .build()
        .await
        .unwrap();
    runs_commands(&pool).await;
    let c = pool.acquire().await.unwrap();
    assert_eq!(c.command("id").arg("-u").output_string().await.unwrap(), "65534\n");
    drop(c);
    pool.shutdown().await.unwrap();
    assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
}

#[tokio::test]
async fn pools_of_one_name_have_a_volume_each() {
    let (name, remote) = (Name::new(), Remote::new().await);
    let (one, two) = tokio::join!(remote.pool(&name).build(), remote.pool(&name).build());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(volumes(&remote.engine, &name.0).await.len(), 2);
    tokio::join!(runs_commands(&one), runs_commands(&two));
    one.shutdown().await.unwrap();
    // A further container uses the volume too.
    let kept = two.acquire().await.unwrap();
    runs_commands(&two).await;
    drop(kept);
    two.shutdown().await.unwrap();
    assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
}

#[tokio::test]
async fn a_container_taken_out_of_the_pool_does_not_keep_the_volume() {
    let (name, remote) = (Name::new(), Remote::new().await);
    let pool = remote.pool(&name).build().await.unwrap();
    let mine = pool.acquire().await.unwrap().into_inner();
    pool.shutdown().await.unwrap();
    assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
    eventually("the container is known to be gone", async || {
        mine.taint() == Some(Taint::Died) || mine.inspect().await.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_is_dropped_or_not_built_leaves_no_volume() {
    let (name, remote) = (Name::new(), Remote::new().await);
    let pool = remote.pool(&name).min_idle(1).build().await.unwrap();
    drop(pool);
    eventually("all is gone", async || all(&remote.engine, &name.0).await == (0, 0)).await;

    // The first container cannot be started.
    let error = remote
        .pool(&name)
        .min_idle(1)
        .user("nobody-of-that-name")
        .build()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Engine { .. }), "{error:?}");
    assert_eq!(all(&remote.engine, &name.0).await, (0, 0));

    // The build is dropped after different times. After some such calls Podman 4.3 can no longer list its containers.
    if is_podman().await {
        return;
    }
    for i in 0..12 {
        let build = remote.pool(&name).min_idle(1).build();
        let _ = tokio::time::timeout(Duration::from_millis(1 + 3 * i * i), build).await;
    }
    eventually("all is gone", async || all(&remote.engine, &name.0).await == (0, 0)).await;
}

#[tokio::test]
async fn a_pruned_volume_is_filled_again() {
    let (name, remote) = (Name::new(), Remote::new().await);
    let pool = remote.pool(&name).build().await.unwrap();
    let volume = volumes(&remote.engine, &name.0).await.remove(0);
    // Some engines release the volume a little late.
    eventually("the volume is pruned", async || {
        remove_volume(&remote.engine, &volume).await.is_ok()
    })
    .await;
    let (one, two) = tokio::join!(pool.acquire(), pool.acquire());
    for c in [one.unwrap(), two.unwrap()] {
        assert!(c.command("true").status().await.unwrap().success());
    }
    assert_eq!(volumes(&remote.engine, &name.0).await, [volume]);
    pool.shutdown().await.unwrap();
    assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
}

#[tokio::test]
async fn a_container_without_a_pool_gets_no_volume_and_the_error_says_so() {
    let remote = Remote::new().await;
    let spec = |via| ContainerSpec::new(busybox()).memory(64 << 20).exec_via(via);
    let error = Container::create(remote.engine.clone(), spec(ExecVia::Agent))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("outside of a pool"), "{error}");
    let c = Container::create(remote.engine.clone(), spec(ExecVia::Auto))
        .await
        .unwrap();
    let c = c.start().await.unwrap();
    assert!(c.command("true").status().await.unwrap().success());
    assert!(matches!(c.process_count().await, Err(Error::Unsupported { .. })));
    c.remove().await.unwrap();
}

/// Starts a process with a pool on a remote engine.
fn owner(name: &Name) -> Owner {
    Owner::start(&own_test!("an_owner"), |command| command.env(OWNER, &name.0))
}

/// Runs as an owner. This is not a test of its own.
#[tokio::test]
async fn an_owner() {
    let Ok(name) = std::env::var(OWNER) else { return };
    let remote = Remote::new().await;
    let builder = crate::support::pool(&name)
        .engine(remote.engine.clone())
        .exec_via(ExecVia::Agent);
    let pool = builder.min_idle(1).build().await.unwrap();
    println!("\nready");
    std::future::pending::<()>().await;
    drop(pool);
}

#[tokio::test]
async fn the_next_owner_of_the_name_removes_the_volume_of_a_killed_owner() {
    let (name, engine) = (Name::new(), engine().await);
    let (mut dead, living) = (owner(&name), owner(&name));
    let before = volumes(&engine, &name.0).await;
    assert_eq!(before.len(), 2);
    dead.kill();
    eventually("the dead owner's container is gone", async || {
        all(&engine, &name.0).await.0 == 1
    })
    .await;
    assert_eq!(volumes(&engine, &name.0).await.len(), 2);

    // A pool without a volume removes volumes of dead owners too.
    let pool = crate::support::pool(&name.0)
        .exec_via(ExecVia::Docker)
        .max_idle(0)
        .build()
        .await
        .unwrap();
    eventually("the dead owner's volume is gone", async || {
        all(&engine, &name.0).await == (1, 1)
    })
    .await;
    drop(living);
    eventually("the living owner's volume stays", async || {
        all(&engine, &name.0).await == (0, 1)
    })
    .await;
    pool.shutdown().await.unwrap();

    let pool = crate::support::pool(&name.0)
        .exec_via(ExecVia::Docker)
        .max_idle(0)
        .build()
        .await
        .unwrap();
    eventually("the other owner's volume is gone after its death", async || {
        all(&engine, &name.0).await == (0, 0)
    })
    .await;
    pool.shutdown().await.unwrap();
}

/// A socket can lead to an engine that does not see the same files, as in a container with the engine's socket mounted.
/// This test runs itself again in a process whose directory no other process sees.
#[tokio::test]
async fn a_local_engine_that_does_not_see_our_files_gets_a_volume() {
    if let Ok(name) = std::env::var(OWNER) {
        for via in [ExecVia::Agent, ExecVia::Auto] {
            let pool = crate::support::pool(&name).exec_via(via).build().await.unwrap();
            runs_commands(&pool).await;
            assert_eq!(volumes(&*engine().await, &name).await.len(), 1);
            pool.shutdown().await.unwrap();
        }
        println!("\nall well");
        return;
    }
    let (name, engine, folder) = (Name::new(), engine().await, tempfile::tempdir().unwrap());
    // Users other than root need a user namespace in which they are root.
    let is_root = Command::new("unshare")
        .args(["--mount", "true"])
        .status()
        .unwrap()
        .success();
    let own = ["--mount", "--map-root-user"];
    let test = "a_local_engine_that_does_not_see_our_files_gets_a_volume";
    let output = Command::new("unshare")
        .args(&own[..if is_root { 1 } else { 2 }])
        .args([
            "sh",
            "-c",
            r#"mount -t tmpfs -o mode=700 none "$XDG_RUNTIME_DIR" && exec "$@""#,
            "sh",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &own_test!(test), "--nocapture"])
        .env("XDG_RUNTIME_DIR", folder.path())
        .env("DOCKER_HOST", format!("unix://{}", crate::proxy::real_socket().await))
        .env(OWNER, &name.0)
        .output()
        .expect("unshare (util-linux) can be run");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("all well"),
        "{output:?}"
    );
    assert_eq!(all(&engine, &name.0).await, (0, 0));
}

/// Builds a pool on the real engine through a proxy that changes some answers.
async fn pool_on_changed_engine(name: &Name, changes: Changes) -> (Teller, PoolBuilder) {
    let teller = Teller::start(crate::proxy::real_socket().await, changes);
    let engine = Arc::new(DockerEngine::connect_to(Endpoint::unix(teller.socket())).await.unwrap());
    // The library remembers each engine by its socket.
    let builder = crate::support::pool(&name.0).engine(engine).exec_via(ExecVia::Auto);
    (teller, builder)
}

/// Runs commands by the agent in a pool on a changed engine, and shuts the pool down.
async fn run_on_changed_engine(name: &Name, changes: Changes) -> Teller {
    let (teller, builder) = pool_on_changed_engine(name, changes).await;
    let pool = builder.build().await.unwrap();
    assert_eq!(pool.status().exec, ActiveExec::Agent);
    assert!(crate::support::is_strong(pool.status().lifeline).await);
    runs_commands(&pool).await;
    pool.shutdown().await.unwrap();
    teller
}

/// Returns the targets of all bind mounts that were asked for, in either form.
fn targets(created: &[Value]) -> Vec<String> {
    let mut targets = Vec::new();
    for body in created {
        let host = &body["HostConfig"];
        let mounts = host["Mounts"].as_array().into_iter().flatten();
        let binds = mounts.filter(|mount| mount["Type"] == "bind");
        targets.extend(binds.map(|mount| mount["Target"].as_str().unwrap().to_owned()));
        let binds = host["Binds"].as_array().into_iter().flatten();
        targets.extend(binds.map(|bind| bind.as_str().unwrap().split_once(':').unwrap().1.to_owned()));
    }
    targets
}

#[tokio::test]
async fn an_engine_in_a_virtual_machine_is_not_asked_to_mount_files() {
    let name = Name::new();
    let desktop: fn(&mut Value) = |said| said["OperatingSystem"] = "Docker Desktop".into();
    let colima: fn(&mut Value) = |said| {
        said["Name"] = "colima".into();
        said["KernelVersion"] = "6.8.0-50-generic".into();
    };
    for info in [desktop, colima] {
        let changes = Changes {
            info,
            ..Default::default()
        };
        let teller = run_on_changed_engine(&name, changes).await;
        assert_eq!(targets(&teller.created()), [""; 0]);
        assert!(teller.created().len() >= 2, "one of them fills the volume");
    }
    // A container without a pool has no volume, and its lifeline says why.
    let changes = Changes {
        info: desktop,
        ..Default::default()
    };
    let teller = Teller::start(crate::proxy::real_socket().await, changes);
    let engine = Arc::new(DockerEngine::connect_to(Endpoint::unix(teller.socket())).await.unwrap());
    let c = Container::create(engine, ContainerSpec::new(busybox())).await.unwrap();
    let Lifeline::Weak { why } = c.lifeline() else {
        panic!("{:?}", c.lifeline());
    };
    assert!(why.contains("the engine is not on this machine"), "{why}");
    c.remove().await.unwrap();
    assert_eq!(targets(&teller.created()), [""; 0]);
}

/// Returns whether the request creates a container with a file of this machine.
fn is_with_file(line: &str, asked: &Value) -> bool {
    line.contains("/containers/create") && !targets(std::slice::from_ref(asked)).is_empty()
}

/// Docker's answer to a mount of a file that it does not see.
type Refusal = fn(&str, &Value) -> Option<(u16, String)>;

#[tokio::test]
async fn a_refused_file_mount_brings_the_agent_in_a_volume() {
    let name = Name::new();
    // An engine that does not report its virtual machine, in the words of Docker and of Docker Desktop.
    let missing: Refusal = |line, asked| {
        let words = r#"invalid mount config for type "bind": bind source path does not exist: /run/x/agent"#;
        is_with_file(line, asked).then(|| (400, words.to_owned()))
    };
    let denied: Refusal = |line, asked| {
        let words = "Mounts denied: \nThe path /run/x/agent is not shared from the host and is not known to Docker.";
        is_with_file(line, asked).then(|| (500, words.to_owned()))
    };
    for refused in [missing, denied] {
        let changes = Changes {
            refused,
            ..Default::default()
        };
        let teller = run_on_changed_engine(&name, changes).await;
        assert_eq!(
            targets(&teller.created()),
            ["/.dockerpool-agent", "/.dockerpool-agent-socket"]
        );
    }
}

/// Redirects a mount to a path that does not exist. Docker then makes an empty directory in its place.
fn empty_directories(line: &str, asked: &mut Value, of: &str) {
    if !line.contains("/containers/create") {
        return;
    }
    let host = &mut asked["HostConfig"];
    let Some(mounts) = host["Mounts"].as_array().cloned() else {
        return;
    };
    let (gone, there): (Vec<_>, Vec<_>) = mounts
        .into_iter()
        .partition(|mount| mount["Type"] == "bind" && mount["Target"] == of);
    let binds = gone.iter().map(|mount| {
        let part = |name: &str| mount[name].as_str().unwrap();
        Value::from(format!("{}-gone:{}:ro", part("Source"), part("Target")))
    });
    host["Binds"] = binds.collect();
    host["Mounts"] = there.into();
}

#[tokio::test]
async fn an_empty_directory_in_place_of_the_program_or_of_the_socket_is_noticed() {
    if is_podman().await {
        println!("Podman refuses to mount a missing file, as in the test before");
        return;
    }
    let name = Name::new();
    // An empty directory in place of the program: PID 1 cannot be started, and the volume is tried.
    let changes = Changes {
        asked: |line, asked| empty_directories(line, asked, "/.dockerpool-agent"),
        ..Default::default()
    };
    let (teller, builder) = pool_on_changed_engine(&name, changes).await;
    let pool = builder.build().await.unwrap();
    assert_eq!(pool.status().exec, ActiveExec::Agent);
    assert!(crate::support::is_strong(pool.status().lifeline).await);
    runs_commands(&pool).await;
    pool.shutdown().await.unwrap();
    assert!(teller.asked().iter().any(|(line, _)| line.contains("/volumes/create")));
    // An empty directory in place of the socket: all traffic goes through the attached streams.
    let changes = Changes {
        asked: |line, asked| empty_directories(line, asked, "/.dockerpool-agent-socket"),
        ..Default::default()
    };
    let (teller, builder) = pool_on_changed_engine(&name, changes).await;
    let pool = builder.build().await.unwrap();
    assert_eq!(pool.status().exec, ActiveExec::Agent);
    runs_commands(&pool).await;
    pool.shutdown().await.unwrap();
    assert!(!teller.asked().iter().any(|(line, _)| line.contains("/volumes/create")));
}

#[tokio::test]
async fn with_selinux_the_library_relabels_its_own_files_and_no_others() {
    let (name, folder) = (Name::new(), tempfile::tempdir().unwrap());
    let info: fn(&mut Value) = |said| said["SecurityOptions"] = serde_json::json!(["name=seccomp", "name=selinux"]);
    let (teller, builder) = pool_on_changed_engine(
        &name,
        Changes {
            info,
            ..Default::default()
        },
    )
    .await;
    let users = bollard::models::Mount {
        typ: Some(bollard::models::MountType::BIND),
        source: Some(folder.path().display().to_string()),
        target: Some("/users".to_owned()),
        ..Default::default()
    };
    let host = bollard::models::HostConfig {
        mounts: Some(vec![users]),
        binds: Some(vec![format!("{}:/too:ro", folder.path().display())]),
        ..Default::default()
    };
    // The real engine has no SELinux and ignores the label. All other steps are the same.
    let pool = builder
        .host_config(host)
        .exec_via(ExecVia::Agent)
        .build()
        .await
        .unwrap();
    runs_commands(&pool).await;
    pool.shutdown().await.unwrap();
    let created = teller.created();
    assert!(!created.is_empty());
    for body in created {
        let labelled = ["/.dockerpool-agent:ro,z", "/.dockerpool-agent-socket:ro,z"];
        assert_eq!(targets(&[body]), [&["/users", "/too:ro"], &labelled[..]].concat());
    }
    // An agent file that the caller names is not relabelled.
    let folder = tempfile::tempdir().unwrap();
    let (teller, builder) = pool_on_changed_engine(
        &name,
        Changes {
            info,
            ..Default::default()
        },
    )
    .await;
    let error = builder
        .agent_path(folder.path().join("mine"))
        .exec_via(ExecVia::Agent)
        .min_idle(1)
        .build()
        .await;
    error.expect_err("the file does not exist");
    assert!(!teller.created().is_empty());
    for target in targets(&teller.created()) {
        assert_eq!(target, "/.dockerpool-agent");
    }
}

#[tokio::test]
async fn an_agent_that_may_not_be_executed_is_reported() {
    let name = Name::new();
    let changes = Changes {
        // SELinux, AppArmor and `noexec` file systems all lead to this error.
        asked: |line, asked| {
            let argv = &mut asked["Entrypoint"];
            if line.contains("/containers/create") && argv[0].as_str().is_some_and(|it| it.starts_with("/.dockerpool"))
            {
                *argv = serde_json::json!(["/etc/passwd"]);
            }
        },
        ..Default::default()
    };
    let (_teller, builder) = pool_on_changed_engine(&name, changes).await;
    let pool = builder.build().await.unwrap();
    let status = pool.status();
    let (ActiveExec::Docker { why }, Lifeline::Weak { why: why_weak }) = (status.exec, status.lifeline) else {
        panic!("{status:?}");
    };
    assert_eq!(why, why_weak);
    assert!(why.contains("permission denied") && why.contains("SELinux"), "{why}");
    let c = pool.acquire().await.unwrap();
    assert!(c.command("true").status().await.unwrap().success());
    drop(c);
    pool.shutdown().await.unwrap();

    let (_teller, builder) = pool_on_changed_engine(&name, changes).await;
    let error = builder.exec_via(ExecVia::Agent).min_idle(1).build().await.unwrap_err();
    let source = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    // The words of runc and of crun.
    let words = source.to_string().to_lowercase();
    let said = ["permission denied", "operation not permitted"];
    assert!(said.iter().any(|said| words.contains(said)), "{source}");
}
