//! The settings of containers for code that nobody trusts: [`Sandbox`].

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigCgroupnsModeEnum, MountType, ResourcesUlimits};

use super::container_spec::{ContainerSpec, Setting};
use super::merge::{Conflicts, signed};
use super::seccomp::{Kind, Seccomp};
use crate::engine::docker::create_body;

/// The directory of a sandbox's work, and the home of its user.
const WORK: &str = "/work";

/// The directory of temporary files.
const TMP: &str = "/tmp";

/// Describes containers for code that nobody trusts, for
/// [`ContainerSpec::sandbox`](crate::ContainerSpec::sandbox) and [`PoolBuilder::sandbox`](crate::PoolBuilder::sandbox).
///
/// [`strict`](Self::strict) asks for everything in the table. Each method loosens one item by name, and says what is lost.
///
/// | item | value |
/// |---|---|
/// | user | 65534:65534 for PID 1 and for commands; `USER` and `LOGNAME` are `nobody` |
/// | root file system | read-only |
/// | `/work` | a file system in memory of a quarter of the memory limit, the user's own; the working directory and `HOME` |
/// | `/tmp` | the same with an eighth of the memory limit; `TMPDIR` |
/// | `/dev/shm` | an eighth of the memory limit |
/// | inodes | 16,384 in each of `/work` and `/tmp`, in which programs can be executed, without the rights of set-uid files |
/// | `VOLUME`s of the image | an empty file system in memory over each, as [everywhere](crate::ContainerSpec#defaults-of-a-sandbox) |
/// | capabilities | none, and no program gains privileges |
/// | system calls | those of [`Seccomp::strict`] |
/// | processes | at most 128 |
/// | memory | 512 MiB, and no swap |
/// | processors | one |
/// | limits of each process | 1,024 open files (`nofile`), files of at most the size of `/work` (`fsize`), no core dumps (`core`) |
/// | network | none |
/// | log, health check | none |
/// | `oom_score_adj` | 500 |
///
/// # Settings beside the sandbox
///
/// - Amounts are set by the setters of the spec, which take the place of the sandbox's: [`memory`](crate::ContainerSpec::memory),
///   [`cpus`](crate::ContainerSpec::cpus), [`pids_limit`](crate::ContainerSpec::pids_limit),
///   [`shm_size`](crate::ContainerSpec::shm_size) and [`ulimit`](crate::ContainerSpec::ulimit). The same holds for
///   [`working_dir`](crate::ContainerSpec::working_dir) and the variables of [`env`](crate::ContainerSpec::env).
/// - [`tmpfs`](crate::ContainerSpec::tmpfs) adds further file systems in memory, at other paths than `/tmp` and `/work`.
/// - A [`cmd`](crate::ContainerSpec::cmd) of your own is allowed. Then the containers have no lifeline, and outlive an owner that
///   is killed: see [`Status::lifeline`](crate::Status::lifeline).
/// - A setting that contradicts the sandbox is an [`Error::Config`](crate::Error::Config), whichever was set first. The error names
///   the field, and the method here that gives the item up.
/// - Some settings go with no sandbox: a privileged container, namespaces of the machine or of other containers, devices,
///   further groups, [`writable_cgroups`](crate::ContainerSpec::writable_cgroups).
/// - Podman takes no profile of system calls through Docker's interface, and has no limit of inodes. `build()` says so;
///   `Sandbox::strict().seccomp(Seccomp::engine()).inodes(None)` is what Podman can do.
///
/// # What is checked
///
/// `build()` reads back what a first container has: by the engine's description of it, and from its inside, where the agent runs a
/// command that reads the kernel's files and tries each refused system call. If an item is not in force, `build()` fails with
/// [`SettingIgnored`](crate::EngineErrorKind::SettingIgnored) or [`LimitDiscarded`](crate::EngineErrorKind::LimitDiscarded), and
/// names it. [`Pool::security`](crate::Pool::security) returns all that was seen. Later containers are made from the same request.
/// Nothing else runs in the container when it is looked at, unless PID 1 is a program of its own ([`cmd`](crate::ContainerSpec::cmd)).
///
/// # The user of commands
///
/// PID 1 is the same user as the commands, has no capability, and so cannot run a command as another user.
/// [`Command::user`](crate::Command::user) goes by the engine's exec API, without capabilities too. What such a command leaves
/// cannot be cleaned, so that the container is replaced. Processes of the user can end each other. They cannot look into
/// PID 1. They can take its means away, so that it ends, and the container with it.
///
/// # What a sandbox is not
///
/// The code runs on the kernel of the engine's machine, of which a fault can let it out. [`runtime`](crate::ContainerSpec::runtime)
/// takes a runtime with a kernel of its own, such as `runsc` (gVisor) or `kata`. These may ignore a profile of system calls, and
/// `build()` then fails until it is given up by name.
///
/// # Examples
///
/// ```
/// use dockerpool::{Pool, Sandbox};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
/// let pool = Pool::builder("untrusted")
///     .image("python:3.12-alpine")
///     .sandbox(Sandbox::strict().work_size(64 << 20))
///     .memory(256 << 20)
/// #     .engine(engine)
///     .build()
///     .await?;
/// let c = pool.acquire().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a sandbox does nothing by itself: give it to a spec or a builder"]
#[derive(Clone, Debug, PartialEq)]
pub struct Sandbox {
    pub(super) uid: u32,
    pub(super) gid: u32,
    tmp: Option<u64>,
    work: Option<u64>,
    inodes: Option<u64>,
    pub(super) seccomp: Seccomp,
    pub(super) keeps: Vec<String>,
    writable_root: bool,
    pub(super) new_privileges: bool,
    network: bool,
    mounts: bool,
    log: bool,
    health_check: bool,
    any_memory: bool,
    any_cpus: bool,
    any_pids: bool,
    oom_score_adj: i64,
}

