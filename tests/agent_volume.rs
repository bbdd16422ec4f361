//! The agent on engines that do not see this machine's files: it comes to them in a volume, and goes with its pool.

#[path = "connect/proxy.rs"]
#[allow(dead_code)] // its TLS
mod proxy;
mod support;

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};
use dockerpool::engine::Selector;
use dockerpool::{
    Container, ContainerSpec, DockerEngine, Endpoint, Engine, Error, ExecVia, Lifeline, Pool, PoolBuilder,
};
use dockerpool::{Taint, labels};
use proxy::Proxy;
use support::{Owner, busybox, engine, eventually, finish, is_podman, unique_name};

/// Makes a run of this binary, in a process of its own, the owner of a pool of this name.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// A name nobody else has, and the end of all that carries it when the test is over, however it ends.
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

/// The volumes of pools of this name.
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

/// All that the engine has of pools of this name.
async fn all(engine: &DockerEngine, name: &str) -> (usize, usize) {
    let containers = engine.list(&Selector::pool(name)).await.unwrap();
    (containers.len(), volumes(engine, name).await.len())
}

/// The real engine as one that may be on another machine.
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
        support::pool(&name.0)
            .engine(self.engine.clone())
            .exec_via(ExecVia::Agent)
    }
}

async fn runs_commands(pool: &Pool) {
    let c = pool.acquire().await.unwrap();
    let input = "over the wire\n".repeat(10_000);
    let out = c.command("cat").stdin(input.clone()).output().await.unwrap();
    assert!(out.status.success() && out.stdout_lossy() == input, "{}", out.status);
    // Only where the agent is PID 1.
    assert_eq!(c.process_count().await.unwrap(), 0);
}

#[tokio::test]
async fn a_remote_engine_runs_the_agent_from_a_volume_that_goes_with_the_pool() {
    let (name, remote) = (Name::new(), Remote::new().await);
    for via in [ExecVia::Agent, ExecVia::Auto, ExecVia::Docker] {
        let begun = Instant::now();
        let pool = remote.pool(&name).exec_via(via).build().await.unwrap();
        println!("built in {:?}", begun.elapsed());
        assert_eq!(pool.status().lifeline, Lifeline::Agent);
        runs_commands(&pool).await;
        assert_eq!(all(&remote.engine, &name.0).await, (1, 1));
        let volume = volumes(&remote.engine, &name.0).await.remove(0);
        let found = remote.engine.bollard().inspect_volume(&volume).await.unwrap();
        assert_eq!(found.labels[labels::INSTANCE], pool.instance());
        assert!(found.labels.contains_key(labels::OWNER), "{found:?}");

        let c = pool.acquire().await.unwrap();
        let mounts = support::mounts(&c).await;
        assert!(mounts.contains(" /.dockerpool ro,"), "{mounts}");
        // What code in the container can read says nothing of whose it is.
        for secret in [&*name.0, &pool.instance()[..12]] {
            assert!(!mounts.contains(secret), "{secret}: {mounts}");
        }
        drop(c);
        pool.shutdown().await.unwrap();
        assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
    }
}

#[tokio::test]
async fn a_read_only_root_and_a_user_without_rights_do_with_it() {
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
    // A new container as well.
    let kept = two.acquire().await.unwrap();
    runs_commands(&two).await;
    drop(kept);
    two.shutdown().await.unwrap();
    assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
}

