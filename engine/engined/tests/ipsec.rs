//! Two supervisors with devices of IPsec, real sockets and real traffic between two network namespaces.
//!
//! Longer than other files: each step of `tunnels_of_esp` goes on with what the one before has left.

mod kit;

use kit::agent::{Keys, PEER, Shape, outer};
use kit::bed::{Bed, Side, missing, supervise};
use kit::capture::Capture;
use kit::keeper::{Keeper, prefix};
use kit::raw::{send_esp, send_too_big, send_udp};
use kit::until;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::time::Duration;

const DEVICE: &str = "pe-ipsec";
const PORT: u16 = 4500;
const UDP: Shape = Shape::Udp(PORT);
const FOUR: [&str; 2] = ["10.77.0.1", "10.77.0.2"];
const SIX: [&str; 2] = ["fd77::1", "fd77::2"];
const DROPS: [&str; 13] = [
    "XfrmInError",
    "XfrmInHdrError",
    "XfrmInNoStates",
    "XfrmInStateProtoError",
    "XfrmInStateModeError",
    "XfrmInStateSeqError",
    "XfrmInTmplMismatch",
    "XfrmOutStateSeqError",
    "XfrmOutError",
    "dropTunWriteFailed",
    "dropBadOffload",
    "dropEcnInvalid",
    "dropWaitingOverflow",
];

struct World {
    bed: Bed,
    agents: [Keeper; 2],
}

fn device() -> Value {
    json!({ "name": DEVICE, "kind": "ipsec", "mtu": 1400, "listenPort": PORT, "mark": 0xe00 })
}

/// Each direction has a key of its own.
fn keys(seed: u8, from: usize) -> Keys {
    Keys::gcm(seed * 2 + from as u8)
}

/// The SPI goes round as ids of keys do.
fn spi(seed: u8) -> u32 {
    u32::from(seed % 15) + 1
}

fn receive(agents: &mut [Keeper; 2], side: usize, addresses: [&str; 2], seed: u8) {
    agents[side].receive_by(spi(seed), &outer(addresses[1 - side], addresses[side]), &keys(seed, 1 - side));
}

fn send(agents: &mut [Keeper; 2], side: usize, shape: Shape, addresses: [&str; 2], seed: u8) {
    agents[side].send_by(spi(seed), shape, &outer(addresses[side], addresses[1 - side]), &keys(seed, side));
}

/// What was on its way by this SPI, which nobody sends by any more, has come.
fn drained(agent: &mut Keeper, spi: u32) {
    let mut packets = || {
        let found = agent.associations();
        found.iter().filter(|one| !one.out && one.spi == spi).map(|one| one.packets).sum::<u64>()
    };
    until("quiet", || {
        let before = packets();
        std::thread::sleep(Duration::from_millis(50));
        (packets() == before).then_some(())
    });
}

/// The first packet by this SPI has come: so have, by the same socket, those that left before it.
fn begun(agent: &mut Keeper, spi: u32) {
    until("a packet by the new key", || {
        agent.associations().iter().any(|one| !one.out && one.spi == spi && one.sequence > 0).then_some(())
    });
}

/// Both sides by new keys, without a gap; the former ones go.
fn rekey(agents: &mut [Keeper; 2], shape: Shape, addresses: [&str; 2], [former, new]: [u8; 2]) {
    (0..2).for_each(|side| receive(agents, side, addresses, new));
    (0..2).for_each(|side| send(agents, side, shape, addresses, new));
    (0..2).for_each(|side| agents[side].done(0x87, &PEER.to_le_bytes()));
    (0..2).for_each(|side| begun(&mut agents[side], spi(new)));
    (0..2).for_each(|side| drained(&mut agents[side], spi(former)));
    (0..2).for_each(|side| agents[side].remove(1, spi(former), &keys(former, 1 - side)));
}

