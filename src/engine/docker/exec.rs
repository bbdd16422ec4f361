//! Commands through the exec API: create, start (which upgrades the connection to a stream), inspect.

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
use tokio_util::task::AbortOnDropHandle;

use super::convert::{checked, engine_error, question_error};
use super::upgrade::{self, Connection};
use super::words::{self, Named, Why};
use super::{DockerEngine, frames, lost_end, versions};
use crate::engine::{
    EngineError, EngineErrorKind, ExecControl, ExecReport, ExecRequest, ExecSession, Frame, Killing, OutputStream,
    StreamEnd, TtyInput, TtySize,
};
use crate::runtime::{Home, stream_within, within};
use crate::values::shown::Rounded;

/// The read buffer of a connection; Docker's frames have at most 32 KiB.
const READ_CAPACITY: usize = 64 * 1024;

/// The first and the longest pause between two queries about a command whose output has ended.
const END_CHECK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// How long, after the end of a command's output, an engine may report that the command neither runs nor has an exit code.
/// An engine briefly reports this state between the start of the exec and the start of its process.
const LONGEST_LIMBO: Duration = Duration::from_secs(10);

/// The maximum length of an engine's words, in bytes: a name is at most 128 KiB long, and may be escaped several times.
const MAX_WORDS: usize = 2 << 20;

/// The error of a command that has printed output although the engine reports that it never started.
const NEVER_WAS_AND_PRINTED: &str =
    "the engine reports that the command never started, but delivered output of the command";

/// The start of Podman's lines about errors, which come on standard error unless there is a terminal.
const PODMAN_START: &[u8] = b"Error: ";

/// Podman's exit codes for a command that did not start; a command may end with these codes, too.
const PODMAN_CODES: RangeInclusive<i64> = 125..=127;

/// How long to wait for Podman's words after it reports the end of a command, if the output has not ended and none of it has
/// arrived. Later, another process that the command has started holds the output.
const PODMANS_WORDS_DUE: Duration = Duration::from_secs(2);

/// The ends of Podman's lines about a runtime, and the starts of its lines about the program that monitors the runtime.
const PODMAN_ENDS: [&str; 7] = [
    ": OCI runtime attempted to invoke a command that was not found",
    ": OCI permission denied",
    ": OCI runtime error",
    ": internal libpod error",
    ": unable to assign security attribute",
    ": unable to get security attribute",
    ": unable to process security attribute",
];
const PODMAN_STARTS: [&str; 2] = [
    "Error: container create failed",
    "Error: failed to connect to container's attach socket",
];

/// Docker's exit codes for a command that did not start.
const DOCKER_CODES: RangeInclusive<i64> = 126..=128;

/// A container with fewer free processes than this may have too few for the runtime itself: `runc` has some ten threads.
const FEW_PROCESSES: u64 = 16;

/// How long Docker may report a container as paused after it was unpaused, and the pause between two attempts. Docker learns
/// of pausing and unpausing from containerd, after its own answers. A late notice of the pause sets "paused" again.
const LONGEST_STALE: Duration = Duration::from_millis(500);
const STALE_PAUSE: Duration = Duration::from_millis(20);

/// The first and the longest pause between two attempts to set a terminal's size.
const SIZE_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

