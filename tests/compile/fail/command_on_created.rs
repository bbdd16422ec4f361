use dockerpool::{Container, Created};

fn bad(container: &Container<Created>) {
    container.command("true");
}

fn main() {}
