//! The shared memory of a device of IPsec: peers, associations with their keys, numbers of every key that was ever used,
//! inner prefixes, counters. Everything in it is an atomic, and an engine killed between any two writes leaves something
//! that `repair` can read (as `state.rs` of WireGuard).

use super::super::counters::{Counters, ROOM};
use super::super::prefix_slots::{PrefixSlot, PrefixSlots};
use super::super::region::{Region, Shared, bytes_to_words, words_to_bytes};
use super::association::{Keys, Receiving, Sending};
use super::used::UsedKey;
use pellicle_net::memory::Mapping;
use pellicle_proto::event::Activity;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Changes with every change of the layout: a new engine refuses memory of another one.
const MAGIC: u64 = 0x3130_7073_656c_6570;
/// One to send by, and one to fill meanwhile.
pub const SENDING: usize = 2;
pub const RECEIVING: usize = 4;
const KEYS: usize = SENDING + RECEIVING;
/// Keys that a peer may have had in the life of this memory, of both directions together, on average.
const USED_KEYS: usize = 32;
const PREFIXES_PER_PEER: usize = 8;
const LEAST_PREFIXES: usize = 1 << 14;

#[repr(C, align(64))]
struct Head {
    magic: AtomicU64,
    instance: [AtomicU64; 2],
    max_peers: AtomicU32,
    prefixes_used: AtomicU32,
    pub keys_used: AtomicU32,
    counters: [AtomicU64; ROOM],
}

// SAFETY: atomics alone.
unsafe impl Shared for Head {}

#[repr(C, align(64))]
pub struct Peer {
    pub used: AtomicU32,
    /// Slot + 1 of the association to send by, 0 for none.
    pub sending: AtomicU32,
    /// Something authenticated has come from it since the slot was filled.
    pub heard: AtomicU32,
    identity: [AtomicU64; 4],
    pub last_sent: AtomicU64,
    pub last_received: AtomicU64,
    pub last_authenticated: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub tx_bytes: AtomicU64,
}

// SAFETY: atomics alone.
unsafe impl Shared for Peer {}

pub struct Memory {
    region: Region,
    max_peers: usize,
}

struct Layout {
    peers: usize,
    sending: usize,
    receiving: usize,
    used: usize,
    keys: usize,
    prefixes: usize,
    size: usize,
}

const fn layout(max_peers: usize) -> Layout {
    let peers = size_of::<Head>();
    let sending = peers + max_peers * size_of::<Peer>();
    let receiving = sending + max_peers * SENDING * size_of::<Sending>();
    let used = receiving + max_peers * RECEIVING * size_of::<Receiving>();
    let keys = (used + max_peers * USED_KEYS * size_of::<UsedKey>()).next_multiple_of(4096);
    let prefixes = (keys + max_peers * KEYS * size_of::<Keys>()).next_multiple_of(4096);
    let size = (prefixes + max_prefixes(max_peers) * size_of::<PrefixSlot>()).next_multiple_of(4096);
    Layout { peers, sending, receiving, used, keys, prefixes, size }
}

const fn max_prefixes(max_peers: usize) -> usize {
    let count = max_peers * PREFIXES_PER_PEER;
    if count < LEAST_PREFIXES { LEAST_PREFIXES } else { count }
}

impl Memory {
    pub const fn size(max_peers: usize) -> usize {
        layout(max_peers).size
    }

    /// Where the keys lie: offset and length.
    pub const fn key_pages(max_peers: usize) -> (usize, usize) {
        let layout = layout(max_peers);
        (layout.keys, layout.prefixes - layout.keys)
    }

    /// Makes new, all-zero memory ready. `instance` is random.
    pub fn format(mapping: Mapping, max_peers: u32, instance: [u8; 16]) -> Memory {
        let memory = Memory { region: Region::new(mapping), max_peers: max_peers as usize };
        assert!(memory.region.size() >= Memory::size(memory.max_peers));
        let head = memory.head();
        bytes_to_words(&instance, &head.instance);
        head.max_peers.store(max_peers, Relaxed);
        head.magic.store(MAGIC, Release);
        memory
    }

    /// `None`: of another layout.
    pub fn attach(mapping: Mapping) -> Option<Memory> {
        if mapping.size() < size_of::<Head>() {
            return None;
        }
        let mut memory = Memory { region: Region::new(mapping), max_peers: 0 };
        memory.max_peers = memory.head().max_peers.load(Relaxed) as usize;
        let fits = memory.head().magic.load(Acquire) == MAGIC && memory.region.size() == Memory::size(memory.max_peers);
        fits.then_some(memory)
    }

    fn head(&self) -> &Head {
        &self.region.part::<Head>(0, 1)[0]
    }

