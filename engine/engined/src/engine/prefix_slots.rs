//! Where the inner prefixes lie in shared memory: slots, of which those beyond a count were never used.

use super::region::Shared;
use pellicle_proto::prefix::Prefix;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

#[repr(C)]
pub struct PrefixSlot {
    /// 0: free; else peer << 32 | family << 16 | length << 8 | 1.
    head: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
}

// SAFETY: atomics alone.
unsafe impl Shared for PrefixSlot {}

/// All slots of a memory.
pub struct PrefixSlots<'a> {
    pub all: &'a [PrefixSlot],
    /// How many were ever used.
    pub count: &'a AtomicU32,
}

impl<'a> PrefixSlots<'a> {
    /// Those that were ever used.
    pub fn used(&self) -> &'a [PrefixSlot] {
        &self.all[..(self.count.load(Acquire) as usize).min(self.all.len())]
    }

    /// One more, which is free: none when all are in use.
    pub fn another(&self) -> Option<&'a PrefixSlot> {
        let used = self.count.load(Relaxed) as usize;
        let slot = self.all.get(used)?;
        self.count.store(used as u32 + 1, Release);
        Some(slot)
    }
}

impl PrefixSlot {
    pub fn get(&self) -> Option<(Prefix, u32)> {
        let head = self.head.load(Acquire);
        if head & 1 == 0 {
            return None;
        }
        let bits = u128::from(self.high.load(Relaxed)) << 64 | u128::from(self.low.load(Relaxed));
        Some((Prefix { family: (head >> 16) as u8, length: (head >> 8) as u8, bits }, (head >> 32) as u32))
    }

    pub fn set(&self, prefix: &Prefix, peer: u32) {
        self.high.store((prefix.bits >> 64) as u64, Relaxed);
        self.low.store(prefix.bits as u64, Relaxed);
        let head = u64::from(peer) << 32 | u64::from(prefix.family) << 16 | u64::from(prefix.length) << 8 | 1;
        self.head.store(head, Release);
    }

    pub fn clear(&self) {
        self.head.store(0, Release);
    }
}
