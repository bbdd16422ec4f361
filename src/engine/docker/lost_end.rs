//! The line with which Podman ends an output whose end it may have lost.
//!
//! A command that ends with some of its input unread resets the connection between Podman and the program that monitors the
//! container. Podman then writes its own error, in one line, to the output of the command (`hijackWriteError` in its
//! `libpod`), and reports the exit code as usual. Without a terminal the line is a frame of standard error. With a terminal
//! the line follows the output, in the same piece or in another.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use crate::engine::{EngineError, Frame, OutputStream};

/// The beginnings of the line: Podman was reading the output, or writing the input.
const STARTS: [&[u8]; 2] = [b"Error: read unixpacket ", b"Error: write unixpacket "];

/// The ends of the line. A terminal ends the lines of a program with CR LF.
const ENDS: [&[u8]; 2] = [b": connection reset by peer\n", b": broken pipe\n"];

/// More than the length of the longest such line, which names file descriptors and no files of arbitrary length.
const LONGEST: usize = 512;

type Frames = BoxStream<'static, Result<Frame, EngineError>>;

/// Returns the output without that line, if the line is the last one; calls `lost` in that case.
pub(super) fn without(frames: Frames, tty: bool, lost: impl FnOnce() + Send + 'static) -> Frames {
    let state = (frames, Tail::new(tty), VecDeque::new(), Some(lost));
    stream::unfold(state, async |(mut frames, mut tail, mut ready, mut lost)| {
        loop {
            if let Some(next) = ready.pop_front() {
                return Some((next, (frames, tail, ready, lost)));
            }
            match frames.next().await {
                Some(Ok(frame)) => ready.extend(tail.take(frame).into_iter().flatten().map(Ok)),
                Some(Err(error)) => {
                    ready.extend(tail.give().map(Ok));
                    ready.push_back(Err(error));
                }
                None if tail.is_lost_end() => {
                    lost.take()?();
                    return None;
                }
                None => return Some((Ok(tail.give()?), (frames, tail, ready, lost))),
            }
        }
    })
    .boxed()
}

/// Holds the end of the output so far, while it may be the line.
struct Tail {
    tty: bool,
    /// The first bytes of a possible line that have already been returned: too few to delay their reader.
    given: Vec<u8>,
    /// The held rest of the line, with a terminal; the held frame, without one.
    held: BytesMut,
}

impl Tail {
    fn new(tty: bool) -> Self {
        Self {
            tty,
            given: Vec::new(),
            held: BytesMut::new(),
        }
    }

    /// Takes the next frame of the output, and returns the output that cannot be part of the line.
    fn take(&mut self, frame: Frame) -> [Option<Frame>; 2] {
        if !self.tty {
            let before = self.give();
            if frame.stream == OutputStream::Stderr && is_whole(&frame.data) {
                self.held.extend_from_slice(&frame.data);
                return [before, None];
            }
            return [before, Some(frame)];
        }
        let data = match self.held.is_empty() {
            true => frame.data,
            false => {
                self.held.extend_from_slice(&frame.data);
                self.held.split().freeze()
            }
        };
        let line = [&self.given, &data[..data.len().min(LONGEST + 1)]].concat();
        let start = match !self.given.is_empty() && may_become(&line) {
            true => 0,
            false => {
                self.given.clear();
                let first = data.len().saturating_sub(LONGEST);
                let may_start = |at: &usize| may_become(&data[*at..]);
                (first..data.len()).find(may_start).unwrap_or(data.len())
            }
        };
        let mut own = data.clone();
        let rest = own.split_off(start);
        let line_length = self.given.len() + rest.len();
        if STARTS.iter().all(|start| line_length < start.len()) {
            self.given.extend_from_slice(&rest);
            own = data;
        } else {
            self.held.extend_from_slice(&rest);
        }
        [None, (!own.is_empty()).then(|| self.frame(own))]
    }

    /// Returns the held bytes, which are output after all.
    fn give(&mut self) -> Option<Frame> {
        self.given.clear();
        let held = self.held.split().freeze();
        (!held.is_empty()).then(|| self.frame(held))
    }

    fn is_lost_end(&self) -> bool {
        is_whole(&[&self.given[..], &self.held].concat())
    }

    fn frame(&self, data: Bytes) -> Frame {
        let stream = match self.tty {
            true => OutputStream::Stdout,
            false => OutputStream::Stderr,
        };
        Frame { stream, data }
    }
}

/// Returns whether these bytes are the whole line.
fn is_whole(line: &[u8]) -> bool {
    let is_one = line.iter().position(|byte| *byte == b'\n') == Some(line.len().wrapping_sub(1));
    is_one && STARTS.iter().any(|start| line.starts_with(start)) && ENDS.iter().any(|end| line.ends_with(end))
}

