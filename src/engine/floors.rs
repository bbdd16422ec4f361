//! The versions since which engines, runtimes and kernels have the fixes that matter to a sandbox. Each row names its advisory.

use super::EngineInfo;

/// A part of the engine's machine, as it is told.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Engine,
    Runc,
    Kernel,
}

/// A fault, and the versions that have its fix.
struct Floor {
    part: Part,
    /// The first version of each line of versions that has the fix, in order. Versions of a line are those with the same
    /// numbers but the last one. Versions before the first line and between lines do not have the fix. Those from the last one
    /// on have it.
    fixed: &'static [&'static str],
    /// The first version with the fault.
    since: &'static str,
    fault: &'static str,
    advisories: &'static str,
}

const FLOORS: [Floor; 5] = [
    Floor {
        part: Part::Runc,
        fixed: RUNC,
        since: "0",
        fault: "the paths that are to be masked can be replaced, which lets a container out",
        advisories: "CVE-2025-31133, https://github.com/opencontainers/runc/security/advisories/GHSA-9493-h29p-rfm2",
    },
    Floor {
        part: Part::Runc,
        fixed: RUNC,
        since: "1.0.0-rc3",
        fault: "the mount of /dev/console can be redirected, which lets a container out",
        advisories: "CVE-2025-52565, https://github.com/opencontainers/runc/security/advisories/GHSA-qw9x-cqr3-wc7r",
    },
    Floor {
        part: Part::Runc,
        fixed: RUNC,
        since: "0",
        fault: "writes to /proc can be redirected, which lets a container out",
        advisories: "CVE-2025-52881, https://github.com/opencontainers/runc/security/advisories/GHSA-cgrx-mc8f-2prm",
    },
    // The library never makes this call. Other programs that use the engine may.
    Floor {
        part: Part::Engine,
        fixed: &["29.5.1"],
        since: "0",
        fault: "an upload of an archive (docker cp) runs a program of the container as root of the machine",
        advisories: "CVE-2026-41567, https://github.com/moby/moby/security/advisories/GHSA-x86f-5xw2-fm2r",
    },
    Floor {
        part: Part::Kernel,
        fixed: &[
            "5.10.254", "5.15.204", "6.1.170", "6.6.137", "6.12.85", "6.18.22", "6.19.12", "7.0",
        ],
        since: "4.14",
        fault: "sockets of the family AF_ALG let any user change any file that he can read, in memory",
        advisories: "CVE-2026-31431, https://www.cve.org/CVERecord?id=CVE-2026-31431",
    },
];

/// The releases of runc with the fixes of November 2025.
const RUNC: &[&str] = &["1.2.8", "1.3.3", "1.4.0-rc.3"];

/// Returns a warning for each fault that the engine's versions have. `runtime` is that of the containers.
/// `machines_kernel` tells whether containers have the kernel of the engine's machine.
pub(crate) fn warnings(info: &EngineInfo, runtime: Option<&str>, machines_kernel: bool) -> Vec<String> {
    let uses_runc = runtime.is_none_or(|name| matches!(name, "runc" | "io.containerd.runc.v2"));
    let found = FLOORS.iter().filter_map(|floor| {
        let (name, version) = match floor.part {
            // The advisory is about Docker's engine.
            Part::Engine => ("Docker", info.version.strip_prefix("Docker ")?),
            Part::Runc => ("runc", uses_runc.then_some(info.runc.as_deref())??),
            Part::Kernel => ("the kernel", machines_kernel.then_some(info.kernel.as_deref())??),
        };
        floor.concerns(version).then(|| {
            let fixed = floor.fixed.join(", ");
            format!(
                "{name} {version}: {}. Fixed in {fixed}, and perhaps in packages of your system with older numbers ({})",
                floor.fault, floor.advisories
            )
        })
    });
    found.collect()
}

impl Floor {
    /// Returns whether a version has the fault. A version that is no version has it not.
    fn concerns(&self, version: &str) -> bool {
        let Some(version) = Version::of(version) else {
            return false;
        };
        let fixed: Vec<_> = self.fixed.iter().filter_map(|fixed| Version::of(fixed)).collect();
        let is_before = Version::of(self.since).is_some_and(|since| version < since);
        let is_in_line = |fixed: &Version| fixed.numbers[..2] == version.numbers[..2] && *fixed <= version;
        let is_after = fixed.last().is_some_and(|last| *last <= version);
        !is_before && !is_after && !fixed.iter().any(is_in_line)
    }
}

