//! Control groups: which ones a container has, and one group for each command where the container can write to its own.
//!
//! The tests ask the engine for its kind of control groups. Where groups for commands are impossible, the tests assert
//! that `build()` reports it.

use std::time::Duration;

use crate::support::{busybox, engine, eventually, pool, python, with_container};
use bollard::models::HostConfig;
use dockerpool::{
    Cgroups, Container, ContainerSpec, Engine, EngineErrorKind, Error, ExecVia, ExitStatus, OnLimit, Pool, PoolBuilder,
    PooledContainer, Stdio, Taint,
};
use futures_util::StreamExt;
use futures_util::future::join_all;

/// The user and group of the commands: nobody.
const NOBODY: &str = "65534:65534";

fn sh(script: &str) -> [String; 2] {
    ["-c".to_owned(), script.to_owned()]
}

async fn output(c: &PooledContainer, script: &str) -> dockerpool::Output {
    c.command("sh").args(sh(script)).output().await.unwrap()
}

async fn text(c: &PooledContainer, script: &str) -> String {
    let out = output(c, script).await;
    assert!(out.status.success(), "{script}: {}: {}", out.status, out.stderr_lossy());
    out.stdout_lossy().trim().to_owned()
}

/// Returns a script that reads so many bytes into the memory of one process and exits with code 0.
fn takes(bytes: u32) -> String {
    format!("head -c {bytes} /dev/zero | tail >/dev/null; exit 0")
}

fn plain(name: &str) -> PoolBuilder {
    pool(name).exec_via(ExecVia::Agent)
}

fn wanted(name: &str) -> PoolBuilder {
    plain(name).user(NOBODY).writable_cgroups(true)
}

/// Runs a test in a container with a control group for each command. Where the engine cannot have such groups, asserts
/// that `build()` says why.
async fn with_groups(name: &str, run: impl AsyncFnOnce(&PooledContainer)) {
    with_groups_of(wanted(name), run).await;
}

async fn with_groups_of(builder: PoolBuilder, run: impl AsyncFnOnce(&PooledContainer)) {
    if let Some(why) = why_not().await {
        let error = builder.build().await.expect_err(why);
        let Error::Config(problems) = &error else {
            panic!("{error}")
        };
        assert_eq!(problems[0].field(), "writable_cgroups");
        assert!(problems[0].to_string().contains(why), "{error}");
        return;
    }
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert_eq!(pool.status().cgroups, Cgroups::V2Writable);
    assert_eq!(c.cgroups(), Cgroups::V2Writable);
    run(&c).await;
    drop(c);
    pool.shutdown().await.unwrap();
}

/// Returns why this engine cannot have writable groups, in the words of the error.
async fn why_not() -> Option<&'static str> {
    let info = engine().await.check().await.unwrap();
    if info.cgroup_version == Some(1) {
        return Some("cgroup v1");
    }
    if info.version.starts_with("Docker") && info.remaps_users {
        return Some("rootless or remaps users");
    }
    let minor: u32 = info.api_version.split('.').nth(1).unwrap().parse().unwrap();
    (info.version.starts_with("Docker") && minor < 48).then_some("Docker 28")
}

/// The directory of the running shell's own group.
const OWN: &str = "/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)";

