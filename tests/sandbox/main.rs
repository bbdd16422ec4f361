//! Sandboxes on the real engine: everything that is asked for is there, and hostile programs get nowhere.

mod conflicts;
mod hostile;
mod ignored;
mod loosened;
mod programs;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use dockerpool::{
    Container, ContainerSpec, ExecVia, HowSeen, Output, Pool, PoolBuilder, PooledContainer, Sandbox, Seccomp,
};
use support::{containers_of_instance, engine, eventually_now, is_crun, is_podman, python};
use tokio::sync::OnceCell;

/// Returns a strict sandbox. Podman cannot be given a profile of system calls, nor a limit of inodes.
async fn strict() -> Sandbox {
    match is_podman().await {
        true => Sandbox::strict().seccomp(Seccomp::engine()).inodes(None),
        false => Sandbox::strict(),
    }
}

/// Begins a pool of one container, which is cleaned after each lease.
fn builder(name: &str, sandbox: Sandbox) -> PoolBuilder {
    Pool::builder(format!("sandbox-{name}"))
        .image(python())
        .min_idle(0)
        .max_total(1)
        .memory(256 << 20)
        .exec_via(ExecVia::Auto)
        .sandbox(sandbox)
}

/// Returns a strict sandbox of a pool that the tests of a process share. It is cleaned after each lease, and ends with the process.
async fn shared() -> PooledContainer {
    static POOL: OnceCell<Pool> = OnceCell::const_new();
    let build = async || builder("shared", strict().await).max_total(4).build().await.unwrap();
    POOL.get_or_init(build).await.acquire().await.unwrap()
}

/// Runs a Python program.
async fn run(c: &PooledContainer, script: &str) -> Output {
    let mut command = c.command("python3");
    let command = command.args(["-c", script]).timeout(Duration::from_secs(120));
    command.output().await.unwrap()
}

/// Runs a Python program, and returns what it has printed.
async fn printed(c: &PooledContainer, script: &str) -> String {
    let out = run(c, script).await;
    assert!(out.status.success(), "{out:?}\n{}", out.stderr_lossy());
    out.stdout_lossy().trim().to_owned()
}

/// Shuts a pool down, and asserts that nothing of it is left.
async fn end(pool: Pool) {
    let instance = pool.instance().to_owned();
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of_instance(&*engine().await, &instance).await, 0);
}

#[tokio::test]
async fn everything_that_is_asked_for_is_seen_from_the_inside() {
    let pool = builder("seen", strict().await).build().await.unwrap();
    let report = pool.security().unwrap().clone();
    println!("{report}");
    for (name, found) in [
        ("user", "65534"),
        ("group", "65534"),
        ("capabilities", "none"),
        ("new privileges", "none"),
        ("seccomp", "a filter"),
        ("root file system", "read-only"),
        ("ulimit nofile", "1024 1024"),
        ("ulimit core", "0 0"),
        ("network", "none"),
    ] {
        let item = report.item(name).unwrap();
        assert_eq!((&*item.found, item.how_seen), (found, HowSeen::Inside), "{item}");
    }
    for name in ["/tmp", "/work", "/dev/shm"] {
        let item = report.item(name).unwrap();
        assert!(item.found.starts_with("tmpfs rw,nosuid,nodev"), "{item}");
        assert_eq!(item.how_seen, HowSeen::Inside, "{item}");
    }
    for (name, found) in [("memory", "268435456"), ("processes", "128"), ("processors", "1")] {
        let item = report.item(name).unwrap();
        // A rootless engine may show no control groups.
        assert!(item.found == found || item.how_seen == HowSeen::NotSeen, "{item}");
    }
    for name in ["log", "health check"] {
        let item = report.item(name).unwrap();
        assert_eq!((&*item.found, item.how_seen), ("none", HowSeen::Inspect), "{item}");
    }
    let calls: Vec<_> = report
        .items
        .iter()
        .filter(|item| item.name.starts_with("call "))
        .collect();
    if is_podman().await {
        assert!(calls.is_empty(), "{calls:?}");
    } else {
        assert_eq!(calls.len(), 14);
        for item in calls {
            assert!(item.found.starts_with("refused"), "{item}");
            assert_eq!(item.how_seen, HowSeen::Inside, "{item}");
        }
    }
    // The programs find what they need.
    let c = pool.acquire().await.unwrap();
    let script = "import os, getpass\n\
                  print(os.getcwd(), os.environ['HOME'], os.environ['TMPDIR'], getpass.getuser(), os.getuid(), os.getgid())\n\
                  open('/work/x', 'w').close(); open('/tmp/x', 'w').close()\n";
    assert_eq!(printed(&c, script).await, "/work /work /tmp nobody 65534 65534");
    drop(c);
    end(pool).await;
}

#[tokio::test]
async fn the_first_container_is_looked_at_in_each_build_and_is_lent() {
    for _ in 0..2 {
        let pool = builder("first", strict().await).build().await.unwrap();
        assert_eq!(pool.idle_count(), 1);
        assert!(!pool.security().unwrap().items.is_empty());
        let c = pool.acquire().await.unwrap();
        assert_eq!(
            printed(&c, "import os; print(os.listdir('/work'), os.listdir('/tmp'))").await,
            "[] []"
        );
        drop(c);
        end(pool).await;
    }
    let plain = Pool::builder("sandbox-none")
        .image(python())
        .min_idle(0)
        .build()
        .await
        .unwrap();
    assert!(plain.security().is_none());
    end(plain).await;
}

