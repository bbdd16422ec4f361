//! Each loosening does what its name says, and nothing else.

use bollard::query_parameters::InspectContainerOptions;
use dockerpool::{Network, Pool, Seccomp};
use serde_json::json;

use crate::support::{engine, is_podman};
use crate::{builder, end, printed, strict};

/// Returns what an item of a pool's report is.
fn found(pool: &Pool, item: &str) -> String {
    pool.security().unwrap().item(item).unwrap().found.clone()
}

/// Runs a Python program in a container of the pool.
async fn run(pool: &Pool, script: &str) -> String {
    printed(&pool.acquire().await.unwrap(), script).await
}

#[tokio::test]
async fn another_user_owns_the_workspaces() {
    let pool = builder("user", strict().await.run_as(1234, 2345))
        .build()
        .await
        .unwrap();
    assert_eq!((&*found(&pool, "user"), &*found(&pool, "group")), ("1234", "2345"));
    let script = "import os; open('/work/x', 'w'); open('/tmp/x', 'w')\n\
                  print(os.getuid(), os.getgid(), os.stat('/work').st_uid, os.environ['USER'])";
    assert_eq!(run(&pool, script).await, "1234 2345 1234 sandbox");
    end(pool).await;
}

#[tokio::test]
async fn root_has_no_capabilities() {
    let pool = builder("root", strict().await.run_as(0, 0).writable_root())
        .build()
        .await
        .unwrap();
    assert_eq!((&*found(&pool, "user"), &*found(&pool, "capabilities")), ("0", "none"));
    assert_eq!(found(&pool, "root file system"), "writable");
    let script = "import os\n\
                  open('/etc/new', 'w').write('x'); print(os.listdir('/work'))\n\
                  for call in (lambda: os.setuid(1), lambda: os.chown('/tmp', 1, 1), lambda: os.chroot('/')):\n\
                  \x20   try: call(); print('done')\n\
                  \x20   except PermissionError: print('refused')\n";
    assert_eq!(run(&pool, script).await, "[]\nrefused\nrefused\nrefused");
    end(pool).await;
}

#[tokio::test]
async fn workspaces_have_the_sizes_that_are_set() {
    let sandbox = strict().await.tmp_size(8 << 20).work_size(40 << 20);
    let sandbox = if is_podman().await {
        sandbox
    } else {
        sandbox.inodes(100)
    };
    let pool = builder("sizes", sandbox).build().await.unwrap();
    let script = "import os\n\
                  for path in ('/tmp', '/work'):\n\
                  \x20   s = os.statvfs(path); print(s.f_blocks * s.f_frsize >> 20, s.f_files == 100)\n";
    let of_inodes = if is_podman().await { "False" } else { "True" };
    assert_eq!(run(&pool, script).await, format!("8 {of_inodes}\n40 {of_inodes}"));
    assert_eq!(found(&pool, "ulimit fsize"), format!("{0} {0}", 40 << 20));
    end(pool).await;
}

#[tokio::test]
async fn a_capability_is_kept_and_no_other() {
    let sandbox = strict().await.keep_capability("cap_net_bind_service").run_as(0, 0);
    let pool = builder("capability", sandbox).build().await.unwrap();
    assert_eq!(found(&pool, "capabilities"), "NET_BIND_SERVICE");
    end(pool).await;
}

#[tokio::test]
async fn new_privileges_are_allowed() {
    let pool = builder("privileges", strict().await.allow_new_privileges())
        .build()
        .await
        .unwrap();
    assert_eq!(found(&pool, "new privileges"), "allowed");
    let script = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('NoNewPrivs')][0])";
    assert_eq!(run(&pool, script).await, "0");
    end(pool).await;
}

#[tokio::test]
async fn a_network_is_allowed() {
    let name = "dockerpool-sandbox-net";
    let network = Network::create(name).internal(true).remove_on_shutdown();
    let sandbox = strict().await.allow_network();
    let pool = builder("network", sandbox).network(network).build().await.unwrap();
    let devices = run(&pool, "import os; print(sorted(os.listdir('/sys/class/net')))").await;
    assert!(devices.contains("eth0"), "{devices}");
    assert!(found(&pool, "network").contains("eth0"));
    end(pool).await;
}

