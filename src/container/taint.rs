//! Facts that forbid lending a container again: [`Taint`].

use std::sync::atomic::{AtomicU8, Ordering};

/// A fact that forbids lending a container again. The first one is kept, but [`OutOfMemory`](Self::OutOfMemory) takes the place of
/// [`Died`](Self::Died), which it explains. A tainted container still runs commands, if it runs, and is removed and replaced when
/// its lease ends.
///
/// # Which outcomes leave a container usable
///
/// *Usable* means for further commands of the same lease. A container without a taint can be lent again as well.
///
/// | outcome of a command | by the [agent](crate::ExecVia) | by the exec API |
/// |---|---|---|
/// | [`Exited`](crate::ExitStatus::Exited), [`Signaled`](crate::ExitStatus::Signaled), [`Incomplete`](crate::ExitStatus::Incomplete) | usable | usable |
/// | [`FileSize`](crate::ExitStatus::FileSize), [`CpuTime`](crate::ExitStatus::CpuTime) | usable | there is none: the limits need the agent |
/// | [`TimedOut`](crate::ExitStatus::TimedOut), [`IdleTimedOut`](crate::ExitStatus::IdleTimedOut), [`OutputLimit`](crate::ExitStatus::OutputLimit), [`Killed`](crate::ExitStatus::Killed), a `Child` or a future that was dropped | usable: the command ends alone. If that cannot be proven, or the agent is silent for a second, the container is killed | not usable: the container is killed, with a taint for the reason |
/// | [`OutOfMemory`](crate::ExitStatus::OutOfMemory) | usable unless PID 1 was killed too; tainted | the same |
/// | [`ContainerGone`](crate::ExitStatus::ContainerGone) | not usable | not usable |
/// | [`Unknown`](crate::ExitStatus::Unknown) | not usable: the container is killed | the same |
/// | [`Error::BadCommand`](crate::Error::BadCommand), [`Error::Unsupported`](crate::Error::Unsupported) | usable: nothing was done | usable |
/// | [`Error::CannotStart`](crate::Error::CannotStart) | usable; tainted as [`Broken`](Self::Broken) if the reason lies in the container | the same |
/// | [`Error::ContainerGone`](crate::Error::ContainerGone) | not usable | not usable |
/// | [`Error::Engine`](crate::Error::Engine) | usable if the engine has refused the command; else tainted, and mostly of no use: [`Exhausted`](Self::Exhausted) passes when processes of the container end | the same |
///
/// What other commands of the lease did at that time goes on where the container is usable. The library's own taints
/// ([`Panicked`](Self::Panicked), [`LeaseExpired`](Self::LeaseExpired)) come with the end of the lease.
///
/// # Examples
///
/// Where the exec API runs the commands:
///
/// ```
/// use std::time::Duration;
/// use dockerpool::{ExitStatus, Taint};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::forever());
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let status = c.command("sleep").arg("60").timeout(Duration::from_millis(10)).status().await?;
/// assert_eq!(status, ExitStatus::TimedOut);
/// assert_eq!(c.taint(), Some(Taint::TimedOut));
/// drop(c); // the container is not lent again
/// assert_eq!(pool.status().lifetime.discarded, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Taint {
    /// The container was killed to end a command at its time limit or its idle timeout.
    TimedOut = 1,
    /// The container was killed to end a command whose future or `Child` was dropped.
    Cancelled = 2,
    /// The container was killed to end a command at its output limit.
    OutputLimit = 3,
    /// The container was killed to end a command by [`Child::kill`](crate::Child::kill).
    Killed = 4,
    /// The kernel killed a process that was over the memory limit.
    OutOfMemory = 5,
    /// A call to the engine failed, and its effect is not known.
    EngineFailed = 6,
    /// The end of the last command is not known.
    UnknownOutcome = 7,
    /// The guard was dropped by a panic.
    Panicked = 8,
    /// PID 1 ended, somebody else removed the container, or its lifeline broke.
    Died = 9,
    /// The lease lasted longer than [`max_lease`](crate::PoolBuilder::max_lease), and the pool took the container back.
    LeaseExpired = 10,
    /// The container had no processes, file descriptors or memory left for a command.
    Exhausted = 11,
    /// A command could not be started for a reason that lies in the container, so that no other command could be either:
    ///
    /// - The container's own working directory is gone, or cannot be entered. This is the only reason for commands that the
    ///   agent runs.
    /// - The container's own user is not known any more.
    /// - `/etc/passwd` is not a file, or `/dev/null` or `/dev/ptmx` is gone.
    /// - The engine does not say why.
    ///
    /// A program, directory or user that the command itself names taints nothing, also where an earlier lease has removed it
    /// (`rm /bin/sh`, `rm /etc/passwd`): that looks the same as a name that never existed. [`Reuse`](crate::Reuse) says how such
    /// effects are kept from the next lease.
    Broken = 12,
}

impl Taint {
    fn from_code(code: u8) -> Option<Self> {
        use Taint::*;
        [
            TimedOut,
            Cancelled,
            OutputLimit,
            Killed,
            OutOfMemory,
            EngineFailed,
            UnknownOutcome,
            Panicked,
            Died,
            LeaseExpired,
            Exhausted,
            Broken,
        ]
        .into_iter()
        .find(|taint| *taint as u8 == code)
    }
}

/// The first taint of a container, if any, as a number; 0: none.
#[derive(Debug, Default)]
pub(super) struct FirstTaint(AtomicU8);

impl FirstTaint {
    pub(super) fn get(&self) -> Option<Taint> {
        Taint::from_code(self.0.load(Ordering::Acquire))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire) != 0
    }

    /// Sets the taint, unless one is set. Kills for memory explain a death, and so take its place: which of the two is told first
    /// is chance.
    pub(super) fn set(&self, taint: Taint) {
        let replace = |known: u8| {
            self.0
                .compare_exchange(known, taint as u8, Ordering::AcqRel, Ordering::Acquire)
        };
        if replace(0).is_err() && taint == Taint::OutOfMemory {
            let _ = replace(Taint::Died as u8);
        }
    }
}
