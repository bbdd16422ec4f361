//! A look at a container from its inside: what is looked at, and what was seen.

use std::collections::BTreeMap;

/// The argument by which the agent's program is asked to look. `agent/look.rs` has the other side.
pub(crate) const LOOK: &str = "look";

/// The files that are looked at.
pub(crate) const FILES: [&str; 14] = [
    STATUS,
    MOUNTS,
    LIMITS,
    OOM_SCORE_ADJ,
    DEVICES,
    GROUP,
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory.swap.max",
    "/sys/fs/cgroup/pids.max",
    "/sys/fs/cgroup/cpu.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes",
    "/sys/fs/cgroup/pids/pids.max",
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
];
pub(super) const STATUS: &str = "/proc/self/status";
pub(super) const MOUNTS: &str = "/proc/self/mountinfo";
pub(super) const LIMITS: &str = "/proc/self/limits";
pub(super) const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";
pub(super) const GROUP: &str = "/proc/self/cgroup";
pub(super) const DEVICES: &str = "/proc/self/net/dev";

/// The system calls that are tried, with the last one changing the process that tries.
pub(crate) const CALLS: [&str; 14] = [
    "af_alg",
    "af_vsock",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "userfaultfd",
    "bpf",
    "keyctl",
    "add_key",
    "request_key",
    "setns",
    "clone3",
    "clone_newuser",
    "unshare_newuser",
];

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Look {
    files: BTreeMap<String, String>,
    /// The error number of each call, 0 where it was let through.
    calls: BTreeMap<String, i32>,
}

impl Look {
    /// Reads what the agent's program has printed.
    pub(crate) fn of_agent(mut printed: &[u8]) -> Self {
        let mut look = Self::default();
        while let Some(end) = printed.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&printed[..end]).into_owned();
            printed = &printed[end + 1..];
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("file"), Some(path), Some(len)) => {
                    if let Ok(len) = len.parse::<usize>()
                        && let Some(text) = printed.get(..len)
                    {
                        look.add_file(path, text);
                        printed = printed.get(len + 1..).unwrap_or_default();
                    }
                }
                (Some("call"), Some(name), Some(errno)) => {
                    look.calls
                        .extend(errno.parse().ok().map(|errno| (name.to_owned(), errno)));
                }
                _ => {}
            }
        }
        look
    }

    /// Adds a file that was read.
    pub(crate) fn add_file(&mut self, path: &str, text: &[u8]) {
        self.files
            .insert(path.to_owned(), String::from_utf8_lossy(text).into_owned());
    }

    /// Returns whether no file could be read.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Returns a file that could be read and is not empty.
    pub(crate) fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str).filter(|text| !text.is_empty())
    }

    /// Returns the error number of a call that was tried.
    pub(super) fn call(&self, name: &str) -> Option<i32> {
        self.calls.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_agent_prints_is_read() {
        let look = Look::of_agent(b"file /a 4\nx\ny\n\nfile /b -2\ncall bpf 1\ncall none ?\nfile /cut 99\nz\n");
        assert_eq!(look.file("/a"), Some("x\ny\n"));
        assert_eq!((look.file("/b"), look.file("/cut")), (None, None));
        assert_eq!((look.call("bpf"), look.call("none")), (Some(1), None));
    }
}
