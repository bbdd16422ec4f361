//! Contents and trees as archives, for containers without the agent: the image's own `tar` makes and takes them by its
//! standard streams. The frames of the file server are translated to an archive and back, so that all else is the same.
//!
//! An archive that comes is not trusted, as the server's frames are not.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tar::{EntryType, Header};

use super::answers::{Answer, is_name, malformed};
use crate::agent::file_protocol::{DIRECTORY, LINK, MAX_DATA, MAX_DEPTH, MAX_PATH, Meta, REGULAR};

const BLOCK: usize = 512;

/// The bits of a mode that an archive tells.
const BITS: u32 = 0o7777;

/// The most bytes of a header that says the name of the next entry, or where it points to.
const MAX_LONG: u64 = 64 * 1024;

/// The most bytes of an archive between two frames, or at its end. Names take a part of it, and `tar` fills its last record.
/// Bytes that yield no frame count in no other limit.
const MAX_SILENT: u64 = 1 << 20;

/// The error number of Linux for an entry that is none to be copied.
const ENOTSUP: i32 = 95;

/// Makes an archive of frames.
#[derive(Default)]
pub(super) struct Encoder {
    /// The names of the directories that were entered.
    path: Vec<Bytes>,
    /// The entry whose target or contents come next, and how many bytes of these.
    now: Option<(Meta, Bytes, u64)>,
}

impl Encoder {
    /// Translates a frame.
    pub(super) fn encode(&mut self, answer: Answer, archive: &mut Vec<u8>) -> io::Result<()> {
        match (self.now.take(), answer) {
            (None, Answer::Entry(meta, name)) => {
                let path = self.path_of(&name);
                match meta.kind() {
                    DIRECTORY => {
                        header(archive, EntryType::Directory, &meta, &path, b"");
                        self.path.push(name);
                    }
                    REGULAR => {
                        header(archive, EntryType::Regular, &meta, &path, b"");
                        self.now = Some((meta, name, meta.size));
                    }
                    _ => self.now = Some((meta, name, 0)),
                }
            }
            (Some((meta, name, left)), Answer::Data(data)) => {
                let left = left.checked_sub(data.len() as u64).ok_or_else(malformed)?;
                archive.extend_from_slice(&data);
                self.now = Some((meta, name, left));
            }
            (Some((meta, _, left)), end @ (Answer::Leave | Answer::Done)) => {
                if left > 0 {
                    // The archive has told a size.
                    let words = "the file was made shorter while it was read";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
                }
                archive.resize(archive.len() + padding(meta.size) as usize, 0);
                // A file alone ends the archive.
                if end == Answer::Done {
                    archive.resize(archive.len() + 2 * BLOCK, 0);
                }
            }
            (Some((meta, name, _)), Answer::Target(target)) => {
                let path = self.path_of(&name);
                header(archive, EntryType::Symlink, &meta, &path, &target);
            }
            (None, Answer::Leave) => drop(self.path.pop()),
            (None, Answer::Done) => archive.resize(archive.len() + 2 * BLOCK, 0),
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn path_of(&self, name: &Bytes) -> Vec<u8> {
        let mut path = b".".to_vec();
        for name in self.path.iter().chain([name]) {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        path
    }
}

/// Appends the header of an entry, and before it what does not fit into one.
fn header(archive: &mut Vec<u8>, kind: EntryType, meta: &Meta, path: &[u8], target: &[u8]) {
    for (kind, text) in [(EntryType::GNULongName, path), (EntryType::GNULongLink, target)] {
        if text.len() > 100 {
            let size = text.len() as u64 + 1;
            let meta = Meta {
                size,
                ..Meta::default()
            };
            header(archive, kind, &meta, b"././@LongLink", b"");
            archive.extend_from_slice(text);
            archive.resize(archive.len() + 1 + padding(size) as usize, 0);
        }
    }
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(meta.mode & BITS);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(meta.seconds.max(0) as u64);
    header.set_size(if matches!(kind, EntryType::Directory | EntryType::Symlink) {
        0
    } else {
        meta.size
    });
    let old = header.as_old_mut();
    for (field, text) in [(&mut old.name, path), (&mut old.linkname, target)] {
        let len = text.len().min(field.len());
        field[..len].copy_from_slice(&text[..len]);
    }
    header.set_cksum();
    archive.extend_from_slice(header.as_bytes());
}

/// Returns how many bytes there are after so many, up to the end of their block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Makes frames of an archive.
pub(super) struct Decoder {
    pub(super) buf: BytesMut,
    /// Whether the archive is that of one file, and not of a tree.
    is_file: bool,
    now: Now,
    /// The names of the directories that were entered.
    path: Vec<Bytes>,
    /// Frames that were made and not returned yet.
    ready: VecDeque<Answer>,
    long_path: Option<Bytes>,
    long_target: Option<Bytes>,
    /// The bytes that were taken since the last frame.
    silent: u64,
}

enum Now {
    Header,
    /// The name of the next entry, where it points to, or what is not needed: the kind, and the size.
    Long(EntryType, u64),
    /// Contents, and then the rest of their last block.
    Data(u64, u64),
    /// Bytes that are not needed.
    Skip(u64),
    End,
}

impl Decoder {
    pub(super) fn new(is_file: bool) -> Self {
        Self {
            buf: BytesMut::new(),
            is_file,
            now: Now::Header,
            path: Vec::new(),
            ready: VecDeque::new(),
            long_path: None,
            long_target: None,
            silent: 0,
        }
    }

    /// Returns whether the archive has come to its end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.now, Now::End) && self.ready.is_empty()
    }

    /// Returns the next frame, if all of it is there.
    pub(super) fn decode(&mut self) -> io::Result<Option<Answer>> {
        let before = self.buf.len() as u64;
        let answer = self.step()?;
        self.silent = match answer {
            Some(_) => 0,
            None => self.silent + before - self.buf.len() as u64,
        };
        if self.silent > MAX_SILENT {
            return Err(malformed());
        }
        Ok(answer)
    }

    fn step(&mut self) -> io::Result<Option<Answer>> {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Ok(Some(answer));
            }
            let has = self.buf.len() as u64;
            match self.now {
                Now::Header if has < BLOCK as u64 => return Ok(None),
                Now::Header => {
                    let block = self.buf.split_to(BLOCK);
                    self.now = self.entry(&block)?;
                }
                Now::Long(_, size) if has < size + padding(size) => return Ok(None),
                Now::Long(kind, size) => {
                    let text = self.buf.split_to(size as usize).freeze();
                    self.buf.advance(padding(size) as usize);
                    self.long(kind, text)?;
                    self.now = Now::Header;
                }
                Now::Data(0, rest) => {
                    if !self.is_file {
                        self.ready.push_back(Answer::Leave);
                    }
                    self.now = Now::Skip(rest);
                }
                Now::Data(..) | Now::Skip(1..) if has == 0 => return Ok(None),
                Now::Data(left, rest) => {
                    let len = left.min(has).min(MAX_DATA as u64);
                    self.now = Now::Data(left - len, rest);
                    return Ok(Some(Answer::Data(self.buf.split_to(len as usize).freeze())));
                }
                Now::Skip(0) => self.now = Now::Header,
                Now::Skip(left) => {
                    let len = left.min(has);
                    self.buf.advance(len as usize);
                    self.now = Now::Skip(left - len);
                }
                Now::End => {
                    self.buf.clear();
                    return Ok(None);
                }
            }
        }
    }

