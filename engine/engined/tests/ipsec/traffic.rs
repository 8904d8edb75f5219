//! What everything else stands on: shapes, algorithms, keys that change under traffic.

use super::kit::agent::{Keys, PEER, Shape, outer};
use super::kit::capture::Capture;
use super::kit::until;
use super::{DEVICE, FOUR, PORT, SIX, UDP, World, counts, drained, keys, receive, rekey, send, spi};
use serde_json::json;

pub fn the_supervisor_knows_the_device(world: &World) {
    let status = &world.a().status()["devices"][0];
    assert_eq!((&status["kind"], &status["ready"]), (&json!("ipsec"), &json!(true)));
    assert_eq!((&status["keeper"]["pid"], &status["features"]["rawEsp"]), (&json!(null), &json!(true)));
    let other = json!({ "name": DEVICE, "kind": "wireguard", "mtu": 1400, "listenPort": PORT, "mark": 0xe00 });
    let refused = world.a().ask(&json!({ "id": 3, "op": "device.add", "device": other }));
    assert_eq!((&refused["ok"], &refused["code"]), (&json!(false), &json!("device.invalid")));
}

pub fn nothing_leaves_before_the_peer_is_heard(world: &mut World) {
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

pub fn traffic_crosses_in_every_shape(world: &mut World) {
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

pub fn every_algorithm_works(world: &mut World) {
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
pub fn keys_of_one_spi_are_told_apart(world: &mut World) {
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

pub fn keys_change_under_traffic(world: &mut World) {
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
