//! Owned children and guards of the caller's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::{Command, Container, Guard, Pool, PooledContainer, Running};

/// Returns a pool of one container whose commands run for ever.
async fn pool(name: &str) -> (FakeEngine, Pool) {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::forever());
    let pool = Pool::builder(name)
        .image("any")
        .max_total(1)
        .engine(Arc::new(engine.clone()))
        .build()
        .await
        .unwrap();
    (engine, pool)
}

/// Says when its drop begins, and ends it when it is told to.
struct Slow {
    container: PooledContainer,
    begins: Option<tokio::sync::oneshot::Sender<()>>,
    may_end: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Guard for Slow {
    fn running(&self) -> &Container<Running> {
        &self.container
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.begins.take().unwrap().send(()).unwrap();
        // A minute is for a library whose only thread this is: the test has failed by then.
        let _ = self.may_end.get_mut().unwrap().recv_timeout(Duration::from_secs(60));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_that_is_slow_to_drop_holds_up_nobody_else() {
    let (_engine, first) = pool("slow").await;
    let (other_engine, other) = pool("other").await;
    other_engine.on_exec(|_| FakeProcess::exit(0));
    let c = other.acquire().await.unwrap();
    let (begins, begun) = tokio::sync::oneshot::channel();
    let (end, may_end) = std::sync::mpsc::channel();
    let guard = Slow {
        container: first.acquire().await.unwrap(),
        begins: Some(begins),
        may_end: may_end.into(),
    };
    drop(Command::new("x").spawn_owned(guard).await.unwrap());
    begun.await.unwrap();
    let status = tokio::time::timeout(Duration::from_secs(30), c.command("true").status()).await;
    assert!(status.expect("the drop holds up another pool").unwrap().success());
    end.send(()).unwrap();
}

struct Blocking(Option<PooledContainer>, Pool);

impl Guard for Blocking {
    fn running(&self) -> &Container<Running> {
        self.0.as_ref().unwrap()
    }
}

/// Waits for the pool in a plain thread's way, as code without a runtime does.
impl Drop for Blocking {
    fn drop(&mut self) {
        self.0.take().unwrap().discard();
        let _ = futures_util::future::FutureExt::now_or_never(self.1.acquire());
        let waited = futures_executor_block_on(self.1.acquire_timeout(Duration::from_secs(2)));
        DONE.fetch_add(1 + usize::from(waited), Ordering::SeqCst);
    }
}

static DONE: AtomicUsize = AtomicUsize::new(0);

/// A small `block_on`.
fn futures_executor_block_on<T, E>(future: impl Future<Output = Result<T, E>>) -> bool {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return result.is_ok();
        }
        std::thread::park_timeout(Duration::from_secs(60));
    }
}

/// On the library's thread such a guard waits for itself for ever, and with it every pool of the process.
#[test]
fn a_guard_that_waits_for_its_pool_in_drop_does_not_stop_the_library() {
    // In a process of its own, since it stops the library for good.
    if std::env::var_os("ATTACK_BLOCKING").is_none() {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "guard::a_guard_that_waits_for_its_pool_in_drop_does_not_stop_the_library",
                "--nocapture",
            ])
            .env("ATTACK_BLOCKING", "1")
            .spawn()
            .unwrap();
        for _ in 0..100 {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("the library's thread is stopped");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = FakeEngine::new();
        engine.on_exec(|_| FakeProcess::forever());
        let builder = Pool::builder("blocking").image("any").min_idle(0).max_total(1);
        let pool = builder.engine(Arc::new(engine)).build().await.unwrap();
        let guard = Blocking(Some(pool.acquire().await.unwrap()), pool.clone());
        let child = Command::new("x").spawn_owned(guard).await.unwrap();
        drop(child);
        while DONE.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(
            DONE.load(Ordering::SeqCst),
            2,
            "the acquire in the drop got a container"
        );
    });
}

struct Panicking(PooledContainer);

impl Guard for Panicking {
    fn running(&self) -> &Container<Running> {
        &self.0
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        panic!("in the drop of a guard");
    }
}

