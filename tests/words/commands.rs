//! Commands: what is wrong with them, why they do not begin, and how they end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{Container, ContainerSpec, EngineErrorKind as Kind, Error, Output, Pool, PooledContainer};
use insta::assert_snapshot;
use tokio::io::AsyncWrite;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::{builder, said};

/// Returns a lease on an engine on which each command is this process.
async fn lease(process: FakeProcess) -> (FakeEngine, Pool, PooledContainer) {
    let engine = FakeEngine::new();
    engine.on_exec(move |_| process.clone());
    let pool = builder(&engine).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    (engine, pool, c)
}

/// Returns what is said of a command that the engine answers in this way.
async fn failed(answer: Answer) -> String {
    let (engine, _pool, c) = lease(FakeProcess::exit(0)).await;
    engine.answer(Call::Exec, answer);
    said(&c.exec(["make", "all"]).await.unwrap_err())
}

/// Returns what is said of an end that is no success.
fn ended(output: Result<Output, Error>) -> String {
    said(&output.unwrap().check().unwrap_err())
}

#[tokio::test]
async fn a_command_that_cannot_be_run_as_given_is_refused() {
    let (_engine, _pool, c) = lease(FakeProcess::exit(0)).await;
    assert_snapshot!(said(&c.exec([""]).await.unwrap_err()), @"cannot run `` in container dockerpool-words-[id]-[n] of pool words as it was given: program: must not be empty");
    assert_snapshot!(said(&c.exec(["make", "a\0b"]).await.unwrap_err()), @"cannot run `make` in container dockerpool-words-[id]-[n] of pool words as it was given: arg 1: must not contain NUL");
    assert_snapshot!(said(&c.command("make").env("A=B", "x").output().await.unwrap_err()), @"cannot run `make` in container dockerpool-words-[id]-[n] of pool words as it was given: env 1: a name must not be empty nor contain '='");
    assert_snapshot!(said(&c.command("make").current_dir("src").output().await.unwrap_err()), @"cannot run `make` in container dockerpool-words-[id]-[n] of pool words as it was given: current_dir: must be an absolute path");
    assert_snapshot!(said(&c.command("make").memory(1 << 20).output().await.unwrap_err()), @"not possible for `make` in container dockerpool-words-[id]-[n] of pool words: memory() needs the agent, and the engine's exec API runs this command (the engine cannot run the agent)");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_begin_says_why() {
    assert_snapshot!(failed(Answer::Fail(Kind::CannotStart)).await, @"cannot start `make` in container dockerpool-words-[id]-[n] of pool words: Exec was made to fail");
    assert_snapshot!(failed(Answer::Fail(Kind::Exhausted)).await, @"could not run `make` in container dockerpool-words-[id]-[n] of pool words: Exec was made to fail");
    assert_snapshot!(failed(Answer::Fail(Kind::Unreachable)).await, @"could not run `make` in container dockerpool-words-[id]-[n] of pool words: Exec was made to fail (is the engine running? see DOCKER_HOST)");
    assert_snapshot!(failed(Answer::Never).await, @"could not run `make` in container dockerpool-words-[id]-[n] of pool words: no answer to the start of a command within 30 s");
}

#[tokio::test(start_paused = true)]
async fn a_container_that_is_gone_is_told_with_what_ended_it() {
    let (engine, pool, c) = lease(FakeProcess::exit(0)).await;
    engine.end_container(c.id());
    assert_snapshot!(said(&c.exec(["make"]).await.unwrap_err()), @"cannot start `make` in container dockerpool-words-[id]-[n] of pool words: the container is gone: there is no container [id]; use another");
    pool.shutdown_timeout(Duration::ZERO).await.unwrap();

    let (_engine, pool, c) = lease(FakeProcess::exit(0)).await;
    pool.shutdown_timeout(Duration::ZERO).await.unwrap();
    assert_snapshot!(said(&c.exec(["make"]).await.unwrap_err()), @"cannot start `make` in container dockerpool-words-[id]-[n] of pool words: the container is gone: its pool was shut down");

    let pool = builder(&FakeEngine::new())
        .max_lease(Duration::from_secs(1))
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    assert_snapshot!(said(&c.exec(["make"]).await.unwrap_err()), @"cannot start `make` in container dockerpool-words-[id]-[n] of pool words: the container is gone: its lease lasted too long, and the pool took it back; use another, or see max_lease() and Lease::timeout()");
}

#[tokio::test(start_paused = true)]
async fn each_end_is_told_with_the_limit_that_was_reached() {
    let exits = |code| async move {
        ended(
            lease(FakeProcess::exit(code).stderr("1 of 2\nno space left\n"))
                .await
                .2
                .exec(["make"])
                .await,
        )
    };
    assert_snapshot!(exits(2).await, @"`make` in container dockerpool-words-[id]-[n] of pool words exited with 2: 1 of 2; no space left");
    assert_snapshot!(exits(139).await, @"`make` in container dockerpool-words-[id]-[n] of pool words was ended by signal 11: 1 of 2; no space left");
    assert_snapshot!(exits(300).await, @"`make` in container dockerpool-words-[id]-[n] of pool words may have ended: the engine does not tell: 1 of 2; no space left");

    let (_engine, _pool, c) = lease(FakeProcess::forever()).await;
    assert_snapshot!(ended(c.command("make").timeout(Duration::from_millis(1500)).output().await), @"`make` in container dockerpool-words-[id]-[n] of pool words was killed at its time limit of 1.5 s");
    let (_engine, _pool, c) = lease(FakeProcess::forever()).await;
    assert_snapshot!(ended(c.command("make").idle_timeout(Duration::from_secs(150)).output().await), @"`make` in container dockerpool-words-[id]-[n] of pool words was killed at its idle timeout of 2.5 min: it printed nothing for so long");
    let (_engine, _pool, c) = lease(FakeProcess::forever()).await;
    let mut child = c.command("make").spawn().await.unwrap();
    child.start_kill();
    assert_snapshot!(ended(child.wait_with_output().await), @"`make` in container dockerpool-words-[id]-[n] of pool words was killed on request");
    let (engine, _pool, c) = lease(FakeProcess::forever()).await;
    let child = c.command("make").spawn().await.unwrap();
    engine.end_container(c.id());
    assert_snapshot!(ended(child.wait_with_output().await), @"`make` in container dockerpool-words-[id]-[n] of pool words ended with its container, which is gone: somebody else ended or removed it");

    let (_engine, _pool, c) = lease(FakeProcess::forever().stdout(vec![b'a'; 100])).await;
    assert_snapshot!(ended(c.command("make").output_limit(10).output().await), @"`make` in container dockerpool-words-[id]-[n] of pool words was killed at its output limit of 10 bytes");
    let (_engine, _pool, c) = lease(FakeProcess::forever().stdout(vec![b'a'; 17 << 20])).await;
    assert_snapshot!(ended(c.command("make").output().await), @"`make` in container dockerpool-words-[id]-[n] of pool words was killed at the default output limit of 16 MiB (see output_limit())");
}

/// A writer that is full.
struct Full;

impl AsyncWrite for Full {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::from_raw_os_error(28)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn output_that_cannot_be_used_is_told() {
    let (_engine, _pool, c) = lease(FakeProcess::exit(0).stdout(b"one\n\xff\n".to_vec())).await;
    assert_snapshot!(said(&c.command("make").output_string().await.unwrap_err()), @"the output of `make` in container dockerpool-words-[id]-[n] of pool words is not UTF-8: invalid utf-8 sequence of 1 bytes from index 4; take it as bytes with output()");
    assert_snapshot!(said(&c.command("make").run_to(&mut Full, &mut Vec::new()).await.unwrap_err()), @"could not write the standard output of `make` in container dockerpool-words-[id]-[n] of pool words to the given writer: No space left on device (os error 28)");
    let (_engine, _pool, c) = lease(FakeProcess::exit(0).stdout("one\ntwo\n")).await;
    let mut lines = c.command("make").lines().await.unwrap().max_line(2);
    assert_snapshot!(said(&lines.next_line().await.unwrap_err()), @"could not read the output of `make` in container dockerpool-words-[id]-[n] of pool words: a line has more than 2 bytes");
    drop(lines);
    let (_engine, _pool, c) = lease(FakeProcess::exit(0).stdout("one\ntwo\n")).await;
    let mut lines = c.command("make").output_limit(2).lines().await.unwrap();
    assert_snapshot!(said(&lines.next_line().await.unwrap_err()), @"could not read the output of `make` in container dockerpool-words-[id]-[n] of pool words: truncated: the limit of 2 bytes was reached");
}

#[tokio::test]
async fn what_a_container_cannot_do_is_told_with_a_way_out() {
    let (_engine, _pool, c) = lease(FakeProcess::forever()).await;
    let mut child = c.command("make").spawn().await.unwrap();
    assert_snapshot!(said(&child.signal(15).await.unwrap_err()), @"not possible for `make` in container dockerpool-words-[id]-[n] of pool words: the engine's exec API cannot send a signal to a single command; use Child::kill(), or run `kill` in the container");
    assert_snapshot!(said(&child.signal(99).await.unwrap_err()), @"cannot run `make` in container dockerpool-words-[id]-[n] of pool words as it was given: signal: must be from 1 to 64, and is 99");
    drop(child);
    assert_snapshot!(said(&c.kill_all().await.unwrap_err()), @"not possible for container dockerpool-words-[id]-[n] of pool words: this needs the agent as PID 1, and PID 1 is another program (see Container::lifeline())");
}

#[tokio::test]
async fn a_container_without_a_pool_is_named_alone() {
    let engine = FakeEngine::new();
    let create = async |engine: &FakeEngine| {
        let spec = ContainerSpec::new("any").cmd(["sleep", "60"]);
        Container::create_on(Handle::current(), Arc::new(engine.clone()), spec).await
    };
    engine.answer_once(Call::Create, Answer::Fail(Kind::Conflict));
    assert_snapshot!(said(&create(&engine).await.unwrap_err()), @"could not create the container dockerpool-[id]: Create was made to fail");
    engine.answer_once(Call::Start, Answer::Fail(Kind::Internal));
    assert_snapshot!(said(&create(&engine).await.unwrap().start().await.unwrap_err()), @"could not start the container dockerpool-[id]: Start was made to fail");
    let c = create(&engine).await.unwrap().start().await.unwrap();
    engine.answer_once(Call::Inspect, Answer::Fail(Kind::Internal));
    assert_snapshot!(said(&c.inspect().await.unwrap_err()), @"could not inspect the container dockerpool-[id]: Inspect was made to fail");
    engine.answer_once(Call::Pause, Answer::Fail(Kind::Conflict));
    assert_snapshot!(said(&c.pause().await.unwrap_err()), @"could not pause the container dockerpool-[id]: Pause was made to fail");
}
