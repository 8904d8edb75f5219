//! Shared memory cut into parts, and bytes as the words that it consists of.

use pellicle_net::memory::Mapping;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What may lie in shared memory.
///
/// # Safety
/// It consists of atomics alone, so that any bits are a value of it and somebody else may change them at any time.
pub unsafe trait Shared {}

pub struct Region(Mapping);

impl Region {
    pub fn new(mapping: Mapping) -> Region {
        Region(mapping)
    }

    pub fn size(&self) -> usize {
        self.0.size()
    }

    /// `count` values from `offset` on; whoever laid the parts out keeps them aligned and inside.
    pub fn part<T: Shared>(&self, offset: usize, count: usize) -> &[T] {
        debug_assert!(offset.is_multiple_of(align_of::<T>()) && offset + count * size_of::<T>() <= self.size());
        // SAFETY: offsets come from a layout of the whole, which is checked against the size.
        unsafe { std::slice::from_raw_parts(self.0.pointer().add(offset).cast(), count) }
    }
}

#[inline]
pub fn words_to_bytes<const N: usize>(words: &[AtomicU64]) -> [u8; N] {
    let mut bytes = [0; N];
    copy_words(words, &mut bytes);
    bytes
}

/// For secrets, of which no second copy shall lie about.
#[inline]
pub fn copy_words(words: &[AtomicU64], bytes: &mut [u8]) {
    for (part, word) in bytes.chunks_exact_mut(8).zip(words) {
        part.copy_from_slice(&word.load(Relaxed).to_ne_bytes());
    }
}

pub fn bytes_to_words(bytes: &[u8], words: &[AtomicU64]) {
    for (part, word) in bytes.chunks_exact(8).zip(words) {
        let mut eight = [0; 8];
        eight.copy_from_slice(part);
        word.store(u64::from_ne_bytes(eight), Relaxed);
    }
}
