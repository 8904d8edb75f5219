//! On machines that lack what makes the engine fast, or are narrow or wide: everything crosses, by what there is.

mod kit;

use kit::bed::{Bed, PORT, missing};
use kit::machine::{self, Refused};
use kit::world::World;

struct Case {
    name: &'static str,
    refused: Vec<Refused>,
    one_cpu: bool,
    /// Of the network between the two, and of the devices.
    mtus: [u32; 2],
    outer: [&'static str; 2],
    /// What crosses while is counted.
    stream: &'static [&'static str],
    /// What has to be seen of it.
    shows: fn(&Counts) -> bool,
}

/// What the first side, which sends, and the second one have counted.
#[derive(Debug)]
struct Counts {
    tun_reads: u64,
    packets: u64,
    sends: u64,
    receives: u64,
    received: u64,
    tun_writes: u64,
}

const TCP: &[&str] = &["-C", "cubic", "-n", "16M"];
const UDP: &[&str] = &["-u", "-b", "200M", "-l", "1000", "-n", "4M"];
const V4: [&str; 2] = ["10.77.0.2", "10.77.0.1"];
const V6: [&str; 2] = ["fd77::2", "fd77::1"];

fn cases() -> Vec<Case> {
    let usual = || Case {
        name: "nothing is missing",
        refused: vec![],
        one_cpu: false,
        mtus: [1500, 1420],
        outer: V4,
        stream: TCP,
        shows: |seen| 2 * seen.sends < seen.packets && 2 * seen.receives < seen.packets,
    };
    let everything = || machine::buffers().into_iter().chain([machine::segment(), machine::gro(), machine::tso()]);
    vec![
        usual(),
        Case {
            name: "no UDP_SEGMENT",
            refused: vec![machine::segment()],
            shows: |seen| seen.sends >= seen.packets,
            ..usual()
        },
        Case {
            name: "no UDP_GRO",
            refused: vec![machine::gro()],
            shows: |seen| seen.receives >= seen.received,
            ..usual()
        },
        Case {
            name: "no UDP super packets by TUN",
            refused: vec![machine::uso()],
            stream: UDP,
            shows: |seen| seen.tun_writes >= seen.received,
            ..usual()
        },
        Case {
            name: "no super packets by TUN",
            refused: vec![machine::tso()],
            shows: |seen| seen.tun_reads >= seen.packets,
            ..usual()
        },
        Case { name: "no large buffers", refused: machine::buffers().into(), shows: |_| true, ..usual() },
        Case {
            name: "one processor and nothing of all that",
            refused: everything().collect(),
            one_cpu: true,
            shows: |seen| seen.sends >= seen.packets && seen.tun_reads >= seen.packets,
            ..usual()
        },
        Case { name: "9,000 bytes", mtus: [9000, 8920], ..usual() },
        Case { name: "65,535 bytes", mtus: [65_535, 65_455], shows: |seen| seen.packets > 0, ..usual() },
        // larger than the way: the outer packets are cut
        Case { name: "a way of IPv6 with 1,280 bytes", mtus: [1280, 1420], outer: V6, shows: |_| true, ..usual() },
    ]
}

#[test]
fn everything_crosses_by_what_there_is() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    for case in cases() {
        crosses(&case);
    }
}

fn crosses(Case { name, refused, one_cpu, mtus, outer, stream, shows }: &Case) {
    println!("{name}");
    let bed = Bed::on(refused, *one_cpu);
    for side in &bed.sides {
        side.ip(&["link", "set", "under", "mtu", &mtus[0].to_string()]);
    }
    let mut world = World::on(bed, mtus[1] as u16);
    for (keeper, address) in world.keepers.iter_mut().zip(outer) {
        keeper.set_peer(address, PORT);
    }
    for inner in ["10.78.0.2", "fd78::2"] {
        assert_eq!(world.a().ping(inner, 5, "0.01"), 5, "{name}: {inner}");
        // whole packets, and such as are cut
        for size in [mtus[1] - 48, 2 * mtus[1].min(30_000)] {
            assert_eq!(world.a().ping_of(inner, 5, "0.05", size), 5, "{name}: {size} bytes to {inner}");
        }
        for more in [&["-C", "cubic", "-n", "8M"][..], &["-C", "cubic", "-n", "8M", "-R"]] {
            let rate = world.iperf(inner, more)["sum_received"]["bits_per_second"].as_f64().expect("a rate");
            println!("  TCP {inner} {more:?}: {:.2} Gbit/s", rate / 1e9);
            assert!(rate > 0.0, "{name}");
        }
    }
    let [before_a, before_b] = counted(&mut world);
    world.iperf("10.78.0.2", stream);
    let [after_a, after_b] = counted(&mut world);
    let seen = Counts {
        tun_reads: after_a[0] - before_a[0],
        packets: after_a[1] - before_a[1],
        sends: after_a[2] - before_a[2],
        receives: after_b[3] - before_b[3],
        received: after_b[4] - before_b[4],
        tun_writes: after_b[5] - before_b[5],
    };
    println!("  {seen:?}");
    assert!(shows(&seen), "{name}: {seen:?}");
    world.assert_no_drops();
}

fn counted(world: &mut World) -> [[u64; 6]; 2] {
    let names = ["tunReads", "packetsSent", "udpSends", "udpReceives", "packetsReceived", "tunWrites"];
    world.keepers.each_mut().map(|keeper| names.map(|name| keeper.counter(name)))
}
