//! Limited readers: a reader returns exactly the first bytes, then the error of the limit, and never reads on. This
//! holds for any pieces of the inner reader and for any buffers of the caller.

use std::collections::VecDeque;
use std::io::{self, Cursor, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use dockerpool::{Budget, LimitReached, Limited};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, ReadBuf};

/// Lists what a [`Script`] does at a poll.
#[derive(Clone, Debug)]
enum Step {
    /// Returns up to this many bytes.
    Give(usize),
    /// Returns pending.
    Pending,
    Fail,
}

/// Follows a script, and then returns the rest of its data as requested.
struct Script {
    data: Vec<u8>,
    given: usize,
    steps: VecDeque<Step>,
    /// A poll after this many bytes fails the test.
    never_beyond: u64,
}

impl Script {
    fn new(data: &[u8], steps: &[Step], never_beyond: u64) -> Self {
        Self {
            data: data.to_vec(),
            given: 0,
            steps: steps.iter().cloned().collect(),
            never_beyond,
        }
    }
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        assert!(
            (this.given as u64) < this.never_beyond,
            "polled beyond the limit of {}",
            this.never_beyond
        );
        assert!(buf.remaining() > 0, "polled without room");
        assert!(
            buf.remaining() as u64 <= this.never_beyond - this.given as u64,
            "asked for more than the limit of {} leaves",
            this.never_beyond
        );
        let most = match this.steps.pop_front() {
            Some(Step::Pending) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Step::Fail) => return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionReset))),
            Some(Step::Give(most)) => most,
            None => usize::MAX,
        };
        let left = &this.data[this.given..];
        let count = left.len().min(buf.remaining()).min(most);
        buf.put_slice(&left[..count]);
        this.given += count;
        Poll::Ready(Ok(()))
    }
}

/// Lists how a reader can end.
#[derive(Debug, PartialEq)]
enum End {
    Eof,
    Truncated(u64),
    Failed(io::ErrorKind),
}

fn end_of(error: &io::Error) -> End {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<LimitReached>()) {
        Some(reached) => {
            assert!(LimitReached::is(error));
            End::Truncated(reached.limit())
        }
        None => End::Failed(error.kind()),
    }
}

/// Reads to the end into buffers of these sizes, in rotation.
async fn read_all(reader: &mut (impl AsyncRead + Unpin), buffers: &[usize]) -> (Vec<u8>, End) {
    let mut data = Vec::new();
    for size in buffers.iter().cycle() {
        let mut buffer = vec![0; *size];
        match reader.read(&mut buffer).await {
            Ok(0) => return (data, End::Eof),
            Ok(count) => data.extend_from_slice(&buffer[..count]),
            Err(error) => return (data, end_of(&error)),
        }
    }
    unreachable!("there is at least one buffer")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn pieces() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![4 => (1..40_usize).prop_map(Step::Give), 1 => Just(Step::Pending)];
    prop::collection::vec(step, 0..60)
}

fn buffers() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1..70_usize, 1..8)
}

