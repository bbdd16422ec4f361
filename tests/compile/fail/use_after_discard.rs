use dockerpool::PooledContainer;

fn bad(guard: PooledContainer) {
    guard.discard();
    drop(guard.command("true").status());
}

fn main() {}