    pub fn max_peers(&self) -> usize {
        self.max_peers
    }

    pub fn instance(&self) -> [u8; 16] {
        words_to_bytes(&self.head().instance)
    }

    pub fn counters(&self) -> Counters<'_> {
        Counters(&self.head().counters)
    }

    pub fn peers(&self) -> &[Peer] {
        self.region.part(layout(self.max_peers).peers, self.max_peers)
    }

    /// `SENDING` for each peer.
    pub fn sending(&self) -> &[Sending] {
        self.region.part(layout(self.max_peers).sending, self.max_peers * SENDING)
    }

    /// `RECEIVING` for each peer.
    pub fn receiving(&self) -> &[Receiving] {
        self.region.part(layout(self.max_peers).receiving, self.max_peers * RECEIVING)
    }

    pub fn sending_keys(&self, index: usize) -> &Keys {
        &self.keys()[index / SENDING * KEYS + index % SENDING]
    }

    pub fn receiving_keys(&self, index: usize) -> &Keys {
        &self.keys()[index / RECEIVING * KEYS + SENDING + index % RECEIVING]
    }

    fn keys(&self) -> &[Keys] {
        self.region.part(layout(self.max_peers).keys, self.max_peers * KEYS)
    }

    /// Room for all keys that were ever used, and how many of it are.
    pub fn used_keys(&self) -> (&[UsedKey], &AtomicU32) {
        (self.region.part(layout(self.max_peers).used, self.max_peers * USED_KEYS), &self.head().keys_used)
    }

    pub fn prefix_slots(&self) -> PrefixSlots<'_> {
        let all = self.region.part(layout(self.max_peers).prefixes, max_prefixes(self.max_peers));
        PrefixSlots { all, count: &self.head().prefixes_used }
    }

    /// Empties one that no peer sends by and no thread uses.
    pub fn wipe_sending(&self, index: usize) {
        self.sending()[index].facts.wipe(self.sending_keys(index));
    }

    /// The same of one to receive by, of which it is kept how far its key was received.
    pub fn wipe_receiving(&self, index: usize) {
        let receiving = &self.receiving()[index];
        if receiving.facts.filled.load(Acquire) != 0 {
            let (used, _) = self.used_keys();
            let used = &used[receiving.facts.used.load(Relaxed) as usize % used.len()];
            used.next.fetch_max(receiving.window.last(), SeqCst);
        }
        receiving.facts.wipe(self.receiving_keys(index));
        receiving.window.reset();
    }

    /// After a start: what a killed engine left half done is undone.
    pub fn repair(&self) {
        for (number, peer) in self.peers().iter().enumerate() {
            let used = peer.used.load(Acquire) != 0;
            for slot in 0..SENDING {
                let index = number * SENDING + slot;
                let serves = used && peer.sending_slot() == Some(slot);
                if !(serves && self.sending()[index].facts.filled.load(Acquire) != 0) {
                    self.wipe_sending(index);
                }
            }
            if peer
                .sending_slot()
                .is_some_and(|slot| self.sending()[number * SENDING + slot].facts.filled.load(Acquire) == 0)
            {
                peer.sending.store(0, Release);
            }
            for index in number * RECEIVING..(number + 1) * RECEIVING {
                if !(used && self.receiving()[index].facts.filled.load(Acquire) != 0) {
                    self.wipe_receiving(index);
                }
            }
        }
    }
}

impl Peer {
    pub fn identity(&self) -> [u8; 32] {
        words_to_bytes(&self.identity)
    }

    pub fn set_identity(&self, identity: &[u8; 32]) {
        bytes_to_words(identity, &self.identity);
    }

    #[inline]
    pub fn sending_slot(&self) -> Option<usize> {
        (self.sending.load(Acquire) as usize).checked_sub(1).filter(|slot| *slot < SENDING)
    }

    #[inline]
    pub fn heard(&self) -> bool {
        self.heard.load(Acquire) != 0
    }

    pub fn activity(&self) -> Activity {
        Activity {
            last_sent: self.last_sent.load(Relaxed),
            last_received: self.last_received.load(Relaxed),
            last_authenticated: self.last_authenticated.load(Relaxed),
            rx_bytes: self.rx_bytes.load(Relaxed),
            tx_bytes: self.tx_bytes.load(Relaxed),
            ..Activity::default()
        }
    }

