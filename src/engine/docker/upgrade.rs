//! Connections that become streams: attach and exec.
//!
//! Bollard decodes such a stream itself, and collects a frame until it is whole, whatever length it claims. A container's
//! output to its terminal can look like such a frame, and would fill the memory. So the library's own transport takes the
//! connection from bollard, and the library decodes the stream.

use std::cell::Cell;

use bollard::errors::Error as DockerError;
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;

tokio::task_local! {
    /// The place where the transport puts the connection, within [`raw`].
    static TAKEN: Cell<Option<OnUpgrade>>;
}

/// Holds a connection that has become a stream.
pub(super) enum Connection<T> {
    Raw(TokioIo<Upgraded>),
    /// The connection as bollard returns it, over a transport that is not the library's.
    Decoded(T),
}

/// Takes the connection of a response for a waiting [`raw`]. The transport calls this with each response.
pub(super) fn take(response: &mut Response<Incoming>) {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Without a waiting call, the response belongs to a user's own call through bollard.
        let _ = TAKEN.try_with(|taken| taken.set(Some(hyper::upgrade::on(response))));
    }
}

/// Makes a bollard call that upgrades its connection, and returns the connection.
pub(super) async fn raw<T>(call: impl Future<Output = Result<T, DockerError>>) -> Result<Connection<T>, DockerError> {
    let call = async {
        let answer = call.await;
        // If the transport took the connection, bollard has just failed to find it.
        match TAKEN.with(Cell::take) {
            Some(upgrade) => Ok(Connection::Raw(TokioIo::new(upgrade.await?))),
            None => answer.map(Connection::Decoded),
        }
    };
    TAKEN.scope(Cell::new(None), call).await
}
