//! Empties directories.

use core::ffi::CStr;

use crate::sys::{self, Errno, Fd};

/// Out of time.
const ETIME: Errno = Errno(62);

/// How many entries between two looks at the clock.
const CLOCK_CHECK: u32 = 128;

/// What was done so far.
struct Wipe {
    until: u64,
    entries: u32,
    next_name: u32,
}

/// Removes everything in a directory, but not the directory itself, following no symbolic link and leaving no mount.
pub fn empty(path: &CStr, until: u64) -> sys::Result<()> {
    let top = sys::open_dir(None, path)?;
    let mut wipe = Wipe {
        until,
        entries: 0,
        next_name: 0,
    };
    let done = wipe.top(top);
    sys::close(top);
    done
}

impl Wipe {
    fn tick(&mut self) -> sys::Result<()> {
        self.entries += 1;
        if self.entries % CLOCK_CHECK == 0 && sys::now() > self.until {
            return Err(ETIME);
        }
        Ok(())
    }

    /// Goes over it until nothing is left or nothing moves. A directory within one of its own is moved up here before it
    /// is emptied, so that no depth can use up descriptors or the stack.
    fn top(&mut self, top: Fd) -> sys::Result<()> {
        loop {
            let (mut left, mut moved) = (None, false);
            self.each(top, |wipe, name| {
                let done = match remove(top, name) {
                    Err(NOT_EMPTY) => wipe.flatten(top, name),
                    done => done,
                };
                match done {
                    Ok(()) => moved = true,
                    Err(ETIME) => return Err(ETIME),
                    Err(error) => left = Some(error),
                }
                Ok(())
            })?;
            match left {
                _ if moved => {}
                None => return Ok(()),
                Some(error) => return Err(error),
            }
        }
    }

    /// Removes a directory; those in it that are not empty are moved to the top.
    fn flatten(&mut self, top: Fd, name: &CStr) -> sys::Result<()> {
        let dir = match sys::open_dir(Some(top), name) {
            Err(Errno::ACCES) => {
                sys::open_up(top, name);
                sys::open_dir(Some(top), name)?
            }
            dir => dir?,
        };
        let done = self.each(dir, |wipe, entry| match remove(dir, entry) {
            Err(NOT_EMPTY) => wipe.move_up(dir, entry, top),
            Err(Errno::ACCES) => {
                sys::open_up(top, name);
                remove(dir, entry)
            }
            done => done,
        });
        sys::close(dir);
        done?;
        sys::rmdir(top, name)
    }

    fn move_up(&mut self, dir: Fd, name: &CStr, top: Fd) -> sys::Result<()> {
        // Its parent changes, so it must be writable.
        sys::open_up(dir, name);
        loop {
            let mut new = *b".dockerpool-wipe-00000000\0";
            for (i, digit) in new[17..25].iter_mut().enumerate() {
                *digit = b"0123456789abcdef"[(self.next_name >> (28 - 4 * i)) as usize & 15];
            }
            self.next_name = self.next_name.wrapping_add(1);
            let Ok(new) = CStr::from_bytes_with_nul(&new) else {
                return Err(Errno::INVAL);
            };
            match sys::rename(dir, name, top, new) {
                Err(EXIST) => self.tick()?,
                done => return done,
            }
        }
    }

    fn each(&mut self, dir: Fd, mut act: impl FnMut(&mut Self, &CStr) -> sys::Result<()>) -> sys::Result<()> {
        let mut buf = [0; 4096];
        sys::rewind(dir);
        loop {
            let len = sys::read_dir(dir, &mut buf)?;
            if len == 0 {
                return Ok(());
            }
            for name in sys::entries(&buf[..len]) {
                if name != c"." && name != c".." {
                    self.tick()?;
                    act(self, name)?;
                }
            }
        }
    }
}

const NOT_EMPTY: Errno = Errno(39);
const EXIST: Errno = Errno(17);

/// A file, or an empty directory.
fn remove(dir: Fd, name: &CStr) -> sys::Result<()> {
    match sys::unlink(dir, name) {
        Err(Errno::ISDIR | Errno::PERM) => sys::rmdir(dir, name),
        done => done,
    }
}
