//! The names and the id of one container: [`Identity`].

use std::sync::OnceLock;

use tokio::sync::OnceCell;

use crate::engine::{Engine, EngineError};

/// Holds the container's name, its fresh name, and the engine's id.
///
/// Labels cannot be changed. Where a pool tells containers that were never lent from others, such a container has a fresh name
/// until its first lease.
#[derive(Debug)]
pub(super) struct Identity {
    name: String,
    fresh: Option<Fresh>,
    id: OnceLock<String>,
}

/// The name of a container until its first lease.
#[derive(Debug)]
struct Fresh {
    name: String,
    renamed: OnceCell<()>,
}

impl Identity {
    pub(super) fn new(name: String, fresh_name: Option<String>) -> Self {
        let fresh = fresh_name.map(|name| Fresh {
            name,
            renamed: OnceCell::new(),
        });
        Self {
            name,
            fresh,
            id: OnceLock::new(),
        }
    }

    /// Returns the name that the container has from its first lease on.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name that the container is created with.
    pub(super) fn first_name(&self) -> &str {
        self.fresh.as_ref().map_or(&self.name, |fresh| &fresh.name)
    }

    /// Returns the engine's id, or the first name until the engine has given an id.
    pub(super) fn id(&self) -> &str {
        self.id.get().map_or(self.first_name(), String::as_str)
    }

    /// Sets the engine's id. The first id counts.
    pub(super) fn set_id(&self, id: String) {
        let _ = self.id.set(id);
    }

    /// Returns whether the engine has given an id, and so has confirmed that the container exists.
    pub(super) fn has_id(&self) -> bool {
        self.id.get().is_some()
    }

    /// Returns whether the container still has its fresh name.
    #[inline]
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh.as_ref().is_some_and(|fresh| !fresh.renamed.initialized())
    }

    /// Renames the container from its fresh name. Idempotent; calls that overlap wait for the same rename.
    pub(super) async fn end_fresh(&self, engine: &dyn Engine) -> Result<(), EngineError> {
        let Some(fresh) = &self.fresh else { return Ok(()) };
        let rename = || async {
            // By name, not by id: the engine may carry the request out late, when this process is gone and another one has
            // renamed the container. The request then finds nothing.
            let Err(error) = engine.rename(&fresh.name, &self.name).await else {
                return Ok(());
            };
            // An earlier call, whose answer was lost, may have renamed the container.
            match engine.inspect(self.id()).await {
                Ok(there) if there.name == self.name => Ok(()),
                _ => Err(error),
            }
        };
        fresh.renamed.get_or_try_init(rename).await.copied()
    }
}
