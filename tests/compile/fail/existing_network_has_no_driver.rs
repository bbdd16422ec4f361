use dockerpool::Network;

fn main() {
    let _ = Network::existing("bridge").driver("overlay");
}
