//! The directory on this machine that holds the agent's program and the sockets of agents, for the engine to mount.
//!
//! Programs that clean directories for temporary files must leave the directory alone for as long as its pool lives, which
//! may be months. The directory is therefore made where such programs do not look, if possible, and carries a lock that
//! they respect: see `tmpfiles.d(5)`. Since somebody may remove it all the same, the library checks it before each use.
//!
//! The container can read the paths of mounts, in `/proc/self/mountinfo`. The directory's name is therefore random and says
//! nothing about this machine. A file in the directory, which is mounted nowhere, names the owner.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, statvfs};
use rustix::process::geteuid;

use crate::values::owner::{self, Owner};

/// The prefix of the directories' names.
const PREFIX: &str = "dockerpool-";

/// The name of the program's file.
const PROGRAM: &str = "agent";

/// The name of the file that names the owner.
const OWNER: &str = "owner";

/// Root's directory for files that must last as long as the machine runs.
const RUN: &str = "/run/dockerpool";

/// A directory that no other user can look into. Dropping the value removes the directory.
#[derive(Debug)]
pub(super) struct OwnDir {
    path: PathBuf,
    /// The directory, open and locked. The kernel releases the lock when this process ends.
    locked: File,
    /// The stamp of the program as it was written; `None` until then.
    program: Option<Stamp>,
}

impl OwnDir {
    /// Makes a directory with the program in it, in the best place that works.
    pub(super) fn new(program: &[u8]) -> io::Result<Self> {
        Self::new_in_first_of(&places(), program)
    }

    fn new_in_first_of(places: &[PathBuf], program: &[u8]) -> io::Result<Self> {
        let mut failed = io::Error::from(ErrorKind::NotFound);
        for place in places {
            remove_those_of_the_dead(place);
            match Self::new_in(place, program) {
                Ok(dir) => return Ok(dir),
                Err(error) => {
                    tracing::debug!(place = %place.display(), %error, "the agent's program cannot be put there");
                    failed = error;
                }
            }
        }
        Err(failed)
    }

    fn new_in(place: &Path, program: &[u8]) -> io::Result<Self> {
        // A bind mount inherits `noexec`.
        if statvfs(place)?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            let message = "nothing can be executed in this file system";
            return Err(io::Error::new(ErrorKind::PermissionDenied, message));
        }
        let path = place.join(format!("{PREFIX}{:032x}", fastrand::u128(..)));
        // Fails if something of that name exists.
        DirBuilder::new().mode(0o700).create(&path)?;
        let unfinished = Unfinished(Some(&path));
        // Independent of the umask, and without a set-group-ID bit inherited from `place`.
        std::fs::set_permissions(&path, Permissions::from_mode(0o700))?;
        let locked = File::open(&path)?;
        flock(&locked, FlockOperation::NonBlockingLockExclusive)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).open(path.join(OWNER))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(owner::label()?.as_bytes())?;
        unfinished.finished();
        let mut dir = Self {
            path,
            locked,
            program: None,
        };
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o555).open(dir.program())?;
        file.write_all(program)?;
        // Independent of the umask: the container's user must be able to run the program.
        file.set_permissions(Permissions::from_mode(0o555))?;
        dir.program = Some(Stamp::of(&file.metadata()?));
        Ok(dir)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn program(&self) -> PathBuf {
        self.path.join(PROGRAM)
    }

    /// Returns whether the directory is still there and the program in it is as it was written.
    pub(super) fn is_whole(&self) -> bool {
        let is_closed = |found: Metadata| found.mode() & 0o7777 == 0o700;
        let program = std::fs::symlink_metadata(self.program()).ok();
        self.is_in_its_place()
            && self.locked.metadata().is_ok_and(is_closed)
            && program.map(|found| Stamp::of(&found)) == self.program
    }

    /// Returns whether the path still leads to this very directory.
    fn is_in_its_place(&self) -> bool {
        let id = |found: Metadata| (found.dev(), found.ino());
        match (std::fs::symlink_metadata(&self.path), self.locked.metadata()) {
            (Ok(found), Ok(own)) => id(found) == id(own),
            _ => false,
        }
    }
}

impl Drop for OwnDir {
    fn drop(&mut self) {
        if self.is_in_its_place() {
            remove(&self.path);
        }
    }
}

/// A directory that does not name its owner yet, so that no later process would remove it. Dropping the value removes the
/// directory without opening a file descriptor, since a lack of descriptors may be why the directory is unfinished.
struct Unfinished<'a>(Option<&'a Path>);

impl Unfinished<'_> {
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(path) = self.0 else { return };
        // The file may not exist yet.
        let _ = std::fs::remove_file(path.join(OWNER));
        if let Err(error) = std::fs::remove_dir(path) {
            tracing::debug!(path = %path.display(), %error, "could not remove an agent's directory");
        }
    }
}

/// Values that change when anything about a file changes. Only the kernel can set the time in `changed`.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Self {
        Self {
            file: (found.dev(), found.ino()),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Returns the places for such a directory, the best first: those that nobody cleans, then the directory for temporary files.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    places.extend(session.filter(|path| path.is_absolute() && is_ours_alone(path)));
    if geteuid().is_root() {
        let run = PathBuf::from(RUN);
        // The directory may exist.
        let _ = DirBuilder::new().mode(0o755).create(&run);
        if is_ours_alone(&run) {
            places.push(run);
        }
    }
    places.push(std::env::temp_dir());
    places
}

/// Returns whether this path is a directory that no other user can write to.
fn is_ours_alone(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0)
}

