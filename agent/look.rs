//! The agent's program as a command: it prints files of the kernel's, and tries calls that a sandbox is to refuse.
//!
//! Whoever may run commands in the container can run this too, and learns and does nothing that any program could not.

use core::ffi::CStr;

use crate::sys::{self, Bytes, Errno, open_regular, read};
use crate::users::decimal;

/// The argument by which the program is asked to look.
pub const LOOK: &CStr = c"look";

/// The most bytes of a file that are printed.
const MOST: usize = 256 * 1024;

/// Looks at each of the words, which is the path of a file or the name of a call, prints what was seen, and exits.
pub fn run(words: impl Iterator<Item = &'static CStr>) -> ! {
    for word in words {
        match word.to_bytes() {
            [b'/', ..] => file(word),
            _ => call(word),
        }
    }
    sys::exit(0)
}

/// Prints a file: `file PATH LENGTH`, and its bytes on the lines after it. The length of a file that cannot be read is the
/// negative error.
fn file(path: &CStr) {
    let Ok(mut bytes) = Bytes::new(MOST) else { sys::exit(1) };
    let whole = open_regular(path).and_then(|fd| {
        let mut len = 0;
        loop {
            match read(fd.fd(), &mut bytes[len..])? {
                0 => return Ok(len),
                more => len += more,
            }
        }
    });
    print(b"file ");
    print(path.to_bytes());
    match whole {
        Ok(len) => {
            print(b" ");
            number(len as u64);
            print(b"\n");
            print(&bytes[..len]);
        }
        Err(Errno(errno)) => {
            print(b" -");
            number(errno as u64);
        }
    }
    print(b"\n");
}

/// Tries a call, and prints `call NAME ERROR`. The error is 0 where the call succeeded, and `?` for an unknown name.
fn call(name: &CStr) {
    print(b"call ");
    print(name.to_bytes());
    print(b" ");
    match sys::attempt(name.to_bytes()) {
        Some(Ok(())) => number(0),
        Some(Err(Errno(errno))) => number(errno as u64),
        None => print(b"?"),
    }
    print(b"\n");
}

fn number(number: u64) {
    print(decimal(number, &mut [0; 20]));
}

fn print(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match sys::write(1, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(_) => sys::exit(1),
        }
    }
}
