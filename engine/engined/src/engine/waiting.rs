//! Packets that wait for a session, at most 4,096 and 1 MiB for each peer, so that one that is away leaves room for others,
//! and 8 MiB in all; the oldest of a peer goes first.

use super::counters::Counter;
use super::kind::Kind;
use super::shared::Shared;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::SeqCst;

/// A handshake on a busy machine may take a second.
const PER_PEER: usize = 4096;
const PEER_BYTES: usize = 1 << 20;
const BYTES: usize = 8 << 20;

#[derive(Default)]
struct Queue {
    packets: VecDeque<Box<[u8]>>,
    bytes: usize,
}

#[derive(Default)]
pub struct Waiting {
    queues: HashMap<u32, Queue>,
    bytes: usize,
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    pub fn has(&self, peer: u32) -> bool {
        self.queues.contains_key(&peer)
    }

    pub fn peers(&self) -> Vec<u32> {
        self.queues.keys().copied().collect()
    }

    /// `packet` as read from the TUN device.
    pub fn push<K: Kind>(&mut self, peer: u32, packet: &[u8], shared: &Shared<K>) {
        let queue = self.queues.entry(peer).or_default();
        while queue.packets.len() >= PER_PEER
            || queue.bytes + packet.len() > PEER_BYTES
            || self.bytes + packet.len() > BYTES
        {
            let Some(oldest) = queue.packets.pop_front() else {
                // The others' packets fill all the room.
                shared.count(Counter::WaitingOverflow);
                self.queues.remove(&peer);
                return;
            };
            queue.bytes -= oldest.len();
            self.bytes -= oldest.len();
            shared.errands.waiting.fetch_sub(1, SeqCst);
            shared.count(Counter::WaitingOverflow);
        }
        queue.bytes += packet.len();
        self.bytes += packet.len();
        shared.errands.waiting.fetch_add(1, SeqCst);
        queue.packets.push_back(packet.into());
    }

    /// Nobody waits for a peer's session any more.
    pub fn give_up<K: Kind>(&mut self, peer: u32, shared: &Shared<K>) {
        let gone = self.take(peer, shared);
        shared.counters().add(Counter::WaitingGivenUp, gone.len() as u64);
    }

    /// All of a peer's packets, oldest first.
    pub fn take<K: Kind>(&mut self, peer: u32, shared: &Shared<K>) -> VecDeque<Box<[u8]>> {
        let queue = self.queues.remove(&peer).unwrap_or_default();
        self.bytes -= queue.bytes;
        shared.errands.waiting.fetch_sub(queue.packets.len(), SeqCst);
        queue.packets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::State;
    use pellicle_net::memory::{Mapping, create};

    fn shared() -> Shared {
        let memory = create(c"pellicle-test", State::size(2)).expect("shared memory");
        let state = State::format(Mapping::new(&memory).expect("a mapping"), 2, [1; 16]);
        Shared::new(state, -1, [-1, -1], 1420, false, false).expect("shared")
    }

    #[test]
    fn a_second_of_small_packets_waits() {
        let (mut waiting, shared) = (Waiting::default(), shared());
        for number in 0..4102u32 {
            waiting.push(0, &number.to_be_bytes().repeat(25), &shared);
        }
        assert_eq!(shared.errands.waiting.load(SeqCst), 4096);
        let kept = waiting.take(0, &shared);
        assert_eq!((kept.len(), &kept[0][..4]), (4096, &6u32.to_be_bytes()[..]), "the oldest went");
    }

    #[test]
    fn a_peer_that_is_away_leaves_room_for_others() {
        let shared = shared();
        let (mut waiting, large) = (Waiting::default(), vec![0; 65_000]);
        for _ in 0..200 {
            waiting.push(0, &large, &shared);
        }
        for number in 0..16 {
            waiting.push(1, &[number; 1000], &shared);
        }
        assert_eq!(shared.errands.waiting.load(SeqCst), 32);
        assert_eq!(waiting.take(0, &shared).len(), PEER_BYTES / 65_000);
        let kept: Vec<u8> = waiting.take(1, &shared).iter().map(|packet| packet[0]).collect();
        assert_eq!(kept, (0..16).collect::<Vec<u8>>());
        assert_eq!((waiting.bytes, shared.errands.waiting.load(SeqCst)), (0, 0));
    }
}
