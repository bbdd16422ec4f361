//! How a command ended, what it printed and what it used.

use std::fmt;
use std::time::Duration;

use super::shown::{Beginning, Bytes};
use super::subject::Subject;
use super::why_gone::WhyGone;

/// Tells how a command ended.
///
/// By the exec API, a program that was killed by signal *n* and a program that exits with code 128 + *n* look the same: both are
/// [`Signaled`](Self::Signaled). The agent distinguishes them. A shell exits with 128 + *n* when its last command was killed.
///
/// # Examples
///
/// ```
/// use dockerpool::ExitStatus;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(2));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let verdict = match c.command("python3").arg("answer.py").status().await? {
///     ExitStatus::Exited(0) => "accepted",
///     ExitStatus::TimedOut | ExitStatus::CpuTime => "time limit exceeded",
///     ExitStatus::OutOfMemory { .. } => "memory limit exceeded",
///     ExitStatus::OutputLimit { .. } => "output limit exceeded",
///     ExitStatus::Exited(_) | ExitStatus::Signaled(_) => "runtime error",
///     // The program's own end is not known. Hostile code can bring this about too: bound how often a program is judged again.
///     _ => "judge again",
/// };
/// assert_eq!(verdict, "runtime error");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a command that failed is not an Err: look at the status"]
#[non_exhaustive]
pub enum ExitStatus {
    /// The command ended by itself with this exit code.
    Exited(i32),
    /// The command was ended by this signal, which the kernel (e.g. SIGSEGV, SIGXCPU) or a process of the container sent.
    Signaled(i32),
    /// The command ended by itself with this exit code (128 + *n* for signal *n*), and the end of its output did not come: its last
    /// output may be missing. This is no [`success`](Self::success), whatever the code is.
    ///
    /// Only the end of the engine's stream proves that an output is whole. The library waits for that end until nothing has come
    /// for five seconds, and for at most 30 seconds in all. Docker ends the stream at most two seconds after the command, also
    /// where a background process holds the output, and discards output that was not read by then. So a slow reader gets this
    /// status as well. A relay between the library and the engine may withhold the end. A relay that closes the stream too early
    /// looks the same as the engine. Podman says of some commands that leave input unread that it lost the end.
    Incomplete(i32),
    /// The command reached its time limit and was killed; by the exec API its container was killed as well.
    TimedOut,
    /// The command printed nothing for the length of its idle timeout, and was killed as at its time limit.
    IdleTimedOut,
    /// The command printed more than an output limit, and was killed as at its time limit.
    OutputLimit {
        /// The limit that was reached, in bytes.
        limit: u64,
        /// Whether that was [`Command::DEFAULT_OUTPUT_LIMIT`](crate::Command::DEFAULT_OUTPUT_LIMIT), which holds where no limit
        /// was set: see [`Command::output_limit`](crate::Command::output_limit).
        is_default: bool,
    },
    /// The processes of the command have used as much processor time as [`Command::cpu_time`](crate::Command::cpu_time) allows.
    /// The command was killed for that, or ended by itself just then: what was used decides, and not who came first.
    CpuTime,
    /// The command's first process wrote beyond [`Command::file_size`](crate::Command::file_size), and the kernel ended it by SIGXFSZ.
    FileSize,
    /// The kernel killed the command, or a process that the command had started, because a memory limit was reached. The command
    /// itself may have gone on and ended well, as a shell does when a member of a pipeline is killed: `exit` tells.
    ///
    /// A command has this status if one of its own processes was killed, never for a process of another command. Where that
    /// cannot be decided, the command has the status of its own end, and the container is tainted or [`Usage::oom_kills`]
    /// counts the kill.
    ///
    /// - By the agent: known for the command's first process, for a shell that returns its child's end as its own, and for every
    ///   process that had lost its parent. A process that another process waited for counts as the command's if no other
    ///   command had a process in the container meanwhile.
    /// - With [writable control groups](crate::ContainerSpec::writable_cgroups): exact, since the kernel counts for each command.
    /// - By the exec API: the engine's event names the container only. A command that ended by SIGKILL, or whose shell reports
    ///   that, counts as the one that was killed. Any other command counts if it was the only one at that time, in a container
    ///   of a pool, and no command of an earlier lease, which could have left a process behind, has run there.
    ///
    /// If the kernel kills PID 1 as well, the container is gone. Then what the agent and the engine's events have told of kills
    /// decides: a command that was alone has this status, and several have
    /// [`ContainerGone`](Self::ContainerGone) with [`WhyGone::OutOfMemory`].
    OutOfMemory {
        /// The exit code of the command's first process. `None`: a signal ended it, or it ended with its container.
        exit: Option<i32>,
    },
    /// The container ended or was removed while the command ran.
    ContainerGone {
        /// The cause, as far as it is known.
        why: WhyGone,
    },
    /// [`Child::kill`](crate::Child::kill) ended the command, or [`Child::stop`](crate::Child::stop) when its grace was over.
    Killed,
    /// The end is not known: the engine stopped answering, or its answers make no sense. The command may have run to its end. Its
    /// output may be cut.
    Unknown,
}

