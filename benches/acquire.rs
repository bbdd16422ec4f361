//! The cost of an acquire on the engine in memory, beside a bare mutex and two well-known pools. [`contenders`]
//! describes the setup of each.
//!
//! - `acquire_hit`: an acquire that finds an idle item. Dropping the guards is not measured.
//! - `acquire_drop`: the warm pair, an acquire that finds an idle item and the `Drop` that returns it.
//! - `acquire_drop_8_tasks`: the warm pair by eight tasks at once on two threads, with an item for each task.
//! - `acquire_queued`: an acquire that finds no item, waits, and gets the item that is returned. All in one task, so
//!   that no scheduler is measured. A bare mutex has no queue.

mod contenders;

use std::future::poll_fn;
use std::hint::black_box;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use contenders::{Bb8, Contender, Deadpool, Dockerpool, MutexVec};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use tokio::runtime::{Builder, Runtime};

/// Guards held at once where only one half of the pair is measured. One reading of the clock for so many guards costs
/// nothing.
const BATCH: usize = 64;

const TASKS: usize = 8;

type Group<'c> = BenchmarkGroup<'c, WallTime>;

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn hit<C: Contender>(group: &mut Group<'_>) {
    let runtime = one_thread();
    let pool = runtime.block_on(C::new(BATCH));
    group.bench_function(C::ID, |bencher| {
        bencher.to_async(&runtime).iter_custom(async |iterations| {
            let mut guards = Vec::with_capacity(BATCH);
            let mut time = Duration::ZERO;
            let mut left = iterations as usize;
            while left > 0 {
                let count = left.min(BATCH);
                let begun = Instant::now();
                for _ in 0..count {
                    guards.push(pool.acquire().await);
                }
                time += begun.elapsed();
                guards.clear();
                left -= count;
            }
            time
        });
    });
}

fn pair<C: Contender>(group: &mut Group<'_>) {
    let runtime = one_thread();
    let pool = runtime.block_on(C::new(1));
    group.bench_function(C::ID, |bencher| {
        bencher
            .to_async(&runtime)
            .iter(async || drop(black_box(pool.acquire().await)));
    });
}

fn pair_contended<C: Contender>(group: &mut Group<'_>) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let pool = runtime.block_on(C::new(TASKS));
    group.bench_function(C::ID, |bencher| {
        bencher.to_async(&runtime).iter_custom(|iterations| {
            let pool = pool.clone();
            async move {
                let begun = Instant::now();
                let tasks: Vec<_> = (0..TASKS as u64)
                    .map(|task| {
                        let pool = pool.clone();
                        let share = (iterations + task) / TASKS as u64;
                        tokio::spawn(async move {
                            for _ in 0..share {
                                drop(black_box(pool.acquire().await));
                            }
                        })
                    })
                    .collect();
                for task in tasks {
                    task.await.expect("a task ends");
                }
                begun.elapsed()
            }
        });
    });
}

fn queued<C: Contender>(group: &mut Group<'_>) {
    let runtime = one_thread();
    let pool = runtime.block_on(C::new(1));
    group.bench_function(C::ID, |bencher| {
        bencher.to_async(&runtime).iter_custom(async |iterations| {
            let mut held = pool.acquire().await;
            let begun = Instant::now();
            for _ in 0..iterations {
                let mut next = pin!(pool.acquire());
                // The first poll puts the acquire into the queue.
                poll_fn(|cx| {
                    assert!(next.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                drop(held);
                held = next.await;
            }
            begun.elapsed()
        });
    });
}

fn acquire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acquire_hit");
    hit::<Dockerpool>(&mut group);
    hit::<MutexVec>(&mut group);
    hit::<Deadpool>(&mut group);
    hit::<Bb8>(&mut group);
    group.finish();

    let mut group = criterion.benchmark_group("acquire_drop");
    pair::<Dockerpool>(&mut group);
    pair::<MutexVec>(&mut group);
    pair::<Deadpool>(&mut group);
    pair::<Bb8>(&mut group);
    group.finish();

    let mut group = criterion.benchmark_group("acquire_drop_8_tasks");
    pair_contended::<Dockerpool>(&mut group);
    pair_contended::<MutexVec>(&mut group);
    pair_contended::<Deadpool>(&mut group);
    pair_contended::<Bb8>(&mut group);
    group.finish();

    let mut group = criterion.benchmark_group("acquire_queued");
    queued::<Dockerpool>(&mut group);
    queued::<Deadpool>(&mut group);
    queued::<Bb8>(&mut group);
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50);
    targets = acquire
}
criterion_main!(benches);
