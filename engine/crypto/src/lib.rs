//! The AEAD behind one file: ring today. WireGuard's data messages are ChaCha20-Poly1305 (RFC 8439) with an empty
//! additional text and the counter as nonce (WireGuard paper, section 5.4.6).

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

pub const TAG: usize = 16;

/// A key ready for use. Making one copies 32 bytes and probes nothing, so it may be made anew for every batch.
pub struct Key(LessSafeKey);

/// The text was not made with this key and counter.
#[derive(Debug, PartialEq, Eq)]
pub struct Forged;

impl Key {
    pub fn new(bytes: &[u8; 32]) -> Key {
        match UnboundKey::new(&CHACHA20_POLY1305, bytes) {
            Ok(key) => Key(LessSafeKey::new(key)),
            Err(_) => unreachable!("a ChaCha20-Poly1305 key has 32 bytes"),
        }
    }

    /// Encrypts `text` in place and appends nothing: the tag is returned.
    #[inline]
    pub fn seal(&self, counter: u64, text: &mut [u8]) -> [u8; TAG] {
        let mut tag = [0; TAG];
        match self.0.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text) {
            Ok(made) => tag.copy_from_slice(made.as_ref()),
            Err(_) => unreachable!("a datagram is shorter than the cipher's limit of 256 GiB"),
        }
        tag
    }

    /// Decrypts `sealed` (text and tag) in place; the text is what precedes the last 16 bytes.
    #[inline]
    pub fn open<'a>(&self, counter: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8], Forged> {
        self.0.open_in_place(nonce(counter), Aad::empty(), sealed).map_err(|_| Forged)
    }
}

/// 32 zero bits, then the counter in little endian.
#[inline]
fn nonce(counter: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}
