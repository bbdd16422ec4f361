//! Tests the agent for aarch64 on a machine of another architecture. Rust's core library for aarch64 (`rustup target
//! add aarch64-unknown-linux-gnu`) lets the compiler build the agent, and an emulator (Debian's `qemu-user-static`)
//! runs the agent. `./dev test` installs both where it can. The agent runs in containers only.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::{Capability, eventually, lacks, pool};
use bollard::models::{HostConfig, Mount, MountType};
use dockerpool::{ActiveExec, ExecVia, ExitStatus};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const EMULATOR: &str = "qemu-aarch64-static";

/// Builds the agent as `build.rs` does, but links with Rust's own linker.
fn build(out: &Path) {
    let linked = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()))
        .args(["--edition", "2024", "--crate-type", "bin"])
        .args(["--crate-name", "dockerpool_agent", "--target", TARGET])
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "codegen-units=1"])
        .args(["-C", "strip=symbols", "-C", "relocation-model=static"])
        .args(["-C", "debuginfo=0", "-C", "lto=fat", "-C", "force-unwind-tables=no"])
        .args(["-C", "linker=rust-lld", "-C", "linker-flavor=ld.lld"])
        .args(["-C", "link-arg=--gc-sections", "-C", "link-arg=-static"])
        .arg("-o")
        .arg(out)
        .arg("agent/main.rs")
        .output()
        .expect("the compiler can be run");
    assert!(linked.status.success(), "{linked:?}");
}

#[test]
fn the_aarch64_agent_is_small_and_statically_linked() {
    if lacks(Capability::Aarch64) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("agent");
    build(&out);
    let program = std::fs::read(&out).unwrap();
    // ELF: 64 bits, little-endian; an executable, for aarch64.
    assert_eq!(program[..6], *b"\x7fELF\x02\x01");
    assert_eq!(program[16..20], [2, 0, 183, 0]);
    // A segment of type 3 would name an interpreter, which loads libraries.
    let number = |at: usize, len: usize| {
        let bytes = program[at..at + len].iter().rev();
        bytes.fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (segments, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    assert!(count > 0);
    assert!((0..count).all(|i| number(segments + i * size, 4) != 3));
    assert!(program.len() <= 120 * 1024, "{}", program.len());
    println!("{} bytes", program.len());
}

fn emulator() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let files = std::env::split_paths(&path).map(|dir| dir.join(EMULATOR));
    files
        .into_iter()
        .find(|file| file.exists())
        .expect("the emulator is on the PATH")
}

#[tokio::test]
async fn the_aarch64_agent_runs_commands_under_an_emulator() {
    if lacks(Capability::Aarch64) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    build(&folder.path().join("agent"));
    // PID 1 is the emulator with the agent in it. The commands are the image's own programs.
    std::fs::copy(emulator(), folder.path().join(EMULATOR)).unwrap();
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

    // Ending a command ends all that the command started. A server that an earlier command started stays.
    let server = c.command("sh").args(["-c", "setsid sleep 1001 &"]).status().await;
    assert!(server.unwrap().success());
    eventually("the server runs", async || c.process_count().await.unwrap() == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut command = c.command("sh");
    command.args(["-c", "sleep 2001 & setsid sh -c 'sleep 2002 & sleep 2003' & sleep 2004"]);
    let out = command.timeout(Duration::from_secs(2)).output().await.unwrap();
    assert_eq!(out.status, ExitStatus::TimedOut);
    assert_eq!(c.process_count().await.unwrap(), 1);
    c.kill_all().await.unwrap();
    assert_eq!(c.process_count().await.unwrap(), 0);

    let made = c.exec(["sh", "-c", "mkdir -p /tmp/a/b; touch /tmp/a/b/c"]).await;
    made.unwrap().check().unwrap();
    c.wipe(&["/tmp"]).await.unwrap();
    assert_eq!(c.command("ls").args(["-A", "/tmp"]).output_string().await.unwrap(), "");
    assert_eq!(c.taint(), None);
    drop(c);
    pool.shutdown().await.unwrap();
}
