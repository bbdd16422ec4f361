//! Calls about one command, and its end: [`ExecControl`].

use std::time::Duration;

#[cfg(doc)]
use super::EngineErrorKind;
use super::{BoxFuture, EngineError, TtySize};

/// Tells how much of the output has arrived at the end of a command's output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// All of the output has arrived.
    Whole,
    /// All of the output has arrived, unless a slow reader held it up: some time after the end of the command the engine
    /// drops output that is not read.
    GivenUp,
    /// Some of the output may be lost.
    Lost,
}

/// Asks the engine about one command, and controls it.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::ExecRequest;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::EngineError> {
/// # use dockerpool::engine::{Commands, Identity, Lifecycle, Plan};
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let id = engine.create(&Identity::new("box"), &Plan::new("any")).await?.id;
/// # engine.start(&id).await?;
/// # engine.on_exec(|_| dockerpool::testing::FakeProcess::forever());
/// let session = engine.exec(&id, &ExecRequest::new(["sleep", "60"])).await?;
/// assert_eq!(session.control.exit_code().await?, None); // it runs
/// engine.kill(&id).await?;
/// assert_eq!(session.control.exit_code().await?, Some(137)); // it ended with its container
/// # Ok(())
/// # }
/// ```
pub trait ExecControl: Send + Sync {
    /// Returns the exit code as the engine reports it, once the command has provably ended; `None` while it runs. Fails with
    /// [`EngineErrorKind::NotFound`] if the engine no longer knows the command (its container is gone).
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>>;

    /// Changes the size of the command's terminal.
    fn resize(&self, size: TtySize) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Completes when the command has ended, if the engine announces that. Else never completes, and the library polls
    /// [`exit_code`](Self::exit_code).
    fn ended(&self) -> BoxFuture<'_, ()>;

    /// Returns what the end of the output stream proves, once that end has come; [`StreamEnd::GivenUp`] if the engine proves
    /// nothing.
    fn stream_end(&self) -> StreamEnd;

    /// Returns the details beyond the exit code, once the command has ended. `None`: the engine has none.
    fn report(&self) -> Option<ExecReport>;

    /// Returns the part that ends this single command. `None`: a command can only be ended with its container.
    fn killing(&self) -> Option<&dyn Killing>;
}

/// Ends and signals a single command.
pub trait Killing: Send + Sync {
    /// Ends the command and its descendants, and no other process. Completes when all of them are proven to be dead.
    fn kill(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Sends the command's first process a signal. A no-op if that process has ended.
    fn signal(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Sends every process of the command a signal, its process group at once. A no-op if its first process has ended.
    fn signal_all(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Sends every process of the command a signal, as [`signal_all`](Self::signal_all) does, after which all of them should end.
    /// From now on the command counts as ended once none of them is left. A [`kill`](Self::kill) follows where that takes too long.
    fn stop(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Completes with the next sign of life from the program that does the [`kill`](Self::kill). If a kill is under way and
    /// no sign comes for a second, the library kills the container.
    fn sign_of_life(&self) -> BoxFuture<'_, ()>;
}

/// Describes how a command ended, and which resources it used, as the agent reports.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::engine::ExecReport;
///
/// // Tells whether a process of this command may have been killed for memory.
/// fn is_suspect(report: &ExecReport) -> bool {
///     report.killed_for_memory || report.oom_kills.is_none_or(|kills| kills > 0)
/// }
///
/// let mut report = ExecReport::default();
/// report.all_dead = true;
/// report.user = Duration::from_millis(120);
/// report.oom_kills = Some(1);
/// assert!(is_suspect(&report));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecReport {
    /// The signal that ended the command. `None`: it exited.
    pub signal: Option<i32>,
    /// Whether the command was ended at its time limit.
    pub at_deadline: bool,
    /// Whether no process is left of a command that was ended.
    pub all_dead: bool,
    /// Processor time in user mode, summed over the command's processes that a parent or PID 1 has waited for. Those are all
    /// processes of a command that was ended.
    pub user: Duration,
    /// Processor time in the kernel, of the same processes.
    pub system: Duration,
    /// The largest resident memory of one of these processes, in bytes.
    pub peak_memory: u64,
    /// How many processes of the container the kernel killed for memory during the command. `None`: not known.
    pub oom_kills: Option<u32>,
    /// Whether one of the [`oom_kills`](Self::oom_kills) was a process of the command itself.
    pub killed_for_memory: bool,
    /// Whether the command has used as much processor time as it may: see [`ExecRequest::cpu_time`](super::ExecRequest::cpu_time).
    pub cpu_time_used_up: bool,
    /// The most memory that the command and its descendants had at once, in bytes. `None`: not counted.
    pub total_peak_memory: Option<u64>,
    /// The most memory that the container had at once so far, in bytes. `None`: not counted.
    pub container_peak_memory: Option<u64>,
}
