//! The memory that many agents cost their owner. `agent/commands.rs` measures the memory of one agent in its container.

use std::time::Duration;

use crate::support::{engine, itself, own_test, pool};
use dockerpool::{ActiveExec, ExecVia};
use futures_util::future::join_all;

/// Makes this test, run in a process of its own, the owner, so that the memory of other tests does not count.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

const AGENTS: usize = 50;

/// Returns the resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn a_pool_of_fifty_agents_adds_less_than_ten_megabytes() {
    if std::env::var_os(OWNER).is_some() {
        return own().await;
    }
    let output = itself(&own_test!("a_pool_of_fifty_agents_adds_less_than_ten_megabytes"))
        .env(OWNER, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = text.lines().find_map(|line| line.strip_prefix("added ")).unwrap();
    println!("{AGENTS} agents add, in KiB, when they are warm and after a command in each: {line}");
    for added in line.split(' ') {
        assert!(added.parse::<u64>().unwrap() < 10_000_000 / 1024, "{line}");
    }
}

async fn own() {
    let engine = engine().await;
    let before = resident();
    let pool = pool("memory")
        .engine(engine)
        .min_idle(AGENTS)
        .max_total(AGENTS)
        .max_concurrent_creates(8)
        .exec_via(ExecVia::Agent)
        .build()
        .await
        .unwrap();
    assert_eq!((pool.status().exec, pool.idle_count()), (ActiveExec::Agent, AGENTS));
    let warm = resident();
    let run = async || {
        let c = pool.acquire().await.unwrap();
        assert!(c.command("true").status().await.unwrap().success());
        c
    };
    let all = join_all((0..AGENTS).map(|_| run())).await;
    drop(all);
    let used = resident();
    println!(
        "\nadded {} {}",
        warm.saturating_sub(before),
        used.saturating_sub(before)
    );
    // Creating so many containers takes long on a slow machine.
    pool.shutdown_timeout(Duration::from_secs(120)).await.unwrap();
}
