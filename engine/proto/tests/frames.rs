//! The frames of test/vectors/engine-protocol.json, which the keeper's codec is tested by as well.

mod vectors;

use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::event::{self, Activity, Reason, SessionReport, Status};
use pellicle_proto::frame::{Broken, Deframer};
use pellicle_proto::prefix::Prefix;
use pellicle_proto::request::{Order, Place, Request, Role};
use proptest::prelude::*;
use serde_json::Value;
use std::net::IpAddr;
use vectors::{frames, hex, u32, u64};

const VECTORS: &str = include_str!("../../../test/vectors/engine-protocol.json");

fn array<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().expect("as many bytes")
}

fn address(text: &str) -> (u8, [u8; 16]) {
    let mut bytes = [0; 16];
    match text.parse().expect("an address") {
        IpAddr::V4(four) => {
            bytes[..4].copy_from_slice(&four.octets());
            (4, bytes)
        }
        IpAddr::V6(six) => (6, six.octets()),
    }
}

fn endpoint(value: &Value) -> Endpoint {
    if value.is_null() {
        return Endpoint::NONE;
    }
    let (family, address) = address(value["address"].as_str().expect("an address"));
    Endpoint { family, port: u32(&value["port"]) as u16, scope: u32(&value["scope"]), address }
}

fn prefixes(value: &Value) -> Vec<Prefix> {
    let one = |value: &Value| {
        let (base, length) = value.as_str().expect("a prefix").split_once('/').expect("a length");
        let (family, address) = address(base);
        Prefix::new(family, length.parse().expect("a length"), address).expect("a prefix")
    };
    value.as_array().expect("prefixes").iter().map(one).collect()
}

fn activity(value: &Value) -> Activity {
    Activity {
        first_unanswered: u64(&value["firstUnanswered"]),
        first_unacknowledged: u64(&value["firstUnacknowledged"]),
        last_sent: u64(&value["lastSent"]),
        last_received: u64(&value["lastReceived"]),
        last_authenticated: u64(&value["lastAuthenticated"]),
        rx_bytes: u64(&value["rxBytes"]),
        tx_bytes: u64(&value["txBytes"]),
    }
}

fn encode(name: &str, f: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match name {
        "HELLO" => event::hello(
            &mut out,
            &array(&f["instance"]),
            u32(&f["pid"]),
            u32(&f["maxPeers"]),
            f["version"].as_str().expect("text"),
        ),
        "REPLY" => {
            let status =
                [Status::Done, Status::NoSuchObject, Status::Full, Status::Malformed][u32(&f["status"]) as usize];
            event::reply(&mut out, u32(&f["request"]), status, f["text"].as_str().expect("text"));
        }
        "PEER" => event::peer(
            &mut out,
            u32(&f["request"]),
            u32(&f["peer"]),
            &array(&f["publicKey"]),
            &endpoint(&f["endpoint"]),
            &activity(&f["activity"]),
        ),
        "SESSION" => event::session(
            &mut out,
            u32(&f["request"]),
            &SessionReport {
                peer: u32(&f["peer"]),
                local: u32(&f["local"]),
                remote: u32(&f["remote"]),
                role: u32(&f["role"]) as u8,
                place: u32(&f["place"]) as u8,
                born: u64(&f["born"]),
                sent: u64(&f["sent"]),
                received: u64(&f["received"]),
            },
        ),
        "ALLOWED" => event::allowed(&mut out, u32(&f["request"]), u32(&f["peer"]), &prefixes(&f["prefixes"])),
        "HANDSHAKE" => event::handshake(
            &mut out,
            &endpoint(&f["source"]),
            &endpoint(&f["destination"]),
            u32(&f["ecn"]) as u8,
            &hex(&f["message"]),
        ),
        "WANTED" => {
            let reason =
                [Reason::Waiting, Reason::OldOnSending, Reason::OldOnReceiving][u32(&f["reason"]) as usize - 1];
            event::wanted(&mut out, u32(&f["peer"]), reason);
        }
        "CONFIRMED" => event::confirmed(&mut out, u32(&f["peer"]), u32(&f["local"])),
        "ACTIVITY" => {
            let peers: Vec<(u32, Activity)> = f["peers"]
                .as_array()
                .expect("peers")
                .iter()
                .map(|entry| (u32(&entry["peer"]), activity(&entry["activity"])))
                .collect();
            event::activity(&mut out, &peers);
        }
        "MOVED" => event::moved(&mut out, u32(&f["peer"]), &endpoint(&f["endpoint"])),
        other => panic!("{other} is not an event"),
    }
    out
}

