//! Containers with servers, on the real engine: published ports.

use std::net::SocketAddr;
use std::time::Duration;

use crate::network::Name;
use crate::support::{Capability, eventually, lacks, pool, python};
use dockerpool::{ExecVia, Network, PoolBuilder};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Answers each connection on port 8080 with its container's name.
const SERVER: &str = "import socket
server = socket.create_server(('', 8080))
while True: server.accept()[0].sendall(socket.gethostname().encode())";

fn servers(name: &str, network: &Name) -> PoolBuilder {
    pool(name)
        .image(python())
        .exec_via(ExecVia::Agent)
        .cmd(["python3", "-c", SERVER])
        .supervise_command(true)
        .network(Network::create(&network.0).remove_on_shutdown())
        .publish(8080)
}

/// Returns what a server answers, or nothing: a proxy of the engine may accept before there is a server.
async fn ask(address: SocketAddr) -> String {
    let mut answer = String::new();
    if let Ok(Ok(mut server)) = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(address)).await {
        let _ = server.read_to_string(&mut answer).await;
    }
    answer
}

#[tokio::test]
async fn each_container_is_reached_at_its_own_published_port() {
    let network = Name::new();
    let pool = servers("published", &network).min_idle(2).build().await.unwrap();
    let (one, two) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    for c in [&one, &two] {
        let address = c.port(8080).unwrap();
        assert!(address.ip().is_loopback(), "{address}");
        let name = c.command("hostname").output_string().await.unwrap();
        eventually("the server answers", async || ask(address).await == name.trim()).await;
    }
    assert_ne!(one.port(8080).unwrap(), two.port(8080).unwrap());
    // The address is the one that the container itself has.
    let own = one.command("hostname").arg("-i").output_string().await.unwrap();
    assert_eq!(one.ip().unwrap().to_string(), own.trim());
    // A rootless engine keeps the networks of containers to itself.
    if !lacks(Capability::Root) {
        let address = SocketAddr::new(two.ip().unwrap(), 8080);
        let name = two.command("hostname").output_string().await.unwrap();
        assert_eq!(ask(address).await, name.trim());
    }
    drop((one, two));
    pool.shutdown().await.unwrap();
}
