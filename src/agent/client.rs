//! The connection to one agent: the attached streams of PID 1, and the socket beside them where there is one.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle as RuntimeHandle;
use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::decode::{Decoder, Message, Unproven};
use super::session::{self, Role, Running};
use super::socket::{Connection, Descriptor, Socket};
use super::wire::{self, Header, Why, to_agent};
use crate::engine::{Attachment, EngineError, EngineErrorKind, ExecRequest, ExecSession, Frame, OutputStream};
use crate::values::shown::Rounded;
use crate::values::status::Cgroups;

/// The most bytes of PID 1's standard error that are kept.
const WORDS: usize = 1024;

/// The agent's error number for a path with a symbolic link in it.
const ELOOP: i32 = 40;

/// The agent's errno for a wipe that has reached its limit of time.
const ETIME: i32 = 62;

/// How long the end of the attached streams is awaited after the end of the socket.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A command's place in the agent's table. The place is held until the agent has freed it.
pub(crate) type Place = OwnedSemaphorePermit;

/// A limit of `setrlimit(2)` for commands. The agent sets it for them and does not have it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The kernel's number of the resource.
    pub(crate) which: u32,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// The connection to an agent, and the container's lifeline. Dropping the value closes the connection, and the container ends.
#[derive(Debug)]
pub(crate) struct Client {
    inner: Arc<Inner>,
    tasks: Vec<AbortHandle>,
    /// Whether the agent can run commands as other users.
    any_user: bool,
    cgroups: Cgroups,
}

pub(super) struct Inner {
    frames: mpsc::UnboundedSender<Bytes>,
    /// The socket, once the agent has connected. All later frames go through it.
    socket: OnceLock<Arc<Connection>>,
    state: Mutex<State>,
    /// Notified of every piece of data from the agent.
    pub(super) heard: Notify,
    /// How many processes of the container the kernel had killed for memory when the agent told last.
    kills_told: AtomicU32,
    /// Held while directories are emptied: the agent does so for one caller at a time.
    wipes: Arc<tokio::sync::Mutex<()>>,
    /// One permit for each place in the agent's table of commands, given out in turn.
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    last_id: u32,
    commands: HashMap<u32, Arc<Running>>,
    questions: HashMap<u32, Question>,
    /// Why the connection is lost.
    lost: Option<EngineError>,
    /// Called when the connection is lost.
    on_lost: Option<Box<dyn FnOnce() + Send>>,
}

