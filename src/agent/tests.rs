//! Tests of both decoders. `tests/agent_program/` tests the agent itself, which only ever runs in containers.

use bytes::Bytes;
use proptest::prelude::*;

use super::decode::{Decoder, Malformed, Message};
use super::wire::{
    Cause, Exit, Fields, HEADER, Header, MAX_DATA, NO_COUNT, Size, Spawn, Stage, V1, V2, from_agent, to_agent,
};
use super::{EMBEDDED, PROBLEM};
use crate::engine::OutputStream;

#[test]
fn the_agent_of_this_build_is_small_or_there_is_a_reason() {
    if cfg!(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )) {
        assert_eq!(PROBLEM, "");
    }
    assert_eq!(EMBEDDED.is_empty(), !PROBLEM.is_empty());
    assert!(EMBEDDED.len() <= 120 * 1024, "{}", EMBEDDED.len());
}

/// The agent's buffer for answers and the decoder's buffer have this size.
#[test]
fn every_frame_but_output_is_small() {
    for kind in 0..=255 {
        if let Some((_, most)) = from_agent::sizes(kind)
            && most != MAX_DATA
        {
            assert!(HEADER + most <= 96, "{kind}: {most}");
        }
    }
}

fn frame(kind: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        len: payload.len(),
        kind,
        id,
    };
    [&header.encode(), payload].concat()
}

