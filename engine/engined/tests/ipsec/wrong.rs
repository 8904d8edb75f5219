//! What is not as it should be: dropped, under the kernel's name for it.

use super::kit::agent::{Keys, PEER, Shape, outer};
use super::kit::capture::Capture;
use super::kit::keeper::prefix;
use super::kit::raw::{send_esp, send_udp};
use super::kit::until;
use super::{FOUR, PORT, UDP, World, keys, receive, rekey, spi};
use pellicle_crypto::esp::{Algorithm, Association, HEADER};
use pellicle_proto::checksum::Sum;
use pellicle_proto::esp::{Inner, padded_length, write_trailer};

/// An ESP packet of a ping from the first side.
pub fn one_packet(world: &World, filter: &str, headers: usize) -> Vec<u8> {
    let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("one.pcap"), filter);
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 1);
    let frames = capture.frames();
    let frame = frames.iter().find(|frame| frame.len() > headers && frame[29] == 1).expect("our ping");
    assert_eq!(frame[20] & 0x40, 0x40, "DF is set");
    frame[headers..].to_vec()
}

pub fn what_is_wrong_is_dropped_and_counted(world: &mut World) {
    let to = [10, 77, 0, 2];
    for (shape, filter, headers, seeds) in [(UDP, "udp port 4500", 42, [100, 101]), (Shape::Esp, "esp", 34, [101, 102])]
    {
        rekey(&mut world.agents, shape, FOUR, seeds);
        let packet = one_packet(world, filter, headers);
        assert_eq!(packet.len(), 8 + 8 + 88 + 16, "84 bytes of ping with their trailer");
        let sequence = u32::from_be_bytes(packet[4..8].try_into().expect("4"));
        let mut forged = packet.clone();
        forged[4..8].copy_from_slice(&(sequence + 100).to_be_bytes());
        let mut unknown = packet.clone();
        unknown[0] = 1;
        for (bytes, name) in [
            (packet, "XfrmInStateSeqError"),
            (forged, "XfrmInStateProtoError"),
            (unknown, "XfrmInNoStates"),
            (vec![0, 0, 0, 1, 0], "XfrmInHdrError"),
        ] {
            let before = world.agents[1].counter(name);
            match shape {
                Shape::Udp(port) => send_udp(&world.a().namespace, to, port, &bytes),
                Shape::Esp => send_esp(&world.a().namespace, to, &bytes),
            }
            until(name, || (world.agents[1].counter(name) == before + 1).then_some(()));
        }
    }
    let allowed = [prefix("10.78.0.1", 32)];
    world.agents[1].prefixes(0x83, &allowed);
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 0);
    until("the drop", || (world.agents[1].counter("XfrmInTmplMismatch") == 1).then_some(()));
    world.agents[1].prefixes(0x82, &allowed);
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 1);
    // keepalive of RFC 3948, and what IKE would send
    let before = world.agents[1].counter("dropUnknownMessage");
    send_udp(&world.a().namespace, to, PORT, &[0xff]);
    send_udp(&world.a().namespace, to, PORT, &[0, 0, 0, 0, 1, 2, 3]);
    until("IKE", || (world.agents[1].counter("dropUnknownMessage") == before + 1).then_some(()));
    for (kind, body) in [(0x84, vec![0; 86]), (0x85, vec![0; 4]), (0x99, vec![]), (0x90, vec![7, 0, 0, 0])] {
        assert_eq!(world.agents[0].ask(kind, &body).0, 3, "{kind:x}");
    }
    assert_eq!(world.agents[0].ask(0x81, &60u32.to_le_bytes()).0, 1);
    let wrong = Keys(1, 16, vec![1; 21], Vec::new());
    let body = [&PEER.to_le_bytes()[..], &9u32.to_le_bytes(), &outer(FOUR[1], FOUR[0]), &wrong.encode()].concat();
    assert_eq!(world.agents[0].ask(0x91, &body).0, 3);
}

