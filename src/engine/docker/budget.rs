//! Limits on the length of the engine's answers.
//!
//! Bollard collects a whole answer, and a whole line of events, however long they are. So each of the library's own requests
//! carries a budget. When the budget is spent, the library's transport fails the connection over which the answer comes.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard::Docker;
use bollard::errors::Error as DockerError;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use parking_lot::Mutex;

/// The budget of one whole answer, in bytes. The description of a container has some ten thousand.
const ANSWER: u64 = 16 << 20;

/// The budget of one line of a stream, with some 400 KiB that are read ahead. With each piece of a line, bollard decodes the
/// whole line so far: the cost of a line grows with the square of its length.
const LINE: u64 = 1 << 20;

/// Counts how much more of an answer may be read.
#[derive(Debug)]
struct Budget {
    whole: u64,
    left: AtomicU64,
}

impl Budget {
    fn new(whole: u64) -> Arc<Self> {
        Arc::new(Self {
            whole,
            left: AtomicU64::new(whole),
        })
    }

    fn refill(&self) {
        self.left.store(self.whole, Ordering::Relaxed);
    }

    fn spend(&self, bytes: usize) -> Result<(), TooLong> {
        let less = |left: u64| left.checked_sub(bytes as u64);
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        spent.map(drop).map_err(|_| TooLong(self.whole))
    }
}

#[derive(Debug)]
struct TooLong(u64);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the answer is longer than {} MiB", self.0 >> 20)
    }
}

impl std::error::Error for TooLong {}

/// Holds the budget of the answer that one connection reads now. The transport reports each read and write.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<Mutex<Option<Arc<Budget>>>>);

impl Meter {
    /// Spends this many bytes; fails when the budget is spent.
    pub(super) fn count(&self, bytes: usize) -> io::Result<()> {
        match &*self.0.lock() {
            Some(budget) => budget.spend(bytes).map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// Ends the budget of the answer before, which has been read when a request is written.
    pub(super) fn reset(&self) {
        *self.0.lock() = None;
    }
}

/// Holds the budget of a request; `None` for a request without one.
#[derive(Clone)]
pub(super) struct Granted(Option<Arc<Budget>>);

impl Granted {
    pub(super) fn to<T>(request: &hyper::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or(Self(None))
    }

    /// Hands the budget to the connection of this answer, whose head names the connection.
    pub(super) fn spend_on<T>(self, answer: &hyper::Response<T>) {
        if let Some(meter) = answer.extensions().get::<Meter>()
            && answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS
        {
            *meter.0.lock() = self.0;
        }
    }
}

/// Returns the client with a budget for each answer. The client must use the library's own transport.
pub(super) fn for_answers(docker: &Docker) -> Docker {
    docker.clone().with_request_modifier(|mut request| {
        request.extensions_mut().insert(Granted(Some(Budget::new(ANSWER))));
        request
    })
}

/// Returns the lines of a call of this client, with a budget for each line.
pub(super) fn for_lines<T: Send + 'static, S>(
    docker: &Docker,
    call: impl FnOnce(&Docker) -> S,
) -> BoxStream<'static, Result<T, DockerError>>
where
    S: Stream<Item = Result<T, DockerError>> + Send + 'static,
{
    let budget = Budget::new(LINE);
    let granted = Granted(Some(budget.clone()));
    let docker = docker.clone().with_request_modifier(move |mut request| {
        request.extensions_mut().insert(granted.clone());
        request
    });
    call(&docker).inspect(move |_| budget.refill()).boxed()
}
