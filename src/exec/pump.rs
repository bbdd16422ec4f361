//! Moving the output of a command from the engine to its readers: [`Pump`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, sleep_until};

use super::driver::{QUESTION_FAILURES, ask};
use super::halt::{Halt, Stop};
use super::pipe::{Piece, PipeWriter};
use crate::container::Shared;
use crate::engine::{EngineError, ExecControl, Frame, OutputStream, StreamEnd};
use crate::runtime::bounded;

/// The first and the longest pause without output before the engine is asked about a command: the command may have ended while its
/// background children hold its output, or the connection may be dead. The pause grows to spare an engine that runs many silent
/// commands.
const SILENCE_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How long the next piece of output, or the end of the stream, may take once a command has ended or is being ended. Counts from
/// the last piece. Only the end of the stream proves that the output is whole: a relay between this process and the engine may
/// pause. Docker ends the stream two seconds after the command, also where background tasks hold the output.
const SILENCE_AT_END: Duration = Duration::from_secs(5);

/// How long output is taken in all after the end of a command: its background tasks may print for ever.
const OUTPUT_AFTER_END: Duration = Duration::from_secs(30);

/// The first and the longest pause before the engine is asked about a command whose output waits for its reader.
const STALL_CHECK: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(500));

/// How long after the end of a command Docker discards output that was not taken; Docker then ends the stream as if the output
/// were whole.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// How much output of a command that has ended or is being ended is kept for a slow reader, in bytes. The engine and the kernel
/// hold some 1.4 MB of the command's output; anything beyond comes from other processes, or from a fast writer during the kill.
const REST: usize = 4 << 20;

/// The deadline for the question whether a command at its idle timeout has ended.
const IDLE_QUESTION: Duration = Duration::from_secs(1);

/// Moves the output of a command from the engine to the readers.
pub(super) struct Pump {
    output: BoxStream<'static, Result<Frame, EngineError>>,
    control: Arc<dyn ExecControl>,
    shared: Arc<Shared>,
    halt: Arc<Halt>,
    idle_timeout: Option<Duration>,
    /// When the wait for the next piece began.
    quiet_since: Instant,
    /// When no more output is taken. Set once the command is known to have ended or is being ended.
    ended_until: Option<Instant>,
    /// When the engine is asked about the command next, and the pause before that. Set while a reader holds up the output, until
    /// the command is known to have run after that.
    next_question: Option<(Instant, Duration)>,
    /// When the command was last known to run.
    ran_at: Instant,
    /// The place of the next piece.
    place: u64,
    stdout: PipeWriter,
    stderr: PipeWriter,
}

/// The next event of the output.
enum Next {
    Frame(Frame),
    /// The end of the output.
    End,
    /// More output may be on its way, and is not waited for.
    Cut,
}

impl From<Option<Frame>> for Next {
    fn from(frame: Option<Frame>) -> Self {
        frame.map_or(Self::End, Self::Frame)
    }
}

impl Pump {
    pub(super) fn new(
        output: BoxStream<'static, Result<Frame, EngineError>>,
        control: Arc<dyn ExecControl>,
        shared: Arc<Shared>,
        halt: Arc<Halt>,
        idle_timeout: Option<Duration>,
        [stdout, stderr]: [PipeWriter; 2],
    ) -> Self {
        let now = Instant::now();
        Self {
            output,
            control,
            shared,
            halt,
            idle_timeout,
            quiet_since: now,
            ended_until: None,
            next_question: None,
            ran_at: now,
            place: 0,
            stdout,
            stderr,
        }
    }

    /// Moves the output until it ends, and returns when the last wait for a piece began.
    ///
    /// A reader that does not read holds up the output and the command, unless the command has ended or is being ended: an engine
    /// whose output is not taken needs ten seconds to end a container.
    pub(super) async fn run(mut self) -> Result<Instant, EngineError> {
        loop {
            let frame = match self.next().await? {
                Next::Frame(frame) => frame,
                Next::End => {
                    self.halt.set_whole(self.is_whole_at_end());
                    return Ok(self.quiet_since);
                }
                Next::Cut => return Ok(self.quiet_since),
            };
            let piece = self.piece(&frame);
            if !self.pipe(&frame).try_send(piece.clone()) && !self.waits_for_reader(&frame, &piece).await {
                return self.take_the_rest(frame, piece).await;
            }
        }
    }

