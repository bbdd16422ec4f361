//! What an engine says of itself: [`Capabilities`], [`EngineInfo`].

#[cfg(doc)]
use super::{Engine, Lifecycle, Plan};

/// Lists what an engine can do, beyond what every engine must. An engine begins with [`none`](Self::none) and names what it
/// can: a capability that is added later is then not claimed by accident.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Capabilities;
///
/// // An engine of one's own that holds a lifeline, and puts containers on no network.
/// let mut can = Capabilities::none();
/// can.lifeline = true;
/// can.no_network = true;
/// assert!(!can.networks);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Containers can be had without any network.
    pub no_network: bool,
    /// The number of processes in a container can be limited.
    pub pids_limit: bool,
    /// PID 1's standard input can be held attached, so that a container ends with its owner.
    pub lifeline: bool,
    /// The engine has events for processes that the kernel killed for memory. Where it has none, such a command ends as one
    /// that was killed by anybody: [`Signaled(9)`](crate::ExitStatus::Signaled), and a pipeline that loses a member to it as
    /// its shell says.
    pub oom_events: bool,
    /// Containers can be put on networks by name.
    pub networks: bool,
    /// PID 1 can be a program that is mounted: as a file of this machine where there are
    /// [`local_files`](Self::local_files), else from a volume that [`prepare`](Lifecycle::prepare) has filled.
    pub programs: bool,
    /// Configuration in the engine's own terms is merged over the plan: [`Plan::engine_config`].
    pub engine_config: bool,
    /// Files of this machine can be mounted into containers.
    pub local_files: bool,
}

impl Capabilities {
    /// Nothing.
    pub const fn none() -> Self {
        Self {
            no_network: false,
            pids_limit: false,
            lifeline: false,
            oom_events: false,
            networks: false,
            programs: false,
            engine_config: false,
            local_files: false,
        }
    }

    /// Everything.
    pub const fn all() -> Self {
        Self {
            no_network: true,
            pids_limit: true,
            lifeline: true,
            oom_events: true,
            networks: true,
            programs: true,
            engine_config: true,
            local_files: true,
        }
    }
}

/// Describes the engine that answered [`Engine::check`].
///
/// # Examples
///
/// ```
/// use dockerpool::Engine;
/// # use dockerpool::testing::FakeEngine;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::EngineError> {
/// # let engine = FakeEngine::new();
/// let info = engine.check().await?;
/// println!("{} on {}, API {}", info.version, info.platform, info.api_version);
/// assert!(info.platform.starts_with("linux/"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineInfo {
    /// Its name and version, e.g. `Docker 20.10.24`.
    pub version: String,
    /// The version of the API spoken with it, e.g. `1.41`.
    pub api_version: String,
    /// Operating system and architecture as images name them, e.g. `linux/amd64`.
    pub platform: String,
    /// The limits that its kernel knows.
    pub limits: LimitSupport,
    /// The version of the control groups of its kernel, if it tells.
    pub cgroup_version: Option<u8>,
    /// Whether root of a container is another user outside, as far as the engine tells: it runs rootless, or remaps users.
    pub remaps_users: bool,
    /// Where it is, as a text that no other engine has. What was found out about an engine is remembered by it, for as long
    /// as this process runs. `None`: nothing is remembered.
    pub id: Option<String>,
}

impl EngineInfo {
    /// Makes the answer of an engine of your own.
    pub fn new(version: impl Into<String>, api_version: impl Into<String>, platform: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            api_version: api_version.into(),
            platform: platform.into(),
            limits: LimitSupport::all(),
            cgroup_version: None,
            remaps_users: false,
            id: None,
        }
    }

    /// The same with an [`id`](Self::id).
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

/// Which limits an engine can set, as far as it tells. `build()` refuses a limit that cannot be set.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{EngineInfo, LimitSupport};
///
/// // What an engine of one's own answers on a kernel that does not count swap.
/// let mut info = EngineInfo::new("Mine 1", "1", "linux/amd64");
/// assert_eq!(info.limits, LimitSupport::all());
/// info.limits.swap = false;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitSupport {
    /// Memory.
    pub memory: bool,
    /// Memory and swap together.
    pub swap: bool,
    /// The number of processes.
    pub pids: bool,
    /// Processor time.
    pub cpu: bool,
}

impl LimitSupport {
    /// None of them.
    pub const fn none() -> Self {
        Self {
            memory: false,
            swap: false,
            pids: false,
            cpu: false,
        }
    }

    /// All of them.
    pub const fn all() -> Self {
        Self {
            memory: true,
            swap: true,
            pids: true,
            cpu: true,
        }
    }
}
