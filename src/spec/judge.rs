//! The judgement whether a container is as its sandbox asks: [`Asked`].

use std::fmt::Display;

use bollard::models::{ContainerCreateBody, HostConfig};

use super::look::{CALLS, DEVICES, GROUP, LIMITS, Look, MOUNTS, OOM_SCORE_ADJ, STATUS};
use super::sandbox::Sandbox;
use super::seccomp::Kind;
use super::security::{HowSeen, SecurityItem, SecurityReport};
use crate::engine::{EngineError, EngineErrorKind, Mount, MountSource};

/// Parts of the names of runtimes whose containers have a kernel of their own. Its files do not tell what the machine's enforces.
const OWN_KERNEL: [&str; 4] = ["runsc", "gvisor", "kata", "krun"];

/// The names of limits in `/proc/self/limits`.
const LIMIT_NAMES: [(&str, &str); 16] = [
    ("cpu", "Max cpu time"),
    ("fsize", "Max file size"),
    ("data", "Max data size"),
    ("stack", "Max stack size"),
    ("core", "Max core file size"),
    ("rss", "Max resident set"),
    ("nproc", "Max processes"),
    ("nofile", "Max open files"),
    ("memlock", "Max locked memory"),
    ("as", "Max address space"),
    ("locks", "Max file locks"),
    ("sigpending", "Max pending signals"),
    ("msgqueue", "Max msgqueue size"),
    ("nice", "Max nice priority"),
    ("rtprio", "Max realtime priority"),
    ("rttime", "Max realtime timeout"),
];

/// The names of capabilities, by their numbers.
const CAPABILITIES: &str = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
    NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT \
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE \
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE";

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const EAFNOSUPPORT: i32 = 97;

/// What a sandbox asks for, in the terms of what can be seen.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    sandbox: Sandbox,
    host: HostConfig,
    health_check: bool,
    volumes: Vec<(String, u64)>,
    /// The runtime that was asked for, or else the engine's default, if that is known.
    runtime: Option<String>,
}

/// The kind of an item: which error it is if it is not in force.
#[derive(Clone, Copy, PartialEq)]
enum Of {
    Limit,
    Setting,
}

/// Collects the items of a report, and those that are not in force.
#[derive(Default)]
struct Judge {
    items: Vec<SecurityItem>,
    wrong: Vec<(Of, String)>,
}

impl Judge {
    /// Adds an item that was seen inside, or was not seen.
    fn add(&mut self, of: Of, name: &str, asked: impl Display, found: Option<(String, bool)>) {
        let asked = asked.to_string();
        let how_seen = match &found {
            Some(_) => HowSeen::Inside,
            None => HowSeen::NotSeen,
        };
        let (found, holds) = found.unwrap_or((String::new(), true));
        if !holds {
            let shown = if found.is_empty() { "nothing" } else { &found };
            self.wrong
                .push((of, format!("{name} is {shown} where {asked} was asked for")));
        }
        self.push(name, asked, found, how_seen);
    }

    fn push(&mut self, name: &str, asked: String, found: String, how_seen: HowSeen) {
        self.items.push(SecurityItem {
            name: name.to_owned(),
            asked,
            found,
            how_seen,
        });
    }
}

impl Asked {
    /// Takes what was asked for from a body with all settings, before the limits of commands are taken away from PID 1.
    /// `default_runtime` is the engine's.
    pub(super) fn new(
        sandbox: &Sandbox,
        body: &ContainerCreateBody,
        volumes: &[Mount],
        default_runtime: Option<&str>,
    ) -> Self {
        let size = |mount: &Mount| match mount.source {
            MountSource::Memory { bytes, .. } => Some((mount.target.clone(), bytes)),
            _ => None,
        };
        Self {
            sandbox: sandbox.clone(),
            host: body.host_config.clone().unwrap_or_default(),
            health_check: body.healthcheck.as_ref().is_none_or(|check| {
                let test = check.test.iter().flatten().next();
                test.is_none_or(|test| test != "NONE")
            }),
            volumes: volumes.iter().filter_map(size).collect(),
            runtime: asked_runtime(body).or(default_runtime).map(str::to_owned),
        }
    }

