//! Carrying out what the agent asks. Each function returns when its effects hold for every later packet.

use super::super::kind::Kind;
use super::super::orders::{NO_PEER, Outcome, drop_waiting};
use super::super::prefixes::{allow, by_peer, disallow, disallow_all};
use super::super::shared::{Errand, Shared};
use super::association::KeyCopy;
use super::memory::{Memory, RECEIVING, SENDING};
use super::tables::associate;
use super::used::{self, Use};
use pellicle_crypto::digest::sha256;
use pellicle_crypto::esp::BadKey;
use pellicle_proto::endpoint::Endpoint;
use pellicle_proto::event::{self, AssociationReport, Status};
use pellicle_proto::request::{AssociationKeys, Direction, NewReceiving, NewSending, Order, Request};
use std::sync::atomic::Ordering::*;

type State = Shared<Memory>;

const NO_ASSOCIATION: (Status, &str) = (Status::NoSuchObject, "no such association");
const NO_ROOM: (Status, &str) = (Status::Full, "no room for the numbers of another key: its memory has to be renewed");

/// Appends the answer, and what belongs to it, to `out`.
pub fn carry_out(shared: &State, request: &Request, out: &mut Vec<u8>) {
    let outcome = match &request.order {
        Order::SetPeer { peer, public_key, .. } => set_peer(shared, *peer, public_key),
        Order::RemovePeer { peer } => existing(shared, *peer).map(|()| remove_peer(shared, *peer)),
        Order::Allow { peer, prefixes } => existing(shared, *peer).and_then(|()| allow(shared, *peer, prefixes)),
        Order::Disallow { peer, prefixes } => existing(shared, *peer).map(|()| disallow(shared, *peer, prefixes)),
        Order::Keepalive { peer } => existing(shared, *peer).and_then(|()| keepalive(shared, *peer)),
        Order::DropWaiting { peer } => existing(shared, *peer).map(|()| drop_waiting(shared, *peer)),
        Order::SetSending(new) => existing(shared, new.peer).and_then(|()| set_sending(shared, new)),
        Order::SetReceiving(new) => existing(shared, new.peer).and_then(|()| set_receiving(shared, new)),
        Order::RemoveAssociation { direction, peer, spi, fingerprint } => {
            existing(shared, *peer).and_then(|()| remove_association(shared, *direction, *peer, *spi, fingerprint))
        }
        Order::Dump => {
            dump(shared, request.id, out);
            Ok(())
        }
        Order::Counters => {
            let waiting = shared.errands.waiting.load(SeqCst) as u64;
            let (room, used) = shared.state.used_keys();
            let more = [
                ("waiting", waiting),
                ("usedKeys", u64::from(used.load(Acquire))),
                ("usedKeysRoom", room.len() as u64),
            ];
            let text = shared.counters().json(Memory::counts, &more);
            return event::reply(out, request.id, Status::Done, &text);
        }
        Order::SetSession(_)
        | Order::RemoveSession { .. }
        | Order::Send { .. }
        | Order::ClearSessions { .. }
        | Order::SetMacKey { .. } => Err((Status::Malformed, "this is a device of IPsec")),
        Order::Malformed(why) => Err((Status::Malformed, *why)),
    };
    let (status, text) = outcome.err().unwrap_or((Status::Done, ""));
    event::reply(out, request.id, status, text);
}

fn existing(shared: &State, peer: u32) -> Outcome {
    let used = shared.state.peers().get(peer as usize).is_some_and(|slot| slot.used.load(Acquire) != 0);
    if used { Ok(()) } else { Err(NO_PEER) }
}

fn set_peer(shared: &State, peer: u32, identity: &[u8; 32]) -> Outcome {
    let Some(slot) = shared.state.peers().get(peer as usize) else {
        return Err((Status::Full, "the slot is beyond maxPeers"));
    };
    if slot.used.load(Acquire) != 0 && slot.identity() != *identity {
        remove_peer(shared, peer);
    }
    if slot.used.load(Acquire) == 0 {
        slot.heard.store(0, SeqCst);
        slot.set_identity(identity);
        slot.forget();
        slot.used.store(1, Release);
    }
    Ok(())
}

fn remove_peer(shared: &State, peer: u32) {
    let slot = &shared.state.peers()[peer as usize];
    disallow_all(shared, peer);
    stop_sending(shared, peer);
    let first = peer as usize * RECEIVING;
    let own = first..first + RECEIVING;
    shared.tables.forget_incoming(|index| own.contains(&index), &shared.epochs);
    own.for_each(|index| shared.state.wipe_receiving(index));
    // nothing can be heard from it any more
    slot.heard.store(0, SeqCst);
    slot.used.store(0, Release);
    drop_waiting(shared, peer);
    slot.set_identity(&[0; 32]);
    slot.forget();
}

