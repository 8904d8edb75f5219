//! Every key that was ever used in the life of the shared memory, and how far: a sequence number must not be used twice
//! with a key, nor taken twice, whichever association the key comes with.

use super::super::region::{Shared, bytes_to_words, words_to_bytes};
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

// SAFETY: atomics alone.
unsafe impl Shared for UsedKey {}

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
    use super::super::association::KeyCopy;
    use super::super::memory::SENDING;
    use super::*;
    use pellicle_net::memory::{Mapping, create};
    use pellicle_proto::endpoint::Outer;
    use proptest::prelude::*;
    use std::collections::HashSet;
    use std::os::fd::OwnedFd;

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

    const PEERS: usize = 3;

    #[derive(Clone, Debug)]
    enum Event {
        /// A peer is sent to by a key from now on, under some SPI; the engine may be killed after so many steps of it.
        Install {
            peer: usize,
            key: u8,
            spi: u32,
            killed_after: usize,
        },
        /// Packets leave; the engine may be killed before they do.
        Send {
            peer: usize,
            count: usize,
            leave: bool,
        },
        StopSending {
            peer: usize,
        },
        EngineKilled,
        /// Or the supervisor, or it is asked for new memory: that there was goes.
        Boot,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let event = prop_oneof![
            4 => (0..PEERS, 0..8_u8, 1..16_u32, 0..12_usize)
                .prop_map(|(peer, key, spi, killed_after)| Event::Install { peer, key, spi, killed_after }),
            8 => (0..PEERS, 1..64_usize, prop::bool::weighted(0.9))
                .prop_map(|(peer, count, leave)| Event::Send { peer, count, leave }),
            1 => (0..PEERS).prop_map(|peer| Event::StopSending { peer }),
            2 => Just(Event::EngineKilled),
            1 => Just(Event::Boot),
        ];
        prop::collection::vec(event, 1..60)
    }

    /// As a supervisor makes it: its `instance` is the boot id, which every derived key depends on. Most of the room is
    /// taken by keys of the past.
    fn made(boots: u8) -> (OwnedFd, Memory) {
        let file = create(c"pellicle-test", Memory::size(PEERS)).expect("shared memory");
        let memory = Memory::format(Mapping::new(&file).expect("a mapping"), PEERS as u32, [boots; 16]);
        for past in 0..memory.used_keys().0.len() - 5 {
            number(&memory, Use::Sending, &[&[boots], &past.to_le_bytes()[..]].concat()).expect("room");
        }
        (file, memory)
    }

    /// What a new engine finds.
    fn started(file: &OwnedFd) -> Memory {
        let memory = Memory::attach(Mapping::new(file).expect("a mapping")).expect("the same layout");
        memory.repair();
        memory
    }

    /// The steps of `set_sending` (orders.rs), as far as they come. The key lies in the memory as it was derived.
    /// False: there is no room for its number, and nothing has changed.
    fn install(memory: &Memory, peer: usize, key: &[u8], spi: u32, steps: usize) -> bool {
        let Some(used) = number(memory, Use::Sending, key) else { return false };
        let slot = memory.peers()[peer].sending_slot().map_or(0, |slot| 1 - slot);
        let index = peer * SENDING + slot;
        let copy = KeyCopy { algorithm: 1, icv: 16, encryption: key.to_vec(), authentication: Vec::new() };
        let facts = &memory.sending()[index].facts;
        let all: [&dyn Fn(); 6] = [
            &|| memory.peers()[peer].used.store(1, Release),
            &|| memory.wipe_sending(index),
            &|| facts.set(spi, 4500, &Outer::default(), used, memory.sending_keys(index), &copy),
            &|| facts.filled.store(1, Release),
            &|| memory.peers()[peer].sending.store(slot as u32 + 1, SeqCst),
            &|| memory.wipe_sending(peer * SENDING + 1 - slot),
        ];
        all.iter().take(steps).for_each(|step| step());
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        /// Engines killed anywhere, keys that go and come back under other ids and to other peers, boots, and memory
        /// that is renewed when its room for keys is used up.
        #[test]
        fn no_number_of_a_key_leaves_twice(events in events()) {
            let mut boots = 0;
            let (mut file, mut memory) = made(boots);
            let mut left = HashSet::new();
            for event in events {
                match event {
                    Event::Install { peer, key, spi, killed_after } => {
                        // another boot id, another derived key (core/ipsec/pair-key.ts)
                        let derived = |memory: &Memory| [&memory.instance()[..], &[key; 4]].concat();
                        if !install(&memory, peer, &derived(&memory), spi, killed_after) {
                            boots += 1;
                            (file, memory) = made(boots);
                            prop_assert!(install(&memory, peer, &derived(&memory), spi, killed_after));
                        }
                        if killed_after < 6 {
                            memory = started(&file);
                        }
                    }
                    Event::Send { peer, count, leave } => {
                        let Some(slot) = memory.peers()[peer].sending_slot() else { continue };
                        let index = peer * SENDING + slot;
                        let facts = &memory.sending()[index].facts;
                        let used = &memory.used_keys().0[facts.used.load(Relaxed) as usize];
                        let first = used.reserve(count).expect("numbers");
                        let key = facts.keys(memory.sending_keys(index)).encryption.clone();
                        prop_assert!(!key.is_empty());
                        for sequence in (first..first + count as u64).filter(|_| leave) {
                            prop_assert!(left.insert((key.clone(), sequence)), "{sequence} twice");
                        }
                        if !leave {
                            memory = started(&file);
                        }
                    }
                    Event::StopSending { peer } => {
                        memory.peers()[peer].sending.store(0, SeqCst);
                        (0..SENDING).for_each(|slot| memory.wipe_sending(peer * SENDING + slot));
                    }
                    Event::EngineKilled => memory = started(&file),
                    Event::Boot => {
                        boots += 1;
                        (file, memory) = made(boots);
                    }
                }
            }
        }
    }
}
