//! Checks the values of a [`ContainerSpec`].

use super::container_spec::ContainerSpec;
use super::merge::merge;
use super::resolve::Decided;
use crate::agent::ExecVia;
use crate::engine::AuthKind;
use crate::engine::reference::Reference;
use crate::error::FieldError;
use crate::values::labels;
use crate::values::shown::Bytes;

/// Returns everything that is wrong with an environment variable.
pub(crate) fn problems_of_variable(name: &str, value: &str) -> impl Iterator<Item = &'static str> {
    let bad_name = name.is_empty() || name.contains('=');
    let has_nul = name.contains('\0') || value.contains('\0');
    let problems = [
        bad_name.then_some("a name must not be empty nor contain '='"),
        has_nul.then_some("must not contain NUL"),
    ];
    problems.into_iter().flatten()
}

impl ContainerSpec {
    /// Returns everything that is wrong with the spec, by field.
    pub(crate) fn problems(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        let mut bad = |field: &str, problem: &str| found.push(FieldError::new(field, problem));

        if let Err(problem) = Reference::parse(&self.image) {
            bad("image", &problem);
        }
        match &self.registry_auth.0 {
            AuthKind::Password { username, .. } if username.is_empty() => {
                bad("registry_auth", "the user name must not be empty");
            }
            AuthKind::IdentityToken(token) if token.is_empty() => bad("registry_auth", "the token must not be empty"),
            _ => {}
        }
        match self.cmd.as_deref() {
            Some([]) => bad("cmd", "must not be empty"),
            Some([program, ..]) if program.is_empty() => bad("cmd", "the program must not be empty"),
            Some(words) if words.iter().any(|word| word.contains('\0')) => bad("cmd", "must not contain NUL"),
            _ => {}
        }
        for ((setter, _), problem) in &self.bad_sizes {
            bad(setter, problem);
        }
        if let Some(bytes) = self.memory.value().filter(|bytes| *bytes < Self::MIN_MEMORY) {
            bad("memory", &too_little(bytes));
        }
        if self.memory.value().is_some_and(|bytes| i64::try_from(bytes).is_err()) {
            bad("memory", "must fit in 63 bits");
        }
        if self
            .cpus
            .is_some_and(|cpus| !(cpus.is_finite() && (0.01..=1e6).contains(&cpus)))
        {
            bad("cpus", "must be a number of processors from 0.01 up");
        }
        if self.pids.value() == Some(0) {
            bad("pids_limit", "must be at least 1");
        }
        for (path, options) in &self.tmpfs {
            if !path.starts_with('/') || path.trim_end_matches('/').is_empty() {
                bad("tmpfs", "must be an absolute path, and not the root");
            }
            if path.contains(['\0', ':']) || options.contains('\0') {
                bad("tmpfs", "must not contain NUL, nor the path a ':'");
            }
            if options.split(',').any(|option| option == "size=0") {
                bad("tmpfs", "a size of 0 would mean no limit");
            }
        }
        if let Some(runtime) = &self.runtime {
            check_text(&mut bad, "runtime", runtime);
        }
        if self
            .shm_size
            .is_some_and(|bytes| bytes == 0 || i64::try_from(bytes).is_err())
        {
            bad("shm_size", "must be at least 1, and fit in 63 bits");
        }
        for (name, limit) in &self.ulimits {
            check_text(&mut bad, "ulimit", name);
            if !name.is_empty() && !ULIMITS.contains(&&*name.to_ascii_lowercase()) {
                bad(
                    "ulimit",
                    "there is no limit of that name: see setrlimit(2), in lower case and without RLIMIT_",
                );
            }
            if limit.soft > limit.hard || i64::try_from(limit.hard).is_err() {
                bad(
                    "ulimit",
                    "the soft limit must not be above the hard one, which must fit in 63 bits",
                );
            }
        }
        for name in &self.cap_add {
            check_text(&mut bad, "cap_add", name);
        }
        if let Some(network) = &self.network {
            network.check(&mut bad);
        }
        for ports in &self.published {
            if ports.is_empty() {
                bad("publish_range", "the range is empty");
            }
            if *ports.start() == 0 {
                bad("publish", "a port must be at least 1");
            }
        }
        self.check_ready(&mut bad);
        if self.ports().len() > MAX_PUBLISHED {
            bad("publish", "at most 1024 ports can be published");
        }
        if let Some(user) = &self.user {
            check_text(&mut bad, "user", user);
        }
        if let Some(platform) = &self.platform {
            let parts: Vec<_> = platform.split('/').collect();
            if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
                bad(
                    "platform",
                    "must be os/architecture or os/architecture/variant, e.g. linux/arm64",
                );
            }
        }
        if let Some(dir) = &self.working_dir {
            check_text(&mut bad, "working_dir", dir);
            if !dir.starts_with('/') {
                bad("working_dir", "must be an absolute path");
            }
        }
        if self.agent_path.as_ref().is_some_and(|path| !path.is_absolute()) {
            bad("agent_path", "must be an absolute path");
        }
        self.command_defaults.check(self.exec_via, &mut bad);
        if self.writable_cgroups && self.exec_via == ExecVia::Docker {
            bad("writable_cgroups", "needs the agent: see exec_via()");
        }
        if self.writable_cgroups && !self.has_lifeline() {
            bad("writable_cgroups", "does not go with a PID 1 of your own: see cmd()");
        }
        if self.writable_cgroups && self.supervise {
            bad("writable_cgroups", "does not go with supervise_command()");
        }
        if self.supervise && self.exec_via == ExecVia::Docker {
            bad("supervise_command", "needs the agent: see exec_via()");
        }
        if let Some(sandbox) = &self.sandbox {
            sandbox.check(&mut bad);
        }
        for (name, value) in &self.server_env.0 {
            problems_of_variable(name, value).for_each(|problem| bad("server_env", problem));
        }
        if !self.server_env.is_empty() && !self.supervise {
            bad(
                "server_env",
                "no command of the containers' own runs beside those of leases: see supervise_command()",
            );
        }
        for (name, value) in &self.env {
            problems_of_variable(name, value).for_each(|problem| bad("env", problem));
        }
        for (name, value) in &self.labels {
            check_text(&mut bad, "label", name);
            if value.contains('\0') {
                bad("label", "must not contain NUL");
            }
            if name.starts_with(labels::PREFIX) {
                bad("label", "names that begin with `dockerpool.` are reserved");
            }
        }
        found.extend(merge(self, &Decided::default()).1);
        found
    }
}

