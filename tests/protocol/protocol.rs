//! A daemon that misbehaves on the wire, at every kind of call: the library returns a typed error of the right kind
//! within the timeout and never panics, and the pool goes on once the daemon answers again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::stub::{Fault, Route, Stub};
use crate::support::eventually_now;
use dockerpool::engine::{Observation, Selector};
use dockerpool::testing::FakeEngine;
use dockerpool::{
    DockerEngine, EngineErrorKind as Kind, Error, ExitStatus, Network, Pool, PoolBuilder, PooledContainer, Taint,
    labels,
};
use futures_util::StreamExt;

/// The timeout of a call. `BOUND` leaves room for retries on a busy machine, and is far from a hang.
const CALL: Duration = Duration::from_millis(400);
const BOUND: Duration = Duration::from_secs(20);

/// The faults any answer can have, and the kind of error each leads to.
const FAULTS: [(Fault, Kind); 10] = [
    (Fault::Close, Kind::Protocol),
    (Fault::Reset, Kind::Protocol),
    (Fault::Garbage, Kind::Protocol),
    (Fault::EndlessHead, Kind::Protocol),
    (Fault::Status(404), Kind::NotFound),
    (Fault::Status(409), Kind::Conflict),
    (Fault::Status(400), Kind::Rejected),
    (Fault::Status(500), Kind::Internal),
    (Fault::Drip, Kind::Timeout),
    (Fault::Silence, Kind::Timeout),
];

/// The faults of an answer whose body is read.
const BODY_FAULTS: [(Fault, Kind); 3] = [
    (Fault::CutBody, Kind::Protocol),
    (Fault::GarbageBody, Kind::Protocol),
    (Fault::HeadersThenSilence, Kind::Timeout),
];

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts panics, also those in tasks that are never joined.
fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // A failed assertion of another test is not a panic of the library.
            let own = info.location().is_some_and(|at| at.file().starts_with("tests/"));
            PANICS.fetch_add(usize::from(!own), Ordering::Relaxed);
            usual(info);
        }));
    });
}

fn assert_no_panics() {
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "something panicked");
}

async fn connect(stub: &Stub) -> Result<DockerEngine, Error> {
    count_panics();
    let endpoint = format!("unix://{}", stub.socket().display());
    DockerEngine::connect_to(endpoint.parse().unwrap()).await
}

async fn builder(stub: &Stub) -> PoolBuilder {
    let engine = connect(stub).await.unwrap();
    Pool::builder("protocol")
        .image("any")
        .engine(Arc::new(engine))
        .min_idle(0)
        .max_total(1)
        .engine_timeout(CALL)
}

async fn lease(stub: &Stub) -> (Pool, PooledContainer) {
    let pool = builder(stub).await.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    (pool, c)
}

fn kind(error: &Error) -> Kind {
    error.engine_error().unwrap_or_else(|| panic!("{error:?}")).kind()
}

/// Asserts that an error has the right kind, describes itself accordingly, and came in time.
fn check(what: &str, begun: Instant, error: &Error, expected: Kind) {
    assert!(begun.elapsed() < BOUND, "{what}: {:?}", begun.elapsed());
    assert_eq!(kind(error), expected, "{what}: {error:?}");
    let retryable = matches!(
        expected,
        Kind::Unreachable | Kind::Timeout | Kind::Conflict | Kind::Protocol | Kind::Internal
    );
    let gone = matches!(error, Error::ContainerGone { .. });
    assert_eq!(error.is_retryable(), retryable || gone, "{what}: {error:?}");
    assert_eq!(error.is_timeout(), expected == Kind::Timeout, "{what}: {error:?}");
    // The cause's words are the error's own.
    let cause = error.engine_error().map(ToString::to_string).unwrap_or_default();
    assert!(
        !cause.is_empty() && error.to_string().contains(&cause),
        "{what}: {error}"
    );
    assert_no_panics();
}

