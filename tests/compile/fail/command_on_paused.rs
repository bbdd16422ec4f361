use dockerpool::{Container, Paused};

fn bad(container: &Container<Paused>) {
    container.command("true");
}

fn main() {}