fn check(name: &str, f: &Value, order: &Order) {
    match order {
        Order::SetPeer { peer, public_key, endpoint: found } => {
            assert_eq!(
                (*peer, *public_key, *found),
                (u32(&f["peer"]), array(&f["publicKey"]), endpoint(&f["endpoint"]))
            );
        }
        Order::Allow { peer, prefixes: found } | Order::Disallow { peer, prefixes: found } => {
            assert_eq!((*peer, found), (u32(&f["peer"]), &prefixes(&f["prefixes"])));
        }
        Order::SetSession(found) => {
            assert_eq!(
                (found.peer, found.local, found.remote, found.born),
                (u32(&f["peer"]), u32(&f["local"]), u32(&f["remote"]), u64(&f["born"]))
            );
            assert_eq!((found.send_key, found.receive_key), (array(&f["sendKey"]), array(&f["receiveKey"])));
            assert_eq!(found.place, if u32(&f["place"]) == 1 { Place::Current } else { Place::Next });
            assert_eq!(found.role, if u32(&f["role"]) == 1 { Role::Initiator } else { Role::Responder });
            assert!(!format!("{found:?}").contains("64, 65"), "a key is shown");
        }
        Order::RemoveSession { local } => assert_eq!(*local, u32(&f["local"])),
        Order::Send { source, destination, tos, message } => {
            assert_eq!((*source, *destination), (endpoint(&f["source"]), endpoint(&f["destination"])));
            assert_eq!((u32::from(*tos), message.to_vec()), (u32(&f["tos"]), hex(&f["message"])));
        }
        Order::RemovePeer { peer }
        | Order::Keepalive { peer }
        | Order::ClearSessions { peer }
        | Order::DropWaiting { peer } => {
            assert_eq!(*peer, u32(&f["peer"]));
        }
        Order::SetMacKey { key } => assert_eq!(*key, array(&f["macKey"])),
        Order::Dump => assert_eq!(name, "DUMP"),
        Order::Counters => assert_eq!(name, "COUNTERS"),
        Order::SetSending(_) | Order::SetReceiving(_) | Order::RemoveAssociation { .. } => {
            panic!("{name} is tested elsewhere")
        }
        Order::Malformed(why) => panic!("{name}: {why}"),
    }
}

#[test]
fn every_vector() {
    let (mut events, mut requests) = (0, 0);
    for frame in frames(VECTORS) {
        let name = frame["name"].as_str().expect("a name");
        let bytes = hex(&frame["hex"]);
        if frame["direction"] == "engine to keeper" {
            assert_eq!(encode(name, &frame["fields"]), bytes, "{name}");
            events += 1;
            continue;
        }
        let mut deframer = Deframer::default();
        // in two pieces, as a stream may give it
        deframer.push(&bytes[..3]);
        assert_eq!(deframer.frame(), Ok(None));
        deframer.push(&bytes[3..]);
        let (kind, body) = deframer.frame().expect("a frame").expect("whole");
        let request = Request::decode(kind, body);
        assert_eq!(request.id, u32(&frame["fields"]["request"]), "{name}");
        check(name, &frame["fields"], &request.order);
        for length in 4..body.len() {
            let short = Request::decode(kind, &body[..length]);
            let open_ended = name == "SEND" && length >= 51;
            assert!(open_ended || matches!(short.order, Order::Malformed(_)), "{name} cut to {length}");
        }
        requests += 1;
    }
    assert!(events >= 15 && requests >= 14, "{events} events, {requests} requests");
}

#[test]
fn a_length_beyond_1_mib_or_of_nothing_breaks_the_stream() {
    for length in [0u32, (1 << 20) + 1, u32::MAX] {
        let mut deframer = Deframer::default();
        deframer.push(&length.to_le_bytes());
        assert_eq!(deframer.frame(), Err(Broken));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_malformed(kind in any::<u8>(), body in prop::collection::vec(any::<u8>(), 0..200)) {
        let request = Request::decode(kind, &body);
        prop_assert!((0x80..=0x8c).contains(&kind) || (0x90..=0x92).contains(&kind) || matches!(request.order, Order::Malformed(_)));
    }

    #[test]
    fn any_stream_ends_or_goes_on(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
        let mut deframer = Deframer::default();
        for piece in pieces {
            deframer.push(&piece);
            while let Ok(Some((kind, body))) = deframer.frame() {
                let _ = Request::decode(kind, body);
            }
        }
    }

    #[test]
    fn any_datagram_is_classified(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = pellicle_proto::transport::classify(&bytes);
    }
}
