//! Parts of an engine that wraps a fake one, which each such engine has the same.

/// Implements `Lifecycle` and `Engine` for a type by those of its field `inner`.
macro_rules! forward_lifecycle {
    ($engine:ty) => {
        const _: () = {
            use dockerpool::engine::{
                Attachment, BoxFuture, Capabilities, Creation, EngineInfo, Identity, Lifecycle, Parts, Plan, ProgressFn,
            };
            use dockerpool::{Engine, EngineError};
            use std::time::Duration;

            impl Lifecycle for $engine {
                fn prepare<'a>(
                    &'a self,
                    plan: &'a Plan,
                    progress: &'a ProgressFn,
                ) -> BoxFuture<'a, Result<(), EngineError>> {
                    self.inner.prepare(plan, progress)
                }

                fn release<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
                    self.inner.release(plan)
                }

                fn sweep<'a>(&'a self, plan: &'a Plan) -> BoxFuture<'a, Result<(), EngineError>> {
                    self.inner.sweep(plan)
                }

                fn create<'a>(
                    &'a self,
                    identity: &'a Identity,
                    plan: &'a Plan,
                ) -> BoxFuture<'a, Result<Creation, EngineError>> {
                    self.inner.create(identity, plan)
                }

                fn attach<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Attachment, EngineError>> {
                    self.inner.attach(id)
                }

                fn start<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
                    self.inner.start(id)
                }

                fn kill<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
                    self.inner.kill(id)
                }

                fn stop<'a>(&'a self, id: &'a str, grace: Duration) -> BoxFuture<'a, Result<(), EngineError>> {
                    self.inner.stop(id, grace)
                }

                fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), EngineError>> {
                    self.inner.remove(id)
                }
            }

            impl Engine for $engine {
                fn capabilities(&self) -> Capabilities {
                    self.inner.capabilities()
                }

                fn check(&self) -> BoxFuture<'_, Result<EngineInfo, EngineError>> {
                    self.inner.check()
                }

                fn parts(&self) -> Parts<'_> {
                    self.inner.parts()
                }
            }
        };
    };
}
pub(crate) use forward_lifecycle;
