use dockerpool::State;

struct Mine;

impl State for Mine {
    const NAME: &'static str = "mine";
}

fn main() {}
