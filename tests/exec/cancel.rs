//! Cancelled commands: dropped at any point, a command leaves its container proven clean, or gone and never lent
//! again. Its slot comes back, and nothing is left.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::support::{MARK, containers_of_instance, engine, eventually_now, exec_via, pool, processes, unique_mark};
use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{Command, EngineErrorKind, Error, ExecVia, ExitStatus, Pool, PooledContainer, Reuse};
use tokio::runtime::Handle;

/// Lists how the engine answers the start of a command.
const ANSWERS: [Answer; 6] = [
    Answer::Ok,
    Answer::AfterPolls(3),
    Answer::Fail(EngineErrorKind::Internal),
    Answer::After(Duration::from_millis(30)),
    Answer::Never,
    Answer::DoneButNever,
];

/// Lists the ways to run a command to its end.
#[derive(Clone, Copy, Debug)]
enum Way {
    Output,
    SpawnAndWait,
    Status,
}

const WAYS: [Way; 3] = [Way::Output, Way::SpawnAndWait, Way::Status];

async fn run(way: Way, command: &mut Command<'_>) -> Result<ExitStatus, Error> {
    match way {
        Way::Output => command.output().await.map(|out| out.status),
        Way::SpawnAndWait => {
            let mut child = command.spawn().await?;
            child.wait().await
        }
        Way::Status => command.status().await,
    }
}

/// Polls a future `polls` times, lets all other tasks run in between, and drops it. Returns its output if it was
/// ready.
async fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = tokio_test::task::spawn(future);
    for _ in 0..polls {
        if let Poll::Ready(result) = future.poll() {
            return Some(result);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Returns whether the container is lent again. Asserts that a tainted one is not.
async fn lent_again(pool: &Pool, c: PooledContainer) -> bool {
    let id = c.id().to_owned();
    let tainted = c.taint().is_some();
    drop(c);
    let next = pool.acquire().await.unwrap();
    let again = next.id() == id;
    assert!(!(tainted && again), "a tainted container was lent again");
    assert_eq!((pool.status().in_use, pool.status().total()), (1, 1));
    again
}

#[tokio::test(start_paused = true)]
async fn a_command_dropped_at_any_poll_under_any_answer_leaves_its_container_clean_or_gone() {
    let processes = [
        FakeProcess::exit(0).stdout("all"),
        FakeProcess::exit(3).stdout("out").stderr("err"),
        FakeProcess::forever().stdout("partial"),
    ];
    let kills = [
        Answer::Ok,
        Answer::AfterPolls(2),
        Answer::Fail(EngineErrorKind::Internal),
        Answer::Never,
    ];
    let (mut clean, mut replaced) = (0, 0);
    for (process, ends) in processes.into_iter().zip([true, true, false]) {
        for answer in ANSWERS {
            for kill in kills {
                for (way, polls) in WAYS.into_iter().flat_map(|way| (0..16).map(move |polls| (way, polls))) {
                    let case = format!("{answer:?}, {kill:?}, {way:?}, ends: {ends}, after {polls}");
                    let engine = FakeEngine::new();
                    let process = process.clone();
                    engine.on_exec(move |_| process.clone());
                    let builder = Pool::builder("cancel")
                        .reuse(Reuse::AsIs)
                        .tokio_runtime(Handle::current())
                        .image("any")
                        .engine(Arc::new(engine.clone()));
                    let pool = builder.min_idle(0).max_total(1).build().await.unwrap();
                    let c = pool.acquire().await.unwrap();
                    engine.answer(Call::Exec, answer);
                    engine.answer(Call::Kill, kill);
                    let result = polled(run(way, &mut c.command("any")), polls).await;
                    let ends_in_background =
                        ends && matches!(answer, Answer::Ok | Answer::AfterPolls(_) | Answer::After(_));
                    let allowed = match &result {
                        Some(Ok(ExitStatus::Exited(_))) => true,
                        Some(Err(_)) => false,
                        Some(other) => panic!("{case}: {other:?}"),
                        // The command was dropped before any call to the engine, or after its end was known.
                        None if polls == 0 => engine.calls(Call::Exec) == 0,
                        None => ends_in_background && c.taint().is_none(),
                    };
                    assert_eq!(c.taint().is_none(), allowed, "{case}: {result:?}, {:?}", c.taint());
                    let again = lent_again(&pool, c).await;
                    assert_eq!(again, allowed, "{case}");
                    *if again { &mut clean } else { &mut replaced } += 1;
                    pool.shutdown().await.unwrap();
                    assert!(engine.containers().is_empty(), "{case}");
                }
            }
        }
    }
    // Both cases occurred.
    assert!(clean > 100 && replaced > 100, "{clean} {replaced}");
}

#[tokio::test(start_paused = true)]
async fn a_command_dropped_after_its_end_leaves_its_container_clean() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("late")
        .reuse(Reuse::AsIs)
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()));
    let pool = builder.max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let mut child = c.command("any").spawn().await.unwrap();
    assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(0));
    drop(child);
    // Nothing awaited the end of this command, but the library knows it.
    let child = c.command("any").spawn().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(child);
    assert_eq!((c.taint(), engine.calls(Call::Kill)), (None, 0));
    assert!(lent_again(&pool, c).await);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_wait_loses_nothing_and_a_dropped_kill_goes_on() {
    for polls in 0..8 {
        let engine = FakeEngine::new();
        engine.on_exec(|request| match request.argv[0].as_str() {
            "ends" => FakeProcess::exit(3).stdout("out"),
            _ => FakeProcess::forever(),
        });
        let builder = Pool::builder("wait")
            .reuse(Reuse::AsIs)
            .tokio_runtime(Handle::current())
            .image("any")
            .engine(Arc::new(engine.clone()));
        let pool = builder.max_total(1).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let mut child = c.command("ends").spawn().await.unwrap();
        polled(child.wait(), polls).await;
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(3), "after {polls}");
        assert_eq!(child.wait_with_output().await.unwrap().stdout, b"out");
        assert_eq!(c.taint(), None);

        engine.answer(Call::Kill, Answer::AfterPolls(3));
        let mut child = c.command("goes on").spawn().await.unwrap();
        polled(child.wait(), polls).await;
        assert_eq!((child.try_wait().unwrap(), engine.calls(Call::Kill)), (None, 0));
        if polls > 0 {
            polled(child.kill(), polls).await;
            eventually_now("the command is killed", || {
                child.try_wait().unwrap() == Some(ExitStatus::Killed)
            })
            .await;
        }
        drop(child);
        assert!(!lent_again(&pool, c).await);
    }
}

