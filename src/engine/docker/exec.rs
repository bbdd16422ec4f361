//! A command through the exec API: create, start (which upgrades the connection to a stream), inspect.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error as DockerError;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::ExecConfig;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::convert::{checked, engine_error};
use super::upgrade::{self, Connection};
use super::{DockerEngine, frames};
use crate::engine::{
    EngineError, EngineErrorKind, ExecControl, ExecRequest, ExecSession, Frame, OutputStream, TtyInput, TtySize,
};
use crate::runtime::{Home, stream_within, within};

/// Read from the connection at once; Docker's frames have at most 32 KiB.
const READ_CAPACITY: usize = 64 * 1024;

/// The first pause between two questions about a command whose output has ended, and the longest.
const END_CHECK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// How long an engine may say, after the end of a command's output, that it neither runs nor has an exit code. An engine
/// says so for a moment between its start and that of its process.
const LONGEST_LIMBO: Duration = Duration::from_secs(10);

/// Docker reports a program it could not start as output, in these words.
const CANNOT_START_WORDS: [&[u8]; 5] = [
    b"OCI runtime exec failed",
    b"unable to find user",
    b"unable to find group",
    b"uids and gids must be in range",
    b"cannot exec in a ",
];

/// Podman does so in a line on standard error that begins and ends thus, whatever runtime it uses, with one of these exit
/// codes.
const PODMAN_WORDS: (&[u8], [&[u8]; 3]) = (
    b"Error: ",
    [
        b": OCI runtime attempted to invoke a command that was not found\n",
        b": OCI permission denied\n",
        b": OCI runtime error\n",
    ],
);
const PODMAN_CODES: RangeInclusive<i64> = 125..=127;

/// And may add this line, on what it tried next.
const PODMAN_MORE_WORDS: (&[u8], &[u8]) = (b"Error: read unixpacket ", b": read: connection reset by peer\n");

/// Among these words, those of runc about a container that has ended or was paused meanwhile: before it joined its
/// namespaces, as it joined them, and after it.
const CONTAINER_WORDS: [&str; 3] = ["cannot exec in a ", "error executing setns process", " init-p: "];

/// In words about a working directory, of any runtime.
const DIRECTORY_WORDS: [&str; 3] = ["chdir", "cwd", "working directory"];

/// In words about a user or a group that is not there.
const USER_WORDS: [&str; 2] = ["no matching entries", "uids and gids must be in range"];

/// In words about the program.
const PROGRAM_WORDS: [&str; 6] = [
    "exec: \"",
    "executable file",
    "exec format error",
    "finding executable",
    "a command that was not found",
    "OCI permission denied",
];

/// What a command names itself, and may name wrong, beside its program.
#[derive(Clone, Copy)]
struct Named {
    directory: bool,
    user: bool,
}

impl Named {
    /// Whether a command that could not be started has itself brought along what these words are about. Not where nobody
    /// knows.
    fn has(self, words: &str) -> bool {
        let about = |these: &[&str]| these.iter().any(|its| words.contains(its));
        if about(&DIRECTORY_WORDS) {
            self.directory
        } else if about(&USER_WORDS) {
            self.user
        } else {
            about(&PROGRAM_WORDS)
        }
    }
}

