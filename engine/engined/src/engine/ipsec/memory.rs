//! The shared memory of a device of IPsec: peers, associations with their keys, numbers of every key that was ever used,
//! inner prefixes, counters. Everything in it is an atomic, and an engine killed between any two writes leaves something
//! that `repair` can read (as `state.rs` of WireGuard).

use super::super::counters::{Counters, ROOM};
use super::super::state::PrefixSlot;
use super::used::UsedKey;
use pellicle_net::memory::Mapping;
use pellicle_proto::endpoint::{Endpoint, Outer};
use pellicle_proto::event::Activity;
use pellicle_proto::replay::ReplayWindow;
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
/// Of encryption and authentication together: an AES-256 key with its salt, and the longest of an HMAC.
const KEY_BYTES: usize = 36 + 128;

#[repr(C, align(64))]
struct Head {
    magic: AtomicU64,
    instance: [AtomicU64; 2],
    max_peers: AtomicU32,
    prefixes_used: AtomicU32,
    pub keys_used: AtomicU32,
    counters: [AtomicU64; ROOM],
}

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

/// What an association of either direction is.
#[repr(C)]
pub struct Facts {
    pub filled: AtomicU32,
    pub spi: AtomicU32,
    algorithm: AtomicU32,
    icv: AtomicU32,
    /// Port of ESP in UDP, 0 for IP protocol 50.
    pub port: AtomicU32,
    /// Its number among the used keys.
    pub used: AtomicU32,
    source: [AtomicU64; 3],
    destination: [AtomicU64; 3],
    pub packets: AtomicU64,
    pub bytes: AtomicU64,
}

#[repr(C, align(64))]
pub struct Sending {
    pub facts: Facts,
}

#[repr(C, align(64))]
pub struct Receiving {
    pub facts: Facts,
    pub window: ReplayWindow,
}

/// Apart from the associations, so that few pages have to be kept out of swap.
#[repr(C, align(64))]
pub struct Keys {
    /// Of encryption, of authentication.
    lengths: [AtomicU32; 2],
    bytes: [AtomicU64; KEY_BYTES.div_ceil(8)],
}

/// A copy of what lies in `Keys`, overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyCopy {
    pub algorithm: u8,
    pub icv: u8,
    pub encryption: Vec<u8>,
    pub authentication: Vec<u8>,
}

