//! Why a container is gone: [`WhyGone`].

use std::fmt;

/// Tells why a container ended while a command ran in it: see [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone).
///
/// # Examples
///
/// ```
/// use dockerpool::{ExitStatus, WhyGone};
///
/// /// Returns whether the same job, which has been run this many times, may be given to another container.
/// fn may_run_again(status: ExitStatus, runs: u32) -> bool {
///     match status {
///         // The job may have taken the container's memory itself.
///         ExitStatus::ContainerGone { why: WhyGone::OutOfMemory } => false,
///         // Hostile code may have ended the container itself: see `WhyGone::Unknown`.
///         ExitStatus::ContainerGone { .. } => runs < 3,
///         _ => false,
///     }
/// }
/// assert!(may_run_again(ExitStatus::ContainerGone { why: WhyGone::EngineRestarted }, 1));
/// assert!(!may_run_again(ExitStatus::ContainerGone { why: WhyGone::Unknown }, 3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhyGone {
    /// Somebody else removed, killed or stopped the container, as by `docker rm -f`.
    Removed,
    /// The kernel killed processes of the container for memory, PID 1 among them, and it is not known of which command: several
    /// ran, or an earlier lease may have left some. Where the command was alone, its status is
    /// [`ExitStatus::OutOfMemory`](crate::ExitStatus::OutOfMemory).
    OutOfMemory,
    /// The engine was restarted, or the connection to it was lost, and the container did not outlive that. A pool's subscription to
    /// events shows it; without a pool the cause is [`Unknown`](Self::Unknown).
    EngineRestarted,
    /// The container's own command ended: a [supervised](crate::ContainerSpec::supervise_command) one, or a PID 1 of the spec's
    /// [`cmd`](crate::ContainerSpec::cmd).
    CommandEnded,
    /// The library ended the container: at the [shutdown](crate::Pool::shutdown) of its pool, at
    /// [`max_lease`](crate::PoolBuilder::max_lease), or, by the exec API, to end another command.
    ByLibrary,
    /// The cause is not known. The engine tells none, e.g. where somebody on its machine killed PID 1 by hand.
    ///
    /// Hostile code in the container can bring this about too, e.g. by lowering the limits of PID 1 with `prlimit`, which ends the
    /// agent. So a judge must bound how often it runs such a program again.
    Unknown,
}

impl fmt::Display for WhyGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "somebody else ended or removed it",
            Self::OutOfMemory => "the kernel killed it for memory",
            Self::EngineRestarted => "the engine was restarted or lost",
            Self::CommandEnded => "its own command ended",
            Self::ByLibrary => "the library ended it",
            Self::Unknown => "the cause is not known",
        })
    }
}