/// A version: three numbers, and the number of a candidate for the release, which is older than the release.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    numbers: [u64; 3],
    candidate: u64,
}

impl Version {
    /// Reads the beginning of a version, e.g. of `1.1.5+ds1`, `20.10.24+dfsg1`, `1.4.0-rc.3`, `6.18.44-cloud-amd64`.
    fn of(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('v');
        let end = text
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(text.len());
        let mut numbers = [0; 3];
        let mut parts = text[..end].split('.');
        numbers[0] = parts.next()?.parse().ok()?;
        for number in &mut numbers[1..] {
            *number = parts.next().unwrap_or("0").parse().unwrap_or(0);
        }
        // Debian writes `~rc93`.
        let rest = text[end..].trim_start_matches(['-', '~']);
        let candidate = rest.strip_prefix("rc").map(|rest| {
            let digits = rest.trim_start_matches('.');
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            digits[..end].parse().unwrap_or(0)
        });
        Some(Self {
            numbers,
            candidate: candidate.unwrap_or(u64::MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warned(engine: &str, runc: &str, kernel: &str) -> Vec<&'static str> {
        let mut info = EngineInfo::new(engine, "1.41", "linux/amd64");
        info.runc = Some(runc.to_owned());
        info.kernel = Some(kernel.to_owned());
        let warnings = warnings(&info, None, true);
        let names = [
            "CVE-2025-31133",
            "CVE-2025-52565",
            "CVE-2025-52881",
            "CVE-2026-41567",
            "CVE-2026-31431",
        ];
        let named = |name: &&str| warnings.iter().any(|warning| warning.contains(name));
        names.into_iter().filter(named).collect()
    }

    #[test]
    fn versions_before_a_fix_are_warned_of() {
        assert_eq!(warned("Docker 29.5.1", "1.3.3", "6.18.44-fc").len(), 0);
        assert_eq!(warned("Docker 30.0.0", "1.4.0", "7.1.2").len(), 0);
        assert_eq!(warned("Docker 20.10.24+dfsg1", "1.1.5+ds1", "6.18.21").len(), 5);
        assert_eq!(warned("Podman 5.0", "1.2.8", "6.19.12"), [""; 0]);
    }

    #[test]
    fn each_line_of_versions_has_its_own_fix() {
        let runc = |version| !warned("Podman 5", version, "7.0").is_empty();
        for version in [
            "1.1.15",
            "1.2.7",
            "1.3.0",
            "1.3.2",
            "1.3.0-rc.1",
            "1.4.0-rc.2",
            "1.2.0~rc1",
        ] {
            assert!(runc(version), "{version}");
        }
        for version in ["1.2.8", "1.2.9", "1.3.3", "1.4.0-rc.3", "1.4.0", "1.5.0", "unknown"] {
            assert!(!runc(version), "{version}");
        }
        assert_eq!(warned("Podman 5", "1.0.0-rc2", "7.0").len(), 2);
        let kernel = |version| !warned("Podman 5", "1.4.0", version).is_empty();
        for version in ["4.19.0", "5.10.253", "6.7.1", "6.12.84-amd64", "6.18.21", "6.19.11"] {
            assert!(kernel(version), "{version}");
        }
        for version in [
            "4.4.0",
            "5.10.254",
            "5.15.300",
            "6.12.85+deb13",
            "6.18.22",
            "7.0",
            "7.1",
        ] {
            assert!(!kernel(version), "{version}");
        }
    }

    #[test]
    fn another_runtime_or_kernel_is_not_concerned() {
        let mut info = EngineInfo::new("Docker 29.5.1", "1.41", "linux/amd64");
        info.runc = Some("1.1.5".to_owned());
        info.kernel = Some("6.18.1".to_owned());
        assert_eq!(warnings(&info, Some("runsc"), false).len(), 0);
        assert_eq!(warnings(&info, Some("crun"), true).len(), 1);
        assert_eq!(warnings(&info, Some("runc"), true).len(), 4);
    }

    #[test]
    fn every_floor_names_its_advisory() {
        for floor in FLOORS {
            assert!(floor.advisories.starts_with("CVE-") && floor.advisories.contains("https://"));
            assert!(floor.fixed.iter().all(|fixed| Version::of(fixed).is_some()));
        }
    }
}
