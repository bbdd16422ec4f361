//! The container has no room for another process, or is gone.

use dockerpool::engine::Lifecycle;
use dockerpool::{EngineErrorKind, Error, ExitStatus, Taint};

use crate::ways::{WAYS, Way};

#[tokio::test]
async fn a_command_beyond_the_process_limit_harms_no_other() {
    for way in WAYS.into_iter().filter(|way| way.is_agent()) {
        let pool = way.builder("crowded").pids_limit(12).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        let mut children = Vec::new();
        for _ in 0..11 {
            children.push(c.command("sleep").arg("60").spawn().await.unwrap());
        }
        assert_eq!(c.process_count().await.unwrap(), 11);
        for _ in 0..3 {
            let error = c.command("true").output().await.unwrap_err();
            assert!(
                matches!(&error, Error::Engine { source, .. } if source.kind() == EngineErrorKind::Exhausted),
                "{way:?}: {error:?}"
            );
        }
        assert_eq!(
            c.process_count().await.unwrap(),
            11,
            "{way:?}: the other commands go on"
        );
        for mut child in children {
            let _ = child.kill().await.unwrap();
            assert_eq!(child.wait().await.unwrap(), ExitStatus::Killed, "{way:?}");
        }
        assert_eq!(c.taint(), Some(Taint::Exhausted), "{way:?}");
        drop(c);
        pool.shutdown().await.unwrap();
    }
    assert_eq!(
        WAYS[0],
        Way::ExecApi,
        "by the exec API the OCI runtime starts the process, and its error varies"
    );
}

#[tokio::test]
async fn a_removed_container_is_reported_as_gone_also_with_ulimits() {
    for way in WAYS {
        let pool = way.builder("gone").ulimit("cpu", 100, 100).build().await.unwrap();
        let c = pool.acquire().await.unwrap();
        assert!(c.command("true").status().await.unwrap().success(), "{way:?}");
        crate::support::engine().await.remove(c.id()).await.unwrap();
        let error = c.command("true").status().await.unwrap_err();
        assert!(matches!(error, Error::ContainerGone { .. }), "{way:?}: {error:?}");
        assert_eq!(c.taint(), Some(Taint::Died), "{way:?}");
        drop(c);
        pool.shutdown().await.unwrap();
    }
}
