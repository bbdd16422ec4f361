//! The input of a terminal.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

/// The character that ends the input of a terminal: control-D.
const END: u8 = 0x04;

/// The characters after which a terminal has no unfinished line: both line ends, control-D, and the characters that discard
/// the line (control-C, control-\\, control-Z, control-U).
const AFTER_LINE: [u8; 7] = [b'\n', b'\r', END, 0x03, 0x1c, 0x1a, 0x15];

/// Writes to a terminal. A shutdown types control-D and leaves the connection open: engines take a half-closed connection as
/// a request to close the terminal's output too.
pub(crate) struct TtyInput<W> {
    inner: W,
    /// Whether the last line is unfinished. Then the first control-D only submits that line.
    in_line: bool,
    /// How many control-D are still to be written, once the shutdown has begun.
    ends: Option<usize>,
}

impl<W> TtyInput<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            in_line: false,
            ends: None,
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for TtyInput<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.ends.is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let len = ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        if let Some(last) = buf[..len].last() {
            self.in_line = !AFTER_LINE.contains(last);
        }
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let ends = this.ends.get_or_insert(if this.in_line { 2 } else { 1 });
        while *ends > 0 {
            match ready!(Pin::new(&mut this.inner).poll_write(cx, &[END; 2][..*ends])) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(len) => *ends -= len,
                // The command has ended: nothing reads the terminal any more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *ends = 0,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match ready!(Pin::new(&mut this.inner).poll_flush(cx)) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn shutdown_types_control_d_once_at_a_line_start_and_twice_within_a_line() {
        for (input, written) in [
            ("", "\x04"),
            ("a\n", "a\n\x04"),
            ("a\r", "a\r\x04"),
            ("a\nb", "a\nb\x04\x04"),
            ("a\x04", "a\x04\x04"),
            ("a\x03", "a\x03\x04"),
        ] {
            // The pipe holds one byte, so that the control-D are written in pieces too.
            let (ours, mut theirs) = tokio::io::duplex(1);
            let mut tty = TtyInput::new(ours);
            let mut read = vec![0; written.len()];
            let write = async {
                tty.write_all(input.as_bytes()).await.unwrap();
                tty.shutdown().await.unwrap();
                tty.shutdown().await.unwrap();
                let error = tty.write_all(b"more").await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            };
            let (_, read_all) = tokio::join!(write, tokio::io::AsyncReadExt::read_exact(&mut theirs, &mut read));
            read_all.unwrap();
            assert_eq!(String::from_utf8_lossy(&read), written);
        }
    }

    #[tokio::test]
    async fn shutdown_after_the_end_of_the_command_succeeds() {
        let (ours, theirs) = tokio::io::duplex(8);
        drop(theirs);
        TtyInput::new(ours).shutdown().await.unwrap();
    }
}
