//! Limits the memory of a test's processes. Needs root.

use std::path::PathBuf;

/// A control group of its own, in version 1 or 2. Drop removes the group once its processes have ended.
pub struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// Moves the process into a new group, in which it may use so many further bytes.
    pub fn with(pid: u32, limit: usize) -> Self {
        let v1 = PathBuf::from("/sys/fs/cgroup/memory");
        let (root, file) = if v1.is_dir() {
            (v1, "memory.limit_in_bytes")
        } else {
            ("/sys/fs/cgroup".into(), "memory.max")
        };
        let group = Self(root.join(format!("dockerpool-test-{pid}")));
        std::fs::create_dir(&group.0).expect("this test needs root, to limit a process's memory");
        std::fs::write(group.0.join(file), limit.to_string()).unwrap();
        std::fs::write(group.0.join("cgroup.procs"), pid.to_string()).unwrap();
        group
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}
