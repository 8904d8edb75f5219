//! Poly1305 (RFC 8439, section 2.5) of eight messages at once, one in each lane, in limbs of 44, 44 and 42 bits as
//! AVX-512 IFMA multiplies them. Bounds: limb 0 stays below 2^51, limbs 1 and 2 below 2^46, so that every factor has
//! fewer than 52 bits and every sum of products fewer than 64.

use super::chacha::transpose_quarters;
use super::mask;
use crate::Message;
use std::arch::x86_64::*;

pub const LANES: usize = 8;
const M44: u64 = (1 << 44) - 1;
const M42: u64 = (1 << 42) - 1;
/// 2^128 in the third limb: every block is whole, the AEAD pads with zeros.
const TOP: u64 = 1 << 40;

#[derive(Clone, Copy, Default)]
pub struct OneTimeKey {
    /// Three limbs.
    r: [u64; 3],
    s: u128,
}

impl OneTimeKey {
    pub fn new([r0, r1, s0, s1]: [u64; 4]) -> OneTimeKey {
        let (low, high) = (r0 & 0x0fff_fffc_0fff_ffff, r1 & 0x0fff_fffc_0fff_fffc);
        OneTimeKey {
            r: [low & M44, (low >> 44 | high << 20) & M44, high >> 24],
            s: u128::from(s1) << 64 | u128::from(s0),
        }
    }
}

