//! The background task of one command: [`Driver`]. The task starts the command, moves its output, watches its limits, ends it and
//! finds out how it ended. It does not depend on the caller's future, so that a command is ended also when nobody polls for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::ending::{Proof, after_failure, end, has_ended, kill};
use super::gone;
use super::halt::{Halt, Stop};
use super::memory_kills::Kills;
use super::pipe::PipeWriter;
use super::pump::Pump;
use super::verdict::{Verdict, not_started, outcome};
use crate::agent::Role;
use crate::container::{KILLED, Shared, Taint, Unfinished};
use crate::engine::{EngineError, ExecControl, ExecRequest, ExecSession};
use crate::runtime::{Ended, bounded};
use crate::values::outcome::{ExitStatus, Usage};

/// The first and the longest pause between two questions about a command whose output has ended.
const QUESTION_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// The number of failed questions in a row after which the end of a command counts as unknown.
pub(super) const QUESTION_FAILURES: u32 = 3;

/// Passed to the owner of a command that runs.
pub(super) struct Started {
    pub(super) stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub(super) control: Arc<dyn ExecControl>,
}

/// The state of the task before the command is started.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    /// The time of the call.
    pub(super) begun: Instant,
    pub(super) request: ExecRequest,
    /// Whether the container's variables are left out.
    pub(super) role: Role,
    /// The data for standard input; `None`: the owner writes.
    pub(super) feed: Option<Bytes>,
    pub(super) deadline: Option<Instant>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) halt: Arc<Halt>,
    pub(super) stdout: PipeWriter,
    pub(super) stderr: PipeWriter,
    pub(super) started: oneshot::Sender<Started>,
}

/// Runs the command to its end, and sends the verdict.
pub(super) async fn run(driver: Driver, unfinished: Unfinished, done: Done) {
    let halt = driver.halt.clone();
    let (verdict, proof) = driver.run().await;
    if proof == Proof::Ended {
        unfinished.ended();
    }
    halt.set_finished();
    done.send(verdict);
}

/// Sends the verdict to the owner, also where the task is dropped because its runtime has ended.
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
        // A panic of the task is no end of the runtime.
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
            role,
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
            // The command was not begun.
            halt.set_whole(true);
            return (ended(stop.status()), Proof::Ended);
        }
        let place = if shared.ends_alone(&request) {
            tokio::select! {
                biased;
                // The command was not begun.
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
            // Where the command ends alone, the agent counts kills for each command.
            if !shared.ends_alone(&request) {
                kills.count(&shared).await;
            }
            let session = shared.exec(place, &request, role, time).await?;
            Ok((session, kills))
        });
        let session = tokio::select! {
            biased;
            stop = &mut halted => {
                // The call may have begun the command, which ends with the container.
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
        let (_feeder, stdin) = match (feed, stdin) {
            (Some(data), Some(stdin)) => (Some(AbortOnDropHandle::new(tokio::spawn(feed_all(stdin, data)))), None),
            (_, stdin) => (None, stdin),
        };
        // An owner that is gone has requested a halt, so a failed send is harmless.
        let _ = started.send(Started {
            stdin,
            control: control.clone(),
        });

        let command = Begun {
            shared: shared.clone(),
            halt: halt.clone(),
            control: control.clone(),
            at: begun,
            kills,
            limits_file_size: request.file_size.is_some(),
        };
        let pump = Pump::new(
            output,
            control.clone(),
            shared.clone(),
            halt.clone(),
            idle_timeout,
            [stdout, stderr],
        );
        let mut pump = Box::pin(pump.run());
        let pumped = tokio::select! {
            biased;
            stop = &mut halted => {
                // In a task of its own: output is taken while the kill goes on, and served to readers after the kill.
                tokio::spawn(pump);
                return command.stop(stop).await;
            }
            pumped = &mut pump => pumped,
        };
        drop(pump);
        let quiet_since = match pumped {
            Ok(since) => since,
            Err(error) => return command.fail(error).await,
        };
        // A command that has closed its outputs prints nothing either.
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
            stop = &mut halted => return command.stop(stop).await,
            end = wait_for_end(&*control, &shared) => end,
            end = idle => end,
        };
        command.judge(end).await
    }
}

