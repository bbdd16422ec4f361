use dockerpool::{Error, PooledContainer};

async fn bad(guard: PooledContainer) -> Result<(), Error> {
    let id = guard.command("server").spawn().await?.detach();
    let server = guard.background(id);
    guard.discard();
    drop(server);
    Ok(())
}

fn main() {}
