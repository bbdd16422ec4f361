//! Ending a command, and finding out whether its container has ended.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::container::{Shared, Taint};
use crate::engine::{EngineError, ExecControl, Killing};
use crate::runtime::bounded;

/// How long an engine may take to notice the end of a container, and the pause between two questions.
pub(super) const CONTAINER_END: Duration = Duration::from_secs(2);

const CONTAINER_END_CHECK: Duration = Duration::from_millis(20);

/// The deadline for ending a command alone; then its container is killed. The agent itself gives up after ten seconds.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a sign of life may take while a command is being ended. Two late signs in a row count: the first could be late because
/// this process did not get to run.
const ANSWER_DUE: Duration = Duration::from_millis(500);

/// Whether it is certain that no process of the command runs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Ended,
    None,
}

/// Ends a command: alone where that is possible and all of its processes are proven to be dead; else with everything in the
/// container.
pub(super) async fn end(control: &dyn ExecControl, shared: &Shared, taint: Taint) -> Proof {
    if let Some(killing) = control.killing() {
        tokio::select! {
            killed = bounded("the end of a command", KILL_TIMEOUT, killing.kill()) => match killed {
                Ok(()) => return Proof::Ended,
                Err(error) => tracing::debug!(container = shared.name(), %error, "could not end a command alone"),
            },
            () = silence(killing) => {
                tracing::warn!(container = shared.name(), "no sign of life while a command is ended: its container is killed");
            }
        }
    }
    kill(shared, taint).await
}

/// Resolves when the control of a command no longer answers: the processes in the container may take all processor time.
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

/// Taints the container and kills every process in it.
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

/// Kills the container of a command that the engine no longer reports on. Returns `None` if the container is gone.
pub(super) async fn after_failure(shared: &Shared) -> Option<Proof> {
    // Where PID 1 has told of the command, the connection to it has ended, mostly with the container.
    let is_gone = match shared.agent() {
        Some(_) => has_ended(shared).await,
        None => is_gone(shared).await,
    };
    if is_gone {
        return None;
    }
    Some(kill(shared, Taint::EngineFailed).await)
}

/// Returns whether the container has ended whose command was killed.
///
/// An engine notices the end of a command sooner than the end of its container, so a report that the container runs proves
/// nothing. An answer of PID 1 does: the other processes are killed after PID 1.
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

/// Returns whether the container in which a program could not be started is gone.
///
/// For a program whose container was killed at that moment, engines have no words, or unclear ones, and notice the end of the
/// container a little later.
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

/// Returns whether the engine says that the container does not exist or does not run.
pub(super) async fn is_gone(shared: &Shared) -> bool {
    shared.look_at_end().await.is_some()
}
