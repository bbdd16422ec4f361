//! The same commands by the exec API and by the agent, through its socket and through the engine alone, with the same result.

use crate::support::{is_crun, is_podman, pool};
use bollard::models::{HostConfig, ResourcesUlimits};
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{Command, Error, ExecVia, ExitStatus, Pool, PoolBuilder, PooledContainer};

/// The result of a command as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Ended(ExitStatus, String, String),
    CannotStart,
    Other(String),
}

type Case = (&'static str, Box<dyn Fn(&mut Command<'_>)>);

/// Prints after its end.
const LATE: &str = "echo now; (sleep 0.03; echo late) &";

fn sh(script: &'static str) -> Case {
    (
        script,
        Box::new(move |command| {
            command.args(["-c", script]);
        }),
    )
}

/// Returns a shell script with further settings of the command.
fn sh_with(script: &'static str, more: impl Fn(&mut Command<'_>) + 'static) -> Case {
    let tell = move |command: &mut Command<'_>| {
        command.args(["-c", script]);
        more(command);
    };
    (script, Box::new(tell))
}

async fn see(c: &PooledContainer, program: &str, tell: &dyn Fn(&mut Command<'_>)) -> Seen {
    let mut command = c.command(program);
    tell(&mut command);
    match command.output().await {
        Ok(out) => {
            // The exec API reports a signal as an exit code.
            let status = match out.status {
                ExitStatus::Exited(code @ 129..=192) => ExitStatus::Signaled(code - 128),
                status => status,
            };
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Seen::Ended(status, without_own_group(&out.stdout_lossy()), text(&out.stderr))
        }
        Err(Error::CannotStart { .. }) => Seen::CannotStart,
        Err(error) => Seen::Other(error.to_string()),
    }
}

/// Removes a process's own group from its supplementary groups. The difference has no effect: Podman adds it for PID 1,
/// but not for commands.
fn without_own_group(text: &str) -> String {
    let own = |line: &str, from: &str| -> Option<String> {
        let rest = &line[line.find(from)? + from.len()..];
        Some(rest.split([' ', '\t']).next()?.to_owned())
    };
    let mut group = None;
    let lines = text.split('\n').map(|line| {
        group = own(line, " gid=").or_else(|| own(line, "Gid:\t")).or(group.take());
        let Some(group) = &group else { return line.to_owned() };
        if let Some((ids, groups)) = line.split_once(" groups=") {
            // `id` prints the name of the group in parentheses.
            let others: Vec<_> = groups.split(',').filter(|other| other != group).collect();
            if others.is_empty() {
                ids.to_owned()
            } else {
                format!("{ids} groups={}", others.join(","))
            }
        } else if let Some(groups) = line.strip_prefix("Groups:\t") {
            let others: Vec<_> = groups.split_whitespace().filter(|other| other != group).collect();
            format!("Groups:\t{}", others.join(" "))
        } else {
            line.to_owned()
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns whether commands by the exec API differ as on Podman with crun. `podman exec` sets only the limits that were
/// asked for, and crun leaves the others as those of Podman's service, while PID 1 has Podman's defaults. For a user
/// that is not in `passwd`, `podman exec` sets an empty HOME, where PID 1 gets `/`, as with every other engine.
async fn is_podmans_crun() -> bool {
    is_podman().await && is_crun().await
}

/// Removes the limits that a command by the agent has by Podman's default alone.
fn without_default_limits(agent: &mut Seen, docker: &mut Seen) {
    let (Seen::Ended(_, agent, _), Seen::Ended(_, docker, _)) = (agent, docker) else {
        return;
    };
    for limit in ["Max processes ", "Max open files "] {
        let is_limit = |line: &&str| line.starts_with(limit);
        if agent
            .lines()
            .find(is_limit)
            .is_some_and(|line| line.contains(" 1048576 "))
        {
            for text in [&mut *agent, docker] {
                *text = text
                    .split('\n')
                    .filter(|line| !is_limit(line))
                    .collect::<Vec<_>>()
                    .join("\n");
            }
        }
    }
}

/// Returns whether the two results are the same but for a missing end of output. Podman may lose the end when a command
/// ends with unread input, also with the unread end of input at a terminal.
fn lacks_its_end(seen: &Seen, whole: &Seen) -> bool {
    let (Seen::Ended(ExitStatus::Incomplete(code), out, err), Seen::Ended(status, all, all_err)) = (seen, whole) else {
        return false;
    };
    let is_same = match status {
        ExitStatus::Signaled(signal) => 128 + signal == *code,
        status => status.code() == Some(*code),
    };
    is_same && all.starts_with(out.as_str()) && all_err.starts_with(err.as_str())
}

/// Runs all cases by the agent, through its socket and without, and by the exec API.
async fn compare(setup: impl Fn(PoolBuilder) -> PoolBuilder, cases: &[(&str, Vec<Case>)]) {
    let build = async |builder: PoolBuilder| -> Pool { setup(builder).build().await.unwrap() };
    let by_socket = build(pool("by-socket").exec_via(ExecVia::Agent)).await;
    let by_engine = build(pool("by-engine").exec_via(ExecVia::Agent).without_agent_socket()).await;
    let by_docker = build(pool("by-docker").exec_via(ExecVia::Docker)).await;
    let agents = [
        ("socket", by_socket.acquire().await.unwrap()),
        ("engine", by_engine.acquire().await.unwrap()),
    ];
    let docker = by_docker.acquire().await.unwrap();
    let (is_podman, has_own_limits) = (is_podman().await, is_podmans_crun().await);
    let mut differences = Vec::new();
    for (program, cases) in cases {
        for (name, tell) in cases {
            let by_docker = see(&docker, program, tell).await;
            for (transport, agent) in &agents {
                let mut seen = see(agent, program, tell).await;
                // The agent waits 100 ms for output of others, which may be late on a busy machine.
                for _ in 0..50 {
                    if *name != LATE || seen == by_docker {
                        break;
                    }
                    seen = see(agent, program, tell).await;
                }
                let (mut agent, mut docker) = (seen, by_docker.clone());
                if has_own_limits && *name == "limits" {
                    without_default_limits(&mut agent, &mut docker);
                }
                if is_podman && lacks_its_end(&docker, &agent) {
                    continue;
                }
                if agent != docker {
                    let words = format!("{program} {name}:\n  agent by its {transport} {agent:?}\n  docker {docker:?}");
                    differences.push(words);
                }
            }
        }
    }
    drop((agents, docker));
    for pool in [by_socket, by_engine, by_docker] {
        pool.shutdown().await.unwrap();
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Cases for all that a process inherits. The process reports it without a shell that could change it.
fn inherited() -> Vec<(&'static str, Vec<Case>)> {
    let plain = |name: &'static str, args: &'static [&'static str]| -> Case {
        (
            name,
            Box::new(move |command| {
                command.args(args.iter().copied());
            }),
        )
    };
    vec![
        ("id", vec![plain("all", &[]), plain("-G", &["-G"])]),
        ("pwd", vec![plain("", &[])]),
        // The three standard streams, and the descriptor of the listing itself.
        ("ls", vec![plain("fds", &["/proc/self/fd"])]),
        (
            "grep",
            vec![plain(
                "status",
                &[
                    "-E",
                    "^(Uid|Gid|Groups|Cap|Sig[BIC]|NoNewPrivs|Seccomp|Cpus_allowed_list|Umask|Threads)",
                    "/proc/self/status",
                ],
            )],
        ),
        (
            "cat",
            vec![
                plain("limits", &["/proc/self/limits"]),
                plain("personality", &["/proc/self/personality"]),
                plain("loginuid", &["/proc/self/loginuid"]),
                plain("coredump_filter", &["/proc/self/coredump_filter"]),
                plain("timerslack", &["/proc/self/timerslack_ns"]),
            ],
        ),
        (
            "sh",
            vec![
                sh("env | grep -v '^HOSTNAME=' | sort"),
                sh("umask; nice"),
                sh("readlink /proc/$$/fd/0; readlink /proc/$$/fd/1 | cut -d: -f1; grep flags /proc/$$/fdinfo/0"),
                sh("set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 = $6 ] && echo leader, terminal $7, policy ${41}"),
                sh("sed 's,/[a-z_/-]*[0-9a-f]\\{64\\}$,,' /proc/self/cgroup"),
                sh(
                    "cut -d' ' -f5,6 /proc/self/mountinfo | grep -v -e dockerpool-agent -e docker-init -e podman-init | sort",
                ),
                sh("echo to stdout >/dev/stdout; echo to stderr >/dev/stderr"),
                sh("readlink /proc/self/ns/pid | cut -d: -f1; ls -A ~ | head -0; cd; pwd"),
            ],
        ),
    ]
}

#[tokio::test]
async fn commands_agree_as_root() {
    let mut cases = inherited();
    cases.push((
        "sh",
        vec![
            sh("exit 0"),
            sh("exit 1"),
            sh("exit 42"),
            sh("exit 126"),
            sh("exit 127"),
            sh("exit 128"),
            sh("exit 255"),
            sh("kill -TERM $$"),
            sh("kill -KILL $$"),
            sh("kill -SEGV $$"),
            sh("kill -USR2 $$"),
            sh("sh -c 'kill -9 $$'; exit $?"),
            sh("echo out; echo err >&2; exit 3"),
            sh("printf 'no end of line'"),
            sh("head -c 300000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero | tr '\\0' y >&2"),
            sh("printf '\\000\\001\\002\\377'"),
            sh("cat; echo end"),
            sh("read line; echo $?"),
            sh("tty; test -t 0; echo $?; test -t 1; echo $?; test -t 2; echo $?"),
            sh("yes | head -n 1; echo ${PIPESTATUS:-done}"),
            sh("trap 'echo trapped' TERM; kill $$; echo after"),
            sh("exec 1>&-; echo nowhere; exec 2>&-; exit 5"),
            sh("ulimit -n 10; ulimit -n"),
            sh_with("cat | wc -c", |c| {
                c.stdin(vec![7; 300_000]);
            }),
            sh_with("cat", |c| {
                c.stdin("");
            }),
            sh_with("pwd; echo $PWD", |c| {
                c.current_dir("/usr");
            }),
            sh_with("env | sort | grep -v HOSTNAME", |c| {
                c.env("A", "1").env("B", "two words").env("A", "2");
            }),
            sh_with("env | sort | grep -v HOSTNAME", |c| {
                c.env("FROM", "command").env("HOME", "/x").env("EMPTY", "");
            }),
            sh_with("env | sort", |c| {
                c.env("A", "1").env_clear();
            }),
            sh_with("for a; do echo \"<$a>\"; done", |c| {
                c.args([
                    "sh",
                    "",
                    " ",
                    "two words",
                    "new\nline",
                    "ä\u{1F600}",
                    "\"quoted\"",
                    "$HOME",
                    "-x",
                ]);
            }),
            sh_with("pwd", |c| {
                c.current_dir("/no/such/directory");
            }),
            sh_with("pwd", |c| {
                c.current_dir("/etc/passwd");
            }),
            sh_with("pwd", |c| {
                c.env("PATH", "/nowhere");
            }),
            sh_with("pwd", |c| {
                c.env("PATH", "");
            }),
            sh_with("echo $PATH", |c| {
                c.env("PATH", "/nowhere:/bin:/usr/bin:/sbin:/usr/sbin");
            }),
        ],
    ));
    // Podman ends the output with the command, and may add a complaint about unread input to the output.
    if !is_podman().await {
        cases.push(("sh", vec![sh(LATE)]));
        let much = sh_with("head -c 1", |c| {
            c.stdin(vec![b'x'; 300_000]);
        });
        cases.push(("sh", vec![much]));
    }
    cases.push(("sh", at_a_terminal(is_podmans_crun().await)));
    let home = if is_podmans_crun().await { "${HOME:-/}" } else { "$HOME" };
    // All spellings of users.
    for user in [
        "root",
        "0",
        "nobody",
        "65534",
        "12345",
        "12345:54321",
        "root:nogroup",
        "nobody:root",
        "0:0",
        "nobody:12345",
        "no-such-user",
        "root:no-such-group",
        "12345:no-such-group",
        "somebody",
        "somebody:root",
        "4000",
    ] {
        let tell = move |c: &mut Command<'_>| {
            let script = format!(
                "id; id -G; echo {home}; grep -E '^(Cap|NoNewPrivs)' /proc/self/status; pwd; umask; \
                 echo out >/dev/stdout; ls -ld /proc/self/fd/1 | cut -c1-10"
            );
            c.args(["-c", &script]).user(user);
        };
        cases.push(("sh", vec![(user, Box::new(tell))]));
    }
    // Programs that cannot be executed.
    let nothing = || -> Vec<Case> { vec![("", Box::new(|_| {}))] };
    for program in [
        "no-such-program",
        "/no/such/program",
        "no/such/program",
        "/etc/passwd",
        "/etc",
        "/tmp/script",
        "./script",
        "script",
        "/tmp/loop",
    ] {
        cases.push((program, nothing()));
        let in_tmp = |c: &mut Command<'_>| {
            c.current_dir("/tmp").env("PATH", "/etc:/tmp:/bin:/usr/bin");
        };
        cases.push((program, vec![("in /tmp", Box::new(in_tmp))]));
    }
    let files = "cd /tmp; printf '#!/bin/sh\\necho script in $PWD \"$@\"\\n' >script; chmod 755 script; echo text >bad; \
                 ln -s loop loop; \
                 echo 'somebody:x:4000:4001::/home/somebody:/bin/sh' >>/etc/passwd; \
                 echo 'own:x:4001:somebody' >>/etc/group; echo 'one:x:4002:somebody,other' >>/etc/group; echo 'two:x:4003:other,somebody' >>/etc/group";
    cases.insert(0, ("sh", vec![sh(files)]));
    compare(|pool| pool.env("FROM", "container").env("OTHER", "a=b"), &cases).await;
}

/// Cases at a terminal. By the exec API the terminal gets its size only after the command has begun, so the size is not
/// compared. The number of the terminal is not compared either: an engine closes terminals of earlier commands late.
fn at_a_terminal(may_lack_home: bool) -> Vec<Case> {
    let tty = |script: &'static str, more: fn(&mut Command<'_>)| -> Case {
        sh_with(script, move |c| {
            more(c.tty(24, 80));
        })
    };
    vec![
        tty(
            "tty | tr -d 0-9; for fd in 0 1 2; do readlink /proc/self/fd/$fd | tr -d 0-9; done; ls /proc/self/fd",
            |_| {},
        ),
        tty("stty -a 2>/dev/null | grep -v speed", |_| {}),
        tty("stat -c '%u %g %a %F' $(tty)", |_| {}),
        tty(
            "set -- $(cat /proc/$$/stat); [ $1 = $5 ] && [ $1 = $6 ] && [ $1 = $8 ] && [ $7 -ge 34816 ] && echo leader",
            |_| {},
        ),
        tty(
            // The flags of the descriptors may differ in O_LARGEFILE and O_CLOEXEC. Newer kernels show the latter also
            // for descriptors that stay open on exec.
            "for fd in 0 1 2; do grep flags /proc/$$/fdinfo/$fd | sed -E 's/0(100|2000|2100)002/02/'; done; : </dev/tty; echo $?",
            |_| {},
        ),
        tty("env | grep -v '^HOSTNAME=' | sort", |_| {}),
        tty("env | grep -v '^HOSTNAME=' | sort", |c| {
            c.env("TERM", "vt100");
        }),
        tty("env | sort", |c| {
            c.env("TERM", "").env_clear();
        }),
        tty("env | sort", |c| {
            c.env_clear();
        }),
        tty("echo out; echo err >&2; exit 3", |_| {}),
        tty("cat", |c| {
            c.stdin("a line\nand more");
        }),
        tty("exec <&- >&- 2>&-; sleep 0.2; exec >/dev/tty; echo back", |_| {}),
        tty("cat; kill -9 $$", |_| {}),
        tty("sleep 1000 & echo $?; exit 1", |_| {}),
        tty("head -c 100000 /dev/zero | tr '\\0' x", |_| {}),
        tty("id; cd /nowhere", |c| {
            c.user("nobody");
        }),
        tty(
            match may_lack_home {
                true => "tty | tr -d 0-9; stat -c '%u %g %a' $(tty); echo >/dev/tty; echo ${HOME:-/}",
                false => "tty | tr -d 0-9; stat -c '%u %g %a' $(tty); echo >/dev/tty; echo $HOME",
            },
            |c| {
                c.user("12345:54321");
            },
        ),
        tty("true", |c| {
            c.user("no-such-user");
        }),
        tty("true", |c| {
            c.current_dir("/no/such");
        }),
    ]
}

/// The one intended difference: the agent reports an executable file that the kernel does not execute.
#[tokio::test]
async fn only_the_agent_tells_a_file_that_cannot_be_executed_from_a_program_that_fails() {
    let files =
        "cd /tmp; echo text >bad; touch empty; printf '#!/no/such/interpreter\\n' >lost; chmod 755 bad empty lost";
    let builder = || pool("not-executable");
    for (builder, agent) in [
        (builder().exec_via(ExecVia::Agent), true),
        (builder().exec_via(ExecVia::Agent).without_agent_socket(), true),
        (builder().exec_via(ExecVia::Docker), false),
    ] {
        let pool = builder.build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        assert!(c.command("sh").args(["-c", files]).status().await.unwrap().success());
        for program in ["/tmp/bad", "/tmp/empty", "/tmp/lost"] {
            match see(&c, program, &|_| {}).await {
                Seen::CannotStart => assert!(agent, "{program}"),
                Seen::Ended(status, _, words) => {
                    assert!(
                        !agent && !status.success() && words.contains(program),
                        "{status} {words}"
                    );
                }
                other => panic!("{program}: {other:?}"),
            }
        }
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn commands_agree_in_a_container_with_its_own_user() {
    let user_cases = |c: &'static str| -> (&'static str, Vec<Case>) {
        let tell = move |command: &mut Command<'_>| {
            command.args(["-c", "id; echo $HOME"]).user(c);
        };
        ("sh", vec![(c, Box::new(tell))])
    };
    for user in ["nobody", "1234:4321", "runner:tty"] {
        let mut cases = inherited();
        cases.extend(["root", "nobody", "99"].map(user_cases));
        cases.push(("sh", vec![sh("touch /x; echo $?; touch /tmp/x; echo $?")]));
        cases.push(("sh", at_a_terminal(is_podmans_crun().await)));
        compare(move |pool| pool.user(user).working_dir("/tmp/work/dir"), &cases).await;
    }
}

#[tokio::test]
async fn commands_agree_in_a_container_with_limits_and_fewer_rights() {
    let host = HostConfig {
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            // Some versions of runc set a command's soft limit to its hard limit, whatever was asked for.
            soft: Some(60),
            hard: Some(60),
        }]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        group_add: Some(vec!["1111".to_owned(), "tty".to_owned()]),
        readonly_rootfs: Some(true),
        oom_score_adj: Some(300),
        ..HostConfig::default()
    };
    let mut cases = inherited();
    cases.push(("sh", vec![sh("touch /x")]));
    cases.push(("sh", at_a_terminal(is_podmans_crun().await)));
    cases.push((
        "id",
        vec![(
            "nobody",
            Box::new(|c| {
                c.user("nobody");
            }),
        )],
    ));
    compare(move |pool| pool.host_config(host.clone()), &cases).await;
}

#[tokio::test]
async fn commands_agree_in_an_image_with_user_env_workdir_and_entrypoint() {
    use std::io::Write;

    let tag = format!("dockerpool-test-conformance:{}", std::process::id());
    let mut build = std::process::Command::new("docker")
        .args(["build", "-q", "-t", &tag, "-"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let file = format!(
        "FROM {}\nENV FROM=image QUOTED='a b'\nWORKDIR /image/dir\nUSER runner\nENTRYPOINT [\"/bin/false\"]\nCMD [\"x\"]\n",
        crate::support::busybox()
    );
    build.stdin.take().unwrap().write_all(file.as_bytes()).unwrap();
    assert!(build.wait().unwrap().success());
    let image = tag.clone();
    compare(move |pool| pool.image(image.clone()), &inherited()).await;
    let removed = std::process::Command::new("docker")
        .args(["rmi", "-f", &tag])
        .output()
        .unwrap();
    assert!(removed.status.success());
}
