//! An engine's description of itself: [`Capabilities`], [`EngineInfo`].

#[cfg(doc)]
use super::{Engine, Lifecycle, Plan};

/// Lists the optional abilities of an engine. Start from [`none`](Self::none) and set those that the engine has: a
/// capability that a later version adds is then not claimed by accident.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::Capabilities;
///
/// // An engine that holds a lifeline, and can run containers without a network.
/// let mut can = Capabilities::none();
/// can.lifeline = true;
/// can.no_network = true;
/// assert!(!can.networks);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Whether containers can run without any network.
    pub no_network: bool,
    /// Whether the number of processes in a container can be limited.
    pub pids_limit: bool,
    /// Whether PID 1's standard input can be held attached, so that a container ends with its owner.
    pub lifeline: bool,
    /// Whether the engine has events for processes that the kernel killed for memory. Without these events such a command
    /// ends like any killed one, with [`Signaled(9)`](crate::ExitStatus::Signaled), and a pipeline that loses a member ends
    /// as its shell reports.
    pub oom_events: bool,
    /// Whether containers can be put on networks by name.
    pub networks: bool,
    /// Whether TCP ports of containers can be published: [`Plan::ports`].
    pub ports: bool,
    /// Whether PID 1 can be a mounted program: a file of this machine if the engine has [`local_files`](Self::local_files),
    /// else a file in a volume that [`prepare`](Lifecycle::prepare) has filled.
    pub programs: bool,
    /// Whether configuration in the engine's own terms is merged over the plan: [`Plan::engine_config`].
    pub engine_config: bool,
    /// Whether files of this machine can be mounted into containers.
    pub local_files: bool,
}

impl Capabilities {
    /// Claims no capability.
    pub const fn none() -> Self {
        Self {
            no_network: false,
            pids_limit: false,
            lifeline: false,
            oom_events: false,
            networks: false,
            ports: false,
            programs: false,
            engine_config: false,
            local_files: false,
        }
    }

    /// Claims every capability.
    pub const fn all() -> Self {
        Self {
            no_network: true,
            pids_limit: true,
            lifeline: true,
            oom_events: true,
            networks: true,
            ports: true,
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
    /// The engine's name and version, e.g. `Docker 20.10.24`.
    pub version: String,
    /// The version of the API that the library speaks with the engine, e.g. `1.41`.
    pub api_version: String,
    /// Operating system and architecture as images name them, e.g. `linux/amd64`.
    pub platform: String,
    /// The limits that the engine's kernel supports.
    pub limits: LimitSupport,
    /// The version of the kernel's control groups. `None`: the engine does not report it.
    pub cgroup_version: Option<u8>,
    /// Whether root in a container is another user outside, as far as the engine reports: the engine is rootless, or remaps
    /// users.
    pub remaps_users: bool,
    /// The name of the runtime that containers get by default. `None`: not known.
    pub runtime: Option<String>,
    /// The version of `runc` on the engine's machine. `None`: not known, or there is none.
    pub runc: Option<String>,
    /// The release of the engine's kernel. `None`: not known.
    pub kernel: Option<String>,
    /// The directories in which the engine mounts empty file systems in memory, unasked, where the root file system is read-only.
    pub read_only_tmpfs: Vec<String>,
    /// The address of the engine, as a text that no other engine has. The library remembers facts about an engine under this
    /// key for as long as this process runs. `None`: the library remembers nothing.
    pub id: Option<String>,
}

impl EngineInfo {
    /// Makes the answer of an engine written outside this crate: all limits, and nothing else known.
    pub fn new(version: impl Into<String>, api_version: impl Into<String>, platform: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            api_version: api_version.into(),
            platform: platform.into(),
            limits: LimitSupport::all(),
            cgroup_version: None,
            remaps_users: false,
            runtime: None,
            runc: None,
            kernel: None,
            read_only_tmpfs: Vec::new(),
            id: None,
        }
    }

    /// Sets the [`id`](Self::id).
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }
}

/// Lists the limits that an engine can set, as far as it reports. `build()` refuses a limit that cannot be set.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{EngineInfo, LimitSupport};
///
/// // The answer of an engine whose kernel does not count swap.
/// let mut info = EngineInfo::new("Mine 1", "1", "linux/amd64");
/// assert_eq!(info.limits, LimitSupport::all());
/// info.limits.swap = false;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitSupport {
    /// Whether memory can be limited.
    pub memory: bool,
    /// Whether memory and swap together can be limited.
    pub swap: bool,
    /// Whether the number of processes can be limited.
    pub pids: bool,
    /// Whether processor time can be limited.
    pub cpu: bool,
}

impl LimitSupport {
    /// Claims no limit.
    pub const fn none() -> Self {
        Self {
            memory: false,
            swap: false,
            pids: false,
            cpu: false,
        }
    }

    /// Claims every limit.
    pub const fn all() -> Self {
        Self {
            memory: true,
            swap: true,
            pids: true,
            cpu: true,
        }
    }
}
