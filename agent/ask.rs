//! The agent's program as a command: it asks a web server of the container for a page, and prints how the answer begins.

use core::ffi::CStr;

use crate::sys::{self, Errno, connect_loopback, read, write};
use crate::users::number;

/// The argument by which the program is asked to ask.
pub const ASK: &CStr = c"ask";

/// The exit code for words that make no sense.
const NONSENSE: i32 = 2;

/// The parts of a request before and after the path.
const BEFORE: &[u8] = b"GET ";
const AFTER: &[u8] =
    b" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: dockerpool\r\nAccept: */*\r\nConnection: close\r\n\r\n";

/// The most bytes of a request.
const REQUEST: usize = 2048;

/// How many bytes of an answer are printed: `HTTP/1.1 200`.
const HEAD: usize = 12;

/// Takes the port and the path from the words. Prints the beginning of the answer and exits with 0, or exits with the number of the
/// error.
pub fn run(mut words: impl Iterator<Item = &'static CStr>) -> ! {
    let port = words.next().and_then(|word| number(word.to_bytes()));
    let port = port.and_then(|port| u16::try_from(port).ok());
    let (Some(port), Some(path)) = (port, words.next()) else {
        sys::exit(NONSENSE)
    };
    match ask(port, path.to_bytes()) {
        Ok(()) => sys::exit(0),
        Err(Errno(errno)) => sys::exit(errno),
    }
}

fn ask(port: u16, path: &[u8]) -> sys::Result<()> {
    // The first error tells more: many containers have no version 6 of IP.
    let server = connect_loopback(port, false).or_else(|first| connect_loopback(port, true).map_err(|_| first))?;
    let mut request = [0; REQUEST];
    let mut len = 0;
    for part in [BEFORE, path, AFTER] {
        let room = request.get_mut(len..len + part.len()).ok_or(Errno::NAMETOOLONG)?;
        room.copy_from_slice(part);
        len += part.len();
    }
    all(server.fd(), &request[..len])?;
    let mut head = [0; HEAD];
    let mut heard = 0;
    while heard < HEAD {
        match read(server.fd(), &mut head[heard..]) {
            Ok(0) => break,
            Ok(more) => heard += more,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    all(1, &head[..heard])
}

/// Writes all of these bytes.
fn all(fd: sys::Fd, mut bytes: &[u8]) -> sys::Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
