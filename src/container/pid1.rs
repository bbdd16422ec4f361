//! PID 1 of a container that has a lifeline: [`Pid1`].

use std::sync::OnceLock;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use super::supervise::Supervised;
use crate::agent::Client;
use crate::engine::{Attachment, EngineError, EngineErrorKind, OutputStream};
use crate::runtime::Home;

/// The pause after each piece of output of PID 1. PID 1 prints nothing after its sign of life, but every process in the
/// container can write to that stream. The pause bounds how much processor time of this process that costs.
pub(super) const OUTPUT_PAUSE: Duration = Duration::from_millis(10);

/// How much of the last output of PID 1 an error quotes, in bytes.
const QUOTED: usize = 1024;

/// Holds the connection to PID 1, which is the lifeline: either the agent's, or the streams of `cat`.
///
/// `supervised` is set only where `agent` is, and `streams` only where `agent` is not.
#[derive(Debug, Default)]
pub(super) struct Pid1 {
    agent: OnceLock<Client>,
    /// The container's own command, which the agent runs.
    supervised: OnceLock<Supervised>,
    streams: Mutex<Option<Streams>>,
}

/// The standard streams of `cat`, held open.
#[derive(Debug)]
enum Streams {
    Unwatched(Attachment),
    /// A background task holds them.
    Watched {
        _task: AbortOnDropHandle<()>,
    },
}

impl Pid1 {
    /// Returns the agent, where PID 1 is the agent; also where the engine runs the commands.
    pub(super) fn agent(&self) -> Option<&Client> {
        self.agent.get()
    }

    /// Holds the connection to the agent. The first connection counts.
    pub(super) fn hold_agent(&self, agent: Client) -> &Client {
        self.agent.get_or_init(|| agent)
    }

    /// Holds the streams of `cat`.
    pub(super) fn hold_streams(&self, streams: Attachment) {
        *self.streams.lock() = Some(Streams::Unwatched(streams));
    }

    /// Holds the container's own command. The first command counts.
    pub(super) fn supervise(&self, command: Supervised) {
        let _ = self.supervised.set(command);
    }

    /// Returns the container's own command, where the agent runs it.
    pub(super) fn supervised(&self) -> Option<&Supervised> {
        self.supervised.get()
    }

    /// Calls `broke` when the connection breaks. The first call of this function counts.
    pub(super) fn watch(&self, runtime: &Home, broke: impl FnOnce() + Send + 'static) {
        if let Some(agent) = self.agent() {
            return agent.on_lost(broke);
        }
        let mut streams = self.streams.lock();
        *streams = match streams.take() {
            Some(Streams::Unwatched(Attachment { stdin, mut output, .. })) => {
                let task = runtime.spawn(async move {
                    // Named, so that the task holds it: closed, it ends PID 1.
                    let _lifeline = stdin;
                    while let Some(Ok(_)) = output.next().await {
                        tokio::time::sleep(OUTPUT_PAUSE).await;
                    }
                    broke();
                });
                Some(Streams::Watched {
                    _task: AbortOnDropHandle::new(task),
                })
            }
            other => other,
        };
    }
}

/// Writes a line to `cat` and waits for its echo, which shows that PID 1 runs.
pub(super) async fn echo(streams: &mut Attachment) -> Result<(), EngineError> {
    let broken = |error| EngineError::new(EngineErrorKind::Protocol, "could not write to PID 1").with_source(error);
    let written = async {
        streams.stdin.write_all(b"\n").await?;
        streams.stdin.flush().await
    };
    // A PID 1 that has ended cannot be written to. Its last output says why, so the output is read first.
    let written = written.await.map_err(broken);
    let mut words = Vec::new();
    while let Some(frame) = streams.output.next().await {
        match frame? {
            frame if frame.stream == OutputStream::Stdout => return written,
            frame => words.extend_from_slice(&frame.data),
        }
        words.drain(..words.len().saturating_sub(QUOTED));
    }
    let words = String::from_utf8_lossy(&words).trim().to_owned();
    let message = match &*words {
        "" => "the library's PID 1, `cat`, ended right after the start, without a word".to_owned(),
        words => format!("the library's PID 1, `cat`, ended right after the start: {words}"),
    };
    Err(EngineError::new(EngineErrorKind::CannotStart, message).advise(advice(&words)))
}

/// Returns what to look at where `cat` has ended with these words, which are the engine's init's or its own.
fn advice(words: &str) -> &'static str {
    let words = words.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| words.contains(phrase));
    match () {
        () if says(&["temporarily unavailable", "cannot allocate", "out of memory"]) => {
            "the container has too little for its own start: see pids_limit() and memory()"
        }
        () if says(&["not found", "no such file", "permission denied", "cannot execute"]) => {
            "without the agent the image must have `cat`: see ExecVia, or give PID 1 a command of its own by cmd()"
        }
        () => "see pids_limit(), memory() and user()",
    }
}