/// Removes the directories that killed processes of the same user have left in this place.
fn remove_those_of_the_dead(place: &Path) {
    let entries = std::fs::read_dir(place);
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        // In the directory for temporary files anybody can make a directory of any name.
        let is_ours = || {
            let found = std::fs::symlink_metadata(&path);
            found.is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
        };
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_ours() && is_of_the_dead(&path) {
            remove(&path);
        }
    }
}

/// Returns whether the process that has made this directory is proven dead.
fn is_of_the_dead(path: &Path) -> bool {
    // Only this user can write to the directory: nobody else can have put a FIFO or a link there.
    let owner = std::fs::read_to_string(path.join(OWNER)).ok();
    let owner = owner.and_then(|owner| owner.parse::<Owner>().ok());
    owner.is_some_and(|owner| owner.is_proven_dead())
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path) {
        tracing::debug!(path = %path.display(), %error, "could not remove an agent's directory");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_in(place: &Path) -> OwnDir {
        OwnDir::new_in_first_of(&[place.to_owned()], b"program").unwrap()
    }

    /// Returns a free path beside the directory, to move things to.
    fn aside(dir: &OwnDir) -> PathBuf {
        dir.path.with_extension("aside")
    }

    /// A change that somebody may make to the directory, with its name.
    type Change = (&'static str, fn(&OwnDir));

    #[test]
    fn every_change_to_the_directory_is_noticed() {
        let changes: [Change; 9] = [
            ("the directory is removed", |dir| remove(&dir.path)),
            ("the directory is another", |dir| {
                std::fs::rename(&dir.path, aside(dir)).unwrap();
                std::fs::create_dir(&dir.path).unwrap();
                std::fs::rename(aside(dir).join(PROGRAM), dir.program()).unwrap();
            }),
            ("a link stands in its place", |dir| {
                std::fs::rename(&dir.path, aside(dir)).unwrap();
                std::os::unix::fs::symlink(aside(dir), &dir.path).unwrap();
            }),
            ("others may look into it", |dir| {
                std::fs::set_permissions(&dir.path, Permissions::from_mode(0o777)).unwrap();
            }),
            ("the program is removed", |dir| {
                std::fs::remove_file(dir.program()).unwrap()
            }),
            ("the program is a link", |dir| {
                std::fs::rename(dir.program(), aside(dir)).unwrap();
                std::os::unix::fs::symlink(aside(dir), dir.program()).unwrap();
            }),
            ("the program is another", |dir| {
                std::fs::remove_file(dir.program()).unwrap();
                std::fs::write(dir.program(), "garbage").unwrap();
            }),
            ("the program is of the same length", |dir| {
                std::fs::set_permissions(dir.program(), Permissions::from_mode(0o755)).unwrap();
                std::fs::write(dir.program(), "PROGRAM").unwrap();
            }),
            ("the program cannot be executed", |dir| {
                std::fs::set_permissions(dir.program(), Permissions::from_mode(0o444)).unwrap();
            }),
        ];
        for (what, change) in changes {
            let place = tempfile::tempdir().unwrap();
            let dir = dir_in(place.path());
            assert!(dir.is_whole());
            change(&dir);
            assert!(!dir.is_whole(), "{what}");
        }
    }

    #[test]
    fn a_set_group_id_bit_of_the_place_is_not_inherited() {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o2700)).unwrap();
        let plain = place.path().join("plain");
        std::fs::create_dir(&plain).unwrap();
        assert_ne!(
            plain.metadata().unwrap().mode() & 0o2000,
            0,
            "the place hands the bit down"
        );
        let dir = dir_in(place.path());
        assert_eq!(dir.path.metadata().unwrap().mode() & 0o7777, 0o700);
        assert!(dir.is_whole());
    }

    #[test]
    fn an_unfinished_directory_is_removed_without_a_descriptor() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("dir");
        for has_owner in [false, true] {
            std::fs::create_dir(&path).unwrap();
            if has_owner {
                std::fs::write(path.join(OWNER), "").unwrap();
            }
            drop(Unfinished(Some(&path)));
            assert!(!path.exists());
        }
        std::fs::create_dir(&path).unwrap();
        Unfinished(Some(&path)).finished();
        assert!(path.exists());
    }

    #[test]
    fn another_directory_at_the_same_path_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let dir = dir_in(place.path());
        std::fs::rename(&dir.path, aside(&dir)).unwrap();
        std::fs::create_dir(&dir.path).unwrap();
        let path = dir.path.clone();
        drop(dir);
        assert!(path.exists());
        let dir = dir_in(place.path());
        let path = dir.path.clone();
        drop(dir);
        assert!(!path.exists());
    }

    #[test]
    fn the_directory_is_locked_for_as_long_as_it_is_used() {
        let place = tempfile::tempdir().unwrap();
        let dir = dir_in(place.path());
        let other = File::open(&dir.path).unwrap();
        let lock = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(lock(), Err(rustix::io::Errno::WOULDBLOCK));
        drop(dir);
        assert_eq!(lock(), Ok(()));
    }

    #[test]
    fn the_first_place_that_works_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let places = [place.path().join("missing"), place.path().to_owned()];
        let dir = OwnDir::new_in_first_of(&places, b"program").unwrap();
        assert_eq!(dir.path.parent(), Some(place.path()));
        let error = OwnDir::new_in_first_of(&places[..1], b"program").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn the_directorys_name_says_nothing_about_its_owner() {
        let place = tempfile::tempdir().unwrap();
        let dir = dir_in(place.path());
        let name = dir.path.file_name().unwrap().to_str().unwrap().to_owned();
        let random = name.strip_prefix(PREFIX).unwrap();
        assert!(
            random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{name}"
        );
        assert_eq!(
            std::fs::read_to_string(dir.path.join(OWNER)).unwrap(),
            owner::label().unwrap()
        );
    }
}
