//! Ending a command, and whether its container has ended.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::container::{Shared, Taint};
use crate::engine::{EngineError, EngineErrorKind, ExecControl, Killing};
use crate::runtime::bounded;
use crate::values::outcome::ExitStatus;

/// How long an engine may take to see that a container has ended, and how often it is asked meanwhile.
pub(super) const CONTAINER_END: Duration = Duration::from_secs(2);

const CONTAINER_END_CHECK: Duration = Duration::from_millis(20);

/// How long ending a command alone may take before its container is killed. The agent gives up after ten seconds.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a command's end may wait for a sign of life from who is to end it: this long twice in a row. After the first
/// time it could be this process that did not get to run.
const ANSWER_DUE: Duration = Duration::from_millis(500);

/// Whether it is certain that nothing of the command runs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Ended,
    None,
}

/// Ends a command: alone where that can be, and all of it is proven to be dead; else with everything in the container.
pub(super) async fn end(control: &dyn ExecControl, shared: &Shared, taint: Taint) -> Proof {
    if let Some(killing) = control.killing() {
        tokio::select! {
            killed = bounded("the end of a command", KILL_TIMEOUT, killing.kill()) => match killed {
                Ok(()) => return Proof::Ended,
                Err(error) => tracing::debug!(container = shared.name(), %error, "could not end a command alone"),
            },
            () = silence(killing) => {
                tracing::warn!(container = shared.name(), "no answer when a command is to be ended: its container is killed");
            }
        }
    }
    kill(shared, taint).await
}

/// Comes when whoever is to end a command no longer answers: the container's other processes may take all the time there
/// is.
async fn silence(killing: &dyn Killing) {
    let mut unanswered = 0;
    while unanswered < 2 {
        if timeout(ANSWER_DUE, killing.sign_of_life()).await.is_ok() {
            unanswered = 0;
            sleep(ANSWER_DUE / 2).await;
        } else {
            unanswered += 1;
        }
    }
}

/// Forbids reuse and ends everything in the container.
pub(super) async fn kill(shared: &Shared, taint: Taint) -> Proof {
    shared.set_taint(taint);
    match shared.kill().await {
        Ok(()) => Proof::Ended,
        Err(error) => {
            tracing::warn!(container = shared.name(), %error, "could not kill a container");
            Proof::None
        }
    }
}

/// The engine no longer tells of the command. Its container may be gone, and the command with it; if not, it is ended
/// now.
pub(super) async fn after_failure(shared: &Shared) -> (ExitStatus, Proof) {
    if is_gone(shared).await {
        shared.set_taint(Taint::Died);
        return (ExitStatus::ContainerGone, Proof::Ended);
    }
    (ExitStatus::Unknown, kill(shared, Taint::EngineFailed).await)
}

/// Whether the container has ended in which a command was killed. An engine sees the end of a command sooner than that of
/// its container: that it still runs, says nothing. A PID 1 that answers does, since the others are killed after it.
pub(super) async fn has_ended(shared: &Shared) -> bool {
    let until = Instant::now() + CONTAINER_END;
    let mut lives = std::pin::pin!(async {
        let answers = match shared.agent() {
            Some(agent) => agent.answers().await,
            None => false,
        };
        if !answers {
            std::future::pending::<()>().await;
        }
    });
    loop {
        if is_gone(shared).await {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        tokio::select! {
            () = &mut lives => return false,
            () = sleep(CONTAINER_END_CHECK) => {}
        }
    }
}

/// Whether the container in which a program could not be started is gone. Engines have no words, or words that nobody
/// understands, for a program whose container was killed as it began, and see a little later that the container has ended.
pub(super) async fn is_going(shared: &Shared, error: &EngineError) -> bool {
    let until = Instant::now() + CONTAINER_END;
    loop {
        if is_gone(shared).await {
            return true;
        }
        if !error.is_unexplained() || Instant::now() >= until {
            return false;
        }
        sleep(CONTAINER_END_CHECK).await;
    }
}

/// Whether the engine says that the container is not there or does not run.
pub(super) async fn is_gone(shared: &Shared) -> bool {
    use crate::engine::ContainerState::{Paused, Restarting, Running};

    match bounded("an inspect", shared.call_timeout, shared.engine.inspect(shared.id())).await {
        Ok(report) => !matches!(report.state, Running | Paused | Restarting),
        Err(error) => error.kind() == EngineErrorKind::NotFound,
    }
}
