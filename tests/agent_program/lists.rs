//! The agent's parsers and searches in lists of processes, sessions and users.

use proptest::prelude::*;

use crate::protocol::Stage;
use crate::sessions::{self, Sessions};
use crate::tree::{self, Mark, Process};
use crate::users;

#[test]
fn a_number_is_written_in_decimal_digits() {
    for number in [0, 7, 10, 65_534, u32::MAX.into(), u64::MAX] {
        assert_eq!(users::decimal(number, &mut [0; 20]), number.to_string().as_bytes());
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = tree::parse(&bytes);
        let _ = users::find(&bytes, &bytes, &bytes);
        for name in crate::sys::entries(&bytes) {
            prop_assert!(name.count_bytes() < bytes.len());
        }
    }

    /// With any processes: the command's descendants are marked as its own, and descendants of another command are not.
    #[test]
    fn all_descendants_of_a_command_are_marked_and_no_others(parents in prop::collection::vec(0usize..40, 0..40), sessions in any::<u64>()) {
        // Process `i + 10` is a child of PID 1 or of a process before it.
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
                // An orphan that is younger than the command could be the command's.
                _ => Mark::Ours,
            };
            prop_assert_eq!(process.mark, expected, "{}", process.pid);
        }
    }
}

#[test]
fn a_process_with_any_name_is_parsed() {
    let stat = b"4711 (a) b (c) S 1 4711 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 123456 789 10 18446744073709551615";
    let with = |threads: u32, state: char| {
        let text = String::from_utf8_lossy(stat).replace(" 20 0 1 0 ", &format!(" 20 0 {threads} 0 "));
        tree::parse(text.replace(" S ", &format!(" {state} ")).as_bytes()).unwrap()
    };
    let process = tree::parse(stat).unwrap();
    assert_eq!((process.pid, process.parent, process.session), (4711, 1, 42));
    assert_eq!((process.started, process.dead), (123_456, false));
    assert_eq!(
        process.used,
        5 + 6 + 7 + 8,
        "its own time, and that of those it has waited for"
    );
    assert!(with(1, 'Z').dead && with(0, 'X').dead && !with(1, 'T').dead);
    assert!(!with(2, 'Z').dead, "the first thread has ended, but another one runs");
    assert!(with(1, 'T').stopped && with(1, 't').stopped && !with(1, 'S').stopped);
    for cut in 0..60 {
        assert!(tree::parse(&stat[..cut]).is_none(), "{cut}");
    }
}

#[test]
fn orphans_younger_than_the_command_are_its_own_unless_another_command_owns_them() {
    let process = |pid, parent, session, started| Process {
        pid,
        parent,
        session,
        started,
        ..Process::default()
    };
    let mut processes = [
        process(1, 0, 0, 0),
        // A server of an earlier command, which is older, and its younger child.
        process(5, 1, 5, 50),
        process(6, 5, 5, 200),
        // The command, and another command.
        process(10, 1, 10, 100),
        process(11, 1, 11, 150),
        // Orphans: in the command's session, in the other command's, and in sessions of their own.
        process(12, 1, 10, 160),
        process(13, 1, 11, 160),
        process(14, 1, 14, 160),
        process(15, 14, 15, 170),
        // A process from outside of the container, and its child.
        process(16, 0, 16, 180),
        process(17, 16, 16, 190),
        // The parent of these has ended between two looks.
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
    // Session 20 has no process left. Session 10 has an orphan, and a process whose parent has left the session.
    sessions.look(&[process(11, 40, 10, 5), process(12, 1, 10, 6), process(31, 1, 30, 7)]);
    assert!(!sessions.is_new());
    assert_eq!(numbers(&sessions), [10, 30]);
    // The witness is the orphan, since PID 1 is its parent.
    assert!(sessions.has_witness(&process(12, 1, 10, 6)) && !sessions.has_witness(&process(11, 40, 10, 5)));
    // While the orphan is a zombie its number cannot be reused, and another witness may appear.
    let zombie = Process {
        dead: true,
        ..process(12, 1, 10, 6)
    };
    sessions.look(&[process(11, 40, 10, 5), zombie, process(31, 1, 30, 8)]);
    // Process 31 is a new one with a reused number, so that the owner of session 30 is unknown.
    assert_eq!(numbers(&sessions), [10]);
    assert!(sessions.has_witness(&process(11, 40, 10, 5)));
    sessions.look(&[process(13, 1, 10, 9)]);
    assert_eq!(numbers(&sessions), [0; 0]);

    // A full list forgets the oldest sessions.
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
