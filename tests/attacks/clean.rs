//! Attacks on `Reuse::Clean`: what one lease leaves for the next, and what cleaning takes from the user.

use std::os::unix::fs::PermissionsExt;

use dockerpool::{Pool, PoolBuilder, PooledContainer, Reuse};
use serde_json::{Value, json};

use crate::support::{busybox, eventually_now, python};

fn pool(image: String) -> PoolBuilder {
    Pool::builder("attack-clean")
        .image(image)
        .min_idle(0)
        .max_total(1)
        .memory(64 << 20)
        .read_only_root(true)
        .reuse(Reuse::Clean)
}

async fn run(c: &PooledContainer, program: &str, script: &str) -> String {
    let output = c.exec([program, "-c", script]).await.unwrap();
    format!("{}{}", output.stdout_lossy(), output.stderr_lossy())
}

/// What a lease can find in the kernel's own files.
const SCAN: &str = "stat -L -c '%n %u %g %a' /proc/net/* /proc/net/stat/*; cat /proc/net/ip6_flowlabel; grep lo: /proc/net/dev; \
    sed 's/.* //' /proc/self/autogroup /proc/1/autogroup";

/// The network's view belongs to the container, other than the rest of `/proc`, and root may change the rights in it.
#[tokio::test]
async fn rights_in_the_view_of_the_network_do_not_stay() {
    finds_nothing(
        "sh",
        "chown 31337:4242 /proc/net/dev; chmod 600 /proc/net/stat/rt_cache",
    )
    .await;
}

/// The kernel keeps a label for a minute, with an address of 16 bytes. Everybody may take one.
#[tokio::test]
async fn labels_of_flows_do_not_stay() {
    finds_nothing(
        "python3",
        r#"
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
address = socket.inet_pton(socket.AF_INET6, "dead:beef::1")
s.setsockopt(41, 32, address + struct.pack(">I", 0) + struct.pack("=BBHHHI", 0, 255, 1, 60, 60, 0))
"#,
    )
    .await;
}

/// The kernel counts datagrams.
#[tokio::test]
async fn datagrams_to_itself_do_not_stay() {
    finds_nothing(
        "python3",
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    )
    .await;
}

/// The group of sessions that PID 1 is in has a niceness.
#[tokio::test]
async fn the_niceness_of_the_agents_session_does_not_stay() {
    finds_nothing("sh", "echo 5 > /proc/1/autogroup").await;
}

/// The next lease finds what the first one found before the plant. Where a kernel refuses the plant, this holds too.
async fn finds_nothing(program: &str, plant: &str) {
    let pool = pool(python()).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let before = run(&c, "sh", SCAN).await;
    let said = run(&c, program, plant).await;
    println!("planted: {} {said}", run(&c, "sh", SCAN).await != before);
    drop(c);
    let c = pool.acquire().await.unwrap();
    let after = run(&c, "sh", SCAN).await;
    drop(c);
    pool.shutdown().await.unwrap();
    assert_eq!(after, before);
}

/// A volume in memory of the user's own, where the library's own workspaces are, by other names of their paths.
#[tokio::test]
async fn a_volume_in_memory_is_left_alone_whatever_its_path_is_called() {
    for (path, plain) in [
        ("/dev/./shm", "/dev/shm"),
        ("/dev//shm", "/dev/shm"),
        ("/tmp/.", "/tmp"),
        ("/sys/../tmp", "/tmp"),
    ] {
        let pool = pool(busybox()).raw_config(volume(path)).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let id = c.id().to_owned();
        let said = run(&c, "sh", &format!("echo mine > {plain}/file")).await;
        assert_eq!(said, "", "{path}");
        drop(c);
        let c = pool.acquire().await.unwrap();
        // A new container has a new volume.
        let is_same = c.id() == id;
        let found = run(&c, "sh", &format!("cat {plain}/file")).await;
        let why = pool.last_unclean();
        drop(c);
        pool.shutdown().await.unwrap();
        assert!(is_same, "{path}: {why:?}");
        assert_eq!(found, "mine\n", "{path}");
    }
}

fn volume(path: &str) -> Value {
    let in_memory = json!({"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": "mode=1777"}});
    let volume =
        json!({"Type": "volume", "Target": path, "VolumeOptions": {"NoCopy": true, "DriverConfig": in_memory}});
    json!({"HostConfig": {"Mounts": [volume]}})
}

/// A workspace within a directory of the user's own can be moved by others who have that directory, and something else be put at
/// its path.
#[tokio::test]
async fn what_takes_the_place_of_a_workspace_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let precious = dir.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("file"), "mine").unwrap();
    let raw = json!({"HostConfig": {"Binds": [format!("{}:/data", dir.path().display())]}});
    let pool = pool(busybox()).raw_config(raw).tmpfs("/data/work", 1 << 20);
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert_eq!(run(&c, "true", "").await, "");
    std::fs::rename(dir.path().join("work"), dir.path().join("elsewhere")).unwrap();
    std::fs::rename(&precious, dir.path().join("work")).unwrap();
    drop(c);
    eventually_now("the container is cleaned or not", || pool.status().cleaning == 0).await;
    let unclean = pool.status().lifetime.unclean;
    pool.shutdown().await.unwrap();
    let file = std::fs::read_to_string(dir.path().join("work/file"));
    assert_eq!(file.unwrap(), "mine");
    assert_eq!(unclean, 1);
}
