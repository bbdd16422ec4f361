//! One command that the agent runs, in the engine's terms.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::client::Inner;
use super::decode::Message;
use super::wire::{self, Cause, Exit, Stage, to_agent};
use crate::engine::{
    EngineError, EngineErrorKind, ExecControl, ExecReport, ExecRequest, ExecSession, Frame, OutputStream, TtySize,
    bounded,
};

/// How much output may be on its way, in bytes.
const WINDOW: u32 = 512 * 1024;

/// Credit is given back in pieces of at least this many bytes.
const CREDIT_STEP: u32 = WINDOW / 4;

/// The most bytes of standard input in one frame: several commands share the wire.
const STDIN_PIECE: usize = 32 * 1024;

/// How long what others print is waited for who hold a command's output, once that has ended.
const OTHERS_OUTPUT: Duration = Duration::from_millis(100);

/// How long the agent may take for an answer. It has none before it only while it empties directories.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the agent gives for a program that is a directory.
const EISDIR: i32 = 21;

/// What became of a command.
#[derive(Clone, Debug)]
enum Outcome {
    Exited(Exit),
    CannotStart(EngineError),
    Lost(EngineError),
}

/// What is known of a command.
pub(super) struct Running {
    id: u32,
    names: Names,
    state: Mutex<State>,
    outcome: watch::Sender<Option<Outcome>>,
    /// Of who waits for credit.
    stdin_waker: AtomicWaker,
}

/// What it can fail to be started for, as it was given.
struct Names {
    program: String,
    directory: Option<String>,
    user: Option<String>,
}

/// What comes of a command's output.
enum Piece {
    Frame(Frame),
    /// The command has ended. What comes now was printed by others, who were left behind with its output.
    End,
    Lost(EngineError),
}

struct State {
    output: Option<mpsc::UnboundedSender<Piece>>,
    /// Whether standard output and standard error may go on.
    open: [bool; 2],
    /// Bytes of output that may still come.
    window: u32,
    stdin_credit: u32,
    stdin_closed: bool,
}

/// Sends the command to the agent. Whether it can be started is told by [`ExecControl::exit_code`].
pub(super) fn start(
    inner: &Arc<Inner>,
    request: &ExecRequest,
    time: Option<Duration>,
) -> Result<ExecSession, EngineError> {
    let payload = spawn_payload(request, time)?;
    let (output, pieces) = mpsc::unbounded_channel();
    let running = inner.add(|id| {
        Arc::new(Running {
            id,
            names: Names {
                program: request.argv.first().cloned().unwrap_or_default(),
                directory: request.current_dir.clone(),
                user: request.user.clone(),
            },
            state: Mutex::new(State {
                output: Some(output),
                open: [true; 2],
                window: WINDOW,
                stdin_credit: wire::STDIN_WINDOW,
                stdin_closed: false,
            }),
            outcome: watch::Sender::new(None),
            stdin_waker: AtomicWaker::new(),
        })
    })?;
    inner.send(to_agent::SPAWN, running.id, &payload);
    let output = Output {
        inner: inner.clone(),
        running: running.clone(),
        pieces,
        to_credit: 0,
        until: None,
    };
    let stdin = request.stdin.then(|| {
        Box::new(Stdin {
            inner: inner.clone(),
            running: running.clone(),
        }) as _
    });
    Ok(ExecSession {
        stdin,
        output: stream::unfold(output, |mut output| async {
            let frame = output.next().await?;
            Some((frame, output))
        })
        .boxed(),
        control: Box::new(Control {
            inner: inner.clone(),
            running,
        }),
    })
}

fn spawn_payload(request: &ExecRequest, time: Option<Duration>) -> Result<BytesMut, EngineError> {
    let texts = request.argv.iter().chain(&request.env);
    let (cwd, user) = (request.current_dir.as_deref(), request.user.as_deref());
    let mut payload = BytesMut::with_capacity(256 + texts.clone().map(|text| text.len() + 1).sum::<usize>());
    payload.put_u32_le(if request.stdin { wire::WITH_STDIN } else { 0 });
    payload.put_u32_le(WINDOW);
    // 0 stands for none.
    let time = time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
    payload.put_u64_le(time);
    payload.put_u32_le(request.argv.len() as u32);
    payload.put_u32_le(request.env.len() as u32);
    for text in [cwd.unwrap_or(""), user.unwrap_or("")]
        .into_iter()
        .chain(texts.map(String::as_str))
    {
        payload.put_slice(text.as_bytes());
        payload.put_u8(0);
    }
    // The command's own check has refused NUL and most of what is too long.
    if wire::Spawn::decode(&payload).is_none() || payload.len() > wire::MAX_SPAWN {
        let message = "the command is too long for the agent, or has a NUL in it";
        return Err(EngineError::new(EngineErrorKind::Rejected, message));
    }
    Ok(payload)
}

