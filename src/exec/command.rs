//! Building a command: [`Command`].

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::time::Duration;

use super::setup::Setup;
use super::stdio::{Source, Stdio};
use crate::agent::Role;
use crate::container::{Container, Running};
use crate::engine::TtySize;
use crate::values::command_options::OnLimit;

/// A command to be run in a container, built like `tokio::process::Command`.
///
/// [`Container::command`](crate::Container::command) begins a command that borrows its container: neither the command nor
/// its [`Child`](crate::Child) outlives the lease. [`Command::new`] begins a command without a container, which only
/// [`spawn_owned`](Self::spawn_owned) runs.
///
/// Running a command leaves it as it was: it can be run again, in the same way or another, with the same standard input.
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
///
/// Without a container, a command cannot be run in a way that needs to borrow one:
///
/// ```compile_fail,E0599
/// # async fn example() -> Result<(), dockerpool::Error> {
/// dockerpool::Command::new("true").output().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Beside `tokio::process::Command`
///
/// | there | here |
/// |---|---|
/// | `new` | [`Container::command`](crate::Container::command) names the container; [`Command::new`] is for [`Command::spawn_owned`] |
/// | `arg`, `args`, `env`, `envs`, `env_clear`, `current_dir` | the same; texts are UTF-8, as in the engine's API, and others are refused |
/// | `stdin`, `stdout`, `stderr` | the same, with a [`Stdio`] of the library's own: `null`, `piped`, `bytes`. Nothing is inherited and no file is passed, since the command runs elsewhere; outputs are piped by default |
/// | `spawn`, `status`, `output` | the same names; `status` drops the output, and `output` is limited to [16 MiB](Command::DEFAULT_OUTPUT_LIMIT) where no limit is set |
/// | futures of `output`, `status` | they borrow the command, and nothing begins before they are polled. To hold one, e.g. for `tokio::join!`, bind the command to a name first: `let mut sh = c.command("sh");` |
/// | `uid`, `gid` | [`Command::user`], by name or number |
/// | `kill_on_drop` | always so; [`Child::detach`](crate::Child::detach) lets a command go on until the lease ends, which finds it by [`Container::commands`](crate::Container::commands) |
/// | `env_remove` | none: neither the exec API nor the agent removes one variable; use [`Command::env_clear`] |
/// | `arg0`, `raw_arg`, `process_group`, `pre_exec`, `creation_flags` | none: the engine's API has nothing like them. The agent ends a command with everything that it has started, whatever its process group |
/// | `as_std`, `into_std`, `spawn_with` | none: a command is not a process of this machine |
#[derive(Debug)]
#[must_use = "a command does nothing until output(), status() or spawn()"]
pub struct Command<'c, C = &'c Container<Running>> {
    pub(super) container: C,
    pub(super) setup: Setup,
    lease: PhantomData<&'c ()>,
}

impl<'c> Command<'c> {
    /// How much the library collects where [`output_limit`](Self::output_limit) sets nothing, in bytes: 16 MiB. Holds for
    /// [`output`](Self::output), [`output_string`](Self::output_string) and
    /// [`Child::wait_with_output`](crate::Child::wait_with_output).
    pub const DEFAULT_OUTPUT_LIMIT: u64 = 16 << 20;

    pub(super) fn in_container(container: &'c Container<Running>, program: String) -> Self {
        Self {
            container,
            setup: Setup::new(program),
            lease: PhantomData,
        }
    }
}

impl Command<'static, ()> {
    /// Begins a command without a container, for [`spawn_owned`](Self::spawn_owned).
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            container: (),
            setup: Setup::new(program.into()),
            lease: PhantomData,
        }
    }
}

