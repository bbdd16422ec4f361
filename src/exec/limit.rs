//! A bounded reader: [`Limited`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::thread::ThreadId;

use parking_lot::Mutex;
use pin_project::pin_project;
use tokio::io::{AsyncRead, ReadBuf};

/// An [`AsyncRead`] that hands over exactly the first `limit` bytes of another one, and then says *truncated* instead
/// of plain end-of-file.
///
/// Where the inner reader ends before the limit, this one ends with it, as if it were not there. Once the limit is
/// reached, every further read fails with an [`io::Error`] that holds a [`LimitReached`], and the inner reader is not
/// polled again: not even to find out whether it had any more. Who needs to know that asks the inner reader
/// ([`get_mut`](Self::get_mut)).
///
/// [`Limited`] differs from [`tokio::io::Take`] in just that: after a `Take`, "the end" and "cut off" look the same.
///
/// Several readers can share one limit, see [`Budget`]; that is how a command's two outputs are limited together.
///
/// # Cancel safety
///
/// As cancel safe as the inner reader: a read that was dropped has taken nothing from the limit.
///
/// # Examples
///
/// ```
/// use dockerpool::{Limited, LimitReached};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut limited = Limited::new(&b"hello, world"[..], 5);
/// let mut out = Vec::new();
/// let error = limited.read_to_end(&mut out).await.unwrap_err();
/// assert_eq!(out, b"hello");
/// assert!(LimitReached::is(&error));
/// assert!(limited.is_truncated());
/// # }
/// ```
#[pin_project]
#[derive(Debug)]
pub struct Limited<R> {
    #[pin]
    inner: R,
    budget: Budget,
    truncated: bool,
}

impl<R> Limited<R> {
    /// At most `limit` bytes of `inner`.
    pub fn new(inner: R, limit: u64) -> Self {
        Self::with_budget(inner, Budget::new(limit))
    }

    /// At most what is left of `budget`, which other readers may draw on as well.
    pub fn with_budget(inner: R, budget: Budget) -> Self {
        Self {
            inner,
            budget,
            truncated: false,
        }
    }

    /// How many bytes may still be read.
    pub fn remaining(&self) -> u64 {
        self.budget.remaining()
    }

    /// Whether a read was refused because the limit was reached.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The inner reader.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The inner reader. What is read from it directly is not counted.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The inner reader, pinned. What is read from it directly is not counted.
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut R> {
        self.project().inner
    }

    /// Gives the inner reader back.
    pub fn into_inner(self) -> R {
        self.inner
    }
}

impl<R: AsyncRead> AsyncRead for Limited<R> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let want = buf.remaining();
        let share = match this.budget.reserve(want, cx) {
            Reserved::Share(share) => share,
            Reserved::None => {
                *this.truncated = true;
                let reached = LimitReached {
                    limit: this.budget.limit,
                };
                return Poll::Ready(Err(io::Error::other(reached)));
            }
            Reserved::Later => return Poll::Pending,
        };
        let room = share.size;
        if room == want {
            let before = buf.filled().len();
            ready!(this.inner.poll_read(cx, buf))?;
            share.take(buf.filled().len() - before);
            return Poll::Ready(Ok(()));
        }
        // A window on the caller's buffer, as `tokio::io::Take` has, but over initialised memory: this crate has no
        // unsafe code to vouch for what a reader left in uninitialised memory.
        let mut window = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(this.inner.poll_read(cx, &mut window))?;
        let read = window.filled().len();
        buf.advance(read);
        share.take(read);
        Poll::Ready(Ok(()))
    }
}

