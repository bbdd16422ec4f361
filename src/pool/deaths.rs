//! Containers that end, or are paused or removed, outside of the pool.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep};

use super::core::Core;
use crate::container::{Shared, Taint};
use crate::engine::{ContainerState, EngineError, EngineErrorKind, Event, EventKind};
use crate::values::backoff::Backoff;

/// A container that dies idle sooner than this after its start counts as one that could not be created. Its image or its
/// command is broken, and creating the next one at once would go on for ever.
const EARLY_DEATH: Duration = Duration::from_secs(10);

/// How far back a new subscription to events reaches. Nothing is missed between a list and the subscription then, also where
/// the engine's clock differs a little from ours.
const EVENT_OVERLAP: Duration = Duration::from_secs(2);

/// How long after a subscription to events it certainly stands.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Takes containers out of the pool that died, or that another program removed or paused. Never returns.
pub(super) async fn watch_for_deaths(core: Arc<Core>) {
    let mut backoff = Backoff::default();
    // An adopted container may have died since it was listed.
    let mut since = match core.roster.has_adopted() {
        true => SystemTime::now().checked_sub(EVENT_OVERLAP),
        false => None,
    };
    loop {
        follow_events(&core, since, &mut backoff).await;
        // A list shows what happened meanwhile. The overlap covers the time between the list and the new subscription.
        loop {
            sleep(backoff.next_delay()).await;
            since = SystemTime::now().checked_sub(EVENT_OVERLAP);
            if look_for_lost(&core).await {
                break;
            }
        }
    }
}

/// Subscribes to the engine's events, and returns when the subscription breaks.
async fn follow_events(core: &Core, since: Option<SystemTime>, backoff: &mut Backoff) {
    let mut events = core.backend.engine.events(&core.selector(), since);
    // A list once the subscription certainly stands, whatever the engine's clock says.
    let second_look = sleep(SECOND_LOOK);
    tokio::pin!(second_look);
    let mut looked = false;
    let mut stands = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = &mut second_look, if !looked => {
                stands = true;
                looked = look_for_lost(core).await;
                second_look.as_mut().reset(Instant::now() + SECOND_LOOK);
                continue;
            }
        };
        let Some(event) = event else {
            return note_loss(core, stands);
        };
        // An engine may send many events without a pause.
        tokio::task::coop::consume_budget().await;
        match event {
            Ok(event) => {
                backoff.reset();
                stands = true;
                if let Some(shared) = core.roster.find(&event.id) {
                    shared.note_event(&event);
                }
                match event.kind {
                    EventKind::OutOfMemory => out_of_memory(core, &event),
                    // PID 1 need not have ended of it.
                    EventKind::Killed => {}
                    kind => lost(core, &event.id, kind),
                }
            }
            Err(error) => {
                tracing::debug!(pool = core.identity.pool, %error, "the stream of events broke");
                return note_loss(core, stands);
            }
        }
    }
}

/// Notes in each container that the connection to the engine is lost, if the subscription stood: an engine may have no events.
fn note_loss(core: &Core, stood: bool) {
    if stood {
        core.roster.for_each(|container| container.death.note_engine_lost());
    }
}

/// Takes out the containers that a list does not show as usable any more. Returns `false` if the engine gave no list.
async fn look_for_lost(core: &Core) -> bool {
    // Before the list, so that a container created meanwhile is not taken for one that is gone.
    let known = core.roster.ids();
    let selector = core.selector();
    let list = core.backend.engine.list(&selector);
    let found: HashMap<_, _> = match core.backend.call("a list of containers", list).await {
        Ok(found) => found.into_iter().map(|report| (report.id, report.state)).collect(),
        Err(error) => {
            tracing::debug!(pool = core.identity.pool, %error, "the engine does not answer");
            return false;
        }
    };
    for id in known {
        match found.get(&id) {
            Some(ContainerState::Running | ContainerState::Created) => {}
            Some(ContainerState::Paused) => lost(core, &id, EventKind::Paused),
            Some(_) => lost(core, &id, EventKind::Died),
            None => lost(core, &id, EventKind::Removed),
        }
    }
    true
}

/// Taints a container in which the kernel has killed a process for memory: what is left in it may be half done.
fn out_of_memory(core: &Core, event: &Event) {
    for (item, slot) in core.idle.evict(|item| item.id() == event.id) {
        core.idle.give_away(item, slot);
    }
    if let Some((item, slot)) = core.kept.take_lost(&event.id) {
        slot.retire(item);
    }
}

/// Takes out a container that is not usable any more, by the engine's word or because its lifeline broke.
pub(super) fn lost(core: &Core, id: &str, kind: EventKind) {
    let shared = match kind {
        EventKind::Removed => core.roster.forget(id),
        _ => core.roster.find(id),
    };
    if let Some(shared) = shared {
        match kind {
            EventKind::Removed => {
                shared.set_taint(Taint::Died);
                shared.life.set_removed();
            }
            // A lease on it may wait until the container is thawed. It is not lent again.
            EventKind::Paused => shared.life.withdraw(),
            _ => shared.set_taint(Taint::Died),
        }
    }
    for (item, slot) in core.idle.evict(|item| item.id() == id) {
        let (pool, container) = (&core.identity.pool, item.name());
        tracing::debug!(pool, container, ?kind, "an idle container was lost");
        item.shared().set_taint(Taint::Died);
        note_unlent(core, item.shared());
        core.idle.give_away(item, slot);
    }
    if let Some((item, slot)) = core.kept.take_lost(id) {
        let (pool, container) = (&core.identity.pool, item.name());
        tracing::debug!(pool, container, ?kind, "a kept container was lost");
        item.shared().set_taint(Taint::Died);
        slot.retire(item);
    }
}

/// Notes a container that was never lent and is not usable. A death soon after the start counts as a failed creation.
pub(super) fn note_unlent(core: &Core, shared: &Shared) {
    let early = shared.started().is_some_and(|started| started.elapsed() < EARLY_DEATH);
    if early && shared.taint() == Some(Taint::Died) {
        core.creations.note_death(died_early(shared));
    }
}

/// Says why a container was not usable right after its start.
pub(super) fn died_early(shared: &Shared) -> EngineError {
    let unexplained = || {
        let message = match shared.taint() {
            None | Some(Taint::Died) => "PID 1 ended soon after the start".to_owned(),
            Some(taint) => format!("it cannot be lent, since it has Taint::{taint:?}"),
        };
        let error = EngineError::new(EngineErrorKind::Internal, message);
        match shared.spec.has_lifeline() {
            true => error,
            false => error.advise("PID 1 must go on running: see cmd()"),
        }
    };
    shared.end_of_command().unwrap_or_else(unexplained)
}
