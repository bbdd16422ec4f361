//! Both decoders, and what of the agent has no system calls. The agent itself is only ever run in containers.

use bytes::Bytes;
use proptest::prelude::*;

use super::decode::{Decoder, Malformed, Message};
use super::wire::{
    Cause, Exit, Fields, HEADER, Header, MAX_DATA, NO_COUNT, Size, Spawn, Stage, V1, V2, from_agent, to_agent,
};
use super::{EMBEDDED, PROBLEM};
use crate::engine::OutputStream;

#[path = "../../agent/sessions.rs"]
mod sessions;
#[path = "../../agent/tree.rs"]
mod tree;
#[path = "../../agent/users.rs"]
mod users;
// The agent's files name each other as in its own crate.
mod protocol {
    pub(super) use super::super::wire::*;
}

use sessions::Sessions;
use tree::{Mark, Process};

#[test]
fn the_agent_of_this_build_is_small_or_there_is_a_reason() {
    if cfg!(all(
        target_os = "linux",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )) {
        assert_eq!(PROBLEM, "");
    }
    assert_eq!(EMBEDDED.is_empty(), !PROBLEM.is_empty());
    assert!(EMBEDDED.len() <= 64 * 1024, "{}", EMBEDDED.len());
}

/// The agent keeps its room for answers, and the library's decoder its own, by this.
#[test]
fn every_frame_but_output_is_small() {
    for kind in 0..=255 {
        if let Some((_, most)) = from_agent::sizes(kind)
            && most != MAX_DATA
        {
            assert!(most <= 64 && HEADER + most <= 96, "{kind}: {most}");
        }
    }
}

