use dockerpool::Running;

fn bad() -> Running {
    Running {}
}

fn main() {}
