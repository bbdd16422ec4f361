//! Writing a tree that comes from a container to a directory of this machine.
//!
//! The tree is not trusted. Each name is one entry of a directory that this side has opened, is made anew, and is never
//! followed: so nothing outside of the target directory can be reached, whatever comes.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{Mode, OFlags};

use super::answers::{Answer, is_name, malformed, of_container};
use super::limits::{FileLimits, Left};
use super::transfer::{SkipReason, Transfer, stays_inside};
use crate::agent::file_protocol::{DIRECTORY, LINK, MAX_DEPTH, Meta, REGULAR};

/// An error, and the path within the tree to which it belongs.
pub(super) type Failure = (Vec<u8>, io::Error);

/// The rights that the owner of a directory and of a file always gets, so that what was copied can be removed again.
const OWN_DIR: u32 = 0o700;
const OWN_FILE: u32 = 0o600;

/// The rights that are kept. The bits of set-user-id, set-group-id and sticky are not.
const RIGHTS: u32 = 0o777;

/// Numbers of errors of Linux, which the container's kernel is.
const ENXIO: i32 = 6;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const ENOENT: i32 = 2;
const ENOTDIR: i32 = 20;
const ELOOP: i32 = 40;
const ENOTSUP: i32 = 95;

/// The tree so far.
pub(super) struct Tree {
    dirs: Vec<OwnedFd>,
    /// The names of the directories that are open beneath the first, and of the file or link that goes on.
    path: Vec<Bytes>,
    now: Now,
    left: Left,
    done: Transfer,
}

/// What comes next.
enum Now {
    /// An entry of the last directory, or its end.
    Entry,
    /// The contents of a file, or their end.
    File(File),
    /// The target of a link.
    Link,
    /// The rest of a file or directory that is skipped: so many ends.
    Skips(usize),
    /// The target of a link within it, and then [`Skips`](Self::Skips).
    SkipsLink(usize),
}

impl Tree {
    /// Begins in a directory that is made unless it is there, and must be empty.
    pub(super) fn begin(target: &Path, limits: FileLimits) -> io::Result<Self> {
        match std::fs::create_dir(target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // The path is the caller's own, and links in it are followed.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(target, flags, Mode::empty())?;
        for entry in rustix::fs::Dir::read_from(&dir)? {
            if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                return Err(io::Error::new(
                    io::ErrorKind::DirectoryNotEmpty,
                    "the directory is not empty",
                ));
            }
        }
        Ok(Self {
            dirs: vec![dir],
            path: Vec::new(),
            now: Now::Entry,
            left: Left::of(limits),
            done: Transfer::default(),
        })
    }

    /// Takes the next piece of the tree.
    pub(super) fn take(&mut self, answer: Answer) -> Result<(), Failure> {
        self.step(answer).map_err(|error| (self.at(), error))
    }

    /// Returns what was copied, if the tree is whole.
    pub(super) fn end(self) -> Result<Transfer, Failure> {
        match (self.now, &self.path[..]) {
            (Now::Entry, []) => Ok(self.done),
            _ => Err((Vec::new(), malformed())),
        }
    }

    /// Returns the path of the entry that goes on.
    pub(super) fn at(&self) -> Vec<u8> {
        self.path.join(&b'/')
    }

    fn step(&mut self, answer: Answer) -> io::Result<()> {
        self.now = match (std::mem::replace(&mut self.now, Now::Entry), answer) {
            (Now::Entry, Answer::Entry(meta, name)) => self.entry(meta, name)?,
            (Now::Entry, Answer::Leave) if self.dirs.len() > 1 => {
                self.dirs.pop();
                self.path.pop();
                Now::Entry
            }
            (Now::Entry, Answer::Missed(errno, name)) => self.missed(errno, name)?,
            (Now::File(mut file), Answer::Data(data)) => {
                self.left.take(data.len())?;
                file.write_all(&data)?;
                self.done.bytes += data.len() as u64;
                Now::File(file)
            }
            (Now::File(_), Answer::Leave) => {
                self.done.files += 1;
                self.path.pop();
                Now::Entry
            }
            (Now::Link, Answer::Target(target)) => {
                self.link(&target)?;
                Now::Entry
            }
            (Now::Skips(depth), answer) => self.go_on_skipping(depth, answer)?,
            (Now::SkipsLink(depth), Answer::Target(_)) => Now::Skips(depth),
            _ => return Err(malformed()),
        };
        Ok(())
    }

