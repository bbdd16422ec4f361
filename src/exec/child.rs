//! A command that runs: [`Child`].

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

use super::command::Command;
use super::halt::{Halt, Stop};
use super::limit::{Budget, LimitReached};
use super::pipe::BrokeOff;
use super::streams::{ChildStderr, ChildStdin, ChildStdout};
use super::verdict::Verdict;
use crate::container::{Container, Guard, Running, Shared, Taint};
use crate::engine::{ExecControl, TtySize};
use crate::error::Error;
use crate::runtime::Home;
use crate::values::outcome::{ExitStatus, Output, Usage};
use crate::values::subject::Subject;
use crate::values::waker::{Guarded, guarded};

/// A command that was started; made by [`Command::spawn`]. It borrows its container; an [`OwnedChild`] keeps its guard.
///
/// The streams implement tokio's traits, so that `tokio::io::copy`, `BufReader::lines` and codecs work on them. Take them out
/// of their fields to use them in tasks of their own.
///
/// # Drop
///
/// Dropping a child ends the command, as if `kill_on_drop` were always set on a `tokio::process::Command`: a command that went on
/// would reach into the next lease. `detach` lets it go on [in the background](crate::BackgroundCommand) until the lease ends.
///
/// - The agent ends the command alone, in the background. The lease may end before that is done: the command ends with the
///   [cleaning](crate::Reuse::Clean), and under [`Reuse::AsIs`](crate::Reuse::AsIs) the container is replaced.
/// - The exec API cannot end a single command: its container is killed in the background and tainted ([`Taint::Cancelled`]).
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
///
/// # Beside `tokio::process::Child`
///
/// | there | here |
/// |---|---|
/// | `stdin`, `stdout`, `stderr` | the same fields, with the same traits |
/// | `wait`, `try_wait`, `wait_with_output` | the same names |
/// | `start_kill`, `kill` | the same names; `start_kill` cannot fail, and `kill` returns the status |
/// | `id` | none: Docker tells a number that holds on its own machine only, and the agent tells none, since a number may name another process later. [`signal`](Self::signal) reaches the command's first process as long as it lives, and [`signal_group`](Self::signal_group) all of its processes |
#[must_use = "dropping a child ends its command"]
pub struct Child<'c, G = &'c Container<Running>> {
    /// The standard input, if that was piped.
    pub stdin: Option<ChildStdin>,
    /// The standard output, unless that is null.
    pub stdout: Option<ChildStdout>,
    /// The standard error, unless that is null.
    pub stderr: Option<ChildStderr>,
    pub(super) program: String,
    pub(super) shared: Arc<Shared>,
    pub(super) halt: Arc<Halt>,
    pub(super) done: oneshot::Receiver<Verdict>,
    pub(super) verdict: Option<Verdict>,
    pub(super) control: Option<Arc<dyn ExecControl>>,
    /// Whether the command can be ended alone, as far as that is known before there is a control.
    pub(super) ends_alone: bool,
    pub(super) detached: bool,
    pub(super) waker: Guarded,
    /// Whether no limit was set, so that the default one holds for collected output.
    pub(super) limit_unset: bool,
    /// The limits of time, for errors.
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    /// There until the child is taken apart.
    pub(super) guard: Option<G>,
    pub(super) release: Release<G>,
    pub(super) lease: PhantomData<&'c ()>,
}

/// A [`Child`] that keeps the guard of its container and borrows nothing; made by [`Command::spawn_owned`].
///
/// The guard is a [`PooledContainer`](crate::PooledContainer), an [`Arc`] of one, or any other [`Guard`].
/// [`into_guard`](Child::into_guard) gives it back.
///
/// # Drop
///
/// Dropping an owned child ends the command as dropping a [`Child`] does. The guard is dropped in the background once the command
/// has ended, so that a container whose command was ended alone can be lent again.
///
/// By the exec API no command is ended alone: there the container is killed, and other commands of a shared guard with it.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use dockerpool::Command;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// let lease = Arc::new(pool.acquire().await?); // shared by several commands
/// let mut tasks = Vec::new();
/// for program in ["first", "second"] {
///     let mut child = Command::new(program).spawn_owned(lease.clone()).await?;
///     tasks.push(tokio::spawn(async move { child.wait().await }));
/// }
/// for task in tasks {
///     assert!(task.await.expect("it does not panic")?.success());
/// }
/// # Ok(())
/// # }
/// ```
pub type OwnedChild<G> = Child<'static, G>;

