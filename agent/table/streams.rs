//! The streams of one command, as the agent holds them.

use crate::buffer::Buffer;
use crate::protocol::{PIPE_AFTER, STDIN_WINDOW, Size, from_agent};
use crate::sys::{self, Errno, Fd, OwnedFd};
use crate::wire::Out;

/// The longest packet of a pipe of packets (`O_DIRECT`), which a command can make of its output (`PIPE_BUF`).
const PACKET: u32 = 4096;

/// The most bytes that are read at once of output that nobody wants.
const SCRATCH: usize = 4096;

/// More bytes than a terminal holds. They cannot be counted: some are on the way within the kernel.
const TTY_ROOM: usize = 64 * 1024;

/// The room of a pipe that the library reads, and of one through which contents of files come.
pub(super) const PIPE_SIZE: usize = 256 * 1024;

/// The number of reads of one stream before the others have their turn.
const READS: usize = 4;

/// Standard input of a command.
pub struct Stdin {
    /// The number of bytes that the library may still send.
    window: u32,
    input: Input,
}

enum Input {
    Open(Open),
    /// The command reads no more, and the library does not know yet.
    Refused,
    Closed,
}

struct Open {
    pipe: OwnedFd,
    /// The bytes that are to be written. It is made for the first of them.
    buffer: Option<Buffer>,
    /// Nothing more is to come.
    is_ending: bool,
    /// The number of bytes that were written and that the library does not know of yet.
    to_credit: u32,
}

impl Stdin {
    /// Takes the writing end of a pipe, if there is one.
    pub fn new(pipe: Option<OwnedFd>) -> Self {
        let input = pipe.map_or(Input::Closed, |pipe| {
            Input::Open(Open {
                pipe,
                buffer: None,
                is_ending: false,
                to_credit: 0,
            })
        });
        Self {
            window: STDIN_WINDOW,
            input,
        }
    }

    /// Queues bytes that the library has sent. Returns `None` if there was no credit for it or there is no memory.
    pub fn take(&mut self, data: &[u8]) -> Option<()> {
        self.window = self.window.checked_sub(data.len() as u32)?;
        let Input::Open(open) = &mut self.input else {
            return Some(());
        };
        if open.is_ending {
            return Some(());
        }
        let buffer = match &mut open.buffer {
            Some(buffer) => buffer,
            // Without memory the connection ends: a command would take an input that breaks off for a whole one.
            none => none.insert(Buffer::new(STDIN_WINDOW as usize).ok()?),
        };
        if buffer.room() < data.len() {
            buffer.move_to_front();
        }
        buffer.push(data);
        Some(())
    }

    /// Closes the stream once everything is written.
    pub fn end(&mut self) {
        if let Input::Open(open) = &mut self.input {
            open.is_ending = true;
        }
    }

    /// Returns the file descriptor that something is to be written to.
    pub fn wants_to_write(&self) -> Option<Fd> {
        match &self.input {
            Input::Open(open) if !open.is_empty() => Some(open.pipe.fd()),
            _ => None,
        }
    }

    /// Writes what can be written now, and tells the library.
    pub fn write(&mut self, id: u32, out: &mut Out) {
        if let Input::Open(open) = &mut self.input {
            if open.write().is_err() {
                self.input = Input::Refused;
            } else if open.is_ending && open.is_empty() {
                self.close();
            }
        }
        match &mut self.input {
            Input::Open(open) if open.to_credit > 0 && out.has_room() => {
                let credit = core::mem::take(&mut open.to_credit);
                out.frame(from_agent::STDIN_CREDIT, id, &credit.to_le_bytes());
                self.window += credit;
            }
            Input::Refused if out.has_room() => {
                out.frame(from_agent::STDIN_CLOSED, id, &[]);
                self.input = Input::Closed;
            }
            _ => {}
        }
    }

    /// Closes the stream, whatever was still to be written.
    pub fn close(&mut self) {
        if let Input::Open(_) = self.input {
            self.input = Input::Closed;
        }
    }
}

impl Open {
    fn is_empty(&self) -> bool {
        self.buffer.as_ref().is_none_or(Buffer::is_empty)
    }

