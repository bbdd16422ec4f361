//! Decodes what a file server sends. The bytes are not trusted: the memory that they take is bounded, and what makes no
//! sense is an error.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::agent::Fields;
use crate::agent::file_protocol::{HEADER, MAX_DATA, MAX_PATH, Meta, piece};

/// A frame of the server's.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))] // contents are secret elsewhere
pub(super) enum Answer {
    Meta(Meta),
    Data(Bytes),
    /// An entry of a directory, with a name that is one.
    Entry(Meta, Bytes),
    /// Where the link points to that came last.
    Target(Bytes),
    /// The kernel's bits for a change, the number of a rename, and the name of the entry. An empty name: the watched file itself.
    Event(u32, u32, Bytes),
    /// The end of the directory or file that was entered last.
    Leave,
    /// The error number because of which an entry of this name is not sent.
    Missed(i32, Bytes),
    Done,
    /// The error number, and the path to which it belongs.
    Failed(i32, Bytes),
}

/// Returns the error for bytes that are not the server's protocol.
pub(super) fn malformed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the answer from the container makes no sense",
    )
}

/// Returns the error of this number on Linux, which the container's kernel is, whatever this machine is.
pub(super) fn of_container(errno: i32) -> io::Error {
    use io::ErrorKind::*;

    if cfg!(target_os = "linux") {
        return io::Error::from_raw_os_error(errno);
    }
    let kind = match errno {
        1 | 13 => PermissionDenied,
        2 => NotFound,
        12 => OutOfMemory,
        17 => AlreadyExists,
        18 => CrossesDevices,
        20 => NotADirectory,
        21 => IsADirectory,
        22 => InvalidInput,
        26 => ExecutableFileBusy,
        27 => FileTooLarge,
        28 => StorageFull,
        30 => ReadOnlyFilesystem,
        36 => InvalidFilename,
        39 => DirectoryNotEmpty,
        95 => Unsupported,
        122 => QuotaExceeded,
        _ => Other,
    };
    io::Error::new(kind, format!("{kind} (error {errno} of the container's kernel)"))
}

/// Returns whether a directory can have an entry of this name.
pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

/// The bytes that were read and not decoded.
#[derive(Default)]
pub(super) struct Decoder {
    buf: BytesMut,
}

impl Decoder {
    /// Returns the next frame, if all of it is there.
    pub(super) fn decode(&mut self) -> io::Result<Option<Answer>> {
        let mut fields = Fields(&self.buf);
        let (Some(len), Some(kind)) = (fields.u32(), fields.u8()) else {
            return Ok(None);
        };
        let len = len as usize;
        let (least, most) = piece::sizes(kind).ok_or_else(malformed)?;
        if !(least..=most).contains(&len) {
            return Err(malformed());
        }
        if self.buf.len() < HEADER + len {
            return Ok(None);
        }
        self.buf.advance(HEADER);
        let payload = self.buf.split_to(len).freeze();
        answer(kind, payload).ok_or_else(malformed).map(Some)
    }

    /// Reads and decodes the next frame. An end within or instead of a frame is [`UnexpectedEof`](io::ErrorKind).
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<Answer>> {
        poll(self, |decoder| &mut decoder.buf, Self::decode, cx, from)
    }

    /// Takes bytes that were read otherwise.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }
}

