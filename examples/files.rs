//! Files: a program goes in, runs, and what it has made comes out, without any trust in the container's files.
//!
//! ```sh
//! cargo run --example files
//! ```

use dockerpool::{Error, FileLimits, Pool};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("files").image(image).build().await?;
    let c = pool.acquire().await?;
    let files = c.files();

    // One file at a time. The missing directories are made on request.
    let program =
        "mkdir out out/sub\nsort words >out/sorted\nln -s ../sorted out/sub/link\nln -s /etc/passwd out/evil\n";
    files
        .clone()
        .create_parents()
        .mode(0o755)
        .write("/tmp/job/run", program)
        .await?;
    files.write("/tmp/job/words", "pear\napple\nfig\n").await?;
    let status = c.command("sh").arg("run").current_dir("/tmp/job").status().await?;
    println!("ran: {status}");
    for entry in files.list("/tmp/job/out").await? {
        println!("{}: {:?}", entry.name_lossy(), entry.metadata.file_type);
    }
    println!(
        "sorted: {:?}",
        String::from_utf8(files.read_to_vec("/tmp/job/out/sorted").await?)?
    );

    // A whole directory. Nothing outside of the target is written, and a link that leads out of the tree is not copied.
    let target = tempfile::tempdir()?;
    let done = files.download_dir("/tmp/job/out", target.path()).await?;
    println!(
        "copied: {} file, {} directory, {} link",
        done.files, done.dirs, done.links
    );
    for skipped in &done.skipped {
        println!("skipped: {skipped:?}");
    }
    let copied = files.upload_dir(target.path(), "/tmp/again").await?;
    println!("back in: {} file", copied.files);

    // Limits hold whatever the container says.
    let made = c.exec(["truncate", "-s", "100G", "/tmp/sparse"]).await?;
    println!("a sparse file: {}", made.status);
    let small = files.limits(FileLimits {
        bytes: 1 << 20,
        ..FileLimits::default()
    });
    match small.read_to_vec("/tmp/sparse").await {
        Err(Error::File { source, .. }) => println!("too large: {source}"),
        other => println!("unexpected: {other:?}"),
    }

    drop(c);
    pool.shutdown().await?;
    Ok(())
}
