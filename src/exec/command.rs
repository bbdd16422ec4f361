//! Building a command: [`Command`].

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::child::Child;
use super::shorthands::{self, OutputLines};
use super::stdio::{OnLimit, Source, Stdio};
use crate::container::{Container, Running};
use crate::engine::{ExecRequest, TtySize};
use crate::error::{Error, FieldError};
use crate::values::outcome::{ExitStatus, Output};
use crate::values::status::Cgroups;

/// The longest argument or environment variable Linux takes, in bytes (`MAX_ARG_STRLEN`, less the final NUL). A longer
/// one would make the engine end the command with exit code 1 and no word why.
const MAX_ARG: usize = 128 * 1024 - 1;

/// How much arguments and environment may have together, in bytes: a quarter of the usual 8 MiB stack, which is Linux's
/// limit, less some room for the container's own environment.
const MAX_ARGS: usize = 2 * 1024 * 1024 - 64 * 1024;

/// What each counts beside its bytes: the final NUL, and its place in the list.
const ARG_OVERHEAD: usize = 1 + size_of::<usize>();

/// A command to be run in a container, built like `tokio::process::Command`.
///
/// A command borrows its container: neither the command nor its [`Child`] outlives the lease. Running a command leaves it as it
/// was: it can be run again, in the same way or another, with the same standard input.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # engine.on_exec(|_| dockerpool::testing::FakeProcess::exit(0).stdout("hello\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// # let c = pool.acquire().await?;
/// let output = c
///     .command("python3")
///     .args(["-c", "print(input())"])
///     .stdin("hello\n")
///     .timeout(Duration::from_secs(5))
///     .output_limit(64 * 1024)
///     .output()
///     .await?;
/// assert!(output.status.success());
/// assert_eq!(output.stdout_lossy(), "hello\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a command does nothing until output(), status() or spawn()"]
pub struct Command<'c> {
    container: &'c Container<Running>,
    setup: Setup,
    /// The outer `None`: not said.
    output_limit: Option<Option<u64>>,
    /// The first variable, counted from 1, that was given a name that is none.
    bad_name: Option<usize>,
}

/// Everything a command was given.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) request: ExecRequest,
    pub(super) env_clear: bool,
    pub(super) stdin: Source,
    pub(super) outputs: Outputs,
    pub(super) timeout: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    /// Of both outputs together, and of each.
    pub(super) limit: Option<u64>,
    pub(super) stdout_limit: Option<u64>,
    pub(super) stderr_limit: Option<u64>,
    pub(super) on_limit: OnLimit,
}

