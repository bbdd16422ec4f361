//! What a build makes ready on the engine before there is a pool: [`Prepared`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;

use super::backend::prepare;
use super::creating;
use crate::container::Handle;
use crate::engine::{Engine, EngineInfo, ImageInfo, Plan, ProgressFn};
use crate::error::Error;
use crate::runtime::{Home, bounded};
use crate::spec::{self, ContainerSpec, Decided, Resolved, resolve};
use crate::values::labels;

/// The first container of a pool, with the engine's warnings about it.
pub(super) type First = (Handle, Vec<String>);

/// Holds what a build has made ready on the engine. Dropping it before the pool takes over releases that in the background.
pub(super) struct Prepared {
    engine: Arc<dyn Engine>,
    spec: ContainerSpec,
    /// The spec with what is decided so far.
    pub(super) resolved: Resolved,
    /// What is to be known about the image.
    pub(super) warnings: Vec<String>,
    call_timeout: Duration,
    runtime: Home,
    handed_over: bool,
}

/// The pauses before further releases after the build was dropped: the engine may finish late a call that was abandoned.
const UNDO_AGAIN: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(4),
];

impl Prepared {
    pub(super) fn new(
        engine: Arc<dyn Engine>,
        spec: ContainerSpec,
        own_labels: BTreeMap<String, String>,
        clean: bool,
        call_timeout: Duration,
        runtime: Home,
    ) -> Self {
        let decided = Decided {
            own_labels,
            clean,
            ..Decided::default()
        };
        Self {
            engine,
            resolved: resolve(&spec, decided),
            warnings: Vec::new(),
            spec,
            call_timeout,
            runtime,
            handed_over: false,
        }
    }

    /// Makes ready all that the pool's containers need, and resolves the spec with what is known only then. Returns the first
    /// container, where one was needed for that.
    pub(super) async fn prepare(
        &mut self,
        ways: spec::Ways,
        info: &EngineInfo,
        progress: &ProgressFn,
        new_handle: impl Fn(Resolved) -> Handle + Send + Sync,
    ) -> Result<Option<First>, Error> {
        let Self {
            engine,
            spec,
            resolved,
            warnings,
            call_timeout,
            ..
        } = self;
        let (engine, call_timeout) = (&**engine, *call_timeout);
        prepare(engine, &resolved.plan, progress).await?;
        let image = engine.image(&resolved.plan);
        let image = bounded("the description of the image", call_timeout, image)
            .await
            .map_err(|error| Error::engine("describe the image", None, error))?;
        let mut decided = resolved.decided.clone();
        decided.image_volumes.clone_from(&image.volumes);
        decided.read_only_tmpfs.clone_from(&info.read_only_tmpfs);
        decided.supervised = spec::find_command(spec, &image)?;
        warnings.extend(spec.warning_of_entrypoint(&image));
        *resolved = resolve(spec, decided);
        let bring_up = |resolved: Resolved, keep| {
            let resolved = described(creating::created_now(&resolved), &image);
            new_handle(resolved).bring_up(keep).boxed()
        };
        let on = spec::On {
            engine,
            info,
            image: Some(&image),
            call_timeout,
        };
        let first = spec::bring(spec, resolved, ways, on, bring_up).await?;
        *resolved = described(resolved.clone(), &image);
        Ok(first)
    }

    /// Leaves the release to the pool's end.
    pub(super) fn handed_over(mut self) {
        self.handed_over = true;
    }

    /// Releases what was made ready, after the build has failed.
    pub(super) async fn undo(mut self) {
        // Until the release is done, `drop` would do it.
        self.handed_over =
            !needs_release(&self.resolved) || release(&*self.engine, &self.resolved.plan, self.call_timeout).await;
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.handed_over || !needs_release(&self.resolved) {
            return;
        }
        let (engine, plan, call_timeout) = (self.engine.clone(), self.resolved.plan.clone(), self.call_timeout);
        self.runtime.spawn(async move {
            release(&*engine, &plan, call_timeout).await;
            for pause in UNDO_AGAIN {
                tokio::time::sleep(pause).await;
                release(&*engine, &plan, call_timeout).await;
            }
        });
    }
}

/// Labels containers with what tells them from those of other specs.
fn described(resolved: Resolved, image: &ImageInfo) -> Resolved {
    let fingerprint = resolved.fingerprint(image.id.as_deref().unwrap_or_default());
    resolved.with_label(labels::SPEC, fingerprint)
}

/// Whether there is something to release.
fn needs_release(resolved: &Resolved) -> bool {
    resolved.removes_network() || resolved.plan.volumes().next().is_some()
}

/// Releases what was made ready. Returns whether the engine did it.
async fn release(engine: &dyn Engine, plan: &Plan, call_timeout: Duration) -> bool {
    let released = bounded("the release of what was made ready", call_timeout, engine.release(plan)).await;
    if let Err(error) = &released {
        tracing::error!(%error, "what a build has made ready may be left");
    }
    released.is_ok()
}