fn all(with_body: bool) -> impl Iterator<Item = (Fault, Kind)> {
    let body_faults = if with_body { &BODY_FAULTS[..] } else { &[] };
    FAULTS.iter().chain(body_faults).copied()
}

#[tokio::test]
async fn a_connect_fails_with_the_kind_of_the_fault() {
    for (fault, expected) in all(true).filter(|(_, kind)| *kind != Kind::Timeout) {
        let stub = Stub::start();
        stub.fault(Route::Version, fault);
        let begun = Instant::now();
        let error = connect(&stub).await.unwrap_err();
        check(&format!("{fault:?}"), begun, &error, expected);
    }
}

#[tokio::test]
async fn a_connect_to_a_silent_daemon_times_out() {
    // The timeout of connecting is 10 s, so all cases run concurrently.
    let silent = all(true)
        .filter(|(_, kind)| *kind == Kind::Timeout)
        .map(async |(fault, expected)| {
            let stub = Stub::start();
            stub.fault(Route::Version, fault);
            let begun = Instant::now();
            let error = connect(&stub).await.unwrap_err();
            check(&format!("{fault:?}"), begun, &error, expected);
        });
    futures_util::future::join_all(silent).await;
}

#[tokio::test]
async fn a_connect_to_a_socket_without_a_listener_is_unreachable() {
    let mut stub = Stub::start();
    stub.crash().await;
    // The socket exists, but no process listens.
    let error = connect(&stub).await.unwrap_err();
    check("refused", Instant::now(), &error, Kind::Unreachable);
    std::fs::remove_file(stub.socket()).unwrap();
    let error = connect(&stub).await.unwrap_err();
    check("no socket", Instant::now(), &error, Kind::Unreachable);
}

#[tokio::test]
async fn a_check_of_the_engine_fails_with_the_kind_of_the_fault() {
    for (fault, expected) in all(true) {
        let stub = Stub::start();
        let builder = builder(&stub).await;
        stub.fault(Route::Version, fault);
        let begun = Instant::now();
        let error = builder.build().await.unwrap_err();
        check(&format!("{fault:?}"), begun, &error, expected);
    }
}

/// Builds a pool whose first container meets the fault.
async fn first_container(route: Route, with_body: bool) {
    for (fault, expected) in all(with_body) {
        let stub = Stub::start();
        let builder = builder(&stub).await.min_idle(1);
        stub.fault(route, fault);
        let begun = Instant::now();
        let error = builder.build().await.expect_err(&format!("{route:?} {fault:?}"));
        check(&format!("{route:?} {fault:?}"), begun, &error, expected);
        // A container that may have been made is removed, at the latest in the background.
        let refused = matches!(fault, Fault::Status(_)) && route == Route::Create;
        if !refused {
            eventually_now("the container is removed", || stub.calls(Route::Remove) > 0).await;
        }
    }
}

#[tokio::test]
async fn a_build_fails_with_the_fault_of_its_create_call() {
    first_container(Route::Create, true).await;
}

#[tokio::test]
async fn a_build_fails_with_the_fault_of_its_start_call() {
    first_container(Route::Start, false).await;
}

#[tokio::test]
async fn a_build_fails_with_the_fault_of_its_attach_call() {
    first_container(Route::Attach, false).await;
    for (fault, expected) in [
        // The connection is upgraded but PID 1 is silent, or the answer is no upgrade.
        (Fault::SilentUpgrade, Kind::Timeout),
        (Fault::CutBody, Kind::Protocol),
        (Fault::HeadersThenSilence, Kind::Protocol),
    ] {
        let stub = Stub::start();
        let builder = builder(&stub).await.min_idle(1);
        stub.fault(Route::Attach, fault);
        let begun = Instant::now();
        let error = builder.build().await.unwrap_err();
        check(&format!("{fault:?}"), begun, &error, expected);
    }
}

