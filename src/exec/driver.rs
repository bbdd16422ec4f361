//! The background task of one command: starts it, moves its output, watches its limits, ends it, and finds out what became of
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
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::container::{OomKills, Shared, Taint, Unfinished};
use crate::engine::{
    EngineError, EngineErrorKind, EventKind, ExecControl, ExecReport, ExecRequest, ExecSession, Frame, OutputStream,
    Selector, StreamEnd,
};
use crate::runtime::Ended;
use crate::runtime::bounded;
use crate::values::outcome::{ExitStatus, Usage};

/// Pieces of output that wait for a reader, for each of the two streams. Docker's have at most 32 KiB.
const PIPE_FRAMES: usize = 16;

/// After this long without output a command is asked about: it may have ended while its background children hold its
/// output, or the connection may be dead. The first and the longest pause; an engine that many silent commands run on has
/// better things to do than to answer that they still do.
const SILENCE_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How long an engine may take to see that a container has ended, and how often it is asked meanwhile.
const CONTAINER_END: Duration = Duration::from_secs(2);
const CONTAINER_END_CHECK: Duration = Duration::from_millis(20);

/// How long the next piece of output, or its end, is waited for once a command is known to have ended or is being ended.
/// Counts from the last piece. Only the end of the stream proves that all of it came: a relay between us and the engine may
/// pause. Docker gives the end two seconds after that of the command, also where background tasks hold the output.
const SILENCE_AT_END: Duration = Duration::from_secs(5);

/// How long pieces are taken in all after the end of a command: its background tasks may print for ever.
const OUTPUT_AFTER_END: Duration = Duration::from_secs(30);

/// A command whose output waits for its reader is asked about after this long, and then at the longest this often.
const STALL_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(500));

/// This long after the end of a command Docker gives up output of it that was not taken, and gives the end of the stream as if
/// it were whole.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// How much output of a command that has ended or is being ended is kept for a reader that is slow, in bytes. Beyond what
/// the engine and the kernel hold (some 1.4 MB) it is only what others print, or a fast writer while the kill is on its way.
const REST: usize = 4 << 20;

/// How long the engine may take to say whether a command that has printed nothing for too long has ended.
const IDLE_QUESTION: Duration = Duration::from_secs(1);

/// The first and the longest pause between two questions whether a command has ended whose output has.
const QUESTION_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Failed questions in a row after which the outcome is unknown.
const QUESTION_FAILURES: u32 = 3;

/// How long a command waits for the agent's count of kills for memory. The agent of a paused container does not answer.
const COUNT_BEFORE: Duration = Duration::from_millis(500);

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
    /// The command has ended by itself, and its output is still on its way.
    command_ended: AtomicBool,
    /// All of the output has come.
    whole: AtomicBool,
    finished: AtomicBool,
}

impl Halt {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            reason: watch::Sender::new(None),
            command_ended: AtomicBool::new(false),
            whole: AtomicBool::new(false),
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

    /// Whether the command is known to have ended by itself, though its output may not have.
    fn has_command_ended(&self) -> bool {
        self.command_ended.load(Ordering::Acquire)
    }

    /// Whether the end of the output was seen. Known when a reader is told of that, and when the command's end is known.
    pub(super) fn is_whole(&self) -> bool {
        self.whole.load(Ordering::Acquire)
    }