#[tokio::test]
async fn mounts_a_log_and_a_health_check_are_allowed() {
    let log = if is_podman().await { "k8s-file" } else { "json-file" };
    let raw = json!({
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 3_600_000_000_000u64},
        "HostConfig": {"Binds": ["/etc:/outside:ro"], "LogConfig": {"Type": log}},
    });
    let sandbox = strict().await.allow_mounts().allow_log().allow_health_check();
    let pool = builder("mounts", sandbox).raw_config(raw).build().await.unwrap();
    assert_eq!(
        (&*found(&pool, "log"), &*found(&pool, "health check")),
        (log, "its own")
    );
    let c = pool.acquire().await.unwrap();
    assert_eq!(
        printed(&c, "import os; print('passwd' in os.listdir('/outside'))").await,
        "True"
    );
    let engine = engine().await;
    let options = None::<InspectContainerOptions>;
    let described = engine.bollard().inspect_container(c.id(), options).await.unwrap();
    let driver = described.host_config.unwrap().log_config.unwrap().typ;
    // Podman 5.8 describes its own in Docker's words.
    let driver = driver.unwrap();
    assert!(driver == log || is_podman().await && driver == "json-file", "{driver}");
    drop(c);
    end(pool).await;
}

#[tokio::test]
async fn limits_are_given_up() {
    let sandbox = strict()
        .await
        .allow_unlimited_memory()
        .allow_unlimited_cpus()
        .allow_unlimited_pids();
    let builder = builder("unlimited", sandbox).memory(None).pids_limit(None);
    let pool = builder.build().await.unwrap();
    let report = pool.security().unwrap();
    for item in ["memory", "swap", "processes", "processors"] {
        assert!(report.item(item).is_none(), "{report}");
    }
    end(pool).await;
}

#[tokio::test]
async fn the_score_for_a_lack_of_memory_is_set() {
    let pool = builder("score", strict().await.oom_score_adj(700))
        .build()
        .await
        .unwrap();
    let score: i32 = found(&pool, "oom_score_adj").parse().unwrap();
    assert!((700..=1000).contains(&score), "{score}");
    end(pool).await;
}

#[tokio::test]
async fn profiles_of_system_calls_are_what_is_asked_for() {
    // Whatever the engine's profile lets through is told.
    let pool = builder("engine", strict().await.seccomp(Seccomp::engine()))
        .build()
        .await
        .unwrap();
    assert_eq!(found(&pool, "seccomp"), "a filter");
    let script = "import socket\n\
                  try: socket.socket(38, socket.SOCK_SEQPACKET); print('open')\n\
                  except OSError: print('refused')";
    let is_told = pool
        .security()
        .unwrap()
        .warnings
        .iter()
        .any(|warning| warning.contains("af_alg"));
    assert_eq!(run(&pool, script).await == "open", is_told);
    end(pool).await;

    let pool = builder("none", strict().await.seccomp(Seccomp::unconfined()))
        .build()
        .await
        .unwrap();
    assert_eq!(found(&pool, "seccomp"), "no filter");
    let warnings = pool.security().unwrap().warnings.join("\n");
    assert!(
        warnings.contains("no profile") && warnings.contains("unshare_newuser"),
        "{warnings}"
    );
    end(pool).await;
}

#[tokio::test]
async fn a_profile_of_ones_own_reaches_docker_and_is_refused_by_podman() {
    let own = Seccomp::profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["sysinfo"], "action": "SCMP_ACT_ERRNO"}],
    }));
    let built = builder("own", strict().await.seccomp(own)).build().await;
    if is_podman().await {
        let error = built.unwrap_err().to_string();
        assert!(
            error.contains("seccomp") && error.contains("Seccomp::engine()"),
            "{error}"
        );
        return;
    }
    let pool = built.unwrap();
    let script = "import ctypes\n\
                  print(ctypes.CDLL(None).sysinfo(ctypes.create_string_buffer(512)))";
    assert_eq!(run(&pool, script).await, "-1");
    end(pool).await;
}