impl ExitStatus {
    /// Returns whether the command ended by itself with exit code 0, and all of its output came.
    pub fn success(&self) -> bool {
        *self == Self::Exited(0)
    }

    /// Returns the exit code, if the command ended by itself and all of its output came. The code of a command that lost a process
    /// for memory is in [`OutOfMemory`](Self::OutOfMemory) alone.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(*code),
            _ => None,
        }
    }

    /// Returns the signal, if one of the kernel's or of a process of the container's ended the command.
    pub fn signal(&self) -> Option<i32> {
        match self {
            Self::Signaled(signal) => Some(*signal),
            _ => None,
        }
    }

    /// Returns whether the kernel killed a process of the command for memory, whatever the command's own end was.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. })
    }

    /// Returns whether the container ended while the command ran, for whatever cause.
    pub fn is_container_gone(&self) -> bool {
        matches!(self, Self::ContainerGone { .. })
    }

    /// Returns whether the end is not known.
    pub fn is_unknown(&self) -> bool {
        *self == Self::Unknown
    }

    /// Returns the status of the same end with an output that is whole, or not known to be.
    pub(crate) fn with_output(self, is_whole: bool) -> Self {
        match self {
            Self::Exited(code) if !is_whole => Self::Incomplete(code),
            Self::Signaled(signal) if !is_whole => Self::Incomplete(128 + signal),
            other => other,
        }
    }

    /// Translates an engine's exit code of a command that ended by itself.
    pub(crate) fn from_engine_code(code: i64) -> Self {
        match code {
            // Linux has the signals 1 to 64.
            129..=192 => Self::Signaled((code - 128) as i32),
            // A process has eight bits for it.
            _ => u8::try_from(code).map_or(Self::Unknown, |code| Self::Exited(code.into())),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited {code}"),
            Self::Signaled(signal) => write!(f, "signaled {signal}"),
            Self::Incomplete(code) => write!(f, "exited {code} with the end of its output missing"),
            Self::TimedOut => f.write_str("timed out"),
            Self::IdleTimedOut => f.write_str("idle timed out"),
            Self::OutputLimit {
                limit,
                is_default: false,
            } => write!(f, "output limit of {}", Bytes(*limit)),
            Self::OutputLimit {
                limit,
                is_default: true,
            } => write!(f, "default output limit of {}", Bytes(*limit)),
            Self::CpuTime => f.write_str("out of processor time"),
            Self::FileSize => f.write_str("file size limit"),
            Self::OutOfMemory { .. } => f.write_str("out of memory"),
            Self::ContainerGone { why } => write!(f, "container gone: {why}"),
            Self::Killed => f.write_str("killed"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Holds how a command ended and what it had printed by then, whatever the end was. `Debug` shows the first 256 bytes of each
/// stream.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stdout("a\nb\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let output = c.command("ls").output().await?.check()?;
/// assert_eq!(output.stdout_lossy().lines().collect::<Vec<_>>(), ["a", "b"]);
/// assert!(output.stderr.is_empty() && !output.truncated);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a command that failed is not an Err: look at the status, or use check()"]
pub struct Output {
    /// How the command ended.
    pub status: ExitStatus,
    /// What the command wrote to standard output.
    pub stdout: Vec<u8>,
    /// What the command wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether the command printed more than `stdout` and `stderr` hold, because a limit was reached.
    pub truncated: bool,
    /// Whether the end of the output may be missing, because the end of the engine's stream did not come: see
    /// [`ExitStatus::Incomplete`]. Also set for some commands that were killed.
    pub incomplete: bool,
    /// What the command used.
    pub usage: Usage,
    pub(crate) subject: Subject,
    /// The limit of time at which the command was killed.
    pub(crate) time_limit: Option<Duration>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            status,
            stdout,
            stderr,
            truncated,
            incomplete,
            usage,
            subject,
            time_limit: _,
        } = self;
        f.debug_struct("Output")
            .field("status", status)
            .field("stdout", &Beginning(stdout))
            .field("stderr", &Beginning(stderr))
            .field("truncated", truncated)
            .field("incomplete", incomplete)
            .field("usage", usage)
            .field("subject", subject)
            .finish()
    }
}

impl Output {
    /// Returns standard output as text; bytes that are no UTF-8 are replaced.
    pub fn stdout_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Returns standard error as text; bytes that are no UTF-8 are replaced.
    pub fn stderr_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

/// Counts the time and the memory that a command used.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let output = c.command("sort").arg("numbers").output().await?;
/// println!("took {} ms", output.usage.wall.as_millis());
/// # assert!(!output.usage.wall.is_zero());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// The time from the request to the known end, as this process sees it. The engine's own time is included.
    pub wall: Duration,
    /// Processor time in user mode. Counts the processes of the command that have ended and that their parent, or PID 1, has
    /// waited for. If the command was killed, that is every process of it, except those that had ended before under a parent
    /// that ignores `SIGCHLD`. With [writable control groups](crate::ContainerSpec::writable_cgroups) every process of the
    /// command counts, whatever became of it. `None`: not known. Only the agent tells the time, see [`ExecVia`](crate::ExecVia); the same
    /// holds for the following fields.
    pub user: Option<Duration>,
    /// Processor time in the kernel, of the same processes.
    pub system: Option<Duration>,
    /// The largest resident memory of one of these processes, in bytes.
    pub peak_memory: Option<u64>,
    /// How many processes of the container the kernel killed for memory while the command ran.
    pub oom_kills: Option<u32>,
    /// The most memory that the command and everything it has started had at once, in bytes. What the kernel counts for a
    /// control group is in it: files in memory and the page cache too. `None` unless the container has
    /// [writable control groups](crate::ContainerSpec::writable_cgroups) and its kernel tells (`memory.peak`, Linux 5.19).
    pub total_peak_memory: Option<u64>,
    /// The most memory that the container had at once, from its start until the command's end, in bytes, counted in the same
    /// way: earlier commands and leases are in it. `None` where the kernel does not tell the container's agent.
    pub container_peak_memory: Option<u64>,
}

impl Usage {
    /// Returns the processor time in both modes together: [`user`](Self::user) and [`system`](Self::system). `None`: not known.
    pub fn cpu_time(&self) -> Option<Duration> {
        Some(self.user? + self.system?)
    }

    pub(crate) const fn of_wall(wall: Duration) -> Self {
        Self {
            wall,
            user: None,
            system: None,
            peak_memory: None,
            oom_kills: None,
            total_peak_memory: None,
            container_peak_memory: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_codes_become_exits_and_signals() {
        for (code, status) in [
            (0, ExitStatus::Exited(0)),
            (3, ExitStatus::Exited(3)),
            (128, ExitStatus::Exited(128)),
            (129, ExitStatus::Signaled(1)),
            (137, ExitStatus::Signaled(9)),
            (192, ExitStatus::Signaled(64)),
            (193, ExitStatus::Exited(193)),
            (255, ExitStatus::Exited(255)),
            (256, ExitStatus::Unknown),
            (-1, ExitStatus::Unknown),
            (i64::MAX, ExitStatus::Unknown),
        ] {
            assert_eq!(ExitStatus::from_engine_code(code), status, "{code}");
        }
    }
}
