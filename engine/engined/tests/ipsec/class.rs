//! Traffic class and congestion (RFC 4301, section 5.1.2; RFC 6040): on the wire by each way of sending, and inside where
//! somebody on the way was congested.

use super::kit::agent::Shape;
use super::kit::capture::Capture;
use super::kit::until;
use super::{FOUR, SIX, UDP, World, receive, send};

/// DSCP EF, and capable of congestion marks (ECT(1)).
const CLASS: u8 = 0xb9;
/// More than a dummy packet has.
const TELLING: usize = 120;

/// Everything that comes from the other node is marked, and what then comes out of the tunnel is counted.
const CONGESTED: &str = "add table inet t;
add counter inet t marked; add counter inet t other;
add chain inet t way { type filter hook prerouting priority 0; };
add rule inet t way iifname under meta l4proto { udp, esp } ip ecn set ce;
add rule inet t way iifname under meta l4proto { udp, esp } ip6 ecn set ce;
add chain inet t inside { type filter hook input priority 0; };
add rule inet t inside iifname pe-ipsec icmp type echo-request ip dscp ef ip ecn ce counter name marked accept;
add rule inet t inside iifname pe-ipsec icmp type echo-request counter name other";

/// By which the packets of a ping leave.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// One by one.
    Single,
    /// Many by one call: GSO of UDP, or the packet socket.
    Run,
}

fn ping(world: &World, way: Way, class: u8) -> bool {
    let (class, size) = (class.to_string(), if let Way::Run = way { "60000" } else { "56" });
    let words = ["ping", "-n", "-q", "-c", "2", "-i", "0.01", "-W", "1", "-Q", &class, "-s", size, "10.78.0.2"];
    world.a().command(&words).output().expect("ping starts").status.success()
}

pub fn class_and_congestion_cross(world: &mut World) {
    let congestible = world.bed.sides[1].command(&["nft", "list", "tables"]).output().is_ok_and(|o| o.status.success());
    for (shape, addresses, way, filter) in [
        (UDP, FOUR, Way::Single, "udp port 4500 and src 10.77.0.1"),
        (UDP, FOUR, Way::Run, "udp port 4500 and src 10.77.0.1"),
        (Shape::Esp, FOUR, Way::Single, "esp and src 10.77.0.1"),
        (Shape::Esp, FOUR, Way::Run, "esp and src 10.77.0.1"),
        (UDP, SIX, Way::Run, "udp port 4500 and src fd77::1"),
        (Shape::Esp, SIX, Way::Single, "esp and src fd77::1"),
    ] {
        (0..2).for_each(|side| receive(&mut world.agents, side, addresses, 100));
        (0..2).for_each(|side| send(&mut world.agents, side, shape, addresses, 100));
        on_the_wire(world, shape, way, filter);
        if congestible {
            congested(world, shape, way);
        } else {
            eprintln!("skipped: needs nft");
        }
    }
    (0..2).for_each(|side| receive(&mut world.agents, side, FOUR, 100));
    (0..2).for_each(|side| send(&mut world.agents, side, Shape::Esp, FOUR, 100));
    world.both_ways(3);
}

fn on_the_wire(world: &mut World, shape: Shape, way: Way, filter: &str) {
    let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("class.pcap"), filter);
    let counts = |world: &mut World| {
        ["packetsSent", "udpSends", "rawSends", "linkSends"].map(|name| world.agents[0].counter(name))
    };
    until("the way", || {
        let before = counts(world);
        assert!(ping(world, way, CLASS), "{shape:?} {way:?}");
        let after = counts(world);
        let [packets, udp, raw, link] = std::array::from_fn(|index| after[index] - before[index]);
        // a neighbour that is not known yet takes the packet socket a while
        let taken = match (shape, way) {
            (Shape::Udp(_), Way::Single) => udp > 0 && raw == 0,
            (Shape::Udp(_), Way::Run) => udp > 0 && packets > 4 * udp,
            (Shape::Esp, Way::Single) => raw > 0 && link == 0,
            (Shape::Esp, Way::Run) => link > 0,
        };
        taken.then_some(())
    });
    let class = |frame: &Vec<u8>| match frame[12..14] {
        [8, 0] => frame[15],
        _ => frame[14] << 4 | frame[15] >> 4,
    };
    let classes: Vec<u8> = capture.frames().iter().filter(|frame| frame.len() >= TELLING).map(class).collect();
    assert!(!classes.is_empty() && classes.iter().all(|class| *class == CLASS), "{shape:?} {way:?}: {classes:x?}");
}

fn congested(world: &mut World, shape: Shape, way: Way) {
    let side = &world.bed.sides[1];
    let nft = |text: &str| assert!(side.command(&["nft", text]).status().expect("nft").success(), "{text}");
    let count = |name: &str| {
        let output = side.command(&["nft", "list", "counter", "inet", "t", name]).output().expect("nft");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let packets = text.split("packets ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a count");
        packets.parse::<u64>().expect("a number")
    };
    nft(CONGESTED);
    assert!(ping(world, way, CLASS));
    assert!(count("marked") > 0 && count("other") == 0, "{shape:?} {way:?}: {} {}", count("marked"), count("other"));
    // who cannot be told of congestion cannot have been marked by anybody honest
    let before = world.agents[1].counter("dropEcnInvalid");
    assert!(!ping(world, way, CLASS & !3));
    assert!(world.agents[1].counter("dropEcnInvalid") > before);
    assert_eq!(count("other"), 0);
    nft("delete table inet t");
}
