//! The user's wishes for a container: [`ContainerSpec`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use bollard::models::{ContainerCreateBody, HostConfig};

use super::resolve::{Decided, resolve};
use crate::agent::ExecVia;
use crate::engine::{Network, Plan, PullPolicy, RegistryAuth};
use crate::error::Error;
use crate::values::shown::{Argv, Fields};

/// A value of a typed setter that has a default. The default gives way to the raw configuration; what was given does not.
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

/// A resource limit of the kernel for the processes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ulimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// What a container is to be like: image, PID 1, limits, environment, labels.
///
/// The defaults are those of a sandbox: no network, at most 512 MiB of memory (and no swap), at most 512 processes, no
/// gaining of privileges by set-uid programs, and a PID 1 of the library's own that ends when this process ends.
///
/// # Defaults of a sandbox
///
/// Beside these, unless the spec says otherwise in the way that is named:
///
/// - Root's capabilities `NET_RAW`, `MKNOD`, `AUDIT_WRITE`, `SETFCAP`, `NET_BIND_SERVICE` and `SYS_CHROOT` are dropped.
///   [`cap_add`](Self::cap_add) keeps one of them. A `cap_drop` in the raw configuration takes the place of the whole
///   list, `[]` too. [`cap_drop_all`](Self::cap_drop_all) drops all.
/// - The kernel prefers the container's processes to the host's when it kills for memory: `oom_score_adj` is 500. The raw
///   configuration sets another value. `crun` (seen with 1.28 under Docker) does not give that to what it executes: commands
///   by the exec API are then taken last of all, after the container's own PID 1 and the host's programs. Those by the
///   [agent](crate::ExecVia) are not.
/// - No program gains privileges by set-uid files and the like. `no-new-privileges=false` or an empty list in `security_opt` of the
///   raw configuration says otherwise; other options of security do not.
/// - No core dumps are written: the limit `core` is 0. [`ulimit`](Self::ulimit) sets another value.
/// - The image's `HEALTHCHECK` does not run, since the server that it asks does not run. The raw configuration asks for a
///   check (`healthcheck`; one without a `test` means the image's). The check does run where the server is
///   [supervised](Self::supervise_command).
/// - Each directory that the image declares as a `VOLUME` is an empty file system in memory (tmpfs) that everybody can
///   write to. It holds half of the memory limit (256 MiB without one), and what is in it counts as memory. Programs on
///   it cannot be executed. What the image has in that directory is not seen. Mount something else on the directory to
///   have that, e.g. with [`tmpfs_with`](Self::tmpfs_with) one that belongs to another user. A directory that is named
///   in `volumes` of the raw configuration gets an anonymous volume, with the image's content, on the engine's disk and
///   without a limit. The volumes are those of the image at the time when the pool is built.
///
/// # Raw configuration
///
/// What has no setter here can be said in Docker's own terms, with [`docker_config`](Self::docker_config) and
/// [`host_config`](Self::host_config), beside the typed setters. One rule holds for both:
///
/// 1. The raw configuration is the base, and what typed setters were given is written into it.
/// 2. Where both say something about the same field, they must say the same, whichever was called first: else it is an
///    [`Error::Config`](crate::Error::Config) that names the field. Lists of names (environment, labels, `tmpfs`,
///    `ulimits`) are compared name by name and joined.
/// 3. The defaults of the sandbox fill only what neither has said.
/// 4. What would break the library's own work is refused, by field: labels under its prefix, a restart policy, automatic
///    removal other than its own, and whatever takes the standard input of its own PID 1.
///
/// Everything else is passed on to the engine as it is.
///
/// # Examples
///
/// ```
/// use dockerpool::{ContainerSpec, Pool};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// // Said once, for several pools.
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
/// `Debug` shows variables by their names, commands by their program, and the raw configuration by the fields that are set.
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
    pub(crate) user: Option<String>,
    pub(crate) working_dir: Option<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) docker_config: ContainerCreateBody,
    pub(crate) host_config: Option<HostConfig>,
    pub(crate) exec_via: ExecVia,
    pub(crate) agent_path: Option<PathBuf>,
    pub(crate) writable_cgroups: bool,
    pub(crate) supervise: bool,
    /// Whether agents have no socket.
    pub(crate) without_agent_socket: bool,
}

