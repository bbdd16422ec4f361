//! `Reuse::Clean`: nothing of one lease reaches the next.

mod corpus;
mod ordinary;
mod plants;
mod scan;
#[path = "../support/mod.rs"]
mod support;

use dockerpool::{ExecVia, Pool, PoolBuilder, Reuse};
use support::{busybox, eventually_now, python};

/// A pool of one container, which is cleaned after each lease.
fn builder(name: &str) -> PoolBuilder {
    Pool::builder(name)
        .image(busybox())
        .min_idle(0)
        .max_total(1)
        .memory(64 << 20)
        .exec_via(ExecVia::Auto)
        .reuse(Reuse::Clean)
}

#[tokio::test]
async fn an_ordinary_lease_leaves_a_container_that_is_lent_again() {
    let pool = builder("clean").build().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let c = pool.acquire().await.unwrap();
        ids.push(c.id().to_owned());
        let out = c
            .exec([
                "sh",
                "-c",
                "ls -A /tmp /dev/shm; echo x >/tmp/x; mkdir -p /tmp/a/b; sleep 100 &",
            ])
            .await
            .unwrap();
        assert_eq!(out.stdout_lossy(), "/dev/shm:\n\n/tmp:\n", "{out:?}");
        let begun = std::time::Instant::now();
        drop(c);
        eventually_now("cleaned", || pool.status().recycling == 0).await;
        println!("{:?} {:?}", begun.elapsed(), pool.last_unclean());
    }
    let status = pool.status();
    assert_eq!(
        (status.lifetime.cleaned, status.lifetime.unclean),
        (5, 0),
        "{:?}",
        pool.last_unclean()
    );
    ids.dedup();
    assert_eq!(ids.len(), 1);
    pool.shutdown().await.unwrap();
    let _ = python();
}
