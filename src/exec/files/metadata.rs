//! What is known of a file of a container: [`FileMetadata`] and [`FileEntry`].

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::agent::file_protocol::{DIRECTORY, LINK, Meta, REGULAR, TYPE};
use crate::values::text;

/// Says what a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileType {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a FIFO or a socket.
    Special,
}

/// Holds the attributes of a file; made by [`Files::metadata`](crate::Files::metadata) and
/// [`Files::list`](crate::Files::list). Those of a symbolic link are its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileMetadata {
    /// What the file is.
    pub file_type: FileType,
    /// The size in bytes. A file of the kernel's, as in `/proc`, has none, whatever is in it.
    pub size: u64,
    /// The rights, with the bits for set-user-id, set-group-id and sticky: 12 bits.
    pub mode: u32,
    /// The number of the user.
    pub uid: u32,
    /// The number of the group.
    pub gid: u32,
    /// When the contents were changed last. Processes of the container can set it to any time; times that this machine
    /// cannot represent are the start of 1970.
    pub modified: SystemTime,
}

impl FileMetadata {
    /// Returns whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type == FileType::File
    }

    /// Returns whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Returns whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.file_type == FileType::Symlink
    }
}

impl From<Meta> for FileMetadata {
    fn from(meta: Meta) -> Self {
        let (seconds, nanos) = (
            Duration::from_secs(meta.seconds.unsigned_abs()),
            Duration::from_nanos(meta.nanos.into()),
        );
        let whole = match meta.seconds {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        };
        Self {
            file_type: match meta.kind() {
                REGULAR => FileType::File,
                DIRECTORY => FileType::Directory,
                LINK => FileType::Symlink,
                _ => FileType::Special,
            },
            size: meta.size,
            mode: meta.mode & !TYPE,
            uid: meta.uid,
            gid: meta.gid,
            modified: whole
                .and_then(|whole| whole.checked_add(nanos))
                .unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

/// Holds one entry of a directory; made by [`Files::list`](crate::Files::list).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// The name, as its bytes: 1 to 255, none of them NUL or `/`, and not `.` or `..`. Names need not be UTF-8.
    pub name: Vec<u8>,
    /// The attributes, those of a link itself.
    pub metadata: FileMetadata,
}

impl FileEntry {
    pub(super) fn new(name: &Bytes, meta: Meta) -> Self {
        Self {
            name: name.to_vec(),
            metadata: meta.into(),
        }
    }

    /// Returns the name as text, with a replacement character for what is not UTF-8.
    pub fn name_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }
}

impl fmt::Debug for FileEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileEntry")
            .field("name", &shown(&self.name))
            .field("metadata", &self.metadata)
            .finish()
    }
}

/// Returns a path or name as one harmless line of text.
pub(super) fn shown(path: &[u8]) -> String {
    text::clean(&String::from_utf8_lossy(path)).into_owned()
}
