//! The one owner of a container: [`Handle`].

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::life::Life;
use super::lifeline::{Lifeline, echo};
use super::removal::GiveUp;
use super::shared::{Fresh, Shared};
use crate::agent::{AgentFile, Client, ExecVia, Keep};
use crate::engine::{ContainerSpec, ContainerState, Engine, EngineError, EngineErrorKind, raw};
use crate::runtime::{Home, bounded};

/// How long after its start a command of the user's own is looked at.
pub(super) const SETTLE: Duration = Duration::from_millis(50);

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
        spec: Arc<ContainerSpec>,
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
        spec: Arc<ContainerSpec>,
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
        match spec.agent.as_ref().map(AgentFile::ensure).transpose() {
            Ok(in_use) => *self.shared.agent_in_use.lock() = in_use.unwrap_or_default(),
            Err(error) => {
                // Nothing was asked for.
                self.release();
                let message = "the agent's program could not be written to any directory of this machine";
                return Err(EngineError::of_system(EngineErrorKind::Internal, message, error));
            }
        }
        // It is for commands. The lifeline needs none.
        let without_socket = spec.without_agent_socket || spec.exec_via == ExecVia::Docker;
        let agent = spec.agent.as_ref().filter(|_| !without_socket);
        let socket = agent.and_then(AgentFile::socket);
        let own_spec = socket.as_ref().map(|socket| ContainerSpec {
            agent_socket: Some(socket.path().to_owned()),
            ..(**spec).clone()
        });
        *self.shared.agent_socket.lock() = socket;
        let created = bounded(
            "the creation of a container",
            self.shared.call_timeout,
            engine.create(self.shared.first_name(), own_spec.as_ref().unwrap_or(spec)),
        )
        .await;
        match created {
            Ok(created) => {
                let _ = self.shared.id.set(created.id);
                let mut discarded = created.discarded;
                if look && discarded.is_empty() {
                    let missing = engine.missing_limits(self.shared.id(), spec);
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
        let ignored = engine.ignored_settings(self.shared.id(), spec);
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
            if spec.agent.is_some() {
                let socket = self.shared.agent_socket.lock().take();
                let limits = raw::limits_of_commands(spec);
                let greeting = Client::connect(lifeline, socket, &limits, self.shared.runtime.handle());
                let mut agent = bounded(what, *call_timeout, greeting).await?;
                if spec.writable_cgroups {
                    bounded("the making of control groups", *call_timeout, agent.make_cgroups()).await?;
                }
                let agent = self.shared.agent.get_or_init(|| agent);
                if let Some(argv) = &spec.supervised {
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
        let program = shared.spec.cmd.iter().flatten().next();
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
