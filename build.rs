//! Builds the agent from `agent/` with the compiler and the linker that build the library. Where the build fails, the
//! library is built without the agent, and a warning says why.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=agent");
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("agent");
    // `include_bytes!` needs a file. An empty one means that there is no agent.
    let is_wanted = env::var_os("CARGO_FEATURE_AGENT").is_some();
    let built = match is_wanted {
        true => build(&out),
        false => Err("the library was built without its feature `agent`".to_owned()),
    };
    let problem = match built {
        Ok(()) => String::new(),
        Err(problem) => {
            if is_wanted {
                println!("cargo:warning={}", problem.replace('\n', " "));
            }
            fs::write(&out, []).expect("OUT_DIR is writable");
            problem
        }
    };
    println!(
        "cargo:rustc-env=DOCKERPOOL_AGENT_PROBLEM={}",
        problem.replace('\n', " ")
    );
}

/// Builds the agent's program at `out`, or returns why that failed.
fn build(out: &Path) -> Result<(), String> {
    let var = |name: &str| env::var(name).unwrap_or_default();
    let (os, arch) = (var("CARGO_CFG_TARGET_OS"), var("CARGO_CFG_TARGET_ARCH"));
    if os != "linux" || !matches!(&*arch, "x86_64" | "aarch64") {
        return Err(format!(
            "the agent is for Linux on x86_64 and aarch64, not for {os} on {arch}"
        ));
    }
    let mut rustc = Command::new(var("RUSTC"));
    rustc
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "bin",
            "--crate-name",
            "dockerpool_agent",
        ])
        .args(["--target", &var("TARGET"), "--cap-lints", "allow"])
        .args([
            "-C",
            "panic=abort",
            "-C",
            "opt-level=s",
            "-C",
            "codegen-units=1",
            "-C",
            "strip=symbols",
        ])
        .args(["-C", "relocation-model=static", "-C", "debuginfo=0"])
        // Makes the program some 6 KB smaller, and so each container's memory.
        .args(["-C", "lto=fat"])
        // The agent aborts on a panic and never unwinds.
        .args(["-C", "force-unwind-tables=no"]);
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--gc-sections",
        "-Wl,--build-id=none",
        "-Wl,-z,noexecstack",
    ] {
        rustc.args(["-C", &format!("link-arg={arg}")]);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut arg = std::ffi::OsString::from("linker=");
        arg.push(linker);
        rustc.arg("-C").arg(arg);
    }
    rustc.arg("-o").arg(out).arg("agent/main.rs");
    let built = rustc
        .output()
        .map_err(|error| format!("the agent could not be built: {error}"))?;
    if built.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&built.stderr);
    let word = words
        .lines()
        .find(|line| line.starts_with("error"))
        .unwrap_or("no reason given");
    Err(format!("the agent could not be built: {word}"))
}
