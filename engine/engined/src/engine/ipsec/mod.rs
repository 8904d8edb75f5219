//! Devices of IPsec: tunnels of ESP (RFC 4303), as IP protocol 50 or in UDP (RFC 3948). There is no handshake: the agent
//! gives keys, and nothing is sent to a peer before something authenticated came from it.

mod association;
mod inbound;
mod memory;
mod orders;
mod outbound;
mod tables;
mod used;
mod way;

pub use memory::Memory;

use super::counters::{Counter, Counters};
use super::kind::Kind;
use super::prefix_slots::PrefixSlots;
use super::shared::{Errand, Shared};
use super::tap;
use inbound::Inbound;
use outbound::Outbound;
use pellicle_net::memory::Mapping;
use pellicle_proto::event::Activity;
use pellicle_proto::request::Request;
use tables::Tables;

impl Kind for Memory {
    type Tables = Tables;
    const SEND_FAILED: Counter = Counter::XfrmOutError;

    /// Not what only handshakes bring about, or what is counted by the kernel's name.
    fn counts(name: &str) -> bool {
        !matches!(
            name,
            "handshakesReceived"
                | "handshakesSent"
                | "dropNoPeer"
                | "dropNoEndpoint"
                | "dropCounterExhausted"
                | "dropSendFailed"
                | "dropUnknownSession"
                | "dropExpiredSession"
                | "dropForged"
                | "dropReplayed"
                | "dropNotIpIn"
                | "dropWrongSource"
                | "dropHandshakeOverflow"
                | "dropForgedHandshake"
                | "dropPortZero"
        )
    }

    fn attach(mapping: Mapping) -> Option<Memory> {
        Memory::attach(mapping)
    }

    fn repair(&self) {
        Memory::repair(self);
    }

    fn max_peers(&self) -> usize {
        Memory::max_peers(self)
    }

    fn instance(&self) -> [u8; 16] {
        Memory::instance(self)
    }

    fn counters(&self) -> Counters<'_> {
        Memory::counters(self)
    }

    fn prefix_slots(&self) -> PrefixSlots<'_> {
        Memory::prefix_slots(self)
    }

    fn activity(&self, peer: u32) -> Activity {
        self.peers()[peer as usize].activity()
    }

    fn tables(&self) -> Tables {
        Tables::new(Memory::max_peers(self))
    }

    fn fill_tables(shared: &Shared<Memory>) {
        shared.tables.fill(&shared.state, &shared.epochs);
        // One that was killed may owe a peer a sign of life.
        for (peer, slot) in shared.state.peers().iter().enumerate() {
            if slot.sending_slot().is_some() {
                shared.ask(Errand::Dummy(peer as u32));
            }
        }
    }

    fn outbound(shared: &Shared<Memory>) {
        tap::run(shared, Outbound::new(shared));
    }

    fn inbound(shared: &Shared<Memory>) {
        Inbound::new(shared).run();
    }

    fn carry_out(shared: &Shared<Memory>, request: &Request, out: &mut Vec<u8>) {
        orders::carry_out(shared, request, out);
    }
}