/// Deals with the guard of a child that is dropped while its command runs. The receiver tells of the command's end.
pub(super) type Release<G> = fn(G, oneshot::Receiver<Verdict>, &Home);

/// Does nothing: the guard is a borrow.
pub(super) fn keep_nothing(_: &Container<Running>, _: oneshot::Receiver<Verdict>, _: &Home) {}

/// Drops the guard when the command has ended.
pub(super) fn give_back_at_end<G: Guard>(guard: G, end: oneshot::Receiver<Verdict>, runtime: &Home) {
    runtime.spawn(async move {
        let _ = end.await;
        // Code of the caller's may be in it, which must not hold up the runtime's other tasks.
        drop(tokio::task::spawn_blocking(move || drop(guard)));
    });
}

/// Returns how a command ended, as its owner is told.
pub(super) fn outcome_of(verdict: &Verdict, halt: &Halt, subject: Subject) -> Result<(ExitStatus, Usage), Error> {
    use ExitStatus::{Exited, Incomplete, Signaled};

    match verdict {
        Verdict::Ended(status, usage) => {
            let status = match (status, halt.reason()) {
                // The command ended by itself while the output beyond its limit was still on its way.
                (Exited(_) | Signaled(_) | Incomplete(_), Some(stop @ Stop::OutputLimit { .. })) => stop.status(),
                (status, _) => *status,
            };
            Ok((status, *usage))
        }
        Verdict::CannotStart(reason) => Err(Error::CannotStart {
            subject,
            reason: reason.clone(),
        }),
        Verdict::Gone(source) => Err(Error::ContainerGone {
            subject,
            source: source.clone(),
        }),
        Verdict::Failed(source) => Err(Error::engine_about("run", subject, source.clone())),
    }
}

/// The verdict on a command whose background task is gone without one.
pub(super) const LOST: Verdict = Verdict::Ended(ExitStatus::Unknown, Usage::of_wall(Duration::ZERO));

impl<G> Child<'_, G> {
    /// Returns the name of the container.
    pub fn container(&self) -> &str {
        self.shared.name()
    }

    /// Waits for the end of the command. Closes its standard input first, so that a command that reads to the end can end.
    ///
    /// Output that nobody reads keeps a command from ending: read it, or drop [`stdout`](Self::stdout) and
    /// [`stderr`](Self::stderr).
    ///
    /// If the command leaves a background task that holds its output:
    ///
    /// - By the agent, the wait ends with the command. What the task prints later may be lost.
    /// - By the exec API, the wait goes on until the end of the output is known: two seconds with Docker, unless the task's
    ///   output goes elsewhere (`server >log 2>&1 &`) or nobody reads. Where the end does not come, the status is
    ///   [`ExitStatus::Incomplete`]. A [`timeout`](Command::timeout) counts until the library has asked the engine, and knows that
    ///   the command has ended: from a quarter of a second without output on, and later with an engine that answers late.
    ///
    /// # Errors
    ///
    /// [`Error::CannotStart`]; [`Error::ContainerGone`]; [`Error::Engine`] if it is not known whether the command was started.
    /// Each further call gives the same answer.
    ///
    /// # Cancel safety
    ///
    /// Safe: the command goes on until the `Child` is dropped.
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        drop(self.stdin.take());
        self.verdict().await;
        self.outcome().map(|(status, _)| status)
    }

    /// Returns how the command ended, or `None` if its end is not known yet. Never waits.
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

    /// Sets the size of the command's terminal, in characters. A no-op without a [`tty`](Command::tty).
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; by the exec API also when the command has ended, where the call is a no-op by the agent.
    ///
    /// # Cancel safety
    ///
    /// Safe: the size is the old or the new one.
    pub async fn resize(&mut self, rows: u16, cols: u16) -> Result<(), Error> {
        let Some(control) = &self.control else {
            return Ok(());
        };
        let resized = self.shared.runtime.bounded(
            "the resize of a terminal",
            self.shared.call_timeout,
            control.resize(TtySize { rows, cols }),
        );
        resized
            .await
            .map_err(|error| Error::engine_about("resize the terminal of", self.subject(), error))
    }

    /// Begins to end the command, and returns at once. [`wait`](Self::wait) then gives [`ExitStatus::Killed`], unless the command
    /// had ended before. Idempotent. Never fails: errors come from [`wait`](Self::wait).
    pub fn start_kill(&mut self) {
        self.halt.request(Stop::Killed);
    }

    /// Ends the command, by the exec API by killing its container, and waits until that is done:
    /// [`start_kill`](Self::start_kill), then [`wait`](Self::wait).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// The kill goes on when the future is dropped.
    pub async fn kill(&mut self) -> Result<ExitStatus, Error> {
        self.start_kill();
        self.wait().await
    }

    /// Reads the rest of both outputs into memory, and waits for the end. Where no [`output_limit`](Command::output_limit) was
    /// set, at most [`DEFAULT_OUTPUT_LIMIT`](Command::DEFAULT_OUTPUT_LIMIT) bytes are read. The guard of an [`OwnedChild`] is
    /// dropped: to keep the guard, read the outputs, [`wait`](Self::wait), and take it by
    /// [`into_guard`](OwnedChild::into_guard).
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
        if self.limit_unset {
            let budget = Budget::new(Command::DEFAULT_OUTPUT_LIMIT);
            stdout = stdout.map(|ChildStdout(reader)| ChildStdout(reader.under_default(budget.clone())));
            stderr = stderr.map(|ChildStderr(reader)| ChildStderr(reader.under_default(budget)));
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
            subject: self.subject(),
            time_limit: match status {
                ExitStatus::TimedOut => self.timeout,
                ExitStatus::IdleTimedOut => self.idle_timeout,
                _ => None,
            },
        })
    }

    /// Returns the names of the program and its container, for errors.
    pub(super) fn subject(&self) -> Subject {
        self.shared.subject().program_is(&self.program)
    }

    pub(super) async fn verdict(&mut self) {
        if self.verdict.is_none() {
            // A background task that panics is gone without a verdict.
            self.verdict = Some(guarded(&mut self.done).await.unwrap_or(LOST));
        }
    }

    pub(super) fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.verdict.is_none() {
            // The background task calls this waker.
            let cx = &mut Context::from_waker(self.waker.waker(cx.waker()));
            let verdict = ready!(Pin::new(&mut self.done).poll(cx));
            self.verdict = Some(verdict.unwrap_or(LOST));
        }
        Poll::Ready(())
    }

    pub(super) fn outcome(&self) -> Result<(ExitStatus, Usage), Error> {
        match &self.verdict {
            Some(verdict) => outcome_of(verdict, &self.halt, self.subject()),
            None => Ok((ExitStatus::Unknown, Usage::default())),
        }
    }

    pub(super) fn take_guard(mut self) -> G {
        match self.guard.take() {
            Some(guard) => guard,
            None => unreachable!("only this and Drop take the guard, and both end the child"),
        }
    }
}

