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
const STEP: usize = 256 << 10;
/// What is kept for later in all, at most.
const MOST: usize = 8 << 20;

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
        let fits = |buffer: &Vec<u8>| (capacity..=4 * capacity).contains(&buffer.capacity());
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
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    /// An empty one with room for `capacity` bytes.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        if !(SMALLEST..=LARGEST).contains(&capacity) {
            return Self(Vec::with_capacity(capacity));
        }
        let used = free(|free| free.take(capacity));
        Self(used.unwrap_or_else(|| Vec::with_capacity(capacity.next_multiple_of(STEP))))
    }

    /// Makes room for `more` bytes.
    pub(crate) fn make_room(&mut self, more: usize) {
        let wanted = self.len() + more;
        if wanted > self.capacity() {
            let mut larger = Self::with_capacity(wanted.max(2 * self.len()));
            larger.extend_from_slice(self);
            *self = larger;
        }
    }

    /// The same bytes, to be shared and sliced. They hold at most twice the memory that they need: whoever keeps them
    /// counts their length, and a thousand small bodies would hold a thousand large buffers.
    pub(crate) fn into_bytes(self) -> Bytes {
        if self.len() < self.capacity() / 2 {
            return Bytes::copy_from_slice(&self);
        }
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if !(SMALLEST..=LARGEST).contains(&self.0.capacity()) {
            return;
        }
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        // What is left over is freed when the lock is not held.
        drop(free(|free| free.keep(buffer)));
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
            buffer.resize(bytes, b'x');
            let at = buffer.as_ptr();
            let shared = buffer.into_bytes();
            assert_eq!(shared.len(), bytes);
            shared.as_ptr() == at
        };
        assert!(whose(1 << 20), "nothing need be copied");
        assert!(!whose(7 << 10));
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
        other.resize(1 << 20, b'x');
        assert_eq!(&slice[..], b"ir");
    }
}
