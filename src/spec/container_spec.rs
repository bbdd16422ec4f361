//! The user's specification of a container: [`ContainerSpec`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig};
use serde_json::Value;

use super::command_defaults::CommandDefaults;
use super::entrypoint::Entrypoint;
use super::raw_config;
use super::ready::Ready;
use super::resolve::{Decided, resolve};
use super::sandbox::Sandbox;
use super::server_env::ServerEnv;
use super::setters::setters;
use crate::agent::ExecVia;
use crate::engine::{Network, Plan, PullPolicy, RegistryAuth};
use crate::error::Error;
use crate::values::amounts::ByteSize;
use crate::values::shown::{Argv, Fields};

/// The value of a typed setter that has a default. A default gives way to the raw configuration; a given value does not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Setting<T> {
    Default(T),
    Given(T),
}

impl<T: Copy> Setting<T> {
    pub(crate) fn value(&self) -> T {
        match *self {
            Self::Default(value) | Self::Given(value) => value,
        }
    }
}

/// A resource limit of the kernel for each process of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ulimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// Describes a container: image, PID 1, limits, environment, labels.
///
/// The defaults are those of a sandbox: no network, at most 512 MiB of memory and no swap, at most 512 processes, and a PID 1
/// of the library's own that ends when this process ends.
///
/// # Defaults of a sandbox
///
/// These defaults hold as well. Each item names the setting that changes it.
///
/// - Root's capabilities `NET_RAW`, `MKNOD`, `AUDIT_WRITE`, `SETFCAP`, `NET_BIND_SERVICE` and `SYS_CHROOT` are dropped.
///   [`cap_add`](Self::cap_add) keeps one of them. [`cap_drop_all`](Self::cap_drop_all) drops all capabilities. A `CapDrop` in
///   the raw configuration, even `[]`, replaces the whole list.
/// - When memory is short, the kernel kills the container's processes before the host's: `oom_score_adj` is 500. The raw
///   configuration sets another value. `crun` (seen with 1.28 under Docker) does not apply the value to commands by the exec
///   API: the kernel kills those last of all, after the container's PID 1 and the host's programs. Commands by the
///   [agent](crate::ExecVia) are not affected.
/// - No program gains privileges, e.g. by set-uid files. `no-new-privileges=false` or an empty list in `SecurityOpt` of the raw
///   configuration changes that; other options in the list do not.
/// - No core dumps are written: the limit `core` is 0. [`ulimit`](Self::ulimit) sets another value.
/// - The image's `HEALTHCHECK` does not run, since the server that it checks does not run. A `Healthcheck` in the raw
///   configuration does run; without a `Test` it means the image's. The image's check also runs where the server is
///   [supervised](Self::supervise_command), and with [`Ready::healthcheck`].
/// - Each directory that the image declares as a `VOLUME` is an empty file system in memory (tmpfs) that everybody can write
///   to. The file system holds half of the memory limit (256 MiB without one), and its content counts as memory. Programs
///   on it cannot be executed, and the image's content of the directory is hidden. The volumes are those of the image at the
///   time when the pool is built.
///   - A mount of your own on the directory takes the place of the default, e.g. by [`tmpfs_with`](Self::tmpfs_with) a file
///     system that belongs to another user.
///   - A directory in `Volumes` of the raw configuration gets an anonymous volume with the image's content, on the engine's
///     disk and without a limit.
///
/// # Raw configuration
///
/// Settings without a setter are given in Docker's own terms to [`raw_config`](Self::raw_config). With the feature
/// `bollard-0_21`, `docker_config` and `host_config` take the same in the types of the crate `bollard`. Four rules hold:
///
/// 1. The raw configuration is the base. The values of typed setters are written into it.
/// 2. If both set the same field, the values must be equal, whichever was set first. Otherwise the result is an
///    [`Error::Config`](crate::Error::Config) that names the field. Lists of names (environment, labels, `tmpfs`,
///    `ulimits`) are compared name by name and joined.
/// 3. Defaults fill only fields that neither has set.
/// 4. Settings that would break the library's own work are refused by field: labels under the library's prefix, a restart
///    policy, another automatic removal than the library's, and settings that take the standard input from the library's
///    PID 1.
///
/// Where the library's own PID 1 runs, its `StopSignal` and `Init` replace those of the raw configuration.
///
/// Everything else is passed on to the engine unchanged.
///
/// # Examples
///
/// ```
/// use dockerpool::{ContainerSpec, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// // One spec for several pools.
/// let sandbox = ContainerSpec::new("python:3.12-alpine")
///     .memory(128 << 20)
///     .pids_limit(64)
///     .user("65534:65534")
///     .read_only_root(true)
///     .tmpfs("/tmp", 16 << 20)
///     .label("team", "judges");
/// let pool = Pool::builder("judge")
///     .spec(sandbox.clone())
/// #     .engine(engine)
///     .build()
///     .await?;
/// let c = pool.acquire().await?;
/// assert_eq!(c.image(), sandbox.image());
/// assert!(c.labels().any(|label| label == ("team", "judges")));
/// # Ok(())
/// # }
/// ```
///
/// `Debug` shows variables by name, commands by their program, and the raw configuration by the fields that are set.
#[must_use = "a spec does nothing by itself: give it to a pool or to Container::create"]
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct ContainerSpec {
    pub(crate) image: String,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) pull: PullPolicy,
    pub(crate) platform: Option<String>,
    pub(crate) registry_auth: RegistryAuth,
    pub(crate) memory: Setting<Option<u64>>,
    pub(crate) cpus: Option<f64>,
    pub(crate) pids: Setting<Option<u32>>,
    pub(crate) tmpfs: BTreeMap<String, String>,
    pub(crate) read_only_root: Option<bool>,
    pub(crate) runtime: Option<String>,
    pub(crate) shm_size: Option<u64>,
    pub(crate) ulimits: BTreeMap<String, Ulimit>,
    pub(crate) cap_drop_all: bool,
    pub(crate) cap_add: Vec<String>,
    pub(crate) network: Option<Network>,
    pub(crate) published: Vec<RangeInclusive<u16>>,
    pub(crate) publish_address: IpAddr,
    pub(crate) ready: Vec<Ready>,
    pub(crate) ready_timeout: Duration,
    pub(crate) user: Option<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) docker_config: ContainerCreateBody,
    pub(crate) host_config: Option<HostConfig>,
    pub(crate) raw_config: Option<Value>,
    pub(crate) exec_via: ExecVia,
    pub(crate) agent_path: Option<PathBuf>,
    pub(crate) command_defaults: CommandDefaults,
    pub(crate) writable_cgroups: bool,
    pub(crate) supervise: bool,
    pub(crate) server_env: ServerEnv,
    pub(crate) entrypoint: Entrypoint,
    pub(crate) sandbox: Option<Sandbox>,
    /// The problems of sizes that were given as text, by the setter and its subject.
    pub(crate) bad_sizes: BTreeMap<(&'static str, String), String>,
    /// Whether the agent is reached through the engine alone, without a socket.
    pub(crate) without_agent_socket: bool,
}

