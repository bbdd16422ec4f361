//! The task behind one command: starts it, moves its output, watches its limits, ends it, and finds out what became of
//! it. It runs on its own, so that a command is ended also when nobody polls for it any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::output::{ExitStatus, Usage};
use crate::container::{OomKills, Shared, Taint, Unfinished};
use crate::engine::{
    EngineError, EngineErrorKind, EventKind, ExecControl, ExecReport, ExecRequest, ExecSession, Frame, OutputStream,
    Selector, bounded,
};
use crate::runtime::Ended;

/// Pieces of output that wait for a reader, for each of the two streams. Docker's have at most 32 KiB.
const PIPE_FRAMES: usize = 16;

/// After this long without output a command is asked about: it may have ended while its background children hold its
/// output, or the connection may be dead. The first and the longest pause; an engine that many silent commands run on has
/// better things to do than to answer that they still do.
const SILENCE_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How long an engine may take to see that a container has ended, and how often it is asked meanwhile.
const CONTAINER_END: Duration = Duration::from_secs(1);
const CONTAINER_END_CHECK: Duration = Duration::from_millis(20);

/// How long the rest of the output may take once a command is known to have ended.
const OUTPUT_AFTER_END: Duration = Duration::from_millis(100);

/// How long the rest of the output may take after the container was killed.
const OUTPUT_AFTER_KILL: Duration = Duration::from_secs(2);

/// How much output of a command that is being ended is kept for a reader that is behind, in bytes. Beyond what the engine
/// and the kernel hold (some 1.4 MB) it is only what a fast writer prints while the kill is on its way.
const REST: usize = 4 << 20;

/// The first and the longest pause between two questions whether a command has ended whose output has.
const QUESTION_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Failed questions in a row after which the outcome is unknown.
const QUESTION_FAILURES: u32 = 3;

/// The engine tells of a kill for memory on a stream of its own, and knows of the end of a container later than of those of
/// the commands in it: this long after the end of a command both must have come.
const KILL_REASON_GRACE: Duration = Duration::from_millis(300);

/// How long ending a command alone may take before its container is killed. The agent gives up after ten seconds.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a command's end may wait for a sign of life from who is to end it: this long twice in a row. After the first
/// time it could be this process that did not get to run.
const ANSWER_DUE: Duration = Duration::from_millis(500);

/// The engine's clock may differ from ours by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(2);

/// Why a command is ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    TimedOut,
    /// It printed nothing for too long.
    IdleTimedOut,
    OutputLimit,
    /// Nobody waits for it any more.
    Dropped,
    /// On request.
    Killed,
}

impl Stop {
    fn taint(self) -> Taint {
        match self {
            Self::TimedOut | Self::IdleTimedOut => Taint::TimedOut,
            Self::OutputLimit => Taint::OutputLimit,
            Self::Dropped => Taint::Cancelled,
            Self::Killed => Taint::Killed,
        }
    }

    fn status(self) -> ExitStatus {
        match self {
            Self::TimedOut => ExitStatus::TimedOut,
            Self::IdleTimedOut => ExitStatus::IdleTimedOut,
            Self::OutputLimit => ExitStatus::OutputLimit,
            Self::Dropped | Self::Killed => ExitStatus::Killed,
        }
    }
}

/// The switch that ends a command. The first reason counts.
#[derive(Debug)]
pub(super) struct Halt {
    reason: watch::Sender<Option<Stop>>,
    finished: AtomicBool,
}

