//! An engine's description of itself, which changes how containers are created on it.

use bollard::models::{ContainerCreateBody, MountType, SystemInfo};

use super::limits;
use crate::engine::{LimitSupport, Mount, MountSource};

/// Holds the known properties of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    /// The limits that the engine supports.
    pub(super) limits: LimitSupport,
    /// The version of its kernel's control groups. `None`: not reported.
    pub(super) cgroup_version: Option<u8>,
    /// Whether root in a container is another user outside.
    pub(super) remaps_users: bool,
    /// Whether SELinux lets containers touch only files that carry a label for them.
    pub(super) selinux: bool,
    /// The runtime that containers get by default.
    pub(super) runtime: Option<String>,
    /// The reason why the engine does not see this machine's files, although its socket is here.
    pub(super) elsewhere: Option<String>,
}

impl Said {
    pub(super) fn of(info: &SystemInfo, is_podman: bool) -> Self {
        let options = info.security_options.iter().flatten();
        let said = Self {
            // Podman denies the support of limits that it supports.
            limits: if is_podman {
                LimitSupport::all()
            } else {
                limits::support(info)
            },
            cgroup_version: limits::cgroup_version(info),
            remaps_users: limits::remaps_users(info),
            selinux: options.map(String::as_str).any(|option| {
                let name = option.split(',').find_map(|part| part.strip_prefix("name="));
                name.unwrap_or(option) == "selinux"
            }),
            runtime: info.default_runtime.clone().filter(|runtime| !runtime.is_empty()),
            elsewhere: elsewhere(info, own_kernel().as_deref()),
        };
        if let Some(why) = &said.elsewhere {
            tracing::info!("the engine does not see this machine's files, so that the agent comes in a volume: {why}");
        }
        said
    }
}

/// Returns the reason why an engine whose socket is on this machine runs on another one: its kernel differs from this
/// machine's. Such a socket leads into a virtual machine: of Docker Desktop, Colima, Rancher Desktop, Lima, OrbStack or
/// `podman machine`. Some virtual machines share files with this machine, but none shares sockets.
fn elsewhere(info: &SystemInfo, own_kernel: Option<&str>) -> Option<String> {
    let system = info.operating_system.as_deref().unwrap_or_default();
    // Holds even if the virtual machine's kernel has the same release as this machine's.
    if system == "Docker Desktop" {
        return Some(system.to_owned());
    }
    if cfg!(not(target_os = "linux")) {
        return Some("containers run on Linux, and this machine does not".to_owned());
    }
    let kernel = info.kernel_version.as_deref().filter(|kernel| !kernel.is_empty())?;
    let other = own_kernel.is_some_and(|own| own != kernel);
    other.then(|| {
        let name = info.name.as_deref().unwrap_or_default();
        format!("it runs on `{name}` with the kernel {kernel}, and not on this machine's")
    })
}

/// Returns the release of this machine's kernel, as engines report it; `None` if this machine does not run Linux.
fn own_kernel() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned())
}

/// Makes the engine label the library's own files, such as a program and its socket, so that all containers may use them. A
/// user's file keeps its label, because another one would take it from other programs.
///
/// The API has labels for mounts of the older form (`Binds`) only.
pub(super) fn label_own<'a>(body: &mut ContainerCreateBody, mounts: impl Iterator<Item = &'a Mount>) {
    let own = mounts.filter(|mount| matches!(mount.source, MountSource::File { is_own: true, .. }));
    let own: Vec<&str> = own.map(|mount| &*mount.target).collect();
    let Some(host) = body.host_config.as_mut().filter(|_| !own.is_empty()) else {
        return;
    };
    let mounts = host.mounts.take().unwrap_or_default();
    let mut binds = host.binds.take().unwrap_or_default();
    let (own, others) = mounts.into_iter().partition::<Vec<_>, _>(|mount| {
        let target = mount.target.as_deref().unwrap_or_default();
        let source = mount.source.as_deref().unwrap_or_default();
        // The older form cannot express a path with a colon.
        mount.typ == Some(MountType::BIND) && own.contains(&target) && !source.contains(':')
    });
    binds.extend(own.into_iter().map(|mount| {
        let (source, target) = (mount.source.unwrap_or_default(), mount.target.unwrap_or_default());
        format!("{source}:{target}:ro,z")
    }));
    host.mounts = Some(others);
    host.binds = Some(binds).filter(|binds| !binds.is_empty());
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn of(system: &str, name: &str, kernel: &str) -> SystemInfo {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        SystemInfo {
            operating_system: text(system),
            name: text(name),
            kernel_version: text(kernel),
            ..Default::default()
        }
    }

    #[test]
    fn an_engine_with_another_kernel_is_on_another_machine() {
        let own = Some("6.12.1-amd64");
        for (system, name, kernel) in [
            ("Docker Desktop", "docker-desktop", "6.10.14-linuxkit"),
            ("Docker Desktop", "docker-desktop", "6.12.1-amd64"),
            ("Ubuntu 24.04.1 LTS", "colima", "6.8.0-50-generic"),
            ("Alpine Linux v3.20", "lima-rancher-desktop", "6.6.41-0-virt"),
            ("OrbStack", "orbstack", "6.11.10-orbstack-00280"),
            ("fedora", "localhost.localdomain", "6.11.9-200.fc41.aarch64"),
        ] {
            assert!(elsewhere(&of(system, name, kernel), own).is_some(), "{name}");
        }
        for (system, kernel) in [
            ("Debian GNU/Linux 12", "6.12.1-amd64"),
            ("Debian GNU/Linux 12", ""),
            ("", ""),
        ] {
            assert_eq!(elsewhere(&of(system, "here", kernel), own), None);
        }
        // A machine may not know its own kernel's release.
        assert_eq!(elsewhere(&of("", "x", "6.8.0"), None), None);
        assert!(elsewhere(&of("Docker Desktop", "", ""), None).is_some());
    }

    #[test]
    fn selinux_is_told_from_other_security_options() {
        let selinux = |options: &[&str]| {
            let info = SystemInfo {
                security_options: Some(options.iter().map(|&option| option.to_owned()).collect()),
                ..Default::default()
            };
            Said::of(&info, false).selinux
        };
        assert!(selinux(&[
            "name=seccomp,profile=builtin",
            "name=selinux",
            "name=cgroupns"
        ]));
        assert!(selinux(&["seccomp", "selinux"]));
        assert!(!selinux(&[
            "name=apparmor",
            "name=seccomp,profile=/etc/selinux",
            "name=rootless"
        ]));
        assert!(!selinux(&[]));
    }
}
