//! The agent's decoder of requests: frames within their limits, and complete commands.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::{
    Begun, CLEAR_ENV, Fields, HEADER, MAX_SPAWN, MAX_STRINGS, Spawn, WITH_STDIN, WITH_TTY, hello_version, to_agent,
};

#[path = "../../agent/protocol.rs"]
#[allow(dead_code)] // each side uses half of this module
mod protocol;

fuzz_target!(|bytes: &[u8]| {
    // A payload without a header, since the fuzzer rarely finds a header that fits.
    spawn(bytes);
    let mut rest = bytes;
    while let Begun::Frame(header) = Begun::of(rest) {
        assert!(header.len <= MAX_SPAWN);
        let Some(payload) = rest[HEADER..].get(..header.len) else {
            return;
        };
        match header.kind {
            to_agent::HELLO => {
                hello_version(&mut Fields(payload));
            }
            to_agent::SPAWN => spawn(payload),
            to_agent::WIPE => {
                let mut fields = Fields(payload);
                assert!(fields.u32().is_some());
                while fields.text().is_some() {}
            }
            _ => {}
        }
        rest = &rest[HEADER + header.len..];
    }
    match Begun::of(rest) {
        Begun::Nothing => assert!(rest.len() < HEADER),
        _ => assert!(rest.len() >= HEADER),
    }
});

/// Decodes a command, encodes it again and compares the bytes.
fn spawn(payload: &[u8]) {
    let Some(spawn) = Spawn::decode(payload) else {
        return;
    };
    assert_eq!(spawn.flags & !(WITH_STDIN | CLEAR_ENV | WITH_TTY), 0);
    assert!((1..=MAX_STRINGS).contains(&spawn.argc) && spawn.envc <= MAX_STRINGS);
    assert_eq!(spawn.args().count(), spawn.argc as usize);
    assert_eq!(spawn.env().count(), spawn.envc as usize);
    let mut again = Vec::new();
    for number in [spawn.flags, spawn.window] {
        again.extend(number.to_le_bytes());
    }
    again.extend(spawn.deadline.to_le_bytes());
    again.extend(spawn.memory.to_le_bytes());
    again.extend(spawn.pids.to_le_bytes());
    again.extend(spawn.size.encode());
    for number in [spawn.argc, spawn.envc] {
        again.extend(number.to_le_bytes());
    }
    for text in [spawn.cwd, spawn.user]
        .into_iter()
        .chain(spawn.args())
        .chain(spawn.env())
    {
        again.extend(text.to_bytes_with_nul());
    }
    assert_eq!(again, payload);
}
