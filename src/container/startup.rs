//! Creating and starting a container, until its PID 1 is seen to run.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::handle::Handle;
use super::pid1::echo;
use super::ready::Listener;
use super::shared::Shared;
use super::supervise::never_began;
use crate::agent::{AgentFile, Client, InUse, SOCKET_TARGET, Socket};
use crate::engine::{self, ContainerState, EngineError, EngineErrorKind, Mount, MountSource};
use crate::runtime::bounded;
use crate::spec::Keep;

/// How long after its start a program of the caller's own must still run.
pub(super) const SETTLE: Duration = Duration::from_millis(50);

/// Holds what a container needs until it has started, and when it started.
#[derive(Debug, Default)]
pub(super) struct Startup {
    /// The agent's socket, until the agent has connected to it.
    socket: Mutex<Option<Socket>>,
    /// Keeps the agent's program on this machine, until the engine has mounted it.
    program: Mutex<InUse>,
    /// Whether the settings that the engine may have ignored are read once more after the start.
    look_again: AtomicBool,
    started: OnceLock<Instant>,
}

/// Says that no command could be started for the user that the containers have.
fn unknown_user(error: &EngineError) -> EngineError {
    let message = format!("{error} (see user(): with writable_cgroups() the image must have it)");
    EngineError::new(EngineErrorKind::Rejected, message).of_settings()
}

impl Startup {
    /// Returns when the container started.
    pub(super) fn started(&self) -> Option<Instant> {
        self.started.get().copied()
    }

    /// Notes that the container has started. The first start counts.
    pub(super) fn set_started(&self) {
        let _ = self.started.set(Instant::now());
    }
}

impl Handle {
    /// Creates the container, and returns the engine's warnings. Fails where the container lacks a limit that was asked for.
    /// With `look`, the engine is asked about such limits, and about settings that it has ignored.
    pub(crate) async fn create(&self, look: bool) -> Result<Vec<String>, EngineError> {
        let Shared {
            engine,
            spec,
            call_timeout,
            identity,
            startup,
            ..
        } = &**self.shared();
        match spec.decided.agent.as_ref().map(AgentFile::ensure).transpose() {
            Ok(in_use) => *startup.program.lock() = in_use.unwrap_or_default(),
            Err(error) => {
                // The engine was not asked for anything.
                self.release();
                let message = "the agent's program could not be written to any directory of this machine";
                return Err(EngineError::of_system(EngineErrorKind::Internal, message, error));
            }
        }
        let mut of_this_one = engine::Identity::new(identity.first_name());
        let socket = spec.agent_with_socket().and_then(AgentFile::socket);
        of_this_one.mounts.extend(socket.as_ref().map(|socket| {
            let path = socket.path().to_owned();
            Mount::new(SOCKET_TARGET, MountSource::File { path, is_own: true })
        }));
        *startup.socket.lock() = socket;
        let plan = spec.present_plan();
        let create = engine.create(&of_this_one, &plan);
        match bounded("the creation of a container", *call_timeout, create).await {
            Ok(created) => {
                identity.set_id(created.id);
                let mut discarded = created.discarded;
                if look && discarded.is_empty() {
                    let missing = engine.missing_limits(identity.id(), &spec.plan);
                    discarded = bounded("an inspect", *call_timeout, missing).await?;
                }
                if !discarded.is_empty() {
                    let message = format!("limits that were asked for are not set: {}", discarded.join("; "));
                    return Err(EngineError::new(EngineErrorKind::LimitDiscarded, message));
                }
                if look {
                    self.refuse_ignored_settings().await?;
                    startup.look_again.store(true, Ordering::Release);
                }
                Ok(created.warnings)
            }
            Err(error) => {
                // Any other error says that the engine created nothing, or never received the request.
                if !matches!(error.kind(), EngineErrorKind::Timeout | EngineErrorKind::Protocol) {
                    self.release();
                }
                Err(error)
            }
        }
    }

    /// Fails where the engine has ignored a setting of isolation that was asked for.
    async fn refuse_ignored_settings(&self) -> Result<(), EngineError> {
        let shared = &**self.shared();
        let ignored = shared.engine.ignored_settings(shared.id(), &shared.spec.plan);
        let ignored = bounded("an inspect", shared.call_timeout, ignored).await?;
        if ignored.is_empty() {
            return Ok(());
        }
        let message = format!("the engine ignored what was asked for: {}", ignored.join("; "));
        Err(EngineError::new(EngineErrorKind::SettingIgnored, message))
    }

    /// Starts the container, and waits until it is ready.
    pub(crate) async fn start(&self) -> Result<(), EngineError> {
        let listener = self.begin().await?;
        self.wait_until_ready(listener).await
    }

