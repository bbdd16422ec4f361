//! The lifeline: containers end with their owner, however it ends, and a container whose lifeline breaks is replaced.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::memory_group::MemoryGroup;
use crate::support::{
    Owner, busybox, containers_of, containers_of_instance, engine, eventually, eventually_now, finish, itself,
    own_test, pool, python, unique_name,
};
use bollard::models::HostConfig;
use dockerpool::engine::{ContainerState, Lifecycle, Observation, Pausing, Selector};
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{
    ActiveExec, DockerEngine, Endpoint, EngineErrorKind, Error, ExecVia, Lifeline, Pool, PoolBuilder, Taint,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Makes a test, run in a process of its own, the owner that ends.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// Runs this test again as an owner with one idle and one busy container, and ends that process by `end`. In the
/// owner's process it waits for a line on standard input and then calls `own_end`.
async fn ended(test: &str, own_end: fn(), end: impl FnOnce(&mut Child)) -> Option<ExitStatus> {
    if std::env::var_os(OWNER).is_some() {
        own(own_end).await;
        return None;
    }
    let mut owner = itself(&own_test!(test))
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let instance = BufReader::new(owner.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("instance ").map(str::to_owned))
        .expect("the owner prints its instance");
    let engine = engine().await;
    assert!(containers_of_instance(&*engine, &instance).await >= 2);

    end(&mut owner);
    let status = owner.wait().unwrap();
    let ended = Instant::now();
    eventually("the owner's containers are gone", async || {
        containers_of_instance(&*engine, &instance).await == 0
    })
    .await;
    println!("{test}: gone after {:.0?}", ended.elapsed());
    // The promise is one second on an idle machine. This test allows ten times that.
    assert!(ended.elapsed() < Duration::from_secs(10), "{:?}", ended.elapsed());
    Some(status)
}

async fn own(end: fn()) {
    let pool = pool("owner").min_idle(2).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(c.has_lifeline());
    // A container that is being created has no PID 1 yet that could notice the owner's end.
    eventually_now("all containers are up", || {
        pool.status().idle == 2 && pool.status().creating == 0
    })
    .await;
    println!("\ninstance {}", pool.instance());
    std::thread::spawn(move || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        end();
    });
    // The process ends here, with one container idle and one busy.
    let _ = c.command("sleep").arg("1000").status().await;
}

fn sleep_long() {
    std::thread::sleep(Duration::from_secs(1000));
}

