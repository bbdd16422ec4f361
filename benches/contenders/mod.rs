//! The pools that the benchmarks compare. Each is used as its documentation shows.
//!
//! - `dockerpool`: this library on its engine in memory, which answers at once, so that the pool itself is measured.
//! - `mutex_vec`: the floor. A `parking_lot::Mutex<Vec>`, and a guard that pushes its item back on `Drop`. The guard
//!   holds the mutex by an `Arc`, so that it can be moved as freely as the others'. It has no limits, no queue and no
//!   broken items.
//! - `semaphore_vec`: `mutex_vec` with a fair queue, the least that lends asynchronously: a permit of a
//!   `tokio::sync::Semaphore` for each item, in an `Arc`, and a limit on the wait.
//! - `fastpool`: its bounded pool, with a manager as that of `deadpool`. It has no limit on the wait, so that
//!   `tokio::time::timeout` is around it.
//! - `deadpool`: its managed pool, with a manager that creates and recycles at once and never fails.
//! - `bb8`: its pool, with a manager that connects at once and finds every connection valid. The check at an acquire
//!   and the lifetimes are off: the check does no I/O here, and the others have neither.
//!
//! All keep items of 16 bytes that have an owner, run on the same runtime, and wait for at most 30 seconds.
#![allow(dead_code)] // each benchmark uses a part of this module
#![allow(deprecated)] // fastpool has no successor with a pool yet, and is among the fastest

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use dockerpool::testing::FakeEngine;
use dockerpool::{Pool, PooledContainer};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const PATIENCE: Duration = Duration::from_secs(30);

/// The item that the other pools lend.
pub type Item = Arc<str>;

fn item() -> Item {
    Arc::from("item")
}

pub trait Contender: Clone + Send + Sync + 'static {
    /// The pool's name in the results.
    const ID: &'static str;
    type Guard<'p>: Send;

    /// Makes a pool with so many idle items, which is also its limit.
    fn new(size: usize) -> impl Future<Output = Self>;
    fn acquire(&self) -> impl Future<Output = Self::Guard<'_>> + Send;
    /// Removes the item from the pool.
    fn discard(guard: Self::Guard<'_>);
}

/// Has the pool create all its items.
async fn warmed<C: Contender>(pool: C, size: usize) -> C {
    let mut guards = Vec::with_capacity(size);
    for _ in 0..size {
        guards.push(pool.acquire().await);
    }
    drop(guards);
    pool
}

#[derive(Clone)]
pub struct Dockerpool(pub Pool);

impl Contender for Dockerpool {
    const ID: &'static str = "dockerpool";
    type Guard<'p> = PooledContainer;

    async fn new(size: usize) -> Self {
        let pool = Pool::builder("bench")
            .image("any")
            .engine(Arc::new(FakeEngine::new()))
            .min_idle(0)
            .max_idle(size)
            .max_total(size)
            .acquire_timeout(PATIENCE)
            .build()
            .await
            .expect("the engine in memory does not fail");
        warmed(Self(pool), size).await
    }

    async fn acquire(&self) -> PooledContainer {
        self.0.acquire().await.expect("a container")
    }

    fn discard(guard: PooledContainer) {
        guard.discard();
    }
}

#[derive(Clone)]
pub struct MutexVec(Arc<Mutex<Vec<Item>>>);

pub struct MutexVecGuard {
    item: Option<Item>,
    home: Arc<Mutex<Vec<Item>>>,
}

impl Drop for MutexVecGuard {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.home.lock().push(item);
        }
    }
}

impl Contender for MutexVec {
    const ID: &'static str = "mutex_vec";
    type Guard<'p> = MutexVecGuard;

    async fn new(size: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![item(); size])))
    }

    async fn acquire(&self) -> MutexVecGuard {
        let item = self.0.lock().pop();
        MutexVecGuard {
            // Replaces the items that were discarded.
            item: Some(item.unwrap_or_else(self::item)),
            home: self.0.clone(),
        }
    }

    fn discard(mut guard: MutexVecGuard) {
        guard.item = None;
    }
}

#[derive(Clone)]
pub struct SemaphoreVec {
    permits: Arc<Semaphore>,
    items: Arc<Mutex<Vec<Item>>>,
}

pub struct SemaphoreVecGuard {
    item: Option<Item>,
    items: Arc<Mutex<Vec<Item>>>,
    // Dropped after the item is back.
    _permit: OwnedSemaphorePermit,
}

