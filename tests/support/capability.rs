//! What a test may need that not every engine and not every machine has.
//!
//! Whether it is there is found out by trying. What a recipe of `./dev engines` declares to lack is in
//! `DOCKERPOOL_TEST_LACKS`, by name, separated by commas. Both have to agree, so that neither a test is left out unseen, nor
//! a reason outlives its cause.

use std::process::{Command, Stdio};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Networks that are kept apart, and names of containers in them.
    Iptables,
    /// Cargo, a compiler and a linker on the machine that runs the tests.
    Toolchain,
    /// The tests run as root.
    Root,
    /// The agent for aarch64 can be built, and run under an emulator.
    Aarch64,
}

impl Capability {
    const ALL: [Self; 4] = [Self::Iptables, Self::Toolchain, Self::Root, Self::Aarch64];

    fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Toolchain => "toolchain",
            Self::Root => "root",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Why a test cannot do without it, for the table.
    fn reason(self) -> &'static str {
        match self {
            Self::Iptables => {
                "the kernel has no iptables, by which engines keep networks apart and know containers by name"
            }
            Self::Toolchain => {
                "the test calls cargo, which the machine does not have; what it tests does not depend on the engine"
            }
            Self::Root => "the test calls what only root may: mounts, control groups, another dockerd",
            Self::Aarch64 => "there is no Rust core library for aarch64, no rust-lld or no emulator of it",
        }
    }

    fn is_there(self) -> bool {
        match self {
            // In a network namespace that is gone with it.
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
        }
    }
}

fn succeeds(script: &str) -> bool {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().expect("there is a shell").success()
}

/// Whether this is not to be had here. If so, the test that asks is told apart, and leaves out what needs it.
///
/// # Panics
///
/// If what is declared is not so: a lack that nobody has declared fails the test, and so does one that is none.
#[track_caller]
pub fn lacks(capability: Capability) -> bool {
    let declared = declared_lacks().contains(&capability);
    let name = capability.name();
    match (declared, capability.is_there()) {
        (false, true) => false,
        (true, false) => {
            let thread = std::thread::current();
            let test = thread.name().expect("it is asked on the test's own thread");
            // The test harness does not keep this to itself, as it does with `println!`; and what it has begun a line with
            // is not taken for a part of this one.
            let line = format!("\ntold apart: {test}: {name}: {}\n", capability.reason());
            std::io::Write::write_all(&mut std::io::stdout(), line.as_bytes()).unwrap();
            true
        }
        (false, false) => panic!(
            "`{name}` is missing here: {}. If that is as it should be, DOCKERPOOL_TEST_LACKS has to say so",
            capability.reason()
        ),
        (true, true) => panic!("DOCKERPOOL_TEST_LACKS says that `{name}` is missing, and it is there"),
    }
}

fn declared_lacks() -> Vec<Capability> {
    let declared = std::env::var("DOCKERPOOL_TEST_LACKS").unwrap_or_default();
    let names = declared.split(',').filter(|name| !name.is_empty());
    names
        .map(|name| {
            let known = Capability::ALL.into_iter().find(|known| known.name() == name);
            known.unwrap_or_else(|| panic!("DOCKERPOOL_TEST_LACKS names `{name}`, which is no capability"))
        })
        .collect()
}
