//! How long the engine's answers may be.
//!
//! Bollard collects an answer until it is whole, and an event until its line ends, however long that is. So each of the
//! library's own requests carries a budget, and our transport has the connection over which the answer comes fail when that
//! is spent.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bollard::Docker;
use bollard::errors::Error as DockerError;
use futures_util::stream::{BoxStream, Stream, StreamExt};
use parking_lot::Mutex;

/// For one whole answer, in bytes: the description of a container has some ten thousand.
const ANSWER: u64 = 16 << 20;

/// For one line of a stream of them, with what is read ahead: some 400 KiB. With each piece that comes of a line, bollard decodes
/// all of it so far: what a line costs grows with the square of its length.
const LINE: u64 = 1 << 20;

/// How much more of an answer is taken.
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
        write!(f, "more came than the {} MiB that it may have at most", self.0 >> 20)
    }
}

impl std::error::Error for TooLong {}

/// What one connection has to spend. The transport tells it of each answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Arc<Mutex<Option<Arc<Budget>>>>);

impl Meter {
    /// So much was read.
    pub(super) fn count(&self, bytes: usize) -> io::Result<()> {
        match &*self.0.lock() {
            Some(budget) => budget.spend(bytes).map_err(io::Error::other),
            None => Ok(()),
        }
    }

    /// Something is written: the answer before, if any, has been read.
    pub(super) fn reset(&self) {
        *self.0.lock() = None;
    }
}

/// The budget of a request, and none for one that has none.
#[derive(Clone)]
pub(super) struct Granted(Option<Arc<Budget>>);

impl Granted {
    pub(super) fn to<T>(request: &hyper::Request<T>) -> Self {
        request.extensions().get().cloned().unwrap_or(Self(None))
    }

    /// The head of the answer is there; over which connection, it says itself.
    pub(super) fn spend_on<T>(self, answer: &hyper::Response<T>) {
        if let Some(meter) = answer.extensions().get::<Meter>()
            && answer.status() != hyper::StatusCode::SWITCHING_PROTOCOLS
        {
            *meter.0.lock() = self.0;
        }
    }
}

/// The same client, with a budget for each answer. For one over our own transport.
pub(super) fn for_answers(docker: &Docker) -> Docker {
    docker.clone().with_request_modifier(|mut request| {
        request.extensions_mut().insert(Granted(Some(Budget::new(ANSWER))));
        request
    })
}

/// What a call of this client answers line by line, with a budget for each line.
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
