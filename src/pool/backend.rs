//! The engine of a pool, and how the pool calls it: [`Backend`].

use std::sync::Arc;
use std::time::Duration;

use crate::container::{GiveUp, Handle, Removal};
use crate::engine::{ContainerReport, Engine, EngineError, Plan, ProgressFn, Selector, listed};
use crate::error::Error;
use crate::runtime::{Home, bounded};
use crate::spec::Resolved;
use crate::values::status::ActiveExec;

/// The deadline of a preparation. A pull may take long on a slow line, and has a shorter deadline of its own for standing
/// still.
const PREPARE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Has the engine make ready what the containers of a plan need, with errors that name no more than was asked for.
pub(super) async fn prepare(engine: &dyn Engine, plan: &Plan, progress: &ProgressFn) -> Result<(), Error> {
    let has_network = plan.network.as_ref().is_some_and(|network| network.name().is_some());
    let (op, call) = match has_network {
        true => (
            "prepare the image and the network",
            "the preparation of the image and the network",
        ),
        false => ("prepare the image", "the preparation of the image"),
    };
    let prepared = bounded(call, PREPARE_TIMEOUT, engine.prepare(plan, progress)).await;
    prepared.map_err(|error| Error::engine(error.doing().unwrap_or(op), None, error))
}

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
