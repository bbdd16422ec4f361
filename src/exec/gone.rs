//! The status of a command whose container is gone: [`status`].

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::ending::CONTAINER_END;
use super::memory_kills::Kills;
use crate::container::{Facts, KILLED, Shared, Taint};
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
    let why = cause(shared, begun).unwrap_or(WhyGone::Unknown);
    ExitStatus::ContainerGone { why }
}

/// Waits until the cause is known, or until nothing more is to be expected.
async fn listen(shared: &Shared, kills: &Kills, begun: Instant) {
    let mut events = Some(shared.engine.events(&Selector::id(shared.id()), Some(kills.since())));
    let mut until = Instant::now() + CONTAINER_END;
    let mut knows_of_end = false;
    loop {
        let next_fact = shared.death.next_fact();
        if kills.any(shared) || cause(shared, begun).is_some() {
            return;
        }
        if shared.death.facts().has_died && !knows_of_end {
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
                // The pool's own stream tells whether the engine is lost: some engines have no events.
                Some(Err(_)) | None => events = None,
            },
            () = next_fact => {}
            () = sleep_until(until) => return,
        }
    }
}

/// Returns the cause, kills for memory apart, once it is known.
fn cause(shared: &Shared, begun: Instant) -> Option<WhyGone> {
    let facts = shared.death.facts();
    if shared.end_of_command().is_some() {
        return Some(WhyGone::CommandEnded);
    }
    if facts.by_library {
        return Some(WhyGone::ByLibrary);
    }
    let since_begun = |at: &Instant| *at >= begun;
    if facts
        .engine_lost
        .filter(since_begun)
        .is_some_and(|lost| lost.elapsed() < AFTER_LOSS)
    {
        return Some(WhyGone::EngineRestarted);
    }
    // An engine removes a container with a lifeline itself when that has ended.
    if facts.killed.filter(since_begun).is_some() || facts.is_removed && !shared.spec.plan.auto_remove {
        return Some(WhyGone::Removed);
    }
    match facts {
        // The library's own PID 1 tells nothing by its exit code, but that it was not killed.
        Facts {
            exit_code: Some(code), ..
        } if code != KILLED => Some(match shared.has_own_command() {
            true => WhyGone::CommandEnded,
            false => WhyGone::Unknown,
        }),
        _ => None,
    }
}
