//! Frames in and out, through the standard streams of PID 1 or through the library's socket.

use crate::protocol::{Begun, HEADER, Header, MAX_DATA};
use crate::sys::{self, Bytes, Errno, Fd};

pub const STDIN: Fd = 0;
const STDOUT: Fd = 1;

const IN_SIZE: usize = 2 * (HEADER + MAX_DATA);
const OUT_SIZE: usize = 256 * 1024;

/// What is kept free for all but output: every frame of the agent's but those has at most [`SMALL`] bytes.
const RESERVE: usize = 32 * 1024;
pub const SMALL: usize = 96;

/// More than this touched, and it is given back when nothing runs.
const KEEP: usize = 8 * 1024;

/// Frames on their way to the library.
pub struct Out {
    fd: Fd,
    /// What is written to once everything so far is written.
    then: Option<Fd>,
    /// A descriptor that goes with the frame there.
    passing: Option<(usize, Fd)>,
    /// A frame that was not sent, since the descriptor could not go with it.
    withdrawn: Option<Header>,
    buf: Bytes,
    start: usize,
    end: usize,
    touched: usize,
}

impl Out {
    pub fn new() -> sys::Result<Self> {
        sys::set_nonblocking(STDOUT);
        sys::enlarge_pipe(STDOUT, 1 << 20);
        Ok(Self {
            fd: STDOUT,
            then: None,
            passing: None,
            withdrawn: None,
            buf: Bytes::new(OUT_SIZE)?,
            start: 0,
            end: 0,
            touched: 0,
        })
    }

    pub fn fd(&self) -> Fd {
        self.fd
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Goes on through this socket, after what is here already.
    pub fn switch(&mut self, socket: Fd) {
        sys::set_nonblocking(socket);
        self.then = Some(socket);
    }

    /// Whether a descriptor can be passed now: one at a time, and only through a socket.
    pub fn can_pass(&self) -> bool {
        self.fd != STDOUT && self.passing.is_none() && self.withdrawn.is_none()
    }

    /// A frame without a payload, with a copy of a descriptor. Ask first for room, and whether one can be passed.
    pub fn pass(&mut self, kind: u8, id: u32, fd: Fd) -> sys::Result<()> {
        let copy = sys::duplicate(fd)?;
        self.passing = Some((self.end, copy));
        self.frame(kind, id, &[]);
        Ok(())
    }

    /// Whether a frame fits that is no output.
    pub fn has_room(&mut self) -> bool {
        self.compact(SMALL);
        OUT_SIZE - self.end >= SMALL
    }

    /// Whether output fits.
    pub fn has_data_room(&mut self) -> bool {
        self.data_room() > 0
    }

    fn data_room(&mut self) -> usize {
        // Not for a few bytes.
        self.compact(RESERVE + MAX_DATA / 4);
        (OUT_SIZE - self.end).saturating_sub(RESERVE + HEADER)
    }

    fn compact(&mut self, wanted: usize) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if OUT_SIZE - self.end < wanted && self.start >= wanted {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            if let Some((at, _)) = &mut self.passing {
                *at -= self.start;
            }
            self.start = 0;
        }
    }

    /// A frame of at most [`SMALL`] bytes. Ask for the room first.
    pub fn frame(&mut self, kind: u8, id: u32, payload: &[u8]) {
        let header = Header {
            len: payload.len(),
            kind,
            id,
        };
        for bytes in [&header.encode()[..], payload] {
            self.buf[self.end..self.end + bytes.len()].copy_from_slice(bytes);
            self.end += bytes.len();
        }
        self.touched = self.touched.max(self.end);
    }

    /// A frame of what can be read at once, `most` bytes of it; 0: the end.
    pub fn data(&mut self, kind: u8, id: u32, from: Fd, most: usize) -> sys::Result<usize> {
        let most = most.min(MAX_DATA).min(self.data_room());
        let at = self.end + HEADER;
        let len = sys::read(from, &mut self.buf[at..at + most])?;
        if len > 0 {
            self.buf[self.end..at].copy_from_slice(&Header { len, kind, id }.encode());
            self.end = at + len;
            self.touched = self.touched.max(self.end);
        }
        Ok(len)
    }

