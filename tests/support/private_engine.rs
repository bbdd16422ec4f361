//! A Docker engine for one test, which the test may stop, kill, freeze and starve.
//!
//! The engine runs in namespaces of its own. With a process namespace, ending its first process ends all others. Mounts
//! go with their namespace. A network namespace keeps the engine from the interfaces of another engine. The first
//! process is a shell that runs the lines that the test writes to it, and ends with the test.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bollard::query_parameters::ImportImageOptions;
use dockerpool::{DockerEngine, Endpoint};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{Mutex, MutexGuard};

use crate::support::{busybox, engine, tag};

/// Reads a line, runs it and prints its status, forever. `bash` reaps orphans too.
///
/// A dockerd uses the machine's containerd where it finds the socket. Both dockerds keep their containers in one
/// namespace of containerd, so the private dockerd would take over containers of the other one. Without a socket it
/// starts its own containerd.
const SHELL: &str = r#"set -e; ip link set lo up; mkdir -p /run/containerd; mount -t tmpfs tmpfs /run/containerd; set +e
while read -r line; do eval "$line" </dev/null >&2; echo "ended $?"; done"#;

/// Runs one private engine at a time: each must recover within seconds.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A Docker engine of its own.
pub struct PrivateEngine {
    shell: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    folder: TempDir,
    options: String,
    _alone: MutexGuard<'static, ()>,
}

impl PrivateEngine {
    /// Starts an engine with the busybox image. The options are added to those that keep it apart.
    pub async fn start(options: &str) -> Self {
        let mut engine = Self::not_started(options).await;
        engine.dockerd().await;
        engine.load_image().await;
        engine
    }

    /// Makes the namespaces and folders, without an engine.
    pub async fn not_started(options: &str) -> Self {
        let alone = ALONE.lock().await;
        let folder = TempDir::with_prefix("dockerpool-engine-").unwrap();
        let mut shell = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(["bash", "-c", SHELL])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .expect("unshare (util-linux) can be run");
        let mut engine = Self {
            input: shell.stdin.take().unwrap(),
            output: BufReader::new(shell.stdout.take().unwrap()).lines(),
            shell,
            folder,
            options: options.to_owned(),
            _alone: alone,
        };
        let data = engine.data();
        engine.run(&format!("mkdir {}", data.display())).await;
        engine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the folder of images and containers.
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// Returns the log so far.
    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn cgroup(&self) -> String {
        self.folder.path().file_name().unwrap().to_string_lossy().into_owned()
    }

    /// Runs a line of shell within the namespaces.
    pub async fn run(&mut self, line: &str) {
        let sent = self.input.write_all(format!("{line}\n").as_bytes()).await;
        let answer = match sent {
            Ok(()) => self.output.next_line().await.unwrap(),
            Err(_) => None,
        };
        assert_eq!(
            answer.as_deref(),
            Some("ended 0"),
            "a private engine needs root, unshare, ip, bash and dockerd; `{line}` failed: {}",
            self.log()
        );
    }

    /// Starts the engine, and waits until it answers.
    pub async fn dockerd(&mut self) {
        let socket = self.path("socket");
        let line = format!(
            "dockerd --data-root {data} --exec-root {exec} --pidfile {pid} --host unix://{socket} --bridge none \
             --iptables=false --ip6tables=false --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{cgroup} \
             --log-level warn {options} & dockerd=$!",
            data = self.data().display(),
            exec = self.path("exec").display(),
            pid = self.path("pid").display(),
            socket = socket.display(),
            cgroup = self.cgroup(),
            options = self.options,
        );
        self.run(&line).await;
        for _ in 0..600 {
            if answers(&socket).await {
                return;
            }
            self.run("kill -0 $dockerd").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("dockerd does not answer: {}", self.log());
    }

    /// Sends a signal to the daemon itself.
    pub async fn signal(&mut self, signal: &str) {
        self.run(&format!("kill -{signal} $dockerd")).await;
    }

    /// Ends the daemon by a signal, and waits until it has ended.
    pub async fn end(&mut self, signal: &str) {
        self.run(&format!("kill -{signal} $dockerd; wait $dockerd; true")).await;
    }

    /// Connects to the engine.
    pub async fn connect(&self) -> Arc<DockerEngine> {
        let endpoint = Endpoint::unix(self.path("socket").to_str().unwrap());
        Arc::new(
            DockerEngine::connect_to(endpoint)
                .await
                .expect("the private engine answers"),
        )
    }

    /// Copies the busybox image from the shared engine.
    pub async fn load_image(&self) {
        let theirs = engine().await;
        let mut archive = Vec::new();
        let mut pieces = theirs.bollard().export_image(&busybox());
        while let Some(piece) = pieces.next().await {
            archive.extend_from_slice(&piece.unwrap());
        }
        let ours = self.connect().await;
        let archive = bollard::body_full(archive.into());
        let mut steps = ours
            .bollard()
            .import_image(ImportImageOptions::default(), archive, None);
        let mut told = String::new();
        while let Some(step) = steps.next().await {
            told += &step.unwrap().stream.unwrap_or_default();
        }
        // Podman prints the full name, with a registry.
        let name = busybox();
        let loaded = told.split_once("Loaded image: ").map(|(_, name)| name.trim());
        if let Some(loaded) = loaded.filter(|loaded| **loaded != name) {
            tag(ours.bollard(), loaded, &name).await;
        }
    }
}

async fn answers(socket: &Path) -> bool {
    let endpoint = Endpoint::unix(socket.to_str().unwrap());
    tokio::time::timeout(Duration::from_secs(5), DockerEngine::connect_to(endpoint))
        .await
        .is_ok_and(|connected| connected.is_ok())
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the private engine's log:\n{}", self.log());
        }
        // This is the first process of the namespace: the kernel ends all others before it is gone itself.
        let unshare = self.shell.id().map(|id| id.to_string()).unwrap_or_default();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        for first in children.iter().flat_map(|pids| pids.split_whitespace()) {
            let _ = std::process::Command::new("kill").args(["-KILL", first]).status();
        }
        for _ in 0..500 {
            if !matches!(self.shell.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // The kernel keeps the empty groups of processes that have ended.
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_groups(&hierarchy.path().join(self.cgroup()));
        }
        remove_groups(&Path::new("/sys/fs/cgroup").join(self.cgroup()));
    }
}

fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}
