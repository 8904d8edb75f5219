//! Two supervisors with real TUN devices, real sockets and real traffic between two network namespaces.

mod kit;

use kit::bed::{DEVICE, PORT, Side, missing, supervise};
use kit::capture::{Capture, counters};
use kit::keeper::{endpoint, prefix};
use kit::raw::send_from_port_zero;
use kit::until;
use kit::world::World;
use serde_json::json;
use std::collections::HashSet;

#[test]
fn packets_cross_and_nothing_is_used_twice() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let mut world = World::new();
    the_engine_has_no_rights(&world);
    traffic_crosses(&mut world);
    endpoints_change_under_traffic(&mut world);
    what_is_wrong_is_dropped_and_counted(&mut world);
    packets_wait_for_a_session(&mut world);
    a_next_session_is_confirmed(&mut world);
    a_keeper_that_does_not_read_misses_only_handshakes(&mut world);
    a_killed_engine_goes_on(&mut world);
    a_new_supervisor_takes_over(&mut world);
    ports_and_mtu_change(&mut world);
    a_stopped_engine_dies_with_its_supervisor(&mut world);
    ending_removes_the_device(&mut world);
}

fn the_engine_has_no_rights(world: &World) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.a().engine_pid())).expect("its status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).expect("the field").trim().to_string();
    assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
    assert_eq!(field("CapEff:"), "0000000000000000");
    assert_eq!(field("CapBnd:"), "0000000000000000");
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()));
}

fn traffic_crosses(world: &mut World) {
    for outer in [["10.77.0.2", "10.77.0.1"], ["fd77::2", "fd77::1"]] {
        for (keeper, address) in world.keepers.iter_mut().zip(outer) {
            keeper.set_peer(address, PORT);
        }
        for inner in ["10.78.0.2", "fd78::2"] {
            let answered = world.a().ping(inner, 5, "0.01");
            let [a, b] = world.keepers.each_mut().map(|keeper| keeper.ask(0x89, &[]).1);
            assert_eq!(answered, 5, "{inner} over {}: {a} {b}", outer[0]);
            for more in [&["-C", "cubic", "-n", "96M"][..], &["-C", "cubic", "-n", "96M", "-R"]] {
                let end = world.iperf(inner, more);
                let rate = end["sum_received"]["bits_per_second"].as_f64().expect("a rate");
                println!("TCP {inner} over {} {more:?}: {:.2} Gbit/s", outer[0], rate / 1e9);
                assert!(rate > 0.0);
            }
            for more in [&["-u", "-b", "100M", "-l", "1200"][..], &["-u", "-b", "20M", "-l", "100", "-R"]] {
                let end = world.iperf(inner, more);
                println!("UDP {inner} {more:?}: {} of {} lost", end["sum"]["lost_packets"], end["sum"]["packets"]);
                assert!(end["sum"]["packets"].as_u64() > Some(0));
            }
        }
    }
    world.assert_no_drops();
    for keeper in &mut world.keepers {
        let (packets, sends) = (keeper.counter("packetsSent"), keeper.counter("udpSends"));
        println!("{packets} packets in {sends} sends");
        assert!(packets > 4 * sends, "no batching: {packets} packets in {sends} sends");
    }
    for (keeper, address) in world.keepers.iter_mut().zip(["10.77.0.2", "10.77.0.1"]) {
        keeper.set_peer(address, PORT);
    }
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 1);
}

/// The control thread and the receiving one both write endpoints, and neither may wait for the other.
fn endpoints_change_under_traffic(world: &mut World) {
    let mut keepers = world.keepers.each_mut();
    let bed = &world.bed;
    std::thread::scope(|scope| {
        let pings = ["10.78.0.2", "fd78::2"].map(|to| scope.spawn(move || bed.sides[0].ping(to, 2000, "0.001")));
        let mut turn = 0;
        while turn <= 100 || pings.iter().any(|ping| !ping.is_finished()) {
            for (keeper, addresses) in keepers.iter_mut().zip([["10.77.0.2", "fd77::2"], ["10.77.0.1", "fd77::1"]]) {
                keeper.set_peer(addresses[turn % 2], PORT);
            }
            turn += 1;
        }
        let answered = pings.map(|ping| ping.join().expect("ping ends"));
        println!("{turn} changes of both endpoints; {answered:?} of 2000 answered");
        // a TUN queue takes 500 while an engine has no processor
        assert!(answered.iter().all(|count| *count > 400));
    });
    for (keeper, address) in keepers.iter_mut().zip(["10.77.0.2", "10.77.0.1"]) {
        keeper.set_peer(address, PORT);
    }
    assert_eq!(bed.sides[0].ping("10.78.0.2", 1, "0.1"), 1);
}