impl Halt {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            reason: watch::Sender::new(None),
            finished: AtomicBool::new(false),
        })
    }

    pub(super) fn request(&self, stop: Stop) {
        self.reason.send_if_modified(|reason| {
            let first = reason.is_none();
            reason.get_or_insert(stop);
            first
        });
    }

    /// Whether the command's end is known.
    pub(super) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// What was requested, if anything.
    pub(super) fn reason(&self) -> Option<Stop> {
        *self.reason.borrow()
    }

    /// Comes when a halt is requested; requests one itself at the deadline.
    async fn requested_or_at(&self, deadline: Option<Instant>) -> Stop {
        let Some(deadline) = deadline else {
            return self.requested().await;
        };
        tokio::select! {
            biased;
            stop = self.requested() => stop,
            () = tokio::time::sleep_until(deadline) => {
                self.request(Stop::TimedOut);
                self.requested().await
            }
        }
    }

    async fn requested(&self) -> Stop {
        let mut reason = self.reason.subscribe();
        // The sender is our own: the wait cannot fail. Should it, nothing is ever requested.
        match reason.wait_for(Option::is_some).await.map(|reason| *reason) {
            Ok(Some(stop)) => stop,
            _ => std::future::pending().await,
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Ended(ExitStatus, Usage),
    /// The engine's words.
    CannotStart(String),
    /// The container was gone before the command was started.
    Gone(EngineError),
    /// The engine failed, and nobody knows whether the command was started.
    Failed(EngineError),
}

/// What the command's owner gets when it runs.
pub(super) struct Started {
    pub(super) stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub(super) control: Arc<dyn ExecControl>,
}

/// Everything the task needs.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    /// When it was asked for.
    pub(super) begun: Instant,
    pub(super) request: ExecRequest,
    /// Without the container's variables.
    pub(super) env_clear: bool,
    /// Written to its standard input; `None`: the owner writes.
    pub(super) feed: Option<Bytes>,
    pub(super) deadline: Option<Instant>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) halt: Arc<Halt>,
    pub(super) stdout: mpsc::Sender<Bytes>,
    pub(super) stderr: mpsc::Sender<Bytes>,
    pub(super) started: oneshot::Sender<Started>,
}

/// A pipe for one output.
pub(super) fn pipe() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(PIPE_FRAMES)
}

/// Runs the command to its end, whatever that is, and tells of it.
pub(super) async fn run(driver: Driver, unfinished: Unfinished, done: Done) {
    let halt = driver.halt.clone();
    let (verdict, proof) = driver.run().await;
    if proof == Proof::Ended {
        unfinished.ended();
    }
    halt.finished.store(true, Ordering::Release);
    done.send(verdict);
}

/// Tells the owner of the command's end, also where the task is dropped before, since its runtime has ended.
pub(super) struct Done(Option<oneshot::Sender<Verdict>>);

impl Done {
    pub(super) fn new(tell: oneshot::Sender<Verdict>) -> Self {
        Self(Some(tell))
    }

    fn send(mut self, verdict: Verdict) {
        if let Some(tell) = self.0.take() {
            let _ = tell.send(verdict);
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        // A panic of ours is another matter.
        if let Some(tell) = self.0.take()
            && !std::thread::panicking()
        {
            let _ = tell.send(Verdict::Failed(Ended.into()));
        }
    }
}

/// Whether it is certain that nothing of the command runs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    Ended,
    None,
}

