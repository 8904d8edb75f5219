//! What differs between devices of WireGuard and of IPsec, as far as the supervisor is concerned: the shared memory, the
//! sockets, and whether there is a keeper.

use crate::engine::ipsec::Memory;
use crate::engine::state::State;
use pellicle_net::memory::Mapping;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wireguard,
    Ipsec,
}

impl Kind {
    pub fn from_word(word: &str) -> Option<Kind> {
        [Kind::Wireguard, Kind::Ipsec].into_iter().find(|kind| kind.word() == word)
    }

    pub fn word(self) -> &'static str {
        match self {
            Kind::Wireguard => "wireguard",
            Kind::Ipsec => "ipsec",
        }
    }

    /// Of IPsec the agent is the engine's client: there is no handshake that somebody would have to keep.
    pub fn has_keeper(self) -> bool {
        self == Kind::Wireguard
    }

    /// Whether what a killed supervisor leaves is gone on with. The identity of IPsec's memory is the node's boot id, which
    /// others have learnt means that counters begin anew.
    pub fn outlives(self) -> bool {
        self == Kind::Wireguard
    }

    /// Bytes of its shared memory.
    pub fn size(self, max_peers: u32) -> usize {
        match self {
            Kind::Wireguard => State::size(max_peers as usize),
            Kind::Ipsec => Memory::size(max_peers as usize),
        }
    }

    /// Where the keys lie: offset and length.
    pub fn key_pages(self, max_peers: u32) -> (usize, usize) {
        match self {
            Kind::Wireguard => State::key_pages(max_peers as usize),
            Kind::Ipsec => Memory::key_pages(max_peers as usize),
        }
    }

    /// Makes new, all-zero memory ready. `instance` is random.
    pub fn format(self, mapping: Mapping, max_peers: u32, instance: [u8; 16]) {
        match self {
            Kind::Wireguard => drop(State::format(mapping, max_peers, instance)),
            Kind::Ipsec => drop(Memory::format(mapping, max_peers, instance)),
        }
    }

    /// Whether this release's engine can go on with it.
    pub fn reads(self, mapping: Mapping) -> bool {
        match self {
            Kind::Wireguard => State::attach(mapping).is_some(),
            Kind::Ipsec => Memory::attach(mapping).is_some(),
        }
    }
}
