//! Attacks on `Reuse::Clean`: what one lease leaves for the next, and what cleaning takes from the user.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dockerpool::engine::*;
use dockerpool::{Engine, EngineError, Network, Pool, PoolBuilder, PooledContainer, Reuse};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{busybox, engine, eventually_now, is_podman, python, unique_name};

type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

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

/// Protocols beside UDP have no counts of their own by version 6 of IP. They too have the kernel remember addresses, and count.
#[tokio::test]
async fn datagrams_of_other_protocols_to_itself_do_not_stay() {
    const PLANT: &str = r#"
import socket
for protocol in (33, 115, 132, 136):
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        try: socket.socket(family, socket.SOCK_DGRAM, protocol).sendto(b"x", (address, 9))
        except OSError as error: print(protocol, address, error)
        else: print(protocol, address)
"#;
    // The kernel may load a module for such a protocol, which changes what every container of the machine sees from then on.
    finds_nothing_in(pool(python()), ("python3", PLANT), ("true", "")).await;
    finds_nothing("python3", PLANT).await;
}

/// By version 6 of IP the kernel remembers each neighbour that something was sent to, by whatever protocol.
#[tokio::test]
async fn addresses_of_neighbours_do_not_stay() {
    if is_podman().await {
        return;
    }
    const PLANT: &str = r#"
import socket, time
until = time.monotonic() + 10
while True:
    # Before the kernel has made sure of its own address it sends nothing.
    try: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, 136).sendto(b"x", ("fd0c:a77c::beef", 9)); break
    except OSError as error:
        if time.monotonic() > until: raise
        time.sleep(0.1)
"#;
    const SCAN: &str = r#"
import socket, struct
asked = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
asked.send(struct.pack("=IHHII12x", 28, 30, 0x301, 1, 0)[:16] + struct.pack("=B11x", socket.AF_INET6))
print(socket.inet_pton(socket.AF_INET6, "fd0c:a77c::beef") in asked.recv(1 << 16))
"#;
    let engine = engine().await;
    let name = unique_name("attack-neighbours");
    let subnet = bollard::models::IpamConfig {
        subnet: Some("fd0c:a77c::/64".to_owned()),
        ..Default::default()
    };
    let request = bollard::models::NetworkCreateRequest {
        name: name.clone(),
        internal: Some(true),
        enable_ipv6: Some(true),
        ipam: Some(bollard::models::Ipam {
            config: Some(vec![subnet]),
            ..Default::default()
        }),
        ..Default::default()
    };
    engine.bollard().create_network(request).await.unwrap();
    let with_network = || pool(python()).network(Network::existing(&*name));
    let done = tokio::spawn({
        let pools = [with_network(), with_network()];
        async move {
            let [ordinary, attacked] = pools;
            // The kernel itself sends by version 6, in the first seconds and later. Each lease lasts for some of that time.
            let ordinary = ordinary.build().await.unwrap();
            for _ in 0..3 {
                let c = ordinary.acquire().await.unwrap();
                assert!(run(&c, "sh", "sleep 2").await.is_empty());
                drop(c);
                eventually_now("cleaned or replaced", || ordinary.status().recycling == 0).await;
            }
            let (cleaned, why) = (ordinary.status().lifetime.cleaned, ordinary.last_unclean());
            ordinary.shutdown().await.unwrap();
            finds_nothing_in(attacked, ("python3", PLANT), ("python3", SCAN)).await;
            assert_eq!(cleaned, 3, "{why:?}");
        }
    });
    let done = done.await;
    engine.bollard().remove_network(&name).await.unwrap();
    done.unwrap();
}

/// Prints what a process begins with and only PID 1 can have given it: the processors, and how it is scheduled, with its slice.
const INHERITED: &str = r#"
import ctypes, os, platform
attributes = ctypes.create_string_buffer(56)
ctypes.CDLL(None).syscall(315 if platform.machine() == "x86_64" else 275, 0, attributes, 56, 0)
print(sorted(os.sched_getaffinity(0)), attributes.raw.hex())
"#;

/// Takes processors from PID 1 and gives it a slice, as often as it can, while PID 1 takes them back. Ends a while after PID 1 has no
/// longer noticed, or after three seconds.
const RACE: &str = r#"
import ctypes, os, platform, struct, sys, time
libc = ctypes.CDLL(None)
SET_ATTRIBUTES = 314 if platform.machine() == "x86_64" else 274
slice = struct.pack("IIQiIQQQ", 48, 0, 0, 0, 0, 50_000_000, 0, 0)
processors = sorted(os.sched_getaffinity(1))
until = time.monotonic() + 3
def attack():
    for _ in range(2000):
        os.sched_setaffinity(1, processors[:1])
        libc.syscall(SET_ATTRIBUTES, 1, slice, 0)
children = []
while time.monotonic() < until:
    for i in range(2):
        child = os.fork()
        if child == 0:
            attack()
            os._exit(0)
        children.append(child)
    while children:
        # PID 1 looks whenever it has something to do.
        print(".", flush=True)
        children = [child for child in children if os.waitpid(child, os.WNOHANG) == (0, 0)]
    for _ in range(5):
        time.sleep(0.002)
        print(".", flush=True)
    if sorted(os.sched_getaffinity(1)) != processors:
        print("unnoticed")
        break
