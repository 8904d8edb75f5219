//! Joins decrypted packets of one flow to super packets (what the kernel calls GRO), so that one write hands a TUN
//! device up to 64 KiB. Only what TSO or USO would cut into the very same packets again is joined; the order within a
//! flow is kept. A packet that is joined has its checksum verified first, since the super packet carries none.

use crate::checksum::Sum;
use crate::ip;
use crate::virtio::{Gso, VirtioHeader};
use std::ops::Range;

/// More parts in one UDP super packet than the kernel can segment for a receiver are lost (UDP_MAX_SEGMENTS).
const MAX_UDP_PARTS: usize = 128;
const MAX_PARTS: usize = 512;
const MAX_TOTAL: usize = 65_535;
/// How many groups are looked through for a packet's flow, newest first.
const DEPTH: usize = 16;
const END: u32 = u32::MAX;

struct Part {
    range: Range<usize>,
    next: u32,
}

struct Group {
    shape: Option<Shape>,
    first: Range<usize>,
    head: u32,
    tail: u32,
    parts: usize,
    /// Length of the super packet.
    total: usize,
    /// Payload length of every part but the last.
    size: usize,
    next_sequence: u32,
    next_id: u16,
    open: bool,
    verified: bool,
    push: bool,
}

/// Where the headers of a packet that may be joined lie.
#[derive(Clone, Copy)]
struct Shape {
    tcp: bool,
    transport: usize,
    headers: usize,
    sequence: u32,
    id: u16,
    push: bool,
}

/// Packets are ranges of one buffer, `slab`, which stays as it is between `push` and `flush`.
#[derive(Default)]
pub struct Coalescer {
    groups: Vec<Group>,
    parts: Vec<Part>,
    udp: bool,
}

impl Coalescer {
    /// `udp`: the TUN device takes UDP super packets (Linux 6.2).
    pub fn new(udp: bool) -> Coalescer {
        Coalescer { groups: Vec::with_capacity(MAX_PARTS), parts: Vec::with_capacity(MAX_PARTS), udp }
    }

    /// No more room: flush before the next push.
    pub fn full(&self) -> bool {
        self.groups.len() + self.parts.len() >= MAX_PARTS
    }

    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// `range` is one IP packet without padding.
    pub fn push(&mut self, slab: &[u8], range: Range<usize>) {
        let packet = &slab[range.clone()];
        let shape = shape(packet).filter(|shape| shape.tcp || self.udp);
        if let Some(shape) = shape {
            for group in self.groups.iter_mut().rev().take(DEPTH) {
                let Some(own) = group.shape else { continue };
                let first = &slab[group.first.clone()];
                if !same_flow(first, &own, packet, &shape) {
                    continue;
                }
                let alike = same_headers(first, &own, packet, &shape);
                if group.open && alike && group.append(slab, &own, &shape, range.clone(), &mut self.parts) {
                    return;
                }
                // What comes later of this flow must not overtake this packet.
                group.open = false;
                break;
            }
        } else {
            for group in self.groups.iter_mut().rev().take(DEPTH) {
                group.open &= !group.shape.is_some_and(|own| may_follow(&slab[group.first.clone()], &own, packet));
            }
        }
        self.groups.push(Group::new(range, shape));
    }

    /// Gives each group as a virtio header and the pieces to write behind it, oldest group first, and forgets them.
    pub fn flush(&mut self, slab: &mut [u8], mut write: impl FnMut(&VirtioHeader, Pieces)) {
        for group in &self.groups {
            let header = group.finish(slab);
            write(&header, Pieces { slab, parts: &self.parts, first: Some(group.first.clone()), next: group.head });
        }
        self.groups.clear();
        self.parts.clear();
    }
}

/// The pieces of one super packet in their order.
pub struct Pieces<'a> {
    slab: &'a [u8],
    parts: &'a [Part],
    first: Option<Range<usize>>,
    next: u32,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if let Some(first) = self.first.take() {
            return Some(&self.slab[first]);
        }
        let part = self.parts.get(self.next as usize)?;
        self.next = part.next;
        Some(&self.slab[part.range.clone()])
    }
}

