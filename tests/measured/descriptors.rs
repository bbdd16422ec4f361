//! The owner runs out of file descriptors. Errors say so, nothing is lost, and the pool recovers once descriptors are
//! free.

use std::error::Error as _;
use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{containers_of_instance, engine, eventually_now, own_test, pool};
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{EngineErrorKind, Error, ExecVia, Pool};
use futures_util::future::join_all;
use tokio::time::timeout;

/// Makes the test, run in a process of its own, the owner with a small limit of open files.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// More descriptors than a pool of this size needs, and so few that they are soon used up.
const LIMIT: usize = 100;

const TOTAL: usize = 3;

/// Bounds each call far above its normal duration.
const NO_HANG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_owner_without_descriptors_gets_errors_that_say_so_and_loses_nothing() {
    if std::env::var_os(OWNER).is_some() {
        return timeout(5 * NO_HANG, own()).await.unwrap();
    }
    run_with_few_descriptors("an_owner_without_descriptors_gets_errors_that_say_so_and_loses_nothing").await;
}

#[tokio::test]
async fn any_missing_descriptor_leads_to_an_error_that_says_so() {
    if std::env::var_os(OWNER).is_some() {
        return timeout(5 * NO_HANG, create_with_few_descriptors()).await.unwrap();
    }
    run_with_few_descriptors("any_missing_descriptor_leads_to_an_error_that_says_so").await;
}

#[tokio::test]
async fn a_pool_that_cannot_identify_its_owner_is_not_built_and_a_later_one_is() {
    if std::env::var_os(OWNER).is_some() {
        return timeout(5 * NO_HANG, build_without_descriptors()).await.unwrap();
    }
    run_with_few_descriptors("a_pool_that_cannot_identify_its_owner_is_not_built_and_a_later_one_is").await;
}