/// Yields limits that are often near the length of the data, where mistakes are likely.
fn data_and_limit() -> impl Strategy<Value = (Vec<u8>, u64)> {
    prop::collection::vec(any::<u8>(), 0..300).prop_flat_map(|data| {
        let len = data.len() as u64;
        let limit = prop_oneof![
            3 => 0..=len + 20,
            1 => Just(len),
            1 => Just(len + 1),
            1 => Just(len.saturating_sub(1)),
            1 => Just(0),
            1 => Just(u64::MAX),
        ];
        (Just(data), limit)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]

    #[test]
    fn exactly_the_first_bytes_come_whatever_the_pieces(
        (data, limit) in data_and_limit(), steps in pieces(), buffers in buffers(),
    ) {
        block_on(async {
            let mut limited = Limited::new(Script::new(&data, &steps, limit), limit);
            let (read, end) = read_all(&mut limited, &buffers).await;
            let expected = &data[..data.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
            prop_assert_eq!(&read, expected);
            prop_assert_eq!(limited.remaining(), limit - read.len() as u64);
            // The end of the data can be seen without a further read only if the data ends before the limit.
            let truncated = data.len() as u64 >= limit;
            prop_assert_eq!(end, if truncated { End::Truncated(limit) } else { End::Eof });
            prop_assert_eq!(limited.is_truncated(), truncated);
            // The end is final.
            let again = read_all(&mut limited, &buffers).await;
            prop_assert_eq!(again, (vec![], if truncated { End::Truncated(limit) } else { End::Eof }));
            Ok(())
        })?;
    }

    #[test]
    fn a_failure_of_the_inner_reader_passes_through_and_uses_no_budget(
        (data, limit) in data_and_limit(), before in pieces(), after in pieces(), buffers in buffers(),
    ) {
        block_on(async {
            let steps: Vec<_> = [&before[..], &[Step::Fail], &after[..]].concat();
            let mut limited = Limited::new(Script::new(&data, &steps, limit), limit);
            let expected = &data[..data.len().min(usize::try_from(limit).unwrap_or(usize::MAX))];
            let (mut read, mut end) = read_all(&mut limited, &buffers).await;
            if let End::Failed(kind) = end {
                prop_assert_eq!(kind, io::ErrorKind::ConnectionReset);
                prop_assert_eq!(limited.remaining(), limit - read.len() as u64);
                prop_assert!(!limited.is_truncated());
                // The failure was transient: the reader goes on as if it had not happened.
                let (rest, rest_end) = read_all(&mut limited, &buffers).await;
                read.extend(rest);
                end = rest_end;
            }
            prop_assert_eq!(&read, expected);
            prop_assert_eq!(end, if data.len() as u64 >= limit { End::Truncated(limit) } else { End::Eof });
            Ok(())
        })?;
    }

    #[test]
    fn two_readers_of_one_budget_never_get_more_than_it_has(
        left in prop::collection::vec(any::<u8>(), 0..200),
        right in prop::collection::vec(any::<u8>(), 0..200),
        left_steps in pieces(),
        right_steps in pieces(),
        limit in 0..450_u64,
        turns in prop::collection::vec((any::<bool>(), 1..50_usize), 1..60),
    ) {
        let budget = Budget::new(limit);
        let mut readers = [
            Limited::with_budget(Script::new(&left, &left_steps, u64::MAX), budget.clone()),
            Limited::with_budget(Script::new(&right, &right_steps, u64::MAX), budget.clone()),
        ];
        let mut read = [vec![], vec![]];
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // A reader without a turn counts as ended from the start. Each turn of the others returns at least one byte,
        // or uses up one step of the script.
        let mut ended = [true, false].map(|none| turns.iter().all(|(second, _)| *second == none));
        for (second, size) in turns.iter().cycle() {
            if ended == [true, true] {
                break;
            }
            let i = usize::from(*second);
            let mut buffer = vec![0; *size];
            let mut buffer = ReadBuf::new(&mut buffer);
            let before = budget.remaining();
            match Pin::new(&mut readers[i]).poll_read(&mut cx, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    ended[i] |= buffer.filled().is_empty();
                    read[i].extend_from_slice(buffer.filled());
                }
                Poll::Ready(Err(error)) => {
                    ended[i] = true;
                    prop_assert_eq!(end_of(&error), End::Truncated(limit));
                    prop_assert_eq!(before, 0);
                }
                Poll::Pending => prop_assert_eq!(budget.remaining(), before),
            }
            let total = (read[0].len() + read[1].len()) as u64;
            prop_assert_eq!(total + budget.remaining(), limit);
        }
        prop_assert!(left.starts_with(&read[0]));
        prop_assert!(right.starts_with(&read[1]));
        if turns.iter().any(|(second, _)| *second) && turns.iter().any(|(second, _)| !*second) {
            // Both readers are at their end, or the budget is used up.
            let all = (left.len() + right.len()) as u64;
            prop_assert_eq!((read[0].len() + read[1].len()) as u64, all.min(limit));
        }
    }
}

/// Runs a closure on a thread of its own, so that a deadlock fails the test instead of blocking it.
fn within_a_minute<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(work()));
    let result = result.recv_timeout(std::time::Duration::from_secs(60));
    result.expect("the closure returns within a minute")
}

#[test]
fn readers_of_one_budget_can_be_nested_and_each_byte_counts_once() {
    for (data, limit) in [(&b"hello, world"[..], 5), (b"hello", 5), (b"hello", 50), (b"", 0)] {
        // Nested directly, and with a buffer in between.
        for buffered in [false, true] {
            let (read, end, left) = within_a_minute(move || {
                let budget = Budget::new(limit);
                let inner = Limited::with_budget(data, budget.clone());
                let inner: Box<dyn AsyncRead + Unpin> = match buffered {
                    true => Box::new(tokio::io::BufReader::new(inner)),
                    false => Box::new(inner),
                };
                let mut outer = Limited::with_budget(inner, budget.clone());
                let (read, end) = block_on(read_all(&mut outer, &[3, 64]));
                (read, end, budget.remaining())
            });
            let expected = &data[..data.len().min(limit as usize)];
            assert_eq!(read, expected, "{limit} {buffered}");
            let truncated = data.len() as u64 >= limit;
            assert_eq!(
                end,
                if truncated { End::Truncated(limit) } else { End::Eof },
                "{limit} {buffered}"
            );
            assert_eq!(left, limit - expected.len() as u64, "{limit} {buffered}");
        }
    }
}

