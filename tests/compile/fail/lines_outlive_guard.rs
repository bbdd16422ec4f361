use dockerpool::{Error, PooledContainer};

async fn bad(guard: PooledContainer) -> Result<(), Error> {
    let lines = guard.command("true").lines().await?;
    guard.discard();
    drop(lines);
    Ok(())
}

fn main() {}
