//! One direction of one pair, as it lies in shared memory: what it is, how far it has come, and apart from that its keys.

use super::super::region::{Shared, bytes_to_words, copy_words};
use pellicle_proto::endpoint::{Endpoint, Outer};
use pellicle_proto::replay::ReplayWindow;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Of encryption and authentication together: an AES-256 key with its salt, and the longest of an HMAC.
const KEY_BYTES: usize = 36 + 128;

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

// SAFETY: atomics alone.
unsafe impl Shared for Sending {}

#[repr(C, align(64))]
pub struct Receiving {
    pub facts: Facts,
    pub window: ReplayWindow,
}

// SAFETY: atomics alone.
unsafe impl Shared for Receiving {}

/// Apart from the associations, so that few pages have to be kept out of swap.
#[repr(C, align(64))]
pub struct Keys {
    /// Of encryption, of authentication.
    lengths: [AtomicU32; 2],
    bytes: [AtomicU64; KEY_BYTES.div_ceil(8)],
}

// SAFETY: atomics alone.
unsafe impl Shared for Keys {}

/// A copy of what lies in `Keys`, overwritten when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyCopy {
    pub algorithm: u8,
    pub icv: u8,
    pub encryption: Vec<u8>,
    pub authentication: Vec<u8>,
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

    pub fn wipe(&self, keys: &Keys) {
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
        copy_words(&self.bytes, &mut bytes);
        let [first, second] = self.lengths.each_ref().map(|length| (length.load(Relaxed) as usize).min(KEY_BYTES));
        let keys = (bytes[..first].to_vec(), bytes[first..(first + second).min(bytes.len())].to_vec());
        bytes.fill(0);
        std::hint::black_box(&bytes);
        keys
    }
}

#[cfg(test)]
impl Keys {
    /// Nothing of a key is left.
    pub fn is_empty(&self) -> bool {
        self.get() == (vec![], vec![]) && self.bytes.iter().all(|word| word.load(Relaxed) == 0)
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
