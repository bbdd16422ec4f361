use dockerpool::{Container, Running};

fn bad(container: Container<Running>) {
    drop(container.start());
}

fn main() {}
