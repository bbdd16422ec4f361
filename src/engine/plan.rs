//! The description of a container that an engine is given: [`Plan`].

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;

use super::RegistryAuth;
use super::network::Network;
use crate::values::labels;
use crate::values::shown::{Argv, Fields};

/// The prefix of the names of all files that the library itself mounts.
pub(crate) const OWN_TARGETS: &str = ".dockerpool";

/// Describes containers, resolved and complete: the settings of a [`ContainerSpec`](crate::ContainerSpec), the defaults of
/// the library, and the choice of PID 1. An engine translates a plan and decides nothing.
///
/// One plan serves many containers. An [`Identity`] holds the name and the mounts of one of them alone.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{Identity, Lifecycle, Plan};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::EngineError> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// let mut plan = Plan::new("busybox:1.36");
/// plan.pid1.program = Some(vec!["sleep".to_owned(), "60".to_owned()]);
/// plan.limits.memory = Some(64 << 20);
/// let created = engine.create(&Identity::new("sleeper"), &plan).await?;
/// engine.start(&created.id).await?;
/// # Ok(())
/// # }
/// ```
///
/// `Debug` shows variables by their names, commands by their program, and the engine's own configuration by its fields.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The image, and how the engine gets it.
    pub image: Image,
    /// The container's first process.
    pub pid1: Pid1,
    /// File systems that the engine mounts, each on a path of its own.
    pub mounts: Vec<Mount>,
    /// File systems in memory: the absolute path, and the mount options of `tmpfs(5)`. Where the options do not say
    /// otherwise, the engine adds `noexec,nosuid,nodev`.
    pub tmpfs: BTreeMap<String, String>,
    /// Environment variables of PID 1 and of commands, beside those of the image. The last value of a name wins.
    pub env: Vec<(String, String)>,
    /// The user of PID 1, and of commands that name none: `user[:group]`, by name or number. `None`: the image's.
    pub user: Option<String>,
    /// The directory of PID 1, and of commands that name none. `None`: the image's.
    pub working_dir: Option<String>,
    /// The limits on resources.
    pub limits: Limits,
    /// The network. `None`: [`engine_config`](Self::engine_config) names one.
    pub network: Option<Network>,
    /// TCP ports that the engine publishes on its machine, each on a port of its own choice. There are none without a network.
    pub ports: Vec<Publish>,
    /// Labels of each container: those of the spec, and the library's own (see [`labels`]).
    pub labels: BTreeMap<String, String>,
    /// The permissions of the container's processes.
    pub security: Security,
    /// Whether the engine removes a container once its PID 1 has ended.
    pub auto_remove: bool,
    /// Whether the image's health check runs.
    pub health_check: bool,
    /// Whether the engine keeps the output of PID 1.
    pub keep_output: bool,
    /// Configuration in the engine's own terms (for Docker: the JSON body of its create call), as the user of the library
    /// gave it. Only an engine with [`Capabilities::engine_config`](super::Capabilities::engine_config) gets any, and merges
    /// it over the rest of the plan: its fields replace the plan's, and the items of its lists are added.
    pub engine_config: Value,
}

/// Names an image, and how the engine gets it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Image {
    /// The name, as `[registry/]name[:tag][@sha256:digest]`.
    pub name: String,
    /// The platform, as `os/architecture[/variant]`. `None`: the engine's own.
    pub platform: Option<String>,
    /// When the engine pulls the image.
    pub pull: PullPolicy,
    /// The login for the registry.
    pub registry_auth: RegistryAuth,
}

/// Tells when the engine pulls the image.
///
/// # Examples
///
/// ```
/// use dockerpool::{ContainerSpec, PullPolicy};
///
/// // On a machine without a registry, a missing image should be an error at once.
/// let offline = ContainerSpec::new("busybox:1.36").pull(PullPolicy::Never);
/// assert_ne!(offline, ContainerSpec::new("busybox:1.36"));
/// assert_eq!(PullPolicy::default(), PullPolicy::IfMissing);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PullPolicy {
    /// Never: the image must be on the engine already.
    Never,
    /// Only if the image is not on the engine yet.
    #[default]
    IfMissing,
    /// Every time a pool is built, so that the pool follows a moved tag.
    Always,
}