impl<G: Guard> OwnedChild<G> {
    /// Returns the guard. A command that has not ended is ended in the background, as by dropping the child.
    ///
    /// Call [`wait`](Child::wait) or [`kill`](Child::kill) before, so that the command has ended when the guard is used. By the
    /// exec API the container is killed with the command, so that the guard can run nothing more.
    pub fn into_guard(self) -> G {
        self.take_guard()
    }

    /// Returns the guard, e.g. to run further commands in the same container.
    pub fn guard(&self) -> &G {
        match &self.guard {
            Some(guard) => guard,
            None => unreachable!("only into_guard, detach and Drop take the guard, and each ends the child"),
        }
    }
}

impl<G> Drop for Child<'_, G> {
    fn drop(&mut self) {
        if self.halt.is_finished() || self.detached {
            return;
        }
        // At once, not in the background: the guard may be dropped next. A command that can be ended alone leaves the container
        // as it was, once that is done; until then it counts as unfinished.
        let alone = self.control.as_ref().map(|control| control.killing().is_some());
        if !alone.unwrap_or(self.ends_alone) {
            self.shared.set_taint(Taint::Cancelled);
        }
        self.halt.request(Stop::Dropped);
        // A guard that is dropped by a panic must see that.
        if !std::thread::panicking()
            && let Some(guard) = self.guard.take()
        {
            let (_, nothing) = oneshot::channel();
            (self.release)(guard, std::mem::replace(&mut self.done, nothing), &self.shared.runtime);
        }
    }
}

impl<G> fmt::Debug for Child<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("program", &self.program)
            .field("container", &self.container())
            .field("verdict", &self.verdict)
            .finish_non_exhaustive()
    }
}

/// Reads one output to its end into memory. A limit and a break of the output count as its end: the status tells of them.
async fn read_all(reader: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut data = Vec::new();
    if let Some(mut reader) = reader
        && let Err(error) = reader.read_to_end(&mut data).await
        && !LimitReached::is(&error)
        && !BrokeOff::is(&error)
    {
        // The pipes themselves cannot fail, and the status tells of an error of the engine.
        tracing::debug!(%error, "the output of a command could not be read");
    }
    data
}
