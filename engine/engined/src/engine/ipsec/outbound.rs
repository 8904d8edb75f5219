//! The sending thread: TUN device → peer by its prefixes → association → UDP or raw socket.

use super::super::counters::Counter;
use super::super::rcu::Batch;
use super::super::runs::Runs;
use super::super::shared::{Errand, Shared};
use super::super::tap::Sender;
use super::super::waiting::Waiting;
use super::memory::Memory;
use super::tables::Outgoing;
use super::way::{Esp, Raw, Udp};
use pellicle_net::send::Route;
use pellicle_proto::esp::{self, HEADER, Inner};
use pellicle_proto::ip::{self, Header};
use pellicle_proto::split::Split;
use pellicle_proto::virtio::{self, VirtioHeader};
use std::sync::atomic::Ordering::Relaxed;

/// What a dummy packet says: nothing, or that its sender has not heard the receiver yet and would like to.
const SILENT: &[u8] = &[];
pub const ASKING: &[u8] = &[1];

type State = Shared<Memory>;

pub struct Outbound<'a> {
    shared: &'a State,
    udp: Runs<Udp>,
    raw: Runs<Raw>,
    waiting: Waiting,
}

impl<'a> Outbound<'a> {
    pub fn new(shared: &'a State) -> Outbound<'a> {
        Outbound { shared, udp: Runs::new(), raw: Runs::new(), waiting: Waiting::default() }
    }

    /// The association to send by, once the peer was heard.
    #[inline]
    fn open<'b>(&self, peer: u32, batch: &'b Batch) -> Option<&'b Outgoing>
    where
        'a: 'b,
    {
        self.shared.state.peers()[peer as usize].heard().then(|| self.shared.tables.outgoing(peer, batch)).flatten()
    }

    #[inline]
    fn send(&mut self, peer: u32, outgoing: &Outgoing, split: &Split, header: &Header, class: u8, now: u64) {
        let text = |index, out: &mut [u8]| split.write(index, out);
        let inner = if header.family == 4 { Inner::Ipv4 } else { Inner::Ipv6 };
        let sealing = Sealing { outgoing, inner, class: esp::outer_class(class), count: split.count() };
        let lengths = |index| split.length(index);
        if let Some(bytes) = self.seal(&sealing, lengths, text) {
            self.shared.counters().add(Counter::PacketsSent, sealing.count as u64);
            note_sent(self.shared, peer, outgoing, sealing.count, bytes, now);
        }
    }

    fn dummy(&mut self, peer: u32, now: u64, batch: &Batch) {
        let shared = self.shared;
        let Some(outgoing) = shared.tables.outgoing(peer, batch) else { return };
        let content = if shared.state.peers()[peer as usize].heard() { SILENT } else { ASKING };
        let sealing = Sealing { outgoing, inner: Inner::Dummy, class: 0, count: 1 };
        if let Some(bytes) = self.seal(&sealing, |_| content.len(), |_, out| out.copy_from_slice(content)) {
            shared.count(Counter::KeepalivesSent);
            note_sent(shared, peer, outgoing, 1, bytes, now);
        }
    }

    #[inline]
    fn seal(
        &mut self,
        sealing: &Sealing,
        lengths: impl Fn(usize) -> usize,
        text: impl Fn(usize, &mut [u8]),
    ) -> Option<usize> {
        let key = &self.shared.state.used_keys().0[sealing.outgoing.used];
        let Some(first) = key.reserve(sealing.count) else {
            self.shared.counters().add(Counter::XfrmOutStateSeqError, sealing.count as u64);
            return None;
        };
        Some(if sealing.outgoing.udp {
            sealing.run(&mut self.udp, self.shared, first, lengths, text)
        } else {
            sealing.run(&mut self.raw, self.shared, first, lengths, text)
        })
    }