impl World {
    fn new() -> World {
        let bed = Bed::bare();
        bed.add(&device());
        let agents = [0, 1].map(|side: usize| {
            let mut agent = Keeper::connect(bed.sides[side].run_dir.join(DEVICE).join("engine.sock"));
            agent.identify(1);
            allow(&mut agent, side);
            agent
        });
        World { bed, agents }
    }

    fn a(&self) -> &Side {
        &self.bed.sides[0]
    }

    fn nothing_was_dropped(&mut self) {
        for agent in &mut self.agents {
            for name in DROPS {
                assert_eq!(agent.counter(name), 0, "{name}");
            }
        }
    }

    fn both_ways(&mut self, count: u32) {
        for inner in ["10.78.0.2", "fd78::2"] {
            let answered = self.a().ping(inner, count, "0.01");
            assert_eq!(answered, count, "{inner}: {:#?}", self.told());
        }
    }

    /// What engines and kernels counted, for whoever asks where a packet is.
    fn told(&mut self) -> Vec<String> {
        let engines = self.agents.each_mut().map(Keeper::counters);
        let kernel = [
            "nstat -asz | grep -v ' 0  '",
            "ip -s link",
            "ip neigh",
            "ip -6 neigh",
            "cat /proc/net/udp6 /proc/net/raw6",
        ];
        let kernels = self.bed.sides.iter().flat_map(|side| {
            kernel.map(|words| {
                let output = side.command(&["sh", "-c", words]).output().expect("sh starts");
                String::from_utf8_lossy(&output.stdout).into_owned()
            })
        });
        engines.into_iter().chain(kernels).collect()
    }
}

#[test]
fn tunnels_of_esp() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let mut world = World::new();
    the_supervisor_knows_the_device(&world);
    nothing_leaves_before_the_peer_is_heard(&mut world);
    traffic_crosses_in_every_shape(&mut world);
    every_algorithm_works(&mut world);
    keys_of_one_spi_are_told_apart(&mut world);
    keys_change_under_traffic(&mut world);
    nobody_makes_the_way_narrow(&mut world);
    links_change_under_traffic(&mut world);
    what_cannot_leave_does_not(&mut world);
    what_is_wrong_is_dropped_and_counted(&mut world);
    a_killed_engine_goes_on(&mut world);
    a_new_supervisor_takes_over(&mut world);
    a_key_that_comes_back_keeps_its_numbers(&mut world);
    another_identity_begins_anew(&mut world);
    without_raw_sockets_udp_still_works(&mut world);
    the_device_goes(&mut world);
}

fn the_supervisor_knows_the_device(world: &World) {
    let status = &world.a().status()["devices"][0];
    assert_eq!((&status["kind"], &status["ready"]), (&json!("ipsec"), &json!(true)));
    assert_eq!((&status["keeper"]["pid"], &status["features"]["rawEsp"]), (&json!(null), &json!(true)));
    let other = json!({ "name": DEVICE, "kind": "wireguard", "mtu": 1400, "listenPort": PORT, "mark": 0xe00 });
    let refused = world.a().ask(&json!({ "id": 3, "op": "device.add", "device": other }));
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("device.invalid")));
}

fn allow(agent: &mut Keeper, side: usize) {
    let other = 2 - side;
    agent.prefixes(0x82, &[prefix(&format!("10.78.0.{other}"), 32), prefix(&format!("fd78::{other}"), 128)]);
}

