//! Creating a container outside of a pool.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::FutureExt;
use tokio::runtime::Handle as RuntimeHandle;

use super::DEFAULT_CALL_TIMEOUT;
use super::handle::Handle;
use super::state::{Created, Running};
use super::typestate::Container;
use crate::agent::ExecVia;
use crate::engine::Engine;
use crate::error::Error;
use crate::runtime::{Home, bounded};
use crate::spec::{ContainerSpec, Decided, Keep, On, Resolved, bring, check_cgroups, decide, find_command, resolve};
use crate::values::labels;

impl Container<Created> {
    /// Creates a container outside of any pool. Works on any thread, within a tokio runtime or not: background tasks run on
    /// the library's own runtime (see [the crate's documentation](crate#runtime)).
    ///
    /// The first call in a process for an engine, image, runtime and user starts and removes another container, which shows
    /// whether the [agent](ExecVia) runs there.
    ///
    /// The image must be on the engine: see [`Engine`](crate::Engine).
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the spec has bad values; [`Error::Engine`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the container, if the call has created one, in the background.
    pub async fn create(engine: Arc<dyn Engine>, spec: ContainerSpec) -> Result<Self, Error> {
        Self::create_in(engine, spec, None).await
    }

    /// Creates a container as [`create`](Self::create) does, with background tasks on this tokio runtime in place of the
    /// library's own. The rules of [`PoolBuilder::tokio_runtime`](crate::PoolBuilder::tokio_runtime) hold here too.
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create); [`Error::RuntimeEnded`].
    ///
    /// # Cancel safety
    ///
    /// As [`create`](Self::create).
    pub async fn create_on(
        runtime: RuntimeHandle,
        engine: Arc<dyn Engine>,
        spec: ContainerSpec,
    ) -> Result<Self, Error> {
        Self::create_in(engine, spec, Some(runtime)).await
    }

    async fn create_in(
        engine: Arc<dyn Engine>,
        spec: ContainerSpec,
        runtime: Option<RuntimeHandle>,
    ) -> Result<Self, Error> {
        let problems = spec.problems();
        if !problems.is_empty() {
            return Err(Error::Config(problems));
        }
        let managed = (labels::MANAGED_BY.to_owned(), labels::MANAGED_BY_VALUE.to_owned());
        let mut decided = Decided {
            own_labels: BTreeMap::from([managed]),
            ..Decided::default()
        };
        let runtime = Home::of(runtime)?;
        let create = async {
            let new_handle = |spec: Resolved| {
                let name = format!("dockerpool-{:032x}", fastrand::u128(..));
                Handle::new(
                    engine.clone(),
                    name,
                    Arc::new(spec),
                    DEFAULT_CALL_TIMEOUT,
                    runtime.clone(),
                )
            };
            let mut resolved = resolve(&spec, decided.clone());
            if spec.has_lifeline() && engine.capabilities().programs || spec.exec_via != ExecVia::Docker {
                let info = bounded("the check of the engine", DEFAULT_CALL_TIMEOUT, engine.check())
                    .await
                    .map_err(|error| Error::engine("reach the engine", None, error))?;
                check_cgroups(&spec, &info)?;
                let ways = decide(&spec, None, &*engine, &info)?;
                let image = engine.image(&resolved.plan);
                let image = bounded("the description of the image", DEFAULT_CALL_TIMEOUT, image).await;
                decided.supervised = match &image {
                    Ok(image) => find_command(&spec, image)?,
                    Err(error) if spec.supervise => {
                        return Err(Error::engine("find the image's command", None, error.clone()));
                    }
                    // The creation of the container tells.
                    Err(_) => None,
                };
                if let Some(warning) = image.as_ref().ok().and_then(|image| spec.warning_of_entrypoint(image)) {
                    tracing::warn!("{warning}");
                }
                resolved = resolve(&spec, decided);
                let bring_up = |resolved, _| new_handle(resolved).bring_up(Keep(false)).boxed();
                let image = image.ok();
                let on = On {
                    engine: &*engine,
                    info: &info,
                    image: image.as_ref(),
                    call_timeout: DEFAULT_CALL_TIMEOUT,
                };
                bring(&spec, &mut resolved, ways, on, bring_up).await?;
            }
            let handle = new_handle(resolved);
            match handle.create(true).await {
                Ok(warnings) => {
                    for warning in warnings {
                        tracing::warn!(
                            container = handle.shared().name(),
                            warning,
                            "the engine warns about a container"
                        );
                    }
                    Ok(Self::from_handle(handle))
                }
                Err(error) => Err(Error::engine(
                    "create the container",
                    Some(handle.shared().name()),
                    error,
                )),
            }
        };
        // Boxed: the future is large, and is moved several times.
        runtime.run(Box::pin(create)).await
    }

    /// Starts the container.
    ///
    /// # Errors
    ///
    /// [`Error::Engine`]; the container is then removed in the background.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the container in the background.
    pub async fn start(self) -> Result<Container<Running>, Error> {
        match self.shared().runtime.run(Box::pin(self.handle.start())).await {
            Ok(()) => Ok(self.into_state()),
            Err(error) => Err(self.error("start the container", error)),
        }
    }
}
