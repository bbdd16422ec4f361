//! Unknown outcomes: the end of the output does not prove the end of the command.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dockerpool::engine::{
    BoxFuture, Commands, ExecControl, ExecReport, ExecRequest, ExecSession, Frame, Killing, Lifecycle, Observation,
    OutputStream, StreamEnd, TtySize,
};
use dockerpool::testing::{Call, FakeEngine, FakeProcess};
use dockerpool::{Engine, EngineError, EngineErrorKind, ExitStatus, Output, Pool, Reuse, Stdio, Taint};
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Handle;

/// Lists the engine's replies to a question about a command.
#[derive(Clone, Copy, Debug)]
enum Reply {
    Code(i64),
    /// The command runs.
    Running,
    Fail(EngineErrorKind),
    Never,
}

/// Wraps a [`FakeEngine`] and answers questions about commands from a script.
#[derive(Debug)]
struct Odd {
    inner: FakeEngine,
    questions: Questions,
    /// Whether the output breaks off with an error in place of its end.
    breaks_off: bool,
    /// The other end of the standard input of the last command. Nobody reads from it or closes it.
    unread: Arc<Mutex<Option<DuplexStream>>>,
}

/// Holds the replies to questions about commands, and counts the questions.
#[derive(Clone, Debug, Default)]
struct Questions {
    /// The replies, one for each question. The last one also answers all questions that follow.
    replies: Arc<Mutex<Vec<Reply>>>,
    count: Arc<AtomicUsize>,
    /// Whether the engine signals the end of a command, whatever the replies.
    tells_of_end: bool,
}

impl Questions {
    fn answered_by(replies: &[Reply]) -> Self {
        let questions = Self::default();
        *questions.replies.lock() = replies.to_vec();
        questions
    }
}

struct OddControl(Questions);

impl ExecControl for OddControl {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        let mut replies = self.0.replies.lock();
        let reply = if replies.len() > 1 {
            replies.remove(0)
        } else {
            replies[0]
        };
        Box::pin(async move {
            match reply {
                Reply::Code(code) => Ok(Some(code)),
                Reply::Running => Ok(None),
                Reply::Fail(kind) => Err(EngineError::new(kind, "made to fail")),
                Reply::Never => std::future::pending().await,
            }
        })
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        let tells = self.0.tells_of_end;
        Box::pin(async move {
            if !tells {
                std::future::pending().await
            }
        })
    }

    fn resize(&self, _size: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async { Ok(()) })
    }

    fn stream_end(&self) -> StreamEnd {
        StreamEnd::GivenUp
    }

    fn report(&self) -> Option<ExecReport> {
        None
    }

    fn killing(&self) -> Option<&dyn Killing> {
        None
    }
}

impl Engine for Odd {
    crate::support::forward!(capabilities, check, parts);
}

impl Lifecycle for Odd {
    crate::support::forward!(prepare, release, sweep, create, attach, start, kill, stop, remove);
}

impl Commands for Odd {
    fn exec<'a>(&'a self, id: &'a str, request: &'a ExecRequest) -> BoxFuture<'a, Result<ExecSession, EngineError>> {
        Box::pin(async move {
            let mut session = self.inner.exec(id, request).await?;
            session.control = Box::new(OddControl(self.questions.clone()));
            if session.stdin.is_some() {
                let (ours, theirs) = tokio::io::duplex(16);
                session.stdin = Some(Box::new(ours));
                *self.unread.lock() = Some(theirs);
            }
            // A byte at a time, so that a reader can hold it up.
            let pieces = session.output.map(move |frame| match frame {
                Ok(Frame { stream, data, .. }) => {
                    let byte = |at| Ok(Frame::new(stream, data.slice(at..=at)));
                    (0..data.len()).map(byte).collect()
                }
                Err(error) => vec![Err(error)],
            });
            session.output = pieces.flat_map(stream::iter).boxed();
            if self.breaks_off {
                let frame = Frame::new(OutputStream::Stdout, "partial");
                let error = EngineError::new(EngineErrorKind::Protocol, "the connection broke");
                session.output = stream::iter([Ok(frame), Err(error)]).boxed();
            }
            Ok(session)
        })
    }
}

impl Observation for Odd {
    crate::support::forward!(image, inspect, list, missing_limits, ignored_settings, events);
}

