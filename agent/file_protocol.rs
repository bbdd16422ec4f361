//! The protocol between the library and a file server, see PROTOCOL.md. Both sides are built from this file.

use core::ffi::CStr;

use super::protocol::Fields;

/// The bytes before each payload: its length and the kind.
pub const HEADER: usize = 5;

/// The most bytes of contents in one frame.
pub const MAX_DATA: usize = 64 * 1024;

/// The most bytes of a path, with its NUL.
pub const MAX_PATH: usize = 4096;

/// The most bytes of a name, without a NUL.
pub const MAX_NAME: usize = 255;

/// The most directories within each other in a tree that is packed or unpacked.
pub const MAX_DEPTH: usize = 128;

/// The bits of a mode that say what a file is, and the values that they have.
pub const TYPE: u32 = 0o170_000;
pub const DIRECTORY: u32 = 0o040_000;
pub const REGULAR: u32 = 0o100_000;
pub const LINK: u32 = 0o120_000;

/// The first frame to the server.
pub mod request {
    pub const STAT: u8 = 1;
    pub const LIST: u8 = 2;
    pub const READ: u8 = 3;
    pub const WRITE: u8 = 4;
    pub const MAKE_DIR: u8 = 5;
    pub const RENAME: u8 = 6;
    pub const REMOVE: u8 = 7;
    pub const REMOVE_ALL: u8 = 8;
    pub const PACK: u8 = 9;
    pub const UNPACK: u8 = 10;
    pub const WATCH: u8 = 11;
}

/// All other frames, of both sides.
pub mod piece {
    pub const DATA: u8 = 65;
    pub const ENTRY: u8 = 66;
    pub const TARGET: u8 = 67;
    pub const LEAVE: u8 = 68;
    pub const MISSED: u8 = 69;
    pub const DONE: u8 = 70;
    pub const FAILED: u8 = 71;
    pub const META: u8 = 72;
    pub const EVENT: u8 = 73;

    /// The least and the most bytes such a frame may have; `None`: there is no such frame.
    pub fn sizes(kind: u8) -> Option<(usize, usize)> {
        use super::{MAX_DATA, MAX_NAME, MAX_PATH, Meta};
        Some(match kind {
            DATA => (1, MAX_DATA),
            ENTRY => (Meta::SIZE + 1, Meta::SIZE + MAX_NAME),
            TARGET => (1, MAX_PATH - 1),
            LEAVE | DONE => (0, 0),
            MISSED => (4 + 1, 4 + MAX_NAME),
            FAILED => (4, 4 + MAX_PATH),
            META => (Meta::SIZE, Meta::SIZE),
            EVENT => (8, 8 + MAX_NAME),
            _ => return None,
        })
    }
}

/// A flag of a request: the mode is set, whatever the process's mask is.
pub const WITH_MODE: u8 = 1;
/// A flag of a request: directories on the way that are missing are made.
pub const WITH_PARENTS: u8 = 2;
/// A flag of a request to write: fails unless the file is in a file system in memory.
pub const IN_MEMORY: u8 = 4;

/// The first frame's payload.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub flags: u8,
    pub mode: u32,
    pub path: &'a CStr,
    /// The new path, of a rename.
    pub to: &'a CStr,
}

impl<'a> Request<'a> {
    /// The most bytes of a request.
    pub const MOST: usize = 5 + 2 * MAX_PATH;

    /// Returns `None` unless the payload is a whole request, with nothing after it.
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(payload);
        let request = Self {
            flags: fields.u8()?,
            mode: fields.u32()?,
            path: fields.text()?,
            to: fields.text()?,
        };
        fields.0.is_empty().then_some(request)
    }
}

/// The kernel's bits for what has happened to a file, see `inotify(7)`.
pub mod event {
    pub const MODIFY: u32 = 0x2;
    pub const ATTRIB: u32 = 0x4;
    pub const CLOSE_WRITE: u32 = 0x8;
    pub const MOVED_FROM: u32 = 0x40;
    pub const MOVED_TO: u32 = 0x80;
    pub const CREATE: u32 = 0x100;
    pub const DELETE: u32 = 0x200;
    pub const DELETE_SELF: u32 = 0x400;
    pub const MOVE_SELF: u32 = 0x800;
    /// All that is watched for.
    pub const ALL: u32 =
        MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF;
    /// The file system was unmounted.
    pub const UNMOUNT: u32 = 0x2000;
    /// Events were lost.
    pub const OVERFLOW: u32 = 0x4000;
    /// The watch has ended.
    pub const IGNORED: u32 = 0x8000;
    /// A flag: it has happened to a directory.
    pub const IS_DIR: u32 = 0x4000_0000;
}

/// The attributes of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// The type and the rights.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// The time of the last change of the contents, in seconds since 1970 and nanoseconds.
    pub seconds: i64,
    pub nanos: u32,
}

impl Meta {
    pub const SIZE: usize = 4 + 4 + 4 + 8 + 8 + 4;

    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..4].copy_from_slice(&self.mode.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.uid.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.gid.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.size.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.seconds.to_le_bytes());
        bytes[28..].copy_from_slice(&self.nanos.to_le_bytes());
        bytes
    }

    pub fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        Some(Self {
            mode: fields.u32()?,
            uid: fields.u32()?,
            gid: fields.u32()?,
            size: fields.u64()?,
            seconds: fields.u64()? as i64,
            nanos: fields.u32()?,
        })
    }

    pub fn kind(&self) -> u32 {
        self.mode & TYPE
    }
}