    /// Returns the runtime that the containers have, if that is known.
    pub(crate) fn runtime(&self) -> Option<&str> {
        self.runtime.as_deref()
    }

    /// Returns whether the containers have the machine's kernel, as far as the runtime's name tells.
    pub(crate) fn has_machines_kernel(&self) -> bool {
        let has_own = |runtime: &str| OWN_KERNEL.iter().any(|part| runtime.contains(part));
        !self.runtime().is_some_and(has_own)
    }

    /// Compares what was asked for with what was seen, of a container whose description the engine has shown to be as asked.
    ///
    /// # Errors
    ///
    /// [`EngineErrorKind::SettingIgnored`] or [`EngineErrorKind::LimitDiscarded`], naming every item that is not in force.
    pub(crate) fn judge(&self, look: &Look) -> Result<SecurityReport, EngineError> {
        let mut judge = Judge::default();
        self.judge_process(look, &mut judge);
        self.judge_files(look, &mut judge);
        self.judge_limits(look, &mut judge);
        self.judge_surroundings(look, &mut judge);
        let warnings = self.judge_calls(look, &mut judge);
        let Judge { items, wrong } = judge;
        if wrong.is_empty() {
            return Ok(SecurityReport { items, warnings });
        }
        let kind = match wrong.iter().all(|(of, _)| *of == Of::Limit) {
            true => EngineErrorKind::LimitDiscarded,
            false => EngineErrorKind::SettingIgnored,
        };
        let wrong: Vec<_> = wrong.into_iter().map(|(_, words)| words).collect();
        let message = format!("the container is not as sandbox() asks: {}", wrong.join("; "));
        Err(EngineError::new(kind, message))
    }

    /// Judges the attributes of a process.
    fn judge_process(&self, look: &Look, judge: &mut Judge) {
        let Sandbox {
            uid,
            gid,
            keeps,
            seccomp,
            new_privileges,
            ..
        } = &self.sandbox;
        let status = look.file(STATUS);
        // A field that the kernel does not have is empty.
        let field = |name: &str| status.map(|status| status_field(status, name));
        for (name, line, wanted) in [("user", "Uid", uid), ("group", "Gid", gid)] {
            let found = field(line).map(|ids| {
                let ids: Vec<&str> = ids.split_whitespace().collect();
                let wanted = wanted.to_string();
                let holds = ids.len() == 4 && ids.iter().all(|id| *id == wanted);
                (if holds { wanted } else { ids.join(" ") }, holds)
            });
            judge.add(Of::Setting, name, wanted, found);
        }
        let found = field("Groups").map(|groups| {
            let holds = groups.split_whitespace().all(|group| group == gid.to_string());
            (groups.split_whitespace().collect::<Vec<_>>().join(" "), holds)
        });
        judge.add(Of::Setting, "groups", "no others", found);

        let kept = keeps.iter().fold(0, |mask, name| {
            let number = CAPABILITIES.split_whitespace().position(|known| known == name);
            mask | number.map_or(0, |number| 1u64 << number)
        });
        let asked = if keeps.is_empty() {
            "none".to_owned()
        } else {
            keeps.join(" ")
        };
        let found = status.map(|status| {
            let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
            // A set that cannot be read counts as full, but for the ambient one, which old kernels do not have.
            let has = sets.iter().fold(0, |all, set| match status_field(status, set) {
                "" if *set == "CapAmb" => all,
                mask => all | u64::from_str_radix(mask, 16).unwrap_or(u64::MAX),
            });
            (capability_names(has), has & !kept == 0)
        });
        judge.add(Of::Setting, "capabilities", asked, found);

        let asked = if *new_privileges { "allowed" } else { "none" };
        let found = field("NoNewPrivs").map(|value| match value {
            "1" => ("none".to_owned(), true),
            _ => ("allowed".to_owned(), *new_privileges),
        });
        judge.add(Of::Setting, "new privileges", asked, found);
        let found = field("Seccomp").map(|mode| match mode {
            "2" => ("a filter".to_owned(), true),
            _ => ("no filter".to_owned(), !seccomp.is_filter()),
        });
        judge.add(Of::Setting, "seccomp", seccomp.words(), found);
    }

