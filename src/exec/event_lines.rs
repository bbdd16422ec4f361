//! The events of a command line by line: [`EventLines`].

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::Stream;

use super::child::Child;
use super::event::Event;
use super::events::Events;
use super::shorthands::OutputLines;
use crate::container::{Container, Running};
use crate::error::Error;

/// Both outputs of a command line by line, and then its end, as a [`Stream`]; made by [`Events::lines`].
///
/// - A line comes without its line end (`\n` or `\r\n`), once that end was written. A last line without one comes right before
///   the [`Event::Exit`].
/// - What is not UTF-8 is replaced by U+FFFD.
/// - A line of more than [`max_line`](Self::max_line) bytes comes in several events. Nothing of it is lost, and no more than that is
///   held in memory for each output.
/// - Lines are in order by their ends: see the order of [`Events`](Events#order).
///
/// Errors are those of [`Events`].
///
/// # Drop
///
/// Ends the command, as dropping a [`Child`] does.
///
/// # Examples
///
/// ```
/// use dockerpool::Command;
/// use futures_util::TryStreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("one\ntwo\n").stderr("no line end"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// let lease = pool.acquire().await?;
/// let lines = Command::new("build").spawn_owned(lease).await?.events().lines();
/// // The body of a response of the type `text/event-stream`:
/// let body = lines.map_ok(|event| event.to_sse());
/// assert_eq!(
///     body.try_collect::<Vec<_>>().await?,
///     [
///         "event: stdout\ndata: one\n\n",
///         "event: stdout\ndata: two\n\n",
///         "event: stderr\ndata: no line end\n\n",
///         "event: exit\ndata: exited 0\n\n",
///     ]
/// );
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the lines ends the command"]
pub struct EventLines<'c, G = &'c Container<Running>> {
    events: Events<'c, G>,
    max_line: usize,
    /// The piece of which lines are being taken, after the place of its output in `lines`.
    piece: (usize, Bytes),
    /// The beginnings of the next lines of both outputs.
    lines: [Line; 2],
    /// The last event, while the last lines come before it.
    end: Option<Result<Event<String>, Error>>,
}

impl<'c, G> EventLines<'c, G> {
    /// How many bytes a line may have where [`max_line`](Self::max_line) sets nothing: 1 MiB.
    pub const DEFAULT_MAX_LINE: usize = OutputLines::DEFAULT_MAX_LINE;

    pub(super) fn new(events: Events<'c, G>) -> Self {
        Self {
            events,
            max_line: Self::DEFAULT_MAX_LINE,
            piece: (0, Bytes::new()),
            lines: [Line::default(), Line::default()],
            end: None,
        }
    }

    /// Sets how many bytes a line may have, without its line end; at least 1. A longer line comes in several events. Default:
    /// [`DEFAULT_MAX_LINE`](Self::DEFAULT_MAX_LINE).
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.max_line = bytes.max(1);
        self
    }

    /// Returns the next event, or `None` after the last one. The same as the `next` of a stream.
    ///
    /// # Cancel safety
    ///
    /// Safe: no line is lost.
    pub async fn next(&mut self) -> Option<Result<Event<String>, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Returns whether an output limit has cut the output off so far.
    pub fn is_truncated(&self) -> bool {
        self.events.is_truncated()
    }

    /// Returns the command itself, e.g. to [stop](Child::start_stop) it while its lines are taken.
    pub fn child(&mut self) -> &mut Child<'c, G> {
        self.events.child()
    }

    /// Returns the command itself. Output that was not taken is dropped.
    pub fn into_child(self) -> Child<'c, G> {
        self.events.into_child()
    }
}

/// The guard is never pinned.
impl<G> Unpin for EventLines<'_, G> {}

fn event_of(output: usize, line: String) -> Event<String> {
    match output {
        0 => Event::Stdout(line),
        _ => Event::Stderr(line),
    }
}

impl<G> Stream for EventLines<'_, G> {
    type Item = Result<Event<String>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let (output, data) = &mut this.piece;
            if let Some(line) = this.lines[*output].next(data, this.max_line) {
                return Poll::Ready(Some(Ok(event_of(*output, line))));
            }
            if this.end.is_some() {
                for (output, line) in this.lines.iter_mut().enumerate() {
                    if let Some(line) = line.last(this.max_line) {
                        return Poll::Ready(Some(Ok(event_of(output, line))));
                    }
                }
                return Poll::Ready(this.end.take());
            }
            this.end = match ready!(Pin::new(&mut this.events).poll_next(cx)) {
                Some(Ok(Event::Stdout(data))) => {
                    this.piece = (0, data);
                    continue;
                }
                Some(Ok(Event::Stderr(data))) => {
                    this.piece = (1, data);
                    continue;
                }
                Some(Ok(Event::Exit(status))) => Some(Ok(Event::Exit(status))),
                Some(Err(error)) => Some(Err(error)),
                None => return Poll::Ready(None),
            };
        }
    }
}

