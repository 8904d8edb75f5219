//! The way to the other node: what is said of it, and what it is by now.

use super::kit::agent::{Shape, outer};
use super::kit::bed::Side;
use super::kit::capture::Capture;
use super::kit::keeper::Keeper;
use super::kit::raw::send_too_big;
use super::kit::until;
use super::{FOUR, PORT, UDP, World, keys, send, spi};
use serde_json::Value;

/// The kernel believes whoever says that packets are too big for the way, and keeps it for ten minutes.
pub fn nobody_makes_the_way_narrow(world: &mut World) {
    for protocol in [17, 50] {
        send_too_big(&world.bed.sides[1].namespace, [10, 77, 0, 1], [10, 77, 0, 2], protocol, PORT, 576);
    }
    let believed = || {
        let route = world.a().command(&["ip", "route", "get", "10.77.0.2"]).output().expect("ip");
        String::from_utf8_lossy(&route.stdout).contains("mtu 576").then_some(())
    };
    until("a narrow way", believed);
    for shape in [Shape::Esp, UDP] {
        send(&mut world.agents, 0, shape, FOUR, 100);
        let large = ["ping", "-n", "-q", "-c", "2", "-i", "0.01", "-W", "2", "-s", "1300", "10.78.0.2"];
        assert!(world.a().command(&large).output().expect("ping").status.success(), "{shape:?}");
    }
    world.nothing_was_dropped();
}

/// Runs `change` in the middle of a stream by native ESP.
fn under_traffic<T>(world: &World, change: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| world.bed.iperf("10.78.0.2", &["-C", "cubic"]));
        let before = sent_by(world, "under");
        until("traffic", || (sent_by(world, "under") > before + 1000).then_some(()));
        let result = change();
        let end = stream.join().expect("iperf3 ends");
        assert!(end["sum_received"]["bytes"].as_u64() > Some(1_000_000));
        result
    })
}

/// Packets that the first side's device has sent.
fn sent_by(world: &World, device: &str) -> u64 {
    let shown = world.a().command(&["ip", "-s", "-j", "link", "show", device]).output().expect("ip");
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    shown[0]["stats64"]["tx"]["packets"].as_u64().expect("a count")
}

/// Whether an answer came to bursts of packets: a large datagram's fragments, 44 of one length.
pub fn bursts(world: &World) -> bool {
    let words = ["ping", "-n", "-q", "-c", "10", "-i", "0.01", "-W", "1", "-s", "60000", "10.78.0.2"];
    world.a().command(&words).output().expect("ping").status.success()
}

/// What is sent goes past the kernel's routing: bursts for as long as it takes until that is so.
pub fn goes_by_link(world: &mut World, what: &str) {
    let before = world.agents[0].counter("linkSends");
    until(what, || {
        assert!(bursts(world), "{what}");
        (world.agents[0].counter("linkSends") > before).then_some(())
    });
}

/// No more than what was on its way when something changed may still go by the former link.
const ON_ITS_WAY: u64 = 64;

pub fn links_change_under_traffic(world: &mut World) {
    for (side, agent) in world.agents.iter_mut().enumerate() {
        agent.send_by(spi(100), Shape::Esp, &outer(FOUR[side], FOUR[1 - side]), &keys(100, side));
    }
    goes_by_link(world, "the first link");

    // the neighbour has another address
    let (former, new) = (mac(&world.bed.sides[1]), "02:00:00:00:77:02");
    let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("link.pcap"), "esp and src 10.77.0.1");
    under_traffic(world, || {
        world.bed.sides[1].ip(&["link", "set", "under", "address", new]);
        world.a().ip(&["neigh", "replace", "10.77.0.2", "lladdr", new, "nud", "reachable", "dev", "under"]);
    });
    goes_by_link(world, "the new neighbour");
    let bytes: Vec<u8> = new.split(':').map(|byte| u8::from_str_radix(byte, 16).expect("hex")).collect();
    let frames = capture.frames();
    let first = frames.iter().position(|frame| frame[..6] == bytes).expect("one to the new address");
    let late = frames[first..].iter().filter(|frame| frame[..6] != bytes).count() as u64;
    println!("{first} frames to {former}, then {} to {new}, {late} late", frames.len() - first);
    assert!(first > 100 && late <= ON_ITS_WAY, "{late} frames to an address that is gone");

    // the way is another device's, and then that goes
    let names = world.bed.sides.each_ref().map(|side| side.namespace.clone());
    world.a().ip(&["link", "add", "other", "type", "veth", "peer", "name", "other", "netns", &names[1]]);
    for side in &world.bed.sides {
        side.ip(&["link", "set", "other", "up"]);
        for device in ["all", "other"] {
            let loose = format!("net.ipv4.conf.{device}.rp_filter=0");
            assert!(side.command(&["sysctl", "-qw", &loose]).status().expect("sysctl").success());
        }
    }
    let before = under_traffic(world, || {
        world.a().ip(&["route", "add", "10.77.0.2/32", "dev", "other", "src", "10.77.0.1"]);
        sent_by(world, "under")
    });
    goes_by_link(world, "the new route");
    let late = sent_by(world, "under") - before;
    println!("{late} packets by the former device, {} by the new one", sent_by(world, "other"));
    assert!(late <= ON_ITS_WAY && sent_by(world, "other") > 1000, "{late} packets by a former route");
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| world.bed.iperf("10.78.0.2", &["-C", "cubic"]));
        let before = sent_by(world, "other");
        until("traffic", || (sent_by(world, "other") > before + 1000).then_some(()));
        world.a().ip(&["link", "del", "other"]);
        stream.join().expect("iperf3 ends");
    });
    goes_by_link(world, "the former route");
    world.nothing_was_dropped();
}

fn mac(side: &Side) -> String {
    let shown = side.command(&["ip", "-j", "link", "show", "under"]).output().expect("ip");
    let shown: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    shown[0]["address"].as_str().expect("an address").into()
}

/// By firewall or MTU: as if there were no way past them.
pub fn what_cannot_leave_does_not(world: &mut World) {
    let firewall: [&[&str]; 2] = [
        &[
            "nft",
            "add table inet t; add chain inet t o { type filter hook output priority 0; }; add rule inet t o meta l4proto esp drop",
        ],
        &["nft", "delete table inet t"],
    ];
    let narrow: [&[&str]; 2] =
        [&["ip", "link", "set", "under", "mtu", "1300"], &["ip", "link", "set", "under", "mtu", "1500"]];
    for [forbid, allow] in [firewall, narrow] {
        let output = |words: &[&str]| world.bed.sides[0].command(words).output().expect("a program");
        if !output(forbid).status.success() {
            eprintln!("skipped: needs {}", forbid[0]);
            continue;
        }
        let counts = |agent: &mut Keeper| ["linkSends", "XfrmOutError"].map(|name| agent.counter(name));
        let before = counts(&mut world.agents[0]);
        assert!(!bursts(world), "{forbid:?}");
        let after = counts(&mut world.agents[0]);
        assert!(after[0] == before[0] && after[1] > before[1], "{forbid:?}: {before:?} {after:?}");
        assert!(output(allow).status.success());
        world.both_ways(3);
        goes_by_link(world, "the link again");
    }
}
