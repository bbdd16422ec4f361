//! Servers and their networks after a panic and after SIGKILL.

use std::collections::HashMap;

use crate::redis::{ask, builder};
use crate::support::{Capability, Owner, engine, eventually, lacks, own_test, unique_name};
use bollard::query_parameters::ListNetworksOptions;
use dockerpool::engine::{ContainerState, Observation, Selector};
use dockerpool::labels;

/// Makes the test, run in a process of its own, the owner that is killed: the name of its pool, which is its network's too.
const NAME: &str = "DOCKERPOOL_TEST_SERVERS_OWNER";

/// Counts the networks of this name.
async fn networks(name: &str) -> usize {
    let filters = HashMap::from([("name".to_owned(), vec![name.to_owned()])]);
    let options = ListNetworksOptions { filters: Some(filters) };
    engine()
        .await
        .bollard()
        .list_networks(Some(options))
        .await
        .unwrap()
        .len()
}

#[tokio::test]
async fn a_panic_and_a_kill_leave_neither_servers_nor_networks() {
    if let Ok(name) = std::env::var(NAME) {
        let pool = builder(&name, &name).min_idle(1).max_total(2).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        assert_eq!(ask(&c, "SET who me").await, "+OK");
        // A test panics with its guard.
        let panicked = tokio::spawn(async move {
            let _c = c;
            panic!("a failed test");
        });
        assert!(panicked.await.is_err());
        let c = pool.acquire().await.unwrap();
        assert_eq!(ask(&c, "DBSIZE").await, ":0");
        println!("\nready");
        return std::future::pending().await;
    }
    if lacks(Capability::Servers) {
        return;
    }
    let name = unique_name("killed-redis");
    let test = own_test!("a_panic_and_a_kill_leave_neither_servers_nor_networks");
    let mut owner = Owner::start(&test, |owner| owner.env(NAME, &name));
    let of_pool = Selector::pool(&name);
    assert!(!engine().await.list(&of_pool).await.unwrap().is_empty());
    assert_eq!(networks(&name).await, 1);
    owner.kill();
    // One that was just being created never ran, and stays until the next pool.
    eventually("the servers end with their owner", async || {
        let left = engine().await.list(&of_pool).await.unwrap();
        left.iter().all(|report| report.state == ContainerState::Created)
    })
    .await;
    // The next run of the tests, on another network.
    let other = unique_name("next-redis");
    let next = builder(&name, &other).min_idle(0).build().await.unwrap();
    eventually("nothing is left", async || {
        let found = engine().await.list(&of_pool).await.unwrap();
        let is_of_next = |instance: &String| instance == next.instance();
        let mut instances = found.iter().map(|report| report.labels.get(labels::INSTANCE));
        networks(&name).await == 0 && instances.all(|instance| instance.is_some_and(is_of_next))
    })
    .await;
    next.shutdown().await.unwrap();
    assert_eq!(networks(&other).await, 0);
}