pub(super) async fn start(engine: &DockerEngine, id: &str, request: &ExecRequest) -> Result<ExecSession, EngineError> {
    let docker = &engine.docker;
    let named = Named {
        directory: request.current_dir.is_some(),
        user: request.user.is_some(),
    };
    let version = engine.agreed.get();
    if request.current_dir.is_some() && version.is_some_and(|version| version < versions::EXEC_DIRECTORY) {
        let message = format!(
            "the engine would ignore the command's directory, which needs version {} of its API",
            versions::EXEC_DIRECTORY
        );
        return Err(EngineError::new(EngineErrorKind::Unsupported, message));
    }
    let takes_size = !engine.is_podman && version.is_some_and(|version| version >= versions::EXEC_SIZE);
    let config = ExecConfig {
        attach_stdin: Some(request.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(request.argv.clone()),
        env: (!request.env.is_empty()).then(|| request.env.clone()),
        working_dir: request.current_dir.clone(),
        user: request.user.clone(),
        tty: Some(request.tty.is_some()),
        console_size: request
            .tty
            .filter(|_| takes_size)
            .map(|size| vec![size.rows.into(), size.cols.into()]),
        ..Default::default()
    };
    let refused = |error| refused(named, error);
    let begun = Instant::now();
    let created = loop {
        match docker.create_exec(id, config.clone()).await {
            Err(error) if is_paused(&error) && begun.elapsed() < LONGEST_STALE => tokio::time::sleep(STALE_PAUSE).await,
            created => break created,
        }
    };
    let exec = checked(created.map_err(refused)?.id)?;
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

    let asked = Asked {
        docker: docker.clone(),
        container: id.to_owned(),
        exec,
        is_podman: engine.is_podman,
        tty,
        named,
        runtime: engine.runtime.clone(),
        known: Arc::default(),
        size: Arc::new(tokio::sync::Mutex::new(request.tty)),
    };
    let mut output = without_engine_words(output, asked.clone());
    if asked.is_podman {
        let known = asked.known.clone();
        output = lost_end::without(output, tty, move || known.lock().is_end_lost = true);
    }
    let sizing = tty.then(|| AbortOnDropHandle::new(engine.runtime.spawn(asked.clone().set_size())));
    Ok(ExecSession {
        stdin: request.stdin.then(|| match tty {
            true => Box::new(TtyInput::new(input)) as _,
            false => input,
        }),
        output: stream_within(&engine.runtime, output),
        control: Box::new(Control { asked, _sizing: sizing }),
    })
}

/// Returns whether Docker refuses the call because the container is paused.
fn is_paused(error: &DockerError) -> bool {
    matches!(
        error,
        DockerError::DockerResponseServerError { status_code: 409, message } if message.contains(" is paused")
    )
}

/// Translates an engine's refusal to run a command.
fn refused(named: Named, error: DockerError) -> EngineError {
    if let DockerError::DockerResponseServerError { status_code, message } = &error
        // These two statuses are more precise than their words.
        && !matches!(status_code, 404 | 409)
        && let Some(why) = words::why(message)
        && !matches!(why, Why::Container | Why::Lost)
    {
        return named.error(
            Some(why),
            format!(
                "the engine did not run the command: {}",
                words::shortened(message).trim()
            ),
        );
    }
    let is_of_container = matches!(
        &error,
        DockerError::DockerResponseServerError { message, .. } if words::why(message) == Some(Why::Container)
    );
    let error = engine_error("the engine did not run the command", error);
    // Docker answers 500 for a container that is being removed.
    if is_of_container && error.kind() == EngineErrorKind::Internal {
        return EngineError::new(EngineErrorKind::Conflict, error.to_string());
    }
    error
}

/// Queries the engine about one exec.
#[derive(Clone)]
struct Asked {
    docker: Docker,
    container: String,
    exec: String,
    is_podman: bool,
    tty: bool,
    named: Named,
    runtime: Home,
    known: Arc<Mutex<Known>>,
    /// The size that the terminal does not have yet. Locked during a resize.
    size: Arc<tokio::sync::Mutex<Option<TtySize>>>,
}

/// Controls one exec; dropping it ends the task that sets the terminal's size.
struct Control {
    asked: Asked,
    _sizing: Option<AbortOnDropHandle<()>>,
}

/// Holds the facts known about a command.
#[derive(Default)]
struct Known {
    /// Whether the command has started, so that all output is its own.
    has_begun: bool,
    /// The command's exit code.
    code: Option<i64>,
    /// The first frames of the output, while they may be the engine's words on why the command did not start.
    held: VecDeque<Frame>,
    /// The size of all held frames, in bytes.
    size: usize,
    /// Whether some output has proven to be the command's own.
    is_heard: bool,
    /// The time since which Podman has reported the end of the command, while no output has arrived.
    wordless_since: Option<Instant>,
    limbo: Limbo,
    /// Whether Podman has reported that it lost the end of the output.
    is_end_lost: bool,
}

impl Known {
    fn hold(&mut self, frame: Frame) {
        self.size += frame.data.len();
        self.held.push_back(frame);
    }

    /// Returns whether an exit code is not conclusive yet, because words on why the command did not start may still arrive.
    fn awaits_words(&mut self) -> bool {
        if self.has_begun || self.is_heard || self.limbo.output_ended || self.is_podmans() {
            return false;
        }
        self.wordless_since.get_or_insert_with(Instant::now).elapsed() <= PODMANS_WORDS_DUE
    }

    /// Returns all held output, as text.
    fn words(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).trim().to_owned()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.size);
        self.held.iter().for_each(|frame| all.extend_from_slice(&frame.data));
        all
    }

    /// Returns whether the command has printed output that is not the engine's words on why it did not start, or has ended
    /// with this exit code and without such words.
    fn has_own_output(&self, code: i64) -> bool {
        if self.is_heard || !words::may_be_words(&self.bytes()) {
            return true;
        }
        self.limbo.output_ended && self.held.is_empty() && !DOCKER_CODES.contains(&code)
    }

    /// Returns whether the held frames may be Docker's words, given that all but the last frame may. Docker's words are the
    /// whole output, on standard output, and end with CR LF.
    fn may_be_dockers(&self, tty: bool) -> bool {
        if tty {
            // On a terminal the words may arrive in pieces.
            return true;
        }
        let mut latest = self.held.iter().rev();
        let Some(last) = latest.next() else { return true };
        last.stream == OutputStream::Stdout
            // Only a frame that no program has written arrives in such pieces.
            && latest.next().is_none_or(|before| before.data.len() == frames::PIECE)
            && (last.data.len() == frames::PIECE || last.data.ends_with(b"\r\n"))
    }

    /// Returns whether the held frames are Podman's words on a command that did not start.
    fn is_podmans(&self) -> bool {
        self.words().lines().any(|line| {
            PODMAN_ENDS.iter().any(|end| line.ends_with(end))
                || PODMAN_STARTS.iter().any(|start| line.starts_with(start))
        })
    }

    /// Returns whether the held frames may be Podman's words, given that all but the last frame may. Each of Podman's lines
    /// starts with [`PODMAN_START`].
    fn may_be_podmans(&self, tty: bool) -> bool {
        if tty {
            let first = self.held.front().map_or(PODMAN_START, |frame| &frame.data);
            let common = first.len().min(PODMAN_START.len());
            return first[..common] == PODMAN_START[..common];
        }
        self.held.back().is_none_or(|frame| {
            frame.stream == OutputStream::Stderr
                && frame.data.starts_with(PODMAN_START)
                && (frame.data.ends_with(b"\n") || frame.data.len() == frames::PIECE)
        })
    }
}

