//! Building a command: [`Command`].

use std::time::Duration;

use tokio::time::Instant;

use super::child::Child;
use super::limit::LimitReached;
use super::output::{ExitStatus, Output};
use super::stdio::{Source, Stdio};
use crate::container::{Container, Running};
use crate::engine::ExecRequest;
use crate::error::{Error, FieldError};

/// The longest argument or environment variable Linux takes, in bytes (`MAX_ARG_STRLEN`, less the final NUL). A longer
/// one would make the engine end the command with exit code 1 and no word why.
const MAX_ARG: usize = 128 * 1024 - 1;

/// A command to be run in a container, built like `tokio::process::Command`.
///
/// It borrows the container: neither it nor its [`Child`] outlives the lease.
///
/// # Examples
///
/// ```no_run
/// # async fn example(c: dockerpool::PooledContainer) -> Result<(), dockerpool::Error> {
/// use std::time::Duration;
///
/// let output = c
///     .command("python3")
///     .args(["-c", "print(input())"])
///     .stdin("hello\n")
///     .timeout(Duration::from_secs(5))
///     .output_limit(64 * 1024)
///     .output()
///     .await?;
/// println!("{}: {}", output.status, output.stdout_lossy());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a command does nothing until output(), status() or spawn()"]
pub struct Command<'c> {
    container: &'c Container<Running>,
    request: ExecRequest,
    stdin: Source,
    timeout: Option<Duration>,
    /// The outer `None`: not said.
    output_limit: Option<Option<u64>>,
}

impl<'c> Command<'c> {
    /// How much [`output`](Self::output) collects where [`output_limit`](Self::output_limit) says nothing: 16 MiB.
    pub const DEFAULT_OUTPUT_LIMIT: u64 = 16 << 20;

    pub(crate) fn new(container: &'c Container<Running>, program: String) -> Self {
        Self {
            container,
            request: ExecRequest {
                argv: vec![program],
                ..Default::default()
            },
            stdin: Source::Null,
            timeout: None,
            output_limit: None,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl Into<String>) -> &mut Self {
        self.request.argv.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<I, A>(&mut self, args: I) -> &mut Self
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        self.request.argv.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable, over the container's own.
    pub fn env(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> &mut Self {
        self.request.env.push(format!("{}={}", name.as_ref(), value.as_ref()));
        self
    }

    /// Sets environment variables, over the container's own.
    pub fn envs<I, N, V>(&mut self, vars: I) -> &mut Self
    where
        I: IntoIterator<Item = (N, V)>,
        N: AsRef<str>,
        V: AsRef<str>,
    {
        for (name, value) in vars {
            self.env(name, value);
        }
        self
    }

    /// The working directory, absolute. Default: the container's.
    pub fn current_dir(&mut self, dir: impl Into<String>) -> &mut Self {
        self.request.current_dir = Some(dir.into());
        self
    }

    /// The user it runs as: `user[:group]`, by name or number. Default: the container's.
    pub fn user(&mut self, user: impl Into<String>) -> &mut Self {
        self.request.user = Some(user.into());
        self
    }

    /// Where its standard input comes from. Default: [`Stdio::null`]. Text and bytes can be given as they are.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.stdin = stdin.into().source;
        self
    }

    /// How long it may take from the call of [`output`](Self::output), [`status`](Self::status) or
    /// [`spawn`](Self::spawn) on; the 50 ms or so the engine needs to start it are in it. Then it is ended, with
    /// [`ExitStatus::TimedOut`]. Default: no limit.
    ///
    /// # What ends with it
    ///
    /// The exec API cannot end a single command. Its whole container is killed, the container is tainted
    /// ([`Taint::TimedOut`](crate::Taint::TimedOut)) and replaced when the guard is dropped. So it is with
    /// [`output_limit`](Self::output_limit), with [`Child::kill`] and with a dropped [`Child`].
    pub fn timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.timeout = timeout.into();
        self
    }

    /// How many bytes it may print, on standard output and standard error together. A command that prints more is ended,
    /// with [`ExitStatus::OutputLimit`]; what it printed up to the limit is kept. `None`: no limit. Default:
    /// [`DEFAULT_OUTPUT_LIMIT`](Self::DEFAULT_OUTPUT_LIMIT) for [`output`](Self::output), none for
    /// [`spawn`](Self::spawn), whose reader decides how much it takes.
    pub fn output_limit(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.output_limit = Some(bytes.into());
        self
    }

    /// Runs it to its end and collects its output.
    ///
    /// # Errors
    ///
    /// - [`Error::BadCommand`]: it cannot be run as it was given; nothing was done.
    /// - [`Error::CannotStart`]: the program is not there or not executable, or the directory or the user is bad.
    /// - [`Error::ContainerGone`]: the container had ended before.
    /// - [`Error::Engine`]: the engine failed before the command was known to run.
    ///
    /// A command that failed, ran out of time or printed too much is no error: see [`Output::status`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the command, as dropping a [`Child`] does.
    pub async fn output(&mut self) -> Result<Output, Error> {
        let limit = self.output_limit.unwrap_or(Some(Self::DEFAULT_OUTPUT_LIMIT));
        let mut child = self.spawn_limited(limit).await?;
        drop(child.stdin.take());
        child.collect().await
    }

    /// Runs it to its end; its output goes nowhere.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output).
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn status(&mut self) -> Result<ExitStatus, Error> {
        let mut child = self.spawn_limited(None).await?;
        child.stdout = None;
        child.stderr = None;
        child.wait().await
    }

    /// Starts it, and gives its streams. Each source of standard input can be used once.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output), but [`Error::CannotStart`] comes from [`Child::wait`], since the engine tells no
    /// sooner.
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn spawn(&mut self) -> Result<Child<'c>, Error> {
        self.spawn_limited(self.output_limit.flatten()).await
    }

