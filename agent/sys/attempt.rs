//! Calls that a sandbox refuses, tried with arguments that do no harm where they are let through.

use super::Result;
use super::call::{call, memory_call};
use super::process::exit;
use super::signal::SIGCHLD;

const AF_ALG: usize = 38;
const AF_VSOCK: usize = 40;
const SOCK_STREAM: usize = 1;
const SOCK_SEQPACKET: usize = 5;
const CLONE_NEWUSER: usize = 0x1000_0000;

/// Tries the call of this name. Returns `None` for a name that is not known.
///
/// A call that succeeds may change this process, which must have no other work.
pub fn attempt(name: &[u8]) -> Option<Result<()>> {
    let result = match name {
        b"af_alg" => call!(SOCKET, AF_ALG, SOCK_SEQPACKET, 0),
        b"af_vsock" => call!(SOCKET, AF_VSOCK, SOCK_STREAM, 0),
        // SAFETY: the kernel refuses 0 entries and a null pointer.
        b"io_uring_setup" => unsafe { memory_call!(IO_URING_SETUP, 0, 0) },
        // SAFETY: there is no such file descriptor, so that no memory is looked at.
        b"io_uring_enter" => unsafe { memory_call!(IO_URING_ENTER, -1i32, 0, 0, 0, 0, 0) },
        // SAFETY: there is no such file descriptor, so that no memory is looked at.
        b"io_uring_register" => unsafe { memory_call!(IO_URING_REGISTER, -1i32, 0, 0, 0) },
        // Faults of the program alone, for which no right is needed.
        b"userfaultfd" => call!(USERFAULTFD, 1),
        // SAFETY: there is no such command, and the kernel refuses a null pointer.
        b"bpf" => unsafe { memory_call!(BPF, 9999, 0, 0) },
        // SAFETY: the operation takes numbers: of the session's keyring, which is not made for this.
        b"keyctl" => unsafe { memory_call!(KEYCTL, 0, -3i32, 0) },
        // SAFETY: the kernel refuses a null pointer.
        b"add_key" => unsafe { memory_call!(ADD_KEY, 0, 0, 0, 0, 0) },
        // SAFETY: the kernel refuses a null pointer.
        b"request_key" => unsafe { memory_call!(REQUEST_KEY, 0, 0, 0, 0) },
        b"setns" => call!(SETNS, -1i32, 0),
        // SAFETY: the kernel refuses a size of 0.
        b"clone3" => unsafe { memory_call!(CLONE3, 0, 0) },
        b"clone_newuser" => clone_user(),
        b"unshare_newuser" => call!(UNSHARE, CLONE_NEWUSER),
        _ => return None,
    };
    Some(result.map(drop))
}

/// Forks a child that has a user namespace of its own, and ends at once.
fn clone_user() -> Result<usize> {
    // SAFETY: without further flags the child has a copy of all memory, its stack too.
    let child = unsafe { memory_call!(CLONE, CLONE_NEWUSER | SIGCHLD as usize, 0, 0, 0, 0) }?;
    if child == 0 {
        exit(0)
    }
    Ok(child)
}