impl Driver {
    async fn run(self) -> (Verdict, Proof) {
        let Self {
            shared,
            begun,
            request,
            env_clear,
            feed,
            deadline,
            idle_timeout,
            halt,
            stdout,
            stderr,
            started,
        } = self;
        let begun_at = SystemTime::now();
        let oom_before = shared.oom_kills();
        let alone = shared.alone();
        let ended = |status| Verdict::Ended(status, Usage::of_wall(begun.elapsed()));
        let halted = halt.requested_or_at(deadline);
        tokio::pin!(halted);

        if let Some(stop) = halt.reason()
            && shared.ends_alone(&request)
        {
            // Nothing was begun, and nothing need be ended.
            return (ended(stop.status()), Proof::Ended);
        }
        let place = if shared.ends_alone(&request) {
            tokio::select! {
                biased;
                // Nothing was begun, and nothing need be ended.
                stop = &mut halted => return (ended(stop.status()), Proof::Ended),
                place = shared.place(&request) => place,
            }
        } else {
            Ok(None)
        };
        let place = match place {
            Ok(place) => place,
            Err(error) => return not_started(&shared, error).await,
        };
        let start = bounded("the start of a command", shared.call_timeout, async {
            shared.used().await?;
            let time = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            shared.exec(place, &request, env_clear, time).await
        });
        let session = tokio::select! {
            biased;
            stop = &mut halted => {
                // Whatever the call has begun ends with the container.
                let proof = kill(&shared, stop.taint()).await;
                return (ended(stop.status()), proof);
            }
            session = start => session,
        };
        let ExecSession { stdin, output, control } = match session {
            Ok(session) => session,
            Err(error) => return not_started(&shared, error).await,
        };
        let control: Arc<dyn ExecControl> = Arc::from(control);
        let ended = |status| {
            let report = control.report();
            let usage = Usage {
                wall: begun.elapsed(),
                user: report.map(|report| report.user),
                system: report.map(|report| report.system),
                peak_memory: report.map(|report| report.peak_memory),
                oom_kills: report.and_then(|report| report.oom_kills),
            };
            Verdict::Ended(status, usage)
        };

        let (_feeder, stdin) = match (feed, stdin) {
            (Some(data), Some(stdin)) => (Some(AbortOnDrop(tokio::spawn(feed_all(stdin, data)))), None),
            (_, stdin) => (None, stdin),
        };
        // An owner that is gone has requested a halt.
        let _ = started.send(Started {
            stdin,
            control: control.clone(),
        });

        let pump = Pump {
            output,
            control: control.clone(),
            shared: shared.clone(),
            halt: halt.clone(),
            idle_timeout,
            ended_until: None,
            stdout,
            stderr,
        };
        let mut pump = Box::pin(pump.run());
        let pumped = tokio::select! {
            biased;
            stop = &mut halted => {
                // On its own: output is taken while the kill goes on, and served to readers after it.
                tokio::spawn(pump);
                let proof = end(&*control, &shared, stop.taint()).await;
                return (ended(stop.status()), proof);
            }
            pumped = &mut pump => pumped,
        };
        drop(pump);
        if let Err(error) = pumped {
            tracing::debug!(container = shared.name, %error, "the output of a command broke off");
            let (status, proof) = after_failure(&shared).await;
            return (ended(status), proof);
        }

        let end = tokio::select! {
            biased;
            stop = &mut halted => {
                let proof = end(&*control, &shared, stop.taint()).await;
                return (ended(stop.status()), proof);
            }
            end = wait_for_end(&*control, &shared) => end,
        };
        if let (Ok(code), Some(report)) = (&end, control.report()) {
            let (status, proof) = outcome(&shared, *code, &report, alone);
            return (ended(status), proof);
        }
        match end {
            Ok(KILLED) => {
                // By what the clock says now, or by what it said: it may have been set, and the engine's with it.
                let since = SystemTime::now().checked_sub(begun.elapsed()).unwrap_or(begun_at);
                let status = why_killed(&shared, since.min(begun_at), oom_before).await;
                (ended(status), Proof::Ended)
            }
            // A shell goes on without the member of a pipeline that the kernel took, and may end well.
            Ok(_) if shared.oom_kills().of_single_command > oom_before.of_single_command => {
                (ended(ExitStatus::OutOfMemory), Proof::Ended)
            }
            Ok(code) => match ExitStatus::from_engine_code(code) {
                ExitStatus::Unknown => (ended(ExitStatus::Unknown), kill(&shared, Taint::UnknownOutcome).await),
                status => (ended(status), Proof::Ended),
            },
            Err(error) if error.kind() == EngineErrorKind::CannotStart => not_started(&shared, error).await,
            Err(error) => {
                tracing::debug!(container = shared.name, %error, "the end of a command is not known");
                let (status, proof) = after_failure(&shared).await;
                (ended(status), proof)
            }
        }
    }
}

/// The engine's exit code of a process killed by SIGKILL.
const KILLED: i64 = 137;

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Writes all of standard input, then end-of-file. That the command reads no further is no failure.
async fn feed_all(mut stdin: Box<dyn AsyncWrite + Send + Unpin>, data: Bytes) {
    let written = async {
        stdin.write_all(&data).await?;
        stdin.shutdown().await
    };
    if let Err(error) = written.await {
        tracing::trace!(%error, "standard input was not read to its end");
    }
}

