//! The output of a command that has succeeded: [`CheckedOutput`].

use std::borrow::Cow;
use std::fmt;

use super::outcome::{ExitStatus, Output, Usage};
use super::shown::Beginning;
use super::subject::Subject;

/// Holds what a command printed that ended with exit code 0; made by [`Output::check`]. `Debug` shows the first 256 bytes of
/// each stream.
///
/// The fields are those of an [`Output`], into which this can be turned. Unlike an `Output`, which may hide a failure, the value
/// can be left unused:
///
/// ```
/// #![deny(unused_must_use)]
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # let engine = dockerpool::testing::FakeEngine::new();
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine)).build().await?;
/// # let c = pool.acquire().await?;
/// c.exec(["mkdir", "/tmp/work"]).await?.check()?;
/// # Ok(())
/// # }
/// ```
///
/// Without the check, the compiler warns of it:
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # async fn example(c: dockerpool::PooledContainer) -> Result<(), dockerpool::Error> {
/// c.exec(["mkdir", "/tmp/work"]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckedOutput {
    /// What the command wrote to standard output.
    pub stdout: Vec<u8>,
    /// What the command wrote to standard error.
    pub stderr: Vec<u8>,
    /// Whether the command printed more than `stdout` and `stderr` hold, because a limit was reached.
    pub truncated: bool,
    /// What the command used.
    pub usage: Usage,
    subject: Subject,
}

impl CheckedOutput {
    /// Takes the output of a command that has succeeded, which is known to be whole.
    pub(crate) fn of_success(output: Output) -> Self {
        let Output {
            status: _,
            incomplete: _,
            stdout,
            stderr,
            truncated,
            usage,
            subject,
            time_limit: _,
        } = output;
        Self {
            stdout,
            stderr,
            truncated,
            usage,
            subject,
        }
    }

    /// Returns standard output as text; bytes that are no UTF-8 are replaced.
    pub fn stdout_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stdout)
    }

    /// Returns standard error as text; bytes that are no UTF-8 are replaced.
    pub fn stderr_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }
}

impl From<CheckedOutput> for Output {
    fn from(checked: CheckedOutput) -> Self {
        let CheckedOutput {
            stdout,
            stderr,
            truncated,
            usage,
            subject,
        } = checked;
        Self {
            status: ExitStatus::Exited(0),
            stdout,
            stderr,
            truncated,
            incomplete: false,
            usage,
            subject,
            time_limit: None,
        }
    }
}

impl fmt::Debug for CheckedOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            stdout,
            stderr,
            truncated,
            usage,
            subject,
        } = self;
        f.debug_struct("CheckedOutput")
            .field("stdout", &Beginning(stdout))
            .field("stderr", &Beginning(stderr))
            .field("truncated", truncated)
            .field("usage", usage)
            .field("subject", subject)
            .finish()
    }
}
