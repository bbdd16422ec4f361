//! Files in and out of a lease, by the agent, on the real engine.

mod calls;
#[path = "../support/mod.rs"]
mod support;

use dockerpool::{Error, ExecVia, PoolBuilder};
use std::io;

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
