//! Containers with servers: where they are reached.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{Container, ContainerSpec, Error, FieldError, Network, Pool, PoolBuilder};

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("servers").image("any").engine(Arc::new(engine.clone()))
}

fn online(engine: &FakeEngine) -> PoolBuilder {
    fake_pool(engine).network(Network::existing("bridge"))
}

#[tokio::test]
async fn each_container_has_an_address_and_a_port_of_its_own() {
    let engine = FakeEngine::new();
    let builder = online(&engine).publish(6379).publish_range(8000..=8001).min_idle(3);
    let pool = builder.build().await.unwrap();
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(pool.acquire().await.unwrap());
    }
    let mut addresses = BTreeSet::new();
    for c in &leases {
        for port in [6379, 8000, 8001] {
            let address = c.port(port).unwrap();
            assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
            addresses.insert(address);
        }
    }
    assert_eq!(addresses.len(), 9);
    assert_eq!(leases.iter().filter_map(|c| c.ip()).collect::<BTreeSet<_>>().len(), 3);

    let error = leases[0].port(80).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    let words = error.to_string();
    assert!(
        words.contains("port 80 is not published, published are [6379, 8000, 8001]"),
        "{words}"
    );
    drop(leases);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_without_a_network_has_neither_and_the_engine_is_not_asked() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert_eq!(c.ip(), None);
    assert!(c.port(80).unwrap_err().to_string().contains("no port is"));
    assert_eq!(engine.calls(Call::Inspect), 0);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_port_is_that_of_the_last_start() {
    let spec = ContainerSpec::new("any")
        .network(Network::existing("bridge"))
        .cmd(["sleep", "60"])
        .publish_address(Ipv4Addr::UNSPECIFIED)
        .publish(80);
    let created = Container::create(Arc::new(FakeEngine::new()), spec).await.unwrap();
    let running = created.start().await.unwrap();
    let first = running.port(80).unwrap();
    assert!(
        first.ip().is_loopback(),
        "this machine reaches all of its own addresses by loopback"
    );
    let exited = running.stop(Duration::ZERO).await.unwrap();
    assert_ne!(exited.start().await.unwrap().port(80).unwrap(), first);
}

#[tokio::test]
async fn ports_that_cannot_be_published_are_refused_before_anything_is_done() {
    let engine = FakeEngine::new();
    let refused = async |builder: PoolBuilder| match builder.build().await {
        Err(Error::Config(problems)) => problems.iter().map(|problem| problem.field().to_owned()).collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(refused(fake_pool(&engine).publish(80)).await, ["publish"]);
    assert_eq!(
        refused(fake_pool(&engine).network(Network::none()).publish(80)).await,
        ["publish"]
    );
    assert_eq!(refused(online(&engine).publish(0)).await, ["publish"]);
    assert_eq!(refused(online(&engine).publish_range(1..=1025)).await, ["publish"]);
    let empty = RangeInclusive::new(2, 1);
    assert_eq!(refused(online(&engine).publish_range(empty)).await, ["publish_range"]);
    assert_eq!((engine.calls(Call::Check), engine.calls(Call::Create)), (0, 0));

    let Err(Error::Config(problems)) = fake_pool(&engine).publish(80).build().await else {
        panic!("it is refused")
    };
    assert!(
        problems[0].problem().contains("Network::existing"),
        "{}",
        FieldError::problem(&problems[0])
    );
}
