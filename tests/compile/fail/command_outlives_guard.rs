use dockerpool::{Command, PooledContainer};

fn bad(guard: PooledContainer) -> Command<'static> {
    guard.command("true")
}

fn main() {}
