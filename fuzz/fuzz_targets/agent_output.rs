//! The library's decoder of the agent's frames against a simple one, with any bytes in any pieces. Code that takes over
//! PID 1 can send any bytes.
#![no_main]

use dockerpool::engine::OutputStream;
use libfuzzer_sys::fuzz_target;
use protocol::{Exit, Fields, HEADER, Header, Stage, from_agent, hello_version};

#[path = "../../agent/protocol.rs"]
#[allow(dead_code)] // each side uses half of this module
mod protocol;

type Said = Vec<(u32, Option<(OutputStream, u8)>)>;

// The first byte is the size of the pieces.
fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else {
        return;
    };
    let pieces = match usize::from(*size) {
        0 => vec![bytes.to_vec()],
        size => bytes.chunks(size).map(<[u8]>::to_vec).collect(),
    };
    assert_eq!(dockerpool::fuzzing::agent_says(pieces), plain(bytes));
});

fn plain(mut bytes: &[u8]) -> (Said, bool) {
    let mut said = Vec::new();
    while let Some(header) = Header::decode(bytes) {
        match from_agent::sizes(header.kind) {
            Some((least, most)) if (least..=most).contains(&header.len) => {}
            _ => return (said, false),
        }
        let rest = &bytes[HEADER..];
        let payload = &rest[..rest.len().min(header.len)];
        let stream = match header.kind {
            from_agent::STDOUT => Some(OutputStream::Stdout),
            from_agent::STDERR => Some(OutputStream::Stderr),
            _ => None,
        };
        match stream {
            Some(stream) => said.extend(payload.iter().map(|byte| (header.id, Some((stream, *byte))))),
            None if payload.len() < header.len => {}
            None if makes_sense(header.kind, payload) => said.push((header.id, None)),
            None => return (said, false),
        }
        if payload.len() < header.len {
            break;
        }
        bytes = &rest[header.len..];
    }
    (said, true)
}

fn makes_sense(kind: u8, payload: &[u8]) -> bool {
    match kind {
        from_agent::HELLO => hello_version(&mut Fields(payload)).is_some(),
        from_agent::CANNOT_START => Stage::decode(payload[0]).is_some(),
        from_agent::EXIT => Exit::decode(payload).is_some_and(|exit| {
            assert_eq!(exit.encode(), payload);
            true
        }),
        _ => true,
    }
}