impl Drop for SemaphoreVecGuard {
    fn drop(&mut self) {
        if let Some(item) = self.item.take() {
            self.items.lock().push(item);
        }
    }
}

impl Contender for SemaphoreVec {
    const ID: &'static str = "semaphore_vec";
    type Guard<'p> = SemaphoreVecGuard;

    async fn new(size: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(size)),
            items: Arc::new(Mutex::new(vec![item(); size])),
        }
    }

    async fn acquire(&self) -> SemaphoreVecGuard {
        let permit = match self.permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let permit = tokio::time::timeout(PATIENCE, self.permits.clone().acquire_owned()).await;
                permit.expect("in time").expect("an open semaphore")
            }
        };
        let item = self.items.lock().pop();
        SemaphoreVecGuard {
            // Replaces the items that were discarded.
            item: Some(item.unwrap_or_else(self::item)),
            items: self.items.clone(),
            _permit: permit,
        }
    }

    fn discard(mut guard: SemaphoreVecGuard) {
        guard.item = None;
    }
}

#[derive(Clone)]
pub struct Fastpool(Arc<fastpool::bounded::Pool<Manager>>);

impl fastpool::ManageObject for Manager {
    type Object = Item;
    type Error = Infallible;

    async fn create(&self) -> Result<Item, Infallible> {
        Ok(item())
    }

    async fn is_recyclable(&self, _: &mut Item, _: &fastpool::ObjectStatus) -> Result<(), Infallible> {
        Ok(())
    }
}

impl Contender for Fastpool {
    const ID: &'static str = "fastpool";
    type Guard<'p> = fastpool::bounded::Object<Manager>;

    async fn new(size: usize) -> Self {
        let config = fastpool::bounded::PoolConfig::new(size);
        warmed(Self(fastpool::bounded::Pool::new(config, Manager)), size).await
    }

    async fn acquire(&self) -> Self::Guard<'_> {
        let object = tokio::time::timeout(PATIENCE, self.0.get()).await;
        object.expect("in time").expect("an item")
    }

    fn discard(guard: Self::Guard<'_>) {
        drop(guard.detach());
    }
}

#[derive(Clone)]
pub struct Deadpool(deadpool::managed::Pool<Manager>);

#[derive(Debug)]
pub struct Manager;

impl deadpool::managed::Manager for Manager {
    type Type = Item;
    type Error = Infallible;

    async fn create(&self) -> Result<Item, Infallible> {
        Ok(item())
    }

    async fn recycle(
        &self,
        _: &mut Item,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Infallible> {
        Ok(())
    }
}

impl Contender for Deadpool {
    const ID: &'static str = "deadpool";
    type Guard<'p> = deadpool::managed::Object<Manager>;

    async fn new(size: usize) -> Self {
        let pool = deadpool::managed::Pool::builder(Manager)
            .max_size(size)
            .wait_timeout(Some(PATIENCE))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .expect("a pool");
        warmed(Self(pool), size).await
    }

    async fn acquire(&self) -> Self::Guard<'_> {
        self.0.get().await.expect("an item")
    }

    fn discard(guard: Self::Guard<'_>) {
        drop(deadpool::managed::Object::take(guard));
    }
}

#[derive(Clone)]
pub struct Bb8(bb8::Pool<Manager>);

/// bb8 asks the manager whether a returned item is broken.
pub struct Connection {
    _item: Item,
    broken: bool,
}

impl bb8::ManageConnection for Manager {
    type Connection = Connection;
    type Error = Infallible;

    async fn connect(&self) -> Result<Connection, Infallible> {
        Ok(Connection {
            _item: item(),
            broken: false,
        })
    }

    async fn is_valid(&self, _: &mut Connection) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, connection: &mut Connection) -> bool {
        connection.broken
    }
}

impl Contender for Bb8 {
    const ID: &'static str = "bb8";
    type Guard<'p> = bb8::PooledConnection<'p, Manager>;

    async fn new(size: usize) -> Self {
        let pool = bb8::Pool::builder()
            .max_size(size as u32)
            .connection_timeout(PATIENCE)
            .test_on_check_out(false)
            .max_lifetime(None)
            .idle_timeout(None)
            .queue_strategy(bb8::QueueStrategy::Lifo)
            .build(Manager)
            .await
            .expect("a pool");
        warmed(Self(pool), size).await
    }

    async fn acquire(&self) -> Self::Guard<'_> {
        self.0.get().await.expect("a connection")
    }

    fn discard(mut guard: Self::Guard<'_>) {
        guard.broken = true;
    }
}
