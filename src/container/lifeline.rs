//! The streams of PID 1 that tie a container to its owner.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::{Attachment, EngineError, EngineErrorKind, OutputStream};

/// PID 1 has nothing to say after its sign of life, but whoever is in the container can write to its output. A pause
/// after each piece keeps that from costing us much.
pub(super) const LIFELINE_PAUSE: Duration = Duration::from_millis(10);

/// How much of what PID 1 has printed last is kept to say why it has ended, in bytes.
const WORDS: usize = 1024;

/// PID 1's standard streams, held open.
#[derive(Debug)]
pub(super) enum Lifeline {
    Unwatched(Attachment),
    /// By a task that has them.
    Watched {
        _task: AbortOnDropHandle<()>,
    },
}

/// PID 1 of a container with a lifeline gives back what it reads. That it does shows that it is there and can run.
pub(super) async fn echo(lifeline: &mut Attachment) -> Result<(), EngineError> {
    let broken = |error| EngineError::new(EngineErrorKind::Protocol, "PID 1 cannot be written to").with_source(error);
    let written = async {
        lifeline.stdin.write_all(b"\n").await?;
        lifeline.stdin.flush().await
    };
    // One that has ended already cannot be written to, and its last words say why.
    let written = written.await.map_err(broken);
    let mut words = Vec::new();
    while let Some(frame) = lifeline.output.next().await {
        match frame? {
            frame if frame.stream == OutputStream::Stdout => return written,
            frame => words.extend_from_slice(&frame.data),
        }
        words.drain(..words.len().saturating_sub(WORDS));
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    Err(EngineError::new(
        EngineErrorKind::CannotStart,
        format!("the library's PID 1, `cat`, ended right after the start: {words}"),
    ))
}
