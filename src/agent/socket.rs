//! The socket through which an agent on this machine is reached faster than through the engine. The socket also carries the
//! pipes of commands that print much.
//!
//! Each container has its own socket, which is mounted into it and removed as soon as the agent has connected.

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

/// The most bytes that are read from the socket at once. Small, since large output comes through pipes.
const READ: usize = 32 * 1024;

/// The size of a block of memory for data from a pipe.
const BLOCK: usize = 128 * 1024;

/// The least free memory in a block with which a read begins; with less, a new block is allocated.
const SPARE: usize = 32 * 1024;

/// A file descriptor that came with a frame.
pub(super) type Descriptor = OwnedFd;

/// A socket that waits for its agent. Dropping the value removes the socket's file.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// The secret by which the agent proves itself.
    token: [u8; TOKEN],
}

impl Socket {
    /// Binds a new socket in this directory, which no other user may look into.
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
        // Independent of the umask: the container's user must be able to connect.
        std::fs::set_permissions(&socket.path, std::fs::Permissions::from_mode(0o666))?;
        Ok(socket)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn token(&self) -> &[u8] {
        &self.token
    }

    /// Accepts the agent's connection. Must be called after the agent has said that it has connected.
    pub(super) fn accept(self, runtime: &RuntimeHandle) -> io::Result<Connection> {
        let (mut stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let mut token = [0; TOKEN];
        stream.read_exact(&mut token)?;
        if token != self.token {
            return Err(io::Error::new(
                ErrorKind::PermissionDenied,
                "a process other than the agent has connected",
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
    /// The frames that could not be written at once.
    queue: Mutex<VecDeque<Bytes>>,
    /// Notified of new frames in the queue.
    queued: Notify,
}

impl Connection {
    /// Sends a frame after all earlier ones, mostly at once, which saves waking a task.
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

    /// Writes the frames in the queue. Returns when nothing can be written any more; the reader finds out why.
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

    /// Returns the next bytes. A file descriptor that comes with them is added to `arrived`, or `None` where this process had
    /// no room for it.
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

/// The reading end of the pipe of a command's output.
#[derive(Debug)]
pub(super) struct Pipe {
    pipe: pipe::Receiver,
    buffer: BytesMut,
}

impl Pipe {
    /// Prepares the pipe for reading. Must be called within a tokio runtime.
    pub(super) fn new(descriptor: Descriptor) -> io::Result<Self> {
        Ok(Self {
            pipe: pipe::Receiver::from_owned_fd(descriptor)?,
            buffer: BytesMut::new(),
        })
    }

    /// Returns how many bytes can be read now.
    pub(super) fn pending(&self) -> usize {
        rustix::io::ioctl_fionread(&self.pipe).map_or(0, |len| usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Returns the next bytes, at most [`BLOCK`]; none at the end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no data is lost.
    pub(super) async fn read(&mut self) -> io::Result<Bytes> {
        if self.buffer.capacity() < SPARE {
            self.buffer = BytesMut::with_capacity(BLOCK);
        }
        loop {
            self.pipe.readable().await?;
            // Not tokio's own read, which takes a short read as a sign that the pipe is empty: in a pipe's packet mode,
            // which the command can turn on, reads are short before that.
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
    fn the_directorys_path_may_be_longer_than_a_socket_address() {
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