/// The tags of up to eight encrypted texts (RFC 8439, section 2.8, without additional text).
///
/// # Safety
/// Every message lies inside `slab`; as many keys as messages or more.
#[target_feature(enable = "avx512f,avx512bw,avx512ifma")]
pub unsafe fn tags(keys: &[OneTimeKey], slab: &[u8], messages: &[Message]) -> [u128; LANES] {
    let mut lengths = [0; LANES];
    let mut starts = [0; LANES];
    for (lane, message) in messages.iter().enumerate() {
        (lengths[lane], starts[lane]) = (message.length, message.start);
    }
    let longest = lengths.iter().max().map_or(0, |length| *length);
    let shortest = messages.iter().map(|message| message.length).min().unwrap_or(0);
    let mut sum = Accumulator::new(keys);
    for at in (0..longest).step_by(64) {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for lane in 0..LANES {
            let left = lengths[lane].saturating_sub(at);
            // SAFETY: as the caller promises; what the mask leaves out is not read.
            rows[lane] =
                unsafe { _mm512_maskz_loadu_epi8(mask(left), slab.as_ptr().wrapping_add(starts[lane] + at).cast()) };
        }
        let words = transpose(&rows);
        for block in 0..4 {
            let at = at + block * 16;
            if at >= longest {
                break;
            }
            let (low, high) = (words[block * 2], words[block * 2 + 1]);
            if at + 16 <= shortest {
                sum.add(low, high, !0);
            } else {
                let lanes = (0..LANES).fold(0, |lanes, lane| lanes | u8::from(at < lengths[lane]) << lane);
                sum.add(low, high, lanes);
            }
        }
    }
    sum.add(_mm512_setzero_si512(), load(&lengths.map(|length| length as u64)), !0);
    sum.finish(keys)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(lanes: &[u64; LANES]) -> __m512i {
    // SAFETY: an unaligned load of 64 bytes.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn twenty(value: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_slli_epi64::<4>(value), _mm512_slli_epi64::<2>(value))
}

struct Accumulator {
    h: [__m512i; 3],
    r: [__m512i; 3],
    /// 20 r1 and 20 r2: what passes 2^132 comes back four times five.
    r20: [__m512i; 2],
}

impl Accumulator {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(keys: &[OneTimeKey]) -> Accumulator {
        let mut limbs = [[0; LANES]; 3];
        for (lane, key) in keys.iter().enumerate().take(LANES) {
            [limbs[0][lane], limbs[1][lane], limbs[2][lane]] = key.r;
        }
        let [r0, r1, r2] = [load(&limbs[0]), load(&limbs[1]), load(&limbs[2])];
        Accumulator { h: [_mm512_setzero_si512(); 3], r: [r0, r1, r2], r20: [twenty(r1), twenty(r2)] }
    }

    /// h = (h + block) r, in the lanes named.
    #[inline]
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn add(&mut self, low: __m512i, high: __m512i, lanes: u8) {
        let m44 = _mm512_set1_epi64(M44 as i64);
        let m42 = _mm512_set1_epi64(M42 as i64);
        let zero = _mm512_setzero_si512();
        let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
        let top = _mm512_or_si512(_mm512_srli_epi64::<24>(high), _mm512_set1_epi64(TOP as i64));
        let h0 = _mm512_add_epi64(self.h[0], _mm512_and_si512(low, m44));
        let h1 = _mm512_add_epi64(self.h[1], _mm512_and_si512(middle, m44));
        let h2 = _mm512_add_epi64(self.h[2], top);
        let ([r0, r1, r2], [s1, s2]) = (self.r, self.r20);
        macro_rules! products {
            ($multiply:ident, $a:ident, $b:ident, $c:ident) => {
                $multiply($multiply($multiply(zero, h1, $b), h2, $c), h0, $a)
            };
        }
        let low0 = products!(_mm512_madd52lo_epu64, r0, s2, s1);
        let low1 = products!(_mm512_madd52lo_epu64, r1, r0, s2);
        let low2 = products!(_mm512_madd52lo_epu64, r2, r1, r0);
        let high0 = products!(_mm512_madd52hi_epu64, r0, s2, s1);
        let high1 = products!(_mm512_madd52hi_epu64, r1, r0, s2);
        let high2 = products!(_mm512_madd52hi_epu64, r2, r1, r0);
        // 2^52 is 2^8 of the next limb, after the third 2^10
        let low1 =
            _mm512_add_epi64(low1, _mm512_add_epi64(_mm512_slli_epi64::<8>(high0), _mm512_srli_epi64::<44>(low0)));
        let low2 =
            _mm512_add_epi64(low2, _mm512_add_epi64(_mm512_slli_epi64::<8>(high1), _mm512_srli_epi64::<44>(low1)));
        let over = _mm512_add_epi64(_mm512_slli_epi64::<10>(high2), _mm512_srli_epi64::<42>(low2));
        let five = _mm512_add_epi64(over, _mm512_slli_epi64::<2>(over));
        let next = [
            _mm512_add_epi64(_mm512_and_si512(low0, m44), five),
            _mm512_and_si512(low1, m44),
            _mm512_and_si512(low2, m42),
        ];
        for (h, next) in self.h.iter_mut().zip(next) {
            *h = _mm512_mask_mov_epi64(*h, lanes, next);
        }
    }

    #[target_feature(enable = "avx512f")]
    fn finish(&self, keys: &[OneTimeKey]) -> [u128; LANES] {
        let mut limbs = [[0u64; LANES]; 3];
        for (lanes, h) in limbs.iter_mut().zip(self.h) {
            // SAFETY: an unaligned store of 64 bytes.
            unsafe { _mm512_storeu_si512(lanes.as_mut_ptr().cast(), h) };
        }
        let mut tags = [0; LANES];
        for (lane, (tag, key)) in tags.iter_mut().zip(keys).enumerate() {
            *tag = reduce([limbs[0][lane], limbs[1][lane], limbs[2][lane]]).wrapping_add(key.s);
        }
        tags
    }
}

/// The limbs modulo 2^130 - 5, of which the lowest 128 bits.
#[inline]
fn reduce([mut h0, mut h1, mut h2]: [u64; 3]) -> u128 {
    // the second time at most one is carried around, the third time nothing
    for _ in 0..3 {
        h1 += h0 >> 44;
        h2 += h1 >> 44;
        (h0, h1) = ((h0 & M44) + (h2 >> 42) * 5, h1 & M44);
        h2 &= M42;
    }
    h1 += h0 >> 44;
    (h0, h1, h2) = (h0 & M44, h1 & M44, h2 + (h1 >> 44));
    // h + 5 reaches 2^130 if and only if h is not below the modulus
    let carry = (h0 + 5) >> 44;
    let carry = (h1 + carry) >> 44;
    let above = ((h2 + carry) >> 42) & 1;
    let low = u128::from(h0) | u128::from(h1) << 44 | u128::from(h2) << 88;
    low.wrapping_add(u128::from(above * 5))
}

/// Register `n` of the answer holds word `n` of every row.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512i; LANES]) -> [__m512i; LANES] {
    let mut even = [_mm512_setzero_si512(); 4];
    let mut odd = even;
    for pair in 0..4 {
        even[pair] = _mm512_unpacklo_epi64(rows[pair * 2], rows[pair * 2 + 1]);
        odd[pair] = _mm512_unpackhi_epi64(rows[pair * 2], rows[pair * 2 + 1]);
    }
    let [a, c, e, g] = transpose_quarters(even);
    let [b, d, f, h] = transpose_quarters(odd);
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::{Accumulator, OneTimeKey, load, reduce};

    /// RFC 8439, appendix A.3, vectors 7 to 11: (r, blocks, s, tag), each number in little endian as it stands there.
    #[test]
    fn rfc_8439_around_the_modulus() {
        if !crate::wide::available() {
            eprintln!("skipped: needs AVX-512 IFMA");
            return;
        }
        const ONES: u128 = !0;
        let (wide, block) = (1 | 4 << 64, 0xb943_5e50_d794_35e3);
        let second = 1 << 64 | 0xcd79_435e_50d7_9433;
        let vectors: [(u128, &[u128], u128, u128); 7] = [
            (2, &[ONES], 0, 3),
            (2, &[2], ONES, 3),
            (1, &[ONES, ONES - 0xf, 0x11], 0, 5),
            (1, &[ONES, u128::from_le_bytes([0xfe; 16]) - 3, u128::from_le_bytes([1; 16])], 0, 0),
            (2, &[ONES - 2], 0, ONES - 5),
            (wide, &[block, second, 0, 1], 0, 0x14 | 0x55 << 64),
            (wide, &[block, second, 0], 0, 0x13),
        ];
        for (number, (r, blocks, s, tag)) in vectors.into_iter().enumerate() {
            let halves = |value: u128| [value as u64, (value >> 64) as u64];
            let ([r0, r1], [s0, s1]) = (halves(r), halves(s));
            // another key in the lanes beside it
            let mut keys = [OneTimeKey::new([!0, !0, 1, 2]); 8];
            keys[number] = OneTimeKey::new([r0, r1, s0, s1]);
            // SAFETY: the processor is able to, as seen above.
            let found = unsafe {
                let mut sum = Accumulator::new(&keys);
                for block in blocks {
                    let [low, high] = halves(*block).map(|half| [half; 8]);
                    sum.add(load(&low), load(&high), !0);
                }
                sum.finish(&keys)
            };
            assert_eq!(found[number], tag, "vector {number}");
        }
    }

    #[test]
    fn reduces_around_the_modulus() {
        const M44: u64 = super::M44;
        const M42: u64 = super::M42;
        assert_eq!(reduce([0, 0, 0]), 0);
        // 2^130 - 6, - 5, - 4, - 1
        assert_eq!(reduce([M44 - 5, M44, M42]), (!0u128) - 5);
        assert_eq!(reduce([M44 - 4, M44, M42]), 0);
        assert_eq!(reduce([M44 - 3, M44, M42]), 1);
        assert_eq!(reduce([M44, M44, M42]), 4);
        // 2^130 is 5; limbs as wide as they get
        assert_eq!(reduce([0, 0, M42 + 1]), 5);
        assert_eq!(reduce([M44 + 1, M44, M42]), 5);
        assert_eq!(reduce([1 << 51, 0, 0]), 1 << 51);
        assert_eq!(reduce([0, 1 << 46, 0]), 1 << 90);
        assert_eq!(reduce([1 << 51, 1 << 46, 1 << 46]), (1 << 51) + (1 << 90) + (5 << 4));
    }
}
