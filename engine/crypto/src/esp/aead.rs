//! AES-GCM (RFC 4106) and ChaCha20-Poly1305 (RFC 7634): through ring, but for keys of 192 bits, which it has not.
//! Nonce: salt, then the IV of the packet, which is the sequence number: with one counter per key it never repeats.

use super::{Algorithm, HEADER, Header, same};
use aes::Aes192;
use aes_gcm::aead::{AeadInOut, KeyInit, consts::U12};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

pub const IV: usize = 8;
const SALT: usize = 4;
const TAG: usize = 16;

pub struct Aead {
    key: Key,
    salt: [u8; SALT],
}

enum Key {
    Ring(LessSafeKey),
    Aes192(aes_gcm::AesGcm<Aes192, U12>),
}

impl Aead {
    /// None for a length that the algorithm has not.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Aead> {
        let (bytes, salt) = bytes.split_last_chunk::<SALT>()?;
        let ring = match (algorithm, bytes.len()) {
            (Algorithm::AesGcm, 16) => &AES_128_GCM,
            (Algorithm::AesGcm, 32) => &AES_256_GCM,
            (Algorithm::ChaCha20Poly1305, 32) => &CHACHA20_POLY1305,
            (Algorithm::AesGcm, 24) => {
                let key = aes_gcm::AesGcm::new_from_slice(bytes).ok()?;
                return Some(Aead { key: Key::Aes192(key), salt: *salt });
            }
            _ => return None,
        };
        let key = LessSafeKey::new(UnboundKey::new(ring, bytes).ok()?);
        Some(Aead { key: Key::Ring(key), salt: *salt })
    }

    #[inline]
    pub fn seal(&self, header: &Header, packet: &mut [u8], icv: usize) {
        packet[..HEADER].copy_from_slice(&header.clear());
        packet[HEADER..HEADER + IV].copy_from_slice(&header.sequence.to_be_bytes());
        self.seal_text(header, packet, icv);
    }

    #[inline]
    fn seal_text(&self, header: &Header, packet: &mut [u8], icv: usize) {
        let (nonce, text, place) = self.parts(packet, icv);
        let tag = self.crypt(nonce, header, text);
        place.copy_from_slice(&tag[..icv]);
    }

    #[inline]
    pub fn open(&self, header: &Header, packet: &mut [u8], icv: usize) -> bool {
        if icv < TAG {
            return self.open_truncated(header, packet, icv);
        }
        let (nonce, text, tag) = self.parts(packet, icv);
        let (additional, length) = header.additional();
        let additional = &additional[..length];
        match &self.key {
            Key::Ring(key) => {
                let Ok(tag) = <[u8; TAG]>::try_from(&*tag) else { return false };
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place_separate_tag(nonce, Aad::from(additional), tag.into(), text, 0..).is_ok()
            }
            Key::Aes192(key) => {
                let Ok(tag) = <[u8; TAG]>::try_from(&*tag) else { return false };
                key.decrypt_inout_detached(&nonce.into(), additional, text.into(), &tag.into()).is_ok()
            }
        }
    }

    /// The libraries compare whole tags only. Of a counter mode encryption is decryption, so the first pass makes a text,
    /// the second the packet again and the tag that it should have, and the third the text for good. Three times the
    /// work, for a length that nobody should choose.
    fn open_truncated(&self, header: &Header, packet: &mut [u8], icv: usize) -> bool {
        let (nonce, text, tag) = self.parts(packet, icv);
        self.crypt(nonce, header, text);
        let genuine = same(&self.crypt(nonce, header, text)[..icv], tag);
        if genuine {
            self.crypt(nonce, header, text);
        }
        genuine
    }

    /// Encrypts in place and returns the whole tag.
    #[inline]
    fn crypt(&self, nonce: [u8; 12], header: &Header, text: &mut [u8]) -> [u8; TAG] {
        let (additional, length) = header.additional();
        let additional = &additional[..length];
        let mut bytes = [0; TAG];
        match &self.key {
            Key::Ring(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                match key.seal_in_place_separate_tag(nonce, Aad::from(additional), text) {
                    Ok(tag) => bytes.copy_from_slice(tag.as_ref()),
                    Err(_) => unreachable!("a datagram is shorter than the cipher's limit of 64 GiB"),
                }
            }
            Key::Aes192(key) => match key.encrypt_inout_detached(&nonce.into(), additional, text.into()) {
                Ok(tag) => bytes.copy_from_slice(&tag),
                Err(_) => unreachable!("a datagram is shorter than the cipher's limit of 64 GiB"),
            },
        }
        bytes
    }

    /// Nonce, text and tag of a packet that is long enough.
    #[inline]
    fn parts<'a>(&self, packet: &'a mut [u8], icv: usize) -> ([u8; 12], &'a mut [u8], &'a mut [u8]) {
        let (front, text) = packet.split_at_mut(HEADER + IV);
        let (text, tag) = text.split_at_mut(text.len() - icv);
        let mut nonce = [0; 12];
        nonce[..SALT].copy_from_slice(&self.salt);
        nonce[SALT..].copy_from_slice(&front[HEADER..]);
        (nonce, text, tag)
    }
}
