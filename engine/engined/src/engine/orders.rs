//! Carrying out what the keeper asks. Each function returns when its effects hold for every later packet.

use super::counters::Counter;
use super::kind::Kind;
use super::outbound::note_sent;
use super::places::Places;
use super::prefixes::{allow, by_peer, disallow, disallow_all};
use super::runs::Runs;
use super::seal::Sealer;
use super::shared::{Errand, Shared};
use super::state::{SLOTS, State};
use pellicle_crypto::Key;
use pellicle_net::clock;
use pellicle_net::send::{Route, send};
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::event::{self, SessionReport, Status};
use pellicle_proto::request::{NewSession, Order, Place, Request};
use pellicle_proto::session::{REJECT_AFTER_MESSAGES, alive};
use std::sync::atomic::Ordering::*;

pub type Outcome = Result<(), (Status, &'static str)>;

pub const NO_PEER: (Status, &str) = (Status::NoSuchObject, "no such peer");

/// Appends the answer, and what belongs to it, to `out`.
pub fn carry_out(shared: &Shared, request: &Request, out: &mut Vec<u8>) {
    let outcome = match &request.order {
        Order::SetPeer { peer, public_key, endpoint } => set_peer(shared, *peer, public_key, endpoint),
        Order::RemovePeer { peer } => existing(shared, *peer).map(|()| remove_peer(shared, *peer)),
        Order::Allow { peer, prefixes } => existing(shared, *peer).and_then(|()| allow(shared, *peer, prefixes)),
        Order::Disallow { peer, prefixes } => existing(shared, *peer).map(|()| disallow(shared, *peer, prefixes)),
        Order::SetSession(session) => existing(shared, session.peer).and_then(|()| set_session(shared, session)),
        Order::RemoveSession { local } => remove_session(shared, *local),
        Order::Send { source, destination, tos, message } => transmit(shared, source, destination, *tos, message),
        Order::Keepalive { peer } => existing(shared, *peer).and_then(|()| keepalive(shared, *peer)),
        Order::Dump => {
            dump(shared, request.id, out);
            Ok(())
        }
        Order::Counters => {
            let waiting = shared.errands.waiting.load(SeqCst) as u64;
            let text = shared.counters().json(State::counts, &[("waiting", waiting)]);
            return event::reply(out, request.id, Status::Done, &text);
        }
        Order::ClearSessions { peer } => existing(shared, *peer).map(|()| {
            clear_sessions(shared, *peer);
            drop_waiting(shared, *peer);
        }),
        Order::DropWaiting { peer } => existing(shared, *peer).map(|()| drop_waiting(shared, *peer)),
        Order::SetMacKey { key } => {
            shared.filter.set_key(*key, &shared.epochs);
            Ok(())
        }
        Order::SetSending(_) | Order::SetReceiving(_) | Order::RemoveAssociation { .. } => {
            Err((Status::Malformed, "this is a device of WireGuard"))
        }
        Order::Malformed(why) => Err((Status::Malformed, *why)),
    };
    let (status, text) = outcome.err().unwrap_or((Status::Done, ""));
    event::reply(out, request.id, status, text);
}

fn existing(shared: &Shared, peer: u32) -> Outcome {
    let used = shared.state.peers().get(peer as usize).is_some_and(|slot| slot.used.load(Acquire) != 0);
    if used { Ok(()) } else { Err(NO_PEER) }
}

fn set_peer(shared: &Shared, peer: u32, public_key: &[u8; 32], endpoint: &Endpoint) -> Outcome {
    let Some(slot) = shared.state.peers().get(peer as usize) else {
        return Err((Status::Full, "the slot is beyond maxPeers"));
    };
    if slot.used.load(Acquire) != 0 && slot.public_key() != *public_key {
        remove_peer(shared, peer);
    }
    if slot.used.load(Acquire) == 0 {
        slot.set_public_key(public_key);
        slot.forget_activity();
        place_endpoint(shared, peer, &Endpoint::NONE);
    }
    if endpoint.family != 0 {
        place_endpoint(shared, peer, endpoint);
    }
    slot.used.store(1, Release);
    Ok(())
}

fn place_endpoint(shared: &Shared, peer: u32, endpoint: &Endpoint) {
    {
        // not held while we wait: a packet thread may want it in the middle of its batch
        let _writer = shared.endpoint_writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.state.peers()[peer as usize].set_path(endpoint, &Endpoint::NONE);
    }
    shared.epochs.synchronise();
}

fn remove_peer(shared: &Shared, peer: u32) {
    disallow_all(shared, peer);
    clear_sessions(shared, peer);
    let slot = &shared.state.peers()[peer as usize];
    slot.used.store(0, Release);
    drop_waiting(shared, peer);
    place_endpoint(shared, peer, &Endpoint::NONE);
    slot.set_public_key(&[0; 32]);
    slot.forget_activity();
    shared.notices.unwant(peer);
}

fn set_session(shared: &Shared, new: &NewSession) -> Outcome {
    let first = new.peer as usize * SLOTS;
    let peer = &shared.state.peers()[new.peer as usize];
    let taken = shared.indexed(new.local).is_some_and(|index| {
        let owner = &shared.state.peers()[index / SLOTS];
        // not one that a promotion has just let fall out
        Places::load(owner).holds(index % SLOTS) && shared.state.keys()[index].send.get() != new.send_key
    });
    if taken {
        return Err((Status::Malformed, "the local index belongs to another session"));
    }
    // Said again, perhaps by a keeper that missed the answer: the session keeps its counters, since a key that begins
    // anew at 0 would use a (key, counter) twice.
    let places = Places::load(peer);
    let same = (0..SLOTS).find(|slot| {
        let filled = shared.state.sessions()[first + slot].filled.load(Acquire) != 0;
        filled && places.holds(*slot) && shared.state.keys()[first + slot].send.get() == new.send_key
    });
    let slot = match same {
        Some(slot) => slot,
        None => fill(shared, new, first),
    };
    if places.get(new.place) != Some(slot) {
        Places::update(peer, |places| places.without(slot).placed(new.place, slot));
    }
    settle(shared, new.peer);
    if new.place == Place::Current {
        // the initiation left from the kernel's choice: so does what follows, until the peer answers elsewhere
        shared.any_source(peer);
        shared.notices.unwant(new.peer);
        shared.await_errand(shared.ask(Errand::Flush(new.peer)));
    }
    Ok(())
}

/// Writes the session into a slot that nobody looks at.
fn fill(shared: &Shared, new: &NewSession, first: usize) -> usize {
    settle(shared, new.peer);
    // Not one that a promotion has freed since: packets of a running batch still use that.
    let slot = empty_slot(shared, new.peer);
    let index = first + slot;
    shared.state.wipe_session(index);
    let session = &shared.state.sessions()[index];
    session.local.store(new.local, Relaxed);
    session.remote.store(new.remote, Relaxed);
    session.role.store(new.role as u32, Relaxed);
    session.born.store(new.born, Relaxed);
    shared.state.keys()[index].send.set(&new.send_key);
    shared.state.keys()[index].receive.set(&new.receive_key);
    session.filled.store(1, Release);
    slot
}

/// Of a peer whose sessions that fell out are forgotten: three places leave at least one of four slots empty.
fn empty_slot(shared: &Shared, peer: u32) -> usize {
    let first = peer as usize * SLOTS;
    let empty = |slot: &usize| shared.state.sessions()[first + slot].filled.load(Relaxed) == 0;
    (0..SLOTS).find(empty).unwrap_or(SLOTS - 1)
}

/// After the peer's places changed, by an order or by the receiving thread: packets find what holds now, and the
/// sessions that fell out are forgotten with their keys.
pub fn settle(shared: &Shared, peer: u32) {
    forget(shared, peer, || shared.epochs.synchronise());
}

/// Only what has fallen out already: what falls out while `running` waits for the batches that run may be in use by one
/// that has begun since.
fn forget(shared: &Shared, peer: u32, running: impl FnOnce()) {
    let places = Places::load(&shared.state.peers()[peer as usize]);
    let first = peer as usize * SLOTS;
    let filled = |slot: &usize| shared.state.sessions()[first + slot].filled.load(Relaxed) != 0;
    let (held, fallen): (Vec<usize>, Vec<usize>) = (0..SLOTS).filter(filled).partition(|slot| places.holds(*slot));
    fallen.iter().for_each(|slot| shared.unindex_session(first + slot));
    held.iter().for_each(|slot| shared.index_session(first + slot));
    if fallen.is_empty() {
        return;
    }
    running();
    for slot in fallen {
        shared.state.wipe_session(first + slot);
    }
}

fn remove_session(shared: &Shared, local: u32) -> Outcome {
    const NONE: (Status, &str) = (Status::NoSuchObject, "no such session");
    let index = shared.indexed(local).ok_or(NONE)?;
    let (number, slot) = (index / SLOTS, index % SLOTS);
    let peer = &shared.state.peers()[number];
    if !Places::load(peer).holds(slot) {
        return Err(NONE);
    }
    Places::update(peer, |places| places.without(slot));
    settle(shared, number as u32);
    Ok(())
}

fn clear_sessions(shared: &Shared, peer: u32) {
    Places::update(&shared.state.peers()[peer as usize], |_| Places::NONE);
    settle(shared, peer);
}

pub fn drop_waiting<K: Kind>(shared: &Shared<K>, peer: u32) {
    shared.await_errand(shared.ask(Errand::Drop(peer)));
}

fn transmit(shared: &Shared, source: &Endpoint, destination: &Endpoint, tos: u8, message: &[u8]) -> Outcome {
    let Some(socket) = shared.socket(destination.family) else {
        shared.count(Counter::NoSocket);
        return Err((Status::NoSuchObject, "no socket of this address family"));
    };
    shared.filter.sent(message);
    let mut route = Route { destination: *destination, source: *source, tos };
    let mut sent = send(socket, &route, message, 0);
    if sent.is_err() && source.family != 0 {
        // The address that the peer wrote to is gone: let the kernel choose.
        route.source = Endpoint::NONE;
        sent = send(socket, &route, message, 0);
    }
    shared.count(if sent.is_ok() { Counter::HandshakesSent } else { Counter::SendFailed });
    sent.map_err(|_| (Status::NoSuchObject, "the kernel has no way to this address"))
}

fn keepalive(shared: &Shared, peer: u32) -> Outcome {
    const NONE: (Status, &str) = (Status::NoSuchObject, "no session to send by");
    let now = clock::now();
    let slot = &shared.state.peers()[peer as usize];
    let place = Places::load(slot).get(Place::Current).ok_or(NONE)?;
    let index = peer as usize * SLOTS + place;
    let session = &shared.state.sessions()[index];
    let (endpoint, source) = slot.path();
    if !alive(session.born.load(Relaxed), now) || endpoint.family == 0 {
        return Err(NONE);
    }
    let counter = session.sent.fetch_add(1, SeqCst);
    if counter >= REJECT_AFTER_MESSAGES {
        return Err(NONE);
    }
    let key = Key::new(&shared.state.keys()[index].send.get());
    let sealer = Sealer { key: &key, remote: session.remote.load(Relaxed), counter, mtu: 0 };
    let route = Route { destination: endpoint, source, tos: 0 };
    let mut runs = Runs::new();
    let bytes = sealer.datagram(0, 0, &route, &mut runs, shared, |_| {});
    runs.flush(shared);
    shared.count(Counter::KeepalivesSent);
    note_sent(shared, peer, bytes, false, now);
    Ok(())
}

fn dump(shared: &Shared, request: u32, out: &mut Vec<u8>) {
    let prefixes = by_peer(shared);
    for (number, slot) in shared.state.peers().iter().enumerate() {
        if slot.used.load(Acquire) == 0 {
            continue;
        }
        let peer = number as u32;
        event::peer(out, request, peer, &slot.public_key(), &slot.endpoint(), &slot.activity());
        let places = Places::load(slot);
        for place in [Place::Previous, Place::Current, Place::Next] {
            let Some(index) = places.get(place).map(|slot| number * SLOTS + slot) else { continue };
            let session = &shared.state.sessions()[index];
            let report = SessionReport {
                peer,
                local: session.local.load(Relaxed),
                remote: session.remote.load(Relaxed),
                role: session.role.load(Relaxed) as u8,
                place: place as u8,
                born: session.born.load(Relaxed),
                sent: session.sent.load(Relaxed),
                received: session.window.last(),
            };
            event::session(out, request, &report);
        }
        if !prefixes[number].is_empty() {
            event::allowed(out, request, peer, &prefixes[number]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::state::State;
    use pellicle_net::memory::{Mapping, create};
    use pellicle_proto::request::Role;

    fn shared() -> Shared {
        let memory = create(c"pellicle-test", State::size(2)).expect("shared memory");
        let state = State::format(Mapping::new(&memory).expect("a mapping"), 2, [1; 16]);
        Shared::new(state, -1, [-1, -1], 1420, false, false).expect("shared")
    }

    fn session(place: Place, seed: u8) -> NewSession {
        let (local, remote) = (u32::from(seed), u32::from(seed) + 100);
        let (send_key, receive_key) = ([seed; 32], [seed + 100; 32]);
        NewSession { peer: 0, place, role: Role::Responder, local, remote, born: 1, send_key, receive_key }
    }

    /// Slots 0, 1 and 2 are previous, current and next.
    fn three_sessions() -> Shared {
        let shared = shared();
        let peer = &shared.state.peers()[0];
        peer.used.store(1, Relaxed);
        for (slot, place) in [Place::Current, Place::Current, Place::Next].into_iter().enumerate() {
            assert_eq!(fill(&shared, &session(place, slot as u8 + 1), 0), slot);
            Places::update(peer, |places| places.placed(place, slot));
            settle(&shared, 0);
        }
        shared
    }

    fn locals(shared: &Shared) -> Vec<u32> {
        shared.state.sessions()[..SLOTS].iter().map(|session| session.local.load(Relaxed)).collect()
    }

    #[test]
    fn what_falls_out_while_we_wait_is_left_to_running_batches() {
        let shared = three_sessions();
        let peer = &shared.state.peers()[0];
        assert_eq!(fill(&shared, &session(Place::Next, 9), 0), 3);
        Places::update(peer, |places| places.placed(Place::Next, 3));
        forget(&shared, 0, || {
            assert!(Places::promote(peer, 3));
        });
        assert_eq!(locals(&shared), [1, 2, 0, 9], "a batch that began meanwhile may use the first one");
        settle(&shared, 0);
        assert_eq!(locals(&shared), [0, 2, 0, 9]);
        assert_eq!(shared.state.keys()[0].receive.get(), [0; 32]);
        assert_eq!([1, 2, 3, 9].map(|local| shared.indexed(local)), [None, Some(1), None, Some(3)]);
    }

    #[test]
    fn a_session_that_just_fell_out_is_not_overwritten() {
        let shared = three_sessions();
        assert!(Places::promote(&shared.state.peers()[0], 2));
        assert_eq!(empty_slot(&shared, 0), 3);
        assert_eq!(fill(&shared, &session(Place::Next, 9), 0), 0, "after it was forgotten in order");
        assert_eq!(locals(&shared), [9, 2, 3, 0]);
    }
}
