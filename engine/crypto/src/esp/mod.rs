//! ESP's ciphers (docs/adr/0009): AES-GCM (RFC 4106), ChaCha20-Poly1305 (RFC 7634), AES-CBC (RFC 3602) with HMAC-SHA-2
//! (RFC 4868). What is inside the text (padding, next header) is `pellicle_proto::esp`'s.

mod aead;
mod cbc;
mod wiped;

use aead::Aead;
use cbc::Cbc;
use std::sync::Arc;
use wiped::Wiped;

pub use crate::Forged;

/// SPI and the low half of the sequence number, in clear before the IV.
pub const HEADER: usize = 8;

/// The numbers are those of docs/protocol/engine.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    AesGcm = 1,
    ChaCha20Poly1305 = 2,
    AesCbcHmacSha256 = 3,
    AesCbcHmacSha384 = 4,
    AesCbcHmacSha512 = 5,
}

impl Algorithm {
    pub const ALL: [Algorithm; 5] = [
        Algorithm::AesGcm,
        Algorithm::ChaCha20Poly1305,
        Algorithm::AesCbcHmacSha256,
        Algorithm::AesCbcHmacSha384,
        Algorithm::AesCbcHmacSha512,
    ];

    pub fn from_number(number: u8) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| *algorithm as u8 == number)
    }
}

/// The field that the algorithm cannot be used with; it tells nothing of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    Icv,
    Encryption,
    Authentication,
}

/// A key ready for use. Clones share it; the bytes are overwritten with the last of them.
#[derive(Clone)]
pub struct Association {
    cipher: Arc<Wiped<Cipher>>,
    icv: usize,
    extended: bool,
}

#[expect(clippy::large_enum_variant, reason = "behind an Arc; what lies behind another pointer would not be wiped")]
enum Cipher {
    Aead(Aead),
    Cbc(Cbc),
}

/// An ESP packet in a slab: `length` bytes at `start`, from SPI to ICV.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packet {
    pub sequence: u64,
    pub start: usize,
    pub length: usize,
}

impl Association {
    /// `icv` in bytes: 8, 12 or 16 of AES-GCM, 16 of ChaCha20-Poly1305, half the hash's length of the HMACs (and 12 of
    /// SHA-256, as Linux truncates it unless told otherwise). `encryption` of an AEAD ends with 4 bytes of salt and needs
    /// no `authentication`; that of an HMAC has 16 to 128 bytes. Sequence numbers have 64 bits.
    pub fn new(
        algorithm: Algorithm,
        icv: usize,
        encryption: &[u8],
        authentication: &[u8],
    ) -> Result<Association, BadKey> {
        let legal: &[usize] = match algorithm {
            Algorithm::AesGcm => &[8, 12, 16],
            Algorithm::ChaCha20Poly1305 => &[16],
            Algorithm::AesCbcHmacSha256 => &[12, 16],
            Algorithm::AesCbcHmacSha384 => &[24],
            Algorithm::AesCbcHmacSha512 => &[32],
        };
        if !legal.contains(&icv) {
            return Err(BadKey::Icv);
        }
        let cipher = match algorithm {
            Algorithm::AesGcm | Algorithm::ChaCha20Poly1305 => {
                let aead = Aead::new(algorithm, encryption).ok_or(BadKey::Encryption)?;
                if !authentication.is_empty() {
                    return Err(BadKey::Authentication);
                }
                Cipher::Aead(aead)
            }
            _ => Cipher::Cbc(Cbc::new(algorithm, encryption, authentication)?),
        };
        Ok(Association { cipher: Arc::new(Wiped::new(cipher)), icv, extended: true })
    }

    /// The same key with sequence numbers of 32 bits, whose high half is neither sent nor authenticated.
    pub fn without_extended_sequence(mut self) -> Association {
        self.extended = false;
        self
    }

    /// Bytes between header and text.
    #[inline]
    pub fn iv_len(&self) -> usize {
        match &**self.cipher {
            Cipher::Aead(_) => aead::IV,
            Cipher::Cbc(_) => cbc::BLOCK,
        }
    }

