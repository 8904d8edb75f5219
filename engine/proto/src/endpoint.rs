//! The outer address of a peer, as frames carry it (docs/protocol/engine.md).

use crate::reader::Reader;

/// `family` 0 is "none"; an IPv4 address fills the first four bytes. `scope` is an interface index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub family: u8,
    pub port: u16,
    pub scope: u32,
    pub address: [u8; 16],
}

impl Endpoint {
    pub const SIZE: usize = 23;
    pub const NONE: Endpoint = Endpoint { family: 0, port: 0, scope: 0, address: [0; 16] };

    pub fn v4(address: [u8; 4], port: u16) -> Endpoint {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&address);
        Endpoint { family: 4, port, scope: 0, address: bytes }
    }

    pub fn v6(address: [u8; 16], port: u16, scope: u32) -> Endpoint {
        Endpoint { family: 6, port, scope, address }
    }

    pub fn decode(reader: &mut Reader) -> Option<Endpoint> {
        let (family, port, scope, address) = (reader.u8()?, reader.u16()?, reader.u32()?, reader.array()?);
        match family {
            0 => Some(Endpoint::NONE),
            4 | 6 => Some(Endpoint { family, port, scope, address }),
            _ => None,
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.family);
        out.extend_from_slice(&self.port.to_le_bytes());
        out.extend_from_slice(&self.scope.to_le_bytes());
        out.extend_from_slice(&self.address);
    }

    /// Three words, so that it can lie in shared memory as atomics: family, port and scope, then the address.
    pub fn to_words(&self) -> [u64; 3] {
        let (low, high) = self.address.split_at(8);
        let word = |half: &[u8]| half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        [u64::from(self.family) | u64::from(self.port) << 8 | u64::from(self.scope) << 32, word(low), word(high)]
    }

    pub fn from_words(words: [u64; 3]) -> Endpoint {
        let mut address = [0; 16];
        address[..8].copy_from_slice(&words[1].to_le_bytes());
        address[8..].copy_from_slice(&words[2].to_le_bytes());
        Endpoint { family: words[0] as u8, port: (words[0] >> 8) as u16, scope: (words[0] >> 32) as u32, address }
    }
}

/// The outer addresses of a tunnel of IPsec: as endpoints without ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outer {
    pub source: Endpoint,
    pub destination: Endpoint,
}

impl Outer {
    pub fn decode(reader: &mut Reader) -> Option<Outer> {
        let family = reader.u8()?;
        let mut address = || {
            let address: [u8; 16] = reader.array()?;
            let fits = family == 6 || family == 4 && address[4..] == [0; 12];
            fits.then_some(Endpoint { family, port: 0, scope: 0, address })
        };
        Some(Outer { source: address()?, destination: address()? })
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.source.family);
        out.extend_from_slice(&self.source.address);
        out.extend_from_slice(&self.destination.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_everything() {
        for endpoint in [Endpoint::NONE, Endpoint::v4([1, 2, 3, 4], 65535), Endpoint::v6([7; 16], 51871, u32::MAX)] {
            assert_eq!(Endpoint::from_words(endpoint.to_words()), endpoint);
        }
    }
}
