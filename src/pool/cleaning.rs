//! Cleaning one container between two leases.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::idle::Slot;
use super::item::Item;

/// How long others wait for a container that is being cleaned, where one could be created. Most cleanings take a hundredth of that.
/// Code in a container can make them take seconds, by what it leaves behind.
const PATIENCE: Duration = Duration::from_millis(200);

/// Cleans a container and has it lent again, or gives it away to be removed.
pub(super) async fn clean(core: Arc<Core>, item: Item, mut slot: Slot<Item>) {
    let shared = item.shared().clone();
    // What is tainted or old is replaced anyway.
    if !shared.may_be_lent_again() {
        return slot.retire(item);
    }
    let mut cleaned = pin!(async {
        shared.clean().await?;
        shared.get_ready_again().await
    });
    let cleaned = match tokio::time::timeout(PATIENCE, &mut cleaned).await {
        Ok(cleaned) => cleaned,
        Err(_) => {
            slot.clean_late();
            cleaned.await
        }
    };
    match cleaned {
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
