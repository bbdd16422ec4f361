//! Copies of whole trees, with hostile ones: nothing outside of the directory of this machine is written, followed or read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dockerpool::{FileLimits, PooledContainer, SkipReason, Transfer};
use tempfile::TempDir;

use crate::support::with_container;
use crate::{kind, pool, sh, with_agent};

/// Contents that must not get from one side to the other.
const SECRET: &str = "the secret of the outside";

/// A directory of this machine with a target for downloads, and beside it what must stay as it is.
struct Sandbox {
    root: TempDir,
    before: BTreeMap<PathBuf, String>,
}

impl Sandbox {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("outside/dir")).unwrap();
        std::fs::write(root.path().join("outside/secret"), SECRET).unwrap();
        std::fs::create_dir(root.path().join("target")).unwrap();
        let before = outside(root.path());
        Self { root, before }
    }

    fn target(&self) -> PathBuf {
        self.root.path().join("target")
    }

    /// Asserts that nothing has changed but in the target, and that all links in the target lead to places within it.
    fn assert_whole(&self) {
        assert_eq!(outside(self.root.path()), self.before);
        let target = std::fs::canonicalize(self.target()).unwrap();
        for path in tree(&target) {
            let stat = std::fs::symlink_metadata(&path).unwrap();
            assert_eq!(stat.mode() & 0o7000, 0, "{path:?}");
            assert!(stat.is_dir() || stat.is_file() || stat.is_symlink(), "{path:?}");
            if stat.is_symlink()
                && let Ok(real) = std::fs::canonicalize(&path)
            {
                assert!(real.starts_with(&target), "{path:?} leads to {real:?}");
            }
            if stat.is_file() && stat.size() < 1 << 20 {
                let contents = std::fs::read(&path).unwrap();
                assert!(!String::from_utf8_lossy(&contents).contains(SECRET), "{path:?}");
            }
        }
    }
}

/// Returns everything in a directory, without following links.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found
}

/// Returns what is beside the target, with attributes and contents.
fn outside(root: &Path) -> BTreeMap<PathBuf, String> {
    let beside = tree(root)
        .into_iter()
        .filter(|path| !path.starts_with(root.join("target/")));
    beside
        .filter(|path| path != &root.join("target"))
        .map(|path| {
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let contents = std::fs::read(&path).unwrap_or_default();
            let seen = format!(
                "{:o} {} {} {:?}",
                stat.mode(),
                stat.nlink(),
                stat.mtime_nsec(),
                contents
            );
            (path, seen)
        })
        .collect()
}

fn generous() -> FileLimits {
    FileLimits {
        bytes: 256 << 20,
        entries: 1_000_000,
        ..FileLimits::default()
    }
}

fn reasons(transfer: &Transfer) -> BTreeMap<String, SkipReason> {
    let skipped = transfer.skipped.iter();
    skipped
        .map(|entry| (String::from_utf8_lossy(&entry.path).into_owned(), entry.reason))
        .collect()
}

