use dockerpool::PooledContainer;

// A container that was lent cannot be taken to another state: it would not be what the pool lends next.
fn bad(guard: PooledContainer) {
    drop(guard.pause());
}

fn main() {}
