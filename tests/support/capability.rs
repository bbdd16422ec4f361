//! Capabilities that some tests need and that some engines or machines lack.
//!
//! A probe finds out whether a capability is there. `DOCKERPOOL_TEST_LACKS` holds the capabilities that a recipe of
//! `./dev engines` declares to lack, by name, separated by commas. Probe and declaration must agree, so that no test is
//! left out unseen and no declaration outlives its cause.

use std::process::{Command, Stdio};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Networks that are separated from each other, and names of containers within them.
    Iptables,
    /// Cargo, a compiler and a linker on the machine that runs the tests.
    Toolchain,
    /// The tests run as root.
    Root,
    /// The agent for aarch64 can be built, and an emulator can run it.
    Aarch64,
    /// The engine reaches servers that a test starts on this machine's loopback interface.
    Loopback,
    /// The kernel has the calls of programs of 32 bits.
    Calls32,
    /// The images of Redis and PostgreSQL are on the engine.
    Servers,
    /// The image of the judge is on the engine.
    Judge,
}

impl Capability {
    const ALL: [Self; 8] = [
        Self::Iptables,
        Self::Toolchain,
        Self::Root,
        Self::Aarch64,
        Self::Loopback,
        Self::Calls32,
        Self::Servers,
        Self::Judge,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Toolchain => "toolchain",
            Self::Root => "root",
            Self::Aarch64 => "aarch64",
            Self::Loopback => "loopback",
            Self::Calls32 => "calls32",
            Self::Servers => "servers",
            Self::Judge => "judge",
        }
    }

    /// Returns why a test needs the capability, for the table.
    fn reason(self) -> &'static str {
        match self {
            Self::Iptables => {
                "the kernel has no iptables, by which engines keep networks apart and know containers by name"
            }
            Self::Toolchain => {
                "the test calls cargo, which the machine does not have; what it tests does not depend on the engine"
            }
            Self::Root => {
                "the test does what only root may: mounts, control groups, another dockerd, looks at processes of other users"
            }
            Self::Aarch64 => "there is no Rust core library for aarch64, no rust-lld or no emulator of it",
            Self::Servers => {
                "the images of Redis and PostgreSQL are not on the engine (./dev server-images); what the servers do does not \
                 depend on it"
            }
            Self::Judge => {
                "the image of the judge is not on the engine (./dev server-images); what the judge needs of the engine has \
                 tests of its own"
            }
            Self::Loopback => {
                "rootless Docker has a network of its own, from which it does not reach the registries of the tests"
            }
            Self::Calls32 => {
                "User-mode Linux takes a call of a program of 32 bits for the one of 64 bits with that number, so that there is \
                 nothing to refuse"
            }
        }
    }

    fn is_there(self) -> bool {
        match self {
            // The probe's chain is gone with its network namespace.
            Self::Iptables => succeeds(
                "PATH=$PATH:/usr/sbin:/sbin; [ $(id -u) = 0 ] || as=--map-root-user; \
                 unshare $as --net iptables -A INPUT -j DROP",
            ),
            Self::Toolchain => std::path::Path::new(env!("CARGO")).exists(),
            Self::Aarch64 => succeeds(
                "test -d $(${RUSTC:-rustc} --print target-libdir --target aarch64-unknown-linux-gnu) && \
                 ls $(${RUSTC:-rustc} --print sysroot)/lib/rustlib/*/bin/rust-lld && command -v qemu-aarch64-static",
            ),
            Self::Root => rustix::process::geteuid().is_root(),
            // Rootless Docker runs in a network namespace of its own; rootless Podman pulls from that of its service.
            Self::Calls32 => !succeeds("grep -q 'User Mode Linux' /proc/cpuinfo"),
            Self::Servers => has_image(&super::redis()) && has_image(&super::postgres()),
            Self::Judge => has_image(&super::judge()),
            Self::Loopback => !succeeds("[ $(id -u) != 0 ] && [ -S \"$XDG_RUNTIME_DIR/docker.sock\" ]"),
        }
    }
}

fn has_image(image: &str) -> bool {
    succeeds(&format!("docker image inspect {image}"))
}

fn succeeds(script: &str) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().expect("a shell can be run").success()
}

/// Returns whether the capability is missing here. If so, the test reports it as a test that is left out, and must not
/// use the capability.
///
/// # Panics
///
/// Panics where probe and declaration disagree: if a capability is missing undeclared, or is declared missing but is
/// there.
#[track_caller]
pub fn lacks(capability: Capability) -> bool {
    let declared = declared_lacks().contains(&capability);
    let name = capability.name();
    match (declared, capability.is_there()) {
        (false, true) => false,
        (true, false) => {
            let thread = std::thread::current();
            let test = thread.name().expect("`lacks` is called on the test's own thread");
            // The test harness captures `println!`, but not this. The leading newline keeps the line apart from a line
            // that the harness has begun.
            let line = format!("\nleft out: {test}: {name}: {}\n", capability.reason());
            std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
            true
        }
        (false, false) => panic!(
            "`{name}` is missing here: {}. If that is intended, name it in DOCKERPOOL_TEST_LACKS",
            capability.reason()
        ),
        (true, true) => panic!("DOCKERPOOL_TEST_LACKS says that `{name}` is missing, but it is there"),
    }
}

fn declared_lacks() -> Vec<Capability> {
    let declared = std::env::var("DOCKERPOOL_TEST_LACKS").unwrap_or_default();
    let names = declared.split(',').filter(|name| !name.is_empty());
    names
        .map(|name| {
            let known = Capability::ALL.into_iter().find(|known| known.name() == name);
            known.unwrap_or_else(|| panic!("DOCKERPOOL_TEST_LACKS names `{name}`, which is not a capability"))
        })
        .collect()
}
