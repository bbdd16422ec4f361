//! The way of one output from the pump to its reader: [`pipe`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{Semaphore, TryAcquireError};

use super::halt::Halt;

/// The pieces of output that wait for a reader, for each of the two streams. Docker's pieces have at most 32 KiB.
const ROOM: usize = 16;

/// A piece of output.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The place of the piece among those of both outputs: later pieces have larger numbers. A piece is sent before those with
    /// larger numbers.
    pub(super) place: u64,
    pub(super) data: Bytes,
}

/// Makes the pipe of one output.
pub(super) fn pipe(halt: Arc<Halt>) -> (PipeWriter, PipeReader) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let room = Arc::new(Semaphore::new(ROOM));
    let writer = PipeWriter {
        pieces: sender,
        room: room.clone(),
    };
    let reader = PipeReader {
        pieces: receiver,
        room,
        place: 0,
        halt,
    };
    (writer, reader)
}

/// The pump's end. Dropping it ends the output.
#[derive(Clone, Debug)]
pub(super) struct PipeWriter {
    pieces: UnboundedSender<Piece>,
    /// One permit for each piece that the reader need not have taken.
    room: Arc<Semaphore>,
}

impl PipeWriter {
    /// Sends a piece if there is room; drops it if nobody reads any more. Returns whether that was so.
    pub(super) fn try_send(&self, piece: Piece) -> bool {
        match self.room.try_acquire() {
            Ok(room) => {
                room.forget();
                self.send_without_room(piece);
                true
            }
            Err(TryAcquireError::NoPermits) => false,
            Err(TryAcquireError::Closed) => true,
        }
    }

    /// Sends a piece once there is room; drops it once nobody reads any more. Dropping the future sends nothing.
    pub(super) async fn send(&self, piece: Piece) {
        if let Ok(room) = self.room.acquire().await {
            room.forget();
            self.send_without_room(piece);
        }
    }

    /// Sends a piece, whether there is room or not.
    pub(super) fn send_without_room(&self, piece: Piece) {
        // The reader may be gone.
        let _ = self.pieces.send(piece);
    }

    /// Returns whether nobody reads any more.
    pub(super) fn is_closed(&self) -> bool {
        self.pieces.is_closed()
    }

    /// Resolves when nobody reads any more.
    pub(super) async fn closed(&self) {
        self.pieces.closed().await;
    }
}

/// The reading end of one output, which the pump fills.
#[derive(Debug)]
pub(super) struct PipeReader {
    pieces: UnboundedReceiver<Piece>,
    room: Arc<Semaphore>,
    /// The place of the piece that was taken last.
    place: u64,
    halt: Arc<Halt>,
}

impl PipeReader {
    /// Returns the place of the piece that was taken last.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// Has the pump drop the rest, and not wait for room.
    pub(super) fn close(&mut self) {
        self.room.close();
        self.pieces.close();
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.close();
    }
}

/// The error that a reader gets in place of end-of-file where the output broke off.
#[derive(Debug, thiserror::Error)]
#[error("the output broke off: the engine did not give its end")]
pub(super) struct BrokeOff;

impl BrokeOff {
    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl Stream for PipeReader {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(piece) => {
                // A little more than was taken where the rest of the output came without room. Nobody waits for room then.
                self.room.add_permits(1);
                self.place = piece.place;
                Some(Ok(piece.data))
            }
            None if self.halt.broke_off() => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, BrokeOff))),
            None => None,
        })
    }
}
