//! The counts of a pool, how its commands are run, and how its containers are tied to this process.

use std::fmt;

/// Counts the containers of a pool at one moment.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").min_idle(0).engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let status = pool.status();
/// assert_eq!((status.in_use, status.total(), status.waiting), (1, 1, 0));
/// println!("{status}"); // 0 idle, 1 in use, 0 creating, 0 recycling, at most 32; 0 waiting
/// # assert_eq!(status.to_string(), "0 idle, 1 in use, 0 creating, 0 recycling, at most 32; 0 waiting");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Containers that are ready to be lent.
    pub idle: usize,
    /// Containers that are lent.
    pub in_use: usize,
    /// Containers that wait for the next lease of the same key: see [`Pool::acquire_for`](crate::Pool::acquire_for).
    pub kept: usize,
    /// Containers that are being created.
    pub creating: usize,
    /// Containers that are being cleaned after a lease, or removed to be replaced.
    pub recycling: usize,
    /// The part of [`recycling`](Self::recycling) that is being cleaned: see [`Reuse::Clean`](crate::Reuse::Clean).
    pub cleaning: usize,
    /// The most containers that the pool may have.
    pub max_total: usize,
    /// Acquires that wait in the queue.
    pub waiting: usize,
    /// How commands are run, and why.
    pub exec: ActiveExec,
    /// How sure it is that the containers end with this process, and why not surer.
    pub lifeline: Lifeline,
    /// Which control groups the containers have, as the newest container tells.
    pub cgroups: Cgroups,
    /// The events since the pool was built.
    pub lifetime: Counters,
}

/// Counts the events in a pool since it was built.
///
/// `created + adopted == removed + taken + idle + in_use + kept + recycling`. Failed creations that are being removed count in
/// [`Status::recycling`], and not in this sum.
///
/// `lent == returned + discarded + taken + in_use + kept + cleaning`. The lease after which a container is kept is counted as one of
/// these when that ends.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// drop(pool.acquire().await?);
/// pool.acquire().await?.discard();
/// let so_far = pool.status().lifetime;
/// assert_eq!((so_far.lent, so_far.returned, so_far.discarded), (2, 1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Containers created.
    pub created: u64,
    /// Containers taken over from a dead process: see [`Adopt`](crate::Adopt).
    pub adopted: u64,
    /// Creations that failed.
    pub create_failures: u64,
    /// Leases that were begun, including those of an acquire that was dropped at the moment it got its container.
    pub lent: u64,
    /// Leases after which the container could be lent again.
    pub returned: u64,
    /// Leases after which the container was replaced: discarded, tainted, not proven to be clean, or under
    /// [`Reuse::Never`](crate::Reuse::Never).
    pub discarded: u64,
    /// The part of [`returned`](Self::returned) before which the container was cleaned: see
    /// [`Reuse::Clean`](crate::Reuse::Clean).
    pub cleaned: u64,
    /// The part of [`discarded`](Self::discarded) in which a container could not be proven to be clean.
    pub unclean: u64,
    /// Containers that [`into_inner`](crate::PooledContainer::into_inner) took out of the pool for good.
    pub taken: u64,
    /// Containers that were removed, for any reason.
    pub removed: u64,
    /// Acquires that reached their deadline.
    pub acquire_timeouts: u64,
}

impl Status {
    /// Returns `idle + in_use + kept + creating + recycling`, which is never more than [`max_total`](Self::max_total).
    pub fn total(&self) -> usize {
        self.idle + self.in_use + self.kept + self.creating + self.recycling
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            idle,
            in_use,
            kept,
            creating,
            recycling,
            cleaning: _,
            max_total,
            waiting,
            lifetime: _,
            exec: _,
            lifeline: _,
            cgroups: _,
        } = self;
        write!(f, "{idle} idle, {in_use} in use, ")?;
        if *kept > 0 {
            write!(f, "{kept} kept, ")?;
        }
        write!(
            f,
            "{creating} creating, {recycling} recycling, at most {max_total}; {waiting} waiting"
        )
    }
}

