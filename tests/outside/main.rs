//! An engine that is written outside of the library, from its public surface alone: see [`processes`]. A pool runs on it.

mod processes;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use dockerpool::{EngineError, EngineErrorKind, Error, ExitStatus, Lifeline, Network, Pool, PoolBuilder};
use processes::Processes;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// Where the process that is killed keeps its containers.
const OWNER_ROOT: &str = "DOCKERPOOL_OUTSIDE_ROOT";

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

/// An engine with one image, which has one file in it.
fn engine() -> (TempDir, Processes) {
    let root = tempfile::tempdir().unwrap();
    let image = root.path().join("images/plain");
    std::fs::create_dir_all(&image).unwrap();
    std::fs::write(image.join("greeting"), "hello").unwrap();
    let engine = Processes::new(root.path());
    (root, engine)
}

/// A pool that asks for nothing that plain processes cannot have.
fn pool(engine: &Processes) -> PoolBuilder {
    Pool::builder("outside")
        .image("plain")
        .memory(None)
        .pids_limit(None)
        .network(Network::existing("host"))
        .engine(Arc::new(engine.clone()))
}

#[tokio::test]
async fn a_pool_lends_directories_with_a_process_and_runs_commands_in_them() {
    let (_root, engine) = engine();
    let pool = pool(&engine).min_idle(2).env("WHO", "world").build().await.unwrap();
    assert_eq!(engine.directories(), 2);
    assert!(matches!(pool.status().lifeline, Lifeline::Weak { .. }));

    let c = pool.acquire().await.unwrap();
    let script = "cat greeting; echo \" $WHO$1\"; echo oops >&2; exit 3";
    let out = c.command("sh").args(["-c", script]).output().await.unwrap();
    assert_eq!(out.status, ExitStatus::Exited(3));
    assert_eq!(
        (&*out.stdout_lossy(), &*out.stderr_lossy()),
        ("hello world\n", "oops\n")
    );

    let out = c
        .command("cat")
        .stdin(dockerpool::Stdio::bytes("typed"))
        .output()
        .await
        .unwrap();
    assert_eq!(out.stdout_lossy(), "typed");

    // The next lease of the same container finds the file; a container of its own does not.
    let touched = c.command("touch").arg("left").status().await.unwrap();
    assert!(touched.success());
    let other = pool.acquire().await.unwrap();
    assert_ne!(other.id(), c.id());
    assert!(
        !other
            .command("cat")
            .arg("left")
            .output()
            .await
            .unwrap()
            .status
            .success()
    );

    drop((c, other));
    pool.shutdown().await.unwrap();
    assert_eq!((engine.directories(), engine.processes()), (0, 0));
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_ended_with_its_container() {
    let (_root, engine) = engine();
    let pool = pool(&engine).max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let first = c.id().to_owned();
    let script = "echo begun; sleep 1000 & sleep 1000";
    // Long enough for the first words.
    let limit = Duration::from_secs(2);
    let out = c
        .command("sh")
        .args(["-c", script])
        .timeout(limit)
        .output()
        .await
        .unwrap();
    assert_eq!((out.status, &*out.stdout_lossy()), (ExitStatus::TimedOut, "begun\n"));
    drop(c);

    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), first);
    c.discard();
    let c = pool.acquire().await.unwrap();
    assert!(c.command("true").output().await.unwrap().status.success());
    assert_eq!(pool.status().lifetime.discarded, 2);
    drop(c);
    pool.shutdown().await.unwrap();
    assert_eq!((engine.directories(), engine.processes()), (0, 0));
}

#[tokio::test]
async fn a_container_whose_process_ends_is_replaced() {
    let (_root, engine) = engine();
    let pool = pool(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let first = c.id().to_owned();
    engine.end(&first).await;
    let out = c.command("true").output().await;
    assert!(out.is_err_and(|error| matches!(error, Error::ContainerGone { .. } | Error::Engine { .. })));
    drop(c);
    assert_ne!(pool.acquire().await.unwrap().id(), first);
    pool.shutdown().await.unwrap();
    assert_eq!((engine.directories(), engine.processes()), (0, 0));
}

#[tokio::test]
async fn what_the_engine_cannot_do_is_refused_by_the_name_of_its_setting() {
    let (_root, engine) = engine();
    let refused = async |builder: PoolBuilder| match builder.engine(Arc::new(engine.clone())).build().await {
        Err(Error::Config(problems)) => problems.iter().map(|problem| problem.field().to_owned()).collect(),
        other => vec![format!("{other:?}")],
    };
    // The defaults of a sandbox are more than a plain process can have.
    assert_eq!(
        refused(Pool::builder("a").image("plain")).await,
        ["pids_limit", "network"]
    );
    assert_eq!(
        refused(pool(&engine).memory(64 << 20)).await,
        ["memory", "host_config.memory_swap"]
    );
    assert_eq!(
        refused(pool(&engine).network(Network::existing("x")).publish(80)).await,
        ["publish"]
    );
    let missing = pool(&engine).image("missing").build().await.unwrap_err();
    let kind = missing.engine_error().map(EngineError::kind);
    assert_eq!(kind, Some(EngineErrorKind::ImageNotFound), "{missing}");
    assert_eq!((engine.directories(), engine.processes()), (0, 0));
}

/// The process that is killed: it makes a pool, says so, and waits for its end.
#[tokio::test]
async fn owner() {
    let Some(root) = std::env::var_os(OWNER_ROOT) else {
        return;
    };
    let engine = Processes::new(root.as_ref());
    let pool = pool(&engine).min_idle(1).build().await.unwrap();
    println!("idle: {}", pool.idle_count());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn containers_end_with_an_owner_that_is_killed() {
    let (root, _engine) = engine();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--nocapture"])
        .env(OWNER_ROOT, root.path())
        .stdout(Stdio::piped())
        // Containers inherit it: its end comes when the last of them has ended.
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(owner.stdout.take().unwrap()).lines();
    let ready = async {
        loop {
            let line = said
                .next_line()
                .await
                .unwrap()
                .expect("the owner says that it is ready");
            if line.ends_with("idle: 1") {
                return;
            }
        }
    };
    timeout(LONG, ready).await.unwrap();
    owner.kill().await.unwrap();
    let mut words = String::new();
    let mut held_by_containers = owner.stderr.take().unwrap();
    timeout(LONG, held_by_containers.read_to_string(&mut words))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(words, "");
}
