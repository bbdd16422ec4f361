//! A command that runs: [`Child`].

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

use super::command::Setup;
use super::driver::{self, Done, Driver, Started};
use super::halt::{Halt, Stop};
use super::limit::{Budget, LimitReached};
use super::pump::pipe;
use super::stdio::{BrokeOff, ChildStderr, ChildStdin, ChildStdout, Reader, Source};
use super::verdict::Verdict;
use crate::container::{Container, Running, Shared, Taint};
use crate::engine::{ExecControl, TtySize};
use crate::error::{Error, FieldError};
use crate::values::outcome::{ExitStatus, Output, Usage};
use crate::values::waker::guarded;

/// A command that was started; made by [`Command::spawn`](crate::Command::spawn).
///
/// Its streams are tokio's traits, so that `tokio::io::copy`, `BufReader::lines` and codecs work on them. Take them out
/// of their fields to use them in tasks of their own.
///
/// # Drop
///
/// Dropping it ends the command, unlike `tokio::process::Child`: what runs on would reach into the next lease. Since
/// the exec API cannot end a single command, its container is killed in the background and tainted
/// ([`Taint::Cancelled`]). The agent ends the command alone, in the background; a container that is given back before that is done
/// is replaced.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # engine.on_exec(|_| dockerpool::testing::FakeProcess::exit(0).stdout("ready\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// # let c = pool.acquire().await?;
/// let mut child = c.command("server").spawn().await?;
/// let mut first = [0; 6];
/// child.stdout.as_mut().expect("it is piped").read_exact(&mut first).await?;
/// assert_eq!(&first, b"ready\n"); // while it runs
/// let output = child.wait_with_output().await?;
/// assert!(output.status.success());
/// # Ok(())
/// # }
/// ```
///
/// A child borrows its container, so the lease cannot end before it:
///
/// ```compile_fail,E0505
/// # async fn example(c: dockerpool::PooledContainer) -> Result<(), dockerpool::Error> {
/// let child = c.command("sleep").arg("60").spawn().await?;
/// c.discard();
/// drop(child);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a child ends its command"]
pub struct Child<'c> {
    /// Its standard input, if that was piped.
    pub stdin: Option<ChildStdin>,
    /// Its standard output.
    pub stdout: Option<ChildStdout>,
    /// Its standard error.
    pub stderr: Option<ChildStderr>,
    program: String,
    shared: Arc<Shared>,
    halt: Arc<Halt>,
    done: oneshot::Receiver<Verdict>,
    verdict: Option<Verdict>,
    control: Option<Control>,
    /// What is to be expected until the control is there.
    ends_alone: bool,
    detached: bool,
    /// How much is collected, where no output limit was said.
    collected: Option<u64>,
    container: PhantomData<&'c Container<Running>>,
}

/// What is said when the driver is gone without a word.
const LOST: Verdict = Verdict::Ended(ExitStatus::Unknown, Usage::of_wall(Duration::ZERO));

