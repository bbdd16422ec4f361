//! Reading one file of a container: [`FileReader`].

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use super::answers::{Answer, malformed, of_container};
use super::limits::Left;
use super::metadata::FileMetadata;
use super::server::{Call, Server};
use crate::error::Error;

/// The contents of a file of a container; made by [`Files::read`](crate::Files::read). It borrows its container.
///
/// - The end comes only after all of the file has come: a transfer that breaks off is an error, never a short file.
/// - Beyond the limit of bytes a read fails with [`FileTooLarge`](io::ErrorKind::FileTooLarge), after the limit of time with
///   [`TimedOut`](io::ErrorKind::TimedOut).
/// - A file that nobody reads stalls; at most some 3 MB of it are on their way.
/// - A file that is changed meanwhile gives old and new parts, as any read of it does.
///
/// # Drop
///
/// Dropping a reader before its end ends the transfer in the background, as dropping a [`Child`](crate::Child) does.
#[must_use = "dropping it ends the transfer"]
pub struct FileReader<'c> {
    server: Server<'c>,
    metadata: FileMetadata,
    /// The bytes that have come and were not read.
    data: Bytes,
    left: Left,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reads,
    /// More than the limit has come. What comes after that is not given.
    TooLarge,
    /// All has come, and the end of the server is awaited, so that the container can be given back at once.
    Ends,
    /// The server has ended without its last answer.
    BrokenOff,
    Ended,
}

impl<'c> FileReader<'c> {
    pub(super) fn new(server: Server<'c>, metadata: FileMetadata, left: Left) -> Self {
        Self {
            server,
            metadata,
            data: Bytes::new(),
            left,
            state: State::Reads,
        }
    }

    /// Returns the attributes that the file had when it was opened.
    pub fn metadata(&self) -> &FileMetadata {
        &self.metadata
    }

    /// Ends the transfer, and returns the error of its call.
    pub(super) async fn failed(self, call: Call, error: io::Error) -> Error {
        self.server.end_early().await;
        call.error(error)
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.state {
                State::Reads => {}
                State::TooLarge => return Poll::Ready(self.left.has_room(u64::MAX)),
                State::Ends => {
                    ready!(self.server.poll_end(cx));
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::BrokenOff => {
                    ready!(self.server.poll_end(cx));
                    self.state = State::Ended;
                    let why = self.server.status().map(|status| self.server.why(status));
                    return Poll::Ready(Err(why.unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())));
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
            match ready!(self.server.poll_answer(cx)) {
                Ok(Answer::Data(data)) => {
                    if let Err(error) = self.left.take(data.len()) {
                        self.state = State::TooLarge;
                        return Poll::Ready(Err(error));
                    }
                    self.data = data;
                    return Poll::Ready(Ok(()));
                }
                Ok(Answer::Done) => self.state = State::Ends,
                Ok(Answer::Failed(errno, _)) => return Poll::Ready(Err(of_container(errno))),
                Ok(_) => return Poll::Ready(Err(malformed())),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.state = State::BrokenOff,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncRead for FileReader<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.data.is_empty() && buf.remaining() > 0 {
            ready!(self.poll_data(cx))?;
        }
        let len = self.data.len().min(buf.remaining());
        buf.put_slice(&self.data[..len]);
        self.data.advance(len);
        Poll::Ready(Ok(()))
    }
}

/// Leaves out the contents, which may be a secret.
impl fmt::Debug for FileReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader")
            .field("metadata", &self.metadata)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