/// Ends a command: alone where that can be, and all of it is proven to be dead; else with everything in the container.
async fn end(control: &dyn ExecControl, shared: &Shared, taint: Taint) -> Proof {
    if control.can_kill() {
        tokio::select! {
            killed = bounded("the end of a command", KILL_TIMEOUT, control.kill()) => match killed {
                Ok(()) => return Proof::Ended,
                Err(error) => tracing::debug!(container = shared.name, %error, "could not end a command alone"),
            },
            () = silence(control) => {
                tracing::warn!(container = shared.name, "no answer when a command is to be ended: its container is killed");
            }
        }
    }
    kill(shared, taint).await
}

/// Comes when whoever is to end a command no longer answers: the container's other processes may take all the time there
/// is.
async fn silence(control: &dyn ExecControl) {
    let mut unanswered = 0;
    while unanswered < 2 {
        if timeout(ANSWER_DUE, control.exit_code()).await.is_ok() {
            unanswered = 0;
            sleep(ANSWER_DUE / 2).await;
        } else {
            unanswered += 1;
        }
    }
}

/// How a command ended of which everything is known.
fn outcome(shared: &Shared, code: i64, report: &ExecReport, alone: Option<usize>) -> (ExitStatus, Proof) {
    let proof = if report.all_dead { Proof::Ended } else { Proof::None };
    if report.at_deadline {
        if proof == Proof::None {
            shared.set_taint(Taint::TimedOut);
        }
        return (ExitStatus::TimedOut, proof);
    }
    // A shell gives the end of its child as its own, or goes on without the member of a pipeline that the kernel took.
    let its_own = code == KILLED || alone.is_some() && alone == shared.alone();
    if its_own && report.oom_kills.is_some_and(|kills| kills > 0) {
        shared.set_taint(Taint::OutOfMemory);
        return (ExitStatus::OutOfMemory, proof);
    }
    let status = match report.signal {
        Some(signal) => ExitStatus::Signaled(signal),
        None => i32::try_from(code).map_or(ExitStatus::Unknown, ExitStatus::Exited),
    };
    (status, proof)
}

/// Forbids reuse and ends everything in the container.
async fn kill(shared: &Shared, taint: Taint) -> Proof {
    shared.set_taint(taint);
    match shared.kill().await {
        Ok(()) => Proof::Ended,
        Err(error) => {
            tracing::warn!(container = shared.name, %error, "could not kill a container");
            Proof::None
        }
    }
}

/// The command was not started, or nobody knows whether it was.
async fn not_started(shared: &Shared, error: EngineError) -> (Verdict, Proof) {
    // What it was gone for says more than that it was.
    let gone = |error| Verdict::Gone(shared.end_of_command().unwrap_or(error));
    match error.kind() {
        // Nothing can be started in a container that has just ended, and the engine blames the program.
        EngineErrorKind::CannotStart if error.is_of_container() || is_going(shared, &error).await => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        EngineErrorKind::CannotStart => (Verdict::CannotStart(error.to_string()), Proof::Ended),
        // Refused in the container's present state: it has ended, or somebody has paused it.
        EngineErrorKind::Conflict if !is_gone(shared).await => {
            shared.set_taint(Taint::Died);
            (Verdict::Failed(error), Proof::Ended)
        }
        EngineErrorKind::NotFound | EngineErrorKind::Conflict => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        // Nor could the next one.
        EngineErrorKind::Exhausted => {
            shared.set_taint(Taint::Exhausted);
            (Verdict::Failed(error), Proof::Ended)
        }
        // Refused: nothing was begun.
        EngineErrorKind::Rejected | EngineErrorKind::Unsupported => (Verdict::Failed(error), Proof::Ended),
        _ => {
            shared.set_taint(Taint::EngineFailed);
            (Verdict::Failed(error), Proof::None)
        }
    }
}