#[test]
fn digits_are_those_of_the_number() {
    for number in [0, 7, 10, 65_534, u32::MAX.into(), u64::MAX] {
        assert_eq!(users::decimal(number, &mut [0; 20]), number.to_string().as_bytes());
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
    own_peak: 6,
    container_peak: NO_COUNT,
};

#[test]
fn frames_come_whole_however_they_are_cut() {
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
fn what_is_not_the_protocol_is_refused() {
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
        // A signal there is not; a signal and a code; a cause there is not.
        frame(from_agent::EXIT, 1, &Exit { signal: 65, ..EXIT }.encode()),
        frame(from_agent::EXIT, 1, &Exit { code: 1, ..EXIT }.encode()),
        frame(from_agent::EXIT, 1, &[&[0, 0, 3], &EXIT.encode()[3..]].concat()),
        frame(from_agent::EXIT, 1, &[&[0, 0, 0, 4], &EXIT.encode()[4..]].concat()),
    ] {
        assert_eq!(decode([bad.clone()]), Err(Malformed), "{bad:?}");
    }
}

const SIZE: Size = Size { rows: 24, cols: 80 };

/// As the library makes it, with what a test wants to be wrong.
fn spawn(flags: u32, argc: u32, envc: u32, texts: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    for number in [flags, 1000] {
        payload.extend_from_slice(&number.to_le_bytes());
    }
    for number in [77u64, 1 << 40] {
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
    /// The library's decoder takes anything; what it gives is bounded by what it was given.
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

    /// So does the agent's.
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
        let _ = tree::parse(&bytes);
        let _ = users::find(&bytes, &bytes, &bytes);
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

    /// Whatever the processes are: what descends from the command is marked, and nothing of another's.
    #[test]
    fn a_tree_is_found_whole(parents in prop::collection::vec(0usize..40, 0..40), sessions in any::<u64>()) {
        // Process i + 10 is a child of PID 1 or of one before it.
        let mut processes: Vec<Process> = parents
            .iter()
            .enumerate()
            .map(|(i, parent)| {
                let parent = if *parent < i { *parent as u32 + 10 } else { 1 };
                let session = if sessions >> i & 1 == 1 || parent == 1 { i as u32 + 10 } else { parent };
                Process { pid: i as u32 + 10, parent, session, started: i as u64, ..Process::default() }
            })
            .collect();
        let others = [11];
        tree::mark(&mut processes, 10, 0, &others);
        let known = processes.clone();
        let find = |pid: u32| known.iter().find(|process| process.pid == pid);
        for process in &known {
            let mut top = process;
            while top.pid != 10 && top.pid != 11 && let Some(parent) = find(top.parent) {
                top = parent;
            }
            let expected = match top.pid {
                10 => Mark::Ours,
                11 => Mark::Others,
                _ if top.session == 11 => Mark::Others,
                // Not older than the command: it could be its own.
                _ => Mark::Ours,
            };
            prop_assert_eq!(process.mark, expected, "{}", process.pid);
        }
    }
}

#[test]
fn a_process_is_read_whatever_its_name_is() {
    let stat = b"4711 (a) b (c) S 1 4711 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 789 10 18446744073709551615";
    let with = |threads: u32, state: char| {
        let text = String::from_utf8_lossy(stat).replace(" 20 0 1 0 ", &format!(" 20 0 {threads} 0 "));
        tree::parse(text.replace(" S ", &format!(" {state} ")).as_bytes()).unwrap()
    };
    let process = tree::parse(stat).unwrap();
    assert_eq!((process.pid, process.parent, process.session), (4711, 1, 42));
    assert_eq!((process.started, process.dead), (123_456, false));
    assert!(with(1, 'Z').dead && with(0, 'X').dead && !with(1, 'T').dead);
    assert!(!with(2, 'Z').dead, "its first thread has ended, and another one runs");
    assert!(with(1, 'T').stopped && with(1, 't').stopped && !with(1, 'S').stopped);
    for cut in 0..60 {
        assert!(tree::parse(&stat[..cut]).is_none(), "{cut}");
    }
}

#[test]
fn orphans_that_could_be_the_commands_are_and_older_ones_are_not() {
    let process = |pid, parent, session, started| Process {
        pid,
        parent,
        session,
        started,
        ..Process::default()
    };
    let mut processes = [
        process(1, 0, 0, 0),
        // Older: a server of an earlier command, with a child that is younger.
        process(5, 1, 5, 50),
        process(6, 5, 5, 200),
        // The command, and another.
        process(10, 1, 10, 100),
        process(11, 1, 11, 150),
        // Orphans: in the command's session, in the other's, in their own.
        process(12, 1, 10, 160),
        process(13, 1, 11, 160),
        process(14, 1, 14, 160),
        process(15, 14, 15, 170),
        // From outside, and its child.
        process(16, 0, 16, 180),
        process(17, 16, 16, 190),
        // Its parent has ended between two looks.
        process(18, 9999, 18, 190),
        process(19, 9999, 18, 20),
    ];
    tree::mark(&mut processes, 10, 100, &[11]);
    let ours: Vec<_> = processes
        .iter()
        .filter(|process| process.mark == Mark::Ours)
        .map(|process| process.pid)
        .collect();
    assert_eq!(ours, [10, 12, 14, 15, 18]);
}

#[test]
fn a_session_of_an_ended_command_is_known_while_a_witness_lives() {
    let process = |pid, parent, session, started| Process {
        pid,
        parent,
        session,
        started,
        ..Process::default()
    };
    let numbers = |sessions: &Sessions| sessions.numbers().collect::<Vec<_>>();
    let mut sessions = Sessions::new();
    for number in [10, 20, 30] {
        sessions.remember(number);
    }
    assert!(sessions.is_new() && numbers(&sessions).is_empty());
    // Nothing of 20 is left. What is left of 10 is a child of one that has left, and an orphan.
    sessions.look(&[process(11, 40, 10, 5), process(12, 1, 10, 6), process(31, 1, 30, 7)]);
    assert!(!sessions.is_new());
    assert_eq!(numbers(&sessions), [10, 30]);
    // The orphan is the one that counts, being PID 1's.
    assert!(sessions.has_witness(&process(12, 1, 10, 6)) && !sessions.has_witness(&process(11, 40, 10, 5)));
    // While it is a zombie the number cannot be another's, and there may be another witness.
    let zombie = Process {
        dead: true,
        ..process(12, 1, 10, 6)
    };
    sessions.look(&[process(11, 40, 10, 5), zombie, process(31, 1, 30, 8)]);
    // 31 is another one of that number now: whose session 30 is nobody knows.
    assert_eq!(numbers(&sessions), [10]);
    assert!(sessions.has_witness(&process(11, 40, 10, 5)));
    sessions.look(&[process(13, 1, 10, 9)]);
    assert_eq!(numbers(&sessions), [0; 0]);

    // The oldest are forgotten where there are too many.
    for number in 0..100 {
        sessions.remember(1000 + number);
    }
    let all: Vec<_> = (0..100).map(|i| process(2000 + i, 1, 1000 + i, 5)).collect();
    sessions.look(&all);
    assert_eq!(numbers(&sessions).len(), sessions::MOST);
    assert!(!sessions.contains(1000) && sessions.contains(1099));
    sessions.forget(1099);
    assert!(!sessions.contains(1099));
    sessions.clear();
    assert_eq!(numbers(&sessions), [0; 0]);
}

#[test]
fn users_and_groups_are_found_as_the_engines_find_them() {
    let passwd =
        b"root:x:0:0:root:/root:/bin/sh\n\n# none:x:7:7::/:\n  me:x:1000:1001:Me:/home/me:/bin/sh\nshort:x:5\n";
    let group = b"root:x:0:\nus:x:1001:me\nmore:x:2000:you,me\nno:x:3000:men,yme\n";
    let find = |wanted: &str| {
        users::find(passwd, group, wanted.as_bytes()).map(|user| {
            let home = String::from_utf8_lossy(user.home).into_owned();
            (user.uid, user.gid, home, user.groups[..user.group_count].to_vec())
        })
    };
    assert_eq!(find("me"), Ok((1000, 1001, "/home/me".into(), vec![1001, 2000])));
    assert_eq!(find("1000"), find("me"));
    assert_eq!(find("me:root"), Ok((1000, 0, "/home/me".into(), vec![0])));
    assert_eq!(find("me:77"), Ok((1000, 77, "/home/me".into(), vec![77])));
    assert_eq!(find("99"), Ok((99, 0, "/".into(), vec![0])));
    assert_eq!(find("99:more"), Ok((99, 2000, "/".into(), vec![2000])));
    assert_eq!(find(":more"), Ok((0, 2000, "/root".into(), vec![2000])));
    assert_eq!(find("short"), Ok((5, 0, "".into(), vec![0])));
    assert_eq!(find("none"), Err(Stage::User));
    assert_eq!(find("2147483648"), Err(Stage::User));
    assert_eq!(find("me:none"), Err(Stage::Group));
    let nobody = users::find(b"", b"", b"12:34").unwrap();
    assert_eq!((nobody.uid, nobody.gid), (12, 34));
}