#[tokio::test]
async fn a_container_that_was_taken_out_of_the_pool_does_not_keep_its_volume() {
    let (name, remote) = (Name::new(), Remote::new().await);
    let pool = remote.pool(&name).build().await.unwrap();
    let mine = pool.acquire().await.unwrap().into_inner();
    pool.shutdown().await.unwrap();
    assert_eq!(all(&remote.engine, &name.0).await, (0, 0));
    eventually("it is known to be gone", async || {
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

    // Given up at any time. Podman 4.3 cannot list its containers any more after some such calls.
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
async fn a_volume_that_others_have_pruned_is_filled_again() {
    let (name, remote) = (Name::new(), Remote::new().await);
    let pool = remote.pool(&name).build().await.unwrap();
    let volume = volumes(&remote.engine, &name.0).await.remove(0);
    // Some engines let go of it a little late.
    eventually("it is pruned", async || {
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
async fn outside_of_a_pool_there_is_no_volume_and_the_error_says_so() {
    let remote = Remote::new().await;
    let spec = |via| ContainerSpec::new(busybox()).memory(64 << 20).exec_via(via);
    let error = Container::create(remote.engine.clone(), spec(ExecVia::Agent))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no pool"), "{error}");
    let c = Container::create(remote.engine.clone(), spec(ExecVia::Auto))
        .await
        .unwrap();
    let c = c.start().await.unwrap();
    assert!(c.command("true").status().await.unwrap().success());
    assert!(matches!(c.process_count().await, Err(Error::Unsupported(_))));
    c.remove().await.unwrap();
}

/// A process with a pool on a remote engine.
fn owner(name: &Name) -> Owner {
    Owner::start(|command| command.env(OWNER, &name.0))
}

/// Not a test of its own: what the owners do.
#[tokio::test]
async fn an_owner() {
    let Ok(name) = std::env::var(OWNER) else { return };
    let remote = Remote::new().await;
    let builder = support::pool(&name)
        .engine(remote.engine.clone())
        .exec_via(ExecVia::Agent);
    let pool = builder.min_idle(1).build().await.unwrap();
    println!("\nready");
    std::future::pending::<()>().await;
    drop(pool);
}

#[tokio::test]
async fn what_a_killed_owner_leaves_is_removed_by_the_next_one_of_its_name() {
    let (name, engine) = (Name::new(), engine().await);
    let (mut dead, living) = (owner(&name), owner(&name));
    let before = volumes(&engine, &name.0).await;
    assert_eq!(before.len(), 2);
    dead.kill();
    eventually("its container is gone", async || all(&engine, &name.0).await.0 == 1).await;
    assert_eq!(volumes(&engine, &name.0).await.len(), 2);

    // Also by one that has none itself.
    let pool = support::pool(&name.0).exec_via(ExecVia::Docker).build().await.unwrap();
    eventually("its volume is gone", async || all(&engine, &name.0).await == (1, 1)).await;
    drop(living);
    eventually("that of the other stays", async || {
        all(&engine, &name.0).await == (0, 1)
    })
    .await;
    pool.shutdown().await.unwrap();

    let pool = support::pool(&name.0).exec_via(ExecVia::Docker).build().await.unwrap();
    eventually("until it is dead", async || all(&engine, &name.0).await == (0, 0)).await;
    pool.shutdown().await.unwrap();
}

/// Where a socket leads to an engine that does not see the same files, as in a container that was lent it: this test again,
/// in a process whose directory nobody else sees.
#[tokio::test]
async fn an_engine_behind_a_socket_that_does_not_see_our_files_is_brought_a_volume() {
    if let Ok(name) = std::env::var(OWNER) {
        for via in [ExecVia::Agent, ExecVia::Auto] {
            let pool = support::pool(&name).exec_via(via).build().await.unwrap();
            runs_commands(&pool).await;
            assert_eq!(volumes(&*engine().await, &name).await.len(), 1);
            pool.shutdown().await.unwrap();
        }
        println!("\nall well");
        return;
    }
    let (name, engine, folder) = (Name::new(), engine().await, tempfile::tempdir().unwrap());
    let test = "an_engine_behind_a_socket_that_does_not_see_our_files_is_brought_a_volume";
    let output = Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            r#"mount -t tmpfs -o mode=700 none "$XDG_RUNTIME_DIR" && exec "$@""#,
            "sh",
        ])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("XDG_RUNTIME_DIR", folder.path())
        .env(OWNER, &name.0)
        .output()
        .expect("unshare (util-linux) can be run");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("all well"),
        "{output:?}"
    );
    assert_eq!(all(&engine, &name.0).await, (0, 0));
}