/// Which outputs are read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outputs {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl<'c> Command<'c> {
    /// How much [`output`](Self::output) and [`Child::wait_with_output`] collect where [`output_limit`](Self::output_limit) says nothing: 16 MiB.
    pub const DEFAULT_OUTPUT_LIMIT: u64 = 16 << 20;

    pub(crate) fn new(container: &'c Container<Running>, program: String) -> Self {
        Self {
            container,
            setup: Setup {
                request: ExecRequest {
                    argv: vec![program],
                    ..Default::default()
                },
                env_clear: false,
                stdin: Source::Null,
                outputs: Outputs {
                    stdout: true,
                    stderr: true,
                },
                timeout: None,
                idle_timeout: None,
                limit: None,
                stdout_limit: None,
                stderr_limit: None,
                on_limit: OnLimit::Kill,
            },
            output_limit: None,
            bad_name: None,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<str>) -> &mut Self {
        self.setup.request.argv.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I, A>(&mut self, args: I) -> &mut Self
    where
        I: IntoIterator<Item = A>,
        A: AsRef<str>,
    {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Sets an environment variable, over the container's own.
    pub fn env(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> &mut Self {
        let (name, value) = (name.as_ref(), value.as_ref());
        let env = &mut self.setup.request.env;
        env.push(format!("{name}={value}"));
        if name.is_empty() || name.contains('=') {
            self.bad_name.get_or_insert(env.len());
        }
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

    /// Runs it with no environment but what is set with [`env`](Self::env), before this call or after.
    ///
    /// The agent starts the program so. A program that is named without a path is looked for on the `PATH` that is set, or
    /// else on the container's.
    ///
    /// The exec API cannot take variables away, so the container's own `env -i` runs the command there. A program that is
    /// not there is then exit code 127 with that program's words, not [`Error::CannotStart`]. Unless `PATH` is set, the
    /// program is found only by its path or where that `env` looks by itself. A program with a `=` in its name or path, and
    /// one named `-`, is [`Error::BadCommand`]: `env` would take it for something else.
    pub fn env_clear(&mut self) -> &mut Self {
        self.setup.env_clear = true;
        self
    }

    /// The working directory, absolute. Default: the container's.
    pub fn current_dir(&mut self, dir: impl Into<String>) -> &mut Self {
        self.setup.request.current_dir = Some(dir.into());
        self
    }

    /// The user it runs as: `user[:group]`, by name or number. Default: the container's.
    pub fn user(&mut self, user: impl Into<String>) -> &mut Self {
        self.setup.request.user = Some(user.into());
        self
    }

    /// Where its standard input comes from. Default: [`Stdio::null`]. Text and bytes can be given as they are.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.setup.stdin = stdin.into().source;
        self
    }

    /// Where its standard output goes: [`Stdio::piped`], the default, or [`Stdio::null`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.setup.outputs.stdout = !matches!(stdout.into().source, Source::Null);
        self
    }

    /// Where its standard error goes: [`Stdio::piped`], the default, or [`Stdio::null`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.setup.outputs.stderr = !matches!(stderr.into().source, Source::Null);
        self
    }

    /// Gives it a terminal of this size in place of pipes. Both outputs then come as standard output, with the
    /// terminal's line ends and its echo of the input; see [`Child::resize`].
    ///
    /// # Input
    ///
    /// The end of its standard input is typed: control-D (byte 4), twice where the last line is unfinished, since the first
    /// one then only hands that over. So it is where standard input is [`Stdio::null`], the default. The terminal stays open.
    /// As at any terminal, control-D ends one reading to the end, not those after it; a program that has switched the
    /// terminal to raw mode reads the byte; a program that throws away what was typed before throws away the end too; and
    /// of a line of more than 4095 bytes the rest is lost, unless the terminal is in raw mode. Control-C (byte 3) interrupts
    /// the program in the foreground.
    ///
    /// # Errors
    ///
    /// Terminals are counted on the whole machine (`kernel.pty.max`, mostly 4096). Where there is none left,
    /// [`output`](Self::output) and [`Child::wait`] give [`Error::Engine`] by the agent, and the container is replaced;
    /// [`Error::CannotStart`] by the exec API.
    ///
    /// # Security
    ///
    /// Over a connection of the caller's own ([`DockerEngine::from_bollard`](crate::DockerEngine::from_bollard)) output
    /// that begins with a byte of 2 or less is misread, as frames of a length that the container chooses: do not give a
    /// terminal to programs you do not trust there.
    pub fn tty(&mut self, rows: u16, cols: u16) -> &mut Self {
        self.setup.request.tty = Some(TtySize { rows, cols });
        self
    }

    /// How much memory it and everything it starts may have together, in bytes. Swap is not added to it. The kernel kills a
    /// process of it that would go beyond, which gives [`ExitStatus::OutOfMemory`](crate::ExitStatus::OutOfMemory). Files in
    /// memory (`tmpfs`) and the page cache count. Default: the container's limit, which holds in any case.
    ///
    /// # Errors
    ///
    /// Running it gives [`Error::BadCommand`] unless the container has
    /// [writable control groups](crate::ContainerSpec::writable_cgroups), and for 0.
    pub fn memory(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.request.memory = bytes.into();
        self
    }

    /// How many processes and threads there may be of it, everything it starts counted. Beyond it no more can be begun
    /// (`EAGAIN`). Default: the container's limit, which holds in any case.
    ///
    /// # Errors
    ///
    /// As [`memory`](Self::memory).
    pub fn pids(&mut self, pids: impl Into<Option<u32>>) -> &mut Self {
        self.setup.request.pids = pids.into();
        self
    }

    /// How long it may take from the call of [`output`](Self::output), [`status`](Self::status) or
    /// [`spawn`](Self::spawn) on; the 50 ms or so the engine needs to start it are in it. Then it is ended, with
    /// [`ExitStatus::TimedOut`]. Default: no limit.
    ///
    /// # What ends with it
    ///
    /// The exec API cannot end a single command. Its whole container is killed, the container is tainted
    /// ([`Taint::TimedOut`](crate::Taint::TimedOut)) and replaced when the guard is dropped. The agent (see
    /// [`ExecVia`](crate::ExecVia)) ends the command alone, with all it has started, and the container can be lent again.
    /// Where the agent gives no sign of life for a second then, its container is killed too: the processes in there may take
    /// all the time there is.
    /// So it is with [`output_limit`](Self::output_limit), with [`Child::kill`] and with a dropped [`Child`].
    pub fn timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.setup.timeout = timeout.into();
        self
    }

    /// How long it may go without printing anything, from its start or its last output until its end. Then it is ended, with
    /// [`ExitStatus::IdleTimedOut`]. A command that has closed its outputs prints nothing. Time in which its output waits
    /// for a reader does not count. Default: no limit.
    pub fn idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.setup.idle_timeout = timeout.into();
        self
    }

    /// Sets what happens when the command has printed as much as it may. Default: [`OnLimit::Kill`].
    pub fn on_limit(&mut self, on_limit: OnLimit) -> &mut Self {
        self.setup.on_limit = on_limit;
        self
    }

    /// How many bytes it may print on standard output, beside what [`output_limit`](Self::output_limit) says of both.
    /// Default: no limit of its own.
    pub fn stdout_limit(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.stdout_limit = bytes.into();
        self
    }

    /// How many bytes it may print on standard error, beside what [`output_limit`](Self::output_limit) says of both.
    /// Default: no limit of its own.
    pub fn stderr_limit(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.stderr_limit = bytes.into();
        self
    }

    /// How many bytes it may print, on standard output and standard error together. A command that prints more is ended,
    /// with [`ExitStatus::OutputLimit`]; what it printed up to the limit is kept. `None`: no limit. Default:
    /// [`DEFAULT_OUTPUT_LIMIT`](Self::DEFAULT_OUTPUT_LIMIT) for [`output`](Self::output) and for
    /// [`Child::wait_with_output`]; none for the streams of a [`Child`], whose reader decides how much it takes.
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
        let mut child = self.spawn_limited(limit, self.setup.outputs).await?;
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
        let nothing = Outputs::default();
        self.spawn_limited(None, nothing).await?.wait().await
    }

    /// Runs it, and gives its standard output as text if it ended with exit code 0.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output); [`Error::Command`] if it ended in any other way; [`Error::NotUtf8`].
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn output_string(&mut self) -> Result<String, Error> {
        let output = self.output().await?.check()?;
        String::from_utf8(output.stdout).map_err(|source| Error::NotUtf8 {
            container: output.container,
            source,
        })
    }

    /// Starts it, and gives its standard output line by line. Its standard error goes nowhere. Where
    /// [`stdout`](Self::stdout) is null, there are no lines.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output).
    pub async fn lines(&mut self) -> Result<OutputLines<'c>, Error> {
        let outputs = Outputs {
            stderr: false,
            ..self.setup.outputs
        };
        let child = self.spawn_limited(self.output_limit.flatten(), outputs).await?;
        Ok(OutputLines::new(child))
    }

    /// Runs it to its end and copies its outputs into two writers as they come. What a writer does not take holds up the
    /// command, not the memory. An output that is [`Stdio::null`] is not copied.
    ///
    /// # Errors
    ///
    /// As [`output`](Self::output); [`Error::CannotStart`]; [`Error::Write`] if a writer fails, which ends the command.
    ///
    /// # Cancel safety
    ///
    /// As [`output`](Self::output); what was written stays written.
    pub async fn run_to<O, E>(&mut self, stdout: &mut O, stderr: &mut E) -> Result<ExitStatus, Error>
    where
        O: AsyncWrite + Unpin + ?Sized,
        E: AsyncWrite + Unpin + ?Sized,
    {
        let mut child = self.spawn().await?;
        drop(child.stdin.take());
        shorthands::copy_outputs(&mut child, stdout, stderr).await?;
        child.wait().await
    }

    /// Starts it, and gives its streams.
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
        let child = self
            .spawn_limited(self.output_limit.flatten(), self.setup.outputs)
            .await?;
        Ok(match self.output_limit {
            Some(_) => child,
            None => child.collecting_at_most(Self::DEFAULT_OUTPUT_LIMIT),
        })
    }

    /// Leaves the command as it was, so that it can be run again.
    async fn spawn_limited(&self, limit: Option<u64>, outputs: Outputs) -> Result<Child<'c>, Error> {
        if let Some(problem) = self.problem() {
            return Err(Error::BadCommand(problem));
        }
        let mut request = self.setup.request.clone();
        // A terminal without input must be told so: nothing else ends it.
        let stdin = match &self.setup.stdin {
            Source::Null if request.tty.is_some() => Source::Bytes(Bytes::new()),
            stdin => stdin.clone(),
        };
        request.stdin = !matches!(stdin, Source::Null);
        request.env = unique(request.env);
        let setup = Setup {
            request,
            stdin,
            outputs,
            limit,
            ..self.setup
        };
        Child::start(self.container, setup).await
    }

    /// What the engine would fail on without saying so, or say in a way that looks like the program's own output.
    fn problem(&self) -> Option<FieldError> {
        let request = &self.setup.request;
        let mut texts = Vec::with_capacity(request.argv.len() + request.env.len() + 2);
        let mut total = 0;
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
        if let Some(i) = self.bad_name {
            return Some(FieldError::new(
                format!("env {i}"),
                "a name must not be empty nor contain '='",
            ));
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
            total += text.len() + ARG_OVERHEAD;
            if total > MAX_ARGS {
                let problem = format!("the arguments and the environment have more than {MAX_ARGS} bytes from here on");
                return Some(FieldError::new(field, problem));
            }
        }
        let limits = [("memory", request.memory), ("pids", request.pids.map(u64::from))];
        for (field, limit) in limits {
            let problem = match limit {
                None => continue,
                Some(0) => "must be at least 1",
                Some(_) if self.container.cgroups() != Cgroups::V2Writable => {
                    "commands have limits of their own only in containers with writable_cgroups()"
                }
                Some(limit) if i64::try_from(limit).is_err() => "must fit in 63 bits",
                Some(_) => continue,
            };
            return Some(FieldError::new(field, problem));
        }
        let program = &request.argv[0];
        if self.setup.env_clear
            && (program.contains('=') || program == "-")
            && !self.container.shared().ends_alone(request)
        {
            let problem = "must not contain '=' nor be '-' where the exec API runs it and env_clear() was called";
            return Some(FieldError::new("program", problem));
        }
        match request.current_dir.as_deref() {
            Some(dir) if !dir.starts_with('/') => Some(FieldError::new("current_dir", "must be an absolute path")),
            _ => None,
        }
    }
}

/// The last variable of each name, in the order of the names.
fn unique(vars: Vec<String>) -> Vec<String> {
    let name = |var: &str| var.split_once('=').map_or(var.len(), |(name, _)| name.len());
    let mut last = BTreeMap::new();
    for var in vars {
        last.insert(var[..name(&var)].to_owned(), var);
    }
    last.into_values().collect()
}
