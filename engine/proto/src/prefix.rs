//! An address prefix, as frames carry it. Bits beyond the length are refused: they would hide a mistake.

use crate::reader::Reader;

/// `bits` holds the address left-aligned: an IPv4 address lies in the upper 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    pub family: u8,
    pub length: u8,
    pub bits: u128,
}

impl Prefix {
    pub const SIZE: usize = 18;

    pub fn new(family: u8, length: u8, address: [u8; 16]) -> Option<Prefix> {
        let bits = u128::from_be_bytes(address);
        let width = match family {
            4 => 32,
            6 => 128,
            _ => return None,
        };
        (length <= width && bits & !mask(length) == 0).then_some(Prefix { family, length, bits })
    }

    pub fn decode(reader: &mut Reader) -> Option<Prefix> {
        let (family, length) = (reader.u8()?, reader.u8()?);
        Prefix::new(family, length, reader.array()?)
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[self.family, self.length]);
        out.extend_from_slice(&self.bits.to_be_bytes());
    }
}

/// The upper `length` bits set.
#[inline]
pub fn mask(length: u8) -> u128 {
    if length == 0 { 0 } else { u128::MAX << (128 - u32::from(length.min(128))) }
}