/// The script of the tests on the real engine. It ends by itself, after two signs of life.
const SCRIPT: &str = "echo one; sleep 0.05; echo two";

/// Asserts that a container is clean or gone, after the command with this mark was dropped or has ended.
async fn assert_clean_or_gone(pool: &Pool, c: PooledContainer, mark: &str, gone: &mut HashSet<String>) {
    match c.taint() {
        // The container is proven clean: the command never began, or it has ended.
        None if exec_via() == ExecVia::Docker => assert_eq!(processes(mark), [0; 0]),
        // The agent ends the command alone, in the background.
        None => eventually_now("the command is gone", || processes(mark).is_empty()).await,
        Some(_) => {
            gone.insert(c.id().to_owned());
            eventually_now("the command is gone", || processes(mark).is_empty()).await;
        }
    }
    drop(c);
    let next = pool.acquire().await.unwrap();
    assert!(!gone.contains(next.id()));
}

async fn assert_nothing_is_left(pool: Pool) {
    // Every slot has come back.
    let all = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    for c in &all {
        assert!(c.command("true").status().await.unwrap().success());
    }
    assert_eq!((pool.status().in_use, pool.status().total()), (2, 2));
    drop(all);
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of_instance(&*engine().await, pool.instance()).await, 0);
}

#[tokio::test]
async fn a_command_dropped_at_any_poll_on_the_real_engine_leaves_its_container_clean_or_gone() {
    let pool = pool("cancel-polls").min_idle(1).max_total(2).build().await.unwrap();
    let mut gone = HashSet::new();
    for way in WAYS {
        for polls in 0.. {
            let c = pool.acquire().await.unwrap();
            let mark = unique_mark();
            let mut command = c.command("sh");
            command.args(["-c", SCRIPT]).env(MARK, &mark);
            let result = {
                let mut future = pin!(run(way, &mut command));
                let mut left = polls;
                // The future is polled whenever it is woken, and dropped right after the last poll.
                std::future::poll_fn(|cx| {
                    if left == 0 {
                        return Poll::Ready(None);
                    }
                    left -= 1;
                    match future.as_mut().poll(cx) {
                        Poll::Ready(result) => Poll::Ready(Some(result)),
                        Poll::Pending if left == 0 => Poll::Ready(None),
                        Poll::Pending => Poll::Pending,
                    }
                })
                .await
            };
            if let Some(result) = &result {
                assert_eq!(*result.as_ref().unwrap(), ExitStatus::Exited(0), "{way:?}");
                assert_eq!(c.taint(), None);
            }
            let given_up = result.is_none() && polls > 0;
            assert_eq!(
                c.taint().is_some(),
                given_up && exec_via() == ExecVia::Docker,
                "{way:?} after {polls}"
            );
            assert_clean_or_gone(&pool, c, &mark, &mut gone).await;
            if result.is_some() {
                assert!(polls > 1, "{way:?}");
                break;
            }
        }
    }
    assert_eq!(gone.is_empty(), exec_via() != ExecVia::Docker);
    assert_nothing_is_left(pool).await;
}

#[tokio::test]
async fn a_command_dropped_at_any_moment_on_the_real_engine_leaves_its_container_clean_or_gone() {
    // The background task of a command goes on between the polls of its future, so the moments of the drop are times
    // here.
    let pool = pool("cancel-times").min_idle(1).max_total(2).build().await.unwrap();
    let mut gone = HashSet::new();
    let (mut ended, mut step) = (0, 0);
    // Up to a quarter of a second, and on until one command has reached its end.
    while step < 24 || ended == 0 {
        assert!(step < 200, "the command does not end within 20 seconds");
        let c = pool.acquire().await.unwrap();
        let mark = unique_mark();
        let mut command = c.command("sh");
        command.args(["-c", SCRIPT]).env(MARK, &mark);
        let given_up = Duration::from_millis(step * step / 2);
        step += 1;
        let result = tokio::time::timeout(given_up, command.output()).await;
        if let Ok(out) = result {
            let out = out.unwrap();
            assert_eq!(
                (out.status, out.stdout_lossy()),
                (ExitStatus::Exited(0), "one\ntwo\n".into())
            );
            assert_eq!(c.taint(), None);
            ended += 1;
        }
        assert_clean_or_gone(&pool, c, &mark, &mut gone).await;
    }
    assert_eq!(gone.is_empty(), exec_via() != ExecVia::Docker, "{gone:?}");
    assert_nothing_is_left(pool).await;
}