/// A question that the agent has not answered yet.
struct Question {
    kind: u8,
    answer: oneshot::Sender<Message>,
    /// The turn of a question that the agent takes one at a time. The turn is kept until the answer comes, also when the
    /// caller has given up.
    turn: Option<OwnedMutexGuard<()>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Client {
    /// Greets the agent, whose answer proves that it runs. If there is a socket, the agent connects to the socket before the
    /// answer: nothing else runs in the container so far, and nobody else can connect later.
    pub(crate) async fn connect(
        attachment: Attachment,
        socket: Option<Socket>,
        limits: &[Limit],
        runtime: &RuntimeHandle,
    ) -> Result<Self, EngineError> {
        let Attachment { stdin, output } = attachment;
        let (frames, to_write) = mpsc::unbounded_channel();
        let inner = Arc::new(Inner {
            frames,
            socket: OnceLock::new(),
            state: Mutex::default(),
            heard: Notify::new(),
            kills_told: AtomicU32::new(0),
            wipes: Arc::default(),
            places: Arc::new(Semaphore::new(wire::MAX_COMMANDS)),
        });
        let reader = runtime.spawn(read(output, Arc::downgrade(&inner)));
        let writer = runtime.spawn(write(stdin, to_write, Arc::downgrade(&inner)));
        let mut client = Self {
            inner,
            tasks: vec![reader.abort_handle(), writer.abort_handle()],
            any_user: false,
            cgroups: Cgroups::Unknown,
        };
        let mut hello = BytesMut::with_capacity(6 + wire::TOKEN);
        hello.put_slice(&wire::MAGIC);
        hello.put_u16_le(wire::VERSION);
        if let Some(socket) = &socket {
            hello.put_slice(socket.token());
        }
        match client.inner.ask(to_agent::HELLO, &hello, None).await? {
            Message::Hello {
                version: wire::VERSION,
                any_user,
                by_socket,
                cgroups,
            } => {
                client.any_user = any_user;
                client.cgroups = match cgroups {
                    wire::V1 => Cgroups::V1,
                    wire::V2 => Cgroups::V2ReadOnly,
                    _ => Cgroups::Unknown,
                };
                match socket {
                    Some(socket) if by_socket => client.go_on_through(socket, runtime)?,
                    None if by_socket => return Err(nonsense()),
                    _ => {}
                }
            }
            Message::Hello { version, .. } => {
                let message = format!(
                    "the agent speaks version {version} of the protocol, and this library version {}",
                    wire::VERSION
                );
                let error = EngineError::new(EngineErrorKind::CannotStart, message);
                return Err(error.advise("build the agent with this version of the library: see agent_path()"));
            }
            _ => return Err(nonsense()),
        }
        if !limits.is_empty() {
            client.inner.set_limits(limits);
        }
        Ok(client)
    }

    /// Sends and receives frames through the socket from now on. The attached streams stay the lifeline.
    fn go_on_through(&mut self, socket: Socket, runtime: &RuntimeHandle) -> Result<(), EngineError> {
        let connection = socket.accept(runtime).map_err(|error| {
            let message = "the agent's connection to the library's socket cannot be used";
            EngineError::of_system(EngineErrorKind::Protocol, message, error)
        })?;
        let connection = Arc::new(connection);
        let _ = self.inner.socket.set(connection.clone());
        let reader = runtime.spawn(read_socket(connection.clone(), Arc::downgrade(&self.inner)));
        let writer = runtime.spawn(async move { connection.write_queued().await });
        self.tasks.extend([reader.abort_handle(), writer.abort_handle()]);
        Ok(())
    }

    /// Returns whether the agent can run this command as the engine would.
    pub(crate) fn can_run(&self, request: &ExecRequest) -> bool {
        (request.user.is_none() || self.any_user) && self.inner.state.lock().lost.is_none()
    }

    /// Has the agent give every command a control group of its own. Must be called before the first command.
    pub(crate) async fn make_cgroups(&mut self) -> Result<(), EngineError> {
        let (step, errno) = match self.inner.ask(to_agent::CGROUPS, &[], None).await? {
            Message::CgroupsMade(None) => {
                self.cgroups = Cgroups::V2Writable;
                return Ok(());
            }
            Message::CgroupsMade(Some(failure)) => failure,
            _ => return Err(nonsense()),
        };
        let why = match step {
            1 => "there is no cgroup v2 in the container",
            2 => "PID 1 is not root there, or lacks the usual capabilities",
            3 => "/sys/fs/cgroup cannot be written to",
            4 => "the kernel has no cgroup.kill, which came with Linux 5.14",
            5 => "PID 1 cannot be moved into a group",
            6 => "the controllers `memory` and `pids` cannot be enabled",
            _ => "the reason is unknown",
        };
        let message = format!("writable_cgroups() is set, but commands cannot have control groups: {why}");
        let error = EngineError::new(EngineErrorKind::LimitDiscarded, message);
        let error = error.advise("see what writable_cgroups() needs");
        Err(match errno {
            0 => error,
            errno => error.with_source(std::io::Error::from_raw_os_error(errno)),
        })
    }

    /// Returns the kind of control groups in the container.
    pub(crate) fn cgroups(&self) -> Cgroups {
        self.cgroups
    }

    /// Returns why the connection is lost, if it is.
    pub(crate) fn lost(&self) -> Option<EngineError> {
        self.inner.state.lock().lost.clone()
    }

    /// Calls `tell` when the connection is lost, at once if it is lost already.
    pub(crate) fn on_lost(&self, tell: impl FnOnce() + Send + 'static) {
        let mut state = self.inner.state.lock();
        if state.lost.is_none() {
            state.on_lost = Some(Box::new(tell));
        } else {
            drop(state);
            tell();
        }
    }

    /// Waits in turn for a place for a command. Dropping the future leaves the queue.
    pub(crate) async fn place(&self) -> Result<Place, EngineError> {
        let place = self.inner.places.clone().acquire_owned().await;
        place.map_err(|_| self.inner.state.lock().why_lost())
    }

    /// Runs a command in its place, for at most `time`.
    pub(crate) fn exec(
        &self,
        place: Place,
        request: &ExecRequest,
        role: Role,
        time: Option<Duration>,
    ) -> Result<ExecSession, EngineError> {
        session::start(&self.inner, place, request, role, time)
    }

    /// Fails if a command of this user could not be started because of the user.
    pub(crate) async fn find_user(&self, user: &str) -> Result<(), EngineError> {
        let mut request = ExecRequest::new(["/"]);
        request.user = Some(user.to_owned());
        let session = self.exec(self.place().await?, &request, Role::Command, None)?;
        session.control.ended().await;
        match session.control.exit_code().await {
            // The agent looks the user up first; then it fails, since a directory cannot be executed.
            Err(error) if !session::says_user(&error) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Kills every process in the container but the agent.
    pub(crate) async fn kill_all(&self) -> Result<(), EngineError> {
        match self.inner.ask(to_agent::KILL_ALL, &[], None).await? {
            Message::AllKilled { left: 0 } => Ok(()),
            Message::AllKilled { left } => Err(EngineError::new(
                EngineErrorKind::Internal,
                format!("{left} processes in the container could not be killed"),
            )),
            _ => Err(nonsense()),
        }
    }

    /// Returns how many processes of the container the kernel has killed for memory, if that is counted. The caller's
    /// deadline bounds the wait.
    pub(crate) async fn oom_kills(&self) -> Option<u32> {
        self.inner.ping().await.ok().flatten()
    }

    /// Returns how many processes of the container the kernel had killed for memory when the agent told last. The agent tells of each
    /// kill that it sees, also where it is killed next.
    pub(crate) fn oom_kills_told(&self) -> u32 {
        self.inner.kills_told.load(Ordering::Acquire)
    }

    /// Returns whether the agent answers, which proves that its container still runs. The caller's deadline bounds the wait.
    pub(crate) async fn answers(&self) -> bool {
        self.inner.ping().await.is_ok()
    }

    /// Returns how many processes there are in the container beside the agent.
    pub(crate) async fn process_count(&self) -> Result<u32, EngineError> {
        match self.inner.ask(to_agent::COUNT, &[], None).await? {
            Message::Counted(count) => Ok(count),
            _ => Err(nonsense()),
        }
    }

    /// Has the agent remember the container's state. Must be called before the first command. Returns whether nothing can be
    /// written to the root file system. See `Baseline` in `PROTOCOL.md` for the lists.
    pub(crate) async fn take_baseline(
        &self,
        workspaces: &[String],
        shared: &[String],
        watched: &[String],
    ) -> Result<bool, EngineError> {
        let mut payload = BytesMut::new();
        payload.put_u32_le(workspaces.len() as u32);
        payload.put_u32_le(shared.len() as u32);
        for path in [workspaces, shared, watched].into_iter().flatten() {
            payload.put_slice(path.as_bytes());
            payload.put_u8(0);
        }
        if payload.len() > wire::MAX_BASELINE {
            let message = "there are too many paths to watch";
            return Err(EngineError::new(EngineErrorKind::Internal, message));
        }
        match self.inner.ask(to_agent::BASELINE, &payload, None).await? {
            Message::BaselineTaken(taken) => taken.map_err(|unproven| not_proven(unproven, Duration::ZERO)),
            _ => Err(nonsense()),
        }
    }

    /// Kills everything, empties the workspaces within `limit`, and fails unless the container is then as at its baseline. The
    /// caller has no other question of this kind under way.
    pub(crate) async fn clean(&self, limit: Duration) -> Result<(), EngineError> {
        let told = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX).to_le_bytes();
        // Both are sent at once: the agent cleans when everything is killed.
        let (killed, cleaned) = tokio::join!(self.kill_all(), self.inner.ask(to_agent::CLEAN, &told, None));
        killed?;
        match cleaned? {
            Message::Cleaned(None) => Ok(()),
            Message::Cleaned(Some(unproven)) => Err(not_proven(unproven, limit)),
            _ => Err(nonsense()),
        }
    }

    /// Removes everything in these directories. Earlier calls come first; `limit` begins when they are done.
    pub(crate) async fn wipe(&self, paths: &[&str], limit: Duration) -> Result<(), EngineError> {
        let rejected = |message: String| Err(EngineError::new(EngineErrorKind::Rejected, message));
        let mut payload = BytesMut::new();
        payload.put_u32_le(u32::try_from(limit.as_millis()).unwrap_or(u32::MAX));
        for path in paths {
            if !path.starts_with('/') || path.contains('\0') || path.split('/').any(|name| name == "..") {
                return rejected(format!(
                    "{path:?} cannot be wiped: it must be absolute, without `..` and NUL"
                ));
            }
            payload.put_slice(path.as_bytes());
            payload.put_u8(0);
        }
        if payload.len() > wire::MAX_WIPE {
            return rejected(format!("the paths to be wiped have more than {} bytes", wire::MAX_WIPE));
        }
        let turn = self.inner.wipes.clone().lock_owned().await;
        match self.inner.ask(to_agent::WIPE, &payload, Some(turn)).await? {
            Message::Wiped(None) => Ok(()),
            Message::Wiped(Some((errno, path))) => {
                let path = paths.get(path as usize).copied().unwrap_or_default();
                let message = match errno {
                    ELOOP => format!("{path:?} was not wiped: there is a symbolic link in it, which is not followed"),
                    ETIME => not_in_time(path, limit),
                    _ => format!("not everything in {path:?} could be removed"),
                };
                let error = EngineError::new(EngineErrorKind::Internal, message);
                Err(match errno {
                    // The message says the same.
                    ELOOP | ETIME => error,
                    _ => error.with_source(std::io::Error::from_raw_os_error(errno)),
                })
            }
            _ => Err(nonsense()),
        }
    }
}

/// Returns the words for a directory that was not emptied within this time.
fn not_in_time(path: &str, limit: Duration) -> String {
    format!("{path:?} was not emptied in time, within {}", Rounded(limit))
}

/// Returns the error for what the agent could not prove. `limit` is the time that it had to empty the workspaces.
fn not_proven(unproven: Unproven, limit: Duration) -> EngineError {
    let Unproven { why, number, path } = unproven;
    let message = match why {
        Why::Failed => format!("{path:?} could not be examined"),
        Why::TooMuch => format!("there is more to examine than the agent has room for, at {path:?}"),
        Why::Writable => format!("{path:?} can be written to, and is neither a workspace nor yours"),
        Why::NotEmpty => format!("{path:?} is in memory and has something in it from the start"),
        Why::NoQueues => "/dev/mqueue is missing, so that message queues cannot be listed".to_owned(),
        Why::Processes => format!("{number} processes are left"),
        Why::Workspace if number == ETIME => not_in_time(&path, limit),
        Why::Workspace => format!("{path:?} could not be emptied"),
        Why::Object => format!("an object of System V in {path:?} could not be removed"),
        Why::Changed => format!("{path:?} is not as it was"),
        Why::NoBaseline => "the container's first state is not known".to_owned(),
        Why::Elsewhere => {
            format!("nothing is mounted at {path:?}, which may be a link, and so nobody knows which mount is yours")
        }
    };
    let error = EngineError::new(EngineErrorKind::Internal, message);
    match why {
        // The message says the same.
        Why::Workspace if number == ETIME => error,
        Why::Failed | Why::Workspace | Why::Object if number != 0 => {
            error.with_source(std::io::Error::from_raw_os_error(number))
        }
        _ => error,
    }
}

/// Returns the error for an answer that does not belong to its question.
fn nonsense() -> EngineError {
    EngineError::new(EngineErrorKind::Protocol, "the agent's answer makes no sense")
}

impl Inner {
    /// Sends a frame. A failure is left to the reader, which sees the connection's end.
    pub(super) fn send(&self, kind: u8, id: u32, payload: &[u8]) {
        let header = Header {
            len: payload.len(),
            kind,
            id,
        };
        let mut frame = BytesMut::with_capacity(wire::HEADER + payload.len());
        frame.put_slice(&header.encode());
        frame.put_slice(payload);
        match self.socket.get() {
            Some(socket) => socket.send(frame.freeze()),
            None => drop(self.frames.send(frame.freeze())),
        }
    }

    /// Tells the agent the limits of commands.
    fn set_limits(&self, limits: &[Limit]) {
        let mut payload = BytesMut::with_capacity(limits.len() * wire::LIMIT);
        for limit in limits {
            payload.put_u32_le(limit.which);
            payload.put_u64_le(limit.soft);
            payload.put_u64_le(limit.hard);
        }
        self.send(to_agent::LIMITS, 0, &payload);
    }

    /// Adds the command that `make` creates for a new id.
    pub(super) fn add(&self, make: impl FnOnce(u32) -> Arc<Running>) -> Result<Arc<Running>, EngineError> {
        let mut state = self.state.lock();
        let id = state.new_id()?;
        let running = make(id);
        state.commands.insert(id, running.clone());
        Ok(running)
    }

    /// Tells the agent that nobody reads this command's output any more. A command that has ended is removed.
    pub(super) fn close(&self, id: u32, ended: bool) {
        self.send(to_agent::CLOSE, id, &[]);
        if ended {
            self.state.lock().commands.remove(&id);
        }
    }

    /// Asks for a sign of life. Returns how many processes the kernel has killed for memory, if that is counted.
    pub(super) async fn ping(&self) -> Result<Option<u32>, EngineError> {
        match self.ask(to_agent::PING, &[], None).await? {
            Message::Pong(oom_kills) => Ok(oom_kills),
            _ => Err(nonsense()),
        }
    }

    /// Asks a question and waits for its answer. The caller's deadline bounds the wait.
    async fn ask(&self, kind: u8, payload: &[u8], turn: Option<OwnedMutexGuard<()>>) -> Result<Message, EngineError> {
        let (answer, answered) = oneshot::channel();
        let id = {
            let mut state = self.state.lock();
            // Questions whose callers have given up are forgotten.
            let awaited = |question: &Question| question.turn.is_some() || !question.answer.is_closed();
            state.questions.retain(|_, question| awaited(question));
            let id = state.new_id()?;
            state.questions.insert(id, Question { kind, answer, turn });
            id
        };
        self.send(kind, id, payload);
        match answered.await {
            Ok(message) => Ok(message),
            Err(_) => Err(self.state.lock().why_lost()),
        }
    }

    /// Marks the connection as lost, and fails all commands and questions.
    fn lose(&self, error: EngineError) {
        let (commands, questions, on_lost) = {
            let mut state = self.state.lock();
            state.lost.get_or_insert_with(|| error.clone());
            (
                std::mem::take(&mut state.commands),
                std::mem::take(&mut state.questions),
                state.on_lost.take(),
            )
        };
        drop(questions);
        // Callers that wait for a place are told why there is none.
        self.places.close();
        for running in commands.into_values() {
            running.lose(&error);
        }
        if let Some(tell) = on_lost {
            tell();
        }
    }

    /// Answers the agent's offer of a pipe. Where the pipe did not arrive, for want of file descriptors, the stream goes on
    /// in frames.
    fn take_pipe(&self, id: u32, stream: OutputStream, pipe: Option<Descriptor>) {
        let running = self.state.lock().commands.get(&id).cloned();
        let taken = match (running, pipe) {
            (Some(running), Some(pipe)) => running.take_pipe(stream, pipe),
            _ => false,
        };
        let stream = u8::from(stream == OutputStream::Stderr);
        self.send(to_agent::PIPE, id, &[stream, taken.into()]);
    }

    /// Hands a message to its command or question.
    fn take(&self, id: u32, message: Message) -> Result<(), EngineError> {
        if let Message::Pong(kills) = message {
            if let Some(kills) = kills {
                self.kills_told.fetch_max(kills, Ordering::AcqRel);
            }
            if id == 0 {
                // A sign of life that nobody has asked for.
                return Ok(());
            }
        }
        let mut state = self.state.lock();
        if let Some(running) = state.commands.get(&id).cloned() {
            if running.take(message)? {
                state.commands.remove(&id);
            }
        } else if matches!(message, Message::AllKilled { .. }) {
            // The answer counts for all earlier questions of this kind too.
            let answered = |asked: &u32, question: &mut Question| *asked <= id && question.kind == to_agent::KILL_ALL;
            for (_, question) in state.questions.extract_if(answered) {
                let _ = question.answer.send(message.clone());
            }
        } else if let Some(question) = state.questions.remove(&id) {
            let _ = question.answer.send(message);
        } else if id == 0 || id > state.last_id {
            return Err(EngineError::new(
                EngineErrorKind::Protocol,
                "the agent names a command that was never started",
            ));
        }
        Ok(())
    }
}

impl State {
    fn new_id(&mut self) -> Result<u32, EngineError> {
        if self.lost.is_some() {
            return Err(self.why_lost());
        }
        // Ids are never used again: a late message must not reach another command.
        self.last_id = self.last_id.checked_add(1).ok_or_else(|| {
            EngineError::new(
                EngineErrorKind::Internal,
                "the agent has run as many commands as it can",
            )
        })?;
        Ok(self.last_id)
    }

    fn why_lost(&self) -> EngineError {
        self.lost
            .clone()
            .unwrap_or_else(|| EngineError::new(EngineErrorKind::Protocol, "the connection to the agent is closed"))
    }
}

/// Reads from the attached streams until they end, and then loses the connection.
async fn read(mut output: BoxStream<'static, Result<Frame, EngineError>>, inner: Weak<Inner>) {
    let mut decoder = Decoder::default();
    let mut words = Vec::new();
    let error = loop {
        let frame = match output.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => break error,
            None => {
                let words = String::from_utf8_lossy(&words);
                let message = match words.trim() {
                    "" => "the agent has ended".to_owned(),
                    words => format!("the agent has ended: {words}"),
                };
                break EngineError::new(EngineErrorKind::Protocol, message);
            }
        };
        let Some(inner) = inner.upgrade() else { return };
        if frame.stream == OutputStream::Stderr {
            words.extend_from_slice(&frame.data[..frame.data.len().min(WORDS - words.len())]);
            continue;
        }
        if let Err(error) = feed(&mut decoder, frame.data, &inner, || None) {
            break error;
        }
    };
    tracing::debug!(%error, "the connection to an agent has ended");
    if let Some(inner) = inner.upgrade() {
        inner.lose(error);
    }
}

/// Takes data from the agent. `pipe` returns the file descriptor that came with an offered pipe.
fn feed(
    decoder: &mut Decoder,
    data: Bytes,
    inner: &Inner,
    mut pipe: impl FnMut() -> Option<Descriptor>,
) -> Result<(), EngineError> {
    inner.heard.notify_waiters();
    let mut taken = Ok(());
    let fed = decoder.feed(data, |id, message| match message {
        Message::Pipe(stream) => inner.take_pipe(id, stream, pipe()),
        message if taken.is_ok() => taken = inner.take(id, message),
        _ => {}
    });
    taken?;
    fed.map_err(|_| EngineError::new(EngineErrorKind::Protocol, "the agent's data is not its protocol"))
}

/// Reads from the socket until it ends, and then loses the connection.
async fn read_socket(connection: Arc<Connection>, inner: Weak<Inner>) {
    let mut decoder = Decoder::default();
    let mut arrived = VecDeque::new();
    let error = loop {
        let data = match connection.receive(&mut arrived).await {
            Ok(data) => data,
            Err(error) => {
                // The attached streams end as well, with the agent's last words, and once the engine knows of the end.
                tokio::time::sleep(LAST_WORDS).await;
                break EngineError::new(EngineErrorKind::Protocol, "the agent has ended").with_source(error);
            }
        };
        let Some(inner) = inner.upgrade() else { return };
        if let Err(error) = feed(&mut decoder, data, &inner, || arrived.pop_front().flatten()) {
            break error;
        }
    };
    if let Some(inner) = inner.upgrade() {
        inner.lose(error);
    }
}

/// Writes frames to the attached streams.
async fn write(
    mut stdin: Box<dyn AsyncWrite + Send + Unpin>,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    inner: Weak<Inner>,
) {
    while let Some(frame) = frames.recv().await {
        let written = async {
            stdin.write_all(&frame).await?;
            // Flushed only once no more frames wait.
            if frames.is_empty() { stdin.flush().await } else { Ok(()) }
        };
        if let Err(error) = written.await {
            if let Some(inner) = inner.upgrade() {
                let message = "the agent cannot be written to";
                inner.lose(EngineError::new(EngineErrorKind::Protocol, message).with_source(error));
            }
            return;
        }
    }
}
