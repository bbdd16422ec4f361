//! Moving the output of a command from the engine to its readers: [`Pump`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Instant, sleep, sleep_until};

use super::driver::{QUESTION_FAILURES, ask};
use super::halt::{Halt, Stop};
use crate::container::Shared;
use crate::engine::{EngineError, ExecControl, Frame, OutputStream, StreamEnd};
use crate::runtime::bounded;

/// Pieces of output that wait for a reader, for each of the two streams. Docker's have at most 32 KiB.
const PIPE_FRAMES: usize = 16;

/// After this long without output a command is asked about: it may have ended while its background children hold its
/// output, or the connection may be dead. The first and the longest pause; an engine that many silent commands run on has
/// better things to do than to answer that they still do.
const SILENCE_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How long the next piece of output, or its end, is waited for once a command is known to have ended or is being ended.
/// Counts from the last piece. Only the end of the stream proves that all of it came: a relay between us and the engine may
/// pause. Docker gives the end two seconds after that of the command, also where background tasks hold the output.
const SILENCE_AT_END: Duration = Duration::from_secs(5);

/// How long pieces are taken in all after the end of a command: its background tasks may print for ever.
const OUTPUT_AFTER_END: Duration = Duration::from_secs(30);

/// A command whose output waits for its reader is asked about after this long, and then at the longest this often.
const STALL_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(500));

/// This long after the end of a command Docker gives up output of it that was not taken, and gives the end of the stream as if
/// it were whole.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// How much output of a command that has ended or is being ended is kept for a reader that is slow, in bytes. Beyond what
/// the engine and the kernel hold (some 1.4 MB) it is only what others print, or a fast writer while the kill is on its way.
const REST: usize = 4 << 20;

/// How long the engine may take to say whether a command that has printed nothing for too long has ended.
const IDLE_QUESTION: Duration = Duration::from_secs(1);

/// A pipe for one output.
pub(super) fn pipe() -> (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    mpsc::channel(PIPE_FRAMES)
}

/// Moves a command's output from the engine to its pipes.
pub(super) struct Pump {
    pub(super) output: BoxStream<'static, Result<Frame, EngineError>>,
    pub(super) control: Arc<dyn ExecControl>,
    pub(super) shared: Arc<Shared>,
    pub(super) halt: Arc<Halt>,
    pub(super) idle_timeout: Option<Duration>,
    /// Since when the next piece is waited for.
    pub(super) quiet_since: Instant,
    /// Until when pieces are taken at all, once the command is known to have ended or is being ended.
    pub(super) ended_until: Option<Instant>,
    /// When the command is asked about next, and the pause before that, once a reader has held it up; until it is known to
    /// have run after that.
    pub(super) next_question: Option<(Instant, Duration)>,
    /// When it was last known to run.
    pub(super) ran_at: Instant,
    pub(super) stdout: mpsc::Sender<Bytes>,
    pub(super) stderr: mpsc::Sender<Bytes>,
}

/// What comes of the output.
enum Next {
    Frame(Frame),
    /// All of it has come.
    End,
    /// More of it may be on its way, and is not waited for.
    Cut,
}

impl From<Option<Frame>> for Next {
    fn from(frame: Option<Frame>) -> Self {
        frame.map_or(Self::End, Self::Frame)
    }
}

impl Pump {
    /// Until the output ends; gives since when there was none. A reader that does not read holds it up, and the command with
    /// it; unless the command is being ended (an engine whose output is not taken takes ten seconds to end a container) or
    /// has ended.
    pub(super) async fn run(mut self) -> Result<Instant, EngineError> {
        loop {
            let frame = match self.next().await? {
                Next::Frame(frame) => frame,
                Next::End => {
                    self.halt.whole.store(self.is_whole_at_end(), Ordering::Release);
                    return Ok(self.quiet_since);
                }
                Next::Cut => return Ok(self.quiet_since),
            };
            // Where nobody reads this stream any more, the rest of it goes nowhere.
            let Err(TrySendError::Full(_)) = self.pipe(&frame).try_send(frame.data.clone()) else {
                continue;
            };
            if !self.waits_for_reader(&frame).await {
                return self.take_the_rest(frame).await;
            }
        }
    }

