//! Amounts as setters take them: [`ByteSize`] and [`Cpus`].

/// A number of bytes, as setters take it: `64 << 20`, `"64m"`, or `None` for no limit.
///
/// - A number is in bytes.
/// - Text is a number, whole or with a fraction, and a unit: `b`, `k`, `m`, `g` or `t`, also as `kb` or `kib` and so on, in upper
///   or lower case, with or without a space before it. Each unit is 1024 of the one before, as for the docker command line.
///   Without a unit the number is in bytes.
///
/// Text that is no such size is an [`Error::Config`](crate::Error::Config) of the call that uses the setting, such as
/// [`build()`](crate::PoolBuilder::build), and has the setter's name.
///
/// # Examples
///
/// ```
/// use dockerpool::{ByteSize, ContainerSpec};
///
/// assert_eq!(ByteSize::from("64m"), ByteSize::from(64 << 20));
/// assert_eq!(ByteSize::from("1.5 GiB"), ByteSize::from(3 << 29));
/// let spec = ContainerSpec::new("busybox:1.36");
/// assert_eq!(spec.clone().memory("64m").plan()?.limits.memory, Some(64 << 20));
/// assert_eq!(spec.clone().memory(None).plan()?.limits.memory, None);
/// let error = spec.memory("64 megs").plan().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"bad configuration: memory: "64 megs" is not a size: write a number of bytes, or e.g. "64m", "1.5g" or "512MiB""#
/// );
/// # Ok::<(), dockerpool::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByteSize(Result<Option<u64>, String>);

impl ByteSize {
    /// Returns the number of bytes; `None`: there is no limit.
    ///
    /// # Errors
    ///
    /// What is wrong with the text.
    pub(crate) fn bytes(self) -> Result<Option<u64>, String> {
        self.0
    }
}

impl From<u64> for ByteSize {
    fn from(bytes: u64) -> Self {
        Self(Ok(Some(bytes)))
    }
}

impl From<Option<u64>> for ByteSize {
    fn from(bytes: Option<u64>) -> Self {
        Self(Ok(bytes))
    }
}

impl From<&str> for ByteSize {
    fn from(text: &str) -> Self {
        let problem = || {
            let is = "is not a size: write a number of bytes, or e.g. \"64m\", \"1.5g\" or \"512MiB\"";
            format!("{text:?} {is}")
        };
        Self(parse(text).map(Some).ok_or_else(problem))
    }
}

impl From<String> for ByteSize {
    fn from(text: String) -> Self {
        text.as_str().into()
    }
}

/// Parses a size. `None`: the text is none, or the size does not fit in 64 bits.
fn parse(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let shift = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    // Signs and exponents are no digits, and a number has some on both sides of its point.
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let unit = 1_u64 << shift;
    // Less than the unit, which a float holds exactly.
    let part = format!("0.{fraction}").parse::<f64>().ok()? * unit as f64;
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part as u64)
}

/// A number of processors, as setters take it: `1`, `0.5`, or `None` for no limit.
///
/// # Examples
///
/// ```
/// use dockerpool::{Cpus, Pool};
///
/// assert_eq!(Cpus::from(1), Cpus::from(1.0));
/// let builder = Pool::builder("judge").image("busybox:1.36").cpus(2).cpus(0.5).cpus(None);
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpus(Option<f64>);

impl Cpus {
    /// Returns the number of processors; `None`: there is no limit.
    pub(crate) fn count(self) -> Option<f64> {
        self.0
    }
}

impl From<f64> for Cpus {
    fn from(cpus: f64) -> Self {
        Self(Some(cpus))
    }
}

impl From<Option<f64>> for Cpus {
    fn from(cpus: Option<f64>) -> Self {
        Self(cpus)
    }
}

macro_rules! from_integers {
    ($($integer:ty),*) => {$(
        impl From<$integer> for Cpus {
            fn from(cpus: $integer) -> Self {
                Self(Some(cpus as f64))
            }
        }
    )*};
}

from_integers!(i32, i64, u32, u64, usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_a_number_and_a_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("67108864", 64 << 20),
            ("64m", 64 << 20),
            (" 64 M ", 64 << 20),
            ("64mb", 64 << 20),
            ("64MiB", 64 << 20),
            ("1b", 1),
            ("2k", 2 << 10),
            ("1g", 1 << 30),
            ("1.5g", 3 << 29),
            ("0.5 KiB", 512),
            ("3t", 3 << 40),
            ("18446744073709551615", u64::MAX),
            ("16777215t", 16_777_215 << 40),
        ] {
            assert_eq!(ByteSize::from(text).bytes(), Ok(Some(bytes)), "{text}");
        }
    }

    #[test]
    fn every_other_text_is_told() {
        for text in [
            "",
            " ",
            "m",
            "-1",
            "+1",
            "1e3",
            "64 megs",
            "64mm",
            "1.2.3",
            ".5g",
            "5.g",
            "0x10",
            "1_000",
            "16777216t",
            "18446744073709551616",
            "٣m",
        ] {
            let problem = ByteSize::from(text).bytes().unwrap_err();
            assert!(problem.contains("is not a size"), "{text}: {problem}");
        }
    }

    #[test]
    fn a_literal_of_either_kind_is_a_number_of_processors() {
        fn count(cpus: impl Into<Cpus>) -> Option<f64> {
            cpus.into().count()
        }
        assert_eq!(
            [count(2), count(0.5), count(None), count(3_usize)],
            [Some(2.0), Some(0.5), None, Some(3.0)]
        );
    }
}
