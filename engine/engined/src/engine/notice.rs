//! What packet threads have to tell the keeper: handshake messages, wanted sessions, moved endpoints, activity. Nothing
//! here is done for an ordinary packet but setting a bit that is set already.

use pellicle_net::event::Event;
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::event::Reason;
use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

/// As many handshake messages wait for a keeper that is away or slow: thousands of peers may come back at once.
const ROOM: usize = 4096;
pub const PERIOD: u64 = 250_000_000;

pub struct Message {
    pub source: Endpoint,
    pub destination: Endpoint,
    pub ecn: u8,
    pub length: usize,
    pub bytes: [u8; 148],
}

pub enum Notice {
    Handshake(Message),
    Wanted(u32, Reason),
    Confirmed(u32, u32),
    Moved(u32, Endpoint),
    /// The first authenticated packet of a peer came.
    Heard(u32),
}

pub struct Notices {
    queue: Mutex<VecDeque<Notice>>,
    pub event: Event,
    /// When WANTED was last said of a peer.
    wanted: Vec<AtomicU64>,
    /// A bit per peer whose activity changed.
    dirty: Vec<AtomicU64>,
    /// The control thread knows that something is dirty and will look.
    alerted: AtomicBool,
}

impl Notices {
    pub fn new(max_peers: usize) -> io::Result<Notices> {
        Ok(Notices {
            queue: Mutex::new(VecDeque::with_capacity(64)),
            event: Event::new()?,
            wanted: (0..max_peers).map(|_| AtomicU64::new(0)).collect(),
            dirty: (0..max_peers.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            alerted: AtomicBool::new(false),
        })
    }

    /// False when the queue is full (and the notice gone). There is always room for what only the keeper's own orders
    /// bring about: a session is confirmed once.
    pub fn push(&self, notice: Notice) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let room = match notice {
            Notice::Handshake(_) => ROOM,
            Notice::Wanted(..) | Notice::Moved(..) => 2 * ROOM,
            Notice::Confirmed(..) | Notice::Heard(_) => usize::MAX,
        };
        if queue.len() >= room {
            return false;
        }
        let first = queue.is_empty();
        queue.push_back(notice);
        drop(queue);
        // who takes them takes all, or knows that it has to come back
        if first {
            self.event.notify();
        }
        true
    }

    /// Nobody else gets at the queue meanwhile.
    #[cfg(test)]
    pub fn hold(&self) -> impl Drop {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn pop(&self) -> Option<Notice> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front()
    }

    /// Says that a session is wanted, unless that was said less than 250 ms ago.
    pub fn want(&self, peer: u32, reason: Reason, now: u64) {
        let last = &self.wanted[peer as usize];
        let before = last.load(Relaxed);
        if now.saturating_sub(before) >= PERIOD && last.compare_exchange(before, now, Relaxed, Relaxed).is_ok() {
            self.push(Notice::Wanted(peer, reason));
        }
    }

    /// A peer was removed or got a session: the next want counts at once.
    pub fn unwant(&self, peer: u32) {
        self.wanted[peer as usize].store(0, Relaxed);
    }

    #[inline]
    pub fn mark(&self, peer: u32) {
        let (word, bit) = (&self.dirty[peer as usize / 64], 1 << (peer % 64));
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, SeqCst);
            if !self.alerted.swap(true, SeqCst) {
                self.event.notify();
            }
        }
    }

    pub fn alerted(&self) -> bool {
        self.alerted.load(SeqCst)
    }

    /// The peers marked since the last call; when there were none, the next mark wakes the control thread again.
    pub fn take_dirty(&self) -> Vec<u32> {
        let mut found = self.collect();
        if found.is_empty() {
            self.alerted.store(false, SeqCst);
            // a mark between the look and the store saw `alerted` and did not notify
            found = self.collect();
            if !found.is_empty() {
                self.alerted.store(true, SeqCst);
            }
        }
        found
    }

    fn collect(&self) -> Vec<u32> {
        let mut found = Vec::new();
        for (index, word) in self.dirty.iter().enumerate() {
            if word.load(Relaxed) != 0 {
                let mut bits = word.swap(0, SeqCst);
                while bits != 0 {
                    found.push(index as u32 * 64 + bits.trailing_zeros());
                    bits &= bits - 1;
                }
            }
        }
        found
    }
}
