//! A command as an engine runs it: [`ExecRequest`], [`ExecSession`], and the output.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::{BoxStream, EngineError, ExecControl};
use crate::values::shown;

/// Describes one command to run in a container.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ExecRequest;
///
/// let mut request = ExecRequest::new(["sh", "-c", "echo $GREETING"]);
/// request.env.push("GREETING=hello".to_owned());
/// assert!(!request.stdin && request.tty.is_none());
/// ```
///
/// `Debug` shows the program and the names of the variables.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up on the container's `PATH`.
    pub argv: Vec<String>,
    /// `NAME=value`, added to the container's environment.
    pub env: Vec<String>,
    /// Working directory; the container's own if `None`.
    pub current_dir: Option<String>,
    /// `user[:group]`, by name or number; the container's own if `None`.
    pub user: Option<String>,
    /// Whether standard input is attached; else the command reads end-of-file at once.
    pub stdin: bool,
    /// A terminal of this size in place of pipes; everything then comes as [`OutputStream::Stdout`].
    pub tty: Option<TtySize>,
    /// The most processor time of the command and its descendants together. The library sends no engine this limit: only its
    /// agent can apply it, see [`Command::cpu_time`](crate::Command::cpu_time). The same holds for the following limits.
    pub cpu_time: Option<Duration>,
    /// The most memory, in bytes: see [`Command::memory`](crate::Command::memory).
    pub memory: Option<u64>,
    /// The most processes and threads: see [`Command::processes`](crate::Command::processes).
    pub processes: Option<u32>,
    /// The most bytes of a file: see [`Command::file_size`](crate::Command::file_size).
    pub file_size: Option<u64>,
}

impl ExecRequest {
    /// Makes a request for this program with these arguments. The other fields are empty, and public.
    pub fn new<A: Into<String>>(argv: impl IntoIterator<Item = A>) -> Self {
        Self {
            argv: argv.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// Returns whether there is a limit that only the library's agent can apply.
    pub(crate) fn has_limits(&self) -> bool {
        self.cpu_time.is_some() || self.memory.is_some() || self.processes.is_some() || self.file_size.is_some()
    }
}

impl fmt::Debug for ExecRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            argv,
            env,
            current_dir,
            user,
            stdin,
            tty,
            cpu_time,
            memory,
            processes,
            file_size,
        } = self;
        let env: Vec<_> = env.iter().map(|text| shown::variable(text)).collect();
        f.debug_struct("ExecRequest")
            .field("argv", &shown::Argv(argv))
            .field("env", &env)
            .field("current_dir", current_dir)
            .field("user", user)
            .field("stdin", stdin)
            .field("tty", tty)
            .field("cpu_time", cpu_time)
            .field("memory", memory)
            .field("processes", processes)
            .field("file_size", file_size)
            .finish()
    }
}

/// Holds the size of a terminal, in characters.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{ExecRequest, TtySize};
///
/// let classic = TtySize { rows: 24, cols: 80 };
/// let mut request = ExecRequest::new(["top"]);
/// request.tty = Some(classic);
/// assert_eq!(request.tty.map(|size| size.cols), Some(80));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TtySize {
    /// The number of lines.
    pub rows: u16,
    /// The number of characters in a line.
    pub cols: u16,
}

/// Holds the streams and the control of a started command.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{ExecRequest, OutputStream};
/// use futures_util::StreamExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::EngineError> {
/// # use dockerpool::engine::{Commands, Identity, Lifecycle, Plan};
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let id = engine.create(&Identity::new("box"), &Plan::new("any")).await?.id;
/// # engine.start(&id).await?;
/// # engine.on_exec(|_| dockerpool::testing::FakeProcess::exit(0).stdout("hello"));
/// let mut session = engine.exec(&id, &ExecRequest::new(["greet"])).await?;
/// let mut printed = Vec::new();
/// while let Some(frame) = session.output.next().await {
///     let frame = frame?;
///     if frame.stream == OutputStream::Stdout {
///         printed.extend_from_slice(&frame.data);
///     }
/// }
/// assert_eq!(printed, b"hello");
/// assert_eq!(session.control.exit_code().await?, Some(0));
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct ExecSession {
    /// The command's standard input, if [`ExecRequest::stdin`] asked for it. `shutdown()` closes it for the command, whose
    /// output is still read. On a terminal, `shutdown()` types control-D and the terminal stays open.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// The command's output, in the order in which the engine sends it. The command may run on after the end of this stream.
    pub output: BoxStream<'static, Result<Frame, EngineError>>,
    /// The calls that ask about the command, and end it.
    pub control: Box<dyn ExecControl>,
}

impl ExecSession {
    /// Makes the session of an engine written outside this crate.
    pub fn new(
        stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
        output: BoxStream<'static, Result<Frame, EngineError>>,
        control: Box<dyn ExecControl>,
    ) -> Self {
        Self { stdin, output, control }
    }
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession")
            .field("stdin", &self.stdin.is_some())
            .finish_non_exhaustive()
    }
}

/// Holds PID 1's standard streams open. Dropping an attachment closes PID 1's standard input.
///
/// # Examples
///
/// ```
/// use futures_util::StreamExt;
/// use tokio::io::AsyncWriteExt;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use dockerpool::engine::{Identity, Lifecycle, Plan};
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let id = engine.create(&Identity::new("box"), &Plan::new("any")).await?.id;
/// # engine.start(&id).await?;
/// // A PID 1 that echoes its input is alive.
/// let mut pid1 = engine.attach(&id).await?;
/// pid1.stdin.write_all(b"ping").await?;
/// let frame = pid1.output.next().await.expect("it holds the line")?;
/// assert_eq!(&frame.data[..], b"ping");
/// # Ok(())
/// # }
/// ```
#[non_exhaustive]
pub struct Attachment {
    /// The standard input of PID 1.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// The output of PID 1.
    pub output: BoxStream<'static, Result<Frame, EngineError>>,
}

impl Attachment {
    /// Makes the attachment of an engine written outside this crate.
    pub fn new(
        stdin: Box<dyn AsyncWrite + Send + Unpin>,
        output: BoxStream<'static, Result<Frame, EngineError>>,
    ) -> Self {
        Self { stdin, output }
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").finish_non_exhaustive()
    }
}

/// Names the output that a command wrote to.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::OutputStream;
///
/// fn colour(stream: OutputStream) -> &'static str {
///     match stream {
///         OutputStream::Stdout => "white",
///         OutputStream::Stderr => "red",
///     }
/// }
/// assert_eq!(colour(OutputStream::Stderr), "red");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Holds a piece of a command's output.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{Frame, OutputStream};
///
/// // One line that a command has printed, as an engine delivers it.
/// let frame = Frame::new(OutputStream::Stdout, "hello\n");
/// assert_eq!(frame.data.len(), 6);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// The output that the command wrote to.
    pub stream: OutputStream,
    /// The bytes.
    pub data: Bytes,
}

impl Frame {
    /// Makes a piece of output.
    pub fn new(stream: OutputStream, data: impl Into<Bytes>) -> Self {
        Self {
            stream,
            data: data.into(),
        }
    }
}