    /// Bytes behind the text.
    #[inline]
    pub fn icv_len(&self) -> usize {
        self.icv
    }

    /// The text's length, trailer included, has to be a multiple of this (RFC 4303 2.4).
    #[inline]
    pub fn block(&self) -> usize {
        match &**self.cipher {
            Cipher::Aead(_) => 4,
            Cipher::Cbc(_) => cbc::BLOCK,
        }
    }

    /// `packet`: room for header and IV, the text with its trailer, room for the ICV. Writes the rooms and encrypts the
    /// text in place. A sequence number must never be used twice with a key.
    ///
    /// # Panics
    /// When there is less than the rooms, or the text of CBC is not whole blocks.
    #[inline]
    pub fn seal(&self, spi: u32, sequence: u64, packet: &mut [u8]) {
        self.seal_many(spi, packet, &[Packet { sequence, start: 0, length: packet.len() }]);
    }

    /// Decrypts in place: on success the text lies between IV and ICV. `spi` and `sequence` are the packet's own, the
    /// high half of `sequence` as the receiver knows it. A forged packet's text is not what it was, and nothing to be used.
    #[inline]
    pub fn open(&self, spi: u32, sequence: u64, packet: &mut [u8]) -> Result<(), Forged> {
        let header = Header { spi, sequence, extended: self.extended };
        let whole = packet.len() >= HEADER + self.iv_len() + self.icv && packet[..HEADER] == header.clear();
        let genuine = whole
            && match &**self.cipher {
                Cipher::Aead(aead) => aead.open(&header, packet, self.icv),
                Cipher::Cbc(cbc) => cbc.open(&header, packet, self.icv),
            };
        if genuine { Ok(()) } else { Err(Forged) }
    }

    /// `seal` of each packet in the slab. Several at once cost CBC less than one by one: its blocks wait for each other,
    /// those of different packets do not.
    pub fn seal_many(&self, spi: u32, slab: &mut [u8], packets: &[Packet]) {
        let rooms = HEADER + self.iv_len() + self.icv;
        for packet in packets {
            assert!(packet.length >= rooms, "a packet without room for header, IV and ICV");
        }
        match &**self.cipher {
            Cipher::Aead(aead) => {
                for packet in packets {
                    let header = Header { spi, sequence: packet.sequence, extended: self.extended };
                    aead.seal(&header, &mut slab[packet.start..][..packet.length], self.icv);
                }
            }
            Cipher::Cbc(cbc) => cbc.seal_many(spi, self.extended, slab, packets, self.icv),
        }
    }

    /// `open` of each packet in the slab; tells the index of each in turn and whether it is genuine.
    pub fn open_many(&self, spi: u32, slab: &mut [u8], packets: &[Packet], mut tell: impl FnMut(usize, bool)) {
        for (index, packet) in packets.iter().enumerate() {
            let bytes = &mut slab[packet.start..][..packet.length];
            tell(index, self.open(spi, packet.sequence, bytes).is_ok());
        }
    }
}

/// What is authenticated beside the text.
struct Header {
    spi: u32,
    sequence: u64,
    extended: bool,
}

impl Header {
    /// As it stands in the packet.
    #[inline]
    fn clear(&self) -> [u8; HEADER] {
        (u64::from(self.spi) << 32 | self.sequence & 0xffff_ffff).to_be_bytes()
    }

    /// As the AEADs authenticate it (RFC 4106, section 5; RFC 7634, section 2.1), in the first `.1` bytes.
    #[inline]
    fn additional(&self) -> ([u8; 12], usize) {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.spi.to_be_bytes());
        if self.extended {
            bytes[4..].copy_from_slice(&self.sequence.to_be_bytes());
            return (bytes, 12);
        }
        bytes[..HEADER].copy_from_slice(&self.clear());
        (bytes, HEADER)
    }

    /// What the HMACs take behind the packet (RFC 4303, section 2.2.1).
    #[inline]
    fn high(&self) -> Option<[u8; 4]> {
        self.extended.then(|| ((self.sequence >> 32) as u32).to_be_bytes())
    }
}

/// In a time that depends on the lengths only.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}
