//! Memory, as types that own it: nothing else can unmap it, or take it for values that were never written.

use core::ffi::CStr;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::AtomicU32;

use super::call::memory_call;
use super::{Errno, Result};

const MAP_SHARED: usize = 1;
const MAP_PRIVATE: usize = 2;

/// Maps fresh memory, which is all zero. Only pages that are touched count.
fn map(len: usize, sharing: usize) -> Result<NonNull<u8>> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_ANONYMOUS: usize = 0x20;
    let flags = sharing | MAP_ANONYMOUS;
    // SAFETY: the kernel chooses an address at which there is nothing.
    let at = unsafe { memory_call!(MMAP, 0, len, PROT_READ_WRITE, flags, -1i32, 0) }?;
    NonNull::new(at as *mut u8).ok_or(Errno::NOMEM)
}

/// Private pages with room for so many values of a type, which are unmapped on drop. Room for nothing has no pages.
struct Pages<T> {
    at: NonNull<T>,
    count: usize,
}

impl<T> Pages<T> {
    /// The smallest page that there is.
    const PAGE: usize = 4096;

    fn map(count: usize) -> Result<Self> {
        const { assert!(align_of::<T>() <= Self::PAGE) };
        let at = match Self::bytes(count).ok_or(Errno::NOMEM)? {
            0 => NonNull::dangling(),
            bytes => map(bytes, MAP_PRIVATE)?.cast(),
        };
        Ok(Self { at, count })
    }

    fn bytes(count: usize) -> Option<usize> {
        count.checked_mul(size_of::<T>())
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        if let Some(bytes @ 1..) = Self::bytes(self.count) {
            // SAFETY: these pages were mapped by `map` and are unmapped once. All borrows from them are borrows of
            // `self`, and so have ended.
            let _ = unsafe { memory_call!(MUNMAP, self.at.as_ptr(), bytes) };
        }
    }
}

/// Bytes in pages of their own, zero at first.
pub struct Bytes(Pages<u8>);

impl Bytes {
    pub fn new(len: usize) -> Result<Self> {
        Pages::map(len).map(Self)
    }

    /// Gives the memory back to the kernel. All bytes are zero afterwards.
    pub fn clear(&mut self) {
        const MADV_DONTNEED: usize = 4;
        if self.0.count > 0 {
            // SAFETY: the pages are private and have no file, so they read as zeros afterwards, which are bytes. Nobody
            // else borrows them.
            let _ = unsafe { memory_call!(MADVISE, self.0.at.as_ptr(), self.0.count, MADV_DONTNEED) };
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped, and zero is a byte.
        unsafe { core::slice::from_raw_parts(self.0.at.as_ptr(), self.0.count) }
    }
}

impl DerefMut for Bytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: so many bytes are mapped, zero is a byte, and `self` is borrowed for as long.
        unsafe { core::slice::from_raw_parts_mut(self.0.at.as_ptr(), self.0.count) }
    }
}

/// A list with room for a fixed number of values.
pub struct List<T> {
    pages: Pages<T>,
    /// The first values, which were written.
    len: usize,
}

impl<T> List<T> {
    pub fn new(room: usize) -> Result<Self> {
        Ok(Self {
            pages: Pages::map(room)?,
            len: 0,
        })
    }

    /// Appends a value. Fails if there is no room left.
    pub fn push(&mut self, value: T) -> Result<()> {
        if self.len == self.pages.count {
            return Err(Errno::NOMEM);
        }
        let place = self.pages.at.as_ptr().wrapping_add(self.len);
        // SAFETY: the place is within the pages, which are aligned for any `T` that `Pages::map` lets through.
        unsafe { place.write(value) };
        self.len += 1;
        Ok(())
    }

    /// Drops all values.
    pub fn clear(&mut self) {
        let values: *mut [T] = &mut **self;
        self.len = 0;
        // SAFETY: all of these were written, and since `len` is 0 none of them is used again.
        unsafe { values.drop_in_place() };
    }
}

impl<T> Drop for List<T> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many values were written.
        unsafe { core::slice::from_raw_parts(self.pages.at.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for List<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: so many values were written, and `self` is borrowed for as long.
        unsafe { core::slice::from_raw_parts_mut(self.pages.at.as_ptr(), self.len) }
    }
}

/// The arguments or the environment of a program, as the kernel takes them: pointers to texts, and a null pointer.
pub struct Texts<'a> {
    list: List<*const u8>,
    texts: PhantomData<&'a CStr>,
}

impl<'a> Texts<'a> {
    pub fn new(room: usize) -> Result<Self> {
        Ok(Self {
            list: List::new(room.saturating_add(1))?,
            texts: PhantomData,
        })
    }

    pub fn push(&mut self, text: &'a CStr) -> Result<()> {
        self.list.push(text.as_ptr().cast())
    }

    /// Ends the list. Where it points to stays valid for as long as the list does.
    pub(super) fn end(&mut self) -> Result<*const *const u8> {
        self.list.push(core::ptr::null())?;
        Ok(self.list.as_ptr())
    }
}

/// Numbers that forked children can write to as well until they execute a program.
pub type SharedNumbers = &'static [AtomicU32];

/// Maps shared numbers, zero at first. They stay mapped.
pub fn shared_numbers(count: usize) -> Result<SharedNumbers> {
    let bytes = count.checked_mul(size_of::<AtomicU32>()).ok_or(Errno::NOMEM)?;
    let at = map(bytes, MAP_SHARED)?.cast();
    // SAFETY: so many numbers are mapped and nobody unmaps them. Zero is a number, and atomics may be shared.
    Ok(unsafe { core::slice::from_raw_parts(at.as_ptr(), count) })
}
