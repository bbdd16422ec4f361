//! One pool for all tests of a program: each test borrows a Redis of its own, which is ready and empty.
//!
//! In a program of yours the functions below stand among its tests, each with `#[tokio::test]` above it: see
//! `docs/pools-in-tests.md`. Here `main` runs them as `cargo test` does: all at once, each on a thread and a runtime of its own.
//!
//! ```sh
//! cargo run --example shared_pool_in_tests
//! ```

use std::pin::Pin;

use dockerpool::{Error, Network, Pool, PooledContainer, Ready, Return, Reuse};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

/// The one pool. A static is never dropped: the containers end with the process, however it ends.
static POOL: OnceCell<Pool> = OnceCell::const_new();

/// Borrows a Redis. The first test that calls this makes the pool.
async fn redis() -> PooledContainer {
    let pool = POOL.get_or_try_init(build).await.expect("the pool can be built");
    pool.acquire().await.expect("there is a Redis")
}

async fn build() -> Result<Pool, Error> {
    let image = std::env::var("DOCKERPOOL_REDIS_IMAGE").unwrap_or_else(|_| "redis:7-alpine".to_owned());
    Pool::builder("redis-in-tests")
        .image(image)
        .supervise_command(true) // the image's own server, beside the commands of leases
        .network(Network::existing("bridge")) // there already, so that none is left
        .publish(6379)
        .ready_when(Ready::tcp(6379))
        .max_total(2)
        // Emptied and lent again. Without these two each test gets a server that nobody had before.
        .reuse(Reuse::AsIs)
        .on_return(async |c| match c.exec(["redis-cli", "flushall"]).await {
            Ok(out) if out.status.success() => Return::Keep,
            _ => Return::Discard,
        })
        .build()
        .await
}

/// Sends one command of Redis, and returns the first line of the answer.
async fn ask(c: &PooledContainer, command: &str) -> String {
    let mut server = TcpStream::connect(c.port(6379).unwrap()).await.unwrap();
    server.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(server).read_line(&mut line).await.unwrap();
    line.trim().to_owned()
}

// #[tokio::test]
async fn a_counter_counts() {
    let c = redis().await;
    assert_eq!(ask(&c, "INCR visits").await, ":1");
    assert_eq!(ask(&c, "INCR visits").await, ":2");
}

// #[tokio::test]
async fn every_test_begins_with_an_empty_database() {
    let c = redis().await;
    assert_eq!(ask(&c, "DBSIZE").await, ":0");
    assert_eq!(ask(&c, "SET visits 7").await, "+OK");
}

// #[tokio::test]
async fn a_command_can_run_beside_the_server() {
    let c = redis().await;
    assert_eq!(ask(&c, "SET name ada").await, "+OK");
    let name = c
        .command("redis-cli")
        .args(["GET", "name"])
        .output_string()
        .await
        .unwrap();
    assert_eq!(name, "ada\n");
}

fn main() {
    type Test = fn() -> Pin<Box<dyn Future<Output = ()>>>;
    let tests: [(&str, Test); 3] = [
        ("a counter counts", || Box::pin(a_counter_counts())),
        ("every test begins with an empty database", || {
            Box::pin(every_test_begins_with_an_empty_database())
        }),
        ("a command can run beside the server", || {
            Box::pin(a_command_can_run_beside_the_server())
        }),
    ];
    let threads = tests.map(|(name, test)| {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(test());
        };
        (name, std::thread::spawn(run))
    });
    for (name, thread) in threads {
        println!("{name}: {}", if thread.join().is_ok() { "ok" } else { "FAILED" });
    }
    let lifetime = POOL.get().expect("the tests have made it").status().lifetime;
    println!(
        "{} leases, at most two servers: {}",
        lifetime.lent,
        lifetime.created <= 2
    );
}
