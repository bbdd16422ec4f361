//! The terms of one lease: [`Lease`].

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::guard::PooledContainer;
use super::reuse::Reuse;
use crate::error::{Error, FieldError};
use crate::spec::{Resolved, problems_of_variable};

/// The rights of a secret file: its owner may read it.
const SECRET: u32 = 0o400;

/// Describes what belongs to one lease, for [`Pool::acquire_with`](crate::Pool::acquire_with). `Debug` shows no values of variables
/// and no contents of files.
///
/// # Secret files
///
/// A secret file is in memory: its path must be in a file system in memory of the container
/// ([`tmpfs`](crate::PoolBuilder::tmpfs), the directories of a [`Sandbox`](crate::Sandbox), `/dev/shm`, and `/tmp` where
/// containers are [cleaned](Reuse::Clean)). It is given to the command's user, with the rights `0o400`. Its contents go to
/// the container by the agent, or by the standard input of `tar` without it. They are in no label, argument, environment, description
/// of the engine, log, trace, error or `Debug`. The kernel of the engine's machine may swap memory out if it has swap and the
/// container's limits allow that; by default they do not.
///
/// When the lease ends, all processes are killed and the container is cleaned and proven to be clean, or removed. So a lease with secret
/// files needs a pool with [`Reuse::Clean`] or [`Reuse::Never`], and has no [`key`](Self::key). A copy that a command makes
/// elsewhere in the container goes the same way: on a root file system that can be written to, where no look would find every copy, the
/// container is removed. Mounts of yours keep what commands put there.
///
/// Where a link leads the path out of memory, the acquire fails with [`CrossesDevices`](std::io::ErrorKind::CrossesDevices); that is not
/// looked at without the agent.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use dockerpool::Lease;
///
/// let lease = Lease::new()
///     .env("LANG", "C.UTF-8")
///     .file("/tmp/main.py", "print(open('/tmp/token').read())")
///     .secret_file("/tmp/token", "s3cret")
///     .timeout(Duration::from_secs(60));
/// assert!(!format!("{lease:?}").contains("s3cret"));
/// ```
#[derive(Clone, Default)]
#[must_use = "a lease does nothing until Pool::acquire_with()"]
pub struct Lease {
    pub(super) key: Option<String>,
    env: Vec<(String, String)>,
    files: Vec<LeaseFile>,
    pub(super) timeout: Option<Duration>,
    pub(super) acquire_timeout: Option<Duration>,
}

/// A file that is written before the lease begins.
#[derive(Clone)]
struct LeaseFile {
    path: String,
    data: Bytes,
    is_secret: bool,
}

impl Lease {
    /// Describes a lease as [`Pool::acquire`](crate::Pool::acquire) makes it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the key under which the container is kept after this lease, e.g. the name of a session: see
    /// [`Pool::acquire_for`](crate::Pool::acquire_for). The files of each lease are written, also in a container that was kept.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Sets a variable for every command of this lease, over the container's own. A variable that the command itself sets comes
    /// before it, and [`env_clear`](crate::Command::env_clear) leaves it out.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Adds a file of the container, which is written before the lease begins, as [`Files::write`](crate::Files::write) does with
    /// [`create_parents`](crate::Files::create_parents). It belongs to the container's user. At most 16 MiB.
    pub fn file(self, path: impl Into<String>, data: impl Into<Bytes>) -> Self {
        self.add(path.into(), data.into(), false)
    }

    /// Adds a file that others must not see: see [above](Self#secret-files).
    pub fn secret_file(self, path: impl Into<String>, data: impl Into<Bytes>) -> Self {
        self.add(path.into(), data.into(), true)
    }

    /// Limits how long the lease may last, as [`max_lease`](crate::PoolBuilder::max_lease) does for all leases of a pool. The
    /// shorter of both counts. When the limit has passed, [`Container::taint`](crate::Container::taint) is
    /// [`LeaseExpired`](crate::Taint::LeaseExpired), which the errors of later commands tell. Default: no limit.
    pub fn timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.timeout = limit.into();
        self
    }

    /// Limits how long the acquire waits for a container. Default: that of the pool.
    pub fn acquire_timeout(mut self, limit: Duration) -> Self {
        self.acquire_timeout = Some(limit);
        self
    }

    fn add(mut self, path: String, data: Bytes, is_secret: bool) -> Self {
        self.files.push(LeaseFile { path, data, is_secret });
        self
    }

    /// Returns every bad value.
    pub(super) fn problems(&self, spec: &Resolved, reuse: Reuse) -> Vec<FieldError> {
        let mut problems = Vec::new();
        if self.key.as_ref().is_some_and(String::is_empty) {
            problems.push(FieldError::new("key", "must not be empty"));
        }
        if self.timeout.is_some_and(|limit| limit.is_zero()) {
            problems.push(FieldError::new("timeout", "must be more than zero"));
        }
        for (i, (name, value)) in self.env.iter().enumerate() {
            let of_variable = problems_of_variable(name, value);
            problems.extend(of_variable.map(|problem| FieldError::new(format!("env {}", i + 1), problem)));
        }
        for (i, file) in self.files.iter().enumerate() {
            let setter = if file.is_secret { "secret_file" } else { "file" };
            let problem = file.problem(spec, reuse, self.key.is_some());
            problems
                .extend(problem.map(|problem| FieldError::new(format!("{setter} {} ({})", i + 1, file.path), problem)));
        }
        problems
    }

    pub(super) fn has_secrets(&self) -> bool {
        self.files.iter().any(|file| file.is_secret)
    }

    pub(super) fn variables(&self) -> Vec<String> {
        let variables = self.env.iter();
        variables.map(|(name, value)| format!("{name}={value}")).collect()
    }

    /// Writes the files.
    pub(super) async fn write_files(&self, guard: &PooledContainer) -> Result<(), Error> {
        for LeaseFile { path, data, is_secret } in &self.files {
            let files = guard.files().create_parents();
            let files = if *is_secret {
                files.mode(SECRET).in_memory()
            } else {
                files
            };
            files.write(path, data).await?;
        }
        Ok(())
    }
}

impl LeaseFile {
    fn problem(&self, spec: &Resolved, reuse: Reuse, has_key: bool) -> Option<&'static str> {
        let mut parts = self.path.split('/').skip(1);
        if !self.path.starts_with('/') || self.path.contains('\0') || self.path.ends_with('/') {
            Some("must be an absolute path of a file, without NUL")
        } else if parts.any(|part| part == "..") {
            Some("must not contain `..`")
        } else if self.is_secret && !spec.is_in_memory(&self.path) {
            Some("must be in a file system in memory, such as one of tmpfs()")
        } else if self.is_secret && reuse == Reuse::AsIs {
            Some("needs a pool with Reuse::Clean or Reuse::Never")
        } else if self.is_secret && has_key {
            Some("does not go with a key, whose container keeps its files")
        } else {
            None
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        let file = |file: &LeaseFile| format!("{} ({} bytes)", file.path, file.data.len());
        let files: Vec<_> = self.files.iter().map(file).collect();
        f.debug_struct("Lease")
            .field("key", &self.key)
            .field("env", &env)
            .field("files", &files)
            .field("timeout", &self.timeout)
            .field("acquire_timeout", &self.acquire_timeout)
            .finish()
    }
}