fn stop_sending(shared: &State, peer: u32) {
    shared.state.peers()[peer as usize].sending.store(0, SeqCst);
    shared.tables.renew_outgoing(&shared.state, peer, &shared.epochs);
    (0..SENDING).for_each(|slot| shared.state.wipe_sending(peer as usize * SENDING + slot));
}

fn checked(keys: &AssociationKeys) -> Result<KeyCopy, (Status, &'static str)> {
    let copy = KeyCopy {
        algorithm: keys.algorithm,
        icv: keys.icv,
        encryption: keys.encryption.to_vec(),
        authentication: keys.authentication.to_vec(),
    };
    let why = match associate(&copy) {
        Ok(_) if copy.fits() => return Ok(copy),
        Err(None) => "no such algorithm",
        Err(Some(BadKey::Icv)) => "the algorithm has no integrity check value of this length",
        Err(Some(BadKey::Authentication)) => "the algorithm has no authentication key of this length",
        Err(Some(BadKey::Encryption)) | Ok(_) => "the algorithm has no encryption key of this length",
    };
    Err((Status::Malformed, why))
}

fn set_sending(shared: &State, new: &NewSending) -> Outcome {
    let (memory, keys) = (&shared.state, checked(&new.keys)?);
    let family = usize::from(new.outer.destination.family == 6);
    let socket = if new.udp.is_some() { &shared.udp[family] } else { &shared.raw[family] };
    if socket.load(Acquire) < 0 {
        let why = match new.udp {
            Some(_) => "the machine has no UDP socket of this address family",
            None => {
                "the supervisor could not open a raw socket of this address family (CAP_NET_RAW): choose ESP in UDP"
            }
        };
        return Err((Status::NoSuchObject, why));
    }
    let peer = &memory.peers()[new.peer as usize];
    let first = new.peer as usize * SENDING;
    let port = new.udp.unwrap_or(0);
    let same = peer.sending_slot().is_some_and(|slot| {
        let facts = &memory.sending()[first + slot].facts;
        facts.spi.load(Relaxed) == new.spi
            && facts.port.load(Relaxed) == u32::from(port)
            && facts.outer() == new.outer
            && facts.keys(memory.sending_keys(first + slot)) == keys
    });
    if !same {
        let used = used::number(memory, Use::Sending, &keys.encryption).ok_or(NO_ROOM)?;
        let former = peer.sending_slot();
        let slot = former.map_or(0, |slot| 1 - slot);
        let facts = &memory.sending()[first + slot].facts;
        memory.wipe_sending(first + slot);
        facts.set(new.spi, port, &new.outer, used, memory.sending_keys(first + slot), &keys);
        facts.filled.store(1, Release);
        peer.sending.store(slot as u32 + 1, SeqCst);
        // the barrier: no packet is on its way by the former one when it returns
        shared.tables.renew_outgoing(memory, new.peer, &shared.epochs);
        if let Some(slot) = former {
            memory.wipe_sending(first + slot);
        }
    }
    shared.ask(Errand::Dummy(new.peer));
    shared.await_errand(shared.ask(Errand::Flush(new.peer)));
    Ok(())
}

fn set_receiving(shared: &State, new: &NewReceiving) -> Outcome {
    let (memory, keys) = (&shared.state, checked(&new.keys)?);
    let own = new.peer as usize * RECEIVING..(new.peer as usize + 1) * RECEIVING;
    let filled = |index: &usize| memory.receiving()[*index].facts.filled.load(Acquire) != 0;
    let known = own.clone().filter(filled).find(|index| {
        let facts = &memory.receiving()[*index].facts;
        facts.spi.load(Relaxed) == new.spi && facts.keys(memory.receiving_keys(*index)) == keys
    });
    if let Some(index) = known {
        // a peer that has another address by now keeps its window
        let facts = &memory.receiving()[index].facts;
        if facts.outer() != new.outer {
            facts.set_outer(&new.outer);
            shared.tables.renew_incoming(memory, index, &shared.epochs);
        }
        return Ok(());
    }
    let Some(index) = own.clone().find(|index| !filled(index)) else {
        return Err((Status::Full, "four associations to receive from this peer by are there already"));
    };
    let used = used::number(memory, Use::Receiving, &keys.encryption).ok_or(NO_ROOM)?;
    memory.wipe_receiving(index);
    let receiving = &memory.receiving()[index];
    receiving.facts.set(new.spi, 0, &new.outer, used, memory.receiving_keys(index), &keys);
    receiving.window.resume(memory.used_keys().0[used].next.load(Relaxed));
    receiving.facts.filled.store(1, Release);
    shared.tables.renew_incoming(memory, index, &shared.epochs);
    Ok(())
}