fn decode(pieces: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<(u32, Message)>, Malformed> {
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
    for piece in pieces {
        decoder.feed(Bytes::from(piece), |id, message| messages.push((id, message)))?;
    }
    Ok(messages)
}

const EXIT: Exit = Exit {
    signal: 9,
    code: 0,
    cause: Cause::Deadline,
    all_dead: true,
    wall: 1,
    user: 2,
    system: u64::MAX,
    peak_kib: 4,
    oom_kills: 5,
    for_memory: true,
    cpu_time_used_up: false,
    own_peak: 6,
    container_peak: NO_COUNT,
};

#[test]
fn messages_do_not_depend_on_how_their_bytes_are_cut() {
    let wire = [
        frame(from_agent::HELLO, 1, b"dpag\x01\x00\x05"),
        frame(from_agent::HELLO, 2, b"dpag\x02\x00\x0a"),
        frame(from_agent::STDOUT_PIPE, 2, b""),
        frame(from_agent::STDOUT, 2, b"output"),
        frame(from_agent::STDERR_END, 2, b""),
        frame(from_agent::EXIT, 2, &EXIT.encode()),
        frame(from_agent::CANNOT_START, 3, &[Stage::Lookup as u8, 2, 0, 0, 0]),
        frame(from_agent::WIPED, 4, &[0, 13, 0, 0, 0, 2, 0, 0, 0]),
        frame(from_agent::PONG, 5, &[7, 0, 0, 0]),
        frame(from_agent::PONG, 5, &[255; 4]),
        frame(from_agent::CGROUPS_MADE, 6, &[0, 0, 0, 0, 0]),
        frame(from_agent::CGROUPS_MADE, 7, &[3, 30, 0, 0, 0]),
    ]
    .concat();
    for size in 1..=wire.len() {
        let messages = decode(wire.chunks(size).map(<[u8]>::to_vec)).unwrap();
        let mut output = Vec::new();
        let rest: Vec<_> = messages
            .into_iter()
            .filter(|(id, message)| match message {
                Message::Output(OutputStream::Stdout, data) => {
                    assert_eq!(*id, 2);
                    output.extend_from_slice(data);
                    false
                }
                _ => true,
            })
            .collect();
        assert_eq!(output, b"output");
        let expected = [
            (
                1,
                Message::Hello {
                    version: 1,
                    any_user: true,
                    by_socket: false,
                    cgroups: V1,
                },
            ),
            (
                2,
                Message::Hello {
                    version: 2,
                    any_user: false,
                    by_socket: true,
                    cgroups: V2,
                },
            ),
            (2, Message::Pipe(OutputStream::Stdout)),
            (2, Message::OutputEnd(OutputStream::Stderr)),
            (2, Message::Exit(EXIT)),
            (3, Message::CannotStart(Stage::Lookup, 2)),
            (4, Message::Wiped(Some((13, 2)))),
            (5, Message::Pong(Some(7))),
            (5, Message::Pong(None)),
            (6, Message::CgroupsMade(None)),
            (7, Message::CgroupsMade(Some((3, 30)))),
        ];
        assert_eq!(rest, expected, "in pieces of {size}");
    }
}

#[test]
fn bytes_that_are_not_the_protocol_are_refused() {
    let mut huge = frame(from_agent::STDOUT, 1, b"");
    huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
    for bad in [
        frame(0, 1, b""),
        frame(255, 1, b""),
        frame(to_agent::PING, 1, b""),
        frame(from_agent::PONG, 1, b"x"),
        frame(from_agent::STDOUT, 1, b""),
        frame(from_agent::STDERR_PIPE, 1, b"x"),
        huge,
        frame(from_agent::HELLO, 1, b"xxxx\x01\x00\x00"),
        frame(from_agent::CANNOT_START, 1, &[77, 0, 0, 0, 0]),
        // An unknown signal; both a signal and a code; an unknown cause; an unknown flag.
        frame(from_agent::EXIT, 1, &Exit { signal: 65, ..EXIT }.encode()),
        frame(from_agent::EXIT, 1, &Exit { code: 1, ..EXIT }.encode()),
        frame(from_agent::EXIT, 1, &[&[0, 0, 5], &EXIT.encode()[3..]].concat()),
        frame(from_agent::EXIT, 1, &[&[0, 0, 0, 8], &EXIT.encode()[4..]].concat()),
    ] {
        assert_eq!(decode([bad.clone()]), Err(Malformed), "{bad:?}");
    }
}

const SIZE: Size = Size { rows: 24, cols: 80 };

/// Encodes a spawn as the library does, with values that a test may choose to be wrong.
fn spawn(flags: u32, argc: u32, envc: u32, texts: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for number in [flags, 1000] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    for number in [77u64, 88, 1 << 40, 99] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.extend_from_slice(&33u32.to_le_bytes());
    payload.extend_from_slice(&SIZE.encode());
    for number in [argc, envc] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    payload.extend_from_slice(texts);
    payload
}

#[test]
fn a_spawn_is_read_as_it_was_written_or_not_at_all() {
    let payload = spawn(1, 2, 1, b"/tmp\0me:us\0sh\0\0A=1\0");
    let read = Spawn::decode(&payload).unwrap();
    assert_eq!((read.flags, read.window, read.deadline, read.size), (1, 1000, 77, SIZE));
    assert_eq!((read.memory, read.pids), (1 << 40, 33));
    assert_eq!((read.cwd, read.user), (c"/tmp", c"me:us"));
    assert_eq!(read.args().collect::<Vec<_>>(), [c"sh", c""]);
    assert_eq!(read.env().collect::<Vec<_>>(), [c"A=1"]);
    for bad in [
        spawn(8, 1, 0, b"\0\0sh\0"),
        spawn(0, 0, 0, b"\0\0"),
        spawn(0, 1, 0, b"\0\0"),
        spawn(0, 2, 0, b"\0\0sh\0"),
        spawn(0, 1, 0, b"\0\0sh"),
        spawn(0, 1, 0, b"\0\0sh\0more\0"),
        spawn(0, u32::MAX, 1, b"\0\0sh\0"),
        spawn(0, 1, u32::MAX, b"\0\0sh\0"),
        payload[..20].to_vec(),
        Vec::new(),
    ] {
        assert!(Spawn::decode(&bad).is_none(), "{bad:?}");
    }
}

proptest! {
    /// Feeds the library's decoder any bytes; it returns no more output than it was given.
    #[test]
    fn no_bytes_confuse_the_librarys_decoder(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        kind in 120u8..150,
        len in 0u32..100_000,
        cut in 1usize..200,
    ) {
        let mut wire = Header { len: len as usize, kind, id: 7 }.encode().to_vec();
        wire.extend_from_slice(&bytes);
        let mut output = 0;
        for wire in [wire, bytes.clone()] {
            if let Ok(messages) = decode(wire.chunks(cut).map(<[u8]>::to_vec)) {
                for (_, message) in messages {
                    if let Message::Output(_, data) = message {
                        output += data.len();
                    }
                }
            }
        }
        prop_assert!(output <= 2 * bytes.len());
    }

    /// Feeds the agent's decoder any bytes.
    #[test]
    fn no_bytes_confuse_the_agents_decoder(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in any::<u8>()) {
        if let Some(header) = Header::decode(&bytes) {
            prop_assert!(bytes.len() >= HEADER);
            if let Some((least, most)) = to_agent::sizes(header.kind) {
                prop_assert!(least <= most);
            }
        }
        let _ = to_agent::sizes(kind);
        let mut fields = Fields(&bytes);
        while fields.text().is_some() {}
        prop_assert!(!fields.0.contains(&0));
        if let Some(spawn) = Spawn::decode(&bytes) {
            prop_assert_eq!(spawn.args().count(), spawn.argc as usize);
            prop_assert_eq!(spawn.env().count(), spawn.envc as usize);
        }
        let _ = Exit::decode(&bytes);
    }

    #[test]
    fn an_exit_is_read_as_it_was_written(
        signal in 0u8..65,
        code in any::<u8>(),
        wall in any::<u64>(),
        oom_kills in any::<u32>(),
        own_peak in any::<u64>(),
        container_peak in any::<u64>(),
    ) {
        let code = if signal == 0 { code } else { 0 };
        let exit = Exit { signal, code, wall, oom_kills, own_peak, container_peak, ..EXIT };
        prop_assert_eq!(Exit::decode(&exit.encode()), Some(exit));
    }

}
