//! The cost to return a container, and to discard one, on the engine in memory. [`contenders`] describes the setup of
//! the other pools. The time of the acquires is not measured.
//!
//! - `return`: the guard's `Drop`, which makes the item idle.
//! - `discard`: the call that takes the item out of the pool instead. `dockerpool` removes the container in the
//!   background, which is not measured; the others have nothing to remove.

mod contenders;

use std::time::{Duration, Instant};

use contenders::{Bb8, Contender, Deadpool, Dockerpool, MutexVec};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use tokio::runtime::{Builder, Runtime};

/// Guards held at once. One reading of the clock for so many guards costs nothing.
const BATCH: usize = 64;

type Group<'c> = BenchmarkGroup<'c, WallTime>;

/// Acquires up to [`BATCH`] guards, and measures the time to give them all up in this way.
fn bench<C: Contender>(group: &mut Group<'_>, release: impl Fn(C::Guard<'_>)) {
    let runtime: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let pool = runtime.block_on(C::new(BATCH));
    group.bench_function(C::ID, |bencher| {
        bencher.to_async(&runtime).iter_custom(async |iterations| {
            let mut guards = Vec::with_capacity(BATCH);
            let mut time = Duration::ZERO;
            let mut left = iterations as usize;
            while left > 0 {
                let count = left.min(BATCH);
                for _ in 0..count {
                    guards.push(pool.acquire().await);
                }
                let begun = Instant::now();
                for guard in guards.drain(..) {
                    release(guard);
                }
                time += begun.elapsed();
                left -= count;
            }
            time
        });
    });
}

fn give_back(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("return");
    bench::<Dockerpool>(&mut group, drop);
    bench::<MutexVec>(&mut group, drop);
    bench::<Deadpool>(&mut group, drop);
    bench::<Bb8>(&mut group, |guard| drop(guard));
    group.finish();
}

fn discard(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("discard");
    bench::<Dockerpool>(&mut group, Dockerpool::discard);
    bench::<MutexVec>(&mut group, MutexVec::discard);
    bench::<Deadpool>(&mut group, Deadpool::discard);
    bench::<Bb8>(&mut group, Bb8::discard);
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50);
    targets = give_back, discard
}
criterion_main!(benches);