impl Running {
    /// What the agent says of it; whether that was the last.
    pub(super) fn take(&self, message: Message) -> Result<bool, EngineError> {
        let mut state = self.state.lock();
        match message {
            Message::Output(stream, data) => {
                let beyond = || EngineError::new(EngineErrorKind::Protocol, "the agent gives output beyond its credit");
                let len = u32::try_from(data.len()).map_err(|_| beyond())?;
                state.window = state.window.checked_sub(len).ok_or_else(beyond)?;
                if let Some(output) = &state.output {
                    // Nobody may be listening any more.
                    let _ = output.send(Piece::Frame(Frame { stream, data }));
                }
            }
            Message::OutputEnd(stream) => {
                state.open[usize::from(stream == OutputStream::Stderr)] = false;
                if state.open == [false; 2] {
                    state.output = None;
                }
            }
            Message::StdinCredit(credit) => {
                state.stdin_credit = state.stdin_credit.saturating_add(credit).min(wire::STDIN_WINDOW);
                self.stdin_waker.wake();
            }
            Message::StdinClosed => state.close_stdin(&self.stdin_waker),
            Message::Exit(exit) => {
                state.close_stdin(&self.stdin_waker);
                self.outcome.send_replace(Some(Outcome::Exited(exit)));
                if let Some(output) = &state.output {
                    let _ = output.send(Piece::End);
                }
            }
            Message::CannotStart(stage, errno) => {
                state.close_stdin(&self.stdin_waker);
                self.outcome
                    .send_replace(Some(Outcome::CannotStart(self.names.cannot_start(stage, errno))));
                state.output = None;
            }
            _ => {
                let message = "the agent answers a command as if it were a question";
                return Err(EngineError::new(EngineErrorKind::Protocol, message));
            }
        }
        Ok(state.output.is_none() && self.outcome.borrow().is_some())
    }

    pub(super) fn lose(&self, error: &EngineError) {
        let mut state = self.state.lock();
        state.close_stdin(&self.stdin_waker);
        self.outcome.send_if_modified(|outcome| {
            let first = outcome.is_none();
            outcome.get_or_insert_with(|| Outcome::Lost(error.clone()));
            first
        });
        if let Some(output) = state.output.take() {
            let _ = output.send(Piece::Lost(error.clone()));
        }
    }
}

impl State {
    fn close_stdin(&mut self, waker: &AtomicWaker) {
        self.stdin_closed = true;
        waker.wake();
    }
}

impl Names {
    /// In the words of the exec API where it has some.
    fn cannot_start(&self, stage: Stage, errno: i32) -> EngineError {
        let program = &self.program;
        let user = self.user.as_deref().unwrap_or_default();
        let what = match stage {
            Stage::Table => "the agent runs as many commands as it can at once".to_owned(),
            Stage::Resources => "the container has no room for another command".to_owned(),
            Stage::User => format!("unable to find user {user}: no matching entries in passwd file"),
            Stage::Group => format!("unable to find group of {user}: no matching entries in group file"),
            Stage::BecomeUser => format!("unable to become user {user}"),
            Stage::Directory => {
                let directory = self.directory.as_deref().unwrap_or("of the container");
                format!("unable to change to the working directory {directory}")
            }
            Stage::Lookup => format!("executable file {program} not found on PATH"),
            Stage::Exec => format!("unable to execute {program}"),
            Stage::Limits => "the limits of PID 1 were changed from within the container".to_owned(),
        };
        let message = match errno {
            0 => what,
            // A directory, as the kernel has it when it is to execute one.
            EISDIR => format!("{what}: permission denied, is a directory"),
            errno => {
                let words = io::Error::from_raw_os_error(errno).to_string();
                format!("{what}: {}", words.to_lowercase())
            }
        };
        let kind = match stage {
            Stage::Resources | Stage::Limits => EngineErrorKind::Exhausted,
            _ => EngineErrorKind::CannotStart,
        };
        EngineError::new(kind, message)
    }
}

/// The output as it is taken; credit goes back for what was.
struct Output {
    inner: Arc<Inner>,
    running: Arc<Running>,
    pieces: mpsc::UnboundedReceiver<Piece>,
    to_credit: u32,
    /// Until when what others print may come.
    until: Option<Instant>,
}