fn what_is_wrong_is_dropped_and_counted(world: &mut World) {
    let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("one.pcap"), "udp port 51871");
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 1);
    let seen = capture.stop();
    let message = seen.iter().find(|(source, _)| *source == 1).expect("our ping").1.clone();
    assert_eq!(message.len(), 32 + 96, "84 bytes of ping, padded to 96");
    let send = |bytes: &[u8]| [vec![0; 23], endpoint("10.77.0.2", PORT), vec![0], bytes.to_vec()].concat();
    let mut forged = message.clone();
    forged[20] ^= 1;
    let mut unknown = message.clone();
    unknown[4] ^= 0x80;
    for (bytes, name) in [
        (message, "dropReplayed"),
        (forged, "dropForged"),
        (unknown, "dropUnknownSession"),
        (vec![9; 40], "dropUnknownMessage"),
        (vec![4], "dropUnknownMessage"),
    ] {
        let before = world.keepers[1].counter(name);
        world.keepers[0].done(0x86, &send(&bytes));
        until(name, || (world.keepers[1].counter(name) == before + 1).then_some(()));
    }
    let mut handshake = vec![1, 0, 0, 0];
    handshake.resize(148, 5);
    world.keepers[0].done(0x86, &send(&handshake));
    let event = world.keepers[1].event(0x10);
    let (from, to) = (endpoint("10.77.0.1", PORT), endpoint("10.77.0.2", 0));
    assert_eq!(event, [from, to, vec![0], handshake.clone()].concat());
    assert_eq!(world.keepers[1].counter("dropPortZero"), 0);
    send_from_port_zero(&world.a().namespace, [10, 77, 0, 2], PORT, &handshake);
    until("the drop", || (world.keepers[1].counter("dropPortZero") == 1).then_some(()));
    assert!(!world.keepers[1].events.iter().any(|(kind, _)| *kind == 0x10), "not the keeper's to answer");
    one_that_is_dropped_does_not_displace_the_next(world, &handshake);
    let allowed = [prefix("10.78.0.1", 32)];
    world.keepers[1].prefixes(0x83, &allowed);
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 0);
    until("the drop", || (world.keepers[1].counter("dropWrongSource") == 1).then_some(()));
    world.keepers[1].prefixes(0x82, &allowed);
    assert_eq!(world.a().ping("10.78.0.2", 1, "0.1"), 1);
    assert_eq!(world.keepers[0].ask(0x99, &[]).0, 3);
    assert_eq!(world.keepers[0].ask(0x81, &60u32.to_le_bytes()).0, 1);
    assert_eq!(world.keepers[0].ask(0x80, &[&64u32.to_le_bytes()[..], &[9; 32], &[0; 23]].concat()).0, 2);
}

