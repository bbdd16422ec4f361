//! Taking containers back from leases that last too long.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::core::Background;
use super::watchdog::{Running, Watchdog};
use crate::container::{GIVE_UP, Taint};
use crate::error::Error;

/// The task that watches.
pub(super) async fn watch(watchdog: Arc<Watchdog>, background: Arc<Background>) {
    let mut reclaims = JoinSet::new();
    loop {
        let (overdue, next) = watchdog.overdue();
        for lease in overdue {
            tracing::error!(
                pool = background.pool,
                container = lease.shared.name,
                acquired_at = %lease.site,
                held = ?lease.begun.elapsed(),
                "a lease did not end in time: its container is taken back"
            );
            reclaims.spawn(reclaim(lease, background.clone()));
        }
        tokio::select! {
            () = watchdog.begun.notified() => {}
            Some(_) = reclaims.join_next() => {}
            () = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

/// Ends what runs in the container, removes it, and frees its slot.
async fn reclaim(lease: Running, background: Arc<Background>) {
    let Running { mut slot, shared, .. } = lease;
    shared.set_taint(Taint::LeaseExpired);
    slot.recycle();
    // First, since commands whose container was killed know what became of them; the removal would do it too.
    if let Err(error) = shared.kill().await {
        tracing::debug!(container = shared.name, %error, "could not kill a container");
    }
    if let Err(error) = shared.removal().persist(GIVE_UP).await {
        background.report(Error::engine("remove the container", Some(&shared.name), error));
    }
    background.known.lock().remove(shared.id());
    drop(slot);
}