#[tokio::test]
async fn a_sandbox_is_cleaned_and_lent_again() {
    let pool = builder("clean", strict().await).build().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let c = pool.acquire().await.unwrap();
        ids.push(c.id().to_owned());
        let script = "import mmap, os, subprocess\n\
                      from multiprocessing import shared_memory\n\
                      print(os.listdir('/work'), os.listdir('/tmp'), os.listdir('/dev/shm'))\n\
                      os.makedirs('/work/a/b'); open('/work/a/b/c', 'w').write('secret'); os.chmod('/work/a/b', 0)\n\
                      open('/tmp/x', 'w').write('secret'); os.chmod('/tmp', 0o700)\n\
                      open('/dev/shm/y', 'w').write('secret')\n\
                      subprocess.Popen(['sleep', '1000'], start_new_session=True)\n";
        assert_eq!(printed(&c, script).await, "[] [] []");
        drop(c);
        eventually_now("cleaned", || pool.status().recycling == 0).await;
    }
    ids.dedup();
    let status = pool.status();
    assert_eq!(
        (ids.len(), status.lifetime.cleaned, status.lifetime.unclean),
        (1, 3, 0),
        "{:?}",
        pool.last_unclean()
    );
    end(pool).await;
}

#[tokio::test]
async fn a_container_outside_of_a_pool_is_looked_at_too() {
    let spec = ContainerSpec::new(python())
        .sandbox(strict().await)
        .exec_via(ExecVia::Auto);
    let c = Container::create(engine().await, spec)
        .await
        .unwrap()
        .start()
        .await
        .unwrap();
    let output = c.command("id").arg("-u").output().await.unwrap();
    assert_eq!(output.stdout_lossy(), "65534\n");
    c.remove().await.unwrap();
}

#[tokio::test]
async fn the_command_of_a_server_runs_in_the_sandbox() {
    let builder = builder("server", strict().await)
        .cmd(["sleep", "1000"])
        .supervise_command(true);
    let pool = builder.exec_via(ExecVia::Agent).build().await.unwrap();
    assert_eq!(pool.security().unwrap().item("health check").unwrap().found, "none");
    let c = pool.acquire().await.unwrap();
    let script = "import os\n\
                  for pid in filter(str.isdigit, os.listdir('/proc')):\n\
                  \x20   words = open(f'/proc/{pid}/cmdline').read().split(chr(0))\n\
                  \x20   if 'sleep' in words: print(os.stat(f'/proc/{pid}').st_uid)\n";
    assert_eq!(printed(&c, script).await, "65534");
    drop(c);
    end(pool).await;
}

#[tokio::test]
async fn a_command_of_another_user_has_no_capability_either() {
    let pool = builder("other", strict().await).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let script = "import os\n\
                  status = dict(line.strip().split(':', 1) for line in open('/proc/self/status'))\n\
                  print(os.getuid(), [status[s].strip() for s in ('CapPrm', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp')])\n\
                  for path in ('/proc/1/mem', '/etc/new'):\n\
                  \x20   try: open(path, 'r+' if path == '/proc/1/mem' else 'w'); print('open')\n\
                  \x20   except OSError: print('refused')\n";
    let mut command = c.command("python3");
    let out = command.args(["-c", script]).user("0:0").output().await.unwrap();
    let none = "0".repeat(16);
    let seen = format!("0 ['{none}', '{none}', '{none}', '1', '2']\nrefused\nrefused\n");
    assert_eq!(out.stdout_lossy(), seen, "{out:?}");
    drop(c);
    end(pool).await;
}

#[tokio::test]
async fn without_the_agent_the_files_are_seen_and_the_calls_are_not() {
    // `crun exec` gives a command a score of its own, so that no other can be asked for here.
    let sandbox = match is_crun().await {
        true => strict().await.oom_score_adj(-998),
        false => strict().await,
    };
    let builder = builder("exec", sandbox).raw_config(serde_json::json!({"Cmd": ["sleep", "1000"]}));
    let pool = builder.build().await.unwrap();
    let report = pool.security().unwrap();
    for name in ["user", "capabilities", "seccomp", "/work", "ulimit nofile"] {
        let item = report.item(name).unwrap();
        assert_eq!(item.how_seen, HowSeen::Inside, "{item}");
    }
    if !is_podman().await {
        assert_eq!(report.item("call af_alg").unwrap().how_seen, HowSeen::NotSeen);
    }
    let c = pool.acquire().await.unwrap();
    assert_eq!(
        printed(&c, "import os; print(os.getuid(), os.getcwd())").await,
        "65534 /work"
    );
    drop(c);
    end(pool).await;
}

#[tokio::test]
async fn old_versions_are_warned_of_by_their_advisories() {
    let pool = builder("old", strict().await).build().await.unwrap();
    let warnings = &pool.security().unwrap().warnings;
    for warning in warnings {
        let is_of_version = warning.contains("CVE-") && warning.contains("https://");
        assert!(is_of_version || warning.contains("Seccomp::strict()"), "{warning}");
    }
    let version = engine().await.bollard().version().await.unwrap();
    let components = version.components.unwrap_or_default();
    let runc = components.iter().find(|component| component.name == "runc");
    let is_old = runc.is_some_and(|runc| ["1.0.", "1.1."].iter().any(|old| runc.version.starts_with(old)));
    let is_warned_of = warnings.iter().any(|warning| warning.contains("GHSA-9493-h29p-rfm2"));
    assert!(is_warned_of || !is_old, "{warnings:?}");
    end(pool).await;
}

#[test]
fn attempts_and_programs_in_one_process() {
    support::together(&["hostile::", "programs::"]);
}