    /// Gives a piece to a reader when that takes it; `false` if the command has ended or is being ended before.
    async fn waits_for_reader(&mut self, frame: &Frame) -> bool {
        let (first, longest) = STALL_CHECK;
        while self.ended_until.is_none() {
            let (at, pause) = *self
                .next_question
                .get_or_insert_with(|| (Instant::now() + first, first));
            let question = async {
                sleep_until(at).await;
                (Instant::now(), ask(&*self.control, &self.shared).await)
            };
            let (asked, answer) = tokio::select! {
                biased;
                _ = self.halt.requested() => return false,
                room = self.pipe(frame).reserve() => {
                    if let Ok(room) = room {
                        room.send(frame.data.clone());
                    }
                    return true;
                }
                answer = question => answer,
            };
            match answer {
                Ok(Some(_)) => self.set_ended(),
                // What the engine fails in is seen in its output.
                answer => {
                    if answer.is_ok() {
                        self.ran_at = asked;
                    }
                    let pause = (pause * 2).min(longest);
                    self.next_question = Some((Instant::now() + pause, pause));
                }
            }
        }
        false
    }

    /// Asks about a command that was held up by a reader before, so that it is known whether the engine may have given up
    /// output of it meanwhile.
    async fn look_after_stall(&mut self) {
        let Some((at, pause)) = self.next_question else { return };
        let asked = Instant::now();
        if asked < at {
            return;
        }
        let answer = tokio::select! {
            biased;
            _ = self.halt.requested() => return,
            answer = ask(&*self.control, &self.shared) => answer,
        };
        match answer {
            Ok(Some(_)) => self.set_ended(),
            Ok(None) => {
                self.ran_at = asked;
                self.next_question = None;
            }
            Err(_) => self.next_question = Some((Instant::now() + pause, pause)),
        }
    }

    /// Whether the end of the engine's stream shows that all has come. If a reader has held it up, and the command may have
    /// ended so long ago, it does not, unless the engine gives up nothing.
    fn is_whole_at_end(&self) -> bool {
        match self.control.stream_end() {
            StreamEnd::Whole => true,
            StreamEnd::GivenUp => self.next_question.is_none() || self.ran_at.elapsed() < GIVEN_UP,
            StreamEnd::Lost => false,
        }
    }

