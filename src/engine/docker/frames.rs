//! The output of an upgraded connection, in frames of bounded size.
//!
//! Without a terminal the output comes in frames of [Docker's attach protocol][attach]: one byte for the stream, three
//! zeros, the length as four bytes in big-endian order, and as many bytes of data. With a terminal the output comes
//! unframed.
//!
//! [attach]: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerAttach

use std::io::ErrorKind;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::engine::{EngineError, EngineErrorKind, Frame, OutputStream};

/// The read size, and the size up to which a frame is returned whole. The engine's frames have at most 32 KiB. A longer one
/// is split, whatever length it claims.
pub(super) const PIECE: usize = 64 * 1024;

const HEADER: usize = 8;

/// Describes the connection to read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) tty: bool,
    /// Whether the connection is a Unix socket. There a reset arrives after all data that was sent, and only means that the
    /// other end closed without reading everything that was written to it. Podman closes so when a command does not read its
    /// input. On a network a reset may lose data.
    pub(crate) is_local: bool,
}

/// Decodes a connection into frames, until its end or the first error.
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
    /// The stream of the frame that is being read, and how many of its bytes are missing.
    within: Option<(OutputStream, usize)>,
}

impl Decoder {
    /// Returns the next frame, or piece of a long frame, if it has been read.
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

    /// Returns the part of a frame that was cut off.
    fn rest(&mut self) -> Option<Frame> {
        let (stream, left) = self.within?;
        let data = self.buffer.split().freeze();
        self.within = Some((stream, left - data.len()));
        (!data.is_empty()).then_some(Frame { stream, data })
    }

    /// Returns the error, if any, at the end of the connection.
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

    /// Returns all frames and errors of a connection that delivers these bytes in pieces.
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
        // Every read is ready at once.
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
    fn a_cut_or_invalid_frame_is_an_error_after_the_frames_before_it() {
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
    fn a_reset_is_the_end_on_a_unix_socket_between_frames_only() {
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