impl Group {
    fn new(first: Range<usize>, shape: Option<Shape>) -> Group {
        let total = first.len();
        let size = shape.map_or(0, |shape| total - shape.headers);
        Group {
            first,
            head: END,
            tail: END,
            parts: 1,
            total,
            size,
            next_sequence: shape.map_or(0, |shape| shape.sequence.wrapping_add(size as u32)),
            next_id: shape.map_or(0, |shape| shape.id.wrapping_add(1)),
            open: shape.is_some_and(|shape| !shape.push),
            verified: false,
            push: false,
            shape,
        }
    }

    fn append(&mut self, slab: &[u8], own: &Shape, shape: &Shape, range: Range<usize>, parts: &mut Vec<Part>) -> bool {
        let payload = range.len() - shape.headers;
        let fits = payload <= self.size && self.total + payload <= MAX_TOTAL && (own.tcp || self.parts < MAX_UDP_PARTS);
        let follows = if own.tcp { shape.sequence == self.next_sequence } else { true };
        let first = &slab[self.first.clone()];
        // Without "don't fragment" the identification means something, and TSO counts it up.
        let numbered = first[0] >> 4 == 6 || first[6] & 0x40 != 0 || shape.id == self.next_id;
        if !fits || !follows || !numbered {
            return false;
        }
        if !self.verified && !valid(first, own) || !valid(&slab[range.clone()], shape) {
            return false;
        }
        self.verified = true;
        let index = parts.len() as u32;
        parts.push(Part { range: range.start + shape.headers..range.end, next: END });
        if self.tail == END {
            self.head = index;
        } else {
            parts[self.tail as usize].next = index;
        }
        self.tail = index;
        self.parts += 1;
        self.total += payload;
        self.next_sequence = self.next_sequence.wrapping_add(payload as u32);
        self.next_id = self.next_id.wrapping_add(1);
        self.push = shape.push;
        self.open = payload == self.size && !shape.push;
        true
    }

    /// Makes the first packet's headers those of the super packet.
    fn finish(&self, slab: &mut [u8]) -> VirtioHeader {
        let (Some(shape), true) = (self.shape, self.parts > 1) else { return VirtioHeader::PLAIN };
        let first = &mut slab[self.first.clone()];
        let transport_length = self.total - shape.transport;
        let four = first[0] >> 4 == 4;
        if four {
            first[2..4].copy_from_slice(&(self.total as u16).to_be_bytes());
            first[10..12].fill(0);
            let sum = Sum::default().plus(&first[..shape.transport]).checksum();
            first[10..12].copy_from_slice(&sum);
        } else {
            first[4..6].copy_from_slice(&((self.total - 40) as u16).to_be_bytes());
        }
        let protocol = if shape.tcp { ip::TCP } else { ip::UDP };
        let (network, transport) = first.split_at_mut(shape.transport);
        let partial = ip::pseudo_sum(network, protocol, transport_length).fold();
        let field = if shape.tcp { 16 } else { 6 };
        transport[field..field + 2].copy_from_slice(&partial);
        if shape.tcp {
            transport[13] |= if self.push { 0x08 } else { 0 };
        } else {
            transport[4..6].copy_from_slice(&(transport_length as u16).to_be_bytes());
        }
        VirtioHeader {
            needs_checksum: true,
            gso: match (shape.tcp, four) {
                (true, true) => Gso::Tcp4,
                (true, false) => Gso::Tcp6,
                _ => Gso::Udp,
            },
            header_length: shape.headers as u16,
            segment: self.size as u16,
            checksum_start: shape.transport as u16,
            checksum_offset: field as u16,
        }
    }
}