    /// Writes what can be written now. `Err`: nobody reads any more.
    pub fn flush(&mut self) -> sys::Result<()> {
        while self.start < self.end {
            let written = match self.passing {
                Some((at, fd)) if at == self.start => {
                    let sent = sys::send_with(self.fd, &self.buf[self.start..self.end], fd);
                    if !matches!(sent, Err(Errno::AGAIN | Errno::INTR)) {
                        sys::close(fd);
                        self.passing = None;
                    }
                    match sent {
                        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => sent,
                        // The kernel counts descriptors on their way by user, those of other containers too. If it is the
                        // socket that is broken, whatever is written next tells.
                        Err(_) => {
                            self.withdrawn = Header::decode(&self.buf[self.start..self.end]);
                            Ok(HEADER)
                        }
                    }
                }
                Some((at, _)) => sys::write(self.fd, &self.buf[self.start..at]),
                None => sys::write(self.fd, &self.buf[self.start..self.end]),
            };
            match written {
                Ok(len) => self.start += len,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.fd = self.then.take().unwrap_or(self.fd);
        Ok(())
    }

    /// The frame that was not sent for want of its descriptor, if there was one.
    pub fn take_withdrawn(&mut self) -> Option<Header> {
        self.withdrawn.take()
    }

    pub fn trim(&mut self) {
        if self.is_empty() && self.touched > KEEP {
            self.buf.clear();
            self.touched = 0;
        }
    }
}

/// Frames on their way from the library.
pub struct In {
    fd: Fd,
    buf: Bytes,
    start: usize,
    end: usize,
    touched: usize,
    /// A frame that is too large for the buffer, with how much of it is there.
    big: Option<(Header, Bytes, usize)>,
}

/// What comes next.
pub enum Next {
    /// Not whole yet.
    Wait,
    /// A frame; its payload is had with [`In::payload`].
    Frame(Header),
    /// The agent does not understand it, or cannot hold it.
    Broken,
}

impl In {
    pub fn new() -> sys::Result<Self> {
        sys::set_nonblocking(STDIN);
        Ok(Self {
            fd: STDIN,
            buf: Bytes::new(IN_SIZE)?,
            start: 0,
            end: 0,
            touched: 0,
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

    /// Reads once. `Ok(0)`: the library has gone.
    pub fn fill(&mut self) -> sys::Result<usize> {
        if let Some((_, payload, filled)) = &mut self.big
            && *filled < payload.len()
        {
            let len = sys::read(self.fd, &mut payload[*filled..])?;
            *filled += len;
            return Ok(len);
        }
        if self.start > 0 {
            self.buf.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let len = sys::read(self.fd, &mut self.buf[self.end..])?;
        self.end += len;
        self.touched = self.touched.max(self.end);
        Ok(len)
    }

    pub fn next(&mut self) -> Next {
        if let Some((header, payload, filled)) = &self.big {
            return if *filled == payload.len() {
                Next::Frame(*header)
            } else {
                Next::Wait
            };
        }
        let bytes = &self.buf[self.start..self.end];
        let header = match Begun::of(bytes) {
            Begun::Nothing => return Next::Wait,
            Begun::Frame(header) => header,
            Begun::Malformed => return Next::Broken,
        };
        if bytes.len() >= HEADER + header.len {
            return Next::Frame(header);
        }
        if HEADER + header.len > IN_SIZE {
            let Ok(mut payload) = Bytes::new(header.len) else {
                return Next::Broken;
            };
            let there = &bytes[HEADER..];
            payload[..there.len()].copy_from_slice(there);
            self.big = Some((header, payload, there.len()));
            (self.start, self.end) = (0, 0);
        }
        Next::Wait
    }

    /// Of the frame that [`next`](Self::next) gave.
    pub fn payload(&self, header: Header) -> &[u8] {
        match &self.big {
            Some((_, payload, _)) => payload,
            None => &self.buf[self.start + HEADER..][..header.len],
        }
    }

    /// Goes on to the next frame.
    pub fn done(&mut self, header: Header) {
        if self.big.take().is_none() {
            self.start += HEADER + header.len;
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    pub fn trim(&mut self) {
        if self.start == self.end && self.touched > KEEP {
            self.buf.clear();
            self.touched = 0;
        }
    }
}
