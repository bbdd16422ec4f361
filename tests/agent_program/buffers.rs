//! The agent's memory, its buffers, and frames through them.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use proptest::prelude::*;

use crate::alone;
use crate::buffer::Buffer;
use crate::protocol::{HEADER, Header, MAX_DATA, MAX_SPAWN, from_agent, to_agent};
use crate::sys::{self, Bytes, Errno, List};
use crate::wire::{In, Next, Out};

#[test]
fn a_list_holds_its_capacity_and_drops_each_value_once() {
    let value = Rc::new(());
    let mut list = List::new(3).unwrap();
    for _ in 0..3 {
        list.push(value.clone()).unwrap();
    }
    assert_eq!(list.push(value.clone()), Err(Errno::NOMEM));
    assert_eq!((list.len(), Rc::strong_count(&value)), (3, 4));
    list.clear();
    assert_eq!((list.len(), Rc::strong_count(&value)), (0, 1));
    list.push(value.clone()).unwrap();
    assert_eq!(Rc::strong_count(&value), 2);
    drop(list);
    assert_eq!(Rc::strong_count(&value), 1);
}

#[test]
fn an_impossible_allocation_is_refused_and_an_empty_one_is_not() {
    assert_eq!(List::<u64>::new(usize::MAX).err(), Some(Errno::NOMEM));
    // The size in bytes overflows to 8.
    assert_eq!(List::<u64>::new(usize::MAX / 8 + 2).err(), Some(Errno::NOMEM));
    assert_eq!(sys::shared_numbers(usize::MAX / 4 + 2).err(), Some(Errno::NOMEM));
    assert!(Bytes::new(isize::MAX as usize).is_err());
    assert_eq!(List::new(0).unwrap().push(1u8), Err(Errno::NOMEM));
    let mut none = Bytes::new(0).unwrap();
    none.clear();
    assert_eq!(none.len(), 0);
}

#[test]
fn bytes_are_zero_at_first_and_after_they_were_released() {
    let mut bytes = Bytes::new(10_000).unwrap();
    assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == 0));
    bytes.fill(7);
    assert!(bytes.iter().all(|byte| *byte == 7));
    bytes.clear();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn a_buffer_that_was_trimmed_can_be_used_again() {
    let mut buffer = Buffer::new(64 * 1024).unwrap();
    buffer.push(&[7; 60_000]);
    buffer.take(59_999);
    buffer.trim();
    assert_eq!(buffer.queued(), [7], "what is queued stays");
    buffer.take(1);
    buffer.trim();
    assert!(buffer.is_empty() && buffer.room() == 64 * 1024);
    assert!(buffer.free().iter().all(|byte| *byte == 0), "the memory was released");
    buffer.push(b"again");
    assert_eq!(buffer.queued(), b"again");
}

proptest! {
    #[test]
    fn a_buffer_is_a_queue(steps in prop::collection::vec((0u8..4, 0usize..400), 0..100)) {
        let (mut buffer, mut queue) = (Buffer::new(1000).unwrap(), VecDeque::new());
        for (i, (step, len)) in steps.into_iter().enumerate() {
            match step {
                0 if len <= buffer.room() => {
                    let bytes = vec![i as u8; len];
                    buffer.push(&bytes);
                    queue.extend(bytes);
                }
                1 if len <= queue.len() => {
                    buffer.take(len);
                    queue.drain(..len);
                }
                2 => {
                    buffer.move_to_front();
                    prop_assert_eq!(buffer.taken(), 0);
                    prop_assert_eq!(buffer.room(), 1000 - queue.len());
                }
                3 if len <= buffer.room() => {
                    buffer.free()[..len].fill(i as u8);
                    buffer.add(len);
                    queue.extend(vec![i as u8; len]);
                }
                _ => buffer.trim(),
            }
            prop_assert_eq!(buffer.queued(), &*queue.make_contiguous());
            prop_assert_eq!(buffer.taken() + queue.len() + buffer.room(), 1000);
        }
    }

    #[test]
    fn frames_are_read_as_written_however_the_stream_is_cut(
        lens in prop::collection::vec(prop_oneof![0usize..40, 60_000..=MAX_DATA], 1..6),
        cut in 1usize..70_000,
    ) {
        let frames: Vec<_> = lens.into_iter().map(|len| frame(to_agent::STDIN, len.max(1))).collect();
        prop_assert_eq!(read_in(&frames.concat(), cut), frames);
    }
}

/// Returns a frame of a kind that has a payload.
fn frame(kind: u8, len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
    [
        &Header {
            len,
            kind,
            id: len as u32,
        }
        .encode(),
        &*payload,
    ]
    .concat()
}

/// Sends bytes to the agent's reader in pieces, and returns the frames that the reader finds in them.
fn read_in(bytes: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let _alone = alone();
    let (reader, mut writer) = std::io::pipe().unwrap();
    sys::set_nonblocking(reader.as_raw_fd());
    let mut input = In::of(reader.as_raw_fd()).unwrap();
    let mut frames = Vec::new();
    // Pieces fit into the pipe, so that writing does not block.
    for piece in bytes.chunks(cut.min(32 * 1024)) {
        writer.write_all(piece).unwrap();
        while let Ok(1..) = input.fill() {
            while let Next::Frame(header) = input.next() {
                frames.push([&header.encode(), input.payload(header)].concat());
                input.done(header);
            }
        }
    }
    assert!(matches!(input.next(), Next::Wait));
    drop(writer);
    assert_eq!(input.fill(), Ok(0), "the library closed the connection");
    frames
}

