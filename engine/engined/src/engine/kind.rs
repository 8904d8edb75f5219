//! What differs between engines: the shared memory, what is made from it, and the threads that move packets.

use super::counters::{Counter, Counters};
use super::inbound::Inbound;
use super::index::Index;
use super::orders;
use super::outbound::Outbound;
use super::prefix_slots::PrefixSlots;
use super::rcu::Cell;
use super::shared::Shared;
use super::state::State;
use super::tap;
use pellicle_net::memory::Mapping;
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::event::Activity;
use pellicle_proto::request::Request;

/// The shared memory of a kind of device: the truth, of which everything else is made at every start.
pub trait Kind: Sized + Send + Sync {
    type Tables: Send + Sync;
    /// Counts what the kernel refused to send.
    const SEND_FAILED: Counter;
    /// Whether a counter is of this kind of device.
    fn counts(name: &str) -> bool;

    /// `None`: of another layout.
    fn attach(mapping: Mapping) -> Option<Self>;
    /// What a killed engine left half done is undone.
    fn repair(&self);
    fn max_peers(&self) -> usize;
    fn instance(&self) -> [u8; 16];
    fn counters(&self) -> Counters<'_>;
    fn prefix_slots(&self) -> PrefixSlots<'_>;
    fn activity(&self, peer: u32) -> Activity;
    /// Empty ones.
    fn tables(&self) -> Self::Tables;
    fn fill_tables(shared: &Shared<Self>);

    /// The sending thread, until `shared.stop`.
    fn outbound(shared: &Shared<Self>);
    /// The receiving one.
    fn inbound(shared: &Shared<Self>);
    /// Appends the answer, and what belongs to it, to `out`.
    fn carry_out(shared: &Shared<Self>, request: &Request, out: &mut Vec<u8>);
    /// The receiving thread has made a peer's next session the current one.
    fn confirmed(_shared: &Shared<Self>, _peer: u32) {}
    /// An address of ours is gone.
    fn forget_source(_shared: &Shared<Self>, _source: &Endpoint) {}
}

impl Kind for State {
    type Tables = Cell<Index>;
    const SEND_FAILED: Counter = Counter::SendFailed;

    fn counts(name: &str) -> bool {
        !name.starts_with("Xfrm") && !name.starts_with("raw") && name != "linkSends"
    }

    fn attach(mapping: Mapping) -> Option<State> {
        State::attach(mapping)
    }

    fn repair(&self) {
        State::repair(self);
    }

    fn max_peers(&self) -> usize {
        State::max_peers(self)
    }

    fn instance(&self) -> [u8; 16] {
        State::instance(self)
    }

    fn counters(&self) -> Counters<'_> {
        State::counters(self)
    }

    fn prefix_slots(&self) -> PrefixSlots<'_> {
        State::prefix_slots(self)
    }

    fn activity(&self, peer: u32) -> Activity {
        self.peers()[peer as usize].activity()
    }

    fn tables(&self) -> Cell<Index> {
        Cell::default()
    }

    fn fill_tables(shared: &Shared) {
        shared.rebuild_index();
    }

    fn outbound(shared: &Shared) {
        tap::run(shared, Outbound::new(shared));
    }

    fn inbound(shared: &Shared) {
        Inbound::new(shared).run();
    }

    fn carry_out(shared: &Shared, request: &Request, out: &mut Vec<u8>) {
        orders::carry_out(shared, request, out);
    }

    fn confirmed(shared: &Shared, peer: u32) {
        orders::settle(shared, peer);
    }

    fn forget_source(shared: &Shared, source: &Endpoint) {
        shared.forget_source(source);
    }
}
