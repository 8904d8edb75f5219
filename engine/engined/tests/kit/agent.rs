//! What an agent says to an engine of IPsec (docs/protocol/engine.md, "Devices of IPsec"), by hand.

use super::keeper::{Keeper, endpoint};
use pellicle_crypto::digest::sha256;

/// The slot of the only peer.
pub const PEER: u32 = 7;

/// How packets leave: ESP in UDP to this port, or IP protocol 50.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Udp(u16),
    Esp,
}

/// Algorithm, length of the ICV, encryption key, authentication key.
#[derive(Clone)]
pub struct Keys(pub u8, pub u8, pub Vec<u8>, pub Vec<u8>);

impl Keys {
    pub fn gcm(seed: u8) -> Keys {
        Keys(1, 16, (0..20).map(|index| seed.wrapping_mul(31).wrapping_add(index)).collect(), Vec::new())
    }

    pub fn encode(&self) -> Vec<u8> {
        let Keys(algorithm, icv, encryption, authentication) = self;
        let lengths = [encryption.len() as u8, authentication.len() as u8];
        [&[*algorithm, *icv, lengths[0]], &encryption[..], &lengths[1..], authentication].concat()
    }

    pub fn fingerprint(&self) -> Vec<u8> {
        sha256(&[&self.encode()])[..8].to_vec()
    }
}

pub fn outer(source: &str, destination: &str) -> Vec<u8> {
    let [source, destination] = [source, destination].map(|address| endpoint(address, 0));
    [&source[..1], &source[7..], &destination[7..]].concat()
}

/// An ASSOCIATION frame.
#[derive(Debug)]
pub struct Association {
    pub out: bool,
    pub spi: u32,
    pub sequence: u64,
    pub packets: u64,
}

impl Keeper {
    pub fn identify(&mut self, identity: u8) {
        self.done(0x80, &[&PEER.to_le_bytes()[..], &[identity; 32], &[0; 23]].concat());
    }

    pub fn send_by(&mut self, spi: u32, shape: Shape, outer: &[u8], keys: &Keys) {
        let (encapsulation, port) = match shape {
            Shape::Udp(port) => (1, port),
            Shape::Esp => (0, 0),
        };
        let body = [
            &PEER.to_le_bytes()[..],
            &spi.to_le_bytes(),
            &[encapsulation],
            &u16::to_le_bytes(port),
            outer,
            &keys.encode(),
        ];
        self.done(0x90, &body.concat());
    }

    pub fn receive_by(&mut self, spi: u32, outer: &[u8], keys: &Keys) {
        self.done(0x91, &[&PEER.to_le_bytes()[..], &spi.to_le_bytes(), outer, &keys.encode()].concat());
    }

    /// `direction` 1 in, 2 out.
    pub fn remove(&mut self, direction: u8, spi: u32, keys: &Keys) {
        let body = [&[direction][..], &PEER.to_le_bytes(), &spi.to_le_bytes(), &keys.fingerprint()];
        self.done(0x92, &body.concat());
    }

    pub fn associations(&mut self) -> Vec<Association> {
        self.done(0x88, &[]);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8"));
        let found = self.events.iter().filter(|(kind, _)| *kind == 6).map(|(_, body)| {
            assert_eq!(body.len(), 4 + 1 + 4 + 4 + 1 + 33 + 2 + 8 + 24);
            Association {
                out: body[4] == 2,
                spi: u32::from_le_bytes(body[9..13].try_into().expect("4")),
                sequence: number(&body[57..65]),
                packets: number(&body[65..73]),
            }
        });
        let found = found.collect();
        self.events.retain(|(kind, _)| !(3..=6).contains(kind));
        found
    }
}
