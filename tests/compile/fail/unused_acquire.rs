#![deny(unused_must_use)]

use dockerpool::{Error, Pool};

async fn bad(pool: Pool) -> Result<(), Error> {
    pool.acquire().await?;
    Ok(())
}

fn main() {}
