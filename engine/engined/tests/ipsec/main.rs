//! Two supervisors with devices of IPsec, real sockets and real traffic between two network namespaces.

#[path = "../kit/mod.rs"]
mod kit;

mod class;
mod end;
mod links;
mod numbers;
mod traffic;
mod wrong;

use kit::agent::{Keys, PEER, Shape, outer};
use kit::bed::{Bed, Side, missing};
use kit::keeper::{Keeper, prefix};
use kit::until;
use serde_json::{Value, json};
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
    traffic::the_supervisor_knows_the_device(&world);
    traffic::nothing_leaves_before_the_peer_is_heard(&mut world);
    traffic::traffic_crosses_in_every_shape(&mut world);
    traffic::every_algorithm_works(&mut world);
    traffic::keys_of_one_spi_are_told_apart(&mut world);
    traffic::keys_change_under_traffic(&mut world);
    links::nobody_makes_the_way_narrow(&mut world);
    links::links_change_under_traffic(&mut world);
    class::class_and_congestion_cross(&mut world);
    links::what_cannot_leave_does_not(&mut world);
    wrong::what_is_wrong_is_dropped_and_counted(&mut world);
    wrong::what_is_inside_is_looked_at(&mut world);
    numbers::numbers_that_are_used_up_are_told(&mut world);
    numbers::a_killed_engine_goes_on(&mut world);
    numbers::a_new_supervisor_takes_over(&mut world);
    numbers::a_key_that_comes_back_keeps_its_numbers(&mut world);
    numbers::another_identity_begins_anew(&mut world);
    numbers::renewed_memory_begins_anew(&mut world);
    end::without_raw_sockets_udp_still_works(&mut world);
    end::the_device_goes(&mut world);
}

fn allow(agent: &mut Keeper, side: usize) {
    let other = 2 - side;
    agent.prefixes(0x82, &[prefix(&format!("10.78.0.{other}"), 32), prefix(&format!("fd78::{other}"), 128)]);
}

fn counts(agent: &mut Keeper) -> [u64; 4] {
    ["tunReads", "packetsSent", "packetsReceived", "tunWrites"].map(|name| agent.counter(name))
}
