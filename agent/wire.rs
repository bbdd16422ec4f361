//! Frames to and from the library, through the standard streams of PID 1 or through the library's socket.

use crate::buffer::Buffer;
use crate::picture;
use crate::protocol::{Begun, HEADER, Header, MAX_DATA, MAX_SAID, from_agent};
use crate::spawn::Failure;
use crate::sys::{self, Bytes, Errno, Fd, OwnedFd};
use crate::wipe;

pub const STDIN: Fd = 0;
const STDOUT: Fd = 1;

const IN_SIZE: usize = 2 * (HEADER + MAX_DATA);
const OUT_SIZE: usize = 256 * 1024;

/// The bytes that output leaves free for other frames.
const RESERVE: usize = 32 * 1024;

/// The most bytes of a frame that is not output.
const SMALL: usize = 96;

/// The least room for output that is worth moving the queue for.
const DATA_ROOM: usize = MAX_DATA / 4;

/// Frames on their way to the library.
pub struct Out {
    fd: Fd,
    /// The socket through which everything goes once the queue is empty.
    next: Option<Fd>,
    /// A file descriptor that goes with a frame, and how many bytes are queued before that frame.
    passing: Option<(usize, OwnedFd)>,
    /// A frame that was not sent, since its file descriptor could not be.
    withdrawn: Option<Header>,
    buffer: Buffer,
}

impl Out {
    /// Writes to standard output.
    pub fn new() -> sys::Result<Self> {
        sys::set_nonblocking(STDOUT);
        sys::enlarge_pipe(STDOUT, 1 << 20);
        Self::of(STDOUT)
    }

    /// Writes to a file descriptor that does not block.
    pub fn of(fd: Fd) -> sys::Result<Self> {
        Ok(Self {
            fd,
            next: None,
            passing: None,
            withdrawn: None,
            buffer: Buffer::new(OUT_SIZE)?,
        })
    }

    pub fn fd(&self) -> Fd {
        self.fd
    }

    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Goes on through this socket after the queue.
    pub fn switch(&mut self, socket: Fd) {
        sys::set_nonblocking(socket);
        self.next = Some(socket);
    }

    /// Returns whether a file descriptor can be passed: through a socket, and one at a time.
    pub fn can_pass(&self) -> bool {
        self.fd != STDOUT && self.passing.is_none() && self.withdrawn.is_none()
    }

    /// Queues a frame without a payload that goes with a copy of a file descriptor. The caller has asked
    /// [`can_pass`](Self::can_pass) and [`has_room`](Self::has_room).
    pub fn pass(&mut self, kind: u8, id: u32, fd: Fd) -> sys::Result<()> {
        let copy = sys::duplicate(fd)?;
        self.passing = Some((self.buffer.queued().len(), copy));
        self.frame(kind, id, &[]);
        Ok(())
    }

    /// Returns whether there is room for a frame that is not output.
    pub fn has_room(&mut self) -> bool {
        self.make_room(SMALL);
        self.buffer.room() >= SMALL
    }

    /// Returns whether there is room for output.
    pub fn has_data_room(&mut self) -> bool {
        self.data_room() > 0
    }

    fn data_room(&mut self) -> usize {
        self.make_room(RESERVE + DATA_ROOM);
        self.buffer.room().saturating_sub(RESERVE + HEADER)
    }

    /// Moves the queue to the front if there is too little room, and if that makes as much room as is wanted.
    #[inline(never)]
    fn make_room(&mut self, wanted: usize) {
        if self.buffer.room() < wanted && self.buffer.taken() >= wanted {
            self.buffer.move_to_front();
        }
    }

    /// Queues a frame that is not output. The caller has asked [`has_room`](Self::has_room).
    #[inline(never)]
    pub fn frame(&mut self, kind: u8, id: u32, payload: &[u8]) {
        let len = payload.len();
        self.buffer.push(&Header { len, kind, id }.encode());
        self.buffer.push(payload);
    }

    /// Queues the answer to a request of several steps: the step that failed, or 0.
    pub fn step_failed(&mut self, kind: u8, id: u32, step: u8, Errno(errno): Errno) {
        let mut payload = [0; 5];
        payload[0] = step;
        payload[1..].copy_from_slice(&errno.to_le_bytes());
        self.frame(kind, id, &payload);
    }

    /// Queues the frame of a command that could not be started.
    pub fn cannot_start(&mut self, id: u32, (stage, errno): Failure) {
        self.step_failed(from_agent::CANNOT_START, id, stage as u8, errno);
    }

    /// Queues the answer to a wipe.
    pub fn wiped(&mut self, id: u32, outcome: wipe::Outcome) {
        let (Errno(errno), path) = outcome.err().unwrap_or((Errno(0), 0));
        let mut payload = [0; 9];
        payload[0] = u8::from(outcome.is_ok());
        payload[1..5].copy_from_slice(&errno.to_le_bytes());
        payload[5..].copy_from_slice(&path.to_le_bytes());
        self.frame(from_agent::WIPED, id, &payload);
    }

    /// Queues the answer to a baseline or a clean.
    #[inline(never)]
    pub fn proven(&mut self, kind: u8, id: u32, outcome: &picture::Result<u8>) {
        let mut payload = [0; 6 + MAX_SAID];
        let mut len = 6;
        match outcome {
            Ok(flags) => payload[5] = *flags,
            Err(problem) => {
                let Errno(errno) = problem.errno;
                payload[0] = problem.why as u8;
                payload[1..5].copy_from_slice(&errno.to_le_bytes());
                let path = problem.path();
                payload[6..6 + path.len()].copy_from_slice(path);
                len += path.len();
            }
        }
        self.frame(kind, id, &payload[..len]);
    }