/// Both wait in the socket, so that one batch takes them.
fn one_that_is_dropped_does_not_displace_the_next(world: &mut World, dropped: &[u8]) {
    let engine = world.bed.sides[1].engine_pid();
    // SAFETY: a signal to a process of ours
    let signal = |signal| unsafe { libc::kill(engine as i32, signal) };
    signal(libc::SIGSTOP);
    send_from_port_zero(&world.a().namespace, [10, 77, 0, 2], PORT, dropped);
    std::thread::scope(|scope| {
        let ping = scope.spawn(|| world.bed.sides[0].ping("10.78.0.2", 1, "0.1"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        signal(libc::SIGCONT);
        assert_eq!(ping.join().expect("ping ends"), 1);
    });
    assert_eq!(world.bed.sides[1].engine_pid(), engine, "the engine lives");
    assert_eq!(world.keepers[1].counter("dropPortZero"), 2);
}

fn packets_wait_for_a_session(world: &mut World) {
    for keeper in &mut world.keepers {
        keeper.done(0x8a, &7u32.to_le_bytes());
        keeper.events.clear();
    }
    assert_eq!(world.keepers[0].ask(0x87, &7u32.to_le_bytes()).0, 1, "no session to keep alive");
    std::thread::scope(|scope| {
        let ping = scope.spawn(|| world.bed.sides[0].ping("10.78.0.2", 1, "0.1"));
        assert_eq!(world.keepers[0].event(0x11), [7, 0, 0, 0, 1]);
        world.keepers[1].set_session(1, 1, 20);
        world.keepers[0].set_session(0, 1, 20);
        assert_eq!(ping.join().expect("ping ends"), 1);
    });
    let received = world.keepers[1].counter("keepalivesReceived");
    world.keepers[0].done(0x87, &7u32.to_le_bytes());
    until("the keepalive", || (world.keepers[1].counter("keepalivesReceived") == received + 1).then_some(()));
}

fn a_next_session_is_confirmed(world: &mut World) {
    world.keepers[1].set_session(1, 2, 30);
    world.keepers[0].set_session(0, 1, 30);
    world.keepers[1].events.clear();
    assert_eq!(world.a().ping("10.78.0.2", 3, "0.01"), 3);
    let expected = [7u32.to_le_bytes(), (30u32 << 8 | 1).to_le_bytes()].concat();
    assert_eq!(world.keepers[1].event(0x12), expected);
    let activity = world.keepers[1].event(0x13);
    assert_eq!(activity[..8], [1, 0, 0, 0, 7, 0, 0, 0]);
    // said again: the counters go on
    let before = world.keepers[0].sent();
    world.keepers[0].set_session(0, 1, 30);
    assert_eq!(world.keepers[0].sent(), before);
    assert_eq!(world.a().ping("10.78.0.2", 3, "0.01"), 3);
}

fn a_keeper_that_does_not_read_misses_only_handshakes(world: &mut World) {
    world.keepers[1].set_session(1, 2, 40);
    world.keepers[1].events.clear();
    let before = world.keepers[1].counter("dropHandshakeOverflow");
    let mut handshake = vec![1, 0, 0, 0];
    handshake.resize(148, 5);
    let send = [vec![0; 23], endpoint("10.77.0.2", PORT), vec![0], handshake].concat();
    // more than the socket, what may wait to be written and the queue take together
    for _ in 0..160 {
        world.keepers[0].repeat(0x86, &send, 100);
    }
    world.keepers[0].set_session(0, 1, 40);
    assert_eq!(world.a().ping("10.78.0.2", 3, "0.01"), 3);
    let expected = [7u32.to_le_bytes(), (40u32 << 8 | 1).to_le_bytes()].concat();
    assert_eq!(world.keepers[1].event(0x12), expected);
    let told = world.keepers[1].events.iter().filter(|(kind, _)| *kind == 0x10).count();
    let dropped = world.keepers[1].counter("dropHandshakeOverflow") - before;
    println!("of 16000 handshakes to a keeper that does not read {told} were told, {dropped} dropped and counted");
    assert!(dropped > 0 && told > 1000);
    world.keepers[1].events.clear();
}

fn a_killed_engine_goes_on(world: &mut World) {
    let capture = Capture::start(&world.a().namespace, &world.bed.folder.join("kill.pcap"), "udp port 51871");
    let (instance, before) = (world.keepers[0].instance.clone(), world.keepers[0].sent());
    let answered = std::thread::scope(|scope| {
        let ping = scope.spawn(|| world.bed.sides[0].ping("10.78.0.2", 400, "0.005"));
        let udp = scope.spawn(|| world.iperf("10.78.0.2", &["-u", "-b", "50M", "-l", "1200", "-t", "2"]));
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(400));
            let pid = world.bed.sides[0].engine_pid();
            // SAFETY: the engine of our own supervisor, which restarts it.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
            until("a new engine", || (world.bed.sides[0].engine_pid() != pid).then_some(()));
        }
        let end = udp.join().expect("iperf3 ends");
        println!("three kill -9 under UDP: {} of {} lost", end["sum"]["lost_packets"], end["sum"]["packets"]);
        ping.join().expect("ping ends")
    });
    println!("three kill -9 under ping: {} of 400 lost", 400 - answered);
    assert!(answered > 0);
    world.keepers[0].reconnect();
    assert_eq!(world.keepers[0].instance, instance);
    assert_eq!(world.keepers[0].counter("engineStarts"), 4);
    assert!(world.keepers[0].sent() > before);
    assert_eq!(world.a().ping("10.78.0.2", 5, "0.01"), 5);
    let (mut seen, mut total) = (HashSet::new(), 0);
    for (_, payload) in capture.stop() {
        for pair in counters(&payload) {
            assert!(seen.insert(pair), "(receiver, counter) {pair:x?} was sent twice");
            total += 1;
        }
    }
    println!("{total} messages captured, no counter twice");
    assert!(total > 1000);
}