/// A ping of the first side's, as it is inside.
fn echo_request() -> Vec<u8> {
    let message = |sum: [u8; 2]| [&[8, 0][..], &sum, &[0x70, 0x65, 0, 1], &[0x5a; 56]].concat();
    let message = message(Sum::default().plus(&message([0, 0])).checksum());
    let length = (20 + message.len() as u16).to_be_bytes();
    let header =
        |sum: [u8; 2]| [&[0x45, 0][..], &length, &[0, 0, 0, 0, 64, 1], &sum, &[10, 78, 0, 1], &[10, 78, 0, 2]].concat();
    let header = header(Sum::default().plus(&header([0, 0])).checksum());
    [header, message].concat()
}

/// With its trailer.
fn padded(text: &[u8], next: u8) -> Vec<u8> {
    let mut padded = text.to_vec();
    padded.resize(padded_length(text.len(), 4), 0);
    write_trailer(&mut padded, text.len(), Inner::Ipv4);
    *padded.last_mut().expect("a trailer") = next;
    padded
}

fn sealed(keys: &Keys, spi: u32, sequence: u64, text: &[u8]) -> Vec<u8> {
    let algorithm = Algorithm::from_number(keys.0).expect("an algorithm");
    let Ok(association) = Association::new(algorithm, keys.1.into(), &keys.2, &keys.3) else { panic!("a key") };
    let mut packet = [&vec![0; HEADER + association.iv_len()], text, &vec![0; association.icv_len()]].concat();
    association.seal(spi, sequence, &mut packet);
    packet
}

/// Whoever has the key can send anything: what is authentic is looked at all the same (RFC 4303, section 3.4.4).
pub fn what_is_inside_is_looked_at(world: &mut World) {
    let ping = echo_request();
    let wrong_padding = |at: usize, value: u8| {
        let mut text = padded(&[&ping[..], &[0]].concat(), 4);
        let at = text.len() - at;
        text[at] = value;
        text
    };
    let cut = &ping[..ping.len() - 1];
    let cases = [
        ("no IP inside", padded(&ping, 17), "XfrmInStateModeError"),
        ("another version than the next header says", padded(&ping, 41), "XfrmInError"),
        ("no version of IP", padded(&[&[0x95], &ping[1..]].concat(), 4), "XfrmInError"),
        ("less than its header says", padded(cut, 4), "XfrmInError"),
        ("padding that does not count", wrong_padding(3, 7), "XfrmInStateProtoError"),
        ("more padding than there is", wrong_padding(2, 250), "XfrmInStateProtoError"),
    ];
    let seed = 90;
    receive(&mut world.agents, 1, FOUR, seed);
    let mut sequence = 0;
    for shape in [UDP, Shape::Esp] {
        let mut arrives = |world: &World, text: &[u8]| {
            sequence += 1;
            let packet = sealed(&keys(seed, 0), spi(seed), sequence, text);
            match shape {
                Shape::Udp(port) => send_udp(&world.a().namespace, [10, 77, 0, 2], port, &packet),
                Shape::Esp => send_esp(&world.a().namespace, [10, 77, 0, 2], &packet),
            }
        };
        let writes = world.agents[1].counter("tunWrites");
        for (what, text, name) in &cases {
            let before = world.agents[1].counter(name);
            arrives(world, text);
            until(what, || (world.agents[1].counter(name) == before + 1).then_some(()));
        }
        assert_eq!(world.agents[1].counter("tunWrites"), writes, "nothing of it went on");
        // padding against traffic analysis lies between packet and trailer (section 2.7), in dummy packets too
        let before = world.a().echo_replies("10.78.0.2");
        for more in [0, 1, 100, 1000] {
            arrives(world, &padded(&[&ping[..], &vec![0xee; more]].concat(), 4));
        }
        until("four answers", || (world.a().echo_replies("10.78.0.2") == before + 4).then_some(()));
        let before = world.agents[1].counter("keepalivesReceived");
        arrives(world, &padded(&[0xee; 500], 59));
        until("a dummy packet", || (world.agents[1].counter("keepalivesReceived") > before).then_some(()));
    }
    world.agents[1].remove(1, spi(seed), &keys(seed, 0));
}