/// A number of bytes that may be read, shared by all clones.
///
/// Where a reader of a budget reads from another reader of the same budget, each byte counts once.
///
/// # Examples
///
/// ```
/// use dockerpool::{Budget, Limited};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let budget = Budget::new(8); // of both together
/// let mut first = Limited::with_budget(&b"hello"[..], budget.clone());
/// let mut second = Limited::with_budget(&b"world"[..], budget.clone());
/// let (mut from_first, mut from_second) = (Vec::new(), Vec::new());
/// assert!(first.read_to_end(&mut from_first).await.is_ok());
/// assert!(second.read_to_end(&mut from_second).await.is_err());
/// assert_eq!(from_second, b"wor");
/// assert_eq!((budget.limit(), budget.remaining()), (8, 0));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Budget {
    limit: u64,
    state: Arc<Mutex<BudgetState>>,
}

#[derive(Debug)]
struct BudgetState {
    /// Bytes that were not read yet.
    left: u64,
    /// Parts of them that may be read right now: by whom, and how many bytes.
    shares: Vec<(ThreadId, usize)>,
    /// Readers for which nothing was left beside these parts.
    waiting: Vec<Waker>,
}

/// What a reader gets of a budget for one poll of its inner reader.
enum Reserved<'a> {
    Share(Share<'a>),
    /// Nothing is left.
    None,
    /// Other readers may take all that is left, or give it back. The task is woken when that is known.
    Later,
}

/// The right to read some bytes. Dropping it gives back what was not taken.
///
/// No lock is held meanwhile: the inner reader may be one of the same budget, or wait for one.
struct Share<'a> {
    budget: &'a Budget,
    size: usize,
    /// Its bytes are those of a reader further out, in whose poll this one is.
    nested: bool,
    taken: usize,
}

impl Share<'_> {
    fn take(mut self, bytes: usize) {
        self.taken = bytes;
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        if self.nested {
            return;
        }
        let waiting = {
            let mut state = self.budget.state.lock();
            let own = (std::thread::current().id(), self.size);
            if let Some(at) = state.shares.iter().rposition(|share| *share == own) {
                state.shares.swap_remove(at);
            }
            state.left -= self.taken as u64;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Budget {
    /// `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            state: Arc::new(Mutex::new(BudgetState {
                left: limit,
                shares: Vec::new(),
                waiting: Vec::new(),
            })),
        }
    }

    /// How many bytes it had at first.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> u64 {
        self.state.lock().left
    }

    /// Sets bytes aside for one poll, at least one and at most `want`.
    fn reserve(&self, want: usize, cx: &Context<'_>) -> Reserved<'_> {
        let thread = std::thread::current().id();
        let mut state = self.state.lock();
        if state.left == 0 {
            return Reserved::None;
        }
        // A share lasts for one poll: one of this thread is that of a reader around this one.
        let outer = state.shares.iter().rev().find(|(holder, _)| *holder == thread);
        if let Some((_, size)) = outer {
            return Reserved::Share(Share {
                budget: self,
                size: want.min(*size),
                nested: true,
                taken: 0,
            });
        }
        let reserved: u64 = state.shares.iter().map(|(_, size)| *size as u64).sum();
        let free = state.left - reserved;
        if free == 0 {
            state.waiting.push(cx.waker().clone());
            return Reserved::Later;
        }
        let size = usize::try_from(free).map_or(want, |free| free.min(want));
        state.shares.push((thread, size));
        Reserved::Share(Share {
            budget: self,
            size,
            nested: false,
            taken: 0,
        })
    }
}

/// Stands for what a [`Limited`] reader says in place of end-of-file: inside of an [`io::Error`].
///
/// # Examples
///
/// ```
/// use dockerpool::{LimitReached, Limited};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let mut upload = Limited::new(tokio::io::repeat(b'x'), 1024);
/// let mut data = Vec::new();
/// let error = upload.read_to_end(&mut data).await.unwrap_err();
/// assert!(LimitReached::is(&error)); // too long, and not broken
/// assert_eq!(error.to_string(), "truncated: the limit of 1024 bytes was reached");
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    limit: u64,
}

impl LimitReached {
    /// The limit in bytes.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns whether an I/O error holds this.
    pub fn is(error: &io::Error) -> bool {
        Self::of(error).is_some()
    }

    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "truncated: the limit of {} bytes was reached", self.limit)
    }
}

impl std::error::Error for LimitReached {}
