//! The status of a command whose container is gone: [`status`].

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::ending::CONTAINER_END;
use super::memory_kills::Kills;
use crate::container::{KILLED, Shared, Taint};
use crate::engine::Selector;
use crate::values::outcome::ExitStatus;
use crate::values::why_gone::WhyGone;

/// How long after the engine's word on the end of a killed PID 1 the reason may come. The engine sends it on its own, before or
/// after, and late on a busy machine.
const REASON: Duration = Duration::from_secs(2);

/// For how long a container may outlive the loss of the engine's connection and end because of it: an engine that shuts down gives
/// its containers ten seconds.
const AFTER_LOSS: Duration = Duration::from_secs(30);

/// Returns the status of a command that began at `begun`, and whose container is gone. Taints the container.
pub(super) async fn status(shared: &Shared, kills: &Kills, begun: Instant) -> ExitStatus {
    shared.set_taint(Taint::Died);
    listen(shared, kills, begun).await;
    if kills.any(shared) {
        shared.set_taint(Taint::OutOfMemory);
        // PID 1 took all processes with it. Only where there was one command is it known whose memory it was.
        return match kills.is_only(shared) {
            true => ExitStatus::OutOfMemory { exit: None },
            false => ExitStatus::ContainerGone {
                why: WhyGone::OutOfMemory,
            },
        };
    }
    let why = cause(shared, begun).unwrap_or_else(|| match lost_engine(shared, begun) {
        true => WhyGone::EngineRestarted,
        false => WhyGone::Unknown,
    });
    ExitStatus::ContainerGone { why }
}

/// Waits until the cause is known, or until nothing more is to be expected.
async fn listen(shared: &Shared, kills: &Kills, begun: Instant) {
    let mut events = Some(shared.engine.events(&Selector::id(shared.id()), Some(kills.since())));
    let mut until = Instant::now() + CONTAINER_END;
    let mut knows_of_end = false;
    loop {
        let next_fact = shared.death.next_fact();
        let facts = shared.death.facts();
        // A PID 1 that was not killed has not died of memory.
        let has_exited = facts.exit_code.is_some_and(|code| code != KILLED);
        let is_lost = events.is_none() && lost_engine(shared, begun);
        if kills.any(shared) || cause(shared, begun).is_some() || has_exited || is_lost {
            return;
        }
        if facts.has_died && !knows_of_end {
            knows_of_end = true;
            until = Instant::now() + REASON;
        }
        let event = async {
            match &mut events {
                Some(events) => events.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = event => match event {
                Some(Ok(event)) => shared.note_event(&event),
                // Some engines have no events: the pool's own stream tells whether the engine is lost.
                Some(Err(_)) | None => events = None,
            },
            () = next_fact => {}
            () = sleep_until(until) => return,
        }
    }
}

/// Returns the cause, kills for memory and a loss of the engine apart, once it is known.
fn cause(shared: &Shared, begun: Instant) -> Option<WhyGone> {
    let facts = shared.death.facts();
    if shared.end_of_command().is_some() {
        return Some(WhyGone::CommandEnded);
    }
    if facts.by_library {
        return Some(WhyGone::ByLibrary);
    }
    // An engine removes a container with a lifeline itself when that has ended.
    if facts.killed.is_some_and(|at| at >= begun) || facts.is_removed && !shared.spec.plan.auto_remove {
        return Some(WhyGone::Removed);
    }
    // The exit code of the library's own PID 1 tells nothing more.
    let has_exited = facts.exit_code.is_some_and(|code| code != KILLED);
    (has_exited && shared.has_own_command()).then_some(WhyGone::CommandEnded)
}

/// Returns whether the connection to the engine was lost while the command ran, and shortly before now.
fn lost_engine(shared: &Shared, begun: Instant) -> bool {
    let lost = shared.death.facts().engine_lost;
    lost.is_some_and(|at| at >= begun && at.elapsed() < AFTER_LOSS)
}
