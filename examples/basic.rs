//! The shortest useful program: a pool, two leases, and a container that comes back warm.
//!
//! ```sh
//! cargo run --example basic
//! ```

use dockerpool::{Error, Pool};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or_else(|_| "busybox:1.36".to_owned());
    let pool = Pool::builder("basic").image(image).max_total(2).build().await?;
    println!("built: {}", pool.status());

    let first = {
        let c = pool.acquire().await?;
        let output = c.command("echo").arg("hello from a container").output().await?;
        print!("{}: {}", output.status, output.stdout_lossy());
        c.id().to_owned()
    }; // dropping the guard returns the container

    let c = pool.acquire().await?;
    println!("the same container again: {}", c.id() == first);
    // `discard` removes a container that should not be lent again. The pool replaces it.
    c.discard();

    let c = pool.acquire().await?;
    println!("another one after discard: {}", c.id() != first);
    drop(c);

    pool.shutdown().await?;
    println!("shut down: {} containers left", pool.status().total());
    Ok(())
}
