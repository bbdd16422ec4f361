//! Commands run by the agent: the features that the exec API lacks.

use std::time::{Duration, Instant};

use crate::support::{eventually, is_alone, own_test, pool, with_agent, with_container};
use bollard::models::ContainerCreateBody;
use dockerpool::{Error, ExecVia, ExitStatus, PooledContainer, Stdio};
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

fn sh(script: &str) -> [String; 2] {
    ["-c".to_owned(), script.to_owned()]
}

#[tokio::test]
async fn a_command_returns_its_status_both_outputs_and_its_usage() {
    with_agent(async |c| {
        let out = c
            .command("sh")
            .args(sh("echo out; echo err >&2; exit 3"))
            .output()
            .await
            .unwrap();
        assert_eq!(out.status, ExitStatus::Exited(3));
        assert_eq!(
            (out.stdout_lossy(), out.stderr_lossy()),
            ("out\n".into(), "err\n".into())
        );
        assert!(
            out.usage.user.is_some() && out.usage.peak_memory > Some(0),
            "{:?}",
            out.usage
        );
        assert_eq!(out.usage.oom_kills, Some(0));
    })
    .await;
}

#[tokio::test]
async fn exit_codes_and_signals_are_told_apart() {
    with_agent(async |c| {
        for (script, status) in [
            ("exit 137", ExitStatus::Exited(137)),
            ("kill -9 $$", ExitStatus::Signaled(9)),
            ("kill -15 $$", ExitStatus::Signaled(15)),
            ("exit 255", ExitStatus::Exited(255)),
        ] {
            assert_eq!(
                c.command("sh").args(sh(script)).status().await.unwrap(),
                status,
                "{script}"
            );
        }
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_timeout_ends_the_command_alone() {
    with_agent(async |c| {
        let mut other = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
        let begun = Instant::now();
        let out = c
            .command("sh")
            .args(sh("echo before; sleep 100 & sleep 1000"))
            .timeout(Duration::from_millis(200))
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::TimedOut, "before\n".into())
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(c.taint(), None);
        // Only the other command is left, and it still works.
        assert_eq!(c.process_count().await.unwrap(), 1);
        let mut stdin = other.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        stdin.shutdown().await.unwrap();
        let out = other.wait_with_output().await.unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(0), "hello".into())
        );
    })
    .await;
}

#[tokio::test]
async fn processes_that_left_their_group_and_session_end_with_their_command() {
    with_agent(async |c| {
        // A server of an earlier command, and a server of a command that still runs.
        let server = c.command("sh").args(sh("setsid sleep 1001 &")).status().await;
        assert!(server.unwrap().success());
        eventually("the server runs", async || processes(c).await.contains("sleep 1001")).await;
        let other = c
            .command("sh")
            .args(sh("sleep 1002 & sleep 1003"))
            .spawn()
            .await
            .unwrap();
        eventually("the other command runs", async || {
            processes(c).await.contains("sleep 1003")
        })
        .await;
        // The kernel's start times have a resolution of 10 ms. Processes started in the same tick could belong to
        // either command.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let out = c
            .command("sh")
            .args(sh(
                "setsid sleep 2001 & (setsid sh -c 'setsid sleep 2002 & sleep 2003' &); \
                 (sh -c 'kill -STOP $$; sleep 2004' &) ; sh -c 'trap \"\" TERM HUP INT; sleep 2005 & sleep 2006' & \
                 sleep 0.3; echo ready; sleep 2000",
            ))
            .timeout(Duration::from_secs(2))
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::TimedOut, "ready\n".into())
        );
        let left = processes(c).await;
        for gone in 2000..2007 {
            assert!(!left.contains(&format!("sleep {gone}")), "{left}");
        }
        for stays in 1001..1004 {
            assert!(left.contains(&format!("sleep {stays}")), "{left}");
        }
        assert_eq!(c.taint(), None);
        drop(other);
    })
    .await;
}

