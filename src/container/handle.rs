//! The one owner of a container: [`Handle`].

use std::sync::Arc;
use std::time::Duration;

use super::identity::Identity;
use super::removal::GiveUp;
use super::shared::Shared;
use crate::engine::{Engine, EngineError, EngineErrorKind};
use crate::runtime::{Home, bounded};
use crate::spec::Resolved;

/// The one owner of a container. Dropping the owner removes the container in the background.
///
/// A single pointer, since the pool and the guard move it some ten times.
#[derive(Debug)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// Owns the container of this name before the engine is asked to create it, so that a container that an abandoned call
    /// leaves is removed.
    pub(crate) fn new(
        engine: Arc<dyn Engine>,
        name: String,
        spec: Arc<Resolved>,
        call_timeout: Duration,
        runtime: Home,
    ) -> Self {
        Self::with_mark(engine, name, None, spec, call_timeout, runtime, GiveUp::default())
    }

    /// As [`new`](Self::new), with a fresh name that the container has until its first lease.
    pub(crate) fn with_mark(
        engine: Arc<dyn Engine>,
        name: String,
        fresh_name: Option<String>,
        spec: Arc<Resolved>,
        call_timeout: Duration,
        runtime: Home,
        give_up: GiveUp,
    ) -> Self {
        let identity = Identity::new(name, fresh_name);
        let shared = Shared::new(engine, identity, spec, call_timeout, runtime, give_up);
        Self {
            shared: Arc::new(shared),
        }
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Takes over a running container that has the name `from`. The caller sees to it that nobody else does.
    pub(crate) async fn take_over(&self, from: &str, id: String) -> Result<(), EngineError> {
        let shared = &*self.shared;
        let rename = shared.engine.rename(from, shared.identity.first_name());
        let renamed = bounded("the rename of a container", shared.call_timeout, rename).await;
        match &renamed {
            Ok(()) => {
                shared.identity.set_id(id);
                shared.startup.set_started();
            }
            // The answer may have been lost: then the container that has our name now is removed.
            Err(error) if matches!(error.kind(), EngineErrorKind::Timeout | EngineErrorKind::Protocol) => {}
            Err(_) => self.release(),
        }
        renamed?;
        self.find_addresses().await?;
        self.must_be_ready().await
    }

    /// Removes the container, where there is one. If that fails, or when the future is dropped, the removal goes on in the
    /// background.
    pub(crate) async fn remove(self) {
        let removal = self.shared.removal();
        if !self.is_released() && removal.attempt().await.is_ok() && removal.confirmed {
            self.release();
        }
    }

    /// Ends the duty to remove the container: `Drop` leaves the container alone.
    pub(crate) fn release(&self) {
        self.shared.duty.end();
    }

    pub(crate) fn is_released(&self) -> bool {
        self.shared.duty.has_ended()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.is_released() {
            self.shared.remove_in_background(None);
        }
    }
}