/// Moves a command's output from the engine to its pipes.
struct Pump {
    output: BoxStream<'static, Result<Frame, EngineError>>,
    control: Arc<dyn ExecControl>,
    shared: Arc<Shared>,
    halt: Arc<Halt>,
    idle_timeout: Option<Duration>,
    /// Until when the rest of the output may come, once the command is known to have ended.
    ended_until: Option<Instant>,
    stdout: mpsc::Sender<Bytes>,
    stderr: mpsc::Sender<Bytes>,
}

impl Pump {
    /// Until the output ends. A reader that does not read holds it up, and the command with it; unless the command is
    /// being ended: an engine whose output is not taken takes ten seconds to end a container.
    async fn run(mut self) -> Result<(), EngineError> {
        while let Some(frame) = self.next().await? {
            // Where nobody reads this stream any more, the rest of it goes nowhere.
            let Err(TrySendError::Full(_)) = self.pipe(&frame).try_send(frame.data.clone()) else {
                continue;
            };
            let served = tokio::select! {
                biased;
                _ = self.halt.requested() => false,
                room = self.pipe(&frame).reserve() => {
                    if let Ok(room) = room {
                        room.send(frame.data.clone());
                    }
                    true
                }
            };
            if !served {
                return self.take_the_rest(frame).await;
            }
        }
        Ok(())
    }

