//! A command's standard streams.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::halt::{Halt, Stop};
use super::limit::{Budget, LimitReached, Limited};
use crate::runtime::Home;
use crate::values::waker::Guarded;

/// Decides what happens when a command has printed as much as it may.
///
/// # Examples
///
/// ```
/// use dockerpool::{ExitStatus, OnLimit};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("a long report"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// // The beginning is enough, and the command should still do its work to the end.
/// let output = c.command("report").output_limit(6).on_limit(OnLimit::Truncate).output().await?;
/// assert_eq!(output.stdout, b"a long");
/// assert!(output.truncated);
/// assert_eq!(output.status, ExitStatus::Exited(0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnLimit {
    /// The command is ended, with [`ExitStatus::OutputLimit`](crate::ExitStatus::OutputLimit).
    #[default]
    Kill,
    /// The command goes on to its own end; what it prints beyond the limit is taken from it and dropped.
    Truncate,
}

/// Where a command's standard input comes from, or where an output goes.
///
/// # Examples
///
/// ```
/// use dockerpool::Stdio;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stderr("noise"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let script = String::from("print('hello')");
/// let mut child = c
///     .command("python3")
///     .arg("-")
///     .stdin(&script) // or Stdio::bytes(script), which does not copy
///     .stderr(Stdio::null())
///     .spawn()
///     .await?;
/// assert!(child.stderr.is_none()); // there is nothing to read
/// assert!(child.wait().await?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Stdio {
    pub(super) source: Source,
}

#[derive(Clone, Default)]
pub(super) enum Source {
    #[default]
    Null,
    Piped,
    Bytes(Bytes),
}

/// Without the bytes, which may be a secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Piped => f.write_str("Piped"),
            Self::Bytes(bytes) => write!(f, "Bytes({} of them)", bytes.len()),
        }
    }
}

impl Stdio {
    /// Nothing: the command reads end-of-file at once, which is the default for standard input; or what it prints is
    /// dropped.
    pub fn null() -> Self {
        Self { source: Source::Null }
    }

    /// A pipe to a [`Child`](crate::Child)'s `stdin`, `stdout` or `stderr`. The default for the outputs.
    pub fn piped() -> Self {
        Self { source: Source::Piped }
    }

    /// These bytes, then end-of-file. They are written while the output is read, and what the command does not read is
    /// dropped without an error. For standard input only.
    pub fn bytes(data: impl Into<Bytes>) -> Self {
        Self {
            source: Source::Bytes(data.into()),
        }
    }
}

macro_rules! stdio_from {
    ($($from:ty),*) => {$(
        impl From<$from> for Stdio {
            fn from(data: $from) -> Self {
                Self::bytes(data)
            }
        }
    )*};
}

stdio_from!(Bytes, Vec<u8>, String);

/// What is borrowed is copied, so that it need not live as long as the command. Whoever has much of it gives it away, or
/// as [`Bytes`].
impl From<&[u8]> for Stdio {
    fn from(data: &[u8]) -> Self {
        Self::bytes(Bytes::copy_from_slice(data))
    }
}

macro_rules! stdio_from_borrowed {
    ($([$($len:tt)*] $from:ty),*) => {$(
        impl<$($len)*> From<&$from> for Stdio {
            fn from(data: &$from) -> Self {
                Self::from(AsRef::<[u8]>::as_ref(data))
            }
        }
    )*};
}

stdio_from_borrowed!([] str, [] String, [] Vec<u8>, [const N: usize] [u8; N]);

/// The writing end of a command's standard input.
///
/// `shutdown()` gives the command end-of-file; at a terminal it is typed, see [`Command::tty`](crate::Command::tty). Dropping
/// it does so too, but in a background task, a moment later.
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
/// stdin.shutdown().await?; // end-of-file: only now can it sort
/// assert!(stdin.write_all(b"c\n").await.is_err());
/// assert!(child.wait().await?.success());
/// # Ok(())
/// # }
/// ```
pub struct ChildStdin {
    inner: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    runtime: Home,
    waker: Guarded,
}

