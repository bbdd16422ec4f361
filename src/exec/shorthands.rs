//! Shorthands for frequent uses of a command.

use std::ffi::OsStr;
use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};

use super::child::Child;
use super::command::Command;
use super::limit::LimitReached;
use super::pipe::BrokeOff;
use super::streams::ChildStdout;
use crate::container::{Container, Running};
use crate::error::Error;
use crate::values::outcome::{ExitStatus, Output};

impl Container<Running> {
    /// Begins a command in the container; see [`Command`].
    pub fn command(&self, program: impl Into<String>) -> Command<'_> {
        Command::in_container(self, program.into())
    }

    /// Runs a command and collects its output, without a time limit: `c.exec(["ls", "-l"])`.
    ///
    /// The first text is the program alone, and no shell takes the texts apart: for a line of shell use
    /// `c.exec(["sh", "-c", "ls -l | wc -l"])`.
    ///
    /// # Errors
    ///
    /// As [`Command::output`](crate::Command::output); [`Error::BadCommand`] if there is no program.
    ///
    /// # Cancel safety
    ///
    /// As [`Command::output`](crate::Command::output).
    pub async fn exec<I, A>(&self, argv: I) -> Result<Output, Error>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut argv = argv.into_iter();
        // Without a program, the command is refused as one with an empty program.
        let program = argv.next();
        let program = program.as_ref().map_or(OsStr::new(""), AsRef::as_ref);
        let mut command = self.command(program.to_string_lossy());
        if program.to_str().is_none() {
            command.setup.program_is_not_utf8();
        }
        command.args(argv).output().await
    }
}

/// A command's standard output, line by line; made by [`Command::lines`](crate::Command::lines). Dropping it ends the
/// command.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("one\ntwo\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let mut lines = c.command("make").arg("all").lines().await?;
/// let mut seen = Vec::new();
/// while let Some(line) = lines.next_line().await? {
///     seen.push(line);
/// }
/// assert_eq!(seen, ["one", "two"]);
/// assert!(lines.wait().await?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it ends the command"]
pub struct OutputLines<'c> {
    child: Child<'c>,
    reader: Option<BufReader<ChildStdout>>,
    max_line: usize,
    /// The part of the next line that was read.
    line: Vec<u8>,
    /// Whether the rest of a line that is too long is being dropped.
    skips: bool,
}

impl<'c> OutputLines<'c> {
    /// How long a line may be where [`max_line`](Self::max_line) sets nothing, in bytes: 1 MiB.
    pub const DEFAULT_MAX_LINE: usize = 1 << 20;

    pub(super) fn new(mut child: Child<'c>) -> Self {
        Self {
            reader: child.stdout.take().map(BufReader::new),
            child,
            max_line: Self::DEFAULT_MAX_LINE,
            line: Vec::new(),
            skips: false,
        }
    }

    /// Sets how long a line may be, in bytes, without its line end. Default:
    /// [`DEFAULT_MAX_LINE`](Self::DEFAULT_MAX_LINE).
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.max_line = bytes;
        self
    }

    /// Returns the next line without its line end (`\n` or `\r\n`); `None` at the end of the output.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]: the output limit was reached; the output broke off
    /// ([`UnexpectedEof`](std::io::ErrorKind::UnexpectedEof)); or, with
    /// [`InvalidData`](std::io::ErrorKind::InvalidData), the line is longer than [`max_line`](Self::max_line) or not UTF-8.
    /// After `InvalidData` the next call returns the next line.
    ///
    /// # Cancel safety
    ///
    /// Safe: no line is lost.
    pub async fn next_line(&mut self) -> Result<Option<String>, Error> {
        let line = self.read_line().await;
        line.map_err(|source| Error::Read {
            subject: self.child.subject(),
            source,
        })
    }

    /// Reads a line. The part that was read is kept in `self`, so that the future may be dropped.
    async fn read_line(&mut self) -> io::Result<Option<String>> {
        let Some(reader) = &mut self.reader else {
            return Ok(None);
        };
        loop {
            let data = reader.fill_buf().await?;
            let end = data.iter().position(|byte| *byte == b'\n');
            let is_last = data.is_empty();
            if !self.skips {
                // One byte more than the limit: a `\r` that belongs to the line end.
                let room = self.max_line.saturating_add(1).saturating_sub(self.line.len());
                let piece = &data[..end.unwrap_or(data.len())];
                self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                self.skips = piece.len() > room;
            }
            let read = end.map_or(data.len(), |end| end + 1);
            reader.consume(read);
            if end.is_none() && !is_last {
                continue;
            }
            let mut line = std::mem::take(&mut self.line);
            let skipped = std::mem::take(&mut self.skips);
            if is_last && line.is_empty() {
                return Ok(None);
            }
            if end.is_some() && !skipped && line.last() == Some(&b'\r') {
                line.pop();
            }
            if skipped || line.len() > self.max_line {
                let problem = format!("a line has more than {} bytes", self.max_line);
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            return match String::from_utf8(line) {
                Ok(line) => Ok(Some(line)),
                Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            };
        }
    }

    /// Waits for the end of the command. Lines that were not read are dropped.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// As [`Child::wait`].
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.reader = None;
        self.child.wait().await
    }

    /// Returns the command itself.
    pub fn child(&mut self) -> &mut Child<'c> {
        &mut self.child
    }
}

/// Copies both outputs to their ends.
pub(super) async fn copy_outputs<O, E>(child: &mut Child<'_>, stdout: &mut O, stderr: &mut E) -> Result<(), Error>
where
    O: AsyncWrite + Unpin + ?Sized,
    E: AsyncWrite + Unpin + ?Sized,
{
    let (from_stdout, from_stderr) = (child.stdout.take(), child.stderr.take());
    let copied = tokio::try_join!(
        copy(from_stdout, stdout, "standard output"),
        copy(from_stderr, stderr, "standard error"),
    );
    match copied {
        Ok(_) => Ok(()),
        Err((stream, source)) => Err(Error::Write {
            subject: child.subject(),
            stream: stream.into(),
            source,
        }),
    }
}

async fn copy<W: AsyncWrite + Unpin + ?Sized>(
    from: Option<impl AsyncRead + Unpin>,
    to: &mut W,
    stream: &'static str,
) -> Result<(), (&'static str, std::io::Error)> {
    let Some(mut from) = from else { return Ok(()) };
    let copied = async {
        match tokio::io::copy(&mut from, to).await {
            // A limit and a break of the output count as its end: the status tells of them.
            Err(error) if !LimitReached::is(&error) && !BrokeOff::is(&error) => Err(error),
            _ => to.flush().await,
        }
    };
    copied.await.map_err(|error| (stream, error))
}
