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
use crate::engine::{EngineError, EngineErrorKind, ExecProbe, ExecRequest, ExecSession, Frame, OutputStream};

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
        ..Default::default()
    };
    let refused = |error| engine_error("the engine did not run the command", error);
    let exec = docker.create_exec(id, config).await.map_err(refused)?.id;
    let options = StartExecOptions {
        output_capacity: Some(READ_CAPACITY),
        ..Default::default()
    };
    let (output, input) = match docker.start_exec(&exec, Some(options)).await.map_err(refused)? {
        StartExecResults::Attached { output, input } => (output, input),
        StartExecResults::Detached => {
            return Err(EngineError::new(
                EngineErrorKind::Protocol,
                "the engine ran the command without giving its output",
            ));
        }
    };

    let probe = Probe {
        docker: docker.clone(),
        exec,
        words: Arc::default(),
    };
    let stdin: Option<Box<dyn AsyncWrite + Send + Unpin>> = request.stdin.then(|| Box::new(input) as _);
    Ok(ExecSession {
        stdin,
        output: frames(output, probe.clone()),
        probe: Box::new(probe),
    })
}

/// Asks the engine about one exec.
#[derive(Clone)]
struct Probe {
    docker: Docker,
    exec: String,
    /// What may be the engine's words on why the program could not be started, held back from the output.
    words: Arc<Mutex<Option<Frame>>>,
}

impl Probe {
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

impl Probe {
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

impl ExecProbe for Probe {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        Box::pin(self.ask())
    }
}

type Log = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, DockerError>> + Send>>;

/// The output as frames. What looks like the engine's own words about a program it could not start is held back until
/// it is known what it is.
fn frames(log: Log, probe: Probe) -> BoxStream<'static, Result<Frame, EngineError>> {
    struct State {
        log: Log,
        probe: Probe,
        first: bool,
        next: Option<Frame>,
        ended: bool,
    }
    let state = State {
        log,
        probe,
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
                Some(Ok(output)) => match frame(output) {
                    Ok(frame) => {
                        let held = state.probe.words.lock().take();
                        let first = std::mem::take(&mut state.first);
                        if let Some(held) = held {
                            // More output follows: they were the program's words.
                            state.next = Some(frame);
                            return Some((Ok(held), state));
                        }
                        if first && CANNOT_START_WORDS.iter().any(|words| frame.data.starts_with(words)) {
                            *state.probe.words.lock() = Some(frame);
                            continue;
                        }
                        return Some((Ok(frame), state));
                    }
                    Err(error) => {
                        state.ended = true;
                        return Some((Err(error), state));
                    }
                },
                Some(Err(error)) => {
                    state.ended = true;
                    return Some((Err(engine_error("the output of the command broke off", error)), state));
                }
                None => {
                    state.ended = true;
                    if state.probe.words.lock().is_some() {
                        match state.probe.ask_until_ended().await {
                            Err(error) if error.kind() == EngineErrorKind::CannotStart => return None,
                            _ => state.next = state.probe.words.lock().take(),
                        }
                    }
                }
            }
        }
    })
    .boxed()
}

/// The output as frames, all of it.
pub(super) fn plain_frames(log: Log) -> BoxStream<'static, Result<Frame, EngineError>> {
    log.map(|output| match output {
        Ok(output) => frame(output),
        Err(error) => Err(engine_error("the output broke off", error)),
    })
    .boxed()
}

fn frame(output: LogOutput) -> Result<Frame, EngineError> {
    let (stream, data): (_, Bytes) = match output {
        LogOutput::StdOut { message } => (OutputStream::Stdout, message),
        LogOutput::StdErr { message } => (OutputStream::Stderr, message),
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