impl ContainerSpec {
    /// The default memory limit in bytes: 512 MiB.
    pub const DEFAULT_MEMORY: u64 = 512 << 20;
    /// The default limit of the number of processes and threads: 512.
    pub const DEFAULT_PIDS: u32 = 512;
    /// The default time in which a container must get ready: 60 seconds.
    pub const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(60);
    /// The smallest memory limit that Docker accepts, in bytes: 6 MiB.
    pub const MIN_MEMORY: u64 = 6 << 20;

    /// Describes a container of this image, with the defaults of a sandbox. The image has Docker's usual form,
    /// `[registry/]name[:tag][@sha256:digest]`. Without a tag or a digest, the tag is `latest`. The image's `ENTRYPOINT` and `CMD`
    /// are not run, unless [`supervise_command`](Self::supervise_command) says so.
    pub fn new(image: impl Into<String>) -> Self {
        Self {
            image: image.into(),
            cmd: None,
            pull: PullPolicy::default(),
            platform: None,
            registry_auth: RegistryAuth::default(),
            memory: Setting::Default(Some(Self::DEFAULT_MEMORY)),
            cpus: None,
            pids: Setting::Default(Some(Self::DEFAULT_PIDS)),
            tmpfs: BTreeMap::new(),
            read_only_root: None,
            runtime: None,
            shm_size: None,
            ulimits: BTreeMap::new(),
            cap_drop_all: false,
            cap_add: Vec::new(),
            network: None,
            published: Vec::new(),
            publish_address: Ipv4Addr::LOCALHOST.into(),
            ready: Vec::new(),
            ready_timeout: Self::DEFAULT_READY_TIMEOUT,
            user: None,
            working_dir: None,
            env: Vec::new(),
            labels: BTreeMap::new(),
            docker_config: ContainerCreateBody::default(),
            host_config: None,
            raw_config: None,
            exec_via: ExecVia::default(),
            agent_path: None,
            command_defaults: CommandDefaults::default(),
            writable_cgroups: false,
            supervise: false,
            server_env: ServerEnv::default(),
            entrypoint: Entrypoint::default(),
            sandbox: None,
            bad_sizes: BTreeMap::new(),
            without_agent_socket: false,
        }
    }

    /// Returns the name of the image, as it was given.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Returns the names and values of the labels that [`label`](Self::label) was given, sorted by name.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    setters!();

    /// Returns the published ports.
    pub(super) fn ports(&self) -> BTreeSet<u16> {
        self.published.iter().cloned().flatten().collect()
    }

    /// Returns the spec that the setters change.
    fn wishes(&mut self) -> &mut Self {
        self
    }

    /// Returns the size that a setter was given for the thing that it names. A bad size is noted, and is forgotten with the next one.
    pub(crate) fn size(&mut self, setter: &'static str, of: &str, size: ByteSize) -> Option<Option<u64>> {
        let key = (setter, of.to_owned());
        match size.bytes() {
            Ok(bytes) => {
                self.bad_sizes.remove(&key);
                Some(bytes)
            }
            Err(problem) => {
                self.bad_sizes.insert(key, problem);
                None
            }
        }
    }