impl Output {
    async fn next(&mut self) -> Option<Result<Frame, EngineError>> {
        loop {
            let piece = match self.until {
                None => self.pieces.recv().await?,
                Some(until) => timeout_at(until, self.pieces.recv()).await.ok()??,
            };
            match piece {
                Piece::Frame(frame) => {
                    // A frame has at most 64 KiB.
                    self.to_credit += frame.data.len() as u32;
                    if self.to_credit >= CREDIT_STEP {
                        let credit = std::mem::take(&mut self.to_credit);
                        self.running.state.lock().window += credit;
                        self.inner
                            .send(to_agent::CREDIT, self.running.id, &credit.to_le_bytes());
                    }
                    return Some(Ok(frame));
                }
                Piece::End => self.until = Some(Instant::now() + OTHERS_OUTPUT),
                Piece::Lost(error) => return Some(Err(error)),
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // What goes on printing must not wait for ever.
        let early = self.running.state.lock().output.take().is_some();
        if early {
            let ended = self.running.outcome.borrow().is_some();
            self.inner.close(self.running.id, ended);
        }
    }
}

/// Writes to the command as far as there is credit.
struct Stdin {
    inner: Arc<Inner>,
    running: Arc<Running>,
}

impl AsyncWrite for Stdin {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Before the look, so that no credit that comes after it is missed.
        self.running.stdin_waker.register(cx.waker());
        let len = {
            let mut state = self.running.state.lock();
            if state.stdin_closed {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let len = buf.len().min(state.stdin_credit as usize).min(STDIN_PIECE);
            state.stdin_credit -= len as u32;
            len
        };
        if len == 0 {
            return Poll::Pending;
        }
        self.inner.send(to_agent::STDIN, self.running.id, &buf[..len]);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let first = {
            let mut state = self.running.state.lock();
            !std::mem::replace(&mut state.stdin_closed, true)
        };
        if first {
            self.inner.send(to_agent::STDIN_END, self.running.id, &[]);
        }
        Poll::Ready(Ok(()))
    }
}

struct Control {
    inner: Arc<Inner>,
    running: Arc<Running>,
}

impl Control {
    fn outcome(&self) -> Option<Outcome> {
        self.running.outcome.borrow().clone()
    }

    async fn wait(&self) -> Option<Outcome> {
        let mut outcome = self.running.outcome.subscribe();
        // The sender is our own: the wait cannot fail.
        outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn ask(&self) -> Result<Option<i64>, EngineError> {
        if self.outcome().is_none() {
            // Silent, and with an agent that answers: it runs.
            bounded("a question to the agent", ANSWER_TIMEOUT, self.inner.ping()).await?;
        }
        match self.outcome() {
            None => Ok(None),
            Some(Outcome::Exited(exit)) if exit.signal != 0 => Ok(Some(128 + i64::from(exit.signal))),
            Some(Outcome::Exited(exit)) => Ok(Some(exit.code.into())),
            Some(Outcome::CannotStart(error) | Outcome::Lost(error)) => Err(error),
        }
    }

    async fn end(&self) -> Result<(), EngineError> {
        self.inner.send(to_agent::KILL, self.running.id, &[]);
        match self.wait().await {
            Some(Outcome::Exited(exit)) if exit.cause != Cause::Own && !exit.all_dead => Err(EngineError::new(
                EngineErrorKind::Internal,
                "not everything of the command could be killed",
            )),
            Some(Outcome::Exited(_) | Outcome::CannotStart(_)) => Ok(()),
            Some(Outcome::Lost(error)) => Err(error),
            None => Err(EngineError::new(EngineErrorKind::Internal, "the command was forgotten")),
        }
    }
}

impl ExecControl for Control {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        Box::pin(self.ask())
    }

    fn resize(&self, _size: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        // It has no terminal.
        Box::pin(async { Ok(()) })
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.wait().await;
        })
    }

    fn report(&self) -> Option<ExecReport> {
        let Some(Outcome::Exited(exit)) = self.outcome() else {
            return None;
        };
        Some(ExecReport {
            signal: (exit.signal != 0).then_some(exit.signal.into()),
            at_deadline: exit.cause == Cause::Deadline,
            all_dead: exit.cause == Cause::Own || exit.all_dead,
            user: Duration::from_micros(exit.user),
            system: Duration::from_micros(exit.system),
            peak_memory: exit.peak_kib.saturating_mul(1024),
            oom_kills: (exit.oom_kills != wire::UNKNOWN).then_some(exit.oom_kills),
        })
    }

    fn can_kill(&self) -> bool {
        true
    }

    fn kill(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.end())
    }

    fn signal(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>> {
        self.inner
            .send(to_agent::SIGNAL, self.running.id, &signal.to_le_bytes());
        Box::pin(async { Ok(()) })
    }
}
