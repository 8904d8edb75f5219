//! A bed with a WireGuard device and a keeper on each side.

use super::bed::{Bed, DEVICE, PORT, Side};
use super::keeper::{Keeper, prefix};
use serde_json::{Value, json};

pub struct World {
    pub bed: Bed,
    pub keepers: [Keeper; 2],
}

impl World {
    pub fn new() -> World {
        World::on(Bed::bare(), 1420)
    }

    /// `mtu`: of the devices.
    pub fn on(bed: Bed, mtu: u16) -> World {
        bed.add(&json!({ "name": DEVICE, "kind": "wireguard", "mtu": mtu, "listenPort": PORT, "mark": 0xe00 }));
        let keepers = [0, 1].map(|side: usize| {
            let mut keeper = Keeper::connect(bed.sides[side].run_dir.join(DEVICE).join("engine.sock"));
            let other = 2 - side;
            keeper.set_peer(&format!("10.77.0.{other}"), PORT);
            keeper.prefixes(0x82, &[prefix(&format!("10.78.0.{other}"), 32), prefix(&format!("fd78::{other}"), 128)]);
            keeper.set_session(side as u8, 1, 10);
            keeper
        });
        World { bed, keepers }
    }

    pub fn a(&self) -> &Side {
        &self.bed.sides[0]
    }

    pub fn iperf(&self, address: &str, more: &[&str]) -> Value {
        self.bed.iperf(address, more)
    }

    /// Nothing was dropped that should not have been.
    pub fn assert_no_drops(&mut self) {
        for keeper in &mut self.keepers {
            for name in [
                "dropForged",
                "dropReplayed",
                "dropUnknownSession",
                "dropWrongSource",
                "dropTunWriteFailed",
                "dropBadOffload",
                "dropNotIpIn",
                "dropSendFailed",
            ] {
                assert_eq!(keeper.counter(name), 0, "{name}");
            }
        }
    }
}
