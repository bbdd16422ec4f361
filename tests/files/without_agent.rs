//! Containers without the agent: the image's `tar` carries contents and trees, and everything else says what is missing.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use dockerpool::testing::{Answer, Call, FakeEngine, FakeProcess};
use dockerpool::{Error, ExecVia, FileLimits, Pool, PoolBuilder, SkipReason};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use crate::support::{self, python, with_container};
use crate::{kind, sh};

fn pool() -> PoolBuilder {
    support::pool("files").exec_via(ExecVia::Docker)
}

#[tokio::test]
async fn the_images_tar_carries_contents_and_trees() {
    // That of busybox, and GNU's.
    for image in [support::busybox(), python()] {
        with_container(pool().image(image), async |c| {
            let files = c.files();
            files.clone().mode(0o750).write("/tmp/a", "hello").await.unwrap();
            assert_eq!(sh(c, "cat /tmp/a; stat -c ' %a' /tmp/a").await, "hello 750\n");
            assert_eq!(files.read_to_vec("/tmp/a").await.unwrap(), b"hello");
            for size in [0, 1, 511, 512, 513, 300_000] {
                let data: Vec<u8> = (0..size).map(|i: u32| (i ^ (i >> 8)) as u8).collect();
                files.write("/tmp/b", &data).await.unwrap();
                assert!(files.read_to_vec("/tmp/b").await.unwrap() == data, "{size}");
                files.write_from("/tmp/c", &mut &data[..]).await.unwrap();
                assert!(files.read_to_vec("/tmp/c").await.unwrap() == data, "{size}");
            }
            files.clone().create_parents().write("/tmp/p/q/x", "x").await.unwrap();
            assert_eq!(sh(c, "cat /tmp/p/q/x").await, "x");

            let long = "n".repeat(200);
            sh(
                c,
                &format!("mkdir -p /t/d/{long}/e /t/empty; cd /t; echo 1 >d/one; echo 2 >d/{long}/e/two; ln -s ../one d/{long}/link; ln -s /etc evil; ln -s {long} d/long; mkfifo fifo; chmod 4755 d/one"),
            )
            .await;
            let host = tempfile::tempdir().unwrap();
            let target = host.path().join("t");
            let done = files.download_dir("/t", &target).await.unwrap();
            assert_eq!((done.files, done.dirs, done.links, done.skipped_count), (2, 4, 2, 2), "{done:?}");
            let reasons: Vec<_> = done.skipped.iter().map(|skipped| skipped.reason).collect();
            assert!(reasons.contains(&SkipReason::Special) && reasons.contains(&SkipReason::LinkOutside), "{done:?}");
            assert_eq!(std::fs::read(target.join("d").join(&long).join("e/two")).unwrap(), b"2\n");

            let back = files.upload_dir(&target, "/tmp/back").await.unwrap();
            assert_eq!((back.files, back.dirs, back.links, back.skipped_count), (2, 4, 2, 0), "{back:?}");
            assert_eq!(sh(c, &format!("cat /tmp/back/d/{long}/e/two /tmp/back/d/{long}/../one; readlink /tmp/back/d/long")).await, format!("2\n1\n{long}\n"));

            // Limits and failures are errors here too.
            let small = files.clone().limits(FileLimits { bytes: 1000, ..FileLimits::default() });
            assert_eq!(kind(small.read("/tmp/b").await), ErrorKind::FileTooLarge);
            assert_eq!(kind(small.write_from("/tmp/z", &mut tokio::io::repeat(1)).await), ErrorKind::FileTooLarge);
        })
        .await;
    }
}

#[tokio::test]
async fn what_tar_cannot_do_is_an_error() {
    with_container(pool(), async |c| {
        let files = c.files();
        assert_eq!(kind(files.read_to_vec("/tmp/none").await), ErrorKind::ConnectionAborted);
        assert_eq!(kind(files.read_to_vec("/tmp").await), ErrorKind::IsADirectory);
        assert_eq!(kind(files.read_to_vec("/dev/null").await), ErrorKind::Unsupported);
        // The caller's mistake has not cost the container.
        assert_eq!(c.taint(), None);
        assert_eq!(
            kind(files.write("/no/such/dir", "x").await),
            ErrorKind::ConnectionAborted
        );
        assert_eq!(kind(files.write("x", "x").await), ErrorKind::InvalidInput);
        for result in [
            files.list("/").await.map(drop),
            files.metadata("/").await.map(drop),
            files.rename("/tmp/a", "/tmp/b").await,
            files.remove("/tmp/a").await,
            files.remove_dir_all("/tmp").await,
            files.create_dir("/tmp/a").await,
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
            assert!(error.to_string().contains("ExecVia"), "{error}");
        }
    })
    .await;
}

#[tokio::test]
async fn without_agent_and_tar_each_call_says_so() {
    with_container(pool(), async |c| {
        sh(c, "rm $(which tar)").await;
        let files = c.files();
        let host = tempfile::tempdir().unwrap();
        for result in [
            files.write("/tmp/x", "x").await,
            files.read_to_vec("/etc/passwd").await.map(drop),
            files.upload_dir(host.path(), "/tmp").await.map(drop),
            files.download_dir("/etc", host.path()).await.map(drop),
        ] {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
            assert!(error.to_string().contains("tar"), "{error}");
        }
    })
    .await;
}

/// On the engine in memory, where `tar` does not end: neither what is read from, nor `mkdir` before it, adds to the time.
#[tokio::test(start_paused = true)]
async fn the_time_of_a_call_is_that_of_all_its_parts() {
    const TIME: Duration = Duration::from_secs(10);

    let engine = FakeEngine::new();
    engine.on_exec(|request| match request.argv[0].as_str() {
        "mkdir" => FakeProcess::exit(0),
        _ => FakeProcess::forever(),
    });
    let pool = Pool::builder("files")
        .tokio_runtime(Handle::current())
        .image("any")
        .engine(Arc::new(engine.clone()))
        .engine_timeout(TIME * 2);
    let pool = pool.build().await.unwrap();
    let limits = FileLimits {
        time: Some(TIME),
        ..FileLimits::default()
    };

    let c = pool.acquire().await.unwrap();
    let (_writer, mut silent) = tokio::io::duplex(16);
    let begun = Instant::now();
    let files = c.files().limits(limits);
    let written = timeout(TIME * 10, files.write_from("/tmp/x", &mut silent)).await;
    assert_eq!(kind(written.expect("it ends")), ErrorKind::TimedOut);
    assert_eq!(begun.elapsed().as_secs(), TIME.as_secs());

    let slow = TIME * 9 / 10;
    for parts in ["reader", "mkdir"] {
        let c = pool.acquire().await.unwrap();
        let files = c.files().limits(limits).create_parents();
        let begun = Instant::now();
        let written = match parts {
            "reader" => {
                let (mut writer, mut reader) = tokio::io::duplex(16);
                let late = async {
                    tokio::time::sleep(slow).await;
                    tokio::io::AsyncWriteExt::write_all(&mut writer, b"x").await.unwrap();
                    drop(writer);
                };
                tokio::join!(files.write_from("/tmp/x", &mut reader), late).0
            }
            _ => {
                engine.answer_once(Call::Exec, Answer::After(slow));
                files.write("/tmp/x", "x").await
            }
        };
        assert_eq!(kind(written), ErrorKind::TimedOut, "{parts}");
        assert_eq!(begun.elapsed().as_secs(), TIME.as_secs(), "{parts}");
    }
}
