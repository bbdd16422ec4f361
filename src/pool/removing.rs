//! Removing one container.

use std::sync::Arc;

use super::core::{Background, Done, Item};
use super::idle::Slot;
use crate::container::GIVE_UP;
use crate::error::Error;

/// Removes one container; its slot is free when that is done.
pub(super) async fn remove(background: Arc<Background>, item: Item, slot: Slot<Item>) -> Done {
    let id = item.id().to_owned();
    // Never closed.
    let permit = background.removing.acquire().await;
    let removed = item.removal().persist(GIVE_UP).await;
    drop(permit);
    match removed {
        Ok(()) => {
            background.adopted.lock().remove(&id);
            item.into_removed();
        }
        Err(error) => background.report(Error::engine("remove the container", Some(item.name()), error)),
    }
    background.known.lock().remove(&id);
    drop(slot);
    Done::Removed
}
