//! Connections that become streams: attach and exec.
//!
//! Bollard decodes what comes over them by itself, and collects a frame until it is whole, whatever length it claims; what
//! a container writes to its terminal can pass for such a frame, and would fill the memory. So the connection is taken
//! from bollard's hands in our own transport, and decoded here.

use std::cell::Cell;

use bollard::errors::Error as DockerError;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;

tokio::task_local! {
    /// Where the transport puts the connection, within [`raw`].
    static TAKEN: Cell<Option<OnUpgrade>>;
}

/// A connection that has become a stream.
pub(super) enum Connection<T> {
    Raw(TokioIo<Upgraded>),
    /// As bollard gives it, over a transport that is not ours.
    Decoded(T),
}

/// Called by our transport with each response: takes the connection for whoever waits for it.
pub(super) fn take(response: &mut Response<Incoming>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Where nobody does, it is a call of the user's own through bollard.
        let _ = TAKEN.try_with(|taken| taken.set(Some(hyper::upgrade::on(response))));
    }
}

/// Makes a call of bollard's that upgrades its connection, and gives the connection.
pub(super) async fn raw<T>(call: impl Future<Output = Result<T, DockerError>>) -> Result<Connection<T>, DockerError> {
    let call = async {
        let answer = call.await;
        // If it was taken, bollard has just failed to find it.
        match TAKEN.with(Cell::take) {
            Some(upgrade) => Ok(Connection::Raw(TokioIo::new(upgrade.await?))),
            None => answer.map(Connection::Decoded),
        }
    };
    TAKEN.scope(Cell::new(None), call).await
}
