//! Limits of single commands: of processor time, memory, processes and the size of files. In these containers commands have no
//! control groups of their own; `cgroup.rs` has those that do.

use std::time::Duration;

use crate::support::{pool, with_agent, with_container};
use dockerpool::{CommandDefaults, Error, ExecVia, ExitStatus, Output, PooledContainer, Taint};

/// Runs a script with a limit of processor time.
async fn burn(c: &PooledContainer, script: &str, limit: Duration) -> Output {
    let mut command = c.command("sh");
    command.args(["-c", script]).cpu_time(limit);
    command.timeout(Duration::from_secs(60)).output().await.unwrap()
}

const SPIN: &str = "while :; do :; done";

#[tokio::test]
async fn the_processor_time_of_all_processes_together_is_limited() {
    let limit = Duration::from_millis(300);
    with_agent(async |c| {
        for script in [
            SPIN.to_owned(),
            // No signal is left to the program.
            format!("trap '' XCPU TERM INT HUP; {SPIN}"),
            // Several processes, none of which uses all of it.
            format!("for i in 1 2 3 4; do ({SPIN}) & done; wait"),
            // Many processes, one after the other.
            "while :; do head -c 1000000 /dev/zero >/dev/null; done".to_owned(),
            // A process that has left its parent.
            format!("({SPIN}) & exec sleep 1000"),
            // The time is the kernel's.
            "exec dd if=/dev/zero of=/dev/null bs=1000000".to_owned(),
        ] {
            let out = burn(c, &script, limit).await;
            assert_eq!(out.status, ExitStatus::CpuTime, "{script}: {out:?}");
            let used = out.usage.cpu_time().unwrap();
            // What a slow machine adds until the agent gets to run.
            assert!((limit..10 * limit).contains(&used), "{script}: {used:?}");
            assert_eq!(c.process_count().await.unwrap(), 0, "{script}");
        }
        assert_eq!(c.taint(), None, "the container can be lent again");
        let error = burn(c, SPIN, limit).await.check().unwrap_err();
        assert!(error.to_string().contains("has used up its processor time"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn what_was_used_decides_and_not_who_came_first() {
    with_agent(async |c| {
        // Every program uses as much, and this one ends long before the agent looks.
        let out = burn(c, "exit 3", Duration::from_micros(1)).await;
        assert_eq!(out.status, ExitStatus::CpuTime, "{out:?}");
        // Waiting costs no processor time.
        let out = burn(c, "sleep 0.5; echo done", Duration::from_millis(400)).await;
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(0), "done\n".into())
        );
        // Other commands do not count.
        let spin = c.command("sh").args(["-c", SPIN]).spawn().await.unwrap();
        let out = burn(c, "sleep 1; echo done", Duration::from_millis(400)).await;
        assert_eq!(out.status, ExitStatus::Exited(0), "{out:?}");
        drop(spin);
    })
    .await;
}

#[tokio::test]
async fn a_process_that_has_left_its_parents_and_its_session_counts_where_there_is_no_other_command() {
    with_container(pool("cpu-orphan").exec_via(ExecVia::Agent), async |c| {
        let script = format!("(setsid sh -c '{SPIN}' &) ; exec sleep 1000");
        let out = burn(c, &script, Duration::from_millis(300)).await;
        assert_eq!(out.status, ExitStatus::CpuTime, "{out:?}");
        assert_eq!(c.process_count().await.unwrap(), 0);
    })
    .await;
}

/// While other commands run, a process that has left its parents and its session is counted at the end only.
#[tokio::test]
async fn what_was_used_decides_at_another_limit_of_time_too() {
    with_container(pool("cpu-late").exec_via(ExecVia::Agent), async |c| {
        let other = c.command("sleep").arg("1000").spawn().await.unwrap();
        let script = format!("(setsid sh -c '{SPIN}' &) ; exec sleep 1000");
        let mut command = c.command("sh");
        command.args(["-c", &script]).cpu_time(Duration::from_millis(100));
        let out = command.timeout(Duration::from_secs(2)).output().await.unwrap();
        let is_used_up = out.usage.cpu_time().unwrap() >= Duration::from_millis(100);
        assert_eq!(out.status == ExitStatus::CpuTime, is_used_up, "{out:?}");
        drop(other);
    })
    .await;
}

#[tokio::test]
async fn the_kernel_has_a_limit_of_processor_time_too() {
    with_agent(async |c| {
        let limits = async |limit: Option<Duration>| {
            let mut command = c.command("sh");
            command.args(["-c", "ulimit -S -t; ulimit -H -t"]).cpu_time(limit);
            command.output_string().await.unwrap()
        };
        // In whole seconds, and one for the agent.
        assert_eq!(limits(Some(Duration::from_millis(2500))).await, "4\n4\n");
        assert_eq!(limits(None).await, "unlimited\nunlimited\n");
    })
    .await;
}

#[tokio::test]
async fn the_size_of_files_is_limited() {
    with_agent(async |c| {
        let write = async |words: &[&str]| {
            let mut command = c.command(words[0]);
            let out = command.args(&words[1..]).file_size(100_000).output().await.unwrap();
            let size = c.command("stat").args(["-c", "%s", "/tmp/x"]).output_string().await;
            (out.status, size.unwrap())
        };
        let dd = ["dd", "if=/dev/zero", "of=/tmp/x", "bs=1000", "count=101"];
        assert_eq!(write(&dd).await, (ExitStatus::FileSize, "100000\n".to_owned()));
        // As much as is allowed.
        let exact = ["dd", "if=/dev/zero", "of=/tmp/x", "bs=1000", "count=100"];
        assert_eq!(write(&exact).await.0, ExitStatus::Exited(0));
        // A shell returns the end of its child as its own, and a program may catch or ignore the signal.
        let dd = dd.join(" ");
        let of_child = format!("{dd}; exit $?");
        assert_eq!(write(&["sh", "-c", &of_child]).await.0, ExitStatus::Exited(128 + 25));
        let ignored = format!("trap '' XFSZ; {dd}; exit $?");
        assert_eq!(
            write(&["sh", "-c", &ignored]).await,
            (ExitStatus::Exited(1), "100000\n".to_owned())
        );
        // Pipes are no files.
        let out = c
            .command("head")
            .args(["-c", "200000", "/dev/zero"])
            .file_size(1)
            .output()
            .await;
        assert_eq!(out.unwrap().stdout.len(), 200_000);
        // Without a limit the signal is one like others.
        let out = c.command("sh").args(["-c", "kill -25 $$"]).status().await.unwrap();
        assert_eq!(out, ExitStatus::Signaled(25));
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn the_addresses_of_each_process_are_limited() {
    with_agent(async |c| {
        let out = c
            .command("sh")
            .args(["-c", "ulimit -v"])
            .memory(20 << 20)
            .output_string()
            .await;
        assert_eq!(out.unwrap(), "20480\n");
        // The program decides about its end, since the kernel does not tell.
        let out = c
            .command("tail")
            .arg("/dev/zero")
            .memory(20 << 20)
            .output()
            .await
            .unwrap();
        assert!(matches!(out.status, ExitStatus::Exited(1..)), "{out:?}");
        assert_eq!(out.usage.oom_kills, Some(0));
        assert_eq!(c.taint(), None);
        let error = c.command("true").memory(1).output().await;
        let is_refused = match &error {
            // The kernel finds out while it executes the program, or before.
            Ok(out) => matches!(out.status, ExitStatus::Signaled(9 | 11)),
            Err(Error::CannotStart { reason, .. }) => reason.contains("memory()"),
            Err(_) => false,
        };
        assert!(is_refused, "{error:?}");
        assert!(c.command("true").status().await.unwrap().success());
    })
    .await;
}

/// Starts six processes, and says whether all could be started.
const SIX: &str = "for i in 1 2 3 4 5 6; do sleep 20 & done; echo all; kill $(jobs -p)";

#[tokio::test]
async fn the_processes_of_a_user_are_limited_and_root_is_refused() {
    with_agent(async |c| {
        let run = async |user: &str, limit: u32| {
            let mut command = c.command("sh");
            command.args(["-c", SIX]).user(user).processes(limit);
            command.timeout(Duration::from_secs(10)).output().await
        };
        // Nobody else on this machine has these.
        let out = run("51234", 5).await.unwrap();
        assert!(!out.status.success() && !out.stdout_lossy().contains("all"), "{out:?}");
        assert!(out.stderr_lossy().contains("fork"), "{out:?}");
        c.kill_all().await.unwrap();
        let out = run("51234", 9).await.unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(0), "all\n".into())
        );
        for user in ["root", "0:51234"] {
            let Err(Error::CannotStart { reason, .. }) = run(user, 9).await else {
                panic!("the kernel does not limit root");
            };
            assert!(reason.contains("does not limit"), "{reason}");
        }
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn limits_of_the_container_hold_beside_those_of_a_command() {
    let container = pool("both-limits").exec_via(ExecVia::Agent);
    let container = container
        .ulimit("fsize", 50_000, 60_000)
        .ulimit("as", 64 << 20, 64 << 20);
    let defaults = CommandDefaults::new().file_size(1 << 20);
    with_container(container.command_defaults(defaults), async |c| {
        let script = "ulimit -S -f; ulimit -H -f; ulimit -v";
        let limits = async |memory: u64, size: Option<u64>| {
            let mut command = c.command("sh");
            command.args(["-c", script]).memory(memory);
            if let Some(size) = size {
                command.file_size(size);
            }
            command.output_string().await.unwrap()
        };
        // In blocks of 512 bytes, and in KiB.
        assert_eq!(limits(1 << 30, None).await, "97\n117\n65536\n");
        assert_eq!(limits(32 << 20, Some(5120)).await, "10\n10\n32768\n");
    })
    .await;
}

#[tokio::test]
async fn a_command_that_loses_a_process_for_memory_keeps_its_exit_code() {
    with_container(pool("exit-code").exec_via(ExecVia::Agent), async |c| {
        for code in [0, 5, 137] {
            let script = format!("tail /dev/zero | cat; exit {code}");
            let status = c.command("sh").args(["-c", &script]).status().await.unwrap();
            assert_eq!(status, ExitStatus::OutOfMemory { exit: Some(code) });
        }
        let status = c.command("tail").arg("/dev/zero").status().await.unwrap();
        assert_eq!(status, ExitStatus::OutOfMemory { exit: None });
        assert_eq!(c.taint(), Some(Taint::OutOfMemory));
    })
    .await;
}
