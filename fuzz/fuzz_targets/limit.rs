//! The limited reader: it returns exactly the first bytes, then *truncated*, and does not poll beyond, for any pieces
//! and any sizes of buffers.
#![no_main]

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use dockerpool::{LimitReached, Limited};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, ReadBuf};

struct Script<'a> {
    data: &'a [u8],
    /// How many bytes each read may return. 0 stands for `Pending`.
    steps: std::slice::Iter<'a, u8>,
    left: u64,
}

impl AsyncRead for Script<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        assert!(self.left > 0, "polled beyond the limit");
        assert!(
            buf.remaining() as u64 <= self.left,
            "asked for more than the limit leaves"
        );
        let most = match self.steps.next() {
            Some(0) => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(most) => usize::from(*most),
            None => usize::MAX,
        };
        let (now, later) = self.data.split_at(most.min(buf.remaining()).min(self.data.len()));
        buf.put_slice(now);
        self.data = later;
        self.left -= now.len() as u64;
        Poll::Ready(Ok(()))
    }
}

// The input: two bytes of limit, one with the number of steps, the steps, and the data. The sizes of the buffers are
// the steps in reverse order.
fuzz_target!(|input: &[u8]| {
    let Some((&[high, low, count], rest)) = input.split_first_chunk() else {
        return;
    };
    let limit = u64::from(u16::from_be_bytes([high, low]));
    let (steps, data) = rest.split_at(rest.len().min(count.into()));
    let script = Script {
        data,
        steps: steps.iter(),
        left: limit,
    };
    let mut limited = pin!(Limited::new(script, limit));
    let mut sizes = steps
        .iter()
        .rev()
        .map(|size| usize::from(*size) + 1)
        .chain(std::iter::repeat(4096));
    let mut cx = Context::from_waker(Waker::noop());
    let mut got = Vec::new();
    let expected = data.len().min(limit as usize);
    let cut = loop {
        let mut space = vec![0; sizes.next().unwrap()];
        let mut buf = ReadBuf::new(&mut space);
        match limited.as_mut().poll_read(&mut cx, &mut buf) {
            Poll::Pending => assert!(buf.filled().is_empty()),
            Poll::Ready(Ok(())) if buf.filled().is_empty() => break false,
            Poll::Ready(Ok(())) => got.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => {
                assert!(LimitReached::is(&error));
                break true;
            }
        }
    };
    assert_eq!(got, data[..expected]);
    // At the limit the reader does not look for further bytes.
    assert_eq!(cut, data.len() as u64 >= limit);
    assert_eq!(limited.is_truncated(), cut);
});
