//! The background task of one command: starts it, moves its output, watches its limits, ends it, and finds out what became of
//! it. It runs on its own, so that a command is ended also when nobody polls for it any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ending::{Proof, after_failure, end, has_ended, kill};
use super::halt::{Halt, Stop};
use super::memory_kills::{KILLED, Kills};
use super::pump::Pump;
use super::verdict::{Verdict, not_started, outcome};
use crate::container::{Shared, Taint, Unfinished};
use crate::engine::{EngineError, ExecControl, ExecRequest, ExecSession};
use crate::runtime::{Ended, bounded};
use crate::values::outcome::{ExitStatus, Usage};

/// The first and the longest pause between two questions whether a command has ended whose output has.
const QUESTION_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Failed questions in a row after which the outcome is unknown.
pub(super) const QUESTION_FAILURES: u32 = 3;

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
                tracing::debug!(container = shared.name(), %error, "the output of a command broke off");
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
                tracing::debug!(container = shared.name(), %error, "the end of a command is not known");
                let (status, proof) = after_failure(&shared).await;
                (ended(status), proof)
            }
        }
    }
}

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

/// The exit code of a command, if it has ended.
pub(super) async fn ask(control: &dyn ExecControl, shared: &Shared) -> Result<Option<i64>, EngineError> {
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