impl ChildStdin {
    pub(super) fn new(inner: Box<dyn AsyncWrite + Send + Unpin>, runtime: Home) -> Self {
        Self {
            inner: Some(inner),
            runtime,
            waker: Guarded::default(),
        }
    }

    /// Polls the writer within the runtime.
    fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(Pin<&mut (dyn AsyncWrite + Send + Unpin)>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let _entered = self.runtime.enter();
        let mut cx = Context::from_waker(self.waker.waker(cx.waker()));
        poll(Pin::new(inner.as_mut()), &mut cx)
    }
}

impl Drop for ChildStdin {
    fn drop(&mut self) {
        // A writer that is merely dropped leaves the command waiting: the engine must be told.
        if let Some(mut inner) = self.inner.take() {
            drop(self.runtime.spawn(async move {
                let _ = tokio::io::AsyncWriteExt::shutdown(&mut inner).await;
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

/// The reading end of one of a command's outputs, as the driver fills it.
#[derive(Debug)]
pub(super) struct Pipe {
    pieces: mpsc::Receiver<Bytes>,
    halt: Arc<Halt>,
}

/// What a reader is told in place of end-of-file where the output ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("the output broke off: the engine did not give its end")]
pub(super) struct BrokeOff;

impl BrokeOff {
    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl Stream for Pipe {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(data) => Some(Ok(data)),
            None if self.halt.broke_off() => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, BrokeOff))),
            None => None,
        })
    }
}

/// A pipe under its own limit and the one it shares with the other output.
#[derive(Debug)]
pub(super) struct Reader {
    inner: Limited<Limited<StreamReader<Pipe, Bytes>>>,
    on_limit: OnLimit,
    halt: Arc<Halt>,
    truncated: bool,
    /// Whether the limit of both outputs is the library's default.
    is_default: bool,
    waker: Guarded,
}

impl Reader {
    pub(super) fn new(
        pipe: mpsc::Receiver<Bytes>,
        own_limit: Option<u64>,
        shared: Budget,
        on_limit: OnLimit,
        halt: Arc<Halt>,
    ) -> Self {
        let pipe = Pipe {
            pieces: pipe,
            halt: halt.clone(),
        };
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

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // It is called by the driver's task.
        let cx = &mut Context::from_waker(self.waker.waker(cx.waker()));
        let reached = match ready!(Pin::new(&mut self.inner).poll_read(cx, buf)) {
            Err(error) if LimitReached::is(&error) => error,
            result => return Poll::Ready(result),
        };
        if !self.truncated {
            // A command that printed exactly as much as it may has not been cut. Looking ahead takes nothing.
            let pipe = self.inner.get_mut().get_mut();
            if ready!(Pin::new(&mut *pipe).poll_fill_buf(cx))?.is_empty() {
                return Poll::Ready(Ok(()));
            }
            // Nobody reads any more: the driver drops the rest, and does not wait for room.
            pipe.get_mut().pieces.close();
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
        /// Reading past the command's output limit ends the command, and gives an [`io::Error`] that holds a
        /// [`LimitReached`]; under [`OnLimit::Truncate`] it gives end-of-file. Where the output ended before its end without
        /// anybody having ended the command, the last read gives an [`io::Error`] of the kind
        /// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): see [`ExitStatus::Incomplete`](crate::ExitStatus::Incomplete). A
        /// command whose output is not read stalls; its output is not gathered in memory. Dropping this lets the rest of the
        /// output go unread.
        #[derive(Debug)]
        pub struct $name(pub(super) Reader);

        impl $name {
            /// Whether a read has met the output limit while there was more.
            pub fn is_truncated(&self) -> bool {
                self.0.truncated
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
    /// A command's standard output.
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
    /// A command's standard error.
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
    /// drop(child.stdout.take()); // not wanted, and must not hold it up
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