    /// Whether the output ended before its end without anybody having asked for that.
    pub(super) fn broke_off(&self) -> bool {
        !self.is_whole() && self.reason().is_none()
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
            () = sleep_until(deadline) => {
                // One that has ended in time is not late because its output is.
                if !self.has_command_ended() {
                    self.request(Stop::TimedOut);
                }
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
        let mut kills = Kills::before(&shared);
        let ended = |status| Verdict::Ended(status, Usage::of_wall(begun.elapsed()));
        let halted = halt.requested_or_at(deadline);
        tokio::pin!(halted);

        if let Some(stop) = halt.reason()
            && shared.ends_alone(&request)
        {
            // Nothing was begun, and nothing need be ended.
            halt.whole.store(true, Ordering::Release);
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
            // Else the agent counts for each command.
            if !shared.ends_alone(&request) {
                kills.count(&shared).await;
            }
            let session = shared.exec(place, &request, env_clear, time).await?;
            Ok((session, kills))
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
        let (ExecSession { stdin, output, control }, kills) = match session {
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
                total_peak_memory: report.and_then(|report| report.total_peak_memory),
                container_peak_memory: report.and_then(|report| report.container_peak_memory),
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
            quiet_since: Instant::now(),
            ended_until: None,
            next_question: None,
            ran_at: Instant::now(),
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
        let quiet_since = match pumped {
            Ok(since) => since,
            Err(error) => {
                tracing::debug!(container = shared.name, %error, "the output of a command broke off");
                let (status, proof) = after_failure(&shared).await;
                return (ended(status), proof);
            }
        };
        // A command that has closed its outputs prints nothing, too.
        let idle = async {
            if let Some(at) = idle_timeout.and_then(|limit| quiet_since.checked_add(limit))
                && !halt.has_command_ended()
            {
                sleep_until(at).await;
                halt.request(Stop::IdleTimedOut);
            }
            std::future::pending().await
        };

        let end = tokio::select! {
            biased;
            stop = &mut halted => {
                let proof = end(&*control, &shared, stop.taint()).await;
                return (ended(stop.status()), proof);
            }
            end = wait_for_end(&*control, &shared) => end,
            end = idle => end,
        };
        let is_whole = halt.is_whole();
        if let (Ok(code), Some(report)) = (&end, control.report()) {
            let (status, proof) = outcome(&shared, *code, &report);
            return (ended(status.with_output(is_whole)), proof);
        }
        match end {
            Ok(code) if kills.took_it(&shared, code, begun.elapsed()).await => {
                (ended(ExitStatus::OutOfMemory), Proof::Ended)
            }
            Ok(KILLED) if has_ended(&shared).await => {
                shared.set_taint(Taint::Died);
                (ended(ExitStatus::ContainerGone), Proof::Ended)
            }
            Ok(code) => match ExitStatus::from_engine_code(code) {
                ExitStatus::Unknown => (ended(ExitStatus::Unknown), kill(&shared, Taint::UnknownOutcome).await),
                status => (ended(status.with_output(is_whole)), Proof::Ended),
            },
            Err(error) if error.says_not_started() => not_started(&shared, error).await,
            Err(error) => {
                tracing::debug!(container = shared.name, %error, "the end of a command is not known");
                let (status, proof) = after_failure(&shared).await;
                (ended(status), proof)
            }
        }
    }
}

/// The kernel's kills for memory in the container of a command that the engine runs, as they were before it.
///
/// Told by one of two: by the agent, where it is PID 1 and answers. It reads the kernel's own count, which is there before the
/// command's end is. Else by the engine's events: an engine tells of a kill after the end of its command, or never, so that has to be
/// waited for. Which of the two it is turns out after the command, since a PID 1 that has ended meanwhile counts no more.
struct Kills {
    /// By the clock, for events.
    at: SystemTime,
    /// Of how many the engine has told.
    told: OomKills,
    /// How many the agent has counted, where it can.
    counted: Option<u32>,
    /// No other command was there.
    alone: bool,
    /// How many commands had been begun.
    begun: usize,
}

impl Kills {
    fn before(shared: &Shared) -> Self {
        Self {
            at: SystemTime::now(),
            told: shared.oom_kills(),
            counted: None,
            alone: shared.runs_single_command(),
            begun: shared.begun(),
        }
    }

    /// Has the agent count.
    async fn count(&mut self, shared: &Shared) {
        self.counted = Self::counted_by_agent(shared, COUNT_BEFORE).await;
    }

    async fn counted_by_agent(shared: &Shared, limit: Duration) -> Option<u32> {
        let agent = shared.agent()?;
        timeout(limit, agent.oom_kills()).await.ok().flatten()
    }

    /// Whether a command that has ended with this code after this time did so for want of memory. A kill since then taints the
    /// container.
    ///
    /// A shell goes on without the member of a pipeline that the kernel took, and may end well. What one command has done is then
    /// not told from what another has, so it must have been alone.
    async fn took_it(&self, shared: &Shared, code: i64, wall: Duration) -> bool {
        let now = match self.counted {
            Some(_) => Self::counted_by_agent(shared, CONTAINER_END).await,
            None => None,
        };
        if let (Some(before), Some(now)) = (self.counted, now) {
            let is_new = now > before;
            if is_new {
                shared.set_taint(Taint::OutOfMemory);
            }
            return is_new && (code == KILLED || self.alone && shared.begun() == self.begun);
        }
        if code == KILLED {
            // By what the clock says now, or by what it said: it may have been set, and the engine's with it.
            let since = SystemTime::now().checked_sub(wall).unwrap_or(self.at);
            return saw_oom_kill(shared, since.min(self.at), self.told).await;
        }
        shared.oom_kills().of_single_command > self.told.of_single_command
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
        if timeout(ANSWER_DUE, control.sign_of_life()).await.is_ok() {
            unanswered = 0;
            sleep(ANSWER_DUE / 2).await;
        } else {
            unanswered += 1;
        }
    }
}

/// How a command ended of which everything is known.
fn outcome(shared: &Shared, code: i64, report: &ExecReport) -> (ExitStatus, Proof) {
    let proof = if report.all_dead { Proof::Ended } else { Proof::None };
    if report.at_deadline {
        if proof == Proof::None {
            shared.set_taint(Taint::TimedOut);
        }
        return (ExitStatus::TimedOut, proof);
    }
    if report.killed_for_memory {
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
        EngineErrorKind::CannotStart => {
            // What is not known to be the command's own fault would befall the next lease, too.
            if error.is_of_any_command() || error.is_unexplained() {
                shared.set_taint(Taint::Broken);
            }
            (Verdict::CannotStart(error.to_string()), Proof::Ended)
        }
        // Refused in the container's present state: it has ended, or somebody has paused it.
        EngineErrorKind::Conflict if !is_gone(shared).await => {
            shared.set_taint(Taint::Died);
            (Verdict::Failed(error), Proof::Ended)
        }
        EngineErrorKind::NotFound | EngineErrorKind::Conflict => {
            shared.set_taint(Taint::Died);
            (gone(error), Proof::Ended)
        }
        // A container that ends has nothing left either.
        EngineErrorKind::Exhausted if is_gone(shared).await => {
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
    /// Since when the next piece is waited for.
    quiet_since: Instant,
    /// Until when pieces are taken at all, once the command is known to have ended or is being ended.
    ended_until: Option<Instant>,
    /// When the command is asked about next, and the pause before that, once a reader has held it up; until it is known to
    /// have run after that.
    next_question: Option<(Instant, Duration)>,
    /// When it was last known to run.
    ran_at: Instant,
    stdout: mpsc::Sender<Bytes>,
    stderr: mpsc::Sender<Bytes>,
}

/// What comes of the output.
enum Next {
    Frame(Frame),
    /// All of it has come.
    End,
    /// More of it may be on its way, and is not waited for.
    Cut,
}

impl From<Option<Frame>> for Next {
    fn from(frame: Option<Frame>) -> Self {
        frame.map_or(Self::End, Self::Frame)
    }
}

impl Pump {
    /// Until the output ends; gives since when there was none. A reader that does not read holds it up, and the command with
    /// it; unless the command is being ended (an engine whose output is not taken takes ten seconds to end a container) or
    /// has ended.
    async fn run(mut self) -> Result<Instant, EngineError> {
        loop {
            let frame = match self.next().await? {
                Next::Frame(frame) => frame,
                Next::End => {
                    self.halt.whole.store(self.is_whole_at_end(), Ordering::Release);
                    return Ok(self.quiet_since);
                }
                Next::Cut => return Ok(self.quiet_since),
            };
            // Where nobody reads this stream any more, the rest of it goes nowhere.
            let Err(TrySendError::Full(_)) = self.pipe(&frame).try_send(frame.data.clone()) else {
                continue;
            };
            if !self.waits_for_reader(&frame).await {
                return self.take_the_rest(frame).await;
            }
        }
    }

    /// Gives a piece to a reader when that takes it; `false` if the command has ended or is being ended before.
    async fn waits_for_reader(&mut self, frame: &Frame) -> bool {
        let (first, longest) = STALL_CHECK;
        while self.ended_until.is_none() {
            let (at, pause) = *self
                .next_question
                .get_or_insert_with(|| (Instant::now() + first, first));
            let question = async {
                sleep_until(at).await;
                (Instant::now(), ask(&*self.control, &self.shared).await)
            };
            let (asked, answer) = tokio::select! {
                biased;
                _ = self.halt.requested() => return false,
                room = self.pipe(frame).reserve() => {
                    if let Ok(room) = room {
                        room.send(frame.data.clone());
                    }
                    return true;
                }
                answer = question => answer,
            };
            match answer {
                Ok(Some(_)) => self.set_ended(),
                // What the engine fails in is seen in its output.
                answer => {
                    if answer.is_ok() {
                        self.ran_at = asked;
                    }
                    let pause = (pause * 2).min(longest);
                    self.next_question = Some((Instant::now() + pause, pause));
                }
            }
        }
        false
    }

    /// Asks about a command that was held up by a reader before, so that it is known whether the engine may have given up
    /// output of it meanwhile.
    async fn look_after_stall(&mut self) {
        let Some((at, pause)) = self.next_question else { return };
        let asked = Instant::now();
        if asked < at {
            return;
        }
        let answer = tokio::select! {
            biased;
            _ = self.halt.requested() => return,
            answer = ask(&*self.control, &self.shared) => answer,
        };
        match answer {
            Ok(Some(_)) => self.set_ended(),
            Ok(None) => {
                self.ran_at = asked;
                self.next_question = None;
            }
            Err(_) => self.next_question = Some((Instant::now() + pause, pause)),
        }
    }

    /// Whether the end of the engine's stream shows that all has come. If a reader has held it up, and the command may have
    /// ended so long ago, it does not, unless the engine gives up nothing.
    fn is_whole_at_end(&self) -> bool {
        match self.control.stream_end() {
            StreamEnd::Whole => true,
            StreamEnd::GivenUp => self.next_question.is_none() || self.ran_at.elapsed() < GIVEN_UP,
            StreamEnd::Lost => false,
        }
    }

    /// Takes what is still on its way without waiting for readers, and has it served to them: each stream on its own, so that
    /// whoever reads one to its end before the other does not wait for ever.
    async fn take_the_rest(mut self, first: Frame) -> Result<Instant, EngineError> {
        let mut size = first.data.len();
        let mut rest = vec![first];
        let mut is_whole = true;
        let ended = loop {
            let frame = match self.next().await {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::End) => {
                    is_whole &= self.is_whole_at_end();
                    break Ok(self.quiet_since);
                }
                Ok(Next::Cut) => {
                    is_whole = false;
                    break Ok(self.quiet_since);
                }
                Err(error) => {
                    is_whole = false;
                    break Err(error);
                }
            };
            if self.pipe(&frame).is_closed() {
                continue;
            }
            if size < REST {
                size += frame.data.len();
                rest.push(frame);
                continue;
            }
            // What is being ended is ended the sooner if its output is taken.
            if self.halt.reason().is_some() {
                is_whole = false;
                continue;
            }
            // The agent holds less than this of the command's own output, and gives it before that of others.
            is_whole = self.control.report().is_some();
            break Ok(self.quiet_since);
        };
        self.halt.whole.store(is_whole, Ordering::Release);
        let (stdout, stderr): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|frame| frame.stream == OutputStream::Stdout);
        // The outcome does not wait for the readers.
        tokio::spawn(async { tokio::join!(serve(self.stdout, stdout), serve(self.stderr, stderr)) });
        ended
    }

    fn pipe(&self, frame: &Frame) -> &mpsc::Sender<Bytes> {
        match frame.stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        }
    }

    /// The next piece, or the end.
    async fn next(&mut self) -> Result<Next, EngineError> {
        self.quiet_since = Instant::now();
        if self.ended_until.is_none() {
            self.look_after_stall().await;
        }
        if self.ended_until.is_some() || self.halt.reason().is_some() {
            return self.next_after_end().await;
        }
        // Mostly it is there, and nothing need be set up to wait for it.
        if let Some(frame) = self.output.next().now_or_never() {
            return frame.transpose().map(Next::from);
        }
        let mut failures = 0;
        let (mut pause, longest) = SILENCE_CHECK;
        loop {
            let idle_left = self
                .idle_timeout
                .map(|limit| limit.saturating_sub(self.quiet_since.elapsed()));
            tokio::select! {
                biased;
                frame = self.output.next() => return frame.transpose().map(Next::from),
                _ = self.halt.requested() => return self.next_after_end().await,
                () = sleep(idle_left.map_or(pause, |left| left.min(pause))) => {}
            }
            let is_idle = self
                .idle_timeout
                .is_some_and(|limit| self.quiet_since.elapsed() >= limit);
            let patience = match is_idle {
                true => IDLE_QUESTION.min(self.shared.call_timeout),
                false => self.shared.call_timeout,
            };
            let asked = Instant::now();
            // A silent command, one that has ended while others hold its output, or a connection that is dead?
            match bounded("a question about a command", patience, self.control.exit_code()).await {
                Ok(Some(_)) => {
                    self.set_ended();
                    return self.next_after_end().await;
                }
                Err(error) if error.says_not_started() => return Ok(self.end_of_words().await),
                Ok(None) | Err(_) if is_idle => self.halt.request(Stop::IdleTimedOut),
                Ok(None) => {
                    self.ran_at = asked;
                    self.next_question = None;
                    failures = 0;
                    pause = (pause * 2).min(longest);
                }
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

    /// The command was never begun, and the engine's words on why may still be on their way: they come as its output, and are
    /// taken out of it. Whether anybody reads it does not matter. What comes nevertheless is the output of a command of which the
    /// engine was wrong.
    async fn end_of_words(&mut self) -> Next {
        self.set_ended();
        tokio::select! {
            biased;
            _ = self.halt.requested() => Next::End,
            frame = self.output.next() => match frame {
                Some(Ok(frame)) => Next::Frame(frame),
                Some(Err(_)) | None => Next::End,
            },
            () = sleep(SILENCE_AT_END) => Next::End,
        }
    }

    /// The command has ended by itself: from now on it cannot be late.
    fn set_ended(&mut self) {
        self.halt.command_ended.store(true, Ordering::Release);
        self.ended_until = Some(Instant::now() + OUTPUT_AFTER_END);
    }

    /// The next piece of the output of a command that has ended or is being ended.
    async fn next_after_end(&mut self) -> Result<Next, EngineError> {
        let now = Instant::now();
        let until = *self.ended_until.get_or_insert(now + OUTPUT_AFTER_END);
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        tokio::select! {
            biased;
            () = sleep_until(until) => Ok(Next::Cut),
            frame = self.output.next() => frame.transpose().map(Next::from),
            // Nobody wants it.
            _ = async { tokio::join!(stdout.closed(), stderr.closed()) } => Ok(Next::End),
            () = sleep_until(now + SILENCE_AT_END) => Ok(Next::Cut),
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

/// The exit code of a command, if it has ended.
async fn ask(control: &dyn ExecControl, shared: &Shared) -> Result<Option<i64>, EngineError> {
    bounded("a question about a command", shared.call_timeout, control.exit_code()).await
}

/// Asks until the command has ended: the end of its output is not its own.
async fn wait_for_end(control: &dyn ExecControl, shared: &Shared) -> Result<i64, EngineError> {
    let (mut pause, longest) = QUESTION_PAUSE;
    let mut failures = 0;
    let mut was_told = false;
    loop {
        match ask(control, shared).await {
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
        // Whichever comes first: some are told of the end, all others must ask. Whoever was told of it, and knows no exit code
        // yet, would be told again at once.
        if was_told {
            sleep(pause).await;
        } else {
            was_told = timeout(pause, control.ended()).await.is_ok();
        }
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

/// Whether the container has ended in which a command was killed. An engine sees the end of a command sooner than that of
/// its container: that it still runs, says nothing. A PID 1 that answers does, since the others are killed after it.
async fn has_ended(shared: &Shared) -> bool {
    let until = Instant::now() + CONTAINER_END;
    let mut lives = std::pin::pin!(async {
        let answers = match shared.agent() {
            Some(agent) => agent.answers().await,
            None => false,
        };
        if !answers {
            std::future::pending::<()>().await;
        }
    });
    loop {
        if is_gone(shared).await {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::select! {
            () = &mut lives => return false,
            () = sleep(CONTAINER_END_CHECK) => {}
        }
    }
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

/// Whether the container in which a program could not be started is gone. Engines have no words, or words that nobody
/// understands, for a program whose container was killed as it began, and see a little later that the container has ended.
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
