//! The runtime of background tasks: [`Home`], the library's own tokio runtime, or one that the caller gives.
//!
//! Background tasks are spawned on the home. Futures that callers poll elsewhere enter the home while they are polled, so that
//! their timers and connections belong to it; no poll moves to another thread. The home never holds a waker of the caller's, see
//! [`Guarded`].

use std::future::pending;
use std::io;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::{BoxStream, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::runtime::{Builder, EnterGuard, Handle};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::context::TokioContext;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::error::{EngineError, EngineErrorKind, Error, RUNTIME_ENDED};
use crate::values::shown::Rounded;
use crate::values::waker::{Guarded, guarded};

/// The runtime of a pool, of a container without one, or of the connections to an engine.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    handle: Handle,
    /// Set for a runtime of the caller's. The library's own never ends.
    given: Option<Arc<Given>>,
}

#[derive(Debug)]
struct Given {
    ended: CancellationToken,
    /// A task that cancels the token when it is dropped, since a runtime that ends drops its tasks.
    _watch: AbortOnDropHandle<()>,
}

/// The runtime of the caller's has ended.
#[derive(Debug)]
pub(crate) struct Ended;

/// Runs one engine call with a deadline. Yields to other tasks and timers now and then, so that a loop of calls that are answered
/// at once cannot starve a deadline or an abort.
pub(crate) async fn bounded<T>(
    what: &'static str,
    limit: Duration,
    call: impl Future<Output = Result<T, EngineError>>,
) -> Result<T, EngineError> {
    tokio::task::coop::consume_budget().await;
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(EngineError::new(
            EngineErrorKind::Timeout,
            format!("no answer to {what} within {}", Rounded(limit)),
        )),
    }
}

impl From<Ended> for EngineError {
    fn from(_: Ended) -> Self {
        Self::new(EngineErrorKind::RuntimeEnded, RUNTIME_ENDED)
    }
}

impl From<Ended> for Error {
    fn from(_: Ended) -> Self {
        Self::RuntimeEnded
    }
}

impl Home {
    /// Returns the library's own runtime: one thread, which begins with the first call and stays as long as the process.
    ///
    /// # Errors
    ///
    /// No thread or no file descriptor is left.
    pub(crate) fn own() -> Result<Self, Error> {
        match own() {
            Ok(handle) => Ok(Self { handle, given: None }),
            Err(error) => {
                let words = "no thread or no file descriptor is left";
                let source = EngineError::of_system(EngineErrorKind::Internal, words, error);
                Err(Error::engine("start the library's runtime", None, source))
            }
        }
    }

    /// Returns a runtime of the caller's as home.
    pub(crate) fn given(handle: Handle) -> Self {
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let watch = handle.spawn(async move {
            let _guard = guard;
            pending::<()>().await;
        });
        let given = Given {
            ended,
            _watch: AbortOnDropHandle::new(watch),
        };
        Self {
            handle,
            given: Some(Arc::new(given)),
        }
    }

    /// Returns the given runtime as home, or else the library's own.
    pub(crate) fn of(given: Option<Handle>) -> Result<Self, Error> {
        given.map_or_else(Self::own, |handle| Ok(Self::given(handle)))
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// Returns whether the home is a runtime of the caller's that has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.given.as_ref().is_some_and(|given| given.ended.is_cancelled())
    }

    /// Notes that the runtime has ended: one of its tasks was dropped before its end.
    pub(crate) fn note_end(&self) {
        if let Some(given) = &self.given {
            given.ended.cancel();
        }
    }

