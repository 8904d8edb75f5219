//! BLAKE2s (RFC 7693) with a key and 16 bytes of digest: WireGuard's mac1 (paper, section 5.4.4). The rest of handshakes is
//! not calculated here.

const BLOCK: usize = 64;
const IV: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// RFC 7693, 2.7: which words of the block each round takes.
#[rustfmt::skip]
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// Keyed BLAKE2s-128 of `text`.
pub fn mac(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    let mut state = IV;
    state[0] ^= 0x0101_0000 ^ 32 << 8 ^ 16;
    let mut first = [0; BLOCK];
    first[..32].copy_from_slice(key);
    compress(&mut state, &first, BLOCK, text.is_empty());
    let blocks = text.chunks(BLOCK);
    let count = blocks.len();
    let mut total = BLOCK;
    for (index, block) in blocks.enumerate() {
        let mut whole = [0; BLOCK];
        whole[..block.len()].copy_from_slice(block);
        total += block.len();
        compress(&mut state, &whole, total, index + 1 == count);
    }
    let mut digest = [0; 16];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

fn compress(state: &mut [u32; 8], block: &[u8; BLOCK], total: usize, last: bool) {
    let words: [u32; 16] = std::array::from_fn(|word| {
        u32::from_le_bytes([block[word * 4], block[word * 4 + 1], block[word * 4 + 2], block[word * 4 + 3]])
    });
    let mut v: [u32; 16] = std::array::from_fn(|index| if index < 8 { state[index] } else { IV[index - 8] });
    v[12] ^= total as u32;
    v[13] ^= (total as u64 >> 32) as u32;
    v[14] ^= if last { u32::MAX } else { 0 };
    for order in &SIGMA {
        for (step, [a, b, c, d]) in [
            [0, 4, 8, 12],
            [1, 5, 9, 13],
            [2, 6, 10, 14],
            [3, 7, 11, 15],
            [0, 5, 10, 15],
            [1, 6, 11, 12],
            [2, 7, 8, 13],
            [3, 4, 9, 14],
        ]
        .into_iter()
        .enumerate()
        {
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[order[step * 2]]);
            v[d] = (v[d] ^ v[a]).rotate_right(16);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(12);
            v[a] = v[a].wrapping_add(v[b]).wrapping_add(words[order[step * 2 + 1]]);
            v[d] = (v[d] ^ v[a]).rotate_right(8);
            v[c] = v[c].wrapping_add(v[d]);
            v[b] = (v[b] ^ v[c]).rotate_right(7);
        }
    }
    for (index, word) in state.iter_mut().enumerate() {
        *word ^= v[index] ^ v[index + 8];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with noble-hashes 2.4: `blake2s(text, { key, dkLen: 16 })`.
    #[test]
    fn every_length_around_block_edges() {
        let key = std::array::from_fn(|index| index as u8);
        let mut all = Vec::new();
        for length in 0..300 {
            let text: Vec<u8> = (0..length).map(|index| (7 * index + length) as u8).collect();
            all.extend(mac(&key, &text));
        }
        assert_eq!(mac(&key, &all[..16]), FIRST);
        assert_eq!(mac(&key, &all), ALL);
    }

    const FIRST: [u8; 16] =
        [0xae, 0x43, 0x1c, 0x58, 0x37, 0x73, 0x6d, 0x13, 0xce, 0x7d, 0x8a, 0x07, 0x7b, 0xa6, 0x22, 0x5f];
    const ALL: [u8; 16] =
        [0xc7, 0x9a, 0xaf, 0xc0, 0x42, 0x4b, 0xef, 0x07, 0xf6, 0x86, 0x29, 0x3b, 0x29, 0x1c, 0xb5, 0x28];
}