fn nothing_leaves_before_the_peer_is_heard(world: &mut World) {
    let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("first.pcap"), "udp port 4500");
    let World { bed, agents } = world;
    (0..2).for_each(|side| receive(agents, side, FOUR, 2));
    send(agents, 0, UDP, FOUR, 2);
    let answered = std::thread::scope(|scope| {
        let ping = scope.spawn(|| bed.sides[0].ping("10.78.0.2", 5, "0.05"));
        until("five that wait", || (agents[0].counter("waiting") == 5).then_some(()));
        // by a dummy packet of the first one
        assert_eq!(agents[1].event(0x15), PEER.to_le_bytes());
        assert!(!agents[0].events.iter().any(|(kind, _)| *kind == 0x15));
        send(agents, 1, UDP, FOUR, 2);
        assert_eq!(agents[0].event(0x15), PEER.to_le_bytes());
        ping.join().expect("ping ends")
    });
    assert_eq!(answered, 5, "what waited goes out");
    let sizes: Vec<(u8, usize)> = capture.stop().iter().map(|(side, payload)| (*side, payload.len())).collect();
    // header, IV, one byte with its trailer, ICV
    let dummy = 8 + 8 + 4 + 16;
    let first = sizes.iter().position(|(side, _)| *side == 2).expect("the other side's first");
    assert!(first > 0 && sizes[..=first].iter().all(|(_, size)| *size == dummy), "{sizes:?}");
    world.agents[0].done(0x87, &PEER.to_le_bytes());
    world.nothing_was_dropped();
    let [a, b] =
        world.agents.each_mut().map(|agent| ["keepalivesSent", "keepalivesReceived"].map(|name| agent.counter(name)));
    println!("dummy packets sent and received: {a:?} {b:?}");
    assert!(a[0] < 30 && b[0] <= a[0], "no ping-pong: {a:?} {b:?}");
}

fn traffic_crosses_in_every_shape(world: &mut World) {
    let shapes = [(UDP, FOUR), (UDP, SIX), (Shape::Esp, FOUR), (Shape::Esp, SIX)];
    for ((shape, addresses), seed) in shapes.into_iter().zip(3..) {
        rekey(&mut world.agents, shape, addresses, [seed - 1, seed]);
        let before = world.agents.each_mut().map(counts);
        for inner in ["10.78.0.2", "fd78::2"] {
            world.both_ways(5);
            for more in [&["-C", "cubic", "-n", "96M"][..], &["-C", "cubic", "-n", "96M", "-R"]] {
                let end = world.bed.iperf(inner, more);
                let rate = end["sum_received"]["bits_per_second"].as_f64().expect("a rate");
                println!("TCP {inner} by {shape:?} over {} {more:?}: {:.2} Gbit/s", addresses[1], rate / 1e9);
                assert!(rate > 0.0);
            }
            let end = world.bed.iperf(inner, &["-u", "-b", "100M", "-l", "1200"]);
            println!("UDP {inner} by {shape:?}: {} of {} lost", end["sum"]["lost_packets"], end["sum"]["packets"]);
            assert!(end["sum"]["packets"].as_u64() > Some(0));
        }
        let after = world.agents.each_mut().map(counts);
        let [reads, sent, _, _] = std::array::from_fn(|index| after[0][index] - before[0][index]);
        let [_, _, received, writes] = std::array::from_fn(|index| after[1][index] - before[1][index]);
        println!("{reads} reads, {sent} packets sent; {received} received, {writes} writes");
        // the kernel joins datagrams of UDP; what a raw socket receives is joined by what one call brought, so by the machine
        let joined = if shape == UDP { 2 } else { 1 };
        assert!(sent > 2 * reads && received > joined * writes, "super packets are cut, and joined again");
    }
    world.nothing_was_dropped();
}

