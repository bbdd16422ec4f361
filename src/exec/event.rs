//! An event of a command: [`Event`].

use bytes::Bytes;

use crate::values::outcome::ExitStatus;

/// Tells of one event of a command: a piece of its output, or its end. [`Events`](crate::Events) have pieces as they come, in
/// bytes; [`EventLines`](crate::EventLines) have lines, as text.
///
/// # Examples
///
/// ```
/// use dockerpool::{Event, ExitStatus};
///
/// let event = Event::Stdout("compiling\rlinking".to_owned());
/// assert_eq!(event.to_sse(), "event: stdout\ndata: compiling\ndata: linking\n\n");
/// let event: Event<String> = Event::Exit(ExitStatus::Exited(0));
/// assert_eq!(event.to_sse(), "event: exit\ndata: exited 0\n\n");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event<T = Bytes> {
    /// The command has written this to its standard output.
    Stdout(T),
    /// The command has written this to its standard error.
    Stderr(T),
    /// The command has ended. No event comes after this one.
    Exit(ExitStatus),
}

impl<T: AsRef<str>> Event<T> {
    /// Returns the event in the form of server-sent events (`text/event-stream`): its name (`stdout`, `stderr` or `exit`), and the
    /// line or the status in words, such as `exited 0` or `timed out`.
    ///
    /// The text cannot add fields or events of its own: where a line end is in it (CR, LF or both), the rest follows in another
    /// `data:` field, which clients join by LF.
    pub fn to_sse(&self) -> String {
        let words;
        let (name, text) = match self {
            Self::Stdout(text) => ("stdout", text.as_ref()),
            Self::Stderr(text) => ("stderr", text.as_ref()),
            Self::Exit(status) => {
                words = status.to_string();
                ("exit", &*words)
            }
        };
        let mut event = String::with_capacity(text.len() + 32);
        event.extend(["event: ", name, "\n"]);
        let mut rest = Some(text);
        while let Some(text) = rest {
            let (line, after) = split_line(text);
            event.extend(["data: ", line, "\n"]);
            rest = after;
        }
        event.push('\n');
        event
    }
}

/// Splits a text at its first line end, if it has one.
fn split_line(text: &str) -> (&str, Option<&str>) {
    let Some((line, rest)) = text.split_once(['\r', '\n']) else {
        return (text, None);
    };
    let is_crlf = text.as_bytes()[line.len()] == b'\r' && rest.starts_with('\n');
    (line, Some(if is_crlf { &rest[1..] } else { rest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a stream of events as the specification says, for the fields that can be in it.
    fn parse(stream: &str) -> Vec<(String, String)> {
        let (mut events, mut name, mut data) = (Vec::new(), String::new(), Vec::new());
        for line in stream.replace("\r\n", "\n").split(['\r', '\n']) {
            match line.split_once(": ") {
                Some(("event", value)) => name = value.to_owned(),
                Some(("data", value)) => data.push(value.to_owned()),
                None if line.is_empty() && !data.is_empty() => {
                    events.push((std::mem::take(&mut name), std::mem::take(&mut data).join("\n")));
                }
                None if line.is_empty() => {}
                other => panic!("{other:?} in {stream:?}"),
            }
        }
        events
    }

    #[test]
    fn a_text_adds_no_fields_and_no_events() {
        for (text, data) in [
            ("", ""),
            (" indented", " indented"),
            ("one\ntwo", "one\ntwo"),
            ("one\r\n\r\ntwo", "one\n\ntwo"),
            (
                "a\n\nevent: exit\ndata: exited 0\n\n",
                "a\n\nevent: exit\ndata: exited 0\n\n",
            ),
            ("a\rid: 7\rretry: 1", "a\nid: 7\nretry: 1"),
            ("\n\r", "\n\n"),
            ("ends\r", "ends\n"),
            (": comment", ": comment"),
            ("\u{2028}stays\u{85}", "\u{2028}stays\u{85}"),
        ] {
            let events = Event::Stderr(text).to_sse() + &Event::Stdout("next").to_sse();
            let expected = [("stderr", data), ("stdout", "next")].map(|(a, b)| (a.to_owned(), b.to_owned()));
            assert_eq!(parse(&events), expected, "{text:?}");
        }
    }
}
