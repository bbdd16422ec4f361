//! Measures the pool under contention, beside other pools. [`contenders`] describes the setup of each.
//!
//! - `acquire_drop`: the warm pair by 1, 2, 8 and 64 tasks at once on two threads, with an item for each task.
//! - `held_over_yield`: 64 tasks share 8 items, and each holds its item over one yield of its task. Acquires wait.
//!
//! The contenders take turns, in many short rounds, since the differences are small. A table has the medians of the rounds.
//! `cargo bench --bench contention -- NAME` runs one of them.

mod contenders;

use std::fmt::Write;
use std::hint::black_box;
use std::time::{Duration, Instant};

use contenders::{Bb8, Contender, Deadpool, Dockerpool, Fastpool, MutexVec, SemaphoreVec};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};

/// The rounds of each contender.
const ROUNDS: usize = 21;

/// The pairs of one round, of all tasks together.
const PAIRS: u64 = 100_000;

/// The contender that the ratios are to.
const BASE: &str = "semaphore_vec";

fn two_threads() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Runs rounds of one contender.
type Round<'r> = (&'static str, Box<dyn FnMut() -> Vec<f64> + 'r>);

/// Runs the contenders by turns. Returns the median of each column for each of them.
fn by_turns(mut contenders: Vec<Round<'_>>) -> Vec<(&'static str, Vec<f64>)> {
    let mut rows: Vec<_> = contenders.iter().map(|(id, _)| (*id, Vec::new())).collect();
    for round in 0..ROUNDS {
        for at in 0..contenders.len() {
            // Nobody always runs after the same one.
            let at = (at + round) % contenders.len();
            rows[at].1.push(contenders[at].1());
        }
    }
    rows.into_iter().map(|(id, rounds)| (id, medians(&rounds))).collect()
}

fn medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    (0..rounds[0].len())
        .map(|column| {
            let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        })
        .collect()
}

fn table(title: &str, columns: &[&str], rows: Vec<(&'static str, Vec<f64>)>) {
    let base = rows
        .iter()
        .find(|(id, _)| *id == BASE)
        .map_or(1.0, |(_, values)| values[0]);
    let mut text = format!("| {title} |");
    columns.iter().for_each(|column| text += &format!(" {column} |"));
    text += " ratio |\n|---|";
    text += &"---:|".repeat(columns.len() + 1);
    for (id, values) in rows {
        text += &format!("\n| {id} |");
        for value in &values {
            let _ = write!(text, " {value:.0} |");
        }
        let _ = write!(text, " {:.2} |", values[0] / base);
    }
    println!("{text}\n");
}

/// Has tasks acquire and drop. Returns the nanoseconds of a pair.
fn pairs<C: Contender>(runtime: &Runtime, pool: &C, tasks: u64) -> Vec<f64> {
    runtime.block_on(async {
        let begun = Instant::now();
        let mut set = JoinSet::new();
        for _ in 0..tasks {
            let pool = pool.clone();
            set.spawn(async move {
                for _ in 0..PAIRS / tasks {
                    drop(black_box(pool.acquire().await));
                }
            });
        }
        set.join_all().await;
        vec![begun.elapsed().as_nanos() as f64 / PAIRS as f64]
    })
}

/// Has 64 tasks share 8 items. Returns thousands of leases in a second, and the 99th percentile of a wait in microseconds.
fn over_yield<C: Contender>(runtime: &Runtime, pool: &C) -> Vec<f64> {
    const TASKS: u64 = 64;
    runtime.block_on(async {
        let begun = Instant::now();
        let mut set = JoinSet::new();
        for _ in 0..TASKS {
            let pool = pool.clone();
            set.spawn(async move {
                let mut waits = Vec::with_capacity((PAIRS / TASKS) as usize);
                for _ in 0..PAIRS / TASKS {
                    let asked = Instant::now();
                    let guard = pool.acquire().await;
                    waits.push(asked.elapsed());
                    yield_now().await;
                    drop(guard);
                }
                waits
            });
        }
        let mut waits: Vec<Duration> = set.join_all().await.into_iter().flatten().collect();
        let taken = begun.elapsed();
        waits.sort_unstable();
        let leases = waits.len();
        vec![
            leases as f64 / taken.as_secs_f64() / 1e3,
            waits[leases * 99 / 100].as_nanos() as f64 / 1e3,
        ]
    })
}

/// Makes a contender for each pool.
macro_rules! contenders {
    ($runtime:ident, $size:expr, $round:expr; $($pool:ty),*) => {
        vec![$({
            let pool = $runtime.block_on(<$pool>::new($size));
            let runtime = &$runtime;
            (<$pool>::ID, Box::new(move || $round(runtime, &pool)) as Box<dyn FnMut() -> Vec<f64>>)
        }),*]
    };
}

fn main() {
    // `cargo bench` passes options of its own.
    let wanted = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    if is_wanted("acquire_drop") {
        for tasks in [1, 2, 8, 64] {
            let runtime = two_threads();
            let rows = by_turns(
                contenders!(runtime, tasks as usize, |runtime, pool| pairs(runtime, pool, tasks);
                Dockerpool, SemaphoreVec, MutexVec, Fastpool, Bb8, Deadpool),
            );
            table(&format!("acquire_drop, {tasks} tasks"), &["ns"], rows);
        }
    }
    if is_wanted("held_over_yield") {
        let runtime = two_threads();
        let rows = by_turns(contenders!(runtime, 8, over_yield; Dockerpool, SemaphoreVec, Fastpool, Bb8, Deadpool));
        table("held_over_yield", &["thousand leases/s", "p99 of a wait, µs"], rows);
    }
}