fn every_algorithm_works(world: &mut World) {
    let bytes = |length: u8, seed: u8| (0..length).map(|index| index ^ seed).collect::<Vec<u8>>();
    for (number, (algorithm, icv, encryption, authentication)) in
        [(1, 16, 28, 0), (1, 12, 36, 0), (2, 16, 36, 0), (3, 12, 16, 32), (4, 24, 24, 48), (5, 32, 32, 64)]
            .into_iter()
            .enumerate()
    {
        let spi = 20 + number as u32;
        let keys = [0x10, 0x70].map(|seed| Keys(algorithm, icv, bytes(encryption, seed), bytes(authentication, !seed)));
        for (side, agent) in world.agents.iter_mut().enumerate() {
            agent.receive_by(spi, &outer(FOUR[1 - side], FOUR[side]), &keys[1 - side]);
        }
        for (shape, more) in [(Shape::Esp, "300"), (UDP, "1372")] {
            for (side, agent) in world.agents.iter_mut().enumerate() {
                agent.send_by(spi, shape, &outer(FOUR[side], FOUR[1 - side]), &keys[side]);
            }
            world.both_ways(3);
            let sized = ["ping", "-n", "-q", "-c", "2", "-i", "0.01", "-W", "2", "-s", more, "10.78.0.2"];
            assert!(world.a().command(&sized).output().expect("ping").status.success(), "{more} bytes, {algorithm}");
        }
        let end = world.bed.iperf("10.78.0.2", &["-n", "96M"]);
        let rate = end["sum_received"]["bits_per_second"].as_f64().expect("a rate");
        println!("TCP by UDP, algorithm {algorithm} with {} bits: {:.2} Gbit/s", u32::from(encryption) * 8, rate / 1e9);
        (0..2).for_each(|side| world.agents[side].remove(2, spi, &keys[side]));
        (0..2).for_each(|side| drained(&mut world.agents[side], spi));
        (0..2).for_each(|side| world.agents[side].remove(1, spi, &keys[1 - side]));
    }
    (0..2).for_each(|side| send(&mut world.agents, side, Shape::Esp, SIX, 6));
    world.nothing_was_dropped();
}

/// A key that was changed in the Secret without another id.
fn keys_of_one_spi_are_told_apart(world: &mut World) {
    for side in [0, 1] {
        for seed in [21, 6 + 30] {
            receive(&mut world.agents, side, SIX, seed);
        }
    }
    assert_eq!((spi(21), spi(36)), (spi(6), spi(6)));
    for seed in [21, 36, 6, 21, 36] {
        (0..2).for_each(|side| send(&mut world.agents, side, Shape::Esp, SIX, seed));
        world.both_ways(3);
    }
    (0..2).for_each(|side| send(&mut world.agents, side, Shape::Esp, SIX, 6));
    (0..2).for_each(|side| drained(&mut world.agents[side], spi(6)));
    for side in [0, 1] {
        for seed in [21, 36] {
            world.agents[side].remove(1, spi(seed), &keys(seed, 1 - side));
        }
    }
    world.both_ways(3);
    world.nothing_was_dropped();
}

fn counts(agent: &mut Keeper) -> [u64; 4] {
    ["tunReads", "packetsSent", "packetsReceived", "tunWrites"].map(|name| agent.counter(name))
}

fn keys_change_under_traffic(world: &mut World) {
    let World { bed, agents } = world;
    let mut seed = 6;
    for shape in [UDP, Shape::Esp] {
        let first = seed;
        let answered = std::thread::scope(|scope| {
            // no more than a TUN queue takes while an engine has no processor
            let ping = scope.spawn(|| bed.sides[0].ping("10.78.0.2", 450, "0.002"));
            while !ping.is_finished() && seed < first + 30 {
                rekey(agents, shape, FOUR, [seed, seed + 1]);
                seed += 1;
            }
            ping.join().expect("ping ends")
        });
        println!("{} changes of keys under traffic by {shape:?}, {answered} of 450 answered", seed - first);
        assert_eq!(answered, 450);
    }
    rekey(agents, UDP, FOUR, [seed, 100]);
    assert!(agents[0].associations().iter().all(|association| association.spi == spi(100)));
    world.nothing_was_dropped();
}