#[tokio::test]
async fn an_acquire_reports_the_failed_creation_and_succeeds_once_the_fault_is_gone() {
    for (fault, expected) in all(true) {
        let stub = Stub::start();
        let pool = builder(&stub).await.build().await.unwrap();
        stub.fault(Route::Create, fault);
        // A refusal of the settings ends the wait. Any other fault may pass before the timeout.
        let refused = expected == Kind::Rejected;
        let limit = if refused { BOUND } else { CALL * 2 };
        let error = pool.acquire_timeout(limit).await.unwrap_err();
        assert_eq!(error.is_timeout(), !refused, "{error:?}");
        // On a busy machine, no creation may have failed by then.
        if let Some(error) = error.engine_error() {
            assert_eq!(error.kind(), expected, "{fault:?}: {error:?}");
        }
        stub.heal();
        let c = pool.acquire().await.unwrap();
        assert!(c.command("true").status().await.unwrap().success());
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_fails_with_the_fault_of_its_create_call() {
    for (fault, expected) in all(true) {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::ExecCreate, fault);
        let begun = Instant::now();
        let error = c.command("true").output().await.unwrap_err();
        check(&format!("{fault:?}"), begun, &error, expected);
        assert_eq!(error.container(), Some(c.name()));
        let gone = expected == Kind::NotFound;
        assert_eq!(matches!(error, Error::ContainerGone { .. }), gone, "{error:?}");
        // Only a refusal proves that no command runs.
        assert_eq!(c.taint().is_none(), expected == Kind::Rejected, "{fault:?}");
        stub.heal();
        drop(c);
        assert!(
            pool.acquire()
                .await
                .unwrap()
                .command("true")
                .status()
                .await
                .unwrap()
                .success()
        );
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_fails_with_the_fault_of_its_start_call_or_missing_upgrade() {
    for (fault, expected) in all(false).chain([
        (Fault::CutBody, Kind::Protocol),
        (Fault::HeadersThenSilence, Kind::Protocol),
    ]) {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::ExecStart, fault);
        let begun = Instant::now();
        let error = c.command("true").output().await.unwrap_err();
        check(&format!("{fault:?}"), begun, &error, expected);
        assert_eq!(c.taint().is_none(), expected == Kind::Rejected, "{fault:?}");
        drop(c);
        stub.heal();
        assert!(
            pool.acquire()
                .await
                .unwrap()
                .command("true")
                .status()
                .await
                .unwrap()
                .success()
        );
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_inspected_has_an_unknown_outcome() {
    for (fault, expected) in all(true) {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::ExecInspect, fault);
        let begun = Instant::now();
        let output = c.command("true").output().await.unwrap();
        assert!(begun.elapsed() < BOUND, "{fault:?}");
        // The end of the command is unknown. Its output was whole and is kept.
        assert_eq!(output.status, ExitStatus::Unknown, "{fault:?} {expected:?}");
        assert_eq!(output.stdout, b"hello\n");
        assert_eq!(c.taint(), Some(Taint::EngineFailed));
        assert!(stub.calls(Route::Kill) > 0, "the command may still run");
        drop(c);
        stub.heal();
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_command_that_never_began_without_a_message_taints_its_container() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.fault(Route::ExecStart, Fault::SilentUpgrade);
    stub.fault(Route::ExecInspect, Fault::NeverWas);
    // The fault may not be the program's: the next lease gets another container.
    let error = c.command("true").output().await.unwrap_err();
    assert!(matches!(error, Error::CannotStart { .. }), "{error:?}");
    assert_eq!(c.taint(), Some(Taint::Broken));

    // If the container has ended, the error is another one. The engine reports the end after a delay.
    drop(c);
    let c = pool.acquire().await.unwrap();
    let asked = stub.calls(Route::Inspect);
    let ended = async {
        eventually_now("the container is inspected", || stub.calls(Route::Inspect) > asked).await;
        stub.fault(Route::Inspect, Fault::Ended);
    };
    let mut command = c.command("true");
    let (result, ()) = tokio::join!(command.output(), ended);
    let error = result.unwrap_err();
    assert!(matches!(error, Error::ContainerGone { .. }), "{error:?}");
    assert_eq!(c.taint(), Some(Taint::Died));
    drop(c);
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn output_that_breaks_off_is_unknown_and_keeps_its_first_part() {
    // 42 bytes of the cut frame arrive.
    let cut = format!("whole\n{}", "x".repeat(42));
    for (fault, kept) in [(Fault::CutFrame, cut.as_str()), (Fault::GarbageFrame, "whole\n")] {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::ExecStart, fault);
        let output = c.command("true").output().await.unwrap();
        assert_eq!(output.status, ExitStatus::Unknown, "{fault:?}");
        assert_eq!(
            output.stdout_lossy(),
            kept,
            "{fault:?}: the output before the fault is kept"
        );
        assert!(c.taint().is_some());
        drop(c);
        pool.shutdown().await.unwrap();
        assert_no_panics();
    }
}

#[tokio::test]
async fn output_that_never_comes_is_incomplete_once_the_command_has_ended() {
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.fault(Route::ExecStart, Fault::SilentUpgrade);
    let begun = Instant::now();
    let output = c.command("true").output().await.unwrap();
    assert_eq!((output.status, output.stdout.len()), (ExitStatus::Incomplete(0), 0));
    assert!(begun.elapsed() < BOUND);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn an_inspect_fails_with_the_kind_of_the_fault() {
    for (fault, expected) in all(true) {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::Inspect, fault);
        let begun = Instant::now();
        let error = c.inspect().await.unwrap_err();
        check(&format!("{fault:?}"), begun, &error, expected);
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_removal_is_reported_and_retried() {
    for (fault, expected) in all(false) {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::Remove, fault);
        let begun = Instant::now();
        let result = c.into_inner().remove().await;
        let what = format!("{fault:?}");
        match fault {
            // A missing container counts as removed.
            Fault::Status(404) => result.unwrap(),
            // Another client removes the container. The library waits for that as long as the timeout allows.
            Fault::Status(409) => check(&what, begun, &result.unwrap_err(), Kind::Timeout),
            _ => check(&what, begun, &result.unwrap_err(), expected),
        }
        stub.heal();
        let before = stub.calls(Route::Remove);
        if fault != Fault::Status(404) {
            eventually_now("the removal is retried", || stub.calls(Route::Remove) > before).await;
        }
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn a_background_removal_keeps_the_slot_until_it_is_done() {
    for (fault, _) in FAULTS.into_iter().filter(|(fault, _)| *fault != Fault::Status(404)) {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::Remove, fault);
        c.discard();
        eventually_now("the removal is tried twice", || stub.calls(Route::Remove) >= 2).await;
        assert_eq!((pool.status().recycling, pool.status().total()), (1, 1), "{fault:?}");
        stub.heal();
        let c = pool.acquire().await.unwrap();
        drop(c);
        pool.shutdown().await.unwrap();
        assert_no_panics();
    }
}

#[tokio::test]
async fn a_failed_kill_does_not_delay_a_timed_out_command() {
    for (fault, _) in all(false) {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.fault(Route::Kill, fault);
        stub.fault(Route::ExecStart, Fault::Silence);
        let begun = Instant::now();
        let output = c
            .command("sleep")
            .timeout(Duration::from_millis(50))
            .output()
            .await
            .unwrap();
        assert_eq!(output.status, ExitStatus::TimedOut, "{fault:?}");
        assert!(begun.elapsed() < BOUND, "{fault:?}");
        assert_eq!(c.taint(), Some(Taint::TimedOut));
        stub.heal();
        drop(c);
        eventually_now("the container is removed", || stub.calls(Route::Remove) > 0).await;
        pool.shutdown().await.unwrap();
        assert_no_panics();
    }
}

#[tokio::test]
async fn a_shutdown_whose_list_fails_is_incomplete() {
    // Retryable failures take 10 s, so all cases run concurrently.
    let ends = all(true).map(async |(fault, expected)| {
        let stub = Stub::start();
        let pool = builder(&stub).await.build().await.unwrap();
        stub.fault(Route::List, fault);
        let begun = Instant::now();
        let error = pool.shutdown_timeout(Duration::ZERO).await.unwrap_err();
        let limit = Pool::SHUTDOWN_SWEEP_TIMEOUT + BOUND;
        assert!(begun.elapsed() < limit, "{fault:?}: {:?}", begun.elapsed());
        assert!(
            matches!(error, Error::ShutdownIncomplete { .. }),
            "{fault:?}: {error:?}"
        );
        if !error.engine_error().unwrap().is_retryable() {
            assert_eq!(kind(&error), expected, "{fault:?}");
        }
        assert_no_panics();
    });
    futures_util::future::join_all(ends).await;
}

#[tokio::test]
async fn a_faulty_event_stream_is_resubscribed_with_pauses() {
    let faults = all(true).chain([(Fault::EndlessHead, Kind::Protocol)]);
    let streams = faults.map(async |(fault, _)| {
        let stub = Stub::start();
        stub.fault(Route::Events, fault);
        let pool = builder(&stub).await.min_idle(1).build().await.unwrap();
        // The pool subscribes again, with pauses. A silent stream shows no fault, so there is no event to wait for.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let subscriptions = stub.calls(Route::Events);
        assert!((1..=12).contains(&subscriptions), "{fault:?}: {subscriptions}");
        let c = pool.acquire().await.unwrap();
        assert!(c.command("true").status().await.unwrap().success());
        drop(c);
        pool.shutdown().await.unwrap();
        assert_no_panics();
    });
    futures_util::future::join_all(streams).await;
}

#[tokio::test]
async fn a_daemon_that_crashes_during_a_command_leaves_typed_errors() {
    let mut stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.fault(Route::ExecInspect, Fault::Silence);
    stub.fault(Route::ExecStart, Fault::SilentUpgrade);
    let command = async { c.command("sleep").output().await };
    let (output, ()) = tokio::join!(command, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stub.crash().await;
    });
    assert_eq!(output.unwrap().status, ExitStatus::Unknown);
    let error = c.command("true").output().await.unwrap_err();
    assert_eq!(kind(&error), Kind::Unreachable, "{error:?}");
    assert!(error.is_retryable());
    drop(c);
    let error = pool.shutdown_timeout(Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, Error::ShutdownIncomplete { .. }), "{error:?}");
    assert_no_panics();
}

/// An id that turns the requests it is put into into other requests.
const BAD_ID: &str = "../../images/prune?x=";

/// Asserts that no request contains the bad id.
fn assert_not_asked(stub: &Stub, what: &str) {
    let requests = stub.requests();
    assert!(
        !requests.iter().any(|request| request.contains("prune")),
        "{what}: {requests:?}"
    );
    assert_no_panics();
}

#[tokio::test]
async fn an_id_that_would_forge_a_request_is_refused() {
    let bad = |template: &str| template.replace("BAD", BAD_ID);

    let stub = Stub::start();
    let pool_builder = builder(&stub).await.min_idle(1);
    stub.say(Route::Create, 201, bad(r#"{"Id":"BAD","Warnings":[]}"#));
    let error = pool_builder.build().await.unwrap_err();
    assert_eq!(kind(&error), Kind::Protocol, "{error:?}");
    eventually_now("the container is removed by its name", || stub.calls(Route::Remove) > 0).await;
    assert_not_asked(&stub, "create");

    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.say(Route::ExecCreate, 201, bad(r#"{"Id":"BAD"}"#));
    let error = c.command("true").output().await.unwrap_err();
    assert_eq!(kind(&error), Kind::Protocol, "{error:?}");
    for body in [
        r#"{"Id":"BAD","Name":"/one","State":{"Status":"running"},"Config":{"Image":"any"}}"#,
        r#"{"Id":"1","Name":"/BAD","State":{"Status":"running"},"Config":{"Image":"any"}}"#,
    ] {
        stub.say(Route::Inspect, 200, bad(body));
        let error = c.inspect().await.unwrap_err();
        assert_eq!(kind(&error), Kind::Protocol, "{error:?}");
    }
    stub.heal();
    drop(c);
    pool.shutdown().await.unwrap();
    assert_not_asked(&stub, "exec and inspect");

    let stub = Stub::start();
    let engine = connect(&stub).await.unwrap();
    let selector = Selector::pool("protocol");
    for body in [
        r#"[{"Id":"good","Names":["/one"],"State":"running"},{"Id":"BAD","Names":["/two"],"State":"running"}]"#,
        r#"[{"Id":"good","Names":["/BAD"],"State":"running"}]"#,
    ] {
        stub.say(Route::List, 200, bad(body));
        let error = engine.list(&selector).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Protocol, "{error:?}");
    }
    stub.say(
        Route::Events,
        200,
        bad(r#"{"Type":"container","Action":"die","Actor":{"ID":"BAD","Attributes":{}},"time":1}"#),
    );
    let error = engine.events(&selector, None).next().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), Kind::Protocol, "{error:?}");
    assert_not_asked(&stub, "list and events");
}

#[tokio::test]
async fn an_id_of_a_network_or_volume_that_would_forge_a_request_is_refused() {
    let bad = |template: &str| template.replace("BAD", BAD_ID);

    for (route, status, body) in [
        (Route::Network, 200, r#"{"Name":"net","Id":"BAD"}"#),
        (Route::NetworkCreate, 201, r#"{"Id":"BAD","Warning":""}"#),
    ] {
        let stub = Stub::start();
        stub.say(route, status, bad(body));
        let network = Network::create("net").remove_on_shutdown();
        let error = builder(&stub).await.network(network).build().await.unwrap_err();
        assert_eq!(kind(&error), Kind::Protocol, "{error:?}");
        assert_not_asked(&stub, "network");
    }

    // The engine lists a volume that a dead owner of a pool of this name seems to have left, and a container that
    // uses it.
    let fake = FakeEngine::new();
    let of_fake = Pool::builder("protocol").image("any").engine(Arc::new(fake.clone()));
    let of_fake = of_fake.build().await.unwrap();
    let owner = fake.containers()[0].labels[labels::OWNER].clone();
    of_fake.shutdown().await.unwrap();
    // The dead owner had the process id of this process.
    let (rest, _) = owner.rsplit_once('.').unwrap();
    let mut of_dead: std::collections::HashMap<_, _> = labels::of_pool("protocol").into_iter().collect();
    of_dead.insert(labels::OWNER.to_owned(), format!("{rest}.1"));
    let volume = |name: &str| {
        let volume = serde_json::json!({
            "Name": name, "Driver": "local", "Mountpoint": "/", "Labels": of_dead, "Scope": "local", "Options": {},
        });
        serde_json::json!({"Volumes": [volume], "Warnings": null}).to_string()
    };
    for (name, user) in [(BAD_ID, None), ("left", Some(BAD_ID))] {
        let stub = Stub::start();
        stub.say(Route::VolumeList, 200, volume(name));
        let pool = builder(&stub).await.build().await.unwrap();
        if let Some(user) = user {
            stub.say(
                Route::List,
                200,
                format!(r#"[{{"Id":"{user}","Names":["/one"],"State":"running"}}]"#),
            );
        }
        eventually_now("the volumes are listed", || stub.calls(Route::VolumeList) > 0).await;
        if user.is_some() {
            let of_volume = || stub.requests().iter().any(|request| request.contains("volume%22"));
            eventually_now("the users of the volume are listed", of_volume).await;
        }
        stub.heal();
        pool.shutdown().await.unwrap();
        assert_not_asked(&stub, name);
    }
}

#[tokio::test]
async fn messages_of_a_daemon_are_printed_as_one_harmless_line() {
    let words = format!("no\x1b]0;owned\x07\n{}\u{202e}end", "x".repeat(1 << 20));
    let body = serde_json::json!({ "message": words }).to_string();
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.say(Route::ExecCreate, 500, &*body);
    stub.say(Route::Inspect, 500, &*body);
    stub.say(Route::Create, 500, &*body);
    let of_exec = c.command("true").output().await.unwrap_err();
    let of_inspect = c.inspect().await.unwrap_err();
    drop(c);
    let of_acquire = pool.acquire_timeout(CALL * 2).await.unwrap_err();
    for error in [&of_exec, &of_inspect, &of_acquire] {
        let mut said = format!("{error}\n{error:?}");
        let mut causes = std::error::Error::source(error);
        while let Some(cause) = causes {
            said += &format!("\n{cause}\n{cause:?}");
            causes = cause.source();
        }
        for line in said.lines() {
            assert!(line.len() < 8192, "{}", line.len());
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
        }
        // On a busy machine, the acquire may not have seen its failure.
        let acquired = matches!(error, Error::AcquireTimeout(timeout) if timeout.last_create_error.is_none());
        assert!(acquired || said.contains("no\\u{1b}]0;owned\\u{7}\\n"), "{said}");
    }
    stub.heal();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_list_with_containers_of_others_removes_none_of_them() {
    for labels in ["{}", r#"{"app":"db"}"#, r#"{"dockerpool.instance":"another"}"#, "null"] {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        drop(c);
        stub.say(
            Route::List,
            200,
            format!(r#"[{{"Id":"precious","Names":["/database"],"State":"running","Labels":{labels}}}]"#),
        );
        // A container of another owner does not count as left over.
        pool.shutdown_timeout(Duration::ZERO).await.unwrap();
        let removed: Vec<_> = stub
            .requests()
            .into_iter()
            .filter(|request| request.starts_with("DELETE"))
            .collect();
        assert!(
            !removed.iter().any(|request| request.contains("precious")),
            "{labels}: {removed:?}"
        );
        assert_no_panics();
    }

    // A container of this pool among others is removed.
    let stub = Stub::start();
    let pool = builder(&stub).await.build().await.unwrap();
    let ours = format!(r#"{{"{}":"{}"}}"#, labels::INSTANCE, pool.instance());
    stub.say(
        Route::List,
        200,
        format!(
            r#"[{{"Id":"precious","Names":["/database"],"State":"running"}},
                {{"Id":"left","Names":["/one"],"State":"running","Labels":{ours}}}]"#
        ),
    );
    let ending = tokio::spawn(async move { pool.shutdown_timeout(Duration::ZERO).await });
    let deleted = |id: &str| {
        let of_id = format!("/containers/{id}");
        stub.requests()
            .iter()
            .any(|request| request.starts_with("DELETE") && request.contains(&of_id))
    };
    eventually_now("the container of this pool is removed", || deleted("left")).await;
    stub.say(Route::List, 200, "[]");
    ending.await.unwrap().unwrap();
    assert!(!deleted("precious"));
}

#[tokio::test]
async fn a_limit_that_is_missing_or_above_the_requested_one_fails_the_build() {
    let build = async |memory: i64, pids: i64, cpus: i64| {
        let stub = Stub::start();
        stub.describe(serde_json::json!({
            "HostConfig": {"Memory": memory, "MemorySwap": memory, "PidsLimit": pids, "NanoCpus": cpus},
        }));
        let builder = builder(&stub)
            .await
            .memory(64 << 20)
            .cpus(0.5)
            .pids_limit(512)
            .min_idle(1);
        match builder.build().await {
            Ok(pool) => {
                let _ = pool.shutdown_timeout(Duration::ZERO).await;
                Ok(())
            }
            Err(error) => Err(kind(&error)),
        }
    };
    let (memory, pids, cpus) = (64 << 20, 512, 500_000_000);
    for bad in [0, -1, 1 << 50] {
        assert_eq!(build(bad, pids, cpus).await, Err(Kind::LimitDiscarded), "memory {bad}");
        assert_eq!(build(memory, bad, cpus).await, Err(Kind::LimitDiscarded), "pids {bad}");
        assert_eq!(build(memory, pids, bad).await, Err(Kind::LimitDiscarded), "cpus {bad}");
    }
    assert_eq!(build(memory, pids, cpus).await, Ok(()));
    assert_eq!(build(memory / 2, pids / 2, cpus / 2).await, Ok(()));
}

#[tokio::test]
async fn warnings_are_reported_and_remembered_up_to_a_limit() {
    let stub = Stub::start();
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let pool = builder(&stub)
        .await
        .on_error({
            let told = told.clone();
            move |error| {
                if let Some(error) = error.engine_error().filter(|error| error.kind() == Kind::Warning) {
                    told.lock().push(error.to_string());
                }
            }
        })
        .build()
        .await
        .unwrap();
    for round in 0..20 {
        let warnings: Vec<_> = (0..1000).map(|number| format!("warning {round} {number}")).collect();
        let body = serde_json::json!({"Id": format!("{round:064x}"), "Warnings": warnings});
        stub.say(Route::Create, 201, body.to_string());
        pool.acquire().await.unwrap().discard();
        // Another thread reports the warnings, in order.
        let expected = (16 * (round + 1)).min(256);
        crate::support::eventually_now("all warnings are reported", || told.lock().len() >= expected).await;
        assert_eq!(told.lock().len(), expected, "round {round}");
    }
    let told = told.lock().clone();
    let last = told.last().unwrap();
    assert!(last.contains("too many warnings"), "{last}");
    assert_eq!(told.iter().filter(|words| *words == last).count(), 1);
    pool.shutdown().await.unwrap();
    assert_no_panics();
}

#[tokio::test]
async fn a_command_that_neither_runs_nor_has_ended_is_not_inspected_for_ever() {
    let bodies = [
        r#"{"ID":"e1"}"#,
        r#"{"ID":"e1","Running":false,"ExitCode":null,"Pid":7}"#,
    ];
    let all = bodies.map(async |body| {
        let stub = Stub::start();
        let (pool, c) = lease(&stub).await;
        stub.say(Route::ExecInspect, 200, body);
        let command = async { c.command("x").output().await };
        let output = tokio::time::timeout(Duration::from_secs(10) + BOUND, command).await;
        let output = output.unwrap_or_else(|_| panic!("{body}: for ever")).unwrap();
        assert_eq!(output.status, ExitStatus::Unknown, "{body}");
        assert_eq!(output.stdout_lossy(), "hello\n", "{body}");
        assert!(c.taint().is_some(), "{body}");
        // The pauses are at most 50 ms.
        assert!(
            stub.calls(Route::ExecInspect) < 300,
            "{}",
            stub.calls(Route::ExecInspect)
        );
        drop(c);
        let _ = pool.shutdown_timeout(Duration::ZERO).await;
    });
    futures_util::future::join_all(all).await;

    // A command that is beginning looks like this for a moment.
    let stub = Stub::start();
    let (pool, c) = lease(&stub).await;
    stub.say(Route::ExecInspect, 200, bodies[0]);
    let mut child = c.command("x").spawn().await.unwrap();
    eventually_now("the command is inspected", || stub.calls(Route::ExecInspect) > 2).await;
    stub.heal();
    assert!(child.wait().await.unwrap().success());
    drop(child);
    assert_eq!(c.taint(), None);
    drop(c);
    pool.shutdown().await.unwrap();
    assert_no_panics();
}
