//! The options that the commands of a container have where they set none: [`CommandDefaults`].

use std::time::Duration;

use crate::agent::ExecVia;
use crate::values::command_options::{CommandOptions, OnLimit};

/// Holds options for every command of a pool's containers, given to
/// [`command_defaults`](crate::ContainerSpec::command_defaults). Each setter is one of [`Command`](crate::Command)'s, where its
/// limits and errors are described.
///
/// A command's own setter wins. To take a default back for one command, call its setter with `None`:
/// `c.command("make").timeout(None)`. For [`on_limit`](Self::on_limit), name the other [`OnLimit`].
///
/// The defaults hold for commands alone, and not for calls on [files](crate::Container::files), nor for a
/// [supervised](crate::ContainerSpec::supervise_command) command. What else a command has comes from the container: the
/// [user](crate::ContainerSpec::user), the [directory](crate::ContainerSpec::working_dir) and the
/// [environment](crate::ContainerSpec::env).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::{CommandDefaults, ExitStatus, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("a long report"));
/// let defaults = CommandDefaults::new().timeout(Duration::from_secs(10)).output_limit(6);
/// let builder = Pool::builder("judge").image("python:3.12-alpine").command_defaults(defaults);
/// # let builder = builder.engine(std::sync::Arc::new(engine));
/// let pool = builder.build().await?;
/// let output = pool.acquire().await?.command("report").output().await?;
/// assert_eq!(output.status, ExitStatus::OutputLimit { limit: 6, is_default: false });
///
/// let output = pool.acquire().await?.command("report").output_limit(None).output().await?;
/// assert_eq!(output.stdout, b"a long report");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "defaults do nothing by themselves: give them to command_defaults()"]
pub struct CommandDefaults {
    pub(crate) options: CommandOptions,
}

impl CommandDefaults {
    /// Makes defaults that set nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the limit of a command's time: see [`Command::timeout`](crate::Command::timeout).
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.timeout = Some(timeout.into());
        self
    }

    /// Sets the limit of the time without output: see [`Command::idle_timeout`](crate::Command::idle_timeout).
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.options.idle_timeout = Some(timeout.into());
        self
    }

    /// Sets the limit of both outputs together, in bytes: see [`Command::output_limit`](crate::Command::output_limit).
    pub fn output_limit(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.options.output_limit = Some(bytes.into());
        self
    }

    /// Sets the limit of standard output, in bytes: see [`Command::stdout_limit`](crate::Command::stdout_limit).
    pub fn stdout_limit(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.options.stdout_limit = Some(bytes.into());
        self
    }

    /// Sets the limit of standard error, in bytes: see [`Command::stderr_limit`](crate::Command::stderr_limit).
    pub fn stderr_limit(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.options.stderr_limit = Some(bytes.into());
        self
    }

    /// Sets the action at an output limit: see [`Command::on_limit`](crate::Command::on_limit).
    pub fn on_limit(mut self, on_limit: OnLimit) -> Self {
        self.options.on_limit = Some(on_limit);
        self
    }

    /// Sets the limit of processor time: see [`Command::cpu_time`](crate::Command::cpu_time).
    pub fn cpu_time(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.options.cpu_time = Some(time.into());
        self
    }

    /// Sets the limit of memory, in bytes: see [`Command::memory`](crate::Command::memory). If it is too small for a program to be
    /// executed, each command fails with [`Error::CannotStart`](crate::Error::CannotStart) or ends with
    /// [`ExitStatus::Signaled(11)`](crate::ExitStatus::Signaled).
    pub fn memory(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.options.memory = Some(bytes.into());
        self
    }

    /// Sets the limit of processes and threads: see [`Command::processes`](crate::Command::processes).
    pub fn processes(mut self, processes: impl Into<Option<u32>>) -> Self {
        self.options.processes = Some(processes.into());
        self
    }

    /// Sets the limit of the size of a file, in bytes: see [`Command::file_size`](crate::Command::file_size).
    pub fn file_size(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.options.file_size = Some(bytes.into());
        self
    }

    /// Reports a limit that no command can have, and limits that need the agent where commands are not run by it.
    pub(super) fn check(&self, via: ExecVia, bad: &mut impl FnMut(&str, &str)) {
        const FIELD: &str = "command_defaults";
        if let Some((name, problem)) = self.options.problem() {
            bad(FIELD, &format!("{name}: {problem}"));
        }
        if let (ExecVia::Docker, Some(name)) = (via, self.options.for_agent().next()) {
            bad(FIELD, &format!("{name}: needs the agent, see exec_via()"));
        }
    }
}
