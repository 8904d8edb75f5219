//! The receiving thread: UDP or raw socket → association by source and SPI → TUN device. Packets are decrypted where they
//! arrived and written from there.

use super::super::counters::Counter;
use super::super::notice::Notice;
use super::super::rcu::{Batch, Thread};
use super::super::shared::{Errand, Shared};
use super::super::sink::Sink;
use super::memory::Memory;
use super::outbound::ASKING;
use super::tables::Incoming;
use pellicle_net::receive::{Arrival, Receiver};
use pellicle_net::{clock, wait};
use pellicle_proto::esp::{self, Datagram, Inner};
use pellicle_proto::ip;
use pellicle_proto::replay::WINDOW;
use std::ops::Range;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// Messages by one system call: those of UDP may be many packets each.
const UDP_MESSAGES: usize = 16;
const RAW_MESSAGES: usize = 64;
/// After so many bytes what was joined is written, so that the device's reader begins while the rest is decrypted.
const ENOUGH: usize = 1 << 16;

pub struct Inbound<'a> {
    shared: &'a Shared<Memory>,
    sink: Sink,
    /// A packet as it came, while more than one association may have made it.
    copy: Vec<u8>,
}

impl<'a> Inbound<'a> {
    pub fn new(shared: &'a Shared<Memory>) -> Inbound<'a> {
        Inbound { shared, sink: Sink::new(shared.tun_udp), copy: Vec::new() }
    }

    /// Until `shared.stop`.
    pub fn run(&mut self) {
        let shared = self.shared;
        let (mut udp, mut raw) = (Receiver::new(UDP_MESSAGES), Receiver::new(RAW_MESSAGES));
        while !shared.stop.load(SeqCst) {
            let [a, b] = shared.udp.each_ref().map(|socket| socket.load(Acquire));
            let [c, d] = shared.raw.each_ref().map(|socket| socket.load(Acquire));
            let Ok(ready) = wait::readable([a, b, c, d, shared.wake_inbound.fd()], None) else { continue };
            if ready[4] {
                shared.wake_inbound.clear();
                continue;
            }
            for (index, socket) in [a, b, c, d].into_iter().enumerate().filter(|(index, _)| ready[*index]) {
                let receiver = if index < 2 { &mut udp } else { &mut raw };
                while self.batch(receiver, socket, index >= 2) && !shared.stop.load(SeqCst) {}
            }
        }
    }

    /// False when nothing more waited.
    fn batch(&mut self, receiver: &mut Receiver, socket: i32, raw: bool) -> bool {
        let shared = self.shared;
        let batch = shared.epochs.enter(Thread::Inbound);
        // The socket may have been replaced since it was polled.
        let current = if raw { &shared.raw } else { &shared.udp };
        if !current.iter().any(|current| current.load(Acquire) == socket) {
            return false;
        }
        let Ok(count) = receiver.receive(socket) else { return false };
        shared.counters().add(if raw { Counter::RawReceives } else { Counter::UdpReceives }, count as u64);
        let now = clock::now();
        let mut bytes = 0;
        for index in 0..count {
            let arrival = receiver.arrival(index);
            bytes += arrival.range.len();
            if raw {
                self.raw(&mut receiver.slab, &arrival, now, &batch);
            } else {
                let (mut at, end) = (arrival.range.start, arrival.range.end);
                while at < end {
                    let range = at..(at + arrival.segment).min(end);
                    at = range.end;
                    self.datagram(&mut receiver.slab, range, &arrival, now, &batch);
                }
            }
            if bytes >= ENOUGH {
                self.sink.write(&mut receiver.slab, shared);
                bytes = 0;
            }
        }
        self.sink.write(&mut receiver.slab, shared);
        drop(batch);
        count == if raw { RAW_MESSAGES } else { UDP_MESSAGES }
    }

    #[inline]
    fn datagram(&mut self, slab: &mut [u8], range: Range<usize>, arrival: &Arrival, now: u64, batch: &Batch) {
        let shared = self.shared;
        match esp::classify(&slab[range.clone()]) {
            Datagram::Esp(header) => self.esp(slab, range, header, arrival, now, batch),
            // nobody here speaks it
            Datagram::Ike => shared.count(Counter::UnknownMessage),
            Datagram::Keepalive => {}
            Datagram::Unknown => shared.count(Counter::XfrmInHdrError),
        }
    }

    /// IPv4 sockets give the outer header.
    #[inline]
    fn raw(&mut self, slab: &mut [u8], arrival: &Arrival, now: u64, batch: &Batch) {
        let mut range = arrival.range.clone();
        if arrival.source.family == 4 {
            range.start += slab.get(range.start).map_or(0, |first| usize::from(first & 15) * 4).min(range.len());
        }
        match esp::read_header(&slab[range.clone()]) {
            Some(header) => self.esp(slab, range, header, arrival, now, batch),
            None => self.shared.count(Counter::XfrmInHdrError),
        }
    }

    #[inline]
    fn esp(
        &mut self,
        slab: &mut [u8],
        range: Range<usize>,
        header: esp::Header,
        arrival: &Arrival,
        now: u64,
        batch: &Batch,
    ) {
        let shared = self.shared;
        let mut candidates = shared.tables.incoming(batch).find(&arrival.source, header.spi).peekable();
        let mut verdict = Counter::XfrmInNoStates;
        let mut kept = false;
        while let Some(incoming) = candidates.next() {
            let window = &shared.state.receiving()[incoming.index].window;
            // decrypting what was taken before would be in vain
            let sequence = esp::sequence(header.sequence_low, window.last().saturating_sub(1), WINDOW)
                .filter(|sequence| window.would_take(*sequence));
            let Some(sequence) = sequence else {
                if matches!(verdict, Counter::XfrmInNoStates) {
                    verdict = Counter::XfrmInStateSeqError;
                }
                continue;
            };
            if kept {
                slab[range.clone()].copy_from_slice(&self.copy);
            } else if candidates.peek().is_some() {
                self.copy.clear();
                self.copy.extend_from_slice(&slab[range.clone()]);
                kept = true;
            }
            if incoming.association.open(header.spi, sequence, &mut slab[range.clone()]).is_err() {
                verdict = Counter::XfrmInStateProtoError;
                continue;
            }
            if !window.take(sequence) {
                return shared.count(Counter::XfrmInStateSeqError);
            }
            return self.opened(slab, range, incoming, arrival.ecn, now, batch);
        }
        shared.count(verdict);
    }

    #[inline]
    fn opened(
        &mut self,
        slab: &mut [u8],
        range: Range<usize>,
        incoming: &Incoming,
        outer_ecn: u8,
        now: u64,
        batch: &Batch,
    ) {
        let (shared, peer) = (self.shared, incoming.peer);
        self.authenticated(incoming, range.len(), now);
        let association = &incoming.association;
        let range = range.start + esp::HEADER + association.iv_len()..range.end - association.icv_len();
        let Some((length, next)) = esp::read_trailer(&slab[range.clone()]) else {
            return shared.count(Counter::XfrmInStateProtoError);
        };
        let range = range.start..range.start + length;
        let family = match Inner::from_next_header(next) {
            Some(Inner::Ipv4) => 4,
            Some(Inner::Ipv6) => 6,
            Some(Inner::Dummy) => {
                if slab[range] == *ASKING {
                    shared.ask(Errand::Dummy(peer));
                }
                return shared.count(Counter::KeepalivesReceived);
            }
            None => return shared.count(Counter::XfrmInStateModeError),
        };
        let Some(header) = ip::parse(&slab[range.clone()]).filter(|header| header.family == family) else {
            return shared.count(Counter::XfrmInError);
        };
        if shared.prefixes.read(batch).lookup(header.family, header.source) != Some(peer) {
            return shared.count(Counter::XfrmInTmplMismatch);
        }
        shared.state.peers()[peer as usize].last_received.store(now, Relaxed);
        self.sink.deliver(shared, slab, range, &header, outer_ecn);
        if self.sink.full() {
            self.sink.write(slab, shared);
        }
    }

    /// The peer lives, and it hears that we do.
    #[inline]
    fn authenticated(&self, incoming: &Incoming, bytes: usize, now: u64) {
        let shared = self.shared;
        let peer = &shared.state.peers()[incoming.peer as usize];
        // this thread alone counts here
        peer.rx_bytes.store(peer.rx_bytes.load(Relaxed) + bytes as u64, Relaxed);
        peer.last_authenticated.store(now, Relaxed);
        shared.state.receiving()[incoming.index].facts.note(1, bytes);
        if !peer.heard() {
            peer.heard.store(1, Release);
            shared.notices.push(Notice::Heard(incoming.peer));
            shared.ask(Errand::Dummy(incoming.peer));
            shared.ask(Errand::Flush(incoming.peer));
        }
    }
}