/// Runs one command that prints `partial`. Returns its output, the taint of its container, and how often that was
/// killed.
async fn outcome(replies: &[Reply], breaks_off: bool) -> (Output, Option<Taint>, usize) {
    let inner = FakeEngine::new();
    inner.on_exec(|_| FakeProcess::exit(0).stdout("partial"));
    let engine = Odd {
        inner: inner.clone(),
        questions: Questions::answered_by(replies),
        breaks_off,
        unread: Arc::default(),
    };
    let builder = Pool::builder("unknown")
        .reuse(Reuse::AsIs)
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine));
    let pool = builder.max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let out = c.command("any").output().await.unwrap();
    assert_eq!(out.stdout_lossy(), "partial", "{replies:?}");
    let taint = c.taint();
    drop(c);
    assert_eq!(pool.acquire().await.unwrap().id() == id, taint.is_none(), "{replies:?}");
    let kills = inner.calls(Call::Kill);
    pool.shutdown().await.unwrap();
    (out, taint, kills)
}

#[tokio::test(start_paused = true)]
async fn an_end_the_engine_does_not_confirm_is_unknown_and_the_container_is_killed() {
    let refusals = [
        [Reply::Fail(EngineErrorKind::Internal)],
        [Reply::Fail(EngineErrorKind::NotFound)],
        [Reply::Fail(EngineErrorKind::Unreachable)],
        [Reply::Fail(EngineErrorKind::Protocol)],
        [Reply::Never],
    ];
    for replies in refusals {
        let (out, taint, kills) = outcome(&replies, false).await;
        assert_eq!(out.status, ExitStatus::Unknown, "{replies:?}");
        assert!(out.status.is_unknown() && !out.status.success());
        assert_eq!((taint, kills), (Some(Taint::EngineFailed), 1), "{replies:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalid_exit_code_is_unknown() {
    for code in [i64::MAX, -1, 1 << 32] {
        let (out, taint, kills) = outcome(&[Reply::Code(code)], false).await;
        assert_eq!(out.status, ExitStatus::Unknown, "{code}");
        assert_eq!((taint, kills), (Some(Taint::UnknownOutcome), 1), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_output_that_breaks_off_is_unknown_and_keeps_its_first_part() {
    let (out, taint, kills) = outcome(&[Reply::Code(0)], true).await;
    assert_eq!(out.status, ExitStatus::Unknown);
    assert_eq!((taint, kills), (Some(Taint::EngineFailed), 1));
}

#[tokio::test(start_paused = true)]
async fn a_query_that_fails_once_or_twice_is_retried() {
    let failed = Reply::Fail(EngineErrorKind::Internal);
    let (out, taint, kills) = outcome(&[failed, Reply::Never, Reply::Code(3)], false).await;
    assert_eq!(out.status, ExitStatus::Exited(3));
    assert_eq!((taint, kills), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn an_end_signalled_without_an_exit_code_is_queried_with_pauses() {
    let inner = FakeEngine::new();
    inner.on_exec(|_| FakeProcess::exit(0));
    let questions = Questions {
        tells_of_end: true,
        ..Questions::answered_by(&[Reply::Running])
    };
    let engine = Odd {
        inner,
        questions: questions.clone(),
        breaks_off: false,
        unread: Arc::default(),
    };
    let pool = Pool::builder("told")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine));
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let begun = tokio::time::Instant::now();
    let limit = Duration::from_secs(2);
    let out = c.command("any").timeout(limit).output().await.unwrap();
    assert_eq!(out.status, ExitStatus::TimedOut);
    assert!(begun.elapsed() >= limit);
    let asked = questions.count.load(Ordering::Relaxed);
    assert!((10..=100).contains(&asked), "{asked} times in {limit:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_command_is_queried_ever_less_often_and_its_end_is_seen_within_two_seconds() {
    let inner = FakeEngine::new();
    inner.on_exec(|_| FakeProcess::forever());
    let questions = Questions::answered_by(&[Reply::Running]);
    let engine = Odd {
        inner,
        questions: questions.clone(),
        breaks_off: false,
        unread: Arc::default(),
    };
    let pool = Pool::builder("silent")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine));
    let pool = pool.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let mut child = c.command("any").spawn().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(questions.count.load(Ordering::Relaxed), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = questions.count.load(Ordering::Relaxed);
    assert!((20..=40).contains(&asked), "{asked} times in a minute");

    // The command ends while a child of it holds the output open. Without the end of the output, it may be
    // incomplete. This does not matter to a command whose output is not read.
    let mut unread = c.command("any").spawn().await.unwrap();
    drop((unread.stdout.take(), unread.stderr.take()));
    *questions.replies.lock() = vec![Reply::Code(7)];
    let ended = tokio::time::Instant::now();
    assert_eq!(unread.wait().await.unwrap(), ExitStatus::Exited(7));
    assert!(ended.elapsed() <= Duration::from_millis(2200), "{:?}", ended.elapsed());
    assert_eq!(child.wait().await.unwrap(), ExitStatus::Incomplete(7));
    assert!(ended.elapsed() <= Duration::from_millis(7200), "{:?}", ended.elapsed());
    drop(unread);
    drop(child);
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn held_up_output_is_incomplete_if_the_engine_may_have_cut_it() {
    const PIECES: usize = 100;
    let (complete, incomplete) = (ExitStatus::Exited(5), ExitStatus::Incomplete(5));
    for (replies, reads_after, expected) in [
        // The command is known to have run less than two seconds before the end of the stream, or it is not.
        (&[Reply::Running, Reply::Code(5)][..], None, complete),
        (&[Reply::Never, Reply::Code(5)], None, incomplete),
        // The reader goes on before the engine answers.
        (&[Reply::Never, Reply::Running, Reply::Code(5)], Some(3), complete),
        (&[Reply::Never, Reply::Code(5)], Some(3), incomplete),
        (
            &[Reply::Never, Reply::Fail(EngineErrorKind::Internal), Reply::Code(5)],
            Some(3),
            incomplete,
        ),
        // The reader is never late.
        (&[Reply::Code(5)], Some(0), complete),
    ] {
        let inner = FakeEngine::new();
        inner.on_exec(|_| FakeProcess::exit(5).stdout(vec![b'x'; PIECES]));
        let engine = Odd {
            inner,
            questions: Questions::answered_by(replies),
            breaks_off: false,
            unread: Arc::default(),
        };
        let pool = Pool::builder("held-up")
            .tokio_runtime(Handle::current())
            .image("any")
            .engine(Arc::new(engine));
        let pool = pool.build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let mut child = c.command("any").spawn().await.unwrap();
        let early = match reads_after {
            None => Some(child.wait().await.unwrap()),
            Some(seconds) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                None
            }
        };
        let out = child.wait_with_output().await.unwrap();
        assert_eq!(out.status, expected, "{replies:?} {reads_after:?}");
        assert!(early.is_none_or(|early| early == expected), "{early:?}");
        assert_eq!(out.stdout.len(), PIECES);
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_does_not_wait_for_a_command_that_has_ended() {
    let inner = FakeEngine::new();
    inner.on_exec(|_| FakeProcess::forever());
    let unread = Arc::<Mutex<Option<DuplexStream>>>::default();
    let engine = Odd {
        inner,
        questions: Questions::answered_by(&[Reply::Running]),
        breaks_off: false,
        unread: unread.clone(),
    };
    let pool = Pool::builder("writer")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine));
    let pool = pool.build().await.unwrap();
    let input = "x".repeat(1000);
    let limit = Duration::from_secs(2);

    let c = pool.acquire().await.unwrap();
    let mut command = c.command("any");
    command.timeout(limit).stdin(Stdio::piped());
    let mut child = command.spawn().await.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let written = tokio::time::timeout(limit * 10, stdin.write_all(input.as_bytes())).await;
    let failed = written.expect("the write ends with the command").unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::BrokenPipe);
    assert_eq!(stdin.write(b"more").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(child.wait().await.unwrap(), ExitStatus::TimedOut);
    drop(child);
    // The connection is closed.
    let mut theirs = unread.lock().take().unwrap();
    let mut taken = Vec::new();
    theirs.read_to_end(&mut taken).await.unwrap();
    assert_eq!(taken, &input.as_bytes()[..16]);
    drop(c);
    pool.shutdown().await.unwrap();
}
