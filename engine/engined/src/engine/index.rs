//! From a receiver index to a session: open addressing, read without lock. The control thread alone changes it, one entry
//! at a time, so that a handshake costs the same beside two peers and beside two thousand.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};

/// Receiver index in the upper half, number of the session slot + 1 in the lower one; `EMPTY` ends a search, `GONE` does
/// not.
pub struct Index {
    entries: Box<[AtomicU64]>,
    /// Entries that are not `EMPTY`.
    used: AtomicUsize,
}

const EMPTY: u64 = 0;
const GONE: u64 = u64::MAX;
const LEAST: usize = 64;

impl Default for Index {
    fn default() -> Self {
        Index::new(&[])
    }
}

impl Index {
    /// Of (receiver index, number of the session slot); there is room for as many again.
    pub fn new(sessions: &[(u32, u32)]) -> Index {
        let size = (sessions.len() * 4).next_power_of_two().max(LEAST);
        let index = Index { entries: (0..size).map(|_| AtomicU64::new(EMPTY)).collect(), used: AtomicUsize::new(0) };
        for (local, slot) in sessions {
            index.insert(*local, *slot as usize);
        }
        index
    }

    /// Holds for every packet that comes later. False, and nothing is done, when half of the entries are used up: it is to
    /// be made anew.
    #[must_use]
    pub fn set(&self, local: u32, slot: usize) -> bool {
        let room = self.used.load(Relaxed) * 2 < self.entries.len();
        if room {
            self.insert(local, slot);
        }
        room
    }

    fn insert(&self, local: u32, slot: usize) {
        let (mut free, mut there) = (None, None);
        for at in self.way(local) {
            match self.entries[at].load(Relaxed) {
                EMPTY => {
                    free = free.or_else(|| {
                        self.used.fetch_add(1, Relaxed);
                        Some(at)
                    });
                    break;
                }
                GONE => free = free.or(Some(at)),
                entry if (entry >> 32) as u32 == local => there = Some(at),
                _ => {}
            }
        }
        if let Some(at) = there.or(free) {
            self.entries[at].store(u64::from(local) << 32 | (slot as u64 + 1), SeqCst);
        }
    }

    /// Only if it leads to that slot. Packets of a running batch may still have found it.
    pub fn remove(&self, local: u32, slot: usize) {
        let entry = u64::from(local) << 32 | (slot as u64 + 1);
        for at in self.way(local) {
            match self.entries[at].load(Relaxed) {
                EMPTY => return,
                found if found == entry => return self.entries[at].store(GONE, SeqCst),
                _ => {}
            }
        }
    }

    #[inline]
    pub fn get(&self, local: u32) -> Option<usize> {
        for at in self.way(local) {
            match self.entries[at].load(Acquire) {
                EMPTY => return None,
                GONE => {}
                entry if (entry >> 32) as u32 == local => return Some(entry as u32 as usize - 1),
                _ => {}
            }
        }
        None
    }

    /// Where to look, in order: every entry once.
    #[inline]
    fn way(&self, local: u32) -> impl Iterator<Item = usize> + use<> {
        let (start, mask) = ((local.wrapping_mul(0x9e37_79b1) >> 7) as usize, self.entries.len() - 1);
        (0..=mask).map(move |step| (start + step) & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn finds_what_is_there() {
        let sessions: Vec<(u32, u32)> = (0..1000u32).map(|slot| (slot.wrapping_mul(0x0100_0193), slot)).collect();
        let index = Index::new(&sessions);
        assert!(sessions.iter().all(|(local, slot)| index.get(*local) == Some(*slot as usize)));
        assert_eq!(index.get(1), None);
        assert_eq!(Index::new(&[]).get(0), None);
    }

    #[test]
    fn says_when_it_is_full() {
        let index = Index::default();
        assert!((1..=LEAST as u32 / 2).all(|local| index.set(local, 7)));
        assert!(!index.set(1000, 7));
        assert_eq!(index.get(1000), None);
        (1..=LEAST as u32 / 2).for_each(|local| index.remove(local, 7));
        assert!(!index.set(1000, 7), "what is gone still lengthens searches");
        assert_eq!((1..=LEAST as u32).find_map(|local| index.get(local)), None);
    }

    proptest! {
        /// Few receiver indices, many of which begin their search at the same entry.
        #[test]
        fn is_a_map(steps in prop::collection::vec((any::<bool>(), 0u32..12, 0usize..4), 0..400)) {
            let locals: Vec<u32> = (1..).filter(|local: &u32| local.wrapping_mul(0x9e37_79b1) >> 7 & 63 < 3).take(12).collect();
            let mut index = Index::default();
            let mut known = HashMap::new();
            for (add, local, slot) in steps {
                let local = locals[local as usize];
                if !add {
                    index.remove(local, slot);
                    if known.get(&local) == Some(&slot) {
                        known.remove(&local);
                    }
                } else {
                    if !index.set(local, slot) {
                        index = Index::new(&known.iter().map(|(local, slot)| (*local, *slot as u32)).collect::<Vec<_>>());
                        prop_assert!(index.set(local, slot));
                    }
                    known.insert(local, slot);
                }
                for local in &locals {
                    prop_assert_eq!(index.get(*local), known.get(local).copied());
                }
            }
        }
    }
}