    /// Judges the file systems.
    fn judge_files(&self, look: &Look, judge: &mut Judge) {
        let mounts = look.file(MOUNTS);
        let is_read_only = self.host.readonly_rootfs == Some(true);
        let found = mounts.map(|mounts| match mount_on(mounts, "/") {
            Some(root) if root.has("ro") => ("read-only".to_owned(), true),
            _ => ("writable".to_owned(), !is_read_only),
        });
        judge.add(
            Of::Setting,
            "root file system",
            if is_read_only { "read-only" } else { "writable" },
            found,
        );
        let of_tmpfs = self.host.tmpfs.iter().flatten().map(|(path, options)| {
            let option = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name));
            let size = option("size=").and_then(bytes);
            (path.clone(), size, option("nr_inodes=").and_then(bytes))
        });
        let shm = self.host.shm_size.and_then(|size| u64::try_from(size).ok());
        let has_shm = self.host.ipc_mode.as_deref() != Some("none");
        let shm = has_shm.then(|| ("/dev/shm".to_owned(), shm, None));
        let volumes = self
            .volumes
            .iter()
            .map(|(path, size)| (path.clone(), Some(*size), None));
        let mut all: Vec<_> = of_tmpfs.chain(shm).chain(volumes).collect();
        all.sort();
        for (path, size, inodes) in all {
            let mut asked = "in memory, nosuid, nodev".to_owned();
            asked.extend(size.map(|size| format!(", {size} bytes")));
            asked.extend(inodes.map(|inodes| format!(", {inodes} inodes")));
            let found = mounts.map(|mounts| match mount_on(mounts, path.trim_end_matches('/')) {
                None => (String::new(), false),
                Some(mount) => {
                    let within = |name: &str, most: Option<u64>| {
                        let found = mount.option(name).and_then(bytes);
                        most.is_none_or(|most| found.is_some_and(|found| found <= most))
                    };
                    // The kernel rounds up to whole pages, of at most 64 KiB.
                    let size = size.map(|size| size.next_multiple_of(64 << 10));
                    let is_safe = mount.kind == "tmpfs" && mount.has("nosuid") && mount.has("nodev");
                    let fits = !self.has_machines_kernel() || within("size=", size) && within("nr_inodes=", inodes);
                    (mount.words(), is_safe && fits)
                }
            });
            judge.add(Of::Setting, &path, asked, found);
        }
    }

    /// Judges the limits of the control group and of a process.
    fn judge_limits(&self, look: &Look, judge: &mut Judge) {
        let HostConfig {
            memory,
            memory_swap,
            pids_limit,
            nano_cpus,
            cpu_quota,
            ..
        } = &self.host;
        let positive = |amount: &Option<i64>| {
            amount
                .and_then(|amount| u64::try_from(amount).ok())
                .filter(|amount| *amount > 0)
        };
        // Where the group is not the top of what is mounted, the files of version 2 are those of another group.
        let has_own_namespace = look
            .file(GROUP)
            .is_some_and(|groups| groups.lines().any(|line| line == "0::/"));
        let group = |v2: &str, v1: &str| {
            let file = |path: &str| look.file(&format!("/sys/fs/cgroup/{path}"));
            let v2 = file(v2).filter(|_| has_own_namespace);
            v2.or(file(v1)).filter(|_| self.has_machines_kernel()).map(str::trim)
        };
        let most = |text: &str, most: u64| (text.to_owned(), text.parse::<u64>().is_ok_and(|found| found <= most));
        if let Some(asked) = positive(memory) {
            let found = group("memory.max", "memory/memory.limit_in_bytes");
            judge.add(
                Of::Limit,
                "memory",
                format!("{asked} bytes"),
                found.map(|text| most(text, asked)),
            );
            if let Some(both) = positive(memory_swap) {
                let found = match group("memory.swap.max", "") {
                    Some(swap) => Some(most(swap, both.saturating_sub(asked))),
                    // The file of version 1 counts memory and swap together.
                    None => group("", "memory/memory.memsw.limit_in_bytes").map(|text| match text.parse::<u64>() {
                        Ok(found) => (found.saturating_sub(asked).to_string(), found <= both),
                        Err(_) => (text.to_owned(), false),
                    }),
                };
                judge.add(
                    Of::Limit,
                    "swap",
                    format!("{} bytes", both.saturating_sub(asked)),
                    found,
                );
            }
        }
        if let Some(asked) = positive(pids_limit) {
            let found = group("pids.max", "pids/pids.max");
            judge.add(Of::Limit, "processes", asked, found.map(|text| most(text, asked)));
        }
        if let (Some(asked), None) = (positive(nano_cpus), positive(cpu_quota)) {
            let found = group("cpu.max", "cpu/cpu.cfs_quota_us").map(|text| {
                // Version 1 has the period, which is that of Docker, in another file.
                let mut words = text.split_whitespace().map(|word| word.parse::<f64>());
                let quota = words.next().and_then(Result::ok).filter(|quota| *quota > 0.0);
                let period = words.next().and_then(Result::ok).unwrap_or(100_000.0);
                match quota.map(|quota| quota / period) {
                    Some(cpus) => (format!("{cpus}"), cpus <= asked as f64 / 1e9 + 0.001),
                    None => ("all".to_owned(), false),
                }
            });
            judge.add(Of::Limit, "processors", asked as f64 / 1e9, found);
        }
        let limits = look.file(LIMITS);
        for ulimit in self.host.ulimits.iter().flatten() {
            let (Some(name), Some(soft), Some(hard)) = (&ulimit.name, ulimit.soft, ulimit.hard) else {
                continue;
            };
            let line = LIMIT_NAMES.iter().find(|(known, _)| known == name);
            let found = line.zip(limits).and_then(|((_, line), limits)| {
                let rest = limits.lines().find_map(|text| text.strip_prefix(line))?;
                let mut values = rest.split_whitespace();
                let (found_soft, found_hard) = (values.next()?, values.next()?);
                let holds = |found: &str, asked: i64| match u64::try_from(asked) {
                    Ok(asked) => found.parse::<u64>().is_ok_and(|found| found <= asked),
                    Err(_) => true,
                };
                let holds = holds(found_soft, soft) && holds(found_hard, hard);
                Some((format!("{found_soft} {found_hard}"), holds))
            });
            judge.add(Of::Limit, &format!("ulimit {name}"), format!("{soft} {hard}"), found);
        }
        if let Some(asked) = self.host.oom_score_adj {
            let found = look.file(OOM_SCORE_ADJ).map(|text| {
                let text = text.trim();
                (text.to_owned(), text.parse::<i64>().is_ok_and(|found| found >= asked))
            });
            judge.add(Of::Setting, "oom_score_adj", format!("at least {asked}"), found);
        }
    }

    /// Judges what is around the container's processes.
    fn judge_surroundings(&self, look: &Look, judge: &mut Judge) {
        let network = self.host.network_mode.as_deref().unwrap_or_default();
        let is_none = network == "none";
        let found = look.file(DEVICES).map(|text| {
            // Devices of tunnels are in every namespace of a kernel that has them, and lead nowhere.
            const IDLE: [&str; 10] = [
                "lo", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "sit0", "ip6tnl0", "ip6gre0",
            ];
            let names = text
                .lines()
                .skip(2)
                .filter_map(|line| Some(line.split_once(':')?.0.trim()));
            let others: Vec<_> = names.filter(|name| !IDLE.contains(name)).collect();
            match others.is_empty() {
                true => ("none".to_owned(), true),
                false => (others.join(" "), !is_none),
            }
        });
        judge.add(Of::Setting, "network", if is_none { "none" } else { network }, found);
        let log = self.host.log_config.as_ref().and_then(|log| log.typ.clone());
        let log = log.unwrap_or_else(|| "the engine's".to_owned());
        judge.push("log", log.clone(), log, HowSeen::Inspect);
        let check = if self.health_check { "its own" } else { "none" };
        judge.push("health check", check.to_owned(), check.to_owned(), HowSeen::Inspect);
        let asked = self.host.runtime.as_deref().filter(|name| !name.is_empty());
        if let Some(runtime) = asked {
            judge.push("runtime", runtime.to_owned(), runtime.to_owned(), HowSeen::Inspect);
        }
    }

    /// Judges the system calls that were tried. Returns a warning for each that is dangerous and was let through, where nobody
    /// asked for its refusal.
    fn judge_calls(&self, look: &Look, judge: &mut Judge) -> Vec<String> {
        let is_strict = self.sandbox.seccomp.0 == Kind::Strict;
        let mut open = Vec::new();
        for name in CALLS {
            let found = look.call(name).map(|errno| match errno {
                EPERM => ("refused".to_owned(), name != "clone3"),
                ENOSYS => ("refused as unknown".to_owned(), true),
                EAFNOSUPPORT if name.starts_with("af_") => ("not in the kernel".to_owned(), true),
                0 => ("allowed".to_owned(), false),
                errno => (format!("allowed (error {errno})"), false),
            });
            if is_strict {
                // Programs then take another call, and any other error as the end.
                let asked = if name == "clone3" {
                    "refused as unknown"
                } else {
                    "refused"
                };
                judge.add(Of::Setting, &format!("call {name}"), asked, found);
            } else if found.is_some_and(|(_, holds)| !holds) && name != "clone3" && name != "setns" {
                open.push(name);
            }
        }
        let words = self.sandbox.seccomp.words();
        let warning = format!(
            "under {words}, code can make system calls that Seccomp::strict() refuses: {}",
            open.join(", ")
        );
        (!open.is_empty()).then_some(warning).into_iter().collect()
    }
}

