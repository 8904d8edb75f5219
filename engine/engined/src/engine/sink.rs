//! What was decrypted, to the TUN device: joined to super packets, which are pieces of the buffer they came in.

use super::counters::Counter;
use super::kind::Kind;
use super::shared::Shared;
use pellicle_net::tun;
use pellicle_proto::coalesce::Coalescer;
use pellicle_proto::ecn;
use pellicle_proto::ip::{self, Header};
use std::ops::Range;

pub struct Sink {
    coalescer: Coalescer,
    pieces: Vec<libc::iovec>,
}

impl Sink {
    pub fn new(tun_udp: bool) -> Sink {
        Sink { coalescer: Coalescer::new(tun_udp), pieces: Vec::with_capacity(1024) }
    }

    /// No more room: `write` before the next one.
    #[inline]
    pub fn full(&self) -> bool {
        self.coalescer.full()
    }

    /// Takes the packet that begins `range`, of which `header` was read. It leaves with the next `write`.
    #[inline]
    pub fn deliver<K: Kind>(
        &mut self,
        shared: &Shared<K>,
        slab: &mut [u8],
        range: Range<usize>,
        header: &Header,
        outer_ecn: u8,
    ) {
        let range = range.start..range.start + header.total;
        match ecn::decapsulate(header.ecn, outer_ecn) {
            None => return shared.count(Counter::EcnInvalid),
            Some(ecn) if ecn != header.ecn => ip::set_ecn(&mut slab[range.clone()], ecn),
            Some(_) => {}
        }
        shared.counters().one_of_mine(Counter::PacketsReceived);
        if !shared.plain {
            return self.coalescer.push(slab, range);
        }
        shared.count(Counter::TunWrites);
        if tun::write(shared.tun, &[tun::piece(&slab[range])]).is_err() {
            shared.count(Counter::TunWriteFailed);
        }
    }

    pub fn write<K: Kind>(&mut self, slab: &mut [u8], shared: &Shared<K>) {
        let pieces = &mut self.pieces;
        if self.coalescer.is_empty() {
            return;
        }
        self.coalescer.flush(slab, |header, parts| {
            let head = header.encode();
            pieces.clear();
            pieces.push(tun::piece(&head));
            pieces.extend(parts.map(tun::piece));
            shared.count(Counter::TunWrites);
            if tun::write(shared.tun, pieces).is_err() {
                shared.count(Counter::TunWriteFailed);
            }
        });
    }
}
