//! A command that did not end well: [`CommandError`].

use std::fmt;
use std::time::Duration;

use super::Error;
use crate::values::checked::CheckedOutput;
use crate::values::outcome::{ExitStatus, Output};
use crate::values::shown::{Bytes, Rounded};
use crate::values::text;
use crate::values::why_gone::WhyGone;

/// A command that did not end with exit code 0.
///
/// # Examples
///
/// ```
/// use dockerpool::Error;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(1).stdout("1 of 2\n").stderr("no space left\n"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let error = c.exec(["make", "all"]).await?.check().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     format!("`make` in container {} of pool docs exited with 1: no space left", c.name())
/// );
/// let Error::Command(failed) = error else { panic!("check() makes no other") };
/// assert_eq!(failed.output.stdout, b"1 of 2\n");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandError {
    /// How the command ended, and everything that it had printed by then.
    pub output: Output,
}

/// How many lines of standard error the text of an error has.
const LAST_LINES: usize = 3;

/// Writes the program, the container, the end, and the last lines of standard error, without those that have neither a letter nor a
/// digit.
impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { output } = self;
        write!(f, "{} {}", output.subject, End(output.status, output.time_limit))?;
        let words = String::from_utf8_lossy(&output.stderr);
        let says_something = |line: &&str| line.contains(char::is_alphanumeric);
        let mut last: Vec<_> = words.lines().rev().filter(says_something).take(LAST_LINES).collect();
        last.reverse();
        for (i, line) in last.into_iter().enumerate() {
            let before = if i == 0 { ": " } else { "; " };
            write!(f, "{before}{}", text::clean(line.trim()))?;
        }
        Ok(())
    }
}

/// A status, as a predicate, with the limit of time that has passed.
struct End(ExitStatus, Option<Duration>);

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ExitStatus::Exited(code) => write!(f, "exited with {code}"),
            ExitStatus::Signaled(signal) => write!(f, "was ended by signal {signal}"),
            ExitStatus::Incomplete(code) => write!(f, "exited with {code}, with the end of its output missing"),
            ExitStatus::TimedOut => write!(f, "was killed at its time limit{}", Of(self.1)),
            ExitStatus::IdleTimedOut => {
                write!(
                    f,
                    "was killed at its idle timeout{}: it printed nothing for so long",
                    Of(self.1)
                )
            }
            ExitStatus::OutputLimit {
                limit,
                is_default: false,
            } => write!(f, "was killed at its output limit of {}", Bytes(limit)),
            ExitStatus::OutputLimit {
                limit,
                is_default: true,
            } => write!(
                f,
                "was killed at the default output limit of {} (see output_limit())",
                Bytes(limit)
            ),
            ExitStatus::CpuTime => f.write_str("has used up its processor time"),
            ExitStatus::FileSize => f.write_str("was ended by the kernel at its limit of the size of a file"),
            ExitStatus::OutOfMemory { exit: None } => f.write_str("was killed because a memory limit was reached"),
            ExitStatus::OutOfMemory { exit: Some(code) } => {
                write!(
                    f,
                    "exited with {code} after a process of it was killed because a memory limit was reached"
                )
            }
            ExitStatus::ContainerGone { why: WhyGone::Unknown } => {
                f.write_str("ended with its container, which is gone")
            }
            ExitStatus::ContainerGone { why } => write!(f, "ended with its container, which is gone: {why}"),
            ExitStatus::Killed => f.write_str("was killed on request"),
            ExitStatus::Unknown => f.write_str("may have ended: the engine does not tell"),
        }
    }
}

/// The length of a limit of time, where it is known.
struct Of(Option<Duration>);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |limit| write!(f, " of {}", Rounded(limit)))
    }
}

impl Output {
    /// Turns every end but exit code 0 into an [`Error::Command`] that carries the output. The result need not be used.
    ///
    /// # Errors
    ///
    /// [`Error::Command`] unless [`ExitStatus::success`].
    pub fn check(self) -> Result<CheckedOutput, Error> {
        match self.status.success() {
            true => Ok(CheckedOutput::of_success(self)),
            false => Err(Error::Command(Box::new(CommandError { output: self }))),
        }
    }
}
