//! An engine reached by ssh: one `ssh … docker system dial-stdio` for each connection, whose standard streams are the
//! connection. The docker command line does the same.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::time::Sleep;

use super::endpoint::Destination;
use crate::error::is_too_many_open_files;

/// How much of ssh's standard error is kept, in bytes.
const WORDS_KEPT: usize = 2048;

/// How long to wait for ssh's last words: a process that ssh left in the background may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Holds the destination of a tunnel.
pub(super) struct Tunnel(Destination);

impl Tunnel {
    pub(super) fn to(destination: &str) -> Result<Self, String> {
        Destination::parse(destination).map(Self)
    }

    pub(super) fn open(&self) -> io::Result<TunnelStream> {
        let Destination { user, host, port } = &self.0;
        let mut ssh = Command::new("ssh");
        // No terminal and no questions: no person could answer.
        ssh.args(["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]);
        if let Some(user) = user {
            ssh.args(["-l", user]);
        }
        if let Some(port) = port {
            ssh.arg("-p").arg(port.to_string());
        }
        ssh.args(["--", host, "docker", "system", "dial-stdio"]);
        TunnelStream::over(&mut ssh)
    }
}

impl TunnelStream {
    fn over(ssh: &mut Command) -> io::Result<Self> {
        let mut child = ssh
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| match is_too_many_open_files(&error) {
                true => error,
                false => io::Error::new(error.kind(), TunnelFailed(format!("`ssh` cannot be run: {error}"))),
            })?;
        let missing = || io::Error::other("a standard stream of ssh is missing");
        Ok(TunnelStream {
            stdin: Some(child.stdin.take().ok_or_else(missing)?),
            stdout: child.stdout.take().ok_or_else(missing)?,
            stderr: Some(child.stderr.take().ok_or_else(missing)?),
            child,
            words: Vec::new(),
            heard: false,
            last_words: None,
        })
    }
}

/// Reports that ssh ended before any data came through, with ssh's own words.
#[derive(Debug)]
pub(super) struct TunnelFailed(String);

impl fmt::Display for TunnelFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssh could not reach the engine: {}", self.0)
    }
}

impl StdError for TunnelFailed {}

/// Returns whether an error is that of a tunnel.
pub(super) fn is_tunnel(error: &(dyn StdError + 'static)) -> bool {
    error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .is_some_and(|inner| inner.is::<TunnelFailed>())
}

/// Holds one connection. Dropping it kills its ssh.
pub(super) struct TunnelStream {
    /// The input of ssh. `None`: the writing side is closed.
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    /// The standard error of ssh. `None`: ssh has closed it.
    stderr: Option<ChildStderr>,
    child: Child,
    words: Vec<u8>,
    /// Whether any data has come through.
    heard: bool,
    last_words: Option<Pin<Box<Sleep>>>,
}

impl TunnelStream {
    /// Reads ssh's standard error, so that ssh never blocks on it. Ready when ssh has closed it.
    fn poll_words(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(stderr) = &mut self.stderr {
            let mut space = [0; 512];
            let mut space = ReadBuf::new(&mut space);
            match ready!(Pin::new(stderr).poll_read(cx, &mut space)) {
                Ok(()) if !space.filled().is_empty() => {
                    let room = WORDS_KEPT.saturating_sub(self.words.len());
                    self.words.extend(space.filled().iter().take(room));
                }
                _ => self.stderr = None,
            }
        }
        Poll::Ready(())
    }
}

impl TunnelStream {
    /// Finds out why no more data comes: either the engine has ended the connection, or ssh has lost its own. Only the exit
    /// status of ssh tells which.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The waiter is registered in the child, not in this future.
        let ended = Box::pin(self.child.wait()).as_mut().poll(cx);
        let how = match ended {
            Poll::Ready(Ok(status)) if status.success() => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(status)) => format!("ssh ended with {status}"),
            Poll::Ready(Err(error)) => format!("the exit status of ssh is unknown: {error}"),
            Poll::Pending => {
                let wait = self
                    .last_words
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORDS)));
                ready!(wait.as_mut().poll(cx));
                "ssh has closed its output and still runs".to_owned()
            }
        };
        let words = String::from_utf8_lossy(&self.words);
        let how = match words.trim() {
            "" => how,
            words => format!("{how}: {words}"),
        };
        Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, how)))
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let words_ended = self.poll_words(cx).is_ready();
        let before = buf.filled().len();
        if self.last_words.is_none() {
            ready!(Pin::new(&mut self.stdout).poll_read(cx, buf))?;
            self.heard |= buf.filled().len() > before;
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        if self.heard {
            return self.poll_end(cx);
        }
        if !words_ended {
            let wait = self
                .last_words
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORDS)));
            ready!(wait.as_mut().poll(cx));
        }
        let words = String::from_utf8_lossy(&self.words).trim().to_owned();
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            TunnelFailed(words),
        )))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let heard = self.heard;
        let Some(stdin) = &mut self.stdin else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        match ready!(Pin::new(stdin).poll_write(cx, buf)) {
            // ssh has ended. The reading side finds out why, after its end-of-file.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !heard => Poll::Ready(Ok(buf.len())),
            written => Poll::Ready(written),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe has no buffer of its own to flush.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The reader sees end-of-file only when the pipe is closed.
        self.stdin = None;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_connection_that_ssh_has_lost_ends_with_an_error() {
        for (end, words) in [
            ("exit 0", None),
            ("sleep 0.1; exit 0", None),
            ("echo lost >&2; exit 255", Some("ssh ended with exit status: 255")),
            ("kill -9 $$", Some("ssh ended with signal: 9")),
            ("exec >&-; exec sleep 60", Some("ssh has closed its output")),
        ] {
            let mut ssh = Command::new("sh");
            ssh.args(["-c", &format!("printf whole; {end}")]);
            let mut stream = TunnelStream::over(&mut ssh).unwrap();
            let mut data = Vec::new();
            let read = stream.read_to_end(&mut data).await;
            assert_eq!(data, b"whole", "{end}");
            let said = read.err().map(|error| error.to_string());
            // The kernel decides whether ssh's own words have arrived by then.
            let said = said.as_deref().map(|said| said.trim_end_matches(": lost"));
            let begins = |(said, words): (&str, &str)| said.starts_with(words);
            assert!(said.is_some() == words.is_some(), "{end}: {said:?}");
            assert!(said.zip(words).is_none_or(begins), "{end}: {said:?}");
        }
    }
}
