//! The directory with the agent's program on this machine. The next owner removes the directory of a killed owner. A
//! pool makes its directory anew where other programs removed it.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Owner, itself, own_test, pool};
use dockerpool::testing::WithoutAgentSocket as _;
use dockerpool::{ActiveExec, ExecVia, PooledContainer};

/// Makes a run of this binary an owner, in a process of its own.
const OWNER: &str = "DOCKERPOOL_TEST_OWNER";

/// Makes a run of this binary the process whose directory is harmed.
const HARMED: &str = "DOCKERPOOL_TEST_HARMED";

/// Starts an owner that has a pool and keeps its files in that folder.
fn owner(folder: &Path) -> Owner {
    Owner::start(&own_test!("an_owner"), |command| {
        command.env(OWNER, "1").env("XDG_RUNTIME_DIR", folder)
    })
}

/// Runs as an owner. This is not a test of its own.
#[tokio::test]
async fn an_owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let pool = pool("leftovers").exec_via(ExecVia::Agent).build().await.unwrap();
    assert_eq!(pool.status().exec, ActiveExec::Agent);
    println!("\nready");
    std::future::pending::<()>().await;
    drop(pool);
}

/// Returns a directory as sessions have it. With the umask of plain users on Debian (0002) another one is writable to a group, and
/// the library does not use it.
fn session_dir() -> tempfile::TempDir {
    let mode = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn entries(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[test]
fn the_next_owner_removes_directories_of_dead_owners_and_no_others() {
    if crate::support::lacks(crate::support::Capability::Root) {
        return;
    }
    let folder = session_dir();
    let folder = folder.path();
    let mut dead = owner(folder);
    let of_dead = entries(folder).pop_first().unwrap();
    let living = owner(folder);
    let of_living = entries(folder).into_iter().find(|name| *name != of_dead).unwrap();
    dead.kill();
    assert_eq!(entries(folder), [of_dead.clone(), of_living.clone()].into());

    // Directories that must stay: one that names the dead owner but belongs to another user, a link to that one, one of
    // another machine, and some without an owner.
    let whose = std::fs::read_to_string(folder.join(&of_dead).join("owner")).unwrap();
    let make = |name: &str, owner: Option<&str>| {
        std::fs::create_dir(folder.join(name)).unwrap();
        if let Some(owner) = owner {
            std::fs::write(folder.join(name).join("owner"), owner).unwrap();
        }
    };
    make("dockerpool-foreign", Some(&whose));
    std::os::unix::fs::chown(folder.join("dockerpool-foreign"), Some(65534), None).expect("this test needs root");
    std::os::unix::fs::symlink(folder.join("dockerpool-foreign"), folder.join("dockerpool-link")).unwrap();
    let elsewhere = "11111111-2222-3333-4444-555555555555.4026531836.1.1";
    make("dockerpool-elsewhere", Some(elsewhere));
    make("dockerpool-unknown", Some("unknown"));
    make("dockerpool-engine-x", None);
    make("another-name", Some(&whose));

    let mut expected = entries(folder);
    let next = owner(folder);
    assert!(expected.remove(&of_dead));
    let left = entries(folder);
    assert!(left.is_superset(&expected), "{left:?}");
    assert!(!left.contains(&of_dead), "{left:?}");
    // The next owner has added its own directory.
    assert_eq!(left.len(), expected.len() + 1, "{left:?}");
    assert!(folder.join("dockerpool-foreign").join("owner").exists());
    drop((living, next));
}

/// Damages that a clean-up program can do to the library's directory.
type Harm = (&'static str, fn(&Path));

const HARMS: [Harm; 6] = [
    ("the directory is removed", |dir| std::fs::remove_dir_all(dir).unwrap()),
    ("all in the directory is removed", |dir| {
        std::fs::read_dir(dir)
            .unwrap()
            .for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    }),
    ("the program is removed", |dir| {
        std::fs::remove_file(dir.join("agent")).unwrap()
    }),
    ("the program is garbage", |dir| {
        std::fs::remove_file(dir.join("agent")).unwrap();
        std::fs::write(dir.join("agent"), "garbage").unwrap();
    }),
    ("the program is a link", |dir| {
        std::fs::remove_file(dir.join("agent")).unwrap();
        std::os::unix::fs::symlink("/bin/false", dir.join("agent")).unwrap();
    }),
    ("the directory is a link", |dir| {
        std::fs::remove_dir_all(dir).unwrap();
        std::os::unix::fs::symlink("/usr", dir).unwrap();
    }),
];

/// Builds pools in a process of their own. Their directory is harmed in every way, and at last its parent is removed
/// too.
async fn harmed(folder: &Path) {
    for (via, attached) in [
        (ExecVia::Docker, false),
        (ExecVia::Agent, false),
        (ExecVia::Agent, true),
    ] {
        let builder = pool("harmed").exec_via(via);
        let builder = if attached {
            builder.without_agent_socket()
        } else {
            builder
        };
        let pool = builder.build().await.unwrap();
        let uses_socket = via == ExecVia::Agent && !attached;
        let works = async |c: &PooledContainer, what: &str| {
            assert_eq!(
                c.command("echo").arg("hello").output_string().await.unwrap(),
                "hello\n",
                "{what}"
            );
            assert_eq!(c.process_count().await.unwrap(), 0, "{what}");
            let mounts = crate::support::mounts(c).await;
            assert_eq!(mounts.contains(" /.dockerpool-agent-socket "), uses_socket, "{what}");
            crate::support::agent_dir(&mounts)
        };
        let mut c = pool.acquire().await.unwrap();
        for (what, harm) in HARMS {
            let dir = works(&c, what).await;
            assert_eq!(dir.parent(), Some(folder));
            harm(&dir);
            // The running container goes on.
            assert_eq!(
                c.command("echo").arg("x").output_string().await.unwrap(),
                "x\n",
                "{what}"
            );
            c.discard();
            c = pool.acquire().await.unwrap();
            assert!(works(&c, what).await.is_dir(), "{what}");
        }
        assert_eq!(pool.status().lifetime.create_failures, 0);
        assert!(crate::support::is_strong(pool.status().lifeline).await);
        drop(c);
        pool.shutdown().await.unwrap();
    }
    let pool = pool("harmed").build().await.unwrap();
    let c = pool.acquire().await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    c.discard();
    let c = pool.acquire().await.unwrap();
    assert_eq!(c.command("echo").arg("hello").output_string().await.unwrap(), "hello\n");
    let dir = crate::support::agent_dir(&crate::support::mounts(&c).await);
    assert!(!dir.starts_with(folder), "{dir:?}");
    drop(c);
    pool.shutdown().await.unwrap();
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_pool_whose_directory_was_removed_goes_on() {
    if let Some(folder) = std::env::var_os(HARMED) {
        harmed(Path::new(&folder)).await;
        println!("\nall well");
        return;
    }
    let folder = session_dir();
    let output = itself(&own_test!("a_pool_whose_directory_was_removed_goes_on"))
        .env("XDG_RUNTIME_DIR", folder.path())
        .env(HARMED, folder.path())
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("all well"),
        "{output:?}"
    );
    // The child has removed the folder.
    assert!(!folder.path().exists());
}

/// The library uses root's directory where the session's directory is not suitable.
#[tokio::test]
async fn a_directory_that_others_can_write_to_is_not_used() {
    if std::env::var_os(HARMED).is_some() {
        let pool = pool("open").exec_via(ExecVia::Agent).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let dir = crate::support::agent_dir(&crate::support::mounts(&c).await);
        assert_eq!(dir.parent(), Some(Path::new("/run/dockerpool")), "this test needs root");
        println!("\nall well");
        drop(c);
        pool.shutdown().await.unwrap();
        return;
    }
    if crate::support::lacks(crate::support::Capability::Root) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink("/run", &link).unwrap();
    let test = "a_directory_that_others_can_write_to_is_not_used";
    let run = |command: &mut Command, session: &Path| {
        let command = command.args(["--exact", &own_test!(test), "--nocapture"]);
        let output = command
            .env("XDG_RUNTIME_DIR", session)
            .env(HARMED, "1")
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("all well"),
            "{session:?}: {output:?}"
        );
    };
    let this = std::env::current_exe().unwrap();
    for session in [folder.path(), &link, Path::new("relative"), Path::new("/no/such/place")] {
        run(&mut Command::new(&this), session);
    }
    // A file system mounted with `noexec` is not suitable either. The mount is private to this process.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let script = r#"mount -t tmpfs -o noexec,mode=700 none "$XDG_RUNTIME_DIR" && exec "$@""#;
    let mut alone = Command::new("unshare");
    run(
        alone.args(["--mount", "sh", "-c", script, "sh"]).arg(&this),
        folder.path(),
    );
}
