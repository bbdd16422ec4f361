//! `Reuse::Clean`: nothing of one lease reaches the next.

mod corpus;
mod ordinary;
mod plants;
mod scan;
#[path = "../support/mod.rs"]
mod support;

use bollard::models::ContainerConfig;
use bollard::query_parameters::{CommitContainerOptionsBuilder, RemoveImageOptions};
use dockerpool::{ExecVia, Pool, PoolBuilder, PooledContainer, PullPolicy, Reuse};
use support::{busybox, engine, eventually_now, tag};

/// A pool of one container, which is cleaned after each lease.
fn builder(name: &str) -> PoolBuilder {
    Pool::builder(name)
        .image(busybox())
        .min_idle(0)
        .max_total(1)
        .memory(64 << 20)
        .exec_via(ExecVia::Auto)
        .reuse(Reuse::Clean)
}

/// Gives a container back, and waits until it or another one can be lent.
async fn give_back(pool: &Pool, c: PooledContainer) {
    drop(c);
    eventually_now("the container is cleaned or replaced", || {
        let status = pool.status();
        status.recycling == 0 && status.creating == 0
    })
    .await;
}

#[tokio::test]
async fn an_ordinary_lease_leaves_a_container_that_is_lent_again() {
    let pool = builder("clean").build().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let c = pool.acquire().await.unwrap();
        ids.push(c.id().to_owned());
        let out = c
            .exec([
                "sh",
                "-c",
                "ls -A /tmp /dev/shm; echo x >/tmp/x; mkdir -p /tmp/a/b; sleep 100 &",
            ])
            .await
            .unwrap();
        assert_eq!(out.stdout_lossy(), "/dev/shm:\n\n/tmp:\n", "{out:?}");
        drop(c);
        eventually_now("cleaned", || pool.status().recycling == 0).await;
    }
    let status = pool.status();
    assert_eq!(
        (status.lifetime.cleaned, status.lifetime.unclean),
        (5, 0),
        "{:?}",
        pool.last_unclean()
    );
    ids.dedup();
    assert_eq!(ids.len(), 1);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wipe_counts_as_a_change_of_the_container() {
    let pool = builder("wiped").build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    c.wipe(&["/home"]).await.unwrap();
    drop(c);
    eventually_now("a replacement is there", || pool.status().lifetime.removed == 1).await;
    assert_eq!(pool.status().lifetime.unclean, 1);
    assert_ne!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_lease_without_a_command_goes_straight_back() {
    let pool = builder("untouched").build().await.unwrap();
    for _ in 0..100 {
        let c = pool.acquire().await.unwrap();
        drop(c);
        let status = pool.status();
        assert_eq!((status.idle, status.recycling), (1, 0));
    }
    assert_eq!(pool.status().lifetime.cleaned, 0);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_waiter_gets_the_container_that_is_being_cleaned_unless_a_new_one_comes_first() {
    let pool = builder("waiters").max_total(4).build().await.unwrap();
    for _ in 0..10 {
        let c = pool.acquire().await.unwrap();
        let out = c.exec(["sh", "-c", "sleep 100 & echo x >/tmp/x"]).await.unwrap();
        assert!(out.status.success(), "{out:?}");
        let id = c.id().to_owned();
        drop(c);
        assert!(pool.status().cleaning >= 1);
        let next = pool.acquire().await.unwrap();
        // A creation begins only where the cleaning takes long, as on a slow machine.
        assert!(next.id() == id || pool.status().lifetime.created > 1);
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_detached_command_ends_with_its_lease() {
    let pool = builder("detached").build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    c.command("sleep").arg("1000").spawn().await.unwrap().detach();
    drop(c);
    let c = pool.acquire().await.unwrap();
    assert_eq!((c.id(), c.process_count().await.unwrap()), (&*id, 0));
    drop(c);
    pool.shutdown().await.unwrap();
}

/// The engine says that it has started a command before there is a process.
#[tokio::test]
async fn a_detached_command_of_the_exec_api_does_not_come_after_its_lease() {
    for read_only in [true, false] {
        let pool = builder("late").exec_via(ExecVia::Docker).read_only_root(read_only);
        let pool = pool.build().await.unwrap();
        for script in [
            "echo late >/tmp/late",
            "sleep 100 & echo late >/dev/shm/late",
            "sleep 1000",
        ] {
            let c = pool.acquire().await.unwrap();
            let mut command = c.command("sh");
            command.args(["-c", script]).spawn().await.unwrap().detach();
            drop(c);
            let c = pool.acquire().await.unwrap();
            assert_eq!(c.process_count().await.unwrap(), 0, "{script}");
            let out = c.exec(["ls", "-A", "/tmp", "/dev/shm"]).await.unwrap();
            assert_eq!(out.stdout_lossy(), "/dev/shm:\n\n/tmp:\n", "{script}: {out:?}");
            drop(c);
        }
        pool.shutdown().await.unwrap();
    }
}

/// A terminal holds what was typed and not read, for as long as anybody holds the terminal.
#[tokio::test]
async fn what_was_typed_at_a_terminal_reaches_no_later_lease() {
    const LOOK: &str = "ls /dev/pts; for i in /dev/pts/[0-9]*; do [ -e $i ] && timeout 1 cat $i; done; true";
    for way in [ExecVia::Docker, ExecVia::Auto] {
        let pool = builder("typed").exec_via(way).build().await.unwrap();
        for detached in [false, true, false] {
            let c = pool.acquire().await.unwrap();
            let before = c.exec(["sh", "-c", LOOK]).await.unwrap();
            assert_eq!(before.stdout_lossy(), "ptmx\n", "{way:?} {before:?}");
            let mut command = c.command("sleep");
            command.tty(24, 80).stdin("typed\n");
            if detached {
                command.arg("1000").spawn().await.unwrap().detach();
            } else {
                let status = command.arg("0.2").status().await.unwrap();
                assert!(status.success(), "{way:?} {status:?}");
            }
            let id = c.id().to_owned();
            drop(c);
            let c = pool.acquire().await.unwrap();
            let after = c.exec(["sh", "-c", LOOK]).await.unwrap();
            assert_eq!(after.stdout_lossy(), "ptmx\n", "{way:?} {after:?}");
            if way == ExecVia::Auto {
                assert_eq!(c.id(), id, "{:?}", pool.last_unclean());
            }
            drop(c);
        }
        pool.shutdown().await.unwrap();
    }
}

/// The engine makes the directories on which something is mounted where the image does not have them, which is a change of the root
/// file system. A first container shows such changes for all others.
#[tokio::test]
async fn containers_of_the_image_that_a_tag_names_after_a_refresh_are_cleaned_too() {
    let engine = engine().await;
    let docker = engine.bollard();
    let name = format!("dockerpool-test/cleaned-{:x}", std::process::id());
    let image = format!("{name}:1");
    tag(docker, &busybox(), &image).await;
    let pool = builder("cleaned").image(&image).pull(PullPolicy::Never);
    let pool = pool.tmpfs("/there", 1 << 20).build().await.unwrap();
    let lend = async || {
        let c = pool.acquire().await.unwrap();
        assert!(c.exec(["true"]).await.unwrap().status.success());
        give_back(&pool, c).await;
        let lifetime = pool.status().lifetime;
        (lifetime.cleaned, lifetime.unclean)
    };
    let before = lend().await;

    // The same image with that directory.
    let other = builder("cleaned-other").build().await.unwrap();
    let c = other.acquire().await.unwrap();
    assert!(c.exec(["mkdir", "/there"]).await.unwrap().status.success());
    let commit = CommitContainerOptionsBuilder::new()
        .container(c.id())
        .repo(&name)
        .tag("1");
    let committed = docker
        .commit_container(commit.build(), ContainerConfig::default())
        .await;
    drop(c);
    other.shutdown().await.unwrap();
    let refreshed = pool.refresh().await;
    let after = [lend().await, lend().await, lend().await];
    pool.shutdown().await.unwrap();
    docker
        .remove_image(&image, None::<RemoveImageOptions>, None)
        .await
        .unwrap();
    committed.unwrap();
    refreshed.unwrap();
    assert_eq!(before, (1, 0));
    // The first of the new containers is compared with what the old image had.
    assert_eq!(after, [(1, 1), (2, 1), (3, 1)]);
}
