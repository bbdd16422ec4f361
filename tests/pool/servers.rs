//! Containers with servers: where they are reached, and when they are ready.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::eventually_now;
use dockerpool::engine::{Health, ImageInfo};
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{
    Adopt, Container, ContainerSpec, EngineError, EngineErrorKind, Entrypoint, Error, FieldError, Network, Pool,
    PoolBuilder, Ready,
};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::Instant;

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

/// The kernel's list with a socket that listens on port 80.
const PORT_80: &str = "  sl  local_address rem_address   st\n   0: 00000000:0050 00000000:0000 0A 00000000:00000000\n";

const LIMIT: Duration = Duration::from_secs(5);

/// A pool whose containers have a server, on a runtime whose time may be paused.
fn with_server(engine: &FakeEngine) -> PoolBuilder {
    fake_pool(engine)
        .tokio_runtime(Handle::current())
        .cmd(["serve"])
        .ready_timeout(LIMIT)
}

fn words_of(error: &Error) -> (EngineErrorKind, String) {
    let source = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    (source.kind(), source.to_string())
}

#[tokio::test(start_paused = true)]
async fn a_container_is_lent_once_its_server_listens() {
    let engine = FakeEngine::new();
    let looks = Arc::new(AtomicUsize::new(0));
    let count = looks.clone();
    engine.on_exec(move |request| {
        assert_eq!(request.argv[0], "cat");
        match count.fetch_add(1, Ordering::Relaxed) {
            ..9 => FakeProcess::exit(0),
            _ => FakeProcess::exit(0).stdout(PORT_80),
        }
    });
    let pool = with_server(&engine).ready_when(Ready::tcp(80)).build().await.unwrap();
    // Two lists for each look, of which the first one with the port is the second of its look.
    assert_eq!((looks.load(Ordering::Relaxed), pool.idle_count()), (10, 1));
    // The server is not looked at for each lease.
    drop(pool.acquire().await.unwrap());
    drop(pool.acquire().await.unwrap());
    assert_eq!(looks.load(Ordering::Relaxed), 10);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_container_that_does_not_get_ready_is_a_failed_creation_that_says_what_was_waited_for() {
    let engine = FakeEngine::new();
    engine.on_exec(|request| match &*request.argv[0] {
        "cat" => FakeProcess::exit(0).stdout(PORT_80),
        _ => FakeProcess::exit(2).stdout("the server ").stderr("is starting\n"),
    });
    for (sign, words) in [
        (
            Ready::tcp(81),
            "a server that listens on port 81, and saw: nothing listens there",
        ),
        (
            Ready::command(["pg_isready", "secret"]),
            "exit code 0 of `pg_isready`, and saw: exit code 2: the server is starting",
        ),
        (Ready::log("ready"), "the words \"ready\" of its own command"),
    ] {
        let begun = Instant::now();
        let builder = with_server(&engine).ready_when(Ready::tcp(80)).ready_when(sign);
        let error = builder.clone().build().await.unwrap_err();
        let expected = format!("not ready within 5 s: waited for {words}");
        assert_eq!(words_of(&error), (EngineErrorKind::NotReady, expected));
        assert!(error.is_retryable() && begun.elapsed() < LIMIT + Duration::from_secs(1));
        eventually_now("the container is removed", || engine.containers().is_empty()).await;

        // The next container may get ready, so that an acquire waits.
        let pool = builder.min_idle(0).build().await.unwrap();
        let error = pool.acquire_timeout(LIMIT * 3).await.unwrap_err();
        assert!(error.is_timeout() && error.is_retryable(), "{error}");
        assert_eq!(words_of(&error).0, EngineErrorKind::NotReady);
        assert!(pool.status().lifetime.create_failures >= 2, "{:?}", pool.status());
        pool.shutdown().await.unwrap();
        assert!(engine.containers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_is_not_waited_for() {
    let engine = FakeEngine::new();
    let ending = engine.clone();
    engine.on_exec(move |_| {
        ending
            .containers()
            .iter()
            .for_each(|container| ending.end_container(&container.id));
        FakeProcess::exit(0)
    });
    let begun = Instant::now();
    let error = with_server(&engine)
        .ready_when(Ready::tcp(80))
        .build()
        .await
        .unwrap_err();
    let (kind, words) = words_of(&error);
    assert_eq!(kind, EngineErrorKind::NotReady);
    assert!(
        words.starts_with("not ready: waited for a server that listens on port 80")
            && words.ends_with("PID 1, `serve`, has ended with exit code 137"),
        "{words}"
    );
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_sign_that_no_look_can_show_fails_at_once() {
    let engine = FakeEngine::new();
    let begun = Instant::now();
    let refused = async |sign: Ready| {
        let pool = with_server(&engine).ready_when(sign).min_idle(0).build().await.unwrap();
        let error = pool.acquire().await.unwrap_err();
        assert!(
            matches!(error, Error::Engine { .. }) && !error.is_retryable(),
            "{error:?}"
        );
        pool.shutdown().await.unwrap();
        words_of(&error)
    };
    let none = refused(Ready::healthcheck()).await;
    assert_eq!(none.0, EngineErrorKind::NotReady);
    assert!(
        none.1
            .contains("its health check to succeed; the container has no health check"),
        "{}",
        none.1
    );
    // Without the agent, the request would have to go through a published port.
    let unpublished = refused(Ready::http("/", 200).port(80)).await.1;
    assert!(unpublished.contains("port 80 must be published"), "{unpublished}");
    engine.answer(Call::Exec, Answer::Fail(EngineErrorKind::CannotStart));
    for sign in [Ready::command(["missing"]), Ready::tcp(80)] {
        let (kind, words) = refused(sign).await;
        assert_eq!(kind, EngineErrorKind::NotReady, "{words}");
        assert!(
            words.starts_with("it cannot be known whether the container is ready"),
            "{words}"
        );
    }
    assert!(begun.elapsed() < LIMIT, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_engines_health_check_can_be_the_sign() {
    let engine = FakeEngine::new();
    engine.set_health(Some(Health::Starting));
    let builder = with_server(&engine).ready_when(Ready::healthcheck());
    let (_, words) = words_of(&builder.clone().build().await.unwrap_err());
    assert!(
        words.ends_with("its health check to succeed, and saw: Starting"),
        "{words}"
    );
    let (built, ()) = tokio::join!(builder.build(), async {
        tokio::time::sleep(LIMIT / 2).await;
        engine.set_health(Some(Health::Healthy));
    });
    built.unwrap().shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_container_without_a_pool_gets_ready_too() {
    let engine = Arc::new(FakeEngine::new());
    let spec = ContainerSpec::new("any")
        .cmd(["serve"])
        .ready_when(Ready::command(["probe"]))
        .ready_timeout(LIMIT);
    let create = || Container::create_on(Handle::current(), engine.clone(), spec.clone());
    let running = create().await.unwrap().start().await.unwrap();
    engine.on_exec(|_| FakeProcess::exit(1));
    let error = create().await.unwrap().start().await.unwrap_err();
    assert_eq!(
        error.engine_error().map(EngineError::kind),
        Some(EngineErrorKind::NotReady)
    );
    running.remove().await.unwrap();
}

#[tokio::test]
async fn signs_that_cannot_come_are_refused_before_anything_is_done() {
    let engine = FakeEngine::new();
    let refused = async |builder: PoolBuilder| match builder.build().await {
        Err(Error::Config(problems)) => problems.iter().map(|problem| problem.field().to_owned()).collect(),
        other => vec![format!("{other:?}")],
    };
    let without = |sign| fake_pool(&engine).ready_when(sign);
    assert_eq!(refused(without(Ready::tcp(80))).await, ["ready_when"]);
    assert_eq!(refused(without(Ready::log("x"))).await, ["ready_when"]);
    assert_eq!(
        refused(fake_pool(&engine).ready_timeout(Duration::ZERO)).await,
        ["ready_timeout"]
    );
    let adopted = without(Ready::log("x")).cmd(["serve"]).adopt(Adopt::Clean);
    assert_eq!(refused(adopted).await, ["adopt"]);
    assert_eq!((engine.calls(Call::Check), engine.calls(Call::Create)), (0, 0));
}

#[tokio::test]
async fn an_entrypoint_that_is_not_run_is_warned_of_once_for_each_pool() {
    let engine = FakeEngine::new();
    let mut image = ImageInfo::default();
    image.entrypoint = Some(vec!["docker-entrypoint.sh".to_owned()]);
    engine.describe_images(image);
    let warnings = async |builder: PoolBuilder| {
        // On a given runtime the function is called at once.
        let told = Arc::<Mutex<Vec<_>>>::default();
        let tell = told.clone();
        let builder = builder
            .tokio_runtime(Handle::current())
            .on_error(move |error| tell.lock().push((error.engine_error().cloned(), error.to_string())));
        builder.min_idle(2).build().await.unwrap().shutdown().await.unwrap();
        std::mem::take(&mut *told.lock())
    };
    let told = warnings(fake_pool(&engine)).await;
    let [(Some(warning), words)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(warning.kind(), EngineErrorKind::Warning);
    assert!(
        words.contains("`docker-entrypoint.sh`, is not run") && words.contains("pool servers"),
        "{words}"
    );
    assert!(
        warnings(fake_pool(&engine).entrypoint(Entrypoint::Ignore))
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_lease_that_knows_where_its_container_is_reached_counts_as_one_with_a_command() {
    let engine = FakeEngine::new();
    let pool = online(&engine).publish(80).max_total(1).build().await.unwrap();
    let next = async |use_it: fn(&dockerpool::PooledContainer)| {
        let c = pool.acquire().await.unwrap();
        use_it(&c);
        c.name().to_owned()
    };
    let first = next(|_| {}).await;
    let second = next(|c| assert!(c.port(81).is_err())).await;
    let third = next(|c| assert!(c.port(80).is_ok())).await;
    assert!(first == second && second == third);
    // Nobody could clean it.
    let fourth = next(|c| assert!(c.ip().is_some())).await;
    let fifth = next(|_| {}).await;
    assert!(third != fourth && fourth != fifth);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_not_ready_does_not_hold_up_the_end_of_its_pool() {
    let engine = FakeEngine::new();
    engine.on_exec(|request| match &*request.argv[0] {
        "cat" => FakeProcess::exit(0),
        _ => FakeProcess::exit(1),
    });
    let told = Arc::new(AtomicUsize::new(0));
    let tell = told.clone();
    let long = Duration::from_secs(3600);
    let builder = with_server(&engine)
        .ready_timeout(long)
        .acquire_timeout(long)
        .min_idle(0)
        .on_error(move |_| {
            tell.fetch_add(1, Ordering::Relaxed);
        });
    for sign in [Ready::tcp(80), Ready::log("ready"), Ready::command(["probe"])] {
        let pool = builder.clone().ready_when(sign).build().await.unwrap();
        let (acquired, ()) = tokio::join!(pool.acquire(), async {
            tokio::time::sleep(LIMIT).await;
            assert_eq!((engine.containers().len(), pool.status().creating), (1, 1));
            let begun = Instant::now();
            pool.shutdown().await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        });
        assert!(matches!(acquired, Err(Error::Shutdown { .. })), "{acquired:?}");
        assert!(engine.containers().is_empty());
        let status = pool.status();
        assert_eq!((status.total(), status.lifetime.create_failures), (0, 0), "{status:?}");
    }
    // So does the drop of the last clone.
    let pool = builder.min_idle(1).ready_when(Ready::tcp(80));
    let built = tokio::time::timeout(LIMIT, pool.build()).await;
    assert!(built.is_err(), "{built:?}");
    eventually_now("the container is removed", || engine.containers().is_empty()).await;
    assert_eq!(told.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_under_way_is_waited_for_by_the_end_of_the_pool() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::exit(0));
    let pool = with_server(&engine)
        .ready_when(Ready::tcp(80))
        .min_idle(0)
        .build()
        .await;
    let pool = pool.unwrap();
    engine.answer(Call::Start, Answer::After(LIMIT));
    let begun = Instant::now();
    let (acquired, ()) = tokio::join!(pool.acquire(), async {
        tokio::time::sleep(LIMIT / 2).await;
        pool.shutdown().await.unwrap();
    });
    assert!(matches!(acquired, Err(Error::Shutdown { .. })), "{acquired:?}");
    assert!(
        begun.elapsed() >= LIMIT && begun.elapsed() < LIMIT + Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert!(engine.containers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_what_the_container_that_is_being_created_waits_for() {
    let engine = FakeEngine::new();
    engine.on_exec(|request| match &*request.argv[0] {
        "cat" => FakeProcess::exit(0).stdout(PORT_80),
        _ => FakeProcess::exit(2).stdout("the server is starting\n"),
    });
    for (sign, words) in [
        (
            Ready::tcp(81),
            "a server that listens on port 81, and saw: nothing listens there",
        ),
        (
            Ready::command(["pg_isready"]),
            "exit code 0 of `pg_isready`, and saw: exit code 2: the server is starting",
        ),
        (Ready::log("ready"), "the words \"ready\" of its own command"),
    ] {
        let builder = with_server(&engine).ready_when(sign).ready_timeout(LIMIT * 2);
        let pool = builder.min_idle(0).build().await.unwrap();
        let error = pool.acquire_timeout(LIMIT).await.unwrap_err();
        let expected = format!("not ready yet: waited for {words}");
        assert_eq!(words_of(&error), (EngineErrorKind::NotReady, expected));
        assert!(error.is_timeout() && error.is_retryable(), "{error}");
        let shown = error.to_string();
        assert!(
            shown.contains(&format!(
                "; the one being created is not ready yet: waited for {words} (see acquire_timeout()"
            )),
            "{shown}"
        );
        assert!(!shown.contains("failed"), "{shown}");
        // Once that creation has failed, this is told.
        let error = pool.acquire_timeout(LIMIT * 2).await.unwrap_err();
        assert!(words_of(&error).1.starts_with("not ready within 10 s"), "{error}");
        assert!(
            error.to_string().contains("the last attempt to create one failed"),
            "{error}"
        );
        pool.shutdown().await.unwrap();
    }
    assert!(engine.containers().is_empty());
}
