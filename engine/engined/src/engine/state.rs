//! The shared memory: peers, sessions, keys, replay windows, allowed IPs and counters. It is the truth; what else the
//! engine holds is made from it at every start. Everything in it is an atomic, so that the control thread may write
//! while packet threads read, and an engine killed between any two writes leaves something that `repair` can read.

use super::counters::{Counters, ROOM};
use super::places::Places;
use super::prefix_slots::{PrefixSlot, PrefixSlots};
use super::region::{Region, Shared, bytes_to_words, words_to_bytes};
use pellicle_net::memory::Mapping;
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::event::Activity;
use pellicle_proto::replay::ReplayWindow;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// Changes with every change of the layout: a new engine refuses memory of another one.
const MAGIC: u64 = 0x3130_656c_6c65_7032;
/// Previous, current, next, and one to fill while those three are in use.
pub const SLOTS: usize = 4;
const PREFIXES_PER_PEER: usize = 8;
/// A single peer may have as many as all of IPv4 in /16 twice over, as WireGuard's own test has it.
const LEAST_PREFIXES: usize = 1 << 17;

#[repr(C, align(64))]
struct Head {
    magic: AtomicU64,
    instance: [AtomicU64; 2],
    max_peers: AtomicU32,
    /// Every prefix slot from here on has never been used.
    prefixes_used: AtomicU32,
    counters: [AtomicU64; ROOM],
}

// SAFETY: atomics alone.
unsafe impl Shared for Head {}

#[repr(C, align(64))]
pub struct Peer {
    pub used: AtomicU32,
    pub places: AtomicU32,
    public_key: [AtomicU64; 4],
    /// Its lowest bit says which of the two pairs of endpoints counts.
    version: AtomicU32,
    /// Where it is, and our own address that it last wrote to.
    endpoints: [[AtomicU64; 6]; 2],
    pub first_unanswered: AtomicU64,
    pub first_unacknowledged: AtomicU64,
    pub last_sent: AtomicU64,
    pub last_received: AtomicU64,
    pub last_authenticated: AtomicU64,
    pub rx_bytes: AtomicU64,
    pub tx_bytes: AtomicU64,
}

// SAFETY: atomics alone.
unsafe impl Shared for Peer {}

#[repr(C, align(64))]
pub struct Session {
    pub filled: AtomicU32,
    pub local: AtomicU32,
    pub remote: AtomicU32,
    pub role: AtomicU32,
    pub born: AtomicU64,
    /// The next counter to send by: taken before it is used, so a killed engine wastes some and repeats none.
    pub sent: AtomicU64,
    pub window: ReplayWindow,
}

// SAFETY: atomics alone.
unsafe impl Shared for Session {}

/// Apart from the sessions, so that few pages have to be kept out of swap.
#[repr(C, align(64))]
pub struct Keys {
    pub send: Secret,
    pub receive: Secret,
}

// SAFETY: atomics alone.
unsafe impl Shared for Keys {}

pub struct Secret([AtomicU64; 4]);

pub struct State {
    region: Region,
    max_peers: usize,
}

struct Layout {
    peers: usize,
    sessions: usize,
    keys: usize,
    prefixes: usize,
    size: usize,
}

const fn layout(max_peers: usize) -> Layout {
    let peers = size_of::<Head>();
    let sessions = peers + max_peers * size_of::<Peer>();
    let keys = (sessions + max_peers * SLOTS * size_of::<Session>()).next_multiple_of(4096);
    let prefixes = (keys + max_peers * SLOTS * size_of::<Keys>()).next_multiple_of(4096);
    let size = (prefixes + max_prefixes(max_peers) * size_of::<PrefixSlot>()).next_multiple_of(4096);
    Layout { peers, sessions, keys, prefixes, size }
}

const fn max_prefixes(max_peers: usize) -> usize {
    let count = max_peers * PREFIXES_PER_PEER;
    if count < LEAST_PREFIXES { LEAST_PREFIXES } else { count }
}

impl State {
    pub const fn size(max_peers: usize) -> usize {
        layout(max_peers).size
    }

    /// Where the keys lie: offset and length.
    pub const fn key_pages(max_peers: usize) -> (usize, usize) {
        let layout = layout(max_peers);
        (layout.keys, layout.prefixes - layout.keys)
    }

    /// Makes new, all-zero memory ready. `instance` is random.
    pub fn format(mapping: Mapping, max_peers: u32, instance: [u8; 16]) -> State {
        let state = State { region: Region::new(mapping), max_peers: max_peers as usize };
        assert!(state.region.size() >= State::size(state.max_peers));
        let head = state.head();
        bytes_to_words(&instance, &head.instance);
        head.max_peers.store(max_peers, Relaxed);
        head.magic.store(MAGIC, Release);
        state
    }

    /// `None`: of another layout.
    pub fn attach(mapping: Mapping) -> Option<State> {
        if mapping.size() < size_of::<Head>() {
            return None;
        }
        let mut state = State { region: Region::new(mapping), max_peers: 0 };
        state.max_peers = state.head().max_peers.load(Relaxed) as usize;
        let fits = state.head().magic.load(Acquire) == MAGIC && state.region.size() == State::size(state.max_peers);
        fits.then_some(state)
    }

    fn head(&self) -> &Head {
        &self.region.part::<Head>(0, 1)[0]
    }

    pub fn max_peers(&self) -> usize {
        self.max_peers
    }