impl<C> Command<'_, C> {
    /// Adds an argument: a text, or a path.
    ///
    /// # Errors
    ///
    /// The calls that run the command give [`Error::BadCommand`](crate::Error::BadCommand) for an argument that has NUL in it, is not
    /// UTF-8 (the engine's API takes no other) or is too long.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.setup.add_arg(arg.as_ref());
        self
    }

    /// Adds arguments, each as [`arg`](Self::arg) does.
    pub fn args<I, A>(&mut self, args: I) -> &mut Self
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Sets an environment variable, over the container's own.
    ///
    /// # Errors
    ///
    /// The calls that run the command give [`Error::BadCommand`](crate::Error::BadCommand) for what a builder's `env` refuses too: a
    /// name that is empty or has `=` in it, and NUL in either.
    pub fn env(&mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> &mut Self {
        self.setup.add_env(name.as_ref(), value.as_ref());
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

    /// Adds the variables that only the container's own command has: see
    /// [`ContainerSpec::server_env`](crate::ContainerSpec::server_env). A client of the server then knows its password. Variables of
    /// the lease, and those of this command, come before them. Without such variables nothing is added.
    pub fn server_env(&mut self) -> &mut Self {
        self.setup.with_server_env = true;
        self
    }

    /// Leaves out the container's environment: the command has only the variables that [`env`](Self::env) sets, before this call
    /// or after.
    ///
    /// By the agent, a program that is named without a path is looked for on the `PATH` that is set, or else on the
    /// container's.
    ///
    /// The exec API cannot take variables away, so the container's own `env -i` runs the command there. A program that does not
    /// exist then gives exit code 127 and the words of `env`, not [`Error::CannotStart`](crate::Error::CannotStart). Unless
    /// `PATH` is set, the program is found only by its path or where that `env` looks by itself. A program with a `=` in its
    /// name or path, and a program named `-`, gives [`Error::BadCommand`](crate::Error::BadCommand), since `env` would take it
    /// for something else.
    pub fn env_clear(&mut self) -> &mut Self {
        self.setup.role = Role::CommandWithoutEnv;
        self
    }

    /// Sets the working directory, an absolute path. Default: the container's.
    pub fn current_dir(&mut self, dir: impl Into<String>) -> &mut Self {
        self.setup.request.current_dir = Some(dir.into());
        self
    }

    /// Sets the user: `user[:group]`, by name or number. Default: the container's.
    pub fn user(&mut self, user: impl Into<String>) -> &mut Self {
        self.setup.request.user = Some(user.into());
        self
    }

    /// Sets the standard input: [`Stdio::null`], the default, [`Stdio::piped`], or text or bytes.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.setup.stdin = stdin.into().source;
        self
    }

    /// Sets where the standard output goes: [`Stdio::piped`], the default, or [`Stdio::null`].
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.setup.outputs.stdout = !matches!(stdout.into().source, Source::Null);
        self
    }

    /// Sets where the standard error goes: [`Stdio::piped`], the default, or [`Stdio::null`].
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.setup.outputs.stderr = !matches!(stderr.into().source, Source::Null);
        self
    }

    /// Gives the command a terminal of this size, in characters, in place of pipes. Both outputs then come as standard output,
    /// with the terminal's line ends and its echo of the input; see [`Child::resize`](crate::Child::resize).
    ///
    /// # Input
    ///
    /// The library types the end of standard input as control-D (byte 4), also where standard input is [`Stdio::null`], the
    /// default. Where the last line is unfinished, control-D is typed twice, since the first one only hands the line over. The
    /// terminal stays open.
    ///
    /// As at any terminal:
    ///
    /// - Control-D ends one reading to the end, and not the next one.
    /// - A program that has switched the terminal to raw mode reads the byte.
    /// - A program that discards earlier input discards the end too.
    /// - Of a line of more than 4095 bytes the rest is lost, unless the terminal is in raw mode.
    /// - Control-C (byte 3) interrupts the program in the foreground.
    ///
    /// # Errors
    ///
    /// The kernel limits the terminals of the whole machine (`kernel.pty.max`, mostly 4096). Where none is left, a command that
    /// the agent runs gives [`Error::Engine`](crate::Error::Engine), and the container is replaced; a command that the exec API
    /// runs gives [`Error::CannotStart`](crate::Error::CannotStart).
    ///
    /// # Security
    ///
    /// Over a connection of the caller's own (`DockerEngine::from_bollard`), output
    /// that begins with a byte of 2 or less is misread as frames of a length that the container chooses. Do not give a terminal
    /// to programs that you do not trust there.
    pub fn tty(&mut self, rows: u16, cols: u16) -> &mut Self {
        self.setup.request.tty = Some(TtySize { rows, cols });
        self
    }

    /// Limits the processor time that the command and everything it starts use together, in user mode and in the kernel. A command
    /// that has used it is ended with all of its processes, with [`ExitStatus::CpuTime`](crate::ExitStatus::CpuTime). Default: no
    /// limit but the container's [`ulimit("cpu", …)`](crate::ContainerSpec::ulimit).
    ///
    /// # Promises
    ///
    /// - No program can catch the end, and none is warned by SIGXCPU.
    /// - What was used decides, and not who came first: a command whose [`Usage`](crate::Usage) shows as much has this status, also
    ///   where it ended by itself just then, and no command has it that has used less.
    /// - The end itself may come later. The agent adds up the time of all processes, the next time when the rest can be used up at
    ///   the earliest, but not more often than every 10 ms. If the agent does not get to run, the kernel kills each process
    ///   that has by itself used more than the limit, in whole seconds, and one second (`RLIMIT_CPU`).
    /// - With [writable control groups](crate::ContainerSpec::writable_cgroups) every process counts. Otherwise these do not: processes
    ///   that have ended under a parent that ignores SIGCHLD, and, while other commands run or have left processes, those
    ///   that have left both their parents and the command's session.
    ///
    /// The limit ends with the command, that is, with the end of its first process: processes that it leaves in the background go on
    /// without the limit until the lease ends.
    ///
    /// Waiting costs no processor time: set a [`timeout`](Self::timeout) too.
    ///
    /// # Errors
    ///
    /// The calls that run the command give [`Error::BadCommand`](crate::Error::BadCommand) for 0, and
    /// [`Error::Unsupported`](crate::Error::Unsupported) where the [agent](crate::ExecVia) does not run the command. No limit is
    /// silently ignored.
    pub fn cpu_time(&mut self, time: impl Into<Option<Duration>>) -> &mut Self {
        self.setup.options.cpu_time = Some(time.into());
        self
    }

    /// Limits the memory of the command, in bytes. Default: the container's limit, which holds in any case.
    ///
    /// # Promises
    ///
    /// - With [writable control groups](crate::ContainerSpec::writable_cgroups) the limit is one of all memory that the command and
    ///   everything it starts have together, without swap. Files in memory (`tmpfs`) and the page cache count. The kernel
    ///   kills a process of the command that would go beyond, which gives
    ///   [`ExitStatus::OutOfMemory`](crate::ExitStatus::OutOfMemory).
    /// - Otherwise the limit is one of the addresses of each process (`RLIMIT_AS`): no process ever has more memory mapped, but *n*
    ///   processes may have *n* times as much, see [`processes`](Self::processes), and files in memory do not count. Beyond
    ///   the limit an allocation fails (`ENOMEM`), and the program decides about its end. The kernel does not tell, so the status is
    ///   the program's own: `Exited(1)` after Python's `MemoryError`, [`Signaled`](crate::ExitStatus::Signaled) where C aborts.
    ///   Programs that reserve far more addresses than they use (Java, Node.js, Go) do not start under a limit of what they need.
    ///
    /// A process with `CAP_SYS_RESOURCE`, which containers have only by [`cap_add`](crate::ContainerSpec::cap_add), can raise a limit
    /// of the second kind. [`Container::cgroups`](crate::Container::cgroups) tells which kind it is.
    ///
    /// # Errors
    ///
    /// As [`cpu_time`](Self::cpu_time); also for more than 2⁶³ - 1. [`Error::CannotStart`](crate::Error::CannotStart) for a program
    /// that cannot even be executed within the limit (seen with 1 MiB and less). Where the kernel notices this only after it has
    /// replaced the program of the process, it ends the process by SIGSEGV, and the status is
    /// [`ExitStatus::Signaled(11)`](crate::ExitStatus::Signaled).
    pub fn memory(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.options.memory = Some(bytes.into());
        self
    }

    /// Limits the processes and threads of the command. Beyond the limit no process can be started: `fork` and `clone` fail with
    /// `EAGAIN`, the program decides what follows, and the status is its own. Default: the container's limit, which holds in any case.
    ///
    /// # Promises
    ///
    /// - With [writable control groups](crate::ContainerSpec::writable_cgroups) the limit is one of the command and everything it
    ///   starts.
    /// - Otherwise the kernel counts all processes that the command's user has on the engine's machine (`RLIMIT_NPROC`), those of
    ///   other containers too. The command never has more, and may have fewer. Where the user has more already, no process can be
    ///   started, or the command itself fails with [`Error::CannotStart`](crate::Error::CannotStart). Give each container a
    ///   [`user`](Self::user) of its own. The kernel does not limit root: see the errors.
    ///
    /// # Errors
    ///
    /// As [`cpu_time`](Self::cpu_time). [`Error::CannotStart`](crate::Error::CannotStart), before the program is executed, where the
    /// kernel does not limit the processes of the command's user: for root, and in runtimes such as gVisor.
    pub fn processes(&mut self, processes: impl Into<Option<u32>>) -> &mut Self {
        self.setup.options.processes = Some(processes.into());
        self
    }

    /// Limits the size of each file that the command and everything it starts write, in bytes (`RLIMIT_FSIZE`). Pipes, sockets and
    /// terminals are no files; files in memory are. Default: no limit but the container's
    /// [`ulimit("fsize", …)`](crate::ContainerSpec::ulimit).
    ///
    /// # Promises
    ///
    /// - No file becomes larger by the command. There may be many files: a [`tmpfs`](crate::ContainerSpec::tmpfs) of a given size
    ///   bounds all of them.
    /// - The kernel writes up to the limit, and then ends the process by SIGXFSZ. If that is the command's first process, the
    ///   status is [`ExitStatus::FileSize`](crate::ExitStatus::FileSize). A shell whose child ended so exits with 153.
    /// - A program that ignores or catches SIGXFSZ gets `EFBIG` and goes on, and the status is its own. Python ignores it, and
    ///   raises `OSError`.
    ///
    /// # Errors
    ///
    /// As [`memory`](Self::memory).
    pub fn file_size(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.options.file_size = Some(bytes.into());
        self
    }

    /// Limits the time from the call that runs the command, such as [`output`](Command::output) or [`spawn`](Command::spawn), to
    /// its end. The 50 ms or so that the engine needs to start the command are included. At the limit the command is ended, with
    /// [`ExitStatus::TimedOut`](crate::ExitStatus::TimedOut). Default: no limit.
    ///
    /// The limit is one of the clock's time. [`cpu_time`](Self::cpu_time) limits the processor time.
    ///
    /// # What ends with it
    ///
    /// - The exec API cannot end a single command. The whole container is killed and tainted
    ///   ([`Taint::TimedOut`](crate::Taint::TimedOut)), and is replaced when the guard is dropped.
    /// - The agent (see [`ExecVia`](crate::ExecVia)) ends the command alone, with everything the command has started, and the
    ///   container can be lent again. If the agent gives no sign of life for a second, its container is killed: the processes
    ///   in it may take all processor time.
    ///
    /// The same holds for [`output_limit`](Self::output_limit), for [`Child::kill`](crate::Child::kill) and for a dropped
    /// [`Child`](crate::Child).
    pub fn timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.setup.options.timeout = Some(timeout.into());
        self
    }

    /// Limits the time without output, from the start or the last output to the end of the command. At the limit the command is
    /// ended, with [`ExitStatus::IdleTimedOut`](crate::ExitStatus::IdleTimedOut). A command that has closed its outputs prints
    /// nothing. Time in which output waits for its reader does not count. Default: no limit.
    pub fn idle_timeout(&mut self, timeout: impl Into<Option<Duration>>) -> &mut Self {
        self.setup.options.idle_timeout = Some(timeout.into());
        self
    }

    /// Sets the action at an output limit. Default: [`OnLimit::Kill`].
    pub fn on_limit(&mut self, on_limit: OnLimit) -> &mut Self {
        self.setup.options.on_limit = Some(on_limit);
        self
    }

    /// Limits standard output, in bytes, beside the [`output_limit`](Self::output_limit) of both outputs, whose default of 16 MiB
    /// stays where output is collected. Default: no limit of its own.
    pub fn stdout_limit(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.options.stdout_limit = Some(bytes.into());
        self
    }

    /// Limits standard error, in bytes, beside the [`output_limit`](Self::output_limit) of both outputs. Default: no limit.
    pub fn stderr_limit(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.options.stderr_limit = Some(bytes.into());
        self
    }

    /// Limits standard output and standard error together, in bytes. A command that prints more is ended, with
    /// [`ExitStatus::OutputLimit`](crate::ExitStatus::OutputLimit); the output up to the limit is kept. `None`: no limit.
    ///
    /// Default: [`DEFAULT_OUTPUT_LIMIT`](Command::DEFAULT_OUTPUT_LIMIT), 16 MiB, where the library collects the output
    /// ([`output`](Command::output), [`Child::wait_with_output`](crate::Child::wait_with_output)); no limit for the streams of
    /// a [`Child`](crate::Child), whose reader decides how much it takes.
    pub fn output_limit(&mut self, bytes: impl Into<Option<u64>>) -> &mut Self {
        self.setup.options.output_limit = Some(bytes.into());
        self
    }
}