/// The kernel believes whoever says that packets are too big for the way, and keeps it for ten minutes.
fn nobody_makes_the_way_narrow(world: &mut World) {
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
fn bursts(world: &World) -> bool {
    let words = ["ping", "-n", "-q", "-c", "10", "-i", "0.01", "-W", "1", "-s", "60000", "10.78.0.2"];
    world.a().command(&words).output().expect("ping").status.success()
}

/// What is sent goes past the kernel's routing: bursts for as long as it takes until that is so.
fn goes_by_link(world: &mut World, what: &str) {
    let before = world.agents[0].counter("linkSends");
    until(what, || {
        assert!(bursts(world), "{what}");
        (world.agents[0].counter("linkSends") > before).then_some(())
    });
}

/// No more than what was on its way when something changed may still go by the former link.
const ON_ITS_WAY: u64 = 64;

fn links_change_under_traffic(world: &mut World) {
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
fn what_cannot_leave_does_not(world: &mut World) {
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

/// An ESP packet of a ping from the first side.
fn one_packet(world: &World, filter: &str, headers: usize) -> Vec<u8> {
    let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("one.pcap"), filter);
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 1);
    let frames = capture.frames();
    let frame = frames.iter().find(|frame| frame.len() > headers && frame[29] == 1).expect("our ping");
    assert_eq!(frame[20] & 0x40, 0x40, "DF is set");
    frame[headers..].to_vec()
}

fn what_is_wrong_is_dropped_and_counted(world: &mut World) {
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

/// Side, SPI and sequence number of every ESP packet in a capture; a super packet of UDP has many.
fn sequences(frames: &[Vec<u8>], headers: usize) -> Vec<(u8, u32, u32)> {
    let mut found = Vec::new();
    for frame in frames.iter().filter(|frame| frame.len() > headers + 16) {
        let payload = &frame[headers..14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]))];
        let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().expect("4"));
        // The IV of GCM is the number again: so headers are found where the next packet of a super packet begins.
        let begins = |at: usize| number(at) == number(0) && number(at + 8) == 0 && number(at + 12) == number(at + 4);
        assert!(begins(0), "no packet of ESP");
        let size = (4..payload.len().saturating_sub(16)).step_by(4).find(|at| begins(*at)).unwrap_or(payload.len());
        found.extend((0..payload.len()).step_by(size).map(|at| (frame[29], number(at), number(at + 4))));
    }
    found
}

fn last_sent(agent: &mut Keeper) -> u64 {
    agent.associations().iter().find(|association| association.out).expect("one to send by").sequence
}

fn a_killed_engine_goes_on(world: &mut World) {
    for (shape, filter, headers, seeds) in [(Shape::Esp, "esp", 34, [102, 103]), (UDP, "udp port 4500", 42, [103, 104])]
    {
        // an engine that ends soon after its start is started after a pause, in which queues overflow
        std::thread::sleep(Duration::from_secs(5));
        rekey(&mut world.agents, shape, FOUR, seeds);
        let instance = world.agents[0].instance.clone();
        let before = last_sent(&mut world.agents[0]);
        let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("kill.pcap"), filter);
        let answered = std::thread::scope(|scope| {
            let ping = scope.spawn(|| world.bed.sides[0].ping("10.78.0.2", 300, "0.005"));
            let udp = scope.spawn(|| world.bed.iperf("10.78.0.2", &["-u", "-b", "30M", "-l", "1200", "-t", "2"]));
            for _ in 0..3 {
                std::thread::sleep(Duration::from_millis(400));
                let pid = world.bed.sides[0].engine_pid();
                // SAFETY: the engine of our own supervisor, which restarts it.
                unsafe { libc::kill(pid as i32, libc::SIGKILL) };
                until("a new engine", || (world.bed.sides[0].engine_pid() != pid).then_some(()));
            }
            let end = udp.join().expect("iperf3 ends");
            println!(
                "three kill -9 under UDP by {shape:?}: {} of {} lost",
                end["sum"]["lost_packets"], end["sum"]["packets"]
            );
            ping.join().expect("ping ends")
        });
        println!("three kill -9 under ping by {shape:?}: {} of 300 lost", 300 - answered);
        world.agents[0].reconnect();
        assert_eq!(world.agents[0].instance, instance);
        let after = last_sent(&mut world.agents[0]);
        world.both_ways(5);
        let (mut seen, mut total) = (HashSet::new(), 0);
        for (side, spi, number) in sequences(&capture.frames(), headers) {
            assert!(seen.insert((side, spi, number)), "{number} of side {side} was used twice");
            assert!(side != 1 || u64::from(number) > before, "{number} after {before}");
            total += 1;
        }
        println!("{total} packets captured, no number twice; {before} before, {after} after");
        assert!(total > 1000 && after > before + 1000);
    }
}

