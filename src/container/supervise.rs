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

/// The words for a command that was not begun.
const NOT_STARTED: &str = "could not be started";

/// The container's own command, while it runs and after. Dropping this ends the task that watches it.
#[derive(Debug)]
pub(super) struct Supervised {
    /// The words for its end, once it has ended.
    end: watch::Receiver<Option<String>>,
    heard: Arc<Heard>,
    _task: AbortOnDropHandle<()>,
}

impl Supervised {
    /// Returns the end of the command, if it has ended, as the reason for which the container is gone.
    pub(super) fn end(&self) -> Option<EngineError> {
        let words = self.end.borrow().clone()?;
        Some(EngineError::new(EngineErrorKind::NotFound, words))
    }

    /// Returns what the command prints.
    pub(super) fn heard(&self) -> &Heard {
        &self.heard
    }

    /// Waits for the end of the command, and returns words for it. `None`: the container has ended.
    pub(super) async fn ended(&self) -> Option<String> {
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
        match ended {
            Some(how) if !how.contains(NOT_STARTED) && !self.shared().spec.ready.is_at_once() => {
                Err(self.shared().ended_before_ready(&how, ""))
            }
            Some(how) => {
                let advice = match how.contains(NOT_STARTED) {
                    true => "does the image have this program? see supervise_command()",
                    false => "the container ends with its command, which must go on running: see supervise_command()",
                };
                Err(EngineError::new(EngineErrorKind::CannotStart, how).advise(advice))
            }
            None => Ok(()),
        }
    }
}

/// Takes the output of the command until the command has ended. Returns words for that end, or `None` if the connection to the
/// agent has ended.
async fn watch_over(session: ExecSession, program: &str, heard: &Heard) -> Option<String> {
    let ExecSession { output, control, .. } = session;
    heard.hear_all(output).await.ok()?;
    control.ended().await;
    let how = match (control.exit_code().await, control.report()) {
        (Ok(_), Some(report)) if report.signal.is_some() => {
            format!("was ended by signal {}", report.signal.unwrap_or_default())
        }
        (Ok(code), _) => format!("has ended with exit code {}", code.unwrap_or_default()),
        (Err(error), _) if error.says_not_started() => format!("{NOT_STARTED}: {error}"),
        (Err(_), _) => return None,
    };
    let words = heard.last_words();
    let colon = if words.is_empty() { "" } else { ": " };
    Some(format!("the container's command, `{program}`, {how}{colon}{words}"))
}

/// Taints and kills a container whose command has ended, so that it is replaced.
async fn end_with_command(shared: &Shared) {
    shared.set_taint(Taint::Died);
    if let Err(error) = shared.kill().await {
        tracing::debug!(container = shared.name(), %error, "could not kill a container whose command has ended");
    }
}