#[tokio::test]
async fn a_guard_that_panics_in_drop_loses_no_slot() {
    let (engine, pool) = pool("panics").await;
    for _ in 0..3 {
        let guard = Panicking(pool.acquire_timeout(Duration::from_secs(5)).await.unwrap());
        drop(Command::new("x").spawn_owned(guard).await.unwrap());
    }
    drop(pool.acquire_timeout(Duration::from_secs(5)).await.unwrap());
    pool.shutdown().await.unwrap();
    assert!(engine.containers().is_empty());
}

/// The reader of an output outlives its child and reads nothing.
#[tokio::test]
async fn an_output_that_nobody_reads_keeps_no_dropped_child() {
    let (engine, pool) = pool("unread").await;
    engine.on_exec(|_| FakeProcess::forever().stdout(vec![b'x'; 16 << 20]));
    let mut child = Command::new("x")
        .spawn_owned(pool.acquire().await.unwrap())
        .await
        .unwrap();
    let _stdout = child.stdout.take();
    drop(child);
    drop(pool.acquire_timeout(Duration::from_secs(5)).await.unwrap());
    // into_guard and detach too.
    let mut child = Command::new("x")
        .spawn_owned(pool.acquire().await.unwrap())
        .await
        .unwrap();
    let _stdout = child.stdout.take();
    drop(child.into_guard());
    drop(pool.acquire_timeout(Duration::from_secs(5)).await.unwrap());
    let mut child = Command::new("x")
        .spawn_owned(pool.acquire().await.unwrap())
        .await
        .unwrap();
    let _stdout = child.stdout.take();
    drop(child.detach());
    drop(pool.acquire_timeout(Duration::from_secs(5)).await.unwrap());
    pool.shutdown().await.unwrap();
}

/// Dropped after shutdown, in a panic, on a plain thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_dropped_anywhere_gives_its_slot_back() {
    let (engine, pool) = pool("anywhere").await;
    for way in 0..4 {
        let lease = pool.acquire_timeout(Duration::from_secs(5)).await.unwrap();
        let id = lease.id().to_owned();
        let child = Command::new("x").spawn_owned(lease).await.unwrap();
        match way {
            0 => std::thread::spawn(move || drop(child)).join().unwrap(),
            1 => drop(
                std::thread::spawn(move || {
                    let _child = child;
                    panic!("with a child");
                })
                .join(),
            ),
            2 => drop(
                tokio::spawn(async move {
                    let _child = child;
                    if way == 2 {
                        panic!("in a task")
                    }
                })
                .await
                .map(|never: ()| never),
            ),
            _ => drop(Box::new(child)),
        }
        let next = pool.acquire_timeout(Duration::from_secs(5)).await.unwrap();
        assert_ne!(next.id(), id, "{way}: the exec API cannot end it alone");
    }
    let child = Command::new("x")
        .spawn_owned(pool.acquire().await.unwrap())
        .await
        .unwrap();
    let _ = pool.shutdown_timeout(Duration::from_millis(100)).await;
    assert!(engine.containers().is_empty(), "{:?}", engine.containers());
    drop(child);
    assert!(pool.acquire().await.unwrap_err().is_shutdown());
}

/// The runtime that was given ends while an owned child lives.
#[test]
fn a_child_that_outlives_a_given_runtime_leaves_nothing() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::forever());
    for way in 0..4 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (pool, child) = runtime.block_on(async {
            let builder = Pool::builder("outlives")
                .image("any")
                .max_total(1)
                .tokio_runtime(runtime.handle().clone());
            let pool = builder.engine(Arc::new(engine.clone())).build().await.unwrap();
            let child = Command::new("x")
                .spawn_owned(Arc::new(pool.acquire().await.unwrap()))
                .await
                .unwrap();
            (pool, child)
        });
        if way % 2 == 0 {
            drop(runtime);
        } else {
            runtime.shutdown_background();
        }
        if way < 2 {
            drop(child);
        } else {
            drop(child.into_guard());
        }
        drop(pool);
        let begun = Instant::now();
        while !engine.containers().is_empty() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{way}: {:?}",
                engine.containers()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
