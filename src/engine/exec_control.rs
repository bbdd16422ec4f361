//! Questions about one command, and its end: [`ExecControl`].

use std::time::Duration;

#[cfg(doc)]
use super::EngineErrorKind;
use super::{BoxFuture, EngineError, TtySize};

/// Tells what the end of a command's output stream proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEnd {
    /// All of the output has come.
    Whole,
    /// All of it has come, unless a reader has held it up: the engine gives up, some time after the end of the command, what
    /// is not taken.
    GivenUp,
    /// Some of it may be lost.
    Lost,
}

/// Asks the engine about one command, and tells it what can be told.
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
    /// The exit code as the engine gives it, when the command has provably ended; `None` while it runs.
    /// [`EngineErrorKind::NotFound`] when the engine no longer knows the command (its container is gone).
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>>;

    /// Gives the command's terminal another size.
    fn resize(&self, size: TtySize) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Comes when the command has ended, where the engine tells that; else it never comes, and the command is asked about.
    fn ended(&self) -> BoxFuture<'_, ()>;

    /// Returns what the end of the output stream proves, once that has come. [`StreamEnd::GivenUp`] where nothing is known.
    fn stream_end(&self) -> StreamEnd;

    /// Returns what is known beyond the exit code, once the command has ended. `None` where nothing is known.
    fn report(&self) -> Option<ExecReport>;

    /// Returns the part that ends this single command. `None`: a command ends with its container.
    fn killing(&self) -> Option<&dyn Killing>;
}

/// Ends and signals a single command.
pub trait Killing: Send + Sync {
    /// Ends the command with all it has started, and nothing else; comes when all of that is proven to be dead.
    fn kill(&self) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Sends the command's first process a signal. One that has ended gets none.
    fn signal(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>>;

    /// Comes with the next sign of life from the program that does the [`kill`](Self::kill). Where a command is to end and no
    /// sign has come for a second, its container is killed.
    fn sign_of_life(&self) -> BoxFuture<'_, ()>;
}

/// How a command ended, and what it used, as the agent tells it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::engine::ExecReport;
///
/// // Whether a kill for memory may have been a process of this command.
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
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The command was ended at its time limit.
    pub at_deadline: bool,
    /// Nothing of it is left, for one that was ended.
    pub all_dead: bool,
    /// Processor time in user mode, of all its processes that were waited for, by it, by each other or by PID 1. Those are
    /// all of them, for one that was ended.
    pub user: Duration,
    /// Processor time in the kernel.
    pub system: Duration,
    /// The largest resident memory of one of these processes, in bytes.
    pub peak_memory: u64,
    /// How many processes of the container the kernel killed for memory meanwhile, if it tells.
    pub oom_kills: Option<u32>,
    /// One of those was the command's own.
    pub killed_for_memory: bool,
    /// The most memory that it and all it has started had at once, in bytes, if that is counted.
    pub total_peak_memory: Option<u64>,
    /// The most memory that its container had at once so far, in bytes, if that is counted.
    pub container_peak_memory: Option<u64>,
}
