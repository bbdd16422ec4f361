//! The library's socket, where it has mounted one. It is faster than the engine's streams, and file descriptors go through.

use crate::protocol::SOCKET;
use crate::sys::{self, Errno, OwnedFd};

/// Connects, and sends the token by which the library knows the agent.
pub fn connect(token: &[u8]) -> sys::Result<OwnedFd> {
    let socket = sys::connect(SOCKET)?;
    match sys::write(socket.fd(), token)? {
        len if len == token.len() => Ok(socket),
        _ => Err(Errno::AGAIN),
    }
}
