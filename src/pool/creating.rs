//! Creating one container.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use super::adopt;
use super::core::{Background, Done, Item};
use super::deaths::died_early;
use super::idle::Slot;
use crate::container::{Container, GiveUp, Handle};
use crate::engine::{ContainerSpec, EventKind};
use crate::error::Error;
use crate::values::labels;

/// A spec for a container that is created now.
pub(super) fn created_now(spec: &ContainerSpec) -> ContainerSpec {
    let mut spec = spec.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    spec.own_labels
        .insert(labels::CREATED.to_owned(), now.as_secs().to_string());
    spec
}

/// Creates and starts one container.
pub(super) async fn create(background: Arc<Background>, mut slot: Slot<Item>) -> Done {
    let generation = background.generation.load(Ordering::Acquire);
    let (name, fresh_name) = adopt::names(background.new_name(), background.marks_unused);
    let spec = created_now(&background.spec);
    let handle = Handle::with_mark(
        background.engine.clone(),
        name,
        fresh_name,
        Arc::new(spec),
        background.call_timeout,
        background.runtime.clone(),
        GiveUp(Some(background.on_error.clone())),
    );
    let up = async {
        let warnings = handle.create(!background.limits_hold.load(Ordering::Acquire)).await?;
        background.limits_hold.store(true, Ordering::Release);
        background.warn(&handle.shared().name, warnings);
        background.know(handle.shared());
        handle.start().await
    };
    match up.await {
        Ok(()) => {
            if !take_in(&background, handle, slot, generation) {
                background.creation_failed.store(true, Ordering::Release);
                return Done::NotCreated;
            }
            Done::Created
        }
        Err(error) => {
            background
                .created
                .send_modify(|created| created.last_error = Some(error.clone()));
            background.report(Error::engine(
                "create the container",
                Some(&handle.shared().name),
                error,
            ));
            background.known.lock().remove(handle.shared().id());
            // Whatever there is of it goes with its slot; the next attempt waits for the back-off.
            background.creation_failed.store(true, Ordering::Release);
            slot.failed();
            if !handle.is_released() {
                handle.release();
                handle.shared().remove_behind(Some(Box::new(slot)));
            }
            Done::NotCreated
        }
    }
}

/// Has the pool have a container that was brought up for it. `generation` is that from before it was created. `false`: it
/// has died already.
pub(super) fn take_in(background: &Arc<Background>, handle: Handle, slot: Slot<Item>, generation: u64) -> bool {
    if let Some(lifetime) = &background.lifetime {
        lifetime.begin(handle.shared());
    }
    if background.generation.load(Ordering::Acquire) != generation {
        handle.shared().life.set_outdated();
    }
    let shared = handle.shared().clone();
    if let Some(agent) = shared.agent() {
        *background.cgroups.lock() = agent.cgroups();
    }
    if !slot.put(Container::running(handle)) {
        let error = died_early(&shared);
        background
            .created
            .send_modify(|created| created.last_error = Some(error.clone()));
        background.report(Error::engine("create the container", Some(&shared.name), error));
        return false;
    }
    shared.watch_lifeline({
        let (background, id) = (Arc::downgrade(background), shared.id().to_owned());
        move || {
            if let Some(background) = background.upgrade() {
                background.lost(&id, EventKind::Died);
            }
        }
    });
    if let Some(lifetime) = &background.lifetime {
        lifetime.after_creation();
    }
    background.created.send_modify(|created| {
        created.count += 1;
        created.last_error = None;
    });
    true
}