/// The most ports that a container may publish: an engine may run a process for each.
const MAX_PUBLISHED: usize = 1024;

/// Says how much memory a container needs at least. Who writes less than this mostly means another unit.
fn too_little(bytes: u64) -> String {
    let (least, given) = (Bytes(ContainerSpec::MIN_MEMORY), Bytes(bytes));
    let hint = match bytes {
        0..0x10_0000 => "; a number is in bytes: write e.g. 64 << 20, or \"64m\"",
        _ => "",
    };
    format!("must be at least {least}, and is {given}{hint}")
}

/// The limits of `setrlimit(2)` that Linux has, as engines name them.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Reports an empty text, and a text with a NUL in it.
fn check_text(bad: &mut impl FnMut(&str, &str), field: &str, text: &str) {
    if text.is_empty() {
        bad(field, "must not be empty");
    }
    if text.contains('\0') {
        bad(field, "must not contain NUL");
    }
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bounded() {
        let spec = ContainerSpec::new("busybox");
        assert!(spec.problems().is_empty());
        assert_eq!(spec.memory.value(), Some(512 << 20));
        assert_eq!(spec.pids.value(), Some(512));
        assert!(spec.has_lifeline());
        assert!(!spec.cmd(["sleep", "1"]).has_lifeline());
    }

    #[test]
    fn every_bad_value_is_named() {
        let spec = ContainerSpec::new("a b")
            .cmd(Vec::<String>::new())
            .memory(1)
            .cpus(-1.0)
            .pids_limit(0)
            .publish_range(RangeInclusive::new(2, 1))
            .publish_range(0..=2000)
            .user("")
            .working_dir("tmp")
            .ulimit("nofiles", 1, 1)
            .env("A=B", "x\0")
            .label("dockerpool.pool", "x");
        let problems = spec.problems();
        let fields: Vec<_> = problems.iter().map(FieldError::field).collect();
        assert_eq!(
            fields,
            [
                "image",
                "cmd",
                "memory",
                "cpus",
                "pids_limit",
                "ulimit",
                "publish_range",
                "publish",
                "publish",
                "user",
                "working_dir",
                "env",
                "env",
                "label",
                "publish"
            ]
        );
    }
}
