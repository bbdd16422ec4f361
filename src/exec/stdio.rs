//! The settings of a command's standard streams: [`Stdio`].

use std::fmt;

use bytes::Bytes;

/// Says where the standard input of a command comes from, or where an output goes.
///
/// # Examples
///
/// ```
/// use dockerpool::Stdio;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), dockerpool::Error> {
/// # use dockerpool::testing::{FakeEngine, FakeProcess};
/// # let engine = FakeEngine::new();
/// # engine.on_exec(|_| FakeProcess::exit(0).stderr("noise"));
/// # let pool = dockerpool::Pool::builder("docs").image("any").engine(std::sync::Arc::new(engine.clone())).build().await?;
/// # let c = pool.acquire().await?;
/// let script = String::from("print('hello')");
/// let mut child = c
///     .command("python3")
///     .arg("-")
///     .stdin(&script) // or Stdio::bytes(script), which does not copy
///     .stderr(Stdio::null())
///     .spawn()
///     .await?;
/// assert!(child.stderr.is_none()); // it is not read
/// assert!(child.wait().await?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct Stdio {
    pub(super) source: Source,
}

#[derive(Clone, Default)]
pub(super) enum Source {
    #[default]
    Null,
    Piped,
    Bytes(Bytes),
}

/// Leaves out the bytes, which may be a secret.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("Null"),
            Self::Piped => f.write_str("Piped"),
            Self::Bytes(bytes) => write!(f, "Bytes({} of them)", bytes.len()),
        }
    }
}

impl Stdio {
    /// Stands for nothing: standard input is at end-of-file at once, which is its default; an output is dropped.
    pub fn null() -> Self {
        Self { source: Source::Null }
    }

    /// Stands for a pipe to the `stdin`, `stdout` or `stderr` of a [`Child`](crate::Child). The default for the outputs.
    pub fn piped() -> Self {
        Self { source: Source::Piped }
    }

    /// Stands for these bytes, then end-of-file. The bytes are written while the output is read; bytes that the command does not
    /// read are dropped without an error. For standard input only: as an output this counts as a pipe.
    pub fn bytes(data: impl Into<Bytes>) -> Self {
        Self {
            source: Source::Bytes(data.into()),
        }
    }
}

macro_rules! stdio_from {
    ($($from:ty),*) => {$(
        impl From<$from> for Stdio {
            fn from(data: $from) -> Self {
                Self::bytes(data)
            }
        }
    )*};
}

stdio_from!(Bytes, Vec<u8>, String);

/// Copies the data, which then need not live as long as the command. Pass a `Vec<u8>`, a `String` or [`Bytes`] to avoid the copy.
impl From<&[u8]> for Stdio {
    fn from(data: &[u8]) -> Self {
        Self::bytes(Bytes::copy_from_slice(data))
    }
}

macro_rules! stdio_from_borrowed {
    ($([$($len:tt)*] $from:ty),*) => {$(
        impl<$($len)*> From<&$from> for Stdio {
            fn from(data: &$from) -> Self {
                Self::from(AsRef::<[u8]>::as_ref(data))
            }
        }
    )*};
}

stdio_from_borrowed!([] str, [] String, [] Vec<u8>, [const N: usize] [u8; N]);
