//! The memory of the library is bounded, whatever the engine or a command sends.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use crate::stub::{Fault, Route, Stub};
use crate::support::eventually_now;
use dockerpool::{DockerEngine, EngineErrorKind, Error, ExitStatus, Pool};
use tokio::sync::Mutex;

/// Runs the tests one at a time, since they measure the memory of the whole process.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Returns the peak of this process's memory, in bytes.
///
/// The kernel keeps parts of the sum for each processor, so a later answer can be a little smaller.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Asserts that the peak has grown by less than the bound.
#[track_caller]
fn assert_bounded(before: u64) {
    let more = peak().saturating_sub(before);
    assert!(more < BOUND, "{more} more");
}

/// Far more than a few pieces of output, and far less than the bytes sent.
const BOUND: u64 = 48 << 20;

async fn pool_on(stub: &Stub) -> Pool {
    let endpoint = format!("unix://{}", stub.socket().display());
    let engine = DockerEngine::connect_to(endpoint.parse().unwrap()).await.unwrap();
    let builder = Pool::builder("bounded").image("any").engine(Arc::new(engine));
    builder.min_idle(0).max_total(1).build().await.unwrap()
}

#[tokio::test]
async fn a_frame_that_claims_four_gibibytes_meets_the_output_limit() {
    let _alone = ALONE.lock().await;
    let stub = Stub::start();
    let pool = pool_on(&stub).await;
    let c = pool.acquire().await.unwrap();
    stub.fault(Route::ExecStart, Fault::HugeFrame);
    stub.fault(Route::ExecInspect, Fault::Running);
    let before = peak();
    let output = c.command("program").output_limit(1 << 20).output().await.unwrap();
    assert_eq!(
        (output.status, output.stdout.len()),
        (
            ExitStatus::OutputLimit {
                limit: 1 << 20,
                is_default: false
            },
            1 << 20
        )
    );
    assert_bounded(before);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_frame_that_claims_four_gibibytes_is_not_received_before_it_is_read() {
    let _alone = ALONE.lock().await;
    let stub = Stub::start();
    let pool = pool_on(&stub).await;
    let c = pool.acquire().await.unwrap();
    stub.fault(Route::ExecStart, Fault::HugeFrame);
    stub.fault(Route::ExecInspect, Fault::Running);
    let before = peak();
    let child = c.command("program").spawn().await.unwrap();
    eventually_now("output comes", || stub.taken() > 0).await;
    // Without a reader the transfer stops.
    let mut last = 0;
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = stub.taken();
        if now == last {
            break;
        }
        last = now;
    }
    assert!(last < BOUND, "{last} taken");
    assert_bounded(before);
    drop(child);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off() {
    let _alone = ALONE.lock().await;
    let stub = Stub::start();
    let pool = pool_on(&stub).await;
    let c = pool.acquire().await.unwrap();
    let before = peak();
    for route in [Route::Inspect, Route::ExecCreate, Route::ExecStart, Route::Events] {
        stub.fault(route, Fault::EndlessHead);
    }
    c.inspect().await.unwrap_err();
    c.command("program").output().await.unwrap_err();
    assert!(stub.taken() < BOUND, "{} taken", stub.taken());
    assert_bounded(before);
    stub.heal();
    drop(c);
    pool.shutdown().await.unwrap();
}

/// Asserts that the error reports an answer of unbounded length.
fn assert_too_long(error: &Error) {
    let said = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(said.kind(), EngineErrorKind::Protocol, "{error:?}");
    let causes = std::iter::successors(said.source(), |&cause| cause.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    assert!(
        causes.iter().any(|cause| cause.contains("the answer is longer than")),
        "{causes:?}"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut_off() {
    let _alone = ALONE.lock().await;
    let stub = Stub::start();
    let pool = pool_on(&stub).await;
    let c = pool.acquire().await.unwrap();
    let before = peak();
    for route in [Route::Inspect, Route::ExecCreate, Route::Create] {
        stub.fault(route, Fault::EndlessBody);
    }
    assert_too_long(&c.inspect().await.unwrap_err());
    assert_too_long(&c.command("program").output().await.unwrap_err());
    drop(c);
    let error = pool.acquire_timeout(Duration::from_secs(10)).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_too_long(&error);
    assert_bounded(before);
    stub.heal();
    // The connections that were kept still work.
    assert!(pool.acquire().await.unwrap().inspect().await.is_ok());
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_line_that_does_not_end_is_cut_off() {
    let _alone = ALONE.lock().await;
    let stub = Stub::start();
    stub.fault(Route::Events, Fault::EndlessBody);
    let before = peak();
    let pool = pool_on(&stub).await;
    eventually_now("the pool subscribes again", || stub.calls(Route::Events) >= 3).await;
    assert!(stub.taken() < BOUND, "{} taken", stub.taken());
    assert!(pool.acquire().await.unwrap().inspect().await.is_ok());
    pool.shutdown().await.unwrap();

    // The same holds for a pull.
    stub.fault(Route::Image, Fault::Status(404));
    stub.fault(Route::Pull, Fault::EndlessBody);
    let endpoint = format!("unix://{}", stub.socket().display());
    let engine = DockerEngine::connect_to(endpoint.parse().unwrap()).await.unwrap();
    let builder = Pool::builder("bounded-pull").image("any").engine(Arc::new(engine));
    let error = builder.build().await.unwrap_err();
    assert!(
        matches!(&error, Error::Engine { source, .. } if source.source().is_some()),
        "{error:?}"
    );
    assert_bounded(before);
}

#[tokio::test]
async fn an_endless_stream_of_events_needs_bounded_memory() {
    let _alone = ALONE.lock().await;
    let stub = Stub::start();
    stub.fault(Route::Events, Fault::EndlessEvents);
    let before = peak();
    let pool = pool_on(&stub).await;
    eventually_now("more bytes are received than any one line may have", || {
        stub.taken() > 8 << 20
    })
    .await;
    assert_eq!(stub.calls(Route::Events), 1);
    assert_bounded(before);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn terminal_output_that_looks_like_a_frame_is_not_taken_for_one() {
    let _alone = ALONE.lock().await;
    let pool = crate::support::pool("bounded-tty").build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let before = peak();
    // Prints bytes that look like the head of a frame of 4 GiB, and then 256 MiB.
    let script = r"printf '\001\000\000\000\377\377\377\377'; sleep 0.3; head -c 268435456 /dev/zero";
    let output = c
        .command("sh")
        .args(["-c", script])
        .tty(24, 80)
        .output_limit(1 << 20)
        .timeout(Duration::from_secs(60))
        .output()
        .await
        .unwrap();
    assert_eq!(
        (output.status, output.stdout.len()),
        (
            ExitStatus::OutputLimit {
                limit: 1 << 20,
                is_default: false
            },
            1 << 20
        )
    );
    assert_eq!(output.stdout[..8], [1, 0, 0, 0, 255, 255, 255, 255]);
    assert_bounded(before);
    drop(c);
    pool.shutdown().await.unwrap();
}