/// A reader whose poll blocks until another thread has done something.
struct Meanwhile<F: FnMut()>(F);

impl<F: FnMut() + Unpin> AsyncRead for Meanwhile<F> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        (self.0)();
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_reader_in_its_poll_does_not_block_the_share_of_others() {
    within_a_minute(|| {
        let budget = Budget::new(100);
        let other = budget.clone();
        // Polls the second reader on another thread, and waits for that poll.
        let mut first = Limited::with_budget(
            Meanwhile(move || {
                let other = other.clone();
                let second = std::thread::spawn(move || {
                    let mut second = Limited::with_budget(&b"second"[..], other.clone());
                    let read = block_on(read_all(&mut second, &[20]));
                    (read, other.remaining())
                });
                assert_eq!(second.join().unwrap(), ((b"second".to_vec(), End::Eof), 94));
            }),
            budget.clone(),
        );
        assert_eq!(block_on(read_all(&mut first, &[50])), (vec![], End::Eof));
        assert_eq!(budget.remaining(), 94);
    });
}

#[test]
fn a_reader_waits_while_another_has_reserved_the_rest_and_is_woken_when_it_is_released() {
    within_a_minute(|| {
        let budget = Budget::new(10);
        let mut second = Some(Limited::with_budget(&b"second"[..], budget.clone()));
        let (send, receive) = std::sync::mpsc::channel();
        let mut first = Limited::with_budget(
            Meanwhile(move || {
                // The first reader has reserved the whole budget but taken none of it: the second reader is not at
                // its end.
                let Some(mut second) = second.take() else { return };
                let polled = std::thread::spawn(move || {
                    let mut task = tokio_test::task::spawn(());
                    let mut buffer = [0; 20];
                    let mut buffer = ReadBuf::new(&mut buffer);
                    let poll = task.enter(|cx, _| Pin::new(&mut second).poll_read(cx, &mut buffer));
                    assert!(poll.is_pending());
                    (task, second)
                });
                send.send(polled.join().unwrap()).unwrap();
            }),
            budget.clone(),
        );
        assert_eq!(block_on(read_all(&mut first, &[50])), (vec![], End::Eof));
        let (task, mut second) = receive.recv().unwrap();
        assert!(task.is_woken());
        assert_eq!(block_on(read_all(&mut second, &[50])), (b"second".to_vec(), End::Eof));
        assert_eq!(budget.remaining(), 4);
    });
}

#[test]
fn readers_on_many_threads_share_exactly_their_budget() {
    let total = within_a_minute(|| {
        let budget = Budget::new(100_000);
        let readers: Vec<_> = (0..4)
            .map(|i| {
                let budget = budget.clone();
                std::thread::spawn(move || {
                    let mut limited = Limited::with_budget(tokio::io::repeat(b'x'), budget);
                    let (read, end) = block_on(read_all(&mut limited, &[97 + i, 5000]));
                    assert_eq!(end, End::Truncated(100_000));
                    read.len()
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).sum::<usize>()
    });
    assert_eq!(total, 100_000);
}

#[test]
fn a_reader_that_panics_leaves_the_budget_to_others() {
    let budget = Budget::new(10);
    let mut broken = Limited::with_budget(Meanwhile(|| panic!("on purpose")), budget.clone());
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        block_on(read_all(&mut broken, &[50]));
    }));
    assert!(panicked.is_err());
    let mut other = Limited::with_budget(&b"other"[..], budget.clone());
    assert_eq!(block_on(read_all(&mut other, &[50])), (b"other".to_vec(), End::Eof));
}

#[tokio::test]
async fn a_limit_of_zero_reads_nothing_and_never_polls() {
    let mut limited = Limited::new(Script::new(b"data", &[], 0), 0);
    assert_eq!(read_all(&mut limited, &[8]).await, (vec![], End::Truncated(0)));
    assert!(limited.is_truncated());
}