    fn long(&mut self, kind: EntryType, text: Bytes) -> io::Result<()> {
        let text = match text.iter().position(|byte| *byte == 0) {
            Some(end) if kind != EntryType::XHeader => text.slice(..end),
            _ => text,
        };
        match kind {
            EntryType::GNULongName => self.long_path = Some(text),
            EntryType::GNULongLink => self.long_target = Some(text),
            _ => {
                for record in tar::PaxExtensions::new(&text) {
                    let record = record.map_err(|_| malformed())?;
                    let value = Bytes::copy_from_slice(record.value_bytes());
                    match record.key_bytes() {
                        b"path" => self.long_path = Some(value),
                        b"linkpath" => self.long_target = Some(value),
                        // A size beyond 8 GiB, which no limit of a sane caller lets through.
                        b"size" => return Err(io::ErrorKind::FileTooLarge.into()),
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, block: &[u8]) -> io::Result<Now> {
        if block.iter().all(|byte| *byte == 0) {
            let open = self.path.drain(..).map(|_| Answer::Leave);
            self.ready.extend(open);
            return Ok(Now::End);
        }
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        let told = header.cksum().map_err(|_| malformed())?;
        header.set_cksum();
        let (kind, size) = (header.entry_type(), header.entry_size().map_err(|_| malformed())?);
        if header.cksum().ok() != Some(told) || size > u64::MAX / 2 {
            return Err(malformed());
        }
        let size = if matches!(kind, EntryType::Directory | EntryType::Symlink | EntryType::Link) {
            0
        } else {
            size
        };
        match kind {
            EntryType::GNULongName | EntryType::GNULongLink | EntryType::XHeader if size <= MAX_LONG => {
                return Ok(Now::Long(kind, size));
            }
            EntryType::XGlobalHeader => return Ok(Now::Skip(size + padding(size))),
            _ => {}
        }
        let path = self.long_path.take();
        let path = path.unwrap_or_else(|| Bytes::copy_from_slice(&header.path_bytes()));
        let target = self.long_target.take();
        let target = target.or_else(|| header.link_name_bytes().map(|name| Bytes::copy_from_slice(&name)));
        let meta = |bits| Meta {
            mode: bits | header.mode().unwrap_or(0) & BITS,
            uid: header.uid().unwrap_or(0) as u32,
            gid: header.gid().unwrap_or(0) as u32,
            size,
            seconds: header.mtime().unwrap_or(0) as i64,
            nanos: 0,
        };
        let contents = Now::Data(size, padding(size));
        if self.is_file {
            return match kind {
                EntryType::Regular | EntryType::Continuous => {
                    self.ready.push_back(Answer::Meta(meta(REGULAR)));
                    Ok(contents)
                }
                EntryType::Directory => Err(io::ErrorKind::IsADirectory.into()),
                _ => Err(io::ErrorKind::Unsupported.into()),
            };
        }
        let Some(name) = self.go_to(&path)? else {
            // The top itself.
            return Ok(Now::Skip(size + padding(size)));
        };
        match kind {
            EntryType::Regular | EntryType::Continuous => {
                self.ready.push_back(Answer::Entry(meta(REGULAR), name));
                return Ok(contents);
            }
            EntryType::Directory => {
                self.ready.push_back(Answer::Entry(meta(DIRECTORY), name.clone()));
                self.path.push(name);
            }
            EntryType::Symlink => {
                let target =
                    target.filter(|target| !target.is_empty() && target.len() < MAX_PATH && !target.contains(&0));
                self.ready.push_back(Answer::Entry(meta(LINK), name));
                self.ready.push_back(Answer::Target(target.ok_or_else(malformed)?));
            }
            // A further name of a file is one too.
            _ => self.ready.push_back(Answer::Missed(ENOTSUP, name)),
        }
        Ok(Now::Skip(size + padding(size)))
    }

    /// Leaves directories until those of a path are entered, and returns its last name. The top has none.
    fn go_to(&mut self, path: &Bytes) -> io::Result<Option<Bytes>> {
        let mut names = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                part if is_name(part) => names.push(path.slice_ref(part)),
                _ => return Err(malformed()),
            }
        }
        let Some(name) = names.pop() else { return Ok(None) };
        if names.len() > MAX_DEPTH {
            let words = format!("more than {MAX_DEPTH} directories within each other");
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, words));
        }
        while !names.starts_with(&self.path) {
            self.path.pop();
            self.ready.push_back(Answer::Leave);
        }
        // Each directory comes before what is in it.
        if names.len() != self.path.len() || name.len() > crate::agent::file_protocol::MAX_NAME {
            return Err(malformed());
        }
        Ok(Some(name))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(archive: &[u8], is_file: bool) -> io::Result<(Vec<Answer>, bool)> {
        let mut decoder = Decoder::new(is_file);
        decoder.buf.extend_from_slice(archive);
        let mut answers = Vec::new();
        while let Some(answer) = decoder.decode()? {
            answers.push(answer);
        }
        Ok((answers, decoder.is_whole()))
    }

    fn meta(mode: u32, size: u64) -> Meta {
        Meta {
            mode,
            size,
            ..Meta::default()
        }
    }

    /// Returns an archive of one entry with a header that is all in order.
    fn one(kind: EntryType, path: &[u8], target: &[u8], size: u64) -> Vec<u8> {
        let mut archive = Vec::new();
        header(&mut archive, kind, &meta(0o644, size), path, target);
        archive
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let long = Bytes::from("n".repeat(255));
        let answers = [
            Answer::Entry(meta(DIRECTORY | 0o755, 0), "d".into()),
            Answer::Entry(meta(REGULAR | 0o640, 3), long.clone()),
            Answer::Data("abc".into()),
            Answer::Leave,
            Answer::Entry(meta(DIRECTORY | 0o700, 0), long.clone()),
            Answer::Entry(meta(LINK | 0o777, 0), "l".into()),
            Answer::Target(Bytes::from("t".repeat(300))),
            Answer::Leave,
            Answer::Leave,
            Answer::Entry(meta(REGULAR | 0o600, 0), Bytes::from_static(b"\xff\n")),
            Answer::Leave,
        ];
        let mut encoder = Encoder::default();
        let mut archive = Vec::new();
        for answer in answers.iter().cloned().chain([Answer::Done]) {
            encoder.encode(answer, &mut archive).unwrap();
        }
        assert_eq!(archive.len() % BLOCK, 0);
        assert!(decoded(&archive, false).unwrap() == (answers.to_vec(), true));
        for cut in (0..archive.len() - BLOCK).step_by(100) {
            let whole = decoded(&archive[..cut], false).unwrap().1;
            assert!(!whole || cut >= archive.len() - 2 * BLOCK, "{cut}");
        }
    }

    #[test]
    fn paths_that_lead_out_and_trees_that_jump_are_refused() {
        for path in [&b"../x"[..], b"./../x", b"d/../../x", b".."] {
            assert!(
                decoded(&one(EntryType::Regular, path, b"", 0), false).is_err(),
                "{path:?}"
            );
        }
        // Not after its directory.
        assert!(decoded(&one(EntryType::Regular, b"d/x", b"", 0), false).is_err());
        let deep = vec!["d"; MAX_DEPTH + 2].join("/");
        assert!(decoded(&one(EntryType::Regular, deep.as_bytes(), b"", 0), false).is_err());
        let name = "n".repeat(256);
        assert!(decoded(&one(EntryType::Regular, name.as_bytes(), b"", 0), false).is_err());
        // An absolute path is one beneath the top, as `tar` takes it.
        assert!(
            decoded(&one(EntryType::Symlink, b"/x", b"t", 0), false)
                .unwrap()
                .0
                .len()
                == 2
        );
        assert!(decoded(&one(EntryType::Symlink, b"x", b"", 0), false).is_err());
    }

    #[test]
    fn devices_and_hard_links_are_missed_and_a_file_is_no_other_entry() {
        for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::Link] {
            let answers = decoded(&one(kind, b"x", b"../../etc/passwd", 0), false).unwrap().0;
            assert!(answers == [Answer::Missed(ENOTSUP, "x".into())], "{kind:?}");
            assert!(decoded(&one(kind, b"x", b"y", 0), true).is_err());
        }
        assert!(decoded(&one(EntryType::Directory, b"x", b"", 0), true).is_err());
        let wrong = one(EntryType::GNULongName, b"x", b"", MAX_LONG + 1);
        assert!(decoded(&wrong, false).unwrap().0 == [Answer::Missed(ENOTSUP, "x".into())]);
        let mut broken = one(EntryType::Regular, b"x", b"", 0);
        broken[0] ^= 1;
        assert!(decoded(&broken, false).is_err(), "the checksum is wrong");
    }

