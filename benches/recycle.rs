//! The time from the end of a lease until its container, or the one in its place, can be lent again, on the real engine. It
//! passes in the background.
//!
//! - `clean_dirty`: `Reuse::Clean` by the agent after a lease that has left 1,000 files in `/tmp` and 50 processes.
//! - `clean_true`: the same after `true`.
//! - `replace`: `Reuse::Never`, after `true`.
//!
//! Each is measured on a root file system that can be written to (`writable`) and on one that is read-only (`read_only`). On the
//! first the engine lists what has changed, and on the second nothing can have.
//!
//! Criterion has no percentiles. A table of the medians and of what 99 % of the times do not exceed is printed at the end and kept
//! in `target/tmp/recycle.md`.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use dockerpool::{ExecVia, Pool, Reuse};
use tokio::runtime::Runtime;

const TRUE: &str = "true";
const DIRTY: &str = "i=0; while [ $i -lt 1000 ]; do : >/tmp/$i; i=$((i+1)); done; \
                     i=0; while [ $i -lt 50 ]; do sleep 1000 >/dev/null 2>&1 & i=$((i+1)); done";

/// Measures leases with a script, one after the other. Returns all times.
fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: &str,
    reuse: Reuse,
    read_only: bool,
    script: &str,
) -> Vec<Duration> {
    let runtime = Runtime::new().expect("a runtime");
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or("dockerpool-local/busybox:1".to_owned());
    let pool = Pool::builder("bench-recycle")
        .image(image)
        .read_only_root(read_only)
        .exec_via(ExecVia::Agent)
        .reuse(reuse)
        .min_idle(0)
        .max_total(1);
    let pool = runtime.block_on(pool.build()).expect("a pool");
    let times = RefCell::new(Vec::new());
    group.bench_function(id, |bencher| {
        bencher.to_async(&runtime).iter_custom(async |iterations| {
            let mut sum = Duration::ZERO;
            let mut guard = pool.acquire().await.expect("a container");
            for _ in 0..iterations {
                let status = guard
                    .command("sh")
                    .args(["-c", script])
                    .status()
                    .await
                    .expect("it runs");
                assert!(status.success());
                let begun = Instant::now();
                drop(guard);
                // There is no other container.
                guard = pool.acquire().await.expect("the container, or another one");
                let time = begun.elapsed();
                times.borrow_mut().push(time);
                sum += time;
            }
            sum
        });
    });
    let counts = pool.status().lifetime;
    match reuse {
        Reuse::Clean => assert_eq!((counts.unclean, counts.created), (0, 1), "{:?}", pool.last_unclean()),
        _ => assert_eq!(counts.cleaned, 0),
    }
    runtime.block_on(pool.shutdown()).expect("nothing is left");
    times.into_inner()
}

/// Returns what this part of all times does not exceed.
fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times
        .get((last as f64 * part).ceil() as usize)
        .copied()
        .unwrap_or_default()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut table = "| root file system | lease | leases | median | 99 % |\n|---|---|---|---|---|\n".to_owned();
    for (root, read_only) in [("writable", false), ("read_only", true)] {
        let mut group = criterion.benchmark_group(format!("recycle_{root}"));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_secs(1))
            .measurement_time(Duration::from_secs(5));
        for (id, reuse, script) in [
            ("clean_dirty", Reuse::Clean, DIRTY),
            ("clean_true", Reuse::Clean, TRUE),
            ("replace", Reuse::Never, TRUE),
        ] {
            let mut times = bench(&mut group, id, reuse, read_only, script);
            let (median, most) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
            let _ = writeln!(table, "| {root} | {id} | {} | {median:.2?} | {most:.2?} |", times.len());
        }
        group.finish();
    }
    criterion.final_summary();
    println!("{table}");
    let file = concat!(env!("CARGO_TARGET_TMPDIR"), "/recycle.md");
    std::fs::write(file, table).expect("the table is kept");
}
