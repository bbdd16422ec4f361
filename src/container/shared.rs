//! What the owner of a container and the commands in it share: [`Shared`].

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::life::Life;
use super::lifeline::{LIFELINE_PAUSE, Lifeline};
use super::memory_kills::{OomKills, OomLog, TOLD_AGAIN};
use super::removal::{GiveUp, Removal};
use super::supervise::Supervised;
use super::taint::Taint;
use crate::agent::{self, Client, InUse, Place, Socket};
use crate::engine::{ContainerSpec, Engine, EngineError, EngineErrorKind, ExecRequest, ExecSession, raw};
use crate::runtime::{Home, bounded};

/// What the owner of a container and the commands in it share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) name: String,
    /// Its name until its first use, where a container that was never used is to be told from others.
    pub(super) fresh: Option<Fresh>,
    pub(crate) spec: Arc<ContainerSpec>,
    pub(crate) call_timeout: Duration,
    pub(crate) runtime: Home,
    pub(super) id: OnceLock<String>,
    /// A [`Taint`] as a number; 0: none.
    pub(super) taint: AtomicU8,
    /// Commands that were begun and have not provably ended.
    pub(super) unfinished: AtomicUsize,
    /// How many commands were begun, and whether one was by an earlier lease, which may have left processes behind.
    pub(super) begun: AtomicUsize,
    pub(super) begun_earlier: AtomicBool,
    pub(super) oom_kills: Mutex<OomLog>,
    pub(super) started: OnceLock<Instant>,
    pub(super) lifeline: Mutex<Option<Lifeline>>,
    /// How long its keeper keeps it.
    pub(crate) life: Life,
    /// Its owner's `Drop` has nothing to do: nothing is left to be removed, or somebody else has taken it over.
    pub(super) released: AtomicBool,
    /// PID 1 where that is the agent; its connection is the lifeline then.
    pub(super) agent: OnceLock<Client>,
    /// Its own command, where the agent runs that.
    pub(super) supervised: OnceLock<Supervised>,
    /// Its socket, until it has connected to that.
    pub(super) agent_socket: Mutex<Option<Socket>>,
    /// Until it has started.
    pub(super) agent_in_use: Mutex<InUse>,
    /// Who is told if nobody can remove it.
    /// Settings that the engine may have ignored are looked at once more when it has started.
    pub(super) look_again: AtomicBool,
    pub(super) give_up: GiveUp,
}

/// A mark that says that a container was never used: the name it has until then. Labels cannot be changed.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) name: String,
    pub(super) taken_off: OnceCell<()>,
}

