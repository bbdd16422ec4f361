//! The part of a container that does not depend on its state: what it is, whom to ask about it, and its end.

use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::Taint;
use super::life::Life;
use super::removal::{GiveUp, Removal};
use super::supervise::Supervised;
use crate::agent::{AgentFile, Client, InUse, Place, SOCKET_TARGET, Socket};
use crate::engine::{
    Attachment, ContainerState, Engine, EngineError, EngineErrorKind, ExecRequest, ExecSession, Identity, Mount,
    MountSource, OutputStream,
};
use crate::runtime::Home;
use crate::runtime::bounded;
use crate::spec::{GUARD_USER, Keep, Resolved};

/// What the owner of a container and the commands in it share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) name: String,
    /// Its name until its first use, where a container that was never used is to be told from others.
    fresh: Option<Fresh>,
    pub(crate) spec: Arc<Resolved>,
    pub(crate) call_timeout: Duration,
    pub(crate) runtime: Home,
    id: OnceLock<String>,
    /// A [`Taint`] as a number; 0: none.
    taint: AtomicU8,
    /// Commands that were begun and have not provably ended.
    unfinished: AtomicUsize,
    /// How many commands were begun, and whether one was by an earlier lease, which may have left processes behind.
    begun: AtomicUsize,
    begun_earlier: AtomicBool,
    oom_kills: Mutex<OomLog>,
    started: OnceLock<Instant>,
    lifeline: Mutex<Option<Lifeline>>,
    /// How long its keeper keeps it.
    pub(crate) life: Life,
    /// Its owner's `Drop` has nothing to do: nothing is left to be removed, or somebody else has taken it over.
    released: AtomicBool,
    /// PID 1 where that is the agent; its connection is the lifeline then.
    agent: OnceLock<Client>,
    /// Its own command, where the agent runs that.
    supervised: OnceLock<Supervised>,
    /// Its socket, until it has connected to that.
    agent_socket: Mutex<Option<Socket>>,
    /// Until it has started.
    agent_in_use: Mutex<InUse>,
    /// Who is told if nobody can remove it.
    /// Settings that the engine may have ignored are looked at once more when it has started.
    look_again: AtomicBool,
    give_up: GiveUp,
}

/// PID 1's standard streams, held open.
#[derive(Debug)]
enum Lifeline {
    Unwatched(Attachment),
    /// By a task that has them.
    Watched {
        _task: AbortOnDropHandle<()>,
    },
}

/// Kills for memory of which the engine has told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OomKills {
    pub(crate) count: u64,
    /// Those that came while one command was there, and no earlier lease can have left anything: it was a process of that
    /// command, or of its lease.
    pub(crate) of_single_command: u64,
}

#[derive(Debug, Default)]
struct OomLog {
    kills: OomKills,
    /// When the last ones were, by the engine's clock: it may tell of the same one several times. They are known by being
    /// the same and not by being late, since that clock may be set back.
    told: VecDeque<SystemTime>,
}

/// How many events an engine tells again, to whoever asks what was before: Docker keeps the last 256.
const TOLD_AGAIN: usize = 256;

/// A mark that says that a container was never used: the name it has until then. Labels cannot be changed.
#[derive(Debug)]
struct Fresh {
    name: String,
    taken_off: OnceCell<()>,
}

/// PID 1 has nothing to say after its sign of life, but whoever is in the container can write to its output. A pause
/// after each piece keeps that from costing us much.
pub(super) const LIFELINE_PAUSE: Duration = Duration::from_millis(10);

/// How much of what PID 1 has printed last is kept to say why it has ended, in bytes.
const WORDS: usize = 1024;

/// How long after its start a command of the user's own is looked at.
pub(super) const SETTLE: Duration = Duration::from_millis(50);

