#![deny(unused_must_use)]

use dockerpool::{Error, PooledContainer};

async fn bad(guard: PooledContainer) -> Result<(), Error> {
    guard.command("make").status().await?;
    Ok(())
}

fn main() {}
