//! Telling of changes of files of a container: [`FileWatch`].

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use super::answers::Answer;
use super::metadata::shown;
use super::server::Server;
use crate::agent::file_protocol::event;
use crate::error::Error;

/// Says what has happened to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileChange {
    /// An entry was made.
    Created,
    /// The contents were changed. A program that writes in pieces causes many of these.
    Modified,
    /// A file that was open for writing was closed: for most programs, it is whole now.
    Written,
    /// The rights, the owner, the times or the number of links were changed.
    Attributes,
    /// An entry was removed.
    Removed,
    /// An entry was renamed, and this was its name.
    RenamedFrom,
    /// An entry was renamed, and this is its name now.
    RenamedTo,
    /// The watched file or directory itself was renamed. It is watched on.
    WatchedRenamed,
    /// The watched file or directory itself was removed. No event comes after this one.
    WatchedRemoved,
    /// Events were lost: more happened than the kernel keeps for a reader that is slower. Look at the files themselves.
    Lost,
}

/// Tells of one change; made by [`FileWatch::next`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEvent {
    /// The kind of change.
    pub change: FileChange,
    /// The name of the entry of the watched directory, in bytes as the container has it. Empty: the change is one of
    /// the watched file or directory itself.
    pub name: Bytes,
    /// Whether a directory has changed.
    pub is_dir: bool,
    /// A number that both events of one rename have.
    pub rename: Option<u32>,
}

impl FileEvent {
    /// Returns the name as text, with what is not UTF-8 and control characters replaced.
    pub fn name_lossy(&self) -> Cow<'_, str> {
        shown(&self.name).into()
    }

    /// Returns `None` for what is no change.
    fn new(bits: u32, rename: u32, name: &[u8]) -> Option<Self> {
        let changes = [
            (event::CREATE, FileChange::Created),
            (event::MODIFY, FileChange::Modified),
            (event::CLOSE_WRITE, FileChange::Written),
            (event::ATTRIB, FileChange::Attributes),
            (event::DELETE, FileChange::Removed),
            (event::MOVED_FROM, FileChange::RenamedFrom),
            (event::MOVED_TO, FileChange::RenamedTo),
            (event::MOVE_SELF, FileChange::WatchedRenamed),
            (event::DELETE_SELF | event::UNMOUNT, FileChange::WatchedRemoved),
            (event::OVERFLOW, FileChange::Lost),
        ];
        let (_, change) = changes.into_iter().find(|(bit, _)| bits & bit != 0)?;
        Some(Self {
            change,
            // A copy: what was read is much more, and a caller may keep many events.
            name: Bytes::copy_from_slice(name),
            is_dir: bits & event::IS_DIR != 0,
            rename: (rename != 0).then_some(rename),
        })
    }
}

impl fmt::Debug for FileEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileEvent")
            .field("change", &self.change)
            .field("name", &self.name_lossy())
            .field("is_dir", &self.is_dir)
            .field("rename", &self.rename)
            .finish()
    }
}

/// Tells what happens to a file, or to the entries of a directory; made by [`Files::watch`](crate::Files::watch). It borrows its
/// container.
///
/// # Drop
///
/// Ends the watch in the background, as dropping a [`Child`](crate::Child) does.
#[must_use = "dropping it ends the watch"]
pub struct FileWatch<'c> {
    /// `None` once the watch has ended.
    server: Option<Server<'c>>,
}

impl<'c> FileWatch<'c> {
    pub(super) fn new(server: Server<'c>) -> Self {
        Self { server: Some(server) }
    }

    /// Waits for the next change, in the order in which they happened. `None`: what was watched is gone.
    ///
    /// # Errors
    ///
    /// [`Error::File`]: the process that watches was ended, as by another process of the same user, or with its container.
    ///
    /// # Cancel safety
    ///
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Result<Option<FileEvent>, Error> {
        loop {
            let Some(server) = &mut self.server else {
                return Ok(None);
            };
            let answer = match server.answer().await {
                Ok(answer) => answer,
                Err(error) => {
                    self.server = None;
                    return Err(error);
                }
            };
            if let Answer::Event(bits, rename, name) = answer {
                match FileEvent::new(bits, rename, &name) {
                    Some(event) => return Ok(Some(event)),
                    None => continue,
                }
            }
            let Some(server) = self.server.take() else {
                return Ok(None);
            };
            return match answer {
                Answer::Done => server.end().await.map(|()| None),
                other => Err(server.unexpected(other).await),
            };
        }
    }
}

impl fmt::Debug for FileWatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileWatch").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A caller may keep many events.
    #[test]
    fn an_event_that_is_kept_does_not_keep_what_was_read_with_it() {
        let read = Bytes::from(vec![b'n'; 64 << 10]);
        let event = FileEvent::new(event::CREATE, 0, &read.slice(..3)).unwrap();
        assert_eq!(event.name, "nnn");
        assert!(!read.as_ptr_range().contains(&event.name.as_ptr()));
    }
}