    /// A slot that is emptied has heard nobody.
    pub fn forget(&self) {
        for word in [&self.last_sent, &self.last_received, &self.last_authenticated, &self.rx_bytes, &self.tx_bytes] {
            word.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::association::KeyCopy;
    use super::super::used::{Use, number};
    use super::*;
    use pellicle_net::memory::create;
    use pellicle_proto::endpoint::Outer;

    fn memory() -> Memory {
        let file = create(c"pellicle-test", Memory::size(2)).expect("shared memory");
        Memory::format(Mapping::new(&file).expect("a mapping"), 2, [1; 16])
    }

    fn key(seed: u8) -> KeyCopy {
        KeyCopy { algorithm: 1, icv: 16, encryption: vec![seed; 20], authentication: vec![seed; 128] }
    }

    fn fill_sending(memory: &Memory, index: usize, filled: u32) {
        let used = number(memory, Use::Sending, &[index as u8; 20]).expect("room");
        let facts = &memory.sending()[index].facts;
        facts.set(3, 4500, &Outer::default(), used, memory.sending_keys(index), &key(index as u8));
        facts.filled.store(filled, Release);
    }

    fn fill_receiving(memory: &Memory, index: usize, filled: u32) {
        let used = number(memory, Use::Receiving, &[index as u8; 20]).expect("room");
        let receiving = &memory.receiving()[index];
        receiving.facts.set(3, 0, &Outer::default(), used, memory.receiving_keys(index), &key(index as u8));
        receiving.facts.filled.store(filled, Release);
    }

    #[test]
    fn repair_leaves_no_key_of_a_slot_half_done() {
        let memory = memory();
        memory.peers()[0].used.store(1, Relaxed);
        memory.peers()[0].sending.store(2, Relaxed);
        // killed before the former one was wiped; a peer that was being removed; one not yet filled, one in use
        fill_sending(&memory, 0, 1);
        fill_sending(&memory, 1, 1);
        fill_sending(&memory, SENDING, 1);
        fill_receiving(&memory, 0, 1);
        fill_receiving(&memory, 1, 0);
        fill_receiving(&memory, RECEIVING, 1);
        memory.repair();
        let sending: Vec<usize> = (0..2 * SENDING).filter(|index| !memory.sending_keys(*index).is_empty()).collect();
        let receiving: Vec<usize> =
            (0..2 * RECEIVING).filter(|index| !memory.receiving_keys(*index).is_empty()).collect();
        assert_eq!((sending, receiving), (vec![1], vec![0]));
        let facts = &memory.sending()[1].facts;
        assert!(facts.keys(memory.sending_keys(1)) == key(1));
        assert_eq!((facts.spi.load(Relaxed), facts.port.load(Relaxed)), (3, 4500));
        assert_eq!(memory.peers()[0].sending_slot(), Some(1));
    }

    #[test]
    fn a_place_without_an_association_is_none() {
        let memory = memory();
        memory.peers()[0].used.store(1, Relaxed);
        memory.peers()[0].sending.store(1, Relaxed);
        fill_sending(&memory, 0, 0);
        memory.repair();
        assert_eq!(memory.peers()[0].sending_slot(), None);
        assert!(memory.sending_keys(0).is_empty());
    }

    #[test]
    fn a_wiped_one_leaves_how_far_it_was_received() {
        let memory = memory();
        memory.peers()[0].used.store(1, Relaxed);
        fill_receiving(&memory, 2, 1);
        assert!(memory.receiving()[2].window.take(9000));
        memory.wipe_receiving(2);
        let used = number(&memory, Use::Receiving, &[2; 20]).expect("known");
        assert_eq!(memory.used_keys().0[used].next.load(Relaxed), 9001);
        assert_eq!(memory.receiving()[2].window.last(), 0);
        // a second wipe, as of a repair after a kill, takes nothing back
        memory.wipe_receiving(2);
        assert_eq!(memory.used_keys().0[used].next.load(Relaxed), 9001);
    }

    #[test]
    fn parts_do_not_overlap() {
        for max_peers in [1, 2, 64, 2048, 65_536] {
            let (offset, length) = Memory::key_pages(max_peers);
            assert_eq!((offset % 4096, length % 4096), (0, 0));
            assert!(offset + length + max_prefixes(max_peers) * size_of::<PrefixSlot>() <= Memory::size(max_peers));
        }
        let memory = memory();
        memory.peers().iter().for_each(|peer| peer.set_identity(&[0xff; 32]));
        for index in 0..2 * SENDING {
            fill_sending(&memory, index, 1);
        }
        for index in 0..2 * RECEIVING {
            fill_receiving(&memory, index, 1);
        }
        assert_eq!(memory.instance(), [1; 16]);
        for index in 0..2 * SENDING {
            assert!(memory.sending()[index].facts.keys(memory.sending_keys(index)) == key(index as u8));
        }
        for index in 0..2 * RECEIVING {
            assert!(memory.receiving()[index].facts.keys(memory.receiving_keys(index)) == key(index as u8));
        }
    }
}
