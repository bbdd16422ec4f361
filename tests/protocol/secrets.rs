//! Secret files of a lease: what a command reads is nowhere else, and gone afterwards.

use std::fmt::{Debug, Write as _};
use std::sync::Arc;

use dockerpool::{DockerEngine, Endpoint, ExecVia, Lease, Pool, PooledContainer, Reuse};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::proxy::real_socket;
use crate::support::{busybox, eventually, eventually_now, python};
use crate::teller::{Changes, Teller};

const SECRET: &str = "s3cret-7d1f";
const PATH: &str = "/work/deep/token";

/// Writes down all that is traced on this thread.
#[derive(Clone, Default)]
struct Traces(Arc<Mutex<String>>);

impl Visit for Traces {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0.lock(), "{field}={value:?} ");
    }
}

impl tracing::Subscriber for Traces {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &span::Record<'_>) {
        values.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

async fn sh(c: &PooledContainer, script: &str) -> String {
    c.command("sh").args(["-c", script]).output_string().await.unwrap()
}

#[tokio::test]
async fn a_secret_is_in_its_file_alone_and_gone_after_the_lease() {
    let traces = Traces::default();
    let _traced = tracing::subscriber::set_default(traces.clone());
    for (via, reuse) in [
        (ExecVia::Agent, Reuse::Clean),
        (ExecVia::Agent, Reuse::Never),
        (ExecVia::Docker, Reuse::Never),
    ] {
        let teller = Teller::start(real_socket().await, Changes::default());
        let engine = DockerEngine::connect_to(Endpoint::unix(teller.socket())).await.unwrap();
        let engine = Arc::new(engine);
        let pool = Pool::builder("secrets")
            .image(busybox())
            .engine(engine.clone())
            .tokio_runtime(Handle::current())
            .memory(64 << 20)
            .exec_via(via)
            .reuse(reuse)
            .read_only_root(true)
            .tmpfs_with("/work", "size=1m,mode=1777")
            .user("65534:65534")
            .max_idle(1)
            .build()
            .await
            .unwrap();
        let lease = Lease::new().secret_file(PATH, SECRET).env("WHERE", PATH);
        let c = pool.acquire_with(lease.clone()).await.unwrap();
        let id = c.id().to_owned();
        assert_eq!(
            sh(&c, "cat $WHERE; stat -c ' %a %u' $WHERE").await,
            format!("{SECRET} 400 65534\n")
        );

        let described = engine.bollard().inspect_container(&id, None).await.unwrap();
        let mut seen = serde_json::to_string(&described).unwrap();
        for (line, body) in teller.asked() {
            let _ = write!(seen, "{line} {body} ");
        }
        let _ = write!(seen, "{lease:?} {c:?} {pool:?} {:?}", c.labels().collect::<Vec<_>>());
        assert!(seen.len() > 1000 && !seen.contains(SECRET), "{via:?}");
        // A command of the same lease can copy it. The copies go with the rest.
        sh(
            &c,
            "cp $WHERE /work/copy; (exec 3<$WHERE; exec sleep 1000) >/dev/null 2>&1 &",
        )
        .await;
        drop(c);

        eventually_now("the container is clean or replaced", || pool.idle_count() == 1).await;
        let next = pool.acquire().await.unwrap();
        assert_eq!(next.id() == id, reuse == Reuse::Clean, "{via:?}");
        let script = "ls -A /work; echo where=$WHERE; pidof sleep || echo none";
        assert_eq!(sh(&next, script).await, "where=\nnone\n", "{via:?}");
        drop(next);
        pool.shutdown().await.unwrap();
    }
    tracing::info!("heard to the end");
    let traced = traces.0.lock();
    assert!(
        traced.contains("heard to the end") && !traced.contains(SECRET),
        "{traced}"
    );
}

#[tokio::test]
async fn a_file_of_a_lease_that_cannot_be_written_ends_the_lease() {
    let pool = crate::support::pool("secrets")
        .reuse(Reuse::Clean)
        .max_total(1)
        .max_idle(1);
    let pool = pool.build().await.unwrap();
    let bad = Lease::new().file("/tmp/a", "1").file("/proc/dockerpool", SECRET);
    let error = pool.acquire_with(bad).await.unwrap_err();
    assert!(matches!(error, dockerpool::Error::File { .. }), "{error:?}");
    assert!(
        !error.to_string().contains(SECRET) && !format!("{error:?}").contains(SECRET),
        "{error:?}"
    );
    // The container is lent again, without the first file.
    let c = pool.acquire().await.unwrap();
    assert_eq!(sh(&c, "ls -A /tmp").await, "");
}

/// No look at a root file system that can be written to shows a file of the same size with its time put back.
#[tokio::test]
async fn a_copy_of_a_secret_that_no_look_would_find_is_gone_after_the_lease() {
    let pool = crate::support::pool("secrets")
        .image(python())
        .exec_via(ExecVia::Agent)
        .reuse(Reuse::Clean)
        .max_total(1)
        .max_idle(1);
    let pool = pool.build().await.unwrap();
    let c = pool
        .acquire_with(Lease::new().secret_file("/tmp/token", SECRET))
        .await
        .unwrap();
    let hide = r#"
import os
path = os.path.join(os.path.dirname(os.__file__), "this.py")
its = os.stat(path)
with open(path, "r+") as file:
    file.write(open("/tmp/token").read())
os.utime(path, ns=(its.st_atime_ns, its.st_mtime_ns))
print(path, end="")
"#;
    let hidden = c.command("python3").args(["-c", hide]).output_string().await.unwrap();
    let found = c.files().read_to_vec(&hidden).await.unwrap();
    assert!(found.starts_with(SECRET.as_bytes()));
    drop(c);
    let next = pool.acquire().await.unwrap();
    let found = next.files().read_to_vec(&hidden).await.unwrap();
    assert!(
        !found.is_empty() && !String::from_utf8_lossy(&found).contains(SECRET),
        "{hidden}"
    );
    drop(next);
    pool.shutdown().await.unwrap();
}

/// Also where the acquire is dropped while the secret is written, at any moment.
#[tokio::test]
async fn a_secret_whose_acquire_is_dropped_midway_is_gone() {
    let pool = crate::support::pool("secrets")
        .exec_via(ExecVia::Agent)
        .reuse(Reuse::Clean)
        .read_only_root(true)
        .max_total(1)
        .max_idle(1);
    let pool = pool.build().await.unwrap();
    let secret = vec![b's'; 4 << 20];
    let begun = std::time::Instant::now();
    let lease = Lease::new().secret_file("/tmp/token", secret.clone());
    drop(pool.acquire_with(lease.clone()).await.unwrap());
    let whole = begun.elapsed();
    for part in 0..20 {
        let limit = whole * part / 15;
        let cut = tokio::time::timeout(limit, pool.acquire_with(lease.clone())).await;
        drop(cut);
        let c = pool.acquire().await.unwrap();
        let left = c.files().list("/tmp").await.unwrap();
        assert!(left.is_empty(), "{part}: {left:?}");
        assert_eq!(c.process_count().await.unwrap(), 0, "{part}");
    }
    pool.shutdown().await.unwrap();
}

/// The server of the image's runs beside the lease, and may put a link where the secret goes.
#[tokio::test]
async fn a_secret_does_not_follow_a_link_to_a_disk() {
    let shared = tempfile::tempdir().unwrap();
    let script = "ln -s / /work/deep; : >/told/ready; exec sleep 1000";
    let pool = Pool::builder("secrets")
        .image(busybox())
        .exec_via(ExecVia::Agent)
        .reuse(Reuse::Never)
        .cmd(["sh", "-c", script])
        .supervise_command(true)
        .tmpfs("/work", 1 << 20)
        .raw_config(serde_json::json!({
            "HostConfig": {"Binds": [format!("{}:/told", shared.path().display())]},
        }))
        .min_idle(1)
        .max_total(1);
    let pool = pool.build().await.unwrap();
    eventually("the link is there", async || shared.path().join("ready").exists()).await;
    let error = match pool.acquire_with(Lease::new().secret_file(PATH, SECRET)).await {
        Ok(c) => panic!("{} is on a disk", sh(&c, "cat /token").await),
        Err(error) => error,
    };
    let dockerpool::Error::File { source, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.kind(), std::io::ErrorKind::CrossesDevices, "{error}");
    pool.shutdown().await.unwrap();
}
