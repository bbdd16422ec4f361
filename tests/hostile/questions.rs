//! Requests to the agent: many at once, in any order, and dropped before their answer. And `wipe` in directories that a
//! tenant has prepared.

use std::time::Duration;

use dockerpool::{Error, ExitStatus, PooledContainer, Stdio};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::io::AsyncReadExt;

use crate::ways::{each, lease_is_sound, run, works};

/// Returns the engine's part of an error as text.
fn words(error: &Error) -> String {
    error.engine_error().unwrap_or_else(|| panic!("{error:?}")).to_string()
}

/// Runs a Python program, which must succeed.
async fn must(c: &PooledContainer, user: &str, script: &str) -> String {
    let out = run(c, user, script).await.unwrap();
    assert!(out.status.success(), "{} {}", out.status, out.stderr_lossy());
    out.stdout_lossy().into_owned()
}

#[tokio::test]
async fn concurrent_kill_alls_are_all_answered() {
    each("kill-all", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        let script = "import os, time\nfor _ in range(4): os.fork()\nprint('up', flush=True)\ntime.sleep(1000)";
        let mut command = c.command("python3");
        let command = command.args(["-c", script]).user(user).stdout(Stdio::piped());
        let mut child = command.spawn().await.unwrap();
        let mut up = [0; 3];
        child.stdout.as_mut().unwrap().read_exact(&mut up).await.unwrap();
        let answers = tokio::time::timeout(
            Duration::from_secs(20),
            join_all((0..8).map(|_| async {
                c.kill_all().await?;
                c.process_count().await
            })),
        )
        .await
        .expect("all eight calls are answered");
        for answer in answers {
            assert_eq!(answer.unwrap(), 0, "{way:?} {user}");
        }
        assert_eq!(child.wait().await.unwrap(), ExitStatus::Signaled(9), "{way:?} {user}");
        drop(child);
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn requests_in_any_order_are_answered_also_when_others_are_dropped() {
    each("questions", async |way, user, pool| {
        if !way.is_agent() {
            return;
        }
        let c = pool.acquire().await.unwrap();
        for round in 0..5 {
            let mut questions: Vec<BoxFuture<'_, Result<(), Error>>> = Vec::new();
            for i in 0..60 {
                let mut question: BoxFuture<'_, Result<(), Error>> = match fastrand::u8(0..3) {
                    0 => c.kill_all().boxed(),
                    1 => c.wipe(&["/tmp", "/dev/shm"]).boxed(),
                    _ => c.process_count().map(|count| count.map(drop)).boxed(),
                };
                // Some requests are sent and then dropped.
                if i % 3 == round % 3 {
                    if let Some(answer) = question.as_mut().now_or_never() {
                        answer.unwrap_or_else(|error| panic!("{way:?} {user}: {error:?}"));
                    }
                } else {
                    questions.push(question);
                }
            }
            let answers = tokio::time::timeout(Duration::from_secs(20), join_all(questions)).await;
            for answer in answers.expect("all requests are answered") {
                answer.unwrap_or_else(|error| panic!("{way:?} {user}: {error:?}"));
            }
        }
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn a_long_wipe_delays_no_command_and_no_deadline() {
    // Many hard links to one file are as much work as many files, and need little memory.
    let fill = "import os, shutil\n\
                shutil.rmtree('/dev/shm/many', ignore_errors=True)\n\
                os.makedirs('/dev/shm/many/deep')\n\
                for top in ('/dev/shm/many', '/dev/shm/many/deep'):\n\
                \x20open(top + '/file', 'w').close()\n\
                \x20for i in range(100000): os.link(top + '/file', f'{top}/{i}')\n";
    each("long-wipe", async |way, user, pool| {
        if !way.is_agent() {
            return;
        }
        let c = pool.acquire().await.unwrap();
        // On a busy machine a command can start so late that the wipe is over. An agent in which commands wait would always be late.
        let mut is_in_time = false;
        // A busy machine may also take longer than the agent's two seconds.
        let is_done = |wiped: Result<(), dockerpool::Error>| match wiped {
            Ok(()) => true,
            Err(error) => {
                let why = error.engine_error().unwrap().to_string();
                assert!(why.contains("not emptied in time"), "{error:?}");
                false
            }
        };
        for _ in 0..5 {
            must(&c, user, fill).await;
            let mut wipe = Box::pin(c.wipe(&["/dev/shm"]));
            let commands = async {
                let out = c.command("echo").arg("meanwhile").user(user).output().await.unwrap();
                assert_eq!(out.stdout_lossy(), "meanwhile\n");
                let mut late = c.command("sleep");
                let late = late.arg("1000").user(user).timeout(Duration::from_millis(20));
                assert_eq!(late.status().await.unwrap(), ExitStatus::TimedOut);
            };
            tokio::select! {
                biased;
                done = wipe.as_mut() => {
                    is_done(done);
                    continue;
                }
                () = commands => {}
            }
            // Concurrent wipes take turns.
            let (first, second) = tokio::join!(wipe, c.wipe(&["/tmp", "/dev/shm"]));
            if is_done(first) && is_done(second) {
                is_in_time = true;
                break;
            }
        }
        assert!(
            is_in_time,
            "{way:?} {user}: commands waited for the wipe, or no wipe came to its end"
        );
        let left = c.command("ls").args(["-A", "/dev/shm"]).output_string().await.unwrap();
        assert_eq!(left, "", "{way:?} {user}");
        assert_eq!(c.taint(), None);
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn wipe_follows_no_symbolic_link_anywhere_in_its_path() {
    each("wipe-link", async |way, user, pool| {
        let c = pool.acquire().await.unwrap();
        must(
            &c,
            "root",
            "import os\nos.makedirs('/victim/out'); open('/victim/out/file', 'w').close()",
        )
        .await;
        must(
            &c,
            user,
            "import os\n\
             os.makedirs('/tmp/own/out'); open('/tmp/own/out/file', 'w').close()\n\
             os.symlink('/victim', '/tmp/job'); os.symlink('../../victim/out', '/tmp/own/link')\n\
             os.symlink('/tmp', '/tmp/own/up')",
        )
        .await;
        for path in [
            "/tmp/job/out",
            "/tmp/job",
            "/tmp/job/",
            "/tmp/own/link",
            "/tmp/own/link/",
            "/tmp/own/up/job/out",
            "/tmp//job/./out",
        ] {
            let text = words(&c.wipe(&["/tmp/own/out", path]).await.unwrap_err());
            assert!(
                text.contains("symbolic link") && text.contains(&format!("{path:?}")),
                "{way:?} {user}: {text}"
            );
        }
        // A path without a link is emptied although another path of the same call is refused.
        let left = must(
            &c,
            "root",
            "import os\nprint(os.listdir('/victim/out'), os.listdir('/tmp/own/out'))",
        )
        .await;
        assert_eq!(left, "['file'] []\n", "{way:?} {user}");
        for path in ["tmp/own", "", ".", "/tmp/own/../job/out", "/tmp/\0"] {
            let text = words(&c.wipe(&[path]).await.unwrap_err());
            assert!(text.contains(&format!("{path:?}")), "{way:?} {user}: {text}");
        }
        let text = words(&c.wipe(&["/tmp/own", "/no/such"]).await.unwrap_err());
        assert!(text.contains("\"/no/such\""), "{text}");
        c.wipe(&["//tmp/./"]).await.unwrap();
        let left = must(
            &c,
            "root",
            "import os\nprint(os.listdir('/tmp'), os.listdir('/victim/out'))",
        )
        .await;
        assert_eq!(left, "[] ['file']\n", "{way:?} {user}");
        must(&c, "root", "import shutil\nshutil.rmtree('/victim')").await;
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}

#[tokio::test]
async fn wipe_follows_no_link_that_appears_while_it_runs() {
    // Exchanges directories above and below the wiped one with links, as fast as possible.
    let exchange = "import ctypes, os\n\
                    libc = ctypes.CDLL(None)\n\
                    os.makedirs('/tmp/job/out/in/deep'); os.symlink('/victim', '/tmp/link')\n\
                    os.makedirs('/tmp/spare'); os.symlink('/victim/out', '/tmp/job/link')\n\
                    print('up', flush=True)\n\
                    def swap(a, b): libc.renameat2(-100, a, -100, b, 2)\n\
                    def make(path):\n\
                    \x20try: os.makedirs(path)\n\
                    \x20except OSError: pass\n\
                    while True:\n\
                    \x20swap(b'/tmp/job', b'/tmp/link'); swap(b'/tmp/job', b'/tmp/link')\n\
                    \x20make('/tmp/job/out/in/deep'); make('/tmp/job/out/in/x/y')\n\
                    \x20swap(b'/tmp/job/link', b'/tmp/job/out'); swap(b'/tmp/job/link', b'/tmp/job/out')\n\
                    \x20swap(b'/tmp/job/link', b'/tmp/job/out/in'); swap(b'/tmp/job/link', b'/tmp/job/out/in')\n\
                    \x20swap(b'/tmp/job/link', b'/tmp/job/out/in/x'); swap(b'/tmp/job/link', b'/tmp/job/out/in/x')\n";
    each("wipe-race", async |way, user, pool| {
        if !way.is_agent() {
            return;
        }
        let c = pool.acquire().await.unwrap();
        let victim = "import os\nos.makedirs('/victim/out/in', mode=0o755); open('/victim/out/file', 'w').close(); \
                      open('/victim/out/in/file', 'w').close()";
        must(&c, "root", victim).await;
        let mut command = c.command("python3");
        let mut child = command.args(["-c", exchange]).user(user).spawn().await.unwrap();
        let mut up = [0; 3];
        let stdout = child.stdout.as_mut().unwrap();
        tokio::io::AsyncReadExt::read_exact(stdout, &mut up).await.unwrap();
        for _ in 0..300 {
            // Most of these calls fail, since a link is usually in the way.
            let _ = c.wipe(&["/tmp/job/out"]).await;
        }
        let _ = child.kill().await.unwrap();
        drop(child);
        c.wipe(&["/tmp"]).await.unwrap();
        let script = "import os\nprint(sorted(os.listdir('/victim/out')), os.listdir('/victim/out/in'), \
                      *(oct(os.stat(p).st_mode) for p in ('/victim', '/victim/out', '/victim/out/in')))";
        let left = must(&c, "root", script).await;
        assert_eq!(
            left, "['file', 'in'] ['file'] 0o40755 0o40755 0o40755\n",
            "{way:?} {user}"
        );
        assert!(works(&c).await, "{way:?} {user}");
        must(&c, "root", "import shutil\nshutil.rmtree('/victim')").await;
        lease_is_sound(pool, c, &format!("{way:?} {user}")).await;
    })
    .await;
}