struct Control(Arc<dyn ExecControl>);

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl<'c> Child<'c> {
    pub(super) async fn start(container: &'c Container<Running>, setup: Setup) -> Result<Self, Error> {
        let shared = container.shared().clone();
        let halt = Halt::new();
        let budget = Budget::new(setup.limit.unwrap_or(u64::MAX));
        let (stdout, stdout_pipe) = pipe();
        let (stderr, stderr_pipe) = pipe();
        let (started, is_started) = oneshot::channel();
        let (verdict, done) = oneshot::channel();
        let program = setup.request.argv[0].clone();
        let reader = |pipe, own_limit| Reader::new(pipe, own_limit, budget.clone(), setup.on_limit, halt.clone());
        // From here on dropping this future drops the child, which ends the command.
        let mut child = Self {
            stdin: None,
            stdout: setup
                .outputs
                .stdout
                .then(|| ChildStdout(reader(stdout_pipe, setup.stdout_limit))),
            stderr: setup
                .outputs
                .stderr
                .then(|| ChildStderr(reader(stderr_pipe, setup.stderr_limit))),
            program,
            shared: shared.clone(),
            halt: halt.clone(),
            done,
            verdict: None,
            control: None,
            ends_alone: shared.ends_alone(&setup.request),
            detached: false,
            collected: None,
            container: PhantomData,
        };
        let now = shared.runtime.now();
        let driver = Driver {
            shared: shared.clone(),
            begun: now,
            request: setup.request,
            env_clear: setup.env_clear,
            feed: match setup.stdin {
                Source::Bytes(data) => Some(data),
                Source::Null | Source::Piped => None,
            },
            deadline: setup.timeout.and_then(|timeout| now.checked_add(timeout)),
            idle_timeout: setup.idle_timeout,
            halt,
            stdout,
            stderr,
            started,
        };
        shared
            .runtime
            .spawn(driver::run(driver, shared.begin_command(), Done::new(verdict)));

        match guarded(is_started).await {
            Ok(Started { stdin, control }) => {
                child.stdin = stdin.map(|stdin| ChildStdin::new(stdin, shared.runtime.clone()));
                child.control = Some(Control(control));
            }
            // It ended without being started: by an error, which is said here, or by its own limits, which is a status.
            Err(_) => {
                child.verdict().await;
                child.outcome()?;
            }
        }
        Ok(child)
    }

    pub(super) fn collecting_at_most(mut self, bytes: u64) -> Self {
        self.collected = Some(bytes);
        self
    }

    /// The name of its container.
    pub fn container(&self) -> &str {
        self.shared.name()
    }

    /// Waits for its end. Closes its standard input first, so that a command that reads to the end can end.
    ///
    /// Output that nobody reads keeps a command from ending: read it, or drop [`stdout`](Self::stdout) and
    /// [`stderr`](Self::stderr). A command that leaves a background task which holds its output is waited for until the end
    /// of that is known: two seconds with Docker's exec API, unless the task's output goes elsewhere (`server >log 2>&1 &`)
    /// or nobody reads. Where the end does not come, the status is [`ExitStatus::Incomplete`]. A
    /// [`timeout`](crate::Command::timeout) does not count that wait.
    ///
    /// # Errors
    ///
    /// [`Error::CannotStart`]; [`Error::Engine`] if nobody knows whether it was started. Asked again, it gives the same
    /// answer.
    ///
    /// # Cancel safety
    ///
    /// Safe: the command goes on until the `Child` is dropped.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        self.verdict().await;
        self.outcome().map(|(status, _)| status)
    }

    /// How it ended, if its end is known already.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        if self.verdict.is_none() {
            match self.done.try_recv() {
                Ok(verdict) => self.verdict = Some(verdict),
                Err(oneshot::error::TryRecvError::Empty) => return Ok(None),
                Err(oneshot::error::TryRecvError::Closed) => self.verdict = Some(LOST),
            }
        }
        self.outcome().map(|(status, _)| Some(status))
    }

    /// Sends its first process a signal, by number. One that has ended gets none.
    ///
    /// # Errors
    ///
    /// [`Error::BadCommand`] if there is no such signal. [`Error::Unsupported`] where the exec API runs the command, which
    /// cannot: use [`kill`](Self::kill), or run `kill` as a command of its own. [`Error::Engine`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the signal is sent or not.
    pub async fn signal(&mut self, signal: i32) -> Result<(), Error> {
        if !(1..=64).contains(&signal) {
            let problem = format!("must be from 1 to 64, and is {signal}");
            return Err(Error::BadCommand(FieldError::new("signal", problem)));
        }
        // A command without a control has ended.
        let Some(Control(control)) = &self.control else {
            return Ok(());
        };
        let Some(killing) = control.killing() else {
            return Err(Error::Unsupported(
                "Docker's exec API cannot send a signal to a single command; use Child::kill, or run `kill` in the container",
            ));
        };
        let sent = self.shared.runtime.bounded(
            "a signal to a command",
            self.shared.call_timeout,
            killing.signal(signal),
        );
        sent.await
            .map_err(|error| Error::engine("signal a command in container", Some(self.shared.name()), error))
    }

    /// Gives its terminal another size. Without a [`tty`](crate::Command::tty) nothing happens.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]. When the command has ended, that is so by the exec API; by the agent it is a no-op.
    ///
    /// # Cancel safety
    ///
    /// Safe: the size is the old or the new one.
    pub async fn resize(&mut self, rows: u16, cols: u16) -> Result<(), Error> {
        let Some(Control(control)) = &self.control else {
            return Ok(());
        };
        let resized = self.shared.runtime.bounded(
            "the resize of a terminal",
            self.shared.call_timeout,
            control.resize(TtySize { rows, cols }),
        );
        resized.await.map_err(|error| {
            Error::engine(
                "resize the terminal of a command in container",
                Some(self.shared.name()),
                error,
            )
        })
    }

    /// Lets it run until the lease ends. Its output goes nowhere from now on, and its limits of time still hold.
    ///
    /// A container with a command that has not ended is not lent again: it is removed with the lease.
    pub fn detach(mut self) {
        self.detached = true;
    }

    /// Ends it now, by the exec API by killing its container, and waits until that is done. The status is
    /// [`ExitStatus::Killed`], unless it ended before.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// The kill goes on when the future is dropped.
    pub async fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.halt.request(Stop::Killed);
        self.wait().await
    }

    /// Reads what is left of both outputs into memory, and waits for the end. Where no
    /// [`output_limit`](crate::Command::output_limit) was said, that is limited to
    /// [`DEFAULT_OUTPUT_LIMIT`](crate::Command::DEFAULT_OUTPUT_LIMIT).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the `Child`, which ends the command.
    pub async fn wait_with_output(mut self) -> Result<Output, Error> {
        drop(self.stdin.take());
        self.collect().await
    }

    pub(super) async fn collect(&mut self) -> Result<Output, Error> {
        let (mut stdout, mut stderr) = (self.stdout.take(), self.stderr.take());
        if let Some(bytes) = self.collected {
            let budget = Budget::new(bytes);
            stdout = stdout.map(|ChildStdout(reader)| ChildStdout(reader.under(budget.clone())));
            stderr = stderr.map(|ChildStderr(reader)| ChildStderr(reader.under(budget)));
        }
        let (stdout_data, stderr_data) = tokio::join!(read_all(stdout.as_mut()), read_all(stderr.as_mut()));
        let truncated = stdout.is_some_and(|out| out.is_truncated()) || stderr.is_some_and(|err| err.is_truncated());
        self.verdict().await;
        let (status, usage) = self.outcome()?;
        Ok(Output {
            status,
            stdout: stdout_data,
            stderr: stderr_data,
            truncated,
            incomplete: !self.halt.is_whole(),
            usage,
            container: self.shared.name().to_owned(),
        })
    }

    async fn verdict(&mut self) {
        if self.verdict.is_none() {
            // The task is gone without a word when it panics.
            self.verdict = Some(guarded(&mut self.done).await.unwrap_or(LOST));
        }
    }

    fn outcome(&self) -> Result<(ExitStatus, Usage), Error> {
        let container = || self.shared.name().to_owned();
        match &self.verdict {
            // It may have ended by itself while the output beyond its limit was still on the way.
            Some(Verdict::Ended(
                ExitStatus::Exited(_) | ExitStatus::Signaled(_) | ExitStatus::Incomplete(_),
                usage,
            )) if self.halt.reason() == Some(Stop::OutputLimit) => Ok((ExitStatus::OutputLimit, *usage)),
            Some(Verdict::Ended(status, usage)) => Ok((*status, *usage)),
            Some(Verdict::CannotStart(reason)) => Err(Error::CannotStart {
                container: container(),
                program: self.program.clone(),
                reason: reason.clone(),
            }),
            Some(Verdict::Gone(source)) => Err(Error::ContainerGone {
                container: container(),
                source: source.clone(),
            }),
            Some(Verdict::Failed(source)) => Err(Error::engine(
                "run a command in container",
                Some(self.shared.name()),
                source.clone(),
            )),
            None => Ok((ExitStatus::Unknown, Usage::default())),
        }
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        if !self.halt.is_finished() && !self.detached {
            // At once, not in the background: the guard may be dropped next. One that can be ended alone leaves the container as
            // good as it was, once that is done; until then it counts as unfinished.
            let alone = self
                .control
                .as_ref()
                .map(|Control(control)| control.killing().is_some());
            if !alone.unwrap_or(self.ends_alone) {
                self.shared.set_taint(Taint::Cancelled);
            }
            self.halt.request(Stop::Dropped);
        }
    }
}

/// Reads one output to its end into memory. The limit's end is an end, and so is where it broke off: the status tells of it.
async fn read_all(reader: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut data = Vec::new();
    if let Some(mut reader) = reader
        && let Err(error) = reader.read_to_end(&mut data).await
        && !LimitReached::is(&error)
        && !BrokeOff::is(&error)
    {
        // The pipes themselves cannot fail; what the engine failed in is in the status.
        tracing::debug!(%error, "the output of a command could not be read");
    }
    data
}
