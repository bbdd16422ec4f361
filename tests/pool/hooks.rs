//! The calls of the user's functions for each container: before its first lease, and after each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{eventually, eventually_now};
use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::{Adopt, EngineError, EngineErrorKind, Error, HookContainer, Pool, PoolBuilder, Return, Reuse};
use parking_lot::Mutex;

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("hooks").image("any").engine(Arc::new(engine.clone()))
}

/// Collects the errors of background tasks, each by its kind and its words.
fn errors() -> (Arc<Mutex<Vec<String>>>, impl Fn(&Error) + Send + Sync + 'static) {
    let told = Arc::<Mutex<Vec<_>>>::default();
    let tell = told.clone();
    (told, move |error| tell.lock().push(error.to_string()))
}

fn words_of(error: &Error) -> String {
    let source = error.engine_error().unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(source.kind(), EngineErrorKind::HookFailed, "{source}");
    source.to_string()
}

#[tokio::test]
async fn on_create_is_called_once_with_each_container_before_it_is_lent() {
    let engine = FakeEngine::new();
    let ran = Arc::<Mutex<Vec<String>>>::default();
    let running = ran.clone();
    engine.on_exec(move |request| {
        running.lock().push(request.argv.join(" "));
        FakeProcess::exit(0)
    });
    let pool = fake_pool(&engine)
        .reuse(Reuse::AsIs)
        .min_idle(2)
        .max_total(2)
        .on_create(async |c| {
            let _ = c.exec(["create", "tables"]).await?.check()?;
            Ok(())
        })
        .build()
        .await
        .unwrap();
    assert_eq!((pool.idle_count(), ran.lock().len()), (2, 2));
    for _ in 0..3 {
        let c = pool.acquire().await.unwrap();
        assert!(c.exec(["query"]).await.unwrap().status.success());
    }
    let created = ran.lock().iter().filter(|argv| *argv == "create tables").count();
    assert_eq!((created, ran.lock().len()), (2, 5));
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_lease_without_a_command_leaves_a_container_as_on_create_has_made_it() {
    let engine = FakeEngine::new();
    let builder = fake_pool(&engine).max_total(1).reuse(Reuse::Clean);
    let pool = builder
        .on_create(async |c| {
            let _ = c.exec(["create"]).await?.check()?;
            Ok(())
        })
        .build()
        .await
        .unwrap();
    let first = pool.acquire().await.unwrap().id().to_owned();
    let c = pool.acquire().await.unwrap();
    assert_eq!(c.id(), first);
    // What the command could have changed of it is not known.
    assert!(c.exec(["query"]).await.unwrap().status.success());
    drop(c);
    assert_ne!(pool.acquire().await.unwrap().id(), first);
    let why = pool.last_unclean().unwrap().to_string();
    assert!(why.contains("on_create() has run commands"), "{why}");
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_failing_on_create_is_a_failed_creation() {
    type Hook = fn(HookContainer) -> dockerpool::engine::BoxFuture<'static, Result<(), dockerpool::HookError>>;
    let hooks: [(Hook, &str); 6] = [
        (
            |_| Box::pin(async { Err("no schema".into()) }),
            "on_create() failed: no schema",
        ),
        (
            |c| {
                Box::pin(async move {
                    let _ = c.exec(["fail"]).await?.check()?;
                    Ok(())
                })
            },
            "exited with 3",
        ),
        (
            |_| Box::pin(async { panic!("out of {}", "coal") }),
            "on_create() failed: it panicked: out of coal",
        ),
        (|_| panic!("no future"), "on_create() failed: it panicked: no future"),
        (
            |_c| Box::pin(std::future::pending()),
            "on_create() failed: it did not end within 300 ms",
        ),
        (
            |c| {
                Box::pin(async move {
                    std::mem::forget(c);
                    Ok(())
                })
            },
            "on_create() failed: it has kept its container",
        ),
    ];
    for (hook, words) in hooks {
        let engine = FakeEngine::new();
        engine.on_exec(|_| FakeProcess::exit(3));
        let (told, on_error) = errors();
        let builder = fake_pool(&engine)
            .hook_timeout(Duration::from_millis(300))
            .on_error(on_error)
            .on_create(hook);
        let error = builder.clone().build().await.unwrap_err();
        assert!(words_of(&error).contains(words), "{error}");
        assert!(error.is_retryable());
        eventually_now("the container is removed", || engine.containers().is_empty()).await;

        let pool = builder.min_idle(0).max_total(1).build().await.unwrap();
        let error = pool.acquire_timeout(Duration::from_millis(1500)).await.unwrap_err();
        assert!(error.is_timeout() && words_of(&error).contains(words), "{error}");
        assert!(pool.status().lifetime.create_failures > 0);
        pool.shutdown().await.unwrap();
        eventually_now("nothing is left", || engine.containers().is_empty()).await;
        assert!(told.lock().iter().all(|error| error.contains(words)), "{told:?}");
    }
}

#[tokio::test]
async fn a_command_that_on_create_leaves_fails_the_creation() {
    let engine = FakeEngine::new();
    engine.on_exec(|_| FakeProcess::forever());
    let builder = fake_pool(&engine).on_create(async |c| {
        let mut serve = c.command("serve");
        serve.spawn().await?.detach();
        Ok(())
    });
    let words = words_of(&builder.build().await.unwrap_err());
    assert!(words.contains("it has left commands that run"), "{words}");
    eventually_now("the container is removed", || engine.containers().is_empty()).await;
}

#[tokio::test]
async fn a_hook_may_block_and_other_pools_go_on() {
    let (engine, other) = (FakeEngine::new(), FakeEngine::new());
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let builder = fake_pool(&engine).on_create(move |_c| {
        let wait = wait.clone();
        async move {
            wait.lock().recv()?;
            Ok(())
        }
    });
    let blocked = tokio::spawn(builder.build());
    eventually_now("the hook is called", || !engine.containers().is_empty()).await;
    let beside = fake_pool(&other).build().await.unwrap();
    drop(beside.acquire().await.unwrap());
    beside.shutdown().await.unwrap();
    assert!(!blocked.is_finished());
    go_on.send(()).unwrap();
    blocked.await.unwrap().unwrap().shutdown().await.unwrap();
}

#[tokio::test]
async fn on_return_is_called_after_each_lease_and_decides() {
    let engine = FakeEngine::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let count = calls.clone();
    let pool = fake_pool(&engine)
        .reuse(Reuse::AsIs)
        .max_total(1)
        .on_return(move |c| {
            let call = count.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(c.exec(["flushall"]).await.is_ok_and(|out| out.status.success()));
                match call {
                    0 | 1 => Return::Keep,
                    _ => Return::Discard,
                }
            }
        })
        .build()
        .await
        .unwrap();
    let mut ids = Vec::new();
    for _ in 0..4 {
        // The next lease waits for the hook.
        ids.push(pool.acquire().await.unwrap().id().to_owned());
    }
    eventually_now("the last one is given up", || calls.load(Ordering::Relaxed) == 4).await;
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
    eventually_now("it is replaced", || pool.idle_count() == 1).await;
    let lifetime = pool.status().lifetime;
    assert_eq!(
        (lifetime.returned, lifetime.discarded, lifetime.cleaned),
        (2, 2, 0),
        "{lifetime:?}"
    );
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn on_return_never_delays_the_borrower() {
    let engine = FakeEngine::new();
    let (go_on, wait) = tokio::sync::watch::channel(false);
    let pool = fake_pool(&engine)
        .reuse(Reuse::AsIs)
        .max_total(2)
        .on_return(move |_c| {
            let mut wait = wait.clone();
            async move {
                wait.wait_for(|go_on| *go_on).await.unwrap();
                Return::Keep
            }
        })
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let first = c.id().to_owned();
    drop(c);
    assert_eq!(pool.status().cleaning, 1);
    // Another one is made meanwhile.
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), first);
    go_on.send(true).unwrap();
    eventually_now("it is idle again", || pool.idle_count() == 1).await;
    assert_eq!(pool.acquire().await.unwrap().id(), first);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_failing_on_return_is_told_and_costs_the_container() {
    type Hook = fn(HookContainer) -> dockerpool::engine::BoxFuture<'static, Return>;
    let hooks: [(Hook, &str); 3] = [
        (
            |_| Box::pin(async { panic!("out of coal") }),
            "on_return() failed: it panicked: out of coal",
        ),
        (
            |_c| Box::pin(std::future::pending()),
            "on_return() failed: it did not end within 100 ms",
        ),
        (
            |c| {
                Box::pin(async move {
                    std::mem::forget(c);
                    Return::Keep
                })
            },
            "on_return() failed: it has kept its container",
        ),
    ];
    for (hook, words) in hooks {
        let engine = FakeEngine::new();
        let (told, on_error) = errors();
        let pool = fake_pool(&engine)
            .reuse(Reuse::AsIs)
            .max_total(1)
            .hook_timeout(Duration::from_millis(100))
            .on_error(on_error)
            .on_return(hook)
            .build()
            .await
            .unwrap();
        let first = pool.acquire().await.unwrap().id().to_owned();
        assert_ne!(pool.acquire().await.unwrap().id(), first);
        eventually_now("it is told", || told.lock().iter().any(|error| error.contains(words))).await;
        pool.shutdown().await.unwrap();
        eventually_now("nothing is left", || engine.containers().is_empty()).await;
    }
}

#[tokio::test]
async fn on_return_is_not_called_for_what_is_not_lent_again() {
    let engine = FakeEngine::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let with_hook = |reuse| {
        let calls = calls.clone();
        fake_pool(&engine).reuse(reuse).max_total(1).on_return(move |_c| {
            calls.fetch_add(1, Ordering::Relaxed);
            async { Return::Keep }
        })
    };
    let never = with_hook(Reuse::Never).build().await.unwrap();
    drop(never.acquire().await.unwrap());
    drop(never.acquire().await.unwrap());
    never.shutdown().await.unwrap();
    let as_is = with_hook(Reuse::AsIs).build().await.unwrap();
    as_is.acquire().await.unwrap().discard();
    let c = as_is.acquire().await.unwrap();
    engine.end_container(c.id());
    eventually("its end is seen", async || c.taint().is_some()).await;
    drop(c);
    drop(as_is.acquire().await.unwrap());
    eventually_now("it is back", || as_is.idle_count() == 1).await;
    as_is.shutdown().await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_hook_ends_with_its_pool() {
    let engine = FakeEngine::new();
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    /// Counts when it is dropped.
    struct Counts(Arc<AtomicUsize>);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (begins, ends) = (begun.clone(), ended.clone());
    let pool = fake_pool(&engine)
        .reuse(Reuse::AsIs)
        .on_return(move |_c| {
            let counts = Counts(ends.clone());
            begins.fetch_add(1, Ordering::Relaxed);
            async move {
                let _counts = counts;
                std::future::pending().await
            }
        })
        .build()
        .await
        .unwrap();
    drop(pool.acquire().await.unwrap());
    eventually_now("it is called", || begun.load(Ordering::Relaxed) == 1).await;
    pool.shutdown_timeout(Duration::ZERO).await.unwrap();
    eventually_now("it is dropped", || ended.load(Ordering::Relaxed) == 1).await;
    assert!(engine.containers().is_empty());
}

/// Counts when it is dropped.
struct Drops(Arc<AtomicUsize>);

impl Drop for Drops {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_on_create_that_never_ends_is_given_up_when_its_pool_ends() {
    let engine = FakeEngine::new();
    let (told, on_error) = errors();
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = dropped.clone();
    let long = Duration::from_secs(3600);
    let builder = fake_pool(&engine).tokio_runtime(tokio::runtime::Handle::current());
    let builder = builder.min_idle(0).hook_timeout(long).acquire_timeout(long);
    let pool = builder
        .on_error(on_error)
        .on_create(move |c| {
            let drops = Drops(drops.clone());
            async move {
                let _kept = (c, drops);
                std::future::pending().await
            }
        })
        .build()
        .await
        .unwrap();
    let (acquired, ()) = tokio::join!(pool.acquire(), async {
        let timeout = pool.acquire_timeout(Duration::from_secs(5)).await.unwrap_err();
        let source = timeout.engine_error().map(|error| (error.kind(), error.to_string()));
        let words = "not ready yet: on_create() has not ended yet".to_owned();
        assert_eq!(source, Some((EngineErrorKind::NotReady, words)));
        let shown = timeout.to_string();
        assert!(
            shown.contains(
                "; the one being created is not ready yet: on_create() has not ended yet (see acquire_timeout()"
            ),
            "{shown}"
        );
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        let begun = tokio::time::Instant::now();
        pool.shutdown().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    });
    assert!(matches!(acquired, Err(Error::Shutdown { .. })), "{acquired:?}");
    // One creation for each of the two that waited.
    assert_eq!(dropped.load(Ordering::Relaxed), 2);
    assert!(engine.containers().is_empty() && told.lock().is_empty(), "{told:?}");
    let status = pool.status();
    assert_eq!((status.total(), status.lifetime.create_failures), (0, 0), "{status:?}");
}

#[tokio::test]
async fn an_on_create_that_blocks_does_not_hold_up_the_end_of_its_pool() {
    let engine = FakeEngine::new();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let builder = fake_pool(&engine).min_idle(0).max_total(1).on_create(move |_c| {
        let wait = wait.clone();
        async move {
            wait.lock().recv()?;
            Ok(())
        }
    });
    let pool = builder.build().await.unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await }
    });
    let is_called = || pool.status().creating == 1 && !engine.containers().is_empty();
    eventually_now("a container is created", is_called).await;
    let begun = std::time::Instant::now();
    pool.shutdown().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let acquired = waiting.await.unwrap();
    assert!(matches!(acquired, Err(Error::Shutdown { .. })), "{acquired:?}");
    assert!(engine.containers().is_empty());
    // The thread goes on until the hook lets it.
    drop(go_on);
}

#[tokio::test]
async fn hooks_run_on_a_given_runtime() {
    let engine = FakeEngine::new();
    let here = std::thread::current().id();
    let pool = fake_pool(&engine)
        .tokio_runtime(tokio::runtime::Handle::current())
        .on_create(move |_c| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(std::thread::current().id(), here);
            Ok(())
        })
        .build()
        .await
        .unwrap();
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn bad_settings_of_hooks_are_named() {
    let engine = FakeEngine::new();
    let refused = async |builder: PoolBuilder| match builder.build().await {
        Err(Error::Config(problems)) => problems.iter().map(|problem| problem.field().to_owned()).collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(
        refused(fake_pool(&engine).hook_timeout(Duration::ZERO)).await,
        ["hook_timeout"]
    );
    let adopted = fake_pool(&engine).cmd(["serve"]).adopt(Adopt::Clean);
    assert_eq!(refused(adopted.on_create(async |_c| Ok(()))).await, ["adopt"]);
    let kind = EngineError::new(EngineErrorKind::HookFailed, "").kind();
    assert_eq!(kind, EngineErrorKind::HookFailed);
}