    fn flush_waiting(&mut self, peer: u32, now: u64, batch: &Batch) {
        let Some(outgoing) = self.open(peer, batch) else { return };
        for frame in self.waiting.take(peer, self.shared) {
            let Some((virtio, packet)) = frame.split_first_chunk::<{ virtio::SIZE }>() else { continue };
            let Some(header) = ip::parse(packet) else { continue };
            let split = VirtioHeader::decode(virtio).and_then(|virtio| Split::new(&virtio, &packet[..header.total]));
            if let Some(split) = split {
                self.send(peer, outgoing, &split, &header, class(packet), now);
            }
        }
    }
}

impl Sender for Outbound<'_> {
    fn packet(&mut self, frame: &[u8], now: u64, batch: &Batch) {
        let shared = self.shared;
        let Some((virtio, packet)) = frame.split_first_chunk::<{ virtio::SIZE }>() else { return };
        let Some(header) = ip::parse(packet) else { return shared.count(Counter::NotIpOut) };
        let Some(peer) = shared.prefixes.read(batch).lookup(header.family, header.destination) else {
            return shared.count(Counter::XfrmOutNoStates);
        };
        if !self.waiting.is_empty() && self.waiting.has(peer) {
            self.flush_waiting(peer, now, batch);
        }
        let split = VirtioHeader::decode(virtio)
            .and_then(|virtio| Split::new(&virtio, &packet[..header.total]))
            .filter(|split| split.count() <= 65_536);
        let Some(split) = split else { return shared.count(Counter::BadOffload) };
        match self.open(peer, batch) {
            Some(outgoing) => self.send(peer, outgoing, &split, &header, class(packet), now),
            None => self.waiting.push(peer, frame, shared),
        }
    }

    #[inline]
    fn enough(&self) -> bool {
        self.udp.enough() || self.raw.enough()
    }

    fn flush(&mut self) {
        self.udp.flush(self.shared);
        self.raw.flush(self.shared);
    }

    fn errand(&mut self, errand: &Errand, now: u64, batch: &Batch) {
        match errand {
            Errand::Flush(peer) => self.flush_waiting(*peer, now, batch),
            Errand::Drop(peer) => self.waiting.give_up(*peer, self.shared),
            Errand::Dummy(peer) => self.dummy(*peer, now, batch),
            // what was lost of the first dummies is said again while something waits
            Errand::Remind => {
                for peer in self.waiting.peers() {
                    if !self.shared.state.peers()[peer as usize].heard() {
                        self.dummy(peer, now, batch);
                    }
                }
            }
        }
    }
}

/// Packets that leave by one association.
struct Sealing<'a> {
    outgoing: &'a Outgoing,
    inner: Inner,
    class: u8,
    count: usize,
}

impl Sealing<'_> {
    /// Returns the bytes of all packets together.
    #[inline]
    fn run<W: Esp>(
        &self,
        runs: &mut Runs<W>,
        shared: &State,
        first: u64,
        lengths: impl Fn(usize) -> usize,
        text: impl Fn(usize, &mut [u8]),
    ) -> usize {
        let association = &self.outgoing.association;
        let (iv, icv, block) = (association.iv_len(), association.icv_len(), association.block());
        let route = Route { tos: self.class, ..self.outgoing.route };
        let mut total = 0;
        for index in 0..self.count {
            let length = lengths(index);
            let whole = esp::sealed_length(length, block, iv, icv);
            let room = runs.room(whole, shared);
            let padded = &mut room[HEADER + iv..whole - icv];
            text(index, &mut padded[..length]);
            esp::write_trailer(padded, length, self.inner);
            runs.commit_esp(whole, &route, self.outgoing, first + index as u64);
            total += whole;
        }
        total
    }
}

/// The traffic class of a packet that `ip::parse` accepted.
#[inline]
fn class(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[1] } else { packet[0] << 4 | packet[1] >> 4 }
}

#[inline]
fn note_sent(shared: &State, peer: u32, outgoing: &Outgoing, packets: usize, bytes: usize, now: u64) {
    let slot = &shared.state.peers()[peer as usize];
    // this thread alone counts here
    slot.tx_bytes.store(slot.tx_bytes.load(Relaxed) + bytes as u64, Relaxed);
    slot.last_sent.store(now, Relaxed);
    shared.state.sending()[outgoing.index].facts.note(packets, bytes);
}
