#![deny(unused_must_use)]

use dockerpool::PooledContainer;

fn bad(guard: PooledContainer) {
    guard.command("true");
}

fn main() {}