    fn write(&mut self) -> sys::Result<()> {
        let Some(buffer) = &mut self.buffer else {
            return Ok(());
        };
        while !buffer.is_empty() {
            match sys::write(self.pipe.fd(), buffer.queued()) {
                Ok(len) => {
                    buffer.take(len);
                    self.to_credit += len as u32;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Both outputs of a command, or its terminal as the first and no second.
pub struct Outputs {
    outputs: [Output; 2],
    /// The number of bytes that the library has room for.
    credit: u32,
    /// Nobody wants the output any more. The agent reads it all the same, since a server that was left behind goes on
    /// printing.
    discards: bool,
}

struct Output {
    /// The reading end, until the end of the stream.
    fd: Option<OwnedFd>,
    way: Way,
}

/// The way by which the library gets an output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Frames: it is a terminal.
    Terminal,
    /// Frames, in which so many bytes have come.
    Frames(usize),
    /// The pipe was offered, and the library has not answered yet.
    Offered,
    /// The pipe. Its reading end stays open here too, so that no process gets SIGPIPE for printing.
    Pipe,
    /// Frames: the library cannot take the pipe.
    Refused,
}

/// The result of reading an output.
pub struct Read {
    /// The number of bytes that were read.
    pub len: usize,
    /// Nothing more could be read now.
    pub is_empty: bool,
}

impl Outputs {
    /// Takes the reading ends of two pipes, or the master of a terminal as the first.
    pub fn new(ends: [Option<OwnedFd>; 2], is_terminal: bool, credit: u32) -> Self {
        let way = if is_terminal { Way::Terminal } else { Way::Frames(0) };
        Self {
            outputs: ends.map(|fd| Output { fd, way }),
            credit,
            discards: false,
        }
    }

    /// Returns whether all outputs have ended.
    pub fn are_closed(&self) -> bool {
        self.outputs.iter().all(|output| output.fd.is_none())
    }

    pub fn are_discarded(&self) -> bool {
        self.discards
    }

    pub fn discard(&mut self) {
        self.discards = true;
    }

    /// Gives more credit. Returns `None` if it is more than can be counted.
    pub fn add_credit(&mut self, credit: u32) -> Option<()> {
        self.credit = self.credit.checked_add(credit)?;
        Some(())
    }

    /// Returns whether there is credit for whatever one read gives. What does not fit of a packet is lost.
    pub fn may_print(&self) -> bool {
        self.credit >= PACKET
    }

    fn has_terminal(&self) -> bool {
        self.outputs[0].way == Way::Terminal
    }

    /// Sets the size of the terminal, if there is one.
    pub fn resize(&self, size: Size) {
        if let Some(terminal) = self.outputs[0].open().filter(|_| self.has_terminal()) {
            sys::set_size(terminal, size);
        }
    }

    /// Returns the file descriptor that can be read if there is something.
    pub fn wants_to_read(&self, stream: usize, output_fits: bool) -> Option<Fd> {
        let output = &self.outputs[stream];
        let by_frames = matches!(output.way, Way::Terminal | Way::Frames(_) | Way::Refused);
        output
            .open()
            .filter(|_| self.discards || by_frames && self.may_print() && output_fits)
    }

    /// Returns the file descriptor of a stream that the library reads, of which only the end is waited for.
    pub fn waits_for_hang_up(&self, stream: usize) -> Option<Fd> {
        let output = &self.outputs[stream];
        output.open().filter(|_| output.way == Way::Pipe && !self.discards)
    }

    /// Takes the library's answer whether it reads the pipe that it was offered. Returns `None` if none was offered.
    pub fn answer_pipe(&mut self, stream: usize, is_taken: bool) -> Option<()> {
        let output = self.outputs.get_mut(stream)?;
        if output.way != Way::Offered {
            return None;
        }
        output.way = if is_taken { Way::Pipe } else { Way::Refused };
        Some(())
    }

    /// Returns how many bytes of a stream are to be read for frames before those that are printed from now on.
    pub fn unread(&self, stream: usize) -> usize {
        let output = &self.outputs[stream];
        match (output.open(), output.way) {
            // The library looks for itself.
            (None, _) | (_, Way::Pipe) => 0,
            (Some(_), Way::Terminal) => TTY_ROOM,
            (Some(fd), _) => sys::pending(fd),
        }
    }

    /// Returns whether nothing is in a stream. Of a terminal only a read tells.
    pub fn is_empty(&self, stream: usize) -> bool {
        let is_empty = |fd| !self.has_terminal() && sys::pending(fd) == 0;
        self.outputs[stream].open().is_none_or(is_empty)
    }

    /// Reads a stream a few times, into frames or to nowhere. Offers its pipe after much output.
    pub fn read(&mut self, id: u32, stream: usize, out: &mut Out) -> Read {
        let (kind, end_kind, pipe_kind) = match stream {
            0 => (from_agent::STDOUT, from_agent::STDOUT_END, from_agent::STDOUT_PIPE),
            _ => (from_agent::STDERR, from_agent::STDERR_END, from_agent::STDERR_PIPE),
        };
        let mut read = Read {
            len: 0,
            is_empty: false,
        };
        if let Some(fd) = self.waits_for_hang_up(stream) {
            if sys::hung_up(fd) {
                self.close(stream);
            }
            return read;
        }
        for _ in 0..READS {
            let Some(fd) = self.wants_to_read(stream, out.has_data_room()) else {
                break;
            };
            if let Way::Frames(PIPE_AFTER..) = self.outputs[stream].way
                && !self.discards
                && out.has_room()
                && out.can_pass()
                && out.pass(pipe_kind, id, fd).is_ok()
            {
                // Fewer turns of writer and reader.
                sys::enlarge_pipe(fd, PIPE_SIZE);
                self.outputs[stream].way = Way::Offered;
                break;
            }
            let got = match self.discards {
                true => sys::read(fd, &mut [0; SCRATCH]),
                false => out.data(kind, id, fd, self.credit as usize),
            };
            match got {
                Ok(len @ 1..) => {
                    read.len += len;
                    if !self.discards {
                        self.credit -= len as u32;
                    }
                    if let Way::Frames(count) = &mut self.outputs[stream].way {
                        *count = count.saturating_add(len);
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    read.is_empty = true;
                    break;
                }
                // The end. A terminal that nobody has any more fails instead.
                Ok(0) | Err(_) => {
                    if out.has_room() {
                        self.close(stream);
                        read.is_empty = true;
                        out.frame(end_kind, id, &[]);
                    }
                    break;
                }
            }
        }
        read
    }

    fn close(&mut self, stream: usize) {
        self.outputs[stream].fd = None;
    }

    pub fn close_all(&mut self) {
        self.close(0);
        self.close(1);
    }
}

impl Output {
    fn open(&self) -> Option<Fd> {
        self.fd.as_ref().map(OwnedFd::fd)
    }
}
