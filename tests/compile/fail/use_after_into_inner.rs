use dockerpool::PooledContainer;

fn bad(guard: PooledContainer) {
    drop(guard.into_inner());
    drop(guard.command("true").status());
}

fn main() {}