    /// Takes what is still on its way without waiting for readers, and has it served to them: each stream on its own, so that
    /// whoever reads one to its end before the other does not wait for ever.
    async fn take_the_rest(mut self, first: Frame) -> Result<Instant, EngineError> {
        let mut size = first.data.len();
        let mut rest = vec![first];
        let mut is_whole = true;
        let ended = loop {
            let frame = match self.next().await {
                Ok(Next::Frame(frame)) => frame,
                Ok(Next::End) => {
                    is_whole &= self.is_whole_at_end();
                    break Ok(self.quiet_since);
                }
                Ok(Next::Cut) => {
                    is_whole = false;
                    break Ok(self.quiet_since);
                }
                Err(error) => {
                    is_whole = false;
                    break Err(error);
                }
            };
            if self.pipe(&frame).is_closed() {
                continue;
            }
            if size < REST {
                size += frame.data.len();
                rest.push(frame);
                continue;
            }
            // What is being ended is ended the sooner if its output is taken.
            if self.halt.reason().is_some() {
                is_whole = false;
                continue;
            }
            // The agent holds less than this of the command's own output, and gives it before that of others.
            is_whole = self.control.report().is_some();
            break Ok(self.quiet_since);
        };
        self.halt.whole.store(is_whole, Ordering::Release);
        let (stdout, stderr): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|frame| frame.stream == OutputStream::Stdout);
        // The outcome does not wait for the readers.
        tokio::spawn(async { tokio::join!(serve(self.stdout, stdout), serve(self.stderr, stderr)) });
        ended
    }

    fn pipe(&self, frame: &Frame) -> &mpsc::Sender<Bytes> {
        match frame.stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        }
    }

    /// The next piece, or the end.
    async fn next(&mut self) -> Result<Next, EngineError> {
        self.quiet_since = Instant::now();
        if self.ended_until.is_none() {
            self.look_after_stall().await;
        }
        if self.ended_until.is_some() || self.halt.reason().is_some() {
            return self.next_after_end().await;
        }
        // Mostly it is there, and nothing need be set up to wait for it.
        if let Some(frame) = self.output.next().now_or_never() {
            return frame.transpose().map(Next::from);
        }
        let mut failures = 0;
        let (mut pause, longest) = SILENCE_CHECK;
        loop {
            let idle_left = self
                .idle_timeout
                .map(|limit| limit.saturating_sub(self.quiet_since.elapsed()));
            tokio::select! {
                biased;
                frame = self.output.next() => return frame.transpose().map(Next::from),
                _ = self.halt.requested() => return self.next_after_end().await,
                () = sleep(idle_left.map_or(pause, |left| left.min(pause))) => {}
            }
            let is_idle = self
                .idle_timeout
                .is_some_and(|limit| self.quiet_since.elapsed() >= limit);
            let patience = match is_idle {
                true => IDLE_QUESTION.min(self.shared.call_timeout),
                false => self.shared.call_timeout,
            };
            let asked = Instant::now();
            // A silent command, one that has ended while others hold its output, or a connection that is dead?
            match bounded("a question about a command", patience, self.control.exit_code()).await {
                Ok(Some(_)) => {
                    self.set_ended();
                    return self.next_after_end().await;
                }
                Err(error) if error.says_not_started() => return Ok(self.end_of_words().await),
                Ok(None) | Err(_) if is_idle => self.halt.request(Stop::IdleTimedOut),
                Ok(None) => {
                    self.ran_at = asked;
                    self.next_question = None;
                    failures = 0;
                    pause = (pause * 2).min(longest);
                }
                Err(error) => {
                    failures += 1;
                    pause = SILENCE_CHECK.0;
                    if !error.is_retryable() || failures == QUESTION_FAILURES {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The command was never begun, and the engine's words on why may still be on their way: they come as its output, and are
    /// taken out of it. Whether anybody reads it does not matter. What comes nevertheless is the output of a command of which the
    /// engine was wrong.
    async fn end_of_words(&mut self) -> Next {
        self.set_ended();
        tokio::select! {
            biased;
            _ = self.halt.requested() => Next::End,
            frame = self.output.next() => match frame {
                Some(Ok(frame)) => Next::Frame(frame),
                Some(Err(_)) | None => Next::End,
            },
            () = sleep(SILENCE_AT_END) => Next::End,
        }
    }

    /// The command has ended by itself: from now on it cannot be late.
    fn set_ended(&mut self) {
        self.halt.command_ended.store(true, Ordering::Release);
        self.ended_until = Some(Instant::now() + OUTPUT_AFTER_END);
    }

    /// The next piece of the output of a command that has ended or is being ended.
    async fn next_after_end(&mut self) -> Result<Next, EngineError> {
        let now = Instant::now();
        let until = *self.ended_until.get_or_insert(now + OUTPUT_AFTER_END);
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        tokio::select! {
            biased;
            () = sleep_until(until) => Ok(Next::Cut),
            frame = self.output.next() => frame.transpose().map(Next::from),
            // Nobody wants it.
            _ = async { tokio::join!(stdout.closed(), stderr.closed()) } => Ok(Next::End),
            () = sleep_until(now + SILENCE_AT_END) => Ok(Next::Cut),
        }
    }
}

/// Gives frames to a reader, as it takes them, and then the end of the stream.
async fn serve(pipe: mpsc::Sender<Bytes>, frames: Vec<Frame>) {
    for frame in frames {
        if pipe.send(frame.data).await.is_err() {
            return;
        }
    }
}
