//! Both outputs of a command as one: [`Merged`].

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::task::coop;

use super::limit::LimitReached;
use super::pipe::BrokeOff;
use super::streams::Reader;
use crate::engine::OutputStream;

const STREAMS: [OutputStream; 2] = [OutputStream::Stdout, OutputStream::Stderr];

/// Both outputs, piece by piece, in the order in which the pump has taken them from the engine.
#[derive(Debug)]
pub(super) struct Merged {
    /// The outputs that have not ended.
    readers: [Option<Reader>; 2],
    truncated: bool,
}

impl Merged {
    pub(super) fn new(readers: [Option<Reader>; 2]) -> Self {
        Self {
            readers,
            truncated: false,
        }
    }

    /// Returns whether a limit has cut an output off.
    pub(super) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Returns the next piece, or `None` at the end of both outputs. A limit and a break of the output count as its end: the
    /// status tells of them.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(OutputStream, Bytes)>> {
        loop {
            // All pieces that are earlier than a piece are there once that is. So a piece of the first output counts if the second is
            // looked at after it. Where only the second has a piece, an earlier one may have come to the first since the look there.
            // Where neither has one, the first is not looked at again: what came there meanwhile may be later than what came to the
            // second, and has called the waker.
            let first = ready!(self.poll_head(0, cx));
            let second = ready!(self.poll_head(1, cx));
            let first = match (first, second) {
                (None, Some(_)) => ready!(self.poll_head(0, cx)),
                (first, _) => first,
            };
            let heads = [first, second];
            let stream = match heads {
                [Some((first, _)), Some((second, _))] => usize::from(second < first),
                [Some(_), None] => 0,
                [None, Some(_)] => 1,
                [None, None] if self.readers.iter().all(Option::is_none) => return Poll::Ready(None),
                [None, None] => return Poll::Pending,
            };
            let len = heads[stream].map_or(0, |(_, len)| len);
            if let Some(data) = ready!(self.poll_take(stream, len, cx)) {
                return Poll::Ready(Some((STREAMS[stream], data)));
            }
        }
    }

    /// Returns the place and the length of the next piece of an output, if it is there. Pending: nothing can be seen in this turn of
    /// the task.
    fn poll_head(&mut self, stream: usize, cx: &mut Context<'_>) -> Poll<Option<(u64, usize)>> {
        if !coop::has_budget_remaining() {
            // A piece that is there would not be seen.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(reader) = &mut self.readers[stream] else {
            return Poll::Ready(None);
        };
        match reader.poll_next_piece(cx) {
            Poll::Pending => return Poll::Ready(None),
            Poll::Ready(Ok(Some(head))) => return Poll::Ready(Some(head)),
            Poll::Ready(Ok(None)) => {}
            Poll::Ready(Err(error)) if BrokeOff::is(&error) => {}
            Poll::Ready(Err(error)) => tracing::debug!(%error, "the output of a command could not be read"),
        }
        self.end(stream);
        Poll::Ready(None)
    }

    /// Takes so much of an output, or less where its limit is reached; `None` at its end.
    fn poll_take(&mut self, stream: usize, len: usize, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(reader) = &mut self.readers[stream] else {
            return Poll::Ready(None);
        };
        let mut data = vec![0; len];
        let mut buf = ReadBuf::new(&mut data);
        let read = ready!(reader.poll_read(cx, &mut buf));
        let len = buf.filled().len();
        if let Err(error) = &read
            && !LimitReached::is(error)
        {
            tracing::debug!(%error, "the output of a command could not be read");
        }
        if read.is_err() || len == 0 {
            self.end(stream);
            return Poll::Ready(None);
        }
        data.truncate(len);
        Poll::Ready(Some(data.into()))
    }

    fn end(&mut self, stream: usize) {
        if let Some(reader) = self.readers[stream].take() {
            self.truncated |= reader.is_truncated();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::super::halt::Halt;
    use super::super::limit::Budget;
    use super::super::pipe::{Piece, pipe};
    use super::*;
    use crate::values::command_options::OnLimit;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn pieces_come_in_the_order_in_which_they_were_sent() {
        for seed in 0..300 {
            let halt = Halt::new();
            let ((stdout, out), (stderr, err)) = (pipe(halt.clone()), pipe(halt.clone()));
            let budget = Budget::new(u64::MAX);
            let reader = |pipe| Some(Reader::new(pipe, None, budget.clone(), OnLimit::Kill, halt.clone()));
            let mut merged = Merged::new([reader(out), reader(err)]);
            let mut random = fastrand::Rng::with_seed(seed);
            // From some piece on, as at the end of a command that its readers have held up, nobody waits for room.
            let (total, rest) = (200, random.u64(..250));
            let which: Vec<_> = (0..total).map(|_| random.bool()).collect();
            let sender = tokio::spawn({
                let (which, halt) = (which.clone(), halt.clone());
                async move {
                    for (place, is_stderr) in which.into_iter().enumerate() {
                        let (place, pipe) = (place as u64, if is_stderr { &stderr } else { &stdout });
                        let data = Bytes::copy_from_slice(&place.to_le_bytes());
                        let piece = Piece { place, data };
                        if place >= rest {
                            pipe.send_without_room(piece);
                        } else if !pipe.try_send(piece.clone()) {
                            pipe.send(piece).await;
                        }
                        if random.u8(..) < 32 {
                            tokio::task::yield_now().await;
                        }
                    }
                    halt.set_whole(true);
                }
            });
            for (place, is_stderr) in which.into_iter().enumerate() {
                let (stream, data) = poll_fn(|cx| merged.poll_next(cx)).await.unwrap();
                assert_eq!(stream, STREAMS[usize::from(is_stderr)], "{seed}: {place}");
                assert_eq!(*data, (place as u64).to_le_bytes(), "{seed}: {place}");
            }
            assert_eq!(poll_fn(|cx| merged.poll_next(cx)).await, None);
            sender.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_limit_of_both_outputs_cuts_them_off_where_it_is_reached() {
        let halt = Halt::new();
        let ((stdout, out), (stderr, err)) = (pipe(halt.clone()), pipe(halt.clone()));
        let budget = Budget::new(8);
        let reader = |pipe| Some(Reader::new(pipe, None, budget.clone(), OnLimit::Truncate, halt.clone()));
        let mut merged = Merged::new([reader(out), reader(err)]);
        for (place, (pipe, data)) in [(&stdout, "first"), (&stderr, "second"), (&stdout, "third")]
            .into_iter()
            .enumerate()
        {
            let (place, data) = (place as u64, Bytes::from_static(data.as_bytes()));
            assert!(pipe.try_send(Piece { place, data }));
        }
        halt.set_whole(true);
        drop((stdout, stderr));
        let mut seen = Vec::new();
        while let Some((stream, data)) = poll_fn(|cx| merged.poll_next(cx)).await {
            seen.push((stream, String::from_utf8(data.to_vec()).unwrap()));
        }
        let expected = [
            (OutputStream::Stdout, "first".to_owned()),
            (OutputStream::Stderr, "sec".to_owned()),
        ];
        assert_eq!(seen, expected);
        assert!(merged.is_truncated());
    }
}
