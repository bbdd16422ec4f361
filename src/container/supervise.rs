//! The container's own command, which the agent runs beside those of leases.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::handle::Handle;
use super::pid1::OUTPUT_PAUSE;
use super::shared::Shared;
use super::startup::SETTLE;
use super::taint::Taint;
use crate::agent::Client;
use crate::engine::{EngineError, EngineErrorKind, ExecRequest, ExecSession};

/// How much of what it has printed last is kept to say why it has ended, in bytes.
const WORDS: usize = 1024;

/// How many pieces of its output are taken at once, before a pause.
const PIECES: usize = 1024;

/// The command as it runs.
#[derive(Debug)]
pub(super) struct Supervised {
    /// How it has ended, when it has.
    end: watch::Receiver<Option<String>>,
    _task: AbortOnDropHandle<()>,
}

impl Supervised {
    /// Why the container is gone, if that is because its command has ended.
    pub(super) fn end(&self) -> Option<EngineError> {
        let words = self.end.borrow().clone()?;
        Some(EngineError::new(EngineErrorKind::NotFound, words))
    }
}

impl Handle {
    /// Starts the command, and sees that it goes on for a little while, as with one that is PID 1 itself.
    pub(super) async fn supervise(&self, agent: &Client, argv: &[String]) -> Result<(), EngineError> {
        let request = ExecRequest {
            argv: argv.to_vec(),
            ..Default::default()
        };
        let session = agent.exec(agent.place().await?, &request, false, None)?;
        let (tell, end) = watch::channel(None);
        let program = argv.first().cloned().unwrap_or_default();
        let weak = Arc::downgrade(self.shared());
        let task = self.shared().runtime.spawn(async move {
            // Else the container has ended, and its command with it.
            if let Some(how) = watch_over(session, &program).await {
                tell.send_replace(Some(how));
                if let Some(shared) = weak.upgrade() {
                    end_with_command(&shared).await;
                }
            }
        });
        let mut settled = end.clone();
        let supervised = Supervised {
            end,
            _task: AbortOnDropHandle::new(task),
        };
        self.shared().set_supervised(supervised);
        let ended = match timeout(SETTLE, settled.wait_for(Option::is_some)).await {
            Ok(Ok(end)) => end.clone(),
            // The connection is lost, or it goes on.
            Ok(Err(_)) | Err(_) => None,
        };
        match ended {
            Some(how) => Err(EngineError::new(EngineErrorKind::CannotStart, how)),
            None => Ok(()),
        }
    }
}

/// Takes its output until it has ended, and says how that was; `None` if the connection to the agent has.
async fn watch_over(session: ExecSession, program: &str) -> Option<String> {
    let ExecSession { output, control, .. } = session;
    let mut words = Vec::new();
    let mut output = output.ready_chunks(PIECES);
    while let Some(frames) = output.next().await {
        for frame in frames {
            words.extend_from_slice(&frame.ok()?.data);
            words.drain(..words.len().saturating_sub(WORDS));
        }
        // Whoever is in the container can write to it; this keeps that from costing us much.
        tokio::time::sleep(OUTPUT_PAUSE).await;
    }
    control.ended().await;
    let how = match (control.exit_code().await, control.report()) {
        (Ok(_), Some(report)) if report.signal.is_some() => {
            format!("was ended by signal {}", report.signal.unwrap_or_default())
        }
        (Ok(code), _) => format!("has ended with exit code {}", code.unwrap_or_default()),
        (Err(error), _) if error.says_not_started() => format!("could not be started: {error}"),
        (Err(_), _) => return None,
    };
    let words = String::from_utf8_lossy(&words);
    let colon = if words.trim().is_empty() { "" } else { ": " };
    Some(format!(
        "the container's command, `{program}`, {how}{colon}{}",
        words.trim()
    ))
}

/// A container whose command has ended is of no use to anybody, and is replaced.
async fn end_with_command(shared: &Shared) {
    shared.set_taint(Taint::Died);
    if let Err(error) = shared.kill().await {
        tracing::debug!(container = shared.name(), %error, "could not kill a container whose command has ended");
    }
}
