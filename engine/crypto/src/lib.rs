//! Ciphers of packets: ESP's in `esp`, here WireGuard's. WireGuard's data messages are ChaCha20-Poly1305 (RFC 8439) with an empty additional text and the counter as
//! nonce (WireGuard paper, section 5.4.6). One message goes through ring; many of one key go through `wide` where the
//! processor has AVX-512, else one after the other through ring.

pub mod blake2s;
pub mod digest;
pub mod esp;
#[cfg(target_arch = "x86_64")]
mod wide;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

pub const TAG: usize = 16;

/// A key ready for use. Making one copies 32 bytes and probes nothing, so it may be made anew for every batch.
#[derive(Clone)]
pub struct Key {
    one: LessSafeKey,
    words: [u32; 8],
}

/// A message in a slab: `length` bytes of text at `start`, and the tag behind it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message {
    pub counter: u64,
    pub start: usize,
    pub length: usize,
}

/// The text was not made with this key and counter.
#[derive(Debug, PartialEq, Eq)]
pub struct Forged;

impl Key {
    pub fn new(bytes: &[u8; 32]) -> Key {
        let one = match UnboundKey::new(&CHACHA20_POLY1305, bytes) {
            Ok(key) => LessSafeKey::new(key),
            Err(_) => unreachable!("a ChaCha20-Poly1305 key has 32 bytes"),
        };
        let words = std::array::from_fn(|word| {
            u32::from_le_bytes([bytes[word * 4], bytes[word * 4 + 1], bytes[word * 4 + 2], bytes[word * 4 + 3]])
        });
        Key { one, words }
    }

    /// Whether both seal alike. Not for secrets of others: how long it takes tells where they differ.
    #[inline]
    pub fn same(&self, other: &Key) -> bool {
        self.words == other.words
    }

    /// Encrypts `text` in place and appends nothing: the tag is returned.
    #[inline]
    pub fn seal(&self, counter: u64, text: &mut [u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        match self.one.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text) {
            Ok(made) => tag.copy_from_slice(made.as_ref()),
            Err(_) => unreachable!("a datagram is shorter than the cipher's limit of 256 GiB"),
        }
        tag
    }

    /// Decrypts `sealed` (text and tag) in place; the text is what precedes the last 16 bytes.
    #[inline]
    pub fn open<'a>(&self, counter: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Forged> {
        self.one.open_in_place(nonce(counter), Aad::empty(), sealed).map_err(|_| Forged)
    }

    /// Encrypts each text in place and writes its tag behind it.
    pub fn seal_many(&self, slab: &mut [u8], messages: &[Message]) {
        assert!(inside(slab, messages));
        #[cfg(target_arch = "x86_64")]
        if messages.len() >= wide::WORTH && wide::available() {
            // SAFETY: the processor can, and all messages lie inside the slab.
            return unsafe { wide::seal(&self.words, slab, messages) };
        }
        for message in messages {
            let sealed = &mut slab[message.start..message.start + message.length + TAG];
            let (text, tag) = sealed.split_at_mut(message.length);
            tag.copy_from_slice(&self.seal(message.counter, text));
        }
    }

    /// Decrypts each text in place, and tells the index of each message in turn and whether it was made with this key and
    /// its counter. The text of one that was not is nothing to be used.
    pub fn open_many(&self, slab: &mut [u8], messages: &[Message], mut tell: impl FnMut(usize, bool)) {
        assert!(inside(slab, messages));
        #[cfg(target_arch = "x86_64")]
        if messages.len() >= wide::WORTH && wide::available() {
            // SAFETY: the processor can, and all messages lie inside the slab.
            return unsafe { wide::open(&self.words, slab, messages, tell) };
        }
        for (index, message) in messages.iter().enumerate() {
            let sealed = &mut slab[message.start..message.start + message.length + TAG];
            tell(index, self.open(message.counter, sealed).is_ok());
        }
    }
}

/// 32 zero bits, then the counter in little endian.
#[inline]
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn inside(slab: &[u8], messages: &[Message]) -> bool {
    messages.iter().all(|message| {
        let end = message.start.checked_add(message.length).and_then(|end| end.checked_add(TAG));
        end.is_some_and(|end| end <= slab.len())
    })
}
