//! The limits that keep a command from taking the machine: memory, processes, cpu, time and output.
//!
//! ```sh
//! cargo run --example resource_limits
//! ```

use std::time::Duration;

use dockerpool::{Error, OnLimit, Pool};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("limits")
        .image(image)
        .memory(32 << 20) // bytes, and no swap
        .cpus(0.5)
        .pids_limit(16)
        .build()
        .await?;

    // Each command has a lease of its own, so that none meets what another has left. A container that ran out of memory is
    // replaced; the others are cleaned.
    let c = pool.acquire().await?;
    // `tail` keeps the last line in memory, and the last line of `/dev/zero` never ends.
    let output = c.exec(["sh", "-c", "tail -n 1 /dev/zero"]).await?;
    println!("memory: {}", output.status);
    c.discard();

    let c = pool.acquire().await?;
    let script = "for i in $(seq 30); do sleep 60 & done";
    let output = c.command("sh").args(["-c", script]).output().await?;
    println!("processes: refused {}", output.stderr_lossy().contains("fork"));
    c.discard();

    let c = pool.acquire().await?;
    let output = c
        .command("sh")
        .args(["-c", "while true; do :; done"])
        .timeout(Duration::from_secs(1))
        .output()
        .await?;
    println!("time: {}", output.status);
    drop(c);

    // The clock goes on while a command waits, and its processor time does not. Only the agent can count that.
    let c = pool.acquire().await?;
    let mut command = c.command("sh");
    command.args(["-c", "while true; do :; done"]);
    match command.cpu_time(Duration::from_millis(200)).output().await {
        Ok(output) => println!("processor time: {}", output.status),
        Err(Error::Unsupported { reason, .. }) => println!("processor time: {reason}"),
        Err(error) => return Err(error),
    }
    drop(c);

    let c = pool.acquire().await?;
    let output = c.command("yes").output_limit(10).output().await?;
    println!("output: {}, kept {:?}", output.status, output.stdout_lossy());
    drop(c);

    // With `OnLimit::Truncate` the command finishes, and the rest of its output is dropped.
    let c = pool.acquire().await?;
    let output = c
        .command("seq")
        .arg("100000")
        .output_limit(4)
        .on_limit(OnLimit::Truncate)
        .output()
        .await?;
    println!("truncated: {}, kept {:?}", output.status, output.stdout_lossy());
    drop(c);

    pool.shutdown().await
}
