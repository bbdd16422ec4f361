//! The setters that describe containers, written once: a [`ContainerSpec`](super::ContainerSpec) has them, and a
//! [`PoolBuilder`](crate::PoolBuilder).

/// Writes the methods of a type that has `fn wishes(&mut self) -> &mut ContainerSpec`.
macro_rules! setters {
    () => {
        /// Sets the program that is PID 1 of the container, in place of the library's own. The program must keep running; it
        /// need not do anything. With [`supervise_command`](Self::supervise_command) the program runs beside the library's
        /// own PID 1.
        ///
        /// The library's own PID 1 reads an attached standard input and ends at its end, so that the container is gone soon
        /// after this process is, however the process ended: see [`Lifeline`](crate::Lifeline), also for how sure that is. A
        /// command of your own has no such lifeline: containers of an owner that was killed stay until they are removed (they
        /// carry the label [`labels::MANAGED_BY`](crate::labels::MANAGED_BY)).
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

        /// Sets the image's platform where it is not the engine's own, e.g. `linux/arm64` under an emulator. An image of that
        /// name on the engine that is for another platform counts as missing.
        ///
        /// Without an emulator PID 1 of such a container does not start, and `build()` says so. In Docker with containerd's
        /// image store one name can stand for images of several platforms, of which a pull fetches one, and keeps the others.
        /// From version 28.1 on Docker can be asked for the one that is meant. Elsewhere the name is that of the image pulled
        /// last.
        pub fn platform(mut self, platform: impl Into<String>) -> Self {
            self.wishes().platform = Some(platform.into());
            self
        }

        /// Sets how the registry is told who pulls. Default: by the user's Docker configuration, as for `docker pull`.
        pub fn registry_auth(mut self, auth: $crate::RegistryAuth) -> Self {
            self.wishes().registry_auth = auth;
            self
        }

        /// Limits the memory, in bytes; swap is not added to the limit. `None`: unlimited. Default:
        /// [`ContainerSpec::DEFAULT_MEMORY`](crate::ContainerSpec::DEFAULT_MEMORY).
        pub fn memory(mut self, bytes: impl Into<Option<u64>>) -> Self {
            self.wishes().memory = $crate::spec::container_spec::Setting::Given(bytes.into());
            self
        }

        /// Limits the processor time, in processors, e.g. `0.5`. `None` (the default): as many as there are.
        pub fn cpus(mut self, cpus: impl Into<Option<f64>>) -> Self {
            self.wishes().cpus = cpus.into();
            self
        }

        /// Limits the number of processes and threads, PID 1 among them. `None`: unlimited. Default:
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

        /// Sets the working directory of PID 1 and of commands, absolute. Default: the image's.
        pub fn working_dir(mut self, dir: impl Into<String>) -> Self {
            self.wishes().working_dir = Some(dir.into());
            self
        }

        /// Adds an environment variable; the last value given for a name counts. `Debug` and errors show its name only; for
        /// logs see [Secrets](crate#secrets).
        pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            let name = name.into();
            self.wishes().env.retain(|(known, _)| *known != name);
            self.wishes().env.push((name, value.into()));
            self
        }

        /// Adds a label. Names that begin with [`labels::PREFIX`](crate::labels::PREFIX) are the library's own and are
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

        /// Sets the path of the agent's program on the engine's machine, in place of the program that was built with the
        /// library. The program must be of the containers' architecture, speak this version of the protocol, and be readable
        /// and executable by everybody.
        pub fn agent_path(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.wishes().agent_path = Some(path.into());
            self
        }

        /// Has the agent run the containers' own command beside those of leases: what [`cmd`](Self::cmd) says, or else the
        /// image's `ENTRYPOINT` and `CMD`. For images that are a server, whose commands of leases are its clients. It needs the
        /// [agent](crate::ExecVia::Agent). Default: `false`.
        ///
        /// - The command is started with the container, as the container's user, with its environment, in its directory. A container is
        ///   lent when the command has run for 50 milliseconds; whether it is ready to serve, the borrower finds out.
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
        pub fn supervise_command(mut self, supervise: bool) -> Self {
            self.wishes().supervise = supervise;
            self
        }

        /// Makes the container's control group (cgroup v2) writable for PID 1, which is the agent, and runs each command in a
        /// group of its own. Default: `false`.
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
        /// A process that may write to the groups could leave them, and freeze PID 1, so that the container would outlive its
        /// owner. So PID 1 is root, and commands never are: they run as the [`user`](Self::user) of the spec or of the image,
        /// or as their [own](crate::Command::user). Building a pool fails where that user is root or the image does not have
        /// it; a command that is to run as root fails with [`Error::CannotStart`](crate::Error::CannotStart). No program
        /// gains privileges (`no_new_privs`, also where `security_opt` is your own).
        ///
        /// # Where it works
        ///
        /// With cgroup v2, Linux 5.14 and the agent (see [`exec_via`](Self::exec_via)): on Docker 28 and later, and on Podman.
        /// Docker has no such option where it runs rootless or remaps users. Where it does not work, building a pool fails and
        /// says why: no limit of a command is silently none. [`Status::cgroups`](crate::Status::cgroups) tells what there is.
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

        /// Sets the network. Default: [`Network::none`](crate::Network::none).
        pub fn network(mut self, network: impl Into<$crate::Network>) -> Self {
            self.wishes().network = Some(network.into());
            self
        }

        /// Mounts a file system in memory at this absolute path, of at most this many bytes, which count as the container's
        /// memory when they are used. Programs on it cannot be executed; see [`tmpfs_with`](Self::tmpfs_with).
        pub fn tmpfs(self, path: impl Into<String>, bytes: u64) -> Self {
            self.tmpfs_with(path, format!("size={bytes}"))
        }

        /// As [`tmpfs`](Self::tmpfs), with the mount options of `tmpfs(5)`, e.g. `size=64m,exec,uid=1000,gid=1000`. Docker adds
        /// `noexec,nosuid,nodev` where they do not say otherwise. Owners hold better than `mode=`, which is lost when the
        /// container is started again.
        pub fn tmpfs_with(mut self, path: impl Into<String>, options: impl Into<String>) -> Self {
            self.wishes().tmpfs.insert(path.into(), options.into());
            self
        }

        /// Sets whether the root file system is read-only. Directories that programs write to then need a
        /// [`tmpfs`](Self::tmpfs); volumes of the image stay writable (see [Defaults of a
        /// sandbox](crate::ContainerSpec#defaults-of-a-sandbox)). Default: `false`.
        pub fn read_only_root(mut self, read_only: bool) -> Self {
            self.wishes().read_only_root = Some(read_only);
            self
        }

        /// Sets the OCI runtime, by the name under which the engine knows it, e.g. `runsc` for gVisor. Default: the engine's.
        ///
        /// An engine that does not have it is an error of `build()` before anything is made, and the container's description is
        /// read back: [`EngineErrorKind::SettingIgnored`](crate::EngineErrorKind::SettingIgnored) where it has another.
        /// Podman lets nobody choose by its interface for Docker's clients: there only the name of its default is no error
        /// ([`EngineErrorKind::Unsupported`](crate::EngineErrorKind::Unsupported)).
        ///
        /// `crun` in place of Docker's `runc` makes containers and starts commands by the exec API faster; see `cargo bench
        /// --bench oci_runtimes`. What the [agent](crate::ExecVia::Agent) runs does not depend on it. It must be on the
        /// engine's machine, be known to the engine (`"runtimes": {"crun": {"path": "/usr/bin/crun"}}` in Docker's
        /// `daemon.json`), and the machine should have cgroup v2. The library never chooses one by itself.
        pub fn runtime(mut self, name: impl Into<String>) -> Self {
            self.wishes().runtime = Some(name.into());
            self
        }

        /// Sets the size of `/dev/shm`, in bytes. Default: the engine's, 64 MiB.
        pub fn shm_size(mut self, bytes: u64) -> Self {
            self.wishes().shm_size = Some(bytes);
            self
        }

        /// Sets a limit of the kernel on each process (`setrlimit(2)`), by its name in lower case, e.g. `nofile` or `fsize`.
        ///
        /// The limit is for commands. The agent (see [`ExecVia`](crate::ExecVia)) gives it to each of them, and has `cpu`,
        /// `data`, `stack`, `nofile` and `as` not itself: it would end by them, and the container with it. Commands that the
        /// agent cannot run are [`Error::Engine`](crate::Error::Engine) where one of these is limited. Where PID 1 may not
        /// become another user since a user or dropped capabilities say so, it has the limit of `nofile` too. By the exec API
        /// PID 1 has all limits.
        ///
        /// Do not limit `nproc`: the kernel counts it by user over all containers together. See
        /// [`pids_limit`](Self::pids_limit).
        pub fn ulimit(mut self, name: impl Into<String>, soft: u64, hard: u64) -> Self {
            self.wishes()
                .ulimits
                .insert(name.into(), $crate::spec::container_spec::Ulimit { soft, hard });
            self
        }

        /// Drops all capabilities of root, but those given back by [`cap_add`](Self::cap_add). The
        /// [agent](crate::ExecVia::Agent) needs `SETUID` and `SETGID` to run commands as other users than the container's, and
        /// `KILL` to end them.
        pub fn cap_drop_all(mut self) -> Self {
            self.wishes().cap_drop_all = true;
            self
        }

        /// Adds a capability of root, e.g. `NET_BIND_SERVICE`; see `capabilities(7)`. One that is
        /// [dropped by default](crate::ContainerSpec#defaults-of-a-sandbox) is kept.
        pub fn cap_add(mut self, name: impl Into<String>) -> Self {
            let name = name.into();
            let added = &mut self.wishes().cap_add;
            if !added.contains(&name) {
                added.push(name);
            }
            self
        }

        /// Sets configuration in Docker's own terms as the base, for settings that have no setter here: the JSON body of
        /// [Docker's call to create a container](https://docs.docker.com/reference/api/engine/), e.g. `{"HostConfig":
        /// {"Sysctls": {"net.core.somaxconn": "1024"}}}`. The last value counts. See [Raw
        /// configuration](crate::ContainerSpec#raw-configuration). An image named in it is taken where none was named before.
        ///
        /// A field that the library's Docker client does not know is an [`Error::Config`](crate::Error::Config). A setting that
        /// the engine refuses fails `build()` with [`Rejected`](crate::EngineErrorKind::Rejected). An option `seccomp=` of
        /// `SecurityOpt` is given the profile itself on Docker, as JSON: the docker command line reads the file that is named
        /// to it. Podman is given the path of a file on its machine.
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

        /// Sets the same as [`raw_config`](Self::raw_config), in bollard's types.
        #[cfg(feature = "bollard-0_21")]
        pub fn docker_config(mut self, config: bollard::models::ContainerCreateBody) -> Self {
            self.wishes().set_docker_config(config);
            self
        }

        /// Sets the `HostConfig` of [`raw_config`](Self::raw_config) in bollard's types, in place of the one that may be in
        /// [`docker_config`](Self::docker_config).
        #[cfg(feature = "bollard-0_21")]
        pub fn host_config(mut self, config: bollard::models::HostConfig) -> Self {
            self.wishes().host_config = Some(config);
            self
        }
    };
}

pub(crate) use setters;
