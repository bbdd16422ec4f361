use dockerpool::Container;

struct Mine;

fn bad(_: Container<Mine>) {}

fn main() {}
