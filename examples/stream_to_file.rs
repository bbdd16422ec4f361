//! Writes output that is too large for memory to a file, as it arrives.
//!
//! ```sh
//! cargo run --example stream_to_file
//! ```

use dockerpool::Pool;
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("stream").image(image).build().await?;
    let c = pool.acquire().await?;

    let path = std::env::temp_dir().join(format!("dockerpool-stream-{}.txt", std::process::id()));
    let mut file = File::create(&path).await?;
    let mut errors = Vec::new();
    // A slow file slows down the command and takes no memory.
    let status = c
        .command("sh")
        .args(["-c", "seq 1000000; echo done >&2"])
        .run_to(&mut file, &mut errors)
        .await?;
    file.flush().await?;

    let written = tokio::fs::metadata(&path).await?.len();
    tokio::fs::remove_file(&path).await?;
    println!("{status}: {written} bytes in the file");
    println!("on standard error: {:?}", String::from_utf8_lossy(&errors));

    drop(c);
    pool.shutdown().await?;
    Ok(())
}