#[tokio::test]
async fn an_empty_buffer_reads_nothing_also_at_the_limit() {
    let mut limited = Limited::new(Script::new(b"data", &[], 2), 2);
    assert_eq!(limited.read(&mut []).await.unwrap(), 0);
    assert_eq!(limited.read(&mut [0; 8]).await.unwrap(), 2);
    assert_eq!(limited.read(&mut []).await.unwrap(), 0);
    // No byte was refused so far: the limit was reached, not exceeded.
    assert!(!limited.is_truncated());
    assert!(LimitReached::is(&limited.read(&mut [0; 8]).await.unwrap_err()));
    assert!(limited.is_truncated());
}

#[tokio::test]
async fn data_of_exactly_the_limit_is_whole_and_the_inner_reader_can_be_read_on() {
    for (data, more) in [(&b"exact"[..], &b""[..]), (b"exactly", b"ly")] {
        let mut limited = Limited::new(data, 5);
        let (read, end) = read_all(&mut limited, &[3]).await;
        assert_eq!((&read[..], end), (&b"exact"[..], End::Truncated(5)));
        let mut rest = Vec::new();
        limited.get_mut().read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, more);
        assert_eq!(limited.remaining(), 0);
    }
}

#[tokio::test]
async fn the_former_content_of_the_callers_buffer_stays() {
    let mut memory = *b"0123456789";
    let mut buffer = ReadBuf::new(&mut memory);
    buffer.put_slice(b"abc");
    let mut limited = Limited::new(&b"XYZ"[..], 2);
    std::future::poll_fn(|cx| Pin::new(&mut limited).poll_read(cx, &mut buffer))
        .await
        .unwrap();
    assert_eq!(buffer.filled(), b"abcXY");
}

#[tokio::test]
async fn the_error_names_the_limit_in_words() {
    let error = Limited::new(&b"data"[..], 0).read_u8().await.unwrap_err();
    assert_eq!(error.to_string(), "truncated: the limit of 0 bytes was reached");
    assert!(!LimitReached::is(&io::Error::other("another one")));
    assert!(!LimitReached::is(&io::Error::from(io::ErrorKind::UnexpectedEof)));
}

const LONG: usize = 300_000;

fn long() -> Vec<u8> {
    (0..LONG).map(|i| (i % 251) as u8).collect()
}

/// Asserts that a limited reader of [`long`] returns exactly the first bytes. Returns the inner reader.
async fn assert_first<R: AsyncRead + Unpin>(inner: R, limit: usize) -> R {
    let mut limited = Limited::new(inner, limit as u64);
    let (read, end) = read_all(&mut limited, &[8192, 1, 100_000]).await;
    assert_eq!(end, End::Truncated(limit as u64));
    assert!(read == long()[..limit], "other bytes than the first {limit} came");
    limited.into_inner()
}

#[tokio::test]
async fn a_limited_cursor_stands_right_after_the_limit() {
    let cursor = assert_first(Cursor::new(long()), 12_345).await;
    assert_eq!(cursor.position(), 12_345);
}

#[tokio::test]
async fn a_limited_file_can_be_read_on_after_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long");
    tokio::fs::write(&file, long()).await.unwrap();
    let mut inner = assert_first(tokio::fs::File::open(&file).await.unwrap(), 70_000).await;
    assert_eq!(inner.stream_position().await.unwrap(), 70_000);
    assert_eq!(inner.read_u8().await.unwrap(), long()[70_000]);
    inner.seek(SeekFrom::Start(0)).await.unwrap();
    let mut whole = Limited::new(inner, u64::MAX);
    assert_eq!(read_all(&mut whole, &[65536]).await, (long(), End::Eof));
}

#[tokio::test]
async fn a_tcp_connection_can_be_limited() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let writer = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        // The reader may leave before all is sent.
        let _ = connection.write_all(&long()).await;
    });
    assert_first(tokio::net::TcpStream::connect(address).await.unwrap(), 123_456).await;
    writer.await.unwrap();
}

#[tokio::test]
async fn a_limited_duplex_stalls_its_writer() {
    let (mut ours, theirs) = tokio::io::duplex(1000);
    let writer = tokio::spawn(async move {
        let data = long();
        let mut written = 0;
        while let Ok(count) = ours.write(&data[written..]).await {
            written += count;
        }
        written
    });
    drop(assert_first(theirs, 50_000).await);
    let written = writer.await.unwrap();
    // The writer could send no more than the limit and the capacity of the pipe.
    assert!((50_000..=51_000).contains(&written), "{written}");
}
