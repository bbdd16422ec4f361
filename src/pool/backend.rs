//! The engine of a pool, and how the pool calls it: [`Backend`].

use std::sync::Arc;
use std::time::Duration;

use crate::container::{GiveUp, Handle, Removal};
use crate::engine::{ContainerReport, Engine, EngineError, Selector, listed};
use crate::runtime::{Home, bounded};
use crate::spec::Resolved;
use crate::values::status::ActiveExec;

/// The deadline of a preparation. A pull may take long on a slow line, and has a shorter deadline of its own for standing
/// still.
pub(super) const PREPARE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The engine, the containers that it is asked for, and the runtime on which it is called. None of them changes while the pool
/// lives.
pub(super) struct Backend {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) spec: Arc<Resolved>,
    pub(super) exec: ActiveExec,
    /// The deadline of each call.
    pub(super) call_timeout: Duration,
    pub(super) runtime: Home,
}

impl Backend {
    /// Awaits the answer to one call, for at most [`call_timeout`](Self::call_timeout). `what` names the call in the error.
    pub(super) async fn call<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        bounded(what, self.call_timeout, call).await
    }

    /// Lists the containers that carry the labels of a selector.
    pub(super) async fn list(&self, selector: &Selector) -> Result<Vec<ContainerReport>, EngineError> {
        listed(&*self.engine, selector, self.call_timeout).await
    }

    /// Makes the owner of a container that the engine is not asked for yet. `fresh` is its name until its first lease.
    pub(super) fn handle(&self, name: String, fresh: Option<String>, spec: Resolved, give_up: GiveUp) -> Handle {
        Handle::with_mark(
            self.engine.clone(),
            name,
            fresh,
            Arc::new(spec),
            self.call_timeout,
            self.runtime.clone(),
            give_up,
        )
    }

    /// Describes the removal of a container that the engine has confirmed to exist, by id or name.
    pub(super) fn removal(&self, target: String) -> Removal {
        Removal {
            engine: self.engine.clone(),
            target,
            among: None,
            confirmed: true,
            call_timeout: self.call_timeout,
        }
    }
}
