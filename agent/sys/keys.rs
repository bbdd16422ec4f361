//! The keyring of the session, which the engine makes for each container, and which every process of the container has.

use super::call::memory_call;
use super::{Errno, Result};

/// Writes who may do what with the keyring, and the numbers of the keys in it. Where there is none, or a filter of system calls keeps
/// it from everybody, the error is written. Returns the length.
pub fn session_keys(room: &mut [u8]) -> Result<usize> {
    const SESSION: isize = -3;
    const DESCRIBE: usize = 6;
    const READ: usize = 11;
    let mut len = 0;
    for operation in [DESCRIBE, READ] {
        let free = room.get_mut(len..).ok_or(Errno::NOMEM)?;
        // SAFETY: the kernel writes at most the bytes of `free`.
        let told = unsafe { memory_call!(KEYCTL, operation, SESSION, free.as_mut_ptr(), free.len()) };
        len += match told {
            Ok(told) if told > free.len() => return Err(Errno::NOMEM),
            Ok(told) => told,
            Err(error) => {
                let error = error.0.to_ne_bytes();
                free.get_mut(..error.len()).ok_or(Errno::NOMEM)?.copy_from_slice(&error);
                error.len()
            }
        };
    }
    Ok(len)
}
