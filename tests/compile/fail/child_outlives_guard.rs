use dockerpool::{Error, PooledContainer};

async fn bad(guard: PooledContainer) -> Result<(), Error> {
    let mut child = guard.command("true").spawn().await?;
    drop(guard);
    child.wait().await?;
    Ok(())
}

fn main() {}