/// Detects a command in an impossible state: its output has ended, and it neither runs nor has an exit code.
#[derive(Default)]
struct Limbo {
    output_ended: bool,
    /// The time since which every answer has reported this state.
    since: Option<Instant>,
}

impl Limbo {
    /// Notes an answer; fails if the state has lasted too long.
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
            format!(
                "for {} the engine has reported that the command does not run, without an exit code",
                Rounded(LONGEST_LIMBO)
            ),
        ))
    }
}

impl Asked {
    /// Asks whether the command has ended. Fails, with the words that have arrived, if the command ended without having
    /// started.
    async fn ask(&self) -> Result<Option<i64>, EngineError> {
        if let Some(code) = self.known.lock().code {
            return Ok(Some(code));
        }
        let found = self
            .docker
            .inspect_exec(&self.exec)
            .await
            .map_err(|error| question_error("the engine did not describe the command", error))?;
        // Podman reports the exit code 0 for a command that has not started yet. After the end it sets `can_remove`.
        let code = found
            .exit_code
            .filter(|_| !self.is_podman || found.can_remove != Some(false));
        let runs = found.running == Some(true);
        let pid = found.pid;
        // Some engines report -1 for a missing process.
        let has_pid = pid.is_some_and(|pid| pid > 0);
        let words = {
            let mut known = self.known.lock();
            known.limbo.note(!runs && code.is_none())?;
            known.has_begun |= has_pid;
            if runs {
                return Ok(None);
            }
            let Some(code) = code else { return Ok(None) };
            if self.is_podman && PODMAN_CODES.contains(&code) && known.awaits_words() {
                return Ok(None);
            }
            // On Docker, only a command that never started has no pid, whatever its exit code. Podman clears the pid at the
            // end, so the words must decide: a program that prints just such words itself is misjudged.
            let never_was = match pid {
                _ if known.has_begun => false,
                Some(_) if !self.is_podman => true,
                None if !self.is_podman => DOCKER_CODES.contains(&code) && words::why(&known.words()).is_some(),
                _ => PODMAN_CODES.contains(&code) && known.is_podmans(),
            };
            if !never_was {
                // The frames that are still held are the command's own, too.
                known.code = Some(code);
                return Ok(Some(code));
            }
            // The engine reports no pids, or loses them: the command's end is not known.
            if !self.is_podman && known.has_own_output(code) {
                known.is_heard = true;
                return Err(EngineError::new(EngineErrorKind::Protocol, NEVER_WAS_AND_PRINTED));
            }
            match known.held.front() {
                // Podman's later frames are about the end of its own attachment.
                Some(first) if self.is_podman && !self.tty => String::from_utf8_lossy(&first.data).trim().to_owned(),
                _ => known.words(),
            }
        };
        if words.is_empty() {
            let error = EngineError::new(EngineErrorKind::CannotStart, "the program could not be started");
            return Err(error.unexplained());
        }
        let mut why = words::why(&words);
        if why == Some(Why::Lost) && self.has_few_processes().await {
            why = Some(Why::Exhausted);
        }
        Err(self.named.error(why, words))
    }

