//! Creating one container.

use std::pin::pin;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::core::Core;
use super::creations::Begun;
use super::deaths::{died_early, lost};
use super::idle::{Hopeless, Slot};
use super::item::Item;
use super::reuse::Reuse;
use crate::container::{Container, Handle, Shared};
use crate::engine::{EngineError, EventKind};
use crate::error::Error;
use crate::spec::Resolved;
use crate::values::labels;

/// Returns a spec for a container that is created now.
pub(super) fn created_now(spec: &Resolved) -> Resolved {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    spec.clone().with_label(labels::CREATED, now.as_secs().to_string())
}

/// Creates and starts one container, and hands it to the pool. Returns whether the pool has it.
pub(super) async fn create(core: Arc<Core>, slot: Slot<Item>) -> bool {
    let generation = core.creations.generation();
    let begun = core.creations.begin();
    let (name, fresh) = core.identity.new_names();
    let spec = created_now(&core.backend.spec);
    let handle = core.backend.handle(name, fresh, spec, core.reporter.give_up());
    let shared = handle.shared().clone();
    let created = match bring_up(&core, &handle).await {
        Ok(()) => set_up(&core, handle).await,
        Err(error) if shared.was_given_up() => {
            tracing::debug!(container = shared.name(), %error, "the pool has ended before a container was ready");
            Err((Some(handle), None))
        }
        Err(error) => Err((Some(handle), Some(error))),
    };
    match created {
        Ok(handle) => return take_in(&core, handle, slot, generation),
        Err((handle, Some(error))) => failed(&core, &shared, handle, slot, begun, error),
        Err((handle, None)) => given_up(&core, &shared, handle, slot),
    }
    false
}

/// Creates and starts the container, and waits until it is ready or the pool ends. A call of the engine that is under way is
/// waited for in any case: else the container could be missed.
async fn bring_up(core: &Core, handle: &Handle) -> Result<(), EngineError> {
    let warnings = handle.create(core.creations.must_look()).await?;
    core.creations.note_limits_hold();
    core.reporter.warn(handle.shared().name(), warnings);
    core.roster.add(handle.shared());
    let mut start = pin!(handle.start());
    tokio::select! {
        biased;
        started = &mut start => return started,
        () = core.idle.closed() => handle.shared().give_up(),
    }
    start.await
}

/// Calls the hook for new containers, until the pool ends. An error without words says that the pool has ended.
async fn set_up(core: &Core, handle: Handle) -> Result<Handle, (Option<Handle>, Option<EngineError>)> {
    if core.hooks.on_create.is_none() {
        return Ok(handle);
    }
    if core.idle.is_closed() {
        return Err((Some(handle), None));
    }
    let shared = handle.shared().clone();
    shared.begin_hook("on_create()");
    let created = tokio::select! {
        biased;
        created = core.hooks.created(handle) => created.map_err(|(handle, error)| (handle, Some(error))),
        // The hook has the container, which is removed all the same.
        () = core.idle.closed() => Err((None, None)),
    };
    shared.end_hook();
    created
}

/// Notes a failed creation. The slot is freed when nothing is left of the container; the next creation waits for the
/// back-off. Where no retry helps, fails the acquires that only a new container could serve. `None`: a hook has kept the container.
fn failed(
    core: &Core,
    shared: &Arc<Shared>,
    handle: Option<Handle>,
    mut slot: Slot<Item>,
    begun: Begun,
    error: EngineError,
) {
    let hopeless = core.creations.note_failure(begun, error.clone());
    core.roster.forget(shared.id());
    slot.failed(hopeless.then_some(Hopeless {
        error: &error,
        may_return: core.reuse != Reuse::Never && core.roster.any(|container| container.may_be_lent_again()),
    }));
    let error = Error::engine("create the container", Some(shared.name()), error);
    core.reporter.report(error);
    discard(shared, handle, slot);
}

/// Ends a creation that the end of the pool has cut short. The slot is freed when nothing is left of the container.
fn given_up(core: &Core, shared: &Arc<Shared>, handle: Option<Handle>, mut slot: Slot<Item>) {
    core.roster.forget(shared.id());
    slot.given_up();
    discard(shared, handle, slot);
}

/// Removes what a creation has left. `None`: a hook has kept the container.
fn discard(shared: &Arc<Shared>, handle: Option<Handle>, slot: Slot<Item>) {
    if handle.as_ref().is_none_or(|handle| !handle.is_released()) {
        if let Some(handle) = &handle {
            handle.release();
        }
        shared.remove_in_background(Some(Box::new(slot)));
    }
}

/// Hands a container that was brought up to the pool. `generation` is the generation from before its creation. Returns
/// `false` where the container has died already.
pub(super) fn take_in(core: &Arc<Core>, handle: Handle, slot: Slot<Item>, generation: u64) -> bool {
    let shared = handle.shared().clone();
    let lifetime = core.deadlines.lifetime.as_deref();
    if let Some(lifetime) = lifetime {
        lifetime.begin(&shared);
    }
    if core.creations.generation() != generation {
        shared.life.set_outdated();
    }
    if let Some(agent) = shared.agent() {
        core.creations.set_cgroups(agent.cgroups());
    }
    if !slot.put(Container::running(handle)) {
        let error = died_early(&shared);
        core.creations.note_death(error.clone());
        let error = Error::engine("create the container", Some(shared.name()), error);
        core.reporter.report(error);
        return false;
    }
    shared.watch_lifeline({
        let (core, id) = (Arc::downgrade(core), shared.id().to_owned());
        move || {
            if let Some(core) = core.upgrade() {
                lost(&core, &id, EventKind::Died);
            }
        }
    });
    if let Some(lifetime) = lifetime {
        lifetime.after_creation();
    }
    core.creations.note_success();
    true
}
