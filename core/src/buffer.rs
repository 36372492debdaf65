//! Large buffers that are used again.
//!
//! Bodies of megabytes come and go by the thousand, and pass from thread to thread. A general allocator keeps a heap for
//! each thread and leaves gaps in all of them: it took twice the memory that was in use. So what held a body is kept
//! for the next one.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Smaller ones are left to the allocator, which is good at them.
const SMALLEST: usize = 64 << 10;
/// Larger ones are rare, and go back to the system.
const LARGEST: usize = 8 << 20;
/// Capacities are multiples of this, so that one that was large enough once is so again.
const STEP: usize = 32 << 10;
/// What is kept for later in all, at most.
const MOST: usize = 6 << 20;

static FREE: Mutex<Free> = Mutex::new(Free {
    buffers: Vec::new(),
    bytes: 0,
});

/// What waits to be used again.
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Free {
    /// The one that is least too large, unless all are far too large.
    fn take(&mut self, capacity: usize) -> Option<Vec<u8>> {
        let fits = |buffer: &Vec<u8>| (capacity..=2 * capacity).contains(&buffer.capacity());
        let fitting = self.buffers.iter().enumerate().filter(|(_, b)| fits(b));
        let (at, _) = fitting.min_by_key(|(_, buffer)| buffer.capacity())?;
        let buffer = self.buffers.swap_remove(at);
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Gives back what there is no room for.
    fn keep(&mut self, buffer: Vec<u8>) -> Option<Vec<u8>> {
        if self.bytes + buffer.capacity() > MOST {
            return Some(buffer);
        }
        self.bytes += buffer.capacity();
        self.buffers.push(buffer);
        None
    }
}

fn free<T>(with: impl FnOnce(&mut Free) -> T) -> T {
    with(&mut FREE.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A buffer that is kept for the next body once nobody has it any more, if it is a large one.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// All that was ever written, by whomever: what is written over need not be cleared before.
    bytes: Vec<u8>,
    len: usize,
}

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            len: 0,
        }
    }

    /// An empty one with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let bytes = if (SMALLEST..=LARGEST).contains(&capacity) {
            free(|free| free.take(capacity))
                .unwrap_or_else(|| Vec::with_capacity(capacity.next_multiple_of(STEP)))
        } else {
            Vec::with_capacity(capacity)
        };
        Self { bytes, len: 0 }
    }

    /// Makes room for `more` bytes.
    pub(crate) fn make_room(&mut self, more: usize) {
        let wanted = self.len + more;
        if wanted > self.bytes.capacity() {
            let mut larger = Self::with_capacity(wanted.max(2 * self.len));
            larger.extend_from_slice(self);
            *self = larger;
        }
    }

    /// Appends these bytes.
    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        let over = bytes.len().min(self.bytes.len() - self.len);
        let (over, behind) = bytes.split_at(over);
        self.bytes[self.len..][..over.len()].copy_from_slice(over);
        self.bytes.extend_from_slice(behind);
        self.len += bytes.len();
    }

    /// Appends so many bytes, for the caller to write: they may be anything.
    pub(crate) fn lengthen(&mut self, more: usize) -> &mut [u8] {
        let start = self.len;
        self.len += more;
        if self.bytes.len() < self.len {
            self.bytes.resize(self.len, 0);
        }
        &mut self.bytes[start..self.len]
    }

    /// Keeps the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The same bytes, to be shared and sliced. They hold at most twice the memory that they need: whoever keeps them
    /// counts their length, and a thousand small bodies would hold a thousand large buffers.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.len < self.bytes.capacity() / 2 {
            return Bytes::copy_from_slice(&self);
        }
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if (SMALLEST..=LARGEST).contains(&self.bytes.capacity()) {
            let bytes = std::mem::take(&mut self.bytes);
            // What is left over is freed when the lock is not held.
            drop(free(|free| free.keep(bytes)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_for_what_is_about_as_large() {
        let mut free = Free {
            buffers: Vec::new(),
            bytes: 0,
        };
        assert!(free.keep(Vec::with_capacity(1 << 20)).is_none());
        assert!(free.take(2 << 20).is_none(), "it is too small");
        assert!(free.take(100 << 10).is_none(), "it is far too large");
        assert_eq!(free.take(900 << 10).unwrap().capacity(), 1 << 20);
        assert_eq!((free.bytes, free.buffers.len()), (0, 0));
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let mut free = Free {
            buffers: Vec::new(),
            bytes: 0,
        };
        for _ in 0..MOST >> 20 {
            assert!(free.keep(Vec::with_capacity(1 << 20)).is_none());
        }
        assert!(free.keep(Vec::with_capacity(1 << 20)).is_some());
    }

    #[test]
    fn a_small_body_does_not_keep_a_large_buffer() {
        let whose = |bytes: usize| {
            let mut buffer = Buffer::with_capacity(1 << 20);
            buffer.lengthen(bytes).fill(b'x');
            let at = buffer.as_ptr();
            let shared = buffer.into_bytes();
            assert_eq!(shared.len(), bytes);
            shared.as_ptr() == at
        };
        assert!(whose(1 << 20), "nothing need be copied");
        assert!(!whose(7 << 10));
    }

    #[test]
    fn what_was_there_before_shows_only_where_the_caller_is_to_write() {
        let mut buffer = Buffer::with_capacity(16);
        buffer.extend_from_slice(b"another's bytes");
        buffer.truncate(2);
        buffer.extend_from_slice(b"y of");
        assert_eq!(&buffer[..], b"any of");
        buffer.lengthen(3).copy_from_slice(b" us");
        assert_eq!(&buffer[..], b"any of us");
        buffer.clear();
        buffer.extend_from_slice(b"more than there was before");
        assert_eq!(&buffer[..], b"more than there was before");
        assert_eq!(*buffer.lengthen(100), [0; 100]);
        assert_eq!(buffer.len(), 126);
    }

    #[test]
    fn bytes_stay_as_they_are_while_they_are_shared() {
        let mut buffer = Buffer::with_capacity(100 << 10);
        buffer.extend_from_slice(b"first");
        buffer.make_room(1 << 20);
        let bytes = buffer.into_bytes();
        let slice = bytes.slice(1..3);
        drop(bytes);
        let mut other = Buffer::with_capacity(1 << 20);
        other.lengthen(1 << 20).fill(b'x');
        assert_eq!(&slice[..], b"ir");
    }
}
