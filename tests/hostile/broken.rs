//! A lease can damage its container so that no command can start in it any more. The next lease then gets another
//! container. A command with a wrong program, directory or user costs no container.

use dockerpool::{Error, Pool, PooledContainer, Reuse, Taint};

use crate::ways::{USERS, WAYS, Way, lease_is_sound, works};

const NO_NULL: &str = "rm /dev/null";
const DIRECTORY: &str = "/srv/dir";

/// Builds a pool whose containers have this user and a working directory of their own.
async fn pool(way: Way, user: &str) -> Pool {
    let builder = way.builder("broken").user(user).working_dir(DIRECTORY);
    builder.reuse(Reuse::AsIs).build().await.unwrap()
}

/// Runs a script as root, with `/` as the working directory. Returns whether it did its work.
async fn as_root(c: &PooledContainer, script: &str) -> bool {
    let mut command = c.command("sh");
    command.args(["-c", script]).user("0").current_dir("/");
    let out = command.output().await.unwrap();
    // Where root of the container is another user outside, devices are mounts and cannot be removed.
    let is_mount = script.contains("/dev/") && out.stderr_lossy().contains("busy");
    assert!(out.status.success() || is_mount, "{script}: {out:?}");
    out.status.success()
}

#[tokio::test]
async fn a_container_in_which_no_command_can_be_started_is_not_lent_again() {
    let directory = [
        "rmdir /srv/dir",
        "rmdir /srv/dir; echo >/srv/dir",
        "rm -r /srv; ln -s /nowhere /srv",
    ];
    // The agent reads these files at its start. The engine needs `/etc/passwd` for some users only. `runc` before 1.3
    // needs `/dev/null` for every command; later versions and `crun` do not.
    let others = [NO_NULL, "rm /etc/passwd; mkdir /etc/passwd", "rm /etc/passwd"];
    for way in WAYS {
        for user in USERS {
            let pool = pool(way, user).await;
            for script in directory.iter().chain(&others) {
                let c = pool.acquire().await.unwrap();
                let id = c.id().to_owned();
                assert!(works(&c).await, "{way:?} {user}");
                let is_broken = as_root(&c, script).await;
                let attack = format!("{way:?} {user}: {script}");
                let status = c.command("true").status().await;
                match status {
                    Err(Error::CannotStart { .. }) if is_broken => {
                        assert!(*script != NO_NULL || matches!(way, Way::ExecApi), "{attack}");
                        assert_eq!(c.taint(), Some(Taint::Broken), "{attack}");
                    }
                    Ok(status) => {
                        assert!(status.success(), "{attack}: {status}");
                        assert!(others.contains(script), "{attack}");
                        assert_eq!(c.taint(), None, "{attack}");
                    }
                    other => panic!("{attack}: {other:?}"),
                }
                lease_is_sound(&pool, c, &attack).await;
                // The next attack gets an undamaged container.
                let next = pool.acquire().await.unwrap();
                if next.id() == id {
                    next.discard();
                }
            }
            pool.shutdown().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_missing_ptmx_taints_where_the_engine_needs_it() {
    let pool = pool(Way::ExecApi, "root").await;
    let c = pool.acquire().await.unwrap();
    as_root(&c, "rm /dev/ptmx").await;
    let script = "test -t 0 && test -t 1";
    match c.command("sh").args(["-c", script]).tty(24, 80).status().await {
        Err(Error::CannotStart { .. }) => assert_eq!(c.taint(), Some(Taint::Broken)),
        // `runc` 1.3 and later opens the device within the devpts mount.
        Ok(status) => {
            assert!(status.success(), "the command got no terminal and no error: {status}");
            assert_eq!(c.taint(), None);
        }
        other => panic!("{other:?}"),
    }
    lease_is_sound(&pool, c, "rm /dev/ptmx").await;
    pool.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_wrong_program_directory_or_user_taints_nothing() {
    for way in WAYS {
        let pool = pool(way, "root").await;
        let c = pool.acquire().await.unwrap();
        for (program, directory, user) in [
            ("no-such-program", None, None),
            ("/no/such/program", None, None),
            ("./no-such-program", None, None),
            ("/etc", None, None),
            ("/etc/passwd", None, None),
            ("true", Some("/no/such/dir"), None),
            ("true", Some("/etc/passwd"), None),
            ("true", None, Some("nobody-of-this-name")),
            ("true", None, Some("0:no-group-of-this-name")),
            ("true", None, Some("4294967295")),
        ] {
            let mut command = c.command(program);
            if let Some(directory) = directory {
                command.current_dir(directory);
            }
            if let Some(user) = user {
                command.user(user);
            }
            let what = format!("{way:?}: {program} {directory:?} {user:?}");
            let error = command.status().await.expect_err(&what);
            assert!(matches!(error, Error::CannotStart { .. }), "{what}: {error:?}");
            assert_eq!(c.taint(), None, "{what}");
        }
        assert!(works(&c).await, "{way:?}");
        drop(c);
        pool.shutdown().await.unwrap();
    }
}