#[tokio::test]
async fn a_tree_goes_in_and_comes_out_as_it_was() {
    with_agent(async |c| {
        let host = tempfile::tempdir().unwrap();
        let at = |name: &str| host.path().join(name);
        std::fs::create_dir_all(at("a/b/empty")).unwrap();
        std::fs::write(at("a/one"), "1").unwrap();
        std::fs::write(at("a/b/large"), vec![b'x'; 3_000_000]).unwrap();
        std::fs::write(at("none"), "").unwrap();
        std::fs::write(at("run"), "#!/bin/sh\necho ran\n").unwrap();
        std::fs::set_permissions(at("run"), PermissionsExt::from_mode(0o4755)).unwrap();
        std::fs::set_permissions(at("a/b/empty"), PermissionsExt::from_mode(0o700)).unwrap();
        symlink("../one", at("a/b/link")).unwrap();
        symlink("a/b", at("dir-link")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        for name in [&b"new\nline"[..], b"\xff\xfe", b"-rf", b" "] {
            std::fs::write(host.path().join(OsString::from_vec(name.to_vec())), name).unwrap();
        }
        let files = c.files();
        let done = files.upload_dir(host.path(), "/tmp/up").await.unwrap();
        assert_eq!(
            (done.files, done.dirs, done.links, done.skipped_count),
            (8, 3, 3, 0),
            "{done:?}"
        );
        assert_eq!(done.bytes, 1 + 3_000_000 + 19 + 8 + 2 + 3 + 1);
        assert_eq!(
            sh(
                c,
                "/tmp/up/run; cat /tmp/up/a/b/link; stat -c %a /tmp/up/run /tmp/up/a/b/empty"
            )
            .await,
            "ran\n1755\n700\n"
        );

        let back = tempfile::tempdir().unwrap();
        let target = back.path().join("made");
        let done = files.download_dir("/tmp/up", &target).await.unwrap();
        assert_eq!(
            (done.files, done.dirs, done.links, done.skipped_count),
            (8, 3, 3, 0),
            "{done:?}"
        );
        let named = |root: &Path| {
            let mut all: Vec<_> = tree(root)
                .into_iter()
                .map(|path| path.strip_prefix(root).unwrap().to_owned())
                .collect();
            all.sort();
            all
        };
        assert_eq!(named(host.path()), named(&target));
        for path in named(&target) {
            let (was, is) = (host.path().join(&path), target.join(&path));
            let (stat, now) = (
                std::fs::symlink_metadata(&was).unwrap(),
                std::fs::symlink_metadata(&is).unwrap(),
            );
            assert_eq!(stat.file_type(), now.file_type(), "{path:?}");
            if stat.is_symlink() {
                assert_eq!(std::fs::read_link(was).unwrap(), std::fs::read_link(is).unwrap());
            } else {
                assert_eq!(stat.mode() & 0o777, now.mode() & 0o777, "{path:?}");
                assert!(
                    stat.is_dir() || std::fs::read(was).unwrap() == std::fs::read(is).unwrap(),
                    "{path:?}"
                );
            }
        }

        // Once more over what is there.
        std::fs::write(at("a/one"), "2").unwrap();
        assert_eq!(files.upload_dir(host.path(), "/tmp/up").await.unwrap(), done);
        assert_eq!(sh(c, "cat /tmp/up/a/one").await, "2");
        assert_eq!(
            kind(files.download_dir("/tmp/up", &target).await),
            ErrorKind::DirectoryNotEmpty
        );
        assert_eq!(
            kind(files.download_dir("/tmp/none", back.path().join("x")).await),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind(files.upload_dir(back.path().join("none"), "/tmp/up").await),
            ErrorKind::NotFound
        );
        assert_eq!(
            kind(files.upload_dir(host.path(), "/tmp/no/such").await),
            ErrorKind::NotFound
        );
        let files = files.create_parents();
        assert_eq!(files.upload_dir(host.path(), "/tmp/no/such").await.unwrap(), done);
        assert_eq!(c.taint(), None);
    })
    .await;
}

/// Each is a tree that a container could make to get out of the target, to be read with more than it has, or to be too much.
#[tokio::test]
async fn no_tree_of_a_container_gets_out_of_the_target() {
    with_container(pool("files").cap_add("MKNOD"), async |c| {
        let sandbox = Sandbox::new();
        let outside = sandbox.root.path().join("outside");
        let outside = outside.to_str().unwrap();
        let script = format!(
            r#"mkdir -p /t/deep/er/x /t/s; cd /t
               ln -s {outside} abs-dir; ln -s {outside}/secret abs-file; ln -s / root; ln -s /etc/passwd passwd
               ln -s .. up; ln -s ../outside/secret rel; ln -s ../../outside deep/out; ln -s ../../../outside deep/er/out
               ln -s deep/er/../../../outside hidden; ln -s ../.. deep/er/top; ln -s deep/er/top/../outside by-link
               ln -s deep/er/top/outside stays; ln -s ./../outside dot; ln -s //etc slashes; ln -s ../deep deep/same
               ln -s loop loop; ln -s "$(printf 'a\nb')" newline; ln -s . self
               mkfifo fifo; mknod null c 1 3 && mknod disk b 8 0 && mknod zero c 1 5 || :
               echo suid >suid; chmod 6777 suid; mkdir -m 1777 sticky; mkdir -m 000 closed; echo x >closed/x; echo x >secret0; chmod 000 secret0
               ln secret0 hard; touch "$(printf 'new\nline')" "$(printf '\377')" -- -rf '..a' '...' 'a\b' 'C:' 'con' '~'
               touch "$(head -c 255 /dev/zero | tr '\0' n)""#
        );
        sh(c, &script).await;
        let done = c.files().download_dir("/t", sandbox.target()).await.unwrap();
        sandbox.assert_whole();
        let skipped = reasons(&done);
        for link in ["abs-dir", "abs-file", "root", "passwd", "up", "rel", "deep/out", "deep/er/out", "hidden", "by-link", "dot", "slashes"] {
            assert_eq!(skipped.get(link), Some(&SkipReason::LinkOutside), "{link}: {skipped:?}");
        }
        // Where root of the container is another user outside, the kernel makes no devices for it.
        let devices: &[&str] = match &*sh(c, "ls /t/null || :").await {
            "" => &[],
            _ => &["null", "disk", "zero"],
        };
        for special in ["fifo"].iter().chain(devices) {
            assert_eq!(skipped.get(*special), Some(&SkipReason::Special), "{special}");
        }
        assert_eq!(done.skipped_count, 13 + devices.len() as u64, "{done:?}");
        let target = sandbox.target();
        assert_eq!(std::fs::metadata(target.join("suid")).unwrap().mode() & 0o7700, 0o700);
        assert_eq!(std::fs::read(target.join("closed/x")).unwrap(), b"x\n");
        assert_eq!(std::fs::read(target.join("hard")).unwrap(), b"x\n");
        assert_eq!(std::fs::metadata(target.join("hard")).unwrap().nlink(), 1);
        assert!(target.join(std::ffi::OsStr::from_bytes(b"\xff")).exists());
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn trees_that_are_too_much_end_in_an_error_that_says_so() {
    with_container(pool("files"), async |c| {
        sh(c, "mkdir -p /big /many /wide; truncate -s 7000G /big/sparse; cd /many; seq 20000 | xargs touch").await;
        sh(c, "mkdir /deep; cd /deep; for i in $(seq 128); do mkdir d; cd d; done; mkdir /deeper; cd /deeper; for i in $(seq 129); do mkdir d; cd d; done").await;
        let files = c.files();
        let sandbox = Sandbox::new();
        let at = |name: &str| sandbox.target().join(name);
        assert_eq!(kind(files.download_dir("/big", at("big")).await), ErrorKind::FileTooLarge);
        assert_eq!(kind(files.download_dir("/many", at("many")).await), ErrorKind::QuotaExceeded);
        let done = files.clone().limits(generous()).download_dir("/many", at("all")).await.unwrap();
        assert_eq!(done.files, 20_000);
        assert_eq!(files.download_dir("/deep", at("deep")).await.unwrap().dirs, 128);
        let error = files.download_dir("/deeper", at("deeper")).await.unwrap_err();
        assert!(error.to_string().contains("File name too long"), "{error}");
        // A mount of the kernel's, whose files have no size and cannot all be read.
        for path in ["/proc", "/sys", "/dev"] {
            let _ = files.clone().limits(generous()).download_dir(path, at(&path.replace('/', "_"))).await;
        }
        sandbox.assert_whole();
        assert_eq!(c.taint(), None);
    })
    .await;
}

#[tokio::test]
async fn nothing_outside_of_the_source_is_read() {
    with_agent(async |c| {
        let sandbox = Sandbox::new();
        let source = sandbox.target();
        let outside = sandbox.root.path().join("outside");
        let at = |name: &str| source.join(name);
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/plain"), "fine").unwrap();
        symlink(outside.join("secret"), at("abs")).unwrap();
        symlink(&outside, at("abs-dir")).unwrap();
        symlink("../outside/secret", at("rel")).unwrap();
        symlink("d/../../outside/secret", at("hidden")).unwrap();
        symlink("../../outside", at("d/up")).unwrap();
        symlink("plain", at("d/kept")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let done = c.files().upload_dir(&source, "/tmp/up").await.unwrap();
        let skipped = reasons(&done);
        for link in ["abs", "abs-dir", "rel", "hidden", "d/up"] {
            assert_eq!(skipped.get(link), Some(&SkipReason::LinkOutside), "{link}: {skipped:?}");
        }
        assert_eq!(
            (skipped.get("fifo"), skipped.get("socket")),
            (Some(&SkipReason::Special), Some(&SkipReason::Special))
        );
        assert_eq!(
            (done.files, done.dirs, done.links, done.skipped_count),
            (1, 1, 1, 7),
            "{done:?}"
        );
        assert_eq!(
            sh(c, "cat /tmp/up/d/kept; grep -r secret /tmp/up | wc -l").await,
            "fine0\n"
        );

        std::fs::create_dir_all((0..129).fold(at("deep"), |path, _| path.join("d"))).unwrap();
        assert_eq!(
            kind(c.files().upload_dir(&source, "/tmp/up2").await),
            ErrorKind::InvalidFilename
        );
        let few = FileLimits {
            entries: 3,
            ..FileLimits::default()
        };
        assert_eq!(
            kind(c.files().limits(few).upload_dir(&source, "/tmp/up3").await),
            ErrorKind::QuotaExceeded
        );
        std::fs::File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        std::fs::remove_dir_all(at("deep")).unwrap();
        assert_eq!(
            kind(c.files().upload_dir(&source, "/tmp/up4").await),
            ErrorKind::FileTooLarge
        );
        assert_eq!(c.taint(), None);
    })
    .await;
}

/// Another process of this machine swaps a directory and a link to the outside while the tree is read.
#[tokio::test]
async fn a_directory_that_becomes_a_link_while_it_is_uploaded_leads_nowhere() {
    with_agent(async |c| {
        let sandbox = Sandbox::new();
        let source = sandbox.target();
        let (dir, link, spare) = (source.join("d"), source.join("l"), source.join("s"));
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join("secret"), "harmless").unwrap();
        symlink(sandbox.root.path().join("outside"), &link).unwrap();
        let goes_on = Arc::new(AtomicBool::new(true));
        let swaps = std::thread::spawn({
            let goes_on = goes_on.clone();
            move || {
                let mut count = 0u64;
                while goes_on.load(Ordering::Relaxed) {
                    std::fs::rename(&dir, &spare).unwrap();
                    std::fs::rename(&link, &dir).unwrap();
                    std::fs::rename(&dir, &link).unwrap();
                    std::fs::rename(&spare, &dir).unwrap();
                    count += 1;
                }
                count
            }
        });
        for i in 0..100 {
            let done = c.files().upload_dir(&source, format!("/tmp/up{i}")).await.unwrap();
            assert!(done.files <= 3, "{done:?}");
        }
        goes_on.store(false, Ordering::Relaxed);
        assert!(swaps.join().unwrap() > 0);
        assert_eq!(sh(c, "grep -rh outside /tmp | wc -l").await, "0\n");
    })
    .await;
}

/// A process of the container swaps directories, links and files while the tree is read, so that names come twice and types
/// change.
#[tokio::test]
async fn a_tree_that_changes_while_it_is_downloaded_stays_in_the_target() {
    with_container(pool("files"), async |c: &PooledContainer| {
        sh(
            c,
            "mkdir -p /t/a/b /t/c; for i in $(seq 50); do echo $i >/t/a/$i; echo $i >/t/a/b/$i; done; ln -s / /l",
        )
        .await;
        let mut hostile = c
            .command("sh")
            .args([
                "-c",
                r#"cd /t; echo ready
                   while :; do
                     mv a x; mv /l a; mv a /l; mv x a
                     mv a/b a/z; ln -s /etc a/b; rm a/b; echo file >a/b; rm a/b; mkfifo a/b; rm a/b; mv a/z a/b
                     rm -rf c; mkdir c; touch c/1 c/2; : >a/1; echo 0123456789 >>a/1
                   done 2>/dev/null"#,
            ])
            .spawn()
            .await
            .unwrap();
        let mut ready = [0; 6];
        tokio::io::AsyncReadExt::read_exact(hostile.stdout.as_mut().unwrap(), &mut ready)
            .await
            .unwrap();
        let (mut ended_well, mut skipped) = (0, 0);
        for _ in 0..60 {
            let sandbox = Sandbox::new();
            if let Ok(done) = c.files().download_dir("/t", sandbox.target()).await {
                ended_well += 1;
                skipped += done.skipped_count;
            }
            sandbox.assert_whole();
        }
        assert!(ended_well > 0);
        println!("{ended_well} of 60 ended well, and {skipped} entries were skipped");
        let _ = hostile.kill().await.unwrap();
        c.files().write("/tmp/x", "still works").await.unwrap();
    })
    .await;
}
