//! Memory.

use core::ffi::CStr;
use core::sync::atomic::AtomicU32;

use super::Result;
use super::call::call;
use crate::tree::Process;

const PROT_READ_WRITE: usize = 3;
const MAP_PRIVATE: usize = 2;
const MAP_SHARED: usize = 1;
const MAP_ANONYMOUS: usize = 0x20;

/// Fresh memory, all zero; only what is touched counts.
pub fn map(len: usize) -> Result<&'static mut [u8]> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let at = call!(MMAP, 0, len, PROT_READ_WRITE, flags, -1i32 as isize, 0)?;
    // SAFETY: memory of this length that is nobody else's, until `unmap`.
    Ok(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, len) })
}

pub fn unmap(memory: &'static mut [u8]) {
    let _ = call!(MUNMAP, memory.as_mut_ptr(), memory.len());
}

/// Gives the memory back; it is zero afterwards.
pub fn forget(memory: &mut [u8]) {
    const MADV_DONTNEED: usize = 4;
    let _ = call!(MADVISE, memory.as_mut_ptr(), memory.len(), MADV_DONTNEED);
}

/// Numbers that forked children can write to as well, until they exec.
pub fn map_shared(count: usize) -> Result<&'static [AtomicU32]> {
    let flags = MAP_SHARED | MAP_ANONYMOUS;
    let at = call!(MMAP, 0, count * 4, PROT_READ_WRITE, flags, -1i32 as isize, 0)?;
    // SAFETY: memory of this length that stays mapped for the life of the process; atomics may be shared.
    Ok(unsafe { core::slice::from_raw_parts(at as *const AtomicU32, count) })
}

/// Fresh memory of [`map`] as a list of processes.
pub fn as_processes(memory: &mut [u8]) -> &mut [Process] {
    // SAFETY: its pages are aligned for anything; every bit pattern that the agent writes is of a `Process`, and zero is
    // one too.
    let (_, processes, _) = unsafe { memory.align_to_mut::<Process>() };
    processes
}

/// Memory for a list of pointers, all null.
pub fn map_pointers(count: usize) -> Result<&'static mut [*const u8]> {
    let memory = map(count * size_of::<*const u8>())?;
    // SAFETY: pages are aligned for pointers, and zero is the null pointer.
    Ok(unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr() as *mut *const u8, count) })
}

/// These texts as a list, `most` of them at most.
pub fn list<'a>(texts: impl Iterator<Item = &'a CStr>, most: usize) -> Result<&'a [&'a CStr]> {
    let at = map((most * size_of::<&CStr>()).max(1))?.as_mut_ptr() as *mut &'a CStr;
    let mut count = 0;
    for text in texts.take(most) {
        // SAFETY: below `most`, for which there is room; pages are aligned for anything.
        unsafe { at.add(count).write(text) };
        count += 1;
    }
    // SAFETY: so many were written, and the memory is nobody else's.
    Ok(unsafe { core::slice::from_raw_parts(at, count) })
}

/// Fresh memory with a value in each place.
pub fn map_values<T: 'static>(count: usize, value: impl Fn() -> T) -> Result<&'static mut [T]> {
    let at = map(count * size_of::<T>())?.as_mut_ptr().cast::<T>();
    // SAFETY: memory of this size that is nobody else's and stays, aligned as pages are; each place is written before it
    // is lent.
    unsafe {
        for i in 0..count {
            at.add(i).write(value());
        }
        Ok(core::slice::from_raw_parts_mut(at, count))
    }
}