/// A command that was started.
struct Begun {
    shared: Arc<Shared>,
    halt: Arc<Halt>,
    control: Arc<dyn ExecControl>,
    /// The time of the call.
    at: Instant,
    kills: Kills,
    limits_file_size: bool,
}

impl Begun {
    /// Returns the verdict with this status, and what the command has used so far.
    fn ended(&self, status: ExitStatus) -> Verdict {
        let report = self.control.report();
        let usage = Usage {
            wall: self.at.elapsed(),
            user: report.map(|report| report.user),
            system: report.map(|report| report.system),
            peak_memory: report.map(|report| report.peak_memory),
            oom_kills: report.and_then(|report| report.oom_kills),
            total_peak_memory: report.and_then(|report| report.total_peak_memory),
            container_peak_memory: report.and_then(|report| report.container_peak_memory),
        };
        Verdict::Ended(status, usage)
    }

    /// Ends the command, because a halt was requested.
    async fn stop(&self, stop: Stop) -> (Verdict, Proof) {
        let proof = end(&*self.control, &self.shared, stop.taint()).await;
        let has_used_up = self.control.report().is_some_and(|report| report.cpu_time_used_up);
        let status = match stop {
            Stop::TimedOut | Stop::IdleTimedOut if has_used_up => ExitStatus::CpuTime,
            stop => stop.status(),
        };
        (self.ended(status), proof)
    }

    /// Finds out what happened to a command that the engine no longer reports on.
    async fn fail(&self, error: EngineError) -> (Verdict, Proof) {
        tracing::debug!(container = self.shared.name(), %error, "the end of a command is not known");
        match after_failure(&self.shared).await {
            Some(proof) => (self.ended(ExitStatus::Unknown), proof),
            None => self.is_gone().await,
        }
    }

    /// Returns the verdict on a command whose container is gone.
    async fn is_gone(&self) -> (Verdict, Proof) {
        let status = gone::status(&self.shared, &self.kills, self.at).await;
        (self.ended(status), Proof::Ended)
    }

    /// Returns the verdict on a command that has ended by itself. `end` is its exit code.
    async fn judge(&self, end: Result<i64, EngineError>) -> (Verdict, Proof) {
        let shared = &*self.shared;
        let is_whole = self.halt.is_whole();
        if let (Ok(code), Some(report)) = (&end, self.control.report()) {
            let (status, proof) = outcome(shared, *code, &report, self.limits_file_size);
            return (self.ended(status.with_output(is_whole)), proof);
        }
        match end {
            Ok(code) if self.kills.took_it(shared, code, self.at.elapsed()).await => {
                let exit = ExitStatus::from_engine_code(code).code();
                (self.ended(ExitStatus::OutOfMemory { exit }), Proof::Ended)
            }
            Ok(KILLED) if has_ended(shared).await => self.is_gone().await,
            Ok(code) => match ExitStatus::from_engine_code(code) {
                ExitStatus::Unknown => {
                    let proof = kill(shared, Taint::UnknownOutcome).await;
                    (self.ended(ExitStatus::Unknown), proof)
                }
                status => (self.ended(status.with_output(is_whole)), Proof::Ended),
            },
            Err(error) if error.says_not_started() => not_started(shared, error).await,
            Err(error) => self.fail(error).await,
        }
    }
}

/// Writes all of standard input, then end-of-file. A command that does not read to the end is no failure.
async fn feed_all(mut stdin: Box<dyn AsyncWrite + Send + Unpin>, data: Bytes) {
    let written = async {
        stdin.write_all(&data).await?;
        stdin.shutdown().await
    };
    if let Err(error) = written.await {
        tracing::trace!(%error, "standard input was not read to its end");
    }
}

/// Asks for the exit code of a command; `None` while it runs.
pub(super) async fn ask(control: &dyn ExecControl, shared: &Shared) -> Result<Option<i64>, EngineError> {
    bounded("a question about a command", shared.call_timeout, control.exit_code()).await
}

/// Asks until the command has ended. The end of its output proves nothing about its own end.
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
        // Some controls report the end, others must be asked. A control that has reported the end, and has no exit code yet, would
        // report the end again at once.
        if was_told {
            sleep(pause).await;
        } else {
            was_told = timeout(pause, control.ended()).await.is_ok();
        }
        pause = (pause * 2).min(longest);
    }
}
