//! The receiving thread: UDP → session → TUN device. Datagrams are decrypted where they arrived and written from there.

use super::counters::Counter;
use super::notice::{Message, Notice};
use super::places::Places;
use super::rcu::{Batch, Thread};
use super::shared::{Errand, Shared};
use super::sink::Sink;
use super::state::SLOTS;
use pellicle_crypto::{Key, Message as Sealed};
use pellicle_net::receive::{Arrival, Receiver};
use pellicle_net::{clock, wait};
use pellicle_proto::event::Reason;
use pellicle_proto::ip;
use pellicle_proto::request::Role;
use pellicle_proto::session::{REJECT_AFTER_MESSAGES, alive, stale_on_receiving};
use pellicle_proto::transport::{HEADER, Message as Kind, OVERHEAD, classify};
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

/// Messages by one system call, each up to 64 KiB.
const MESSAGES: usize = 16;
/// After so many bytes what was joined is written, so that the device's reader begins while the rest is decrypted.
const ENOUGH: usize = 1 << 16;

pub struct Inbound<'a> {
    shared: &'a Shared,
    hand: Hand,
    sink: Sink,
}

/// Data messages of one session, to be decrypted together.
#[derive(Default)]
struct Hand {
    session: Option<Receiving>,
    messages: Vec<Sealed>,
    /// The arrival that each came with, as its number.
    origins: Vec<usize>,
    genuine: Vec<bool>,
    arrivals: Vec<Arrival>,
}

/// A session to receive by, kept for the time of a batch: its slot is not used anew before that is over.
struct Receiving {
    local: u32,
    slot: usize,
    key: Key,
}

