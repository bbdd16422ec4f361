//! Limits: each requested limit is in force, according to the kernel, or the build fails and names it. A rootless
//! engine can only set the limits it has been delegated.

use bollard::models::{HostConfig, ThrottleDevice};
use dockerpool::{EngineErrorKind, Error, ExecVia, PooledContainer};

use crate::support::{pool, unique_name};

/// Describes a limit: its files in cgroup v2 and v1, and the values they must contain.
struct Limit {
    name: &'static str,
    asked: HostConfig,
    files: [&'static str; 2],
    is_in_force: fn(&str) -> bool,
}

fn limits() -> Vec<Limit> {
    let asked = |change: fn(&mut HostConfig)| {
        let mut asked = HostConfig::default();
        change(&mut asked);
        asked
    };
    let disk = |change: fn(&mut HostConfig, Vec<ThrottleDevice>)| {
        let device = std::fs::read_to_string("/proc/partitions").unwrap_or_default();
        let device = device
            .lines()
            .skip(2)
            .find_map(|line| line.split_whitespace().nth(3))
            .map(str::to_owned);
        let mut asked = HostConfig::default();
        let limit = device.map(|device| ThrottleDevice {
            path: Some(format!("/dev/{device}")),
            rate: Some(1 << 20),
        });
        change(&mut asked, limit.into_iter().collect());
        asked
    };
    vec![
        Limit {
            name: "memory",
            asked: asked(|host| host.memory = Some(96 << 20)),
            files: ["memory.max", "memory/memory.limit_in_bytes"],
            is_in_force: |read| read == "100663296",
        },
        Limit {
            name: "processes",
            asked: asked(|host| host.pids_limit = Some(77)),
            files: ["pids.max", "pids/pids.max"],
            is_in_force: |read| read == "77",
        },
        Limit {
            name: "cpu time",
            asked: asked(|host| host.nano_cpus = Some(250_000_000)),
            files: ["cpu.max", "cpu/cpu.cfs_quota_us"],
            is_in_force: |read| matches!(read, "25000 100000" | "25000"),
        },
        Limit {
            name: "cpu set",
            asked: asked(|host| host.cpuset_cpus = Some("0".to_owned())),
            files: ["cpuset.cpus", "cpuset/cpuset.cpus"],
            is_in_force: |read| read == "0",
        },
        Limit {
            name: "cpu shares",
            asked: asked(|host| host.cpu_shares = Some(77)),
            files: ["cpu.weight", "cpu/cpu.shares"],
            is_in_force: |read| read.parse::<u32>().is_ok_and(|read| read < 100),
        },
        Limit {
            name: "I/O weight",
            asked: asked(|host| host.blkio_weight = Some(300)),
            files: ["io.weight", "blkio/blkio.weight"],
            is_in_force: |read| !read.is_empty() && !matches!(read, "default 100" | "500"),
        },
        Limit {
            name: "bytes read",
            asked: disk(|host, limit| host.blkio_device_read_bps = Some(limit)),
            files: ["io.max", "blkio/blkio.throttle.read_bps_device"],
            is_in_force: |read| read.contains("1048576"),
        },
    ]
}

/// Reads the container's value from the kernel, in either cgroup version.
async fn in_force(c: &PooledContainer, files: [&str; 2]) -> String {
    let [v2, v1] = files;
    let script = format!(
        "cd /sys/fs/cgroup; if [ -e cgroup.controllers ]; then cat {v2}; else cat {v1}; fi 2>/dev/null || true"
    );
    let out = c.command("sh").args(["-c", &*script]).output().await.unwrap();
    out.stdout_lossy().trim().to_owned()
}

#[tokio::test]
async fn a_limit_is_in_force_or_the_build_fails() {
    for limit in limits() {
        let name = limit.name;
        let mut builder = pool(&unique_name("limits"))
            .host_config(limit.asked.clone())
            .exec_via(ExecVia::Docker);
        if limit.asked.memory.is_some() {
            builder = builder.memory(96 << 20);
        }
        match builder.min_idle(1).build().await {
            Ok(pool) => {
                let c = pool.acquire().await.unwrap();
                let read = in_force(&c, limit.files).await;
                assert!((limit.is_in_force)(&read), "{name}: built, and the kernel has `{read}`");
                println!("{name}: in force");
                drop(c);
                pool.shutdown().await.unwrap();
            }
            Err(Error::Config(problems)) => println!("{name}: refused: {}", problems[0]),
            Err(error) => {
                let source = error.engine_error().unwrap_or_else(|| panic!("{name}: {error:?}"));
                assert_eq!(source.kind(), EngineErrorKind::LimitDiscarded, "{name}: {error:?}");
                println!("{name}: refused: {source}");
            }
        }
    }
}
