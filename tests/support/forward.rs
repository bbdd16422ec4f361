//! The calls of an engine that wraps another one and passes most of them on.

/// Defines these methods of `Lifecycle`, `Commands`, `Observation` or `Engine` in an `impl` of the trait, by those of the field
/// `inner`.
#[allow(unused_macros)] // each test binary uses a part of this module
macro_rules! forward {
    ($($method:ident),+ $(,)?) => { $(crate::support::forward!(@ $method);)+ };
    (@ prepare) => {
        fn prepare<'a>(
            &'a self,
            plan: &'a dockerpool::engine::Plan,
            progress: &'a dockerpool::engine::ProgressFn,
        ) -> crate::support::Answer<'a, ()> {
            self.inner.prepare(plan, progress)
        }
    };
    (@ release) => {
        fn release<'a>(&'a self, plan: &'a dockerpool::engine::Plan) -> crate::support::Answer<'a, ()> {
            self.inner.release(plan)
        }
    };
    (@ sweep) => {
        fn sweep<'a>(&'a self, plan: &'a dockerpool::engine::Plan) -> crate::support::Answer<'a, ()> {
            self.inner.sweep(plan)
        }
    };
    (@ create) => {
        fn create<'a>(
            &'a self,
            identity: &'a dockerpool::engine::Identity,
            plan: &'a dockerpool::engine::Plan,
        ) -> crate::support::Answer<'a, dockerpool::engine::Creation> {
            self.inner.create(identity, plan)
        }
    };
    (@ attach) => {
        fn attach<'a>(&'a self, id: &'a str) -> crate::support::Answer<'a, dockerpool::engine::Attachment> {
            self.inner.attach(id)
        }
    };
    (@ start) => {
        fn start<'a>(&'a self, id: &'a str) -> crate::support::Answer<'a, ()> {
            self.inner.start(id)
        }
    };
    (@ kill) => {
        fn kill<'a>(&'a self, id: &'a str) -> crate::support::Answer<'a, ()> {
            self.inner.kill(id)
        }
    };
    (@ stop) => {
        fn stop<'a>(&'a self, id: &'a str, grace: std::time::Duration) -> crate::support::Answer<'a, ()> {
            self.inner.stop(id, grace)
        }
    };
    (@ remove) => {
        fn remove<'a>(&'a self, id: &'a str) -> crate::support::Answer<'a, ()> {
            self.inner.remove(id)
        }
    };
    (@ exec) => {
        fn exec<'a>(
            &'a self,
            id: &'a str,
            request: &'a dockerpool::engine::ExecRequest,
        ) -> crate::support::Answer<'a, dockerpool::engine::ExecSession> {
            self.inner.exec(id, request)
        }
    };
    (@ image) => {
        fn image<'a>(
            &'a self,
            plan: &'a dockerpool::engine::Plan,
        ) -> crate::support::Answer<'a, dockerpool::engine::ImageInfo> {
            self.inner.image(plan)
        }
    };
    (@ inspect) => {
        fn inspect<'a>(&'a self, id: &'a str) -> crate::support::Answer<'a, dockerpool::engine::ContainerReport> {
            self.inner.inspect(id)
        }
    };
    (@ list) => {
        fn list<'a>(
            &'a self,
            selector: &'a dockerpool::engine::Selector,
        ) -> crate::support::Answer<'a, Vec<dockerpool::engine::ContainerReport>> {
            self.inner.list(selector)
        }
    };
    (@ missing_limits) => {
        fn missing_limits<'a>(
            &'a self,
            id: &'a str,
            plan: &'a dockerpool::engine::Plan,
        ) -> crate::support::Answer<'a, Vec<String>> {
            self.inner.missing_limits(id, plan)
        }
    };
    (@ ignored_settings) => {
        fn ignored_settings<'a>(
            &'a self,
            id: &'a str,
            plan: &'a dockerpool::engine::Plan,
        ) -> crate::support::Answer<'a, Vec<String>> {
            self.inner.ignored_settings(id, plan)
        }
    };
    (@ events) => {
        fn events(
            &self,
            selector: &dockerpool::engine::Selector,
            since: Option<std::time::SystemTime>,
        ) -> dockerpool::engine::BoxStream<'static, Result<dockerpool::engine::Event, dockerpool::EngineError>> {
            self.inner.events(selector, since)
        }
    };
    (@ capabilities) => {
        fn capabilities(&self) -> dockerpool::engine::Capabilities {
            self.inner.capabilities()
        }
    };
    (@ check) => {
        fn check(&self) -> crate::support::Answer<'_, dockerpool::engine::EngineInfo> {
            self.inner.check()
        }
    };
    (@ parts) => {
        fn parts(&self) -> dockerpool::engine::Parts<'_> {
            self.inner.parts()
        }
    };
}
pub(crate) use forward;