    /// Returns whether the container has hardly any free processes, so that the runtime cannot start its own; `false` if not
    /// known.
    async fn has_few_processes(&self) -> bool {
        let options = bollard::query_parameters::StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut stats = std::pin::pin!(self.docker.stats(&self.container, Some(options)));
        let Some(Ok(stats)) = stats.next().await else {
            return false;
        };
        let pids = stats.pids_stats.unwrap_or_default();
        let (current, mut limit) = (pids.current.unwrap_or(0), pids.limit.unwrap_or(0));
        if limit == 0 {
            // Podman reports the limit in the description of the container.
            let found = self.docker.inspect_container(&self.container, None).await;
            let config = found.ok().and_then(|found| found.host_config);
            let asked = config.and_then(|config| config.pids_limit);
            limit = asked.and_then(|limit| u64::try_from(limit).ok()).unwrap_or(0);
        }
        limit != 0 && current != 0 && current.saturating_add(FEW_PROCESSES) > limit
    }

    /// Sets the terminal's first size: tries until the engine accepts it or the command has ended. Some engines accept a
    /// size only when the process exists; some runtimes set none at the start of a command.
    async fn set_size(self) {
        let (mut pause, longest) = SIZE_PAUSE;
        loop {
            {
                let mut size = self.size.lock().await;
                let Some(wanted) = *size else { return };
                match self.resize_to(wanted).await {
                    Ok(()) => {
                        *size = None;
                        return;
                    }
                    Err(error) => tracing::debug!(%error, "the size of a terminal is not set yet"),
                }
            }
            if !matches!(self.ask().await, Ok(None)) {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    async fn resize_to(&self, size: TtySize) -> Result<(), EngineError> {
        let options = bollard::exec::ResizeExecOptions {
            height: size.rows,
            width: size.cols,
        };
        self.docker
            .resize_exec(&self.exec, options)
            .await
            .map_err(|error| engine_error("the engine did not resize the terminal", error))?;
        // Podman accepts a size before the process exists.
        self.known.lock().has_begun |= !self.is_podman;
        Ok(())
    }

    /// Sets another size, which replaces a first size that is still to be set.
    async fn resize(&self, to: TtySize) -> Result<(), EngineError> {
        let mut size = self.size.lock().await;
        self.resize_to(to).await?;
        *size = None;
        Ok(())
    }

    /// Returns whether the held frames may be the engine's words.
    fn may_be_words(&self, known: &Known) -> bool {
        !known.has_begun
            && known.size <= MAX_WORDS
            && match self.is_podman {
                true => known.may_be_podmans(self.tty),
                false => known.may_be_dockers(self.tty),
            }
    }

    /// Retries [`ask_whether_begun`](Self::ask_whether_begun) until the engine answers.
    async fn ask_on(self) -> Result<(), EngineError> {
        let (mut pause, longest) = SIZE_PAUSE;
        loop {
            match self.ask_whether_begun().await {
                Err(error) if !error.says_not_started() && !self.known.lock().is_heard => {
                    tracing::debug!(%error, "the engine has not told yet whether a command started");
                }
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Completes when the start of the command, or its end, is known. The reader's deadline bounds the wait.
    async fn ask_whether_begun(&self) -> Result<(), EngineError> {
        let (mut pause, longest) = END_CHECK;
        loop {
            if self.ask().await?.is_some() || self.known.lock().has_begun {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }
}

impl ExecControl for Control {
    fn exit_code(&self) -> BoxFuture<'_, Result<Option<i64>, EngineError>> {
        within(&self.asked.runtime, self.asked.ask())
    }

    fn resize(&self, size: TtySize) -> BoxFuture<'_, Result<(), EngineError>> {
        within(&self.asked.runtime, self.asked.resize(size))
    }

    /// Never completes: Docker's API does not announce the end.
    fn ended(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn report(&self) -> Option<ExecReport> {
        None
    }

    fn killing(&self) -> Option<&dyn Killing> {
        None
    }

    /// Podman 5.8 still had the whole output 12 seconds after the end.
    fn stream_end(&self) -> StreamEnd {
        match self.asked.is_podman {
            true if self.asked.known.lock().is_end_lost => StreamEnd::Lost,
            true => StreamEnd::Whole,
            false => StreamEnd::GivenUp,
        }
    }
}

type Frames = BoxStream<'static, Result<Frame, EngineError>>;

type Log = std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<LogOutput, DockerError>> + Send>>;

/// Returns the output as frames, without the engine's own words about a command that did not start.
///
/// The first frames of the output are held while they may be such words and the start of the command is not known. Most
/// programs do not write like the engine, and none of their output is held. For the others, one query about the start runs
/// meanwhile, whose answer is final. When the output has ended, the stream waits for that answer.
fn without_engine_words(log: Frames, asked: Asked) -> Frames {
    struct State {
        log: Frames,
        asked: Asked,
        /// Whether all output so far may be the engine's words.
        only_words: bool,
        ended: bool,
        /// The error with which the output ended, which comes after the held frames.
        failure: Option<EngineError>,
        /// The query about the start of the command, while frames are held.
        question: Option<BoxFuture<'static, Result<(), EngineError>>>,
    }
    impl State {
        fn end(&mut self) {
            self.ended = true;
            self.asked.known.lock().limbo.output_ended = true;
        }
    }
    let state = State {
        log,
        asked,
        only_words: true,
        ended: false,
        failure: None,
        question: None,
    };
    stream::unfold(state, async |mut state| {
        loop {
            if !state.only_words {
                state.question = None;
                let held = state.asked.known.lock().held.pop_front();
                if let Some(held) = held {
                    return Some((Ok(held), state));
                }
            }
            if state.ended {
                return state.failure.take().map(|error| (Err(error), state));
            }
            let next = match &mut state.question {
                None => state.log.next().await,
                Some(question) => tokio::select! {
                    biased;
                    next = state.log.next() => next,
                    answer = question => {
                        state.question = None;
                        // Without an answer, the query is repeated at the end of the output. For a command that did not
                        // start, the words are all of the output.
                        if answer.is_ok() || state.asked.known.lock().is_heard {
                            state.only_words = false;
                        }
                        continue;
                    }
                },
            };
            match next {
                Some(Ok(frame)) if state.only_words => {
                    {
                        let mut known = state.asked.known.lock();
                        known.hold(frame);
                        state.only_words = state.asked.may_be_words(&known);
                        known.is_heard |= !state.only_words;
                    }
                    if state.only_words && state.question.is_none() {
                        state.question = Some(Box::pin(state.asked.clone().ask_on()));
                    }
                }
                Some(Ok(frame)) => return Some((Ok(frame), state)),
                end => {
                    state.end();
                    state.failure = end.and_then(Result::err);
                    let question = state.question.take();
                    if state.only_words && !state.asked.known.lock().held.is_empty() {
                        let answer = match question {
                            Some(asked) => asked.await,
                            None => state.asked.ask_whether_begun().await,
                        };
                        match answer {
                            Err(error) if error.says_not_started() => return None,
                            answer => {
                                state.only_words = false;
                                // Frames once returned as output never count as the engine's words later.
                                state.asked.known.lock().is_heard |= answer.is_err();
                            }
                        }
                    }
                }
            }
        }
    })
    .boxed()
}

/// Translates bollard's decoded output into frames.
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
        // A terminal's output has no frames.
        LogOutput::Console { message } if tty => (OutputStream::Stdout, message),
        // Bytes outside a whole frame: the stream was cut within a frame, or is not Docker's.
        LogOutput::Console { .. } | LogOutput::StdIn { .. } => {
            return Err(EngineError::new(
                EngineErrorKind::Protocol,
                "the output of the command broke off within a frame",
            ));
        }
    };
    Ok(Frame { stream, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podmans_exit_code_counts_only_after_its_words() {
        let known = |change: fn(&mut Known)| {
            let mut known = Known::default();
            change(&mut known);
            known
        };
        let words = |known: &mut Known, words: &'static str| {
            known.hold(Frame {
                stream: OutputStream::Stderr,
                data: Bytes::from_static(words.as_bytes()),
            });
        };
        assert!(Known::default().awaits_words());
        let mut part = Known::default();
        words(&mut part, "Error: crun: ");
        assert!(part.awaits_words(), "the rest of the line is still to come");
        words(&mut part, "fail startup: OCI runtime error\n");
        assert!(!part.awaits_words() && part.is_podmans());

        assert!(!known(|known| known.has_begun = true).awaits_words());
        assert!(!known(|known| known.is_heard = true).awaits_words());
        assert!(!known(|known| known.limbo.output_ended = true).awaits_words());
        // Another process holds the output.
        let long_ago = Instant::now().checked_sub(PODMANS_WORDS_DUE * 2).unwrap();
        let mut held = Known::default();
        assert!(held.awaits_words());
        held.wordless_since = Some(long_ago);
        assert!(!held.awaits_words());
    }
}