/// Returns the runtime that a body names.
fn asked_runtime(body: &ContainerCreateBody) -> Option<&str> {
    let runtime = body.host_config.as_ref()?.runtime.as_deref()?;
    (!runtime.is_empty()).then_some(runtime)
}

/// Returns the value of a field of `/proc/self/status`, or nothing if there is none.
fn status_field<'a>(status: &'a str, name: &str) -> &'a str {
    let mut fields = status.lines().filter_map(|line| line.split_once(':'));
    fields
        .find(|(known, _)| *known == name)
        .map_or("", |(_, value)| value.trim())
}

/// Returns the names of the capabilities in a set.
fn capability_names(set: u64) -> String {
    let known = CAPABILITIES.split_whitespace().enumerate();
    let names: Vec<_> = known
        .filter(|(number, _)| set & (1 << number) != 0)
        .map(|(_, name)| name)
        .collect();
    match set {
        0 => "none".to_owned(),
        set if names.is_empty() => format!("{set:x}"),
        _ => names.join(" "),
    }
}

/// A line of `/proc/self/mountinfo`.
struct Found<'a> {
    kind: &'a str,
    /// The options of the mount, and those of its file system.
    options: [&'a str; 2],
}

impl Found<'_> {
    /// Returns whether the mount itself has an option.
    fn has(&self, name: &str) -> bool {
        self.options[0].split(',').any(|option| option == name)
    }

    /// Returns the value of an option of the file system, whose name has its `=`.
    fn option(&self, name: &str) -> Option<&str> {
        self.options[1].split(',').find_map(|option| option.strip_prefix(name))
    }

    fn words(&self) -> String {
        let [mount, system] = self.options;
        format!("{} {mount} {system}", self.kind)
    }
}

