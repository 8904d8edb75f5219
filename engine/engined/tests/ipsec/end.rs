//! What a machine may lack, and the end.

use super::kit::agent::{PEER, Shape, outer};
use super::kit::bed::Side;
use super::{DEVICE, FOUR, UDP, World, allow, device, keys, receive, spi};
use serde_json::json;

pub fn without_raw_sockets_udp_still_works(world: &mut World) {
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

pub fn the_device_goes(world: &mut World) {
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
