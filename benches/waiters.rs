//! Measures the memory of acquires that wait, beside other pools: 10,000 of them, each in a task of its own. [`contenders`]
//! describes the setup of each pool. An allocator counts the bytes, so that no other program disturbs the numbers.

mod contenders;

use std::alloc::System;

use contenders::{Bb8, Contender, Deadpool, Dockerpool, Fastpool, SemaphoreVec};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, yield_now};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WAITERS: usize = 10_000;

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// Returns the bytes for each acquire that waits.
fn bytes<C: Contender>() -> f64 {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let pool = C::new(1).await;
        let held = pool.acquire().await;
        let mut set = JoinSet::new();
        let before = allocated();
        for _ in 0..WAITERS {
            let pool = pool.clone();
            set.spawn(async move { drop(pool.acquire().await) });
        }
        // This task is polled again once all others were.
        for _ in 0..10 {
            yield_now().await;
        }
        let bytes = allocated() - before;
        assert!(set.try_join_next().is_none(), "all wait");
        drop(held);
        set.join_all().await;
        bytes as f64 / WAITERS as f64
    })
}

fn main() {
    println!("| waiters | bytes each |\n|---|---:|");
    for (id, bytes) in [
        (Dockerpool::ID, bytes::<Dockerpool>()),
        (SemaphoreVec::ID, bytes::<SemaphoreVec>()),
        (Fastpool::ID, bytes::<Fastpool>()),
        (Bb8::ID, bytes::<Bb8>()),
        (Deadpool::ID, bytes::<Deadpool>()),
    ] {
        println!("| {id} | {bytes:.0} |");
    }
}
