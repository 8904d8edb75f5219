//! A number is used once with a key, whoever is killed, replaced or begun anew.

use super::kit::agent::{Keys, PEER, Shape, outer};
use super::kit::bed::supervise;
use super::kit::capture::Capture;
use super::kit::keeper::Keeper;
use super::kit::raw::send_esp;
use super::kit::until;
use super::wrong::one_packet;
use super::{DEVICE, FOUR, PORT, UDP, World, allow, keys, receive, rekey, send, spi};
use pellicle_crypto::digest::sha256;
use serde_json::json;
use std::collections::HashSet;
use std::fs::{File, OpenOptions, read_dir, read_link};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::Duration;

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

pub fn a_killed_engine_goes_on(world: &mut World) {
    for (shape, filter, headers, seeds) in [(Shape::Esp, "esp", 34, [108, 103]), (UDP, "udp port 4500", 42, [103, 104])]
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

pub fn a_new_supervisor_takes_over(world: &mut World) {
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

pub fn a_key_that_comes_back_keeps_its_numbers(world: &mut World) {
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

pub fn another_identity_begins_anew(world: &mut World) {
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

/// The shared memory of the first side's device.
fn memory(world: &World) -> File {
    let folder = format!("/proc/{}/fd", world.a().status()["pid"]);
    let entries = read_dir(folder).expect("descriptors").map(|entry| entry.expect("a descriptor").path());
    let is_state = |path: &std::path::PathBuf| {
        read_link(path).is_ok_and(|target| target.to_string_lossy().contains("pellicle-state"))
    };
    let path = entries.into_iter().find(is_state).expect("shared memory");
    OpenOptions::new().read(true).write(true).open(path).expect("shared memory")
}

/// What a key has left, as engine/ipsec/used.rs keeps it: its name, then the next number.
fn use_up(world: &World, keys: &Keys) {
    let mut file = memory(world);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("memory");
    let name = sha256(&[b"pellicle used key", &[0], &keys.2]);
    let at = bytes.windows(name.len()).position(|window| window == name).expect("the key's name");
    let last = u64::MAX - (1 << 40);
    file.write_all_at(&last.to_le_bytes(), (at + name.len()) as u64).expect("written");
}

pub fn numbers_that_are_used_up_are_told(world: &mut World) {
    use_up(world, &keys(102, 0));
    let count = |agent: &mut Keeper| ["XfrmOutStateSeqError", "packetsSent"].map(|name| agent.counter(name));
    let before = count(&mut world.agents[0]);
    assert_eq!(world.a().ping("10.78.0.2", 3, "0.1"), 0);
    assert_eq!(count(&mut world.agents[0]), [before[0] + 3, before[1]], "nothing leaves without a number");
    rekey(&mut world.agents, Shape::Esp, FOUR, [102, 108]);
    world.both_ways(3);
}

/// Memory without room for more keys: other numbers, other keys, and the device and its sockets as they were.
pub fn renewed_memory_begins_anew(world: &mut World) {
    let index = |world: &World| {
        let path = format!("/sys/class/net/{DEVICE}/ifindex");
        world.a().command(&["cat", &path]).output().expect("cat").stdout
    };
    let mapped = |world: &World| {
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", world.a().status()["pid"])).expect("maps");
        maps.lines().filter(|line| line.contains("pellicle-state")).count()
    };
    let (before, pid) = (world.agents[0].instance.clone(), world.a().engine_pid());
    let device = (index(world), mapped(world));
    assert!(world.agents[0].counter("usedKeys") > 10);
    assert_eq!(world.agents[0].counter("usedKeysRoom"), 64 * 32);
    let renewed = world.a().ask(&json!({ "id": 9, "op": "device.renew", "name": DEVICE }));
    assert_eq!((&renewed["ok"], renewed["listenPort"].as_u64()), (&json!(true), Some(4501)));
    world.agents[0].reconnect();
    assert_ne!(world.agents[0].instance, before);
    assert_ne!(world.a().engine_pid(), pid);
    assert_eq!((index(world), mapped(world)), device);
    assert_eq!((world.agents[0].associations().len(), world.agents[0].counter("usedKeys")), (0, 0));
    let unknown = world.a().ask(&json!({ "id": 9, "op": "device.renew", "name": "pe-none" }));
    assert_eq!(unknown["code"], "device.unknown");
    for (side, agent) in world.agents.iter_mut().enumerate() {
        agent.identify(4);
        allow(agent, side);
    }
    (0..2).for_each(|side| receive(&mut world.agents, side, FOUR, 115));
    world.agents[0].send_by(spi(115), UDP, &outer(FOUR[0], FOUR[1]), &keys(115, 0));
    // the first side's port is another one by now
    world.agents[1].send_by(spi(115), Shape::Udp(PORT + 1), &outer(FOUR[1], FOUR[0]), &keys(115, 1));
    world.both_ways(5);
    assert_eq!(world.agents[0].counter("usedKeys"), 2);
}
