//! The decoder of the engine's frames against a simple one, with any bytes in any pieces.
#![no_main]

use dockerpool::engine::{Frame, OutputStream};
use libfuzzer_sys::fuzz_target;

/// The longest frame that the decoder returns, whatever length the header claims.
const LONGEST: usize = 2 * 64 * 1024;

// The first byte holds whether the command has a terminal, and the size of the pieces.
fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else {
        return;
    };
    let (tty, size) = (first & 1 == 1, usize::from(first >> 1));
    let pieces = match size {
        0 => vec![bytes.to_vec()],
        size => bytes.chunks(size).map(<[u8]>::to_vec).collect(),
    };
    let (frames, whole) = dockerpool::fuzzing::decode(pieces, tty);
    assert!(
        frames
            .iter()
            .all(|frame| !frame.data.is_empty() && frame.data.len() <= LONGEST.max(bytes.len()))
    );
    if tty {
        assert!(whole);
        assert_eq!(
            frames.iter().flat_map(|frame| frame.data.to_vec()).collect::<Vec<_>>(),
            bytes
        );
    } else {
        assert_eq!((said(&frames), whole), plain(bytes));
    }
});

/// Returns each byte with its stream.
fn said(frames: &[Frame]) -> Vec<(OutputStream, u8)> {
    let bytes = frames
        .iter()
        .flat_map(|frame| frame.data.iter().map(|byte| (frame.stream, *byte)));
    bytes.collect()
}

fn plain(mut bytes: &[u8]) -> (Vec<(OutputStream, u8)>, bool) {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let Some((header, rest)) = bytes.split_first_chunk::<8>() else {
            return (all, false);
        };
        let stream = match header[..4] {
            [1, 0, 0, 0] => OutputStream::Stdout,
            [2, 0, 0, 0] => OutputStream::Stderr,
            _ => return (all, false),
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let (data, rest) = rest.split_at(rest.len().min(length));
        all.extend(data.iter().map(|byte| (stream, *byte)));
        if data.len() < length {
            return (all, false);
        }
        bytes = rest;
    }
    (all, true)
}
