//! Standard input: all at once, and line by line in a conversation.
//!
//! ```sh
//! cargo run --example stdin_pipe
//! ```

use dockerpool::{Pool, Stdio};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("stdin").image(image).build().await?;
    let c = pool.acquire().await?;

    // Input that is known beforehand is written while the output is read. Then the command sees the end of input.
    let output = c.command("sort").stdin("pear\napple\nfig\n").output().await?;
    println!("sorted: {:?}", output.stdout_lossy());

    // Other input goes through a pipe.
    let mut child = c
        .command("sh")
        .args(["-c", "while read line; do echo \"you said: $line\"; done; echo bye"])
        .stdin(Stdio::piped())
        .spawn()
        .await?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    for word in ["hello", "how are you"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await?;
        println!("{}", lines.next_line().await?.unwrap_or_default());
    }
    // Closes the command's standard input.
    stdin.shutdown().await?;
    println!("{}", lines.next_line().await?.unwrap_or_default());
    println!("{}", child.wait().await?);

    // The child borrows the container.
    drop(child);
    drop(c);
    pool.shutdown().await?;
    Ok(())
}