    /// Attaches to PID 1 where the container has a lifeline, starts the container, and waits until PID 1 runs. Returns what listens
    /// to a PID 1 that is to get ready.
    async fn begin(&self) -> Result<Option<Listener>, EngineError> {
        let Shared {
            engine,
            spec,
            call_timeout,
            identity,
            startup,
            ..
        } = &**self.shared();
        let start = || bounded("the start of a container", *call_timeout, engine.start(identity.id()));
        let listener = self.listen().await?;
        // The facts so far are of an earlier start.
        self.shared().death.forget();
        if spec.has_lifeline() {
            self.start_with_lifeline(start).await?;
        } else {
            start().await?;
            self.settle(listener.as_ref()).await?;
        }
        // Docker decides at the start whether AppArmor is in force.
        if startup.look_again.swap(false, Ordering::AcqRel) {
            self.refuse_ignored_settings().await?;
            if spec.decided.agent.is_none() {
                self.check_sandbox().await?;
            }
        }
        self.find_addresses().await?;
        startup.set_started();
        Ok(listener)
    }

    async fn start_with_lifeline<F>(&self, start: impl Fn() -> F) -> Result<(), EngineError>
    where
        F: Future<Output = Result<(), EngineError>>,
    {
        let Shared {
            engine,
            spec,
            call_timeout,
            identity,
            startup,
            pid1,
            runtime,
            ..
        } = &**self.shared();
        // Before the start: if this process were killed between the two calls, a container that was started first would wait
        // for ever.
        let attach = engine.attach(identity.id());
        let mut streams = bounded("the attach to a container", *call_timeout, attach).await?;
        start().await?;
        // The engine has mounted the agent's program.
        drop(std::mem::take(&mut *startup.program.lock()));
        let what = "the first sign of life of a container";
        if spec.decided.agent.is_none() {
            bounded(what, *call_timeout, echo(&mut streams)).await?;
            pid1.hold_streams(streams);
            return Ok(());
        }
        let socket = startup.socket.lock().take();
        let greeting = Client::connect(streams, socket, &spec.command_limits, runtime.handle());
        let mut agent = bounded(what, *call_timeout, greeting).await?;
        if spec.plan.security.writable_cgroups {
            bounded("the making of control groups", *call_timeout, agent.make_cgroups()).await?;
            if let (true, Some(user)) = (startup.look_again.load(Ordering::Acquire), &spec.decided.command_user) {
                // PID 1 is root, and so would not notice.
                bounded("the look for a user", *call_timeout, agent.find_user(user))
                    .await
                    .map_err(|error| unknown_user(&error))?;
            }
        }
        let agent = pid1.hold_agent(agent);
        self.take_baseline(agent).await;
        if startup.look_again.load(Ordering::Acquire) {
            // Nothing else runs in the container yet.
            self.check_sandbox().await?;
        }
        match &spec.decided.supervised {
            Some(argv) => self.supervise(agent, argv).await,
            None => Ok(()),
        }
    }

    /// Creates and starts the container. Returns the container, which is ready, and the engine's warnings if `keep` says so; else
    /// removes it when PID 1 runs. A container that failed is removed: at once, or in the background where that fails or when the future is dropped.
    pub(crate) async fn bring_up(self, keep: Keep) -> Result<Option<(Self, Vec<String>)>, EngineError> {
        let up = async {
            let warnings = self.create(true).await?;
            match keep {
                Keep(true) => self.start().await?,
                Keep(false) => drop(self.begin().await?),
            }
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

    /// Waits a moment, and fails if PID 1 has ended by then. The engine's own init starts even where it then cannot start the
    /// program. `listener` listens to a PID 1 that is to get ready.
    async fn settle(&self, listener: Option<&Listener>) -> Result<(), EngineError> {
        let shared = &**self.shared();
        tokio::time::sleep(SETTLE).await;
        let report = bounded("an inspect", shared.call_timeout, shared.engine.inspect(shared.id())).await?;
        if report.state == ContainerState::Running {
            return Ok(());
        }
        if !shared.spec.ready.is_at_once() {
            let last_words = match listener {
                Some(listener) => listener.last_words(shared.call_timeout).await,
                None => String::new(),
            };
            return Err(shared.ended_before_ready(shared.end_of_pid1(report.exit_code, last_words)));
        }
        let advice = match (never_began(report.exit_code), report.exit_code) {
            (Some(advice), _) => advice,
            (None, Some(137)) => "was it killed for memory? see memory() and pids_limit()",
            (None, _) => "PID 1 must go on running: see cmd()",
        };
        let message = shared.words_of_pid1("ended right after the start,", report.exit_code);
        Err(EngineError::new(EngineErrorKind::CannotStart, message).advise(advice))
    }
}