    #[test]
    fn an_archive_that_tells_nothing_for_long_is_refused() {
        const MANY: usize = 20_000;

        let zeros = vec![0; BLOCK];
        let top = one(EntryType::Directory, b"./", b"", 0);
        let global = one(EntryType::XGlobalHeader, b"g", b"", 0);
        let device = one(EntryType::Char, b"x", b"", u64::MAX / 4);
        let mut name = one(EntryType::GNULongName, b"././@LongLink", b"", 512);
        name.resize(2 * BLOCK, b'n');
        for (what, start, noise) in [
            ("blocks after the end", &[][..], &zeros),
            ("the top", &[], &top),
            ("headers for all that follows", &[], &global),
            ("contents of a device", &device[..], &zeros),
            ("names of no entry", &[], &name),
        ] {
            let mut decoder = Decoder::new(false);
            decoder.buf.extend_from_slice(start);
            let refused = (0..MANY).any(|_| {
                decoder.buf.extend_from_slice(noise);
                loop {
                    match decoder.decode() {
                        Ok(Some(_)) => {}
                        Ok(None) => return false,
                        Err(_) => return true,
                    }
                }
            });
            assert!(refused, "{what}");
        }
        // As much as any real archive has between two entries, and at its end.
        let mut whole = one(EntryType::Directory, b"./", b"", 0);
        whole.resize(64 * 1024, 0);
        assert!(decoded(&whole, false).unwrap().1);
    }

    proptest! {
        /// Whatever comes: no panic, and names are names.
        #[test]
        fn any_bytes_are_frames_or_an_error(noise in prop::collection::vec((0usize..2048, any::<u8>()), 0..8), sum in any::<bool>()) {
            let mut archive = one(EntryType::Directory, b"d/", b"", 0);
            archive.extend(one(EntryType::Regular, b"d/f", b"", 700));
            archive.resize(archive.len() + 1024, b'x');
            archive.extend(one(EntryType::Symlink, b"l", b"t", 0));
            for (at, byte) in noise {
                archive[at % 2048] = byte;
            }
            if sum {
                for block in [0, BLOCK] {
                    let mut header = Header::new_old();
                    header.as_mut_bytes().copy_from_slice(&archive[block..block + BLOCK]);
                    header.set_cksum();
                    archive[block..block + BLOCK].copy_from_slice(header.as_bytes());
                }
            }
            for is_file in [false, true] {
                if let Ok((answers, _)) = decoded(&archive, is_file) {
                    for answer in answers {
                        if let Answer::Entry(_, name) | Answer::Missed(_, name) = answer {
                            prop_assert!(is_name(&name));
                        }
                    }
                }
            }
        }
    }
}
