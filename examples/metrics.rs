//! The numbers of a pool: its containers now, its events since it was built, and errors as they occur. The output has
//! the format of Prometheus.
//!
//! ```sh
//! cargo run --example metrics
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dockerpool::{Error, Pool, Status};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let errors = Arc::new(AtomicU64::new(0));
    let count = errors.clone();
    let pool = Pool::builder("metrics")
        .image(image)
        .max_total(4)
        // Errors of background tasks, which no call returns.
        .on_error(move |error| {
            count.fetch_add(1, Ordering::Relaxed);
            eprintln!("in the background: {error}");
        })
        .build()
        .await?;

    for i in 0..5 {
        let c = pool.acquire().await?;
        assert!(c.command("true").status().await?.success());
        if i == 4 {
            c.discard();
        }
    }
    let held = pool.acquire().await?;
    write_metrics(pool.name(), &pool.status());
    drop(held);
    pool.shutdown().await?;

    println!("after the end:");
    let status = pool.status();
    write_metrics(pool.name(), &status);
    let counters = status.lifetime;
    println!(
        "all that were made are gone: {}",
        counters.created + counters.adopted == counters.removed + counters.taken
    );
    println!("errors of background tasks: {}", errors.load(Ordering::Relaxed));
    Ok(())
}

fn write_metrics(pool: &str, status: &Status) {
    let counters = status.lifetime;
    for (name, value) in [
        ("in_use", status.in_use as u64),
        ("waiting", status.waiting as u64),
        ("lent_total", counters.lent),
        ("returned_total", counters.returned),
        ("discarded_total", counters.discarded),
        ("create_failures_total", counters.create_failures),
        ("acquire_timeouts_total", counters.acquire_timeouts),
    ] {
        println!("dockerpool_{name}{{pool=\"{pool}\"}} {value}");
    }
}
