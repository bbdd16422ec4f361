//! What is often done with a command, in one call each.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, Lines};

use super::child::Child;
use super::limit::LimitReached;
use super::output::ExitStatus;
use super::stdio::ChildStdout;
use crate::container::{Container, Running};
use crate::error::Error;
use crate::exec::Output;

impl Container<Running> {
    /// Runs a command and collects its output, with no limit of time: `c.exec(["sh", "-c", "..."])`.
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
        A: AsRef<str>,
    {
        let mut argv = argv.into_iter();
        // An empty program is refused by name.
        let program = argv.next();
        let program = program.as_ref().map_or("", |program| program.as_ref());
        self.command(program).args(argv).output().await
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
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl<'c> OutputLines<'c> {
    pub(super) fn new(mut child: Child<'c>) -> Self {
        let lines = child.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Self { child, lines }
    }

    /// The next line without its line end; `None` at the end of the output. A line may be as long as the command's
    /// [`output_limit`](crate::Command::output_limit) allows.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]: the output limit was reached, or the line is no UTF-8.
    ///
    /// # Cancel safety
    ///
    /// Safe: no line is lost.
    pub async fn next_line(&mut self) -> Result<Option<String>, Error> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        lines.next_line().await.map_err(|source| Error::Read {
            container: self.child.container().to_owned(),
            source,
        })
    }

    /// Waits for the end; lines that were not read are dropped.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    ///
    /// # Cancel safety
    ///
    /// As [`Child::wait`].
    pub async fn wait(&mut self) -> Result<ExitStatus, Error> {
        self.lines = None;
        self.child.wait().await
    }

    /// The command itself.
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
            container: child.container().to_owned(),
            stream,
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
        tokio::io::copy(&mut from, to).await?;
        to.flush().await
    };
    match copied.await {
        // The limit's end is an end: the status tells of it.
        Err(error) if !LimitReached::is(&error) => Err((stream, error)),
        _ => Ok(()),
    }
}