fn a_new_supervisor_takes_over(world: &mut World) {
    let before = last_sent(&mut world.agents[0]);
    let instance = world.agents[0].instance.clone();
    let (old, side) = (world.a().status()["pid"].clone(), &world.bed.sides[0]);
    let (answered, child) = std::thread::scope(|scope| {
        let ping = scope.spawn(|| side.ping("10.78.0.2", 200, "0.005"));
        std::thread::sleep(Duration::from_millis(300));
        let child = supervise(&side.namespace, &side.run_dir, &["--take-over"]);
        until("the new supervisor", || (side.status()["pid"] != old).then_some(()));
        (ping.join().expect("ping ends"), child)
    });
    let mut old = std::mem::replace(&mut world.bed.sides[0].supervisor, child);
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(old.id() as i32, libc::SIGTERM) };
    assert!(old.wait().expect("the old one ends").success());
    assert_eq!(answered, 200, "what waits in queues and sockets is not lost");
    world.agents[0].reconnect();
    assert_eq!(world.agents[0].instance, instance);
    assert!(last_sent(&mut world.agents[0]) >= before + 200);
    assert_eq!(world.a().status()["devices"][0]["features"]["rawEsp"], json!(true));
    rekey(&mut world.agents, Shape::Esp, FOUR, [104, 105]);
    world.both_ways(5);
    let port = json!({ "id": 3, "op": "device.listen", "name": DEVICE, "listenPort": 4501, "mark": 0xe01 });
    assert_eq!(world.a().ask(&port), json!({ "id": 3, "ok": true, "listenPort": 4501 }));
    world.both_ways(5);
    let outer = outer(FOUR[1], FOUR[0]);
    world.agents[1].send_by(spi(105), Shape::Udp(4501), &outer, &keys(105, 1));
    world.both_ways(5);
}

fn a_key_that_comes_back_keeps_its_numbers(world: &mut World) {
    let before = last_sent(&mut world.agents[0]);
    rekey(&mut world.agents, Shape::Esp, FOUR, [105, 106]);
    world.both_ways(5);
    let packet = one_packet(world, "esp", 34);
    assert!(last_sent(&mut world.agents[0]) < before);
    rekey(&mut world.agents, Shape::Esp, FOUR, [106, 105]);
    assert!(last_sent(&mut world.agents[0]) >= before);
    world.both_ways(5);
    // as the window was when the key went
    let replayed = world.agents[1].counter("XfrmInStateSeqError");
    receive(&mut world.agents, 1, FOUR, 106);
    send_esp(&world.a().namespace, [10, 77, 0, 2], &packet);
    until("the drop", || (world.agents[1].counter("XfrmInStateSeqError") == replayed + 1).then_some(()));
    world.agents[1].remove(1, spi(106), &keys(106, 0));
}

