//! The work on one container between two leases: the user's hook, and the cleaning.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::hooks::Return;
use super::idle::{Lend, Slot};
use super::item::Item;
use super::reuse::Reuse;
use crate::engine::EngineError;
use crate::error::Error;

/// How long others wait for a container that is being cleaned, where one could be created. Most cleanings take a hundredth of that.
/// Code in a container can make them take seconds, by what it leaves behind.
const PATIENCE: Duration = Duration::from_millis(200);

/// The outcome of the work on a container.
enum Fate {
    /// The container was cleaned, or did not need it.
    Good { item: Item, is_cleaned: bool },
    /// Nobody could prove that it is clean.
    Unclean(Item, EngineError),
    /// The hook does not want it, or has failed.
    Unwanted(Item),
    /// The hook has kept it.
    Lost,
}

/// Has the hook look at a container, cleans it and has it lent again, or gives it away to be removed.
pub(super) async fn clean(core: Arc<Core>, item: Item, mut slot: Slot<Item>) {
    let shared = item.shared().clone();
    // A tainted or old container is replaced anyway, and commands that still run are ended by a cleaning alone.
    if !shared.may_be_lent_again() || core.reuse != Reuse::Clean && !item.is_usable() {
        return slot.retire(item);
    }
    let mut restored = pin!(restore(&core, item));
    let fate = match tokio::time::timeout(PATIENCE, &mut restored).await {
        Ok(fate) => fate,
        Err(_) => {
            slot.clean_late();
            restored.await
        }
    };
    match fate {
        Fate::Good { item, is_cleaned } => {
            let lifetime = core.deadlines.lifetime.as_ref();
            if let Some(lifetime) = lifetime {
                lifetime.before_idle(&shared);
            }
            match is_cleaned {
                true => drop(slot.put(item)),
                false => slot.put_uncleaned(item),
            }
            if let Some(lifetime) = lifetime {
                lifetime.after_idle();
            }
        }
        Fate::Unclean(item, error) => {
            let (pool, container) = (&core.identity.pool, shared.name());
            tracing::debug!(pool, container, %error, "a container is not proven to be clean, and is replaced");
            core.uncleans.note(error);
            slot.retire_unclean(item);
        }
        Fate::Unwanted(item) => slot.retire(item),
        Fate::Lost => {
            slot.recycle();
            shared.remove_in_background(Some(Box::new(slot)));
        }
    }
}

async fn restore(core: &Core, item: Item) -> Fate {
    let shared = item.shared().clone();
    let item = match core.hooks.returned(item).await {
        Ok((item, Return::Keep)) => item,
        Ok((item, Return::Discard)) => return Fate::Unwanted(item),
        Err((item, error)) => {
            let error = Error::engine("look after the container", Some(shared.name()), error);
            core.reporter.report(error);
            return item.map_or(Fate::Lost, Fate::Unwanted);
        }
    };
    if core.reuse != Reuse::Clean || shared.is_untouched() {
        shared.end_lease();
        shared.end_lease_value();
        return Fate::Good {
            item,
            is_cleaned: false,
        };
    }
    let cleaned = match shared.clean().await {
        Ok(()) => tokio::select! {
            ready = shared.get_ready_again() => ready,
            // The container is removed anyway.
            () = core.idle.closed() => return Fate::Unwanted(item),
        },
        Err(error) => Err(error),
    };
    match cleaned {
        Ok(()) => Fate::Good { item, is_cleaned: true },
        Err(error) => Fate::Unclean(item, error),
    }
}
