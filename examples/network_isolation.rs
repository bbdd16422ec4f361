//! Network isolation: containers of one pool reach each other on a network of their own. Containers of another pool are
//! on another network. By default a container has no network.
//!
//! ```sh
//! cargo run --example network_isolation
//! ```

use dockerpool::{Container, Network, Pool, PoolBuilder, Running};
use tokio::io::{AsyncBufReadExt, BufReader};

const SERVER: &str = "
import socket
server = socket.create_server(('', 8080))
print('ready')
while True:
    server.accept()[0].sendall(b'hello')
";

const CLIENT: &str = "
import socket, sys
print(socket.create_connection((sys.argv[1], 8080), 3).recv(99).decode())
";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::var("DOCKERPOOL_PYTHON_IMAGE").unwrap_or_else(|_| "python:3.12-alpine".to_owned());
    let builder = |name: &str| Pool::builder(name).image(&image).min_idle(0);
    // An internal network has no route to the outside. The pool removes its network at the shutdown.
    let on_its_own = |name: &str| -> PoolBuilder {
        let network = format!("dockerpool-example-{name}-{}", std::process::id());
        builder(name).network(Network::create(network).internal(true).remove_on_shutdown())
    };
    let here = on_its_own("here").build().await?;
    let beside = on_its_own("beside").build().await?;
    let nowhere = builder("nowhere").build().await?;

    let server = here.acquire().await?;
    let address = server.command("hostname").arg("-i").output_string().await?;
    let mut serving = server.command("python3").args(["-u", "-c", SERVER]).spawn().await?;
    // The server prints a line once it listens.
    let mut lines = BufReader::new(serving.stdout.take().expect("it is piped")).lines();
    lines.next_line().await?;

    for (name, pool) in [
        ("the same pool", &here),
        ("a pool beside", &beside),
        ("no network", &nowhere),
    ] {
        let client = pool.acquire().await?;
        println!("{name}: {}", fetch(&client, address.trim()).await?);
    }

    let _ = serving.kill().await?; // its end is known
    drop(serving);
    drop(server);
    for pool in [here, beside, nowhere] {
        pool.shutdown().await?;
    }
    Ok(())
}

async fn fetch(client: &Container<Running>, address: &str) -> Result<String, dockerpool::Error> {
    let output = client.command("python3").args(["-c", CLIENT, address]).output().await?;
    Ok(match output.status.success() {
        true => output.stdout_lossy().trim().to_owned(),
        false => "not reached".to_owned(),
    })
}
