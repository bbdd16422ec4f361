//! The ways to run a command.

use tokio::io::AsyncWrite;

use super::child::{Child, OwnedChild, give_back_at_end, keep_nothing};
use super::command::Command;
use super::setup::{Outputs, Setup};
use super::shorthands::{self, OutputLines};
use crate::container::{Container, Guard, Running};
use crate::error::Error;
use crate::values::outcome::{ExitStatus, Output};

impl<'c> Command<'c> {
    /// Runs the command to its end and collects its output: at most [`output_limit`](Self::output_limit), or
    /// [16 MiB](Self::DEFAULT_OUTPUT_LIMIT) where no limit was set. A command that prints more is ended with
    /// [`ExitStatus::OutputLimit`], whose `is_default` tells whether it was the default limit.
    ///
    /// # Errors
    ///
    /// - [`Error::BadCommand`]: the command cannot be run as it was given; nothing was done.
    /// - [`Error::Unsupported`]: a limit of the command cannot be applied; the command was not begun.
    /// - [`Error::CannotStart`]: the program is not there or not executable, or the directory or the user is bad.
    /// - [`Error::ContainerGone`]: the container had ended before.
    /// - [`Error::Engine`]: the engine failed before the command was known to run.
    ///
    /// A command that failed, ran out of time or printed too much is no error: see [`Output::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command, as dropping a [`Child`] does.
    pub async fn output(&mut self) -> Result<Output, Error> {
        let mut child = self.spawn_with(self.setup.outputs).await?;
        drop(child.stdin.take());
        child.collect().await
    }

    /// Runs the command to its end. Its output is dropped.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output).
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn status(&mut self) -> Result<ExitStatus, Error> {
        let nothing = Outputs::default();
        self.spawn_with(nothing).await?.wait().await
    }

    /// Runs the command, and returns its standard output as text if it ended with exit code 0. The limit of
    /// [`output`](Self::output) holds.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output); [`Error::Command`] if the command ended in any other way; [`Error::NotUtf8`].
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn output_string(&mut self) -> Result<String, Error> {
        let mut output = Output::from(self.output().await?.check()?);
        String::from_utf8(std::mem::take(&mut output.stdout)).map_err(|error| {
            let source = error.utf8_error();
            output.stdout = error.into_bytes();
            Error::NotUtf8 {
                subject: output.subject.clone(),
                output: Box::new(output),
                source,
            }
        })
    }

    /// Starts the command, and returns its standard output line by line. Its standard error is dropped. Where
    /// [`stdout`](Self::stdout) is null, there are no lines.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn lines(&mut self) -> Result<OutputLines<'c>, Error> {
        let outputs = Outputs {
            stderr: false,
            ..self.setup.outputs
        };
        Ok(OutputLines::new(self.spawn_with(outputs).await?))
    }

    /// Runs the command to its end and copies its outputs into two writers as they come. A slow writer holds up the command, and
    /// nothing is gathered in memory. An output that is [`Stdio::null`](crate::Stdio::null) is not copied.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output); [`Error::CannotStart`]; [`Error::Write`] if a writer fails, which ends the command.
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output); bytes that were written stay written.
    pub async fn run_to<O, E>(&mut self, stdout: &mut O, stderr: &mut E) -> Result<ExitStatus, Error>
    where
        O: AsyncWrite + Unpin + ?Sized,
        E: AsyncWrite + Unpin + ?Sized,
    {
        let mut child = self.spawn().await?;
        drop(child.stdin.take());
        shorthands::copy_outputs(&mut child, stdout, stderr).await?;
        child.wait().await
    }

    /// Starts the command, and returns its streams. See [`spawn_owned`](Self::spawn_owned) for a child that borrows nothing.
    ///
    /// The agent runs at most 64 commands of a container at once. Another one waits in turn, and the call returns no child, until one
    /// of them has ended or its own [`timeout`](Self::timeout), which runs meanwhile, is over: set one, or do not
    /// [detach](Child::detach) so many.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output), but [`Error::CannotStart`] comes from [`Child::wait`]: it is not known sooner.
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn spawn(&mut self) -> Result<Child<'c>, Error> {
        self.spawn_with(self.setup.outputs).await
    }

    async fn spawn_with(&self, outputs: Outputs) -> Result<Child<'c>, Error> {
        let container = self.container;
        let setup = self.for_container(container, outputs)?;
        Child::start(container, container.shared().clone(), keep_nothing, setup).await
    }
}

impl<C> Command<'_, C> {
    /// Starts the command in the container of `guard`, and keeps the guard with the command: the [`OwnedChild`] borrows nothing,
    /// so it can be stored in a struct or moved to another task. The guard is a [`PooledContainer`](crate::PooledContainer), an
    /// [`Arc`](std::sync::Arc) of one, or any other [`Guard`].
    ///
    /// A command that [`Container::command`](crate::Container::command) began is run in the container of `guard` too,
    /// whatever container it borrows.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Command::spawn). The guard is dropped then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command and drops the guard, as dropping the [`OwnedChild`] does.
    ///
    /// # Examples
    ///
    /// ```
    /// use dockerpool::{Command, OwnedChild, PooledContainer};
    ///
    /// struct Server {
    ///     child: OwnedChild<PooledContainer>,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = dockerpool::testing::FakeEngine::new();
    /// # engine.on_exec(|_| dockerpool::testing::FakeProcess::forever());
    /// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
    /// let lease = pool.acquire().await?;
    /// let child = Command::new("server").arg("--port=80").spawn_owned(lease).await?;
    /// let mut server = Server { child };
    /// assert_eq!(server.child.try_wait()?, None); // it runs
    /// drop(server); // ends the command, and then gives the container back
    /// # Ok(())
    /// # }
    /// ```
    pub async fn spawn_owned<G: Guard>(&mut self, guard: G) -> Result<OwnedChild<G>, Error> {
        let container = guard.running();
        let setup = self.for_container(container, self.setup.outputs)?;
        let shared = container.shared().clone();
        Child::start(guard, shared, give_back_at_end, setup).await
    }

    /// Returns the settings to run once in this container, or what is wrong with them.
    fn for_container(&self, container: &Container<Running>, outputs: Outputs) -> Result<Setup, Error> {
        let shared = container.shared();
        let subject = || shared.subject().program_is(self.setup.program());
        let setup = self.setup.with_defaults_of(shared);
        if let Some(problem) = setup.problem(container) {
            let subject = subject();
            return Err(Error::BadCommand { subject, problem });
        }
        if let Some(reason) = setup.unsupported(shared) {
            let subject = subject();
            return Err(Error::Unsupported { subject, reason });
        }
        Ok(setup.once_in(shared, outputs))
    }
}