/// Returns the mount that is on top at this path.
fn mount_on<'a>(mounts: &'a str, path: &str) -> Option<Found<'a>> {
    let mut found = mounts.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(4);
        let (target, own) = (mount.next()?, mount.next()?);
        let mut system = system.split(' ');
        let (kind, _, options) = (system.next()?, system.next()?, system.next()?);
        (target == path).then_some(Found {
            kind,
            options: [own, options],
        })
    });
    // A later mount is on top of an earlier one.
    found.next_back()
}

/// Returns a number with one of the kernel's suffixes for sizes.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_shl(unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ContainerSpec, Decided, resolve};

    const OWN_STATUS: &str = "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\nGroups:\t \n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    const OWN_MOUNTS: &str = "1 0 0:1 / / ro,relatime - overlay overlay rw,lowerdir=/x\n\
        2 1 0:2 / /tmp rw,nosuid,nodev - tmpfs tmpfs rw,size=65536k,nr_inodes=16384,uid=65534,gid=65534\n\
        3 1 0:3 / /work rw,nosuid,nodev - tmpfs tmpfs rw,size=131072k,nr_inodes=16384,uid=65534,gid=65534\n\
        4 1 0:4 / /dev/shm rw,nosuid,nodev,noexec - tmpfs shm rw,size=65536k\n";

    /// Returns the files of a container that is as a strict sandbox asks, with cgroup v2.
    fn files() -> Vec<(&'static str, String)> {
        let limits = format!(
            "Limit  Soft Limit  Hard Limit  Units\n\
             Max file size {0} {0} bytes\nMax core file size 0 0 bytes\nMax open files 1024 1024 files\n",
            128 << 20
        );
        vec![
            (STATUS, OWN_STATUS.to_owned()),
            (MOUNTS, OWN_MOUNTS.to_owned()),
            (LIMITS, limits),
            (OOM_SCORE_ADJ, "600\n".to_owned()),
            (DEVICES, "a\nb\n    lo: 0 0\n  sit0: 0 0\n".to_owned()),
            (GROUP, "0::/\n".to_owned()),
            ("/sys/fs/cgroup/memory.max", "536870912\n".to_owned()),
            ("/sys/fs/cgroup/memory.swap.max", "0\n".to_owned()),
            ("/sys/fs/cgroup/pids.max", "128\n".to_owned()),
            ("/sys/fs/cgroup/cpu.max", "100000 100000\n".to_owned()),
        ]
    }

    /// Judges a container with these files, after a text in one of them was replaced.
    fn judged(spec: &ContainerSpec, path: &str, from: &str, to: &str) -> Result<SecurityReport, EngineError> {
        let mut look = Look::default();
        for (name, text) in files() {
            let text = match name == path {
                true => {
                    assert!(text.contains(from), "{text}");
                    text.replace(from, to)
                }
                false => text,
            };
            look.add_file(name, text.as_bytes());
        }
        let asked = resolve(spec, Decided::default()).sandbox.unwrap();
        asked.judge(&look)
    }

    fn strict() -> ContainerSpec {
        ContainerSpec::new("any").sandbox(Sandbox::strict())
    }

    #[test]
    fn a_container_that_is_as_asked_passes_and_calls_are_not_seen() {
        let report = judged(&strict(), "", "", "").unwrap();
        let not_seen = report.items.iter().filter(|item| item.how_seen == HowSeen::NotSeen);
        let names: Vec<_> = not_seen.map(|item| &*item.name).collect();
        assert_eq!(names.len(), CALLS.len());
        assert!(names.iter().all(|name| name.starts_with("call ")), "{names:?}");
        assert_eq!(report.item("swap").unwrap().found, "0");
    }

    #[test]
    fn each_item_that_is_not_in_force_is_named() {
        use EngineErrorKind::{LimitDiscarded, SettingIgnored};
        for (path, from, to, name, kind) in [
            (
                STATUS,
                "Uid:\t65534\t65534\t65534",
                "Uid:\t65534\t65534\t0",
                "user",
                SettingIgnored,
            ),
            (STATUS, "Groups:\t ", "Groups:\t0 65534", "groups", SettingIgnored),
            (STATUS, "CapBnd:\t0", "CapBnd:\t8", "capabilities", SettingIgnored),
            (
                STATUS,
                "CapEff:\t0000000000000000\n",
                "",
                "capabilities",
                SettingIgnored,
            ),
            (
                STATUS,
                "NoNewPrivs:\t1",
                "NoNewPrivs:\t0",
                "new privileges",
                SettingIgnored,
            ),
            (STATUS, "Seccomp:\t2\n", "", "seccomp", SettingIgnored),
            (MOUNTS, "/ / ro,", "/ / rw,", "root file system", SettingIgnored),
            (MOUNTS, "size=131072k,", "", "/work", SettingIgnored),
            (
                MOUNTS,
                "size=131072k,nr_inodes=16384",
                "size=131072k,nr_inodes=16385",
                "/work",
                SettingIgnored,
            ),
            (MOUNTS, "/tmp rw,nosuid,nodev", "/tmp rw,nodev", "/tmp", SettingIgnored),
            (MOUNTS, "/dev/shm rw", "/dev/other rw", "/dev/shm", SettingIgnored),
            (
                LIMITS,
                "Max open files 1024",
                "Max open files 2048",
                "ulimit nofile",
                LimitDiscarded,
            ),
            (
                LIMITS,
                "Max core file size 0 0",
                "Max core file size 0 unlimited",
                "ulimit core",
                LimitDiscarded,
            ),
            (OOM_SCORE_ADJ, "600", "-998", "oom_score_adj", SettingIgnored),
            (DEVICES, "sit0", "eth0", "network", SettingIgnored),
            (
                "/sys/fs/cgroup/memory.max",
                "536870912",
                "max",
                "memory",
                LimitDiscarded,
            ),
            ("/sys/fs/cgroup/memory.swap.max", "0", "max", "swap", LimitDiscarded),
            ("/sys/fs/cgroup/pids.max", "128", "129", "processes", LimitDiscarded),
            (
                "/sys/fs/cgroup/cpu.max",
                "100000 100000",
                "max 100000",
                "processors",
                LimitDiscarded,
            ),
        ] {
            let error = judged(&strict(), path, from, to).unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
            assert!(error.to_string().contains(&format!(": {name} is ")), "{name}: {error}");
        }
    }

    #[test]
    fn a_mount_on_top_is_the_one_that_counts() {
        let more = "uid=65534,gid=65534\n9 3 0:9 / /work rw,relatime - ext4 /dev/sda rw\n4 ";
        let error = judged(&strict(), MOUNTS, "uid=65534,gid=65534\n4 ", more).unwrap_err();
        assert!(error.to_string().contains("/work is ext4"), "{error}");
    }

    #[test]
    fn files_of_another_group_or_of_another_kernel_tell_nothing_of_limits() {
        let report = judged(&strict(), GROUP, "0::/\n", "0::/docker/x\n").unwrap();
        assert_eq!(report.item("memory").unwrap().how_seen, HowSeen::NotSeen);
        for runtime in ["runsc", "io.containerd.runsc.v1", "kata-qemu"] {
            let spec = strict().runtime(runtime);
            let report = judged(&spec, "/sys/fs/cgroup/memory.max", "536870912", "max").unwrap();
            assert_eq!(report.item("memory").unwrap().how_seen, HowSeen::NotSeen);
            assert_eq!(report.item("runtime").unwrap().found, runtime);
            // What makes the sandbox is still looked at.
            judged(&spec, STATUS, "Seccomp:\t2", "Seccomp:\t0").unwrap_err();
        }
        judged(
            &strict().runtime("youki"),
            "/sys/fs/cgroup/memory.max",
            "536870912",
            "max",
        )
        .unwrap_err();
    }

    #[test]
    fn calls_that_are_let_through_are_named_or_warned_of() {
        let seen =
            Look::of_agent(b"call af_alg 97\ncall clone3 1\ncall bpf 22\ncall keyctl 1\ncall unshare_newuser 0\n");
        let judge = |seccomp| {
            let spec = ContainerSpec::new("any").sandbox(Sandbox::strict().seccomp(seccomp));
            resolve(&spec, Decided::default()).sandbox.unwrap().judge(&seen)
        };
        let error = judge(super::super::Seccomp::strict()).unwrap_err().to_string();
        for named in [
            "call clone3 is refused where refused as unknown was asked for",
            "call bpf is allowed (error 22)",
            "call unshare_newuser is allowed",
        ] {
            assert!(error.contains(named), "{named}: {error}");
        }
        assert!(!error.contains("af_alg") && !error.contains("keyctl"), "{error}");
        let warnings = judge(super::super::Seccomp::engine()).unwrap().warnings;
        assert!(warnings[0].contains("the engine's profile") && warnings[0].ends_with(": bpf, unshare_newuser"));
    }
}
