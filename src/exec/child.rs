//! A command that runs: [`Child`].

use std::marker::PhantomData;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::command::read_all;
use super::driver::{self, Driver, Halt, Stop, Verdict};
use super::limit::Budget;
use super::output::{ExitStatus, Output, Usage};
use super::stdio::{ChildStderr, ChildStdin, ChildStdout, Reader, Source};
use crate::container::{Container, Running, Shared, Taint};
use crate::engine::ExecRequest;
use crate::error::Error;

/// A command that was started; made by [`Command::spawn`](crate::Command::spawn).
///
/// Its streams are tokio's traits, so that `tokio::io::copy`, `BufReader::lines` and codecs work on them. Take them out
/// of their fields to use them in tasks of their own.
///
/// # Drop
///
/// Dropping it ends the command, unlike `tokio::process::Child`: what runs on would reach into the next lease. Since
/// the exec API cannot end a single command, its container is killed behind and tainted
/// ([`Taint::Cancelled`]).
///
/// It borrows the container, so the lease cannot end before it:
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
    container: PhantomData<&'c Container<Running>>,
}

impl<'c> Child<'c> {
    pub(super) async fn start(
        container: &'c Container<Running>,
        request: ExecRequest,
        stdin: Source,
        deadline: Option<Instant>,
        limit: Option<u64>,
    ) -> Result<Self, Error> {
        let shared = container.shared().clone();
        let halt = Halt::new();
        let budget = Budget::new(limit.unwrap_or(u64::MAX));
        let (stdout, stdout_pipe) = driver::pipe();
        let (stderr, stderr_pipe) = driver::pipe();
        let (started, is_started) = oneshot::channel();
        let (verdict, done) = oneshot::channel();
        let program = request.argv[0].clone();
        let driver = Driver {
            shared: shared.clone(),
            request,
            feed: match stdin {
                Source::Bytes(data) => Some(data),
                Source::Null | Source::Piped => None,
            },
            deadline,
            halt: halt.clone(),
            stdout,
            stderr,
            started,
        };
        let unfinished = shared.begin_command();
        let runtime = shared.runtime.clone();
        runtime.spawn(driver::run(driver, unfinished, verdict));

        // From here on dropping this future drops the child, which ends the command.
        let mut child = Self {
            stdin: None,
            stdout: Some(ChildStdout(Reader::new(stdout_pipe, budget.clone(), halt.clone()))),
            stderr: Some(ChildStderr(Reader::new(stderr_pipe, budget, halt.clone()))),
            program,
            shared,
            halt,
            done,
            verdict: None,
            container: PhantomData,
        };
        match is_started.await {
            Ok(stdin) => {
                child.stdin = stdin.map(|stdin| ChildStdin::new(stdin, runtime));
                Ok(child)
            }
            // It ended without being started: by an error, which is said here, or by its own limits, which is a status.
            Err(_) => {
                child.verdict().await;
                child.outcome()?;
                Ok(child)
            }
        }
    }

    /// Waits for its end. Closes its standard input first, so that a command that reads to the end can end.
    ///
    /// Output that nobody reads keeps a command from ending: read it, or drop [`stdout`](Self::stdout) and
    /// [`stderr`](Self::stderr).
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

    /// Ends it now, by killing its container, and waits until that is done. The status is
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

    /// Reads what is left of both outputs into memory, and waits for the end.
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
        let (stdout, stderr) = tokio::join!(read_all(self.stdout.take()), read_all(self.stderr.take()));
        self.verdict().await;
        let (status, usage) = self.outcome()?;
        // The pipes themselves cannot fail; what the engine failed in is in the status.
        Ok(Output {
            status,
            stdout: stdout.unwrap_or_default(),
            stderr: stderr.unwrap_or_default(),
            usage,
            container: self.shared.name.clone(),
        })
    }

    async fn verdict(&mut self) {
        if self.verdict.is_none() {
            // The task is gone without a word when its runtime is.
            let lost = Verdict::Ended(ExitStatus::Unknown, Usage::default());
            self.verdict = Some((&mut self.done).await.unwrap_or(lost));
        }
    }

    fn outcome(&self) -> Result<(ExitStatus, Usage), Error> {
        let container = || self.shared.name.clone();
        match &self.verdict {
            // It may have ended by itself while the output beyond its limit was still on the way.
            Some(Verdict::Ended(ExitStatus::Exited(_) | ExitStatus::Signaled(_), usage))
                if self.halt.reason() == Some(Stop::OutputLimit) =>
            {
                Ok((ExitStatus::OutputLimit, *usage))
            }
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
                Some(&self.shared.name),
                source.clone(),
            )),
            None => Ok((ExitStatus::Unknown, Usage::default())),
        }
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        if !self.halt.is_finished() {
            // At once, not behind: the guard may be dropped next.
            self.shared.set_taint(Taint::Cancelled);
            self.halt.request(Stop::Dropped);
        }
    }
}
