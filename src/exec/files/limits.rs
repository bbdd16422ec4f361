//! What one call on files may take: [`FileLimits`].

use std::io;
use std::time::Duration;

/// Limits one call on files, in either direction. A call that would go beyond ends with
/// [`Error::File`](crate::Error::File), see [`Files::limits`](crate::Files::limits).
///
/// # Examples
///
/// ```
/// use dockerpool::FileLimits;
///
/// let limits = FileLimits { bytes: 1 << 30, ..FileLimits::default() };
/// assert_eq!(limits.entries, 10_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// The bytes of contents of all files together. A file with holes counts as large as it looks. Default: 16 MiB, as for
    /// the output of a command.
    pub bytes: u64,
    /// The entries of a directory, or of a whole tree with everything that is skipped in it. Default: 10,000.
    pub entries: u64,
    /// The time of the call, up to the last byte. Default: 60 seconds. `None`: no limit, so that a process of the
    /// container that stops the transfer can hold it up for ever.
    pub time: Option<Duration>,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            entries: 10_000,
            time: Some(Duration::from_secs(60)),
        }
    }
}

/// What is left of the limits of a call.
#[derive(Debug)]
pub(super) struct Left {
    limits: FileLimits,
    bytes: u64,
    entries: u64,
}

impl Left {
    pub(super) fn of(limits: FileLimits) -> Self {
        Self {
            limits,
            bytes: limits.bytes,
            entries: limits.entries,
        }
    }

    /// Fails if there is no room for so many bytes.
    pub(super) fn has_room(&self, bytes: u64) -> io::Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let words = format!("more than the limit of {} bytes", self.limits.bytes);
        Err(io::Error::new(io::ErrorKind::FileTooLarge, words))
    }

    /// Counts bytes.
    pub(super) fn take(&mut self, bytes: usize) -> io::Result<()> {
        self.has_room(bytes as u64)?;
        self.bytes -= bytes as u64;
        Ok(())
    }

    /// Counts an entry.
    pub(super) fn take_entry(&mut self) -> io::Result<()> {
        if let Some(left) = self.entries.checked_sub(1) {
            self.entries = left;
            return Ok(());
        }
        let words = format!("more than the limit of {} entries", self.limits.entries);
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, words))
    }
}
