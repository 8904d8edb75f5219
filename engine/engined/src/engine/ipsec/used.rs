//! Every key that was ever used in the life of the shared memory, and how far: a sequence number must not be used twice
//! with a key, nor taken twice, whichever association the key comes with.

use super::super::region::{bytes_to_words, words_to_bytes};
use super::memory::Memory;
use pellicle_crypto::digest::sha256;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// No more numbers are given out from here on; what is left cannot be used up by those who ask in vain.
pub const LAST: u64 = u64::MAX - (1 << 40);

#[repr(C)]
pub struct UsedKey {
    name: [AtomicU64; 4],
    /// To send by: the next number. To receive by: the highest that was taken, + 1.
    pub next: AtomicU64,
}

/// What a key is used for; the same one may serve both ways.
#[derive(Clone, Copy)]
pub enum Use {
    Sending,
    Receiving,
}

/// The key's number among the used ones; `None` when it is not there and there is no more room. One thread alone may
/// call this. `encryption` is all that counts: other authentication or another length of the ICV does not make a
/// sequence number new.
pub fn number(memory: &Memory, purpose: Use, encryption: &[u8]) -> Option<usize> {
    let (room, count) = memory.used_keys();
    let name = sha256(&[b"pellicle used key", &[purpose as u8], encryption]);
    let used = (count.load(Acquire) as usize).min(room.len());
    let known = room[..used].iter().position(|key| words_to_bytes(&key.name) == name);
    if known.is_some() {
        return known;
    }
    let key = room.get(used)?;
    bytes_to_words(&name, &key.name);
    // numbers begin at 1 (RFC 4303, section 3.3.3); of what was received nothing is known
    key.next.store(if matches!(purpose, Use::Sending) { 1 } else { 0 }, Relaxed);
    count.store(used as u32 + 1, Release);
    Some(used)
}

impl UsedKey {
    /// Takes `count` numbers for good: whatever happens next, nobody gets them again. `None`: they are used up.
    #[inline]
    pub fn reserve(&self, count: usize) -> Option<u64> {
        if self.next.load(Relaxed) >= LAST {
            return None;
        }
        Some(self.next.fetch_add(count as u64, SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellicle_net::memory::{Mapping, create};

    fn memory(max_peers: u32) -> Memory {
        let file = create(c"pellicle-test", Memory::size(max_peers as usize)).expect("shared memory");
        Memory::format(Mapping::new(&file).expect("a mapping"), max_peers, [1; 16])
    }

    #[test]
    fn a_key_keeps_its_number() {
        let memory = memory(1);
        let first = number(&memory, Use::Sending, &[1; 20]).expect("room");
        assert_eq!(memory.used_keys().0[first].reserve(5), Some(1));
        let second = number(&memory, Use::Sending, &[2; 20]).expect("room");
        let receiving = number(&memory, Use::Receiving, &[1; 20]).expect("room");
        assert!(first != second && first != receiving && second != receiving);
        assert_eq!(number(&memory, Use::Sending, &[1; 20]), Some(first));
        assert_eq!(memory.used_keys().0[first].reserve(1), Some(6));
        assert_eq!(memory.used_keys().0[second].reserve(1), Some(1));
    }

    #[test]
    fn room_ends_but_known_keys_stay() {
        let memory = memory(1);
        let room = memory.used_keys().0.len();
        assert!(room >= 16);
        for key in 0..room {
            assert_eq!(number(&memory, Use::Sending, &[key as u8; 36]), Some(key));
        }
        assert_eq!(number(&memory, Use::Sending, &[room as u8; 36]), None);
        assert_eq!(number(&memory, Use::Sending, &[3; 36]), Some(3));
    }

    #[test]
    fn numbers_end() {
        let memory = memory(1);
        let key = &memory.used_keys().0[number(&memory, Use::Sending, &[1; 20]).expect("room")];
        key.next.store(LAST - 1, Relaxed);
        assert_eq!(key.reserve(65_536), Some(LAST - 1));
        assert_eq!(key.reserve(1), None);
    }
}