/// Reads and decodes the next frame.
pub(super) fn poll<D>(
    decoder: &mut D,
    buf: impl Fn(&mut D) -> &mut BytesMut,
    decode: impl Fn(&mut D) -> io::Result<Option<Answer>>,
    cx: &mut Context<'_>,
    from: &mut (impl AsyncRead + Unpin),
) -> Poll<io::Result<Answer>> {
    loop {
        if let Some(answer) = decode(decoder)? {
            return Poll::Ready(Ok(answer));
        }
        // Never more than a frame and what comes with it.
        buf(decoder).reserve(HEADER + MAX_DATA);
        if ready!(poll_read_buf(Pin::new(&mut *from), cx, buf(decoder)))? == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// Returns `None` if the payload makes no sense.
fn answer(kind: u8, payload: Bytes) -> Option<Answer> {
    let mut fields = Fields(&payload);
    Some(match kind {
        piece::DATA => Answer::Data(payload),
        piece::META => Answer::Meta(meta(&mut fields)?),
        piece::ENTRY => {
            let meta = meta(&mut fields)?;
            let name = payload.slice(Meta::SIZE..);
            is_name(&name).then_some(Answer::Entry(meta, name))?
        }
        piece::TARGET => (!payload.contains(&0)).then_some(Answer::Target(payload))?,
        piece::EVENT => {
            let (event, rename) = (fields.u32()?, fields.u32()?);
            let name = payload.slice(8..);
            (name.is_empty() || is_name(&name)).then_some(Answer::Event(event, rename, name))?
        }
        piece::LEAVE => Answer::Leave,
        piece::MISSED => {
            let errno = errno(&mut fields)?;
            let name = payload.slice(4..);
            is_name(&name).then_some(Answer::Missed(errno, name))?
        }
        piece::DONE => Answer::Done,
        piece::FAILED => {
            let errno = errno(&mut fields)?;
            let path = payload.slice(4..);
            (path.len() <= MAX_PATH).then_some(Answer::Failed(errno, path))?
        }
        _ => return None,
    })
}

fn meta(fields: &mut Fields<'_>) -> Option<Meta> {
    Meta::decode(fields).filter(|meta| meta.mode <= 0o177_777 && meta.nanos < 1_000_000_000)
}

fn errno(fields: &mut Fields<'_>) -> Option<i32> {
    fields
        .u32()
        .and_then(|errno| i32::try_from(errno).ok())
        .filter(|errno| (1..4096).contains(errno))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::file_protocol::MAX_NAME;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend_from_slice(payload);
        frame
    }

    fn decoded(bytes: &[u8]) -> io::Result<Option<Answer>> {
        let mut decoder = Decoder::default();
        decoder.feed(bytes);
        decoder.decode()
    }

    fn entry(name: &[u8]) -> Vec<u8> {
        let meta = Meta {
            mode: 0o100_644,
            ..Meta::default()
        };
        frame(piece::ENTRY, &[&meta.encode()[..], name].concat())
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        for name in [
            &b""[..],
            b".",
            b"..",
            b"/",
            b"a/b",
            b"/etc/passwd",
            b"../x",
            b"a\0",
            b"\0",
        ] {
            assert!(decoded(&entry(name)).is_err(), "{name:?}");
        }
        assert!(decoded(&entry(&[b'a'; MAX_NAME + 1])).is_err());
        for name in [
            &b"a"[..],
            b"...",
            b"..a",
            b"a\nb",
            b"\xff\xfe",
            b" ",
            b"-rf",
            &[b'a'; MAX_NAME],
        ] {
            let Some(Answer::Entry(_, found)) = decoded(&entry(name)).unwrap() else {
                panic!("{name:?}")
            };
            assert_eq!(found, name);
        }
    }

    #[test]
    fn lengths_beyond_a_frames_are_refused_before_they_are_awaited() {
        for kind in 0..=255u8 {
            let most = piece::sizes(kind).map_or(0, |(_, most)| most as u32);
            for len in [most + 1, 1 << 24, u32::MAX] {
                let mut header = len.to_le_bytes().to_vec();
                header.push(kind);
                assert!(decoded(&header).is_err(), "{kind} {len}");
            }
        }
    }

    #[test]
    fn attributes_and_errors_that_cannot_be_are_refused() {
        for meta in [
            Meta {
                mode: 0o200_000,
                ..Meta::default()
            },
            Meta {
                nanos: 1_000_000_000,
                ..Meta::default()
            },
        ] {
            assert!(decoded(&frame(piece::META, &meta.encode())).is_err());
        }
        for errno in [0, -1, 4096, i32::MIN] {
            assert!(decoded(&frame(piece::FAILED, &errno.to_le_bytes())).is_err(), "{errno}");
            assert!(
                decoded(&frame(piece::MISSED, &[&errno.to_le_bytes()[..], b"a"].concat())).is_err(),
                "{errno}"
            );
        }
        assert!(decoded(&frame(piece::TARGET, b"a\0b")).is_err());
        assert!(decoded(&frame(piece::DATA, b"")).is_err());
    }

    proptest! {
        /// Whatever comes, however it is cut: no panic, and no more memory than a frame and what comes with it.
        #[test]
        fn any_bytes_are_an_answer_or_an_error(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20)) {
            let mut decoder = Decoder::default();
            'all: for piece in pieces {
                decoder.feed(&piece);
                loop {
                    match decoder.decode() {
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'all,
                    }
                }
                prop_assert!(decoder.buf.len() <= HEADER + MAX_DATA + 300);
            }
        }
    }
}
