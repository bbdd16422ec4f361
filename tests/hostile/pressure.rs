//! Attacks on PID 1 from outside of the agent, and on resources that the agent shares with other containers.

use std::time::{Duration, Instant};

use dockerpool::engine::Pausing;
use dockerpool::{Error, ExitStatus, Pool, PooledContainer, Stdio};
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::support::{containers_of_instance, engine, is_podman};
use crate::ways::{HANG, USERS, WAYS, Way, each, lease_is_sound, run, run_for, works};

const AGENT: [Way; 2] = [Way::AgentSocket, Way::AgentAttached];

async fn shutdown(pool: Pool) {
    let instance = pool.instance().to_owned();
    pool.shutdown_timeout(HANG).await.unwrap();
    assert_eq!(containers_of_instance(&*engine().await, &instance).await, 0);
}

async fn sh(c: &PooledContainer, script: &str) -> String {
    c.command("sh").args(["-c", script]).output_string().await.unwrap()
}

#[tokio::test]
async fn more_commands_than_the_agent_has_places_queue() {
    for (way, count) in [
        (Way::AgentSocket, 100),
        (Way::AgentAttached, 100),
        (Way::AgentSocket, 300),
    ] {
        let pool = way.builder("queue").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let outs = join_all((0..count).map(async |i| {
            let mut command = c.command("sh");
            command.args(["-c", &format!("read x; echo $x {i}; exit {}", i % 100)]);
            (i, command.stdin("in\n").timeout(HANG).output().await)
        }))
        .await;
        for (i, out) in outs {
            let out = out.unwrap();
            assert_eq!(
                (out.status, out.stdout_lossy()),
                (ExitStatus::Exited(i % 100), format!("in {i}\n").into())
            );
        }
        assert_eq!(c.taint(), None);
        drop(c);
        shutdown(pool).await;
    }
}

/// Takes all places. A place becomes free once one of these commands ends.
async fn take_all_places(c: &PooledContainer) -> Vec<dockerpool::Child<'_>> {
    let mut children = Vec::new();
    for _ in 0..64 {
        children.push(c.command("sleep").arg("1000").spawn().await.unwrap());
    }
    children
}

#[tokio::test]
async fn the_queue_is_fair_and_a_dropped_command_leaves_it() {
    for way in AGENT {
        let pool = way.builder("queue-fair").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let mut children = take_all_places(&c).await;
        // The timeout counts from the call, so that this command never begins.
        let begun = Instant::now();
        let mut late = c.command("true");
        assert_eq!(
            late.timeout(Duration::from_millis(100)).status().await.unwrap(),
            ExitStatus::TimedOut
        );
        assert!(begun.elapsed() < HANG);
        // This call is dropped while it waits.
        let mut dropped = c.command("touch");
        dropped.arg("/tmp/dropped");
        assert!(
            tokio::time::timeout(Duration::from_millis(100), dropped.status())
                .await
                .is_err()
        );
        assert_eq!(c.taint(), None);

        let in_order = async {
            let queued = (1..=5).map(async |i| {
                let mut command = c.command("sh");
                command
                    .args(["-c", &format!("echo {i} >>/tmp/order")])
                    .status()
                    .await
                    .unwrap()
            });
            join_all(queued).await
        };
        let free_one = async {
            // The commands are in the queue once the other future was polled.
            tokio::task::yield_now().await;
            drop(children.pop());
        };
        tokio::join!(in_order, free_one);
        drop(children.pop());
        assert_eq!(
            sh(&c, "cat /tmp/order; ls /tmp").await,
            "1\n2\n3\n4\n5\norder\n",
            "{way:?}"
        );
        assert_eq!(c.taint(), None);
        drop(children);
        drop(c);
        shutdown(pool).await;
    }
}

#[tokio::test]
async fn ended_commands_whose_output_others_hold_take_no_place() {
    for way in AGENT {
        let pool = way.builder("queue-held").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        for i in 0..70 {
            let out = c
                .command("sh")
                .args(["-c", "sleep 1000 & echo started"])
                .timeout(HANG)
                .output()
                .await
                .unwrap();
            assert_eq!(
                (out.status, out.stdout_lossy()),
                (ExitStatus::Exited(0), "started\n".into()),
                "{i}"
            );
        }
        assert!(works(&c).await);
        drop(c);
        shutdown(pool).await;
    }
}