    /// Spawns a background task. Where the runtime has ended, the task is dropped.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.handle.spawn(task)
    }

    /// Enters the runtime: timers and connections that are made while the guard lives belong to it.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Returns the time by the clock of the runtime, which tests may have paused.
    pub(crate) fn now(&self) -> Instant {
        let _entered = self.enter();
        Instant::now()
    }

    /// Polls a call within the runtime. Fails where the runtime has ended or ends meanwhile.
    pub(crate) async fn run<T, E: From<Ended>>(&self, call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let call = TokioContext::new(call, self.handle.clone());
        let Some(given) = &self.given else {
            return guarded(pin!(call)).await;
        };
        // The timers of a runtime that has ended panic, also where it ends during a poll.
        let mut call = pin!(AssertUnwindSafe(call).catch_unwind());
        let result = guarded(async {
            tokio::select! {
                biased;
                () = given.ended.cancelled() => Ok(Err(Ended.into())),
                result = &mut call => result,
            }
        });
        match result.await {
            Ok(result) => result,
            Err(_) if given.ended.is_cancelled() => Err(Ended.into()),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Runs one engine call within the runtime, with a deadline.
    pub(crate) async fn bounded<T>(
        &self,
        what: &'static str,
        limit: Duration,
        call: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        self.run(bounded(what, limit, call)).await
    }
}

/// The own runtime, with the process that started it: a child made by `fork` alone has the value, and not the thread.
static OWN: Mutex<Option<(u32, Handle)>> = Mutex::new(None);

fn own() -> io::Result<Handle> {
    let mut own = OWN.lock();
    let process = std::process::id();
    match &*own {
        Some((of, handle)) if *of == process => return Ok(handle.clone()),
        _ => {}
    }
    let (tell, told) = sync_channel(1);
    // Built on the new thread: a runtime must not be dropped in a task of the caller's.
    let work = move || match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            drop(tell.send(Ok(runtime.handle().clone())));
            // No panic gets here, which would end the runtime: tokio catches those of tasks, and `Guarded` those of wakers.
            runtime.block_on(pending::<()>());
        }
        Err(error) => drop(tell.send(Err(error))),
    };
    thread::Builder::new().name("dockerpool".to_owned()).spawn(work)?;
    let handle = told.recv().map_err(io::Error::other)??;
    *own = Some((process, handle.clone()));
    Ok(handle)
}

/// Polls a call within a runtime.
pub(crate) fn within<'a, T: 'a>(runtime: &Home, call: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(guarded(TokioContext::new(call, runtime.handle.clone())))
}

/// Polls a stream within a runtime.
pub(crate) fn stream_within<T: 'static>(runtime: &Home, stream: BoxStream<'static, T>) -> BoxStream<'static, T> {
    struct Within<T> {
        stream: BoxStream<'static, T>,
        runtime: Home,
        waker: Guarded,
    }

    impl<T> Stream for Within<T> {
        type Item = T;

        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
            let this = &mut *self;
            let _entered = this.runtime.enter();
            let mut cx = Context::from_waker(this.waker.waker(cx.waker()));
            this.stream.as_mut().poll_next(&mut cx)
        }
    }

    Within {
        stream,
        runtime: runtime.clone(),
        waker: Guarded::default(),
    }
    .boxed()
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt;

    use super::*;

    /// The panic is that of a timer which is polled while its runtime ends.
    #[test]
    fn a_call_that_panics_because_its_runtime_has_ended_says_so() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let home = Home::given(runtime.handle().clone());
        let mut runtime = Some(runtime);
        let call = poll_fn(|_| -> Poll<Result<(), Error>> {
            drop(runtime.take());
            assert!(
                !home.has_ended(),
                "A Tokio 1.x context was found, but it is being shutdown."
            );
            Poll::Pending
        });
        let result = home.run(call).now_or_never().unwrap();
        assert!(matches!(result, Err(Error::RuntimeEnded)), "{result:?}");
    }

    #[test]
    fn a_panic_for_another_reason_goes_on() {
        let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let home = Home::given(runtime.handle().clone());
        let call = home.run(async { Err::<(), Error>(panic_for_another_reason()) });
        let panic = AssertUnwindSafe(call)
            .catch_unwind()
            .now_or_never()
            .unwrap()
            .unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"another reason"));
    }

    fn panic_for_another_reason() -> Error {
        panic!("another reason")
    }

    #[tokio::test]
    async fn a_deadline_holds_in_an_endless_loop_of_calls_that_are_answered_at_once() {
        let limit = Duration::from_millis(20);
        let calls = async {
            loop {
                let answered = bounded("a call", Duration::from_secs(1), async { Ok(()) });
                answered.await.unwrap();
            }
        };
        assert!(tokio::time::timeout(limit, calls).await.is_err());
    }
}