"#;

/// PID 1 restores what others change of it. What they change between two of its steps must not stay either.
#[tokio::test]
async fn what_pid_1_cannot_restore_in_time_does_not_stay() {
    for user in ["root", "65534"] {
        let mut pool = pool(python());
        if user != "root" {
            // PID 1 is then the same user.
            pool = pool.user(user);
        }
        finds_nothing_in(pool, ("python3", RACE), ("python3", INHERITED)).await;
    }
}

/// The group of sessions that PID 1 is in has a niceness.
#[tokio::test]
async fn the_niceness_of_the_agents_session_does_not_stay() {
    finds_nothing("sh", "echo 5 > /proc/1/autogroup").await;
}

/// The engine makes a keyring for each container. Podman's profile lets everybody use it, and a profile of the user's own may.
#[tokio::test]
async fn keys_in_the_keyring_of_the_session_do_not_stay() {
    const ADD: &str = r#"
import ctypes
print(ctypes.CDLL(None).syscall(248 if __import__("os").uname().machine == "x86_64" else 217, b"user", b"planted", b"secret", 6, -3))
"#;
    const SEARCH: &str = r#"
import ctypes
print(ctypes.CDLL(None).syscall(250 if __import__("os").uname().machine == "x86_64" else 219, 10, -3, b"user", b"planted", 0) > 0)
"#;
    finds_nothing_in(pool(python()), ("python3", ADD), ("python3", SEARCH)).await;
    if !is_podman().await {
        let allowed = json!({"HostConfig": {"SecurityOpt": [r#"seccomp={"defaultAction": "SCMP_ACT_ALLOW"}"#]}});
        let pool = pool(python()).raw_config(allowed);
        finds_nothing_in(pool, ("python3", ADD), ("python3", SEARCH)).await;
    }
}

async fn finds_nothing(program: &str, plant: &str) {
    finds_nothing_in(pool(python()), (program, plant), ("sh", SCAN)).await;
}

/// The next lease finds what the first one found before the plant. Where a kernel refuses the plant, this holds too.
async fn finds_nothing_in(pool: PoolBuilder, plant: (&str, &str), scan: (&str, &str)) {
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let before = run(&c, scan.0, scan.1).await;
    let said = run(&c, plant.0, plant.1).await;
    println!("planted: {} {said}", run(&c, scan.0, scan.1).await != before);
    drop(c);
    let c = pool.acquire().await.unwrap();
    let after = run(&c, scan.0, scan.1).await;
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

/// Passes calls on to the real engine. Every list of changes but the first waits for the gate.
#[derive(Debug)]
struct SlowLists {
    inner: Arc<dyn Engine>,
    lists: AtomicUsize,
    gate: Semaphore,
}

impl Changes for SlowLists {
    fn changes<'a>(&'a self, id: &'a str) -> Answer<'a, Vec<Change>> {
        Box::pin(async move {
            if self.lists.fetch_add(1, Ordering::Relaxed) > 0 {
                self.gate.acquire().await.expect("the gate is never closed").forget();
            }
            self.inner
                .parts()
                .changes
                .expect("the engine lists changes")
                .changes(id)
                .await
        })
    }

    fn unlisted(&self) -> &[&str] {
        self.inner.parts().changes.map_or(&[], Changes::unlisted)
    }
}

impl Engine for SlowLists {
    fn parts(&self) -> Parts<'_> {
        self.inner.parts().with_changes(self)
    }

    crate::support::forward!(capabilities, check);
}

impl Lifecycle for SlowLists {
    crate::support::forward!(prepare, release, sweep, create, attach, start, kill, stop, remove);
}

impl Commands for SlowLists {
    crate::support::forward!(exec);
}

impl Observation for SlowLists {
    crate::support::forward!(image, inspect, list, missing_limits, ignored_settings, events);
}

/// Code in a container can make its cleaning take long: by many files, which the engine lists for seconds.
#[tokio::test]
async fn a_cleaning_that_takes_long_keeps_nobody_from_a_new_container() {
    let slow = Arc::new(SlowLists {
        inner: engine().await,
        lists: AtomicUsize::new(0),
        gate: Semaphore::new(0),
    });
    let pool = pool(busybox()).read_only_root(false).max_total(2).engine(slow.clone());
    // The list may take longer than the acquire.
    let pool = pool.engine_timeout(Duration::from_secs(300));
    let pool = pool.acquire_timeout(Duration::from_secs(100)).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    assert_eq!(run(&c, "true", "").await, "");
    drop(c);
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), id);
    assert_eq!(pool.status().cleaning, 1, "{:?}", pool.status());
    // The cleaned one is lent again.
    slow.gate.add_permits(1);
    let second = pool.acquire().await.unwrap();
    assert_eq!(second.id(), id, "{:?}", pool.last_unclean());
    drop((c, second));
    pool.shutdown().await.unwrap();
}