    fn entry(&mut self, meta: Meta, name: Bytes) -> io::Result<Now> {
        // The decoder has refused such a name. This is the place that must not see one.
        if !is_name(&name) {
            return Err(malformed());
        }
        self.path.push(name);
        self.left.take_entry()?;
        match meta.kind() {
            REGULAR => {
                // A file that is too large by its size is not begun.
                self.left.has_room(meta.size)?;
                Ok(match self.create(meta.mode)? {
                    Some(file) => Now::File(file),
                    None => self.taken(),
                })
            }
            DIRECTORY => self.enter(meta.mode),
            LINK => Ok(Now::Link),
            _ => Err(malformed()),
        }
    }

    /// Makes a directory, and opens it.
    fn enter(&mut self, mode: u32) -> io::Result<Now> {
        // The container's side enters none beyond.
        if self.dirs.len() > MAX_DEPTH {
            return Err(malformed());
        }
        let (dir, name) = (self.dir(), self.name());
        let mode = Mode::from_raw_mode(((mode & RIGHTS) | OWN_DIR) as _);
        match rustix::fs::mkdirat(dir, &name[..], mode) {
            Err(rustix::io::Errno::EXIST) => return Ok(self.taken()),
            made => made?,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inner = rustix::fs::openat(dir, &name[..], flags, Mode::empty())?;
        self.dirs.push(inner);
        self.done.dirs += 1;
        Ok(Now::Entry)
    }

    /// Makes the file that goes on. Returns `None` if there is something of that name.
    fn create(&mut self, mode: u32) -> io::Result<Option<File>> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(((mode & RIGHTS) | OWN_FILE) as _);
        match rustix::fs::openat(self.dir(), &self.name()[..], flags, mode) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(rustix::io::Errno::EXIST) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn link(&mut self, target: &[u8]) -> io::Result<()> {
        if !stays_inside(target, self.dirs.len() - 1) {
            self.skip(SkipReason::LinkOutside);
            return Ok(());
        }
        match rustix::fs::symlinkat(target, self.dir(), &self.name()[..]) {
            Err(rustix::io::Errno::EXIST) => self.skip(SkipReason::Changed),
            made => {
                made?;
                self.done.links += 1;
                self.path.pop();
            }
        }
        Ok(())
    }

    /// Deals with an entry that the container's side could not send.
    fn missed(&mut self, errno: i32, name: Bytes) -> io::Result<Now> {
        self.path.push(name);
        self.left.take_entry()?;
        match errno {
            ENOTSUP => self.skip(SkipReason::Special),
            // `EINVAL` is the answer to reading a link that is none any more.
            ENOENT | ENXIO | ENOTDIR | EISDIR | ELOOP | EINVAL => self.skip(SkipReason::Changed),
            errno => return Err(of_container(errno)),
        }
        Ok(Now::Entry)
    }

    /// Skips a file or directory whose name is taken: it came twice, or is another one's on a file system that does not
    /// tell upper from lower case.
    fn taken(&mut self) -> Now {
        self.skip(SkipReason::Changed);
        Now::Skips(1)
    }

    /// Notes that the entry is skipped, and leaves it.
    fn skip(&mut self, reason: SkipReason) {
        self.done.skip(self.at(), reason);
        self.path.pop();
    }

    fn go_on_skipping(&mut self, depth: usize, answer: Answer) -> io::Result<Now> {
        Ok(match answer {
            Answer::Data(data) => {
                self.left.take(data.len())?;
                Now::Skips(depth)
            }
            Answer::Entry(meta, _) => {
                self.left.take_entry()?;
                match meta.kind() {
                    REGULAR | DIRECTORY if depth > MAX_DEPTH + 1 => return Err(malformed()),
                    REGULAR | DIRECTORY => Now::Skips(depth + 1),
                    LINK => Now::SkipsLink(depth),
                    _ => return Err(malformed()),
                }
            }
            Answer::Missed(..) => {
                self.left.take_entry()?;
                Now::Skips(depth)
            }
            Answer::Leave if depth == 1 => Now::Entry,
            Answer::Leave => Now::Skips(depth - 1),
            _ => return Err(malformed()),
        })
    }

    fn dir(&self) -> &OwnedFd {
        match self.dirs.last() {
            Some(dir) => dir,
            None => unreachable!("the first directory is never left"),
        }
    }

    fn name(&self) -> Bytes {
        self.path.last().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    fn meta(mode: u32) -> Meta {
        Meta {
            mode,
            ..Meta::default()
        }
    }

    fn dir(name: &'static str) -> Answer {
        Answer::Entry(meta(DIRECTORY | 0o7777), name.into())
    }

    fn file(name: &'static str) -> Answer {
        Answer::Entry(meta(REGULAR | 0o7777), name.into())
    }

    fn link(name: &'static str) -> Answer {
        Answer::Entry(meta(LINK | 0o777), name.into())
    }

    fn to(target: &'static str) -> Answer {
        Answer::Target(target.into())
    }

    fn data(text: &'static str) -> Answer {
        Answer::Data(text.into())
    }

    /// A target, and beside it what must stay as it is.
    struct Around(tempfile::TempDir);

    impl Around {
        fn new() -> Self {
            let around = tempfile::tempdir().unwrap();
            std::fs::create_dir(around.path().join("outside")).unwrap();
            Self(around)
        }

        fn target(&self) -> PathBuf {
            self.0.path().join("target")
        }

        fn write(&self, limits: FileLimits, answers: impl IntoIterator<Item = Answer>) -> Result<Transfer, Failure> {
            let mut tree = Tree::begin(&self.target(), limits).unwrap();
            for answer in answers {
                tree.take(answer)?;
            }
            tree.end()
        }

        fn assert_untouched(&self) {
            let names = |path: PathBuf| -> Vec<_> {
                let mut names: Vec<_> = std::fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name())
                    .collect();
                names.sort();
                names
            };
            assert_eq!(names(self.0.path().to_owned()), ["outside", "target"]);
            assert!(names(self.0.path().join("outside")).is_empty());
        }
    }

    #[test]
    fn answers_that_make_no_tree_are_refused() {
        let around = Around::new();
        let one = |answers: Vec<Answer>| {
            let written = around.write(FileLimits::default(), answers);
            let _ = std::fs::remove_dir_all(around.target());
            written.map(drop).map_err(|(_, error)| error.kind())
        };
        for answers in [
            vec![Answer::Leave],
            vec![data("x")],
            vec![to("x")],
            vec![dir("a"), data("x")],
            vec![dir("a"), to("x")],
            vec![dir("a"), Answer::Leave, Answer::Leave],
            vec![file("a"), file("b")],
            vec![file("a"), dir("b")],
            vec![file("a"), to("b")],
            vec![file("a"), Answer::Missed(2, "b".into())],
            vec![link("a"), data("b")],
            vec![link("a"), Answer::Leave],
            vec![link("a"), file("b")],
            vec![Answer::Meta(meta(REGULAR))],
            vec![Answer::Done],
            vec![Answer::Entry(meta(0o010_644), "fifo".into())],
            vec![Answer::Entry(meta(0o020_666), "device".into())],
            vec![Answer::Entry(meta(0), "nothing".into())],
            // An end in the midst of it.
            vec![file("a")],
            vec![dir("a")],
            vec![link("a")],
            // Names that the decoder lets through in no case.
            vec![file("../x")],
            vec![dir("..")],
            vec![link("/x")],
            vec![file("")],
        ] {
            let count = answers.len();
            assert_eq!(one(answers), Err(io::ErrorKind::InvalidData), "{count}");
        }
        let deep = (0..=MAX_DEPTH).map(|_| dir("d"));
        assert_eq!(one(deep.collect()), Err(io::ErrorKind::InvalidData));
        assert_eq!(
            one(vec![Answer::Missed(13, "x".into())]),
            Err(io::ErrorKind::PermissionDenied)
        );
        assert_eq!(one(vec![]), Ok(()));
    }

    #[test]
    fn a_name_that_comes_twice_is_skipped_with_all_that_is_in_it() {
        let around = Around::new();
        let outside = around.0.path().join("outside");
        let answers = [
            // Kept, and then used as a directory, as a file and as a link.
            link("a"),
            to("b"),
            dir("a"),
            file("evil"),
            data("x"),
            Answer::Leave,
            dir("deeper"),
            link("l"),
            to("/"),
            Answer::Missed(2, "m".into()),
            Answer::Leave,
            Answer::Leave,
            file("a"),
            data("x"),
            data("y"),
            Answer::Leave,
            link("a"),
            to("c"),
            // A link to the outside is not kept, and so a directory may have its name.
            link("out"),
            Answer::Target(outside.to_str().unwrap().to_owned().into()),
            dir("out"),
            file("evil"),
            data("x"),
            Answer::Leave,
            Answer::Leave,
        ];
        let done = around.write(FileLimits::default(), answers).unwrap();
        around.assert_untouched();
        assert_eq!(
            (done.links, done.files, done.dirs, done.skipped_count),
            (1, 1, 1, 4),
            "{done:?}"
        );
        let target = around.target();
        assert_eq!(std::fs::read_link(target.join("a")).unwrap(), PathBuf::from("b"));
        assert!(!target.join("b").exists());
        assert_eq!(std::fs::read(target.join("out/evil")).unwrap(), b"x");
    }

    /// Whoever may write to the target can put links there: they are not followed either.
    #[test]
    fn a_link_that_another_process_puts_in_place_is_not_followed() {
        let around = Around::new();
        let outside = around.0.path().join("outside");
        let mut tree = Tree::begin(&around.target(), FileLimits::default()).unwrap();
        std::os::unix::fs::symlink(&outside, around.target().join("dir")).unwrap();
        std::os::unix::fs::symlink(outside.join("made"), around.target().join("file")).unwrap();
        for answer in [
            dir("dir"),
            file("x"),
            data("x"),
            Answer::Leave,
            Answer::Leave,
            file("file"),
            data("x"),
            Answer::Leave,
        ] {
            tree.take(answer).unwrap();
        }
        assert_eq!(tree.end().unwrap().skipped_count, 2);
        around.assert_untouched();
    }

    #[test]
    fn limits_hold_whatever_sizes_are_told() {
        let limits = FileLimits {
            bytes: 10,
            entries: 5,
            time: None,
        };
        let sized = |size| Answer::Entry(Meta { size, ..meta(REGULAR) }, "a".into());
        let kind = |answers: Vec<Answer>| {
            let around = Around::new();
            around
                .write(limits, answers)
                .map(drop)
                .map_err(|(_, error)| error.kind())
        };
        assert_eq!(kind(vec![sized(u64::MAX)]), Err(io::ErrorKind::FileTooLarge));
        assert_eq!(
            kind(vec![sized(0), data("12345"), data("678901")]),
            Err(io::ErrorKind::FileTooLarge)
        );
        assert_eq!(kind(vec![sized(10), data("1234567890"), Answer::Leave]), Ok(()));
        // What is skipped counts too.
        assert_eq!(
            kind(vec![link("a"), to("b"), file("a"), data("12345678901")]),
            Err(io::ErrorKind::FileTooLarge)
        );
        let mut many = vec![link("a"), to("b"), dir("a")];
        many.extend((0..4).map(|_| Answer::Missed(95, "m".into())));
        assert_eq!(kind(many), Err(io::ErrorKind::QuotaExceeded));
    }

    #[test]
    fn a_target_that_is_not_empty_or_no_directory_is_refused() {
        let around = Around::new();
        std::fs::write(around.0.path().join("target"), "").unwrap();
        assert!(Tree::begin(&around.target(), FileLimits::default()).is_err());
        let begun = Tree::begin(around.0.path(), FileLimits::default()).map(drop);
        assert_eq!(begun.unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
        let begun = Tree::begin(&around.0.path().join("no/such"), FileLimits::default()).map(drop);
        assert_eq!(begun.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    fn any_answer() -> impl Strategy<Value = Answer> {
        let name = prop::sample::select(vec!["a", "b", "c", "..", "a/b", "\u{ff}"]);
        let target = prop::sample::select(vec![
            "a",
            "..",
            "../outside",
            "../../outside",
            "/",
            "a/../..",
            "b/c",
            "../a",
        ]);
        let kind = prop::sample::select(vec![DIRECTORY, DIRECTORY, REGULAR, LINK, 0o010_000]);
        prop_oneof![
            4 => (kind, name.clone()).prop_map(|(kind, name)| Answer::Entry(meta(kind | 0o755), name.into())),
            3 => Just(Answer::Leave),
            2 => Just(data("x")),
            3 => target.prop_map(|target| Answer::Target(target.into())),
            1 => (1..100, name).prop_map(|(errno, name)| Answer::Missed(errno, name.into())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// Whatever the answers are, in whatever order: nothing beside the target changes, and each link in it stays in it.
        #[test]
        fn no_answers_get_out_of_the_target(answers in prop::collection::vec(any_answer(), 0..60)) {
            let around = Around::new();
            let mut tree = Tree::begin(&around.target(), FileLimits::default()).unwrap();
            for answer in answers {
                // An answer that is refused ends a real transfer. Here the next one has its try.
                let _ = tree.take(answer);
            }
            around.assert_untouched();
            let top = std::fs::canonicalize(around.target()).unwrap();
            let mut left = vec![top.clone()];
            while let Some(dir) = left.pop() {
                for entry in std::fs::read_dir(&dir).unwrap() {
                    let entry = entry.unwrap();
                    let file_type = entry.file_type().unwrap();
                    if file_type.is_dir() {
                        left.push(entry.path());
                    } else if file_type.is_symlink() && let Ok(real) = std::fs::canonicalize(entry.path()) {
                        prop_assert!(real.starts_with(&top), "{:?}", entry.path());
                    }
                }
            }
        }
    }
}