impl ContainerSpec {
    /// The default memory limit in bytes: 512 MiB.
    pub const DEFAULT_MEMORY: u64 = 512 << 20;
    /// The default limit of processes (threads count).
    pub const DEFAULT_PIDS: u32 = 512;
    /// The smallest memory limit the Docker engine takes, in bytes: 6 MiB.
    pub const MIN_MEMORY: u64 = 6 << 20;

    /// A container of this image, with the defaults of a sandbox. The image is named as everywhere with Docker:
    /// `[registry/]name[:tag][@sha256:digest]`; without a tag or a digest, `latest` is meant.
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
            user: None,
            working_dir: None,
            env: Vec::new(),
            labels: BTreeMap::new(),
            docker_config: ContainerCreateBody::default(),
            host_config: None,
            exec_via: ExecVia::default(),
            agent_path: None,
            writable_cgroups: false,
            supervise: false,
            without_agent_socket: false,
        }
    }

    /// PID 1 of the container, in place of the library's own. It must keep running; it need not do anything. With
    /// [`supervise_command`](Self::supervise_command) it is run beside the library's own.
    ///
    /// The library's own PID 1 reads an attached standard input and ends with it, so that the container is gone soon
    /// after this process is, however it ended: see [`Lifeline`](crate::Lifeline), also for how sure that is. With a
    /// command of your own there is no such lifeline: containers of an
    /// owner that was killed stay until somebody removes them (they carry the label
    /// [`labels::MANAGED_BY`](crate::labels::MANAGED_BY)).
    #[must_use]
    pub fn cmd<I, A>(mut self, cmd: I) -> Self
    where
        I: IntoIterator<Item = A>,
        A: AsRef<str>,
    {
        self.cmd = Some(cmd.into_iter().map(|arg| arg.as_ref().to_owned()).collect());
        self
    }

    /// When to pull the image. Default: [`PullPolicy::IfMissing`].
    #[must_use]
    pub fn pull(mut self, policy: PullPolicy) -> Self {
        self.pull = policy;
        self
    }

    /// The image's platform where it is not the engine's own, e.g. `linux/arm64` under an emulator. An image of that name
    /// on the engine that is for another platform counts as missing.
    ///
    /// Without an emulator PID 1 of such a container does not start, and `build()` says so. In Docker with containerd's image
    /// store one name can stand for images of several platforms, of which a pull fetches one, and keeps the others. From
    /// version 28.1 on Docker can be asked for the one that is meant. Elsewhere the name is that of the image pulled last.
    #[must_use]
    pub fn platform(mut self, platform: impl Into<String>) -> Self {
        self.platform = Some(platform.into());
        self
    }

    /// How the registry is told who pulls. Default: by the user's Docker configuration, as for `docker pull`.
    #[must_use]
    pub fn registry_auth(mut self, auth: RegistryAuth) -> Self {
        self.registry_auth = auth;
        self
    }

    /// Memory limit in bytes; swap is not added to it. `None`: unlimited. Default: [`Self::DEFAULT_MEMORY`].
    #[must_use]
    pub fn memory(mut self, bytes: impl Into<Option<u64>>) -> Self {
        self.memory = Setting::Given(bytes.into());
        self
    }

    /// How many cpus' worth of time it may use, e.g. `0.5`. `None` (the default): as many as there are.
    #[must_use]
    pub fn cpus(mut self, cpus: impl Into<Option<f64>>) -> Self {
        self.cpus = cpus.into();
        self
    }

    /// How many processes and threads it may have, PID 1 among them. `None`: unlimited. Default:
    /// [`Self::DEFAULT_PIDS`].
    #[must_use]
    pub fn pids_limit(mut self, pids: impl Into<Option<u32>>) -> Self {
        self.pids = Setting::Given(pids.into());
        self
    }

    /// The user the commands run as, and PID 1 if it is the [agent](ExecVia): `user[:group]`, by name or number. Default:
    /// the image's.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The working directory of PID 1 and of the commands, absolute. Default: the image's.
    #[must_use]
    pub fn working_dir(mut self, dir: impl Into<String>) -> Self {
        self.working_dir = Some(dir.into());
        self
    }

    /// Adds an environment variable; the last value given for a name counts. `Debug` and errors show its name only; for
    /// logs see [Secrets](crate#secrets).
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// Adds a label. Names that begin with [`labels::PREFIX`](crate::labels::PREFIX) are the library's own and are
    /// refused.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// How commands are run. Default: [`ExecVia::default`].
    #[must_use]
    pub fn exec_via(mut self, via: ExecVia) -> Self {
        self.exec_via = via;
        self
    }

    /// The agent's program where it is not the one built with the library: its path on the engine's machine. It must be of
    /// the containers' architecture, speak this version of the protocol, and be readable and executable by everybody.
    #[must_use]
    pub fn agent_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.agent_path = Some(path.into());
        self
    }

    /// Has the agent run the containers' own command beside those of leases: what [`cmd`](Self::cmd) says, or else the
    /// image's `ENTRYPOINT` and `CMD`. For images that are a server, whose commands of leases are its clients. It needs the
    /// [agent](ExecVia::Agent). Default: `false`.
    ///
    /// - It is started with the container, as the container's user, with its environment, in its directory. A container is
    ///   lent when it has run for 50 milliseconds; when it is ready to serve is for whoever borrows it to find out.
    /// - The container ends with it, whatever its exit code: an idle one is replaced, commands of a lease come to
    ///   [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone), and the [`source`](crate::Error::ContainerGone)
    ///   of further ones tells how it ended and what it printed last. Else what it prints goes nowhere.
    /// - It is spared when a command of a lease is ended with all it has started, and so are processes that it starts; but
    ///   for those that leave both their parent and its session while that command runs.
    /// - [`kill_all`](crate::Container::kill_all) spares nobody, and so ends the container.
    /// - It gets no signal before it is killed with its container.
    ///
    /// # Examples
    ///
    /// ```
    /// use dockerpool::{ContainerSpec, ExecVia};
    ///
    /// let server = ContainerSpec::new("redis:7-alpine").exec_via(ExecVia::Agent).supervise_command(true);
    /// // The agent is PID 1, and holds on to the lifeline.
    /// assert!(server.has_lifeline());
    /// ```
    #[must_use]
    pub fn supervise_command(mut self, supervise: bool) -> Self {
        self.supervise = supervise;
        self
    }

    /// Has the container's control group (cgroup v2) writable for PID 1, which is the agent, and each command in a group of
    /// its own. Default: `false`.
    ///
    /// With it
    ///
    /// - a command can have limits of its own: [`Command::memory`](crate::Command::memory) and
    ///   [`Command::pids`](crate::Command::pids),
    /// - its [`Usage`](crate::Usage) counts everything it has started, with the most memory that all of it had at once,
    /// - it is ended by `cgroup.kill`, which no fork escapes, and its death is proven by the kernel's own count of what lives
    ///   in the group. Other commands, and what they have left behind, are never touched,
    /// - it is [`OutOfMemory`](crate::ExitStatus::OutOfMemory) if, and only if, a process in its group was killed for memory.
    ///
    /// # Who commands run as
    ///
    /// Whoever may write to the groups could leave them, and freeze PID 1, so that the container would outlive its owner.
    /// So PID 1 is root, and commands never are: they run as the [`user`](Self::user) of the spec or of the image, or as their
    /// [own](crate::Command::user). Building a pool fails where that user is root; a command that is to run as root fails
    /// with [`Error::CannotStart`](crate::Error::CannotStart). No program gains privileges (`no_new_privs`, also where
    /// `security_opt` is your own).
    ///
    /// # Where it works
    ///
    /// With cgroup v2, Linux 5.14 and the agent (see [`exec_via`](Self::exec_via)): on Docker 28 and later, and on Podman.
    /// Docker has no such option where it runs rootless or remaps users. Where it does not work, building a pool fails and
    /// says why: no limit of a command is silently none. [`Status::cgroups`](crate::Status::cgroups) tells what there is.
    ///
    /// # Errors
    ///
    /// [`Error::Config`](crate::Error::Config) without the agent, with
    /// [`supervise_command`](Self::supervise_command), with a user that is root, or where the engine says that it has cgroup v1
    /// or is too old. [`Error::Engine`](crate::Error::Engine) of the kind
    /// [`LimitDiscarded`](crate::EngineErrorKind::LimitDiscarded) where the agent finds that it cannot make groups.
    ///
    /// # Examples
    ///
    /// ```
    /// use dockerpool::{ContainerSpec, ExecVia};
    ///
    /// let judge = ContainerSpec::new("python:3.12-alpine")
    ///     .user("nobody")
    ///     .exec_via(ExecVia::Agent)
    ///     .writable_cgroups(true);
    /// # let _ = judge;
    /// ```
    #[must_use]
    pub fn writable_cgroups(mut self, writable: bool) -> Self {
        self.writable_cgroups = writable;
        self
    }

    /// Has the agent reached through the engine alone, as where its socket cannot be had.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    #[must_use]
    pub fn without_agent_socket(mut self) -> Self {
        self.without_agent_socket = true;
        self
    }

    /// The network. Default: [`Network::none`].
    #[must_use]
    pub fn network(mut self, network: impl Into<Network>) -> Self {
        self.network = Some(network.into());
        self
    }

    /// Mounts a file system in memory at this absolute path, of at most this many bytes, which count as the container's
    /// memory when they are used. Programs on it cannot be executed; see [`tmpfs_with`](Self::tmpfs_with).
    #[must_use]
    pub fn tmpfs(self, path: impl Into<String>, bytes: u64) -> Self {
        self.tmpfs_with(path, format!("size={bytes}"))
    }

    /// The same with the mount options of `tmpfs(5)`, e.g. `size=64m,exec,uid=1000,gid=1000`. Docker adds
    /// `noexec,nosuid,nodev` where they do not say otherwise. Owners hold better than `mode=`, which is lost when the
    /// container is started again.
    #[must_use]
    pub fn tmpfs_with(mut self, path: impl Into<String>, options: impl Into<String>) -> Self {
        self.tmpfs.insert(path.into(), options.into());
        self
    }

    /// Whether the root file system is read-only. What must be written then needs a [`tmpfs`](Self::tmpfs); volumes of
    /// the image stay writable (see [Defaults of a sandbox](Self#defaults-of-a-sandbox)). Default: `false`.
    #[must_use]
    pub fn read_only_root(mut self, read_only: bool) -> Self {
        self.read_only_root = Some(read_only);
        self
    }

    /// The OCI runtime, by the name under which the engine knows it, e.g. `runsc` for gVisor. Default: the engine's.
    ///
    /// An engine that does not have it is an error of `build()` before anything is made, and the container's description is
    /// read back: [`EngineErrorKind::SettingIgnored`](crate::EngineErrorKind::SettingIgnored) where it has another.
    /// Podman lets nobody choose by its interface for Docker's clients: there only the name of its default is no error
    /// ([`EngineErrorKind::Unsupported`](crate::EngineErrorKind::Unsupported)).
    ///
    /// `crun` in place of Docker's `runc` makes containers and starts commands by the exec API faster; see
    /// `cargo bench --bench oci_runtimes`. What the [agent](crate::ExecVia::Agent) runs does not depend on it. It must be on the
    /// engine's machine, be known to the engine (`"runtimes": {"crun": {"path": "/usr/bin/crun"}}` in Docker's
    /// `daemon.json`), and the machine should have cgroup v2. The library never chooses one by itself.
    #[must_use]
    pub fn runtime(mut self, name: impl Into<String>) -> Self {
        self.runtime = Some(name.into());
        self
    }

    /// The size of `/dev/shm` in bytes. Default: the engine's, 64 MiB.
    #[must_use]
    pub fn shm_size(mut self, bytes: u64) -> Self {
        self.shm_size = Some(bytes);
        self
    }

    /// A limit of the kernel on each process (`setrlimit(2)`), by its name in lower case, e.g. `nofile` or `fsize`.
    ///
    /// The limit is for commands. The agent (see [`ExecVia`]) gives it to each of them, and has `cpu`, `data`, `stack`,
    /// `nofile` and `as` not itself: it would end by them, and the container with it. Commands that the agent cannot run
    /// are [`Error::Engine`](crate::Error::Engine) where one of these is limited. Where PID 1 may not become another user
    /// since a user or dropped capabilities say so, it has the limit of `nofile` too. By the exec API PID 1 has all limits.
    ///
    /// Do not limit `nproc`: the kernel counts it by user over all containers together. See
    /// [`pids_limit`](Self::pids_limit).
    #[must_use]
    pub fn ulimit(mut self, name: impl Into<String>, soft: u64, hard: u64) -> Self {
        self.ulimits.insert(name.into(), Ulimit { soft, hard });
        self
    }

    /// Takes all of root's capabilities away, but those given back by [`cap_add`](Self::cap_add). The
    /// [agent](crate::ExecVia::Agent) needs `SETUID` and `SETGID` to run commands as other users than the container's, and
    /// `KILL` to end them.
    #[must_use]
    pub fn cap_drop_all(mut self) -> Self {
        self.cap_drop_all = true;
        self
    }

    /// Adds a capability of root's, e.g. `NET_BIND_SERVICE`; see `capabilities(7)`. One that is
    /// [dropped by default](Self#defaults-of-a-sandbox) is kept.
    #[must_use]
    pub fn cap_add(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        if !self.cap_add.contains(&name) {
            self.cap_add.push(name);
        }
        self
    }

    /// Docker's configuration of a container as the base, for what has no setter here: see
    /// [Raw configuration](Self#raw-configuration). An image named in it is taken where none was named before.
    #[must_use]
    pub fn docker_config(mut self, config: ContainerCreateBody) -> Self {
        if let (true, Some(image)) = (self.image.is_empty(), &config.image) {
            self.image = image.clone();
        }
        self.docker_config = config;
        self
    }

    /// Docker's configuration of a container's host side as the base, in place of the one that may be in
    /// [`docker_config`](Self::docker_config): see [Raw configuration](Self#raw-configuration).
    ///
    /// A setting that the engine refuses fails `build()` with [`Rejected`](crate::EngineErrorKind::Rejected). An option
    /// `seccomp=` of `security_opt` is given the profile itself on Docker, as JSON: the docker command line reads the file that is
    /// named to it. Podman is given the path of a file on its machine.
    #[must_use]
    pub fn host_config(mut self, config: HostConfig) -> Self {
        self.host_config = Some(config);
        self
    }

    /// The image.
    pub fn image(&self) -> &str {
        &self.image
    }

    /// Returns the labels that were given, by name.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Resolves the wishes into the plan that an engine is given, as far as it is known without an engine: PID 1 is `cat` where it
    /// is the library's own, and what the image declares is left out. A pool adds labels of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] with every bad value.
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

    /// Whether containers of this spec end with their owner: no PID 1 of the user's own was given, or the agent runs that
    /// in its place. How sure that is [`Status::lifeline`](crate::Status::lifeline) tells.
    pub fn has_lifeline(&self) -> bool {
        let given = [&self.cmd, &self.docker_config.cmd, &self.docker_config.entrypoint];
        self.supervise || given.iter().all(|given| given.is_none())
    }
}

impl fmt::Debug for ContainerSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever adds a field decides whether it may be shown.
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
            user,
            working_dir,
            env,
            labels,
            docker_config,
            host_config,
            exec_via,
            agent_path,
            writable_cgroups,
            supervise,
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
            .field("user", user)
            .field("working_dir", working_dir)
            .field("env", &env)
            .field("labels", labels)
            .field("docker_config", &Fields(docker_config))
            .field("host_config", &host_config.as_ref().map(Fields))
            .field("exec_via", exec_via)
            .field("agent_path", agent_path)
            .field("writable_cgroups", writable_cgroups)
            .field("supervise_command", supervise)
            .field("without_agent_socket", without_agent_socket)
            .finish()
    }
}
