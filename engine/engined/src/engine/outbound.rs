//! The sending thread: TUN device → session → UDP. Everything that waits in the device's queue is read and encrypted
//! before the thread sleeps again; nothing is allocated for a packet that can be sent.

use super::counters::Counter;
use super::places::Places;
use super::rcu::Batch;
use super::runs::Runs;
use super::seal::Sealer;
use super::shared::{Errand, Shared};
use super::state::SLOTS;
use super::tap::Sender;
use super::waiting::Waiting;
use pellicle_crypto::Key;
use pellicle_net::send::Route;
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::event::Reason;
use pellicle_proto::request::{Place, Role};
use pellicle_proto::session::{REJECT_AFTER_MESSAGES, alive, stale_on_sending};
use pellicle_proto::split::Split;
use pellicle_proto::virtio::{self, VirtioHeader};
use pellicle_proto::{ecn, ip};
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

pub struct Outbound<'a> {
    shared: &'a Shared,
    runs: Runs,
    waiting: Waiting,
}

/// Where a peer is, and our address to send from.
type Path = (Endpoint, Endpoint);

/// A session to send by, for the time of a batch.
pub struct Sending {
    slot: usize,
    remote: u32,
    born: u64,
    initiator: bool,
    key: Key,
}

impl Sending {
    /// The peer's current session, if it may be used.
    #[inline]
    pub fn of(shared: &Shared, peer: u32, now: u64) -> Option<Sending> {
        let places = Places::load(&shared.state.peers()[peer as usize]);
        let slot = peer as usize * SLOTS + places.get(Place::Current)?;
        let session = &shared.state.sessions()[slot];
        let born = session.born.load(Relaxed);
        let usable =
            session.filled.load(Acquire) != 0 && alive(born, now) && session.sent.load(Relaxed) < REJECT_AFTER_MESSAGES;
        usable.then(|| Sending {
            slot,
            remote: session.remote.load(Relaxed),
            born,
            initiator: session.role.load(Relaxed) == Role::Initiator as u32,
            key: Key::new(&shared.state.keys()[slot].send.get()),
        })
    }

    /// Takes `count` counters for good: whatever happens next, nobody gets them again.
    #[inline]
    fn reserve(&self, shared: &Shared, count: usize) -> Option<u64> {
        let first = shared.state.sessions()[self.slot].sent.fetch_add(count as u64, SeqCst);
        (first < REJECT_AFTER_MESSAGES).then_some(first)
    }
}

impl<'a> Outbound<'a> {
    pub fn new(shared: &'a Shared) -> Outbound<'a> {
        Outbound { shared, runs: Runs::new(), waiting: Waiting::default() }
    }

    #[inline]
    fn send(&mut self, peer: u32, session: &Sending, split: &Split, ecn: u8, path: Path, now: u64) {
        let shared = self.shared;
        let count = split.count();
        let Some(counter) = session.reserve(shared, count) else {
            return shared.counters().add(Counter::NumbersExhausted, count as u64);
        };
        let mtu = shared.mtu.load(Relaxed) as usize;
        let route = Route { destination: path.0, source: path.1, tos: ecn::encapsulate(ecn) };
        let sealer = Sealer { key: &session.key, remote: session.remote, counter, mtu };
        let bytes = sealer.seal(split, &route, &mut self.runs, shared);
        shared.counters().add(Counter::PacketsSent, count as u64);
        note_sent(shared, peer, bytes, true, now);
        if stale_on_sending(session.initiator, session.born, counter, now) {
            shared.notices.want(peer, Reason::OldOnSending, now);
        }
    }

    fn flush_waiting(&mut self, peer: u32, now: u64) {
        let shared = self.shared;
        if Sending::of(shared, peer, now).is_none() {
            return;
        }
        for frame in self.waiting.take(peer, shared) {
            let Some((virtio, packet)) = frame.split_first_chunk::<{ virtio::SIZE }>() else { continue };
            let Some(header) = ip::parse(packet) else { continue };
            let path = shared.state.peers()[peer as usize].path();
            let split = VirtioHeader::decode(virtio).and_then(|virtio| Split::new(&virtio, &packet[..header.total]));
            if let (Some(split), Some(session)) = (split, Sending::of(shared, peer, now)) {
                self.send(peer, &session, &split, header.ecn, path, now);
            }
        }
    }

    /// What still waits is still wanted, for a keeper that came back.
    fn remind(&self, now: u64) {
        for peer in self.waiting.peers() {
            self.shared.notices.want(peer, Reason::Waiting, now);
        }
    }
}

impl Sender for Outbound<'_> {
    /// `frame`: virtio header and packet.
    fn packet(&mut self, frame: &[u8], now: u64, batch: &Batch) {
        let shared = self.shared;
        let Some((virtio, packet)) = frame.split_first_chunk::<{ virtio::SIZE }>() else { return };
        let Some(header) = ip::parse(packet) else { return shared.count(Counter::NotIpOut) };
        let Some(peer) = shared.prefixes.read(batch).lookup(header.family, header.destination) else {
            return shared.count(Counter::NoPeer);
        };
        let slot = &shared.state.peers()[peer as usize];
        let path = slot.path();
        if path.0.family == 0 {
            return shared.count(Counter::NoEndpoint);
        }
        if !self.waiting.is_empty() && self.waiting.has(peer) {
            self.flush_waiting(peer, now);
        }
        let split = VirtioHeader::decode(virtio)
            .and_then(|virtio| Split::new(&virtio, &packet[..header.total]))
            .filter(|split| split.count() <= 65_536);
        let Some(split) = split else { return shared.count(Counter::BadOffload) };
        match Sending::of(shared, peer, now) {
            Some(session) => self.send(peer, &session, &split, header.ecn, path, now),
            None => {
                self.waiting.push(peer, frame, shared);
                shared.notices.want(peer, Reason::Waiting, now);
            }
        }
    }

    #[inline]
    fn enough(&self) -> bool {
        self.runs.enough()
    }

    fn flush(&mut self) {
        self.runs.flush(self.shared);
    }

    fn errand(&mut self, errand: &Errand, now: u64, _batch: &Batch) {
        match errand {
            Errand::Flush(peer) => self.flush_waiting(*peer, now),
            Errand::Drop(peer) => self.waiting.give_up(*peer, self.shared),
            Errand::Remind => self.remind(now),
            Errand::Dummy(_) => {}
        }
    }
}

/// Bookkeeping for the keeper's timers.
#[inline]
pub fn note_sent(shared: &Shared, peer: u32, bytes: usize, data: bool, now: u64) {
    let slot = &shared.state.peers()[peer as usize];
    slot.tx_bytes.fetch_add(bytes as u64, Relaxed);
    slot.last_sent.store(now, Relaxed);
    slot.first_unacknowledged.store(0, Relaxed);
    if data && slot.first_unanswered.load(Relaxed) == 0 {
        slot.first_unanswered.store(now, Relaxed);
    }
    shared.notices.mark(peer);
}
