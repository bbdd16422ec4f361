//! The container's own command, which the agent runs beside the commands of leases.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::handle::Handle;
use super::heard::Heard;
use super::shared::Shared;
use super::startup::SETTLE;
use super::taint::Taint;
use crate::agent::{Client, Role};
use crate::engine::{EngineError, EngineErrorKind, ExecRequest, ExecSession};

/// The advice where the container's own command could not be started.
const NO_PROGRAM: &str = "does the image have this program? see supervise_command()";

/// Tells how the container's own command has ended.
#[derive(Debug, Clone)]
pub(super) struct CommandEnd {
    pub words: String,
    /// The last output, where the words do not quote it.
    pub last_words: String,
    /// The advice where it could not be started at all.
    pub never_began: Option<&'static str>,
}

/// Returns the advice where this exit code of PID 1 says that its program could not be begun, as the engine's init says it.
pub(super) fn never_began(code: Option<i64>) -> Option<&'static str> {
    matches!(code, Some(126 | 127)).then_some("does the image have this program? see cmd()")
}

/// The container's own command, while it runs and after. Dropping this ends the task that watches it.
#[derive(Debug)]
pub(super) struct Supervised {
    /// Its end, once it has ended.
    end: watch::Receiver<Option<CommandEnd>>,
    heard: Arc<Heard>,
    _task: AbortOnDropHandle<()>,
}

impl Supervised {
    /// Returns the end of the command, if it has ended, as the reason for which the container is gone.
    pub(super) fn end(&self) -> Option<EngineError> {
        let end = self.end.borrow().clone()?;
        Some(EngineError::new(EngineErrorKind::NotFound, end.words))
    }

    /// Returns what the command prints.
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Waits for the end of the command. Returns `None` if the container has ended.
    pub(super) async fn ended(&self) -> Option<CommandEnd> {
        let mut end = self.end.clone();
        let end = end.wait_for(Option::is_some).await.ok()?;
        end.clone()
    }
}

impl Handle {
    /// Starts the command, and fails if it ends within a moment, as a command that is PID 1 would.
    pub(super) async fn supervise(&self, agent: &Client, argv: &[String]) -> Result<(), EngineError> {
        let request = ExecRequest {
            argv: argv.to_vec(),
            env: self.shared().spec.server_env.variables().collect(),
            ..Default::default()
        };
        let session = agent.exec(agent.place().await?, &request, Role::Command, None)?;
        let (tell, end) = watch::channel(None);
        let program = argv.first().cloned().unwrap_or_default();
        let weak = Arc::downgrade(self.shared());
        let heard = Arc::new(Heard::looking_for(self.shared().spec.ready.texts()));
        let hearing = heard.clone();
        let task = self.shared().runtime.spawn(async move {
            // Without words, the container has ended, and its command with it.
            if let Some(how) = watch_over(session, &program, &hearing).await {
                tell.send_replace(Some(how));
                if let Some(shared) = weak.upgrade() {
                    end_with_command(&shared).await;
                }
            }
        });
        let mut settled = end.clone();
        let supervised = Supervised {
            end,
            heard,
            _task: AbortOnDropHandle::new(task),
        };
        self.shared().set_supervised(supervised);
        let ended = match timeout(SETTLE, settled.wait_for(Option::is_some)).await {
            Ok(Ok(end)) => end.clone(),
            // The connection is lost, or the command goes on.
            Ok(Err(_)) | Err(_) => None,
        };
        let Some(end) = ended else { return Ok(()) };
        if !self.shared().spec.ready.is_at_once() {
            return Err(self.shared().ended_before_ready(end));
        }
        let advice = end
            .never_began
            .unwrap_or("the container ends with its command, which must go on running: see supervise_command()");
        Err(EngineError::new(EngineErrorKind::CannotStart, end.words).advise(advice))
    }
}

/// Takes the output of the command until the command has ended. Returns that end, or `None` if the connection to the agent has
/// ended.
async fn watch_over(session: ExecSession, program: &str, heard: &Heard) -> Option<CommandEnd> {
    let ExecSession { output, control, .. } = session;
    heard.hear_all(output).await.ok()?;
    control.ended().await;
    let mut never_began = None;
    let how = match (control.exit_code().await, control.report()) {
        (Ok(_), Some(report)) if report.signal.is_some() => {
            format!("was ended by signal {}", report.signal.unwrap_or_default())
        }
        (Ok(code), _) => format!("has ended with exit code {}", code.unwrap_or_default()),
        (Err(error), _) if error.says_not_started() => {
            never_began = Some(NO_PROGRAM);
            format!("could not be started: {error}")
        }
        (Err(_), _) => return None,
    };
    let words = heard.last_words();
    let colon = if words.is_empty() { "" } else { ": " };
    Some(CommandEnd {
        words: format!("the container's command, `{program}`, {how}{colon}{words}"),
        last_words: String::new(),
        never_began,
    })
}

/// Taints and kills a container whose command has ended, so that it is replaced.
async fn end_with_command(shared: &Shared) {
    shared.set_taint(Taint::Died);
    if let Err(error) = shared.kill().await {
        tracing::debug!(container = shared.name(), %error, "could not kill a container whose command has ended");
    }
}