    pub fn instance(&self) -> [u8; 16] {
        words_to_bytes(&self.head().instance)
    }

    pub fn counters(&self) -> Counters<'_> {
        Counters(&self.head().counters)
    }

    pub fn peers(&self) -> &[Peer] {
        self.region.part(layout(self.max_peers).peers, self.max_peers)
    }

    /// `SLOTS` for each peer.
    pub fn sessions(&self) -> &[Session] {
        self.region.part(layout(self.max_peers).sessions, self.max_peers * SLOTS)
    }

    pub fn keys(&self) -> &[Keys] {
        self.region.part(layout(self.max_peers).keys, self.max_peers * SLOTS)
    }

    pub fn prefix_slots(&self) -> PrefixSlots<'_> {
        let all = self.region.part(layout(self.max_peers).prefixes, max_prefixes(self.max_peers));
        PrefixSlots { all, count: &self.head().prefixes_used }
    }

    /// Empties a session that no place refers to and no thread uses.
    pub fn wipe_session(&self, index: usize) {
        let session = &self.sessions()[index];
        session.filled.store(0, Release);
        self.keys()[index].send.set(&[0; 32]);
        self.keys()[index].receive.set(&[0; 32]);
        session.local.store(0, Relaxed);
        session.sent.store(0, Relaxed);
        session.window.reset();
    }

    /// After a start: what a killed engine left half done is undone.
    pub fn repair(&self) {
        for (number, peer) in self.peers().iter().enumerate() {
            let places = Places::load(peer);
            let used = peer.used.load(Acquire) != 0;
            for slot in 0..SLOTS {
                let index = number * SLOTS + slot;
                // A slot that was being filled or wiped counts as empty, and may have keys.
                let (filled, keys) = (self.sessions()[index].filled.load(Relaxed) != 0, &self.keys()[index]);
                let anything = filled || keys.send.get() != [0; 32] || keys.receive.get() != [0; 32];
                if anything && !(used && places.holds(slot)) {
                    self.wipe_session(index);
                }
            }
        }
    }
}

impl Peer {
    pub fn public_key(&self) -> [u8; 32] {
        words_to_bytes(&self.public_key)
    }

    pub fn set_public_key(&self, key: &[u8; 32]) {
        bytes_to_words(key, &self.public_key);
    }

    pub fn endpoint(&self) -> Endpoint {
        self.path().0
    }

    /// Where it is, and the address of ours to send from (`NONE`: the kernel chooses).
    #[inline]
    pub fn path(&self) -> (Endpoint, Endpoint) {
        loop {
            let version = self.version.load(Acquire);
            let words = self.endpoints[version as usize & 1].each_ref().map(|word| word.load(Acquire));
            if self.version.load(Acquire) == version {
                let [a, b, c, d, e, f] = words;
                return (Endpoint::from_words([a, b, c]), Endpoint::from_words([d, e, f]));
            }
        }
    }

    /// One writer at a time; killed anywhere, the old path stays.
    pub fn set_path(&self, endpoint: &Endpoint, source: &Endpoint) {
        let version = self.version.load(Relaxed).wrapping_add(1);
        let words = endpoint.to_words().into_iter().chain(source.to_words());
        for (to, word) in self.endpoints[version as usize & 1].iter().zip(words) {
            to.store(word, Release);
        }
        self.version.store(version, Release);
    }

    pub fn activity(&self) -> Activity {
        Activity {
            first_unanswered: self.first_unanswered.load(Relaxed),
            first_unacknowledged: self.first_unacknowledged.load(Relaxed),
            last_sent: self.last_sent.load(Relaxed),
            last_received: self.last_received.load(Relaxed),
            last_authenticated: self.last_authenticated.load(Relaxed),
            rx_bytes: self.rx_bytes.load(Relaxed),
            tx_bytes: self.tx_bytes.load(Relaxed),
        }
    }

    pub fn forget_activity(&self) {
        for word in [
            &self.first_unanswered,
            &self.first_unacknowledged,
            &self.last_sent,
            &self.last_received,
            &self.last_authenticated,
            &self.rx_bytes,
            &self.tx_bytes,
        ] {
            word.store(0, Relaxed);
        }
    }
}

impl Secret {
    #[inline]
    pub fn get(&self) -> [u8; 32] {
        words_to_bytes(&self.0)
    }

    pub fn set(&self, key: &[u8; 32]) {
        bytes_to_words(key, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pellicle_net::memory::create;

    #[test]
    fn repair_leaves_no_key_of_a_slot_half_done() {
        let memory = create(c"pellicle-test", State::size(2)).expect("shared memory");
        let state = State::format(Mapping::new(&memory).expect("a mapping"), 2, [1; 16]);
        state.peers()[0].used.store(1, Relaxed);
        state.peers()[0].places.store(1, Relaxed);
        for (index, filled) in [(0, 1), (1, 0), (2, 1), (SLOTS, 1), (SLOTS + 1, 0)] {
            state.keys()[index].send.set(&[7; 32]);
            state.keys()[index].receive.set(&[8; 32]);
            state.sessions()[index].filled.store(filled, Relaxed);
        }
        state.repair();
        let left: Vec<usize> = (0..2 * SLOTS)
            .filter(|index| state.keys()[*index].send.get() != [0; 32] || state.keys()[*index].receive.get() != [0; 32])
            .collect();
        assert_eq!(left, [0], "only the session that a place of a used peer holds");
        assert_eq!(state.sessions()[0].filled.load(Relaxed), 1);
    }
}
