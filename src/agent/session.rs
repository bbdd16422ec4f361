//! One command that the agent runs, as an [`ExecSession`].

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::client::{Inner, Place};
use super::decode::Message;
use super::socket::{Descriptor, Pipe};
use super::wire::{self, Cause, Exit, Reach, Stage, to_agent};
use crate::engine::{
    EngineError, EngineErrorKind, ExecControl, ExecReport, ExecRequest, ExecSession, Frame, Killing, OutputStream,
    StreamEnd, TtyInput, TtySize,
};
use crate::runtime::bounded;

/// The most bytes of output in frames that may be under way.
const WINDOW: u32 = 512 * 1024;

/// The least number of bytes of credit that are given back at once.
const CREDIT_STEP: u32 = WINDOW / 4;

/// The most bytes of standard input in one frame: several commands share the wire.
const STDIN_PIECE: usize = 32 * 1024;

/// How long output is read after the command's end from processes that still hold the command's output open.
const OTHERS_OUTPUT: Duration = Duration::from_millis(100);

/// How often an ended command's pipes are checked: another process may have read the rest.
const LOOK_AT_PIPES: Duration = Duration::from_millis(20);

/// How long the agent may take for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The agent's error numbers: for a user who may have no more processes, for want of memory, and for a program that is a
/// directory.
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EISDIR: i32 = 21;

/// Selects what a process does that the agent starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    /// The process becomes the command.
    #[default]
    Command,
    /// The process becomes the command, which gets none of the container's variables.
    CommandWithoutEnv,
    /// The process serves files, by `agent/file_protocol.rs`. Only the agent can start such a process.
    FileServer,
}

/// The end of a command.
#[derive(Clone, Debug)]
enum Outcome {
    Exited(Exit),
    CannotStart(EngineError),
    Lost(EngineError),
}

/// The state of a command, shared by the connection's reader and the session.
pub(super) struct Running {
    id: u32,
    names: Names,
    state: Mutex<State>,
    outcome: watch::Sender<Option<Outcome>>,
    /// The waker of the writer that waits for credit.
    stdin_waker: AtomicWaker,
}

/// The names from the request that errors of the start mention.
struct Names {
    program: String,
    directory: Option<String>,
    user: Option<String>,
    limits_memory: bool,
    limits_processes: bool,
}

/// An event of a command's output.
enum Piece {
    Frame(Frame),
    /// The pipe that has the rest of this stream.
    Pipe(OutputStream, Pipe),
    /// The command's end. Later output is that of processes that the command left in the background.
    End,
    Lost(EngineError),
}

struct State {
    output: Option<mpsc::UnboundedSender<Piece>>,
    /// Whether standard output and standard error may go on in frames.
    open: [bool; 2],
    /// Whether one of the streams goes on in its pipe.
    has_pipe: bool,
    /// The bytes of output that the agent may still send in frames.
    window: u32,
    stdin_credit: u32,
    stdin_closed: bool,
    /// The place in the agent's table, held until the agent has freed it or may give it to another command.
    place: Option<Place>,
    /// Whether the agent was told that nobody reads the output any more.
    closed: bool,
}

