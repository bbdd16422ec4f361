//! Text that somebody else has written: an engine, a registry, a helper, a program in a container. It ends up in errors and
//! logs, which are printed to terminals and parsed line by line.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The longest text kept of it, in bytes.
pub(crate) const MAX: usize = 2048;

/// What stands for the part that was cut out.
const CUT: &str = " … ";

/// Makes a text harmless to print: one line of at most [`MAX`] bytes, in which what terminals obey or do not show is
/// escaped as Rust does it. Of one that is longer the beginning and the end are kept. Harmless text stays as it is, so
/// that doing it twice is the same as once.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX && !text.chars().any(is_harmful) {
        return Cow::Borrowed(text);
    }
    // What is cut away need not be escaped.
    let mut clean = String::with_capacity(MAX);
    for c in shorten(text, MAX).chars() {
        if is_harmful(c) {
            let _ = write!(clean, "{}", c.escape_debug());
        } else {
            clean.push(c);
        }
    }
    // Escapes are longer than what they stand for.
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

/// Control characters (C0, DEL and C1), ends of lines and paragraphs, and what changes the direction of text or is not
/// shown at all.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_terminals_obey_is_escaped_and_the_rest_stays() {
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
            ("lines\u{2028}paragraphs\u{2029}", "lines\\u{2028}paragraphs\\u{2029}"),
        ] {
            assert_eq!(clean(text), expected);
            assert_eq!(clean(&clean(text)), expected);
        }
    }

    #[test]
    fn length_is_bounded_and_both_ends_are_kept() {
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
