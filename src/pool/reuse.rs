//! The fate of a container between two leases: [`Reuse`].

/// Decides what happens to a container between two leases.
///
/// | | processes left behind | files left behind | cost |
/// |---|---|---|---|
/// | `Clean` | killed | removed, or the container is replaced | a millisecond or two in the background, by the agent; more where the root file system can be written to |
/// | `Never` | gone | gone | a new container each time, made in the background |
/// | `AsIs` | go on | stay | none |
///
/// A tainted container is never lent again: see [`Taint`](crate::Taint).
///
/// # What `Clean` does
///
/// After a lease in which a command was begun, the [agent](crate::ExecVia) does the following in the background. An acquire waits
/// for it only if no other container is idle.
///
/// 1. It kills every process. None may be left, not even a zombie.
/// 2. It empties the workspaces: the file systems in memory that the spec asked for, those over the image's volumes, `/tmp`,
///    `/dev/shm` and `/dev/mqueue`. It gives their directories the owner and the permissions back that they had at first. That may
///    take two seconds.
/// 3. It removes shared memory, semaphores and message queues of System V.
/// 4. It compares with the container's state before its first lease: mounts, the names of host and domain, the limits of PID 1, the keyring,
///    `/dev`, attributes of the workspaces, and files that the engine mounts, such as `/etc/hosts`. Nothing may have been sent to the
///    network, not even to itself: the kernel remembers addresses, and counts. No terminal may be left.
/// 5. If the root file system can be written to, the engine lists what has changed there, which must be what it was at first.
///    That takes some ten milliseconds, and hundreds where the engine is busy.
///
/// A container that is not proven to be as at first is replaced. [`Counters::unclean`](crate::Counters::unclean) counts these, and
/// [`Pool::last_unclean`](crate::Pool::last_unclean) says why.
///
/// Where containers can be cleaned, `/tmp` is a file system in memory of half the memory limit, unless the spec or the image has something there.
/// Programs in it may be executed. What it holds counts as memory.
///
/// # What `Clean` does not show
///
/// - On a root file system that can be written to: some engines compare files by their size and time only, which a file's owner and
///   root can restore, and directories not even by their times. No engine shows extended attributes, flags, the times at which
///   directories were read or the time of `/`. Untrusted code belongs on a root file system that is
///   [read-only](crate::ContainerSpec::read_only_root).
/// - What your own mounts and devices hold: these are yours, and stay as they are.
/// - That there was a lease: numbers of processes and inodes grow, and so does what the kernel counts, such as the processor time and
///   the most memory of the container's control group.
/// - What root tells the kernel of the whole machine, such as the rights of files in `/proc`. A new container finds that too.
/// - Modules that the machine's kernel loads when any user asks for a protocol, such as SCTP. Every container sees them.
/// - The times of files in `/proc`, and the owners of links there, which root can set.
///
/// # Where `Clean` is `Never`
///
/// The container is replaced after each lease with a command where nobody could prove that it is clean.
/// [`Counters::unclean`](crate::Counters::unclean) counts these too, and [`Pool::last_unclean`](crate::Pool::last_unclean) names the
/// reason:
///
/// - PID 1 is not the agent ([`Status::lifeline`](crate::Status::lifeline)), or the container has a command of its own.
/// - [`on_create`](crate::PoolBuilder::on_create) has run commands in the container or used its files.
/// - The root file system can be written to, and the engine cannot list changes ([`Changes`](crate::engine::Changes)).
/// - The configuration adds capabilities, is privileged, has a seccomp profile other than the engine's and
///   [`Seccomp::strict`](crate::Seccomp::strict), shares the namespace of processes or of System V
///   objects or lets others share the latter, or mounts volumes by `VolumesFrom`.
/// - A directory is mounted for writing that is neither a workspace nor a mount of yours, or is in memory and has files from the
///   start.
/// - The path of a mount of yours has a symbolic link in it.
///
/// # Examples
///
/// ```
/// use dockerpool::{Pool, Reuse};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let builder = Pool::builder("tenants").image("busybox:1.36").reuse(Reuse::Never);
/// # let builder = builder.engine(engine);
/// let pool = builder.build().await?;
/// let first = pool.acquire().await?.id().to_owned();
/// let second = pool.acquire().await?;
/// assert_ne!(second.id(), first);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reuse {
    /// Cleans the container and proves that it is as before its first lease. Replaces it if that fails. The default.
    #[default]
    Clean,
    /// Lends the container again as it is: the next lease finds the files, background processes and shared memory of the last
    /// one. Right for trusted work only.
    AsIs,
    /// Gives each lease a fresh container. A used container is removed and replaced in the background. Right for hostile code
    /// and for tenants that must not see each other.
    Never,
}

impl Reuse {
    /// Returns what holds for containers that may be used so many times.
    pub(super) fn with_uses(self, max_uses: Option<u32>) -> Self {
        // After a single use, no container comes back to be lent again.
        if max_uses == Some(1) { Self::Never } else { self }
    }
}
