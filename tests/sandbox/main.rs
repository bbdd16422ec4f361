//! Sandboxes on the real engine: everything that is asked for is there, and hostile programs get nowhere.

#[path = "../support/mod.rs"]
mod support;

use dockerpool::{ExecVia, Pool, PoolBuilder, Reuse, Sandbox};
use support::{busybox, eventually_now, python};

fn builder(name: &str) -> PoolBuilder {
    Pool::builder(name)
        .image(python())
        .min_idle(0)
        .max_total(1)
        .memory(256 << 20)
        .exec_via(ExecVia::Auto)
        .sandbox(Sandbox::strict())
}

#[tokio::test]
async fn everything_that_is_asked_for_is_seen() {
    let pool = builder("seen").build().await.unwrap();
    println!("{}", pool.security().unwrap());
    pool.shutdown().await.unwrap();
}
