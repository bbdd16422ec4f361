//! Private functions for the fuzz targets in `fuzz/`. Compiled only where cargo-fuzz builds the library.

use futures_util::{FutureExt, StreamExt, stream};
use tokio_util::io::StreamReader;

use crate::engine::docker::frames::{self, Wire};
use crate::engine::reference::Reference;
use crate::engine::{Frame, OutputStream};
use crate::values::owner::{Owner, Stat};

/// Decodes the engine's frames from a connection that brings these pieces. Returns the frames, and whether the stream ended
/// without an error.
pub fn decode(pieces: Vec<Vec<u8>>, tty: bool) -> (Vec<Frame>, bool) {
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
    let connection = StreamReader::new(stream::iter(
        pieces.map(|piece| Ok::<_, std::io::Error>(bytes::Bytes::from(piece))),
    ));
    let mut decoded = frames::decode(connection, Wire { tty, is_local: false });
    let mut frames = Vec::new();
    while let Some(frame) = decoded.next().now_or_never().expect("the decoder never waits") {
        match frame {
            Ok(frame) => frames.push(frame),
            Err(_) => return (frames, false),
        }
    }
    (frames, true)
}

/// Decodes these pieces of the agent's data. Returns each byte of output, and `None` for every other message, with the id of
/// its command or question; and whether all pieces were well-formed.
pub fn agent_says(pieces: Vec<Vec<u8>>) -> (Vec<(u32, Option<(OutputStream, u8)>)>, bool) {
    crate::agent::said(pieces.into_iter().map(bytes::Bytes::from).collect())
}

/// Parses the label that names a container's owner, and formats it again.
pub fn owner(text: &str) -> Option<String> {
    let owner: Owner = text.parse().ok()?;
    assert_eq!(owner.to_string().parse::<Owner>().as_ref(), Ok(&owner));
    Some(owner.to_string())
}

/// Parses a line of `/proc/PID/stat`. Returns whether it is well-formed.
pub fn stat(text: &str) -> bool {
    text.parse::<Stat>().is_ok()
}

/// Parses an image's name. Returns its registry, tag and digest.
pub fn reference(text: &str) -> Option<(String, Option<String>, Option<String>)> {
    let found = Reference::parse(text).ok()?;
    Some((
        found.registry().to_owned(),
        found.tag.map(str::to_owned),
        found.digest.map(str::to_owned),
    ))
}