/// Describes the container's first process.
///
/// `Debug` shows the program, and the number of arguments.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pid1 {
    /// The program with its arguments, in place of the image's `ENTRYPOINT` and `CMD`. `None`: the image's.
    pub program: Option<Vec<String>>,
    /// Arguments in place of the image's `CMD`.
    pub arguments: Option<Vec<String>>,
    /// Whether the library holds the standard input of PID 1 attached: see [`Lifecycle::attach`](super::Lifecycle::attach).
    /// PID 1 then reads end-of-file when the attachment is dropped, or when the library's process ends in any way. The
    /// program must end at end-of-file.
    pub lifeline: bool,
    /// Whether the engine's own small init is PID 1, starts the program, and reaps zombies.
    pub init: bool,
    /// The signal by which [`Lifecycle::stop`](super::Lifecycle::stop) asks PID 1 to end. `None`: the image's.
    pub stop_signal: Option<String>,
}

/// Describes a TCP port of a container that the engine publishes on its machine. The engine chooses the port there, and reports
/// it: see [`ContainerReport::ports`](super::ContainerReport::ports).
///
/// # Examples
///
/// ```
/// use std::net::Ipv4Addr;
/// use dockerpool::engine::{Plan, Publish};
///
/// let mut plan = Plan::new("redis:7");
/// plan.ports.push(Publish::new(6379, Ipv4Addr::LOCALHOST));
/// assert_eq!(plan.ports[0].port, 6379);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publish {
    /// The port in the container.
    pub port: u16,
    /// The address of the engine's machine at which the port is reached. An unspecified address stands for all.
    pub address: IpAddr,
}

/// Describes a file system on a path in the container.
///
/// # Examples
///
/// ```
/// use dockerpool::engine::{Mount, MountSource};
///
/// let scratch = Mount::new("/scratch", MountSource::Memory { bytes: 16 << 20, mode: 0o1777 });
/// assert_eq!(scratch.target, "/scratch");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// The absolute path in the container.
    pub target: String,
    /// The content.
    pub source: MountSource,
}

/// Describes the content of a [`Mount`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MountSource {
    /// An empty file system in memory, from which no program can be executed. The mount hides the image's directory at its
    /// path, and the engine makes no volume there.
    Memory {
        /// The size in bytes.
        bytes: u64,
        /// The permissions of its directory.
        mode: u32,
    },
    /// A file of the engine's machine, such as a program or a socket, mounted read-only.
    File {
        /// The absolute path.
        path: PathBuf,
        /// Whether the file is the library's own, so that an engine that uses SELinux may label it for all containers.
        is_own: bool,
    },
    /// A volume with one program in it, mounted read-only.
    Volume(ProgramVolume),
}

/// Describes a volume with one program in it, for an engine that does not see the files of this machine.
/// [`Lifecycle::prepare`](super::Lifecycle::prepare) makes and fills the volume,
/// [`Lifecycle::release`](super::Lifecycle::release) removes it.
///
/// `Debug` shows the size of the program.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramVolume {
    /// The name of the volume, unique on its engine.
    pub name: String,
    /// The name of the file in the volume.
    pub file: String,
    /// The bytes of the program, which every user can execute.
    pub content: Bytes,
}

/// Holds the limits on a container's resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Memory and swap together, in bytes.
    pub memory_and_swap: Option<u64>,
    /// Processor time in billionths of one processor.
    pub nano_cpus: Option<u64>,
    /// The most processes and threads, PID 1 included.
    pub pids: Option<u64>,
    /// The size of `/dev/shm` in bytes.
    pub shm_size: Option<u64>,
    /// Limits of the kernel on each process (`setrlimit(2)`), PID 1 included.
    pub ulimits: Vec<Ulimit>,
    /// The kernel's preference for this container's processes when it kills for memory, from -1000 (never) to 1000.
    pub oom_score_adj: Option<i64>,
}

/// Describes a limit of the kernel on each process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ulimit {
    /// The name in lower case, without `RLIMIT_`.
    pub name: String,
    /// The soft limit. `None`: unlimited.
    pub soft: Option<u64>,
    /// The hard limit. `None`: unlimited.
    pub hard: Option<u64>,
}