#[tokio::test]
async fn the_status_tells_the_kind_of_groups_and_usage_the_containers_peak() {
    let pool = plain("cgroup-plain").max_idle(0).build().await.unwrap();
    assert_eq!(pool.status().cgroups, Cgroups::Unknown, "there is no container yet");
    let c = pool.acquire().await.unwrap();
    // The mounts are an independent source: the library looks at files.
    let mounts = text(&c, "cat /proc/self/mounts").await;
    let expected = match mounts.lines().any(|line| line.contains(" /sys/fs/cgroup cgroup2 ro,")) {
        true => Cgroups::V2ReadOnly,
        false => Cgroups::V1,
    };
    assert_eq!(pool.status().cgroups, expected, "{mounts}");
    assert_eq!(c.cgroups(), expected);
    let told = engine().await.check().await.unwrap().cgroup_version;
    if let Some(told) = told {
        assert_eq!(told == 1, expected == Cgroups::V1);
    }

    let out = output(&c, &takes(20_000_000)).await;
    assert_eq!(out.usage.total_peak_memory, None, "the command has no group of its own");
    let peak = out.usage.container_peak_memory.expect("the kernel counts the peak");
    assert!((20_000_000..=64 << 20).contains(&peak), "{peak}");
    let later = output(&c, "true").await.usage.container_peak_memory;
    assert!(later >= Some(peak), "the peak is the container's: {later:?}");
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn impossible_combinations_are_refused_by_name() {
    let refused = async |builder: PoolBuilder, words: &str| {
        let error = builder.build().await.expect_err(words);
        let Error::Config(problems) = &error else {
            panic!("{error}")
        };
        assert!(
            problems
                .iter()
                .any(|it| it.field() == "writable_cgroups" && it.to_string().contains(words)),
            "{error}"
        );
    };
    refused(wanted("cgroup-docker").exec_via(ExecVia::Docker), "needs the agent").await;
    refused(
        wanted("cgroup-own").cmd(["sleep", "9"]).supervise_command(true),
        "supervise_command",
    )
    .await;
    let own = wanted("cgroup-pid1").exec_via(ExecVia::Auto).cmd(["sleep", "9"]);
    refused(own, "PID 1 of your own").await;
    let root = why_not().await.unwrap_or("must not run as root");
    refused(plain("cgroup-root").writable_cgroups(true), root).await;
    for user in ["0", "root", "0:65534"] {
        refused(wanted("cgroup-root").user(user), root).await;
    }
    // The same holds without a pool.
    let spec = ContainerSpec::new(busybox())
        .exec_via(ExecVia::Agent)
        .writable_cgroups(true);
    let error = Container::create(engine().await, spec).await.expect_err(root);
    assert!(error.to_string().contains(root), "{error}");
}

#[tokio::test]
async fn a_command_has_its_own_limit_of_memory() {
    with_groups("cgroup-memory", async |c| {
        let limited = async |script: &str| {
            let mut command = c.command("sh");
            command.args(sh(script)).memory(16 << 20).output().await.unwrap()
        };
        let file = |name| format!("cat {OWN}/{name}");
        assert_eq!(limited(&file("memory.max")).await.stdout_lossy().trim(), "16777216");
        assert_eq!(text(c, &file("memory.max")).await, "max");
        // The kernel kills one process of the pipeline, and the shell ends well.
        let out = limited(&takes(40_000_000)).await;
        assert_eq!(out.status, ExitStatus::OutOfMemory { exit: Some(0) });
        assert_eq!(out.usage.oom_kills, Some(1));
        let peak = out.usage.total_peak_memory.unwrap();
        assert!((8 << 20..=16 << 20).contains(&peak), "{peak}");
        let out = output(c, &takes(40_000_000)).await;
        assert_eq!(out.status, ExitStatus::Exited(0));
        assert_eq!(out.usage.oom_kills, Some(0));
        assert!(out.usage.total_peak_memory > Some(40_000_000), "{:?}", out.usage);
        // The limit and the peak end with the command.
        let out = output(c, "true").await;
        assert!(out.usage.total_peak_memory < Some(16 << 20), "{:?}", out.usage);
        assert_eq!(
            c.taint(),
            Some(Taint::OutOfMemory),
            "a kill for memory taints the container"
        );
    })
    .await;
}

#[tokio::test]
async fn a_kill_for_memory_is_attributed_to_its_own_command_among_many() {
    with_groups_of(wanted("cgroup-whose").memory(256 << 20), async |c| {
        // All four commands are pipelines whose shells end well, and each can see the others' processes.
        let (script, calm) = (takes(60_000_000), "sleep 0.2 | cat; exit 0".to_owned());
        for _ in 0..3 {
            let run = |limit: Option<u64>, script: &str| {
                let (mut command, script) = (c.command("sh"), sh(script));
                async move { command.args(script).memory(limit).output().await.unwrap().status }
            };
            let ends = join_all([
                run(Some(16 << 20), &script),
                run(None, &calm),
                run(Some(16 << 20), &script),
                run(None, &calm),
            ]);
            let (killed, own) = (ExitStatus::OutOfMemory { exit: Some(0) }, ExitStatus::Exited(0));
            assert_eq!(ends.await, [killed, own, killed, own]);
        }
        // The limit of the container still holds.
        let out = output(c, &takes(300_000_000)).await;
        assert!(out.status.is_out_of_memory(), "{}", out.status);
        assert_eq!(text(c, "echo there").await, "there");
    })
    .await;
}

#[tokio::test]
async fn a_command_has_its_own_limit_of_processes() {
    with_groups("cgroup-pids", async |c| {
        let script = format!("cat {OWN}/pids.max; for i in 1 2 3 4 5 6; do sleep 20 & done; echo all");
        let mut command = c.command("sh");
        command.args(sh(&script));
        let out = command
            .processes(4)
            .timeout(Duration::from_secs(10))
            .output()
            .await
            .unwrap();
        assert!(out.stdout_lossy().starts_with("4\n"), "{}", out.stdout_lossy());
        assert!(!out.stdout_lossy().contains("all"), "{}", out.stdout_lossy());
        assert!(out.stderr_lossy().contains("fork"), "{}", out.stderr_lossy());
        assert!(!out.status.success(), "{}", out.status);
        for limit in [0, 1] {
            let mut command = c.command("sh");
            let status = command.args(sh("true & wait")).processes(limit).status().await;
            match limit {
                0 => assert!(matches!(status, Err(Error::BadCommand { .. })), "{status:?}"),
                _ => assert!(!status.unwrap().success()),
            }
        }
    })
    .await;
}

/// A child that takes a second of processor time and whose parent never reaps it.
const UNSEEN: &str = "
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    while sum(os.times()[:2]) < 1:
        pass
    os._exit(0)
try:
    os.wait()
except ChildProcessError:
    pass
";

#[tokio::test]
async fn usage_counts_all_processes_of_a_command() {
    let spent = async |c: &PooledContainer| {
        let out = c.command("python3").args(["-c", UNSEEN]).output().await.unwrap();
        assert!(out.status.success(), "{}: {}", out.status, out.stderr_lossy());
        assert!(out.usage.wall >= Duration::from_secs(1));
        out.usage.cpu_time().unwrap()
    };
    let second = Duration::from_secs(1);
    with_container(plain("cgroup-unseen").image(python()), async |c| {
        let spent = spent(c).await;
        assert!(
            spent < second,
            "without a group the kernel does not report it: {spent:?}"
        );
    })
    .await;
    with_groups_of(wanted("cgroup-usage").image(python()), async |c| {
        let spent = spent(c).await;
        assert!(spent >= second, "{spent:?}");
    })
    .await;
}

/// Each attack ends with its command, and no process of another command does.
#[tokio::test]
async fn a_killed_command_dies_with_all_it_started_and_nothing_else() {
    with_groups_of(wanted("cgroup-kill").pids_limit(200), async |c| {
        // An earlier command leaves a process. Another command starts daemons in sessions of their own during each
        // attack.
        let left = c
            .command("sh")
            .args(sh("sleep 1000 >/dev/null 2>&1 & exit 0"))
            .status()
            .await
            .unwrap();
        assert!(left.success());
        let mut command = c.command("sh");
        let other = "while read _; do setsid sh -c 'sleep 1000 & exit 0' >/dev/null 2>&1; echo begun; done";
        let mut other = command.args(sh(other)).stdin(Stdio::piped()).spawn().await.unwrap();
        let (mut input, output) = (other.stdin.take().unwrap(), other.stdout.take().unwrap());
        let mut lines = tokio_util::codec::FramedRead::new(output, tokio_util::codec::LinesCodec::new());
        // The sleep of the earlier command, and the other command's shell.
        let mut expected = 2;
        let attacks = [
            "sleep 1000",
            "setsid sh -c 'setsid sleep 1000 & exit 0' & sleep 1000",
            "(setsid sh -c '(setsid sleep 1000 &) & exit 0' &) & exit 0; sleep 1000",
            "trap '' TERM INT HUP CHLD; while :; do (setsid sleep 1000 &); sleep 0.02; done",
            "bomb() { bomb | bomb & }; bomb; sleep 1000",
            "kill -STOP $$; sleep 1000",
            "exec 3</sys/fs/cgroup 4</sys/fs/cgroup/cgroup.events; setsid sleep 1000 & sleep 1000",
        ];
        for attack in attacks {
            let mut command = c.command("sh");
            command.args(sh(attack)).timeout(Duration::from_millis(500));
            let mut child = command.spawn().await.unwrap();
            // During the attack, the other command starts an orphan in a session of its own.
            tokio::io::AsyncWriteExt::write_all(&mut input, b"\n").await.unwrap();
            match lines.next().await {
                Some(Ok(line)) => assert_eq!(line, "begun", "{attack}"),
                end => panic!("{attack}: {end:?}: {:?}", other.wait().await),
            }
            expected += 1;
            let status = child.wait().await.unwrap();
            if status == ExitStatus::TimedOut {
                assert_eq!(c.process_count().await.unwrap(), expected, "{attack}");
            } else {
                // The command ended by itself and left one process, which stays. The parents of that process end a
                // little later.
                assert_eq!(status, ExitStatus::Exited(0), "{attack}");
                expected += 1;
                eventually(&format!("one process is left: {attack}"), async || {
                    c.process_count().await.unwrap() == expected
                })
                .await;
            }
            assert_eq!(c.taint(), None, "{attack}");
        }
        c.kill_all().await.unwrap();
        assert_eq!(c.process_count().await.unwrap(), 0);
        assert_eq!(groups(c).await, 1, "the group of this command");
    })
    .await;
}

/// Counts the groups of commands.
async fn groups(c: &PooledContainer) -> usize {
    text(c, "ls -d /sys/fs/cgroup/c[0-9]* | wc -l").await.parse().unwrap()
}

/// `cgroup.kill` does not reach such a process.
#[tokio::test]
async fn a_process_whose_first_thread_has_ended_dies_with_its_command() {
    let wanted = wanted("cgroup-thread").image(crate::support::python());
    with_groups_of(wanted, async |c| {
        let script = "import ctypes, os, threading, time\n\
                      if os.fork() == 0:\n    \
                          os.setsid()\n    \
                          threading.Thread(target=time.sleep, args=(1000,)).start()\n    \
                          ctypes.CDLL(None).syscall(60, 0)\n\
                      print('begun', flush=True)\n\
                      time.sleep(1000)\n";
        let mut command = c.command("python3");
        command.args(["-c", script]).timeout(Duration::from_secs(3));
        let out = command.output().await.unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::TimedOut, "begun\n".into())
        );
        assert_eq!(c.taint(), None);
        assert_eq!(c.process_count().await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn no_command_can_write_to_any_group() {
    with_groups("cgroup-hostile", async |c| {
        assert_eq!(text(c, "cat /proc/1/cgroup").await, "0::/dockerpool-agent");
        assert!(text(c, "cat /proc/self/cgroup").await.starts_with("0::/c"));
        let attack = "
            id -u
            cd /sys/fs/cgroup
            for dir in . dockerpool-agent $(ls -d c[0-9]*); do
                mkdir $dir/own && echo made $dir
                rmdir $dir && echo removed $dir
                mv $dir moved && echo moved $dir
                chmod 777 $dir && echo chmod $dir
                for file in $dir/*; do
                    [ -f $file ] || continue
                    chown 65534 $file && echo chown $file
                    for value in 0 1 max threaded +cpu $$ 4096; do
                        (echo $value >$file) && echo wrote $value to $file
                        (echo $value >/proc/self/cwd/$file) && echo wrote $value to $file
                    done
                done
            done
            mount -o remount,rw /sys/fs/cgroup && echo mounted
            unshare -C true && echo unshared
            mkdir /tmp/cg && mount -t cgroup2 none /tmp/cg && echo mounted
            kill -9 1 && echo killed
            grep NoNewPrivs /proc/self/status";
        let out = output(c, attack).await;
        let said = out.stdout_lossy();
        // The kernel accepts a signal to PID 1 from inside and ignores it, or refuses it.
        let said: Vec<_> = said.lines().filter(|line| *line != "killed").collect();
        assert_eq!(said, ["65534", "NoNewPrivs:\t1"], "{}", out.stderr_lossy());
        assert!(out.stderr_lossy().lines().count() > 300, "{}", out.stderr_lossy());
        assert_eq!(text(c, "cat /sys/fs/cgroup/dockerpool-agent/cgroup.freeze").await, "0");
    })
    .await;
}

#[tokio::test]
async fn no_command_with_writable_groups_runs_as_root() {
    with_groups("cgroup-no-root", async |c| {
        for user in ["root", "0", "0:0", "0:65534"] {
            let error = c.command("true").user(user).output().await.unwrap_err();
            assert!(matches!(error, Error::CannotStart { .. }), "{error:?}");
            assert!(error.to_string().contains("must not run as root"), "{error}");
        }
        // Another user may run commands. A user with root's group has no more rights than others.
        let script =
            "id -u; id -g; mkdir /sys/fs/cgroup/x; echo 1 >/sys/fs/cgroup/dockerpool-agent/cgroup.freeze; exit 0";
        let out = c.command("sh").args(sh(script)).user("1234:0").output().await.unwrap();
        assert_eq!(out.stdout_lossy(), "1234\n0\n");
        assert_eq!(out.stderr_lossy().lines().count(), 2, "{}", out.stderr_lossy());
        assert_eq!(groups(c).await, 1);
        assert_eq!(c.taint(), None);
    })
    .await;
}

/// The library reads back whether the groups can be made. `build()` fails also with `min_idle(0)`.
#[tokio::test]
async fn groups_that_cannot_be_made_fail_the_build() {
    let over = HostConfig {
        tmpfs: Some([("/sys/fs/cgroup".to_owned(), "size=64k".to_owned())].into()),
        ..Default::default()
    };
    let read_only = HostConfig {
        binds: Some(vec!["/sys/fs/cgroup:/sys/fs/cgroup:ro".to_owned()]),
        ..Default::default()
    };
    for (raw, words) in [
        (over, "there is no cgroup v2 in the container"),
        (read_only, "/sys/fs/cgroup cannot be written to"),
    ] {
        let error = wanted("cgroup-not").host_config(raw).build().await.expect_err(words);
        let words = why_not().await.unwrap_or(words);
        let said = format!("{error}: {:?}", error.engine_error());
        assert!(said.contains(words), "{said}");
        if why_not().await.is_none() {
            let kind = error.engine_error().unwrap().kind();
            assert_eq!(kind, EngineErrorKind::LimitDiscarded, "{error}");
        }
    }
}

/// PID 1 is root there, so that it does not fail by the user.
#[tokio::test]
async fn a_user_that_the_image_does_not_have_fails_the_build() {
    let error = wanted("cgroup-user")
        .user("nosuch")
        .build()
        .await
        .expect_err("no such user");
    let said = format!("{error}: {:?}", error.engine_error());
    assert!(
        said.contains(why_not().await.unwrap_or("unable to find user nosuch")),
        "{said}"
    );
}

/// The engine's own option `no-new-privileges` makes no difference here.
#[tokio::test]
async fn no_command_gains_privileges_whatever_the_security_options_are() {
    let raw = HostConfig {
        security_opt: Some(Vec::new()),
        ..Default::default()
    };
    let plain = plain("cgroup-options").host_config(raw.clone());
    let script = "grep NoNewPrivs /proc/self/status";
    with_container(plain, async |c| assert_eq!(text(c, script).await, "NoNewPrivs:\t0")).await;
    with_groups_of(wanted("cgroup-options").host_config(raw), async |c| {
        assert_eq!(text(c, script).await, "NoNewPrivs:\t1");
    })
    .await;
}

#[tokio::test]
async fn thousands_of_commands_leave_no_group() {
    with_groups("cgroup-many", async |c| {
        const AT_ONCE: usize = 5;
        for round in 0..1000 {
            let ends = (0..AT_ONCE).map(|i| async move {
                let mut command = c.command("sh");
                // Some of the commands fail to start, are killed, or leave a process for a moment.
                match (round + i) % 25 {
                    0 => assert!(c.command("no-such-program").status().await.is_err()),
                    1 => {
                        command.args(sh("sleep 1000")).timeout(Duration::from_millis(20));
                        assert_eq!(command.status().await.unwrap(), ExitStatus::TimedOut);
                    }
                    2 => {
                        command.args(sh("yes")).output_limit(1000).on_limit(OnLimit::Kill);
                        assert_eq!(
                            command.output().await.unwrap().status,
                            ExitStatus::OutputLimit {
                                limit: 1000,
                                is_default: false
                            }
                        );
                    }
                    3 => assert!(
                        command
                            .args(sh("sleep 0.05 >/dev/null 2>&1 &"))
                            .status()
                            .await
                            .unwrap()
                            .success()
                    ),
                    _ => assert!(c.command("true").status().await.unwrap().success()),
                }
            });
            join_all(ends).await;
        }
        c.kill_all().await.unwrap();
        assert_eq!(groups(c).await, 1);
        let there = text(c, "grep nr_descendants /sys/fs/cgroup/cgroup.stat").await;
        assert_eq!(
            there, "nr_descendants 2",
            "the agent's group, and the one of this command"
        );
    })
    .await;
}

#[tokio::test]
async fn a_group_stays_until_the_last_process_in_it_ends() {
    with_groups("cgroup-left", async |c| {
        let left = "sh -c 'read _ </tmp/end' >/dev/null 2>&1 & exit 0";
        text(c, &format!("mkfifo /tmp/end; {left}")).await;
        assert_eq!(groups(c).await, 2);
        text(c, "echo >/tmp/end").await;
        eventually("the group is removed", async || groups(c).await == 1).await;
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_container_with_groups_is_paused_and_goes_on() {
    if why_not().await.is_some() {
        // The other tests assert that `build()` says why.
        return with_groups("cgroup-paused", async |_| ()).await;
    }
    let pool: Pool = wanted("cgroup-paused").build().await.unwrap();
    let c = pool.acquire().await.unwrap().into_inner();
    let c = c.pause().await.unwrap().unpause().await.unwrap();
    let out = c
        .command("sh")
        .args(sh("cat /proc/self/cgroup"))
        .memory(32 << 20)
        .output()
        .await
        .unwrap();
    assert!(out.stdout_lossy().starts_with("0::/c"), "{}", out.stdout_lossy());
    drop(c);
    pool.shutdown().await.unwrap();
}
