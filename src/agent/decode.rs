//! Decodes the agent's bytes into messages.

use bytes::{Buf, Bytes};

use super::wire::{
    ANY_USER, BY_SOCKET, Exit, Fields, HEADER, Header, READ_ONLY_ROOT, Stage, UNKNOWN, V1, V2, Why, from_agent,
    hello_version,
};
use crate::engine::OutputStream;

/// The most bytes of a frame that carries no output.
const SMALL: usize = 96;

/// A message of the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Hello {
        version: u16,
        any_user: bool,
        by_socket: bool,
        cgroups: u8,
    },
    /// The part of an output frame that has come so far.
    Output(OutputStream, Bytes),
    OutputEnd(OutputStream),
    /// The offer of a stream's pipe, whose file descriptor came with the frame.
    Pipe(OutputStream),
    StdinCredit(u32),
    StdinClosed,
    Exit(Exit),
    CannotStart(Stage, i32),
    AllKilled {
        left: u32,
    },
    /// The end of a wipe, with an error number and the index of its path if not everything could be removed.
    Wiped(Option<(i32, u32)>),
    Counted(u32),
    /// The number of processes of the container that the kernel has killed for memory, if that is counted.
    Pong(Option<u32>),
    /// The step and the error number at which making control groups failed, if it failed.
    CgroupsMade(Option<(u8, i32)>),
    /// Whether nothing can be written to the root file system, or why there is no baseline.
    BaselineTaken(Result<bool, Unproven>),
    /// Why the container is not proven to be as at its baseline, if it is not.
    Cleaned(Option<Unproven>),
}

/// Says why there is no baseline or no proof, with the kernel's error number or a count, and a path or a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unproven {
    pub(super) why: Why,
    pub(super) number: i32,
    pub(super) path: String,
}

/// The error for bytes that are not the agent's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Decodes bytes as they come, however they are cut.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The header of the current frame, once it is complete.
    header: Option<Header>,
    /// The bytes so far of an incomplete header, or of a payload that is no output.
    small: Vec<u8>,
    /// The bytes of output that the current frame still lacks.
    output: usize,
}

impl Decoder {
    /// Gives every message to `each`, with the id of its command or question. After an error the decoder must not be used
    /// any more.
    pub(super) fn feed(&mut self, mut bytes: Bytes, mut each: impl FnMut(u32, Message)) -> Result<(), Malformed> {
        loop {
            let Some(header) = self.header else {
                self.gather(&mut bytes, HEADER);
                if self.small.len() < HEADER {
                    return Ok(());
                }
                let header = Header::decode(&self.small).ok_or(Malformed)?;
                self.small.clear();
                let (least, most) = from_agent::sizes(header.kind).ok_or(Malformed)?;
                if !(least..=most).contains(&header.len) {
                    return Err(Malformed);
                }
                self.header = Some(header);
                self.output = header.len;
                continue;
            };
            if let Some(stream) = output_stream(header.kind) {
                if bytes.is_empty() {
                    return Ok(());
                }
                let piece = bytes.split_to(self.output.min(bytes.len()));
                self.output -= piece.len();
                each(header.id, Message::Output(stream, piece));
                if self.output == 0 {
                    self.header = None;
                }
                continue;
            }
            debug_assert!(header.len <= SMALL);
            self.gather(&mut bytes, header.len);
            if self.small.len() < header.len {
                return Ok(());
            }
            let message = message(header.kind, &self.small).ok_or(Malformed)?;
            self.small.clear();
            self.header = None;
            each(header.id, message);
        }
    }

    /// Moves bytes into `small` until that has `len` bytes.
    fn gather(&mut self, bytes: &mut Bytes, len: usize) {
        let missing = (len - self.small.len()).min(bytes.len());
        self.small.extend_from_slice(&bytes[..missing]);
        bytes.advance(missing);
    }
}

fn output_stream(kind: u8) -> Option<OutputStream> {
    match kind {
        from_agent::STDOUT => Some(OutputStream::Stdout),
        from_agent::STDERR => Some(OutputStream::Stderr),
        _ => None,
    }
}

fn message(kind: u8, payload: &[u8]) -> Option<Message> {
    let mut fields = Fields(payload);
    Some(match kind {
        from_agent::HELLO => {
            let (version, flags) = (hello_version(&mut fields)?, fields.u8()?);
            Message::Hello {
                version,
                any_user: flags & ANY_USER != 0,
                by_socket: flags & BY_SOCKET != 0,
                cgroups: flags & (V1 | V2),
            }
        }
        from_agent::STDOUT_END => Message::OutputEnd(OutputStream::Stdout),
        from_agent::STDERR_END => Message::OutputEnd(OutputStream::Stderr),
        from_agent::STDOUT_PIPE => Message::Pipe(OutputStream::Stdout),
        from_agent::STDERR_PIPE => Message::Pipe(OutputStream::Stderr),
        from_agent::STDIN_CREDIT => Message::StdinCredit(fields.u32()?),
        from_agent::STDIN_CLOSED => Message::StdinClosed,
        from_agent::EXIT => Message::Exit(Exit::decode(payload)?),
        from_agent::CANNOT_START => Message::CannotStart(Stage::decode(fields.u8()?)?, fields.u32()? as i32),
        from_agent::ALL_KILLED => Message::AllKilled { left: fields.u32()? },
        from_agent::WIPED => {
            let (done, errno, path) = (fields.u8()?, fields.u32()? as i32, fields.u32()?);
            Message::Wiped((done == 0).then_some((errno, path)))
        }
        from_agent::COUNTED => Message::Counted(fields.u32()?),
        from_agent::PONG => Message::Pong(Some(fields.u32()?).filter(|kills| *kills != UNKNOWN)),
        from_agent::CGROUPS_MADE => {
            let (step, errno) = (fields.u8()?, fields.u32()? as i32);
            Message::CgroupsMade((step != 0).then_some((step, errno)))
        }
        from_agent::BASELINE_TAKEN => {
            let unproven = unproven(&mut fields)?;
            Message::BaselineTaken(unproven.map_or_else(|flags| Ok(flags & READ_ONLY_ROOT != 0), Err))
        }
        from_agent::CLEANED => Message::Cleaned(unproven(&mut fields)?.ok()),
        _ => return None,
    })
}

/// Decodes the answer to a baseline or a clean: what is not proven, or the flags of a success.
fn unproven(fields: &mut Fields<'_>) -> Option<Result<Unproven, u8>> {
    let (why, number, flags) = (fields.u8()?, fields.u32()? as i32, fields.u8()?);
    if why == 0 {
        return Some(Err(flags));
    }
    Some(Ok(Unproven {
        why: Why::decode(why)?,
        number,
        path: String::from_utf8_lossy(fields.0).into_owned(),
    }))
}

/// Decodes these pieces. Returns each byte of output, and `None` for every other message, with the id of its command or
/// question; and whether all pieces were well-formed.
#[cfg(fuzzing)]
pub(crate) fn said(pieces: Vec<Bytes>) -> (Vec<(u32, Option<(OutputStream, u8)>)>, bool) {
    let (mut decoder, mut said) = (Decoder::default(), Vec::new());
    for piece in pieces {
        let fed = decoder.feed(piece, |id, message| match message {
            Message::Output(stream, data) => said.extend(data.iter().map(|byte| (id, Some((stream, *byte))))),
            _ => said.push((id, None)),
        });
        if fed.is_err() {
            return (said, false);
        }
    }
    (said, true)
}
