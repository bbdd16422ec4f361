//! What can be done with a container that runs.

use std::time::Duration;

use super::handle::Handle;
use super::state::{Exited, Paused, Running};
use super::taint::Taint;
use super::typestate::Container;
use crate::agent::Client;
use crate::engine::EngineError;
use crate::error::Error;
use crate::values::status::Cgroups;

/// How long emptying directories may take.
const WIPE_LIMIT: Duration = Duration::from_secs(10);

impl Container<Running> {
    /// A container the pool has brought up.
    pub(crate) fn running(handle: Handle) -> Self {
        Self::from_handle(handle)
    }

    /// Which control groups it has, as its PID 1 sees them.
    pub fn cgroups(&self) -> Cgroups {
        self.shared().agent().map_or(Cgroups::Unknown, Client::cgroups)
    }

    /// How many processes there are in it beside PID 1, those included that have ended and were not waited for, and those
    /// of a [supervised command](crate::ContainerSpec::supervise_command).
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline); [`Error::Engine`].
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is changed.
    pub async fn process_count(&self) -> Result<u32, Error> {
        let agent = self.agent()?;
        self.bounded("count the processes in container", agent.process_count())
            .await
    }

    /// Ends every process in it but PID 1, whoever has started it and whatever it ignores, and sees that none is left.
    /// Commands that run come to [`ExitStatus::Signaled`](crate::ExitStatus::Signaled).
    ///
    /// Nobody is spared, since what is spared could be hidden behind: a
    /// [supervised command](crate::ContainerSpec::supervise_command) ends too, and with it, as ever, the container.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline); [`Error::Engine`], also if processes
    /// are left: those of another user can only be ended where the container's user is root.
    ///
    /// Calls may overlap. Each of them returns only when a look at all processes that began after the call has found none.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped it goes on.
    pub async fn kill_all(&self) -> Result<(), Error> {
        let shared = self.shared();
        if shared.is_supervised() {
            shared.set_taint(Taint::Killed);
            return shared
                .runtime
                .run(shared.kill())
                .await
                .map_err(|error| self.error("end the processes in container", error));
        }
        let agent = self.agent()?;
        self.bounded("end the processes in container", agent.kill_all()).await
    }

    /// Removes everything in these directories, which stay. Directories under `/tmp` or `/dev/shm` are emptied in a few
    /// milliseconds. Commands and their limits go on meanwhile; several calls at once take turns, of ten seconds each at
    /// most.
    ///
    /// No symbolic link is followed: those in the directories are removed, and a path that leads through one, such as
    /// `/var/run` in many images, is an error, since a command may have put it there. Name the real directory. What is
    /// mounted in the directories is left, which is an error.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline). [`Error::Engine`], which names the
    /// first path that failed: because the path is not absolute, contains `..` or leads through a symbolic link; because the
    /// container's user may not remove something; because processes make it anew; or because there was not enough time.
    /// Other paths are emptied all the same, unless a path is not absolute or contains `..`: then nothing is done.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a wipe that has begun goes on; one that waits for its turn is not done.
    pub async fn wipe<P: AsRef<str>>(&self, paths: &[P]) -> Result<(), Error> {
        let paths: Vec<&str> = paths.iter().map(AsRef::as_ref).collect();
        let agent = self.agent()?;
        self.bounded("empty directories in container", agent.wipe(&paths, WIPE_LIMIT))
            .await
    }

    fn agent(&self) -> Result<&Client, Error> {
        let agent = self.shared().agent();
        agent.ok_or_else(|| Error::Unsupported {
            subject: self.shared().subject(),
            reason: "this needs the agent as PID 1, and PID 1 is another program (see Container::lifeline())"
                .to_owned(),
        })
    }

    async fn bounded<T>(
        &self,
        op: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Error> {
        let shared = self.shared();
        let result = shared.runtime.bounded(op, shared.call_timeout, call).await;
        result.map_err(|error| self.error(op, error))
    }

    /// Freezes all its processes.
    ///
    /// That goes for PID 1, too, which then does not see this process end: one that is paused when its owner is killed stays
    /// until somebody unpauses it, and then goes at once; or until the next pool of the same name removes it, if it came
    /// from a pool.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the container in the background. So it is with all transitions.
    pub async fn pause(self) -> Result<Container<Paused>, Error> {
        self.transition("pause the container", |engine, id| engine.pause(id))
            .await
    }

    /// Asks PID 1 to end, and kills it after `grace` (in whole seconds). A container with a lifeline is removed by the
    /// engine when it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn stop(self, grace: Duration) -> Result<Container<Exited>, Error> {
        let shared = self.shared();
        let limit = shared.call_timeout.saturating_add(grace);
        let stop = shared.engine.stop(shared.id(), grace);
        match shared.runtime.bounded("the stop of a container", limit, stop).await {
            Ok(()) => Ok(self.into_state()),
            Err(error) => Err(self.error("stop the container", error)),
        }
    }

    /// Ends all its processes at once.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn kill(self) -> Result<Container<Exited>, Error> {
        self.transition("kill the container", |engine, id| engine.kill(id))
            .await
    }

    /// Whether it may be lent as it is.
    #[inline]
    pub(crate) fn is_usable(&self) -> bool {
        let shared = self.shared();
        !shared.is_tainted() && !shared.has_unfinished_commands() && !shared.life.is_withdrawn()
    }
}
