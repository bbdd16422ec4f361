//! The agent's socket: its place, its access rights, and commands without it.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::{busybox, engine, is_alone, own_test, pool, with_container};
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{Container, ContainerSpec, ExecVia, ExitStatus, PooledContainer, Stdio};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Counts the open sockets of this container's agent, as seen from the host.
async fn sockets_of_agent(id: &str) -> usize {
    let found = engine().await.bollard().inspect_container(id, None).await.unwrap();
    let pid = found.state.unwrap().pid.unwrap();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let is_socket = |entry: &io::Result<std::fs::DirEntry>| {
        let link = std::fs::read_link(entry.as_ref().unwrap().path()).unwrap();
        link.to_string_lossy().starts_with("socket:")
    };
    links.filter(is_socket).count()
}

/// Returns the library's directory on this machine, which holds the agent and its sockets.
async fn directory(c: &PooledContainer) -> PathBuf {
    crate::support::agent_dir(&crate::support::mounts(c).await)
}

#[tokio::test]
async fn the_socket_is_used_and_removed_from_this_machine_once_connected() {
    with_container(pool("socket").exec_via(ExecVia::Agent), async |c| {
        assert_eq!(sockets_of_agent(c.id()).await, 1);
        let script = "grep -c ' /.dockerpool-agent-socket ro,' /proc/self/mountinfo; test -S /.dockerpool-agent-socket";
        let out = c.command("sh").args(["-c", script]).output().await.unwrap();
        assert_eq!((out.status, out.stdout_lossy()), (ExitStatus::Exited(0), "1\n".into()));
        // Containers of other tests may be starting. Their sockets are not this container's.
        let own = c
            .command("stat")
            .args(["-c", "%i", "/.dockerpool-agent-socket"])
            .output_string()
            .await
            .unwrap();
        let own: u64 = own.trim().parse().unwrap();
        let inodes = std::fs::read_dir(directory(c).await).unwrap().filter_map(|entry| {
            use std::os::unix::fs::MetadataExt;
            Some(entry.ok()?.metadata().ok()?.ino())
        });
        assert!(!inodes.collect::<Vec<_>>().contains(&own));
    })
    .await;
}

#[tokio::test]
async fn the_agent_without_a_socket_is_reached_through_the_engine() {
    let spec = ContainerSpec::new(busybox()).exec_via(ExecVia::Agent);
    let created = Container::create(engine().await, spec.without_agent_socket())
        .await
        .unwrap();
    let c = created.start().await.unwrap();
    assert_eq!(sockets_of_agent(c.id()).await, 0);
    assert!(c.command("true").status().await.unwrap().success());
    c.remove().await.unwrap();
}

/// Any user of the container must be able to connect to the socket.
#[tokio::test]
async fn the_socket_works_for_any_user_and_with_a_read_only_root() {
    for user in ["nobody", "1234:4321"] {
        let pool = pool("socket-user")
            .user(user)
            .read_only_root(true)
            .exec_via(ExecVia::Agent);
        with_container(pool, async |c| {
            assert_eq!(sockets_of_agent(c.id()).await, 1, "{user}");
            let script = "seq 100000 >/dev/stdout; echo end >/dev/stderr";
            let out = c.command("sh").args(["-c", script]).output_limit(None).output().await;
            let out = out.unwrap();
            assert_eq!(
                (out.status, out.stderr_lossy()),
                (ExitStatus::Exited(0), "end\n".into())
            );
            assert!(out.stdout.ends_with(b"\n100000\n"));
        })
        .await;
    }
}

/// Without a free descriptor the library cannot take pipes over, and the output arrives in frames.
#[tokio::test]
async fn large_output_arrives_also_when_this_process_has_no_free_descriptor() {
    // The limit of descriptors holds for the whole process.
    if !is_alone(&own_test!(
        "large_output_arrives_also_when_this_process_has_no_free_descriptor"
    )) {
        return;
    }
    with_container(pool("descriptors").exec_via(ExecVia::Agent), async |c| {
        let mut child = c
            .command("sh")
            .args(["-c", "read x; seq 200000; seq 200000 >&2"])
            .stdin(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        let old = getrlimit(Resource::Nofile);
        let mut few = old;
        few.current = Some(200);
        setrlimit(Resource::Nofile, few).unwrap();
        let mut all = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            all.push(file);
        }
        // The library closes some in the meantime, such as that of an idle connection to the engine.
        let (stop, is_stopped) = std::sync::mpsc::channel::<()>();
        let taking = std::thread::spawn(move || {
            while is_stopped.recv_timeout(Duration::from_millis(1)).is_err() {
                all.extend(File::open("/dev/null"));
            }
        });
        child.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
        stop.send(()).unwrap();
        taking.join().unwrap();
        setrlimit(Resource::Nofile, old).unwrap();
        assert!(read.0.is_ok() && read.1.is_ok());
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
        let expected: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
        assert!(out == expected.as_bytes(), "{} bytes", out.len());
        assert!(err == expected.as_bytes(), "{} bytes", err.len());
    })
    .await;
}
