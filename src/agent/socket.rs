//! The socket through which an agent on this machine is reached faster than through the engine. It also brings the pipes of
//! commands that print much.
//!
//! One for each container: mounted into it, and gone as soon as the agent has connected.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::runtime::Handle as RuntimeHandle;
use tokio::sync::Notify;

use super::wire::TOKEN;

/// Read from the socket at once. Much output comes through pipes.
const READ: usize = 32 * 1024;

/// Memory for what is read from a pipe, and how little of it may be left before there is new.
const BLOCK: usize = 128 * 1024;
const SPARE: usize = 32 * 1024;

/// A descriptor that came with a frame.
pub(super) type Descriptor = OwnedFd;

/// One that waits for its agent. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// By which the agent is known.
    token: [u8; TOKEN],
}

impl Socket {
    /// A new one in this directory, which nobody else may look into.
    pub(super) fn bind(dir: &Path) -> io::Result<Self> {
        let name = format!("{:016x}", fastrand::u64(..));
        let opened = File::open(dir)?;
        // An address has 108 bytes at most, and the directory's path may have more.
        let short = format!("/proc/self/fd/{}/{name}", opened.as_raw_fd());
        let socket = Self {
            listener: UnixListener::bind(short)?,
            path: dir.join(name),
            token: fastrand::u128(..).to_ne_bytes(),
        };
        socket.listener.set_nonblocking(true)?;
        // Whatever the umask is: the container's user must be able to connect.
        std::fs::set_permissions(&socket.path, std::fs::Permissions::from_mode(0o666))?;
        Ok(socket)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn token(&self) -> &[u8] {
        &self.token
    }

    /// The agent's connection. It has said that it is there.
    pub(super) fn accept(self, runtime: &RuntimeHandle) -> io::Result<Connection> {
        let (mut stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let mut token = [0; TOKEN];
        stream.read_exact(&mut token)?;
        if token != self.token {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "somebody else has connected",
            ));
        }
        let _entered = runtime.enter();
        Ok(Connection {
            stream: UnixStream::from_std(stream)?,
            queue: Mutex::default(),
            queued: Notify::new(),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "could not remove the socket of an agent");
        }
    }
}

/// The connection to one agent.
pub(super) struct Connection {
    stream: UnixStream,
    /// What could not be written at once.
    queue: Mutex<VecDeque<Bytes>>,
    queued: Notify,
}

impl Connection {
    /// Sends it after all that was sent before: mostly at once, which saves a task's waking up.
    pub(super) fn send(&self, mut frame: Bytes) {
        let mut queue = self.queue.lock();
        if queue.is_empty()
            && let Ok(len) = self.stream.try_write(&frame)
        {
            frame.advance(len);
        }
        if !frame.is_empty() {
            queue.push_back(frame);
            self.queued.notify_one();
        }
    }

    /// Writes what could not be written at once. Comes back when nothing can be written any more; who reads finds out why.
    pub(super) async fn write_queued(&self) {
        loop {
            self.queued.notified().await;
            while !self.queue.lock().is_empty() {
                if self.stream.writable().await.is_err() {
                    return;
                }
                match self.try_write_queued() {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                    _ => {}
                }
            }
        }
    }

    fn try_write_queued(&self) -> io::Result<()> {
        let mut queue = self.queue.lock();
        while let Some(frame) = queue.front_mut() {
            let len = self.stream.try_write(frame)?;
            frame.advance(len);
            if frame.is_empty() {
                queue.pop_front();
            }
        }
        Ok(())
    }

    /// The next bytes. A descriptor that comes with them is added to those that have arrived; `None` for one that there
    /// was no room for in this process.
    pub(super) async fn receive(&self, arrived: &mut VecDeque<Option<Descriptor>>) -> io::Result<Bytes> {
        loop {
            self.stream.readable().await?;
            match self.stream.try_io(Interest::READABLE, || self.receive_now(arrived)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(data) if data.is_empty() => return Err(ErrorKind::UnexpectedEof.into()),
                received => return received,
            }
        }
    }

    fn receive_now(&self, arrived: &mut VecDeque<Option<Descriptor>>) -> io::Result<Bytes> {
        let mut data = [0; READ];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut data)];
        let received = recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let mut lost = received.flags.contains(ReturnFlags::CTRUNC);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                for descriptor in descriptors {
                    arrived.push_back(Some(descriptor));
                    lost = false;
                }
            }
        }
        if lost {
            arrived.push_back(None);
        }
        Ok(Bytes::copy_from_slice(&data[..received.bytes]))
    }
}

/// The reading end of a command's output.
#[derive(Debug)]
pub(super) struct Pipe {
    pipe: pipe::Receiver,
    buffer: BytesMut,
}

impl Pipe {
    /// Must be called within a tokio runtime.
    pub(super) fn new(descriptor: Descriptor) -> io::Result<Self> {
        Ok(Self {
            pipe: pipe::Receiver::from_owned_fd(descriptor)?,
            buffer: BytesMut::new(),
        })
    }

    /// How many bytes can be read now.
    pub(super) fn pending(&self) -> usize {
        rustix::io::ioctl_fionread(&self.pipe).map_or(0, |len| usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// The next piece, of at most [`BLOCK`] bytes; empty at the end.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost.
    pub(super) async fn read(&mut self) -> io::Result<Bytes> {
        if self.buffer.capacity() < SPARE {
            self.buffer = BytesMut::with_capacity(BLOCK);
        }
        loop {
            self.pipe.readable().await?;
            // Not by tokio's own read, which takes less than was asked for as a sign that the pipe is empty: the command
            // can have made it one of packets.
            match self.pipe.try_read_buf(&mut self.buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(_) => return Ok(self.buffer.split().freeze()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_directory_may_be_longer_than_an_address() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a".repeat(200));
        std::fs::create_dir(&deep).unwrap();
        let socket = Socket::bind(&deep).unwrap();
        let path = socket.path().to_owned();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        drop(socket);
        assert!(!path.exists());
    }
}
