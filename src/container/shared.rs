//! The state of a container that its owner and its commands share: [`Shared`].

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use tokio::time::Instant;

use super::address::Addresses;
use super::cleaning::Cleanliness;
use super::commands::{Commands, Unfinished};
use super::death::Death;
use super::heard::Heard;
use super::identity::Identity;
use super::lease_value::LeaseValue;
use super::life::Life;
use super::memory_kills::{MemoryKills, OomKills};
use super::pid1::Pid1;
use super::ready::Waiting;
use super::removal::{Duty, GiveUp, Removal};
use super::startup::Startup;
use super::supervise::{CommandEnd, Supervised, never_began};
use super::taint::{FirstTaint, Taint};
use crate::agent::Client;
use crate::engine::{Engine, EngineError, EngineErrorKind, Event, EventKind};
use crate::runtime::{Home, bounded};
use crate::spec::Resolved;
use crate::values::labels;
use crate::values::subject::Subject;

/// One container, apart from its state as a type: each field is one concern.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) spec: Arc<Resolved>,
    /// The deadline of one engine call.
    pub(crate) call_timeout: Duration,
    pub(crate) runtime: Home,
    /// How long a pool keeps the container.
    pub(crate) life: Life,
    /// The facts about the container's end.
    pub(crate) death: Death,
    /// The variables of the commands of the present lease.
    lease_env: LeaseEnv,
    /// The value that the room of commands keeps for the present lease.
    lease_value: LeaseValue,
    pub(super) identity: Identity,
    pub(super) startup: Startup,
    pub(super) pid1: Pid1,
    pub(super) duty: Duty,
    pub(super) cleanliness: Cleanliness,
    pub(super) addresses: Addresses,
    /// The sign or hook that the container waits for while it is being created.
    pub(super) waiting: Waiting,
    taint: FirstTaint,
    commands: Commands,
    memory_kills: MemoryKills,
}

/// Holds variables, each as `NAME=value`. `Debug` does not show them.
#[derive(Default)]
struct LeaseEnv(RwLock<Vec<String>>);

