//! Signals to a command that runs, and its end with grace.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::child::Child;
use super::halt::{Halt, Stop};
use crate::engine::{EngineError, ExecControl, Killing};
use crate::error::{Error, FieldError};
use crate::runtime::{Home, bounded};
use crate::values::outcome::ExitStatus;
use crate::values::signal::Signal;
use crate::values::subject::Subject;

/// The words for a signal in errors.
const WHAT: &str = "a signal to a command";

/// The reins of a command that was started: signals and ends it, from anywhere.
#[derive(Clone)]
pub(super) struct Reins {
    pub(super) subject: Subject,
    pub(super) halt: Arc<Halt>,
    /// `None`: the command has ended.
    pub(super) control: Option<Arc<dyn ExecControl>>,
    pub(super) runtime: Home,
    pub(super) call_timeout: Duration,
}

/// The processes of a command that get a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    First,
    All,
}

impl Reins {
    fn check(&self, signal: Signal) -> Result<(), Error> {
        match signal.problem() {
            None => Ok(()),
            Some(problem) => Err(Error::BadCommand {
                subject: self.subject.clone(),
                problem: FieldError::new("signal", problem),
            }),
        }
    }

    /// Sends a signal. A command that has ended gets none.
    pub(super) async fn signal(&self, signal: Signal, to: To) -> Result<(), Error> {
        self.check(signal)?;
        let Some(control) = self.control.as_ref().filter(|_| !self.halt.is_finished()) else {
            return Ok(());
        };
        let Some(killing) = control.killing() else {
            return Err(Error::Unsupported {
                subject: self.subject.clone(),
                reason: "the engine's exec API cannot send a signal to a single command; use Child::kill(), or run `kill` in \
                         the container"
                    .to_owned(),
            });
        };
        let send = match to {
            To::First => killing.signal(signal.number()),
            To::All => killing.signal_all(signal.number()),
        };
        let sent = self.runtime.bounded(WHAT, self.call_timeout, send).await;
        sent.map_err(|error| Error::engine_about("signal", self.subject.clone(), error))
    }

    /// Asks all processes of the command to end, and kills them after `grace`, in the background.
    pub(super) fn start_stop(&self, signal: Signal, grace: Duration) -> Result<(), Error> {
        self.check(signal)?;
        let Some(control) = self.control.clone().filter(|_| !self.halt.is_finished()) else {
            return Ok(());
        };
        if control.killing().is_none() {
            // Nothing can be asked of it.
            self.halt.request(Stop::Killed);
            return Ok(());
        }
        let (halt, call_timeout) = (self.halt.clone(), self.call_timeout);
        self.runtime.spawn(async move {
            let over = sleep(grace);
            let sent = match control.killing() {
                Some(killing) => ask_to_end(killing, signal, call_timeout).await,
                None => return,
            };
            match sent {
                Ok(()) => tokio::select! {
                    () = halt.finished() => return,
                    () = over => {}
                },
                Err(error) => tracing::debug!(%error, "a command could not be asked to end, and is killed"),
            }
            // A command that has ended in time was not killed, even if its output is late.
            if !halt.has_command_ended() && control.report().is_none() {
                halt.request(Stop::Killed);
            }
        });
        Ok(())
    }
}

async fn ask_to_end(killing: &dyn Killing, signal: Signal, limit: Duration) -> Result<(), EngineError> {
    bounded(WHAT, limit, killing.stop(signal.number())).await
}

impl<G> Child<'_, G> {
    pub(super) fn reins(&self) -> Reins {
        Reins {
            subject: self.subject(),
            halt: self.halt.clone(),
            control: self.control.clone(),
            runtime: self.shared.runtime.clone(),
            call_timeout: self.shared.call_timeout,
        }
    }

    /// Sends a [`Signal`], or one by number, to the command's first process. A command that has ended gets none.
    ///
    /// # Errors
    ///
    /// [`Error::BadCommand`] if there is no such signal. [`Error::Unsupported`] where the exec API runs the command, which
    /// cannot send signals: use [`kill`](Self::kill), or run `kill` as a command of its own. [`Error::Engine`].
    ///
    /// # Cancel safety
    ///
    /// Safe: the signal is sent or not.
    pub async fn signal(&mut self, signal: impl Into<Signal>) -> Result<(), Error> {
        let (reins, signal) = (self.reins(), signal.into());
        reins.signal(signal, To::First).await
    }

    /// Sends a [`Signal`], or one by number, to every process of the command, once to each: at once to the process group of its
    /// first process, and then to all others that it has started and that [`kill`](Self::kill) would end too. A command whose
    /// first process has ended gets none.
    ///
    /// Of the processes outside of the process group, one that is begun at that moment may get none.
    ///
    /// # Errors
    ///
    /// As [`signal`](Self::signal).
    ///
    /// # Cancel safety
    ///
    /// Safe: the signal is sent or not.
    pub async fn signal_group(&mut self, signal: impl Into<Signal>) -> Result<(), Error> {
        let (reins, signal) = (self.reins(), signal.into());
        reins.signal(signal, To::All).await
    }

    /// Begins to [`stop`](Self::stop) the command, and returns at once: its output can be read meanwhile.
    ///
    /// # Errors
    ///
    /// [`Error::BadCommand`] if there is no such signal. Nothing was done.
    pub fn start_stop(&mut self, signal: impl Into<Signal>, grace: Duration) -> Result<(), Error> {
        self.reins().start_stop(signal.into(), grace)
    }

    /// Asks the command to end, and waits for its end: sends the signal to every process of the command, as
    /// [`signal_group`](Self::signal_group) does, and after `grace` kills those that are left. When this returns, none of them
    /// runs any more, and the container can be used on.
    ///
    /// The status is the command's own, e.g. `Signaled(2)` or `Exited(130)`, if all of its processes have ended within `grace`,
    /// also those that it had left in the background; else [`ExitStatus::Killed`]. A further call sends another signal; the
    /// shortest grace counts. If the first process had ended before the signal came, what it has left goes on, as after any command, and
    /// may also do so where the status is [`ExitStatus::Killed`]: [`try_wait`](Self::try_wait) says `None` until the output that came
    /// before the end is read. [`Container::kill_all`](crate::Container::kill_all) ends all that is left.
    ///
    /// The exec API cannot send signals. There the grace is passed over: the command is killed at once with its container, as by
    /// [`kill`](Self::kill), and the status is [`ExitStatus::Killed`].
    ///
    /// As [`wait`](Self::wait), this closes the standard input, and output that nobody reads can keep a command from ending within
    /// its grace: see [`start_stop`](Self::start_stop).
    ///
    /// # Errors
    ///
    /// [`Error::BadCommand`] if there is no such signal; else as [`wait`](Self::wait).
    ///
    /// # Cancel safety
    ///
    /// The stop goes on when the future is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use dockerpool::{ExitStatus, Signal};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # let engine = dockerpool::testing::FakeEngine::new();
    /// # engine.on_exec(|_| dockerpool::testing::FakeProcess::forever());
    /// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
    /// # let c = pool.acquire().await?;
    /// let mut step = c.command("make").arg("all").spawn().await?;
    /// let status = step.stop(Signal::INT, Duration::from_secs(10)).await?;
    /// match status {
    ///     ExitStatus::Killed => println!("it had to be killed"),
    ///     own => println!("it has ended by itself: {own}"),
    /// }
    /// # assert_eq!(status, ExitStatus::Killed);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stop(&mut self, signal: impl Into<Signal>, grace: Duration) -> Result<ExitStatus, Error> {
        self.reins().start_stop(signal.into(), grace)?;
        self.wait().await
    }
}
