//! Leases with a key: the container of a key is kept as it is, for nobody else.

use std::sync::Arc;
use std::time::Duration;

use crate::support::{self, eventually, eventually_now};
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{Error, ExitStatus, Lease, Pool, PoolBuilder, PooledContainer, Reuse, Taint};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::sleep;

const KEEP: Duration = Duration::from_secs(60);

fn fake_pool(engine: &FakeEngine) -> PoolBuilder {
    Pool::builder("keys")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .min_idle(0)
        .keep_for(KEEP)
        .acquire_timeout(Duration::from_secs(5))
}

fn acquire_for(pool: &Pool, key: &'static str) -> JoinHandle<Result<PooledContainer, Error>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire_for(key).await })
}

fn is_there(engine: &FakeEngine, id: &str) -> bool {
    engine.containers().iter().any(|container| container.id == id)
}

/// Ends a lease of this key, and returns the id of its container.
async fn lease(pool: &Pool, key: &str) -> String {
    let c = pool.acquire_for(key).await.unwrap();
    // A container without a command would need no cleaning.
    assert!(c.command("true").status().await.unwrap().success());
    c.id().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_key_gets_its_container_again_and_nobody_else_does() {
    for reuse in [Reuse::Clean, Reuse::AsIs, Reuse::Never] {
        let engine = FakeEngine::new();
        let pool = fake_pool(&engine).reuse(reuse).build().await.unwrap();
        let first = lease(&pool, "a").await;
        assert_eq!((pool.status().kept, pool.status().idle), (1, 0));
        let other = pool.acquire().await.unwrap();
        let of_b = pool.acquire_for("b").await.unwrap();
        assert!(other.id() != first && of_b.id() != first);
        assert!(!of_b.is_resumed() && !other.is_resumed());
        let again = pool.acquire_for("a").await.unwrap();
        assert!(again.is_resumed());
        assert_eq!(again.id(), first, "{reuse:?}");
        assert_eq!(pool.status().kept, 0);
        drop((again, of_b, other));
        pool.shutdown().await.unwrap();
        assert!(engine.containers().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn one_key_has_one_lease_at_a_time_in_the_order_of_the_acquires() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let first = pool.acquire_for("a").await.unwrap();
    let id = first.id().to_owned();
    let mut waiters = Vec::new();
    for _ in 0..3 {
        waiters.push(acquire_for(&pool, "a"));
        tokio::task::yield_now().await;
    }
    assert_eq!(pool.status().total(), 1);
    drop(first);
    for waiter in waiters {
        let next = waiter.await.unwrap().unwrap();
        assert!(next.is_resumed());
        assert_eq!(next.id(), id);
    }

    // An acquire that gives up, or is dropped, costs nobody anything.
    let held = pool.acquire_for("a").await.unwrap();
    let error = pool.acquire_for("a").await.unwrap_err();
    let Error::AcquireTimeout(timeout) = &error else {
        panic!("{error:?}")
    };
    assert!(timeout.key_in_use && error.is_retryable(), "{error}");
    assert!(
        error.to_string().ends_with("did not end: give it back sooner"),
        "{error}"
    );
    assert_eq!(pool.status().lifetime.acquire_timeouts, 1);
    let dropped = acquire_for(&pool, "a");
    tokio::task::yield_now().await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    drop(held);
    assert!(pool.acquire_for("a").await.unwrap().is_resumed());
}

#[tokio::test(start_paused = true)]
async fn a_container_is_kept_for_its_time_and_not_longer() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    let first = lease(&pool, "a").await;
    sleep(KEEP / 2).await;
    let second = lease(&pool, "b").await;
    sleep(KEEP / 2 - Duration::from_millis(1)).await;
    assert_eq!(pool.status().kept, 2);
    sleep(Duration::from_millis(2)).await;
    eventually_now("the first is replaced", || pool.status().total() == 1).await;
    assert!(!is_there(&engine, &first) && is_there(&engine, &second));
    // A lease begins the time anew.
    assert_eq!(lease(&pool, "b").await, second);
    sleep(KEEP - Duration::from_millis(1)).await;
    assert_eq!(pool.status().kept, 1);
    sleep(Duration::from_millis(2)).await;
    eventually_now("the second is replaced", || pool.status().total() == 0).await;
    let status = pool.status();
    assert_eq!((status.lifetime.returned, status.lifetime.discarded), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn the_oldest_gives_way_beyond_the_maximum() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_kept(2).build().await.unwrap();
    let of_a = lease(&pool, "a").await;
    let of_b = lease(&pool, "b").await;
    // Kept last from now on.
    assert_eq!(lease(&pool, "a").await, of_a);
    lease(&pool, "c").await;
    eventually_now("one is replaced", || pool.status().total() == 2).await;
    assert!(!is_there(&engine, &of_b));
    assert!(pool.acquire_for("a").await.unwrap().is_resumed());
    assert!(!pool.acquire_for("b").await.unwrap().is_resumed());

    let none = fake_pool(&engine).max_kept(0).build().await.unwrap();
    lease(&none, "a").await;
    assert_eq!(none.status().kept, 0);
}

#[tokio::test(start_paused = true)]
async fn kept_containers_give_way_to_acquires_that_wait_and_to_no_others() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_total(3).min_idle(1).build().await.unwrap();
    let of_a = lease(&pool, "a").await;
    let of_b = lease(&pool, "b").await;
    eventually_now("the minimum is there", || pool.status().idle == 1).await;
    assert_eq!(pool.status().kept, 2);
    // One is idle: nothing gives way.
    let first = pool.acquire().await.unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(pool.status().kept, 2, "not even to the minimum");
    // The one that was kept longest gives way to the next.
    let second = pool.acquire().await.unwrap();
    assert_eq!(pool.status().kept, 1);
    assert!(!is_there(&engine, &of_a));
    let again = pool.acquire_for("b").await.unwrap();
    assert_eq!(again.id(), of_b);
    drop((first, second, again));

    // A lease that ends while somebody waits for room gives way at once.
    let only = fake_pool(&engine).max_total(1).build().await.unwrap();
    let held = only.acquire_for("a").await.unwrap();
    assert!(held.command("true").status().await.unwrap().success());
    let waiter = tokio::spawn({
        let only = only.clone();
        async move { only.acquire().await }
    });
    eventually_now("somebody waits", || only.status().waiting == 1).await;
    drop(held);
    drop(waiter.await.unwrap().unwrap());
    assert_eq!(only.status().kept, 0);
}

/// A key that is used without a pause would otherwise keep everybody else waiting.
#[tokio::test(start_paused = true)]
async fn a_key_whose_container_gives_way_does_not_get_it_first() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_total(1).build().await.unwrap();
    let held = pool.acquire_for("a").await.unwrap();
    assert!(held.command("true").status().await.unwrap().success());
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    eventually_now("somebody waits", || pool.status().waiting == 1).await;
    // Nothing else runs between these two.
    drop(held);
    let again = pool.acquire_for("a").await.unwrap();
    assert!(!again.is_resumed());
    waiter.await.unwrap().unwrap();
    assert_eq!(pool.status().lifetime.lent, 3);
    drop(again);
    assert!(pool.acquire_for("a").await.unwrap().is_resumed(), "nobody waits");
}

/// One acquire waits, and two leases end at once.
#[tokio::test(start_paused = true)]
async fn no_more_containers_give_way_than_acquires_wait() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).max_total(2).build().await.unwrap();
    let of_a = pool.acquire_for("a").await.unwrap();
    let of_b = pool.acquire_for("b").await.unwrap();
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire().await }
    });
    eventually_now("somebody waits", || pool.status().waiting == 1).await;
    drop((of_a, of_b));
    let other = waiter.await.unwrap().unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!((pool.status().kept, pool.status().in_use), (1, 1));
    assert!(pool.acquire_for("b").await.unwrap().is_resumed(), "kept last");
    drop(other);
}

