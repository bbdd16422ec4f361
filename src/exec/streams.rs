//! The ends of a running command's standard streams.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_util::io::StreamReader;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::halt::{Halt, Stop};
use super::limit::{Budget, LimitReached, Limited};
use super::pipe::PipeReader;
use crate::runtime::Home;
use crate::values::command_options::OnLimit;
use crate::values::waker::Guarded;

/// The writing end of a command's standard input.
///
/// `shutdown()` sends end-of-file to the command; to a terminal the library types it, see
/// [`Command::tty`](crate::Command::tty). Dropping the writer does the same in a background task, a moment later.
///
/// If the command ends before it has read all input, a write fails with [`BrokenPipe`](io::ErrorKind::BrokenPipe). A write that
/// waits for room fails so at the latest when the command's end is known.
///
/// # Examples
///
/// ```
/// use dockerpool::Stdio;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let mut child = c.command("sort").stdin(Stdio::piped()).spawn().await?;
/// let mut stdin = child.stdin.take().expect("it was asked for");
/// for line in ["b\n", "a\n"] {
///     stdin.write_all(line.as_bytes()).await?;
/// }
/// stdin.shutdown().await?; // end-of-file: now `sort` can begin
/// assert!(stdin.write_all(b"c\n").await.is_err());
/// assert!(child.wait().await?.success());
/// # Ok(())
/// # }
/// ```
pub struct ChildStdin {
    inner: Option<Writer>,
    runtime: Home,
    waker: Guarded,
}

struct Writer {
    stream: Box<dyn AsyncWrite + Send + Unpin>,
    /// Resolves when the command's end is known. An engine may neither read nor close the connection of a command that has ended.
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl ChildStdin {
    pub(super) fn new(
        stream: Box<dyn AsyncWrite + Send + Unpin>,
        ended: WaitForCancellationFutureOwned,
        runtime: Home,
    ) -> Self {
        let ended = Box::pin(ended);
        Self {
            inner: Some(Writer { stream, ended }),
            runtime,
            waker: Guarded::default(),
        }
    }

    /// Polls the writer within the runtime. Fails instead of waiting once the command has ended.
    fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut (dyn AsyncWrite + Send + Unpin)>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(Writer { stream, ended }) = &mut self.inner else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let _entered = self.runtime.enter();
        let mut cx = Context::from_waker(self.waker.waker(cx.waker()));
        let polled = poll(Pin::new(stream.as_mut()), &mut cx);
        if polled.is_pending() && ended.as_mut().poll(&mut cx).is_ready() {
            self.inner = None;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        polled
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        // A writer that is merely dropped would leave the command waiting: the engine must be told.
        if let Some(Writer { mut stream, ended }) = self.inner.take() {
            drop(self.runtime.spawn(async move {
                tokio::select! {
                    _ = stream.shutdown() => {}
                    () = ended => {}
                }
            }));
        }
    }
}

impl AsyncWrite for ChildStdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, |inner, cx| inner.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inner.is_some() {
            ready!(self.poll(cx, |inner, cx| inner.poll_shutdown(cx)))?;
            self.inner = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for ChildStdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildStdin").finish_non_exhaustive()
    }
}

/// A pipe under two limits: its own, and the one that both outputs share.
#[derive(Debug)]
pub(super) struct Reader {
    inner: Limited<Limited<StreamReader<PipeReader, Bytes>>>,
    on_limit: OnLimit,
    halt: Arc<Halt>,
    truncated: bool,
    /// Whether the limit of both outputs is the library's default.
    is_default: bool,
    waker: Guarded,
}

impl Reader {
    pub(super) fn new(
        pipe: PipeReader,
        own_limit: Option<u64>,
        shared: Budget,
        on_limit: OnLimit,
        halt: Arc<Halt>,
    ) -> Self {
        let pipe = Limited::new(StreamReader::new(pipe), own_limit.unwrap_or(u64::MAX));
        Self {
            inner: Limited::with_budget(pipe, shared),
            on_limit,
            halt,
            truncated: false,
            is_default: false,
            waker: Guarded::default(),
        }
    }

    /// Replaces the limit of both outputs by the library's default.
    pub(super) fn under_default(self, shared: Budget) -> Self {
        Self {
            inner: Limited::with_budget(self.inner.into_inner(), shared),
            is_default: true,
            ..self
        }
    }

