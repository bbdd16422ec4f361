//! Ends of commands: evidence tells each outcome from the others, and the output so far is kept in each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{
    busybox, engine, eventually_now, exec_via, is_crun, is_podman, pool, processes, unique_mark, with_container,
    with_shared,
};
use dockerpool::engine::{Lifecycle, Pausing};
use dockerpool::testing::{Call, FakeEngine};
use dockerpool::{
    Container, ContainerSpec, EngineErrorKind, Error, ExecVia, ExitStatus, Pool, PooledContainer, Stdio, Taint, WhyGone,
};
use tokio::io::AsyncReadExt;

/// Runs a script in a shell.
async fn sh(c: &PooledContainer, script: &str) -> dockerpool::Output {
    c.exec(["sh", "-c", script]).await.unwrap()
}

#[tokio::test]
async fn exit_codes_are_those_of_the_program() {
    with_shared(exec_via(), async |c| {
        for code in [0, 1, 3, 125, 126, 127, 128, 255] {
            let out = sh(c, &format!("echo {code}; exit {code}")).await;
            assert_eq!(out.status, ExitStatus::Exited(code));
            assert_eq!(out.stdout_lossy(), format!("{code}\n"));
            assert_eq!((out.status.success(), out.status.code()), (code == 0, Some(code)));
        }
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_signal_from_within_is_reported_as_a_signal() {
    with_shared(exec_via(), async |c| {
        for (name, number) in [("KILL", 9), ("SEGV", 11), ("TERM", 15), ("ABRT", 6), ("HUP", 1)] {
            let out = sh(c, &format!("echo before; kill -{name} $$; echo after")).await;
            assert_eq!(out.status, ExitStatus::Signaled(number), "{name}");
            assert_eq!(out.status.signal(), Some(number));
            assert_eq!(out.stdout_lossy(), "before\n");
        }
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_command_that_cannot_start_is_an_error_with_the_engines_reason_and_never_output() {
    with_shared(exec_via(), async |c| {
        let command = |program: &str| c.command(program);
        let mut commands = [
            (command("no-such-program"), "no-such-program"),
            (command("/no/such/program"), "/no/such/program"),
            // A directory, and a file that is not executable.
            (command("/bin"), "not permitted"),
            (command("/etc/hosts"), "not permitted"),
            (command("true"), "/no/such/dir"),
            (command("true"), "not a directory"),
            (command("true"), "nobody-of-this-name"),
            (command("true"), "no-group-of-this-name"),
        ];
        commands[4].0.current_dir("/no/such/dir");
        commands[5].0.current_dir("/etc/hosts");
        commands[6].0.user("nobody-of-this-name");
        commands[7].0.user("0:no-group-of-this-name");
        for (command, words) in &mut commands {
            let error = command.output().await.unwrap_err();
            let Error::CannotStart { reason, .. } = &error else {
                panic!("{words}: {error:?}")
            };
            assert_eq!(error.container(), Some(c.name()));
            assert!(error.program().is_some_and(is_program_of_these), "{error:?}");
            // Runtimes differ in their words and in capital letters.
            let reason = reason.to_lowercase();
            let reason = reason.replace("permission denied", "not permitted");
            // From `runc` 1.3 on.
            let reason = reason.replace("exec: \"/bin\": is a directory", "not permitted");
            assert!(reason.contains(*words), "{words}: {reason}");
            assert!(!error.is_retryable());
        }
        assert_eq!(c.taint(), None);
        assert!(c.command("true").status().await.unwrap().success());
    })
    .await;
}

fn is_program_of_these(program: &str) -> bool {
    ["no-such-program", "/no/such/program", "/bin", "/etc/hosts", "true"].contains(&program)
}

#[tokio::test]
async fn a_child_that_cannot_start_has_no_output_and_repeats_its_error() {
    with_shared(exec_via(), async |c| {
        let mut child = c.command("no-such-program").stdin("never read").spawn().await.unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        child.stdout.take().unwrap().read_to_end(&mut out).await.unwrap();
        child.stderr.take().unwrap().read_to_end(&mut err).await.unwrap();
        assert_eq!((out, err), (Vec::new(), Vec::new()));
        for _ in 0..2 {
            assert!(matches!(child.wait().await, Err(Error::CannotStart { .. })));
            assert!(matches!(child.try_wait(), Err(Error::CannotStart { .. })));
        }
        drop(child);
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn the_engines_words_printed_by_a_program_are_its_output() {
    const WORDS: &str = "OCI runtime exec failed: exec failed: unable to start container process";
    with_shared(exec_via(), async |c| {
        for code in [0, 126, 127] {
            let out = sh(c, &format!("echo '{WORDS}'; exit {code}")).await;
            assert_eq!(
                (out.status, out.stdout_lossy()),
                (ExitStatus::Exited(code), format!("{WORDS}\n").into())
            );
        }
        let out = sh(c, &format!("printf '{WORDS}' >&2; sleep 0.1; printf more; exit 126")).await;
        assert_eq!(out.status, ExitStatus::Exited(126));
        assert_eq!((out.stderr_lossy(), out.stdout_lossy()), (WORDS.into(), "more".into()));
        // The output is kept also when the command does not end by itself.
        let out = c
            .command("sh")
            .args(["-c", &format!("echo '{WORDS}'; sleep 1000")])
            .timeout(Duration::from_secs(4))
            .output()
            .await
            .unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::TimedOut, format!("{WORDS}\n").into())
        );
    })
    .await;
}

#[tokio::test]
async fn podmans_words_printed_by_a_program_are_its_output_except_on_podman_with_that_exit_code() {
    const WORDS: &str = "Error: none: OCI runtime error";
    let is_podman = is_podman().await;
    with_shared(exec_via(), async |c| {
        let mut taint = None;
        for code in [0, 3, 127] {
            let result = c
                .command("sh")
                .args(["-c", &format!("echo '{WORDS}' >&2; exit {code}")])
                .output()
                .await;
            // On Podman, nothing else tells the two apart.
            if is_podman && code == 127 {
                assert!(
                    matches!(&result, Err(Error::CannotStart { reason, .. }) if reason == WORDS),
                    "{result:?}"
                );
                // The library does not know these words, so it does not lend the container again.
                taint = Some(Taint::Broken);
                continue;
            }
            let out = result.unwrap();
            assert_eq!(
                (out.status, out.stderr_lossy()),
                (ExitStatus::Exited(code), format!("{WORDS}\n").into())
            );
        }
        assert_eq!(c.taint(), taint);
    })
    .await;
}

#[tokio::test]
async fn output_has_exactly_the_written_bytes() {
    with_shared(exec_via(), async |c| {
        let out = c.exec(["printf", "no newline"]).await.unwrap();
        assert_eq!((out.stdout, out.stderr), (b"no newline".to_vec(), Vec::new()));

        let out = c.exec(["printf", "\\377\\376\\000\\001\\r\\n\\303"]).await.unwrap();
        assert_eq!(out.stdout, b"\xff\xfe\x00\x01\r\n\xc3");
        assert_eq!(out.stdout_lossy().chars().next(), Some('\u{fffd}'));

        let out = c.exec(["true"]).await.unwrap();
        assert_eq!((out.stdout, out.stderr, out.truncated), (Vec::new(), Vec::new(), false));

        let out = c.exec(["echo", "hé 日本 🦀"]).await.unwrap();
        assert_eq!(out.stdout_lossy(), "hé 日本 🦀\n");
    })
    .await;
}

#[tokio::test]
async fn both_output_streams_are_kept_apart_and_in_order() {
    with_shared(exec_via(), async |c| {
        let script = "i=0; while [ $i -lt 1000 ]; do echo o$i; echo e$i >&2; i=$((i+1)); done";
        let out = sh(c, script).await;
        let expected = |letter| (0..1000).map(|i| format!("{letter}{i}\n")).collect::<String>();
        assert!(out.stdout_lossy() == expected('o'), "{out:?}");
        assert!(out.stderr_lossy() == expected('e'), "{out:?}");
    })
    .await;
}

#[tokio::test]
async fn environment_directory_and_user_reach_the_command() {
    with_container(
        pool("settings").env("FROM", "container").env("KEPT", "yes"),
        async |c| {
            let out = c
                .command("sh")
                .args([
                    "-c",
                    r#"printf '%s|' "$PWD" "$(id -u):$(id -g)" "$FROM" "$KEPT" "$A" "$B" "$C""#,
                ])
                .env("FROM", "command")
                .envs([("A", "a=b 'c' \"d\" $e\n"), ("B", "")])
                .env("C", "ü")
                .current_dir("/tmp")
                .user("1000:1001")
                .output()
                .await
                .unwrap();
            assert_eq!(out.stdout_lossy(), "/tmp|1000:1001|command|yes|a=b 'c' \"d\" $e\n||ü|");
            // Each setting applies to that command only.
            let out = sh(c, r#"echo "$PWD $(id -u) $FROM $A""#).await;
            assert_eq!(out.stdout_lossy(), "/ 0 container \n");
        },
    )
    .await;
}

#[tokio::test]
async fn arguments_reach_the_command_unchanged() {
    with_shared(exec_via(), async |c| {
        let args = ["", " ", "a b", "*", "$HOME", "'\"\\", "-n", "line\nbreak", "日本"];
        let out = c.command("printf").arg("%s|").args(args).output().await.unwrap();
        assert_eq!(out.stdout_lossy(), args.map(|arg| format!("{arg}|")).concat());
    })
    .await;
}

/// Returns whether the kernel spares commands of the exec API when memory is short. `crun exec` does not give them
/// the container's `oom_score_adj`; with Docker they get that of containerd.
async fn are_commands_spared() -> bool {
    is_crun().await
}

/// Runs out of memory where commands are spared, so that the kernel kills another process, possibly PID 1. Asserts
/// that the outcome is known all the same and that the container is not lent again.
async fn assert_shortage_where_commands_are_spared(name: &str, script: &str) {
    let pool = pool(name).exec_via(ExecVia::Docker).max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let out = sh(&c, script).await;
    let taint = match out.status {
        ExitStatus::OutOfMemory { .. } => Taint::OutOfMemory,
        ExitStatus::ContainerGone { .. } => Taint::Died,
        other => panic!("{other:?}"),
    };
    assert_eq!(c.taint(), Some(taint));
    drop(c);
    let c = pool.acquire().await.unwrap();
    assert_ne!(c.id(), id);
    assert_eq!(sh(&c, "echo fine").await.stdout_lossy(), "fine\n");
    drop(c);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_kernel_kills_a_command_before_pid_1_unless_crun_executes_it() {
    let scores = "cat /proc/self/oom_score_adj /proc/1/oom_score_adj";
    for via in [ExecVia::Agent, ExecVia::Docker] {
        with_shared(via, async |c| {
            let out = sh(c, scores).await.stdout_lossy().into_owned();
            let scores: Vec<i32> = out.lines().map(|line| line.parse().unwrap()).collect();
            let [command, pid1] = scores[..] else { panic!("{out}") };
            match via {
                ExecVia::Agent => assert!(command > pid1, "{out}"),
                _ => assert_eq!(command < pid1, are_commands_spared().await, "{out}"),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn out_of_memory_is_told_from_a_plain_kill() {
    if are_commands_spared().await {
        return assert_shortage_where_commands_are_spared("oom-spared", "echo before; tail /dev/zero").await;
    }
    with_container(pool("oom").exec_via(ExecVia::Docker), async |c| {
        let out = sh(c, "echo before; tail /dev/zero").await;
        let status = ExitStatus::OutOfMemory { exit: None };
        assert_eq!((out.status, out.stdout_lossy()), (status, "before\n".into()));
        assert_eq!(c.taint(), Some(Taint::OutOfMemory));
        // An earlier out-of-memory kill is no evidence for a later one.
        assert_eq!(sh(c, "kill -9 $$").await.status, ExitStatus::Signaled(9));
        assert_eq!(sh(c, "exit 137").await.status, ExitStatus::Signaled(9));
        assert_eq!(sh(c, "exit 3").await.status, ExitStatus::Exited(3));
    })
    .await;
}

#[tokio::test]
async fn a_pipeline_member_out_of_memory_is_reported_although_the_shell_succeeds() {
    if are_commands_spared().await {
        return assert_shortage_where_commands_are_spared("oom-pipe-spared", "tail /dev/zero | cat; echo after").await;
    }
    let pool = pool("oom-pipe").max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let id = c.id().to_owned();
    let out = sh(&c, "tail /dev/zero | cat; echo after").await;
    assert_eq!(
        (out.status, out.stdout_lossy()),
        (ExitStatus::OutOfMemory { exit: Some(0) }, "after\n".into())
    );
    assert_eq!(c.taint(), Some(Taint::OutOfMemory));
    assert_eq!(sh(&c, "echo fine").await.status, ExitStatus::Exited(0));

    // With two commands in one container, the killed process could belong to either.
    let mut other = c.command("cat").stdin(Stdio::piped()).spawn().await.unwrap();
    assert!(sh(&c, "tail /dev/zero").await.status.is_out_of_memory());
    assert_eq!(other.wait().await.unwrap(), ExitStatus::Exited(0));
    drop(other);
    drop(c);
    assert_ne!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

/// Prints `before`, and goes on as a process with the mark and `-up` in its arguments.
const GOES_ON: &str = r#"echo before; exec sh -c 'sleep 1000; true' "$0-up""#;

#[tokio::test]
async fn a_container_killed_or_removed_under_a_command_is_gone_and_the_output_is_kept() {
    let engine = engine().await;
    let pool = pool("mid-way").max_total(1).build().await.unwrap();
    for how in ["kill", "remove"] {
        let c = pool.acquire().await.unwrap();
        let id = c.id().to_owned();
        let mark = unique_mark();
        let mut command = c.command("sh");
        command.args(["-c", GOES_ON, &mark]);
        let (out, ()) = tokio::join!(command.output(), async {
            eventually_now("the command runs", || !processes(&format!("{mark}-up")).is_empty()).await;
            match how {
                "kill" => engine.kill(&id).await.unwrap(),
                _ => engine.remove(&id).await.unwrap(),
            }
        });
        let out = out.unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::ContainerGone { why: WhyGone::Removed }, "before\n".into()),
            "{how}"
        );
        assert!(c.taint().is_some());
        assert!(processes(&mark).is_empty());
        // Later commands in it fail in the same way.
        let error = c.command("true").output().await.unwrap_err();
        assert!(matches!(error, Error::ContainerGone { .. }), "{error:?}");
        assert_eq!(error.container(), Some(c.name()));
        drop(c);
        assert_ne!(pool.acquire().await.unwrap().id(), id);
    }
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_whose_own_command_ends_under_a_command_says_so() {
    let own = "while [ ! -e /stop ]; do sleep 0.05; done; exit 3";
    let spec = ContainerSpec::new(busybox()).cmd(["sh", "-c", own]);
    let created = Container::create(engine().await, spec).await.unwrap();
    let c = created.start().await.unwrap();
    let mut child = c.command("sleep").arg("1000").spawn().await.unwrap();
    assert!(c.command("touch").arg("/stop").status().await.unwrap().success());
    let why = WhyGone::CommandEnded;
    assert_eq!(child.wait().await.unwrap(), ExitStatus::ContainerGone { why });
    drop(child);
    c.remove().await.unwrap();
}

#[tokio::test]
async fn a_paused_container_starts_no_command_and_a_running_one_still_times_out() {
    let engine = engine().await;
    // By Docker only, since a pause also stops the agent, which then cannot report it.
    let by_docker = pool("paused").exec_via(ExecVia::Docker);
    let pool = by_docker.max_total(1).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let mark = unique_mark();
    let mut command = c.command("sh");
    command.args(["-c", GOES_ON, &mark]).timeout(Duration::from_secs(10));
    let (out, error) = tokio::join!(command.output(), async {
        eventually_now("the command runs", || !processes(&format!("{mark}-up")).is_empty()).await;
        engine.pause(c.id()).await.unwrap();
        c.command("true").output().await.unwrap_err()
    });
    assert!(
        matches!(&error, Error::Engine { source, .. } if source.kind() == EngineErrorKind::Conflict),
        "{error:?}"
    );
    assert_eq!(error.container(), Some(c.name()));
    assert!(
        error.engine_error().unwrap().to_string().contains("paused"),
        "{error:?}"
    );
    let out = out.unwrap();
    assert_eq!(
        (out.status, out.stdout_lossy()),
        (ExitStatus::TimedOut, "before\n".into())
    );
    assert!(processes(&mark).is_empty());
    let id = c.id().to_owned();
    drop(c);
    assert_ne!(pool.acquire().await.unwrap().id(), id);
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_wall_time_is_reported_for_every_end() {
    with_shared(exec_via(), async |c| {
        for (script, at_least) in [("sleep 0.3", 300), ("exit 3", 1), ("sleep 1000", 700)] {
            let begun = Instant::now();
            let mut command = c.command("sh");
            command.args(["-c", script]).timeout(Duration::from_millis(700));
            if at_least < 700 {
                command.timeout(None);
            }
            let wall = command.output().await.unwrap().usage.wall;
            assert!(wall >= Duration::from_millis(at_least), "{script}: {wall:?}");
            assert!(wall <= begun.elapsed(), "{script}: {wall:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_invalid_command_is_refused_with_its_position_before_any_call() {
    let engine = FakeEngine::new();
    let builder = Pool::builder("refused").image("any").engine(Arc::new(engine.clone()));
    let pool = builder.build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    let long = "x".repeat(128 * 1024);
    let mut commands = [
        (c.command(""), "program"),
        (c.command("a\0b"), "program"),
        (c.command(&long), "program"),
        (c.command("echo"), "arg 2"),
        (c.command("echo"), "arg 3"),
        (c.command("echo"), "env 2"),
        (c.command("echo"), "env 1"),
        (c.command("echo"), "env 2"),
        (c.command("echo"), "env 1"),
        (c.command("echo"), "current_dir"),
        (c.command("echo"), "current_dir"),
        (c.command("echo"), "user"),
    ];
    commands[3].0.args(["fine", "a\0b"]);
    commands[4].0.args(["fine", "fine", &long]);
    commands[5].0.env("A", "fine").env("B", "a\0b");
    commands[6].0.env("A\0B", "fine");
    commands[7].0.env("A", "fine").env("B", &long);
    commands[8].0.env("", "fine");
    commands[9].0.current_dir("relative/dir");
    commands[10].0.current_dir("/a\0b");
    commands[11].0.user("a\0b");
    for (i, (command, field)) in commands.iter_mut().enumerate() {
        for result in [
            command.output().await.map(drop),
            command.status().await.map(drop),
            command.spawn().await.map(drop),
        ] {
            let Err(Error::BadCommand { problem, .. }) = result else {
                panic!("{i}: {result:?}")
            };
            assert_eq!(problem.field(), *field, "{i}: {problem}");
        }
    }
    assert_eq!(engine.calls(Call::Exec), 0);
    assert_eq!(c.taint(), None);
}

#[tokio::test]
async fn orphans_of_commands_do_not_pile_up_as_zombies() {
    with_shared(exec_via(), async |c| {
        for _ in 0..5 {
            let out = c
                .exec(["sh", "-c", "for i in 1 2 3; do sleep 0.05 & done"])
                .await
                .unwrap();
            assert!(out.status.success());
        }
        let states = ["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null"];
        crate::support::eventually("all orphans have ended and are reaped", async || {
            let out = c.exec(states).await.unwrap();
            let text = out.stdout_lossy().into_owned();
            !text.contains("(sleep)")
        })
        .await;
        assert_eq!(c.taint(), None);
    })
    .await;
}
