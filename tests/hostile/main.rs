//! Hostile programs in the container. Each attack runs by every way of running commands, as root of the container and
//! as a user that owns no files in it. An attack may cost its own container. An attack never leads to a wrong result,
//! never hangs, and never reaches the next lease.

mod broken;
mod crowded;
mod deaths;
mod ends;
mod identity;
mod pid1;
mod pressure;
mod questions;
#[path = "../support/mod.rs"]
mod support;
mod terminals;
mod ways;
mod words;

use std::time::Duration;

use ways::{each, lease_is_sound, run_for};

#[tokio::test]
async fn forks_that_ignore_signals_end_with_their_command() {
    let script = "import os, signal, time\n\
                  for s in (1, 2, 15, 17): signal.signal(s, signal.SIG_IGN)\n\
                  for _ in range(5): os.fork()\n\
                  os.setsid() if os.getpid() != os.getsid(0) else None\n\
                  time.sleep(60)\n";
    each("forks", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let out = run_for(&c, user, script, Duration::from_secs(1)).await.unwrap();
        assert_eq!(out.status, dockerpool::ExitStatus::TimedOut, "{way:?} {user}");
        if way.is_agent() {
            assert_eq!(c.process_count().await.unwrap(), 0, "{way:?} {user}");
        }
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}
