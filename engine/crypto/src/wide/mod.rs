//! Many messages of one key at once, by AVX-512: one block of ChaCha20 in each of sixteen lanes, one message's Poly1305
//! in each of eight. Lanes belong to different messages, so short ones fill the registers as well as long ones.
//! There is no branch and no address here that depends on a key, a text or a tag, other than the verdict itself.

mod chacha;
mod poly;

use crate::{Message, TAG};
use chacha::{LANES, Lanes};
use poly::{OneTimeKey, tags};

/// With fewer messages than this in hand ring is faster.
pub const WORTH: usize = 3;

/// Whether this processor can.
#[inline]
pub fn available() -> bool {
    std::is_x86_feature_detected!("avx512f")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512ifma")
}

/// # Safety
/// The processor is `available`; every message and its tag lie inside `slab`.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub unsafe fn seal(key: &[u32; 8], slab: &mut [u8], messages: &[Message]) {
    for group in messages.chunks(LANES) {
        let keys = one_time_keys(key, group);
        // SAFETY: as the caller promises.
        unsafe { crypt(key, slab, group) };
        for (part, keys) in group.chunks(poly::LANES).zip(keys.chunks(poly::LANES)) {
            // SAFETY: as the caller promises.
            let made = unsafe { tags(keys, slab, part) };
            for (message, tag) in part.iter().zip(made) {
                let end = message.start + message.length;
                slab[end..end + TAG].copy_from_slice(&tag.to_le_bytes());
            }
        }
    }
}

/// Decrypts the genuine messages and tells of each whether it is; the others stay as they are.
///
/// # Safety
/// As for `seal`.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub unsafe fn open(key: &[u32; 8], slab: &mut [u8], messages: &[Message], mut tell: impl FnMut(usize, bool)) {
    let mut first = 0;
    for group in messages.chunks(LANES) {
        let keys = one_time_keys(key, group);
        let (mut genuine, mut count) = ([Message::default(); LANES], 0);
        for (part, keys) in group.chunks(poly::LANES).zip(keys.chunks(poly::LANES)) {
            // SAFETY: as the caller promises.
            let expected = unsafe { tags(keys, slab, part) };
            for (message, tag) in part.iter().zip(expected) {
                let end = message.start + message.length;
                let mut found = [0; TAG];
                found.copy_from_slice(&slab[end..end + TAG]);
                let same = tag ^ u128::from_le_bytes(found) == 0;
                tell(first, same);
                first += 1;
                if same {
                    genuine[count] = *message;
                    count += 1;
                }
            }
        }
        // SAFETY: as the caller promises.
        unsafe { crypt(key, slab, &genuine[..count]) };
    }
}

/// The first half of each message's block 0 (RFC 8439, section 2.6).
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
fn one_time_keys(key: &[u32; 8], group: &[Message]) -> [OneTimeKey; LANES] {
    let mut lanes = Lanes::default();
    for message in group {
        lanes.push(message.counter, 0, 0, 0);
    }
    let mut keys = [OneTimeKey::default(); LANES];
    for (key, block) in keys.iter_mut().zip(lanes.blocks(key)) {
        *key = OneTimeKey::new(chacha::low_half(block));
    }
    keys
}

/// Adds the key stream from block 1 on.
///
/// # Safety
/// As for `seal`.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
unsafe fn crypt(key: &[u32; 8], slab: &mut [u8], group: &[Message]) {
    let mut lanes = Lanes::default();
    for message in group {
        for block in 0..message.length.div_ceil(64) {
            let left = message.length - block * 64;
            if lanes.push(message.counter, block as u32 + 1, message.start + block * 64, mask(left)) {
                // SAFETY: as the caller promises: the mask ends where the message does.
                unsafe { lanes.apply(key, slab) };
            }
        }
    }
    if !lanes.is_empty() {
        // SAFETY: as above.
        unsafe { lanes.apply(key, slab) };
    }
}

/// The lowest `length` of 64 bits.
#[inline]
fn mask(length: usize) -> u64 {
    if length >= 64 { !0 } else { (1 << length) - 1 }
}
