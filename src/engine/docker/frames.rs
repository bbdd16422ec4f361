//! The output of an upgraded connection, in pieces of bounded size.
//!
//! Without a terminal it comes in frames of [Docker's attach protocol][attach]: a byte that says which stream, three zeros,
//! the length in four bytes, big-endian, and so many bytes. With a terminal it comes as it is.
//!
//! [attach]: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach

use std::io::ErrorKind;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::engine::{EngineError, EngineErrorKind, Frame, OutputStream};

/// Read from the connection at once, and the size up to which a frame is handed over whole; the engine's have at most
/// 32 KiB. Longer ones come in pieces, whatever length they claim.
pub(super) const PIECE: usize = 64 * 1024;

const HEADER: usize = 8;

/// What is to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) tty: bool,
    /// It comes over a Unix socket. There a reset comes after all that was sent: it says only that the other end has closed
    /// without reading all that was written to it. Podman does so where a command does not read its input. A network may
    /// lose data with it.
    pub(crate) is_local: bool,
}

/// Turns what is read into frames, until the end or the first error.
pub(crate) fn decode<R>(read: R, wire: Wire) -> BoxStream<'static, Result<Frame, EngineError>>
where
    R: AsyncRead + Send + Unpin + 'static,
{
    let decoder = Decoder {
        buffer: BytesMut::new(),
        wire,
        within: None,
    };
    stream::unfold(Some((read, decoder)), async |state| {
        let (mut read, mut decoder) = state?;
        loop {
            match decoder.next() {
                Ok(Some(frame)) => return Some((Ok(frame), Some((read, decoder)))),
                Ok(None) => {}
                Err(error) => return Some((Err(error), None)),
            }
            decoder.buffer.reserve(PIECE);
            let read_in = match read.read_buf(&mut decoder.buffer).await {
                Err(error) if decoder.wire.is_local && error.kind() == ErrorKind::ConnectionReset => Ok(0),
                result => result,
            };
            match read_in {
                Ok(0) => match decoder.rest() {
                    Some(frame) => return Some((Ok(frame), Some((read, decoder)))),
                    None => return decoder.end().err().map(|error| (Err(error), None)),
                },
                Ok(_) => {}
                Err(error) => {
                    let broken = EngineError::new(EngineErrorKind::Protocol, "the output broke off");
                    return Some((Err(broken.with_source(error)), None));
                }
            }
        }
    })
    .boxed()
}

struct Decoder {
    buffer: BytesMut,
    wire: Wire,
    /// The frame that is being read, and how much of it is still to come.
    within: Option<(OutputStream, usize)>,
}

impl Decoder {
    /// The next piece, if it is there.
    fn next(&mut self) -> Result<Option<Frame>, EngineError> {
        if self.wire.tty {
            let data = self.buffer.split().freeze();
            let stream = OutputStream::Stdout;
            return Ok((!data.is_empty()).then_some(Frame { stream, data }));
        }
        loop {
            let Some((stream, left)) = self.within else {
                if self.buffer.len() < HEADER {
                    return Ok(None);
                }
                self.within = Some(self.header()?);
                continue;
            };
            if left == 0 {
                self.within = None;
                continue;
            }
            if self.buffer.len() < left.min(PIECE) {
                return Ok(None);
            }
            let data = self.buffer.split_to(left.min(self.buffer.len())).freeze();
            self.within = Some((stream, left - data.len()));
            return Ok(Some(Frame { stream, data }));
        }
    }

    fn header(&mut self) -> Result<(OutputStream, usize), EngineError> {
        let stream = match self.buffer[..4] {
            [1, 0, 0, 0] => OutputStream::Stdout,
            [2, 0, 0, 0] => OutputStream::Stderr,
            _ => {
                return Err(EngineError::new(
                    EngineErrorKind::Protocol,
                    "the output is not in the engine's frames",
                ));
            }
        };
        self.buffer.advance(4);
        Ok((stream, self.buffer.get_u32() as usize))
    }

    /// What there is of a frame that was cut.
    fn rest(&mut self) -> Option<Frame> {
        let (stream, left) = self.within?;
        let data = self.buffer.split().freeze();
        self.within = Some((stream, left - data.len()));
        (!data.is_empty()).then_some(Frame { stream, data })
    }

