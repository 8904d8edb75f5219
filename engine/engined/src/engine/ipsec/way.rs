//! How packets of ESP leave: encrypted many at a time, as UDP super packets or by raw socket.

use super::super::counters::Counter;
use super::super::kind::Kind;
use super::super::links::Known;
use super::super::runs::{Run, Runs, Way, send_udp};
use super::super::shared::Shared;
use super::tables::Outgoing;
use pellicle_crypto::esp::{Association, Packet};
use pellicle_net::link::{Frames, Outer};
use pellicle_net::send::{Many, Route, send};
use pellicle_proto::endpoint::Endpoint;
use std::sync::atomic::Ordering::Acquire;

/// Encrypted together while they are still in the nearest cache.
const TOGETHER: usize = 16;

/// Packets that are still in clear, all of one association.
pub struct Clear {
    packets: Vec<Packet>,
    association: Option<(Association, u32)>,
    /// Of the association, so that it is known without a look at keys.
    index: usize,
}

impl Default for Clear {
    fn default() -> Self {
        Clear { packets: Vec::with_capacity(TOGETHER), association: None, index: usize::MAX }
    }
}

impl Clear {
    fn seal(&mut self, bytes: &mut [u8]) {
        if let Some((association, spi)) = self.association.take() {
            association.seal_many(spi, bytes, &self.packets);
        }
        self.packets.clear();
    }
}

/// ESP in UDP.
#[derive(Default)]
pub struct Udp(Clear);

impl Way for Udp {
    fn seal(&mut self, bytes: &mut [u8]) {
        self.0.seal(bytes);
    }

    /// A source address that is gone is not replaced: the peer knows us by it.
    fn send<K: Kind>(&mut self, shared: &Shared<K>, run: &Run, bytes: &[u8]) {
        send_udp(shared, run, bytes, |_, socket, route, bytes, segment| send(socket, route, bytes, segment));
    }
}

/// IP protocol 50: by raw socket, or past the kernel's routing where the link is known.
#[derive(Default)]
pub struct Raw {
    clear: Clear,
    many: Many,
    links: Known,
    frames: Frames,
}

/// Of fewer packets all go by raw socket.
const WORTH: usize = 4;

impl Way for Raw {
    fn seal(&mut self, bytes: &mut [u8]) {
        self.clear.seal(bytes);
    }

    /// The first packet of a run always goes by raw socket. So the kernel says whether it would send such a one at all, by
    /// firewall, MTU and routes; and the neighbour is used, so that the kernel looks whether it is still there.
    fn send<K: Kind>(&mut self, shared: &Shared<K>, run: &Run, mut bytes: &[u8]) {
        let socket = shared.raw[usize::from(run.route.destination.family == 6)].load(Acquire);
        if socket < 0 {
            return shared.counters().add(Counter::NoSocket, run.count as u64);
        }
        if run.count >= WORTH
            && let Some(link) = self.links.find(&shared.links, &run.route)
        {
            let (first, rest) = bytes.split_at(run.segment);
            bytes = rest;
            if self.raw(shared, socket, run, first) {
                let (calls, sent) = self.frames.send(shared.links.packet, &link, &outer(&run.route), rest, run.segment);
                shared.counters().add(Counter::LinkSends, calls as u64);
                bytes = &rest[(sent * run.segment).min(rest.len())..];
                if !bytes.is_empty() {
                    self.links.forget(&run.route);
                }
            }
        }
        if !bytes.is_empty() {
            self.raw(shared, socket, run, bytes);
        }
    }
}

impl Raw {
    /// False when some were refused.
    fn raw<K: Kind>(&mut self, shared: &Shared<K>, socket: i32, run: &Run, bytes: &[u8]) -> bool {
        let (calls, refused) = self.many.send(socket, &run.route, bytes, run.segment);
        shared.counters().add(Counter::RawSends, calls as u64);
        shared.counters().add(K::SEND_FAILED, refused as u64);
        refused == 0
    }
}

fn outer(route: &Route) -> Outer {
    let four = |endpoint: &Endpoint| std::array::from_fn(|index| endpoint.address[index]);
    let (source, destination) = (four(&route.source), four(&route.destination));
    Outer { source, destination, tos: route.tos, protocol: libc::IPPROTO_ESP as u8 }
}

pub trait Esp: Way {
    fn clear(&mut self) -> &mut Clear;
}

impl Esp for Udp {
    fn clear(&mut self) -> &mut Clear {
        &mut self.0
    }
}

impl Esp for Raw {
    fn clear(&mut self) -> &mut Clear {
        &mut self.clear
    }
}

impl<W: Esp> Runs<W> {
    /// What was written to the room: text with its trailer, and room for all else.
    #[inline]
    pub fn commit_esp(&mut self, length: usize, route: &Route, outgoing: &Outgoing, sequence: u64) {
        let (start, bytes, way) = self.parts();
        let clear = way.clear();
        if clear.packets.len() == TOGETHER || clear.association.is_none() || clear.index != outgoing.index {
            clear.seal(bytes);
            clear.association = Some((outgoing.association.clone(), outgoing.spi));
            clear.index = outgoing.index;
        }
        clear.packets.push(Packet { sequence, start, length });
        self.add(length, route);
    }
}