fn a_new_supervisor_takes_over(world: &mut World) {
    let before = world.keepers[0].sent();
    let (old, side) = (world.a().status()["pid"].clone(), &world.bed.sides[0]);
    let (answered, child) = std::thread::scope(|scope| {
        let ping = scope.spawn(|| side.ping("10.78.0.2", 200, "0.005"));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let child = supervise(&side.namespace, &side.run_dir, &["--take-over"]);
        until("the new supervisor", || (side.status()["pid"] != old).then_some(()));
        (ping.join().expect("ping ends"), child)
    });
    println!("hand-over under ping: {} of 200 lost", 200 - answered);
    let mut old = std::mem::replace(&mut world.bed.sides[0].supervisor, child);
    let lingers = old.try_wait().expect("its state").is_none();
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(old.id() as i32, libc::SIGTERM) };
    assert!(old.wait().expect("the old one ends").success());
    assert_eq!(answered, 200, "what waits in queues and sockets is not lost");
    assert!(lingers, "the old one stays until it is told to end");
    world.keepers[0].reconnect();
    assert!(world.keepers[0].sent() >= before + 200);
}

fn ports_and_mtu_change(world: &mut World) {
    let answer =
        world.a().ask(&json!({ "id": 3, "op": "device.listen", "name": DEVICE, "listenPort": 51999, "mark": 0xe01 }));
    assert_eq!(answer, json!({ "id": 3, "ok": true, "listenPort": 51999 }));
    world.keepers[1].events.clear();
    assert_eq!(world.a().ping("10.78.0.2", 3, "0.05"), 3);
    let moved = world.keepers[1].event(0x14);
    assert_eq!(moved, [7u32.to_le_bytes().to_vec(), endpoint("10.77.0.1", 51999)].concat());
    let device = json!({ "name": DEVICE, "kind": "wireguard", "mtu": 1300, "listenPort": 51999, "mark": 0xe01 });
    let changed = world.a().ask(&json!({ "id": 4, "op": "device.add", "device": device }));
    assert_eq!(changed["ok"], true);
    assert_eq!(world.a().status()["devices"][0]["mtu"], 1300);
    let unknown =
        world.a().ask(&json!({ "id": 5, "op": "device.listen", "name": "nobody", "listenPort": 1, "mark": 0 }));
    assert_eq!((&unknown["ok"], &unknown["code"]), (&json!(false), &json!("device.unknown")));
    let again = json!({ "name": "pe-wg2", "kind": "wireguard", "mtu": 1420, "listenPort": 51999, "mark": 0 });
    let taken = world.a().ask(&json!({ "id": 6, "op": "device.add", "device": again }));
    assert_eq!((&taken["ok"], &taken["code"]), (&json!(false), &json!("port.taken")));
    assert_eq!(world.a().ping("10.78.0.2", 3, "0.05"), 3);
}

/// Not by what it hears: it hears nothing.
fn a_stopped_engine_dies_with_its_supervisor(world: &mut World) {
    let side = &mut world.bed.sides[1];
    let engine = side.engine_pid() as i32;
    // SAFETY: the engine of our own child, and that child, not yet waited for.
    unsafe {
        libc::kill(engine, libc::SIGSTOP);
        libc::kill(side.supervisor.id() as i32, libc::SIGKILL);
    }
    side.supervisor.wait().expect("it ends");
    until("the engine's end", || {
        let stat = std::fs::read_to_string(format!("/proc/{engine}/stat")).unwrap_or_default();
        // what nobody waits for stays a zombie
        (stat.is_empty() || stat.contains(") Z ")).then_some(())
    });
    side.supervisor = supervise(&side.namespace, &side.run_dir, &[]);
    let device = json!({ "name": DEVICE, "kind": "wireguard", "mtu": 1420, "listenPort": PORT, "mark": 0xe00 });
    assert_eq!(side.ask(&json!({ "id": 8, "op": "device.add", "device": device }))["ok"], true);
}

fn ending_removes_the_device(world: &mut World) {
    let removed = world.bed.sides[1].ask(&json!({ "id": 7, "op": "device.remove", "name": DEVICE }));
    assert_eq!(removed, json!({ "id": 7, "ok": true }));
    let there = |side: &Side| side.command(&["ip", "link", "show", DEVICE]).output().expect("ip").status.success();
    assert!(!there(&world.bed.sides[1]));
    assert!(there(world.a()));
    // SAFETY: our own child, not yet waited for.
    unsafe { libc::kill(world.bed.sides[0].supervisor.id() as i32, libc::SIGTERM) };
    assert!(world.bed.sides[0].supervisor.wait().expect("it ends").success());
    assert!(!there(world.a()));
}
