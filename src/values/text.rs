//! Text from outside: of an engine, a registry, a helper program, a program in a container. Such text gets into errors and logs,
//! which are printed to terminals and parsed line by line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest text that is kept, in bytes.
pub(crate) const MAX: usize = 2048;

/// The mark for the part that was cut out.
const CUT: &str = " … ";

/// Makes a text harmless to print: one line of at most [`MAX`] bytes, in which characters that terminals obey or do not show are
/// escaped as in Rust. A longer text keeps its beginning and its end. Idempotent: harmless text stays as it is.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX && !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    // Shortened first: the middle need not be escaped.
    let mut clean = String::with_capacity(MAX);
    for c in shorten(text, MAX).chars() {
        if is_harmful(c) {
            // Some of these count as printable, and stay as they are in the first form.
            let _ = match c.is_control() {
                true => write!(clean, "{}", c.escape_debug()),
                false => write!(clean, "{}", c.escape_unicode()),
            };
        } else {
            clean.push(c);
        }
    }
    // Shortened again: escapes are longer than the characters.
    Cow::Owned(shorten(&clean, MAX).into_owned())
}

/// Cuts the middle out of a text that is longer than `max` bytes.
pub(crate) fn shorten(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let half = max.saturating_sub(CUT.len()) / 2;
    let is_boundary = |at: &usize| text.is_char_boundary(*at);
    let first = (0..=half).rev().find(is_boundary).unwrap_or(0);
    let last = (text.len() - half..text.len()).find(is_boundary).unwrap_or(text.len());
    Cow::Owned([&text[..first], CUT, &text[last..]].concat())
}

/// Returns whether a terminal or a log would misread the character: control characters (C0, DEL and C1), ends of lines and
/// paragraphs, and characters that change the direction of text or are not shown.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_terminals_obey_are_escaped_and_others_stay() {
        for text in ["", "plain", "a\\n b", "größe 大小", "`x` = \"y\""] {
            assert!(matches!(clean(text), Cow::Borrowed(same) if same == text), "{text}");
        }
        for (text, expected) in [
            ("a\nb\r\nc", "a\\nb\\r\\nc"),
            ("\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("bell\x07 null\0 del\x7f", "bell\\u{7} null\\0 del\\u{7f}"),
            ("c1\u{9b}31m", "c1\\u{9b}31m"),
            ("\u{202e}txt.exe\u{2066}", "\\u{202e}txt.exe\\u{2066}"),
            ("zero\u{200b}width\u{feff}", "zero\\u{200b}width\\u{feff}"),
            ("tags\u{e0041}", "tags\\u{e0041}"),
            ("filler\u{3164}", "filler\\u{3164}"),
            ("lines\u{2028}paragraphs\u{2029}", "lines\\u{2028}paragraphs\\u{2029}"),
        ] {
            assert_eq!(clean(text), expected);
            assert_eq!(clean(&clean(text)), expected);
        }
    }

    #[test]
    fn a_long_text_is_bounded_and_keeps_both_ends() {
        for text in [
            "x".repeat(1 << 20),
            "\x1b".repeat(5000),
            "ä".repeat(MAX),
            format!("{}é", "a".repeat(MAX - 1)),
        ] {
            let text = format!("begin {text} end");
            let found = clean(&text);
            assert!(found.len() <= MAX, "{}", found.len());
            assert!(
                found.starts_with("begin ") && found.ends_with(" end") && found.contains('…'),
                "{found}"
            );
            assert_eq!(clean(&found), found);
        }
    }
}
