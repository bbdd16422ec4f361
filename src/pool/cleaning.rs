//! Cleaning one container between two leases.

use std::sync::Arc;

use super::core::Core;
use super::idle::Slot;
use super::item::Item;

/// Cleans a container and has it lent again, or gives it away to be removed.
pub(super) async fn clean(core: Arc<Core>, item: Item, slot: Slot<Item>) {
    let shared = item.shared().clone();
    // What is tainted or old is replaced anyway.
    if !shared.may_be_lent_again() {
        return slot.retire_unclean(item);
    }
    match shared.clean().await {
        Ok(()) => {
            let lifetime = core.deadlines.lifetime.as_ref();
            if let Some(lifetime) = lifetime {
                lifetime.before_idle(&shared);
            }
            slot.put(item);
            if let Some(lifetime) = lifetime {
                lifetime.after_idle();
            }
        }
        Err(error) => {
            let (pool, container) = (&core.identity.pool, shared.name());
            tracing::debug!(pool, container, %error, "a container is not proven to be clean, and is replaced");
            core.uncleans.note(error);
            slot.retire_unclean(item);
        }
    }
}
