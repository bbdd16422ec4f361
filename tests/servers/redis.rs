//! One pool of Redis in a `static`, used by many runtimes at once.

use std::collections::BTreeSet;

use crate::support::{Capability, containers_of, engine, lacks, redis as image};
use dockerpool::{Network, Pool, PoolBuilder, PooledContainer, Ready, Return, Reuse};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;

/// A pool of the image's own server, on a network of its own that ends with it.
pub fn builder(name: &str, network: &str) -> PoolBuilder {
    Pool::builder(name)
        .image(image())
        .supervise_command(true)
        .network(Network::create(network).remove_on_shutdown())
        .publish(6379)
        .ready_when(Ready::tcp(6379))
}

/// Sends one command, and returns the first line of the answer. The first connection must succeed: the server is ready.
pub async fn ask(c: &PooledContainer, command: &str) -> String {
    let mut server = TcpStream::connect(c.port(6379).unwrap()).await.unwrap();
    server.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(server).read_line(&mut line).await.unwrap();
    line.trim().to_owned()
}

/// Runs so many threads, each with a runtime of its own as a `#[tokio::test]` has, and each with some leases.
fn in_parallel(threads: usize, lease: fn() -> std::pin::Pin<Box<dyn Future<Output = String>>>) -> Vec<String> {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        [runtime.block_on(lease()), runtime.block_on(lease())]
    };
    let threads: Vec<_> = (0..threads).map(|_| std::thread::spawn(run)).collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

fn finish(pool: &'static OnceCell<Pool>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let pool = pool.get().unwrap();
        pool.shutdown().await.unwrap();
        assert_eq!(containers_of(&*engine().await, pool).await, 0);
    });
}

/// Uses a server as a test does that expects an empty one.
async fn use_it(pool: &Pool) -> String {
    let c = pool.acquire().await.unwrap();
    assert_eq!(ask(&c, "DBSIZE").await, ":0");
    assert_eq!(ask(&c, "SET who me").await, "+OK");
    assert_eq!(
        c.command("redis-cli")
            .args(["GET", "who"])
            .output_string()
            .await
            .unwrap(),
        "me\n"
    );
    c.id().to_owned()
}

#[test]
fn each_lease_has_a_server_that_nobody_had_before() {
    static POOL: OnceCell<Pool> = OnceCell::const_new();
    fn network() -> String {
        format!("dockerpool-test-fresh-{}", std::process::id())
    }
    if lacks(Capability::Servers) {
        return;
    }
    let ids = in_parallel(3, || {
        Box::pin(async {
            let build = || builder("fresh-redis", &network()).max_total(3).build();
            use_it(POOL.get_or_try_init(build).await.unwrap()).await
        })
    });
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 6, "{ids:?}");
    finish(&POOL);
}

#[test]
fn a_server_that_is_emptied_on_its_return_is_lent_again() {
    static POOL: OnceCell<Pool> = OnceCell::const_new();
    fn network() -> String {
        format!("dockerpool-test-emptied-{}", std::process::id())
    }
    if lacks(Capability::Servers) {
        return;
    }
    let ids = in_parallel(3, || {
        Box::pin(async {
            let build = || {
                builder("emptied-redis", &network())
                    .max_total(2)
                    .reuse(Reuse::AsIs)
                    .on_return(async |c| match c.exec(["redis-cli", "flushall"]).await {
                        Ok(out) if out.status.success() => Return::Keep,
                        _ => Return::Discard,
                    })
                    .build()
            };
            use_it(POOL.get_or_try_init(build).await.unwrap()).await
        })
    });
    assert!(ids.iter().collect::<BTreeSet<_>>().len() <= 2, "{ids:?}");
    finish(&POOL);
}
