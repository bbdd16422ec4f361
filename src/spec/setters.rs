//! The setters that describe containers, written once for [`ContainerSpec`](super::ContainerSpec) and
//! [`PoolBuilder`](crate::PoolBuilder).

/// Writes the methods of a type that has `fn wishes(&mut self) -> &mut ContainerSpec`.
macro_rules! setters {
    () => {
        /// Sets the program and the arguments of the container's PID 1, in place of the library's own. The program must keep
        /// running; it need not do anything. With [`supervise_command`](Self::supervise_command) the program runs beside the
        /// library's own PID 1. In either case the image's `ENTRYPOINT` is not run: a command that needs it begins with it.
        ///
        /// The library's own PID 1 reads an attached standard input and ends at end-of-file. The container is therefore gone
        /// soon after this process, however the process ended; [`Lifeline`](crate::Lifeline) says how sure that is. A command
        /// of your own has no lifeline: if the owner is killed, its containers stay until somebody removes them. They have the
        /// label [`labels::MANAGED_BY`](crate::labels::MANAGED_BY).
        pub fn cmd<I, A>(mut self, cmd: I) -> Self
        where
            I: IntoIterator<Item = A>,
            A: AsRef<str>,
        {
            self.wishes().cmd = Some(cmd.into_iter().map(|arg| arg.as_ref().to_owned()).collect());
            self
        }

        /// Sets when the engine pulls the image. Default: [`PullPolicy::IfMissing`](crate::PullPolicy::IfMissing).
        pub fn pull(mut self, policy: $crate::PullPolicy) -> Self {
            self.wishes().pull = policy;
            self
        }

        /// Sets the image's platform where it is not the engine's own, e.g. `linux/arm64` under an emulator. An image of the
        /// same name for another platform counts as missing.
        ///
        /// Without an emulator, PID 1 of such a container does not start, and `build()` fails. In Docker with containerd's
        /// image store, one name can stand for images of several platforms: a pull fetches one and keeps the others. From
        /// version 28.1 on, Docker finds the image of the given platform. Elsewhere the name stands for the image that was
        /// pulled last.
        pub fn platform(mut self, platform: impl Into<String>) -> Self {
            self.wishes().platform = Some(platform.into());
            self
        }

        /// Sets the login for the registry. Default: the login in the user's Docker configuration, as for `docker pull`.
        pub fn registry_auth(mut self, auth: $crate::RegistryAuth) -> Self {
            self.wishes().registry_auth = auth;
            self
        }

        /// Limits the memory, at least [`ContainerSpec::MIN_MEMORY`](crate::ContainerSpec::MIN_MEMORY): a number of bytes, or text
        /// such as `"64m"` (see [`ByteSize`](crate::ByteSize)). There is no swap beside it. `None`: unlimited. Default:
        /// [`ContainerSpec::DEFAULT_MEMORY`](crate::ContainerSpec::DEFAULT_MEMORY).
        pub fn memory(mut self, bytes: impl Into<$crate::ByteSize>) -> Self {
            let wishes = self.wishes();
            if let Some(bytes) = wishes.size("memory", "", bytes.into()) {
                wishes.memory = $crate::spec::container_spec::Setting::Given(bytes);
            }
            self
        }

        /// Limits the processor time, in processors from 0.01 up, e.g. `0.5` or `2`. `None` (the default): unlimited.
        pub fn cpus(mut self, cpus: impl Into<$crate::Cpus>) -> Self {
            self.wishes().cpus = cpus.into().count();
            self
        }

        /// Limits the number of processes and threads, PID 1 included. `None`: unlimited. Default:
        /// [`ContainerSpec::DEFAULT_PIDS`](crate::ContainerSpec::DEFAULT_PIDS).
        pub fn pids_limit(mut self, pids: impl Into<Option<u32>>) -> Self {
            self.wishes().pids = $crate::spec::container_spec::Setting::Given(pids.into());
            self
        }

        /// Sets the user of commands, and of PID 1 if that is the [agent](crate::ExecVia): `user[:group]`, by name or number.
        /// Default: the image's.
        pub fn user(mut self, user: impl Into<String>) -> Self {
            self.wishes().user = Some(user.into());
            self
        }

        /// Sets the working directory of PID 1 and of commands, absolute. If the image does not have the directory, Docker
        /// makes it, for root. Default: the image's.
        pub fn working_dir(mut self, dir: impl Into<String>) -> Self {
            self.wishes().working_dir = Some(dir.into());
            self
        }

        /// Adds an environment variable. The last value for a name counts. `Debug` and errors show the name only; for logs see
        /// [Secrets](crate#secrets).
        pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            let name = name.into();
            self.wishes().env.retain(|(known, _)| *known != name);
            self.wishes().env.push((name, value.into()));
            self
        }

        /// Adds a label. Names that begin with [`labels::PREFIX`](crate::labels::PREFIX) are reserved for the library and
        /// refused.
        pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.wishes().labels.insert(name.into(), value.into());
            self
        }

        /// Sets how commands are run. Default: [`ExecVia::default`](crate::ExecVia::default).
        pub fn exec_via(mut self, via: $crate::ExecVia) -> Self {
            self.wishes().exec_via = via;
            self
        }

        /// Sets the options that every command has where its own setters say nothing, such as a
        /// [`timeout`](crate::Command::timeout): see [`CommandDefaults`](crate::CommandDefaults), also for how one command does
        /// without. The last call counts, as a whole. Default: none.
        ///
        /// # Errors
        ///
        /// [`Error::Config`](crate::Error::Config) for a limit that no command can have, and for one that needs the agent with
        /// [`ExecVia::Docker`](crate::ExecVia::Docker). Where the agent turns out not to run a command, that command fails with
        /// [`Error::Unsupported`](crate::Error::Unsupported) and is not begun.
        pub fn command_defaults(mut self, defaults: $crate::CommandDefaults) -> Self {
            self.wishes().command_defaults = defaults;
            self
        }

        /// Sets the absolute path of an agent's program on the engine's machine, in place of the program that was built with
        /// the library. The program must be built for the containers' architecture, speak the library's version of the
        /// protocol, and be readable and executable by everybody.
        pub fn agent_path(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.wishes().agent_path = Some(path.into());
            self
        }

        /// Sets whether the agent runs the container's own command beside the commands of leases: the command of
        /// [`cmd`](Self::cmd), or else the image's `ENTRYPOINT` and `CMD`. The setting is for images that are servers, where
        /// the commands of leases are clients. The setting needs the [agent](crate::ExecVia::Agent). Default: `false`.
        ///
        /// - The own command starts with the container, with the container's user, environment and directory, and with variables of
        ///   its own ([`server_env`](Self::server_env)). A container is
        ///   lent once its own command has run for 50 milliseconds, and once it is ready: see [`ready_when`](Self::ready_when).
        /// - When the own command ends, with whatever exit code, the container ends. An idle container is replaced. On a lease,
        ///   running commands get [`ExitStatus::ContainerGone`](crate::ExitStatus::ContainerGone). For later commands, the
        ///   [`source`](crate::Error::ContainerGone) of the error tells how the own command ended and what it printed last; all
        ///   its other output is discarded.
        /// - When a command of a lease is ended with all it has started, the own command and the processes it starts are
        ///   spared. Not spared are those that leave both their parent and its session while that command runs.
        /// - [`kill_all`](crate::Container::kill_all) kills the own command too, and so ends the container.
        /// - The own command gets no signal before it is killed with its container.
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
        pub fn supervise_command(mut self, supervise: bool) -> Self {
            self.wishes().supervise = supervise;
            self
        }

        /// Adds a variable of the container's own command alone, which must be [supervised](Self::supervise_command), such as a
        /// password of a server. The last value for a name counts, also over [`env`](Self::env). Commands of leases get these
        /// variables where they ask for them: [`Command::server_env`](crate::Command::server_env). They are in no description of
        /// the engine's. A command with the server's user, or root, can read them in `/proc`.
        ///
        /// # Errors
        ///
        /// [`Error::Config`](crate::Error::Config) without [`supervise_command`](Self::supervise_command).
        pub fn server_env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.wishes().server_env.set(name.into(), value.into());
            self
        }

        /// Sets what becomes of the image's `ENTRYPOINT`. Default: [`Entrypoint::Warn`](crate::Entrypoint::Warn): it is run only as a
        /// part of a [supervised](Self::supervise_command) command, and building a pool warns where it is not run. The warning
        /// goes to [`on_error`](crate::PoolBuilder::on_error), as an error of the kind
        /// [`Warning`](crate::EngineErrorKind::Warning), and to `tracing`. An entrypoint in the raw configuration takes the
        /// image's place, without a warning.
        pub fn entrypoint(mut self, entrypoint: $crate::Entrypoint) -> Self {
            self.wishes().entrypoint = entrypoint;
            self
        }

        /// Sets whether each command runs in a control group of its own. The container's control group (cgroup v2) is then
        /// writable for PID 1, which is the agent. Default: `false`.
        ///
        /// With control groups of their own:
        ///
        /// - The limits of commands hold for all of a command's processes together: [`Command::memory`](crate::Command::memory),
        ///   [`Command::processes`](crate::Command::processes) and [`Command::cpu_time`](crate::Command::cpu_time).
        /// - A command's [`Usage`](crate::Usage) counts all processes that it has started, with the peak of their memory
        ///   together.
        /// - A command is ended by `cgroup.kill`, which no fork escapes. The kernel's count of processes in the group proves
        ///   its end. Other commands and their background processes are never touched.
        /// - A command is [`OutOfMemory`](crate::ExitStatus::OutOfMemory) if, and only if, the kernel killed a process in its
        ///   group for memory.
        ///
        /// # The user of commands
        ///
        /// A process that may write to the groups could leave them and freeze PID 1, so that the container would outlive its
        /// owner. PID 1 is therefore root, and commands never are. They run as the [`user`](Self::user) of the spec or of the
        /// image, or as their [own](crate::Command::user). If that user is root or is missing in the image, building a pool
        /// fails. A command that is to run as root fails with [`Error::CannotStart`](crate::Error::CannotStart). No program
        /// gains privileges (`no_new_privs`, also where `SecurityOpt` is your own).
        ///
        /// # Requirements
        ///
        /// Control groups need cgroup v2, Linux 5.14, the agent (see [`exec_via`](Self::exec_via)), and Docker 28 or later, or
        /// Podman. Docker that runs rootless or remaps users cannot make them writable. Where a requirement is not met,
        /// building a pool fails and says why: no limit of a command is silently ignored.
        /// [`Status::cgroups`](crate::Status::cgroups) tells which control groups there are.
        ///
        /// # Errors
        ///
        /// [`Error::Config`](crate::Error::Config) without the agent, with [`supervise_command`](Self::supervise_command),
        /// with a user that is root, or where the engine says that it has cgroup v1 or is too old.
        /// [`Error::Engine`](crate::Error::Engine) of the kind [`LimitDiscarded`](crate::EngineErrorKind::LimitDiscarded)
        /// where the agent finds that it cannot make groups.
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
        pub fn writable_cgroups(mut self, writable: bool) -> Self {
            self.wishes().writable_cgroups = writable;
            self
        }

        /// Makes the containers a sandbox for code that nobody trusts: see [`Sandbox`](crate::Sandbox). The last call counts.
        ///
        /// Other settings that contradict the sandbox are an [`Error::Config`](crate::Error::Config), whichever was set first.
        /// `build()` looks at a first container from its inside, and fails if anything that was asked for is not in force.
        ///
        /// # Examples
        ///
        /// ```
        /// use dockerpool::{ContainerSpec, Network, Sandbox};
        ///
        /// let untrusted = ContainerSpec::new("python:3.12-alpine").sandbox(Sandbox::strict()).memory(128 << 20);
        /// assert!(untrusted.plan().is_ok());
        /// // What the sandbox forbids is given up by name.
        /// let online = untrusted.network(Network::existing("internal"));
        /// assert!(online.clone().plan().unwrap_err().to_string().contains("Sandbox::allow_network()"));
        /// assert!(online.sandbox(Sandbox::strict().allow_network()).plan().is_ok());
        /// ```
        pub fn sandbox(mut self, sandbox: $crate::Sandbox) -> Self {
            self.wishes().sandbox = Some(sandbox);
            self
        }

        /// Sets the network. Default: [`Network::none`](crate::Network::none).
        pub fn network(mut self, network: impl Into<$crate::Network>) -> Self {
            self.wishes().network = Some(network.into());
            self
        }

        /// Publishes a TCP port of the container: the engine takes a free port of its machine for it, another one for each container,
        /// and [`Container::port`](crate::Container::port) tells where it is reached. For several ports call it again, or
        /// [`publish_range`](Self::publish_range); there may be 1,024.
        ///
        /// The port is reached from the engine's machine alone, unless [`publish_address`](Self::publish_address) names another
        /// address than the loopback interface's. If a port turns out not to be published, as on an internal network, the creation
        /// of the container fails with [`SettingIgnored`](crate::EngineErrorKind::SettingIgnored).
        ///
        /// # Errors
        ///
        /// [`Error::Config`](crate::Error::Config) for port 0, without a [`network`](Self::network) (there is none by default), on
        /// the network of the machine or of another container, and where the raw configuration binds the same port.
        ///
        /// # Examples
        ///
        /// ```
        /// use dockerpool::{Network, Pool};
        ///
        /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
        /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
        /// let builder = Pool::builder("redis")
        ///     .image("redis:7-alpine")
        ///     .supervise_command(true)
        ///     .network(Network::existing("bridge"))
        ///     .publish(6379);
        /// # let builder = builder.supervise_command(false).engine(engine);
        /// let pool = builder.build().await?;
        /// let c = pool.acquire().await?;
        /// let address = c.port(6379)?; // such as 127.0.0.1:49153
        /// assert!(address.ip().is_loopback());
        /// # Ok(())
        /// # }
        /// ```
        pub fn publish(self, port: u16) -> Self {
            self.publish_range(port..=port)
        }

        /// Publishes each TCP port of a range, as [`publish`](Self::publish) does.
        pub fn publish_range(mut self, ports: std::ops::RangeInclusive<u16>) -> Self {
            self.wishes().published.push(ports);
            self
        }

        /// Sets the address of the engine's machine at which ports are [published](Self::publish). Default: 127.0.0.1, which only
        /// that machine reaches. An unspecified address, such as 0.0.0.0, stands for all: every machine that reaches the engine's
        /// then reaches the ports, mostly also past a firewall.
        ///
        /// An engine on another machine ([`Endpoint::tls`](crate::Endpoint::tls), [`ssh`](crate::Endpoint::ssh)) needs an
        /// address that is reached from here: a loopback address is
        /// [`Unsupported`](crate::EngineErrorKind::Unsupported) there.
        pub fn publish_address(mut self, address: impl Into<std::net::IpAddr>) -> Self {
            self.wishes().publish_address = address.into();
            self
        }

        /// Waits for a sign that a container is ready, before it is lent for the first time: that a server listens, answers or has
        /// printed a text, that a command ends well, that the engine's health check succeeds. The signs of several calls are
        /// awaited one after the other. After a container was [cleaned](crate::Reuse::Clean) it must show them again; a container
        /// with a command of its own is replaced instead.
        ///
        /// A container that is not ready in its [time](Self::ready_timeout), or whose own command ends before, is removed, and
        /// counts as a failed creation: `build()` fails with it, and so does an acquire at its limit of time, which is shorter by
        /// default. The error is of the kind [`NotReady`](crate::EngineErrorKind::NotReady), and says what was waited for, what
        /// was seen last, and the last words of the container's own command. Where no sign can be had at all, as for want of the
        /// command's program, the error comes at once.
        ///
        /// # Errors
        ///
        /// [`Error::Config`](crate::Error::Config) for a sign that cannot come, such as one of a server in containers without a
        /// command of their own: see [`Ready`](crate::Ready).
        ///
        /// # Examples
        ///
        /// ```
        /// use dockerpool::{Pool, Ready};
        ///
        /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
        /// # let engine = std::sync::Arc::new(dockerpool::testing::FakeEngine::new());
        /// let builder = Pool::builder("postgres")
        ///     .image("postgres:17")
        ///     .env("POSTGRES_PASSWORD", "test")
        ///     .supervise_command(true)
        ///     .ready_when(Ready::tcp(5432))
        ///     .ready_when(Ready::command(["pg_isready", "--username", "postgres"]));
        /// # engine.on_exec(|r| match &*r.argv[0] {
        /// #     "cat" => dockerpool::testing::FakeProcess::exit(0).stdout(" 0: 00000000:1538 00000000:0000 0A\n"),
        /// #     _ => dockerpool::testing::FakeProcess::exit(0),
        /// # });
        /// # let builder = builder.supervise_command(false).cmd(["postgres"]).engine(engine);
        /// let pool = builder.build().await?;
        /// let ready = pool.acquire().await?;
        /// # Ok(())
        /// # }
        /// ```
        pub fn ready_when(mut self, sign: $crate::Ready) -> Self {
            self.wishes().ready.push(sign);
            self
        }

        /// Sets how long a container may take after its start until it [is ready](Self::ready_when). Default:
        /// [`ContainerSpec::DEFAULT_READY_TIMEOUT`](crate::ContainerSpec::DEFAULT_READY_TIMEOUT).
        pub fn ready_timeout(mut self, limit: std::time::Duration) -> Self {
            self.wishes().ready_timeout = limit;
            self
        }

        /// Mounts a file system in memory of at most this size at this absolute path: a number of bytes, or text such as `"16m"`
        /// (see [`ByteSize`](crate::ByteSize)). Its content counts as the container's memory. Programs on it cannot be executed;
        /// see [`tmpfs_with`](Self::tmpfs_with).
        pub fn tmpfs(mut self, path: impl Into<String>, bytes: impl Into<$crate::ByteSize>) -> Self {
            let path = path.into();
            match self.wishes().whole_size("tmpfs", &path, bytes.into()) {
                Some(bytes) => self.tmpfs_with(path, format!("size={bytes}")),
                None => self,
            }
        }

        /// Mounts a file system in memory with mount options of `tmpfs(5)`, e.g. `size=64m,exec,uid=1000,gid=1000`. Docker adds
        /// `noexec,nosuid,nodev` unless the options say otherwise. Prefer `uid=` and `gid=` to `mode=`, which is lost when the
        /// container is started again.
        pub fn tmpfs_with(mut self, path: impl Into<String>, options: impl Into<String>) -> Self {
            self.wishes().tmpfs.insert(path.into(), options.into());
            self
        }

        /// Sets whether the root file system is read-only. Then each directory that programs write to needs a
        /// [`tmpfs`](Self::tmpfs), but for `/tmp` where containers are [cleaned](crate::Reuse::Clean): it is in memory there. The
        /// image's volumes stay writable: see [Defaults of a
        /// sandbox](crate::ContainerSpec#defaults-of-a-sandbox). Default: `false`.
        pub fn read_only_root(mut self, read_only: bool) -> Self {
            self.wishes().read_only_root = Some(read_only);
            self
        }

        /// Sets the OCI runtime, by its name in the engine's configuration, e.g. `runsc` for gVisor. Default: the engine's.
        ///
        /// If the engine does not have the runtime, `build()` fails before anything is made. If the container's description,
        /// which is read back, has another runtime, the error is
        /// [`EngineErrorKind::SettingIgnored`](crate::EngineErrorKind::SettingIgnored). Podman's interface for Docker's clients
        /// has no choice of a runtime: there every name but that of Podman's default is
        /// [`EngineErrorKind::Unsupported`](crate::EngineErrorKind::Unsupported).
        ///
        /// `crun` in place of Docker's `runc` makes containers and starts commands by the exec API faster; `cargo bench
        /// --bench oci_runtimes` measures both. The speed of commands by the [agent](crate::ExecVia::Agent) does not depend on
        /// the runtime. `crun` must be installed on the engine's machine and named in the engine's configuration (`"runtimes":
        /// {"crun": {"path": "/usr/bin/crun"}}` in Docker's `daemon.json`), and the machine should have cgroup v2. The library
        /// never chooses a runtime by itself.
        pub fn runtime(mut self, name: impl Into<String>) -> Self {
            self.wishes().runtime = Some(name.into());
            self
        }

        /// Sets the size of `/dev/shm`: a number of bytes, or text such as `"64m"` (see [`ByteSize`](crate::ByteSize)). Default: the
        /// engine's, usually 64 MiB.
        pub fn shm_size(mut self, bytes: impl Into<$crate::ByteSize>) -> Self {
            let wishes = self.wishes();
            if let Some(bytes) = wishes.whole_size("shm_size", "", bytes.into()) {
                wishes.shm_size = Some(bytes);
            }
            self
        }

        /// Sets a resource limit of the kernel for each process (`setrlimit(2)`), by its name in lower case, e.g. `nofile` or
        /// `fsize`. The values are in the kernel's units: seconds of processor time for `cpu`, bytes for `fsize`, `data`, `stack`,
        /// `core` and `as`, a number for `nofile`. A process at its soft limit of `cpu` gets SIGXCPU, and mostly ends as
        /// [`Signaled(24)`](crate::ExitStatus::Signaled).
        ///
        /// Where the agent runs commands (see [`ExecVia`](crate::ExecVia)), it sets the limits for each command. The agent
        /// itself does not have `cpu`, `data`, `stack`, `nofile` and `as`: they could end the agent, and the container with it.
        /// If one of these is limited, a command that the agent cannot run fails with [`Error::Engine`](crate::Error::Engine).
        /// If a user or dropped capabilities keep PID 1 from becoming another user, PID 1 has the limit of `nofile` too. Where
        /// the engine runs commands, PID 1 has all limits.
        ///
        /// Do not limit `nproc`: the kernel counts it by user over all containers together. Use
        /// [`pids_limit`](Self::pids_limit).
        pub fn ulimit(mut self, name: impl Into<String>, soft: u64, hard: u64) -> Self {
            self.wishes()
                .ulimits
                .insert(name.into(), $crate::spec::container_spec::Ulimit { soft, hard });
            self
        }

        /// Drops all capabilities of root but those added by [`cap_add`](Self::cap_add). The [agent](crate::ExecVia::Agent)
        /// needs `SETUID` and `SETGID` to run commands as other users than the container's, and `KILL` to end them.
        pub fn cap_drop_all(mut self) -> Self {
            self.wishes().cap_drop_all = true;
            self
        }

        /// Adds a capability of root, e.g. `NET_BIND_SERVICE` (see `capabilities(7)`), or keeps one that is
        /// [dropped by default](crate::ContainerSpec#defaults-of-a-sandbox).
        pub fn cap_add(mut self, name: impl Into<String>) -> Self {
            let name = name.into();
            let added = &mut self.wishes().cap_add;
            if !added.contains(&name) {
                added.push(name);
            }
            self
        }

        /// Sets the raw configuration, for settings without a setter: the JSON body of [Docker's call to create a
        /// container](https://docs.docker.com/reference/api/engine/), e.g. `{"HostConfig": {"Sysctls": {"net.core.somaxconn":
        /// "1024"}}}`. The last call counts: its body is in place of an earlier one as a whole. Setters are merged into the body: see [Raw
        /// configuration](crate::ContainerSpec#raw-configuration). If no image was named before, the body's `Image` is used.
        ///
        /// A field that the library's Docker client does not know is an [`Error::Config`](crate::Error::Config). If the engine
        /// refuses a setting, `build()` fails with [`Rejected`](crate::EngineErrorKind::Rejected). In `SecurityOpt`, the option
        /// `seccomp=` takes the profile itself on Docker, as JSON (the docker command line reads the file for its users), and
        /// on Podman the path of a file on its machine.
        ///
        /// Nulls, empty texts and lists, and limits of 0, are taken for fields that were not given, so that the defaults hold:
        /// `memory(None)` and `pids_limit(None)` ask for no limit.
        ///
        /// # Examples
        ///
        /// ```
        /// use dockerpool::ContainerSpec;
        /// use serde_json::json;
        ///
        /// let spec = ContainerSpec::new("busybox:1.36").raw_config(json!({"HostConfig": {"Memory": 64 << 20}}));
        /// assert_eq!(spec.plan().unwrap().limits.memory, Some(64 << 20));
        /// assert!(spec.raw_config(json!({"HostConfig": {"Memry": 1}})).plan().is_err());
        /// ```
        pub fn raw_config(mut self, config: serde_json::Value) -> Self {
            self.wishes().set_raw_config(config);
            self
        }

        /// Sets the raw configuration in bollard's types, in place of [`raw_config`](Self::raw_config). A spec that has both is
        /// an [`Error::Config`](crate::Error::Config).
        #[cfg(feature = "bollard-0_21")]
        pub fn docker_config(mut self, config: bollard::models::ContainerCreateBody) -> Self {
            self.wishes().set_docker_config(config);
            self
        }

        /// Sets the `HostConfig` of the raw configuration in bollard's types. If [`docker_config`](Self::docker_config) has a
        /// different one, that is an [`Error::Config`](crate::Error::Config).
        #[cfg(feature = "bollard-0_21")]
        pub fn host_config(mut self, config: bollard::models::HostConfig) -> Self {
            self.wishes().host_config = Some(config);
            self
        }
    };
}

pub(crate) use setters;
