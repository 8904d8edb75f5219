//! Takes what a TUN device hands over, possibly a super packet of TCP or UDP (TSO, USO), apart into packets as they
//! would be on a wire, with right lengths, identifications, flags and checksums.

use crate::ip;
use crate::virtio::{Gso, VirtioHeader};

/// A packet with all that is needed to write each of its segments.
pub struct Split<'a> {
    packet: &'a [u8],
    kind: Kind,
}

enum Kind {
    Whole { checksum_at: Option<(usize, usize)> },
    Segments { transport: usize, headers: usize, size: usize, tcp: bool },
}

impl<'a> Split<'a> {
    /// `packet` without the virtio header, as long as its IP header says. `None` when header and packet contradict each other.
    pub fn new(header: &VirtioHeader, packet: &'a [u8]) -> Option<Split<'a>> {
        let start = usize::from(header.checksum_start);
        if header.gso == Gso::None {
            let field = start + usize::from(header.checksum_offset);
            if header.needs_checksum && (field + 2 > packet.len() || start < 20) {
                return None;
            }
            return Some(Split {
                packet,
                kind: Kind::Whole { checksum_at: header.needs_checksum.then_some((start, field)) },
            });
        }
        let (version, tcp) = match header.gso {
            Gso::Tcp4 => (4, true),
            Gso::Tcp6 => (6, true),
            _ => (packet.first()? >> 4, false),
        };
        let size = usize::from(header.segment);
        let least = if version == 4 { 20 } else { 40 };
        if packet.first()? >> 4 != version || size == 0 || start < least || !header.needs_checksum {
            return None;
        }
        let headers = if tcp {
            let offset = usize::from(*packet.get(start + 12)? >> 4) * 4;
            if offset < 20 {
                return None;
            }
            start + offset
        } else {
            start + 8
        };
        (packet.len() > headers)
            .then_some(Split { packet, kind: Kind::Segments { transport: start, headers, size, tcp } })
    }

    pub fn count(&self) -> usize {
        match self.kind {
            Kind::Whole { .. } => 1,
            Kind::Segments { headers, size, .. } => (self.packet.len() - headers).div_ceil(size),
        }
    }

    /// The length of segment `index`.
    pub fn length(&self, index: usize) -> usize {
        match self.kind {
            Kind::Whole { .. } => self.packet.len(),
            Kind::Segments { headers, size, .. } => headers + size.min(self.packet.len() - headers - index * size),
        }
    }

    /// Writes segment `index` into `out`, which has its length.
    pub fn write(&self, index: usize, out: &mut [u8]) {
        match self.kind {
            Kind::Whole { checksum_at } => {
                out.copy_from_slice(self.packet);
                if let Some((start, field)) = checksum_at {
                    let sum = crate::checksum::Sum::default().plus(&out[start..]).checksum();
                    // Zero means "none" in UDP; all ones is the same number.
                    let sum = if sum == [0, 0] && field == start + 6 { [0xff, 0xff] } else { sum };
                    out[field..field + 2].copy_from_slice(&sum);
                }
            }
            Kind::Segments { transport, headers, size, tcp } => {
                let from = headers + index * size;
                let end = from + out.len() - headers;
                out[..headers].copy_from_slice(&self.packet[..headers]);
                out[headers..].copy_from_slice(&self.packet[from..end]);
                let last = end == self.packet.len();
                network_header(out, transport, index);
                if tcp {
                    tcp_header(out, transport, (index * size) as u32, index == 0, last);
                } else {
                    udp_header(out, transport);
                }
            }
        }
    }
}

fn network_header(out: &mut [u8], transport: usize, index: usize) {
    let length = out.len();
    if out[0] >> 4 == 4 {
        out[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        let id = u16::from_be_bytes([out[4], out[5]]).wrapping_add(index as u16);
        out[4..6].copy_from_slice(&id.to_be_bytes());
        out[10..12].fill(0);
        let sum = crate::checksum::Sum::default().plus(&out[..transport]).checksum();
        out[10..12].copy_from_slice(&sum);
    } else {
        out[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
    }
}

fn tcp_header(out: &mut [u8], transport: usize, offset: u32, first: bool, last: bool) {
    const FIN_PSH: u8 = 0x09;
    const CWR: u8 = 0x80;
    let (network, segment) = out.split_at_mut(transport);
    let sequence = u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]).wrapping_add(offset);
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !last {
        segment[13] &= !FIN_PSH;
    }
    if !first {
        segment[13] &= !CWR;
    }
    segment[16..18].fill(0);
    let sum = ip::pseudo_sum(network, ip::TCP, segment.len()).plus(segment).checksum();
    segment[16..18].copy_from_slice(&sum);
}

fn udp_header(out: &mut [u8], transport: usize) {
    let (network, datagram) = out.split_at_mut(transport);
    let length = datagram.len();
    datagram[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    datagram[6..8].fill(0);
    let sum = ip::pseudo_sum(network, ip::UDP, length).plus(datagram).checksum();
    datagram[6..8].copy_from_slice(&if sum == [0, 0] { [0xff, 0xff] } else { sum });
}