/// The watchdog has taken the container back. A guard that is forgotten or still held has no lease any more.
#[tokio::test(start_paused = true)]
async fn a_key_whose_lease_was_taken_back_is_free() {
    let limit = Duration::from_secs(7);
    for (max_lease, of_lease) in [(Some(limit), None), (None, Some(limit)), (Some(limit * 2), Some(limit))] {
        for forget in [false, true] {
            let engine = FakeEngine::new();
            let pool = fake_pool(&engine).max_lease(max_lease).acquire_timeout(limit * 10);
            let pool = pool.build().await.unwrap();
            let held = pool
                .acquire_with(Lease::new().key("a").timeout(of_lease))
                .await
                .unwrap();
            let id = held.id().to_owned();
            let held = match forget {
                true => {
                    std::mem::forget(held);
                    None
                }
                false => Some(held),
            };
            let waiter = acquire_for(&pool, "a");
            sleep(limit - Duration::from_millis(1)).await;
            assert!(!waiter.is_finished());
            sleep(Duration::from_secs(1)).await;
            assert!(waiter.is_finished(), "{max_lease:?} {of_lease:?} {forget}");
            let next = waiter.await.unwrap().unwrap();
            assert!(!next.is_resumed() && next.id() != id);
            // A late end of the old lease is not one of the new lease.
            let waiter = acquire_for(&pool, "a");
            drop(held);
            sleep(Duration::from_millis(1)).await;
            assert!(!waiter.is_finished());
            let id = next.id().to_owned();
            drop(next);
            let again = waiter.await.unwrap().unwrap();
            assert!(again.is_resumed() && again.id() == id);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_must_not_be_lent_again_is_not_kept() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    pool.acquire_for("a").await.unwrap().discard();
    assert!(!pool.acquire_for("a").await.unwrap().is_resumed(), "discarded");
    assert!(pool.forget("a"));

    let tainted = pool.acquire_for("a").await.unwrap();
    engine.on_exec(|_| FakeProcess::forever());
    let status = tainted
        .command("x")
        .timeout(Duration::from_secs(1))
        .status()
        .await
        .unwrap();
    assert_eq!(status, ExitStatus::TimedOut);
    assert!(tainted.taint().is_some());
    drop(tainted);
    assert!(!pool.acquire_for("a").await.unwrap().is_resumed(), "tainted");

    // The container dies while it is kept.
    let id = pool.acquire_for("a").await.unwrap().id().to_owned();
    assert_eq!(pool.status().kept, 1);
    engine.end_container(&id);
    eventually_now("the death is noticed", || pool.status().total() == 0).await;
    assert!(!pool.acquire_for("a").await.unwrap().is_resumed(), "dead");

    // A refresh lets the key have it once more.
    let id = pool.acquire_for("a").await.unwrap().id().to_owned();
    pool.refresh().await.unwrap();
    let old = pool.acquire_for("a").await.unwrap();
    assert!(old.is_resumed() && old.id() == id);
    drop(old);
    assert!(
        !pool.acquire_for("a").await.unwrap().is_resumed(),
        "of an old generation"
    );

    // Taken out for good.
    drop(pool.acquire_for("a").await.unwrap().into_inner());
    assert!(!pool.acquire_for("a").await.unwrap().is_resumed(), "taken");
}

#[tokio::test(start_paused = true)]
async fn a_key_can_be_forgotten_before_during_and_after_a_lease() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    assert!(!pool.forget("a"));
    let id = lease(&pool, "a").await;
    assert!(pool.forget("a"));
    assert!(!pool.forget("a"));
    eventually_now("the container is replaced", || pool.status().total() == 0).await;
    assert!(!is_there(&engine, &id));

    let held = pool.acquire_for("a").await.unwrap();
    assert!(held.command("true").status().await.unwrap().success());
    let waiter = acquire_for(&pool, "a");
    tokio::task::yield_now().await;
    assert!(pool.forget("a"));
    let id = held.id().to_owned();
    drop(held);
    let next = waiter.await.unwrap().unwrap();
    assert!(!next.is_resumed() && next.id() != id);
    drop(next);
    assert!(
        pool.acquire_for("a").await.unwrap().is_resumed(),
        "only that lease was meant"
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_leases_keys_and_those_who_wait() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    lease(&pool, "kept").await;
    let held = pool.acquire_for("a").await.unwrap();
    let waiter = acquire_for(&pool, "a");
    tokio::task::yield_now().await;
    let shutdown = tokio::spawn({
        let pool = pool.clone();
        async move { pool.shutdown().await }
    });
    assert!(waiter.await.unwrap().unwrap_err().is_shutdown());
    eventually_now("the kept one is removed", || pool.status().total() == 1).await;
    drop(held);
    shutdown.await.unwrap().unwrap();
    assert!(pool.acquire_for("a").await.unwrap_err().is_shutdown());
    assert!(engine.containers().is_empty());

    // Dropping the pool does the same.
    let pool = fake_pool(&engine).build().await.unwrap();
    lease(&pool, "a").await;
    let held = pool.acquire_for("b").await.unwrap();
    drop(pool);
    drop(held);
    eventually_now("nothing is left", || engine.containers().is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_has_a_limit_of_its_own_and_the_shorter_one_counts() {
    let engine = FakeEngine::new();
    for (of_pool, of_lease, expected) in [(None, 7, 7), (Some(20), 7, 7), (Some(5), 7, 5)] {
        let pool = fake_pool(&engine)
            .max_lease(of_pool.map(Duration::from_secs))
            .build()
            .await
            .unwrap();
        // A longer lease that began before is not taken back sooner, and hides no shorter one.
        let longer = Lease::new().timeout(Duration::from_secs(of_pool.unwrap_or(60)));
        let longer = pool.acquire_with(longer).await.unwrap();
        let c = pool
            .acquire_with(Lease::new().timeout(Duration::from_secs(of_lease)))
            .await
            .unwrap();
        sleep(Duration::from_secs(expected) - Duration::from_millis(1)).await;
        assert_eq!(c.taint(), None, "{of_pool:?}");
        sleep(Duration::from_millis(2)).await;
        assert_eq!(c.taint(), Some(Taint::LeaseExpired), "{of_pool:?}");
        assert_eq!(longer.taint().is_some(), of_pool == Some(5));
    }
}

#[tokio::test(start_paused = true)]
async fn variables_of_a_lease_reach_its_commands_and_no_later_ones() {
    let engine = FakeEngine::new();
    engine.on_exec(|request| FakeProcess::exit(0).stdout(request.env.join(" ")));
    let pool = fake_pool(&engine).reuse(Reuse::AsIs).build().await.unwrap();
    let c = pool
        .acquire_with(Lease::new().env("A", "1").env("B", "lease").env("A", "2"))
        .await
        .unwrap();
    let id = c.id().to_owned();
    let env = async |c: &PooledContainer| c.command("env").env("B", "own").output_string().await.unwrap();
    assert_eq!(env(&c).await, "A=2 B=own");
    assert_eq!(c.command("env").env_clear().output_string().await.unwrap(), "");
    drop(c);
    let next = pool.acquire().await.unwrap();
    assert_eq!(next.id(), id);
    assert_eq!(env(&next).await, "B=own");
    drop(next);

    // Also where the container is kept for a key.
    drop(pool.acquire_with(Lease::new().key("k").env("A", "1")).await.unwrap());
    let again = pool.acquire_for("k").await.unwrap();
    assert!(again.is_resumed());
    assert_eq!(env(&again).await, "B=own");
}

#[tokio::test(start_paused = true)]
async fn variables_of_a_lease_and_a_container_count_as_those_of_a_command() {
    let engine = FakeEngine::new();
    let piece = "x".repeat(100 << 10);
    let pool = fake_pool(&engine)
        .env("OF_CONTAINER", piece.clone())
        .build()
        .await
        .unwrap();
    let mut lease = Lease::new();
    for i in 0..9 {
        lease = lease.env(format!("OF_LEASE{i}"), piece.clone());
    }
    let c = pool.acquire_with(lease).await.unwrap();
    let fits = vec![piece.clone(); 9];
    drop(c.command("any").args(&fits).output().await.unwrap());
    let too_many = vec![piece; 10];
    let error = c.command("any").args(&too_many).output().await.unwrap_err();
    let Error::BadCommand { problem, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(problem.field(), "arg 10");
    assert!(
        error
            .to_string()
            .contains("with that of the container and of its lease"),
        "{error}"
    );
    // Without these variables they fit.
    drop(c.command("any").args(&too_many).env_clear().output().await.unwrap());
    assert_eq!(c.taint(), None);
}

#[tokio::test(start_paused = true)]
async fn bad_leases_are_refused_by_name_before_anything_is_done() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).tmpfs("/work", 1 << 20).build().await.unwrap();
    let as_is = fake_pool(&engine)
        .tmpfs("/work", 1 << 20)
        .reuse(Reuse::AsIs)
        .build()
        .await
        .unwrap();
    let fields = async |pool: &Pool, lease: Lease| {
        let error = pool.acquire_with(lease).await.unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
        let Error::Config(problems) = error else {
            panic!("{error:?}")
        };
        problems
            .iter()
            .map(|problem| problem.field().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(fields(&pool, Lease::new().key("")).await, ["key"]);
    assert_eq!(fields(&pool, Lease::new().timeout(Duration::ZERO)).await, ["timeout"]);
    let bad = Lease::new().env("", "s3cret").env("A=B", "s3cret").env("A", "s3cret\0");
    assert_eq!(fields(&pool, bad).await, ["env 1", "env 2", "env 3"]);
    for path in [
        "work/a",
        "/work/../etc/a",
        "/work/a\0",
        "/work/",
        "/work",
        "/",
        "",
        "/etc/a",
        "/workshop/a",
    ] {
        let lease = Lease::new().secret_file(path, "s3cret");
        assert_eq!(fields(&pool, lease).await.len(), 1, "{path:?}");
    }
    for path in ["a", "/a/../b", "/a\0", "/a/"] {
        assert_eq!(
            fields(&pool, Lease::new().file(path, "s3cret")).await.len(),
            1,
            "{path:?}"
        );
    }
    // Of the machine, of other containers, or covered by what other containers have mounted.
    for (config, path) in [
        (json!({"IpcMode": "host"}), "/dev/shm/a"),
        (json!({"IpcMode": "container:x"}), "/dev/shm/a"),
        (json!({"IpcMode": "shareable"}), "/dev/shm/a"),
        (json!({"VolumesFrom": ["x"]}), "/work/a"),
        (json!({"Binds": ["/srv:/work/in"]}), "/work/in/a"),
    ] {
        let pool = fake_pool(&engine).tmpfs("/work", 1 << 20);
        let pool = pool.raw_config(json!({"HostConfig": config})).build().await.unwrap();
        let lease = Lease::new().secret_file(path, "s3cret");
        assert_eq!(fields(&pool, lease).await.len(), 1, "{config}");
    }
    let good = || Lease::new().secret_file("/work/a", "s3cret");
    assert_eq!(fields(&as_is, good()).await, ["secret_file 1 (/work/a)"]);
    assert_eq!(fields(&pool, good().key("k")).await, ["secret_file 1 (/work/a)"]);
    assert_eq!(engine.calls(Call::Exec), 0);
    assert_eq!((pool.status().lifetime.lent, as_is.status().lifetime.lent), (0, 0));
    let zero = fake_pool(&engine).keep_for(Duration::ZERO).build().await.unwrap_err();
    assert!(zero.to_string().contains("keep_for"), "{zero}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_container_cannot_be_had_frees_its_key() {
    let engine = FakeEngine::new();
    let pool = fake_pool(&engine).build().await.unwrap();
    engine.answer(Call::Create, Answer::Hold);
    assert!(pool.acquire_for("a").await.unwrap_err().is_timeout());
    engine.answer(Call::Create, Answer::Ok);
    assert!(!pool.acquire_for("a").await.unwrap().is_resumed());
}

/// On a real engine: files and a background process are there in the next lease of the key, and in no lease of another.
#[tokio::test]
async fn a_session_finds_its_files_and_processes_again() {
    let pool = support::pool("keys").max_total(1).max_idle(1).build().await.unwrap();
    let c = pool.acquire_for("session").await.unwrap();
    let plant = c
        .exec(["sh", "-c", "echo kept >/tmp/file; echo kept >/root-file"])
        .await;
    assert!(plant.unwrap().status.success());
    c.command("sleep").arg("1000").spawn().await.unwrap().detach();
    let id = c.id().to_owned();
    drop(c);
    let c = pool.acquire_for("session").await.unwrap();
    assert!(c.is_resumed() && c.id() == id);
    let look = ["sh", "-c", "cat /tmp/file /root-file; pidof sleep | wc -w"];
    assert_eq!(c.exec(look).await.unwrap().stdout_lossy(), "kept\nkept\n1\n");
    drop(c);
    // There is room for one container only, so it gives way.
    let other = pool.acquire_for("another").await.unwrap();
    let seen = other.exec(look).await.unwrap();
    assert!(!other.is_resumed());
    assert_eq!(seen.stdout_lossy(), "0\n");
    drop(other);
    eventually("nothing but the kept one is there", async || pool.status().kept == 1).await;
    pool.shutdown().await.unwrap();
}
