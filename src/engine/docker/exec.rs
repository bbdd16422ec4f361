//! A command through the exec API: create, start (which upgrades the connection to a stream), inspect.

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

use super::convert::engine_error;
use super::frames;
use super::upgrade::{self, Connection};
use crate::engine::{
    EngineError, EngineErrorKind, ExecControl, ExecRequest, ExecSession, Frame, OutputStream, TtySize,
};

/// Read from the connection at once; Docker's frames have at most 32 KiB.
const READ_CAPACITY: usize = 64 * 1024;

/// How often a command is asked about whose output has ended.
const END_CHECK: Duration = Duration::from_millis(5);

/// The engine reports a program it could not start as output, in these words.
const CANNOT_START_WORDS: [&[u8]; 4] = [
    b"OCI runtime exec failed",
    b"unable to find user",
    b"unable to find group",
    b"cannot exec in a ",
];

pub(super) async fn start(docker: &Docker, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError> {
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
    let exec = docker.create_exec(id, config).await.map_err(refused)?.id;
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
            (frames::decode(read, tty), Box::new(write))
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
        words: Arc::default(),
    };
    if let Some(size) = request.tty {
        // Engines before API 1.42 take no size with the command itself. One that has already ended needs none.
        if let Err(error) = control.resize_to(size).await {
            tracing::debug!(%error, "could not set the size of a terminal");
        }
    }
    Ok(ExecSession {
        stdin: request.stdin.then_some(input),
        output: without_engine_words(output, control.clone()),
        control: Box::new(control),
    })
}

/// Asks the engine about one exec.
#[derive(Clone)]
struct Control {
    docker: Docker,
    exec: String,
    /// What may be the engine's words on why the program could not be started, held back from the output.
    words: Arc<Mutex<Option<Frame>>>,
}

impl Control {
    async fn ask(&self) -> Result<Option<i64>, EngineError> {
        let found = self
            .docker
            .inspect_exec(&self.exec)
            .await
            .map_err(|error| engine_error("the engine did not describe the command", error))?;
        let code = match found {
            ref found if found.running == Some(true) => return Ok(None),
            ref found => found.exit_code,
        };
        // Only a process that never was has no pid; a program's own exit code 126 or 127 comes with one.
        if matches!(code, Some(126 | 127)) && found.pid.unwrap_or(0) == 0 {
            let words = self
                .words
                .lock()
                .as_ref()
                .map(|frame| frame.data.clone())
                .unwrap_or_default();
            let words = String::from_utf8_lossy(&words).trim().to_owned();
            let words = if words.is_empty() {
                "the program could not be started".into()
            } else {
                words
            };
            return Err(EngineError::new(EngineErrorKind::CannotStart, words));
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

    /// The reader's deadline bounds it.
    async fn ask_until_ended(&self) -> Result<i64, EngineError> {
        loop {
            match self.ask().await? {
                Some(code) => return Ok(code),
                None => tokio::time::sleep(END_CHECK).await,
            }
        }
    }
}

impl ExecControl for Control {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        Box::pin(self.ask())
    }

    fn resize(&self, size: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(self.resize_to(size))
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
        first: bool,
        next: Option<Frame>,
        ended: bool,
    }
    let state = State {
        log,
        control,
        first: true,
        next: None,
        ended: false,
    };
    stream::unfold(state, async |mut state| {
        loop {
            if let Some(frame) = state.next.take() {
                return Some((Ok(frame), state));
            }
            if state.ended {
                return None;
            }
            match state.log.next().await {
                Some(Ok(frame)) => {
                    let held = state.control.words.lock().take();
                    let first = std::mem::take(&mut state.first);
                    if let Some(held) = held {
                        // More output follows: they were the program's words.
                        state.next = Some(frame);
                        return Some((Ok(held), state));
                    }
                    if first && CANNOT_START_WORDS.iter().any(|words| frame.data.starts_with(words)) {
                        *state.control.words.lock() = Some(frame);
                        continue;
                    }
                    return Some((Ok(frame), state));
                }
                Some(Err(error)) => {
                    state.ended = true;
                    return Some((Err(error), state));
                }
                None => {
                    state.ended = true;
                    if state.control.words.lock().is_some() {
                        match state.control.ask_until_ended().await {
                            Err(error) if error.kind() == EngineErrorKind::CannotStart => return None,
                            _ => state.next = state.control.words.lock().take(),
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