/// Holds the permissions of a container's processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Security {
    /// Whether the root file system is read-only.
    pub read_only_root: bool,
    /// Capabilities to add to those that the engine gives root of a container by default, by name.
    pub cap_add: Vec<String>,
    /// Capabilities to drop, by name, or `ALL`. Those in [`cap_add`](Self::cap_add) are added afterwards.
    pub cap_drop: Vec<String>,
    /// Whether programs cannot gain privileges by set-uid files and the like.
    pub no_new_privileges: bool,
    /// The OCI runtime, by the engine's name for it. `None`: the engine's default.
    pub runtime: Option<String>,
    /// Whether the container has a writable control group, in a cgroup namespace of its own.
    pub writable_cgroups: bool,
}

/// Holds the name and the mounts of one container alone, which no [`Plan`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The name of the container.
    pub name: String,
    /// Mounts of this container alone, such as the socket of its PID 1.
    pub mounts: Vec<Mount>,
}

impl Identity {
    /// Makes the identity of a container of this name, without mounts of its own.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            mounts: Vec::new(),
        }
    }
}

impl Plan {
    /// Makes a plan for containers of this image, with the image's own PID 1, no network, no limits and the engine's default
    /// permissions.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: Image {
                name: image.into(),
                platform: None,
                pull: PullPolicy::default(),
                registry_auth: RegistryAuth::default(),
            },
            pid1: Pid1::default(),
            mounts: Vec::new(),
            tmpfs: BTreeMap::new(),
            env: Vec::new(),
            user: None,
            working_dir: None,
            limits: Limits::default(),
            network: Some(Network::None),
            ports: Vec::new(),
            labels: BTreeMap::new(),
            security: Security::default(),
            auto_remove: false,
            health_check: true,
            keep_output: true,
            engine_config: Value::Null,
        }
    }

    /// Returns the volumes with programs that the plan mounts.
    pub fn volumes(&self) -> impl Iterator<Item = &ProgramVolume> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Volume(volume) => Some(volume),
            _ => None,
        })
    }

    /// Returns the library's own labels, which identify the owner of a container, a network or a volume.
    pub fn own_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.labels.iter().filter(|(name, _)| labels::is_reserved(name));
        labels.map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl Publish {
    /// Publishes this port of the container at this address of the engine's machine.
    pub fn new(port: u16, address: impl Into<IpAddr>) -> Self {
        Self {
            port,
            address: address.into(),
        }
    }
}

impl Mount {
    /// Mounts this content on this absolute path of the container.
    pub fn new(target: impl Into<String>, source: MountSource) -> Self {
        Self {
            target: target.into(),
            source,
        }
    }
}

impl ProgramVolume {
    /// Describes a volume of this name with one program in it.
    pub fn new(name: impl Into<String>, file: impl Into<String>, content: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            file: file.into(),
            content: content.into(),
        }
    }
}

impl Ulimit {
    /// Makes a limit of this name; `None` is unlimited.
    pub fn new(name: impl Into<String>, soft: Option<u64>, hard: Option<u64>) -> Self {
        Self {
            name: name.into(),
            soft,
            hard,
        }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The match is exhaustive: the author of a new field decides whether `Debug` may show it.
        let Self {
            image,
            pid1,
            mounts,
            tmpfs,
            env,
            user,
            working_dir,
            limits,
            network,
            ports,
            labels,
            security,
            auto_remove,
            health_check,
            keep_output,
            engine_config,
        } = self;
        let env: Vec<_> = env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Plan")
            .field("image", image)
            .field("pid1", pid1)
            .field("mounts", mounts)
            .field("tmpfs", tmpfs)
            .field("env", &env)
            .field("user", user)
            .field("working_dir", working_dir)
            .field("limits", limits)
            .field("network", network)
            .field("ports", ports)
            .field("labels", labels)
            .field("security", security)
            .field("auto_remove", auto_remove)
            .field("health_check", health_check)
            .field("keep_output", keep_output)
            .field("engine_config", &Fields(engine_config))
            .finish()
    }
}

impl fmt::Debug for Pid1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            program,
            arguments,
            lifeline,
            init,
            stop_signal,
        } = self;
        f.debug_struct("Pid1")
            .field("program", &program.as_deref().map(Argv))
            .field("arguments", &arguments.as_ref().map(Vec::len))
            .field("lifeline", lifeline)
            .field("init", init)
            .field("stop_signal", stop_signal)
            .finish()
    }
}

impl fmt::Debug for ProgramVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProgramVolume")
            .field("name", &self.name)
            .field("file", &self.file)
            .field("bytes", &self.content.len())
            .finish()
    }
}