impl Shared {
    /// Since when it runs.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.started.get().copied()
    }

    /// The engine's id; the name until the engine has given one.
    pub(crate) fn id(&self) -> &str {
        self.id.get().map_or(self.first_name(), String::as_str)
    }

    fn first_name(&self) -> &str {
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
        self.spec.decided.supervised.is_some()
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
            let own_user = self
                .spec
                .decided
                .command_user
                .as_ref()
                .filter(|_| request.user.is_none());
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
        if self.spec.plan.security.writable_cgroups || !self.spec.command_limits.is_empty() {
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
        let Some(own_user) = &self.spec.decided.command_user else {
            return self.engine.exec(self.id(), request).await;
        };
        // The container's own user is that of PID 1 alone.
        let user = request.user.as_ref().unwrap_or(own_user);
        if user.split(':').next() == GUARD_USER.split(':').next() {
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

/// PID 1 of a container with a lifeline gives back what it reads. That it does shows that it is there and can run.
async fn echo(lifeline: &mut Attachment) -> Result<(), EngineError> {
    let broken = |error| EngineError::new(EngineErrorKind::Protocol, "PID 1 cannot be written to").with_source(error);
    let written = async {
        lifeline.stdin.write_all(b"\n").await?;
        lifeline.stdin.flush().await
    };
    // One that has ended already cannot be written to, and its last words say why.
    let written = written.await.map_err(broken);
    let mut words = Vec::new();
    while let Some(frame) = lifeline.output.next().await {
        match frame? {
            frame if frame.stream == OutputStream::Stdout => return written,
            frame => words.extend_from_slice(&frame.data),
        }
        words.drain(..words.len().saturating_sub(WORDS));
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    Err(EngineError::new(
        EngineErrorKind::CannotStart,
        format!("the library's PID 1, `cat`, ended right after the start: {words}"),
    ))
}

/// The one owner of a container. Dropping it removes the container in the background.
///
/// No more than a pointer, since it is moved some ten times between the pool and the guard.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Takes responsibility for a container of this name before it is asked for, so that whatever comes of the call is
    /// cleaned up.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        name: String,
        spec: Arc<Resolved>,
        call_timeout: Duration,
        runtime: Home,
    ) -> Self {
        Self::with_mark(engine, name, None, spec, call_timeout, runtime, GiveUp::default())
    }

    /// As [`new`](Self::new); with another name until its first use.
    pub(crate) fn with_mark(
        engine: Arc<dyn Engine>,
        name: String,
        fresh_name: Option<String>,
        spec: Arc<Resolved>,
        call_timeout: Duration,
        runtime: Home,
        give_up: GiveUp,
    ) -> Self {
        let fresh = fresh_name.map(|name| Fresh {
            name,
            taken_off: OnceCell::new(),
        });
        let shared = Shared {
            engine,
            name,
            fresh,
            spec,
            call_timeout,
            runtime,
            id: OnceLock::new(),
            taint: AtomicU8::new(0),
            unfinished: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            begun_earlier: AtomicBool::new(false),
            oom_kills: Mutex::default(),
            started: OnceLock::new(),
            lifeline: Mutex::new(None),
            life: Life::default(),
            released: AtomicBool::new(false),
            agent: OnceLock::new(),
            supervised: OnceLock::new(),
            agent_socket: Mutex::new(None),
            agent_in_use: Mutex::default(),
            look_again: AtomicBool::new(false),
            give_up,
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Creates the container, and gives what the engine says of it. One that lacks a limit that was asked for is refused.
    /// With `look`, the engine is asked for such limits too, and for settings that it has ignored.
    pub(crate) async fn create(&self, look: bool) -> Result<Vec<String>, EngineError> {
        let Shared { engine, spec, .. } = &*self.shared;
        match spec.decided.agent.as_ref().map(AgentFile::ensure).transpose() {
            Ok(in_use) => *self.shared.agent_in_use.lock() = in_use.unwrap_or_default(),
            Err(error) => {
                // Nothing was asked for.
                self.release();
                let message = "the agent's program could not be written to any directory of this machine";
                return Err(EngineError::of_system(EngineErrorKind::Internal, message, error));
            }
        }
        let mut identity = Identity::new(self.shared.first_name());
        let socket = spec.agent_with_socket().and_then(AgentFile::socket);
        identity.mounts.extend(socket.as_ref().map(|socket| {
            let path = socket.path().to_owned();
            Mount::new(SOCKET_TARGET, MountSource::File { path, is_own: true })
        }));
        *self.shared.agent_socket.lock() = socket;
        let plan = spec.present_plan();
        let created = bounded(
            "the creation of a container",
            self.shared.call_timeout,
            engine.create(&identity, &plan),
        )
        .await;
        match created {
            Ok(created) => {
                let _ = self.shared.id.set(created.id);
                let mut discarded = created.discarded;
                if look && discarded.is_empty() {
                    let missing = engine.missing_limits(self.shared.id(), &spec.plan);
                    discarded = bounded("an inspect", self.shared.call_timeout, missing).await?;
                }
                if !discarded.is_empty() {
                    let message = format!("limits that were asked for are not set: {}", discarded.join("; "));
                    return Err(EngineError::new(EngineErrorKind::LimitDiscarded, message));
                }
                if look {
                    self.refuse_ignored_settings().await?;
                    self.shared.look_again.store(true, Ordering::Release);
                }
                Ok(created.warnings)
            }
            Err(error) => {
                // Any other error is the engine's answer that it made nothing, or says that it never got the request.
                if !matches!(error.kind(), EngineErrorKind::Timeout | EngineErrorKind::Protocol) {
                    self.release();
                }
                Err(error)
            }
        }
    }

    /// Fails where the engine has ignored a setting of isolation that was asked for.
    async fn refuse_ignored_settings(&self) -> Result<(), EngineError> {
        let Shared { engine, spec, .. } = &*self.shared;
        let ignored = engine.ignored_settings(self.shared.id(), &spec.plan);
        let ignored = bounded("an inspect", self.shared.call_timeout, ignored).await?;
        if ignored.is_empty() {
            return Ok(());
        }
        let message = format!("the engine ignored what was asked for: {}", ignored.join("; "));
        Err(EngineError::new(EngineErrorKind::SettingIgnored, message))
    }

    /// Takes over a running container that has another name so far. That nobody else does so is the caller's to see to.
    pub(crate) async fn take_over(&self, from: &str, id: String) -> Result<(), EngineError> {
        let rename = self.shared.engine.rename(from, self.shared.first_name());
        let renamed = bounded("the renaming of a container", self.shared.call_timeout, rename).await;
        match &renamed {
            Ok(()) => {
                let _ = self.shared.id.set(id);
                let _ = self.shared.started.set(Instant::now());
            }
            // If its answer was lost, what has our name now is removed.
            Err(error) if matches!(error.kind(), EngineErrorKind::Timeout | EngineErrorKind::Protocol) => {}
            Err(_) => self.release(),
        }
        renamed
    }

    /// Attaches the lifeline, where there is one, starts the container, and sees that PID 1 runs.
    pub(crate) async fn start(&self) -> Result<(), EngineError> {
        let Shared {
            engine,
            spec,
            call_timeout,
            ..
        } = &*self.shared;
        let start = || {
            bounded(
                "the start of a container",
                *call_timeout,
                engine.start(self.shared.id()),
            )
        };
        if spec.has_lifeline() {
            // Before the start: a process killed between the two would leave a container that waits for ever.
            let attach = bounded(
                "the attach to a container",
                *call_timeout,
                engine.attach(self.shared.id()),
            );
            let mut lifeline = attach.await?;
            start().await?;
            // It is mounted.
            drop(std::mem::take(&mut *self.shared.agent_in_use.lock()));
            let what = "the first sign of life of a container";
            if spec.decided.agent.is_some() {
                let socket = self.shared.agent_socket.lock().take();
                let greeting = Client::connect(lifeline, socket, &spec.command_limits, self.shared.runtime.handle());
                let mut agent = bounded(what, *call_timeout, greeting).await?;
                if spec.plan.security.writable_cgroups {
                    bounded("the making of control groups", *call_timeout, agent.make_cgroups()).await?;
                }
                let agent = self.shared.agent.get_or_init(|| agent);
                if let Some(argv) = &spec.decided.supervised {
                    self.supervise(agent, argv).await?;
                }
            } else {
                bounded(what, *call_timeout, echo(&mut lifeline)).await?;
                *self.shared.lifeline.lock() = Some(Lifeline::Unwatched(lifeline));
            }
        } else {
            start().await?;
            self.settle().await?;
        }
        // Docker decides only at the start whether there is an AppArmor.
        if self.shared.look_again.swap(false, Ordering::AcqRel) {
            self.refuse_ignored_settings().await?;
        }
        let _ = self.shared.started.set(Instant::now());
        Ok(())
    }

    /// Creates and starts the container, and gives it back if it is to be kept, with what the engine says of it. One that
    /// failed is removed: at once, or in the background where that fails, or when the future is dropped.
    pub(crate) async fn bring_up(self, keep: Keep) -> Result<Option<(Self, Vec<String>)>, EngineError> {
        let up = async {
            let warnings = self.create(true).await?;
            self.start().await?;
            Ok(warnings)
        };
        match up.await {
            Ok(warnings) if keep.0 => Ok(Some((self, warnings))),
            other => {
                self.remove().await;
                other.map(|_| None)
            }
        }
    }

    /// Removes the container, where there is one. Where that fails, or when the future is dropped, it goes on in the
    /// background.
    pub(crate) async fn remove(self) {
        let removal = self.shared.removal();
        if !self.is_released() && removal.attempt().await.is_ok() && removal.confirmed {
            self.release();
        }
    }

    /// The engine's own init starts even if it then cannot start the command: a look a little later tells.
    async fn settle(&self) -> Result<(), EngineError> {
        let shared = &*self.shared;
        tokio::time::sleep(SETTLE).await;
        let report = bounded("an inspect", shared.call_timeout, shared.engine.inspect(shared.id())).await?;
        if report.state == ContainerState::Running {
            return Ok(());
        }
        let code = report
            .exit_code
            .map_or("an unknown exit code".to_owned(), |code| format!("exit code {code}"));
        let program = shared.spec.plan.pid1.program.iter().flatten().next();
        let program = program.map_or("PID 1".to_owned(), |program| format!("PID 1, `{program}`,"));
        Err(EngineError::new(
            EngineErrorKind::CannotStart,
            format!("{program} ended right after the start, with {code}"),
        ))
    }

    /// Makes this owner's `Drop` leave the container alone.
    pub(crate) fn release(&self) {
        self.shared.released.store(true, Ordering::Release);
    }

    pub(crate) fn is_released(&self) -> bool {
        self.shared.released.load(Ordering::Acquire)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.is_released() {
            self.shared.remove_behind(None);
        }
    }
}