    /// Queues a frame of what one read gives, at most `most` bytes. Returns its length, or 0 at the end. The caller has
    /// asked [`has_data_room`](Self::has_data_room).
    pub fn data(&mut self, kind: u8, id: u32, from: Fd, most: usize) -> sys::Result<usize> {
        let most = most.min(MAX_DATA).min(self.data_room());
        let (header, payload) = self.buffer.free().split_at_mut(HEADER);
        let len = sys::read(from, &mut payload[..most])?;
        if len > 0 {
            header.copy_from_slice(&Header { len, kind, id }.encode());
            self.buffer.add(HEADER + len);
        }
        Ok(len)
    }

    /// Writes as much of the queue as can be written now. Fails if nobody reads any more.
    pub fn flush(&mut self) -> sys::Result<()> {
        while !self.buffer.is_empty() {
            let written = match &self.passing {
                Some((0, _)) => self.send_passing(),
                Some((before, _)) => sys::write(self.fd, &self.buffer.queued()[..*before]),
                None => sys::write(self.fd, self.buffer.queued()),
            };
            match written {
                Ok(len) => {
                    self.buffer.take(len);
                    if let Some((before, _)) = &mut self.passing {
                        *before -= len;
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.fd = self.next.take().unwrap_or(self.fd);
        Ok(())
    }

    /// Sends the queue, with the file descriptor that goes with the first frame. Withdraws the frame where the descriptor
    /// cannot be sent.
    fn send_passing(&mut self) -> sys::Result<usize> {
        let queued = self.buffer.queued();
        let Some((_, fd)) = &self.passing else {
            return Ok(0);
        };
        let sent = sys::send_with(self.fd, queued, fd.fd());
        if let Err(Errno::AGAIN | Errno::INTR) = sent {
            return sent;
        }
        self.passing = None;
        sent.or_else(|_| {
            // The kernel counts descriptors in flight by user, over all containers. If the socket is broken, the next
            // write fails.
            self.withdrawn = Header::decode(queued);
            Ok(HEADER)
        })
    }

    /// Returns the frame that was not sent because its file descriptor could not be, once.
    pub fn take_withdrawn(&mut self) -> Option<Header> {
        self.withdrawn.take()
    }

    /// Gives memory back while nothing is queued.
    pub fn trim(&mut self) {
        self.buffer.trim();
    }
}

/// Frames on their way from the library.
pub struct In {
    fd: Fd,
    buffer: Buffer,
    big: Option<Big>,
}

/// A frame that is too large for the buffer.
struct Big {
    header: Header,
    payload: Bytes,
    /// The number of bytes of the payload that have come.
    len: usize,
}

/// The next frame from the library.
pub enum Next {
    /// No whole frame.
    Wait,
    /// A frame whose payload [`In::payload`] returns.
    Frame(Header),
    /// A frame that the agent does not know, or cannot hold.
    Broken,
}

impl In {
    /// Reads from standard input.
    pub fn new() -> sys::Result<Self> {
        sys::set_nonblocking(STDIN);
        Self::of(STDIN)
    }

    /// Reads from a file descriptor.
    pub fn of(fd: Fd) -> sys::Result<Self> {
        Ok(Self {
            fd,
            buffer: Buffer::new(IN_SIZE)?,
            big: None,
        })
    }

    pub fn fd(&self) -> Fd {
        self.fd
    }

    /// Goes on from this socket.
    pub fn switch(&mut self, socket: Fd) {
        self.fd = socket;
    }

    /// Reads once. Returns 0 if the library has gone.
    pub fn fill(&mut self) -> sys::Result<usize> {
        if let Some(big) = &mut self.big
            && big.len < big.payload.len()
        {
            let len = sys::read(self.fd, &mut big.payload[big.len..])?;
            big.len += len;
            return Ok(len);
        }
        self.buffer.move_to_front();
        let len = sys::read(self.fd, self.buffer.free())?;
        self.buffer.add(len);
        Ok(len)
    }

    /// Returns the next frame if all of it is there. Returns the same one until [`done`](Self::done).
    pub fn next(&mut self) -> Next {
        if let Some(big) = &self.big {
            return match big.len == big.payload.len() {
                true => Next::Frame(big.header),
                false => Next::Wait,
            };
        }
        let queued = self.buffer.queued();
        let header = match Begun::of(queued) {
            Begun::Nothing => return Next::Wait,
            Begun::Frame(header) => header,
            Begun::Malformed => return Next::Broken,
        };
        let (whole, len) = (HEADER + header.len, queued.len());
        if len >= whole {
            return Next::Frame(header);
        }
        if whole > IN_SIZE {
            let Ok(mut payload) = Bytes::new(header.len) else {
                return Next::Broken;
            };
            payload[..len - HEADER].copy_from_slice(&queued[HEADER..]);
            self.buffer.take(len);
            self.big = Some(Big {
                header,
                payload,
                len: len - HEADER,
            });
        }
        Next::Wait
    }

    /// Returns the payload of the frame that [`next`](Self::next) has returned.
    pub fn payload(&self, header: Header) -> &[u8] {
        match &self.big {
            Some(big) => &big.payload,
            None => &self.buffer.queued()[HEADER..][..header.len],
        }
    }

    /// Goes on to the frame after the one that [`next`](Self::next) has returned.
    pub fn done(&mut self, header: Header) {
        if self.big.take().is_none() {
            self.buffer.take(HEADER + header.len);
        }
    }

    /// Gives memory back while nothing is queued.
    pub fn trim(&mut self) {
        self.buffer.trim();
    }
}