#[tokio::test]
async fn a_program_whose_path_has_an_equals_sign_runs_without_an_environment_or_is_refused() {
    each("env-clear", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let make = "mkdir -p /tmp/a=b /tmp/bin && printf '#!/bin/sh\\necho $1 $A $HOME.\\n' >/tmp/bin/x=y && chmod +x /tmp/bin/x=y \
                    && cp /tmp/bin/x=y /tmp/a=b/program";
        sh(&c, make).await;
        for program in ["/tmp/a=b/program", "x=y"] {
            let mut command = c.command(program);
            command.user(user).env("PATH", "/tmp/bin:/bin").env("A", "1").env("A", "2").env_clear();
            // With a wrong order of arguments `echo` would run as the program.
            let out = command.args(["echo", "second"]).output().await;
            if way.is_agent() {
                assert_eq!(out.unwrap().stdout_lossy(), "echo 2 .\n", "{way:?} {user} {program}");
            } else {
                let Err(Error::BadCommand { problem, .. }) = out else { panic!("{way:?} {user}: {out:?}") };
                assert_eq!(problem.field(), "program");
            }
        }
        // Names that the program that clears the environment could take for its own options.
        let mut command = c.command("/usr/bin/python3");
        command.user(user).args(["-c", "import os; print(sorted(os.environ.items()))"]);
        let out = command.env("-u", "1").env("Z", "2").env_clear().output().await.unwrap();
        assert_eq!(out.stdout_lossy().replace("('LC_CTYPE', 'C.UTF-8'), ", ""), "[('-u', '1'), ('Z', '2')]\n", "{way:?} {user}");
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

/// Keeps some thousand descriptors in flight until its input ends.
const IN_FLIGHT: &str = "import os, socket, sys\n\
    fd = os.open('/dev/null', os.O_RDONLY)\n\
    pairs = []\n\
    try:\n\
    \x20   for _ in range(20):\n\
    \x20       pairs.append(socket.socketpair())\n\
    \x20       socket.send_fds(pairs[-1][0], [b'x'], [fd] * 250)\n\
    except OSError: pass\n\
    print(len(pairs), flush=True)\n\
    sys.stdin.read()\n";

#[tokio::test]
async fn descriptors_in_flight_of_one_container_harm_no_other() {
    for user in USERS {
        for way in AGENT {
            let attackers = way.builder("in-flight-by").user(user).build().await.unwrap();
            let victims = way
                .builder("in-flight-of")
                .user(user)
                .ulimit("nofile", 1024, 1024)
                .build()
                .await
                .unwrap();
            let (attacker, victim) = (attackers.acquire().await.unwrap(), victims.acquire().await.unwrap());
            let mut attack = attacker.command("python3");
            attack.args(["-c", IN_FLIGHT]).stdin(Stdio::piped()).timeout(HANG);
            let mut attack = attack.spawn().await.unwrap();
            let mut said = BufReader::new(attack.stdout.take().unwrap()).lines();
            let pairs: u32 = said.next_line().await.unwrap().unwrap().parse().unwrap();
            assert!(pairs > 5, "{pairs}");
            for _ in 0..3 {
                let mut much = head(&victim, 8_000_000);
                let out = much.output().await.unwrap();
                assert_eq!(
                    (out.status, out.stdout.len()),
                    (ExitStatus::Exited(0), 8_000_000),
                    "{way:?} {user}"
                );
            }
            assert_eq!(victim.taint(), None, "{way:?} {user}");
            drop(attack.stdin.take());
            drop(attack.wait_with_output().await.unwrap());
            lease_is_sound(&victims, victim, &format!("{way:?} {user}")).await;
            drop(attacker);
            shutdown(attackers).await;
            shutdown(victims).await;
        }
    }
}

fn head(c: &PooledContainer, bytes: usize) -> dockerpool::Command<'_> {
    let mut command = c.command("head");
    command.args(["-c", &bytes.to_string(), "/dev/zero"]).timeout(HANG);
    command
}

/// Prints the attributes that a process inherits from its parent and that other processes can change.
const INHERITED: &str = "import os, ctypes, platform\n\
    print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0)))\n\
    print(ctypes.CDLL(None).syscall(252 if platform.machine() == 'x86_64' else 31, 1, 0))\n\
    for name in ('oom_score_adj', 'coredump_filter', 'timerslack_ns', 'limits'):\n\
    \x20   print(open('/proc/self/' + name).read())\n";

/// Changes of PID 1, each by a program of its own.
const CHANGES: [&str; 7] = [
    "os.setpriority(os.PRIO_PROCESS, 1, 19)",
    "os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))",
    "os.sched_setscheduler(1, os.SCHED_BATCH, os.sched_param(0))",
    "os.sched_setaffinity(1, {sorted(os.sched_getaffinity(1))[-1]})",
    "ctypes.CDLL(None).syscall(251 if platform.machine() == 'x86_64' else 30, 1, 1, 3 << 13)",
    "open('/proc/1/oom_score_adj', 'w').write('1000')",
    "open('/proc/1/coredump_filter', 'w').write('0x1')",
];

#[tokio::test]
async fn changes_of_pid_1_by_a_command_reach_no_other_command() {
    each("pid1", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let values = async |c: &PooledContainer| run(c, "root", INHERITED).await.unwrap().stdout_lossy().into_owned();
        let before = values(&c).await;
        assert!(before.contains("Max open files"), "{before}");
        drop(c);
        for change in CHANGES {
            let c = pool.acquire().await.unwrap();
            let script = format!("import os, ctypes, platform\n{change}\n");
            // The change may be refused, or may end the container. Both are acceptable.
            let _ = run(&c, user, &script).await;
            let attack = format!("{way:?} {user} {change}");
            if c.taint().is_none() && works(&c).await {
                assert_eq!(values(&c).await, before, "{attack}");
            }
            lease_is_sound(pool, c, &attack).await;
            let next = pool.acquire().await.unwrap();
            assert_eq!(values(&next).await, before, "{attack}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_oom_killer_prefers_commands_to_the_agent() {
    each("oom-score", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("sh");
        command
            .args(["-c", "cat /proc/1/oom_score_adj /proc/self/oom_score_adj"])
            .user(user);
        let out = command.output_string().await.unwrap();
        let scores: Vec<i32> = out.lines().map(|line| line.parse().unwrap()).collect();
        assert!(!way.is_agent() || scores[1] > scores[0], "{way:?} {user}: {scores:?}");
    })
    .await;
    // Here the agent does not run as root and cannot write files of root.
    for way in AGENT {
        let pool = way.builder("oom-score-user").user("nobody").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let out = sh(&c, "cat /proc/1/oom_score_adj /proc/self/oom_score_adj").await;
        let scores: Vec<i32> = out.lines().map(|line| line.parse().unwrap()).collect();
        assert!(scores[1] > scores[0], "{way:?}: {scores:?}");
        drop(c);
        shutdown(pool).await;
    }
}

#[tokio::test]
async fn a_fork_bomb_that_takes_all_memory_does_not_end_pid_1() {
    let script = "import os\nkeep = []\nwhile True:\n\
                  \x20   try: os.fork()\n\
                  \x20   except OSError: pass\n\
                  \x20   keep.append(bytearray(1 << 20))\n";
    for way in AGENT {
        let pool = way
            .builder("bomb")
            .memory(64 << 20)
            .pids_limit(64)
            .build()
            .await
            .unwrap();
        for user in USERS {
            let c = pool.acquire().await.unwrap();
            let out = run_for(&c, user, script, Duration::from_secs(3)).await.unwrap();
            assert!(!out.status.is_container_gone(), "{way:?} {user}: {out:?}");
            lease_is_sound(&pool, c, &format!("{way:?} {user}")).await;
        }
        shutdown(pool).await;
    }
}

#[tokio::test]
async fn a_silent_agent_at_a_deadline_costs_its_container() {
    let engine = engine().await;
    for way in AGENT {
        let pool = way.builder("silent").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("sh");
        command
            .args(["-c", "echo ready; sleep 1000"])
            .timeout(Duration::from_secs(2));
        let begun = Instant::now();
        let mut child = command.spawn().await.unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
        engine.pause(c.id()).await.unwrap();
        assert_eq!(child.wait().await.unwrap(), ExitStatus::TimedOut, "{way:?}");
        // The usual limit for the agent to end a command is fifteen seconds.
        assert!(
            begun.elapsed() < Duration::from_secs(12),
            "{way:?}: {:?}",
            begun.elapsed()
        );
        drop(child);
        lease_is_sound(&pool, c, &format!("{way:?}")).await;
        shutdown(pool).await;
    }
}

#[tokio::test]
async fn busy_loops_beside_a_pid_1_of_low_priority_end_in_time() {
    let script = "import os\n\
                  for _ in range(60):\n\
                  \x20   if os.fork() == 0:\n\
                  \x20       while True: pass\n\
                  for change in (lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),\n\
                  \x20   lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0))):\n\
                  \x20   try: change()\n\
                  \x20   except OSError: pass\n\
                  while True: pass\n";
    each("spinners", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let begun = Instant::now();
        let out = run_for(&c, user, script, Duration::from_secs(3)).await.unwrap();
        assert!(!out.status.success(), "{way:?} {user}");
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "{way:?} {user}: {:?}",
            begun.elapsed()
        );
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn a_fifo_in_place_of_passwd_delays_no_command() {
    for way in AGENT {
        let pool = way.builder("fifo").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let mut cat = c
            .command("cat")
            .stdin(Stdio::piped())
            .timeout(HANG)
            .spawn()
            .await
            .unwrap();
        sh(&c, "rm /etc/passwd /etc/group; mkfifo /etc/passwd /etc/group").await;
        let mut other = c.command("true");
        let other = other.user("0:0").timeout(HANG).spawn().await.unwrap();
        let mut stdin = cat.stdin.take().unwrap();
        stdin.write_all(b"hello").await.unwrap();
        stdin.shutdown().await.unwrap();
        let out = cat.wait_with_output().await.unwrap();
        assert_eq!(
            (out.status, out.stdout_lossy()),
            (ExitStatus::Exited(0), "hello".into()),
            "{way:?}"
        );
        assert_eq!(
            other.wait_with_output().await.unwrap().status,
            ExitStatus::Exited(0),
            "{way:?}"
        );
        drop(c);
        shutdown(pool).await;
    }
}

#[tokio::test]
async fn the_last_variable_of_a_name_counts() {
    each("variables", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let mut command = c.command("sh");
        command
            .user(user)
            .args(["-c", "env | grep -c '^N[0-9]*='; echo $N77 $PATH"]);
        for i in 0..20_000 {
            command.env(format!("N{}", i % 10_000), (i / 10_000).to_string());
        }
        command.env("PATH", "/bin:/usr/bin");
        let out = command.timeout(HANG).output().await.unwrap();
        assert_eq!(out.stdout_lossy(), "10000\n1 /bin:/usr/bin\n", "{way:?} {user}");
    })
    .await;
}

#[tokio::test]
async fn ulimits_of_the_spec_apply_to_commands() {
    // Podman's Docker-compatible API does not know the limit `as`.
    let has_space = !is_podman().await;
    let script = format!(
        "import resource as r\n\
         print([r.getrlimit(getattr(r, 'RLIMIT_' + n)) for n in '{}CPU DATA STACK FSIZE NOFILE CORE MEMLOCK'.split()])\n",
        if has_space { "AS " } else { "" }
    );
    for way in WAYS {
        let mut builder = way
            .builder("limits")
            .ulimit("cpu", 1, 2)
            .ulimit("data", 1000 << 20, 1500 << 20)
            .ulimit("stack", 1 << 20, 2 << 20)
            .ulimit("fsize", 1 << 20, 1 << 20)
            .ulimit("nofile", 20, 30)
            .ulimit("core", 0, 0)
            .ulimit("memlock", 4096, 8192);
        if has_space {
            builder = builder.ulimit("as", 2000 << 20, 3000 << 20);
        }
        let pool = builder.build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        for user in USERS {
            let out = run(&c, user, &script).await.unwrap();
            let mib = |soft: u64, hard: u64| format!("({}, {})", soft << 20, hard << 20);
            let space = if has_space {
                mib(2000, 3000) + ", "
            } else {
                String::new()
            };
            let expected = |files: &str| {
                format!(
                    "[{space}(1, 2), {}, {}, {}, {files}, (0, 0), (4096, 8192)]\n",
                    mib(1000, 1500),
                    mib(1, 2),
                    mib(1, 1)
                )
            };
            let seen = out.stdout_lossy();
            // Some versions of runc raise the soft limit of descriptors to the hard one. The cause is a race in runc.
            let is_runcs = way == Way::ExecApi && seen == expected("(30, 30)");
            assert!(is_runcs || seen == expected("(20, 30)"), "{way:?} {user}: {seen}");
        }
        if way.is_agent() {
            // More commands at once than the limit of descriptors would allow if it applied to the agent.
            let outs = join_all((0..30).map(async |_| c.command("true").status().await)).await;
            assert!(
                outs.into_iter().all(|out| out.unwrap() == ExitStatus::Exited(0)),
                "{way:?}"
            );
        }
        assert!(works(&c).await, "{way:?}");
        drop(c);
        shutdown(pool).await;
    }
}

#[tokio::test]
async fn a_limit_of_processor_time_does_not_end_the_agent() {
    let pool = Way::AgentSocket
        .builder("cpu")
        .ulimit("cpu", 1, 1)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    // Returns the agent's processor time, in units of 10 ms.
    let used = async || {
        let stat = sh(&c, "cat /proc/1/stat").await;
        let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    // Each signal wakes the agent up. The limit of one second also ends the command that sends the signals.
    let wake = "import os\nwhile True: os.kill(1, 15)\n";
    let begun = Instant::now();
    while used().await <= 150 {
        assert!(!run(&c, "root", wake).await.unwrap().status.is_container_gone());
        assert!(begun.elapsed() < 4 * HANG);
    }
    assert!(works(&c).await);
    drop(c);
    shutdown(pool).await;
}