    /// Takes what is still on its way without waiting for readers, and then serves them: each stream on its own, so that
    /// whoever reads one to its end before the other does not wait for ever.
    async fn take_the_rest(mut self, first: Frame) -> Result<(), EngineError> {
        let mut size = first.data.len();
        let mut rest = vec![first];
        let ended = loop {
            match self.next().await {
                Ok(Some(frame)) => {
                    if size < REST && !self.pipe(&frame).is_closed() {
                        size += frame.data.len();
                        rest.push(frame);
                    }
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let (stdout, stderr): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|frame| frame.stream == OutputStream::Stdout);
        tokio::join!(serve(self.stdout, stdout), serve(self.stderr, stderr));
        ended
    }

    fn pipe(&self, frame: &Frame) -> &mpsc::Sender<Bytes> {
        match frame.stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        }
    }

    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Result<Option<Frame>, EngineError> {
        if self.ended_until.is_some() {
            return self.last_words().await;
        }
        // Mostly it is there, and nothing need be set up to wait for it.
        if let Some(frame) = self.output.next().now_or_never() {
            return frame.transpose();
        }
        let begun = Instant::now();
        let mut failures = 0;
        let (mut pause, longest) = SILENCE_CHECK;
        loop {
            let stopping = self.halt.reason().is_some();
            let patience = match self.idle_timeout {
                _ if stopping => OUTPUT_AFTER_KILL,
                Some(limit) => pause.min(limit.saturating_sub(begun.elapsed())),
                None => pause,
            };
            tokio::select! {
                biased;
                frame = self.output.next() => return frame.transpose(),
                // The patience is another one from now on.
                _ = self.halt.requested(), if !stopping => continue,
                () = sleep(patience) => {}
            }
            if stopping {
                return Ok(None);
            }
            if self.idle_timeout.is_some_and(|limit| begun.elapsed() >= limit) {
                self.halt.request(Stop::IdleTimedOut);
                continue;
            }
            // A silent command, one that has ended while others hold its output, or a connection that is dead?
            match bounded(
                "a question about a command",
                self.shared.call_timeout,
                self.control.exit_code(),
            )
            .await
            {
                Ok(None) => {
                    failures = 0;
                    pause = (pause * 2).min(longest);
                }
                Ok(Some(_)) => return self.last_words().await,
                Err(error) if error.kind() == EngineErrorKind::CannotStart => return Ok(None),
                Err(error) => {
                    failures += 1;
                    pause = SILENCE_CHECK.0;
                    if !error.is_retryable() || failures == QUESTION_FAILURES {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The next piece of the output of a command that has ended, if it comes soon.
    async fn last_words(&mut self) -> Result<Option<Frame>, EngineError> {
        let until = *self
            .ended_until
            .get_or_insert_with(|| Instant::now() + OUTPUT_AFTER_END);
        match timeout_at(until, self.output.next()).await {
            Ok(frame) => frame.transpose(),
            Err(_) => Ok(None),
        }
    }
}

/// Gives frames to a reader, as it takes them, and then the end of the stream.
async fn serve(pipe: mpsc::Sender<Bytes>, frames: Vec<Frame>) {
    for frame in frames {
        if pipe.send(frame.data).await.is_err() {
            return;
        }
    }
}

/// Asks until the command has ended: the end of its output is not its own.
async fn wait_for_end(control: &dyn ExecControl, shared: &Shared) -> Result<i64, EngineError> {
    let (mut pause, longest) = QUESTION_PAUSE;
    let mut failures = 0;
    loop {
        match bounded("a question about a command", shared.call_timeout, control.exit_code()).await {
            Ok(Some(code)) => return Ok(code),
            Ok(None) => failures = 0,
            Err(error) if error.says_not_started() => return Err(error),
            Err(error) => {
                failures += 1;
                if !error.is_retryable() || failures == QUESTION_FAILURES {
                    return Err(error);
                }
            }
        }
        // Whichever comes first: some are told of the end, all others must ask.
        let _ = timeout(pause, control.ended()).await;
        pause = (pause * 2).min(longest);
    }
}

/// The engine no longer tells of the command. Its container may be gone, and the command with it; if not, it is ended
/// now.
async fn after_failure(shared: &Shared) -> (ExitStatus, Proof) {
    if is_gone(shared).await {
        shared.set_taint(Taint::Died);
        return (ExitStatus::ContainerGone, Proof::Ended);
    }
    (ExitStatus::Unknown, kill(shared, Taint::EngineFailed).await)
}

/// A process ended by SIGKILL: by the kernel for its memory, with its container, or by somebody within?
async fn why_killed(shared: &Shared, since: SystemTime, before: OomKills) -> ExitStatus {
    if saw_oom_kill(shared, since, before).await {
        return ExitStatus::OutOfMemory;
    }
    if is_gone(shared).await {
        shared.set_taint(Taint::Died);
        return ExitStatus::ContainerGone;
    }
    ExitStatus::from_engine_code(KILLED)
}

/// Whether the engine tells of a kill for memory in this container that it had not told of `before`. The exit code alone
/// does not say, and the container's own `OOMKilled` is about its PID 1 only.
async fn saw_oom_kill(shared: &Shared, since: SystemTime, before: OomKills) -> bool {
    let is_new = || shared.oom_kills().count > before.count;
    let since = since.checked_sub(CLOCK_SKEW).unwrap_or(since);
    let mut events = shared.engine.events(&Selector::id(shared.id()), Some(since));
    let seen = async {
        while !is_new() {
            match events.next().await {
                Some(Ok(event)) if event.kind == EventKind::OutOfMemory => shared.note_oom_kill(event.at),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => std::future::pending().await,
            }
        }
    };
    timeout(KILL_REASON_GRACE, seen).await.is_ok() || is_new()
}

/// Whether the container in which a program could not be started is gone. Docker 26 has no words for a program whose
/// container was killed as it began, and sees a little later that the container has ended.
async fn is_going(shared: &Shared, error: &EngineError) -> bool {
    let until = Instant::now() + CONTAINER_END;
    loop {
        if is_gone(shared).await {
            return true;
        }
        if !error.is_unexplained() || Instant::now() >= until {
            return false;
        }
        sleep(CONTAINER_END_CHECK).await;
    }
}

/// Whether the engine says that the container is not there or does not run.
async fn is_gone(shared: &Shared) -> bool {
    use crate::engine::ContainerState::{Paused, Restarting, Running};

    match bounded("an inspect", shared.call_timeout, shared.engine.inspect(shared.id())).await {
        Ok(report) => !matches!(report.state, Running | Paused | Restarting),
        Err(error) => error.kind() == EngineErrorKind::NotFound,
    }
}
