//! Each call, its errors and its limits.

use std::io::ErrorKind;
use std::time::Duration;

use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{Error, FileLimits, FileType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::with_container;
use crate::{kind, pool, sh, with_agent};

fn limits(change: impl FnOnce(&mut FileLimits)) -> FileLimits {
    let mut limits = FileLimits::default();
    change(&mut limits);
    limits
}

#[tokio::test]
async fn what_is_written_is_there_and_is_read_again() {
    with_agent(async |c| {
        let files = c.files();
        files.write("/tmp/a", "hello").await.unwrap();
        assert_eq!(sh(c, "cat /tmp/a; stat -c ' %a %u' /tmp/a").await, "hello 644 0\n");
        files.write("/tmp/a", "").await.unwrap();
        assert_eq!(files.read_to_vec("/tmp/a").await.unwrap(), b"");
        // Sizes around those of frames, pipes and the offer of a pipe.
        for size in [1, 4096, 65_530, 65_536, 65_537, 131_072, 1 << 20, 3_000_001] {
            let data: Vec<u8> = (0..size).map(|i: u32| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
            files.write("/tmp/b", &data).await.unwrap();
            assert!(files.read_to_vec("/tmp/b").await.unwrap() == data, "{size}");
            files.write_from("/tmp/c", &mut &data[..]).await.unwrap();
            assert_eq!(sh(c, "cmp /tmp/b /tmp/c && wc -c </tmp/c").await, format!("{size}\n"));
        }
        let mut reader = files.read("/proc/self/status").await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        assert!(text.contains("Pid:"), "a file of the kernel's has no size: {text}");
        assert!(!format!("{reader:?}").contains("Pid:"));
    })
    .await;
}

/// As where the socket of the agent cannot be used.
#[tokio::test]
async fn contents_go_through_the_engine_alone_too() {
    with_container(pool("files").without_agent_socket(), async |c| {
        let files = c.files();
        let data: Vec<u8> = (0..3_000_001).map(|i: u32| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect();
        files.write("/tmp/a", &data).await.unwrap();
        assert!(files.read_to_vec("/tmp/a").await.unwrap() == data);
        let host = tempfile::tempdir().unwrap();
        assert_eq!(files.download_dir("/tmp", host.path()).await.unwrap().bytes, 3_000_001);
        assert_eq!(files.upload_dir(host.path(), "/tmp/b").await.unwrap().files, 1);
        assert_eq!(sh(c, "cmp /tmp/a /tmp/b/a && echo same").await, "same\n");
        assert_eq!(c.taint(), None);
    })
    .await;
}

/// Of several commands at once, with as many servers as there are places for commands, and more.
#[tokio::test]
async fn many_calls_at_once_wait_in_line() {
    with_agent(async |c| {
        let calls = (0..100).map(async |i| {
            let path = format!("/tmp/{i}");
            c.files().write(&path, vec![i as u8; 100_000]).await.unwrap();
            assert!(c.files().read_to_vec(&path).await.unwrap() == vec![i as u8; 100_000]);
        });
        futures_util::future::join_all(calls).await;
        assert_eq!(c.files().list("/tmp").await.unwrap().len(), 100);
    })
    .await;
}

#[tokio::test]
async fn rights_users_and_parents_are_as_asked_for() {
    with_agent(async |c| {
        let files = c.files();
        files
            .clone()
            .mode(0o750)
            .write("/tmp/run", "#!/bin/sh\necho ran")
            .await
            .unwrap();
        assert_eq!(sh(c, "/tmp/run; stat -c %a /tmp/run").await, "ran\n750\n");
        assert_eq!(kind(files.write("/tmp/no/such/dir/x", "x").await), ErrorKind::NotFound);
        files
            .clone()
            .create_parents()
            .write("/tmp/no/such/dir/x", "x")
            .await
            .unwrap();
        assert_eq!(sh(c, "cat /tmp/no/such/dir/x").await, "x");
        let makes = files.clone().create_parents();
        for result in [
            makes.metadata("/tmp/none/x").await.map(drop),
            makes.list("/tmp/none/x").await.map(drop),
            makes.read("/tmp/none/x").await.map(drop),
            makes.remove("/tmp/none/x").await,
            makes.rename("/tmp/none/x", "/tmp/other/x").await,
        ] {
            assert_eq!(kind(result), ErrorKind::NotFound);
        }
        assert_eq!(kind(files.metadata("/tmp/none").await), ErrorKind::NotFound);
        files.create_dir_all("/tmp/p/q/r/").await.unwrap();
        files.create_dir_all("/tmp/p/q/r").await.unwrap();
        assert_eq!(kind(files.create_dir("/tmp/p").await), ErrorKind::AlreadyExists);
        files.clone().mode(0o700).create_dir("/tmp/own").await.unwrap();
        assert_eq!(sh(c, "stat -c %a /tmp/own").await, "700\n");
        // A file in the way is no directory.
        assert!(matches!(
            kind(files.create_dir_all("/tmp/run").await),
            ErrorKind::NotADirectory | ErrorKind::AlreadyExists
        ));

        let other = files.clone().user("1000:1000");
        other.write("/tmp/theirs", "x").await.unwrap();
        assert_eq!(sh(c, "stat -c '%u %g' /tmp/theirs").await, "1000 1000\n");
        for denied in [
            other.write("/tmp/own/x", "x").await,
            other.write("/tmp/run", "x").await,
            other.read_to_vec("/tmp/own/x").await.map(drop),
            other.create_dir("/root/x").await,
            other.remove("/tmp/own/x").await,
        ] {
            assert_eq!(kind(denied), ErrorKind::PermissionDenied);
        }
        let error = files.clone().user("nobody-here").write("/tmp/x", "").await.unwrap_err();
        assert!(matches!(error, Error::CannotStart { .. }), "{error}");
        assert!(error.to_string().contains("nobody-here"), "{error}");
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn metadata_and_lists_are_of_the_entries_themselves_whatever_their_names() {
    with_agent(async |c| {
        let files = c.files();
        sh(
            c,
            r#"mkdir /tmp/d; cd /tmp/d; printf 1234 >file; chmod 4751 file; chown 7:8 file; touch -d @86400 file
               ln -s /no/such link; mkfifo fifo; mkdir sub; touch "$(printf 'new\nline')" "$(printf '\377\376')" -- -rf ' '"#,
        )
        .await;
        let entries = files.list("/tmp/d").await.unwrap();
        let names: Vec<&[u8]> = entries.iter().map(|entry| &entry.name[..]).collect();
        assert_eq!(names, [&b" "[..], b"-rf", b"fifo", b"file", b"link", b"new\nline", b"sub", b"\xff\xfe"]);
        let of = |name: &str| entries.iter().find(|entry| entry.name == name.as_bytes()).unwrap().metadata;
        let file = of("file");
        assert_eq!((file.file_type, file.size, file.mode & 0o777), (FileType::File, 4, 0o751));
        assert_eq!((file.uid, file.gid), (7, 8));
        assert_eq!(file.modified.duration_since(std::time::UNIX_EPOCH).unwrap(), Duration::from_secs(86_400));
        assert!(of("link").is_symlink() && of("sub").is_dir() && of("fifo").file_type == FileType::Special);
        assert_eq!(files.metadata("/tmp/d/file").await.unwrap(), file);
        assert!(files.metadata("/tmp/d/link").await.unwrap().is_symlink());
        assert!(files.metadata(b"/tmp/d/\xff\xfe").await.unwrap().is_file());
        assert!(files.list("/tmp/d/sub").await.unwrap().is_empty());
        assert_eq!(kind(files.list("/tmp/d/file").await), ErrorKind::NotADirectory);
        assert_eq!(kind(files.metadata("/tmp/d/none").await), ErrorKind::NotFound);

        let few = files.clone().limits(limits(|limits| limits.entries = 7));
        assert_eq!(kind(few.list("/tmp/d").await), ErrorKind::QuotaExceeded);
        let enough = files.clone().limits(limits(|limits| limits.entries = 8));
        assert_eq!(enough.list("/tmp/d").await.unwrap().len(), 8);
    })
    .await;
}

/// The names can be read, and nothing of what they name.
#[tokio::test]
async fn a_directory_whose_entries_cannot_be_looked_at_is_an_error_and_not_empty() {
    with_container(pool("files"), async |c| {
        sh(
            c,
            "mkdir -p /tmp/t/closed; echo x >/tmp/t/closed/x; chmod 744 /tmp/t/closed",
        )
        .await;
        let files = c.files().user("1000:1000");
        assert_eq!(sh(c, "stat -c %a /tmp/t/closed").await, "744\n");
        assert_eq!(kind(files.list("/tmp/t/closed").await), ErrorKind::PermissionDenied);
        let host = tempfile::tempdir().unwrap();
        let done = files.download_dir("/tmp/t", host.path().join("t")).await;
        assert_eq!(kind(done), ErrorKind::PermissionDenied);
        assert_eq!(c.files().list("/tmp/t/closed").await.unwrap().len(), 1);
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn files_and_trees_are_renamed_and_removed() {
    with_agent(async |c| {
        let files = c.files();
        sh(c, "mkdir -p /tmp/d/e/f; echo 1 >/tmp/d/a; echo 2 >/tmp/b; mkdir /tmp/keep; touch /tmp/keep/it; ln -s /tmp/keep /tmp/d/link").await;
        files.rename("/tmp/d/a", "/tmp/b").await.unwrap();
        assert_eq!(sh(c, "cat /tmp/b").await, "1\n");
        assert_eq!(kind(files.rename("/tmp/none", "/tmp/b").await), ErrorKind::NotFound);
        assert_eq!(kind(files.rename("/tmp/b", "/dev/shm/b").await), ErrorKind::CrossesDevices);
        files.remove("/tmp/b").await.unwrap();
        assert_eq!(kind(files.remove("/tmp/b").await), ErrorKind::NotFound);
        assert_eq!(kind(files.remove("/tmp/d").await), ErrorKind::IsADirectory);
        sh(c, "chmod 0 /tmp/d/e/f /tmp/d/e /tmp/d").await;
        files.remove_dir_all("/tmp/d").await.unwrap();
        assert_eq!(sh(c, "ls /tmp /tmp/keep").await, "/tmp:\nkeep\n\n/tmp/keep:\nit\n");
        files.remove_dir_all("/tmp/keep/it").await.unwrap();
        assert_eq!(kind(files.remove_dir_all("/tmp/d").await), ErrorKind::NotFound);
        // Deeper than file descriptors or paths reach.
        let user = files.user("1000");
        sh(c, "mkdir -m 777 /tmp/u; for i in $(seq 2500); do mkdir d; cd d; done; chown -R 1000 /tmp/u 2>/dev/null; true").await;
        user.remove_dir_all("/tmp/u/d").await.ok();
        user.create_dir_all("/tmp/u/x/y").await.unwrap();
        user.remove_dir_all("/tmp/u/x").await.unwrap();
        assert_eq!(sh(c, "ls /tmp/u").await, "");
    })
    .await;
}

#[tokio::test]
async fn paths_and_files_that_cannot_be_meant_are_refused_without_a_wait() {
    with_agent(async |c| {
        let files = c.files();
        for path in ["", "x", "./x", "../x", "~/x", "/a\0b"] {
            assert_eq!(kind(files.write(path, "x").await), ErrorKind::InvalidInput, "{path:?}");
            assert_eq!(
                kind(files.rename("/tmp", path).await),
                ErrorKind::InvalidInput,
                "{path:?}"
            );
        }
        assert_eq!(kind(files.read("/".repeat(4096)).await), ErrorKind::InvalidInput);
        assert_eq!(
            kind(files.write(format!("/tmp/{}", "n".repeat(256)), "").await),
            ErrorKind::InvalidFilename
        );
        sh(
            c,
            "mkfifo /tmp/fifo; ln -s /tmp/fifo /tmp/to-fifo; ln -s loop /tmp/loop",
        )
        .await;
        for path in ["/tmp/fifo", "/tmp/to-fifo", "/dev/null", "/dev/zero"] {
            assert_eq!(kind(files.read(path).await), ErrorKind::Unsupported, "{path}");
        }
        assert_eq!(kind(files.read("/tmp").await), ErrorKind::IsADirectory);
        assert_eq!(kind(files.write("/tmp", "").await), ErrorKind::IsADirectory);
        assert!(files.write("/tmp/fifo", "x").await.is_err());
        assert_eq!(kind(files.write("/dev/null", "x").await), ErrorKind::Unsupported);
        assert!(files.read("/tmp/loop").await.is_err());
        assert_eq!(kind(files.write("/proc/self/x", "x").await), ErrorKind::NotFound);
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn limits_of_bytes_hold_in_both_directions_and_leave_the_container_usable() {
    with_agent(async |c| {
        let files = c.files().limits(limits(|limits| limits.bytes = 1000));
        files.write("/tmp/a", vec![1; 1000]).await.unwrap();
        assert_eq!(files.read_to_vec("/tmp/a").await.unwrap().len(), 1000);
        assert_eq!(
            kind(files.write("/tmp/b", vec![1; 1001]).await),
            ErrorKind::FileTooLarge
        );
        assert_eq!(kind(files.metadata("/tmp/b").await), ErrorKind::NotFound);
        assert_eq!(
            kind(files.write_from("/tmp/b", &mut tokio::io::repeat(1)).await),
            ErrorKind::FileTooLarge
        );
        sh(c, "head -c 1001 /dev/zero >/tmp/c").await;
        assert_eq!(kind(files.read("/tmp/c").await), ErrorKind::FileTooLarge);
        // A sparse file of many terabytes is refused by its size, and one without a size when more comes.
        sh(c, "truncate -s 7000G /tmp/sparse").await;
        assert_eq!(
            kind(c.files().read_to_vec("/tmp/sparse").await),
            ErrorKind::FileTooLarge
        );
        assert_eq!(
            kind(
                c.files()
                    .limits(limits(|limits| limits.bytes = 100))
                    .read_to_vec("/proc/self/mountinfo")
                    .await
            ),
            ErrorKind::FileTooLarge
        );
        // There is no end after that.
        let few = c.files().limits(limits(|limits| limits.bytes = 100));
        let mut reader = few.read("/proc/self/status").await.unwrap();
        for _ in 0..3 {
            let error = reader.read(&mut [0; 10]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        }
        drop(reader);
        let out = c.exec(["echo", "still here"]).await.unwrap();
        assert_eq!(out.stdout_lossy(), "still here\n");
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_and_a_limit_of_file_sizes_are_errors() {
    let builder = pool("files").tmpfs("/small", 64 << 10);
    with_container(builder, async |c| {
        let files = c.files();
        assert_eq!(
            kind(files.write("/small/x", vec![0; 1 << 20]).await),
            ErrorKind::StorageFull
        );
        assert_eq!(
            kind(files.write_from("/small/y", &mut tokio::io::repeat(0)).await),
            ErrorKind::StorageFull
        );
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn the_time_of_a_call_is_limited() {
    with_agent(async |c| {
        let files = c
            .files()
            .limits(limits(|limits| limits.time = Some(Duration::from_millis(200))));
        let (mut never, reader) = tokio::io::duplex(10);
        never.write_all(b"x").await.unwrap();
        let mut reader = reader;
        let result = tokio::time::timeout(Duration::from_secs(100), files.write_from("/tmp/x", &mut reader));
        let error = result.await.unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn contents_are_in_no_error_and_no_debug() {
    with_agent(async |c| {
        let files = c.files().limits(limits(|limits| limits.bytes = 10));
        let error = files.write("/tmp/a", "the-secret-contents").await.unwrap_err();
        assert!(!format!("{error} {error:?} {files:?}").contains("secret"), "{error:?}");
        files.write("/tmp/a", "secret").await.unwrap();
        let mut reader = files.read("/tmp/a").await.unwrap();
        let mut one = [0; 1];
        reader.read_exact(&mut one).await.unwrap();
        assert!(!format!("{reader:?}").contains("ecret"), "{reader:?}");
    })
    .await;
}
