//! Rolling a pool onto its image as it is now: [`Pool::refresh`].

use super::backend::{Backend, prepare};
use super::core::Core;
use super::pool::Pool;
use crate::error::Error;

impl Pool {
    /// Rolls the pool onto its image as it is now. Makes the image ready again as [`build`](crate::PoolBuilder::build) does:
    /// pulls it if the [`PullPolicy`](crate::PullPolicy) says so, and finds another image that has the name by now. Then
    /// replaces every container. Returns when no container made before is idle any more.
    ///
    /// There is no gap. Idle containers can be lent until their successors are there. Leases are not disturbed, and an old
    /// container is removed when its lease ends. Only a pool that is at its [`max_total`](crate::PoolBuilder::max_total) with
    /// idle containers removes one before its successor is there, one at a time.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the image could not be made ready: nothing has changed then. [`Error::Engine`] if a successor could
    /// not be created: idle containers can still be lent, and background tasks retry. [`Error::Shutdown`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped while the image is made ready, nothing changes. After that, the replacement goes on in the
    /// background.
    pub async fn refresh(&self) -> Result<(), Error> {
        let runtime = &self.inner.core.backend.runtime;
        runtime.run(Box::pin(self.renew())).await
    }

    async fn renew(&self) -> Result<(), Error> {
        let core = &self.inner.core;
        if core.idle.is_closed() {
            return Err(self.closed());
        }
        let Backend { engine, spec, .. } = &core.backend;
        let prepared = prepare(&**engine, &spec.plan, &self.inner.progress).await;
        prepared.map_err(|error| error.of_pool(self.name()))?;

        let mut outcome = core.creations.subscribe();
        begin_generation(core);
        loop {
            tokio::select! {
                biased;
                () = core.idle.renewed() => break,
                changed = outcome.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if let Some(error) = outcome.borrow_and_update().last_error.clone() {
                        let error = Error::engine("create the successor of a container", None, error);
                        return Err(error.of_pool(self.name()));
                    }
                }
            }
        }
        if core.idle.is_closed() {
            return Err(self.closed());
        }
        Ok(())
    }
}

/// Has every container replaced that was created before.
fn begin_generation(core: &Core) {
    // The order matters: a creation whose container is not on the roster yet compares the numbers when it is done.
    core.creations.begin_generation();
    core.roster.for_each(|shared| {
        shared.life.set_outdated();
    });
    core.idle.outdate();
}
