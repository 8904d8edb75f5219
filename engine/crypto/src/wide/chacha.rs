//! ChaCha20 (RFC 8439, section 2.3), sixteen blocks at once: register `n` holds word `n` of every block.

use std::arch::x86_64::*;

pub const LANES: usize = 16;
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// Four quarter rounds side by side. A macro, since what takes registers through closures or arrays of places does not
/// stay in registers.
macro_rules! quarters {
    ($state:ident, $($row:tt),*) => {
        $(quarters!(@step $state $row 0 1 3 16);)*
        $(quarters!(@step $state $row 2 3 1 12);)*
        $(quarters!(@step $state $row 0 1 3 8);)*
        $(quarters!(@step $state $row 2 3 1 7);)*
    };
    (@step $state:ident $row:tt $to:tt $by:tt $turned:tt $bits:tt) => {{
        const ROW: [usize; 4] = $row;
        const TO: usize = ROW[$to];
        const TURNED: usize = ROW[$turned];
        $state[TO] = _mm512_add_epi32($state[TO], $state[ROW[$by]]);
        $state[TURNED] = _mm512_rol_epi32::<$bits>(_mm512_xor_si512($state[TURNED], $state[TO]));
    }};
}

/// Which block goes through which lane, and where its key stream is added.
#[derive(Default)]
pub struct Lanes {
    block: [u32; LANES],
    nonce_low: [u32; LANES],
    nonce_high: [u32; LANES],
    at: [usize; LANES],
    mask: [u64; LANES],
    used: usize,
}

impl Lanes {
    /// True when the lanes are full. `mask`: which of the 64 bytes at `at` there are.
    #[inline]
    pub fn push(&mut self, counter: u64, block: u32, at: usize, mask: u64) -> bool {
        let lane = self.used;
        self.block[lane] = block;
        self.nonce_low[lane] = counter as u32;
        self.nonce_high[lane] = (counter >> 32) as u32;
        self.at[lane] = at;
        self.mask[lane] = mask;
        self.used += 1;
        self.used == LANES
    }

    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds the key stream and begins anew.
    ///
    /// # Safety
    /// What the masks name lies inside `slab`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn apply(&mut self, key: &[u32; 8], slab: &mut [u8]) {
        let stream = self.blocks(key);
        for (lane, block) in stream.into_iter().enumerate().take(self.used) {
            // SAFETY: as the caller promises; bytes that are masked out are not touched.
            unsafe {
                let at = slab.as_mut_ptr().add(self.at[lane]).cast::<i8>();
                let text = _mm512_maskz_loadu_epi8(self.mask[lane], at);
                _mm512_mask_storeu_epi8(at, self.mask[lane], _mm512_xor_si512(text, block));
            }
        }
        self.used = 0;
    }

    /// The key stream of every lane.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn blocks(&self, key: &[u32; 8]) -> [__m512i; LANES] {
        let mut start = [_mm512_setzero_si512(); 16];
        for (row, word) in start.iter_mut().zip(CONSTANTS.iter().chain(key)) {
            *row = _mm512_set1_epi32(*word as i32);
        }
        // SAFETY: unaligned loads from whole arrays of 64 bytes.
        unsafe {
            start[12] = _mm512_loadu_si512(self.block.as_ptr().cast());
            start[14] = _mm512_loadu_si512(self.nonce_low.as_ptr().cast());
            start[15] = _mm512_loadu_si512(self.nonce_high.as_ptr().cast());
        }
        let mut state = start;
        for _ in 0..10 {
            quarters!(state, [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]);
            quarters!(state, [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]);
        }
        for (word, start) in state.iter_mut().zip(start) {
            *word = _mm512_add_epi32(*word, start);
        }
        transpose(&state)
    }
}

/// From one register per word to one register per block.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose(rows: &[__m512i; 16]) -> [__m512i; 16] {
    let mut fours = [[_mm512_setzero_si512(); 4]; 4];
    for (four, row) in fours.iter_mut().zip(rows.chunks_exact(4)) {
        let (a, b) = (_mm512_unpacklo_epi32(row[0], row[1]), _mm512_unpackhi_epi32(row[0], row[1]));
        let (c, d) = (_mm512_unpacklo_epi32(row[2], row[3]), _mm512_unpackhi_epi32(row[2], row[3]));
        *four = [
            _mm512_unpacklo_epi64(a, c),
            _mm512_unpackhi_epi64(a, c),
            _mm512_unpacklo_epi64(b, d),
            _mm512_unpackhi_epi64(b, d),
        ];
    }
    let mut blocks = [_mm512_setzero_si512(); 16];
    for lane in 0..4 {
        let [a, b, c, d] = transpose_quarters([fours[0][lane], fours[1][lane], fours[2][lane], fours[3][lane]]);
        blocks[lane] = a;
        blocks[lane + 4] = b;
        blocks[lane + 8] = c;
        blocks[lane + 12] = d;
    }
    blocks
}

/// Register `i` of the answer holds the quarters `i` of all four.
#[inline]
#[target_feature(enable = "avx512f")]
pub fn transpose_quarters([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low_ab, high_ab) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (low_cd, high_cd) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(low_ab, low_cd),
        _mm512_shuffle_i32x4::<0xdd>(low_ab, low_cd),
        _mm512_shuffle_i32x4::<0x88>(high_ab, high_cd),
        _mm512_shuffle_i32x4::<0xdd>(high_ab, high_cd),
    ]
}

#[inline]
#[target_feature(enable = "avx512f")]
pub fn low_half(block: __m512i) -> [u64; 4] {
    let mut words = [0; 4];
    // SAFETY: an unaligned store of 32 bytes.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), _mm512_castsi512_si256(block)) };
    words
}
