//! The operations on a container that runs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::handle::Handle;
use super::state::{Exited, Paused, Running};
use super::taint::Taint;
use super::typestate::Container;
use crate::agent::Client;
use crate::engine::EngineError;
use crate::error::Error;
use crate::values::status::Cgroups;

/// The words for [`kill_all`](Container::kill_all) in errors.
const KILL_ALL: &str = "kill the processes in container";

/// How long one wipe of directories may take.
const WIPE_LIMIT: Duration = Duration::from_secs(10);

impl Container<Running> {
    /// Wraps a container that the pool has brought up.
    pub(crate) fn running(handle: Handle) -> Self {
        Self::from_handle(handle)
    }

    /// Returns which control groups the container has, as its PID 1 sees them.
    pub fn cgroups(&self) -> Cgroups {
        self.shared().agent().map_or(Cgroups::Unknown, Client::cgroups)
    }

    /// Returns the container's address on its network, as the engine reports it after the start. Containers on the same network
    /// reach each other by it; so does this machine, where the engine runs on it, on Linux and with root. `None`: there is no
    /// network, or it is that of the machine.
    ///
    /// A lease that has asked for an address, here or with [`port`](Self::port), counts as one with a command: what a server in the
    /// container has may have changed.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # use dockerpool::{Network, Pool};
    /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
    /// let builder = Pool::builder("online").image("any").network(Network::existing("bridge"));
    /// # let builder = builder.engine(engine);
    /// let c = builder.build().await?.acquire().await?;
    /// assert!(c.ip().is_some_and(|ip| ip.is_ipv4()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn ip(&self) -> Option<IpAddr> {
        self.shared().ip()
    }

    /// Returns where a [published](crate::ContainerSpec::publish) TCP port of the container is reached from this machine, as the
    /// engine reports it after the start. With an engine on another machine, that is an address of that machine: the one at which
    /// the port is published, or else that of the host of the [`Endpoint`](crate::Endpoint). Where a port is published at several
    /// addresses, the first one of version 4 of IP counts.
    ///
    /// A program that is itself in a container, with the engine's socket lent to it, does not reach the loopback interface of the
    /// engine's machine: take [`ip`](Self::ip) there.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if the port is not published.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
    /// # use dockerpool::{Network, Pool};
    /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
    /// let builder = Pool::builder("web").image("any").network(Network::existing("bridge")).publish(8080);
    /// # let builder = builder.engine(engine);
    /// let c = builder.build().await?.acquire().await?;
    /// println!("http://{}/", c.port(8080)?);
    /// assert!(c.port(80).is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn port(&self, port: u16) -> Result<SocketAddr, Error> {
        self.shared().port(port).map_err(|published| {
            let published = match published.as_slice() {
                [] => "no port is".to_owned(),
                ports => format!("published are {ports:?}"),
            };
            Error::Unsupported {
                subject: self.shared().subject(),
                reason: format!("port {port} is not published, {published}: see publish()"),
            }
        })
    }

    /// Returns the number of processes beside PID 1. Processes that have ended and were not waited for count, and so do those
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
        let (op, what) = ("count the processes in container", "a count of processes");
        self.bounded(op, what, agent.process_count()).await
    }

    /// Kills every process but PID 1, and checks that none is left. Commands that run end with
    /// [`ExitStatus::Signaled`](crate::ExitStatus::Signaled).
    ///
    /// No process is spared, since a hostile process could hide among the spared ones. A
    /// [supervised command](crate::ContainerSpec::supervise_command) ends too, and the container with it.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline); [`Error::Engine`], also if processes
    /// are left: processes of another user can only be killed where the container's user is root.
    ///
    /// Calls may overlap. Each call returns only when a scan of all processes that began after the call has found none.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the kill goes on.
    pub async fn kill_all(&self) -> Result<(), Error> {
        let shared = self.shared();
        if shared.is_supervised() {
            shared.set_taint(Taint::Killed);
            return shared
                .runtime
                .run(shared.kill())
                .await
                .map_err(|error| self.error(KILL_ALL, error));
        }
        let agent = self.agent()?;
        let (op, what) = (KILL_ALL, "the kill of all processes");
        self.bounded(op, what, agent.kill_all()).await
    }

    /// Empties these directories, which stay. Directories under `/tmp` or `/dev/shm` are emptied in a few milliseconds. Commands
    /// and their limits go on meanwhile. Calls that overlap take turns of at most ten seconds each.
    ///
    /// No symbolic link is followed: links in the directories are removed. A path that leads through a link, such as `/var/run`
    /// in many images, is an error, since a command may have put the link there; name the real directory. A mount in the
    /// directories is left, which is an error.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] unless PID 1 is the agent, see [`lifeline`](Self::lifeline). [`Error::Engine`], which names the
    /// first path that failed: because the path is not absolute, contains `..` or leads through a symbolic link; because the
    /// container's user may not remove something; because processes make it anew; or because there was not enough time.
    /// Other paths are emptied nevertheless, unless a path is not absolute or contains `..`: then nothing is done.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, a wipe that has begun goes on; a wipe that waits for its turn is not done.
    pub async fn wipe<P: AsRef<str>>(&self, paths: &[P]) -> Result<(), Error> {
        let paths: Vec<&str> = paths.iter().map(AsRef::as_ref).collect();
        let agent = self.agent()?;
        let (op, what) = ("empty directories in container", "a wipe of directories");
        self.shared().commands().touch();
        self.bounded(op, what, agent.wipe(&paths, WIPE_LIMIT)).await
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
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, Error> {
        let shared = self.shared();
        let result = shared.runtime.bounded(what, shared.call_timeout, call).await;
        result.map_err(|error| self.error(op, error))
    }

    /// Freezes all processes of the container.
    ///
    /// PID 1 is frozen too, and does not see this process end: a container that is paused when its owner is killed stays until
    /// somebody unpauses it, and then ends at once; or, if it came from a pool, until the next pool of the same name removes
    /// it.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the container in the background. The same holds for all transitions.
    pub async fn pause(self) -> Result<Container<Paused>, Error> {
        let (op, what) = ("pause the container", "the pause of a container");
        self.transition(op, what, |engine, id| engine.pause(id)).await
    }

    /// Asks PID 1 to end, and kills it after `grace` (in whole seconds). The engine removes a container with a lifeline when it
    /// has ended.
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

    /// Kills all processes of the container.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    pub async fn kill(self) -> Result<Container<Exited>, Error> {
        let (op, what) = ("kill the container", "the kill of a container");
        self.transition(op, what, |engine, id| engine.kill(id)).await
    }
}
