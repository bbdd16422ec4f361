//! Files in and out of a lease, by the agent, on the real engine.

mod calls;
mod hostile;
#[path = "../support/mod.rs"]
mod support;
mod trees;
mod watch;
mod without_agent;

use dockerpool::{Error, ExecVia, PoolBuilder, PooledContainer};
use std::io;
use support::with_agent;

/// A pool whose commands the agent runs.
fn pool(name: &str) -> PoolBuilder {
    support::pool(name).exec_via(ExecVia::Agent)
}

/// Returns the kind of error that a call on files has failed with.
fn kind<T: std::fmt::Debug>(result: Result<T, Error>) -> io::ErrorKind {
    match result {
        Err(Error::File { source, .. }) => source.kind(),
        other => panic!("no error of a file: {other:?}"),
    }
}

/// Runs a script that must succeed, and returns its output.
async fn sh(c: &PooledContainer, script: &str) -> String {
    let out = c.exec(["sh", "-c", script]).await.unwrap();
    assert!(out.status.success(), "{script}: {out:?}");
    out.stdout_lossy().into_owned()
}

#[test]
fn files_in_one_process() {
    support::together(&["calls::", "hostile::", "trees::", "watch::"]);
}
