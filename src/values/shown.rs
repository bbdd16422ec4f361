//! Forms of values for people. `Debug` of values that may hold secrets shows variables by their names, commands by their
//! program, and the raw configuration by the fields that are set.

use std::fmt;

use serde::Serialize;

/// A command, shown as its program and the number of its arguments.
pub(crate) struct Argv<'a>(pub(crate) &'a [String]);

impl fmt::Debug for Argv<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str("nothing"),
            [program] => write!(f, "{program:?}"),
            [program, arguments @ ..] => write!(f, "{program:?} and {} arguments", arguments.len()),
        }
    }
}

/// Returns the name of a variable that is given as `NAME=value`.
pub(crate) fn variable(text: &str) -> &str {
    text.split_once('=').map_or(text, |(name, _)| name)
}

/// A value, shown as the names of the fields that are set.
pub(crate) struct Fields<'a, T>(pub(crate) &'a T);

impl<T: Serialize> fmt::Debug for Fields<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = serde_json::to_value(self.0).unwrap_or_default();
        let fields = value.as_object().into_iter().flatten();
        let set = fields.filter(|(_, value)| !value.is_null()).map(|(name, _)| name);
        f.debug_set().entries(set).finish()
    }
}

/// A length of time, rounded for people: `850 ms`, `1.5 s`, `30 s`, `2.5 min`, `3 h`.
pub(crate) struct Rounded(pub(crate) std::time::Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0 s");
        }
        let seconds = self.0.as_secs_f64();
        let (amount, unit) = match seconds {
            _ if seconds < 1e-3 => (seconds * 1e6, "µs"),
            _ if seconds < 0.9995 => (seconds * 1e3, "ms"),
            _ if seconds < 119.5 => (seconds, "s"),
            _ if seconds < 7170.0 => (seconds / 60.0, "min"),
            _ => (seconds / 3600.0, "h"),
        };
        let rounded = if amount < 9.95 {
            (amount * 10.0).round() / 10.0
        } else {
            amount.round()
        };
        write!(f, "{rounded} {unit}")
    }
}

/// A number of bytes, in the largest unit that divides it: `100 bytes`, `64 KiB`, `16 MiB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 byte"),
            bytes if bytes == 0 || !bytes.is_multiple_of(1 << 10) => write!(f, "{bytes} bytes"),
            bytes if !bytes.is_multiple_of(1 << 20) => write!(f, "{} KiB", bytes >> 10),
            bytes => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

/// Bytes, shown as the text of the first of them and the number of the others.
pub(crate) struct Beginning<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Beginning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 256;
        let (first, rest) = self.0.split_at(self.0.len().min(SHOWN));
        write!(f, "{:?}", String::from_utf8_lossy(first))?;
        match rest.len() {
            0 => Ok(()),
            more => write!(f, " and {more} bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_have_two_or_three_digits_and_a_unit() {
        for (duration, expected) in [
            (Duration::ZERO, "0 s"),
            (Duration::from_nanos(1_500), "1.5 µs"),
            (Duration::from_micros(12_345), "12 ms"),
            (Duration::from_micros(999_700), "1 s"),
            (Duration::from_millis(1_500), "1.5 s"),
            (Duration::from_millis(9_949), "9.9 s"),
            (Duration::new(30, 123_000), "30 s"),
            (Duration::from_secs(90), "90 s"),
            (Duration::from_secs(150), "2.5 min"),
            (Duration::from_secs(600), "10 min"),
            (Duration::from_secs(7_200), "2 h"),
        ] {
            assert_eq!(Rounded(duration).to_string(), expected);
        }
    }

    #[test]
    fn bytes_have_the_largest_unit_that_loses_nothing() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1, "1 byte"),
            (1_000, "1000 bytes"),
            (64 << 10, "64 KiB"),
            ((1 << 20) + 1, "1048577 bytes"),
            (16 << 20, "16 MiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), expected);
        }
    }
}