fn another_identity_begins_anew(world: &mut World) {
    let heard = world.agents[1].counter("packetsReceived");
    world.agents[1].identify(2);
    assert!(world.agents[1].associations().is_empty());
    allow(&mut world.agents[1], 1);
    send(&mut world.agents, 1, UDP, FOUR, 107);
    assert_eq!(world.bed.sides[1].ping("10.78.0.1", 1, "0.1"), 0);
    until("one that waits", || (world.agents[1].counter("waiting") == 1).then_some(()));
    assert_eq!(world.agents[1].counter("packetsReceived"), heard);
    world.agents[1].done(0x8b, &PEER.to_le_bytes());
    assert_eq!(world.agents[1].counter("waiting"), 0);
    assert_eq!(world.agents[1].counter("dropWaitingGivenUp"), 1);
    // four to receive by, and no fifth
    (110..114).for_each(|seed| receive(&mut world.agents, 1, FOUR, seed));
    let fifth = [&PEER.to_le_bytes()[..], &1u32.to_le_bytes(), &outer(FOUR[0], FOUR[1]), &keys(114, 0).encode()];
    assert_eq!(world.agents[1].ask(0x91, &fifth.concat()).0, 2);
    assert_eq!(world.agents[1].associations().len(), 5);
    world.agents[1].remove(2, spi(107), &keys(107, 1));
    assert_eq!(world.agents[1].ask(0x87, &PEER.to_le_bytes()).0, 1);
}

fn without_raw_sockets_udp_still_works(world: &mut World) {
    let side = &mut world.bed.sides[1];
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(side.supervisor.id() as i32, libc::SIGTERM) };
    side.supervisor.wait().expect("it ends");
    side.supervisor = std::process::Command::new("setpriv")
        .args(["--bounding-set=-net_raw", "--", "ip", "netns", "exec", &side.namespace])
        .args([env!("CARGO_BIN_EXE_pellicle-engine"), "supervise", "--max-peers", "64", "--run-dir"])
        .arg(&side.run_dir)
        .spawn()
        .expect("the supervisor starts");
    assert_eq!(side.ask(&json!({ "id": 8, "op": "device.add", "device": device() }))["ok"], true);
    assert_eq!(side.status()["devices"][0]["features"]["rawEsp"], json!(false));
    for words in [["10.78.0.2/24", "dev"], ["fd78::2/64", "dev"]] {
        side.ip(&["addr", "add", words[0], words[1], DEVICE, "nodad"]);
    }
    world.agents[1].reconnect();
    for (side, agent) in world.agents.iter_mut().enumerate() {
        agent.identify(3);
        allow(agent, side);
    }
    (0..2).for_each(|side| receive(&mut world.agents, side, FOUR, 120));
    let refused = [
        &PEER.to_le_bytes()[..],
        &spi(120).to_le_bytes(),
        &[0, 0, 0],
        &outer(FOUR[1], FOUR[0]),
        &keys(120, 1).encode(),
    ];
    let (status, why) = world.agents[1].ask(0x90, &refused.concat());
    assert!(status == 1 && why.contains("CAP_NET_RAW"), "{status}: {why}");
    // the first side's port is another one by now
    world.agents[0].send_by(spi(120), UDP, &outer(FOUR[0], FOUR[1]), &keys(120, 0));
    world.agents[1].send_by(spi(120), Shape::Udp(4501), &outer(FOUR[1], FOUR[0]), &keys(120, 1));
    world.both_ways(5);
}

fn the_device_goes(world: &mut World) {
    let removed = world.bed.sides[1].ask(&json!({ "id": 7, "op": "device.remove", "name": DEVICE }));
    assert_eq!(removed, json!({ "id": 7, "ok": true }));
    let there = |side: &Side| side.command(&["ip", "link", "show", DEVICE]).output().expect("ip").status.success();
    assert!(!there(&world.bed.sides[1]) && there(world.a()));
    let maps = |side: &Side| std::fs::read_to_string(format!("/proc/{}/maps", side.status()["pid"])).expect("maps");
    let mapped = |side: &Side| maps(side).contains("pellicle-state");
    assert!(!mapped(&world.bed.sides[1]) && mapped(world.a()), "its memory goes with it");
    let instance = world.agents[1].instance.clone();
    assert_eq!(world.bed.sides[1].ask(&json!({ "id": 8, "op": "device.add", "device": device() }))["ok"], true);
    world.agents[1].reconnect();
    assert_ne!(world.agents[1].instance, instance, "the numbers began again");
}