impl Sandbox {
    /// The default user and group: 65534, `nobody` in most images.
    pub const USER: u32 = 65534;
    /// The default number of inodes of each file system in memory.
    pub const INODES: u64 = 16384;
    /// The default limit of the number of processes and threads.
    pub const PIDS: u32 = 128;
    /// The default limit of open files of each process.
    pub const OPEN_FILES: u64 = 1024;
    /// The default `oom_score_adj`.
    pub const OOM_SCORE_ADJ: i64 = 500;

    /// Asks for everything in the [table](Self).
    pub fn strict() -> Self {
        Self {
            uid: Self::USER,
            gid: Self::USER,
            tmp: None,
            work: None,
            inodes: Some(Self::INODES),
            seccomp: Seccomp::strict(),
            keeps: Vec::new(),
            writable_root: false,
            new_privileges: false,
            network: false,
            mounts: false,
            log: false,
            health_check: false,
            any_memory: false,
            any_cpus: false,
            any_pids: false,
            oom_score_adj: Self::OOM_SCORE_ADJ,
        }
    }

    /// Runs PID 1 and commands as this user and group. Root has no capabilities either, but owns the image's files, and is the
    /// machine's root where the engine does not remap users: whatever lets code out lets it out as root.
    pub fn run_as(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// Sets the size of `/tmp` in bytes. Its content counts as memory, whose limit it must not exceed.
    pub fn tmp_size(mut self, bytes: u64) -> Self {
        self.tmp = Some(bytes);
        self
    }

    /// Sets the size of `/work` in bytes, and with it the largest file (`fsize`). Its content counts as memory, whose limit it must not
    /// exceed.
    pub fn work_size(mut self, bytes: u64) -> Self {
        self.work = Some(bytes);
        self
    }

    /// Sets how many files and directories each of `/tmp` and `/work` can hold. Each costs the machine about a kilobyte of its
    /// kernel's memory, which counts as the container's on most machines. `None`: the kernel's own limit, which depends on the
    /// machine's memory. Podman can set no other.
    pub fn inodes(mut self, count: impl Into<Option<u64>>) -> Self {
        self.inodes = count.into();
        self
    }

    /// Sets which system calls processes may make.
    pub fn seccomp(mut self, seccomp: Seccomp) -> Self {
        self.seccomp = seccomp;
        self
    }

    /// Makes the root file system writable. Then code can change programs of the image for commands of the same lease, and fill the
    /// engine's disk, for which there is no limit. With [`Reuse::Clean`](crate::Reuse::Clean), a container with a change in the root
    /// file system is replaced.
    pub fn writable_root(mut self) -> Self {
        self.writable_root = true;
        self
    }

    /// Keeps a capability, e.g. `NET_BIND_SERVICE`. Users other than root have it only in programs whose file grants it, for
    /// which [`allow_new_privileges`](Self::allow_new_privileges) is needed too. With
    /// [`Reuse::Clean`](crate::Reuse::Clean) such containers are replaced after each lease.
    pub fn keep_capability(mut self, name: impl Into<String>) -> Self {
        let name = bare(&name.into());
        if !self.keeps.contains(&name) {
            self.keeps.push(name);
        }
        self
    }

    /// Lets set-uid programs of the image change their user: a faulty one makes its caller root of the container.
    pub fn allow_new_privileges(mut self) -> Self {
        self.new_privileges = true;
        self
    }

    /// Accepts the network of [`network`](crate::ContainerSpec::network). Code then reaches whatever that network reaches, which
    /// may be other containers, the machine's own services and the metadata service of a cloud.
    pub fn allow_network(mut self) -> Self {
        self.network = true;
        self
    }

    /// Accepts mounts and volumes of the raw configuration. Code reads, and may change, what is mounted there. A mounted socket
    /// of an engine makes it root of the machine, also where it is mounted read-only.
    pub fn allow_mounts(mut self) -> Self {
        self.mounts = true;
        self
    }

    /// Accepts a `LogConfig` of the raw configuration. Code can then fill the engine's disk by printing as PID 1.
    pub fn allow_log(mut self) -> Self {
        self.log = true;
        self
    }

    /// Accepts a `Healthcheck` of the raw configuration, and the image's own where its server is supervised. Its program is the
    /// container's, and its output reaches the engine.
    pub fn allow_health_check(mut self) -> Self {
        self.health_check = true;
        self
    }

    /// Accepts `memory(None)`: code can take all memory of the machine.
    pub fn allow_unlimited_memory(mut self) -> Self {
        self.any_memory = true;
        self
    }

    /// Sets no limit of processor time: code slows all else on the machine down.
    pub fn allow_unlimited_cpus(mut self) -> Self {
        self.any_cpus = true;
        self
    }

    /// Accepts `pids_limit(None)`: a fork bomb takes all process numbers of the machine.
    pub fn allow_unlimited_pids(mut self) -> Self {
        self.any_pids = true;
        self
    }

    /// Sets `oom_score_adj`, from -1000 to 1000. With less than 0 the kernel kills programs of the machine before those of the
    /// sandbox when memory is short.
    pub fn oom_score_adj(mut self, value: i64) -> Self {
        self.oom_score_adj = value;
        self
    }

    /// Returns the sizes of `/tmp`, `/work` and `/dev/shm`.
    fn sizes(&self, host: &HostConfig) -> [u64; 3] {
        let memory = host.memory.and_then(|limit| u64::try_from(limit).ok());
        let memory = memory
            .filter(|limit| *limit > 0)
            .unwrap_or(ContainerSpec::DEFAULT_MEMORY);
        [
            self.tmp.unwrap_or(memory / 8),
            self.work.unwrap_or(memory / 4),
            memory / 8,
        ]
    }

    /// Reports every value that cannot be used.
    pub(super) fn check(&self, bad: &mut impl FnMut(&str, &str)) {
        if self.tmp == Some(0) || self.work == Some(0) || self.inodes == Some(0) {
            bad("sandbox", "a size or number of inodes of 0 would mean no limit");
        }
        if [self.tmp, self.work]
            .iter()
            .flatten()
            .any(|size| *size > i64::MAX as u64)
        {
            bad("sandbox", "a size must fit in 63 bits");
        }
        if !(-1000..=1000).contains(&self.oom_score_adj) {
            bad("sandbox", "oom_score_adj() must be from -1000 to 1000");
        }
        if matches!(&self.seccomp.0, Kind::Profile(profile) if !profile.is_object()) {
            bad("sandbox", "the profile of seccomp() must be a JSON object");
        }
    }

    /// Writes the sandbox into a body that has the settings of a spec, but no defaults yet, and adds every contradiction.
    pub(super) fn apply(
        &self,
        spec: &ContainerSpec,
        body: &mut ContainerCreateBody,
        host: &mut HostConfig,
        conflicts: &mut Conflicts,
    ) {
        refuse_ways_out(spec, host, conflicts);
        self.set_user(spec, body, conflicts);
        self.set_limits(spec, host, conflicts);
        self.set_files(spec, body, host, conflicts);
        self.set_privileges(spec, host, conflicts);
        self.set_surroundings(spec, body, host, conflicts);
    }

    fn set_user(&self, spec: &ContainerSpec, body: &mut ContainerCreateBody, conflicts: &mut Conflicts) {
        let user = format!("{}:{}", self.uid, self.gid);
        if body
            .user
            .as_ref()
            .is_some_and(|given| !given.is_empty() && *given != user)
        {
            let field = field(spec.user.is_some(), "user", "docker_config.user");
            conflicts.add(field, format!("the sandbox's user is {user}: see Sandbox::run_as()"));
        }
        body.user = Some(user);
        let dir = body.working_dir.take().filter(|dir| !dir.is_empty());
        body.working_dir = Some(dir.unwrap_or_else(|| WORK.to_owned()));
        let name = match self.uid {
            Self::USER => "nobody",
            0 => "root",
            _ => "sandbox",
        };
        let env = body.env.get_or_insert_default();
        for (variable, value) in [("HOME", WORK), ("USER", name), ("LOGNAME", name), ("TMPDIR", TMP)] {
            if !env.iter().any(|given| given.split('=').next() == Some(variable)) {
                env.push(format!("{variable}={value}"));
            }
        }
    }

    fn set_limits(&self, spec: &ContainerSpec, host: &mut HostConfig, conflicts: &mut Conflicts) {
        let is_unlimited = |limit: Option<i64>| limit.is_some_and(|limit| limit <= 0);
        if !self.any_memory && (spec.memory == Setting::Given(None) || is_unlimited(host.memory)) {
            let field = field(spec.memory == Setting::Given(None), "memory", "host_config.memory");
            conflicts.add(field, "the sandbox has a limit: see Sandbox::allow_unlimited_memory()");
        }
        if spec.memory != Setting::Given(None) {
            host.memory.get_or_insert(ContainerSpec::DEFAULT_MEMORY as i64);
        }
        let has_swap = host.memory_swap.is_some_and(|both| Some(both) != host.memory);
        if !self.any_memory && (has_swap || host.oom_kill_disable == Some(true)) {
            let problem = "the sandbox has no swap beside its memory: see Sandbox::allow_unlimited_memory()";
            conflicts.add("host_config.memory_swap", problem);
        }
        if !self.any_pids && (spec.pids == Setting::Given(None) || is_unlimited(host.pids_limit)) {
            let field = field(
                spec.pids == Setting::Given(None),
                "pids_limit",
                "host_config.pids_limit",
            );
            conflicts.add(field, "the sandbox has a limit: see Sandbox::allow_unlimited_pids()");
        }
        if spec.pids != Setting::Given(None) {
            host.pids_limit.get_or_insert(i64::from(Self::PIDS));
        }
        let has_quota = host.cpu_quota.is_some_and(|quota| quota > 0);
        if !self.any_cpus && !has_quota {
            host.nano_cpus.take_if(|cpus| *cpus <= 0);
            host.nano_cpus.get_or_insert(1_000_000_000);
        }
        let [tmp, work, shm] = self.sizes(host);
        for (path, size) in [(TMP, tmp), (WORK, work)] {
            if let Some(memory) = host.memory.filter(|memory| *memory > 0 && size > memory.unsigned_abs()) {
                let problem = format!("{path} has {size} bytes, and the memory in which its content is kept {memory}");
                conflicts.add("sandbox", problem);
            }
        }
        host.shm_size.take_if(|size| *size <= 0);
        host.shm_size.get_or_insert(signed(shm));
        let ulimits = host.ulimits.get_or_insert_default();
        for (name, limit) in [("nofile", Self::OPEN_FILES), ("fsize", tmp.max(work)), ("core", 0)] {
            if !ulimits.iter().any(|given| given.name.as_deref() == Some(name)) {
                ulimits.push(ResourcesUlimits {
                    name: Some(name.to_owned()),
                    soft: Some(signed(limit)),
                    hard: Some(signed(limit)),
                });
            }
        }
        if host.oom_score_adj.is_some_and(|given| given < self.oom_score_adj) {
            let problem = format!("the sandbox's is {}: see Sandbox::oom_score_adj()", self.oom_score_adj);
            conflicts.add("host_config.oom_score_adj", problem);
        }
        host.oom_score_adj.get_or_insert(self.oom_score_adj);
    }

    fn set_files(
        &self,
        spec: &ContainerSpec,
        body: &ContainerCreateBody,
        host: &mut HostConfig,
        conflicts: &mut Conflicts,
    ) {
        if !self.writable_root {
            if host.readonly_rootfs == Some(false) {
                let field = field(
                    spec.read_only_root.is_some(),
                    "read_only_root",
                    "host_config.readonly_rootfs",
                );
                conflicts.add(field, "the sandbox's is read-only: see Sandbox::writable_root()");
            }
            host.readonly_rootfs = Some(true);
        }
        let [tmp, work, _] = self.sizes(host);
        let tmpfs = host.tmpfs.get_or_insert_default();
        for (path, size, mode) in [(TMP, tmp, "1777"), (WORK, work, "0700")] {
            if let Some(given) = tmpfs.keys().find(|given| given.trim_end_matches('/') == path).cloned() {
                let field = field(spec.tmpfs.contains_key(&given), "tmpfs", "host_config.tmpfs");
                let problem =
                    "the sandbox has its own at /tmp and /work: see Sandbox::tmp_size(), work_size() and inodes()";
                conflicts.add(field, problem);
            }
            let mut options = format!(
                "rw,exec,nosuid,nodev,size={size},uid={},gid={},mode={mode}",
                self.uid, self.gid
            );
            options.extend(self.inodes.map(|count| format!(",nr_inodes={count}")));
            tmpfs.insert(path.to_owned(), options);
        }
        if self.mounts {
            return;
        }
        let problem = "a sandbox has no mounts but its own: see Sandbox::allow_mounts()";
        let is_foreign = |mount: &bollard::models::Mount| mount.typ != Some(MountType::TMPFS);
        for (field, is_given) in [
            ("docker_config.volumes", body.volumes.iter().flatten().next().is_some()),
            ("host_config.binds", host.binds.iter().flatten().next().is_some()),
            ("host_config.mounts", host.mounts.iter().flatten().any(is_foreign)),
            (
                "host_config.volumes_from",
                host.volumes_from.iter().flatten().next().is_some(),
            ),
        ] {
            if is_given {
                conflicts.add(field, problem);
            }
        }
    }

    fn set_privileges(&self, spec: &ContainerSpec, host: &mut HostConfig, conflicts: &mut Conflicts) {
        let drops_all = |given: &Vec<String>| given.len() == 1 && bare(&given[0]) == "ALL";
        if host.cap_drop.as_ref().is_some_and(|given| !drops_all(given)) {
            let problem = "the sandbox drops all capabilities: see Sandbox::keep_capability()";
            conflicts.add("host_config.cap_drop", problem);
        }
        host.cap_drop = Some(vec!["ALL".to_owned()]);
        let is_other = |given: &String| !self.keeps.contains(&bare(given));
        if host.cap_add.iter().flatten().any(is_other) {
            let field = field(!spec.cap_add.is_empty(), "cap_add", "host_config.cap_add");
            conflicts.add(field, "the sandbox has no capabilities: see Sandbox::keep_capability()");
        }
        host.cap_add = Some(self.keeps.clone()).filter(|keeps| !keeps.is_empty());

        const NO_NEW_PRIVILEGES: &str = "no-new-privileges";
        const NEW_PRIVILEGES: [&str; 2] = ["no-new-privileges=false", "no-new-privileges:false"];
        let options = host.security_opt.get_or_insert_default();
        for option in options.iter() {
            let lower = option.to_ascii_lowercase();
            let (name, value) = lower.split_once(['=', ':']).unwrap_or((&lower, "true"));
            let problem = match (name, value) {
                (NO_NEW_PRIVILEGES, "true") => continue,
                (NO_NEW_PRIVILEGES, _) if self.new_privileges => continue,
                (NO_NEW_PRIVILEGES, _) => "no program gains privileges: see Sandbox::allow_new_privileges()",
                ("apparmor", profile) if profile != "unconfined" => continue,
                ("label", label) if label != "disable" => continue,
                ("seccomp", _) => "the profile of a sandbox is that of Sandbox::seccomp()",
                _ => "an option that takes protection away, or that is not known, does not go with a sandbox",
            };
            conflicts.add("host_config.security_opt", problem);
        }
        let profile = self.seccomp.option().map(|profile| format!("seccomp={profile}"));
        options.retain(|option| !option.starts_with(NO_NEW_PRIVILEGES));
        options.extend(profile);
        options.push(match self.new_privileges {
            true => NEW_PRIVILEGES[0].to_owned(),
            false => NO_NEW_PRIVILEGES.to_owned(),
        });
    }

    fn set_surroundings(
        &self,
        spec: &ContainerSpec,
        body: &mut ContainerCreateBody,
        host: &mut HostConfig,
        conflicts: &mut Conflicts,
    ) {
        if !self.network && host.network_mode.as_ref().is_some_and(|mode| mode != "none") {
            let field = field(spec.network.is_some(), "network", "host_config.network_mode");
            conflicts.add(field, "the sandbox has no network: see Sandbox::allow_network()");
        }
        if !self.log {
            if host
                .log_config
                .as_ref()
                .is_some_and(|log| *log != create_body::no_output())
            {
                conflicts.add(
                    "host_config.log_config",
                    "the sandbox has no log: see Sandbox::allow_log()",
                );
            }
            host.log_config = Some(create_body::no_output());
        }
        if !self.health_check {
            let none = create_body::no_health_check();
            if body.healthcheck.as_ref().is_some_and(|check| check.test != none.test) {
                let problem = "the sandbox has no health check: see Sandbox::allow_health_check()";
                conflicts.add("docker_config.healthcheck", problem);
            }
            body.healthcheck = Some(none);
        }
    }
}

/// Refuses settings that are ways out of every sandbox.
fn refuse_ways_out(spec: &ContainerSpec, host: &HostConfig, conflicts: &mut Conflicts) {
    let is_own = |mode: &Option<String>| matches!(mode.as_deref(), None | Some("" | "private" | "none"));
    let is_host = |mode: &Option<String>| mode.as_deref() == Some("host");
    for (field, is_given) in [
        ("host_config.privileged", host.privileged == Some(true)),
        ("host_config.pid_mode", !is_own(&host.pid_mode)),
        ("host_config.ipc_mode", !is_own(&host.ipc_mode)),
        ("host_config.uts_mode", !is_own(&host.uts_mode)),
        ("host_config.userns_mode", is_host(&host.userns_mode)),
        (
            "host_config.cgroupns_mode",
            host.cgroupns_mode == Some(HostConfigCgroupnsModeEnum::HOST),
        ),
        ("host_config.devices", host.devices.iter().flatten().next().is_some()),
        (
            "host_config.device_requests",
            host.device_requests.iter().flatten().next().is_some(),
        ),
        (
            "host_config.device_cgroup_rules",
            host.device_cgroup_rules.iter().flatten().next().is_some(),
        ),
        (
            "host_config.group_add",
            host.group_add.iter().flatten().next().is_some(),
        ),
        ("host_config.masked_paths", host.masked_paths.is_some()),
        ("host_config.readonly_paths", host.readonly_paths.is_some()),
        ("writable_cgroups", spec.writable_cgroups),
    ] {
        if is_given {
            conflicts.add(field, "does not go with a sandbox");
        }
    }
}

/// Returns the name of the setter if it was called, and otherwise the field of the raw configuration.
fn field<'a>(by_setter: bool, setter: &'a str, raw: &'a str) -> &'a str {
    if by_setter { setter } else { raw }
}

/// Returns the name of a capability in upper case, without its prefix.
fn bare(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
}