async fn processes(c: &PooledContainer) -> String {
    c.command("ps")
        .args(["-o", "pid,ppid,args"])
        .output_string()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_dropped_child_ends_in_the_background_and_the_container_stays_usable() {
    with_agent(async |c| {
        let child = c.command("sleep").arg("1000").spawn().await.unwrap();
        drop(child);
        eventually("nothing is left", async || c.process_count().await.unwrap() == 0).await;
        assert_eq!(c.taint(), None);
        assert_eq!(c.command("true").status().await.unwrap(), ExitStatus::Exited(0));
    })
    .await;
}

#[tokio::test]
async fn output_limits_end_the_command_alone() {
    with_agent(async |c| {
        let out = c
            .command("sh")
            .args(sh("while :; do echo 0123456789; done"))
            .output_limit(100_000)
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout.len()),
            (
                ExitStatus::OutputLimit {
                    limit: 100_000,
                    is_default: false
                },
                100_000
            )
        );
        assert_eq!(c.process_count().await.unwrap(), 0);
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_child_can_be_signalled() {
    with_agent(async |c| {
        let script = "trap 'echo got; exit 7' USR1; echo ready; while :; do sleep 0.01; done";
        let mut child = c.command("sh").args(sh(script)).spawn().await.unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
        assert!(matches!(child.signal(65).await, Err(Error::BadCommand { .. })));
        child.signal(10).await.unwrap();
        assert_eq!(lines.next_line().await.unwrap().unwrap(), "got");
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Exited(7));
        child.signal(9).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn megabytes_of_input_come_back_as_output() {
    with_agent(async |c| {
        let data: Vec<u8> = (0..8_000_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let out = c
            .command("cat")
            .stdin(data.clone())
            .output_limit(None)
            .output()
            .await
            .unwrap();
        assert_eq!(out.status, ExitStatus::Exited(0));
        assert!(out.stdout == data);
        // Input that the command does not read is discarded.
        let out = c.command("head").args(["-c", "3"]).stdin(data).output().await.unwrap();
        assert_eq!((out.status, out.stdout.len()), (ExitStatus::Exited(0), 3));
    })
    .await;
}

#[tokio::test]
async fn concurrent_commands_each_get_their_own_input_output_and_status() {
    with_agent(async |c| {
        for _ in 0..5 {
            let outs = join_all((0..50).map(async |i| {
                let script = format!("read x; echo $x; head -c {} /dev/zero >&2; exit {i}", i * 1000);
                let out = c
                    .command("sh")
                    .args(sh(&script))
                    .stdin(format!("in {i}\n"))
                    .output()
                    .await;
                (i, out.unwrap())
            }))
            .await;
            for (i, out) in outs {
                assert_eq!(out.status, ExitStatus::Exited(i));
                assert_eq!(out.stdout_lossy(), format!("in {i}\n"));
                assert_eq!(out.stderr.len(), i as usize * 1000);
            }
        }
        // Further commands wait until one of the agent's places is free.
        let mut children = Vec::new();
        for _ in 0..64 {
            children.push(c.command("sleep").arg("1000").spawn().await.unwrap());
        }
        let mut command = c.command("true");
        let waiting = command.status();
        tokio::pin!(waiting);
        let early = tokio::time::timeout(Duration::from_millis(100), &mut waiting).await;
        assert!(early.is_err(), "{early:?}");
        drop(children);
        assert_eq!(waiting.await.unwrap(), ExitStatus::Exited(0));
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_up_no_other_command() {
    with_agent(async |c| {
        let mut slow = c
            .command("head")
            .args(["-c", "5000000", "/dev/zero"])
            .spawn()
            .await
            .unwrap();
        let out = c
            .command("head")
            .args(["-c", "5000000", "/dev/zero"])
            .output()
            .await
            .unwrap();
        assert_eq!(out.stdout.len(), 5_000_000);
        assert_eq!(slow.try_wait().unwrap(), None);
        let mut data = Vec::new();
        slow.stdout.take().unwrap().read_to_end(&mut data).await.unwrap();
        assert_eq!(data.len(), 5_000_000);
        assert_eq!(slow.wait().await.unwrap(), ExitStatus::Exited(0));
    })
    .await;
}

#[tokio::test]
async fn a_server_left_by_a_command_can_go_on_printing() {
    with_agent(async |c| {
        let script = "(while :; do echo 0123456789012345678901234567890123456789 || exit; done) & echo $!";
        let out = c
            .command("sh")
            .args(sh(script))
            .output_limit(1 << 30)
            .output()
            .await
            .unwrap();
        assert_eq!(out.status, ExitStatus::Exited(0));
        assert_eq!(c.process_count().await.unwrap(), 1);
        // More bytes than any pipe can hold.
        let server = out
            .stdout_lossy()
            .lines()
            .find(|line| line.len() < 40)
            .unwrap()
            .to_owned();
        let written = async || {
            let io = c
                .command("cat")
                .arg(format!("/proc/{server}/io"))
                .output_string()
                .await
                .unwrap();
            let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
            line.parse::<u64>().unwrap()
        };
        let before = written().await;
        eventually("the server prints", async || written().await > before + 1_000_000).await;
        c.kill_all().await.unwrap();
        assert_eq!(c.process_count().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn kill_all_and_wipe_remove_all_processes_and_files() {
    with_agent(async |c| {
        let script = "mkdir -p /tmp/a/b/c/d /dev/shm/x; echo 1 >/tmp/a/b/c/d/f; echo 2 >/dev/shm/x/y; ln -s /bin /tmp/a/bin; \
                      mkdir /tmp/locked; touch /tmp/locked/f; chmod 0 /tmp/locked; \
                      d=/tmp; for i in $(seq 300); do d=$d/deep; done; mkdir -p $d; \
                      touch /tmp/.hidden '/tmp/with space'; for i in $(seq 500); do echo $i >/tmp/$i; done; \
                      setsid sleep 1000 & sleep 1000 &";
        assert!(c.command("sh").args(sh(script)).status().await.unwrap().success());
        eventually("both processes run", async || c.process_count().await.unwrap() == 2).await;
        c.kill_all().await.unwrap();
        assert_eq!(c.process_count().await.unwrap(), 0);
        c.wipe(&["/tmp", "/dev/shm"]).await.unwrap();
        let left = c.command("sh").args(sh("ls -A /tmp /dev/shm; ls /bin | wc -l")).output_string().await.unwrap();
        assert!(left.starts_with("/dev/shm:\n\n/tmp:\n"), "{left}");
        assert_ne!(left.lines().last(), Some("0"));
        let error = c.wipe(&["/no/such"]).await.unwrap_err();
        assert!(matches!(error, Error::Engine { .. }), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_long_command_line_and_a_large_environment_arrive() {
    with_agent(async |c| {
        let args: Vec<String> = (0..15)
            .map(|i| format!("{i}").repeat(100_000 / format!("{i}").len()))
            .collect();
        let mut command = c.command("sh");
        command
            .args([
                "-c",
                "echo $#; echo ${#BIG}; for a in \"$@\"; do echo ${#a}; done",
                "sh",
            ])
            .args(&args);
        let out = command.env("BIG", "x".repeat(120_000)).output_string().await.unwrap();
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[..2], ["15", "120000"]);
        assert!(lines[2..].iter().all(|len| *len == "100000"), "{lines:?}");
    })
    .await;
}

#[tokio::test]
async fn the_agent_takes_little_memory_also_after_much_work() {
    with_container(pool("memory").exec_via(ExecVia::Agent), async |c| {
        // Counts the agent's own memory. Its program, of at most 120 KiB (`src/agent/tests.rs`), is mapped from one
        // file, which all containers share in memory. The kernel decides how much of the file is mapped at a time.
        // Where the file is in a tmpfs, the mapping counts as shared memory.
        const PROGRAM: u64 = 112;
        let resident = async || {
            let status = c.command("cat").arg("/proc/1/status").output_string().await.unwrap();
            let kib = |name: &str| -> u64 {
                let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
                line.trim().trim_end_matches(" kB").parse().unwrap()
            };
            kib("RssAnon:") + kib("RssShmem:").saturating_sub(PROGRAM)
        };
        assert!(resident().await <= 80, "{} KiB at first", resident().await);
        let data = vec![7; 3_000_000];
        let mut cat = c.command("cat");
        assert_eq!(cat.stdin(data).output().await.unwrap().stdout.len(), 3_000_000);
        let big = "x".repeat(120_000);
        assert!(c.command("true").args([&big, &big]).status().await.unwrap().success());
        assert!(resident().await <= 80, "{} KiB afterwards", resident().await);
        println!("{} KiB", resident().await);
    })
    .await;
}

/// The agent as PID 1 reacts to a single stop signal.
#[tokio::test]
async fn a_container_whose_image_sets_another_stop_signal_stops_at_once() {
    let config = ContainerCreateBody {
        stop_signal: Some("SIGQUIT".to_owned()),
        ..Default::default()
    };
    let pool = pool("stop-signal")
        .docker_config(config)
        .exec_via(ExecVia::Agent)
        .build()
        .await
        .unwrap();
    let container = pool.acquire().await.unwrap().into_inner();
    let stop = container.stop(Duration::from_secs(600));
    let stopped = tokio::time::timeout(Duration::from_secs(60), stop).await;
    drop(
        stopped
            .expect("the container stops long before it would be killed")
            .unwrap(),
    );
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_on_this_machine_after_a_shutdown() {
    // All pools of a process share one directory.
    if !is_alone(&own_test!("nothing_is_left_on_this_machine_after_a_shutdown")) {
        return;
    }
    let pool = pool("files").exec_via(ExecVia::Agent).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let mounts = crate::support::mounts(&c).await;
    assert!(mounts.contains(" /.dockerpool-agent ro,"), "{mounts}");
    let dir = crate::support::agent_dir(&mounts);
    drop(c);
    pool.shutdown().await.unwrap();
    eventually("the directory is gone", async || !dir.exists()).await;
}

#[tokio::test]
async fn killing_a_command_spares_processes_that_another_command_left() {
    with_agent(async |c| {
        let count = async || c.process_count().await.unwrap();
        let mut long = c.command("sleep").arg("1000").spawn().await.unwrap();
        // A server that is younger than the killed command, and a server that starts its own orphans later.
        let script = "sleep 500 >/dev/null 2>&1 &\n\
                      (until [ -e /tmp/go ]; do sleep 0.05; done; (sleep 777 &); exec sleep 888) >/dev/null 2>&1 &";
        assert!(c.command("sh").args(sh(script)).status().await.unwrap().success());
        assert_eq!(long.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!(c.taint(), None);
        eventually("the command alone is dead", async || {
            let ps = c.command("ps").arg("-o").arg("args").output_string().await.unwrap();
            assert!(ps.contains("sleep 500") && !ps.contains("sleep 1000"), "{ps}");
            ps.contains("/tmp/go")
        })
        .await;

        let mut long = c.command("sleep").arg("1000").spawn().await.unwrap();
        assert!(c.command("touch").arg("/tmp/go").status().await.unwrap().success());
        eventually("the orphan runs", async || {
            let ps = c.command("ps").arg("-o").arg("args").output_string().await.unwrap();
            ps.contains("sleep 777") && ps.contains("sleep 888") && count().await == 4
        })
        .await;
        assert_eq!(long.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!((count().await, c.taint()), (3, None));
    })
    .await;
}

#[tokio::test]
async fn a_stopped_process_stays_stopped_when_another_command_is_killed() {
    with_agent(async |c| {
        let state = async |what: &str| {
            let script =
                format!("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline | grep -q '{what}' && cut -d' ' -f3 $p/stat; done; true");
            c.command("sh").args(sh(&script)).output_string().await.unwrap()
        };
        let mut stopped = c.command("sleep").arg("1111").spawn().await.unwrap();
        // Before `exec` the process is not yet the program.
        eventually("the program runs", async || state("[1]111").await.trim() == "S").await;
        stopped.signal(19).await.unwrap();
        eventually("the program is stopped", async || state("[1]111").await.trim() == "T").await;
        let mut goes_on = c.command("sleep").arg("2222").spawn().await.unwrap();
        // With so many processes the agent stops all processes before it kills these.
        let mut many = c
            .command("sh")
            .args(sh("for i in $(seq 80); do sleep 3333 & done; echo; wait"))
            .stdout(Stdio::piped())
            .spawn()
            .await
            .unwrap();
        many.stdout.as_mut().unwrap().read_u8().await.unwrap();
        assert_eq!(many.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!((c.taint(), c.process_count().await.unwrap()), (None, 2));
        assert_eq!(state("[1]111").await.trim(), "T");
        assert_eq!(state("[2]222").await.trim(), "S");
        assert_eq!(stopped.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!(goes_on.kill().await.unwrap(), ExitStatus::Killed);
        assert_eq!((c.taint(), c.process_count().await.unwrap()), (None, 0));
    })
    .await;
}