#[test]
fn a_frame_that_is_larger_than_the_buffer_is_read_whole() {
    let frames = [
        frame(to_agent::STDIN, 5),
        frame(to_agent::SPAWN, MAX_SPAWN),
        frame(to_agent::STDIN, 6),
    ];
    assert_eq!(read_in(&frames.concat(), 10_000), frames);
}

#[test]
fn an_invalid_frame_breaks_the_connection() {
    for bad in [
        frame(to_agent::SPAWN, MAX_SPAWN + 1),
        frame(to_agent::STDIN, MAX_DATA + 1),
        frame(to_agent::PING, 1),
        frame(from_agent::PONG, 4),
    ] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let mut input = In::of(reader.as_raw_fd()).unwrap();
        writer.write_all(&bad[..HEADER]).unwrap();
        input.fill().unwrap();
        assert!(matches!(input.next(), Next::Broken), "{:?}", &bad[..HEADER]);
    }
}

/// Returns the frames written to a pipe whose writing end is closed.
pub fn frames_of(mut reader: impl Read) -> Vec<(u8, u32, Vec<u8>)> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let (mut rest, mut frames) = (&*bytes, Vec::new());
    while !rest.is_empty() {
        let header = Header::decode(rest).unwrap();
        let (frame, next) = rest.split_at(HEADER + header.len);
        frames.push((header.kind, header.id, frame[HEADER..].to_vec()));
        rest = next;
    }
    frames
}

#[test]
fn output_leaves_room_for_other_frames_and_keeps_all_frames_in_order() {
    let _alone = alone();
    let (reader, writer) = std::io::pipe().unwrap();
    sys::set_nonblocking(writer.as_raw_fd());
    let mut out = Out::of(writer.as_raw_fd()).unwrap();
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let (mut sent, mut id) = (Vec::new(), 0);
    // Without a reader first the pipe becomes full, then the buffer.
    while out.has_data_room() {
        id += 1;
        let len = out.data(from_agent::STDOUT, id, zero.as_raw_fd(), 50_000).unwrap();
        sent.push((from_agent::STDOUT, id, vec![0; len]));
        out.flush().unwrap();
    }
    let mut small = 0;
    while out.has_room() {
        id += 1;
        small += 1;
        out.frame(from_agent::PONG, id, &id.to_le_bytes());
        sent.push((from_agent::PONG, id, id.to_le_bytes().to_vec()));
    }
    assert!(small > 300, "{small}");
    assert!(!out.is_empty() && !out.has_data_room());
    let got = std::thread::spawn(move || frames_of(reader));
    while !out.is_empty() {
        out.flush().unwrap();
        std::thread::yield_now();
    }
    assert!(out.has_room() && out.has_data_room());
    drop(writer);
    assert_eq!(got.join().unwrap(), sent);
}

#[test]
fn a_frame_whose_file_descriptor_cannot_be_sent_is_withdrawn_alone() {
    let _alone = alone();
    // A pipe cannot carry a file descriptor.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut out = Out::of(writer.as_raw_fd()).unwrap();
    out.frame(from_agent::PONG, 1, &[0; 4]);
    assert!(out.can_pass());
    out.pass(from_agent::STDOUT_PIPE, 2, reader.as_raw_fd()).unwrap();
    assert!(!out.can_pass(), "one at a time");
    out.frame(from_agent::PONG, 3, &[0; 4]);
    out.flush().unwrap();
    let withdrawn = out.take_withdrawn().unwrap();
    assert_eq!((withdrawn.kind, withdrawn.id), (from_agent::STDOUT_PIPE, 2));
    assert!(out.take_withdrawn().is_none() && out.can_pass());
    drop(writer);
    let ids: Vec<_> = frames_of(reader).into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids, [1, 3]);
}

#[test]
fn a_file_descriptor_goes_through_a_socket_with_its_frame() {
    let _alone = alone();
    let (library, agent) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut out = Out::of(agent.as_raw_fd()).unwrap();
    out.frame(from_agent::PONG, 1, &[0; 4]);
    out.pass(from_agent::STDOUT_PIPE, 2, writer.as_raw_fd()).unwrap();
    out.frame(from_agent::PONG, 3, &[0; 4]);
    out.flush().unwrap();
    assert!(out.is_empty() && out.take_withdrawn().is_none());
    drop((agent, out, writer));
    // The copy in flight holds the pipe open until the socket is closed.
    let read = |reader: &mut std::io::PipeReader| {
        sys::set_nonblocking(reader.as_raw_fd());
        reader.read(&mut [0; 1]).map_err(|error| error.kind())
    };
    assert_eq!(read(&mut reader), Err(std::io::ErrorKind::WouldBlock));
    let ids: Vec<_> = frames_of(library).into_iter().map(|(_, id, _)| id).collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(read(&mut reader), Ok(0));
}
