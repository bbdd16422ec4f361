//! What processes of the container can do to a running transfer: nothing but end it, with an error that says so.

use std::io::ErrorKind;
use std::time::Duration;

use dockerpool::{Child, Command, Error, ExecVia, FileLimits, Reuse};
use tokio::io::AsyncReadExt;

use crate::support::{eventually, python, with_container};
use crate::{pool, sh, with_agent};

const USER: &str = "1000:1000";

/// Starts a command that prints `ready` first, and waits for that.
async fn begin<'c>(command: &mut Command<'c>) -> Child<'c> {
    let mut child = command.spawn().await.unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    assert_eq!(&ready, b"ready\n");
    child
}

#[tokio::test]
async fn a_server_that_is_killed_by_its_own_user_is_an_error_and_no_short_file() {
    with_agent(async |c| {
        let size = 4_000_000;
        sh(c, &format!("head -c {size} /dev/zero >/tmp/large")).await;
        let mut killer = begin(
            c.command("sh")
                .user(USER)
                .args(["-c", "echo ready; while :; do kill -9 -1; done 2>/dev/null"]),
        )
        .await;
        let files = c.files().user(USER);
        let mut killed = 0;
        for i in 0..50 {
            match files.read_to_vec("/tmp/large").await {
                Ok(data) => assert_eq!(data.len(), size),
                Err(Error::File { source, .. }) => {
                    assert_eq!(source.kind(), ErrorKind::ConnectionAborted, "{source}");
                    killed += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
            match files.write(format!("/tmp/w{i}"), vec![1; 300_000]).await {
                Ok(()) => assert_eq!(c.files().metadata(format!("/tmp/w{i}")).await.unwrap().size, 300_000),
                Err(Error::File { source, .. }) => {
                    assert_eq!(source.kind(), ErrorKind::ConnectionAborted, "{source}");
                    killed += 1;
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(killed > 0, "the loop hits at least one of a hundred calls");
        let _ = killer.kill().await.unwrap();
        assert_eq!(files.read_to_vec("/tmp/large").await.unwrap().len(), size);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_stopped_is_ended_by_the_limit_of_time() {
    with_agent(async |c| {
        sh(c, "head -c 4000000 /dev/zero >/tmp/large").await;
        let files = c.files().user(USER).limits(FileLimits {
            time: Some(Duration::from_secs(2)),
            ..FileLimits::default()
        });
        // It waits for its reader, and is stopped meanwhile.
        let mut reader = files.read("/tmp/large").await.unwrap();
        let stopped = c
            .command("kill")
            .user(USER)
            .args(["-STOP", "-1"])
            .output()
            .await
            .unwrap();
        assert!(stopped.status.success(), "{stopped:?}");
        let mut data = Vec::new();
        let error = reader.read_to_end(&mut data).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        drop(reader);
        assert_eq!(files.read_to_vec("/tmp/large").await.unwrap().len(), 4_000_000);
        assert_eq!(c.taint(), None);
    })
    .await;
}

/// A watch has no limit of time once it stands. Until then it has that of any call.
#[tokio::test]
async fn a_watch_that_is_stopped_before_it_stands_is_ended_by_the_limit_of_time() {
    with_container(pool("files"), async |c| {
        let mut stopper = begin(
            c.command("sh")
                .user(USER)
                .args(["-c", "echo ready; while :; do kill -STOP -1; done 2>/dev/null"]),
        )
        .await;
        let files = c.files().user(USER).limits(FileLimits {
            time: Some(Duration::from_secs(1)),
            ..FileLimits::default()
        });
        let stopped = async {
            loop {
                // A watch that stands was not stopped in time.
                if let Err(error) = files.watch("/tmp").await {
                    return error;
                }
            }
        };
        let error = tokio::time::timeout(Duration::from_secs(60), stopped).await;
        let error = error.expect("the watch is ended");
        assert!(error.is_timeout(), "{error:?}");
        let _ = stopper.kill().await.unwrap();
        let mut watch = files.watch("/tmp").await.unwrap();
        sh(c, ": >/tmp/x").await;
        assert_eq!(watch.next().await.unwrap().unwrap().name, "x");
        drop(watch);
        eventually("nothing is left", async || c.process_count().await.unwrap() == 0).await;
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn files_that_are_truncated_removed_or_replaced_while_they_are_read_end() {
    with_agent(async |c| {
        let mut hostile = begin(c
            .command("sh")
            .args([
                "-c",
                "cd /tmp; echo ready; while :; do head -c 2000000 /dev/zero >f; : >f; rm f; ln -s /dev/zero f; rm f; mkfifo f; rm f; mkdir f; rmdir f; done 2>/dev/null",
            ])).await;
        for _ in 0..100 {
            match c.files().read_to_vec("/tmp/f").await {
                Ok(data) => assert!(data.len() <= 2_000_001, "{}", data.len()),
                Err(Error::File { source, .. }) => assert!(
                    matches!(source.kind(), ErrorKind::NotFound | ErrorKind::Unsupported | ErrorKind::IsADirectory),
                    "{source}"
                ),
                Err(error) => panic!("{error:?}"),
            }
            let _ = c.files().write("/tmp/f", "x").await;
        }
        let _ = hostile.kill().await.unwrap();
        // A file that grows for ever has no end, and is ended by the limit.
        let mut endless = begin(c.command("sh").args(["-c", "echo ready; exec cat /dev/zero >/tmp/endless"])).await;
        let few = FileLimits { bytes: 1_000_000, ..FileLimits::default() };
        let error = c.files().limits(few).read_to_vec("/tmp/endless").await;
        let _ = endless.kill().await.unwrap();
        assert!(error.is_err() || error.unwrap().len() <= 1_000_000);
        assert_eq!(c.taint(), None);
    })
    .await;
}

/// The server is a copy of PID 1, whose memory has other commands' contents.
#[tokio::test]
async fn the_memory_and_the_streams_of_a_server_are_closed_to_its_own_user_and_to_root() {
    with_container(pool("files").image(python()), async |c| {
        sh(c, "head -c 8000000 /dev/zero >/tmp/large").await;
        for user in ["0:0", USER] {
            let reader = c.files().user(user).read("/tmp/large").await.unwrap();
            let script = r#"
import os, ctypes
me, found, opened = os.getpid(), 0, []
for pid in filter(str.isdigit, os.listdir("/proc")):
    pid = int(pid)
    if pid in (1, me, os.getppid()):
        continue
    found += 1
    for name in ("mem", "environ", "maps", "fd/0", "fd/1", "cwd/.", "root/."):
        try:
            os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_NONBLOCK)
            opened.append(name)
        except OSError:
            pass
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(16, pid, 0, 0) == 0:
        opened.append("ptrace")
print(found, opened)
"#;
            let out = c
                .command("python3")
                .user(user)
                .args(["-c", script])
                .output()
                .await
                .unwrap();
            assert_eq!(out.stdout_lossy(), "1 []\n", "as {user}: {out:?}");
            drop(reader);
        }
    })
    .await;
}

#[tokio::test]
async fn a_container_with_transfers_is_cleaned_and_lent_again() {
    let pool = pool("files")
        .exec_via(ExecVia::Auto)
        .reuse(Reuse::Clean)
        .max_total(1)
        .build()
        .await
        .unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let c = pool.acquire().await.unwrap();
        ids.insert(c.id().to_owned());
        assert!(c.files().list("/tmp").await.unwrap().is_empty());
        c.files().write("/tmp/left", "x").await.unwrap();
        // One that has not ended when the lease does.
        let data = vec![0; 5_000_000];
        c.files().write("/tmp/large", &data).await.unwrap();
        assert_eq!(c.files().read_to_vec("/tmp/large").await.unwrap().len(), data.len());
    }
    assert_eq!(ids.len(), 1, "{:?}", pool.last_unclean());
    pool.shutdown().await.unwrap();
}
