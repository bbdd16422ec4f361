//! A bounded reader: [`Limited`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

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
/// It differs from [`tokio::io::Take`] in just that: after a `Take`, "the end" and "cut off" look the same.
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
        // Held while the inner reader is polled, so that two readers of one budget never hand over more than it has.
        let mut left = this.budget.left.lock();
        if *left == 0 {
            *this.truncated = true;
            let reached = LimitReached {
                limit: this.budget.limit,
            };
            return Poll::Ready(Err(io::Error::other(reached)));
        }
        let room = usize::try_from(*left).map_or(buf.remaining(), |left| left.min(buf.remaining()));
        if room == buf.remaining() {
            let before = buf.filled().len();
            ready!(this.inner.poll_read(cx, buf))?;
            *left -= (buf.filled().len() - before) as u64;
            return Poll::Ready(Ok(()));
        }
        // A window on the caller's buffer, as `tokio::io::Take` has, but over initialised memory: this crate has no
        // unsafe code to vouch for what a reader left in uninitialised memory.
        let mut window = ReadBuf::new(buf.initialize_unfilled_to(room));
        ready!(this.inner.poll_read(cx, &mut window))?;
        let read = window.filled().len();
        buf.advance(read);
        *left -= read as u64;
        Poll::Ready(Ok(()))
    }
}

/// A number of bytes that may be read, shared by all clones.
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
    left: Arc<Mutex<u64>>,
}

impl Budget {
    /// `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            left: Arc::new(Mutex::new(limit)),
        }
    }

    /// How many bytes it had at first.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> u64 {
        *self.left.lock()
    }
}

/// What a [`Limited`] reader says in place of end-of-file: inside of an [`io::Error`].
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

    /// Whether this is what an I/O error is about.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "truncated: the limit of {} bytes was reached", self.limit)
    }
}

impl std::error::Error for LimitReached {}
