//! Taking containers back from leases that last too long.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::core::Core;
use super::watchdog::Held;
use crate::container::{GIVE_UP, Taint};
use crate::error::Error;

/// Takes back each container whose lease lasts too long. Never returns.
pub(super) async fn reclaim_overdue(core: Arc<Core>) {
    let watchdog = &core.deadlines.watchdog;
    let mut reclaims = JoinSet::new();
    loop {
        let (overdue, next) = watchdog.take_overdue();
        for lease in overdue {
            tracing::error!(
                pool = core.identity.pool,
                container = lease.shared.name(),
                acquired_at = %lease.site,
                held = ?lease.begun.elapsed(),
                "a lease did not end in time: its container is taken back"
            );
            reclaims.spawn(reclaim(lease, core.clone()));
        }
        tokio::select! {
            () = watchdog.until_due(next) => {}
            Some(_) = reclaims.join_next() => {}
        }
    }
}

/// Ends all processes in the container, removes it, and frees its slot and its key.
async fn reclaim(lease: Held, core: Arc<Core>) {
    let Held {
        mut slot, turn, shared, ..
    } = lease;
    shared.set_taint(Taint::LeaseExpired);
    shared.life.set_returned();
    slot.recycle();
    // Before the removal, which would end the processes too: commands know why their container was killed.
    if let Err(error) = shared.kill().await {
        tracing::debug!(container = shared.name(), %error, "could not kill a container");
    }
    // No process of the key's lease runs any more, or the engine does not say so in time.
    drop(turn);
    if let Err(error) = shared.removal().persist(GIVE_UP).await {
        let error = Error::engine("remove the container", Some(shared.name()), error);
        core.reporter.report(error);
    }
    core.roster.forget(shared.id());
    drop(slot);
}
