//! What is cleaned in containers of a spec between two leases: [`Cleaning`], [`FirstChanges`].

use std::sync::Arc;

use bollard::models::{ContainerCreateBody, HostConfig, MountType};
use parking_lot::Mutex;

use super::Seccomp;
use super::resolve::{Decided, half_of_memory, is_mounted, plain};
use crate::engine::Change;

/// The directory for temporary files.
const TMP: &str = "/tmp";

/// The directory of POSIX shared memory, which every engine mounts.
const SHM: &str = "/dev/shm";

/// The view of the network, see `Baseline` in `PROTOCOL.md`.
const NETWORK: &str = "/proc/net";

/// The directories of a container that are not its image's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cleaning {
    /// File systems in memory, which are emptied.
    pub(crate) workspaces: Vec<String>,
    /// Mounts of the user's own, and the view of a network that others share. These are left alone.
    pub(crate) shared: Vec<String>,
    /// Whether nothing can be written to the root file system.
    pub(crate) read_only_root: bool,
}

/// The changes of the root file system that containers have from the start, as one of them was seen before its first lease. The
/// engine makes most of them, such as the directories on which it mounts something, and they depend on the image: after the image's
/// tag has moved, containers of the same spec have others.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstChanges(Arc<Mutex<Option<Arc<[Change]>>>>);

impl FirstChanges {
    /// Returns the known changes.
    pub(crate) fn known(&self) -> Option<Arc<[Change]>> {
        self.0.lock().clone()
    }

    /// Notes what was seen in a container.
    pub(crate) fn note(&self, seen: &Arc<[Change]>) {
        *self.0.lock() = Some(seen.clone());
    }

    /// Has the next container be looked at, since one that was not looked at had others than these in the end.
    pub(crate) fn doubt(&self, these: &Arc<[Change]>) {
        self.0.lock().take_if(|known| Arc::ptr_eq(known, these));
    }
}

/// Mounts a file system in memory on the directory for temporary files, unless there is something else. Programs use that
/// directory all the time; on the root file system each file in it would be a change.
pub(super) fn add_tmp(body: &mut ContainerCreateBody, image_volumes: &[String]) {
    let is_tmp = |path: &String| plain(path) == TMP;
    if is_mounted(body, TMP) || image_volumes.iter().any(is_tmp) {
        return;
    }
    let host = body.host_config.get_or_insert_default();
    let options = format!("rw,exec,nosuid,nodev,mode=1777,size={}", half_of_memory(host));
    host.tmpfs.get_or_insert_default().insert(TMP.to_owned(), options);
}

/// Returns how containers of this body can be cleaned, or why nobody could prove that they are clean.
pub(super) fn plan(body: &ContainerCreateBody, decided: &Decided) -> Result<Cleaning, &'static str> {
    if !decided.clean {
        return Err("it was not asked for");
    }
    if decided.agent.is_none() {
        return Err("PID 1 is not the agent");
    }
    if decided.supervised.is_some() {
        return Err("the container has a command of its own");
    }
    let none = HostConfig::default();
    let host = body.host_config.as_ref().unwrap_or(&none);
    if let Some(why) = escapes(host) {
        return Err(why);
    }
    let mut workspaces: Vec<_> = host.tmpfs.iter().flatten().map(|(path, _)| plain(path)).collect();
    workspaces.extend(decided.image_volumes.iter().map(|path| plain(path)));
    workspaces.push(SHM.to_owned());
    if host.readonly_rootfs == Some(true) {
        let of_engine = decided.read_only_tmpfs.iter().filter(|path| !is_mounted(body, path));
        workspaces.extend(of_engine.cloned());
    }
    let mut shared = Vec::new();
    for mount in host.mounts.iter().flatten() {
        let target = plain(mount.target.as_deref().unwrap_or_default());
        match mount.typ {
            Some(MountType::TMPFS) => workspaces.push(target),
            _ => shared.push(target),
        }
    }
    let targets = host.binds.iter().flatten().filter_map(|bind| bind.split(':').nth(1));
    shared.extend(targets.map(plain));
    if shares_network(host) {
        shared.push(NETWORK.to_owned());
    }
    // The user's own mount has come over the library's.
    workspaces.retain(|path| !shared.contains(path));
    Ok(Cleaning {
        workspaces,
        shared,
        read_only_root: host.readonly_rootfs == Some(true),
    })
}

/// Returns whether the network is also that of the machine or of other containers, which would remember connections also after
/// the container.
fn shares_network(host: &HostConfig) -> bool {
    let mode = host.network_mode.as_deref().unwrap_or_default();
    matches!(mode, "host" | "pod") || mode.starts_with("container:") || mode.starts_with("ns:")
}

/// Returns why a lease could change what nobody looks at.
fn escapes(host: &HostConfig) -> Option<&'static str> {
    let is_filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let is_own = |mode: &Option<String>, own: &[&str]| {
        let mode = mode.as_deref().unwrap_or_default();
        mode.is_empty() || own.contains(&mode)
    };
    let seccomp = |option: &String| {
        let is_known = |profile: &str| profile == "builtin" || Seccomp::strict().option().as_deref() == Some(profile);
        let profile = option
            .strip_prefix("seccomp")
            .and_then(|rest| rest.strip_prefix(['=', ':']));
        profile.is_some_and(|profile| !is_known(profile))
    };
    if host.privileged == Some(true) {
        Some("the container is privileged")
    } else if is_filled(&host.cap_add) {
        Some("capabilities are added")
    } else if host.security_opt.iter().flatten().any(seccomp) {
        // The profile may allow what the agent does not look at, and may kill the agent for a look.
        Some("the seccomp profile is neither the engine's nor Seccomp::strict()")
    } else if !is_own(&host.ipc_mode, &["private", "none"]) {
        Some("the namespace of System V objects is shared, or may be")
    } else if !is_own(&host.pid_mode, &["private"]) {
        Some("the namespace of processes is shared")
    } else if is_filled(&host.volumes_from) {
        Some("volumes of other containers are mounted")
    } else {
        None
    }
}
