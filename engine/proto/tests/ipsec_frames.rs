//! The frames of test/vectors/ipsec-frames.json, which the agent's codec is tested by as well.

mod vectors;

use pellicle_proto::endpoint::{Endpoint, Outer};
use pellicle_proto::event::{self, AssociationReport};
use pellicle_proto::frame::Deframer;
use pellicle_proto::request::{AssociationKeys, Direction, NewReceiving, NewSending, Order, Request};
use proptest::prelude::*;
use serde_json::Value;
use std::net::IpAddr;
use vectors::{frames, hex, u32, u64};

const VECTORS: &str = include_str!("../../../test/vectors/ipsec-frames.json");

const ALGORITHMS: [&str; 5] =
    ["aes-gcm", "chacha20-poly1305", "aes-cbc-hmac-sha256", "aes-cbc-hmac-sha384", "aes-cbc-hmac-sha512"];

fn outer(value: &Value) -> Outer {
    let endpoint = |value: &Value| match value.as_str().expect("an address").parse().expect("an address") {
        IpAddr::V4(four) => Endpoint::v4(four.octets(), 0),
        IpAddr::V6(six) => Endpoint::v6(six.octets(), 0, 0),
    };
    Outer { source: endpoint(&value["source"]), destination: endpoint(&value["destination"]) }
}

fn algorithm(value: &Value) -> u8 {
    let name = value.as_str().expect("a name");
    ALGORITHMS.iter().position(|known| *known == name).expect("an algorithm") as u8 + 1
}

fn direction(value: &Value) -> Direction {
    [Direction::In, Direction::Out][u32(value) as usize - 1]
}

fn check(f: &Value, order: &Order) {
    let keys = |found: &AssociationKeys| {
        let keys = &f["keys"];
        assert_eq!((found.algorithm, u32::from(found.icv)), (algorithm(&keys["algorithm"]), u32(&keys["icv"])));
        assert_eq!(found.encryption, hex(&keys["encryption"]));
        assert_eq!(found.authentication, hex(&keys["authentication"]));
    };
    match order {
        Order::SetSending(NewSending { peer, spi, udp, outer: found, keys: own }) => {
            let port = (u32(&f["encapsulation"]) == 1).then(|| u32(&f["port"]) as u16);
            assert_eq!((*peer, *spi, *udp), (u32(&f["peer"]), u32(&f["spi"]), port));
            assert_eq!(*found, outer(&f["outer"]));
            keys(own);
        }
        Order::SetReceiving(NewReceiving { peer, spi, outer: found, keys: own }) => {
            assert_eq!((*peer, *spi, *found), (u32(&f["peer"]), u32(&f["spi"]), outer(&f["outer"])));
            keys(own);
        }
        Order::RemoveAssociation { direction: found, peer, spi, fingerprint } => {
            assert_eq!((*found, *peer, *spi), (direction(&f["direction"]), u32(&f["peer"]), u32(&f["spi"])));
            assert_eq!(fingerprint.to_vec(), hex(&f["fingerprint"]));
        }
        other => panic!("{other:?}"),
    }
    let shown = format!("{order:?}");
    assert!(!shown.contains("28, 65, 139") && !shown.contains("64, 65, 66"), "a key is shown: {shown}");
}

fn encode(name: &str, f: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    match name {
        "ASSOCIATION" => event::association(
            &mut out,
            u32(&f["request"]),
            &AssociationReport {
                direction: direction(&f["direction"]),
                peer: u32(&f["peer"]),
                spi: u32(&f["spi"]),
                udp: u32(&f["encapsulation"]) == 1,
                outer: outer(&f["outer"]),
                algorithm: algorithm(&f["algorithm"]),
                icv: u32(&f["icv"]) as u8,
                fingerprint: hex(&f["fingerprint"]).try_into().expect("8 bytes"),
                sequence: u64(&f["sequence"]),
                packets: u64(&f["packets"]),
                bytes: u64(&f["bytes"]),
            },
        ),
        "HEARD" => event::heard(&mut out, u32(&f["peer"])),
        other => panic!("{other} is not an event"),
    }
    out
}

#[test]
fn every_vector() {
    let (mut events, mut requests) = (0, 0);
    for frame in frames(VECTORS) {
        let name = frame["name"].as_str().expect("a name");
        let bytes = hex(&frame["hex"]);
        if frame["direction"] == "engine to agent" {
            assert_eq!(encode(name, &frame["fields"]), bytes, "{name}");
            events += 1;
            continue;
        }
        let mut deframer = Deframer::default();
        deframer.push(&bytes);
        let (kind, body) = deframer.frame().expect("a frame").expect("whole");
        let request = Request::decode(kind, body);
        assert_eq!(request.id, u32(&frame["fields"]["request"]), "{name}");
        check(&frame["fields"], &request.order);
        for length in 4..body.len() {
            let short = Request::decode(kind, &body[..length]);
            assert!(matches!(short.order, Order::Malformed(_)), "{name} cut to {length}");
        }
        let long = [body, &[0]].concat();
        assert!(matches!(Request::decode(kind, &long).order, Order::Malformed(_)), "{name} with a byte too many");
        requests += 1;
    }
    assert!(events >= 4 && requests >= 10, "{events} events, {requests} requests");
}

/// What each field may not be, by its place in the body.
#[test]
fn malformed() {
    let bodies = |name: &str| {
        let frame = frames(VECTORS).into_iter().find(|frame| frame["name"] == name).expect("a vector");
        hex(&frame["hex"])[4..].to_vec()
    };
    let wrong = |name: &str, at: usize, byte: u8| {
        let mut frame = bodies(name);
        frame[1 + at] = byte;
        let order = Request::decode(frame[0], &frame[1..]).order;
        assert!(matches!(order, Order::Malformed(_)), "{name}, byte {at} is {byte}: {order:?}");
    };
    for (name, outer) in [("SET_SENDING", 15), ("SET_RECEIVING", 12)] {
        wrong(name, 8, 0); // SPI 0
        wrong(name, outer, 0);
        wrong(name, outer, 5);
        wrong(name, outer + 1 + 4, 1); // an IPv4 address of five bytes
        wrong(name, outer + 1 + 16 + 15, 1);
        wrong(name, outer + 33 + 2, 19); // shorter than the key
        wrong(name, outer + 33 + 2, 255);
    }
    wrong("SET_SENDING", 12, 2);
    wrong("REMOVE_ASSOCIATION", 4, 0);
    wrong("REMOVE_ASSOCIATION", 4, 3);
    let mut frame = bodies("SET_SENDING");
    frame[1 + 13..1 + 15].fill(0);
    assert!(matches!(Request::decode(frame[0], &frame[1..]).order, Order::Malformed(_)), "UDP to port 0");
}

proptest! {
    #[test]
    fn any_body_is_read_without_panic(kind in 0x90u8..=0x92, body in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Request::decode(kind, &body);
    }
}
