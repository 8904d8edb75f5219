//! New memory for a device of IPsec whose memory has no room for the numbers of more keys. Numbers are never forgotten
//! singly: which key may come back nobody here can know. A new instance is another boot id, and with that every derived
//! key is one that was never used.

use super::device::Device;
use super::fault::Fault;
use super::kind::Kind;
use super::paths::random;
use pellicle_net::memory::{self, Mapping};
use std::io;

/// TUN queue and sockets stay, with what waits in them; the engine is started again and has no peer.
pub fn renew(device: &mut Device) -> Result<(), Fault> {
    let settings = &device.settings;
    if settings.kind != Kind::Ipsec {
        return Err(Fault::new(
            "device.invalid",
            format!("{} is a device of {}", settings.name, settings.kind.word()),
            "only the memory of devices of ipsec is renewed",
        ));
    }
    let system = |error: io::Error| Fault::system("shared memory", &error);
    let new = memory::create(c"pellicle-state", settings.kind.size(device.max_peers)).map_err(system)?;
    let instance = random().map_err(|error| Fault::system("random numbers", &error))?;
    settings.kind.format(Mapping::new(&new).map_err(system)?, device.max_peers, instance);
    say!("level=info device={} msg=\"new memory: sequence numbers begin again, by other keys\"", settings.name);
    // nobody may work on the old one any more when the new one is there
    device.stop_engine();
    device.wipe_keys();
    device.memory = new;
    device.engine.due = Some(0);
    // as at the start, it is no failure of the device when the machine does not let them be locked
    device.lock_keys().map_err(|error| Fault::system("locking the key pages", &error))
}
