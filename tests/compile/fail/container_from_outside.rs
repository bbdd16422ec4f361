use std::marker::PhantomData;

use dockerpool::{Container, Created, Running};

fn bad(created: Container<Created>) -> Container<Running> {
    Container {
        handle: created.handle,
        state: PhantomData,
    }
}

fn main() {}
