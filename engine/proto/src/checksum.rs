//! The Internet checksum (RFC 1071). Sums are kept in the machine's byte order and folded at the end; the order does
//! not matter to a ones' complement sum (section 2, B).

/// A sum not yet folded.
#[derive(Clone, Copy, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds bytes that begin at an even offset of what is summed; an odd last byte is padded with zero.
    #[inline]
    pub fn plus(self, bytes: &[u8]) -> Sum {
        #[cfg(target_arch = "x86_64")]
        if bytes.len() >= 128 && std::is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            return Sum(self.0 + unsafe { sum_avx2(bytes) });
        }
        Sum(self.0 + sum(bytes))
    }

    /// Adds a number as 16-bit words in network order.
    #[inline]
    pub fn plus_u32(self, value: u32) -> Sum {
        self.plus(&value.to_be_bytes())
    }

    /// The folded sum as the two bytes that stand in a packet, not complemented.
    #[inline]
    pub fn fold(self) -> [u8; 2] {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        (sum as u16).to_ne_bytes()
    }

    /// The checksum that stands in a header.
    #[inline]
    pub fn checksum(self) -> [u8; 2] {
        let [high, low] = self.fold();
        [!high, !low]
    }

    /// The sum over a text that includes its checksum is all ones.
    #[inline]
    pub fn valid(self) -> bool {
        self.fold() == [0xff, 0xff]
    }
}

/// The sum of 32-bit words; a packet has at most 2^14 of them, so 64 bits never overflow.
#[inline(always)]
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(4);
    let mut total: u64 =
        words.by_ref().map(|word| u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))).sum();
    let rest = words.remainder();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(last));
    total
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum(bytes)
}

#[cfg(test)]
pub mod reference {
    /// Word by word, straight from the definition: what the fast one is held against.
    pub fn ones_sum(parts: &[&[u8]]) -> u16 {
        let bytes: Vec<u8> = parts.concat();
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 3.
    #[test]
    fn rfc_1071() {
        assert_eq!(Sum::default().plus(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), [0xdd, 0xf2]);
    }

    proptest! {
        #[test]
        fn equals_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..2000), extra in any::<u32>()) {
            let expected = reference::ones_sum(&[&extra.to_be_bytes(), &bytes]);
            prop_assert_eq!(Sum::default().plus(&bytes).plus_u32(extra).fold(), expected.to_be_bytes());
        }
    }
}
