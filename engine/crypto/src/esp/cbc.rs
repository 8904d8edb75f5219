//! AES-CBC (RFC 3602), authenticated by HMAC-SHA-2 (RFC 4868) over header, IV, encrypted text and the high half of the
//! sequence number. AES of RustCrypto, HMAC of ring.

use super::{Algorithm, BadKey, HEADER, Header, Packet, same};
use aes::cipher::array::Array;
use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockModeDecrypt,
    BlockSizeUser, InnerIvInit, KeyInit,
};
use aes::{Aes128, Aes192, Aes256};
use ring::{digest, hmac};

pub const BLOCK: usize = 16;
/// Packets whose blocks are encrypted in turn: as many as keep the processor's AES unit busy.
const LANES: usize = 8;

type Block = Array<u8, U16>;

pub struct Cbc {
    aes: Aes,
    hmac: hmac::Key,
}

/// The cipher, and the one that makes IVs.
enum Aes {
    Bits128([Aes128; 2]),
    Bits192([Aes192; 2]),
    Bits256([Aes256; 2]),
}

impl Cbc {
    pub fn new(algorithm: Algorithm, encryption: &[u8], authentication: &[u8]) -> Result<Cbc, BadKey> {
        let hash = match algorithm {
            Algorithm::AesCbcHmacSha256 => hmac::HMAC_SHA256,
            Algorithm::AesCbcHmacSha384 => hmac::HMAC_SHA384,
            _ => hmac::HMAC_SHA512,
        };
        let aes = match encryption.len() {
            16 => Aes::Bits128(pair(encryption)?),
            24 => Aes::Bits192(pair(encryption)?),
            32 => Aes::Bits256(pair(encryption)?),
            _ => return Err(BadKey::Encryption),
        };
        if !(16..=128).contains(&authentication.len()) {
            return Err(BadKey::Authentication);
        }
        Ok(Cbc { aes, hmac: hmac::Key::new(hash, authentication) })
    }

    pub fn seal_many(&self, spi: u32, extended: bool, slab: &mut [u8], packets: &[Packet], icv: usize) {
        for packets in packets.chunks(LANES) {
            match &self.aes {
                Aes::Bits128(ciphers) => encrypt(ciphers, spi, slab, packets, icv),
                Aes::Bits192(ciphers) => encrypt(ciphers, spi, slab, packets, icv),
                Aes::Bits256(ciphers) => encrypt(ciphers, spi, slab, packets, icv),
            }
            for packet in packets {
                let header = Header { spi, sequence: packet.sequence, extended };
                let bytes = &mut slab[packet.start..][..packet.length];
                let (sealed, place) = bytes.split_at_mut(packet.length - icv);
                place.copy_from_slice(&self.authenticate(&header, sealed).as_ref()[..icv]);
            }
        }
    }

    pub fn open(&self, header: &Header, packet: &mut [u8], icv: usize) -> bool {
        let (sealed, tag) = packet.split_at_mut(packet.len() - icv);
        let whole = (sealed.len() - HEADER).is_multiple_of(BLOCK);
        if !whole || !same(&self.authenticate(header, sealed).as_ref()[..icv], tag) {
            return false;
        }
        match &self.aes {
            Aes::Bits128([cipher, _]) => decrypt(cipher, &mut sealed[HEADER..]),
            Aes::Bits192([cipher, _]) => decrypt(cipher, &mut sealed[HEADER..]),
            Aes::Bits256([cipher, _]) => decrypt(cipher, &mut sealed[HEADER..]),
        }
        true
    }

    fn authenticate(&self, header: &Header, sealed: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.hmac);
        context.update(sealed);
        if let Some(high) = header.high() {
            context.update(&high);
        }
        context.sign()
    }
}

/// IVs of CBC must not be foretold (RFC 3602, section 3). The sequence number encrypted by another key is unique, as that
/// is, and means nothing to who has not the key (NIST SP 800-38A, appendix C, first method).
fn pair<C: KeyInit>(key: &[u8]) -> Result<[C; 2], BadKey> {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"pellicle: IVs of AES-CBC in ESP");
    context.update(key);
    let other = context.finish();
    let make = |key| C::new_from_slice(key).map_err(|_| BadKey::Encryption);
    Ok([make(key)?, make(&other.as_ref()[..key.len()])?])
}

fn encrypt<C: BlockCipherEncrypt<BlockSize = U16>>(
    [cipher, ivs]: &[C; 2],
    spi: u32,
    slab: &mut [u8],
    packets: &[Packet],
    icv: usize,
) {
    let mut lanes = [const { (0, 0) }; LANES];
    for (lane, packet) in lanes.iter_mut().zip(packets) {
        let header = Header { spi, sequence: packet.sequence, extended: true };
        let bytes = &mut slab[packet.start..][..packet.length];
        bytes[..HEADER].copy_from_slice(&header.clear());
        let mut iv = Block::default();
        iv[8..].copy_from_slice(&packet.sequence.to_be_bytes());
        ivs.encrypt_block(&mut iv);
        bytes[HEADER..HEADER + BLOCK].copy_from_slice(&iv);
        let text = HEADER + BLOCK..packet.length - icv;
        assert!(text.len().is_multiple_of(BLOCK), "a text of CBC that is not whole blocks");
        *lane = (packet.start + text.start, packet.start + text.end);
    }
    cipher.encrypt_with_backend(Chains { slab, lanes: &mut lanes[..packets.len()] });
}

/// Chains of blocks in a slab, each from `.0` (behind its IV) to `.1`, encrypted side by side.
struct Chains<'a> {
    slab: &'a mut [u8],
    lanes: &'a mut [(usize, usize)],
}

impl BlockSizeUser for Chains<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for Chains<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, backend: &B) {
        let mut chains = [Block::default(); LANES];
        for (chain, (at, _)) in chains.iter_mut().zip(&*self.lanes) {
            chain.copy_from_slice(&self.slab[at - BLOCK..*at]);
        }
        loop {
            let mut more = false;
            for (chain, (at, end)) in chains.iter_mut().zip(&mut *self.lanes) {
                if at == end {
                    continue;
                }
                let block = &mut self.slab[*at..*at + BLOCK];
                for (chained, byte) in chain.iter_mut().zip(&*block) {
                    *chained ^= byte;
                }
                backend.encrypt_block_inplace(chain);
                block.copy_from_slice(chain);
                *at += BLOCK;
                more = true;
            }
            if !more {
                return;
            }
        }
    }
}

/// `bytes`: the IV, then whole blocks.
fn decrypt<C: BlockCipherDecrypt<BlockSize = U16>>(cipher: &C, bytes: &mut [u8]) {
    let (blocks, _) = Block::slice_as_chunks_mut(bytes);
    if let Some((iv, text)) = blocks.split_first_mut() {
        cbc::Decryptor::inner_iv_init(cipher, iv).decrypt_blocks(text);
    }
}
