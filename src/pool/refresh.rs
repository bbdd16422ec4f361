//! Rolling a pool onto its image as it is now.

use std::sync::atomic::Ordering;

use super::builder::PREPARE_TIMEOUT;
use super::core::Background;
use super::pool::Pool;
use crate::error::Error;
use crate::runtime::bounded;

impl Background {
    /// From now on containers are of a new generation: those there are are replaced.
    fn begin_generation(&self) {
        // The order matters: a creation that is not known yet looks at the number when it is done.
        self.generation.fetch_add(1, Ordering::AcqRel);
        for shared in self.known.lock().values().filter_map(std::sync::Weak::upgrade) {
            shared.life.set_outdated();
        }
        self.idle.outdate();
    }
}

impl Pool {
    /// Rolls the pool onto its image as it is now: has the image made ready again as [`build`](PoolBuilder::build) does
    /// (pulled, if the [`PullPolicy`](crate::PullPolicy) says so; an image name that means another image by now is seen),
    /// and replaces every container. It returns when no container made before is idle any more.
    ///
    /// There is no gap: idle containers stay to be lent until their successors are there, leases are not disturbed, and
    /// those of them that are on an old container end with its removal. Only a pool that is at its
    /// [`max_total`](PoolBuilder::max_total) with idle containers removes one before its successor is there, one at a
    /// time.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`] if the image could not be made ready: nothing has changed then; or if a successor could not be
    /// created: what is idle stays to be lent, and further attempts are made in the background. [`Error::Shutdown`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future while the image is made ready changes nothing; after that, the replacement goes on in the background.
    pub async fn refresh(&self) -> Result<(), Error> {
        self.inner.background.runtime.run(Box::pin(self.renew())).await
    }

    async fn renew(&self) -> Result<(), Error> {
        let background = &self.inner.background;
        if background.idle.is_closed() {
            return Err(self.closed());
        }
        bounded(
            "the preparation of the image",
            PREPARE_TIMEOUT,
            background.engine.prepare(&background.spec, &self.inner.progress),
        )
        .await
        .map_err(|error| Error::engine("prepare the image", None, error))?;

        let mut created = background.created.subscribe();
        background.begin_generation();
        loop {
            tokio::select! {
                biased;
                () = background.idle.renewed() => break,
                changed = created.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if let Some(error) = created.borrow_and_update().last_error.clone() {
                        return Err(Error::engine("create the successor of a container", None, error));
                    }
                }
            }
        }
        if background.idle.is_closed() {
            Err(self.closed())
        } else {
            Ok(())
        }
    }
}
