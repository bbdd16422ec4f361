use dockerpool::{Container, Running};

fn bad(container: Container<Running>) {
    drop(container.pause());
    drop(container.command("true").status());
}

fn main() {}
