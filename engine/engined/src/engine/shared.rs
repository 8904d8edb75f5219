//! What the three threads of an engine share, whichever kind of device it serves.

use super::counters::{Counter, Counters};
use super::filter::Filter;
use super::index::Index;
use super::kind::Kind;
use super::links::Links;
use super::notice::Notices;
use super::places::Places;
use super::rcu::{Cell, Epochs};
use super::state::{Peer, SLOTS, State};
use pellicle_net::event::Event;
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::prefix_table::PrefixTable;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};

pub struct Shared<K: Kind = State> {
    pub state: K,
    pub prefixes: Cell<PrefixTable>,
    /// What is made from the shared memory, for packets to be found by.
    pub tables: K::Tables,
    pub epochs: Epochs,
    pub tun: i32,
    /// For IPv4 and IPv6; −1 where the machine has none.
    pub udp: [AtomicI32; 2],
    /// IP protocol 50, in the same order; −1 where there is none.
    pub raw: [AtomicI32; 2],
    /// Past the kernel's routing, where that is possible.
    pub links: Links,
    pub mtu: AtomicU32,
    pub tun_udp: bool,
    /// The device's packets have no virtio headers: no super packets either.
    pub plain: bool,
    /// UDP_SEGMENT works.
    pub segment: AtomicBool,
    pub stop: AtomicBool,
    pub wake_outbound: Event,
    pub wake_inbound: Event,
    pub notices: Notices,
    pub filter: Filter,
    pub errands: Errands,
    /// One writer of endpoints at a time: the control thread or the receiving one.
    pub endpoint_writer: Mutex<()>,
}

/// What the sending thread is asked to do with packets that wait for a session.
#[derive(Clone, Copy)]
pub enum Errand {
    Flush(u32),
    Drop(u32),
    /// Say again that sessions are wanted.
    Remind,
    /// A packet without content, so that the peer hears us.
    Dummy(u32),
}

#[derive(Default)]
pub struct Errands {
    list: Mutex<Vec<Errand>>,
    pub pending: AtomicBool,
    pub asked: AtomicU64,
    pub done: AtomicU64,
    /// Packets that wait, of all peers.
    pub waiting: AtomicUsize,
}

#[cfg(test)]
impl Errands {
    /// Nobody else gets at the list meanwhile.
    pub fn hold(&self) -> impl Drop {
        self.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl<K: Kind> Shared<K> {
    pub fn new(state: K, tun: i32, udp: [i32; 2], mtu: u32, tun_udp: bool, segment: bool) -> io::Result<Shared<K>> {
        let max_peers = state.max_peers();
        let shared = Shared {
            prefixes: Cell::new(PrefixTable::default()),
            tables: state.tables(),
            epochs: Epochs::default(),
            tun,
            udp: udp.map(AtomicI32::new),
            raw: [const { AtomicI32::new(-1) }; 2],
            links: Links::new([-1; 3], 0, 0)?,
            mtu: AtomicU32::new(mtu),
            tun_udp,
            plain: false,
            segment: AtomicBool::new(segment),
            stop: AtomicBool::new(false),
            wake_outbound: Event::new()?,
            wake_inbound: Event::new()?,
            notices: Notices::new(max_peers)?,
            filter: Filter::default(),
            errands: Errands::default(),
            endpoint_writer: Mutex::new(()),
            state,
        };
        K::fill_tables(&shared);
        shared.rebuild_prefixes();
        Ok(shared)
    }

    #[inline]
    pub fn counters(&self) -> Counters<'_> {
        self.state.counters()
    }

    #[inline]
    pub fn count(&self, counter: Counter) {
        self.counters().one(counter);
    }

    /// The socket for a family, if there is one.
    #[inline]
    pub fn socket(&self, family: u8) -> Option<i32> {
        let fd = self.udp[usize::from(family == 6)].load(Acquire);
        (fd >= 0).then_some(fd)
    }

    pub fn rebuild_prefixes(&self) {
        let mut table = PrefixTable::default();
        for slot in self.state.prefix_slots().used() {
            if let Some((prefix, peer)) = slot.get() {
                table.set(prefix, peer);
            }
        }
        self.prefixes.replace(table, &self.epochs);
    }

    /// Hands an errand to the sending thread; the result is for `await_errand`.
    pub fn ask(&self, errand: Errand) -> u64 {
        let ticket = {
            let mut list = self.errands.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            list.push(errand);
            self.errands.asked.fetch_add(1, SeqCst) + 1
        };
        self.errands.pending.store(true, SeqCst);
        self.wake_outbound.notify();
        ticket
    }

    pub fn await_errand(&self, ticket: u64) {
        while self.errands.done.load(SeqCst) < ticket && !self.stop.load(SeqCst) {
            std::thread::sleep(std::time::Duration::from_micros(20));
        }
    }

    pub fn take_errands(&self) -> Vec<Errand> {
        self.errands.pending.store(false, SeqCst);
        std::mem::take(&mut *self.errands.list.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

impl Shared {
    /// The kernel chooses the address to send to this peer from, until it writes to one.
    pub fn any_source(&self, peer: &Peer) {
        let _writer = self.endpoint_writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        peer.set_path(&peer.endpoint(), &Endpoint::NONE);
    }

    /// No peer is answered from this address any more, until it writes to it again.
    #[cold]
    pub fn forget_source(&self, source: &Endpoint) {
        let _writer = self.endpoint_writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        for peer in self.state.peers() {
            let (endpoint, own) = peer.path();
            if own == *source {
                peer.set_path(&endpoint, &Endpoint::NONE);
            }
        }
    }

    /// The session slot that a receiver index leads to. Of the control thread, as all that follows.
    pub fn indexed(&self, local: u32) -> Option<usize> {
        // SAFETY: the control thread is the index's one writer.
        unsafe { self.tables.look(|index| index.get(local)) }
    }

    /// Every later packet finds the session in this slot, which one of its peer's places holds.
    pub fn index_session(&self, slot: usize) {
        let local = self.state.sessions()[slot].local.load(Relaxed);
        // SAFETY: as above.
        let done = unsafe { self.tables.look(|index| index.get(local) == Some(slot) || index.set(local, slot)) };
        if !done {
            self.rebuild_index();
        }
    }

    /// No later packet finds it; `synchronise` for those that may have found it already.
    pub fn unindex_session(&self, slot: usize) {
        let local = self.state.sessions()[slot].local.load(Relaxed);
        // SAFETY: as above.
        unsafe { self.tables.look(|index| index.remove(local, slot)) };
    }

    pub fn rebuild_index(&self) {
        let mut found = Vec::new();
        for (number, peer) in self.state.peers().iter().enumerate() {
            let places = Places::load(peer);
            if peer.used.load(Acquire) == 0 || places == Places::NONE {
                continue;
            }
            for slot in (0..SLOTS).filter(|slot| places.holds(*slot)) {
                let index = number * SLOTS + slot;
                found.push((self.state.sessions()[index].local.load(Relaxed), index as u32));
            }
        }
        self.tables.replace(Index::new(&found), &self.epochs);
    }
}
