//! The lifeline: containers end with their owner, however it ended.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{containers_of_instance, engine, eventually, pool};

/// Makes this test, run by itself in a process of its own, the owner that is to be killed.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

#[tokio::test]
async fn a_killed_owner_leaves_nothing() {
    if std::env::var_os(OWNER).is_some() {
        let pool = pool("owner").min_idle(2).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        // Not while one is being created: until its start it has no PID 1 that could see its owner go.
        support::eventually_now("all are up", || pool.status().idle == 2 && pool.status().creating == 0).await;
        println!("\ninstance {}", pool.instance());
        // Killed here, with one container idle and one busy.
        let _ = c.command("sleep").arg("1000").status().await;
        return;
    }
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_owner_leaves_nothing", "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let instance = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("instance ").map(str::to_owned))
        .expect("the owner says its instance");
    let engine = engine().await;
    assert!(containers_of_instance(&*engine, &instance).await >= 2);

    owner.kill().unwrap();
    let killed = Instant::now();
    owner.wait().unwrap();
    eventually("its containers are gone", async || {
        containers_of_instance(&*engine, &instance).await == 0
    })
    .await;
    // Within a second, as promised, on a machine with nothing else to do; ten times that here.
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
}
