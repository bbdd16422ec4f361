//! Which of two runs a command of a container: the agent, or the engine's exec API.

use std::time::Duration;

use super::shared::Shared;
use crate::agent::{Client, Place, Role};
use crate::engine::{EngineError, EngineErrorKind, ExecRequest, ExecSession};
use crate::spec::GUARD_USER;

impl Shared {
    /// Returns the agent, where the agent runs the commands.
    fn runner(&self) -> Option<&Client> {
        self.agent().filter(|_| self.spec.agent_runs_commands())
    }

    /// Returns whether the agent can carry out such a request, or could until it was lost.
    pub(crate) fn is_for_agent(&self, request: &ExecRequest) -> bool {
        self.runner()
            .is_some_and(|agent| agent.can_run(request) || agent.lost().is_some())
    }

    /// Returns whether such a command can be ended alone, which leaves the container as it was.
    pub(crate) fn ends_alone(&self, request: &ExecRequest) -> bool {
        self.runner().is_some_and(|agent| agent.can_run(request))
    }

    /// Waits in line until the agent has a place for one more command. Returns `None` at once where the engine runs the
    /// command. Dropping the future leaves the line.
    pub(crate) async fn place(&self, request: &ExecRequest) -> Result<Option<Place>, EngineError> {
        match self.runner() {
            Some(agent) if agent.can_run(request) => agent.place().await.map(Some),
            _ => Ok(None),
        }
    }

    /// Runs a command: by the agent with a place, by the engine without one. The agent enforces `time` itself.
    pub(crate) async fn exec(
        &self,
        place: Option<Place>,
        request: &ExecRequest,
        role: Role,
        time: Option<Duration>,
    ) -> Result<ExecSession, EngineError> {
        // The end of the container's own command is about to end the container.
        if let Some(error) = self.end_of_command() {
            return Err(error);
        }
        if let (Some(agent), Some(place)) = (self.agent(), place) {
            // PID 1 runs as another user than the commands.
            let own_user = self
                .spec
                .decided
                .command_user
                .as_ref()
                .filter(|_| request.user.is_none());
            return match own_user {
                Some(user) => agent.exec(place, &as_user(request, user), role, time),
                None => agent.exec(place, request, role, time),
            };
        }
        if role == Role::FileServer {
            if let Some(lost) = self.runner().and_then(Client::lost) {
                let message = "the agent, which is PID 1, has ended";
                return Err(EngineError::new(EngineErrorKind::NotFound, message).with_source(lost));
            }
            let message = "only the agent serves files";
            return Err(EngineError::new(EngineErrorKind::Unsupported, message));
        }
        // The engine would run the command as root, in the control group of PID 1.
        let is_limited = request.has_limits() || !self.spec.command_limits.is_empty();
        if self.spec.plan.security.writable_cgroups || is_limited {
            if let Some(lost) = self.runner().and_then(Client::lost) {
                // PID 1 has ended, or is about to. Until then the engine would run the command without its limits.
                let message = "the agent, which is PID 1, has ended";
                return Err(EngineError::new(EngineErrorKind::NotFound, message).with_source(lost));
            }
            let message = "the agent sets the limits of commands, and cannot run this command";
            return Err(EngineError::new(EngineErrorKind::Unsupported, message));
        }
        if role == Role::CommandWithoutEnv {
            return self.exec_by_engine(&without_env(request)).await;
        }
        self.exec_by_engine(request).await
    }

    async fn exec_by_engine(&self, request: &ExecRequest) -> Result<ExecSession, EngineError> {
        let Some(own_user) = &self.spec.decided.command_user else {
            return self.engine.exec(self.id(), request).await;
        };
        // The container's user is that of PID 1 alone.
        let user = request.user.as_ref().unwrap_or(own_user);
        if user.split(':').next() == GUARD_USER.split(':').next() {
            let message = format!("the user {user} is reserved for PID 1 of the container");
            return Err(EngineError::new(EngineErrorKind::CannotStart, message));
        }
        self.engine.exec(self.id(), &as_user(request, user)).await
    }
}

/// Returns the same request for another user.
fn as_user(request: &ExecRequest, user: &str) -> ExecRequest {
    ExecRequest {
        user: Some(user.to_owned()),
        ..request.clone()
    }
}

/// Returns the same request, run by the container's own `env`: the exec API cannot take variables away.
fn without_env(request: &ExecRequest) -> ExecRequest {
    let mut request = request.clone();
    // After `--` nothing is an option of `env`, whatever it begins with.
    let mut argv: Vec<_> = ["env", "-i", "--"].map(str::to_owned).into();
    argv.append(&mut request.env);
    argv.append(&mut request.argv);
    request.argv = argv;
    request
}