impl Shared {
    /// Since when it runs.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.started.get().copied()
    }

    /// The engine's id; the name until the engine has given one.
    pub(crate) fn id(&self) -> &str {
        self.id.get().map_or(self.first_name(), String::as_str)
    }

    pub(super) fn first_name(&self) -> &str {
        self.fresh.as_ref().map_or(&self.name, |fresh| &fresh.name)
    }

    /// Marks the container as lent. A container that still has its `.fresh` name is renamed in the background; commands wait for
    /// the rename, see [`used`](Self::used).
    #[inline]
    pub(crate) fn begin_use(self: &Arc<Self>) {
        if self.fresh.as_ref().is_some_and(|fresh| !fresh.taken_off.initialized()) {
            let shared = self.clone();
            self.runtime.spawn(async move {
                if let Err(error) = bounded("a rename", shared.call_timeout, shared.used()).await {
                    tracing::debug!(container = shared.name, %error, "could not be marked as used yet");
                }
            });
        }
    }

    /// The mark that it was never used is off, for certain.
    pub(crate) async fn used(&self) -> Result<(), EngineError> {
        let Some(fresh) = &self.fresh else { return Ok(()) };
        let take_off = || async {
            // By its name, not its id: a request that the engine carries out late, when this process is gone and another
            // one has the container, then finds nothing.
            let Err(error) = self.engine.rename(&fresh.name, &self.name).await else {
                return Ok(());
            };
            // An earlier call, whose answer was lost, may have done it.
            match self.engine.inspect(self.id()).await {
                Ok(there) if there.name == self.name => Ok(()),
                _ => Err(error),
            }
        };
        fresh.taken_off.get_or_try_init(take_off).await.copied()
    }

    pub(crate) fn taint(&self) -> Option<Taint> {
        Taint::from_code(self.taint.load(Ordering::Acquire))
    }

    #[inline]
    pub(crate) fn is_tainted(&self) -> bool {
        self.taint.load(Ordering::Acquire) != 0
    }

    /// Forbids reuse. The first reason is kept.
    pub(crate) fn set_taint(&self, taint: Taint) {
        let _ = self
            .taint
            .compare_exchange(0, taint as u8, Ordering::AcqRel, Ordering::Acquire);
    }

    #[inline]
    pub(crate) fn has_unfinished_commands(&self) -> bool {
        self.unfinished.load(Ordering::Acquire) != 0
    }

    /// Counts a command as unfinished until the token is told that it has ended.
    pub(crate) fn begin_command(self: &Arc<Self>) -> Unfinished {
        self.unfinished.fetch_add(1, Ordering::AcqRel);
        self.begun.fetch_add(1, Ordering::AcqRel);
        Unfinished {
            shared: Some(self.clone()),
        }
    }

    /// The lease has ended, and there may be another.
    pub(crate) fn end_lease(&self) {
        if self.begun() != 0 {
            self.begun_earlier.store(true, Ordering::Release);
        }
    }

    pub(crate) fn oom_kills(&self) -> OomKills {
        self.oom_kills.lock().kills
    }

    /// The engine has told of a kill for memory, which forbids reuse. It may tell of the same one several times.
    pub(crate) fn note_oom_kill(&self, at: Option<SystemTime>) {
        let mut log = self.oom_kills.lock();
        if let Some(at) = at {
            if log.told.contains(&at) {
                return;
            }
            if log.told.len() == TOLD_AGAIN {
                log.told.pop_front();
            }
            log.told.push_back(at);
        }
        log.kills.count += 1;
        if self.runs_single_command() {
            log.kills.of_single_command += 1;
        }
        self.set_taint(Taint::OutOfMemory);
    }

    /// How many commands were begun in it.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Acquire)
    }

    /// Whether one command runs, and nothing of an earlier lease can.
    pub(crate) fn runs_single_command(&self) -> bool {
        let alone = self.unfinished.load(Ordering::Acquire) == 1 && !self.is_supervised();
        alone && !self.begun_earlier.load(Ordering::Acquire)
    }

    /// The agent, where it is PID 1: also where commands are run by the engine.
    pub(crate) fn agent(&self) -> Option<&Client> {
        self.agent.get()
    }

    /// The agent, where commands are run by it.
    fn runner(&self) -> Option<&Client> {
        self.agent().filter(|_| self.spec.agent_runs_commands())
    }

    /// Whether the agent runs its own command in it.
    pub(crate) fn is_supervised(&self) -> bool {
        self.spec.supervised.is_some()
    }

    /// Why it is gone, if that is because its own command has ended.
    pub(crate) fn end_of_command(&self) -> Option<EngineError> {
        self.supervised.get()?.end()
    }

    /// Its command runs. The first one counts.
    pub(super) fn set_supervised(&self, supervised: Supervised) {
        let _ = self.supervised.set(supervised);
    }

    /// Waits in turn until the agent has a place for one command more; `None` at once where the engine will run it. Dropping
    /// the future leaves the queue.
    pub(crate) async fn place(&self, request: &ExecRequest) -> Result<Option<Place>, EngineError> {
        match self.runner() {
            Some(agent) if agent.can_run(request) => agent.place().await.map(Some),
            _ => Ok(None),
        }
    }

    /// Runs a command in it: by the agent where there is a place of its for it, else by the engine. `time` is how long it
    /// may take, for those that can see to that themselves.
    pub(crate) async fn exec(
        &self,
        place: Option<Place>,
        request: &ExecRequest,
        env_clear: bool,
        time: Option<Duration>,
    ) -> Result<ExecSession, EngineError> {
        // It is being killed for it.
        if let Some(error) = self.end_of_command() {
            return Err(error);
        }
        if let (Some(agent), Some(place)) = (self.agent(), place) {
            // PID 1 is not who commands are.
            let own_user = self.spec.command_user.as_ref().filter(|_| request.user.is_none());
            return match own_user {
                Some(user) => {
                    let request = ExecRequest {
                        user: Some(user.clone()),
                        ..request.clone()
                    };
                    agent.exec(place, &request, env_clear, time)
                }
                None => agent.exec(place, request, env_clear, time),
            };
        }
        // The engine would run it as root, in the group of PID 1.
        if self.spec.writable_cgroups || !raw::limits_of_commands(&self.spec).is_empty() {
            if let Some(lost) = self.runner().and_then(Client::lost) {
                // PID 1 has ended, or is about to. The engine would run the command without its limits until then.
                let message = "the agent, which is PID 1, has ended";
                return Err(EngineError::new(EngineErrorKind::NotFound, message).with_source(lost));
            }
            let message = "the agent sets the limits of commands, and cannot run this one";
            return Err(EngineError::new(EngineErrorKind::Unsupported, message));
        }
        if env_clear {
            return self.exec_by_engine(&without_env(request)).await;
        }
        self.exec_by_engine(request).await
    }

    async fn exec_by_engine(&self, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        let Some(own_user) = &self.spec.command_user else {
            return self.engine.exec(self.id(), request).await;
        };
        // The container's own user is that of PID 1 alone.
        let user = request.user.as_ref().unwrap_or(own_user);
        if user.split(':').next() == agent::GUARD_USER.split(':').next() {
            let message = format!("the user {user} is kept for PID 1 of the container");
            return Err(EngineError::new(EngineErrorKind::CannotStart, message));
        }
        let request = ExecRequest {
            user: Some(user.clone()),
            ..request.clone()
        };
        self.engine.exec(self.id(), &request).await
    }

    /// Whether such a command can be ended alone, so that the container is as good as it was.
    pub(crate) fn ends_alone(&self, request: &ExecRequest) -> bool {
        self.runner().is_some_and(|agent| agent.can_run(request))
    }

    /// Ends every process in the container.
    pub(crate) async fn kill(&self) -> Result<(), EngineError> {
        bounded(
            "the kill of a container",
            self.call_timeout,
            self.engine.kill(self.id()),
        )
        .await
    }

    /// Does this when the lifeline breaks, while the container is there. Then PID 1 has ended, or it goes on and would
    /// outlive us: engines that keep containers running while they are restarted themselves let go of its input.
    pub(crate) fn watch_lifeline(&self, broke: impl FnOnce() + Send + 'static) {
        if let Some(agent) = self.agent() {
            return agent.on_lost(broke);
        }
        let mut lifeline = self.lifeline.lock();
        *lifeline = match lifeline.take() {
            Some(Lifeline::Unwatched(mut attachment)) => {
                let task = self.runtime.spawn(async move {
                    while let Some(Ok(_)) = attachment.output.next().await {
                        tokio::time::sleep(LIFELINE_PAUSE).await;
                    }
                    broke();
                });
                Some(Lifeline::Watched {
                    _task: AbortOnDropHandle::new(task),
                })
            }
            other => other,
        };
    }

    pub(crate) fn removal(&self) -> Removal {
        Removal {
            engine: self.engine.clone(),
            target: self.id().to_owned(),
            among: None,
            confirmed: self.id.get().is_some(),
            call_timeout: self.call_timeout,
        }
    }

    /// Removes it where nobody waits for that. `keep` is dropped when that has ended.
    pub(crate) fn remove_behind(&self, keep: Option<Box<dyn Any + Send>>) {
        self.removal()
            .spawn(self.runtime.handle(), &self.name, self.give_up.clone(), keep);
    }
}

/// The same run by the container's own `env`, since the exec API cannot take variables away.
fn without_env(request: &ExecRequest) -> ExecRequest {
    let mut request = request.clone();
    // What follows `--` is no option of it, whatever it begins with.
    let mut argv: Vec<_> = ["env", "-i", "--"].map(str::to_owned).into();
    argv.append(&mut request.env);
    argv.append(&mut request.argv);
    request.argv = argv;
    request
}

/// A command that may still run.
pub(crate) struct Unfinished {
    shared: Option<Arc<Shared>>,
}

impl Unfinished {
    /// It has provably ended.
    pub(crate) fn ended(mut self) {
        if let Some(shared) = self.shared.take() {
            shared.unfinished.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Nobody proved its end: it stays counted, and the container is not lent again.
        if let Some(shared) = &self.shared {
            shared.set_taint(Taint::UnknownOutcome);
        }
    }
}
