use dockerpool::{Container, Exited};

fn bad(container: &Container<Exited>) {
    container.command("true");
}

fn main() {}