    pub(super) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Looks at the next piece: its place among those of both outputs, and its length. `None`: the output has ended, or its limit
    /// was reached. Takes nothing.
    pub(super) fn poll_next_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(u64, usize)>>> {
        if self.truncated {
            return Poll::Ready(Ok(None));
        }
        let cx = &mut Context::from_waker(self.waker.waker(cx.waker()));
        let pipe = self.inner.get_mut().get_mut();
        let len = ready!(Pin::new(&mut *pipe).poll_fill_buf(cx))?.len();
        Poll::Ready(Ok((len > 0).then(|| (pipe.get_ref().place(), len))))
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // The task of the pump calls this waker.
        let cx = &mut Context::from_waker(self.waker.waker(cx.waker()));
        let reached = match ready!(Pin::new(&mut self.inner).poll_read(cx, buf)) {
            Err(error) if LimitReached::is(&error) => error,
            result => return Poll::Ready(result),
        };
        if !self.truncated {
            // A command that printed exactly its limit was not cut. Looking ahead takes nothing.
            let pipe = self.inner.get_mut().get_mut();
            if ready!(Pin::new(&mut *pipe).poll_fill_buf(cx))?.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Nobody reads any more: the pump drops the rest, and does not wait for room.
            pipe.get_mut().close();
            self.truncated = true;
        }
        match self.on_limit {
            OnLimit::Kill => {
                // Either of two limits was reached: that of both outputs, or that of this one.
                let is_default = self.is_default && self.inner.is_truncated();
                let limit = LimitReached::of(&reached).map_or(0, LimitReached::limit);
                self.halt.request(Stop::OutputLimit { limit, is_default });
                Poll::Ready(Err(reached))
            }
            OnLimit::Truncate => Poll::Ready(Ok(())),
        }
    }
}

macro_rules! child_output {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// - At the output limit, a read ends the command and fails with an [`io::Error`] that holds a [`LimitReached`]; under
        ///   [`OnLimit::Truncate`] a read returns end-of-file.
        /// - If the output broke off though nobody ended the command, the last read fails with
        ///   [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): see [`ExitStatus::Incomplete`](crate::ExitStatus::Incomplete).
        /// - A command whose output is not read stalls; its output is not gathered in memory.
        ///
        /// Dropping the reader drops the rest of the output.
        #[derive(Debug)]
        pub struct $name(pub(super) Reader);

        impl $name {
            /// Returns whether a read has met the output limit while there was more output.
            pub fn is_truncated(&self) -> bool {
                self.0.is_truncated()
            }
        }

        impl AsyncRead for $name {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                self.0.poll_read(cx, buf)
            }
        }
    };
}

child_output! {
    /// The standard output of a command.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::{AsyncBufReadExt, BufReader};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = dockerpool::testing::FakeEngine::new();
    /// # engine.on_exec(|_| dockerpool::testing::FakeProcess::exit(0).stdout("one\ntwo\n"));
    /// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
    /// # let c = pool.acquire().await?;
    /// let mut child = c.command("make").arg("all").spawn().await?;
    /// let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    /// let mut count = 0;
    /// while let Some(line) = lines.next_line().await? {
    ///     count += 1;
    ///     println!("{count}: {line}");
    /// }
    /// assert_eq!(count, 2);
    /// # assert!(child.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Reading
    ChildStdout
}

child_output! {
    /// The standard error of a command.
    ///
    /// # Examples
    ///
    /// ```
    /// use tokio::io::AsyncReadExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let engine = dockerpool::testing::FakeEngine::new();
    /// # engine.on_exec(|_| dockerpool::testing::FakeProcess::exit(0).stderr("one\ntwo\n"));
    /// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
    /// # let c = pool.acquire().await?;
    /// let mut child = c.command("make").arg("all").spawn().await?;
    /// drop(child.stdout.take()); // unread output would hold up the command
    /// let mut warnings = String::new();
    /// child.stderr.take().expect("it is piped").read_to_string(&mut warnings).await?;
    /// assert_eq!(warnings, "one\ntwo\n");
    /// # assert!(child.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Reading
    ChildStderr
}