/// Tells how commands are run, once that is decided.
///
/// # Examples
///
/// ```
/// use dockerpool::{ActiveExec, ExecVia, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let builder = Pool::builder("judge").image("busybox:1.36").exec_via(ExecVia::Auto);
/// # let builder = builder.engine(engine);
/// let pool = builder.build().await?;
/// match pool.status().exec {
///     ActiveExec::Agent => println!("commands take a millisecond"),
///     ActiveExec::Docker { why } => println!("commands take 50, since {why}"),
///     _ => {}
/// }
/// # assert_eq!(pool.status().exec, ActiveExec::Docker { why: "the engine cannot run the agent" });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActiveExec {
    /// The agent runs the commands.
    Agent,
    /// The engine's exec API runs the commands.
    Docker {
        /// The reason for which the agent does not.
        why: &'static str,
    },
}

impl Default for ActiveExec {
    fn default() -> Self {
        Self::Docker { why: ASKED_FOR }
    }
}

/// The reason for the exec API where no other was set.
pub(crate) const ASKED_FOR: &str = "it was asked for";

/// Tells how sure it is that a container ends with the process that owns it, also when the owner is killed.
///
/// PID 1 reads a standard input that the owner holds open, and ends at its end-of-file. Programs in the container may try to keep
/// PID 1 from ending.
///
/// # Examples
///
/// ```
/// use dockerpool::{Lifeline, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let builder = Pool::builder("judge").image("busybox:1.36");
/// # let builder = builder.engine(engine);
/// let pool = builder.build().await?;
/// match pool.status().lifeline {
///     Lifeline::Agent => println!("whatever runs in them, they end with this process"),
///     Lifeline::Weak { why } => println!("hostile code could make them outlive it: {why}"),
///     Lifeline::None { why } => println!("they outlive it: {why}"),
///     _ => {}
/// }
/// # assert_eq!(pool.status().lifeline, Lifeline::Weak { why: "the engine cannot run the agent" });
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lifeline {
    /// PID 1 is the library's agent. No program in the container can signal, stop or trace the agent, whatever its user.
    Agent,
    /// A command could keep the container running after its owner.
    ///
    /// Where PID 1 is the agent, a command that runs as root could freeze the agent by a control group: Podman, and some security
    /// settings, let programs make user namespaces, in which they reach the groups of the container.
    ///
    /// Otherwise PID 1 is the image's `cat`. A command that runs as root, or with `CAP_KILL` or `CAP_SYS_PTRACE`, can stop `cat`,
    /// and the container then outlives its owner.
    ///
    /// Where the commands' own user is not root, `cat` runs as a user and a group of its own (65525), which no command gets.
    /// Then only commands that run as root can stop `cat`.
    Weak {
        /// The reason.
        why: &'static str,
    },
    /// There is no lifeline: the container stays until somebody removes it.
    None {
        /// The reason.
        why: &'static str,
    },
}

impl Default for Lifeline {
    fn default() -> Self {
        Self::None {
            why: "there is no container",
        }
    }
}

/// Tells which control groups a container has, as its PID 1 sees them, where that is the agent. They decide how exactly the usage
/// of a command and the reason for its end are known.
///
/// Kills for memory are counted by `oom_kill` in `memory.events`, which the kernel raises for each process, also where it kills
/// a whole group (`memory.oom.group`).
///
/// `oom_group_kill` is not read: only the container's own group can be killed as a whole, where its runtime or the machine's
/// administrator has set that, and PID 1 ends with it. A command that is alone is then
/// [`OutOfMemory`](crate::ExitStatus::OutOfMemory) where the engine's event tells, and else
/// [`ContainerGone`](crate::ExitStatus::ContainerGone). The groups of commands are never killed as a whole.
///
/// # Examples
///
/// ```
/// use dockerpool::{Cgroups, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let builder = Pool::builder("judge").image("busybox:1.36");
/// # let builder = builder.engine(engine);
/// let pool = builder.build().await?;
/// match pool.status().cgroups {
///     Cgroups::V2Writable => println!("a group for each command"),
///     Cgroups::V2ReadOnly | Cgroups::V1 => println!("one group for the container"),
///     _ => println!("not known"),
/// }
/// # assert_eq!(pool.status().cgroups, Cgroups::Unknown);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cgroups {
    /// There is no container yet, its PID 1 is not the agent, or its runtime shows no control groups.
    #[default]
    Unknown,
    /// Version 1. The kernel counts the kills for memory in the container. The rules of
    /// [`ExitStatus::OutOfMemory`](crate::ExitStatus::OutOfMemory) say whose process was killed.
    V1,
    /// Version 2, read only, which is the default of engines. The same is known as with version 1.
    V2ReadOnly,
    /// Version 2, and each command has a group of its own: see
    /// [`writable_cgroups`](crate::ContainerSpec::writable_cgroups).
    V2Writable,
}
