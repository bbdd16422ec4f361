//! The directory on this machine that holds the agent's program and the sockets of agents, for the engine to mount.
//!
//! Programs that clean directories for temporary files must leave it alone for as long as its pool lives, which may be
//! months. So it is made where they do not look, if that can be, and carries a lock that they respect: see
//! `tmpfiles.d(5)`. Somebody may remove it all the same. It is therefore looked at before each use.
//!
//! What is mounted from it can be read in the container, in `/proc/self/mountinfo`. Its name is therefore random, and
//! says nothing of this machine. Whose it is says a file in it, which is mounted nowhere.

use std::fs::{DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, StatVfsMountFlags, flock, statvfs};
use rustix::process::geteuid;

use crate::values::owner::{self, Owner};

/// How the names of these directories begin.
const PREFIX: &str = "dockerpool-";

/// The program in it.
const PROGRAM: &str = "agent";

/// The file that says whose it is.
const OWNER: &str = "owner";

/// Root's place for what must last as long as the machine runs.
const RUN: &str = "/run/dockerpool";

/// A directory that nobody else can look into. Dropping it removes it.
#[derive(Debug)]
pub(super) struct OwnDir {
    path: PathBuf,
    /// Holds the lock. The kernel releases it when this process ends.
    locked: File,
    /// The program as it was written; `None` until then.
    program: Option<Stamp>,
}

impl OwnDir {
    /// Makes one with the program in it, in the best place there is.
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
        // A bind mount inherits it.
        if statvfs(place)?.f_flag.contains(StatVfsMountFlags::NOEXEC) {
            let message = "nothing can be executed in this file system";
            return Err(io::Error::new(ErrorKind::PermissionDenied, message));
        }
        let path = place.join(format!("{PREFIX}{:032x}", fastrand::u128(..)));
        // Fails where there is something of that name.
        DirBuilder::new().mode(0o700).create(&path)?;
        let unfinished = Unfinished(Some(&path));
        // Whatever the umask is, and without the set-group-ID bit that it may have from `place`.
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
        // Whatever the umask is: the container's user must be able to run it.
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

    /// Whether it is still there, and the program in it is as it was written.
    pub(super) fn is_whole(&self) -> bool {
        let is_closed = |found: Metadata| found.mode() & 0o7777 == 0o700;
        let program = std::fs::symlink_metadata(self.program()).ok();
        self.is_in_its_place()
            && self.locked.metadata().is_ok_and(is_closed)
            && program.map(|found| Stamp::of(&found)) == self.program
    }

    /// Whether its path leads to this directory, and to no other thing.
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

/// A directory that says not yet whose it is, so that no later process would remove it. Dropping this removes it, and needs
/// no descriptor for that, since the want of one may be the reason.
struct Unfinished<'a>(Option<&'a Path>);

impl Unfinished<'_> {
    fn finished(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let Some(path) = self.0 else { return };
        // It may not be there yet.
        let _ = std::fs::remove_file(path.join(OWNER));
        if let Err(error) = std::fs::remove_dir(path) {
            tracing::debug!(path = %path.display(), %error, "could not remove an agent's directory");
        }
    }
}

/// What changes when anything about a file does. The kernel sets the last one, and nobody else can.
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

/// Where such a directory may be, the best place first: where nobody cleans, and the directory for temporary files.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    places.extend(session.filter(|path| path.is_absolute() && is_ours_alone(path)));
    if geteuid().is_root() {
        let run = PathBuf::from(RUN);
        // It may be there.
        let _ = DirBuilder::new().mode(0o755).create(&run);
        if is_ours_alone(&run) {
            places.push(run);
        }
    }
    places.push(std::env::temp_dir());
    places
}

/// Whether nobody else can put anything there.
fn is_ours_alone(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw() && found.mode() & 0o022 == 0)
}

/// Removes what processes of the same user have left there that were killed.
fn remove_those_of_the_dead(place: &Path) {
    let entries = std::fs::read_dir(place);
    for entry in entries.into_iter().flatten().flatten() {
        let path = entry.path();
        // Anybody can make a directory of any name in the directory for temporary files.
        let is_ours = || {
            let found = std::fs::symlink_metadata(&path);
            found.is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
        };
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_ours() && is_of_the_dead(&path) {
            remove(&path);
        }
    }
}

/// Whether the process that has made this directory is proven dead.
fn is_of_the_dead(path: &Path) -> bool {
    // A directory of this user's is not a trap: nobody else can have put a FIFO or a link there.
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

    /// A name for something that stands where the directory was.
    fn aside(dir: &OwnDir) -> PathBuf {
        dir.path.with_extension("aside")
    }

    /// Something that somebody may do to it.
    type Change = (&'static str, fn(&OwnDir));

    #[test]
    fn whatever_is_changed_about_it_is_noticed() {
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
    fn bits_that_the_place_hands_down_are_not_kept() {
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o2700)).unwrap();
        let plain = place.path().join("plain");
        std::fs::create_dir(&plain).unwrap();
        assert_ne!(plain.metadata().unwrap().mode() & 0o2000, 0, "the place hands it down");
        let dir = dir_in(place.path());
        assert_eq!(dir.path.metadata().unwrap().mode() & 0o7777, 0o700);
        assert!(dir.is_whole());
    }

    #[test]
    fn one_that_could_not_be_finished_is_removed_without_a_descriptor() {
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
    fn a_directory_that_is_another_ones_is_left_alone() {
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
    fn it_carries_a_lock_for_as_long_as_it_is_used() {
        let place = tempfile::tempdir().unwrap();
        let dir = dir_in(place.path());
        let other = File::open(&dir.path).unwrap();
        let lock = || flock(&other, FlockOperation::NonBlockingLockExclusive);
        assert_eq!(lock(), Err(rustix::io::Errno::WOULDBLOCK));
        drop(dir);
        assert_eq!(lock(), Ok(()));
    }

    #[test]
    fn the_first_place_that_will_do_is_taken() {
        let place = tempfile::tempdir().unwrap();
        let places = [place.path().join("missing"), place.path().to_owned()];
        let dir = OwnDir::new_in_first_of(&places, b"program").unwrap();
        assert_eq!(dir.path.parent(), Some(place.path()));
        let error = OwnDir::new_in_first_of(&places[..1], b"program").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn its_name_says_nothing_of_its_owner() {
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
