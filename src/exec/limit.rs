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

/// An [`AsyncRead`] that returns exactly the first `limit` bytes of another reader, and then says *truncated* instead of plain
/// end-of-file.
///
/// If the inner reader ends before the limit, this reader ends too. At the limit, every further read fails with an [`io::Error`]
/// that holds a [`LimitReached`]. The inner reader is not polled again, not even to find out whether it has more:
/// [`get_mut`](Self::get_mut) gives access to it.
///
/// After a [`tokio::io::Take`], in contrast, the end and the limit look the same.
///
/// Several readers can share one limit, see [`Budget`]; the two outputs of a command are limited in this way.
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
    /// Limits `inner` to `limit` bytes.
    pub fn new(inner: R, limit: u64) -> Self {
        Self::with_budget(inner, Budget::new(limit))
    }

    /// Limits `inner` to the rest of `budget`, which other readers may share.
    pub fn with_budget(inner: R, budget: Budget) -> Self {
        Self {
            inner,
            budget,
            truncated: false,
        }
    }

    /// Returns how many bytes may still be read.
    pub fn remaining(&self) -> u64 {
        self.budget.remaining()
    }

    /// Returns whether a read was refused because the limit was reached.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Returns the inner reader.
    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// Returns the inner reader. Bytes that are read from it directly do not count.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Returns the inner reader, pinned. Bytes that are read from it directly do not count.
    pub fn get_pin_mut(self: Pin<&mut Self>) -> Pin<&mut R> {
        self.project().inner
    }

    /// Returns the inner reader, without its limit.
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
        // A window on the caller's buffer, as in `tokio::io::Take`, but over initialized memory: this crate has no unsafe code
        // that could vouch for uninitialized memory.
        let mut window = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(this.inner.poll_read(cx, &mut window))?;
        let read = window.filled().len();
        buf.advance(read);
        share.take(read);
        Poll::Ready(Ok(()))
    }
}

/// A number of bytes that may be read. All clones share it.
///
/// If a reader of a budget reads from another reader of the same budget, each byte counts once.
///
/// # Examples
///
/// ```
/// use dockerpool::{Budget, Limited};
/// use tokio::io::AsyncReadExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let budget = Budget::new(8); // for both together
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
    /// The bytes that were not read yet.
    left: u64,
    /// The parts of them that are set aside for a poll: by which thread, and how many bytes.
    shares: Vec<(ThreadId, usize)>,
    /// The readers for which nothing was left beside these parts.
    waiting: Vec<Waker>,
}

/// The answer of a budget to one poll.
enum Reserved<'a> {
    Share(Share<'a>),
    /// Nothing is left.
    None,
    /// Other readers have set aside the rest, and may give some of it back. The task is woken then.
    Later,
}

/// The right to read some bytes. Dropping it gives back what was not taken.
///
/// No lock is held meanwhile: the inner reader may have the same budget, or wait for a reader that has.
struct Share<'a> {
    budget: &'a Budget,
    size: usize,
    /// The bytes belong to an outer reader, which is polling this one.
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
    /// Makes a budget of `limit` bytes.
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

    /// Returns how many bytes the budget had at first.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns how many bytes are left.
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
        // A share lasts for one poll, so a share of this thread belongs to an outer reader.
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

/// The error, inside of an [`io::Error`], that a [`Limited`] reader returns in place of end-of-file.
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
/// assert!(LimitReached::is(&error)); // the data was too long
/// assert_eq!(error.to_string(), "truncated: the limit of 1024 bytes was reached");
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached {
    limit: u64,
}

impl LimitReached {
    /// Returns the limit, in bytes.
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
