use dockerpool::{Container, Created};

fn bad(container: Container<Created>) {
    drop(container.start());
    drop(container.start());
}

fn main() {}
