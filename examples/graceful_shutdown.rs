//! Ends a service without losing work: running commands finish, new ones are refused, and nothing is left on the
//! engine. The program stops on Ctrl-C, or by itself after the first jobs.
//!
//! ```sh
//! cargo run --example graceful_shutdown
//! ```

use std::time::Duration;

use dockerpool::{Error, Pool};
use tokio::sync::mpsc;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("graceful")
        .image(image)
        .min_idle(2)
        .max_total(2)
        .build()
        .await?;

    let (done, mut jobs_done) = mpsc::unbounded_channel();
    let workers: Vec<_> = (0..2)
        .map(|_| {
            let (pool, done) = (pool.clone(), done.clone());
            tokio::spawn(async move {
                let mut jobs = 0;
                loop {
                    let c = match pool.acquire().await {
                        Ok(c) => c,
                        // This error tells a worker that the pool shuts down.
                        Err(error) if error.is_shutdown() => return Ok::<_, Error>(jobs),
                        Err(error) => return Err(error),
                    };
                    let status = c.command("sleep").arg("0.2").status().await?;
                    assert!(status.success(), "a job was cut off: {status}");
                    jobs += 1;
                    // The receiver is gone once the shutdown has begun.
                    let _ = done.send(());
                }
            })
        })
        .collect();

    tokio::select! {
        _ = tokio::signal::ctrl_c() => println!("interrupted"),
        _ = async { for _ in 0..4 { jobs_done.recv().await; } } => println!("four jobs are done"),
    }

    // Waits for leases, for at most 30 seconds, and then removes everything.
    pool.shutdown_timeout(Duration::from_secs(30)).await?;
    let mut jobs = 0;
    for worker in workers {
        jobs += worker.await.expect("no worker panics")?;
    }
    println!("at least four jobs, each to its end: {}", jobs >= 4);
    println!("left: {} containers", pool.status().total());
    Ok(())
}
