//! How the function that was given to [`on_error`](crate::PoolBuilder::on_error) is called.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::error::{Error, ErrorFn};

/// Catches panics of the function, so that the background task goes on.
pub(super) fn without_panics(pool: String, on_error: ErrorFn) -> ErrorFn {
    Arc::new(move |error| {
        let error = error.of_pool(&pool);
        let words = error.to_string();
        if catch_unwind(AssertUnwindSafe(|| on_error(error))).is_err() {
            tracing::error!(pool, error = words, "the function given to on_error() panicked");
        }
    })
}

/// How many errors may wait for the function.
const UNTOLD: usize = 1000;

/// Calls a function that does not panic on a thread, in order, and does not wait for it. The thread ends when there is
/// nothing left to tell.
pub(super) fn on_a_thread(tell: ErrorFn) -> ErrorFn {
    #[derive(Default)]
    struct Queue {
        errors: VecDeque<Error>,
        is_served: bool,
    }

    let queue = Arc::new(Mutex::new(Queue::default()));
    Arc::new(move |error| {
        let mut waiting = queue.lock();
        if waiting.errors.len() >= UNTOLD {
            drop(waiting);
            tracing::error!(%error, "an error that could not be told, since on_error() has not returned for long");
            return;
        }
        waiting.errors.push_back(error);
        if std::mem::replace(&mut waiting.is_served, true) {
            return;
        }
        drop(waiting);
        let (queue, tell) = (queue.clone(), tell.clone());
        let serve = move || loop {
            let mut waiting = queue.lock();
            let Some(error) = waiting.errors.pop_front() else {
                waiting.is_served = false;
                return;
            };
            drop(waiting);
            tell(error);
        };
        let thread = std::thread::Builder::new().name("dockerpool-on-error".to_owned());
        // Without a thread, which may be what the error is about, it has to be here.
        if thread.spawn(serve.clone()).is_err() {
            serve();
        }
    })
}