/// Runs this test in a process with a small limit of open files, and asserts that no container of its pool is left.
async fn run_with_few_descriptors(test: &str) {
    let owner = Command::new("sh")
        .args(["-c", &format!(r#"ulimit -n {LIMIT} && exec "$0" "$@""#)])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg(own_test!(test))
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&owner.stdout);
    print!("{said}");
    assert!(
        owner.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&owner.stderr)
    );
    let instance = said.lines().find_map(|line| line.strip_prefix("instance "));
    let instance = instance.expect("the owner prints its instance");
    assert_eq!(containers_of_instance(&*engine().await, instance).await, 0);
}

async fn build_without_descriptors() {
    let fake = FakeEngine::new();
    let mut hoard = Vec::new();
    take_all_descriptors(&mut hoard);
    let builder = Pool::builder("any").image("any").engine(Arc::new(fake.clone()));
    let refused = builder.build().await.unwrap_err();
    assert_says_so(&refused);
    assert_eq!(fake.calls(Call::Check), 0, "the engine was not called");
    drop(hoard);

    let pool = pool("descriptors").build().await.unwrap();
    println!("\ninstance {}", pool.instance());
    let c = pool.acquire().await.unwrap();
    let labels = c.inspect().await.unwrap().labels;
    let owner = &labels["dockerpool.owner"];
    assert!(owner.contains(&format!(".{}.", std::process::id())), "{owner}");
    drop(c);
    pool.shutdown().await.unwrap();
}

async fn own() {
    // With the agent one connection serves all commands, which would need no new descriptor.
    let builder = pool("descriptors").exec_via(ExecVia::Docker);
    let pool = builder.max_total(TOTAL).build().await.unwrap();
    println!("\ninstance {}", pool.instance());
    let begun = Instant::now();
    let (busy, idle) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let creation = begun.elapsed();

    let mut hoard = Vec::new();
    // Kept connections need no new descriptor, so a few commands still start.
    let mut running = Vec::new();
    let refused = loop {
        take_all_descriptors(&mut hoard);
        match timeout(NO_HANG, busy.command("sleep").arg("1000").spawn())
            .await
            .unwrap()
        {
            Ok(child) => running.push(child),
            Err(error) => break error,
        }
        assert!(running.len() < LIMIT);
    };
    assert_says_so(&refused);
    assert_eq!(refused.container(), Some(busy.name()));
    assert!(busy.taint().is_some());

    // Discarded containers free descriptors, which this loop takes too. An acquire may be faster, so the loop repeats.
    let refused = loop {
        take_all_descriptors(&mut hoard);
        match timeout(NO_HANG, pool.acquire_timeout(Duration::from_secs(1)))
            .await
            .unwrap()
        {
            Ok(c) => c.discard(),
            Err(error) => break error,
        }
    };
    assert!(refused.is_timeout(), "{refused:?}");
    assert_says_so(&refused);
    assert!(refused.to_string().contains("Too many open files"), "{refused}");

    // Dropping a guard works, also when its container must be removed.
    drop(running);
    drop(idle);
    drop(busy);
    take_all_descriptors(&mut hoard);
    assert!(pool.try_acquire().unwrap().is_some(), "an idle container is lent");

    drop(hoard);
    assert_full_capacity(&pool, creation).await;
    pool.shutdown().await.unwrap();
    assert_eq!(pool.status().total(), 0);
}

/// Creates containers with one free descriptor, with two, and so on, until there are enough. The agent's socket is
/// among the things that lack one.
async fn create_with_few_descriptors() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let builder = pool("descriptors-agent").exec_via(ExecVia::Agent).max_total(1);
    let builder = builder.on_error(move |error| {
        let _ = tell.send(error.engine_error().map(|error| (error.kind(), error.to_string())));
    });
    let pool = builder.build().await.unwrap();
    println!("\ninstance {}", pool.instance());
    // Creating and removing one container first opens the connections that are kept.
    pool.acquire().await.unwrap().discard();
    let (mut failures, mut free, mut lucky) = (0, 0, 0);
    while free < LIMIT {
        // A removal needs a descriptor too, and has the only place.
        eventually_now("no container is left", || pool.status().total() == 0).await;
        let mut hoard = Vec::new();
        take_all_descriptors(&mut hoard);
        hoard.truncate(hoard.len().saturating_sub(free));
        let failure = tokio::select! {
            c = pool.acquire_timeout(NO_HANG) => {
                c.unwrap().discard();
                if failures > 0 {
                    break;
                }
                // A kept connection, or the removal before, has given its descriptors back at this moment.
                lucky += 1;
                assert!(lucky < 100, "no creation fails");
                continue;
            }
            failure = told.recv() => failure.unwrap(),
        };
        drop(hoard);
        failures += 1;
        free += 1;
        assert!(
            matches!(failure, Some((EngineErrorKind::TooManyOpenFiles, _))),
            "after {free}: {failure:?}"
        );
        // Waits for the rest of the failed creation and its backoff.
        pool.acquire_timeout(NO_HANG).await.unwrap().discard();
        while let Ok(failure) = told.try_recv() {
            assert!(
                matches!(failure, Some((EngineErrorKind::TooManyOpenFiles, _))),
                "with {free}: {failure:?}"
            );
        }
    }
    assert!(failures > 0, "no creation failed");
    pool.shutdown().await.unwrap();
}

/// Opens files until no descriptor is free.
fn take_all_descriptors(hoard: &mut Vec<File>) {
    loop {
        match File::open("/dev/null") {
            Ok(file) => hoard.push(file),
            Err(error) => {
                assert!(error.to_string().contains("Too many open files"), "{error}");
                return;
            }
        }
    }
}

fn assert_says_so(error: &Error) {
    let said = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(said.kind(), EngineErrorKind::TooManyOpenFiles, "{error:?}");
    assert!(error.is_retryable());
    let causes = std::iter::successors(said.source(), |&cause| cause.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    assert!(
        causes.iter().any(|cause| cause.contains("Too many open files")),
        "{causes:?}"
    );
}

/// Asserts that all containers can be acquired and that each one works.
async fn assert_full_capacity(pool: &Pool, creation: Duration) {
    let free = Instant::now();
    let all = join_all((0..TOTAL).map(|_| pool.acquire_timeout(NO_HANG))).await;
    let took = free.elapsed();
    for c in all {
        assert!(c.unwrap().command("true").status().await.unwrap().success());
    }
    println!("full capacity {took:.2?} after there were descriptors; a creation takes {creation:.2?}");
    // The promise is 5 s and the time of a creation, on an idle machine.
    assert!(took < Duration::from_secs(5) + 10 * creation, "{took:?}");
}
