//! The agent for aarch64 on a machine of another kind: compiled and linked where Rust's core library for it is there (`rustup
//! target add aarch64-unknown-linux-gnu`), and run where an emulator is (Debian's `qemu-user-static`). `./dev test` sees to
//! both as far as it can. It is only ever run in a container.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bollard::models::{HostConfig, Mount, MountType};
use dockerpool::{ActiveExec, ExecVia, ExitStatus};
use support::{eventually, pool};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const EMULATOR: &str = "qemu-aarch64-static";

/// Builds the agent as `build.rs` does, but for the linker, which is Rust's own; or says what there is not.
fn build(out: &Path) -> Result<(), String> {
    let compile = |to: &[&str]| {
        Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
            .args([
                "--edition",
                "2024",
                "--crate-type",
                "bin",
                "--crate-name",
                "dockerpool_agent",
            ])
            .args([
                "--target",
                TARGET,
                "-C",
                "panic=abort",
                "-C",
                "opt-level=s",
                "-C",
                "codegen-units=1",
            ])
            .args([
                "-C",
                "strip=symbols",
                "-C",
                "relocation-model=static",
                "-C",
                "debuginfo=0",
                "-C",
                "lto=fat",
                "-C",
                "force-unwind-tables=no",
            ])
            .args(to)
            .arg("-o")
            .arg(out)
            .arg("agent/main.rs")
            .output()
            .expect("there is a compiler")
    };
    let link = [
        "linker=rust-lld",
        "linker-flavor=ld.lld",
        "link-arg=--gc-sections",
        "link-arg=-static",
    ];
    let linked = compile(&link.map(|arg| ["-C", arg]).concat());
    let words = String::from_utf8_lossy(&linked.stderr);
    if linked.status.success() {
        return Ok(());
    }
    if words.contains("linker `rust-lld` not found") {
        let compiled = compile(&["--emit", "obj"]);
        assert!(compiled.status.success(), "{compiled:?}");
        return Err("compiled and not linked: this toolchain has no rust-lld".to_owned());
    }
    // Any other error is one of the agent's.
    assert!(words.contains("can't find crate for `core`"), "{words}");
    Err(format!(
        "not compiled: `rustup target add {TARGET}` brings what it needs"
    ))
}

#[test]
fn it_compiles_and_is_small_and_needs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("agent");
    if let Err(why) = build(&out) {
        return println!("{why}");
    }
    let program = std::fs::read(&out).unwrap();
    // ELF: 64 bits, little-endian; an executable, for aarch64.
    assert_eq!(program[..6], *b"\x7fELF\x02\x01");
    assert_eq!(program[16..20], [2, 0, 183, 0]);
    // No segment is the name of an interpreter (3), which would load libraries.
    let number = |at: usize, len: usize| {
        let bytes = program[at..at + len].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (segments, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0);
    assert!((0..count).all(|i| number(segments + i * size, 4) != 3));
    assert!(program.len() <= 64 * 1024, "{}", program.len());
    println!("{} bytes", program.len());
}

/// The emulator, if there is one.
fn emulator() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(EMULATOR))
        .find(|file| file.exists())
}

#[tokio::test]
async fn it_runs_commands_under_an_emulator() {
    let folder = tempfile::tempdir().unwrap();
    let Some(emulator) = emulator() else {
        return println!("not run: there is no {EMULATOR}");
    };
    if let Err(why) = build(&folder.path().join("agent")) {
        return println!("not run: {why}");
    }
    // PID 1 is the emulator with the agent in it; the programs that it starts are the image's.
    std::fs::copy(emulator, folder.path().join(EMULATOR)).unwrap();
    let pid1 = folder.path().join("pid1");
    std::fs::write(&pid1, format!("#!/emulated/{EMULATOR} /emulated/agent\n")).unwrap();
    for path in [folder.path(), &pid1, &folder.path().join("agent")] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mount = Mount {
        typ: Some(MountType::BIND),
        source: Some(folder.path().to_str().unwrap().to_owned()),
        target: Some("/emulated".to_owned()),
        read_only: Some(true),
        ..Default::default()
    };
    let pool = pool("aarch64")
        .exec_via(ExecVia::Agent)
        .agent_path(pid1)
        .host_config(HostConfig {
            mounts: Some(vec![mount]),
            ..Default::default()
        })
        .build()
        .await
        .unwrap();
    assert_eq!(pool.status().exec, ActiveExec::Agent);
    let c = pool.acquire().await.unwrap();

    let input = "over the wire\n".repeat(10_000);
    let out = c.command("cat").stdin(input.clone()).output().await.unwrap();
    assert!(out.status.success() && out.stdout_lossy() == input, "{}", out.status);
    for (script, status) in [
        ("exit 3", ExitStatus::Exited(3)),
        ("kill -15 $$", ExitStatus::Signaled(15)),
    ] {
        assert_eq!(c.command("sh").args(["-c", script]).status().await.unwrap(), status);
    }
    let mut id = c.command("id");
    assert_eq!(id.arg("-u").user("nobody").output_string().await.unwrap(), "65534\n");

    // What is ended, is ended with all it has started; a server of before goes on.
    c.command("sh")
        .args(["-c", "setsid sleep 1001 &"])
        .status()
        .await
        .unwrap();
    eventually("the server runs", async || c.process_count().await.unwrap() == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut command = c.command("sh");
    command.args(["-c", "sleep 2001 & setsid sh -c 'sleep 2002 & sleep 2003' & sleep 2004"]);
    let out = command.timeout(Duration::from_secs(2)).output().await.unwrap();
    assert_eq!(out.status, ExitStatus::TimedOut);
    assert_eq!(c.process_count().await.unwrap(), 1);
    c.kill_all().await.unwrap();
    assert_eq!(c.process_count().await.unwrap(), 0);

    c.command("sh")
        .args(["-c", "mkdir -p /tmp/a/b; touch /tmp/a/b/c"])
        .status()
        .await
        .unwrap();
    c.wipe(&["/tmp"]).await.unwrap();
    assert_eq!(c.command("ls").args(["-A", "/tmp"]).output_string().await.unwrap(), "");
    assert_eq!(c.taint(), None);
    drop(c);
    pool.shutdown().await.unwrap();
}