/// The shape of a packet that may be part of a super packet: TCP data with no flag but ACK and PSH, or UDP with a
/// checksum; no IPv4 options, no fragments, no IPv6 extension headers.
fn shape(packet: &[u8]) -> Option<Shape> {
    let (transport, protocol, id) = match packet.first()? {
        0x45 => {
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]);
            if fragment & 0x3fff != 0 {
                return None;
            }
            (20, *packet.get(9)?, u16::from_be_bytes([packet[4], packet[5]]))
        }
        first if first >> 4 == 6 => (40, *packet.get(6)?, 0),
        _ => return None,
    };
    let rest = packet.get(transport..)?;
    match protocol {
        ip::TCP => {
            let header = rest.first_chunk::<20>()?;
            let offset = usize::from(header[12] >> 4) * 4;
            let (ack, push, flags) = (header[13] & 0x10 != 0, header[13] & 0x08 != 0, header[13] & !0x18);
            let plain = ack && flags == 0 && header[12] & 0x0f == 0 && offset >= 20 && rest.len() > offset;
            plain.then(|| Shape {
                tcp: true,
                transport,
                headers: transport + offset,
                sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
                id,
                push,
            })
        }
        ip::UDP => {
            let header = rest.first_chunk::<8>()?;
            let whole = usize::from(u16::from_be_bytes([header[4], header[5]])) == rest.len();
            let summed = header[6..8] != [0, 0];
            (whole && summed && rest.len() > 8).then_some(Shape {
                tcp: false,
                transport,
                headers: transport + 8,
                sequence: 0,
                id,
                push: false,
            })
        }
        _ => None,
    }
}

/// The same protocol, addresses and ports.
fn same_flow(a: &[u8], own: &Shape, b: &[u8], other: &Shape) -> bool {
    let addresses = if own.transport == 20 { 12..20 } else { 8..40 };
    let ports = own.transport..own.transport + 4;
    own.tcp == other.tcp
        && own.transport == other.transport
        && a[addresses.clone()] == b[addresses]
        && a[ports.clone()] == b[ports]
}

/// Whether a packet without a shape may belong to a group's flow: ports tell, and where there are none (fragments,
/// extension headers) the addresses alone.
fn may_follow(a: &[u8], own: &Shape, b: &[u8]) -> bool {
    let four = own.transport == 20;
    let addresses = if four { 12..20 } else { 8..40 };
    if b.len() < 20 || (b[0] >> 4 == 4) != four || b.get(addresses.clone()) != a.get(addresses) {
        return false;
    }
    let (protocol, whole) = if four { (b[9], b[0] == 0x45 && b[6] & 0x3f == 0 && b[7] == 0) } else { (b[6], true) };
    let ports = own.transport..own.transport + 4;
    match protocol {
        ip::TCP | ip::UDP if whole => {
            own.tcp == (protocol == ip::TCP) && b.get(ports.clone()).is_none_or(|found| *found == a[ports])
        }
        _ => true,
    }
}

/// Of one flow, and equal in every other header field that TSO and USO copy to each segment.
fn same_headers(a: &[u8], own: &Shape, b: &[u8], other: &Shape) -> bool {
    if own.headers != other.headers {
        return false;
    }
    let network = if own.transport == 20 {
        // version, TOS; flags; TTL, protocol
        a[..2] == b[..2] && a[6..10] == b[6..10]
    } else {
        // version, class, flow; next header, hop limit
        a[..4] == b[..4] && a[6..8] == b[6..8]
    };
    let (a, b) = (&a[own.transport..own.headers], &b[own.transport..own.headers]);
    // acknowledgement, offset; window; urgent pointer and options (PSH is looked at apart: it ends a group)
    network && (!own.tcp || a[8..13] == b[8..13] && a[14..16] == b[14..16] && a[18..] == b[18..])
}

fn valid(packet: &[u8], shape: &Shape) -> bool {
    let (network, transport) = packet.split_at(shape.transport);
    let own = network[0] >> 4 == 6 || Sum::default().plus(network).valid();
    let protocol = if shape.tcp { ip::TCP } else { ip::UDP };
    own && ip::pseudo_sum(network, protocol, transport.len()).plus(transport).valid()
}
