//! Bytes on their way from one file descriptor to another.

use crate::sys::{self, Bytes};

/// A buffer of which more bytes than this were touched gives its memory back when it is trimmed.
const KEEP: usize = 8 * 1024;

/// A queue of bytes in one piece of memory.
pub struct Buffer {
    bytes: Bytes,
    /// The queue is `bytes[start..end]`.
    start: usize,
    end: usize,
    /// The number of bytes that have been touched since the last trim.
    touched: usize,
}

impl Buffer {
    pub fn new(size: usize) -> sys::Result<Self> {
        Ok(Self {
            bytes: Bytes::new(size)?,
            start: 0,
            end: 0,
            touched: 0,
        })
    }

    /// Returns the queued bytes.
    pub fn queued(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the free bytes after the queue. [`add`](Self::add) queues the first of them.
    pub fn free(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Returns the number of free bytes after the queue.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// Returns the number of bytes before the queue. They are free after [`move_to_front`](Self::move_to_front).
    pub fn taken(&self) -> usize {
        self.start
    }

    /// Queues the first `len` free bytes, which were written.
    pub fn add(&mut self, len: usize) {
        assert!(len <= self.room());
        self.end += len;
        self.touched = self.touched.max(self.end);
    }

    /// Queues a copy of these bytes, for which there must be room.
    #[inline(never)]
    pub fn push(&mut self, bytes: &[u8]) {
        self.free()[..bytes.len()].copy_from_slice(bytes);
        self.add(bytes.len());
    }

    /// Removes the first `len` bytes of the queue.
    #[inline(never)]
    pub fn take(&mut self, len: usize) {
        assert!(len <= self.queued().len());
        self.start += len;
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Moves the queue to the front, so that all free bytes are after it.
    #[inline(never)]
    pub fn move_to_front(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
    }

    /// Gives the memory of an empty buffer back, if much of it was touched.
    pub fn trim(&mut self) {
        if self.is_empty() && self.touched > KEEP {
            self.bytes.clear();
            self.touched = 0;
        }
    }
}
