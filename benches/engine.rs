//! The time that a pool saves, on the real engine.
//!
//! - `create_start`: a cold container, created and started, whose PID 1 has answered.
//! - `acquire_drop`: a warm container, acquired and returned.
//! - `exec_true`: a command in a container that is held.
//! - `discard`: the call alone. The container is removed and replaced in the background.
//! - `discard_replaced`: the time from that call to the acquire of the next container.

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use dockerpool::{Container, ContainerSpec, DockerEngine, Pool};
use tokio::runtime::Runtime;

fn engine(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let image = std::env::var("DOCKERPOOL_BUSYBOX_IMAGE").unwrap_or("dockerpool-local/busybox:1".to_owned());
    let engine = runtime.block_on(DockerEngine::connect());
    let engine = Arc::new(engine.expect("an engine: ./dev engine start"));
    let pool = Pool::builder("bench").image(&image).engine(engine.clone());
    let pool = pool.min_idle(0).max_idle(1).max_total(1).build();
    let pool = runtime.block_on(pool).expect("a pool");
    drop(runtime.block_on(pool.acquire()).expect("a first container"));

    let mut group = criterion.benchmark_group("engine");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(8));

    group.bench_function("create_start", |bencher| {
        bencher.to_async(&runtime).iter_custom(async |iterations| {
            let mut time = Duration::ZERO;
            for _ in 0..iterations {
                let begun = Instant::now();
                let created = Container::create(engine.clone(), ContainerSpec::new(&image)).await;
                let running = created.expect("a container").start().await.expect("it starts");
                time += begun.elapsed();
                running.remove().await.expect("it is removed");
            }
            time
        });
    });

    group.bench_function("acquire_drop", |bencher| {
        let pair = async || drop(pool.acquire().await.expect("a container"));
        bencher.to_async(&runtime).iter(pair);
    });

    group.bench_function("exec_true", |bencher| {
        let guard = runtime.block_on(pool.acquire()).expect("a container");
        bencher.to_async(&runtime).iter(async || {
            let status = guard.command("true").status().await.expect("it runs");
            assert!(status.success());
        });
    });

    group.bench_function("discard", |bencher| {
        bencher.to_async(&runtime).iter_custom(async |iterations| {
            let mut time = Duration::ZERO;
            for _ in 0..iterations {
                let guard = pool.acquire().await.expect("a container");
                let begun = Instant::now();
                guard.discard();
                time += begun.elapsed();
            }
            time
        });
    });

    group.bench_function("discard_replaced", |bencher| {
        bencher.to_async(&runtime).iter_custom(async |iterations| {
            let mut time = Duration::ZERO;
            for _ in 0..iterations {
                let guard = pool.acquire().await.expect("a container");
                let begun = Instant::now();
                guard.discard();
                let next = pool.acquire().await.expect("the next container");
                time += begun.elapsed();
                drop(next);
            }
            time
        });
    });
    group.finish();
    runtime.block_on(pool.shutdown()).expect("nothing is left");
}

criterion_group!(benches, engine);
criterion_main!(benches);
