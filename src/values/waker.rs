//! Guards against the caller's wakers: a waker that panicked in a background task would end the task, and in the driver of the
//! library's runtime the runtime.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};

/// Replaces the caller's waker by one that does not panic. Kept with the future or stream that is polled.
#[derive(Debug, Default)]
pub(crate) struct Guarded(Option<(Arc<Quiet>, Waker)>);

impl Guarded {
    /// Returns the waker to poll with. A new one is made only when the caller's waker has changed.
    pub(crate) fn waker(&mut self, callers: &Waker) -> &Waker {
        let known = self.0.take();
        let known = known.filter(|(quiet, _)| quiet.0.as_ref().is_some_and(|waker| waker.will_wake(callers)));
        let (_, waker) = self.0.insert(known.unwrap_or_else(|| {
            let quiet = Arc::new(Quiet(Some(callers.clone())));
            (quiet.clone(), quiet.into())
        }));
        waker
    }
}

/// Polls a future with a waker that does not panic.
pub(crate) async fn guarded<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut guard = Guarded::default();
    poll_fn(|cx| future.as_mut().poll(&mut Context::from_waker(guard.waker(cx.waker())))).await
}

/// The caller's waker; `None` only while it is dropped.
#[derive(Debug)]
struct Quiet(Option<Waker>);

impl Wake for Quiet {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        quietly(|| self.0.iter().for_each(Waker::wake_by_ref));
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        quietly(|| drop(self.0.take()));
    }
}

/// Makes a call that may wake or drop a waker of the caller's. A panic ends the call, and is logged.
pub(crate) fn quietly(call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("the waker of a future panicked");
    }
}