/// Sends the command to the agent. [`ExecControl::exit_code`] tells whether the command could be started.
pub(super) fn start(
    inner: &Arc<Inner>,
    place: Place,
    request: &ExecRequest,
    role: Role,
    time: Option<Duration>,
) -> Result<ExecSession, EngineError> {
    let payload = spawn_payload(request, role, time)?;
    let (output, pieces) = mpsc::unbounded_channel();
    let running = inner.add(|id| {
        Arc::new(Running {
            id,
            names: Names {
                program: request.argv.first().cloned().unwrap_or_default(),
                directory: request.current_dir.clone(),
                user: request.user.clone(),
                limits_memory: request.memory.is_some(),
                limits_processes: request.processes.is_some(),
            },
            state: Mutex::new(State {
                output: Some(output),
                // A terminal is one stream.
                open: [true, request.tty.is_none()],
                has_pipe: false,
                window: WINDOW,
                stdin_credit: wire::STDIN_WINDOW,
                stdin_closed: false,
                place: Some(place),
                closed: false,
            }),
            outcome: watch::Sender::new(None),
            stdin_waker: AtomicWaker::new(),
        })
    })?;
    inner.send(to_agent::SPAWN, running.id, &payload);
    let output = Output {
        inner: inner.clone(),
        running: running.clone(),
        pieces: Some(pieces),
        pipes: [const { None }; 2],
        to_credit: 0,
        end: None,
    };
    let stdin = request.stdin.then(|| {
        let stdin = Stdin {
            inner: inner.clone(),
            running: running.clone(),
        };
        match request.tty {
            Some(_) => Box::new(TtyInput::new(stdin)) as _,
            None => Box::new(stdin) as _,
        }
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

/// Encodes the payload of the frame that starts a command.
fn spawn_payload(request: &ExecRequest, role: Role, time: Option<Duration>) -> Result<BytesMut, EngineError> {
    let texts = request.argv.iter().chain(&request.env);
    let (cwd, user) = (request.current_dir.as_deref(), request.user.as_deref());
    let mut payload = BytesMut::with_capacity(256 + texts.clone().map(|text| text.len() + 1).sum::<usize>());
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    payload.put_u32_le(
        flag(request.stdin, wire::WITH_STDIN)
            | flag(role == Role::CommandWithoutEnv, wire::CLEAR_ENV)
            | flag(role == Role::FileServer, wire::FILES)
            | flag(request.tty.is_some(), wire::WITH_TTY),
    );
    payload.put_u32_le(WINDOW);
    // 0 means no limit, here and below.
    let time = time.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
    payload.put_u64_le(time);
    let cpu_time = request
        .cpu_time
        .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
    payload.put_u64_le(cpu_time);
    payload.put_u64_le(request.memory.unwrap_or(0));
    payload.put_u64_le(request.file_size.unwrap_or(0));
    payload.put_u32_le(request.processes.unwrap_or(0));
    payload.put_slice(&request.tty.map(size).unwrap_or_default().encode());
    payload.put_u32_le(request.argv.len() as u32);
    payload.put_u32_le(request.env.len() as u32);
    for text in [cwd.unwrap_or(""), user.unwrap_or("")]
        .into_iter()
        .chain(texts.map(String::as_str))
    {
        payload.put_slice(text.as_bytes());
        payload.put_u8(0);
    }
    // The checks of `Command` have already refused NUL and most commands that are too long.
    if wire::Spawn::decode(&payload).is_none() || payload.len() > wire::MAX_SPAWN {
        let message = "the command is too long for the agent, or has a NUL in it";
        return Err(EngineError::new(EngineErrorKind::Rejected, message));
    }
    Ok(payload)
}

fn size(size: TtySize) -> wire::Size {
    let TtySize { rows, cols } = size;
    wire::Size { rows, cols }
}

impl Running {
    /// Takes a message about the command. Returns whether that was the last one.
    pub(super) fn take(&self, message: Message) -> Result<bool, EngineError> {
        let mut state = self.state.lock();
        match message {
            Message::Output(stream, data) => {
                let beyond = || EngineError::new(EngineErrorKind::Protocol, "the agent sends output beyond its credit");
                let len = u32::try_from(data.len()).map_err(|_| beyond())?;
                state.window = state.window.checked_sub(len).ok_or_else(beyond)?;
                if let Some(output) = &state.output {
                    // The reader may be gone.
                    let _ = output.send(Piece::Frame(Frame { stream, data }));
                }
            }
            Message::OutputEnd(stream) => {
                state.open[index(stream)] = false;
                // A reader of a pipe must still be told of the command's end.
                if state.open == [false; 2] && !(state.has_pipe && self.outcome.borrow().is_none()) {
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
                if state.open == [false; 2] {
                    state.output = None;
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
        let ended = self.outcome.borrow().is_some();
        state.leave_place(ended);
        Ok(state.output.is_none() && ended)
    }

    /// Notes that the agent was told that nobody reads the output any more.
    fn closed(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let ended = self.outcome.borrow().is_some();
        state.leave_place(ended);
    }

    /// Lets a stream go on in its pipe. Returns whether the pipe can be read. Must be called within a tokio runtime.
    pub(super) fn take_pipe(&self, stream: OutputStream, pipe: Descriptor) -> bool {
        let pipe = match Pipe::new(pipe) {
            Ok(pipe) => pipe,
            Err(error) => {
                tracing::debug!(%error, "the output of a command goes on in frames");
                return false;
            }
        };
        let mut state = self.state.lock();
        state.open[index(stream)] = false;
        state.has_pipe = true;
        if let Some(output) = &state.output {
            let _ = output.send(Piece::Pipe(stream, pipe));
        }
        true
    }

    /// Ends the command with the error of a lost connection, unless its outcome is known.
    pub(super) fn lose(&self, error: &EngineError) {
        let mut state = self.state.lock();
        state.place = None;
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

fn index(stream: OutputStream) -> usize {
    usize::from(stream == OutputStream::Stderr)
}

impl State {
    /// Gives the place back once the command has ended and all of its output has come or nobody reads it. Until the close is
    /// sent, the agent keeps the place of a command whose pipe was taken.
    fn leave_place(&mut self, ended: bool) {
        if ended && (self.closed || self.output.is_none() && !self.has_pipe) {
            self.place = None;
        }
    }

    fn close_stdin(&mut self, waker: &AtomicWaker) {
        self.stdin_closed = true;
        waker.wake();
    }
}

impl Names {
    /// Describes why the command was not started, in the words of the exec API where that has some.
    fn cannot_start(&self, stage: Stage, errno: i32) -> EngineError {
        let program = &self.program;
        let user = self.user.as_deref().unwrap_or_default();
        let what = match stage {
            Stage::Table => "the agent runs as many commands as it can at once".to_owned(),
            Stage::Resources => "the container has no room for another command".to_owned(),
            Stage::User => format!("{NO_USER}{user}: no matching entries in passwd file"),
            Stage::Group => format!("{NO_GROUP}{user}: no matching entries in group file"),
            Stage::BecomeUser => format!("{NOT_USER}{user}"),
            Stage::Directory => {
                let directory = self.directory.as_deref().unwrap_or("of the container");
                format!("unable to change to the working directory {directory}")
            }
            Stage::Lookup => format!("executable file {program} not found on PATH"),
            Stage::Exec => match errno {
                EAGAIN if self.limits_processes => {
                    format!("its user has more processes on the engine's machine than processes() allows, so {program} is not executed")
                }
                ENOMEM if self.limits_memory => format!("unable to execute {program} within memory()"),
                _ => format!("unable to execute {program}"),
            },
            Stage::Limits => {
                "its limits are beyond those of PID 1, or those or the priority of PID 1 were changed from within the container"
                    .to_owned()
            }
            Stage::Terminal => "the container has no terminal for the command".to_owned(),
            Stage::Cgroup => "its control group cannot be made".to_owned(),
            Stage::CgroupUser => {
                "it must not run as root where control groups are writable: give it another user".to_owned()
            }
            Stage::Processes => {
                "the kernel does not limit how many processes its user has: give it a user that is not root, or the container \
                 writable_cgroups()"
                    .to_owned()
            }
        };
        let message = match errno {
            0 => what,
            // For a directory the kernel itself says "permission denied".
            EISDIR => format!("{what}: permission denied, is a directory"),
            errno => {
                let words = io::Error::from_raw_os_error(errno).to_string();
                format!("{what}: {}", words.to_lowercase())
            }
        };
        let kind = match stage {
            Stage::Table | Stage::Resources | Stage::Limits | Stage::Terminal | Stage::Cgroup => {
                EngineErrorKind::Exhausted
            }
            _ => EngineErrorKind::CannotStart,
        };
        let error = EngineError::new(kind, message);
        let is_own = match stage {
            Stage::User | Stage::Group | Stage::BecomeUser => self.user.is_some(),
            Stage::Directory => self.directory.is_some(),
            _ => true,
        };
        if is_own { error } else { error.of_any_command() }
    }
}

/// The output of a command, for its reader. Credit for frames is given back as they are read.
struct Output {
    inner: Arc<Inner>,
    running: Arc<Running>,
    /// The events of the output; `None` after the last one.
    pieces: Option<mpsc::UnboundedReceiver<Piece>>,
    pipes: [Option<Pipe>; 2],
    /// The bytes whose credit is not given back yet.
    to_credit: u32,
    /// The rest of the output, once the command has ended or the agent is lost.
    end: Option<End>,
}

/// The rest of the output of a command that has ended.
struct End {
    /// The bytes that were in each pipe at the command's end and are not read yet: the command's own output.
    own: [usize; 2],
    /// When to stop reading the output of other processes. Set once all of the command's own output is read.
    until: Option<Instant>,
    lost: Option<EngineError>,
}

/// The next event for the reader of the output.
enum Next {
    Piece(Option<Piece>),
    /// Data from a pipe; `None` at its end.
    Read(OutputStream, Option<Bytes>),
    TimeIsUp,
    LookAtPipes,
}

impl Output {
    /// Returns the next frame, or `None` at the end.
    async fn next(&mut self) -> Option<Result<Frame, EngineError>> {
        loop {
            if let Some(end) = &mut self.end {
                // Any process of the container can have read the rest: an empty pipe holds no output of the command's.
                for (own, pipe) in end.own.iter_mut().zip(&self.pipes) {
                    if *own > 0 && pipe.as_ref().is_none_or(|pipe| pipe.pending() == 0) {
                        *own = 0;
                    }
                }
            }
            if let Some(end) = &mut self.end
                && end.own == [0; 2]
            {
                if let Some(error) = end.lost.take() {
                    self.pipes = [const { None }; 2];
                    return Some(Err(error));
                }
                end.until.get_or_insert_with(|| Instant::now() + OTHERS_OUTPUT);
            }
            match self.wait().await? {
                Next::Piece(Some(Piece::Frame(frame))) => {
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
                Next::Piece(Some(Piece::Pipe(stream, pipe))) => self.pipes[index(stream)] = Some(pipe),
                Next::Piece(Some(Piece::End)) => self.ended(None),
                Next::Piece(Some(Piece::Lost(error))) => self.ended(Some(error)),
                Next::Piece(None) => self.pieces = None,
                Next::Read(stream, Some(data)) => {
                    if let Some(end) = &mut self.end {
                        let own = &mut end.own[index(stream)];
                        *own = own.saturating_sub(data.len());
                    }
                    return Some(Ok(Frame { stream, data }));
                }
                Next::Read(stream, None) => {
                    self.pipes[index(stream)] = None;
                    if let Some(end) = &mut self.end {
                        end.own[index(stream)] = 0;
                    }
                }
                Next::TimeIsUp => return None,
                Next::LookAtPipes => {}
            }
        }
    }

    /// Notes the command's end, and how much of its output is still in the pipes.
    fn ended(&mut self, lost: Option<EngineError>) {
        self.end = Some(End {
            own: self.pipes.each_ref().map(|pipe| pipe.as_ref().map_or(0, Pipe::pending)),
            until: None,
            lost,
        });
    }

    /// Waits for the next event. Returns `None` when nothing can come any more.
    async fn wait(&mut self) -> Option<Next> {
        let [stdout, stderr] = &mut self.pipes;
        if self.pieces.is_none() && stdout.is_none() && stderr.is_none() {
            return None;
        }
        let until = self.end.as_ref().and_then(|end| end.until);
        let waits_for_own = self.end.as_ref().is_some_and(|end| end.own != [0; 2]);
        Some(tokio::select! {
            piece = next_piece(&mut self.pieces) => Next::Piece(piece),
            data = read(stdout) => Next::Read(OutputStream::Stdout, data),
            data = read(stderr) => Next::Read(OutputStream::Stderr, data),
            () = at(until) => Next::TimeIsUp,
            () = sleep(LOOK_AT_PIPES), if waits_for_own => Next::LookAtPipes,
        })
    }
}

/// Returns the next event, and waits for ever where there is no channel.
async fn next_piece(pieces: &mut Option<mpsc::UnboundedReceiver<Piece>>) -> Option<Piece> {
    match pieces {
        Some(pieces) => pieces.recv().await,
        None => pending().await,
    }
}

/// Reads from a pipe until its end, and waits for ever where there is no pipe.
async fn read(pipe: &mut Option<Pipe>) -> Option<Bytes> {
    match pipe {
        // Reading an open pipe does not fail; an error counts as its end.
        Some(pipe) => pipe.read().await.ok().filter(|data| !data.is_empty()),
        None => pending().await,
    }
}

/// Waits until this time, and for ever where there is none.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Without a reader, processes that go on printing would wait for ever.
        let early = {
            let mut state = self.running.state.lock();
            state.output.take().is_some() || state.has_pipe
        };
        if early {
            let ended = self.running.outcome.borrow().is_some();
            self.inner.close(self.running.id, ended);
            self.running.closed();
        }
    }
}

/// The command's standard input. Writes wait for credit from the agent.
struct Stdin {
    inner: Arc<Inner>,
    running: Arc<Running>,
}

impl AsyncWrite for Stdin {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Registered before the check, so that credit that comes right after it is not missed.
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

/// The first words of the errors for a command that is not started because of its user.
const NO_USER: &str = "unable to find user ";
const NO_GROUP: &str = "unable to find group of ";
const NOT_USER: &str = "unable to become user ";

/// Returns whether a command was not started because of its user.
pub(super) fn says_user(error: &EngineError) -> bool {
    let words = error.to_string();
    [NO_USER, NO_GROUP, NOT_USER]
        .iter()
        .any(|begin| words.starts_with(begin))
}

/// The control of a command: its outcome, its terminal's size, signals and kills.
struct Control {
    inner: Arc<Inner>,
    running: Arc<Running>,
}

impl Control {
    fn outcome(&self) -> Option<Outcome> {
        self.running.outcome.borrow().clone()
    }

    /// Waits for the outcome.
    async fn wait(&self) -> Option<Outcome> {
        let mut outcome = self.running.outcome.subscribe();
        // `self.running` holds the sender: the wait cannot fail.
        outcome.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Returns the exit code, or `None` while the command runs.
    async fn ask(&self) -> Result<Option<i64>, EngineError> {
        if self.outcome().is_none() {
            // Messages keep their order: once the agent has answered, a command without an outcome still runs.
            bounded("a question to the agent", ANSWER_TIMEOUT, self.inner.ping()).await?;
        }
        match self.outcome() {
            None => Ok(None),
            Some(Outcome::Exited(exit)) if exit.signal != 0 => Ok(Some(128 + i64::from(exit.signal))),
            Some(Outcome::Exited(exit)) => Ok(Some(exit.code.into())),
            Some(Outcome::CannotStart(error) | Outcome::Lost(error)) => Err(error),
        }
    }

    fn send_signal(&self, signal: i32, reach: Reach) -> BoxFuture<'_, Result<(), EngineError>> {
        let [a, b, c, d] = signal.to_le_bytes();
        self.inner
            .send(to_agent::SIGNAL, self.running.id, &[a, b, c, d, reach as u8]);
        Box::pin(async { Ok(()) })
    }

    /// Kills the command with all processes that it has started, and waits for their end.
    async fn end(&self) -> Result<(), EngineError> {
        self.inner.send(to_agent::KILL, self.running.id, &[]);
        match self.wait().await {
            Some(Outcome::Exited(exit)) if exit.cause != Cause::Own && !exit.all_dead => Err(EngineError::new(
                EngineErrorKind::Internal,
                "not all processes of the command could be killed",
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

    fn resize(&self, to: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        self.inner.send(to_agent::RESIZE, self.running.id, &size(to).encode());
        Box::pin(async { Ok(()) })
    }

    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.wait().await;
        })
    }

    /// The agent gives up no output: the streams of a command that has ended are whole.
    fn stream_end(&self) -> StreamEnd {
        match self.report() {
            Some(_) => StreamEnd::Whole,
            None => StreamEnd::GivenUp,
        }
    }

    fn report(&self) -> Option<ExecReport> {
        let Some(Outcome::Exited(exit)) = self.outcome() else {
            return None;
        };
        let known = |bytes| (bytes != wire::NO_COUNT).then_some(bytes);
        Some(ExecReport {
            signal: (exit.signal != 0).then_some(exit.signal.into()),
            at_deadline: exit.cause == Cause::Deadline,
            all_dead: exit.cause == Cause::Own || exit.all_dead,
            user: Duration::from_micros(exit.user),
            system: Duration::from_micros(exit.system),
            peak_memory: exit.peak_kib.saturating_mul(1024),
            oom_kills: (exit.oom_kills != wire::UNKNOWN).then_some(exit.oom_kills),
            killed_for_memory: exit.for_memory,
            cpu_time_used_up: exit.cause == Cause::CpuTime || exit.cpu_time_used_up,
            total_peak_memory: known(exit.own_peak),
            container_peak_memory: known(exit.container_peak),
        })
    }

    fn killing(&self) -> Option<&dyn Killing> {
        Some(self)
    }
}

impl Killing for Control {
    fn kill(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.end())
    }

    fn sign_of_life(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // A busy agent may answer late; until then anything else from it is a sign of life too.
            tokio::select! {
                () = self.inner.heard.notified() => {}
                _ = self.inner.ping() => {}
            }
        })
    }

    fn signal(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>> {
        self.send_signal(signal, Reach::First)
    }

    fn signal_all(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>> {
        self.send_signal(signal, Reach::All)
    }

    fn stop(&self, signal: i32) -> BoxFuture<'_, Result<(), EngineError>> {
        self.send_signal(signal, Reach::End)
    }
}
