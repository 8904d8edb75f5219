//! Cutting and joining, held against packets that are built and summed here, apart from the code under test.

use pellicle_proto::coalesce::Coalescer;
use pellicle_proto::split::Split;
use pellicle_proto::virtio::{Gso, SIZE, VirtioHeader};
use proptest::prelude::*;

/// The ones' complement sum, word by word (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn pseudo(packet: &[u8], protocol: u8, length: usize) -> Vec<u8> {
    let mut bytes = if packet[0] >> 4 == 4 { packet[12..20].to_vec() } else { packet[8..40].to_vec() };
    bytes.extend_from_slice(&(length as u32).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, protocol]);
    bytes
}

#[derive(Clone, Debug)]
struct Flow {
    six: bool,
    tcp: bool,
    port: u16,
    options: usize,
}

impl Flow {
    fn network(&self) -> usize {
        if self.six { 40 } else { 20 }
    }

    fn headers(&self) -> usize {
        self.network() + if self.tcp { 20 + self.options * 4 } else { 8 }
    }

    /// A whole packet with right checksums; `flags` of TCP.
    fn packet(&self, id: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let total = self.headers() + payload.len();
        let protocol = if self.tcp { 6 } else { 17 };
        let mut packet = Vec::new();
        if self.six {
            packet.extend_from_slice(&[0x60, 0, 0, 0]);
            packet.extend_from_slice(&((total - 40) as u16).to_be_bytes());
            packet.extend_from_slice(&[protocol, 64]);
            packet.extend_from_slice(&[0xfd; 16]);
            packet.extend_from_slice(&[0xfc; 16]);
        } else {
            packet.extend_from_slice(&[0x45, 0]);
            packet.extend_from_slice(&(total as u16).to_be_bytes());
            packet.extend_from_slice(&id.to_be_bytes());
            packet.extend_from_slice(&[0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let check = !sum(&[&packet]);
            packet[10..12].copy_from_slice(&check.to_be_bytes());
        }
        let start = packet.len();
        packet.extend_from_slice(&self.port.to_be_bytes());
        packet.extend_from_slice(&80u16.to_be_bytes());
        if self.tcp {
            packet.extend_from_slice(&sequence.to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, 9, ((5 + self.options) as u8) << 4, flags, 1, 0, 0, 0, 0, 0]);
            packet.resize(start + 20 + self.options * 4, 1);
        } else {
            packet.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
            packet.extend_from_slice(&[0, 0]);
        }
        packet.extend_from_slice(payload);
        let field = start + if self.tcp { 16 } else { 6 };
        let mut check = !sum(&[&pseudo(&packet, protocol, total - start), &packet[start..]]);
        if check == 0 && !self.tcp {
            check = 0xffff;
        }
        packet[field..field + 2].copy_from_slice(&check.to_be_bytes());
        packet
    }

    /// As a kernel gives it to the TUN device: lengths of the whole, the pseudo header's sum in the checksum field.
    fn super_packet(&self, size: usize, flags: u8, payload: &[u8]) -> (VirtioHeader, Vec<u8>) {
        let mut packet = self.packet(7, 1000, flags, payload);
        let start = self.network();
        let protocol = if self.tcp { 6 } else { 17 };
        let offset = if self.tcp { 16 } else { 6 };
        let partial = sum(&[&pseudo(&packet, protocol, packet.len() - start)]);
        packet[start + offset..start + offset + 2].copy_from_slice(&partial.to_be_bytes());
        let gso = match (self.tcp, self.six) {
            (true, false) => Gso::Tcp4,
            (true, true) => Gso::Tcp6,
            _ => Gso::Udp,
        };
        let header = VirtioHeader {
            needs_checksum: true,
            gso,
            header_length: self.headers() as u16,
            segment: size as u16,
            checksum_start: start as u16,
            checksum_offset: offset as u16,
        };
        (header, packet)
    }
}

fn cut(header: &VirtioHeader, packet: &[u8]) -> Vec<Vec<u8>> {
    let split = Split::new(header, packet).expect("a good super packet");
    let segment = |index| {
        let mut out = vec![0xaa; split.length(index)];
        split.write(index, &mut out);
        out
    };
    (0..split.count()).map(segment).collect()
}

fn join(packets: &[Vec<u8>]) -> Vec<(VirtioHeader, Vec<u8>)> {
    let mut slab = Vec::new();
    let mut coalescer = Coalescer::new(true);
    let mut ranges = Vec::new();
    for packet in packets {
        slab.extend_from_slice(&[0xee; 16]);
        ranges.push(slab.len()..slab.len() + packet.len());
        slab.extend_from_slice(packet);
    }
    for range in ranges {
        coalescer.push(&slab, range);
    }
    let mut out = Vec::new();
    coalescer.flush(&mut slab, |header, pieces| out.push((*header, pieces.collect::<Vec<_>>().concat())));
    out
}

fn flow() -> impl Strategy<Value = Flow> {
    (any::<bool>(), any::<bool>(), any::<u16>(), 0usize..4).prop_map(|(six, tcp, port, options)| Flow {
        six,
        tcp,
        port,
        options,
    })
}

proptest! {
    #[test]
    fn segments_are_what_the_sender_would_have_sent(
        flow in flow(), size in 1usize..1500, flags in prop::sample::select(vec![0x10u8, 0x18, 0x19, 0x90]),
        payload in prop::collection::vec(any::<u8>(), 2..9000),
    ) {
        let size = size.max(payload.len() / 120 + 1);
        let (header, packet) = flow.super_packet(size, flags, &payload);
        let segments = cut(&header, &packet);
        let chunks: Vec<&[u8]> = payload.chunks(size).collect();
        prop_assert_eq!(segments.len(), chunks.len());
        for (index, chunk) in chunks.iter().enumerate() {
            let mut own = flags;
            if index + 1 < chunks.len() { own &= !0x09; }
            if index > 0 { own &= !0x80; }
            let expected = flow.packet(7 + index as u16, 1000 + (index * size) as u32, own, chunk);
            prop_assert_eq!(&segments[index], &expected, "segment {}", index);
        }
    }

    #[test]
    fn joining_undoes_cutting(flow in flow(), size in 30usize..1400, payload in prop::collection::vec(any::<u8>(), 2..9000)) {
        let size = size.max(payload.len() / 120 + 1);
        let (header, packet) = flow.super_packet(size, 0x18, &payload);
        let joined = join(&cut(&header, &packet));
        prop_assert_eq!(joined.len(), 1);
        if payload.len() > size {
            prop_assert_eq!(joined[0].0, header);
            prop_assert_eq!(&joined[0].1, &packet);
        } else {
            prop_assert_eq!(joined[0].0, VirtioHeader::PLAIN);
            prop_assert_eq!(&joined[0].1, &flow.packet(7, 1000, 0x18, &payload));
        }
    }

    /// Whatever is joined: cut again it gives the same packets, each flow in its order, none lost and none made up.
    #[test]
    fn joining_loses_nothing(
        sends in prop::collection::vec((0usize..3, 1usize..4, prop::sample::select(vec![0x10u8, 0x18, 0x11, 0x02]), any::<bool>()), 1..60),
    ) {
        let flows = [
            Flow { six: false, tcp: true, port: 1, options: 3 },
            Flow { six: true, tcp: true, port: 2, options: 0 },
            Flow { six: false, tcp: false, port: 3, options: 0 },
        ];
        let mut sequences = [0u32; 3];
        let mut packets = Vec::new();
        for (number, (which, length, flags, broken)) in sends.into_iter().enumerate() {
            let payload = vec![number as u8; length * 100];
            let mut packet = flows[which].packet(sequences[which] as u16, sequences[which] * 100, flags, &payload);
            sequences[which] += length as u32;
            if broken && number % 3 == 0 {
                packet.iter_mut().last().into_iter().for_each(|last| *last ^= 1);
            }
            packets.push((which, packet));
        }
        let all: Vec<Vec<u8>> = packets.iter().map(|(_, packet)| packet.clone()).collect();
        let mut again = Vec::new();
        for (header, packet) in join(&all) {
            let header = VirtioHeader::decode(&header.encode()).expect("our own header");
            again.extend(cut(&header, &packet));
        }
        for (which, flow) in flows.iter().enumerate() {
            // the identification is counted up by whoever cuts
            let mask = |packet: &Vec<u8>| { let mut packet = packet.clone(); if !flow.six { packet[4..6].fill(0); packet[10..12].fill(0); } packet };
            let port = |packet: &Vec<u8>| packet[flow.network()..flow.network() + 2] == flow.port.to_be_bytes() && (packet[0] >> 4 == 6) == flow.six;
            let sent: Vec<Vec<u8>> = packets.iter().filter(|(own, _)| *own == which).map(|(_, packet)| mask(packet)).collect();
            let got: Vec<Vec<u8>> = again.iter().filter(|packet| port(packet)).map(mask).collect();
            prop_assert_eq!(got, sent);
        }
        prop_assert_eq!(again.len(), all.len());
    }

    #[test]
    fn nothing_panics(head in prop::collection::vec(any::<u8>(), SIZE), mut packet in prop::collection::vec(any::<u8>(), 0..300), first in prop::sample::select(vec![0x45u8, 0x60, 0x4f, 0]), protocol in prop::sample::select(vec![6u8, 17, 1])) {
        if packet.len() > 9 {
            packet[0] = first;
            packet[if first == 0x60 { 6 } else { 9 }] = protocol;
        }
        let mut bytes = [0; SIZE];
        bytes.copy_from_slice(&head);
        bytes[1] = [0, 1, 4, 5, 9][bytes[1] as usize % 5];
        bytes[7] = 0;
        if let Some(header) = VirtioHeader::decode(&bytes)
            && let Some(split) = Split::new(&header, &packet)
        {
            for index in 0..split.count() {
                split.write(index, &mut vec![0; split.length(index)]);
            }
        }
        join(&[packet.clone(), packet.clone(), packet]);
    }
}

#[test]
fn a_broken_checksum_stays_broken_and_alone() {
    let flow = Flow { six: false, tcp: true, port: 5, options: 3 };
    let mut packets: Vec<Vec<u8>> =
        (0..4).map(|index| flow.packet(index, u32::from(index) * 100, 0x10, &[9; 100])).collect();
    packets[1][70] ^= 0xff;
    let joined = join(&packets);
    let lengths: Vec<usize> = joined.iter().map(|(_, packet)| packet.len()).collect();
    assert_eq!(lengths, [packets[0].len(), packets[1].len(), packets[2].len() + 100]);
    assert_eq!(joined[1], (VirtioHeader::PLAIN, packets[1].clone()));
}

#[test]
fn udp_groups_end_at_128_parts() {
    let flow = Flow { six: false, tcp: false, port: 5, options: 0 };
    let packets: Vec<Vec<u8>> = (0..300).map(|index| flow.packet(index, 0, 0, &[1; 10])).collect();
    let parts: Vec<usize> = join(&packets).iter().map(|(_, packet)| (packet.len() - 28) / 10).collect();
    assert_eq!(parts, [128, 128, 44]);
}

/// Of one flow, but nothing that is joined: what comes after it stays after it.
#[test]
fn nothing_overtakes_a_packet_that_is_not_joined() {
    for six in [false, true] {
        let flow = Flow { six, tcp: false, port: 5, options: 0 };
        let (first, last) = (flow.packet(1, 0, 0, b"aaaa"), flow.packet(2, 0, 0, b"cccc"));
        let mut unsummed = flow.packet(2, 0, 0, b"bbbb");
        unsummed[flow.network() + 6..flow.network() + 8].fill(0);
        let mut fragment = flow.packet(2, 0, 0, b"bbbb");
        fragment[6] = if six { 44 } else { 0x20 };
        for middle in [flow.packet(2, 0, 0, b""), unsummed, fragment] {
            let joined: Vec<_> =
                join(&[first.clone(), middle.clone(), last.clone()]).into_iter().map(|it| it.1).collect();
            assert_eq!(joined, [first.clone(), middle, last.clone()]);
        }
        // another flow, or another protocol's acknowledgement, is no reason to join less
        let other = Flow { port: 6, ..flow.clone() }.packet(2, 0, 0, b"");
        let acknowledgement = Flow { tcp: true, ..flow.clone() }.packet(2, 7, 0x10, b"");
        assert_eq!(join(&[first.clone(), other, acknowledgement, last.clone()]).len(), 3);
    }
}