    /// Waits until the reader takes a piece. Returns `false` if the command ends or is being ended before.
    async fn waits_for_reader(&mut self, frame: &Frame, piece: &Piece) -> bool {
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
                () = self.pipe(frame).send(piece.clone()) => return true,
                answer = question => answer,
            };
            match answer {
                Ok(Some(_)) => self.set_ended(),
                // An error of the engine shows in the output.
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

    /// Asks about a command that a reader has held up, so that it is known whether the engine may have discarded output meanwhile.
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

    /// Returns whether the end of the engine's stream proves that the output is whole. After a reader has held up the output, and
    /// the command may have ended [`GIVEN_UP`] ago, the end proves nothing, unless the engine discards nothing.
    fn is_whole_at_end(&self) -> bool {
        match self.control.stream_end() {
            StreamEnd::Whole => true,
            StreamEnd::GivenUp => self.next_question.is_none() || self.ran_at.elapsed() < GIVEN_UP,
            StreamEnd::Lost => false,
        }
    }

    /// Takes the rest of the output without waiting for readers. They may read one stream to its end before the other, and the
    /// verdict does not wait for them.
    async fn take_the_rest(mut self, frame: Frame, piece: Piece) -> Result<Instant, EngineError> {
        let mut size = piece.data.len();
        self.pipe(&frame).send_without_room(piece);
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
                let piece = self.piece(&frame);
                self.pipe(&frame).send_without_room(piece);
                continue;
            }
            // A command that is being ended ends sooner if its output is taken.
            if self.halt.reason().is_some() {
                is_whole = false;
                continue;
            }
            // The agent holds less than this of the command's own output, and sends it before the output of other processes.
            is_whole = self.control.report().is_some();
            break Ok(self.quiet_since);
        };
        // Before the pipes end, which readers see.
        self.halt.set_whole(is_whole);
        ended
    }

    /// Makes the next piece for a reader.
    fn piece(&mut self, frame: &Frame) -> Piece {
        let place = self.place;
        self.place += 1;
        Piece {
            place,
            data: frame.data.clone(),
        }
    }

    fn pipe(&self, frame: &Frame) -> &PipeWriter {
        match frame.stream {
            OutputStream::Stdout => &self.stdout,
            OutputStream::Stderr => &self.stderr,
        }
    }

    /// Returns the next piece, or the end.
    async fn next(&mut self) -> Result<Next, EngineError> {
        self.quiet_since = Instant::now();
        if self.ended_until.is_none() {
            self.look_after_stall().await;
        }
        if self.ended_until.is_some() || self.halt.reason().is_some() {
            return self.next_after_end().await;
        }
        // Mostly a piece is there, and no timer is needed.
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
            // The command is silent, or has ended while other processes hold its output, or the connection is dead.
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

    /// Waits for the engine's words about a command that was never begun. The words come as output, are taken out of it, and
    /// need no reader. A piece that is left is the output of a command about which the engine was wrong.
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

    /// Notes that the command has ended by itself: from now on it cannot be late.
    fn set_ended(&mut self) {
        self.halt.set_command_ended();
        self.ended_until = Some(Instant::now() + OUTPUT_AFTER_END);
    }

    /// Returns the next piece of output of a command that has ended or is being ended.
    async fn next_after_end(&mut self) -> Result<Next, EngineError> {
        let now = Instant::now();
        let until = *self.ended_until.get_or_insert(now + OUTPUT_AFTER_END);
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        tokio::select! {
            biased;
            () = sleep_until(until) => Ok(Next::Cut),
            frame = self.output.next() => frame.transpose().map(Next::from),
            // Nobody reads any more.
            _ = async { tokio::join!(stdout.closed(), stderr.closed()) } => Ok(Next::End),
            () = sleep_until(now + SILENCE_AT_END) => Ok(Next::Cut),
        }
    }
}
