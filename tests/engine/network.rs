//! Networks: none, existing, or created; which containers reach each other; which networks stay and which are
//! removed.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Capability, Owner, containers_of, engine, eventually, finish, is_podman, lacks, own_test, pool, python, unique_name,
};
use bollard::models::{NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use dockerpool::engine::{Observation, Selector};
use dockerpool::testing::{Answer, Call, FakeEngine};
use dockerpool::{DockerEngine, EngineErrorKind, Error, Network, Pool, PooledContainer, labels};

/// Holds a unique name. Removes all networks of this name when dropped, so that also a failed test leaves none.
pub(crate) struct Name(pub(crate) String);

impl Name {
    pub(crate) fn new() -> Self {
        Self(unique_name("dockerpool-test"))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let name = self.0.clone();
        finish(async move {
            let engine = engine().await;
            // After a failed test, the containers of the network may still be in removal.
            for _ in 0..100 {
                let left = all(&engine, &name).await;
                for network in &left {
                    let _ = engine.bollard().remove_network(network).await;
                }
                if left.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
}

/// Returns the ids of all networks of this name.
async fn all(engine: &DockerEngine, name: &str) -> Vec<String> {
    let options = ListNetworksOptions {
        filters: Some([("name".to_owned(), vec![name.to_owned()])].into()),
    };
    let found = engine.bollard().list_networks(Some(options)).await.unwrap();
    let alike = found
        .into_iter()
        .filter(|network| network.name.as_deref() == Some(name));
    alike.filter_map(|network| network.id).collect()
}

async fn find(engine: &DockerEngine, name: &str) -> Option<NetworkInspect> {
    let options = None::<InspectNetworkOptions>;
    engine.bollard().inspect_network(name, options).await.ok()
}

/// Creates a network as another client would.
async fn make(engine: &DockerEngine, name: &str) {
    let request = NetworkCreateRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    engine.bollard().create_network(request).await.unwrap();
}

/// Returns the container's address on its network.
async fn address(c: &PooledContainer) -> String {
    let found = c.exec(["hostname", "-i"]).await.unwrap();
    found.stdout_lossy().trim().to_owned()
}

/// Serves these words on port 8080. Ports below 1024 need a capability on Podman.
async fn serve(c: &PooledContainer, words: &str) {
    let program = format!(
        "import socket\ns = socket.create_server(('', 8080))\nopen('/ready', 'w')\nwhile True: s.accept()[0].sendall(b'{words}')"
    );
    let script =
        "python3 -c \"$1\" >/dev/null 2>&1 & while [ ! -e /ready ] && kill -0 $!; do usleep 10000; done; [ -e /ready ]";
    let served = c.exec(["sh", "-c", script, "sh", &program]).await.unwrap();
    assert!(served.status.success(), "{served:?}");
}

/// Returns the container's answer from a server, or `None` if it cannot be reached.
async fn fetch(c: &PooledContainer, host: &str) -> Option<String> {
    let program = "import socket, sys\nprint(socket.create_connection((sys.argv[1], 8080), 3).recv(99).decode())";
    let fetched = c.exec(["python3", "-c", program, host]).await.unwrap();
    fetched
        .status
        .success()
        .then(|| fetched.stdout_lossy().trim().to_owned())
}

#[tokio::test]
async fn a_container_without_a_network_has_only_the_loopback_interface() {
    for builder in [pool("none"), pool("none").network(Network::none())] {
        let pool = builder.build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let interfaces = c.exec(["ls", "/sys/class/net"]).await.unwrap();
        assert_eq!(interfaces.stdout, b"lo\n");
        let routes = c.exec(["cat", "/proc/net/route"]).await.unwrap();
        assert_eq!(routes.stdout_lossy().lines().count(), 1, "a heading and no route");
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn containers_of_one_network_reach_each_other_and_not_those_of_another() {
    let (ours, others) = (Name::new(), Name::new());
    let one = pool("talking")
        .image(python())
        .network(Network::create(&ours.0).remove_on_shutdown());
    let two = pool("beside")
        .image(python())
        .network(Network::create(&others.0).remove_on_shutdown());
    let (one, two) = tokio::join!(one.build(), two.build());
    let (one, two) = (one.unwrap(), two.unwrap());

    let (a, b, stranger) = tokio::join!(one.acquire(), one.acquire(), two.acquire());
    let (a, b, stranger) = (a.unwrap(), b.unwrap(), stranger.unwrap());
    serve(&a, "here").await;
    serve(&stranger, "there").await;

    assert_eq!(fetch(&b, &address(&a).await).await.as_deref(), Some("here"));
    if !lacks(Capability::Iptables) {
        assert_eq!(fetch(&b, a.name()).await.as_deref(), Some("here"), "by name");
        // Podman's bridges reach each other, and its Docker API has no option that forbids it. On Podman only the
        // names are separate.
        let is_podman = is_podman().await;
        let reached = is_podman.then_some("there");
        assert_eq!(fetch(&b, &address(&stranger).await).await.as_deref(), reached);
        assert_eq!(fetch(&stranger, a.name()).await, None);
        assert_eq!(
            fetch(&stranger, &address(&a).await).await.as_deref(),
            is_podman.then_some("here")
        );
    }
    // The server of the other network runs, and only cannot be reached from here.
    assert_eq!(fetch(&stranger, "127.0.0.1").await.as_deref(), Some("there"));

    drop((a, b, stranger));
    one.shutdown().await.unwrap();
    two.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_existing_network_is_used_and_stays() {
    let (engine, name) = (engine().await, Name::new());
    make(&engine, &name.0).await;
    let pool = pool("existing")
        .network(Network::existing(&name.0))
        .min_idle(1)
        .build()
        .await
        .unwrap();
    let found = find(&engine, &name.0).await.unwrap();
    assert_eq!(found.containers.unwrap().len(), 1);
    pool.shutdown().await.unwrap();
    assert!(find(&engine, &name.0).await.is_some());
}

#[tokio::test]
async fn a_missing_network_fails_the_build() {
    let name = Name::new();
    let error = pool("missing")
        .network(Network::existing(&name.0))
        .build()
        .await
        .unwrap_err();
    assert_eq!(
        error.engine_error().unwrap().kind(),
        EngineErrorKind::NetworkNotFound,
        "{error:?}"
    );
    assert!(error.to_string().contains("Network::create"), "{error}");
    assert!(error.engine_error().unwrap().to_string().contains(&name.0));
}

#[tokio::test]
async fn a_created_network_has_driver_and_labels_and_is_removed_only_on_request() {
    let engine = engine().await;
    for asked in [true, false] {
        let name = Name::new();
        let network = Network::create(&name.0)
            .driver("bridge")
            .label("mine", "yes")
            .internal(true);
        let network = if asked { network.remove_on_shutdown() } else { network };
        let pool = pool("created").network(network).build().await.unwrap();
        let found = find(&engine, &name.0).await.unwrap();
        assert_eq!(found.driver.as_deref(), Some("bridge"));
        assert_eq!(found.internal, Some(true));
        let found = found.labels.unwrap();
        assert_eq!(found["mine"], "yes");
        assert_eq!(
            (found[labels::POOL].as_str(), found[labels::INSTANCE].as_str()),
            ("created", pool.instance())
        );
        pool.shutdown().await.unwrap();
        assert_eq!(find(&engine, &name.0).await.is_none(), asked);
    }
}

#[tokio::test]
async fn a_network_from_before_is_used_and_stays_although_its_removal_was_requested() {
    let (engine, name) = (engine().await, Name::new());
    make(&engine, &name.0).await;
    let network = Network::create(&name.0).remove_on_shutdown();
    let pool = pool("before").network(network).min_idle(1).build().await.unwrap();
    assert_eq!(all(&engine, &name.0).await.len(), 1);
    pool.shutdown().await.unwrap();
    assert!(find(&engine, &name.0).await.is_some());
}

#[tokio::test]
async fn a_network_from_before_that_is_not_internal_is_not_used_as_an_internal_one() {
    let (engine, name) = (engine().await, Name::new());
    make(&engine, &name.0).await;
    let error = pool("lets-out")
        .network(Network::create(&name.0).internal(true))
        .build()
        .await
        .unwrap_err();
    assert_eq!(error.engine_error().unwrap().kind(), EngineErrorKind::Rejected);
    assert!(error.engine_error().unwrap().to_string().contains("not internal"));
}

#[tokio::test]
async fn pools_that_create_the_same_network_concurrently_make_one() {
    let (engine, name) = (engine().await, Name::new());
    let build = || {
        let network = Network::create(&name.0).remove_on_shutdown();
        pool("together").network(network).min_idle(1).build()
    };
    let (a, b, c, d) = tokio::join!(build(), build(), build(), build());
    let pools = [a, b, c, d].map(Result::unwrap);
    assert_eq!(all(&engine, &name.0).await.len(), 1);
    for pool in &pools {
        assert!(
            find(&engine, &name.0).await.is_some(),
            "only the last pool removes the network"
        );
        pool.shutdown().await.unwrap();
    }
    assert!(find(&engine, &name.0).await.is_none());
}

#[tokio::test]
async fn a_network_removed_by_another_client_is_created_again() {
    let (engine, name) = (engine().await, Name::new());
    let network = Network::create(&name.0).remove_on_shutdown();
    let pool = pool("again").network(network).max_idle(0).build().await.unwrap();
    engine.bollard().remove_network(&name.0).await.unwrap();
    drop(pool.acquire().await.unwrap());
    assert!(find(&engine, &name.0).await.is_some());
    pool.shutdown().await.unwrap();
    assert!(find(&engine, &name.0).await.is_none());
}

#[tokio::test]
async fn a_network_is_removed_also_when_leases_had_to_be_ended() {
    let (engine, name) = (engine().await, Name::new());
    let network = Network::create(&name.0).remove_on_shutdown();
    let pool = pool("leases").network(network).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    pool.shutdown_timeout(Duration::from_millis(100)).await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
    assert!(find(&engine, &name.0).await.is_none());
    drop(c);
}

#[tokio::test]
async fn a_bad_network_driver_fails_the_build_and_leaves_nothing() {
    let (engine, name) = (engine().await, Name::new());
    let network = Network::create(&name.0).driver("no-such-driver").remove_on_shutdown();
    let error = pool("driver").network(network).build().await.unwrap_err();
    let said = error.engine_error().unwrap();
    assert_eq!(said.kind(), EngineErrorKind::Rejected, "{error:?}");
    assert!(said.to_string().contains("no-such-driver"), "{said}");
    assert!(all(&engine, &name.0).await.is_empty());
}

#[tokio::test]
async fn a_bad_network_name_is_refused_before_any_call() {
    let engine = FakeEngine::new();
    let error = Pool::builder("name")
        .image("any")
        .engine(Arc::new(engine.clone()))
        .network(Network::create("a/b"))
        .build()
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Config(problems) if problems[0].field() == "network"),
        "{error}"
    );
    assert_eq!(engine.calls(Call::Check), 0);
}

#[tokio::test]
async fn a_build_that_fails_or_is_dropped_removes_its_network() {
    for answer in [Answer::Fail(EngineErrorKind::Rejected), Answer::Never] {
        for call in [Call::Image, Call::Create] {
            let engine = FakeEngine::new();
            engine.answer(call, answer);
            let build = Pool::builder("name")
                .image("any")
                .engine(Arc::new(engine.clone()))
                .network(Network::create("net").remove_on_shutdown())
                .build();
            let built = tokio::time::timeout(Duration::from_millis(100), build).await;
            assert!(!matches!(built, Ok(Ok(_))));
            crate::support::eventually_now("the network is removed", || {
                !engine.networks().contains(&"net".to_owned())
            })
            .await;
            assert!(engine.calls(Call::Prepare) == 1 && engine.calls(Call::Release) >= 1);
        }
    }
}

/// Makes the test, run in a process of its own, the owner that is killed: the names of its pool and of its network.
const OWNED: &str = "DOCKERPOOL_TEST_OWNED_NETWORK";

#[tokio::test]
async fn the_network_of_a_killed_owner_is_removed_by_the_next_pool_of_the_name() {
    if let Ok(owned) = std::env::var(OWNED) {
        let (name, network) = owned.split_once(' ').unwrap();
        let network = Network::create(network).remove_on_shutdown();
        let _pool = pool(name).network(network).min_idle(1).build().await.unwrap();
        println!("\nready");
        return std::future::pending().await;
    }
    let engine = engine().await;
    let (name, temporary, kept) = (unique_name("owned"), Name::new(), Name::new());
    make(&engine, &kept.0).await;
    let test = own_test!("the_network_of_a_killed_owner_is_removed_by_the_next_pool_of_the_name");
    let owned = format!("{name} {}", temporary.0);
    let mut owner = Owner::start(&test, |owner| owner.env(OWNED, owned));
    // A pool of the name that comes while the owner lives leaves its network alone.
    let beside = pool(&name).build().await.unwrap();
    beside.shutdown().await.unwrap();
    assert_eq!(all(&engine, &temporary.0).await.len(), 1);

    owner.kill();
    let of_pool = Selector::pool(&name);
    eventually("the containers end with their owner", async || {
        engine.list(&of_pool).await.unwrap().is_empty()
    })
    .await;
    let next = pool(&name).build().await.unwrap();
    eventually("the network is removed", async || {
        all(&engine, &temporary.0).await.is_empty()
    })
    .await;
    next.shutdown().await.unwrap();
    assert_eq!(all(&engine, &kept.0).await.len(), 1);
}
