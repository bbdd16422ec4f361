//! The entry point, and the functions that compiled code takes for granted.

use core::arch::global_asm;

use crate::ask::{self, ASK};
use crate::look::{self, LOOK};
use crate::sys::{Env, exit, guard};

// The kernel enters here, with the arguments and the environment on the stack.
#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {start}",
    "ud2",
    start = sym start,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x30, #0",
    "mov x0, sp",
    "bl {start}",
    "brk #1",
    start = sym start,
);

/// Reads what the kernel has put on the stack, and runs the agent.
///
/// # Safety
///
/// `stack` must be where the kernel has put, in this order: the number of arguments, the arguments, a null pointer, the
/// environment, a null pointer.
unsafe extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the number of arguments comes first.
    let args = unsafe { stack.read() };
    let words = stack.wrapping_add(1).cast::<*const u8>();
    // SAFETY: so many arguments follow.
    let words = unsafe { core::slice::from_raw_parts(words, args) };
    // SAFETY: the kernel ends each argument with NUL, and nothing changes it.
    let words = unsafe { Env::new(words) };
    let mut words = words.texts().skip(1);
    match words.next() {
        Some(word) if word == LOOK => look::run(words),
        Some(word) if word == ASK => ask::run(words),
        _ => {}
    }
    // Before anything else that the agent does.
    let pid1 = guard();
    let env = stack.wrapping_add(1 + args + 1).cast::<*const u8>();
    let mut len = 0;
    // SAFETY: the list goes at least as far as its null pointer.
    while !unsafe { env.wrapping_add(len).read() }.is_null() {
        len += 1;
    }
    // SAFETY: so many pointers were read, and nothing changes them for the life of the process.
    let texts = unsafe { core::slice::from_raw_parts(env, len) };
    // SAFETY: the kernel ends each variable with NUL, and nothing changes it.
    let env = unsafe { Env::new(texts) };
    crate::run(pid1, env)
}

// The compiler calls these functions for copies and comparisons. The crate is `no_builtins`, so these loops stay loops.
// Their callers promise what those of C's functions of the same names promise.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction copies `len` bytes upwards, which the caller has at both addresses.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    {
        let words = len / 8;
        for i in 0..words {
            // SAFETY: the word is within the `len` bytes that the caller has there.
            let word = unsafe { from.cast::<u64>().wrapping_add(i).read_unaligned() };
            // SAFETY: as above.
            unsafe { to.cast::<u64>().wrapping_add(i).write_unaligned(word) };
        }
        for i in words * 8..len {
            // SAFETY: the byte is one of `len`.
            let byte = unsafe { from.wrapping_add(i).read() };
            // SAFETY: as above.
            unsafe { to.wrapping_add(i).write(byte) };
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: `to` does not begin within `from`, so that a copy upwards reads each byte before it is overwritten.
        return unsafe { memcpy(to, from, len) };
    }
    for i in (0..len).rev() {
        // SAFETY: the byte is one of `len`, and downwards none was overwritten yet.
        let byte = unsafe { from.wrapping_add(i).read() };
        // SAFETY: the byte is one of `len`.
        unsafe { to.wrapping_add(i).write(byte) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the instruction writes `len` bytes, which the caller has there.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
    }
    #[cfg(target_arch = "aarch64")]
    for i in 0..len {
        // SAFETY: the byte is one of `len`.
        unsafe { to.wrapping_add(i).write(byte as u8) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: the byte is one of `len`.
        let a = unsafe { a.wrapping_add(i).read() };
        // SAFETY: as above.
        let b = unsafe { b.wrapping_add(i).read() };
        if a != b {
            return a as i32 - b as i32;
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the promises of both are the same.
    unsafe { memcmp(a, b, len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the text goes at least as far as its NUL.
    while unsafe { text.wrapping_add(len).read() } != 0 {
        len += 1;
    }
    len
}

/// Is named by the core library's tables. Nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The container ends with its PID 1, and so nothing goes on with an agent in an unknown state.
    exit(101)
}
