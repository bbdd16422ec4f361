//! Many commands from many tasks through a few containers. The pool is the queue: first come, first served.
//!
//! ```sh
//! cargo run --release --example high_throughput
//! ```

use std::collections::BTreeSet;
use std::time::Instant;

use dockerpool::{Error, Pool};
use tokio::task::JoinSet;

const COMMANDS: usize = 100;
const CONTAINERS: usize = 4;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("throughput")
        .image(image)
        .min_idle(CONTAINERS)
        .max_total(CONTAINERS)
        .build()
        .await?;

    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for i in 0..COMMANDS {
        let pool = pool.clone();
        tasks.spawn(async move {
            let c = pool.acquire().await?;
            let number = c.command("echo").arg(i.to_string()).output_string().await?;
            Ok::<_, Error>((number, c.id().to_owned()))
        });
    }
    let (mut sum, mut used) = (0, BTreeSet::new());
    while let Some(result) = tasks.join_next().await {
        let (number, container) = result.expect("no task panics")?;
        sum += number.trim().parse::<usize>().expect("echo gives the number back");
        used.insert(container);
    }
    let took = begun.elapsed();

    println!("{COMMANDS} commands, sum {sum}, through {} containers", used.len());
    println!("{:.1} commands/s", COMMANDS as f64 / took.as_secs_f64());
    pool.shutdown().await
}
