//! Both outputs of a command and its end, as one stream: [`Events`].

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::Stream;

use super::child::Child;
use super::event::Event;
use super::event_lines::EventLines;
use super::merged::Merged;
use crate::container::{Container, Running};
use crate::engine::OutputStream;
use crate::error::Error;

/// Both outputs of a command piece by piece, and then its end, as a [`Stream`]; made by [`Child::events`]. [`lines`](Self::lines)
/// has them line by line.
///
/// The last item is an [`Event::Exit`], or an error as [`Child::wait`] gives it: [`Error::CannotStart`],
/// [`Error::ContainerGone`], [`Error::Engine`]. There are no other errors: where a limit cuts the output off, or its end is missing,
/// the [`ExitStatus`](crate::ExitStatus) tells of that.
///
/// Nothing is gathered: a command whose events are not taken stalls.
///
/// # Order
///
/// Pieces come in the order in which the library has received them. Within one output that is the order in which they were written,
/// always. Between the two outputs it is known only as far as two pipes can tell:
///
/// - By the agent: what the command writes to one output comes before what it writes to the other later, if the agent has got to run
///   between the two writes, which takes it a moment of idle time in the container and longer under load. What it finds in both pipes
///   at once comes with standard output first. An output of more than 128 KiB may be passed to the library as a pipe, and then
///   the library itself takes from both in turn what is there.
/// - By the exec API: the order in which the engine has read the two pipes, which is no more exact.
///
/// So messages some tens of milliseconds apart are in order on a machine that is not overloaded, and a burst to both outputs may not
/// be. For an exact order let the command write to one of them (`2>&1`), or give it a terminal ([`Command::tty`](crate::Command::tty)).
///
/// # Drop
///
/// Ends the command, as dropping a [`Child`] does.
///
/// # Examples
///
/// ```
/// use dockerpool::{Event, ExitStatus};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(2).stdout("compiling\n").stderr("error\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// # let c = pool.acquire().await?;
/// let mut events = c.command("make").spawn().await?.events();
/// while let Some(event) = events.next().await {
///     match event? {
///         Event::Stdout(data) => assert_eq!(data, "compiling\n"),
///         Event::Stderr(data) => assert_eq!(data, "error\n"),
///         Event::Exit(status) => assert_eq!(status, ExitStatus::Exited(2)),
///         _ => {}
///     }
/// }
/// # Ok(())
/// # }
/// ```
///
/// The events of an [`OwnedChild`](crate::OwnedChild) hold its guard, and can be the body of a response: the command ends when the
/// client is gone, and then the container goes back to its pool.
///
/// ```
/// use std::io;
///
/// use bytes::Bytes;
/// use dockerpool::{Command, Event, Pool};
/// use futures_util::{Stream, TryStreamExt};
///
/// /// Returns what a program writes to its standard output.
/// async fn body(pool: &Pool) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<>, dockerpool::Error> {
///     let lease = pool.acquire().await?;
///     let events = Command::new("export").spawn_owned(lease).await?.events();
///     let stdout = events.try_filter_map(async |event| match event {
///         Event::Stdout(data) => Ok(Some(data)),
///         _ => Ok(None),
///     });
///     Ok(stdout.map_err(io::Error::other))
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("a,b\n").stderr("done"));
/// # let pool = Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// let sent: Vec<Bytes> = body(&pool).await?.try_collect().await?;
/// assert_eq!(sent, ["a,b\n"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the events ends the command"]
pub struct Events<'c, G = &'c Container<Running>> {
    child: Child<'c, G>,
    outputs: Merged,
    is_over: bool,
}

/// The guard is never pinned.
impl<G> Unpin for Events<'_, G> {}

impl<'c, G> Child<'c, G> {
    /// Turns the command into a stream of its [`Event`]s: both outputs, and then its end. Closes the standard input, unless
    /// [`stdin`](Self::stdin) was taken out before; an output that was taken out, or that is null, is missing.
    pub fn events(mut self) -> Events<'c, G> {
        drop(self.stdin.take());
        let outputs = self.take_outputs();
        Events {
            child: self,
            outputs,
            is_over: false,
        }
    }

    /// Takes out what is left of both outputs.
    pub(super) fn take_outputs(&mut self) -> Merged {
        Merged::new([
            self.stdout.take().map(|stdout| stdout.0),
            self.stderr.take().map(|stderr| stderr.0),
        ])
    }
}

impl<'c, G> Events<'c, G> {
    /// Returns the next event, or `None` after the last one. The same as the `next` of a stream.
    ///
    /// # Cancel safety
    ///
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Returns the events line by line, as text.
    pub fn lines(self) -> EventLines<'c, G> {
        EventLines::new(self)
    }

    /// Returns whether an output limit has cut the output off so far.
    pub fn is_truncated(&self) -> bool {
        self.outputs.is_truncated()
    }

    /// Returns the command itself, e.g. to [stop](Child::start_stop) it while its events are taken.
    pub fn child(&mut self) -> &mut Child<'c, G> {
        &mut self.child
    }

    /// Returns the command itself. Output that was not taken is dropped.
    pub fn into_child(self) -> Child<'c, G> {
        self.child
    }
}

impl<G> Stream for Events<'_, G> {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.is_over {
            return Poll::Ready(None);
        }
        if let Some((stream, data)) = ready!(this.outputs.poll_next(cx)) {
            return Poll::Ready(Some(Ok(match stream {
                OutputStream::Stdout => Event::Stdout(data),
                OutputStream::Stderr => Event::Stderr(data),
            })));
        }
        ready!(this.child.poll_verdict(cx));
        this.is_over = true;
        let end = this.child.outcome();
        Poll::Ready(Some(end.map(|(status, _)| Event::Exit(status))))
    }
}

impl<G> fmt::Debug for Events<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("child", &self.child)
            .field("is_over", &self.is_over)
            .finish_non_exhaustive()
    }
}
