//! Calls on files.

use std::time::Duration;

use dockerpool::testing::{FakeEngine, FakeProcess};
use dockerpool::{FileLimits, Pool, PooledContainer};
use insta::assert_snapshot;

use crate::{builder, said};

/// Returns a lease of a container without the agent, whose `tar` is this process.
async fn lease(tar: FakeProcess) -> (FakeEngine, Pool, PooledContainer) {
    let engine = FakeEngine::new();
    engine.on_exec(move |_| tar.clone());
    let pool = builder(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    (engine, pool, c)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_is_named_with_its_path() {
    let (_engine, _pool, c) = lease(FakeProcess::exit(2)).await;
    let files = c.files();
    let limits = FileLimits {
        bytes: 3,
        ..FileLimits::default()
    };
    assert_snapshot!(said(&files.write("notes", "x").await.unwrap_err()), @"could not write notes in container dockerpool-words-[id]-[n] of pool words: the path must be absolute");
    assert_snapshot!(said(&files.clone().limits(limits).write("/notes", "1234").await.unwrap_err()), @"could not write /notes in container dockerpool-words-[id]-[n] of pool words: more than the limit of 3 bytes");
    assert_snapshot!(said(&files.read_to_vec("/notes").await.unwrap_err()), @"could not read /notes in container dockerpool-words-[id]-[n] of pool words: the process in the container that does it ended early: exited 2");
    assert_snapshot!(said(&files.list("/").await.unwrap_err()), @"not possible for container dockerpool-words-[id]-[n] of pool words: this call on files needs the library's agent, which does not run the commands of this container, or not as that user; use ExecVia::Auto or ExecVia::Agent, or a command of the image");
    assert_snapshot!(said(&files.upload_dir("/no/such", "/tmp").await.unwrap_err()), @"could not read /no/such of this machine for container dockerpool-words-[id]-[n] of pool words: No such file or directory (os error 2)");

    let (_engine, _pool, c) = lease(FakeProcess::forever()).await;
    let limits = FileLimits {
        time: Some(Duration::from_secs(10)),
        ..FileLimits::default()
    };
    assert_snapshot!(said(&c.files().limits(limits).read_to_vec("/notes").await.unwrap_err()), @"could not read /notes in container dockerpool-words-[id]-[n] of pool words: not done within 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_call_on_a_container_that_is_gone_says_that() {
    let (engine, _pool, c) = lease(FakeProcess::exit(0)).await;
    engine.end_container(c.id());
    assert_snapshot!(said(&c.files().read_to_vec("/notes").await.unwrap_err()), @"could not read /notes in container dockerpool-words-[id]-[n] of pool words: the container is gone: there is no container [id]; use another");
    assert_snapshot!(said(&c.files().create_parents().write("/notes", "x").await.unwrap_err()), @"could not write /notes in container dockerpool-words-[id]-[n] of pool words: the container is gone: there is no container [id]; use another");

    let (_engine, pool, c) = lease(FakeProcess::exit(0)).await;
    pool.shutdown_timeout(Duration::ZERO).await.unwrap();
    let error = c.files().write("/notes", "x").await.unwrap_err();
    assert_snapshot!(said(&error), @"could not write /notes in container dockerpool-words-[id]-[n] of pool words: the container is gone: its pool was shut down");
    assert_eq!((error.program(), error.container()), (None, Some(c.name())));
}
