//! Which handshake messages are worth the keeper's time: those whose sender knows our public key (mac1), and cookies that
//! answer what we have sent. Whoever sends anything else is kept from costing more than a hash.

use super::rcu::{Batch, Cell, Epochs};
use pellicle_crypto::blake2s::mac;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Of sender indices that are remembered: where two meet, the later one stays.
const ROOM: usize = 1 << 13;
const MACS: usize = 32;

pub struct Filter {
    /// All zero: none was given, and all passes.
    key: Cell<[u8; 32]>,
    sent: Box<[AtomicU32]>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { key: Cell::new([0; 32]), sent: (0..ROOM).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl Filter {
    pub fn set_key(&self, key: [u8; 32], epochs: &Epochs) {
        self.key.replace(key, epochs);
    }

    /// A handshake message of ours, which may be answered by a cookie.
    pub fn sent(&self, message: &[u8]) {
        if let Some(sender) = index(message) {
            self.place(sender).store(sender, Relaxed);
        }
    }

    /// `message`: of a handshake's type and length.
    pub fn passes(&self, message: &[u8], batch: &Batch) -> bool {
        let key = self.key.read(batch);
        if *key == [0; 32] {
            return true;
        }
        if message.first() == Some(&3) {
            return index(message)
                .is_some_and(|receiver| receiver != 0 && self.place(receiver).load(Relaxed) == receiver);
        }
        let Some((text, macs)) = message.split_at_checked(message.len().wrapping_sub(MACS)) else { return false };
        mac(key, text).iter().zip(macs).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }

    fn place(&self, index: u32) -> &AtomicU32 {
        &self.sent[index.wrapping_mul(0x9e37_79b1) as usize >> (32 - ROOM.ilog2())]
    }
}

/// The sender's of an initiation or a response, the receiver's of a cookie.
fn index(message: &[u8]) -> Option<u32> {
    message.get(4..8)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::super::rcu::Thread;
    use super::*;

    fn message(kind: u8, length: usize, key: &[u8; 32]) -> Vec<u8> {
        let mut bytes = vec![7; length];
        bytes[..8].copy_from_slice(&[kind, 0, 0, 0, 9, 8, 7, 6]);
        let end = length - MACS;
        let own = mac(key, &bytes[..end]);
        bytes[end..end + 16].copy_from_slice(&own);
        bytes
    }

    #[test]
    fn only_who_knows_us_passes() {
        let (filter, epochs, key) = (Filter::default(), Epochs::default(), [5; 32]);
        let passes = |bytes: &[u8]| filter.passes(bytes, &epochs.enter(Thread::Inbound));
        assert!(passes(&[1; 148]) && passes(&[3; 64]), "without a key all does");
        filter.set_key(key, &epochs);
        for (kind, length) in [(1, 148), (2, 92)] {
            let mut genuine = message(kind, length, &key);
            assert!(passes(&genuine));
            // mac2 is the keeper's
            genuine[length - 1] ^= 1;
            assert!(passes(&genuine));
            for at in 0..length - 16 {
                let mut forged = message(kind, length, &key);
                forged[at] ^= 1;
                assert!(!passes(&forged), "type {kind}, byte {at}");
            }
            assert!(!passes(&message(kind, length, &[6; 32])));
        }
        filter.set_key([6; 32], &epochs);
        assert!(!passes(&message(1, 148, &key)));
    }

    #[test]
    fn cookies_answer_what_was_sent() {
        let (filter, epochs) = (Filter::default(), Epochs::default());
        let passes = |bytes: &[u8]| filter.passes(bytes, &epochs.enter(Thread::Inbound));
        filter.set_key([5; 32], &epochs);
        let cookie = |receiver: u32| [&[3, 0, 0, 0][..], &receiver.to_le_bytes(), &[0; 56]].concat();
        assert!(!passes(&cookie(0x0607_0809)));
        filter.sent(&message(1, 148, &[1; 32]));
        assert!(passes(&cookie(0x0607_0809)));
        assert!(!passes(&cookie(0x0607_080a)));
        assert!(!passes(&cookie(0)));
    }
}