    /// The connection has ended.
    fn end(&self) -> Result<(), EngineError> {
        let whole = self.buffer.is_empty() && self.within.is_none_or(|(_, left)| left == 0);
        if whole {
            return Ok(());
        }
        Err(EngineError::new(
            EngineErrorKind::Protocol,
            "the output broke off within a frame",
        ))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio_util::io::StreamReader;

    use super::*;

    fn frame(stream: u8, data: &[u8]) -> Vec<u8> {
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend((data.len() as u32).to_be_bytes());
        frame.extend(data);
        frame
    }

    /// Everything a connection gives that brings these bytes in pieces.
    fn decoded(bytes: &[u8], cuts: &[usize], tty: bool) -> (Vec<Frame>, Option<EngineErrorKind>) {
        let mut pieces = Vec::new();
        let mut rest = Bytes::copy_from_slice(bytes);
        for cut in cuts {
            pieces.push(rest.split_to(*cut.min(&rest.len())));
        }
        pieces.push(rest);
        pieces.retain(|piece| !piece.is_empty());
        let connection = StreamReader::new(stream::iter(pieces.into_iter().map(Ok::<_, std::io::Error>)));
        let mut frames = Vec::new();
        let mut stream = decode(connection, Wire { tty, is_local: false });
        // Whatever is read is there at once.
        while let Some(frame) = stream.next().now_or_never().expect("nothing is waited for") {
            match frame {
                Ok(frame) => frames.push(frame),
                Err(error) => return (frames, Some(error.kind())),
            }
        }
        (frames, None)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn frames_come_as_they_were_sent_however_they_are_cut(
            sent in prop::collection::vec((1..3u8, prop::collection::vec(any::<u8>(), 1..300)), 0..8),
            cuts in prop::collection::vec(1..200usize, 0..20),
        ) {
            let bytes: Vec<u8> = sent.iter().flat_map(|(stream, data)| frame(*stream, data)).collect();
            let (frames, error) = decoded(&bytes, &cuts, false);
            prop_assert_eq!(error, None);
            let got: Vec<_> = frames.into_iter().map(|frame| (1 + frame.stream as u8, frame.data.to_vec())).collect();
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn any_bytes_end_in_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600), tty: bool) {
            let (frames, error) = decoded(&bytes, &[100, 1], tty);
            if tty {
                prop_assert_eq!(error, None);
                let data: Vec<u8> = frames.iter().flat_map(|frame| frame.data.to_vec()).collect();
                prop_assert_eq!(data, bytes);
            }
        }
    }

    #[test]
    fn a_frame_that_claims_four_gibibytes_comes_in_pieces() {
        let mut bytes = vec![1, 0, 0, 0, 255, 255, 255, 255];
        bytes.resize(HEADER + 10 * PIECE, b'x');
        let (frames, error) = decoded(&bytes, &[], false);
        assert_eq!(error, Some(EngineErrorKind::Protocol));
        assert_eq!(frames.iter().map(|frame| frame.data.len()).sum::<usize>(), 10 * PIECE);
        assert!(frames.iter().all(|frame| frame.data.len() <= 2 * PIECE));
    }

    #[test]
    fn what_is_cut_or_no_frame_is_an_error_after_what_came_before() {
        let whole = frame(2, b"whole");
        for bad in [
            &[1, 0, 0][..],
            &frame(1, b"cut")[..8],
            &[3, 0, 0, 0, 0, 0, 0, 0],
            b"\xff\xfe no frame",
        ] {
            let (frames, error) = decoded(&[&whole[..], bad].concat(), &[], false);
            assert_eq!(frames.len(), 1, "{bad:?}");
            assert_eq!(
                (frames[0].stream, &frames[0].data[..]),
                (OutputStream::Stderr, &b"whole"[..])
            );
            assert_eq!(error, Some(EngineErrorKind::Protocol), "{bad:?}");
        }
    }

    #[test]
    fn a_reset_is_an_end_over_a_unix_socket_only_and_only_between_frames() {
        let cut = [&frame(2, b"whole")[..], &frame(1, b"cut")[..9]].concat();
        for (bytes, is_local, expected) in [
            (&cut[..13], true, None),
            (&cut[..13], false, Some(EngineErrorKind::Protocol)),
            (&cut[..], true, Some(EngineErrorKind::Protocol)),
        ] {
            let read = tokio_test::io::Builder::new()
                .read(bytes)
                .read_error(ErrorKind::ConnectionReset.into())
                .build();
            let mut frames = decode(read, Wire { tty: false, is_local });
            let mut next = || frames.next().now_or_never().expect("nothing is waited for");
            assert_eq!(&next().unwrap().unwrap().data[..], b"whole");
            let rest = std::iter::from_fn(next).find_map(Result::err);
            assert_eq!(rest.map(|error| error.kind()), expected, "{bytes:?} {is_local}");
        }
    }
}