impl fmt::Debug for LeaseEnv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseEnv").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        identity: Identity,
        spec: Arc<Resolved>,
        call_timeout: Duration,
        runtime: Home,
        give_up: GiveUp,
    ) -> Self {
        Self {
            engine,
            spec,
            call_timeout,
            runtime,
            life: Life::default(),
            death: Death::default(),
            lease_env: LeaseEnv::default(),
            lease_value: LeaseValue::default(),
            identity,
            startup: Startup::default(),
            pid1: Pid1::default(),
            duty: Duty::new(give_up),
            cleanliness: Cleanliness::default(),
            addresses: Addresses::default(),
            waiting: Waiting::default(),
            taint: FirstTaint::default(),
            commands: Commands::default(),
            memory_kills: MemoryKills::default(),
        }
    }

    /// Returns the container's name, also while the container still has its fresh name.
    pub(crate) fn name(&self) -> &str {
        self.identity.name()
    }

    /// Returns the name of the pool that the container is from, also if the container was taken out of it.
    pub(crate) fn pool(&self) -> Option<&str> {
        self.spec.plan.labels.get(labels::POOL).map(String::as_str)
    }

    /// Returns the names of the container and its pool, for errors.
    pub(crate) fn subject(&self) -> Subject {
        Subject::new(self.pool(), Some(self.name()))
    }

    /// Returns the engine's id, or the name until the engine has given an id.
    pub(crate) fn id(&self) -> &str {
        self.identity.id()
    }

    /// Returns when the container started.
    pub(crate) fn started(&self) -> Option<Instant> {
        self.startup.started()
    }

    /// Marks the container as lent. A container that still has its fresh name is renamed in the background; commands wait for
    /// the rename, see [`used`](Self::used).
    #[inline]
    pub(crate) fn begin_use(self: &Arc<Self>) {
        if self.identity.is_fresh() {
            let shared = self.clone();
            self.runtime.spawn(async move {
                if let Err(error) = bounded("a rename", shared.call_timeout, shared.used()).await {
                    tracing::debug!(container = shared.name(), %error, "the container could not be marked as used yet");
                }
            });
        }
    }

    /// Waits until the container no longer has its fresh name.
    pub(crate) async fn used(&self) -> Result<(), EngineError> {
        self.identity.end_fresh(&*self.engine).await
    }

    /// Sets the variables of the commands of this lease, each as `NAME=value`.
    pub(crate) fn set_lease_env(&self, env: Vec<String>) {
        *self.lease_env.0.write() = env;
    }

    /// Returns these variables, before those of a command.
    pub(crate) fn with_lease_env(&self, of_command: Vec<String>) -> Vec<String> {
        let mut env = self.lease_env.0.read().clone();
        env.extend(of_command);
        env
    }

    /// Calls a function with each of these variables.
    pub(crate) fn each_lease_var(&self, see: impl FnMut(&String)) {
        self.lease_env.0.read().iter().for_each(see);
    }

    /// Notes the end of a lease.
    pub(crate) fn end_lease(&self) {
        self.commands.end_lease();
    }

    /// Returns the value that a later room keeps for this lease, which is made if there is none.
    pub(crate) fn lease_value<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.lease_value.get()
    }

    /// Returns the value that a later room keeps for this lease, if it was made.
    pub(crate) fn known_lease_value<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.lease_value.known()
    }

    /// Drops the value of the lease that has ended. The lease of a key keeps it for the next one.
    #[inline]
    pub(crate) fn end_lease_value(&self) {
        self.lease_value.end();
    }

    pub(crate) fn taint(&self) -> Option<Taint> {
        self.taint.get()
    }

    #[inline]
    pub(crate) fn is_tainted(&self) -> bool {
        self.taint.is_set()
    }

    /// Returns whether the container may be lent again after its present lease, as far as is known now.
    pub(crate) fn may_be_lent_again(&self) -> bool {
        !self.is_tainted() && !self.life.is_outdated() && !self.life.is_withdrawn()
    }

    /// Returns whether the next lease of the same key may have the container, though other commands may still run in it.
    pub(crate) fn may_be_resumed(&self) -> bool {
        !self.is_tainted() && !self.life.is_withdrawn()
    }

    /// Forbids reuse. The first reason is kept.
    pub(crate) fn set_taint(&self, taint: Taint) {
        self.taint.set(taint);
    }

    pub(super) fn commands(&self) -> &Commands {
        &self.commands
    }

    #[inline]
    pub(crate) fn has_unfinished_commands(&self) -> bool {
        self.commands.has_unfinished()
    }

    /// Counts a command as unfinished until the token is told that it has ended.
    pub(crate) fn begin_command(self: &Arc<Self>) -> Unfinished {
        Unfinished::new(self.clone())
    }

    /// Returns how many commands were begun.
    pub(crate) fn begun(&self) -> usize {
        self.commands.begun()
    }

    /// Returns whether one command runs, whatever earlier leases have left.
    pub(crate) fn runs_only_command(&self) -> bool {
        self.commands.is_only() && !self.is_supervised()
    }

    /// Returns whether one command runs, and no other process that a lease began can.
    pub(crate) fn runs_single_command(&self) -> bool {
        self.commands.is_single() && !self.is_supervised()
    }

    pub(crate) fn oom_kills(&self) -> OomKills {
        self.memory_kills.so_far()
    }

    /// Counts a kill for memory that the engine has reported, and forbids reuse. Idempotent for one `at`.
    pub(crate) fn note_oom_kill(&self, at: Option<SystemTime>) {
        if self.memory_kills.note(at, || self.runs_single_command()) {
            self.set_taint(Taint::OutOfMemory);
            self.death.wake();
        }
    }

    /// Notes what an event of the engine tells of the container's end. Idempotent.
    pub(crate) fn note_event(&self, event: &Event) {
        match event.kind {
            EventKind::OutOfMemory => self.note_oom_kill(event.at),
            EventKind::Killed => self.death.note_kill(),
            EventKind::Died => self.death.note_end(event.exit_code),
            EventKind::Removed => self.death.note_removal(),
            EventKind::Paused => {}
        }
    }

    /// Returns the agent, where PID 1 is the agent; also where the engine runs the commands.
    pub(crate) fn agent(&self) -> Option<&Client> {
        self.pid1.agent()
    }

    /// Returns whether the agent runs a command of the container's own.
    pub(crate) fn is_supervised(&self) -> bool {
        self.spec.decided.supervised.is_some()
    }

    /// Returns whether PID 1 is a command of the container's own.
    pub(crate) fn has_own_command(&self) -> bool {
        !self.spec.has_lifeline()
    }

    /// Returns how the container's own command ended, if it has: the container ends with it.
    pub(crate) fn end_of_command(&self) -> Option<EngineError> {
        self.pid1.supervised()?.end()
    }

    /// Asks the engine whether the container has ended. Returns its exit code if it has, as far as the engine tells that.
    pub(crate) async fn look_at_end(&self) -> Option<Option<i64>> {
        use crate::engine::ContainerState::{Paused, Restarting, Running};

        match bounded("an inspect", self.call_timeout, self.engine.inspect(self.id())).await {
            Ok(report) if matches!(report.state, Running | Paused | Restarting) => None,
            Ok(report) => Some(report.exit_code),
            Err(error) if error.kind() == EngineErrorKind::NotFound => Some(None),
            Err(_) => None,
        }
    }

    /// Returns the end of a PID 1 that is the container's own command.
    pub(super) fn end_of_pid1(&self, code: Option<i64>, last_words: String) -> CommandEnd {
        CommandEnd {
            words: self.words_of_pid1("has ended", code),
            last_words,
            never_began: never_began(code),
        }
    }

    /// Returns words for the end of a PID 1 that is the container's own command.
    pub(super) fn words_of_pid1(&self, has_ended: &str, code: Option<i64>) -> String {
        let program = self.spec.plan.pid1.program.iter().flatten().next();
        let program = program.map_or("PID 1".to_owned(), |program| format!("PID 1, `{program}`,"));
        let code = code.map_or("an unknown exit code".to_owned(), |code| format!("exit code {code}"));
        format!("{program} {has_ended} with {code}")
    }

    /// Waits for the end of the command that the agent runs as the container's own. Returns `None` if the container has ended.
    pub(super) async fn supervised_end(&self) -> Option<CommandEnd> {
        self.pid1.supervised()?.ended().await
    }

    /// Returns what the container's own command prints, where the agent runs it.
    pub(super) fn heard(&self) -> Option<&Heard> {
        self.pid1.supervised().map(Supervised::heard)
    }

    /// Returns why no command can be started in the container, which the engine says is gone: what ended it, where that is known,
    /// says more than its consequence.
    pub(crate) fn why_gone(&self, consequence: EngineError) -> EngineError {
        if let Some(end) = self.end_of_command() {
            return end;
        }
        let gone = |why| EngineError::new(EngineErrorKind::NotFound, why);
        match self.taint() {
            // Nobody lends another one.
            _ if self.life.is_shut_down() => gone("its pool was shut down").of_shutdown().advise(""),
            Some(Taint::LeaseExpired) => gone("its lease lasted too long, and the pool took it back")
                .advise("use another, or see max_lease() and Lease::timeout()"),
            _ => consequence,
        }
    }

    pub(super) fn set_supervised(&self, command: Supervised) {
        self.pid1.supervise(command);
    }

    /// Calls `broke` when the lifeline breaks while the container is there. PID 1 has ended then; or PID 1 goes on and would
    /// outlive this process, since an engine that keeps containers running over its own restart closes their input.
    pub(crate) fn watch_lifeline(&self, broke: impl FnOnce() + Send + 'static) {
        self.pid1.watch(&self.runtime, broke);
    }

    /// Kills every process in the container.
    pub(crate) async fn kill(&self) -> Result<(), EngineError> {
        self.death.note_by_library();
        bounded(
            "the kill of a container",
            self.call_timeout,
            self.engine.kill(self.id()),
        )
        .await
    }

    /// Returns the removal, which is about to begin.
    pub(crate) fn removal(&self) -> Removal {
        self.death.note_by_library();
        Removal {
            engine: self.engine.clone(),
            target: self.id().to_owned(),
            among: None,
            confirmed: self.identity.has_id(),
            call_timeout: self.call_timeout,
        }
    }

    /// Removes the container in the background. `keep` is dropped when the removal has ended.
    pub(crate) fn remove_in_background(&self, keep: Option<Box<dyn Any + Send>>) {
        self.removal()
            .spawn(self.runtime.handle(), self.name(), self.duty.give_up(), keep);
    }
}
