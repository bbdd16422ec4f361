use dockerpool::{Container, Running};

fn bad(container: &Container<Running>) -> Container<Running> {
    container.clone()
}

fn main() {}
