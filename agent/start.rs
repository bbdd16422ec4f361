//! Where the kernel enters, and what the compiler takes for granted.

use core::arch::{asm, global_asm};

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

unsafe extern "C" fn start(stack: *const usize) -> ! {
    // Before anything else.
    let pid1 = guard();
    // SAFETY: the kernel's layout: the number of arguments, the arguments, NULL, the environment, NULL. All of it stays
    // where it is for the life of the process.
    let env = unsafe {
        let env = stack.add(1 + *stack + 1) as *const *const u8;
        let mut len = 0;
        while !(*env.add(len)).is_null() {
            len += 1;
        }
        Env::new(core::slice::from_raw_parts(env, len))
    };
    crate::run(pid1, env)
}

// What the compiler calls for copies and comparisons. The crate is `no_builtins`, so these loops stay loops.

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        {
            let words = len / 8;
            for i in 0..words {
                let word = from.cast::<u64>().add(i).read_unaligned();
                to.cast::<u64>().add(i).write_unaligned(word);
            }
            for i in words * 8..len {
                *to.add(i) = *from.add(i);
            }
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        if (to as usize).wrapping_sub(from as usize) >= len {
            return memcpy(to, from, len);
        }
        let mut i = len;
        while i > 0 {
            i -= 1;
            *to.add(i) = *from.add(i);
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("rep stosb", inout("rcx") len => _, inout("rdi") to => _, in("al") byte as u8,
            options(nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        for i in 0..len {
            *to.add(i) = byte as u8;
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe { (*a.add(i), *b.add(i)) };
        if a != b {
            return a as i32 - b as i32;
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { memcmp(a, b, len) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: the caller's promise.
    while unsafe { *text.add(len) } != 0 {
        len += 1;
    }
    len
}

/// The core library's tables name it; nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The container ends with its PID 1: nothing goes on with an agent in an unknown state.
    exit(101)
}