    async fn spawn_limited(&mut self, limit: Option<u64>) -> Result<Child<'c>, Error> {
        if let Some(problem) = self.problem() {
            return Err(Error::BadCommand(problem));
        }
        let stdin = std::mem::take(&mut self.stdin);
        self.request.stdin = !matches!(stdin, Source::Null);
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        Child::start(self.container, self.request.clone(), stdin, deadline, limit).await
    }

    /// What the engine would fail on without saying so, or say in a way that looks like the program's own output.
    fn problem(&self) -> Option<FieldError> {
        let request = &self.request;
        let mut texts = Vec::with_capacity(request.argv.len() + request.env.len() + 2);
        for (i, arg) in request.argv.iter().enumerate() {
            let field = if i == 0 {
                "program".to_owned()
            } else {
                format!("arg {i}")
            };
            texts.push((field, arg));
        }
        for (i, var) in request.env.iter().enumerate() {
            texts.push((format!("env {}", i + 1), var));
        }
        texts.extend(request.current_dir.iter().map(|dir| ("current_dir".to_owned(), dir)));
        texts.extend(request.user.iter().map(|user| ("user".to_owned(), user)));

        if request.argv[0].is_empty() {
            return Some(FieldError::new("program", "must not be empty"));
        }
        for (field, text) in texts {
            if text.contains('\0') {
                return Some(FieldError::new(field, "must not contain NUL"));
            }
            if text.len() > MAX_ARG {
                return Some(FieldError::new(
                    field,
                    format!("must have at most {MAX_ARG} bytes, and has {}", text.len()),
                ));
            }
        }
        if let Some(i) = request.env.iter().position(|var| var.starts_with('=')) {
            return Some(FieldError::new(format!("env {}", i + 1), "the name must not be empty"));
        }
        match request.current_dir.as_deref() {
            Some(dir) if !dir.starts_with('/') => Some(FieldError::new("current_dir", "must be an absolute path")),
            _ => None,
        }
    }
}

/// Reads one output to its end into memory. The limit's end is an end: the status tells of it.
pub(super) async fn read_all(reader: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    if let Some(mut reader) = reader {
        match tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut data).await {
            Ok(_) => {}
            Err(error) if LimitReached::is(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(data)
}