pub(super) async fn start(engine: &DockerEngine, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError> {
    let docker = &engine.docker;
    let config = ExecConfig {
        attach_stdin: Some(request.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(request.argv.clone()),
        env: (!request.env.is_empty()).then(|| request.env.clone()),
        working_dir: request.current_dir.clone(),
        user: request.user.clone(),
        tty: Some(request.tty.is_some()),
        ..Default::default()
    };
    let refused = |error| engine_error("the engine did not run the command", error);
    let exec = checked(docker.create_exec(id, config).await.map_err(refused)?.id)?;
    let options = StartExecOptions {
        output_capacity: Some(READ_CAPACITY),
        tty: request.tty.is_some(),
        ..Default::default()
    };
    let tty = request.tty.is_some();
    let started = upgrade::raw(docker.start_exec(&exec, Some(options))).await;
    let (output, input): (_, Box<dyn AsyncWrite + Send + Unpin>) = match started.map_err(refused)? {
        Connection::Raw(stream) => {
            let (read, write) = tokio::io::split(stream);
            (frames::decode(read, engine.frames(tty)), Box::new(write))
        }
        Connection::Decoded(StartExecResults::Attached { output, input }) => {
            (plain_frames(output, tty), Box::new(input))
        }
        Connection::Decoded(StartExecResults::Detached) => {
            return Err(EngineError::new(
                EngineErrorKind::Protocol,
                "the engine ran the command without giving its output",
            ));
        }
    };

    let control = Control {
        docker: docker.clone(),
        exec,
        is_podman: engine.is_podman,
        named: Named {
            directory: request.current_dir.is_some(),
            user: request.user.is_some(),
        },
        runtime: engine.runtime.clone(),
        words: Arc::default(),
        limbo: Arc::default(),
    };
    if let Some(size) = request.tty {
        // Engines before API 1.42 take no size with the command itself. One that has already ended needs none.
        if let Err(error) = control.resize_to(size).await {
            tracing::debug!(%error, "could not set the size of a terminal");
        }
    }
    Ok(ExecSession {
        stdin: request.stdin.then(|| match tty {
            true => Box::new(TtyInput::new(input)) as _,
            false => input,
        }),
        output: stream_within(&engine.runtime, without_engine_words(output, control.clone())),
        control: Box::new(control),
    })
}

/// Asks the engine about one exec.
#[derive(Clone)]
struct Control {
    docker: Docker,
    exec: String,
    is_podman: bool,
    named: Named,
    runtime: Home,
    /// What may be the engine's words on why the program could not be started, held back from the output.
    words: Arc<Mutex<VecDeque<Frame>>>,
    limbo: Arc<Mutex<Limbo>>,
}

/// Whether a command is in a state that it cannot stay in: its output has ended, and it neither runs nor has an exit code.
#[derive(Default)]
struct Limbo {
    output_ended: bool,
    /// Since when every answer says so.
    since: Option<Instant>,
}

impl Limbo {
    /// Notes an answer; fails where it has been the same for too long.
    fn note(&mut self, is_nowhere: bool) -> Result<(), EngineError> {
        if !is_nowhere || !self.output_ended {
            self.since = None;
            return Ok(());
        }
        if self.since.get_or_insert_with(Instant::now).elapsed() <= LONGEST_LIMBO {
            return Ok(());
        }
        Err(EngineError::new(
            EngineErrorKind::Protocol,
            format!("for {LONGEST_LIMBO:?} the engine has said that the command does not run, without an exit code"),
        ))
    }
}

impl Control {
    async fn ask(&self) -> Result<Option<i64>, EngineError> {
        let found = self
            .docker
            .inspect_exec(&self.exec)
            .await
            .map_err(|error| engine_error("the engine did not describe the command", error))?;
        let runs = found.running == Some(true);
        self.limbo.lock().note(!runs && found.exit_code.is_none())?;
        if runs {
            return Ok(None);
        }
        let code = found.exit_code;
        // Only a process that never was has no pid; a program's own exit code 126 or 127 comes with one. Not so with Podman,
        // where its words must do: a program that writes the like itself, and no more, is mistaken.
        let never_was = if self.is_podman {
            code.is_some_and(|code| PODMAN_CODES.contains(&code)) && !self.words.lock().is_empty()
        } else {
            matches!(code, Some(126 | 127)) && found.pid.unwrap_or(0) == 0
        };
        if never_was {
            let words = self
                .words
                .lock()
                .front()
                .map(|frame| frame.data.clone())
                .unwrap_or_default();
            let words = String::from_utf8_lossy(&words).trim().to_owned();
            if words.is_empty() {
                let error = EngineError::new(EngineErrorKind::CannotStart, "the program could not be started");
                return Err(error.unexplained());
            }
            // Its state has changed since the command was created, and an inspect may not show it yet.
            let of_container = CONTAINER_WORDS.iter().any(|its| words.contains(its));
            let is_own = self.named.has(&words);
            let error = EngineError::new(EngineErrorKind::CannotStart, words);
            return Err(match (of_container, is_own) {
                (true, _) => error.of_container(),
                (false, true) => error,
                (false, false) => error.of_any_command(),
            });
        }
        Ok(code)
    }
}

impl Control {
    async fn resize_to(&self, size: TtySize) -> Result<(), EngineError> {
        let options = bollard::exec::ResizeExecOptions {
            height: size.rows,
            width: size.cols,
        };
        self.docker
            .resize_exec(&self.exec, options)
            .await
            .map_err(|error| engine_error("the engine did not resize the terminal", error))
    }

    /// Whether this frame, after the held ones, may be the engine's.
    fn may_be_words(&self, frame: &Frame) -> bool {
        let is = |(start, end): (&[u8], &[u8])| frame.data.starts_with(start) && frame.data.ends_with(end);
        let held = self.words.lock().len();
        match (self.is_podman, held) {
            (false, 0) => CANNOT_START_WORDS.iter().any(|words| frame.data.starts_with(words)),
            (true, 0) => {
                let (start, ends) = PODMAN_WORDS;
                frame.stream == OutputStream::Stderr && ends.iter().any(|end| is((start, end)))
            }
            (true, 1) => frame.stream == OutputStream::Stderr && is(PODMAN_MORE_WORDS),
            _ => false,
        }
    }

    /// The reader's deadline bounds it.
    async fn ask_until_ended(&self) -> Result<i64, EngineError> {
        let (mut pause, longest) = END_CHECK;
        loop {
            if let Some(code) = self.ask().await? {
                return Ok(code);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

impl ExecControl for Control {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        within(&self.runtime, self.ask())
    }

    fn resize(&self, size: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        within(&self.runtime, self.resize_to(size))
    }
}

type Frames = BoxStream<'static, Result<Frame, EngineError>>;

type Log = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, DockerError>> + Send>>;

/// The output as frames. What looks like the engine's own words about a program it could not start is held back until
/// it is known what it is.
fn without_engine_words(log: Frames, control: Control) -> Frames {
    struct State {
        log: Frames,
        control: Control,
        /// Whether all of it so far may have been the engine's words.
        only_words: bool,
        ended: bool,
    }
    impl State {
        fn end(&mut self) {
            self.ended = true;
            self.control.limbo.lock().output_ended = true;
        }
    }
    let state = State {
        log,
        control,
        only_words: true,
        ended: false,
    };
    stream::unfold(state, async |mut state| {
        loop {
            if !state.only_words {
                // They were the program's.
                let held = state.control.words.lock().pop_front();
                if let Some(held) = held {
                    return Some((Ok(held), state));
                }
            }
            if state.ended {
                return None;
            }
            match state.log.next().await {
                Some(Ok(frame)) if state.only_words => {
                    state.only_words = state.control.may_be_words(&frame);
                    state.control.words.lock().push_back(frame);
                }
                Some(Ok(frame)) => return Some((Ok(frame), state)),
                Some(Err(error)) => {
                    state.end();
                    return Some((Err(error), state));
                }
                None => {
                    state.end();
                    if !state.control.words.lock().is_empty() {
                        match state.control.ask_until_ended().await {
                            Err(error) if error.kind() == EngineErrorKind::CannotStart => return None,
                            _ => state.only_words = false,
                        }
                    }
                }
            }
        }
    })
    .boxed()
}

/// What bollard has decoded, as frames.
pub(super) fn plain_frames(log: Log, tty: bool) -> Frames {
    log.map(move |output| match output {
        Ok(output) => frame(output, tty),
        Err(error) => Err(engine_error("the output broke off", error)),
    })
    .boxed()
}

fn frame(output: LogOutput, tty: bool) -> Result<Frame, EngineError> {
    let (stream, data): (_, Bytes) = match output {
        LogOutput::StdOut { message } => (OutputStream::Stdout, message),
        LogOutput::StdErr { message } => (OutputStream::Stderr, message),
        // A terminal's output comes without frames.
        LogOutput::Console { message } if tty => (OutputStream::Stdout, message),
        // Bytes outside a whole frame: the stream was cut within one, or is none of Docker's.
        LogOutput::Console { .. } | LogOutput::StdIn { .. } => {
            return Err(EngineError::new(
                EngineErrorKind::Protocol,
                "the output of the command broke off within a frame",
            ));
        }
    };
    Ok(Frame { stream, data })
}
