//! Containers that end outside of the pool.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep};

use super::core::Background;
use crate::container::{Shared, Taint};
use crate::engine::{ContainerState, EngineError, EngineErrorKind, Event, EventKind};
use crate::runtime::bounded;
use crate::values::backoff::Backoff;

/// One that dies idle sooner than this after its start counts as one that could not be created: its image or its
/// command is broken, and making the next one at once would go on for ever.
const EARLY_DEATH: Duration = Duration::from_secs(10);

/// How far back a new subscription to events reaches, so that nothing is missed between a list and it, also when the
/// engine's clock differs a little from ours.
const EVENT_OVERLAP: Duration = Duration::from_secs(2);

/// How long after a subscription to events it certainly stands.
const SECOND_LOOK: Duration = Duration::from_secs(2);

impl Background {
    /// The kernel has killed a process of this container: what is left in it may be half of something.
    fn out_of_memory(&self, event: &Event) {
        let known = self.known.lock().get(&event.id).cloned();
        if let Some(shared) = known.and_then(|shared| shared.upgrade()) {
            shared.note_oom_kill(event.at);
        }
        for (item, slot) in self.idle.evict(|item| item.id() == event.id) {
            self.idle.give_away(item, slot);
        }
    }

    /// The engine says that this container is not usable any more.
    pub(super) fn lost(&self, id: &str, kind: EventKind) {
        let known = if kind == EventKind::Removed {
            self.known.lock().remove(id)
        } else {
            self.known.lock().get(id).cloned()
        };
        if let Some(shared) = known.and_then(|shared| shared.upgrade()) {
            if kind == EventKind::Paused {
                // Whoever has it on loan may wait for it to be thawed; it is not lent again.
                shared.life.withdraw();
            } else {
                shared.set_taint(Taint::Died);
            }
        }
        for (item, slot) in self.idle.evict(|item| item.id() == id) {
            tracing::debug!(
                pool = self.pool,
                container = item.name(),
                ?kind,
                "an idle container was lost"
            );
            item.shared().set_taint(Taint::Died);
            self.note_unlent(item.shared());
            self.idle.give_away(item, slot);
        }
    }

    /// This one died before anybody got it. Soon after its start, that counts as a creation that failed.
    pub(super) fn note_unlent(&self, shared: &Shared) {
        let early = shared.started().is_some_and(|started| started.elapsed() < EARLY_DEATH);
        if early && shared.taint() == Some(Taint::Died) {
            self.creation_failed.store(true, std::sync::atomic::Ordering::Release);
            let error = died_early(shared);
            self.created.send_modify(|created| created.last_error = Some(error));
        }
    }
}

pub(super) fn died_early(shared: &Shared) -> EngineError {
    let unexplained = || {
        let message = match shared.taint() {
            None | Some(Taint::Died) => "PID 1 ended soon after the start".to_owned(),
            Some(taint) => format!("nobody can be lent it: {taint:?}"),
        };
        EngineError::new(EngineErrorKind::Internal, message)
    };
    shared.end_of_command().unwrap_or_else(unexplained)
}

/// Takes containers that died, were removed or were paused by somebody else out of the pool.
pub(super) async fn watch_for_deaths(background: Arc<Background>) {
    let mut backoff = Backoff::default();
    // Of those that were adopted one may have died since they were listed.
    let mut since = match background.adopted.lock().is_empty() {
        true => None,
        false => SystemTime::now().checked_sub(EVENT_OVERLAP),
    };
    loop {
        let mut events = background.engine.events(&background.wide_selector(), since);
        // Once more when the subscription certainly stands, whatever the engine's clock says.
        let second_look = sleep(SECOND_LOOK);
        tokio::pin!(second_look);
        let mut looked = false;
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = &mut second_look, if !looked => {
                    looked = look_for_lost(&background).await;
                    second_look.as_mut().reset(Instant::now() + SECOND_LOOK);
                    continue;
                }
            };
            let Some(event) = event else { break };
            // An engine may have told of a lot, and tell it without a pause.
            tokio::task::coop::consume_budget().await;
            match event {
                Ok(event) => {
                    backoff.reset();
                    match event.kind {
                        EventKind::OutOfMemory => background.out_of_memory(&event),
                        kind => background.lost(&event.id, kind),
                    }
                }
                Err(error) => {
                    tracing::debug!(pool = background.pool, %error, "the stream of events broke");
                    break;
                }
            }
        }
        // What happened meanwhile is seen by a list; what happens between that and the new subscription, by its overlap.
        loop {
            sleep(backoff.next_delay()).await;
            since = SystemTime::now().checked_sub(EVENT_OVERLAP);
            if look_for_lost(&background).await {
                break;
            }
        }
    }
}

/// Takes out what a list does not show as usable any more; `false` if there was no list to be had.
async fn look_for_lost(background: &Background) -> bool {
    // Before the list, so that one that is made meanwhile is not taken for one that is gone.
    let known: Vec<_> = background.known.lock().keys().cloned().collect();
    let selector = background.wide_selector();
    let list = background.engine.list(&selector);
    let found: HashMap<_, _> = match bounded("a list of containers", background.call_timeout, list).await {
        Ok(found) => found.into_iter().map(|report| (report.id, report.state)).collect(),
        Err(error) => {
            tracing::debug!(pool = background.pool, %error, "the engine does not answer");
            return false;
        }
    };
    for id in known {
        match found.get(&id) {
            Some(ContainerState::Running | ContainerState::Created) => {}
            Some(ContainerState::Paused) => background.lost(&id, EventKind::Paused),
            Some(_) => background.lost(&id, EventKind::Died),
            None => background.lost(&id, EventKind::Removed),
        }
    }
    true
}