impl<'a> Inbound<'a> {
    pub fn new(shared: &'a Shared) -> Inbound<'a> {
        Inbound { shared, hand: Hand::default(), sink: Sink::new(shared.tun_udp) }
    }

    /// Until `shared.stop`.
    pub fn run(&mut self) {
        let shared = self.shared;
        let mut receiver = Receiver::new(MESSAGES);
        while !shared.stop.load(SeqCst) {
            let sockets = [shared.udp[0].load(Acquire), shared.udp[1].load(Acquire)];
            let fds = [sockets[0], sockets[1], shared.wake_inbound.fd()];
            let Ok(ready) = wait::readable(fds, None) else { continue };
            if ready[2] {
                shared.wake_inbound.clear();
                continue;
            }
            for (socket, _) in sockets.into_iter().zip(ready).filter(|(_, ready)| *ready) {
                while self.batch(&mut receiver, socket) && !shared.stop.load(SeqCst) {}
            }
        }
    }

    /// False when nothing more waited.
    fn batch(&mut self, receiver: &mut Receiver, socket: i32) -> bool {
        let shared = self.shared;
        let batch = shared.epochs.enter(Thread::Inbound);
        // The socket may have been replaced since it was polled.
        if !shared.udp.iter().any(|current| current.load(Acquire) == socket) {
            return false;
        }
        let Ok(count) = receiver.receive(socket) else { return false };
        shared.counters().add(Counter::UdpReceives, count as u64);
        let now = clock::now();
        let mut bytes = 0;
        for index in 0..count {
            let arrival = receiver.arrival(index);
            if arrival.source.port == 0 {
                // nobody can be answered there
                shared.count(Counter::PortZero);
                continue;
            }
            let (mut at, end, segment) = (arrival.range.start, arrival.range.end, arrival.segment);
            bytes += arrival.range.len();
            // not `index`: what was dropped above has no place among the arrivals in hand
            let origin = self.hand.arrivals.len();
            self.hand.arrivals.push(arrival);
            while at < end {
                let range = at..(at + segment).min(end);
                at = range.end;
                self.datagram(&mut receiver.slab, range, origin, now, &batch);
            }
            if bytes >= ENOUGH {
                self.open(&mut receiver.slab, now, &batch);
                self.sink.write(&mut receiver.slab, shared);
                bytes = 0;
            }
        }
        self.open(&mut receiver.slab, now, &batch);
        self.sink.write(&mut receiver.slab, shared);
        self.hand.session = None;
        self.hand.arrivals.clear();
        drop(batch);
        count == MESSAGES
    }

    /// Takes a datagram into the hand, if it is a data message of a session; `origin` is its arrival's place there.
    #[inline]
    fn datagram(&mut self, slab: &mut [u8], range: Range<usize>, origin: usize, now: u64, batch: &Batch) {
        let shared = self.shared;
        let (receiver, counter) = match classify(&slab[range.clone()]) {
            Kind::Data { receiver, counter } => (receiver, counter),
            Kind::Handshake => return self.handshake(&slab[range], &self.hand.arrivals[origin], batch),
            Kind::Unknown => return shared.count(Counter::UnknownMessage),
        };
        if self.hand.session.as_ref().is_none_or(|session| session.local != receiver) {
            let Some(slot) = shared.tables.read(batch).get(receiver) else {
                return shared.count(Counter::UnknownSession);
            };
            self.open(slab, now, batch);
            let key = Key::new(&shared.state.keys()[slot].receive.get());
            self.hand.session = Some(Receiving { local: receiver, slot, key });
        }
        let Some(found) = &self.hand.session else { return };
        let session = &shared.state.sessions()[found.slot];
        if !alive(session.born.load(Relaxed), now) || counter >= REJECT_AFTER_MESSAGES {
            return shared.count(Counter::ExpiredSession);
        }
        let length = range.len() - OVERHEAD;
        self.hand.messages.push(Sealed { counter, start: range.start + HEADER, length });
        self.hand.origins.push(origin);
    }

    /// Decrypts what is in the hand, and takes what is genuine further in the order in which it came.
    fn open(&mut self, slab: &mut [u8], now: u64, batch: &Batch) {
        let mut hand = std::mem::take(&mut self.hand);
        if let Some(session) = &hand.session {
            let genuine = &mut hand.genuine;
            session.key.open_many(slab, &hand.messages, |_, verdict| genuine.push(verdict));
            for ((message, origin), genuine) in hand.messages.iter().zip(&hand.origins).zip(&hand.genuine) {
                if *genuine {
                    self.opened(slab, message, session, &hand.arrivals[*origin], now, batch);
                } else {
                    self.shared.count(Counter::Forged);
                }
            }
        }
        hand.messages.clear();
        hand.origins.clear();
        hand.genuine.clear();
        self.hand = hand;
    }

    #[inline]
    fn opened(
        &mut self,
        slab: &mut [u8],
        message: &Sealed,
        found: &Receiving,
        arrival: &Arrival,
        now: u64,
        batch: &Batch,
    ) {
        let shared = self.shared;
        let (slot, peer) = (found.slot, (found.slot / SLOTS) as u32);
        let session = &shared.state.sessions()[slot];
        // The slot may be another session's by now: its window has nothing to do with this counter.
        if session.local.load(Acquire) != found.local {
            return shared.count(Counter::UnknownSession);
        }
        if !session.window.take(message.counter) {
            return shared.count(Counter::Replayed);
        }
        let initiator = session.role.load(Relaxed) == Role::Initiator as u32;
        self.authenticated(peer, slot, found.local, arrival, now);
        note_received(shared, peer, message.length + OVERHEAD, message.length > 0, now);
        if stale_on_receiving(initiator, session.born.load(Relaxed), now) {
            shared.notices.want(peer, Reason::OldOnReceiving, now);
        }
        if message.length == 0 {
            return shared.count(Counter::KeepalivesReceived);
        }
        self.packet(slab, message.start..message.start + message.length, peer, arrival.ecn, batch);
        if self.sink.full() {
            self.sink.write(slab, shared);
        }
    }

    /// A packet is genuine: its session is in use now, and its sender is where it came from.
    #[inline]
    fn authenticated(&self, peer: u32, slot: usize, local: u32, arrival: &Arrival, now: u64) {
        let shared = self.shared;
        let own = &shared.state.peers()[peer as usize];
        if Places::promote(own, slot % SLOTS) {
            shared.notices.unwant(peer);
            shared.notices.push(Notice::Confirmed(peer, local));
            shared.ask(Errand::Flush(peer));
        }
        own.last_authenticated.store(now, Relaxed);
        own.first_unanswered.store(0, Relaxed);
        // answers go to where it came from, from the address that it came to
        let (endpoint, source) = own.path();
        if endpoint != arrival.source || source != arrival.destination {
            let _writer = shared.endpoint_writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            own.set_path(&arrival.source, &arrival.destination);
            if endpoint != arrival.source {
                shared.notices.push(Notice::Moved(peer, arrival.source));
            }
        }
    }

    #[inline]
    fn packet(&mut self, slab: &mut [u8], range: Range<usize>, peer: u32, outer_ecn: u8, batch: &Batch) {
        let shared = self.shared;
        let Some(header) = ip::parse(&slab[range.clone()]) else { return shared.count(Counter::NotIpIn) };
        if shared.prefixes.read(batch).lookup(header.family, header.source) != Some(peer) {
            return shared.count(Counter::WrongSource);
        }
        self.sink.deliver(shared, slab, range, &header, outer_ecn);
    }

    #[cold]
    fn handshake(&self, bytes: &[u8], arrival: &Arrival, batch: &Batch) {
        self.shared.count(Counter::HandshakesReceived);
        if !self.shared.filter.passes(bytes, batch) {
            return self.shared.count(Counter::ForgedHandshake);
        }
        let mut message = Message {
            source: arrival.source,
            destination: arrival.destination,
            ecn: arrival.ecn,
            length: bytes.len(),
            bytes: [0; 148],
        };
        message.bytes[..bytes.len()].copy_from_slice(bytes);
        if !self.shared.notices.push(Notice::Handshake(message)) {
            self.shared.count(Counter::HandshakeOverflow);
        }
    }
}

#[inline]
fn note_received(shared: &Shared, peer: u32, bytes: usize, data: bool, now: u64) {
    let slot = &shared.state.peers()[peer as usize];
    // this thread alone counts here
    slot.rx_bytes.store(slot.rx_bytes.load(Relaxed) + bytes as u64, Relaxed);
    if data {
        slot.last_received.store(now, Relaxed);
        if slot.first_unacknowledged.load(Relaxed) == 0 {
            slot.first_unacknowledged.store(now, Relaxed);
        }
    }
    shared.notices.mark(peer);
}
