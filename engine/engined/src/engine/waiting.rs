//! Packets that wait for a session, at most 128 for each peer and 8 MiB in all; the oldest of a peer goes first.

use super::counters::Counter;
use super::shared::Shared;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::SeqCst;

const PER_PEER: usize = 128;
const BYTES: usize = 8 << 20;

#[derive(Default)]
pub struct Waiting {
    queues: HashMap<u32, VecDeque<Box<[u8]>>>,
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
    pub fn push(&mut self, peer: u32, packet: &[u8], shared: &Shared) {
        let queue = self.queues.entry(peer).or_default();
        while queue.len() >= PER_PEER || self.bytes + packet.len() > BYTES {
            let Some(oldest) = queue.pop_front() else {
                // The others' packets fill all the room.
                shared.count(Counter::WaitingOverflow);
                self.queues.remove(&peer);
                return;
            };
            self.bytes -= oldest.len();
            shared.errands.waiting.fetch_sub(1, SeqCst);
            shared.count(Counter::WaitingOverflow);
        }
        self.bytes += packet.len();
        shared.errands.waiting.fetch_add(1, SeqCst);
        queue.push_back(packet.into());
    }

    /// All of a peer's packets, oldest first.
    pub fn take(&mut self, peer: u32, shared: &Shared) -> VecDeque<Box<[u8]>> {
        let queue = self.queues.remove(&peer).unwrap_or_default();
        self.bytes -= queue.iter().map(|packet| packet.len()).sum::<usize>();
        shared.errands.waiting.fetch_sub(queue.len(), SeqCst);
        queue
    }
}
