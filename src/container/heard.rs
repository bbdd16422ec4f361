//! The output of a container's own command: [`Heard`].

use std::pin::pin;

use futures_util::stream::{BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::pid1::OUTPUT_PAUSE;
use crate::engine::{EngineError, Frame, OutputStream};

/// How many pieces of output are taken at once, before a pause.
const PIECES: usize = 1024;

/// How much of the command's last output an error quotes, in bytes.
const QUOTED: usize = 1024;

/// Keeps the end of a command's output, and looks for texts in all of it. The texts are known before the first output.
#[derive(Debug, Default)]
pub(super) struct Heard {
    state: Mutex<State>,
    /// Rung when a text was found.
    found: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The last output of both streams, in the order in which it came.
    last: Vec<u8>,
    searches: Vec<Search>,
}

/// A text that is looked for.
#[derive(Debug)]
struct Search {
    text: String,
    /// The ends of both streams, shorter than the text.
    ends: [Vec<u8>; 2],
    is_found: bool,
}

impl Heard {
    /// Looks for these texts, none of which is empty.
    pub(super) fn looking_for<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let search = |text: &str| Search {
            text: text.to_owned(),
            ends: [const { Vec::new() }; 2],
            is_found: false,
        };
        let state = State {
            last: Vec::new(),
            searches: texts.map(search).collect(),
        };
        Self {
            state: Mutex::new(state),
            found: Notify::new(),
        }
    }

    /// Takes the output of the command to its end.
    pub(super) async fn hear_all(
        &self,
        output: BoxStream<'static, Result<Frame, EngineError>>,
    ) -> Result<(), EngineError> {
        let mut output = output.ready_chunks(PIECES);
        while let Some(frames) = output.next().await {
            for frame in frames {
                self.hear(&frame?);
            }
            // Bounds how much processor time of this process the output costs.
            sleep(OUTPUT_PAUSE).await;
        }
        Ok(())
    }

    /// Takes a piece of output.
    pub(super) fn hear(&self, frame: &Frame) {
        let mut state = self.state.lock();
        state.last.extend_from_slice(&frame.data);
        let surplus = state.last.len().saturating_sub(QUOTED);
        state.last.drain(..surplus);
        let mut is_found = false;
        for search in state.searches.iter_mut().filter(|search| !search.is_found) {
            search.hear(frame);
            is_found |= search.is_found;
        }
        drop(state);
        if is_found {
            self.found.notify_waiters();
        }
    }

    /// Returns the end of the output, without space around it.
    pub(super) fn last_words(&self) -> String {
        String::from_utf8_lossy(&self.state.lock().last).trim().to_owned()
    }

    /// Waits until the command has printed a text, which is one of those that are looked for.
    pub(super) async fn text(&self, text: &str) {
        loop {
            let mut found = pin!(self.found.notified());
            found.as_mut().enable();
            let is_found = |search: &Search| search.is_found && search.text == text;
            if self.state.lock().searches.iter().any(is_found) {
                return;
            }
            found.await;
        }
    }
}

impl Search {
    fn hear(&mut self, frame: &Frame) {
        let text = self.text.as_bytes();
        let end = &mut self.ends[usize::from(frame.stream == OutputStream::Stderr)];
        end.extend_from_slice(&frame.data);
        self.is_found = end.windows(text.len()).any(|part| part == text);
        let surplus = (end.len() + 1).saturating_sub(text.len());
        end.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn hear(heard: &Heard, stream: OutputStream, data: &'static str) {
        let data = data.as_bytes().into();
        heard.hear(&Frame { stream, data });
    }

    #[test]
    fn a_text_is_found_across_pieces_of_one_stream() {
        use OutputStream::{Stderr, Stdout};

        let is_found = |pieces: &[(OutputStream, &'static str)]| {
            let heard = Heard::looking_for(["ready to accept", "x"].into_iter());
            pieces.iter().for_each(|(stream, data)| hear(&heard, *stream, data));
            heard.text("ready to accept").now_or_never().is_some()
        };
        assert!(is_found(&[(Stdout, "now ready to accept connections\n")]));
        assert!(is_found(&[
            (Stdout, "now rea"),
            (Stderr, "noise"),
            (Stdout, "dy to"),
            (Stdout, " accept")
        ]));
        assert!(is_found(&[(Stderr, "ready to accept"), (Stderr, "later")]));
        assert!(!is_found(&[(Stdout, "ready to "), (Stderr, "accept")]));
        assert!(!is_found(&[(Stdout, "ready to accep"), (Stdout, "x t")]));
        assert!(!is_found(&[]));
    }

    #[tokio::test]
    async fn who_waits_is_told() {
        let heard = Heard::looking_for(["ready"].into_iter());
        let told = async {
            tokio::task::yield_now().await;
            hear(&heard, OutputStream::Stdout, "ready");
        };
        tokio::join!(heard.text("ready"), told);
    }

    #[test]
    fn the_last_words_are_bounded() {
        let heard = Heard::default();
        for _ in 0..1000 {
            hear(&heard, OutputStream::Stdout, "0123456789");
        }
        hear(&heard, OutputStream::Stderr, " the end \n");
        let words = heard.last_words();
        assert!(words.len() <= QUOTED && words.ends_with("789 the end"), "{words}");
    }
}