pub struct Memory {
    mapping: Mapping,
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
        let memory = Memory { mapping, max_peers: max_peers as usize };
        assert!(memory.mapping.size() >= Memory::size(memory.max_peers));
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
        let mut memory = Memory { mapping, max_peers: 0 };
        memory.max_peers = memory.head().max_peers.load(Relaxed) as usize;
        let fits =
            memory.head().magic.load(Acquire) == MAGIC && memory.mapping.size() == Memory::size(memory.max_peers);
        fits.then_some(memory)
    }

    fn part<T>(&self, offset: usize, count: usize) -> &[T] {
        // SAFETY: `layout` keeps offsets aligned and inside the mapping; `T` consists of atomics, for which any bits are valid.
        unsafe { std::slice::from_raw_parts(self.mapping.pointer().add(offset).cast(), count) }
    }

    fn head(&self) -> &Head {
        &self.part::<Head>(0, 1)[0]
    }

    pub fn max_peers(&self) -> usize {
        self.max_peers
    }

    pub fn instance(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        words_to_bytes(&self.head().instance, &mut bytes);
        bytes
    }

    pub fn counters(&self) -> Counters<'_> {
        Counters(&self.head().counters)
    }

    pub fn peers(&self) -> &[Peer] {
        self.part(layout(self.max_peers).peers, self.max_peers)
    }

    /// `SENDING` for each peer.
    pub fn sending(&self) -> &[Sending] {
        self.part(layout(self.max_peers).sending, self.max_peers * SENDING)
    }

    /// `RECEIVING` for each peer.
    pub fn receiving(&self) -> &[Receiving] {
        self.part(layout(self.max_peers).receiving, self.max_peers * RECEIVING)
    }

    pub fn sending_keys(&self, index: usize) -> &Keys {
        &self.keys()[index / SENDING * KEYS + index % SENDING]
    }

    pub fn receiving_keys(&self, index: usize) -> &Keys {
        &self.keys()[index / RECEIVING * KEYS + SENDING + index % RECEIVING]
    }

    fn keys(&self) -> &[Keys] {
        self.part(layout(self.max_peers).keys, self.max_peers * KEYS)
    }

    /// Room for all keys that were ever used, and how many of it are.
    pub fn used_keys(&self) -> (&[UsedKey], &AtomicU32) {
        (self.part(layout(self.max_peers).used, self.max_peers * USED_KEYS), &self.head().keys_used)
    }

    /// Those that were ever used.
    pub fn prefixes(&self) -> &[PrefixSlot] {
        let used = self.head().prefixes_used.load(Acquire) as usize;
        self.part(layout(self.max_peers).prefixes, used.min(max_prefixes(self.max_peers)))
    }

    /// One more, which is free: none when all are in use.
    pub fn another_prefix(&self) -> Option<&PrefixSlot> {
        let used = self.head().prefixes_used.load(Relaxed) as usize;
        let slot = self.part::<PrefixSlot>(layout(self.max_peers).prefixes, max_prefixes(self.max_peers)).get(used)?;
        self.head().prefixes_used.store(used as u32 + 1, Release);
        Some(slot)
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
        let mut bytes = [0; 32];
        words_to_bytes(&self.identity, &mut bytes);
        bytes
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

impl Facts {
    /// Everything but `filled`, which is the caller's to set when all else is.
    pub fn set(&self, spi: u32, port: u16, outer: &Outer, used: usize, own: &Keys, keys: &KeyCopy) {
        self.spi.store(spi, Relaxed);
        self.port.store(port.into(), Relaxed);
        self.set_outer(outer);
        self.used.store(used as u32, Relaxed);
        self.packets.store(0, Relaxed);
        self.bytes.store(0, Relaxed);
        self.algorithm.store(keys.algorithm.into(), Relaxed);
        self.icv.store(keys.icv.into(), Relaxed);
        own.set(&keys.encryption, &keys.authentication);
    }

    pub fn set_outer(&self, outer: &Outer) {
        for (words, endpoint) in [(&self.source, &outer.source), (&self.destination, &outer.destination)] {
            for (word, value) in words.iter().zip(endpoint.to_words()) {
                word.store(value, Relaxed);
            }
        }
    }

    pub fn outer(&self) -> Outer {
        let endpoint = |words: &[AtomicU64; 3]| Endpoint::from_words(words.each_ref().map(|word| word.load(Relaxed)));
        Outer { source: endpoint(&self.source), destination: endpoint(&self.destination) }
    }

    pub fn keys(&self, own: &Keys) -> KeyCopy {
        let (encryption, authentication) = own.get();
        let small = |number: &AtomicU32| number.load(Relaxed) as u8;
        KeyCopy { algorithm: small(&self.algorithm), icv: small(&self.icv), encryption, authentication }
    }

    fn wipe(&self, keys: &Keys) {
        self.filled.store(0, Release);
        keys.set(&[], &[]);
        self.spi.store(0, Relaxed);
    }

    /// Counts what one thread alone counts.
    #[inline]
    pub fn note(&self, packets: usize, bytes: usize) {
        self.packets.store(self.packets.load(Relaxed) + packets as u64, Relaxed);
        self.bytes.store(self.bytes.load(Relaxed) + bytes as u64, Relaxed);
    }
}

impl Keys {
    fn set(&self, encryption: &[u8], authentication: &[u8]) {
        let mut bytes = [0; KEY_BYTES.next_multiple_of(8)];
        let (first, second) = bytes.split_at_mut(encryption.len());
        first.copy_from_slice(encryption);
        second[..authentication.len()].copy_from_slice(authentication);
        bytes_to_words(&bytes, &self.bytes);
        for (length, key) in self.lengths.iter().zip([encryption, authentication]) {
            length.store(key.len() as u32, Relaxed);
        }
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }

    fn get(&self) -> (Vec<u8>, Vec<u8>) {
        let mut bytes = [0; KEY_BYTES.next_multiple_of(8)];
        words_to_bytes(&self.bytes, &mut bytes);
        let [first, second] = self.lengths.each_ref().map(|length| (length.load(Relaxed) as usize).min(KEY_BYTES));
        let keys = (bytes[..first].to_vec(), bytes[first..(first + second).min(bytes.len())].to_vec());
        bytes.fill(0);
        std::hint::black_box(&bytes);
        keys
    }
}

impl KeyCopy {
    /// Whether it fits into the memory: what does not is no key of any algorithm.
    pub fn fits(&self) -> bool {
        self.encryption.len() + self.authentication.len() <= KEY_BYTES
    }
}

impl Drop for KeyCopy {
    fn drop(&mut self) {
        self.encryption.fill(0);
        self.authentication.fill(0);
        std::hint::black_box((&self.encryption, &self.authentication));
    }
}

pub fn words_to_bytes(words: &[AtomicU64], bytes: &mut [u8]) {
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

#[cfg(test)]
mod tests {
    use super::super::used::{Use, number};
    use super::*;
    use pellicle_net::memory::create;

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

    fn empty(keys: &Keys) -> bool {
        keys.get() == (vec![], vec![]) && keys.bytes.iter().all(|word| word.load(Relaxed) == 0)
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
        let sending: Vec<usize> = (0..2 * SENDING).filter(|index| !empty(memory.sending_keys(*index))).collect();
        let receiving: Vec<usize> = (0..2 * RECEIVING).filter(|index| !empty(memory.receiving_keys(*index))).collect();
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
        assert!(empty(memory.sending_keys(0)));
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
