//! What came of copying a tree: [`Transfer`].

use std::fmt;

use super::metadata::shown;

/// Tells what [`Files::upload_dir`](crate::Files::upload_dir) or [`Files::download_dir`](crate::Files::download_dir) has
/// copied and what it has skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "entries may have been skipped"]
#[non_exhaustive]
pub struct Transfer {
    /// The regular files that were copied.
    pub files: u64,
    /// The directories that were copied, without the one at the top.
    pub dirs: u64,
    /// The symbolic links that were copied.
    pub links: u64,
    /// The bytes of contents that were copied.
    pub bytes: u64,
    /// How many entries were skipped. What is in a directory that was skipped does not count.
    pub skipped_count: u64,
    /// The first of the entries that were skipped, at most 100.
    pub skipped: Vec<Skipped>,
}

/// Names an entry of a tree that was not copied.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Skipped {
    /// The path within the tree, as its bytes.
    pub path: Vec<u8>,
    /// The reason.
    pub reason: SkipReason,
}

/// Says why an entry of a tree was not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// A device, a FIFO or a socket.
    Special,
    /// A symbolic link that is absolute, or could lead out of the tree: `..` is allowed at the beginning of its target only,
    /// and not more often than there are directories of the tree above the link.
    LinkOutside,
    /// The entry was removed or replaced while the tree was read, or its name came twice.
    Changed,
}

/// The most entries that are named.
const NAMED: usize = 100;

impl Transfer {
    pub(super) fn skip(&mut self, path: Vec<u8>, reason: SkipReason) {
        self.skipped_count += 1;
        if self.skipped.len() < NAMED {
            self.skipped.push(Skipped { path, reason });
        }
    }
}

impl fmt::Debug for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Skipped")
            .field("path", &shown(&self.path))
            .field("reason", &self.reason)
            .finish()
    }
}

/// Returns whether a symbolic link with this target stays within its tree, whatever other links that do so are in the tree.
/// `depth` is the number of directories of the tree above the link.
///
/// `..` after a name would lead on from wherever that name leads, which may be another link.
pub(super) fn stays_inside(target: &[u8], depth: usize) -> bool {
    if target.is_empty() || target.starts_with(b"/") || target.contains(&0) {
        return false;
    }
    let mut parts = target
        .split(|byte| *byte == b'/')
        .filter(|part| !matches!(*part, b"" | b"."));
    let mut up = 0;
    let mut rest = parts.by_ref().skip_while(|part| {
        let is_up = *part == b"..";
        up += usize::from(is_up);
        is_up
    });
    let is_plain = rest.all(|part| part != b"..");
    is_plain && up <= depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_could_lead_out_do_not_stay_inside() {
        for (target, depth) in [
            ("/", 9),
            ("/etc/passwd", 9),
            ("//x", 9),
            ("..", 0),
            ("../x", 0),
            ("../..", 1),
            ("./../..", 1),
            ("a/..", 9),
            ("a/../b", 9),
            ("../a/..", 9),
            ("a/./..", 9),
            ("a//..", 9),
            ("", 9),
            ("a\0b", 9),
        ] {
            assert!(!stays_inside(target.as_bytes(), depth), "{target:?} {depth}");
        }
        for (target, depth) in [
            ("a", 0),
            ("a/b/c", 0),
            (".", 0),
            ("./a", 0),
            ("..", 1),
            ("../a", 1),
            ("../../a/b", 2),
            ("...", 0),
            ("..a", 0),
            ("a/..b", 0),
            ("\u{ff}", 0),
        ] {
            assert!(stays_inside(target.as_bytes(), depth), "{target:?} {depth}");
        }
    }

    #[test]
    fn only_the_first_skipped_entries_are_named() {
        let mut transfer = Transfer::default();
        for i in 0..1000u32 {
            transfer.skip(i.to_string().into_bytes(), SkipReason::Special);
        }
        assert_eq!((transfer.skipped_count, transfer.skipped.len()), (1000, NAMED));
    }
}