fn tell_to_end(owner: &mut Child) {
    owner.stdin.as_mut().unwrap().write_all(b"now\n").unwrap();
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing() {
    let status = ended("a_killed_owner_leaves_nothing", sleep_long, |owner| {
        owner.kill().unwrap()
    })
    .await;
    assert!(status.is_none_or(|status| status.signal() == Some(9)));
}

#[tokio::test]
async fn an_owner_ended_by_sigterm_leaves_nothing() {
    let status = ended("an_owner_ended_by_sigterm_leaves_nothing", sleep_long, |owner| {
        let pid = owner.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    })
    .await;
    assert!(status.is_none_or(|status| status.signal() == Some(15)));
}

/// A panic in a program built with `panic = "abort"` aborts the process.
#[tokio::test]
async fn an_owner_that_aborts_leaves_nothing() {
    let status = ended(
        "an_owner_that_aborts_leaves_nothing",
        || std::process::abort(),
        tell_to_end,
    )
    .await;
    assert!(status.is_none_or(|status| status.signal() == Some(6)));
}

#[tokio::test]
async fn an_owner_that_ends_without_shutting_down_leaves_nothing() {
    let status = ended(
        "an_owner_that_ends_without_shutting_down_leaves_nothing",
        || std::process::exit(3),
        tell_to_end,
    )
    .await;
    assert!(status.is_none_or(|status| status.code() == Some(3)));
}

#[tokio::test]
async fn an_owner_that_runs_out_of_memory_leaves_nothing() {
    if crate::support::lacks(crate::support::Capability::Root) {
        return;
    }
    let mut group = None;
    let status = ended(
        "an_owner_that_runs_out_of_memory_leaves_nothing",
        || {
            let mut all = Vec::new();
            loop {
                all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
            }
        },
        |owner| {
            group = Some(MemoryGroup::with(owner.id(), 128 << 20));
            tell_to_end(owner);
        },
    )
    .await;
    // The kernel kills the owner.
    assert!(status.is_none_or(|status| status.signal() == Some(9)), "{status:?}");
}

/// Removes all containers of pools of this name when dropped, also when the test has failed.
struct RemovedAtLast(String);

impl Drop for RemovedAtLast {
    fn drop(&mut self) {
        let ours = Selector::pool(&self.0);
        finish(async move {
            let engine = engine().await;
            for left in engine.list(&ours).await.unwrap() {
                let _ = engine.remove(&left.id).await;
            }
        });
    }
}

/// A paused PID 1 cannot notice its owner's end.
#[tokio::test]
async fn a_paused_container_outlives_its_owner_until_unpaused_or_the_next_pool() {
    const TEST: &str = "a_paused_container_outlives_its_owner_until_unpaused_or_the_next_pool";
    if let Ok(name) = std::env::var(OWNER) {
        let pool = pool(&name).build().await.unwrap();
        let _running = pool.acquire().await.unwrap();
        for _ in 0..2 {
            let paused = pool.acquire().await.unwrap().into_inner().pause().await.unwrap();
            println!("\npaused {}", paused.id());
            std::mem::forget(paused);
        }
        return std::future::pending().await;
    }
    let name = unique_name("paused");
    let _cleaned_up = RemovedAtLast(name.clone());
    let mut owner = itself(&own_test!(TEST))
        .env(OWNER, &name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let ids = lines.filter_map(|line| line.strip_prefix("paused ").map(str::to_owned));
    let ids: Vec<_> = ids.take(2).collect();
    owner.kill().unwrap();
    owner.wait().unwrap();

    let engine = engine().await;
    let left = async || {
        let found = engine.list(&Selector::pool(&name)).await.unwrap();
        let mut found: Vec<_> = found.into_iter().map(|one| (one.id, one.state)).collect();
        found.sort_by_key(|(id, _)| ids.iter().position(|known| known == id));
        found
    };
    let paused = |ids: &[String]| {
        ids.iter()
            .cloned()
            .map(|id| (id, ContainerState::Paused))
            .collect::<Vec<_>>()
    };
    eventually("the running container is gone", async || left().await == paused(&ids)).await;
    // The container ends as soon as it is unpaused. `runc` may then find that its control group is gone.
    if let Err(error) = engine.unpause(&ids[0]).await {
        use EngineErrorKind::{Conflict, NotFound};
        assert!(matches!(error.kind(), Conflict | NotFound), "{error:?}");
    }
    eventually("the unpaused container is gone", async || {
        left().await == paused(&ids[1..])
    })
    .await;
    let next = pool(&name).max_idle(0).build().await.unwrap();
    eventually("the next pool removes what is left", async || left().await.is_empty()).await;
    next.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_container_with_a_custom_command_has_no_lifeline_and_says_so() {
    let pool = pool("own-command").cmd(["sleep", "1000"]).build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    assert!(!c.has_lifeline());
    let Lifeline::None { why } = c.lifeline() else {
        panic!("{:?}", c.lifeline())
    };
    assert!(why.contains("a command of their own"), "{why}");
    assert_eq!(pool.status().lifeline, c.lifeline());
    drop(c);
    pool.shutdown().await.unwrap();
}

/// Tells an owner its pool: the name, and the way to set it up.
const ATTACKED: &str = "DOCKERPOOL_TEST_ATTACKED";

/// The ways to run PID 1 and commands.
const ATTACKED_WAYS: [&str; 5] = ["exec", "exec-init", "socket", "attached", "cat"];

/// Tries everything that may keep PID 1 from noticing its owner's end, reports it, and never ends.
const ATTACK: &str = r#"
import ctypes, os, signal, sys, time
for s in (1, 2, 3, 15, 17, 18): signal.signal(s, signal.SIG_IGN)
libc = ctypes.CDLL(None)
me, held = os.getpid(), []
others = [1] + [int(p) for p in os.listdir('/proc') if p.isdigit() and int(p) not in (1, me)]
for pid in others:
    for fd in range(64):
        for flags in (os.O_WRONLY | os.O_NONBLOCK, os.O_RDONLY | os.O_NONBLOCK):
            try: held.append(os.open('/proc/%d/fd/%d' % (pid, fd), flags))
            except OSError: pass
    try:
        pidfd = libc.syscall(434, pid, 0)
        for fd in range(64): libc.syscall(438, pidfd, fd, 0)
    except OSError: pass
    libc.ptrace(16, pid, 0, 0)
    libc.ptrace(0x4206, pid, 0, 0)
    # Those of the lease go on.
    for s in (signal.SIGTTIN, signal.SIGTSTP, signal.SIGTTOU, signal.SIGSTOP):
        try: os.kill(pid, s)
        except OSError: pass
print('attacking', os.getuid(), flush=True)
while True: time.sleep(1000)
"#;

fn attacked(name: &str, way: &str) -> PoolBuilder {
    let builder = Pool::builder(name).image(python()).min_idle(0).memory(64 << 20);
    match way {
        "exec" => builder.exec_via(ExecVia::Docker),
        "exec-init" => builder.exec_via(ExecVia::Docker).host_config(HostConfig {
            init: Some(true),
            ..Default::default()
        }),
        "socket" => builder.exec_via(ExecVia::Agent),
        "attached" => builder.exec_via(ExecVia::Agent).without_agent_socket(),
        // The agent is not available, and the commands do not run as root.
        "cat" => builder.agent_path("/no/such/agent").user("nobody"),
        other => panic!("{other}"),
    }
}

/// Runs as an owner whose containers attack their lifeline. This is not a test of its own.
#[tokio::test]
async fn an_owner() {
    let Ok(told) = std::env::var(ATTACKED) else { return };
    let (name, way) = told.split_once(' ').unwrap();
    let pool = attacked(name, way).build().await.unwrap();
    match (way, pool.status().lifeline) {
        ("cat", Lifeline::Weak { why }) => assert!(why.contains("does not run"), "{why}"),
        (_, lifeline) if crate::support::is_strong(lifeline).await => {}
        (_, other) => panic!("{way}: {other:?}"),
    }
    let mut leases = Vec::new();
    for user in ["root", "nobody"] {
        leases.push((pool.acquire().await.unwrap(), user));
    }
    let mut attackers = Vec::new();
    for (c, user) in &leases {
        let mut command = c.command("python3");
        command.args(["-c", ATTACK]).stdout(dockerpool::Stdio::piped());
        if way != "cat" {
            command.user(*user);
        }
        let mut attacker = command.spawn().await.unwrap();
        let mut said = [0; 256];
        let len = attacker.stdout.as_mut().unwrap().read(&mut said).await.unwrap();
        let said = String::from_utf8_lossy(&said[..len]);
        let uid = if way != "cat" && *user == "root" { 0 } else { 65534 };
        assert_eq!(said, format!("attacking {uid}\n"));
        attackers.push(attacker);
    }
    println!("\nready");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing_though_its_containers_attack_their_lifeline() {
    let engine = engine().await;
    for way in ATTACKED_WAYS {
        let name = unique_name("attacked");
        let _cleaned_up = RemovedAtLast(name.clone());
        let mut owner = Owner::start(&own_test!("an_owner"), |command| {
            command.env(ATTACKED, format!("{name} {way}"))
        });
        let left = async || engine.list(&Selector::pool(&name)).await.unwrap().len();
        assert_eq!(left().await, 2, "{way}");
        owner.kill();
        let ended = Instant::now();
        eventually(&format!("{way}: the containers are gone"), async || left().await == 0).await;
        println!("{way}: gone after {:.0?}", ended.elapsed());
        assert!(
            ended.elapsed() < Duration::from_secs(10),
            "{way}: {:?}",
            ended.elapsed()
        );
    }
}

/// Without the agent, PID 1 runs as a user that no command may use. Where commands run as root, they can become any
/// user.
#[tokio::test]
async fn a_lifeline_without_the_agent_is_weak_and_says_so() {
    let bare = |name| pool(name).exec_via(ExecVia::Docker).agent_path("/no/such/agent");
    let identities = "stat -c %u:%g /proc/1; id -u";
    for (user, expected) in [
        (None, "0:0\n0\n"),
        (Some("root"), "0:0\n0\n"),
        (Some("nobody"), "65525:65525\n65534\n"),
        (Some("1234:4321"), "65525:65525\n1234\n"),
    ] {
        let builder = match user {
            Some(user) => bare("weak").user(user).working_dir("/root"),
            None => bare("weak"),
        };
        let pool = builder.build().await.unwrap();
        assert!(matches!(pool.status().lifeline, Lifeline::Weak { .. }));
        let c = pool.acquire().await.unwrap();
        assert_eq!(c.lifeline(), pool.status().lifeline);
        assert!(c.has_lifeline());
        let mut command = c.command("sh");
        assert_eq!(
            command.args(["-c", identities]).output_string().await.unwrap(),
            expected
        );
        // A command may still have a user of its own.
        assert_eq!(
            c.command("id").arg("-u").user("7").output_string().await.unwrap(),
            "7\n"
        );
        if expected.starts_with("65525") {
            for user in ["65525", "65525:0"] {
                let refused = c.command("true").user(user).status().await;
                assert!(refused.is_err(), "{refused:?}");
            }
            assert_eq!(
                c.command("id").arg("-u").output_string().await.unwrap(),
                expected.split('\n').nth(1).unwrap().to_owned() + "\n"
            );
        }
        assert!(matches!(c.kill_all().await, Err(Error::Unsupported { .. })));
        drop(c);
        pool.shutdown().await.unwrap();
    }
    // Where the settings, and not PID 1, define the container's groups, commands have these groups too.
    let groups = HostConfig {
        group_add: Some(vec!["4242".to_owned()]),
        ..Default::default()
    };
    let pool = bare("weak-groups")
        .user("nobody")
        .host_config(groups)
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    let found = c.command("id").arg("-G").output_string().await.unwrap();
    assert!(found.split_whitespace().any(|group| group == "4242"), "{found}");
    drop(c);
    pool.shutdown().await.unwrap();
}

/// The first container shows whether the agent runs. The pool keeps it, unless it keeps none.
#[tokio::test]
async fn the_result_of_the_first_container_is_remembered() {
    let number = async |user: &str, max_idle, there| {
        let pool = pool("first").user(user).max_idle(max_idle).build().await.unwrap();
        assert_eq!(containers_of(&*engine().await, &pool).await, there);
        let c = pool.acquire().await.unwrap();
        assert_eq!(pool.status().lifetime.created, 1);
        let number = c.name().rsplit('-').next().unwrap().to_owned();
        drop(c);
        pool.shutdown().await.unwrap();
        number
    };
    // No other test uses this user.
    assert_eq!(number("4201", 0, 0).await, "2");
    assert_eq!(number("4201", 1, 0).await, "1");
    assert_eq!(number("4202", 1, 1).await, "1");
    assert_eq!(number("4202", 1, 0).await, "1");
}

/// An image of busybox whose commands do not run as root. Drop removes it.
struct UserImage(String);

impl UserImage {
    fn build(user: &str) -> Self {
        let image = Self(format!("dockerpool-test/{}", unique_name("user")));
        let mut build = Command::new("docker")
            .args(["build", "-q", "-t", &image.0, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let file = format!("FROM {}\nUSER {user}\n", busybox());
        build.stdin.take().unwrap().write_all(file.as_bytes()).unwrap();
        assert!(build.wait().unwrap().success());
        image
    }
}

impl Drop for UserImage {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", &self.0]).output();
    }
}

#[tokio::test]
async fn pid_1_has_another_user_than_commands_with_the_images_user() {
    for (user, expected) in [
        ("nobody", "65525:65525\n65534 65534\n"),
        ("1234:4321", "65525:65525\n1234 4321\n"),
        ("0:4321", "0:4321\n0 4321\n"),
    ] {
        let image = UserImage::build(user);
        let builder = pool("image-user").image(&image.0).exec_via(ExecVia::Docker);
        let pool = builder.agent_path("/no/such/agent").build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let script = "stat -c %u:%g /proc/1; echo $(id -u) $(id -g)";
        let found = c.command("sh").args(["-c", script]).output_string().await.unwrap();
        assert_eq!(found, expected, "{user}");
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

/// The agent is PID 1 also where the engine runs the commands, and still counts, kills and wipes.
#[tokio::test]
async fn commands_by_the_engine_have_the_agent_as_pid_1() {
    for user in ["root", "nobody"] {
        let pool = pool("beside")
            .exec_via(ExecVia::Docker)
            .user(user)
            .tmpfs("/job", 1 << 20);
        let pool = pool.build().await.unwrap();
        assert!(crate::support::is_strong(pool.status().lifeline).await);
        assert!(matches!(pool.status().exec, ActiveExec::Docker { .. }));
        let c = pool.acquire().await.unwrap();
        assert!(crate::support::is_strong(c.lifeline()).await);
        let mut command = c.command("sh");
        command
            .args(["-c", "echo up; exec sleep 1000"])
            .stdout(dockerpool::Stdio::piped());
        let mut sleeper = command.spawn().await.unwrap();
        let mut up = [0; 3];
        sleeper.stdout.as_mut().unwrap().read_exact(&mut up).await.unwrap();
        assert_eq!(c.process_count().await.unwrap(), 1);
        c.kill_all().await.unwrap();
        assert_eq!(sleeper.wait().await.unwrap(), dockerpool::ExitStatus::Signaled(9));
        drop(sleeper);
        assert_eq!(c.process_count().await.unwrap(), 0);
        // PID 1 reaps orphans.
        let script = "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done; touch /job/file; ls /job";
        assert_eq!(
            c.command("sh").args(["-c", script]).output_string().await.unwrap(),
            "file\n"
        );
        eventually("all processes are reaped", async || {
            c.process_count().await.unwrap() == 0
        })
        .await;
        c.wipe(&["/job"]).await.unwrap();
        assert_eq!(c.command("ls").arg("/job").output_string().await.unwrap(), "");
        drop(c);
        pool.shutdown().await.unwrap();
    }
}

/// A proxy between the library and the engine. It forwards everything and can cut the attached connections.
struct Proxy {
    cut: watch::Sender<bool>,
    folder: tempfile::TempDir,
}

/// The engine's side of a connection that is cut.
#[derive(Clone, Copy)]
enum Side {
    /// The engine's side is cut as well, so that the engine sees the end.
    Cut,
    /// The engine's side stays open, as where a machine in the middle has forgotten the connection. PID 1 lives on.
    Kept,
}

impl Proxy {
    async fn start(side: Side) -> Self {
        let theirs = engine().await.endpoint().unwrap().to_string();
        let theirs = theirs.strip_prefix("unix://").unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
        let cut = watch::Sender::new(false);
        let cuts = cut.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let engine = UnixStream::connect(&theirs).await.unwrap();
                tokio::spawn(pass_on(client, engine, cuts.subscribe(), side));
            }
        });
        Self { cut, folder }
    }

    async fn engine(&self) -> Arc<DockerEngine> {
        let endpoint = Endpoint::unix(self.folder.path().join("socket"));
        Arc::new(DockerEngine::connect_to(endpoint).await.unwrap())
    }
}

async fn pass_on(mut client: UnixStream, mut engine: UnixStream, mut cut: watch::Receiver<bool>, side: Side) {
    let mut attached = false;
    let (mut from_client, mut from_engine) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            Ok(count) = client.read(&mut from_client) => {
                let data = &from_client[..count];
                attached |= data.windows(8).any(|part| part == b"/attach?");
                if count == 0 || engine.write_all(data).await.is_err() {
                    return;
                }
            }
            Ok(count) = engine.read(&mut from_engine) => {
                if count == 0 || client.write_all(&from_engine[..count]).await.is_err() {
                    return;
                }
            }
            // Cuts the connections that exist now, and none that is made later.
            Ok(()) = cut.changed(), if attached => break,
            else => return,
        }
    }
    drop(client);
    if matches!(side, Side::Kept) {
        let _ = engine.read(&mut from_engine).await;
    }
}

async fn assert_replaced_unnoticed(side: Side) {
    let proxy = Proxy::start(side).await;
    let engine = proxy.engine().await;
    let pool = pool("cut")
        .min_idle(2)
        .max_total(3)
        .engine(engine.clone())
        .build()
        .await
        .unwrap();
    let c = pool.acquire().await.unwrap();
    eventually_now("all containers are up", || pool.status().idle == 2).await;
    let mut before = vec![c.id().to_owned()];
    {
        let idle = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
        before.extend(idle.iter().map(|c| c.id().to_owned()));
    }

    proxy.cut.send_replace(true);
    // One removed container of each kind: idle, and lent for a moment.
    eventually_now("the cut is noticed", || {
        pool.status().lifetime.removed == 2 && c.taint() == Some(Taint::Died)
    })
    .await;
    // No other lease sees the broken containers.
    for _ in 0..10 {
        let other = pool.acquire().await.unwrap();
        assert!(!before.iter().any(|id| id == other.id()));
        assert!(other.command("true").status().await.unwrap().success());
    }
    if matches!(side, Side::Kept) {
        // A lease whose container goes on is not disturbed.
        assert!(c.command("true").status().await.unwrap().success());
    }
    drop(c);
    eventually_now("all containers are replaced", || {
        pool.status().idle == 2 && pool.status().recycling == 0
    })
    .await;
    pool.shutdown().await.unwrap();
    assert_eq!(containers_of(&*engine, &pool).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_whose_lifeline_breaks_are_replaced() {
    assert_replaced_unnoticed(Side::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_whose_lifeline_is_lost_in_transit_are_replaced_though_they_live_on() {
    assert_replaced_unnoticed(Side::Kept).await;
}

/// With these settings, root of the container can reach its control groups, and so freeze PID 1.
#[tokio::test]
async fn settings_that_open_the_control_groups_to_commands_make_the_lifeline_weak() {
    let host = bollard::models::HostConfig {
        security_opt: Some(vec!["seccomp=unconfined".to_owned()]),
        ..Default::default()
    };
    let pool = crate::support::pool("unconfined")
        .host_config(host)
        .build()
        .await
        .unwrap();
    let lifeline = pool.status().lifeline;
    assert!(
        matches!(lifeline, Lifeline::Weak { why } if why.contains("freeze PID 1")),
        "{lifeline:?}"
    );
    pool.shutdown().await.unwrap();
}