/// Returns whether these bytes are the line or its beginning.
fn may_become(line: &[u8]) -> bool {
    let begins = |start: &&[u8]| {
        let common = line.len().min(start.len());
        line[..common] == start[..common]
    };
    !line.is_empty() && line.len() <= LONGEST && STARTS.iter().any(begins) && (is_whole(line) || !line.contains(&b'\n'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::*;

    const LINE: &str = "Error: read unixpacket @->/proc/self/fd/13/attach: read: connection reset by peer\n";
    const WRITING: &str = "Error: write unixpacket @->/proc/self/fd/9/attach: write: broken pipe\n";

    fn frame(stream: OutputStream, data: &[u8]) -> Result<Frame, EngineError> {
        let data = Bytes::copy_from_slice(data);
        Ok(Frame { stream, data })
    }

    /// Returns the output of these frames, and whether an end was lost.
    fn seen(frames: Vec<Result<Frame, EngineError>>, tty: bool) -> (Vec<u8>, bool) {
        let lost = Arc::new(AtomicBool::new(false));
        let noted = lost.clone();
        let left = without(stream::iter(frames).boxed(), tty, move || {
            noted.store(true, Ordering::Relaxed);
        });
        let left: Vec<_> = left.collect().now_or_never().expect("nothing is waited for");
        let data = left
            .into_iter()
            .flat_map(|frame| frame.unwrap().data.to_vec())
            .collect();
        (data, lost.load(Ordering::Relaxed))
    }

    fn at_a_terminal(output: &str, cuts: &[usize]) -> Vec<Result<Frame, EngineError>> {
        let mut rest = output.as_bytes();
        let mut frames = Vec::new();
        for cut in cuts {
            let (piece, later) = rest.split_at(*cut.min(&rest.len()));
            frames.push(frame(OutputStream::Stdout, piece));
            rest = later;
        }
        frames.push(frame(OutputStream::Stdout, rest));
        frames
    }

    #[test]
    fn the_line_is_removed_from_the_end_of_a_terminals_output_however_that_is_split() {
        for line in [LINE, WRITING] {
            for before in ["", "out", "out\r\n", "E", "Error: ", LINE] {
                let output = format!("{before}{line}");
                for cut in 0..output.len() {
                    let (data, lost) = seen(at_a_terminal(&output, &[cut]), true);
                    assert!(lost, "{output:?} {cut}");
                    // Few bytes of a beginning that arrived alone were returned before.
                    let given = cut.saturating_sub(before.len());
                    let given = if given < STARTS[0].len() { given } else { 0 };
                    assert_eq!(String::from_utf8(data).unwrap(), output[..before.len() + given]);
                }
            }
        }
    }

    #[test]
    fn other_lines_and_earlier_ones_are_output() {
        let echoed = LINE.replace('\n', "\r\n");
        let after = format!("{LINE}$ ");
        let no_end = LINE.trim_end().to_owned();
        let other = LINE.replace("reset", "upset");
        let long = LINE.replace("13", &"1".repeat(LONGEST));
        for output in [echoed, after, no_end, other, long, LINE.to_lowercase()] {
            for cut in 0..output.len() {
                let (data, lost) = seen(at_a_terminal(&output, &[cut]), true);
                assert_eq!(
                    (String::from_utf8(data).unwrap(), lost),
                    (output.clone(), false),
                    "{cut}"
                );
            }
        }
    }

    #[test]
    fn without_a_terminal_the_line_is_a_frame_of_standard_error() {
        use OutputStream::{Stderr, Stdout};
        let all = |frames: &[(OutputStream, &str)]| {
            let frames = frames.iter().map(|(stream, data)| frame(*stream, data.as_bytes()));
            let (data, lost) = seen(frames.collect(), false);
            (String::from_utf8(data).unwrap(), lost)
        };
        assert_eq!(all(&[(Stdout, "out"), (Stderr, LINE)]), ("out".to_owned(), true));
        assert_eq!(all(&[(Stderr, WRITING)]), (String::new(), true));
        assert_eq!(all(&[(Stderr, LINE), (Stdout, "x")]), (format!("{LINE}x"), false));
        assert_eq!(all(&[(Stderr, LINE), (Stderr, LINE)]), (LINE.to_owned(), true));
        assert_eq!(all(&[(Stdout, LINE)]), (LINE.to_owned(), false));
        let joined = format!("own: {LINE}");
        assert_eq!(all(&[(Stderr, &joined)]), (joined.clone(), false));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_is_lost_or_held_up_that_does_not_begin_like_the_line(
            pieces in prop::collection::vec("(E|Er|Error: read|Error: write unix|rror|x|\n|\r\n){0,4}", 0..6),
        ) {
            let mut tail = Tail::new(true);
            for piece in &pieces {
                let given = tail.take(frame(OutputStream::Stdout, piece.as_bytes()).unwrap());
                let given: Vec<u8> = given.into_iter().flatten().flat_map(|frame| frame.data.to_vec()).collect();
                prop_assert_eq!(given, piece.as_bytes());
            }
            prop_assert!(tail.held.is_empty() && !tail.is_lost_end());
        }
    }
}