fn remove_association(shared: &State, direction: Direction, peer: u32, spi: u32, fingerprint: &[u8; 8]) -> Outcome {
    let memory = &shared.state;
    if direction == Direction::Out {
        let index = memory.peers()[peer as usize].sending_slot().map(|slot| peer as usize * SENDING + slot);
        let index = index.filter(|index| {
            let facts = &memory.sending()[*index].facts;
            facts.spi.load(Relaxed) == spi
                && self::fingerprint(&facts.keys(memory.sending_keys(*index))) == *fingerprint
        });
        return index.map(|_| stop_sending(shared, peer)).ok_or(NO_ASSOCIATION);
    }
    let index = (peer as usize * RECEIVING..(peer as usize + 1) * RECEIVING).find(|index| {
        let facts = &memory.receiving()[*index].facts;
        facts.filled.load(Acquire) != 0
            && facts.spi.load(Relaxed) == spi
            && self::fingerprint(&facts.keys(memory.receiving_keys(*index))) == *fingerprint
    });
    let index = index.ok_or(NO_ASSOCIATION)?;
    shared.tables.forget_incoming(|known| known == index, &shared.epochs);
    memory.wipe_receiving(index);
    Ok(())
}

/// Names a key without telling anything of it.
fn fingerprint(keys: &KeyCopy) -> [u8; 8] {
    let (encryption, authentication) = (&keys.encryption, &keys.authentication);
    let digest = sha256(&[
        &[keys.algorithm, keys.icv, encryption.len() as u8],
        encryption,
        &[authentication.len() as u8],
        authentication,
    ]);
    std::array::from_fn(|index| digest[index])
}

fn keepalive(shared: &State, peer: u32) -> Outcome {
    if shared.state.peers()[peer as usize].sending_slot().is_none() {
        return Err((Status::NoSuchObject, "no association to send by"));
    }
    shared.await_errand(shared.ask(Errand::Dummy(peer)));
    Ok(())
}

fn dump(shared: &State, request: u32, out: &mut Vec<u8>) {
    let memory = &shared.state;
    let prefixes = by_peer(shared);
    for (number, slot) in memory.peers().iter().enumerate() {
        if slot.used.load(Acquire) == 0 {
            continue;
        }
        let peer = number as u32;
        event::peer(out, request, peer, &slot.identity(), &Endpoint::NONE, &slot.activity());
        let report = |direction, facts: &super::association::Facts, keys: &KeyCopy, sequence| AssociationReport {
            direction,
            peer,
            spi: facts.spi.load(Relaxed),
            udp: facts.port.load(Relaxed) != 0,
            outer: facts.outer(),
            algorithm: keys.algorithm,
            icv: keys.icv,
            fingerprint: fingerprint(keys),
            sequence,
            packets: facts.packets.load(Relaxed),
            bytes: facts.bytes.load(Relaxed),
        };
        if let Some(index) = slot.sending_slot().map(|slot| number * SENDING + slot) {
            let facts = &memory.sending()[index].facts;
            let next = memory.used_keys().0[facts.used.load(Relaxed) as usize].next.load(Relaxed);
            let keys = facts.keys(memory.sending_keys(index));
            event::association(out, request, &report(Direction::Out, facts, &keys, next.saturating_sub(1)));
        }
        for index in number * RECEIVING..(number + 1) * RECEIVING {
            let receiving = &memory.receiving()[index];
            if receiving.facts.filled.load(Acquire) != 0 {
                let highest = receiving.window.last().saturating_sub(1);
                let keys = receiving.facts.keys(memory.receiving_keys(index));
                event::association(out, request, &report(Direction::In, &receiving.facts, &keys, highest));
            }
        }
        if !prefixes[number].is_empty() {
            event::allowed(out, request, peer, &prefixes[number]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two of test/vectors/ipsec-frames.json.
    #[test]
    fn fingerprints() {
        let encryption =
            [0x1c, 0x41, 0x8b, 0xcb, 0xe2, 0xdc, 0x03, 0x26, 0x4d, 0xc8, 0xd3, 0xda, 0x89, 0xc8, 0xa2, 0x7b];
        let salt = [0xc2, 0xbc, 0x3d, 0x6b];
        let keys =
            KeyCopy { algorithm: 1, icv: 16, encryption: [&encryption[..], &salt].concat(), authentication: vec![] };
        assert_eq!(fingerprint(&keys), 0xc96e_7d69_7b97_7ebb_u64.to_be_bytes());
    }
}