impl<G> fmt::Debug for EventLines<'_, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLines")
            .field("events", &self.events)
            .field("max_line", &self.max_line)
            .finish_non_exhaustive()
    }
}

/// The beginning of the next line of one output.
#[derive(Default)]
struct Line(Vec<u8>);

impl Line {
    /// Takes bytes up to the end of the line. Returns the line if its end was there, or as much as fits of a line that is too long.
    fn next(&mut self, data: &mut Bytes, max: usize) -> Option<String> {
        let end = data.iter().position(|byte| *byte == b'\n');
        let wanted = end.unwrap_or(data.len());
        // One byte more than the limit: a `\r` that may belong to the line end.
        let taken = wanted.min(max.saturating_add(1).saturating_sub(self.0.len()));
        self.0.extend_from_slice(&data.split_to(taken));
        let is_ended = end == Some(taken);
        let may_end =
            self.0.len() == max.saturating_add(1) && self.0.last() == Some(&b'\r') && (is_ended || data.is_empty());
        if self.0.len() > max && !may_end {
            return Some(self.cut(max));
        }
        if !is_ended {
            return None;
        }
        data.advance(1);
        if self.0.last() == Some(&b'\r') {
            self.0.pop();
        }
        Some(text(std::mem::take(&mut self.0)))
    }

    /// Returns the last line, which has no end, or as much as fits of it.
    fn last(&mut self, max: usize) -> Option<String> {
        match self.0.len() {
            0 => None,
            len if len > max => Some(self.cut(max)),
            _ => Some(text(std::mem::take(&mut self.0))),
        }
    }

    /// Takes the beginning of a line that has more than `max` bytes: so many, or fewer so that no character is cut in two.
    fn cut(&mut self, max: usize) -> String {
        let goes_on = |at: usize| self.0[at] & 0b1100_0000 == 0b1000_0000;
        // A character has at most four bytes.
        let at = (max.saturating_sub(3)..=max).rev().find(|at| !goes_on(*at));
        let rest = self.0.split_off(at.filter(|at| *at > 0).unwrap_or(max));
        text(std::mem::replace(&mut self.0, rest))
    }
}

fn text(line: Vec<u8>) -> String {
    String::from_utf8(line).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts an output into pieces of `size` bytes, and returns its lines.
    fn lines(output: &[u8], size: usize, max: usize) -> Vec<String> {
        let (mut line, mut lines) = (Line::default(), Vec::new());
        for piece in output.chunks(size) {
            let mut data = Bytes::copy_from_slice(piece);
            lines.extend(std::iter::from_fn(|| line.next(&mut data, max)));
            assert!(data.is_empty() && line.0.len() <= max + 1);
        }
        lines.extend(std::iter::from_fn(|| line.last(max)));
        lines
    }

    #[test]
    fn lines_do_not_depend_on_how_their_bytes_come() {
        for (output, max, expected) in [
            (&b""[..], 4, &[][..]),
            (b"\n\n", 4, &["", ""]),
            (b"one\r\ntwo\nlast", 4, &["one", "two", "last"]),
            // As long as may be, with either line end and with none.
            (b"1234\n1234\r\n1234", 4, &["1234", "1234", "1234"]),
            (b"12345\n1234\r5\n", 4, &["1234", "5", "1234", "\r5"]),
            (b"123456789", 4, &["1234", "5678", "9"]),
            (b"1234\r", 4, &["1234", "\r"]),
            (b"\r\r\n\r", 4, &["\r", "\r"]),
            ("aüüü\n".as_bytes(), 4, &["aü", "üü"]),
            ("€€\n".as_bytes(), 4, &["€", "€"]),
            ("€\n".as_bytes(), 1, &["\u{fffd}", "\u{fffd}", "\u{fffd}"]),
            (b"a\xffb\n\xff", 4, &["a\u{fffd}b", "\u{fffd}"]),
            (
                b"\x80\x80\x80\x80\x80\x80\n",
                4,
                &["\u{fffd}\u{fffd}\u{fffd}\u{fffd}", "\u{fffd}\u{fffd}"],
            ),
        ] {
            for size in 1..=output.len().max(1) {
                assert_eq!(lines(output, size, max), expected, "{output:?} in pieces of {size}");
            }
        }
    }
}