    /// Returns the size as [`size`](Self::size) does, where there must be one.
    pub(crate) fn whole_size(&mut self, setter: &'static str, of: &str, size: ByteSize) -> Option<u64> {
        let bytes = self.size(setter, of, size)?;
        if bytes.is_none() {
            self.bad_sizes
                .insert((setter, of.to_owned()), "must be a size, and not None".to_owned());
        }
        bytes
    }

    /// Sets the raw configuration, and takes its image where none was named.
    pub(crate) fn set_raw_config(&mut self, config: Value) {
        if let (true, Some(image)) = (self.image.is_empty(), config["Image"].as_str()) {
            self.image = image.to_owned();
        }
        self.raw_config = Some(config);
    }

    /// Sets the raw configuration in bollard's types, and takes its image where none was named.
    #[cfg(feature = "bollard-0_21")]
    pub(crate) fn set_docker_config(&mut self, config: ContainerCreateBody) {
        if let (true, Some(image)) = (self.image.is_empty(), &config.image) {
            self.image = image.clone();
        }
        self.docker_config = config;
    }

    /// Resolves the spec into the plan that an engine is given, as far as the plan is known without an engine. Where PID 1 is
    /// the library's own, the plan has `cat`, and not the agent. The image's declarations are left out, and so are the labels
    /// that a pool adds.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with one entry for every bad value.
    ///
    /// # Examples
    ///
    /// ```
    /// use dockerpool::ContainerSpec;
    ///
    /// # fn main() -> Result<(), dockerpool::Error> {
    /// let plan = ContainerSpec::new("busybox:1.36").env("TOKEN", "secret").plan()?;
    /// assert_eq!(plan.limits.memory, Some(ContainerSpec::DEFAULT_MEMORY));
    /// assert!(plan.pid1.lifeline && plan.auto_remove);
    /// assert!(!format!("{plan:?}").contains("secret"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn plan(&self) -> Result<Plan, Error> {
        match self.problems() {
            problems if problems.is_empty() => Ok(resolve(self, Decided::default()).plan),
            problems => Err(Error::Config(problems)),
        }
    }

    /// Returns whether containers of this spec end with their owner. They do unless the spec has a PID 1 of its own that is
    /// not [supervised](Self::supervise_command). [`Status::lifeline`](crate::Status::lifeline) tells how sure the end is.
    pub fn has_lifeline(&self) -> bool {
        let (raw, _) = raw_config::of(self);
        self.supervise
            || [&self.cmd, &raw.cmd, &raw.entrypoint]
                .iter()
                .all(|given| given.is_none())
    }
}

impl fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Destructured without `..`, so that each new field needs a decision whether it may be shown.
        let Self {
            image,
            cmd,
            pull,
            platform,
            registry_auth,
            memory,
            cpus,
            pids,
            tmpfs,
            read_only_root,
            runtime,
            shm_size,
            ulimits,
            cap_drop_all,
            cap_add,
            network,
            published,
            publish_address,
            ready,
            ready_timeout,
            user,
            working_dir,
            env,
            labels,
            docker_config,
            host_config,
            raw_config,
            exec_via,
            agent_path,
            command_defaults,
            writable_cgroups,
            supervise,
            server_env,
            entrypoint,
            sandbox,
            // Of no use to a reader beside the error.
            bad_sizes: _,
            without_agent_socket,
        } = self;
        let env: Vec<_> = env.iter().map(|(name, _)| name).collect();
        f.debug_struct("ContainerSpec")
            .field("image", image)
            .field("cmd", &cmd.as_deref().map(Argv))
            .field("pull", pull)
            .field("platform", platform)
            .field("registry_auth", registry_auth)
            .field("memory", &memory.value())
            .field("cpus", cpus)
            .field("pids_limit", &pids.value())
            .field("tmpfs", tmpfs)
            .field("read_only_root", read_only_root)
            .field("runtime", runtime)
            .field("shm_size", shm_size)
            .field("ulimits", ulimits)
            .field("cap_drop_all", cap_drop_all)
            .field("cap_add", cap_add)
            .field("network", network)
            .field("publish", published)
            .field("publish_address", publish_address)
            .field("ready_when", ready)
            .field("ready_timeout", ready_timeout)
            .field("user", user)
            .field("working_dir", working_dir)
            .field("env", &env)
            .field("labels", labels)
            .field("docker_config", &Fields(docker_config))
            .field("host_config", &host_config.as_ref().map(Fields))
            .field("raw_config", &raw_config.as_ref().map(Fields))
            .field("exec_via", exec_via)
            .field("agent_path", agent_path)
            .field("command_defaults", command_defaults)
            .field("writable_cgroups", writable_cgroups)
            .field("supervise_command", supervise)
            .field("server_env", server_env)
            .field("entrypoint", entrypoint)
            .field("sandbox", sandbox)
            .field("without_agent_socket", without_agent_socket)
            .finish()
    }
}
