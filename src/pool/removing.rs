//! Removing one container.

use std::sync::Arc;

use super::core::Core;
use super::idle::Slot;
use super::item::Item;
use crate::error::Error;

/// Removes a container, and frees its slot when that is done or given up.
pub(super) async fn remove(core: Arc<Core>, item: Item, slot: Slot<Item>) {
    let id = item.id().to_owned();
    let removed = tokio::select! {
        removed = core.removals.run(item.removal()) => removed,
        // The answer may be lost.
        () = item.shared().life.removed() => Ok(()),
    };
    match removed {
        Ok(()) => {
            core.roster.forget_adopted(&id);
            item.into_removed();
        }
        Err(error) => {
            let error = Error::engine("remove the container", Some(item.name()), error);
            core.reporter.report(error);
        }
    }
    core.roster.forget(&id);
    drop(slot);
}
